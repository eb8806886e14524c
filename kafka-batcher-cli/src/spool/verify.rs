//! `spool verify`: whether everything is there and sound.

use std::fmt::Write as _;

use kafka_batcher::sled::{Spool, Verification};
use serde_json::{Value, json};

use super::args::VerifyArgs;
use super::output;
use crate::Failure;
use crate::format::{count, counted};
use crate::report::{NOT_DELIVERED, OK};

pub(super) fn verify(args: &VerifyArgs) -> Result<u8, Failure> {
    // What opening finds is part of the answer, and not said twice.
    let spool = Spool::open(&args.path).map_err(|error| super::unusable(&error))?;
    let found = spool.verify().map_err(|error| super::failed(&error))?;
    output::print_one(args.json, &object(&found), || text(&found))?;
    Ok(if found.is_clean() { OK } else { NOT_DELIVERED })
}

fn object(found: &Verification) -> Value {
    let recovery = &found.recovery;
    let losses = recovery.losses.iter().map(|loss| {
        json!({
            "topic": loss.lane.as_ref().map(|lane| &*lane.topic),
            "partition": loss.lane.as_ref().and_then(|lane| lane.partition),
            "dead_letters": loss.lane.is_none(),
            "after": loss.after.0,
            "batches": loss.batches,
            "events": loss.events,
        })
    });
    json!({
        "clean": found.is_clean(),
        "batches": found.batches,
        "events": found.events,
        "dead_letters": found.dead_letters,
        "undecodable": found.undecodable,
        "lost_batches": recovery.lost_batches,
        "lost_events": recovery.lost_events,
        "lost_dead_letters": recovery.lost_dead_letters,
        "salvaged": recovery.salvaged,
        "marks_damaged": recovery.marks_damaged,
        "quarantined": recovery.quarantined,
        "losses": losses.collect::<Value>(),
    })
}

fn text(found: &Verification) -> String {
    let recovery = &found.recovery;
    let mut text = format!(
        "{} events in {} batches, and {}, are there and sound",
        count(found.events),
        count(found.batches),
        counted(found.dead_letters, "dead letter")
    );
    let mut say = |line: String| write!(text, "\n{line}").unwrap_or_default();
    if found.undecodable > 0 {
        say(format!("{} can be read and not decoded", count(found.undecodable)));
    }
    if recovery.marks_damaged {
        say("the marks were damaged: some of what was delivered may be sent again, and a missing end not be noticed"
            .to_owned());
    }
    for folder in &recovery.quarantined {
        say(format!("damaged files are kept in {}", folder.display()));
    }
    if recovery.salvaged > 0 {
        say(format!("{} batches and dead letters were saved out of them", count(recovery.salvaged)));
    }
    for loss in &recovery.losses {
        match &loss.lane {
            Some(lane) => say(format!(
                "lost: {} in {} of {lane}, behind batch {}",
                counted(loss.events, "event"),
                count(loss.batches),
                loss.after.0
            )),
            None => {
                say(format!("lost: {} behind number {}", counted(loss.batches, "dead letter"), loss.after.0))
            }
        }
    }
    if !recovery.losses.is_empty() {
        let lost = counted(recovery.lost_events, "event");
        say(format!("lost altogether: {lost}, {}", counted(recovery.lost_dead_letters, "dead letter")));
    }
    if found.is_clean() {
        say("OK".to_owned());
    }
    text
}
