//! `kafka-batcher demo`: real events, a broker that goes away, and a count of what arrived.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

use kafka_batcher::{Collector, CollectorState, KafkaBatcher, KafkaConfig, PartitionStrategy, TopicSettings};
use kafka_batcher_testkit::embedded::EmbeddedBroker;
use kafka_batcher_testkit::reader::read_topic;

use crate::Failure;
use crate::args::DemoArgs;
use crate::console::Console;
use crate::format::count;
use crate::report::{Fate, NO_KAFKA, NOT_DELIVERED, OK};
use crate::sample::Sample;
use crate::troubles::Troubles;
use crate::verify::{self, Findings, Seen, Sent};

const TOPIC: &str = "flights";
/// Events flow for so long before the broker goes away, and again after it is back.
const CALM: Duration = Duration::from_millis(2_500);
/// Time between two portions of events.
const PORTION: Duration = Duration::from_millis(10);
/// Time between two lines that say how it goes.
const NARRATION: Duration = Duration::from_secs(1);
/// Longest time the end may take once all events are accepted.
const ENDING: Duration = Duration::from_secs(30);
/// The embedded broker forgets the oldest records of a partition beyond 5 MiB; this leaves room for unevenly spread keys.
const PARTITION_EVENTS: u64 = 8_000;

/// Runs the command and gives the exit code.
pub(crate) async fn demo(args: &DemoArgs, console: Console) -> Result<u8, Failure> {
    let failed = |message: String| Failure::new(NOT_DELIVERED, message);
    let sample = Sample::new(args.events).map_err(failed)?;
    let partitions = u32::try_from(args.events.div_ceil(PARTITION_EVENTS)).unwrap_or(u32::MAX).max(4);
    let broker = EmbeddedBroker::start(1).map_err(|e| failed(e.to_string()))?;
    broker.create_topic(TOPIC, partitions).map_err(|e| failed(e.to_string()))?;
    let start = Instant::now();
    let story = Story { console: &console, start };
    story.tell(format_args!(
        "{} events: {} real flights from New York, repeated and numbered, with the {} tail numbers as keys",
        count(args.events),
        count(sample.flights() as u64),
        count(sample.keys() as u64),
    ));
    story.tell(format_args!(
        "a broker inside this program, at {}; topic {TOPIC}, {partitions} partitions",
        broker.bootstrap()
    ));

    let batcher = KafkaBatcher::builder()
        .config(config(&broker.bootstrap(), !args.outage.is_zero()))
        .notifier(Troubles::new(console.clone()))
        .build()
        .map_err(|e| failed(e.to_string()))?;
    let collector =
        batcher.collector(TOPIC).ok_or_else(|| failed(format!("topic {TOPIC} is not configured")))?;
    let ready = async {
        while collector.state() != CollectorState::Ready {
            tokio::time::sleep(PORTION).await;
        }
    };
    if tokio::time::timeout(ENDING, ready).await.is_err() {
        return Err(Failure::new(NO_KAFKA, "the embedded broker could not be reached"));
    }

    let accepted = Cell::new(0);
    let peak = Cell::new(0);
    let work = async {
        let (refused, outage) = tokio::join!(
            send(&collector, &sample, CALM * 2 + args.outage, &accepted),
            take_away(&broker, args.outage, &story),
        );
        outage.map_err(|e| failed(e.to_string()))?;
        story.tell(format_args!("all events are accepted: {}", count(accepted.get())));
        drained(&batcher).await;
        Ok::<_, Failure>(refused)
    };
    let refused = tokio::select! {
        refused = work => refused?,
        never = narrate(&batcher, &accepted, &peak, &story) => match never {},
    };
    let fate = Fate::from(&batcher.shutdown(ENDING).await);

    story.tell(format_args!("reading all {partitions} partitions back"));
    let bootstrap = broker.bootstrap();
    let read = tokio::task::spawn_blocking(move || read_topic(&bootstrap, TOPIC, ENDING)).await;
    let records = match read {
        Ok(Ok(records)) => records,
        Ok(Err(e)) => return Err(failed(e.to_string())),
        Err(e) => return Err(failed(format!("reading back: {e}"))),
    };
    let seen = records.iter().map(|record| Seen {
        partition: record.partition,
        offset: record.offset,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
    });
    let findings = verify::check(&sample, seen);
    let verdict = Verdict {
        sent: args.events,
        accepted: accepted.get(),
        refused,
        peak: peak.get(),
        keys: sample.keys(),
        fate,
        findings,
    };
    console.result(format_args!("\n{verdict}"));
    Ok(if verdict.problems().is_empty() { OK } else { NOT_DELIVERED })
}

