//! Shutting down, being dropped, and panics of code that is not ours.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher::core::{EntryId, LaneUsage, StorageError, StoredBatch};
use kafka_batcher::{
    AddErrorKind, BatchFlusher, ErrorKind, EventRef, FlushReason, LaneId, MemoryStorage, Outcome,
    PartitionStrategy, Report, Telemetry, TempStorage, TopicSettings, What,
};
use kafka_batcher_testkit::scripted::{Call, ScriptedProducer, ScriptedStorage, Step, StorageStep};
use support::*;

/// Memory storage that says it is durable, as a disk would be, and fails on demand.
#[derive(Clone, Debug, Default)]
struct Disk {
    inner: Arc<MemoryStorage>,
    broken: Arc<AtomicBool>,
    forgets_nothing: Arc<AtomicBool>,
    panics: Arc<AtomicU32>,
}

#[async_trait]
impl TempStorage for Disk {
    fn is_durable(&self) -> bool {
        true
    }

    async fn append(&self, lane: &LaneId, entry: StoredBatch) -> Result<EntryId, StorageError> {
        if self.broken.load(Relaxed) {
            return Err(StorageError::Failed("broken".to_owned()));
        }
        if self.panics.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok() {
            panic!("storage panics");
        }
        self.inner.append(lane, entry).await
    }

    async fn next(
        &self,
        lane: &LaneId,
        after: Option<EntryId>,
    ) -> Result<Option<(EntryId, StoredBatch)>, StorageError> {
        self.inner.next(lane, after).await
    }

    async fn acknowledge(&self, lane: &LaneId, entry: EntryId) -> Result<(), StorageError> {
        if self.forgets_nothing.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        self.inner.acknowledge(lane, entry).await
    }

    async fn lanes(&self) -> Result<Vec<LaneUsage>, StorageError> {
        self.inner.lanes().await
    }
}

/// Defect 4: at shutdown the client stopped before the accumulators flushed.
#[tokio::test]
async fn defect_04_shutdown_sends_what_is_gathered_before_the_client_ends() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = start(&producer, topic().batch_size(1000).max_wait_time(Duration::from_secs(3600)));
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..5 {
        collector.add(i.to_string()).await.unwrap();
    }
    let report = batcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!(producer.values(TOPIC, 0), numbers(0..5));
    assert!(!producer.produced_after_close());
    assert_eq!((report.delivered, report.in_memory), (5, 0));
}

/// Defect 10: a trapped exit flushed the same state twice.
#[tokio::test]
async fn defect_10_ending_twice_sends_once() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = start(&producer, topic());
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("a").await.unwrap();
    // A flush and a shutdown at once, and the drop behind it.
    let (_, report) = tokio::join!(collector.flush(), batcher.shutdown(Duration::from_secs(5)));
    drop(collector);
    tokio::time::sleep(ms(50)).await;
    assert_eq!((report.delivered, producer.values(TOPIC, 0)), (1, vec!["a".to_owned()]));
}

