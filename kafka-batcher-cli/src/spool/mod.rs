//! `kafka-batcher spool`: what an operator does with a spool.
//!
//! `ls` and `peek` look at its files, whoever is using them ([`SpoolView`]); everything else opens it, which only one
//! process can ([`Spool`]).

pub(crate) mod args;
mod event;
mod export;
mod ls;
mod output;
mod peek;
mod purge;
mod replay;
mod requeue;
pub(crate) mod settings;
mod verify;

use std::path::Path;

use kafka_batcher::sled::{SledError, Spool, SpoolView};

use crate::console::Console;
use crate::{Failure, report};
use args::SpoolCommand;

/// Runs the command and gives the exit code.
pub(crate) async fn run(command: SpoolCommand, console: Console) -> Result<u8, Failure> {
    match command {
        SpoolCommand::Ls(args) => ls::ls(&args),
        SpoolCommand::Peek(args) => peek::peek(&args),
        SpoolCommand::Export(args) => export::export(&args, &console),
        SpoolCommand::Requeue(args) => requeue::requeue(&args, &console),
        SpoolCommand::Verify(args) => verify::verify(&args),
        SpoolCommand::Replay(args) => replay::replay(&args, console).await,
        SpoolCommand::Purge(args) => purge::purge(&args, &console),
    }
}

/// Opens a spool that nobody is using, and says if it was damaged.
fn open(path: &Path, console: &Console) -> Result<Spool, Failure> {
    let spool = Spool::open(path).map_err(|error| unusable(&error))?;
    let recovery = spool.recovery();
    if !recovery.is_clean() {
        let path = path.display();
        console.error(format_args!(
            "the spool {path} was damaged: {} are lost, what could be read is saved, and `kafka-batcher spool verify \
             {path}` tells more",
            crate::format::counted(recovery.lost_events + recovery.lost_dead_letters, "event"),
        ));
    }
    Ok(spool)
}

fn view(path: &Path) -> Result<SpoolView, Failure> {
    SpoolView::read(path).map_err(|error| unusable(&error))
}

fn unusable(error: &SledError) -> Failure {
    Failure::new(report::UNUSABLE, refusal(error))
}

/// Reading or writing failed when it was open already.
fn failed(error: &SledError) -> Failure {
    Failure::new(report::NOT_DELIVERED, error.to_string())
}

/// Why a spool can't be used, and what to do.
pub(crate) fn refusal(error: &SledError) -> String {
    match error {
        SledError::StorageLocked { path, pid } => {
            let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            format!(
                "the spool {} is in use by {who}, and only one may have it; `spool ls` and `spool peek` can look at it meanwhile",
                path.display()
            )
        }
        other => other.to_string(),
    }
}
