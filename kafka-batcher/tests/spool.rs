//! The defects of the library this one succeeds that are about storing, replay, locking and shutdown, each with the
//! storage that an operator would use: on disk. Kafka is scripted, since it has to fail on cue.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher::{
    CollectorState, ErrorKind, KafkaBatcher, LaneId, Outcome, PartitionStrategy, Record, TempStorage,
    TopicSettings,
};
use kafka_batcher_storage_sled::{SledError, SledOptions, SledStorage};
use kafka_batcher_testkit::scripted::{ScriptedProducer, Step};
use support::*;

/// A folder that outlives the processes that store in it.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Opens it as a process does when it starts, once the one before has let go of it.
    async fn open(&self) -> Arc<SledStorage> {
        let path: &Path = &self.0.path().join("spool");
        let opened = within(async {
            loop {
                match SledStorage::open(SledOptions::new(path)) {
                    Ok(storage) => break Arc::new(storage),
                    Err(error) => assert!(matches!(error, SledError::StorageLocked { .. }), "{error}"),
                }
                tokio::time::sleep(ms(5)).await;
            }
        });
        opened.await.expect("the process before has let go of it")
    }
}

/// The values on disk for a lane, in order, and whether Kafka may have them.
async fn on_disk(storage: &SledStorage, lane: LaneId) -> (Vec<String>, bool) {
    let (mut values, mut maybe, mut after) = (Vec::new(), false, None);
    while let Some((id, stored)) = storage.next(&lane, after).await.unwrap() {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        values.extend(stored.batch.records().map(|record| text(record.value)));
        maybe |= stored.maybe_persisted;
        after = Some(id);
    }
    (values, maybe)
}

async fn nothing_on_disk(storage: &SledStorage) {
    let empty = within(async {
        while !storage.lanes().await.unwrap().is_empty() {
            tokio::time::sleep(ms(2)).await;
        }
    });
    assert!(empty.await.is_some(), "still on disk: {:?}", storage.lanes().await);
}

fn run(kafka: &ScriptedProducer, storage: &Arc<SledStorage>, topic: TopicSettings) -> KafkaBatcher {
    builder(kafka, config(topic)).shared_storage(storage.clone()).build().unwrap()
}

async fn ready(batcher: &KafkaBatcher) {
    let collector = batcher.collector(TOPIC).unwrap();
    until("ready", || collector.state() == CollectorState::Ready).await;
}

async fn add(batcher: &KafkaBatcher, range: std::ops::Range<u32>) {
    let collector = batcher.collector(TOPIC).unwrap();
    for value in numbers(range) {
        collector.add(value).await.unwrap();
    }
}

/// The partition is the number before the dot.
fn by_value() -> PartitionStrategy {
    PartitionStrategy::function(|_, _, _, value| u32::from(value.unwrap_or_default()[0] - b'0'))
}

/// There the storage only logged what it was given and said that it was empty.
#[tokio::test]
async fn defect_01_a_lock_holds_as_long_as_something_is_on_disk_and_nothing_of_it_is_gone() {
    let (disk, kafka) = (Disk::new(), ScriptedProducer::new(TOPIC, 1));
    let storage = disk.open().await;
    let batcher = run(&kafka, &storage, topic());
    ready(&batcher).await;
    kafka.set_up(false);
    add(&batcher, 0..30).await;
    until("all of it is stored", || batcher.stats().stored == 30).await;
    assert_eq!(batcher.collector(TOPIC).unwrap().state(), CollectorState::Locked);
    assert!(!storage.is_empty(TOPIC).await.unwrap());
    assert_eq!(on_disk(&storage, LaneId::partition(TOPIC, 0)).await.0, numbers(0..30));
    kafka.set_up(true);
    kafka.wait_for(TOPIC, 30).await;
    assert_eq!(kafka.values(TOPIC, 0), numbers(0..30));
    nothing_on_disk(&storage).await;
    ready(&batcher).await;
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.delivered, report.lost, report.maybe_duplicated), (30, 0, 0), "{report:?}");
}

