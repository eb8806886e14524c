//! Each thing that can be wrong with dead letters, telemetry, notifiers and partitioners is found by a case with a name.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher_core::{
    DeadLetter, DeadRecord, ErrorNotifier, EventRef, FlushReason, LaneId, MemoryDeadLetters, Partitioner,
    Report, StorageError, Telemetry,
};
use kafka_batcher_testkit::conformance::dead_letter::{self, DeadLetters};
use kafka_batcher_testkit::conformance::{Outcome, notifier, partitioner, telemetry};

/// Runs a case, and expects it to fail.
fn found(case: impl Future<Output = Outcome> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let run = runtime.spawn(case);
    assert!(runtime.block_on(run).is_err_and(|error| error.is_panic()), "not found");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Headers,
    UnderLoad,
    WhenFull,
    Durability,
}

#[derive(Debug)]
struct Lossy {
    loss: Loss,
    memory: MemoryDeadLetters,
    limit: usize,
    puts: Mutex<usize>,
}

impl Lossy {
    fn take(&self) -> Vec<DeadRecord> {
        self.memory.take()
    }
}

#[async_trait]
impl DeadLetter for Lossy {
    fn is_durable(&self) -> bool {
        self.loss == Loss::Durability && *self.puts.lock().unwrap() > 0
    }

    async fn put(&self, mut dead: DeadRecord) -> Result<(), StorageError> {
        let before = *self.puts.lock().unwrap();
        match self.loss {
            Loss::Headers => dead.record.headers = kafka_batcher_core::Headers::new(),
            Loss::UnderLoad => {
                tokio::task::yield_now().await;
                if *self.puts.lock().unwrap() != before {
                    return Ok(());
                }
            }
            Loss::WhenFull if before >= self.limit => return Ok(()),
            _ => {}
        }
        *self.puts.lock().unwrap() += 1;
        self.memory.put(dead).await
    }
}

fn lossy(loss: Loss) -> impl dead_letter::DeadLetterFixture {
    let make =
        move |limit| Lossy { loss, memory: MemoryDeadLetters::new(limit), limit, puts: Mutex::default() };
    DeadLetters::new(make, Lossy::take)
}

#[test]
fn lost_dead_letters_are_found() {
    found(async { dead_letter::what_is_put_away_is_kept_as_it_is(&lossy(Loss::Headers)).await });
    found(async { dead_letter::many_put_away_at_once_are_all_kept(&lossy(Loss::UnderLoad)).await });
    found(async { dead_letter::a_full_sink_refuses_and_keeps_what_it_has(&lossy(Loss::WhenFull)).await });
    found(async { dead_letter::durability_does_not_change(&lossy(Loss::Durability)).await });
}

struct Overflows;

impl Telemetry for Overflows {
    fn delivered(&self, _: &LaneId, events: u32, _: usize, took: Duration, _: Option<Duration>) {
        let nanos = u64::try_from(took.as_nanos()).expect("less than 584 years");
        assert!(nanos.checked_mul(u64::from(events)).is_some(), "overflow");
    }
}

struct Slow;

impl Telemetry for Slow {
    fn batch_sealed(&self, _: &LaneId, _: u32, _: usize, _: FlushReason) {
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// Tells threads apart where it should not.
struct OneThread(std::thread::ThreadId);

impl Telemetry for OneThread {
    fn stored(&self, _: &LaneId, _: u32, _: usize) {
        assert_eq!(std::thread::current().id(), self.0, "from another thread");
    }
}

/// Has room for so many lanes, and for no more.
#[derive(Default)]
struct Small(Mutex<std::collections::BTreeSet<LaneId>>);

impl Telemetry for Small {
    fn delivered(&self, lane: &LaneId, _: u32, _: usize, _: Duration, _: Option<Duration>) {
        let mut lanes = self.0.lock().unwrap();
        lanes.insert(lane.clone());
        assert!(lanes.len() <= 4096, "full");
    }
}

#[test]
fn telemetry_that_disturbs_is_found() {
    found(async { telemetry::any_value_is_taken(&Overflows).await });
    found(async { telemetry::observing_is_quick(&Slow).await });
    found(async { telemetry::many_threads_observe_at_once(&OneThread(std::thread::current().id())).await });
    found(async { telemetry::thousands_of_lanes_are_observed(&Small::default()).await });
}

#[test]
fn a_notifier_that_needs_a_runtime_or_a_topic_is_found() {
    // Spawns a task, as one might who posts to a server; the batcher's thread has no runtime.
    let spawns = |_: &Report| drop(tokio::spawn(async {}));
    found(async move { notifier::every_report_is_passed_on(&spawns).await });
    let unwraps = |report: &Report| assert!(report.topic.as_ref().is_some_and(|topic| topic.len() < 100));
    found(async move { notifier::every_report_is_passed_on(&unwraps).await });
    struct Tires(AtomicU32);
    impl ErrorNotifier for Tires {
        fn report(&self, _: &Report) {
            assert!(self.0.fetch_add(1, SeqCst) < 100, "its queue is full");
        }
    }
    found(async { notifier::a_burst_is_survived(&Tires(AtomicU32::new(0))).await });
    let slow = |_: &Report| std::thread::sleep(Duration::from_millis(1600));
    found(async move { notifier::reporting_comes_to_an_end(&slow).await });
}

struct Choice<F>(F);

impl<F: Fn(u32, &EventRef<'_>) -> Option<u32> + Send + Sync> Partitioner for Choice<F> {
    fn partition(&self, _: &str, partitions: NonZeroU32, event: &EventRef<'_>) -> Option<u32> {
        (self.0)(partitions.get(), event)
    }

    fn needs_typed_event(&self) -> bool {
        // Changes its mind.
        static ASKED: AtomicU32 = AtomicU32::new(0);
        ASKED.fetch_add(1, SeqCst) > 0
    }
}

#[test]
fn a_partitioner_that_leaves_the_road_is_found() {
    let length = |event: &EventRef<'_>| event.record.key.map_or(0, <[u8]>::len) as u32;
    found(async move {
        let inclusive =
            Choice(move |partitions: u32, event: &EventRef<'_>| Some(length(event) % (partitions + 1)));
        partitioner::only_partitions_that_exist_are_chosen(&inclusive).await
    });
    found(async {
        let needs_a_key = Choice(|partitions: u32, event: &EventRef<'_>| {
            Some(u32::from(event.record.key.expect("a key")[0]) % partitions)
        });
        partitioner::many_threads_ask_at_once(&needs_a_key).await
    });
    found(async { partitioner::what_it_needs_does_not_change(&Choice(|_, _: &EventRef<'_>| None)).await });
    found(async {
        // The same twice, and then not.
        let calls = AtomicU32::new(0);
        let drifts = Choice(move |_, _: &EventRef<'_>| Some(calls.fetch_add(1, SeqCst) / 1600));
        partitioner::the_same_event_goes_the_same_way(&drifts).await
    });
}
