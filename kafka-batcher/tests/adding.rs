//! Adding events, and hearing what became of them.

mod support;

use std::time::Duration;

use kafka_batcher::{AddErrorKind, CollectorState, Json, MemoryStorage, Outcome, PartitionStrategy, Record};
use kafka_batcher_testkit::scripted::{ScriptedProducer, Step};
use support::*;

#[tokio::test]
async fn events_arrive_in_order_and_the_report_adds_up() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = start(&producer, topic());
    let collector = batcher.collector(TOPIC).unwrap();
    for i in 0..1000 {
        collector.add(i.to_string()).await.unwrap();
    }
    let report = batcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!(producer.values(TOPIC, 0), numbers(0..1000));
    assert_eq!((report.accepted, report.delivered, report.lost, report.in_memory), (1000, 1000, 0, 0));
    assert!(report.is_complete());
}

#[tokio::test]
async fn every_form_of_event_is_taken() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = start(&producer, topic());
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("value").await.unwrap();
    collector.add(("key", b"value".to_vec())).await.unwrap();
    collector.add(([("h", "1"), ("h", "2")], "key", "value")).await.unwrap();
    collector.add((None::<&str>, Json(vec![1, 2]))).await.unwrap();
    collector.add(Record::tombstone("key").with_timestamp(77)).await.unwrap();
    batcher.flush().await;
    let log = producer.log(TOPIC, 0);
    assert_eq!(log.len(), 5);
    assert_eq!(log[2].headers.len(), 2);
    assert_eq!(log[3].value.as_deref(), Some(&b"[1,2]"[..]));
    assert_eq!((log[4].value.as_ref(), log[4].timestamp), (None, Some(77)));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let accepted = log[0].timestamp.unwrap();
    assert!((now - 10_000..=now).contains(&accepted), "{accepted} is not the time of acceptance, {now}");
}

#[tokio::test]
async fn a_list_is_added_whole_but_for_the_events_that_are_refused() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = start(&producer, topic().max_batch_bytesize(200));
    let collector = batcher.collector(TOPIC).unwrap();
    assert_eq!(collector.add_events(["a", "b"]).await.unwrap(), 2);
    let too_large = "x".repeat(300);
    let error = collector.add_events(["c", &too_large, "d"]).await.unwrap_err();
    assert_eq!((error.accepted, error.refused.len()), (2, 1));
    let (place, refused) = &error.refused[0];
    assert_eq!((*place, refused.event), (1, &*too_large));
    assert!(matches!(refused.kind, AddErrorKind::TooLarge { limit: 200, .. }));
    batcher.flush().await;
    assert_eq!(producer.values(TOPIC, 0), ["a", "b", "c", "d"]);
}

/// Defect 3: an event over the size limit was dropped and the caller told all was well.
#[tokio::test]
async fn defect_03_an_oversize_event_is_handed_back() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = start(&producer, topic().max_batch_bytesize(200));
    let collector = batcher.collector(TOPIC).unwrap();
    let event = "x".repeat(300);
    let error = collector.add(event.clone()).await.unwrap_err();
    assert_eq!(error.event, event);
    assert!(error.to_string().contains("max_batch_bytesize is 200"), "{error}");
    assert_eq!(batcher.shutdown(ms(1000)).await.accepted, 0);
}

#[tokio::test]
async fn receipts_tell_partition_and_offset() {
    let producer = ScriptedProducer::new(TOPIC, 3);
    let by_value = PartitionStrategy::function(|_, _, _, value| u32::from(value.unwrap()[0] - b'0'));
    let batcher = start(&producer, topic().partition_strategy(by_value));
    let collector = batcher.collector(TOPIC).unwrap();
    let mut receipts = Vec::new();
    for event in ["0a", "2a", "0b", "2b", "2c"] {
        receipts.push(collector.add_with_receipt(event).await.unwrap());
    }
    let mut outcomes = Vec::new();
    for receipt in receipts {
        outcomes.push(within(receipt).await.unwrap());
    }
    let at = |partition, offset| Outcome::Delivered { partition, offset: Some(offset) };
    assert_eq!(outcomes, [at(0, 0), at(2, 0), at(0, 1), at(2, 1), at(2, 2)]);
}

