//! `cargo xtask observe`: a real Prometheus scrapes `kafka-batcher produce --listen` through an outage of real Kafka, and the alerts,
//! the dashboard and the figures have to tell what happens.
//!
//! Most of the [`processes`] are `kafka-batcher`, and one is an application with a partitioner of its own.
//!
//! Minutes in the alerts are seconds here ([`shorter`]). In each phase of [`story`] the alerts have to fire whose condition is made,
//! and no other may. Each query of the dashboard has to have an answer at some time of the run ([`dashboard`]), and
//! what came in has to be what went out and what is here in each scrape ([`books`], [`scrapes`]).

mod books;
mod dashboard;
mod http;
mod processes;
mod program;
mod prometheus;
mod promtool;
mod scrapes;
mod shorter;
mod story;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::broker::Session;
use crate::error::{Context, Error, Result};
use crate::flights::send;
use crate::workspace::Workspace;
use crate::{compilers, files, print};
use processes::{BLOCK, DISK, DOOMED, LETTERS, MAIN, OWN, REJECT, SLOW, STUCK};
use program::{Home, Program, Setup};
use prometheus::Prometheus;
use scrapes::Scrapes;
use story::{Fires, Story, now};

#[derive(Debug, Args)]
pub(crate) struct Observe {
    /// Leave Prometheus up at the end, to look at the run in its pages, until standard input ends or gets a line
    #[arg(long)]
    hold: bool,
    /// Cargo's profile to build kafka-batcher with
    #[arg(long, default_value = "dev")]
    profile: String,
}

/// Far more than an alert takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);
/// Scrapes in which nothing may fire.
const HEALTHY: u64 = 20;

pub(crate) fn run(options: &Observe) -> Result<ExitCode> {
    promtool::find()?;
    compilers::check()?;
    let workspace = Workspace::load()?;
    let metrics = workspace.root.join("kafka-batcher-metrics");
    let rules_file = metrics.join("alerts/kafka-batcher.rules.yml");
    promtool::rules("check", &rules_file)?;
    promtool::rules("test", &metrics.join("alerts/kafka-batcher.test.yml"))?;
    let rules = files::read(&rules_file)?;
    let short = shorter::rules(&rules).ok_or_else(|| {
        Error::new("the hour of KafkaBatcherStoredLong is not in the rules as `shorter` knows it")
    })?;
    let queries = dashboard::queries(&files::read(&metrics.join("dashboard/kafka-batcher.json"))?)?;
    let program = send::build(&workspace, &options.profile)?;
    let own_partitioner = workspace.build_example("own_partitioner", "metrics", &options.profile)?;

    let folder = workspace.target.join("observe");
    files::remove_dir_all(&folder)?;
    let session = Session::local(1)?;
    let now_since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let topics = format!("observe-{}-{}", now_since.as_secs(), std::process::id());
    let home = Home {
        program: &program,
        own_partitioner: &own_partitioner,
        bootstrap: session.bootstrap(),
        folder: &folder,
        topics: &topics,
    };
    let mut run = Run {
        prometheus: Prometheus::start(&folder.join("prometheus"), &short)?,
        scrapes: Scrapes::start(),
        story: Story::new(),
        programs: BTreeMap::new(),
        home,
        session: &session,
        checked: 0,
    };
    let told = run.tell();
    let mut complaints: Vec<String> = told.err().map(|error| error.to_string()).into_iter().collect();
    let Run { prometheus, scrapes, story, programs, checked, .. } = run;
    drop(programs);

    let (from, to) = (story.began, now());
    complaints.extend(story.complaints(&prometheus.fired(from, to)?));
    let tally = scrapes.finish();
    complaints.extend(tally.complaints);
    let books = prometheus.ask_over(&books::expression(), from, to)?;
    let points: usize = books.iter().map(|series| series.values.len()).sum();
    let off = books.iter().flat_map(|series| &series.values).filter(|(_, value)| value != "0").count();
    if off > 0 || points == 0 {
        complaints.push(format!("Prometheus: the figures do not add up in {off} of {points} points"));
    }
    let mut answered = 0;
    for query in &queries {
        let is_figure = |(_, value): &(f64, String)| value.parse::<f64>().is_ok_and(f64::is_finite);
        if prometheus
            .ask_over(&query.expr, from, to)?
            .iter()
            .any(|series| series.values.iter().any(is_figure))
        {
            answered += 1;
        } else {
            complaints.push(format!("dashboard, {}: no data from {}", query.of, query.expr));
        }
    }
    let names: Vec<String> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect();
    complaints.extend(story.unfired(&names));
    print(&story.table(&names))?;
    print(&format!(
        "observe: {:.0} s: {}; {answered} of {} queries of the dashboard have data; the figures add up in {} scrapes and {points} \
         points of Prometheus; promtool finds nothing in {checked} scrapes\n",
        to - from,
        story.summary(),
        queries.len(),
        tally.scrapes,
    ))?;
    for complaint in &complaints {
        eprintln!("error: {complaint}");
    }
    if options.hold {
        eprintln!(
            "Prometheus is at http://{}; a line, or the end of standard input, ends it",
            prometheus.address
        );
        io::stdin().read_line(&mut String::new()).context(|| "cannot read standard input")?;
    }
    if complaints.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("what the processes said is in {}", folder.display());
    Ok(ExitCode::FAILURE)
}

