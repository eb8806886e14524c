//! `spool replay`: sends everything to Kafka.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_batcher::core::LaneUsage;
use kafka_batcher::sled::SledStorage;
use kafka_batcher::{KafkaBatcher, TempStorage};
use serde_json::{Value, json};

use super::args::ReplayArgs;
use super::output;
use crate::args::Backend;
use crate::console::Console;
use crate::format::{count, counted, seconds};
use crate::report::{NO_KAFKA, NOT_DELIVERED, OK, UNUSABLE};
use crate::signals::{Signal, Stop};
use crate::troubles::Troubles;
use crate::{Failure, settings};

/// Time between two looks at what is left.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn replay(args: &ReplayArgs, console: Console) -> Result<u8, Failure> {
    let unusable = |message: String| Failure::new(UNUSABLE, message);
    let failed = |message: String| Failure::new(NOT_DELIVERED, message);
    let at_once = |signal: Signal| std::process::exit(signal.exit_code().into());
    let stop = Stop::listen(at_once).map_err(|e| failed(format!("can't listen for signals: {e}")))?;
    let storage = super::open(&args.path, &console)?.into_storage().map_err(|error| super::failed(&error))?;
    let storage = Arc::new(storage);
    let before = left(args, &storage).await.map_err(failed)?;
    let topics: BTreeSet<&str> = before.iter().map(|lane| &*lane.id.topic).collect();
    let environment = std::env::var(settings::BOOTSTRAP).ok();
    let config = settings::for_replay(args, &topics, environment.as_deref()).map_err(unusable)?;
    let spool = args.path.display().to_string();
    let mut outcome = Outcome { spool, before: events(&before), ..Outcome::default() };
    outcome.dead = dead_letters(args)?;
    if before.is_empty() {
        return outcome.tell(args);
    }
    #[cfg(feature = "metrics")]
    let listen = crate::listen::Listen::bind(&args.listen, &config).map_err(unusable)?;
    let troubles = Troubles::new(console.clone());
    troubles.show();
    let builder = KafkaBatcher::builder()
        .shared_storage(storage.clone())
        .shared_dead_letter(storage.clone())
        .notifier(troubles.clone());
    #[cfg(feature = "metrics")]
    let builder = match &listen {
        Some(listen) => listen.counts(builder),
        None => builder,
    };
    let builder = match args.backend {
        Backend::Rdkafka => builder,
        #[cfg(feature = "rskafka")]
        Backend::Rskafka => {
            let producer = kafka_batcher::rskafka::RskafkaProducer::new(&config);
            builder.producer(producer.map_err(|e| unusable(format!("configuration: {e}")))?)
        }
    };
    let rate = config.limits().replay_rate;
    let start = Instant::now();
    let batcher = builder.config(config).build().map_err(|e| unusable(format!("configuration: {e}")))?;
    // Answers until the end of this function.
    #[cfg(feature = "metrics")]
    let _server = listen.map(|listen| listen.serve(&batcher, &console)).transpose().map_err(failed)?;
    let (mut settled, mut failures, mut at) = (0, 0, start);
    let mut was_connected = false;
    outcome.stopped = loop {
        tokio::select! {
            signal = stop.asked() => break Some(signal),
            () = tokio::time::sleep(LOOK) => {}
        }
        let stats = batcher.stats();
        was_connected |= stats.connected;
        let left = events(&left(args, &storage).await.map_err(failed)?);
        if left == 0 {
            break None;
        }
        if stats.delivered + stats.dead_lettered != settled {
            (settled, failures, at) = (stats.delivered + stats.dead_lettered, stats.failures, Instant::now());
        }
        // Where nothing has failed, the next batch may only wait for its turn.
        let rate = rate.filter(|_| stats.connected && stats.failures == failures);
        if at.elapsed() >= args.patience + longest_turn(left, rate) {
            break None;
        }
    };
    // What is on its way is worth a moment; the rest is in the spool already.
    let report = batcher.shutdown(Duration::from_secs(1)).await;
    outcome.delivered = report.delivered;
    outcome.dead_lettered = report.dead_lettered;
    outcome.lost = report.lost;
    outcome.maybe_duplicated = report.maybe_duplicated;
    outcome.left = left(args, &storage).await.map_err(failed)?;
    outcome.dead += report.dead_lettered;
    outcome.took = start.elapsed();
    outcome.no_kafka = !was_connected;
    outcome.tell(args)
}

