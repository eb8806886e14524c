//! Kafka away, slow, or answering with errors: nothing is lost, order holds.

mod support;

use std::time::Duration;

use kafka_batcher::core::{Event, StorageError};
use kafka_batcher::{
    AddErrorKind, CollectorState, ErrorKind, MemoryDeadLetters, OnUnavailable, Outcome, PartitionStrategy,
    What,
};
use kafka_batcher_testkit::scripted::{ScriptedProducer, Step};
use std::sync::Arc;
use support::*;

/// Defects 1 and 2: a collector that was not ready or locked refused events without storing them, and
/// the storage forgot what it was given.
#[tokio::test]
async fn defect_01_02_events_added_while_kafka_is_down_from_the_start_arrive_later_in_order() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.set_up(false);
    let batcher = start(&producer, topic());
    let collector = batcher.collector(TOPIC).unwrap();
    assert_eq!(collector.state(), CollectorState::Starting);
    for i in 0..500 {
        collector.add(i.to_string()).await.unwrap();
        if i % 100 == 0 {
            tokio::time::sleep(ms(15)).await; // some of them are stored by now
        }
    }
    until("stored", || batcher.stats().stored > 0).await;
    producer.set_up(true);
    producer.wait_for(TOPIC, 500).await;
    assert_eq!(producer.values(TOPIC, 0), numbers(0..500));
    until("ready", || collector.state() == CollectorState::Ready).await;
    assert_eq!(batcher.stats().stored, 0);
}

#[tokio::test]
async fn an_outage_in_the_middle_loses_nothing_and_keeps_the_order() {
    let producer = ScriptedProducer::new(TOPIC, 2);
    let batcher =
        start(&producer, topic().collect_by_partition(true).partition_strategy(PartitionStrategy::Murmur2));
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..3000_u32 {
        if i == 1000 {
            producer.set_up(false);
        }
        if i == 2000 {
            until("something is stored", || batcher.stats().stored > 0).await;
            producer.set_up(true);
        }
        collector.add((format!("key {}", i % 7), i.to_string())).await.unwrap();
    }
    let report = batcher.shutdown(Duration::from_secs(10)).await;
    assert!(report.is_complete(), "{report:?}");
    let mut all = Vec::new();
    for partition in 0..2 {
        let values: Vec<u32> = producer.values(TOPIC, partition).iter().map(|v| v.parse().unwrap()).collect();
        assert!(values.is_sorted(), "partition {partition} is out of order");
        all.extend(values);
    }
    all.sort_unstable();
    assert_eq!(all, (0..3000).collect::<Vec<_>>(), "every event once");
}

/// Defect 7: a failed flush saved the batch, then the triggering event again, and answered with an
/// error so that the caller retried: three copies.
#[tokio::test]
async fn defect_07_a_failed_batch_is_kept_once_and_the_caller_hears_of_no_error() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::Refuse(ErrorKind::Transient), Step::Refuse(ErrorKind::Transient)]);
    let batcher = start(&producer, topic().batch_size(3));
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..3 {
        collector.add(i.to_string()).await.unwrap();
    }
    let report = batcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!(producer.values(TOPIC, 0), numbers(0..3));
    assert_eq!((report.accepted, report.delivered), (3, 3));
}

/// Defect 8: producing to several partitions stopped at the first error and saved delivered events too.
#[tokio::test]
async fn defect_08_a_failing_partition_does_not_make_the_others_send_twice() {
    let producer = ScriptedProducer::new(TOPIC, 3);
    producer.script_partition(1, std::iter::repeat_n(Step::Refuse(ErrorKind::Transient), 3));
    let by_number = PartitionStrategy::function(|_, n, _, value| u32::from(value.unwrap()[0]) % n);
    let batcher = start(&producer, topic().partition_strategy(by_number));
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..9 {
        collector.add(i.to_string()).await.unwrap();
    }
    producer.wait_for(TOPIC, 9).await;
    let mut all = producer.all_values(TOPIC);
    all.sort();
    assert_eq!(all, numbers(0..9));
    assert_eq!(batcher.shutdown(ms(1000)).await.lost, 0);
}