/// There such events were refused, and stored nowhere.
#[tokio::test]
async fn defect_02_events_added_before_it_is_ready_and_while_it_is_locked_reach_the_disk_and_then_kafka() {
    let (disk, kafka) = (Disk::new(), ScriptedProducer::new(TOPIC, 1));
    kafka.set_up(false);
    {
        let storage = disk.open().await;
        let batcher = run(&kafka, &storage, topic());
        add(&batcher, 0..20).await;
        assert_eq!(batcher.collector(TOPIC).unwrap().state(), CollectorState::Starting);
        let report = batcher.shutdown(ms(20)).await;
        assert_eq!((report.accepted, report.stored, report.lost), (20, 20, 0), "{report:?}");
    }
    kafka.reopen();
    let storage = disk.open().await;
    assert_eq!(on_disk(&storage, LaneId::unassigned(TOPIC)).await.0, numbers(0..20));
    kafka.set_up(true);
    let batcher = run(&kafka, &storage, topic());
    kafka.wait_for(TOPIC, 20).await;
    ready(&batcher).await;
    kafka.set_up(false);
    add(&batcher, 20..40).await;
    until("locked", || batcher.collector(TOPIC).unwrap().state() == CollectorState::Locked).await;
    add(&batcher, 40..50).await;
    kafka.set_up(true);
    kafka.wait_for(TOPIC, 50).await;
    assert_eq!(kafka.values(TOPIC, 0), numbers(0..50));
    assert!(batcher.shutdown(ms(5000)).await.is_complete());
}

/// There the client stopped first, and what the accumulators held was lost.
#[tokio::test]
async fn defect_04_what_is_gathered_at_shutdown_is_sent_or_is_on_disk_for_the_next_process() {
    let slow = || topic().batch_size(1000).max_wait_time(Duration::from_secs(3600));
    let (disk, kafka) = (Disk::new(), ScriptedProducer::new(TOPIC, 1));
    for (up, values) in [(true, 0..10), (false, 10..20)] {
        let storage = disk.open().await;
        let batcher = run(&kafka, &storage, slow());
        ready(&batcher).await;
        add(&batcher, values).await;
        kafka.set_up(up);
        let report = batcher.shutdown(ms(if up { 5000 } else { 200 })).await;
        assert!(report.is_complete() && report.accepted == 10, "{report:?}");
        assert_eq!((report.delivered, report.stored), if up { (10, 0) } else { (0, 10) });
        assert!(!kafka.produced_after_close());
        kafka.reopen();
    }
    kafka.set_up(true);
    let storage = disk.open().await;
    let batcher = run(&kafka, &storage, slow());
    kafka.wait_for(TOPIC, 20).await;
    assert_eq!(kafka.values(TOPIC, 0), numbers(0..20));
    assert!(batcher.shutdown(ms(5000)).await.is_complete());
}

/// There the batch was saved, the event that had filled it was saved again, and its caller told to try once more.
#[tokio::test]
async fn defect_07_a_failed_batch_is_on_disk_once_and_in_kafka_once() {
    let (disk, kafka) = (Disk::new(), ScriptedProducer::new(TOPIC, 1));
    let storage = disk.open().await;
    let batcher = run(&kafka, &storage, topic().batch_size(3));
    ready(&batcher).await;
    kafka.set_up(false);
    add(&batcher, 0..3).await;
    until("stored", || batcher.stats().stored == 3).await;
    assert_eq!(on_disk(&storage, LaneId::partition(TOPIC, 0)).await.0, numbers(0..3));
    kafka.set_up(true);
    kafka.wait_for(TOPIC, 3).await;
    nothing_on_disk(&storage).await;
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((kafka.values(TOPIC, 0), report.delivered), (numbers(0..3), 3));
}

/// There the first partition that failed had all of them saved, delivered ones too.
#[tokio::test]
async fn defect_08_only_the_partition_that_failed_is_on_disk() {
    let (disk, kafka) = (Disk::new(), ScriptedProducer::new(TOPIC, 3));
    let storage = disk.open().await;
    let batcher = run(&kafka, &storage, topic().batch_size(6).partition_strategy(by_value()));
    ready(&batcher).await;
    kafka.script_partition(1, vec![Step::Refuse(ErrorKind::Transient); 4]);
    let collector = batcher.collector(TOPIC).unwrap();
    for value in ["0.a", "1.a", "2.a", "0.b", "1.b", "2.b"] {
        collector.add(value).await.unwrap();
    }
    until("the others are there", || kafka.values(TOPIC, 0).len() + kafka.values(TOPIC, 2).len() == 4).await;
    for partition in [0, 2] {
        assert!(on_disk(&storage, LaneId::partition(TOPIC, partition)).await.0.is_empty());
    }
    kafka.wait_for(TOPIC, 6).await;
    assert_eq!(kafka.all_values(TOPIC), ["0.a", "0.b", "1.a", "1.b", "2.a", "2.b"]);
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.delivered, report.maybe_duplicated), (6, 0), "{report:?}");
}

