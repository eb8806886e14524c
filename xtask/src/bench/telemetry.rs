//! Instructions an event with telemetry off and on, of `kafka-batcher/examples/telemetry_cost`, counted by callgrind.
//!
//! A run of n events is taken from one of 3 n: what is left is 2 n events, without the start and the end. How the threads are
//! scheduled changes how batches fall, which moves a figure by up to a tenth: look at several rounds before believing small
//! differences.

use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use crate::compilers::runs;
use crate::error::{Context, Error, Result};
use crate::print;
use crate::table::Table;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub(crate) struct Telemetry {
    /// Events of the shorter of the two runs that are compared
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1000..))]
    events: u64,
    /// Events in a batch
    #[arg(long, value_delimiter = ',', default_value = "10,100,500")]
    batch_size: Vec<u32>,
}

/// How much more an event may cost with telemetry.
const LIMIT: f64 = 1.10;
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
    let mut table = Table::new(&["batch_size", "no telemetry", "telemetry = false", "on", "on, to none"]);
    let mut within = true;
    for &size in &options.batch_size {
        let mut costs = Vec::new();
        for mode in MODES {
            let short = instructions(&workspace, mode, size, options.events)?;
            let long = instructions(&workspace, mode, size, 3 * options.events)?;
            let cost = (long as f64 - short as f64) / (2 * options.events) as f64;
            eprintln!("batches of {size}, {mode}: {cost:.1} instructions an event");
            costs.push(cost);
        }
        let ratio = costs[2] / costs[0];
        within &= ratio <= LIMIT;
        let cost = |index: usize| format!("{:.1}", costs[index]);
        table.row(&[&size.to_string(), &cost(0), &cost(1), &cost(2), &format!("{ratio:.3}")]);
    }
    print(&format!(
        "{}instructions an event, with a client that costs nothing; at most {LIMIT:.2} is allowed\n",
        table.render()
    ))?;
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn instructions(workspace: &Workspace, mode: &str, size: u32, events: u64) -> Result<u64> {
    let program = workspace.target.join("release/examples/telemetry_cost");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([mode, &size.to_string(), &events.to_string()])
        .stdin(Stdio::null())
        .output()
        .context(|| "cannot run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(Error::new(format!("the measured run failed ({}):\n{said}", output.status)));
    }
    collected(&said).ok_or_else(|| Error::new(format!("callgrind counted nothing:\n{said}")))
}

/// Callgrind ends with `==123== Collected : 456`.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn what_callgrind_counted_is_read() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 1234\n==7==\n"), Some(1234));
        assert_eq!(collected("==7== Command: x\n"), None);
    }
}