/// Defect 9: calls timed out while the produce went on behind them, so "failed" events were delivered too.
#[tokio::test]
async fn defect_09_adding_never_waits_for_kafka_and_a_slow_produce_delivers_once() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::Delay(ms(3000))]);
    let settings = config(topic().batch_size(1)).produce_timeout(ms(10_000));
    let batcher = builder(&producer, settings).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    let start = std::time::Instant::now();
    for i in 0..100 {
        collector.add(i.to_string()).await.unwrap();
    }
    assert!(start.elapsed() < ms(2000), "a caller waited for the slow produce");
    producer.wait_for(TOPIC, 100).await;
    assert_eq!(producer.values(TOPIC, 0), numbers(0..100));
}

/// Defect 11: newer events went live while a failed batch was saved, and one bad partition locked the topic.
#[tokio::test]
async fn defect_11_order_holds_behind_a_failed_batch_and_other_partitions_stay_live() {
    let producer = ScriptedProducer::new(TOPIC, 2);
    producer.script_partition(0, std::iter::repeat_n(Step::Refuse(ErrorKind::Transient), 6));
    let by_key = PartitionStrategy::function(|_, _, key, _| u32::from(key.unwrap()[0] - b'0'));
    let batcher =
        start(&producer, topic().collect_by_partition(true).partition_strategy(by_key).batch_size(1));
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..50 {
        collector.add(("0", i.to_string())).await.unwrap();
        collector.add(("1", i.to_string())).await.unwrap();
        tokio::time::sleep(ms(1)).await;
        if i == 20 {
            assert!(!producer.values(TOPIC, 1).is_empty(), "the good partition waits for the bad one");
        }
    }
    producer.wait_for(TOPIC, 100).await;
    assert_eq!(producer.values(TOPIC, 0), numbers(0..50));
    assert_eq!(producer.values(TOPIC, 1), numbers(0..50));
}

/// Defect 12: a slow partition stalled the topic.
#[tokio::test]
async fn defect_12_a_slow_partition_does_not_stall_the_others() {
    for by_partition in [false, true] {
        let producer = ScriptedProducer::new(TOPIC, 2);
        producer.script_partition(0, [Step::Delay(Duration::from_secs(3))]);
        let by_key = PartitionStrategy::function(|_, _, key, _| u32::from(key.unwrap()[0] - b'0'));
        let settings = topic().collect_by_partition(by_partition).partition_strategy(by_key).batch_size(1);
        let slow = config(settings).produce_timeout(Duration::from_secs(5));
        let batcher = builder(&producer, slow).build().unwrap();
        let collector = batcher.collector(TOPIC).unwrap();
        collector.add(("0", "slow")).await.unwrap();
        for i in 0..20 {
            collector.add(("1", i.to_string())).await.unwrap();
        }
        let start = std::time::Instant::now();
        producer.wait_for(TOPIC, 20).await;
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(producer.values(TOPIC, 1), numbers(0..20));
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_one_batch_twice_and_says_so() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::LoseAnswer]);
    let batcher = start(&producer, topic().batch_size(3));
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..3 {
        collector.add(i.to_string()).await.unwrap();
    }
    let report = batcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!(producer.values(TOPIC, 0), ["0", "1", "2", "0", "1", "2"]);
    assert_eq!((report.delivered, report.maybe_duplicated), (3, 3));
}

#[tokio::test]
async fn a_producer_that_never_answers_is_given_up_on() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::Hang]);
    let batcher = start(&producer, topic().batch_size(1));
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("a").await.unwrap();
    producer.wait_for(TOPIC, 1).await;
    assert_eq!(batcher.stats().maybe_duplicated, 1, "nobody knows what became of the first attempt");
}

#[tokio::test]
async fn only_the_records_that_failed_are_sent_again() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::RefuseSome(ErrorKind::Transient, vec![2, 3])]);
    let batcher = start(&producer, topic().batch_size(4));
    let collector = batcher.collector(TOPIC).unwrap();
    let mut receipts = Vec::new();
    for i in 0..4 {
        receipts.push(collector.add_with_receipt(i.to_string()).await.unwrap());
    }
    let mut offsets = Vec::new();
    for receipt in receipts {
        offsets.push(within(receipt).await.unwrap());
    }
    assert_eq!(producer.values(TOPIC, 0), numbers(0..4));
    let at = |offset| Outcome::Delivered { partition: 0, offset };
    assert_eq!(offsets, [at(None), at(None), at(Some(2)), at(Some(3))]);
}

