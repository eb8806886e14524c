//! `spool export`: everything as JSON, one object a line.

use kafka_batcher::sled::{SledError, Spool};

use super::args::ExportArgs;
use super::event::Event;
use super::output::{self, write_json};
use crate::Failure;
use crate::console::Console;
use crate::report::OK;

pub(super) fn export(args: &ExportArgs, console: &Console) -> Result<u8, Failure> {
    let spool = super::open(&args.path, console)?;
    // Reading may fail in the middle, which is told behind what was written.
    let mut unread = Ok(());
    output::print(|out| {
        let mut write = |event: &Event<'_>| write_json(out, event);
        if args.which.dead {
            let mut after = None;
            while let Some(entry) = next(spool.next_dead(after), &mut unread) {
                after = Some(entry.id);
                if args.which.wants(&entry.dead.lane) {
                    write(&Event::dead(&entry))?;
                }
            }
            return Ok(());
        }
        for lane in next(lanes(&spool).map(Some), &mut unread).unwrap_or_default() {
            let mut after = None;
            while args.which.wants(&lane)
                && let Some(entry) = next(spool.next(&lane, after), &mut unread)
            {
                after = Some(entry.id);
                Event::all(&lane, &entry).try_for_each(|event| write(&event))?;
            }
        }
        Ok(())
    })?;
    unread.map_err(|error| super::failed(&error))?;
    Ok(OK)
}

fn lanes(spool: &Spool) -> Result<Vec<kafka_batcher::LaneId>, SledError> {
    let mut lanes: Vec<_> = spool.lanes()?.into_iter().map(|lane| lane.usage.id).collect();
    lanes.sort();
    Ok(lanes)
}

fn next<T>(read: Result<Option<T>, SledError>, unread: &mut Result<(), SledError>) -> Option<T> {
    read.unwrap_or_else(|error| {
        *unread = Err(error);
        None
    })
}
