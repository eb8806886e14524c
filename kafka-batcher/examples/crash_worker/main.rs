//! What `cargo xtask crash` kills: a process that adds events with a journal and says which were accepted.
//!
//! ```text
//! crash_worker bootstrap=HOST:PORT topic=TOPIC spool=DIR run=NUMBER [level=os] [tasks=8] [close_after=EVENTS]
//!     [deadline=MILLISECONDS] [drain=SECONDS] [reconcile=true]
//! ```
//!
//! Lines on standard output, each one write, so that what arrived of one before the kill is all or nothing:
//!
//! | line | meaning |
//! |---|---|
//! | `OPENING`, `OPEN EVENTS` | the spool is about to be opened; it is, and holds so many |
//! | `DAMAGED ...` | opening found something wrong with it |
//! | `RUNNING` | the batcher is built, and events are being added |
//! | `+ TASK FIRST LAST` | `add` has accepted these events of the task |
//! | `MAYBE EVENTS` | so many were sent again that Kafka may have had |
//! | `CLOSING`, `CLOSED LOST` | the batcher is being shut down; it is, and so many events are lost |
//! | `DRAINED` | nothing is left in the spool |
//! | `FAILED ...` | why it gave up |
//!
//! An event's value is `TASK RUN NUMBER` and padding; its key is one of [`KEYS`] of its task.

#[path = "../worker/mod.rs"]
mod worker;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kafka_batcher::sled::{Durability as Level, SledOptions, SledStorage};
use kafka_batcher::{
    Collector, Durability, KafkaBatcher, KafkaConfig, PartitionStrategy, TempStorage, TopicSettings,
};
use worker::{Error, Settings, say};

/// Keys of a task: some of them share a partition, most do not.
const KEYS: u64 = 6;
/// Most events that are added by one call.
const TOGETHER: u64 = 30;
/// Size of a value.
const VALUE: usize = 100;
/// Size of a batch: some dozens of events.
const BATCH: usize = 8_000;

fn main() -> ExitCode {
    worker::run(|settings| async move { work(&settings).await })
}

async fn work(settings: &Settings) -> Result<(), Error> {
    let topic: String = settings.get("topic", None)?;
    let level: String = settings.get("level", Some("disk".to_owned()))?;
    let level = if level == "os" { Level::Os } else { Level::Disk };
    let spool: String = settings.get("spool", None)?;
    // Small generations come and go while it runs.
    let options =
        SledOptions::new(spool).durability(level).quota(256 * 1024 * 1024).generation_bytes(3_000_000);
    say("OPENING");
    let storage = Arc::new(SledStorage::open(options)?);
    let recovery = storage.recovery();
    if !recovery.is_clean() {
        say(&format!("DAMAGED {recovery:?}"));
    }
    say(&format!("OPEN {}", stored(&storage).await?));
    let flights = TopicSettings::new(&topic)
        .partition_strategy(PartitionStrategy::Murmur2)
        .collect_by_partition(true)
        .batch_size(20)
        .max_wait_time(Duration::from_millis(5))
        .max_batch_bytesize(BATCH)
        .durability(Durability::Journal)
        .reconcile(settings.get("reconcile", Some(false))?);
    let config = KafkaConfig::new(settings.get::<String>("bootstrap", None)?)
        .produce_timeout(Duration::from_millis(1500))
        .retry_backoff(Duration::from_millis(10))
        .recheck_interval(Duration::from_millis(200))
        .with_topic(flights);
    let batcher = KafkaBatcher::builder().config(config).shared_storage(storage.clone()).build()?;
    let collector = batcher.collector(&topic).ok_or("no such topic")?;
    say("RUNNING");
    match settings.get::<u64>("drain", Some(0))? {
        0 => add_until_killed(settings, batcher, &collector).await,
        seconds => drain(batcher, &storage, Duration::from_secs(seconds)).await,
    }
}

async fn stored(storage: &SledStorage) -> Result<u64, Error> {
    Ok(storage.lanes().await?.iter().map(|lane| lane.events).sum())
}

async fn add_until_killed(
    settings: &Settings,
    batcher: KafkaBatcher,
    collector: &Collector,
) -> Result<(), Error> {
    let run = settings.get("run", None)?;
    let accepted = Arc::new(AtomicU64::new(0));
    for task in 0..settings.get::<u64>("tasks", Some(8))? {
        let adding = Adding { task, run, next: 0, collector: collector.clone(), accepted: accepted.clone() };
        tokio::spawn(adding.go_on());
    }
    let close_after = settings.get("close_after", Some(u64::MAX))?;
    let mut maybe = 0;
    while accepted.load(Ordering::Relaxed) < close_after {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let now = batcher.stats().maybe_duplicated;
        if now != maybe {
            say(&format!("MAYBE {}", now - maybe));
            maybe = now;
        }
    }
    say("CLOSING");
    // The tasks go on adding for as long as they can.
    let report = batcher.shutdown(Duration::from_millis(settings.get("deadline", Some(100))?)).await;
    say(&format!("CLOSED {}", report.lost + report.in_memory));
    Ok(())
}

struct Adding {
    task: u64,
    run: u64,
    next: u64,
    collector: Collector,
    accepted: Arc<AtomicU64>,
}

impl Adding {
    /// Adds events, one by one and some together, until that is no longer possible.
    async fn go_on(mut self) {
        loop {
            let first = self.next;
            // One after the other now and then, as most applications do.
            let count = if first.is_multiple_of(3) { 1 } else { 1 + (first * 7 + self.task) % TOGETHER };
            self.next += count;
            let last = self.next - 1;
            let accepted = if count == 1 {
                self.collector.add(self.event(first)).await.is_ok()
            } else {
                let events: Vec<_> = (first..=last).map(|number| self.event(number)).collect();
                self.collector.add_events(events).await.is_ok()
            };
            if !accepted {
                return;
            }
            say(&format!("+ {} {first} {last}", self.task));
            self.accepted.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn event(&self, number: u64) -> (String, String) {
        let key = format!("{}-{}", self.task, number % KEYS);
        (key, format!("{:<VALUE$}", format!("{} {} {number}", self.task, self.run)))
    }
}

async fn drain(batcher: KafkaBatcher, storage: &SledStorage, patience: Duration) -> Result<(), Error> {
    let began = Instant::now();
    while stored(storage).await? > 0 {
        if began.elapsed() > patience {
            return Err(
                format!("{} events are still stored; {:?}", stored(storage).await?, batcher.stats()).into()
            );
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let report = batcher.shutdown(Duration::from_secs(10)).await;
    say(&format!("CLOSED {}", report.lost + report.in_memory));
    if storage.recovery().is_clean() {
        say("DRAINED");
    } else {
        say(&format!("DAMAGED {:?}", storage.recovery()));
    }
    Ok(())
}
