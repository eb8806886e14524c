//! `cargo xtask crash`: kills a process that journals events, over and over, with Kafka up, down or dying, and then checks
//! with another client that nothing is missing that `add` had accepted.
//!
//! The process is the example `crash_worker`. [`worker`] starts and kills it, [`weather`] is what Kafka is like meanwhile,
//! [`ledger`] what the process had said and whether it is so. Some dozens of processes work on one spool, each on what
//! the one before it left; then the spool is drained and the topic read.

mod ledger;
mod rng;
mod weather;
mod worker;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use crate::broker::Session;
use crate::error::{Error, Result};
use crate::flights::receive::{self, Reader};
use crate::workspace::Workspace;
use crate::{compilers, files, print};
use ledger::{Ledger, Verdict};
use rng::Rng;
use weather::{Broker, Weather};
use worker::{Phase, Worker};

#[derive(Debug, Args)]
pub(crate) struct Crash {
    /// Processes to kill
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    runs: u64,
    /// What the instants and Kafka's fate follow from; how far the process is at an instant does not [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Processes on one spool, before it is drained and checked
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    per_spool: u64,
    /// With `reconcile = true`, which is to leave no duplicates
    #[arg(long)]
    reconcile: bool,
    /// Cargo's profile to build the worker with
    #[arg(long, default_value = "dev")]
    profile: String,
}

const PARTITIONS: u32 = 4;
/// The longest that draining a spool may take.
const DRAIN_SECONDS: u64 = 100;