struct Run<'a> {
    prometheus: Prometheus,
    scrapes: Scrapes,
    story: Story,
    programs: BTreeMap<&'static str, Program>,
    home: Home<'a>,
    session: &'a Session,
    /// Scrapes that promtool has looked at.
    checked: u64,
}

/// What follows from Kafka being away, and goes on for a moment after it is back.
const AWAY: Fires = &[
    ("main", OUTAGE),
    ("doomed", OUTAGE),
    ("letters", OUTAGE),
    ("disk", OUTAGE),
    ("reject", FULL),
    ("block", FULL),
];
/// Found when the spool is opened, and when what it had promised is to be sent; it fires for a while.
const DAMAGED: Fires = &[("doomed", &["KafkaBatcherStorageDamaged", "KafkaBatcherEventsLost"])];
const OUTAGE: &[&str] = &["KafkaBatcherConnectionDown", "KafkaBatcherSpoolGrowing", "KafkaBatcherStoredLong"];
/// While it is not known yet that Kafka is away, and until the last partition has a leader again.
const FOR_A_MOMENT: Fires = &[
    ("main", STUCK_LANES),
    ("doomed", STUCK_LANES),
    ("letters", STUCK_LANES),
    ("reject", STUCK_LANES),
    ("block", STUCK_LANES),
    ("disk", STUCK_LANES),
];
const STUCK_LANES: &[&str] = &["KafkaBatcherLaneStuck"];
const NO_ROOM: &[&str] = &[
    "KafkaBatcherSpoolFullSoon",
    "KafkaBatcherSpoolNearQuota",
    "KafkaBatcherStorageFull",
    "KafkaBatcherNotReady",
];
const FULL: &[&str] = &[
    "KafkaBatcherConnectionDown",
    "KafkaBatcherSpoolGrowing",
    "KafkaBatcherStoredLong",
    "KafkaBatcherSpoolFullSoon",
    "KafkaBatcherSpoolNearQuota",
    "KafkaBatcherStorageFull",
    "KafkaBatcherNotReady",
    "KafkaBatcherMemoryNearBudget",
    "KafkaBatcherEventsRejected",
    // What had to wait in memory, as there was no room elsewhere.
    "KafkaBatcherLatencyHigh",
];

