//! `cargo xtask planted`: breaks the code on purpose, one bug at a time, and checks that the tests go red.
//!
//! The bugs are in the `planted.toml`s of the workspace's crates:
//!
//! ```toml
//! [[bug]]
//! name = "lane-loses-a-failed-batch"
//! file = "kafka-batcher-core/src/lane/mod.rs"     # from the workspace's root
//! find = "self.in_flight.push_front(batch);"      # must be there exactly once
//! replace = ""
//! test = ["--package", "kafka-batcher-core"]      # arguments of `cargo test`; it must fail
//! # or: run = ["run", "--package", "kafka-batcher-cli", "--", "demo"]   a cargo command; it must fail
//! ```
//!
//! All of it happens to a copy under `target/planted`, with a target folder of its own. What is run is first run
//! unbroken, and must succeed: a test that always fails catches nothing. Nor does one that no longer compiles.

mod bug;
mod scratch;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::broker;
use crate::children::{self, End};
use crate::error::{Error, Result};
use crate::matrix::libtest;
use crate::table::Table;
use crate::workspace::Workspace;
use crate::{files, print};
use bug::{Bug, Job};
use scratch::Scratch;

#[derive(Debug, Args)]
pub(crate) struct Planted {
    /// Only bugs whose name contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Leave out bugs whose name contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    except: Vec<String>,
    /// Only bugs in this crate's planted.toml; may be repeated
    #[arg(long, value_name = "CRATE")]
    package: Vec<String>,
    /// Only one in so many of them, for want of time; --turn says which
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    one_in: u64,
    /// With --one-in: numbers that follow each other plant all bugs in turn
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    turn: u64,
    /// Name the bugs, check that each can still be planted, and plant none
    #[arg(long)]
    list: bool,
    /// Longest run of one bug's tests; that they hang is a way of catching it, too
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

/// What became of a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Caught,
    /// The tests did not end.
    Hung,
    Missed,
    DoesNotCompile,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::Hung => "caught (hung)",
            Self::Missed => "MISSED",
            Self::DoesNotCompile => "DOES NOT COMPILE",
        }
    }

    fn is_good(self) -> bool {
        matches!(self, Self::Caught | Self::Hung)
    }
}

pub(crate) fn run(options: &Planted) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let files = scratch::files(&workspace)?;
    let bugs: Vec<Bug> = bug::read_all(&workspace, &files)?
        .into_iter()
        .filter(|bug| options.only.is_empty() || options.only.iter().any(|text| bug.name.contains(text)))
        .filter(|bug| !options.except.iter().any(|text| bug.name.contains(text)))
        .filter(|bug| options.package.is_empty() || options.package.contains(&bug.package))
        .zip(0..)
        .filter(|(_, number)| number % options.one_in == options.turn % options.one_in)
        .map(|(bug, _)| bug)
        .collect();
    if bugs.is_empty() {
        return Err(Error::new("there is no such bug; `cargo xtask planted --list` shows them all"));
    }
    scratch::check(&workspace.root, &bugs)?;
    if options.list {
        let mut table = Table::new(&["crate", "bug", "file", "must fail"]);
        for bug in &bugs {
            table.row(&[&bug.package, &bug.name, &bug.file, &bug.job.to_string()]);
        }
        print(&table.render())?;
        return Ok(ExitCode::SUCCESS);
    }
    let scratch = Scratch::create(&workspace, &files)?;
    let planter = Planter { scratch: &scratch, timeout: Duration::from_secs(options.timeout) };
    planter.check_unbroken(&bugs)?;
    let mut fates = Vec::new();
    for (index, bug) in bugs.iter().enumerate() {
        eprint!("[{}/{}] {} ... ", index + 1, bugs.len(), bug.name);
        let began = Instant::now();
        let fate = planter.plant(bug)?;
        eprintln!("{} in {:.1} s", fate.name(), began.elapsed().as_secs_f64());
        fates.push(fate);
    }
    print(&render(&bugs, &fates))?;
    let all = fates.iter().all(|fate| fate.is_good());
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(bugs: &[Bug], fates: &[Fate]) -> String {
    let mut table = Table::new(&["crate", "bug", "fate"]);
    for (bug, fate) in bugs.iter().zip(fates) {
        table.row(&[&bug.package, &bug.name, fate.name()]);
    }
    let caught = fates.iter().filter(|fate| fate.is_good()).count();
    format!("{}\n{caught} of {} planted bugs caught\n", table.render(), fates.len())
}

struct Planter<'a> {
    scratch: &'a Scratch,
    timeout: Duration,
}

impl Planter<'_> {
    /// Everything that is going to be run has to succeed as the code is, or its failure means nothing later.
    fn check_unbroken(&self, bugs: &[Bug]) -> Result<()> {
        let mut jobs: BTreeMap<String, &Job> = BTreeMap::new();
        for bug in bugs {
            jobs.insert(bug.job.to_string(), &bug.job);
        }
        for (index, (name, job)) in jobs.iter().enumerate() {
            eprint!("[{}/{}] unbroken: {name} ... ", index + 1, jobs.len());
            let began = Instant::now();
            let log_name = format!("unbroken-{}", index + 1);
            let log = self.scratch.log(&log_name);
            let fate = self.run(job, &log_name)?;
            let seconds = began.elapsed().as_secs_f64();
            if fate != Fate::Missed {
                eprintln!("FAILED");
                return Err(Error::new(format!(
                    "`{name}` fails as the code is, so its failure would prove nothing. See {}",
                    log.display()
                )));
            }
            if matches!(job, Job::Test(_)) && libtest::parse(&files::read_lossy(&log)?).passed == 0 {
                eprintln!("FAILED");
                return Err(Error::new(format!("`{name}` runs no test. See {}", log.display())));
            }
            eprintln!("green in {seconds:.1} s");
        }
        Ok(())
    }

    fn plant(&self, bug: &Bug) -> Result<Fate> {
        let broken = self.scratch.apply(bug)?;
        let fate = self.run(&bug.job, &bug.name);
        broken.restore()?;
        fate
    }

    /// Builds, and only then runs: an error of the compiler is no catch.
    fn run(&self, job: &Job, name: &str) -> Result<Fate> {
        let log = self.scratch.log(name);
        let mut build = self.scratch.cargo();
        build.args(job.build());
        if children::logged(&mut build, &log)? != End::Success {
            return Ok(Fate::DoesNotCompile);
        }
        let mut run = self.scratch.cargo();
        // A broker that happens to be named in the environment is none of these tests' business.
        run.args(job.run()).env_remove(broker::BOOTSTRAP).env_remove(broker::CTL);
        Ok(match children::logged_for(&mut run, &log, self.timeout)? {
            End::Success => Fate::Missed,
            End::Failure => Fate::Caught,
            End::TimedOut => Fate::Hung,
        })
    }
}
