//! `cargo xtask demo`: the demonstration of `kafka-batcher demo`, with the least that a fresh machine needs.

use std::process::{ExitCode, Stdio};

use clap::Args;

use crate::error::{Context, Result};
use crate::workspace::Workspace;
use crate::{compilers, exit_code};

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Passed on to `kafka-batcher demo`, such as -- --events 100000
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// Builds the program and lets it run its demo.
///
/// Without optimisation, which takes half of the time to build and is fast enough for the sample; and what it builds
/// serves the tests too.
pub(crate) fn run(demo: &Demo) -> Result<ExitCode> {
    compilers::check()?;
    let workspace = Workspace::load()?;
    eprintln!("building kafka-batcher; the first time takes a few minutes, most of them for librdkafka");
    let status = workspace
        .cargo()
        .args(["run", "--package", "kafka-batcher-cli", "--", "demo"])
        .args(&demo.arguments)
        .stdin(Stdio::inherit())
        .status()
        .context(|| "cannot run cargo")?;
    Ok(exit_code(status))
}
