//! Chores of this workspace that a shell script would do badly: `cargo xtask <task>`.
//!
//! | task | what it does |
//! | --- | --- |
//! | `broker` | runs real Apache Kafka nodes on loopback, and kills, stops and restarts them for tests |
//!
//! A new task is a module with a clap `Command` and a `run` that returns the exit code, and one line in each of
//! [`Task`] and [`main`]. Tasks print progress to stderr, and only what a script would read to stdout.

mod broker;
mod error;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Chores of the kafka-batcher workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Real Apache Kafka on loopback, to test against
    #[command(subcommand)]
    Broker(broker::Command),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Broker(command) => broker::run(command),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