#[tokio::test]
async fn flush_sends_what_no_other_rule_would_send_yet() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = start(&producer, topic().max_wait_time(Duration::from_secs(3600)).batch_size(1000));
    let collector = batcher.collector(TOPIC).unwrap();
    until("ready", || collector.state() == CollectorState::Ready).await;
    collector.add("a").await.unwrap();
    assert_eq!(producer.values(TOPIC, 0).len(), 0);
    within(collector.flush()).await.unwrap();
    assert_eq!(producer.values(TOPIC, 0), ["a"]);
}

#[tokio::test]
async fn try_add_hands_the_event_back_when_memory_is_full_and_add_waits() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.script([Step::Delay(ms(300))]);
    let config = config(topic().batch_size(1)).max_memory_events(3);
    let batcher = builder(&producer, config).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    for event in ["a", "b", "c"] {
        collector.try_add(event).unwrap();
    }
    let error = collector.try_add("d").unwrap_err();
    assert!(matches!(error.kind, AddErrorKind::Full));
    assert_eq!(error.event, "d");
    within(collector.add("d")).await.unwrap().unwrap();
    batcher.flush().await;
    assert_eq!(producer.values(TOPIC, 0), ["a", "b", "c", "d"]);
    assert_eq!(batcher.stats().in_memory, 0);
}

#[tokio::test]
async fn a_full_memory_sends_what_is_gathered_instead_of_waiting_for_more() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let config =
        config(topic().batch_size(1000).max_wait_time(Duration::from_secs(3600))).max_memory_events(10);
    let batcher = builder(&producer, config).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    let all = async {
        for i in 0..100 {
            collector.add(i.to_string()).await.unwrap();
        }
    };
    within(all).await.expect("callers wait for a batch that never fills");
    batcher.flush().await;
    assert_eq!(producer.values(TOPIC, 0), numbers(0..100));
}

#[tokio::test]
async fn memory_stays_within_its_bounds_while_kafka_and_storage_take_nothing() {
    let producer = ScriptedProducer::new(TOPIC, 2);
    producer.set_up(false);
    let config = config(topic()).max_memory_bytes(1_000_000).max_memory_events(500);
    let batcher = builder(&producer, config).storage(MemoryStorage::new(0)).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    let mut accepted = 0;
    for i in 0..2000 {
        accepted += usize::from(collector.try_add(i.to_string()).is_ok());
    }
    assert_eq!(accepted, 500);
    assert_eq!(batcher.stats().in_memory, 500);
    producer.set_up(true);
    producer.wait_for(TOPIC, 500).await;
    until("memory is free", || batcher.stats().in_memory == 0).await;
    within(collector.add("more")).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_flusher_and_a_partitioner_see_the_typed_event() {
    #[derive(serde::Serialize)]
    struct Flight {
        carrier: u32,
        urgent: bool,
    }
    let producer = ScriptedProducer::new(TOPIC, 4);
    let settings = topic()
        .max_wait_time(Duration::from_secs(3600))
        .batch_size(1000)
        .partition_strategy(PartitionStrategy::typed(|_, n, flight: &Flight| flight.carrier % n))
        .batch_flusher(|event: &kafka_batcher::EventRef<'_>| {
            event.typed::<Flight>().is_some_and(|f| f.urgent)
        });
    let batcher = start(&producer, settings);
    let collector = batcher.collector(TOPIC).unwrap();
    for carrier in 0..4 {
        within(collector.add(Json(Flight { carrier, urgent: carrier == 3 }))).await.unwrap().unwrap();
    }
    producer.wait_for(TOPIC, 4).await;
    for partition in 0..4 {
        assert_eq!(producer.log(TOPIC, partition).len(), 1, "partition {partition}");
    }
}

#[tokio::test]
async fn closed_means_closed_and_the_event_comes_back() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = start(&producer, topic());
    let collector = batcher.collector(TOPIC).unwrap();
    assert_eq!(batcher.shutdown(ms(1000)).await.lost, 0);
    let error = collector.add("late").await.unwrap_err();
    assert!(matches!(error.kind, AddErrorKind::Closed));
    assert_eq!(error.event, "late");
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let error = builder(&producer, config(topic())).build().unwrap_err();
    assert!(matches!(error, kafka_batcher::BuildError::NoRuntime));
}
