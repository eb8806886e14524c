//! Chores of this workspace that a shell script would do badly: `cargo xtask <task>`.
//!
//! | task | what it does |
//! | --- | --- |
//! | `demo` | builds and runs the demonstration: real events, and a broker that goes away and comes back |
//! | `test-matrix` | runs the tests, features × backend × broker × security, and prints what ran where |
//! | `broker` | runs real Apache Kafka nodes on loopback, and kills, stops and restarts them for tests |
//! | `bench` | how fast it is, against what people use, in the same run |
//! | `purity` | checks what crates may depend on, and that the core reads no clock |
//! | `no-cc` | builds the rskafka backend where there is no C compiler |
//! | `planted` | breaks the code on purpose, bug by bug, and checks that the tests go red |
//! | `flights` | sends a year of flights into real Kafka and checks with another client what arrived |
//! | `otlp` | sends the metrics of a scripted run to an OpenTelemetry collector and checks what it received |
//! | `crash` | kills a process that journals events, over and over, and checks that nothing is lost |
//! | `campaign` | runs the tests of storage that take long: kills, power cuts, full and failing disks, corruptions |
//! | `observe` | a real Prometheus watches an outage; alerts, dashboard and figures have to tell what happens |
//! | `dump-log-check` | has Kafka's own tool read batches that our encoder wrote |
//!
//! A new task is a module with a clap `Command` or `Args` and a `run` that returns the exit code, and one line in each
//! of [`Task`] and [`main`]. Tasks print progress to stderr, and only what a script would read to stdout.

mod bench;
mod broker;
mod campaign;
mod children;
mod compilers;
mod crash;
mod demo;
mod dump_log;
mod error;
mod files;
mod flights;
mod matrix;
mod no_cc;
mod observe;
mod otlp;
mod planted;
mod purity;
mod table;
mod workspace;

use std::io::{self, Write};
use std::process::{ExitCode, ExitStatus};

use clap::{Parser, Subcommand};

use crate::error::{Context, Result};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Chores of the kafka-batcher workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Watch real events go through while the broker disappears and comes back
    Demo(demo::Demo),
    /// Run the tests with each choice of features, and print what ran where
    TestMatrix(matrix::Matrix),
    /// Real Apache Kafka on loopback, to test against
    #[command(subcommand)]
    Broker(broker::Command),
    /// Measure against what people use
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Check what the crates depend on, and that the core reads no clock
    Purity,
    /// Build the rskafka backend where there is no C compiler
    NoCc,
    /// Break the code on purpose, bug by bug, and see the tests go red
    Planted(planted::Planted),
    /// Send a year of flights into real Kafka, and check with another client what arrived
    Flights(flights::Flights),
    /// Send the metrics of a scripted run to an OpenTelemetry collector, and check what it received
    Otlp,
    /// Kill a process that journals events, over and over, and check that nothing is lost
    Crash(crash::Crash),
    /// Run the tests of storage that take long: kills, power cuts, full and failing disks, corruptions
    Campaign(campaign::Campaign),
    /// Have a real Prometheus watch an outage, and see alerts, dashboard and figures tell what happens
    Observe(observe::Observe),
    /// Have Kafka's own tool read batches that our encoder wrote
    DumpLogCheck,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::TestMatrix(options) => matrix::run(&options),
        Task::Broker(command) => broker::run(command),
        Task::Bench(bench) => bench::run(&bench),
        Task::Purity => purity::run(),
        Task::NoCc => no_cc::run(),
        Task::Planted(options) => planted::run(&options),
        Task::Flights(options) => flights::run(&options),
        Task::Otlp => otlp::run(),
        Task::Crash(options) => crash::run(&options),
        Task::Campaign(options) => campaign::run(&options),
        Task::Observe(options) => observe::run(&options),
        Task::DumpLogCheck => dump_log::run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// The exit code of a program, as one's own.
fn exit_code(status: ExitStatus) -> ExitCode {
    // By a signal: there is no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// To stdout, without the panic of `println!` when the reader has gone.
fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context(|| "cannot write to stdout")
}
