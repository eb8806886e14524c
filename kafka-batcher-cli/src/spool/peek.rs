//! `spool peek`: the oldest events of each lane.

use std::fmt::Write as _;
use std::io::Write;
use std::time::SystemTime;

use kafka_batcher::LaneId;
use kafka_batcher::sled::{SpoolEntry, SpoolView};

use super::args::PeekArgs;
use super::event::{self, Event};
use super::output::{self, Broken, write_json};
use crate::Failure;
use crate::format::age;
use crate::report::OK;

pub(super) fn peek(args: &PeekArgs) -> Result<u8, Failure> {
    let view = super::view(&args.path)?;
    output::print(
        |out| if args.which.dead { dead_letters(args, &view, out) } else { lanes(args, &view, out) },
    )?;
    Ok(OK)
}

fn lanes(args: &PeekArgs, view: &SpoolView, out: &mut impl Write) -> Result<(), Broken> {
    let mut lanes: Vec<LaneId> = view.lanes().into_iter().map(|lane| lane.usage.id).collect();
    lanes.sort();
    for lane in lanes.iter().filter(|lane| args.which.wants(lane)) {
        let (mut left, mut after) = (args.count, None);
        while left > 0 {
            let Some(entry) = view.next(lane, after) else { break };
            after = Some(entry.id);
            if args.json {
                for event in Event::all(lane, &entry).take(usize::try_from(left).unwrap_or(usize::MAX)) {
                    write_json(out, &event)?;
                }
            } else {
                writeln!(out, "{}", heading(lane, &entry))?;
                for record in entry.stored.batch.records().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                    writeln!(out, "  {}", event::line(&record))?;
                }
            }
            left = left.saturating_sub(u64::from(entry.stored.batch.len()));
        }
    }
    Ok(())
}

fn heading(lane: &LaneId, entry: &SpoolEntry) -> String {
    let events = crate::format::counted(u64::from(entry.stored.batch.len()), "event");
    let mut text = format!("{lane}, batch {} of {events}, stored {} ago", entry.id.0, since(entry.stored_at));
    if entry.stored.maybe_persisted {
        write!(text, ", Kafka may have it").unwrap_or_default();
    }
    text
}

fn dead_letters(args: &PeekArgs, view: &SpoolView, out: &mut impl Write) -> Result<(), Broken> {
    let (mut left, mut after) = (args.count, None);
    while left > 0 {
        let Some(entry) = view.next_dead(after) else { break };
        after = Some(entry.id);
        if !args.which.wants(&entry.dead.lane) {
            continue;
        }
        left -= 1;
        if args.json {
            write_json(out, &Event::dead(&entry))?;
        } else {
            let dead = &entry.dead;
            let (lane, kind, error, stored) = (&dead.lane, dead.kind, &dead.error, since(entry.stored_at));
            writeln!(out, "{lane}, dead letter {}, stored {stored} ago, {kind}: {error}", entry.id.0)?;
            writeln!(out, "  {}", event::line(&dead.record.as_ref()))?;
        }
    }
    Ok(())
}

fn since(stored_at: SystemTime) -> String {
    // The clock may have been set back meanwhile.
    age(stored_at.elapsed().unwrap_or_default())
}