/// How long a batch of so many events, at most, keeps the next one waiting.
fn longest_turn(events: u64, rate: Option<NonZeroU32>) -> Duration {
    let millis = rate.map_or(0, |rate| events.saturating_mul(1000) / u64::from(rate.get()));
    Duration::from_millis(millis)
}

/// How many dead letters there are, whatever their topic.
fn dead_letters(args: &ReplayArgs) -> Result<u64, Failure> {
    Ok(super::view(&args.path)?.dead_letters().records)
}

/// What there is of the wanted topics.
async fn left(args: &ReplayArgs, storage: &SledStorage) -> Result<Vec<LaneUsage>, String> {
    let mut lanes = storage.lanes().await.map_err(|error| error.to_string())?;
    lanes.retain(|lane| args.topics.is_empty() || args.topics.iter().any(|topic| **topic == *lane.id.topic));
    lanes.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(lanes)
}

fn events(lanes: &[LaneUsage]) -> u64 {
    lanes.iter().map(|lane| lane.events).sum()
}

#[derive(Debug, Default)]
struct Outcome {
    spool: String,
    /// Events that were to be sent.
    before: u64,
    /// Dead letters that are there at the end.
    dead: u64,
    delivered: u64,
    dead_lettered: u64,
    lost: u64,
    maybe_duplicated: u64,
    left: Vec<LaneUsage>,
    took: Duration,
    no_kafka: bool,
    stopped: Option<Signal>,
}

impl Outcome {
    fn exit_code(&self) -> u8 {
        if self.dead_lettered + self.lost > 0 {
            return NOT_DELIVERED;
        }
        match self.stopped {
            _ if self.left.is_empty() => OK,
            Some(signal) => signal.exit_code(),
            None if self.no_kafka => NO_KAFKA,
            None => NOT_DELIVERED,
        }
    }

    fn tell(&self, args: &ReplayArgs) -> Result<u8, Failure> {
        output::print_one(args.json, &self.object(), || self.text())?;
        Ok(self.exit_code())
    }

    fn object(&self) -> Value {
        let left = self.left.iter().map(|lane| {
            json!({"topic": &*lane.id.topic, "partition": lane.id.partition, "events": lane.events, "bytes": lane.bytes})
        });
        json!({
            "stored": self.before,
            "delivered": self.delivered,
            "maybe_duplicated": self.maybe_duplicated,
            "dead_lettered": self.dead_lettered,
            "lost": self.lost,
            "left": left.collect::<Value>(),
        })
    }

    fn text(&self) -> String {
        let look = if self.dead > 0 {
            let dead = counted(self.dead, "dead letter");
            format!("\n{dead} in the spool; `kafka-batcher spool peek --dead {}` shows them", self.spool)
        } else {
            String::new()
        };
        if self.before == 0 {
            return format!("nothing to send{look}");
        }
        let mut text = format!(
            "{} of {} delivered in {}",
            count(self.delivered),
            counted(self.before, "event"),
            seconds(self.took)
        );
        for (number, what) in [
            (self.maybe_duplicated, "sent again that Kafka may have had already"),
            (
                self.dead_lettered,
                "refused by Kafka for good or too old to be sent, and kept among the dead letters",
            ),
            (self.lost, "lost"),
        ] {
            if number > 0 {
                text.push_str(&format!("\n  {} {what}", count(number)));
            }
        }
        for lane in &self.left {
            text.push_str(&format!("\n  {} still in {}", counted(lane.events, "event"), lane.id));
        }
        text.push_str(match self.exit_code() {
            OK => "\nEverything is in Kafka.",
            NO_KAFKA => "\nKafka could not be reached; everything is still in the spool.",
            _ if !self.left.is_empty() => "\nNOT everything is in Kafka; the rest is still in the spool.",
            _ => "\nNOT everything is in Kafka.",
        });
        text + &look
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_for_kafka_and_not_for_the_turn_of_a_batch() {
        assert_eq!(longest_turn(5_000, NonZeroU32::new(100)), Duration::from_secs(50));
        assert_eq!(longest_turn(5_000, None), Duration::ZERO);
        assert!(longest_turn(u64::MAX, NonZeroU32::new(1)) > Duration::from_secs(86_400));
    }
}
