//! `spool requeue`: dead letters back to where they were meant to go.

use serde_json::json;

use super::args::RequeueArgs;
use super::output;
use crate::Failure;
use crate::console::Console;
use crate::format::counted;
use crate::report::OK;

pub(super) fn requeue(args: &RequeueArgs, console: &Console) -> Result<u8, Failure> {
    let spool = super::open(&args.path, console)?;
    let requeued = spool.requeue(|entry| {
        args.topic.as_ref().is_none_or(|topic| **topic == *entry.dead.lane.topic)
            && args.kind.as_ref().is_none_or(|kind| kind == entry.dead.kind.as_str())
    });
    let requeued = requeued.map_err(|error| super::failed(&error))?;
    let left = spool.dead_letters().map_err(|error| super::failed(&error))?.records;
    let object = json!({"requeued": requeued, "dead_letters": left});
    output::print_one(args.json, &object, || {
        format!("{} requeued, {} left", counted(requeued, "dead letter"), counted(left, "dead letter"))
    })?;
    Ok(OK)
}
