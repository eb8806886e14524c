//! The program `kafka-batcher`: pipes real data into Kafka, looks after what waits for it on the disk, and shows that an
//! outage loses nothing.
//!
//! ```text
//!             thread `input`            main thread                       the batcher
//!   FILE ──▶ blocks of 256 KiB ──▶ lines ──▶ key, value ──▶ try_add ──▶ batches ──▶ Kafka
//!                                      └─▶ bad lines: reported with their number
//! ```

mod args;
mod connect;
mod console;
mod demo;
mod feed;
mod format;
mod input;
mod keep;
mod key;
mod lines;
#[cfg(feature = "metrics")]
mod listen;
mod produce;
mod progress;
mod report;
mod sample;
mod settings;
mod show;
mod signals;
#[cfg(feature = "sled")]
mod spool;
#[cfg(feature = "metrics")]
mod top;
mod troubles;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::console::Console;

/// Why a run ended before it had a result.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_if_asked();
    let (console, result) = match cli.command {
        Command::Produce(args) => {
            let console = Console::new(args.quiet);
            (console.clone(), run(produce::produce(&args, console)))
        }
        #[cfg(feature = "sled")]
        Command::Spool(command) => {
            let console = Console::new(false);
            (console.clone(), run(spool::run(command, console)))
        }
        #[cfg(feature = "metrics")]
        Command::Top(args) => {
            let console = Console::new(false);
            (console.clone(), run(top::top(&args, &console)))
        }
        Command::Demo(args) => {
            let console = Console::new(false);
            (console.clone(), run(demo::demo(&args, console)))
        }
    };
    ExitCode::from(result.unwrap_or_else(|failure| {
        console.error(&failure.message);
        failure.code
    }))
}

fn run(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(report::NOT_DELIVERED, format!("can't start: {e}")))?;
    let result = runtime.block_on(command);
    // Whatever still blocks has no say in when the program ends.
    runtime.shutdown_background();
    result
}

/// Writes the libraries' log to standard error if `RUST_LOG` says which parts of it.
fn log_if_asked() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() {
        // That a line could not be written is nothing to panic about, in whatever thread wrote it.
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .log_internal_errors(false);
        // It can only be set once, and this is the one place.
        log.try_init().ok();
    }
}