#[tokio::test]
async fn a_poison_record_is_dead_lettered_and_all_others_arrive() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    // The batch of eight, its right half, and so on down to the record at fault.
    let refuse = || Step::Refuse(ErrorKind::Permanent);
    producer.script([refuse(), Step::Deliver, refuse(), refuse(), Step::Deliver, refuse()]);
    let dead = Arc::new(MemoryDeadLetters::default());
    let reports = Reports::default();
    let batcher = builder(&producer, config(topic().batch_size(8)))
        .shared_dead_letter(dead.clone())
        .notifier(reports.notifier())
        .build()
        .unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..8 {
        collector.add(i.to_string()).await.unwrap();
    }
    producer.wait_for(TOPIC, 7).await;
    let report = batcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!((report.delivered, report.dead_lettered, report.lost), (7, 1, 0));
    let letters = dead.take();
    let value = letters[0].record.value.clone().unwrap();
    assert_eq!((&value[..], letters[0].kind), (&b"5"[..], ErrorKind::Permanent));
    assert_eq!(producer.values(TOPIC, 0), ["0", "1", "2", "3", "4", "6", "7"]);
    until("reported", || reports.all().iter().any(|r| r.what == What::DeadLettered(ErrorKind::Permanent)))
        .await;
}

#[tokio::test]
async fn a_denied_lane_keeps_its_events_and_goes_on_when_it_is_let_in() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script(std::iter::repeat_n(Step::Refuse(ErrorKind::Denied), 3));
    let batcher = start(&producer, topic());
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..30 {
        collector.add(i.to_string()).await.unwrap();
    }
    producer.wait_for(TOPIC, 30).await;
    let report = batcher.shutdown(ms(2000)).await;
    assert_eq!((report.delivered, report.dead_lettered), (30, 0));
    assert_eq!(producer.values(TOPIC, 0), numbers(0..30));
}

#[tokio::test]
async fn a_fatal_error_starts_the_client_anew() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::Refuse(ErrorKind::Fatal)]);
    let batcher = start(&producer, topic());
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("a").await.unwrap();
    producer.wait_for(TOPIC, 1).await;
    assert_eq!(producer.connects(), 2);
}

/// Defect 14: keyless events under a keyed strategy all went to one partition.
#[tokio::test]
async fn defect_14_events_without_a_key_are_spread_whatever_the_strategy_and_the_accumulators() {
    for strategy in ["random", "sticky", "round_robin", "murmur2", "crc32", "fnv1a", "phash2", "md5"] {
        for by_partition in [false, true] {
            let producer = ScriptedProducer::new(TOPIC, 4);
            let strategy = strategy.parse().unwrap();
            let settings =
                topic().partition_strategy(strategy).collect_by_partition(by_partition).batch_size(5);
            let batcher = start(&producer, settings.clone());
            let collector = batcher.collector(TOPIC).unwrap();
            until("ready", || collector.state() == CollectorState::Ready).await;
            for i in 0..400 {
                collector.add(i.to_string()).await.unwrap();
                if i % 10 == 0 {
                    tokio::time::sleep(ms(1)).await;
                }
            }
            collector.flush().await;
            let counts: Vec<_> = (0..4).map(|partition| producer.log(TOPIC, partition).len()).collect();
            assert_eq!(counts.iter().sum::<usize>(), 400);
            assert!(counts.iter().all(|count| (20..250).contains(count)), "{counts:?} {settings:?}");
        }
    }
}

#[tokio::test]
async fn single_events_that_leave_by_time_are_spread_too() {
    for by_partition in [false, true] {
        let producer = ScriptedProducer::new(TOPIC, 2);
        let sticky = topic().partition_strategy(PartitionStrategy::Sticky).max_wait_time(ms(1));
        let batcher = start(&producer, sticky.collect_by_partition(by_partition));
        let collector = batcher.collector(TOPIC).unwrap();
        until("ready", || collector.state() == CollectorState::Ready).await;
        for i in 0..20 {
            collector.add(i.to_string()).await.unwrap();
            producer.wait_for(TOPIC, i + 1).await;
        }
        let counts: Vec<_> = (0..2).map(|partition| producer.log(TOPIC, partition).len()).collect();
        assert!(counts.iter().all(|count| *count > 4), "{counts:?}");
    }
}