fn config(bootstrap: &str, has_outage: bool) -> KafkaConfig {
    let topic = TopicSettings::new(TOPIC)
        .partition_strategy(PartitionStrategy::Murmur2)
        .collect_by_partition(true)
        // Small batches make a backlog of many while the broker is away, as a larger stream would.
        .batch_size(20)
        .max_batch_bytesize(8 * 1024)
        .max_wait_time(Duration::from_millis(20));
    let config = KafkaConfig::new(bootstrap).with_topic(topic);
    if !has_outage {
        return config;
    }
    // Short, so that a few seconds without a broker are an outage and not a hiccup the client hides.
    config
        .produce_timeout(Duration::from_millis(1_000))
        .connect_timeout(Duration::from_millis(1_000))
        .retry_backoff(Duration::from_millis(50))
        .recheck_interval(Duration::from_millis(500))
}

/// Adds all events, evenly spread over `time`; gives the first refusal, if there was any.
async fn send(
    collector: &Collector,
    sample: &Sample,
    time: Duration,
    accepted: &Cell<u64>,
) -> Option<String> {
    let start = Instant::now();
    let mut portions = tokio::time::interval(PORTION);
    let mut value = Vec::new();
    let mut refused = None;
    let mut next = 0;
    while next < sample.count() {
        portions.tick().await;
        let share = (start.elapsed().as_secs_f64() / time.as_secs_f64()).min(1.0);
        let due = (sample.count() as f64 * share) as u64;
        for number in next..due {
            value.clear();
            sample.write_value(number, &mut value);
            match collector.add((sample.key(number), value.as_slice())).await {
                Ok(()) => accepted.set(accepted.get() + 1),
                Err(error) => refused = refused.or_else(|| Some(format!("event {number}: {error}"))),
            }
        }
        next = due;
    }
    refused
}

/// Takes the broker away for a while.
async fn take_away(
    broker: &EmbeddedBroker,
    outage: Duration,
    story: &Story<'_>,
) -> Result<(), kafka_batcher_testkit::embedded::EmbeddedError> {
    if outage.is_zero() {
        return Ok(());
    }
    tokio::time::sleep(CALM).await;
    story.tell(format_args!("the broker goes away, for {:.1} s", outage.as_secs_f64()));
    broker.down()?;
    tokio::time::sleep(outage).await;
    broker.up()?;
    story.tell("the broker is back");
    Ok(())
}

/// Waits until nothing is left to send.
async fn drained(batcher: &KafkaBatcher) {
    let drained = async {
        batcher.flush().await;
        while batcher.stats().stored > 0 {
            tokio::time::sleep(PORTION).await;
        }
    };
    // Whatever is left then, the shutdown and the count will tell.
    tokio::time::timeout(ENDING, drained).await.ok();
}

/// Tells how it goes, for ever, and keeps the highest number of stored events.
async fn narrate(
    batcher: &KafkaBatcher,
    accepted: &Cell<u64>,
    peak: &Cell<u64>,
    story: &Story<'_>,
) -> Infallible {
    let mut ticks = tokio::time::interval(PORTION);
    let mut told = Instant::now();
    let mut stored = 0;
    let mut highest = 0;
    loop {
        ticks.tick().await;
        let stats = batcher.stats();
        peak.set(peak.get().max(stats.stored));
        if stats.stored > 0 && stored == 0 {
            story.tell("batches that could not be delivered are stored");
        }
        if stats.stored < stored && stored == highest {
            story.tell(format_args!("replaying what is stored, in order: {} events", count(stored)));
        }
        if stats.stored == 0 && stored > 0 {
            story.tell("everything that was stored is in Kafka");
        }
        stored = stats.stored;
        highest = if stored == 0 { 0 } else { highest.max(stored) };
        if told.elapsed() >= NARRATION {
            told = Instant::now();
            story.tell(format_args!(
                "events accepted: {:>7}   delivered: {:>7}   in memory: {:>6}   stored: {:>6}",
                count(accepted.get()),
                count(stats.delivered),
                count(stats.in_memory),
                count(stats.stored),
            ));
        }
    }
}

/// Tells what happens, with the time.
struct Story<'a> {
    console: &'a Console,
    start: Instant,
}

impl Story<'_> {
    fn tell(&self, what: impl fmt::Display) {
        self.console.result(format_args!("{:>5.1} s  {what}", self.start.elapsed().as_secs_f64()));
    }
}

/// How the demo ended.
#[derive(Debug)]
struct Verdict {
    sent: u64,
    accepted: u64,
    /// Why an event was not accepted.
    refused: Option<String>,
    /// The highest number of events in temporary storage.
    peak: u64,
    keys: usize,
    /// What the batcher itself says.
    fate: Fate,
    /// What is in Kafka.
    findings: Findings,
}