#[tokio::test]
async fn shutdown_during_an_outage_stores_the_rest_durably_and_the_next_batcher_delivers_it_first() {
    let disk = Disk::default();
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.set_up(false);
    let batcher = builder(&producer, config(topic())).storage(disk.clone()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    let receipt = collector.add_with_receipt("0").await.unwrap();
    for i in 1..20 {
        collector.add(i.to_string()).await.unwrap();
    }
    let report = batcher.shutdown(ms(300)).await;
    assert_eq!(
        (report.accepted, report.delivered, report.stored, report.in_memory, report.lost),
        (20, 0, 20, 0, 0)
    );
    assert_eq!(within(receipt).await, Some(Outcome::Stored));
    assert!(report.is_complete());

    producer.set_up(true);
    producer.reopen();
    let batcher = builder(&producer, config(topic())).storage(disk.clone()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 20..30 {
        collector.add(i.to_string()).await.unwrap();
    }
    producer.wait_for(TOPIC, 30).await;
    assert_eq!(producer.values(TOPIC, 0), numbers(0..30));
    assert_eq!(batcher.shutdown(ms(1000)).await.lost, 0);
    assert!(disk.lanes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_in_flight_when_the_time_is_up_is_stored_as_maybe_persisted() {
    let disk = Disk::default();
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::Hang]);
    let slow = config(topic().batch_size(1)).produce_timeout(Duration::from_secs(60));
    let batcher = builder(&producer, slow).storage(disk.clone()).build().unwrap();
    batcher.collector(TOPIC).unwrap().add("a").await.unwrap();
    until("sent", || !producer.calls().is_empty()).await;
    let report = batcher.shutdown(ms(50)).await;
    assert_eq!((report.stored, report.lost), (1, 0));
    let lane = LaneId::partition(TOPIC, 0);
    let (_, stored) = disk.next(&lane, None).await.unwrap().unwrap();
    assert!(stored.maybe_persisted);
}

#[tokio::test]
async fn what_is_being_sent_from_storage_at_the_end_is_not_sent_again_by_the_next_batcher() {
    let disk = Disk::default();
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = builder(&producer, config(topic())).storage(disk.clone()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    until("ready", || collector.state() == kafka_batcher::CollectorState::Ready).await;
    producer.set_up(false);
    collector.add("a").await.unwrap();
    until("stored", || batcher.stats().stored == 1).await;
    assert_eq!(batcher.shutdown(ms(50)).await.stored, 1);

    producer.set_up(true);
    producer.reopen();
    producer.script([Step::Delay(ms(700))]);
    let sent = producer.calls().len();
    let batcher = builder(&producer, config(topic())).storage(disk.clone()).build().unwrap();
    until("sent", || producer.calls().len() > sent).await;
    let report = batcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!((report.delivered, report.stored), (1, 0));
    assert!(disk.lanes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_shutdown_that_is_given_up_on_lets_go_of_the_storage_all_the_same() {
    let disk = Disk::default();
    disk.forgets_nothing.store(true, Relaxed);
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.set_partitions("u", 1);
    producer.script([Step::Refuse(ErrorKind::Transient)]);
    let topics = config(topic()).with_topic(TopicSettings::new("u"));
    let batcher = builder(&producer, topics).storage(disk.clone()).build().unwrap();
    batcher.collector("u").unwrap().add("a").await.unwrap();
    producer.wait_for("u", 1).await;
    // The first topic's task has ended by then, and the second one's still waits for storage.
    tokio::time::timeout(ms(200), batcher.shutdown(Duration::from_secs(5))).await.unwrap_err();
    until("the storage is let go of", || Arc::strong_count(&disk.inner) == 1).await;
}

#[tokio::test]
async fn what_storage_refuses_at_the_end_is_counted_and_reported_as_lost() {
    let disk = Disk::default();
    disk.broken.store(true, Relaxed);
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.set_up(false);
    let reports = Reports::default();
    let batcher =
        builder(&producer, config(topic())).storage(disk).notifier(reports.notifier()).build().unwrap();
    let receipt = batcher.collector(TOPIC).unwrap().add_with_receipt("a").await.unwrap();
    let report = batcher.shutdown(ms(50)).await;
    assert_eq!((report.lost, report.stored, report.in_memory), (1, 0, 0));
    assert!(!report.is_complete());
    assert_eq!(within(receipt).await, Some(Outcome::Lost));
    until("reported", || reports.all().iter().any(|r| r.what == What::Lost && r.events == 1)).await;
}

#[tokio::test]
async fn with_storage_in_memory_what_is_left_is_said_to_be_in_memory_only() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.set_up(false);
    let batcher = start(&producer, topic());
    batcher.collector(TOPIC).unwrap().add("a").await.unwrap();
    let report = batcher.shutdown(ms(50)).await;
    assert_eq!((report.stored, report.in_memory), (0, 1));
    assert!(!report.is_complete());
}

#[tokio::test]
async fn who_waits_for_a_flush_hears_of_the_end_though_storage_hangs() {
    let (producer, disk) = (ScriptedProducer::new(TOPIC, 1), ScriptedStorage::durable());
    producer.set_up(false);
    disk.always(Call::Append, StorageStep::Hang);
    let batcher = builder(&producer, config(topic())).storage(disk).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("a").await.unwrap();
    let flushing = tokio::spawn(async move { collector.flush().await });
    let report = within(batcher.shutdown(ms(50))).await.unwrap();
    assert_eq!((report.accepted, report.in_memory), (1, 1), "{report:?}");
    within(flushing).await.expect("a flush waits for what never comes").unwrap();
}

#[tokio::test]
async fn a_dropped_batcher_still_delivers_what_it_can() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = start(&producer, topic().batch_size(1000).max_wait_time(Duration::from_secs(3600)));
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("a").await.unwrap();
    drop(batcher);
    assert!(matches!(collector.try_add("b").unwrap_err().kind, AddErrorKind::Closed));
    producer.wait_for(TOPIC, 1).await;
}

#[tokio::test]
async fn a_caller_that_waits_for_room_hears_of_the_end() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.set_up(false);
    let full = config(topic()).max_memory_events(1);
    let batcher = builder(&producer, full).storage(MemoryStorage::new(0)).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("a").await.unwrap();
    let waiting = tokio::spawn(async move { collector.add("b").await.map_err(|e| e.kind) });
    tokio::task::yield_now().await;
    assert_eq!(batcher.shutdown(ms(20)).await.lost, 1, "storage takes nothing");
    assert!(matches!(within(waiting).await.unwrap().unwrap(), Err(AddErrorKind::Closed)));
}

/// Defect 19: a raising partition function killed the collector in the middle of a list.
#[tokio::test]
async fn defect_19_a_panicking_partition_function_costs_only_its_own_event() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let reports = Reports::default();
    let picky = PartitionStrategy::function(|_, _, _, value| {
        assert_ne!(value, Some(&b"3"[..]), "three is refused");
        0
    });
    let batcher = builder(&producer, config(topic().partition_strategy(picky)))
        .notifier(reports.notifier())
        .build()
        .unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    until("ready", || collector.state() == kafka_batcher::CollectorState::Ready).await;
    let error = collector.add_events(numbers(0..6)).await.unwrap_err();
    assert_eq!(error.accepted, 5);
    assert_eq!((error.refused[0].0, &*error.refused[0].1.event), (3, "3"));
    assert!(
        matches!(&error.refused[0].1.kind, AddErrorKind::Panicked(why) if why.contains("three is refused"))
    );
    let report = batcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!((report.accepted, report.delivered), (5, 5));
    assert!(report.is_complete(), "the room taken for it is given back: {report:?}");
    assert_eq!(producer.values(TOPIC, 0), ["0", "1", "2", "4", "5"]);
    until("reported", || reports.all().iter().any(|r| r.what == What::Panicked)).await;
}

#[tokio::test]
async fn a_partition_function_that_panics_on_an_event_accepted_earlier_sends_it_to_the_dead_letters() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.set_up(false);
    let picky = PartitionStrategy::function(|_, _, _, value| {
        assert_ne!(value, Some(&b"3"[..]), "three is refused");
        0
    });
    let batcher = start(&producer, topic().partition_strategy(picky));
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add_events(numbers(0..6)).await.unwrap();
    producer.set_up(true);
    producer.wait_for(TOPIC, 5).await;
    let report = batcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!((report.delivered, report.dead_lettered, report.lost), (5, 1, 0));
    assert_eq!(producer.values(TOPIC, 0), ["0", "1", "2", "4", "5"]);
}