/// There the caller heard of a failure after five seconds, and the batch was delivered all the same.
#[tokio::test]
async fn defect_09_a_batch_without_an_answer_is_on_disk_as_maybe_sent_and_its_caller_hears_of_no_failure() {
    let (disk, kafka) = (Disk::new(), ScriptedProducer::new(TOPIC, 1));
    {
        let storage = disk.open().await;
        let batcher = run(&kafka, &storage, topic().batch_size(1));
        ready(&batcher).await;
        kafka.script([Step::LoseAnswer]);
        kafka.script(vec![Step::Refuse(ErrorKind::Transient); 1000]);
        let collector = batcher.collector(TOPIC).unwrap();
        let receipt = within(collector.add_with_receipt("a")).await.expect("nobody waits for Kafka").unwrap();
        assert_eq!(within(receipt).await, Some(Outcome::Stored));
        let report = batcher.shutdown(ms(0)).await;
        assert_eq!((report.stored, report.lost), (1, 0), "{report:?}");
    }
    let storage = disk.open().await;
    assert_eq!(on_disk(&storage, LaneId::partition(TOPIC, 0)).await, (vec!["a".to_owned()], true));
    let kafka_again = ScriptedProducer::new(TOPIC, 1);
    let batcher = run(&kafka_again, &storage, topic());
    kafka_again.wait_for(TOPIC, 1).await;
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.delivered, report.maybe_duplicated), (1, 1), "counted as what it may be: {report:?}");
}

/// There a trapped exit flushed the same state twice.
#[tokio::test]
async fn defect_10_a_flush_a_shutdown_and_a_drop_at_once_store_once() {
    let (disk, kafka) = (Disk::new(), ScriptedProducer::new(TOPIC, 1));
    {
        let storage = disk.open().await;
        let batcher = run(&kafka, &storage, topic().batch_size(1000));
        ready(&batcher).await;
        kafka.set_up(false);
        add(&batcher, 0..10).await;
        let collector = batcher.collector(TOPIC).unwrap();
        let (_, report) = tokio::join!(collector.flush(), batcher.shutdown(ms(100)));
        assert_eq!((report.accepted, report.stored, report.lost), (10, 10, 0), "{report:?}");
    }
    kafka.set_up(true);
    kafka.reopen();
    let storage = disk.open().await;
    assert_eq!(on_disk(&storage, LaneId::partition(TOPIC, 0)).await.0, numbers(0..10));
    let batcher = run(&kafka, &storage, topic());
    kafka.wait_for(TOPIC, 10).await;
    drop(batcher);
    nothing_on_disk(&storage).await;
    assert_eq!(kafka.values(TOPIC, 0), numbers(0..10));
}

/// There newer events went on live past a failed batch, and then the whole topic was locked for one bad partition.
#[tokio::test]
async fn defect_11_newer_events_go_behind_a_failed_batch_on_disk_and_other_partitions_stay_live() {
    let (disk, kafka) = (Disk::new(), ScriptedProducer::new(TOPIC, 2));
    let storage = disk.open().await;
    let batcher = run(&kafka, &storage, topic().batch_size(1).partition_strategy(by_value()));
    ready(&batcher).await;
    kafka.script_partition(0, vec![Step::Refuse(ErrorKind::Denied); 3]);
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("0.0").await.unwrap();
    until("locked", || collector.state() == CollectorState::Locked).await;
    for i in 1..10 {
        collector.add(Record::new(format!("0.{i}"))).await.unwrap();
        let receipt = collector.add_with_receipt(Record::new(format!("1.{i}"))).await.unwrap();
        let outcome = within(receipt).await;
        assert!(matches!(outcome, Some(Outcome::Delivered { partition: 1, .. })), "{outcome:?}");
    }
    kafka.wait_for(TOPIC, 19).await;
    let in_order: Vec<String> = (0..10).map(|i| format!("0.{i}")).collect();
    assert_eq!(kafka.values(TOPIC, 0), in_order);
    nothing_on_disk(&storage).await;
    assert!(batcher.shutdown(ms(5000)).await.is_complete());
}