impl Verdict {
    /// Everything that is not as promised.
    fn problems(&self) -> Vec<String> {
        let Self { sent, accepted, refused, fate, findings, .. } = self;
        let mut problems = Vec::new();
        let mut check = |bad: bool, text: &dyn Fn() -> String| {
            if bad {
                problems.push(text());
            }
        };
        check(accepted != sent, &|| {
            let why = refused.as_deref().unwrap_or("no reason was given");
            format!(
                "{} of {} events were not accepted: {why}",
                count(sent.saturating_sub(*accepted)),
                count(*sent)
            )
        });
        check(findings.lost > 0, &|| format!("{} events are not in Kafka", count(findings.lost)));
        check(findings.delivered != *accepted, &|| {
            format!("{} events were accepted, {} are in Kafka", count(*accepted), count(findings.delivered))
        });
        check(findings.out_of_order > 0, &|| {
            format!("{} events are not in the order of their key", count(findings.out_of_order))
        });
        check(findings.foreign > 0, &|| {
            format!("{} records are not as they were sent", count(findings.foreign))
        });
        check(findings.truncated > 0, &|| {
            let partitions = count(findings.truncated);
            format!(
                "the embedded broker ran full and threw away the oldest records of {partitions} partitions"
            )
        });
        check(*fate != Fate { delivered: *accepted, ..Fate::default() }, &|| {
            format!(
                "the batcher's own account is delivered {}, stored {}, in memory {}, dead-lettered {}, lost {}",
                count(fate.delivered),
                count(fate.stored),
                count(fate.in_memory),
                count(fate.dead_lettered),
                count(fate.lost)
            )
        });
        problems
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, peak, keys, findings, .. } = self;
        let in_order = findings.out_of_order == 0;
        let order = format!("{} ({} keys)", if in_order { "yes" } else { "NO" }, count(*keys as u64));
        let rows = [
            ("accepted", count(*accepted), ""),
            ("delivered", count(findings.delivered), "read back from every partition, each once"),
            ("lost", count(findings.lost), ""),
            ("order per key kept", order, ""),
            ("duplicates", count(findings.duplicates), "copies beyond the first"),
            ("stored in between", count(*peak), "most at one time, while the broker was away"),
        ];
        for (what, number, remark) in rows {
            let line = format!("  {what:<20}{number:>18}   {remark}");
            writeln!(f, "{}", line.trim_end())?;
        }
        let problems = self.problems();
        if problems.is_empty() {
            return f.write_str("\nNothing was lost.");
        }
        writeln!(f, "\nFAILED")?;
        for problem in problems.iter().chain(&findings.examples) {
            writeln!(f, "  - {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict() -> Verdict {
        Verdict {
            sent: 60_000,
            accepted: 60_000,
            refused: None,
            peak: 20_000,
            keys: 1_060,
            fate: Fate { delivered: 60_000, ..Fate::default() },
            findings: Findings { delivered: 60_000, duplicates: 3, ..Findings::default() },
        }
    }

    #[test]
    fn all_there_in_order_is_success_whatever_was_there_twice() {
        let verdict = verdict();
        assert_eq!(verdict.problems(), Vec::<String>::new());
        let text = verdict.to_string();
        assert!(text.contains("order per key kept    yes (1,060 keys)"), "{text}");
        assert!(text.ends_with("Nothing was lost."), "{text}");
    }

    #[test]
    fn anything_else_is_failure_and_says_why() {
        let problem = |change: &dyn Fn(&mut Verdict)| {
            let mut verdict = verdict();
            change(&mut verdict);
            assert!(verdict.to_string().contains("FAILED"), "{verdict}");
            verdict.problems().join("; ")
        };
        assert!(problem(&|v| v.accepted = 59_999).contains("1 of 60,000 events were not accepted"));
        let lost = problem(&|v| (v.findings.lost, v.findings.delivered) = (1, 59_999));
        assert!(lost.contains("1 events are not in Kafka"), "{lost}");
        assert!(problem(&|v| v.findings.out_of_order = 2).contains("order of their key"));
        assert!(problem(&|v| v.findings.foreign = 2).contains("not as they were sent"));
        assert!(problem(&|v| v.findings.truncated = 2).contains("2 partitions"));
        assert!(problem(&|v| (v.fate.delivered, v.fate.in_memory) = (59_999, 1)).contains("in memory 1"));
        assert!(problem(&|v| v.fate.delivered += 1).contains("delivered 60,001"));
    }
}
