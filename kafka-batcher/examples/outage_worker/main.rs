//! What `cargo xtask campaign outage` starts: a process that adds millions of events while Kafka is gone.
//!
//! ```text
//! outage_worker bootstrap=HOST:PORT topic=TOPIC spool=DIR events=NUMBER warm_up=NUMBER quota=BYTES memory=BYTES
//!     [tasks=8] [journal=true]
//! ```
//!
//! Lines on standard output, and what it waits for on standard input between them:
//!
//! | line | meaning |
//! |---|---|
//! | `READY DELIVERED` | the first events, `warm_up` in all, are in Kafka; it goes on after a line on standard input |
//! | `ADDED EVENTS` | `add` has accepted so many of the others so far |
//! | `ALL EVENTS DELIVERED STORED IN_MEMORY` | and now all; where they and the first ones are, looked up one by one |
//! | `LEFT EVENTS` | so many are neither in Kafka nor lost |
//! | `DRAINED MAYBE` | none are; so many were sent again that Kafka may have had; goes on after a line |
//! | `CLOSED LOST` | the batcher is shut down, and so many events are lost |
//! | `FAILED ...` | why it gave up |
//!
//! An event's value is `TASK NUMBER` and padding up to [`length`]; its key is one of [`KEYS`] of its task.

#[path = "../worker/mod.rs"]
mod worker;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka_batcher::sled::{SledOptions, SledStorage};
use kafka_batcher::{
    Collector, Durability, KafkaBatcher, KafkaConfig, PartitionStrategy, Stats, TopicSettings,
};
use worker::{Error, Settings, say};

/// Keys of a task.
const KEYS: u64 = 50;
/// Events that are added by one call when each call waits for the disk.
const TOGETHER: u64 = 200;

/// Size of a value in bytes: from 100 to 300.
const fn length(number: u64) -> usize {
    100 + (number.wrapping_mul(7919) % 201) as usize
}

/// Waits for a line on standard input, or its end.
async fn told_to_go_on() -> Result<(), Error> {
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    Ok(())
}

fn main() -> ExitCode {
    worker::run(|settings| async move { work(&settings).await })
}

async fn work(settings: &Settings) -> Result<(), Error> {
    let topic: String = settings.get("topic", None)?;
    let options =
        SledOptions::new(settings.get::<String>("spool", None)?).quota(settings.get("quota", None)?);
    let journal: bool = settings.get("journal", Some(false))?;
    let of_topic = TopicSettings::new(&topic)
        .partition_strategy(PartitionStrategy::Murmur2)
        .collect_by_partition(true)
        .durability(if journal { Durability::Journal } else { Durability::Memory });
    let config = KafkaConfig::new(settings.get::<String>("bootstrap", None)?)
        .max_memory_bytes(settings.get("memory", None)?)
        .with_topic(of_topic);
    let batcher = KafkaBatcher::builder().config(config).storage(SledStorage::open(options)?).build()?;
    let collector = batcher.collector(&topic).ok_or("no such topic")?;

    let (events, warm_up): (u64, u64) = (settings.get("events", None)?, settings.get("warm_up", None)?);
    let load = Load { collector, journal, tasks: settings.get("tasks", Some(8))?, added: Arc::default() };
    load.add(0, warm_up).await?;
    load.collector.flush().await;
    say(&format!("READY {}", batcher.stats().delivered));
    told_to_go_on().await?;

    load.add(warm_up, warm_up + events).await?;
    let stats = batcher.stats();
    let Stats { accepted, delivered, stored, in_memory, .. } = stats;
    say(&format!("ALL {accepted} {delivered} {stored} {in_memory}"));

    loop {
        let stats = batcher.stats();
        if stats.stored + stats.in_memory == 0 {
            say(&format!("DRAINED {}", stats.maybe_duplicated));
            break;
        }
        say(&format!("LEFT {}", stats.stored + stats.in_memory));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    told_to_go_on().await?;
    let report = batcher.shutdown(Duration::from_secs(30)).await;
    say(&format!("CLOSED {}", report.lost + report.in_memory));
    Ok(())
}

/// Adds events, some tasks at the same time.
struct Load {
    collector: Collector,
    journal: bool,
    tasks: u64,
    added: Arc<AtomicU64>,
}

impl Load {
    /// Adds those from `first` to below `end`, each task its share of them.
    async fn add(&self, first: u64, end: u64) -> Result<(), Error> {
        let tasks: Vec<_> = (0..self.tasks)
            .map(|task| {
                let (collector, added) = (self.collector.clone(), Arc::clone(&self.added));
                let (first, end) = (first / self.tasks, end / self.tasks);
                tokio::spawn(add(collector, added, task, first..end, if self.journal { TOGETHER } else { 1 }))
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    }
}

async fn add(
    collector: Collector,
    added: Arc<AtomicU64>,
    task: u64,
    numbers: std::ops::Range<u64>,
    together: u64,
) -> Result<(), Error> {
    let mut next = numbers.start;
    while next < numbers.end {
        let count = together.min(numbers.end - next);
        if count == 1 {
            collector.add(event(task, next)).await?;
        } else {
            let events: Vec<_> = (next..next + count).map(|number| event(task, number)).collect();
            collector.add_events(events).await.map_err(|_| "not all of them were accepted")?;
        }
        next += count;
        let before = added.fetch_add(count, Ordering::Relaxed);
        if before / 50_000 != (before + count) / 50_000 {
            say(&format!("ADDED {}", before + count));
        }
    }
    Ok(())
}

fn event(task: u64, number: u64) -> (String, String) {
    let width = length(number);
    (format!("{task}-{}", number % KEYS), format!("{:<width$}", format!("{task} {number}")))
}
