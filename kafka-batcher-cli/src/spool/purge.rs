//! `spool purge`: deletes.

use kafka_batcher::sled::{LaneInfo, Purge};
use serde_json::json;

use super::args::PurgeArgs;
use super::output;
use crate::Failure;
use crate::console::Console;
use crate::format::counted;
use crate::report::{OK, UNUSABLE};

pub(super) fn purge(args: &PurgeArgs, console: &Console) -> Result<u8, Failure> {
    let spool = super::open(&args.path, console)?;
    let what = &args.what;
    let wanted = |lane: &LaneInfo| {
        let id = &lane.usage.id;
        what.all
            || what.lane.as_ref() == Some(id)
            || what.topic.as_ref().is_some_and(|topic| **topic == *id.topic)
    };
    let mut lanes = spool.lanes().map_err(|error| super::failed(&error))?;
    lanes.retain(wanted);
    let events: u64 = lanes.iter().map(|lane| lane.usage.events).sum();
    let dead = if what.all || what.dead {
        spool.dead_letters().map_err(|error| super::failed(&error))?.records
    } else {
        0
    };
    let amount = format!("{} and {}", counted(events, "event"), counted(dead, "dead letter"));
    if !args.yes {
        let message = format!("{amount} would be deleted for good; nothing was. Give --yes to do it");
        return Err(Failure::new(UNUSABLE, message));
    }
    let mut doomed: Vec<Purge> = lanes.into_iter().map(|lane| Purge::Lane(lane.usage.id)).collect();
    if dead > 0 {
        doomed.push(Purge::DeadLetters);
    }
    for one in &doomed {
        spool.purge(one).map_err(|error| super::failed(&error))?;
    }
    output::print_one(args.json, &json!({"events": events, "dead_letters": dead}), || {
        format!("{amount} deleted")
    })?;
    Ok(OK)
}