pub(crate) fn run(options: &Crash) -> Result<ExitCode> {
    compilers::check()?;
    let workspace = Workspace::load()?;
    let reader = Reader::find()?;
    let program = worker::build(&workspace, &options.profile)?;
    let folder = workspace.target.join("crash");
    let seed = match options.seed {
        Some(seed) => seed,
        None => {
            u64::from(getrandom::u32().map_err(|error| Error::new(format!("no random numbers: {error}")))?)
        }
    };
    let again = format!(
        "cargo xtask crash --runs {} --per-spool {} --seed {seed}{}",
        options.runs,
        options.per_spool,
        if options.reconcile { " --reconcile" } else { "" }
    );
    eprintln!("killing {} processes; again with: {again}", options.runs);

    let session = Session::local(1)?;
    let began = Instant::now();
    let mut sum = Sum::default();
    let mut left = options.runs;
    let mut number = 0;
    // What is wrong once is wrong again, and hides what it was.
    while left > 0 && sum.complaints.is_empty() {
        let count = left.min(options.per_spool);
        left -= count;
        number += 1;
        let spool = Spool::new(number, Rng::new(seed.wrapping_add(number)), &folder, options.reconcile)?;
        session.create_topic(&spool.topic, PARTITIONS)?;
        let mut ledger = Ledger::default();
        // It may well be that Kafka has to be brought back even if something else failed.
        let drained = thread::scope(|scope| -> Result<bool> {
            let mut broker = Broker::new(scope, &session);
            let mut spool = spool.clone();
            for run in 0..count {
                spool.run(run, &program, &mut broker, &mut ledger, &mut sum)?;
            }
            broker.clear()?;
            spool.drain(count, &program, session.bootstrap(), &mut ledger, &mut sum)
        })?;
        let verdict = if drained {
            ledger.check(receive::read(reader, &session, &spool.topic)?)
        } else {
            Verdict::default()
        };
        let complaints = verdict.complaints(options.reconcile);
        eprintln!("spool {number} ({}), {count} processes: {verdict}", spool.level);
        sum.complaints.extend(complaints.into_iter().map(|text| format!("spool {number}: {text}")));
        sum.verdict.add(&verdict);
        if sum.complaints.is_empty() {
            files::remove_dir_all(&spool.folder)?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    print(&format!("crash: seed {seed}, {seconds:.0} s: {sum}\n"))?;
    for complaint in &sum.complaints {
        eprintln!("error: {complaint}");
    }
    if sum.complaints.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("the spools are kept in {}; again with: {again}", folder.display());
    Ok(ExitCode::FAILURE)
}

/// A spool, and the processes that work on it.
#[derive(Debug, Clone)]
struct Spool {
    folder: PathBuf,
    topic: String,
    level: &'static str,
    reconcile: bool,
    rng: Rng,
    /// How long opening and closing have taken so far, to aim at.
    opening: Duration,
    closing: Duration,
}

impl Spool {
    fn new(number: u64, mut rng: Rng, folder: &Path, reconcile: bool) -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let topic = format!("crash-{}-{}-{number}", now.as_secs(), std::process::id());
        files::create_dir_all(folder)?;
        let folder = folder.join(&topic);
        let level = if rng.percent(50) { "os" } else { "disk" };
        let (opening, closing) = (Duration::from_millis(20), Duration::from_millis(50));
        Ok(Self { folder, topic, level, reconcile, rng, opening, closing })
    }

    fn settings(&self, bootstrap: &str) -> Vec<(&'static str, String)> {
        vec![
            ("bootstrap", bootstrap.to_owned()),
            ("topic", self.topic.clone()),
            ("spool", self.folder.display().to_string()),
            ("level", self.level.to_owned()),
            ("reconcile", self.reconcile.to_string()),
        ]
    }

    /// One process from its start to its end.
    fn run(
        &mut self,
        run: u64,
        program: &Path,
        broker: &mut Broker<'_, '_>,
        ledger: &mut Ledger,
        sum: &mut Sum,
    ) -> Result<()> {
        let weather = broker.forecast(&mut self.rng)?;
        let mut settings = self.settings(broker.address(weather));
        // Opening and closing are short, and kills aimed at them miss now and then: a third of them has to hit.
        let aim = match self.rng.below(100) {
            0..30 => Phase::Opening,
            30..65 => Phase::Running,
            _ => Phase::Closing,
        };
        let delay = match aim {
            Phase::Opening => self.opening.mul_f64(self.rng.fraction()),
            Phase::Closing => {
                settings.push(("close_after", (20 + self.rng.below(500)).to_string()));
                settings.push(("deadline", [0, 50, 300][self.rng.below(3) as usize].to_string()));
                self.closing.mul_f64(self.rng.fraction())
            }
            // Now and then long enough for the client to give up on a broker.
            _ => Duration::from_millis(300 + 2700 * u64::from(self.rng.percent(8)))
                .mul_f64(self.rng.fraction()),
        };
        let mut worker = Worker::start(program, run, &settings)?;
        // What is done to Kafka takes longer than opening and closing do.
        match aim {
            Phase::Opening => {
                worker.until(aim, ledger)?;
                thread::sleep(delay);
            }
            Phase::Closing => {
                worker.until(Phase::Running, ledger)?;
                broker.strike(weather)?;
                worker.until(aim, ledger)?;
                thread::sleep(delay);
            }
            _ => {
                worker.until(aim, ledger)?;
                let strikes = delay.mul_f64(self.rng.fraction());
                thread::sleep(strikes);
                broker.strike(weather)?;
                thread::sleep(delay - strikes);
            }
        }
        let (worker, killed) = worker.kill(ledger)?;
        let slower =
            |so_far: Duration, now: Option<Duration>| now.map_or(so_far, |now| (so_far * 3 + now) / 4);
        self.opening = slower(self.opening, worker.took(Phase::Opening));
        self.closing = slower(self.closing, worker.took(Phase::Closing));
        if killed {
            ledger.killed();
        }
        sum.count(&worker, killed, weather);
        Ok(())
    }

    /// Sends all that is left; whether that worked.
    fn drain(
        &self,
        run: u64,
        program: &Path,
        bootstrap: &str,
        ledger: &mut Ledger,
        sum: &mut Sum,
    ) -> Result<bool> {
        let mut settings = self.settings(bootstrap);
        settings.push(("drain", DRAIN_SECONDS.to_string()));
        let (worker, _) = Worker::start(program, run, &settings)?.finish(ledger)?;
        sum.complaints.extend(worker.complaints.iter().map(|text| format!("{}: {text}", self.topic)));
        Ok(worker.is_drained)
    }
}

/// All runs together.
#[derive(Debug, Default)]
struct Sum {
    opening: u64,
    running: u64,
    closing: u64,
    /// Ended by itself before it could be killed.
    ended: u64,
    up: u64,
    dying: u64,
    down: u64,
    unopenable: u64,
    verdict: Verdict,
    complaints: Vec<String>,
}

impl Sum {
    fn count(&mut self, worker: &Worker, killed: bool, weather: Weather) {
        if !killed {
            self.ended += 1;
        } else {
            match worker.phase {
                Phase::Starting | Phase::Opening => self.opening += 1,
                Phase::Running => self.running += 1,
                Phase::Closing | Phase::Closed => self.closing += 1,
            }
            match weather {
                Weather::Up => self.up += 1,
                Weather::Freezes | Weather::Dies => self.dying += 1,
                Weather::Nowhere | Weather::Down => self.down += 1,
            }
        }
        self.unopenable += u64::from(!killed && worker.phase == Phase::Opening);
        self.complaints.extend_from_slice(&worker.complaints);
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opening, running, closing, ended, up, dying, down, unopenable, verdict, .. } = self;
        let kills = opening + running + closing;
        write!(
            f,
            "{kills} processes killed ({opening} opening, {running} running, {closing} closing; Kafka up in {up}, dying in \
             {dying}, down in {down}), {ended} ended before; {unopenable} spools that can't be opened, {verdict}"
        )
    }
}