impl Run<'_> {
    fn start(&mut self, setup: &Setup, per_second: u32, bytes: u32) -> Result<()> {
        let program = self.home.start(setup, per_second, bytes)?;
        self.prometheus.target(setup.name, Some(&program.address))?;
        self.scrapes.target(setup.name, Some(&program.address));
        self.programs.insert(setup.name, program);
        Ok(())
    }

    fn take(&mut self, setup: &Setup) -> Result<Program> {
        self.scrapes.target(setup.name, None);
        self.programs.remove(setup.name).ok_or_else(|| Error::new(format!("{} does not run", setup.name)))
    }

    fn feed(&self, setup: &Setup, per_second: u32, bytes: u32) {
        if let Some(program) = self.programs.get(setup.name) {
            program.feed(per_second, bytes);
        }
    }

    fn until(&mut self, fires: Fires) -> Result<()> {
        self.story.until(&self.prometheus, fires, PATIENCE)
    }

    fn files_may_grow(&self, setup: &Setup, may: bool) -> Result<()> {
        self.programs.get(setup.name).map_or(Ok(()), |program| program.files_may_grow(may))
    }

    /// Waits for so many scrapes of `main` from now on.
    fn scrapes(&self, wanted: u64) -> Result<()> {
        let began = now();
        let deadline = began + PATIENCE.as_secs_f64();
        loop {
            let seen = self.prometheus.ask_over("timestamp(up{instance=\"main\"})", began, now())?;
            let mut times: Vec<&str> =
                seen.iter().flat_map(|series| &series.values).map(|(_, at)| at.as_str()).collect();
            times.dedup();
            if times.len() as u64 > wanted {
                return Ok(());
            }
            if now() > deadline {
                return Err(Error::new(format!("Prometheus has scraped only {} times", times.len())));
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until the expression has an answer.
    fn holds(&self, expr: &str) -> Result<()> {
        let deadline = now() + PATIENCE.as_secs_f64();
        while self.prometheus.ask(expr)?.is_empty() {
            if now() > deadline {
                return Err(Error::new(format!("Prometheus still has no answer to {expr}")));
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn check_metrics(&mut self) -> Result<()> {
        for (name, program) in &self.programs {
            let scrape = http::get(&program.address, "/metrics")?;
            promtool::metrics(&scrape).context(|| format!("/metrics of {name}"))?;
            self.checked += 1;
        }
        Ok(())
    }

    fn tell(&mut self) -> Result<()> {
        self.story.phase("the start", &[("", &["KafkaBatcherAbsent"])]);
        self.start(&MAIN, 200, 200)?;
        for setup in [&DOOMED, &REJECT, &BLOCK] {
            self.start(setup, 20, 200)?;
        }
        self.holds("count(kafka_batcher_connected == 1) == 4")?;
        self.story.until_quiet(&self.prometheus, &[], PATIENCE)?;

        self.story.phase("all is well", &[]);
        let (session, stuck, letters) =
            (self.session, self.home.topic(STUCK.name), self.home.topic(LETTERS.name));
        // Kafka's tool takes a while.
        thread::scope(|scope| {
            let creating = [
                scope.spawn(|| session.create_topic_with(&letters, 2, "max.message.bytes=2000")),
                scope.spawn(|| session.create_topic(&stuck, 2)),
            ];
            self.scrapes(HEALTHY)?;
            creating.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
        })?;

        // What is behind a dead letter waits until that is put away.
        let may: Fires = &[("stuck", OUTAGE), ("letters", &["KafkaBatcherLatencyHigh"])];
        self.story.phase("troubles with single topics", may);
        self.start(&SLOW, 4, 200)?;
        self.start(&LETTERS, 20, 5000)?;
        self.start(&STUCK, 20, 200)?;
        self.start(&DISK, 20, 200)?;
        self.start(&OWN, 20, 200)?;
        self.session.delete_topic(&stuck)?;
        self.files_may_grow(&DISK, false)?;
        self.feed(&OWN, 20, 50);
        self.until(&[
            ("letters", &["KafkaBatcherDeadLetters"]),
            ("slow", &["KafkaBatcherLatencyHigh"]),
            ("stuck", &["KafkaBatcherLaneStuck"]),
            // With a journal nothing is taken that can't be stored.
            ("disk", &["KafkaBatcherStorageDown", "KafkaBatcherNotReady"]),
            // What it panics for is handed back.
            ("own", &["KafkaBatcherPanics", "KafkaBatcherEventsRejected"]),
        ])?;
        self.check_metrics()?;
        self.feed(&LETTERS, 20, 200);
        self.files_may_grow(&DISK, true)?;
        let ended = [&SLOW, &STUCK, &OWN];
        for setup in ended {
            self.prometheus.target(setup.name, None)?;
        }
        // It takes its time to look, and a target that ends before is down.
        let names = ended.map(|setup| setup.name).join("|");
        self.holds(&format!("absent(up{{instance=~\"{names}\"}})"))?;
        for setup in ended {
            self.take(setup)?.end()?;
        }
        self.story.until_quiet(&self.prometheus, &[], PATIENCE)?;

        self.story.phase("Kafka is killed", AWAY);
        self.story.may(FOR_A_MOMENT);
        self.session.kill(1)?;
        self.feed(&REJECT, 400, 1000);
        self.feed(&BLOCK, 400, 1000);
        self.until(&[
            ("main", OUTAGE),
            ("doomed", OUTAGE),
            ("disk", OUTAGE),
            ("reject", NO_ROOM),
            ("reject", &["KafkaBatcherEventsRejected"]),
            ("block", NO_ROOM),
            ("block", &["KafkaBatcherMemoryNearBudget"]),
        ])?;
        self.check_metrics()?;

        self.story.phase("a process is killed", AWAY);
        let spool = self.take(&DOOMED)?.kill()?;
        self.until(&[("doomed", DOWN)])?;
        damage(&spool)?;

        self.story.phase("Kafka is back, and so is the process, on a damaged spool", AWAY);
        self.story.may(FOR_A_MOMENT);
        self.story.may(&[("doomed", DOWN)]);
        self.feed(&REJECT, 20, 200);
        self.feed(&BLOCK, 20, 200);
        self.session.restart(1)?;
        self.start(&DOOMED, 20, 200)?;
        self.until(DAMAGED)?;
        self.story.until_quiet(&self.prometheus, DAMAGED, PATIENCE)?;
        self.check_metrics()?;

        self.story.phase("all is well again", DAMAGED);
        self.scrapes(HEALTHY / 2)?;

        self.story.phase("all are killed", DAMAGED);
        for setup in [&MAIN, &DOOMED, &REJECT, &BLOCK, &LETTERS, &DISK] {
            self.take(setup)?.kill()?;
        }
        self.until(&[
            ("", &["KafkaBatcherAbsent"]),
            ("main", DOWN),
            ("doomed", DOWN),
            ("reject", DOWN),
            ("block", DOWN),
            ("letters", DOWN),
            ("disk", DOWN),
        ])
    }
}

fn panicked() -> Error {
    Error::new("the thread that creates a topic panicked")
}

const DOWN: &[&str] = &["KafkaBatcherDown"];

/// Overwrites the middle of the largest file that the spool has.
fn damage(spool: &Path) -> Result<()> {
    let cannot = || format!("cannot damage {}", spool.display());
    let mut largest: Option<(u64, PathBuf)> = None;
    let mut folders = vec![spool.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).context(cannot)? {
            let path = entry.context(cannot)?.path();
            let data = fs::metadata(&path).context(cannot)?;
            if data.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "db") {
                largest = largest.max(Some((data.len(), path)));
            }
        }
    }
    let (bytes, file) =
        largest.ok_or_else(|| Error::new(format!("{}: no file `db` is there", spool.display())))?;
    let mut file = fs::OpenOptions::new().write(true).open(file).context(cannot)?;
    let garbage = vec![0xA5; usize::try_from(bytes / 4).unwrap_or_default()];
    file.seek(SeekFrom::Start(bytes / 8)).and_then(|_| file.write_all(&garbage)).context(cannot)
}
