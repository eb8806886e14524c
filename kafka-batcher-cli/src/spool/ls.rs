//! `spool ls`: what is in a spool, lane by lane.

use std::time::Duration;

use kafka_batcher::sled::{DeadInfo, LaneInfo};
use serde_json::{Value, json};

use super::args::LsArgs;
use super::output;
use crate::Failure;
use crate::format::{age, bytes, count};
use crate::report::OK;

pub(super) fn ls(args: &LsArgs) -> Result<u8, Failure> {
    let view = super::view(&args.path)?;
    let (mut lanes, dead) = (view.lanes(), view.dead_letters());
    lanes.sort_by(|a, b| a.usage.id.cmp(&b.usage.id));
    output::print_one(args.json, &object(&lanes, &dead), || table(&lanes, &dead))?;
    Ok(OK)
}

fn object(lanes: &[LaneInfo], dead: &DeadInfo) -> Value {
    let millis = |age: Option<Duration>| age.map(|age| age.as_millis() as u64);
    let lanes = lanes.iter().map(|lane| {
        let usage = &lane.usage;
        json!({
            "topic": &*usage.id.topic,
            "partition": usage.id.partition,
            "batches": usage.batches,
            "events": usage.events,
            "bytes": usage.bytes,
            "maybe_persisted": lane.maybe_persisted,
            "oldest_ms": millis(lane.oldest),
        })
    });
    json!({
        "lanes": lanes.collect::<Value>(),
        "dead_letters": {"events": dead.records, "bytes": dead.bytes, "oldest_ms": millis(dead.oldest)},
    })
}

fn table(lanes: &[LaneInfo], dead: &DeadInfo) -> String {
    if lanes.is_empty() && dead.records == 0 {
        return "empty".to_owned();
    }
    let mut rows = vec![["lane", "batches", "events", "bytes", "oldest", ""].map(str::to_owned)];
    let oldest = |time: Option<Duration>| time.map_or_else(String::new, age);
    for lane in lanes {
        let usage = &lane.usage;
        let flag = match lane.maybe_persisted {
            0 => String::new(),
            batches => format!("Kafka may have {} of the batches", count(batches)),
        };
        rows.push([
            usage.id.to_string(),
            count(usage.batches),
            count(usage.events),
            bytes(usage.bytes),
            oldest(lane.oldest),
            flag,
        ]);
    }
    if lanes.len() > 1 {
        let sum = |of: fn(&LaneInfo) -> u64| lanes.iter().map(of).sum::<u64>();
        rows.push([
            "all lanes".to_owned(),
            count(sum(|lane| lane.usage.batches)),
            count(sum(|lane| lane.usage.events)),
            bytes(sum(|lane| lane.usage.bytes)),
            oldest(lanes.iter().filter_map(|lane| lane.oldest).max()),
            String::new(),
        ]);
    }
    if dead.records > 0 {
        let flag = "refused by Kafka for good, or too old".to_owned();
        rows.push([
            "dead letters".to_owned(),
            String::new(),
            count(dead.records),
            bytes(dead.bytes),
            oldest(dead.oldest),
            flag,
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |[lane, batches, events, bytes, oldest, flag]: &[String; 6]| {
        let [a, b, c, d, e] = widths;
        format!("{lane:<a$}  {batches:>b$}  {events:>c$}  {bytes:>d$}  {oldest:>e$}  {flag}")
            .trim_end()
            .to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