#[tokio::test]
async fn more_partitions_are_used_without_breaking_the_order_of_a_key() {
    let producer = ScriptedProducer::new(TOPIC, 2);
    let batcher = start(&producer, topic().partition_strategy(PartitionStrategy::Crc32));
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..400_u32 {
        if i == 200 {
            producer.set_partitions(TOPIC, 5);
        }
        collector.add((format!("key {}", i % 11), i.to_string())).await.unwrap();
        tokio::time::sleep(ms(1)).await;
    }
    producer.wait_for(TOPIC, 400).await;
    assert!((2..5).any(|partition| !producer.log(TOPIC, partition).is_empty()), "new partitions are used");
    // A key moves at most once, from an old partition to a new one, and is in order in each.
    for partition in 0..5 {
        let values: Vec<u32> = producer.values(TOPIC, partition).iter().map(|v| v.parse().unwrap()).collect();
        for key in 0..11 {
            assert!(values.iter().filter(|v| *v % 11 == key).is_sorted(), "partition {partition}, key {key}");
        }
    }
}

#[tokio::test]
async fn a_topic_set_to_refuse_says_so_while_kafka_is_away() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.set_up(false);
    let batcher = start(&producer, topic().on_unavailable(OnUnavailable::Reject));
    let collector = batcher.collector(TOPIC).unwrap();
    until("refused", || matches!(collector.try_add("a").map_err(|e| e.kind), Err(AddErrorKind::Unavailable)))
        .await;
    producer.set_up(true);
    until("taken again", || collector.try_add("b").is_ok()).await;
    within(collector.flush()).await.unwrap();
    assert_eq!(producer.values(TOPIC, 0).last().map(String::as_str), Some("b"));
}

#[tokio::test]
async fn a_missing_topic_is_made_where_that_is_allowed() {
    let producer = ScriptedProducer::default();
    let batcher = start(&producer, topic().allow_topic_auto_creation(true).new_topic_partitions(3));
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..30 {
        collector.add(i.to_string()).await.unwrap();
    }
    producer.wait_for(TOPIC, 30).await;
    assert_eq!(batcher.shutdown(ms(1000)).await.lost, 0);
}

/// Defect 18: metrics counted only successes.
#[tokio::test]
async fn defect_18_telemetry_sees_failures_too() {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    #[derive(Clone, Default)]
    struct Counts(Arc<[AtomicU32; 3]>);
    impl kafka_batcher::Telemetry for Counts {
        fn delivered(
            &self,
            _: &kafka_batcher::LaneId,
            events: u32,
            _: usize,
            _: Duration,
            _: Option<Duration>,
        ) {
            self.0[0].fetch_add(events, Relaxed);
        }
        fn produce_failed(&self, _: &kafka_batcher::LaneId, events: u32, kind: ErrorKind, _: Duration) {
            assert_eq!(kind, ErrorKind::Transient);
            self.0[1].fetch_add(events, Relaxed);
        }
        fn stored(&self, _: &kafka_batcher::LaneId, events: u32, _: usize) {
            self.0[2].fetch_add(events, Relaxed);
        }
    }
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::Refuse(ErrorKind::Transient)]);
    let counts = Counts::default();
    let batcher =
        builder(&producer, config(topic().batch_size(2))).telemetry(counts.clone()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add_events(["a", "b"]).await.unwrap();
    assert_eq!(batcher.shutdown(Duration::from_secs(5)).await.lost, 0);
    assert_eq!(counts.0.each_ref().map(|c| c.load(Relaxed)), [2, 2, 2]);
}

/// The parts of the public API an adapter's author meets are nameable from the facade.
#[test]
fn the_facade_names_what_adapters_need() {
    fn event(_: impl Event) {}
    event("x");
    let _ = StorageError::Failed(String::new());
}
