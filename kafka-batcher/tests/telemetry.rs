//! Recorders and notifiers that are slow, hang or panic: delivery goes on, in order.

mod support;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_batcher::{ErrorKind, FlushReason, LaneId, Report, StorageCall, Telemetry};
use kafka_batcher_testkit::scripted::{ScriptedProducer, Step};
use support::*;

/// Does something at every call.
struct Each(fn(&AtomicU64), Arc<AtomicU64>);

impl Each {
    fn call(&self) {
        self.1.fetch_add(1, Relaxed);
        (self.0)(&self.1);
    }
}

impl Telemetry for Each {
    fn batch_sealed(&self, _: &LaneId, _: u32, _: usize, _: FlushReason) {
        self.call();
    }

    fn delivered(&self, _: &LaneId, _: u32, _: usize, _: Duration, _: Option<Duration>) {
        self.call();
    }

    fn produce_failed(&self, _: &LaneId, _: u32, _: ErrorKind, _: Duration) {
        self.call();
    }

    fn stored(&self, _: &LaneId, _: u32, _: usize) {
        self.call();
    }

    fn storage_called(&self, _: StorageCall, _: Duration, _: bool) {
        self.call();
    }

    fn rejected(&self, _: &str, _: &'static str, _: u64) {
        self.call();
    }

    fn dead_lettered(&self, _: &LaneId, _: ErrorKind) {
        self.call();
    }
}

/// A hundred events in batches of at most five, some of which fail, with telemetry and a notifier that do this at each
/// call. All arrive, in order, the executor's only thread is free meanwhile, and the end comes in time. Gives the number of
/// calls, and of panics, as soon as they are `enough`.
async fn hundred_with(each: fn(&AtomicU64), enough: fn(u64, u64) -> bool) -> (u64, u64) {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::Deliver, Step::Refuse(ErrorKind::Transient), Step::LoseAnswer]);
    let (calls, reports) = (Arc::new(AtomicU64::new(0)), Each(each, Arc::default()));
    let batcher = builder(&producer, config(topic().batch_size(5).max_batch_bytesize(400)))
        .telemetry(Each(each, Arc::clone(&calls)))
        .notifier(move |_: &Report| reports.call())
        .build()
        .unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    collector.try_add("x".repeat(500)).unwrap_err();
    let added = within(async {
        for number in 0..100 {
            collector.add(number.to_string()).await.unwrap();
        }
        collector.flush().await;
    });
    added.await.expect("adding and delivering wait for the recorder");
    within(producer.wait_for(TOPIC, 100)).await.expect("delivery waits for the recorder");
    let snapshot = within(batcher.snapshot()).await.expect("a snapshot waits for the recorder");
    let totals = snapshot.topics[0].totals;
    assert_eq!((totals.accepted, totals.delivered, totals.lost), (100, 100, 0));
    let enough = async || enough(calls.load(Relaxed), batcher.snapshot().await.panics);
    until_async("called often enough", enough).await;
    let panics = batcher.snapshot().await.panics;
    let report =
        within(batcher.shutdown(Duration::from_secs(5))).await.expect("the end waits for the recorder");
    assert_eq!((report.delivered, report.lost), (100, 0));
    let mut values = producer.values(TOPIC, 0);
    values.dedup();
    // What was sent again after the lost answer is there twice, behind itself.
    let mut first = Vec::new();
    values.into_iter().for_each(|value| {
        if !first.contains(&value) {
            first.push(value);
        }
    });
    assert_eq!(first, numbers(0..100));
    (calls.load(Relaxed), panics)
}

#[tokio::test]
async fn a_recorder_and_a_notifier_that_are_slow_harm_nothing() {
    let (calls, panics) = hundred_with(|_| std::thread::sleep(ms(2)), |calls, _| calls > 10).await;
    assert!(calls > 10 && panics == 0, "{calls} calls, {panics} panics");
}

#[tokio::test]
async fn a_recorder_and_a_notifier_that_hang_harm_nothing() {
    let (calls, panics) =
        hundred_with(|_| std::thread::sleep(Duration::from_secs(3600)), |calls, _| calls > 0).await;
    assert_eq!((calls, panics), (1, 0));
}

#[tokio::test]
async fn a_recorder_and_a_notifier_that_panic_harm_nothing_and_their_panics_are_counted() {
    // It is called again after a panic, and the notifier's panics are counted, too.
    let each = |calls: &AtomicU64| panic!("call {}", calls.load(Relaxed));
    let (calls, panics) = hundred_with(each, |calls, panics| calls > 10 && panics >= calls).await;
    assert!(panics > 10, "{panics} panics in {calls} calls");
}

/// Sums what is rejected.
#[derive(Clone, Default)]
struct Rejections(Arc<Mutex<Vec<Rejected>>>);

/// Topic, reason, events.
type Rejected = (String, &'static str, u64);

impl Telemetry for Rejections {
    fn rejected(&self, topic: &str, reason: &'static str, events: u64) {
        self.0.lock().unwrap().push((topic.to_owned(), reason, events));
    }
}

#[tokio::test]
async fn every_rejected_event_is_counted_and_a_flood_of_them_is_told_in_few_calls() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let seen = Rejections::default();
    let settings = topic().max_batch_bytesize(300);
    let batcher = builder(&producer, config(settings)).telemetry(seen.clone()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    for _ in 0..50_000 {
        collector.try_add("x".repeat(400)).unwrap_err();
    }
    let told = || seen.0.lock().unwrap().iter().map(|(.., events)| events).sum::<u64>();
    until("all are counted", || told() >= 50_000).await;
    let seen = seen.0.lock().unwrap().clone();
    assert!(
        seen.iter().all(|(topic, reason, _)| (topic.as_str(), *reason) == (TOPIC, "too_large")),
        "{seen:?}"
    );
    assert_eq!(seen.iter().map(|(.., events)| events).sum::<u64>(), 50_000);
    assert!(seen.len() < 25_000, "{} calls", seen.len());
}

#[tokio::test]
async fn a_topic_with_telemetry_off_tells_nothing() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let calls = Arc::new(AtomicU64::new(0));
    let other = kafka_batcher::TopicSettings::new("other");
    let batcher = builder(&producer, config(topic().telemetry(false)).with_topic(other))
        .telemetry(Each(|_| {}, Arc::clone(&calls)))
        .build()
        .unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("a").await.unwrap();
    collector.try_add("x".repeat(2_000_000)).unwrap_err();
    collector.flush().await;
    assert_eq!(batcher.snapshot().await.topics[0].totals.delivered, 1);
    assert_eq!(calls.load(Relaxed), 0);
}
