//! Instructions an event with telemetry off and on, of `kafka-batcher/examples/telemetry_cost`, counted by callgrind.
//!
//! Counted from after the first event to the end of the shutdown, all threads, with one scrape. Two runs differ by less than
//! a thousandth.

use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use crate::compilers::runs;
use crate::error::{Context, Error, Result};
use crate::table::Table;
use crate::workspace::Workspace;
use crate::{files, print};

#[derive(Debug, Args)]
pub(crate) struct Telemetry {
    /// Events of each run
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1000..))]
    events: u64,
    /// Events in a batch
    #[arg(long, value_delimiter = ',', default_value = "10,100,500")]
    batch_size: Vec<u32>,
}

/// How much more an event may cost with telemetry, and with telemetry that is switched off.
const LIMIT: f64 = 1.10;
const OFF: f64 = 1.005;
const MODES: [&str; 3] = ["none", "off", "on"];

pub(crate) fn run(options: &Telemetry) -> Result<ExitCode> {
    if !runs("valgrind") {
        return Err(Error::new(
            "there is no valgrind, which counts the instructions: apt-get install valgrind",
        ));
    }
    let workspace = Workspace::load()?;
    let build = ["build", "--release", "--package", "kafka-batcher", "--no-default-features"];
    let example = ["--features", "metrics", "--example", "telemetry_cost"];
    let status = workspace.cargo().args(build).args(example).status().context(|| "cannot run cargo")?;
    if !status.success() {
        return Err(Error::new("the program to measure could not be built"));
    }
    let mut table =
        Table::new(&["batch_size", "no telemetry", "telemetry = false", "on", "off to none", "on to none"]);
    let mut within = true;
    for &size in &options.batch_size {
        let mut costs = Vec::new();
        for mode in MODES {
            let cost = instructions(&workspace, mode, size, options.events)? as f64 / options.events as f64;
            eprintln!("batches of {size}, {mode}: {cost:.1} instructions an event");
            costs.push(cost);
        }
        let (off, on) = (costs[1] / costs[0], costs[2] / costs[0]);
        within &= off <= OFF && on <= LIMIT;
        let cost = |index: usize| format!("{:.1}", costs[index]);
        let ratio = |ratio: f64| format!("{ratio:.3}");
        table.row(&[&size.to_string(), &cost(0), &cost(1), &cost(2), &ratio(off), &ratio(on)]);
    }
    print(&format!(
        "{}instructions an event, with a client that costs nothing; at most {OFF} times as many are allowed when it is off, {LIMIT:.2} when it is on\n",
        table.render()
    ))?;
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn instructions(workspace: &Workspace, mode: &str, size: u32, events: u64) -> Result<u64> {
    let program = workspace.target.join("release/examples/telemetry_cost");
    let counts = workspace.target.join("telemetry-counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--zero-before=telemetry_cost::measured_from_here"])
        .arg("--dump-before=telemetry_cost::measured_up_to_here")
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(program)
        .args([mode, &size.to_string(), &events.to_string()])
        .stdin(Stdio::null())
        .output()
        .context(|| "cannot run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(Error::new(format!("the measured run failed ({}):\n{said}", output.status)));
    }
    // The first dump; what comes after it is in the file without a number.
    let dump = files::read(&counts.with_extension("1"))?;
    collected(&dump).ok_or_else(|| Error::new("callgrind counted nothing"))
}

/// Callgrind's file has a line `totals: 456`.
fn collected(dump: &str) -> Option<u64> {
    dump.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn what_callgrind_counted_is_read() {
        assert_eq!(collected("events: Ir\nfn=(1) main\n0 5\ntotals: 1234\n"), Some(1234));
        assert_eq!(collected("events: Ir\n"), None);
    }
}