struct PanickingFlusher;

impl BatchFlusher for PanickingFlusher {
    fn flush_now(&self, event: &EventRef<'_>) -> bool {
        assert_ne!(event.record.value, Some(&b"bad"[..]));
        false
    }
}

#[tokio::test]
async fn a_panicking_flusher_costs_only_its_own_event() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = start(&producer, topic().batch_flusher(PanickingFlusher));
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("a").await.unwrap();
    let error = collector.add("bad").await.unwrap_err();
    assert!(matches!(error.kind, AddErrorKind::Panicked(_)));
    collector.add("b").await.unwrap();
    assert_eq!(batcher.shutdown(Duration::from_secs(5)).await.lost, 0);
    assert_eq!(producer.values(TOPIC, 0), ["a", "b"]);
}

struct PanickingTelemetry;

impl Telemetry for PanickingTelemetry {
    fn batch_sealed(&self, _: &LaneId, _: u32, _: usize, _: FlushReason) {
        panic!("sealed");
    }

    fn delivered(&self, _: &LaneId, _: u32, _: usize, _: Duration, _: Option<Duration>) {
        panic!("delivered");
    }
}

#[tokio::test]
async fn panicking_notifier_telemetry_storage_and_producer_lose_nothing() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::Panic, Step::Refuse(ErrorKind::Transient), Step::Panic]);
    let disk = Disk::default();
    disk.panics.store(2, Relaxed);
    let told = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&told);
    let batcher = builder(&producer, config(topic().batch_size(4)))
        .notifier(move |_: &Report| {
            counter.fetch_add(1, Relaxed);
            panic!("notifier");
        })
        .telemetry(PanickingTelemetry)
        .storage(disk)
        .build()
        .unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..40 {
        collector.add(i.to_string()).await.unwrap();
    }
    producer.wait_for(TOPIC, 40).await;
    let report = batcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!(producer.values(TOPIC, 0), numbers(0..40));
    assert_eq!((report.delivered, report.lost), (40, 0));
    until("the notifier is called again after its panic", || told.load(Relaxed) > 2).await;
}

#[tokio::test]
async fn a_notifier_that_hangs_does_not_hold_up_delivery_or_the_end() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script(std::iter::repeat_n(Step::Refuse(ErrorKind::Transient), 5));
    let batcher = builder(&producer, config(topic()))
        .notifier(|_: &Report| std::thread::sleep(Duration::from_secs(3600)))
        .build()
        .unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add_events(numbers(0..40)).await.unwrap();
    producer.wait_for(TOPIC, 40).await;
    let start = std::time::Instant::now();
    let report =
        within(batcher.shutdown(Duration::from_secs(5))).await.expect("shutdown waits for the notifier");
    assert_eq!(report.delivered, 40);
    // Two seconds, on a machine with something else to do.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}
