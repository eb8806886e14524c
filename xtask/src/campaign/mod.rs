//! `cargo xtask campaign`: the tests of storage that a gate has no time for, as often as it takes to believe them.
//!
//! [`storage`] runs a test of kafka-batcher-storage-sled with numbers of one's own, [`outage`] a process through an outage of
//! real Kafka.

mod outage;
mod storage;

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::error::{Error, Result};
use crate::workspace::Workspace;
use crate::{compilers, print};

#[derive(Debug, Args)]
pub(crate) struct Campaign {
    #[arg(value_enum)]
    name: Name,
    /// How often [default: kills 1000, power-cuts 200, fills 100, faults 2000, corruptions 10000, outage 5000000 events]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    runs: Option<u64>,
    /// What happens by chance follows from it, as far as it does not depend on how fast the machine is [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// outage: with `durability = "journal"`
    #[arg(long)]
    journal: bool,
    /// Cargo's profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// `kill -9` of a process that fills a spool with all its might
    Kills,
    /// The disk as it is at an instant, without what was not forced to it; needs root and loop devices
    PowerCuts,
    /// A full disk, and one that fails under its file system; needs root
    Fills,
    /// Writes, syncs and renames that fail
    Faults,
    /// Flipped bits, zeroed pages, files cut off
    Corruptions,
    /// Real Kafka is killed, and started again when so many events have been accepted
    Outage,
}

/// What came of it.
#[derive(Debug, Default, PartialEq)]
struct End {
    seconds: f64,
    /// Its figures.
    sums: Vec<String>,
    complaints: Vec<String>,
}

pub(crate) fn run(options: &Campaign) -> Result<ExitCode> {
    compilers::check()?;
    let workspace = Workspace::load()?;
    let name = options.name.to_possible_value().map(|name| name.get_name().to_owned()).unwrap_or_default();
    let profile = &options.profile;
    let (end, again) = if let Some(suite) = storage::suite(options.name) {
        let runs = options.runs.unwrap_or(suite.runs);
        let seed = match options.seed {
            Some(seed) => seed,
            None => u64::from(
                getrandom::u32().map_err(|error| Error::new(format!("no random numbers: {error}")))?,
            ),
        };
        let again = format!("cargo xtask campaign {name} --runs {runs} --seed {seed} --profile {profile}");
        eprintln!("again with: {again}");
        (suite.run(&workspace, profile, runs, seed)?, again)
    } else {
        let events = options.runs.unwrap_or(outage::EVENTS);
        let journal = if options.journal { " --journal" } else { "" };
        let again = format!("cargo xtask campaign {name} --runs {events}{journal} --profile {profile}");
        (outage::run(&workspace, profile, events, options.journal)?, again)
    };
    for sum in &end.sums {
        print(&format!("campaign {name}: {sum}\n"))?;
    }
    for complaint in &end.complaints {
        eprintln!("error: {complaint}");
    }
    let good = end.complaints.is_empty();
    let word = if good { "good" } else { "FAILED" };
    print(&format!("campaign {name}: {word} after {:.0} s; again with: {again}\n", end.seconds))?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
