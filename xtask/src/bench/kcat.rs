//! The same file, keyed the same way, through `kafka-batcher produce` and through `kcat -P`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Args;

use super::median;
use crate::broker::Session;
use crate::error::{Context, Error, Result};
use crate::flights::{Input, find_file, send};
use crate::table::Table;
use crate::workspace::Workspace;
use crate::{compilers, files, print};

#[derive(Debug, Args)]
pub(crate) struct Kcat {
    /// The flights, as for `cargo xtask flights`
    #[arg(long)]
    file: Option<PathBuf>,
    /// Rounds, in each of which both send the file
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Partitions of the topics
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    partitions: u32,
}

const SEPARATOR: &str = "|";

pub(crate) fn run(options: &Kcat) -> Result<ExitCode> {
    compilers::check()?;
    if !compilers::succeeds("kcat", &["-V"]) {
        return Err(Error::new("there is no `kcat`: on Debian and Ubuntu it is in the package kcat"));
    }
    let workspace = Workspace::load()?;
    let folder = workspace.target.join("flights");
    files::create_dir_all(&folder)?;
    let input = Input::load(&find_file(options.file.as_deref(), &workspace)?, None, &folder)?;
    let keyed = folder.join("flights.keyed");
    std::fs::write(&keyed, input.keyed(SEPARATOR)).context(|| format!("cannot write {}", keyed.display()))?;
    let program = send::build(&workspace, "release")?;
    let session = Session::begin(1)?;

    let mut times = [Vec::new(), Vec::new()];
    for round in 1..=options.rounds {
        for (contestant, times) in ["kafka-batcher", "kcat"].into_iter().zip(&mut times) {
            // A topic of its own for each: logs that have grown are slower.
            let topic = format!("bench-{}-{round}-{contestant}", std::process::id());
            session.create_topic(&topic, options.partitions)?;
            let mut command = if contestant == "kcat" {
                kcat(session.bootstrap(), &topic, &keyed)
            } else {
                ours(&program, session.bootstrap(), &topic, &keyed)
            };
            let began = Instant::now();
            let status =
                command.stdin(Stdio::null()).status().context(|| format!("cannot run {contestant}"))?;
            let seconds = began.elapsed().as_secs_f64();
            if !status.success() {
                return Err(Error::new(format!("{contestant} failed: {status}")));
            }
            eprintln!("round {round}: {contestant:<13} {seconds:.3} s");
            times.push(seconds);
        }
    }
    let [ours, theirs] = times.map(|times| median(times.into_iter()));
    let mut table = Table::new(&["program", "s", "events/s", "kafka-batcher's time to it"]);
    for (name, seconds) in [("kafka-batcher produce", ours), ("kcat -P", theirs)] {
        let rate = input.len() as f64 / seconds;
        table.row(&[
            name,
            &format!("{seconds:.3}"),
            &format!("{rate:.0}"),
            &format!("{:.2}", ours / seconds),
        ]);
    }
    print(&format!(
        "{}medians of {} rounds; at most 1.00 of kcat's time is aimed at\n",
        table.render(),
        options.rounds
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn ours(program: &Path, bootstrap: &str, topic: &str, keyed: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([
        "produce",
        "--quiet",
        "--brokers",
        bootstrap,
        "--topic",
        topic,
        "--key-separator",
        SEPARATOR,
    ]);
    command.arg(keyed);
    command
}

fn kcat(bootstrap: &str, topic: &str, keyed: &Path) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-P", "-q", "-b", bootstrap, "-t", topic, "-K", SEPARATOR, "-l"]).arg(keyed);
    command
}
