//! Temporary storage that has no room: events wait or are handed back, and what was accepted arrives.

mod support;

use kafka_batcher::{AddErrorKind, Collector, Durability, KafkaBatcher, OnStorageFull, TopicSettings};
use kafka_batcher_storage_sled::{SledOptions, SledStorage};
use kafka_batcher_testkit::scripted::{Call, ScriptedProducer, ScriptedStorage, StorageStep};
use support::*;

fn rejecting() -> TopicSettings {
    topic().batch_size(1).on_storage_full(OnStorageFull::Reject)
}

async fn ready(batcher: &KafkaBatcher) -> Collector {
    let collector = batcher.collector(TOPIC).unwrap();
    until("ready", || collector.state() == kafka_batcher::CollectorState::Ready).await;
    collector
}

/// Adds events until one is handed back; gives the others.
async fn fill(collector: &Collector, size: usize) -> Vec<String> {
    let mut accepted = Vec::new();
    let filled = within(async {
        loop {
            let event = format!("{:0size$}", accepted.len());
            match collector.add(event.clone()).await {
                Ok(()) => accepted.push(event),
                Err(error) => {
                    assert!(matches!(error.kind, AddErrorKind::StorageFull { .. }), "{error}");
                    assert_eq!(error.event, event, "it comes back as it was");
                    return;
                }
            }
            tokio::time::sleep(std::time::Duration::from_micros(100)).await;
        }
    });
    assert!(filled.await.is_some(), "{} events, and none was refused", accepted.len());
    accepted
}

#[tokio::test]
async fn a_topic_set_to_refuse_does_until_there_is_room_and_loses_nothing() {
    let (kafka, disk) = (ScriptedProducer::new(TOPIC, 1), ScriptedStorage::new());
    let batcher = builder(&kafka, config(rejecting())).storage(disk.clone()).build().unwrap();
    let collector = ready(&batcher).await;
    kafka.set_up(false);
    disk.always(Call::Append, StorageStep::Full);
    let mut accepted = fill(&collector, 1).await;
    assert!(matches!(collector.try_add("x").unwrap_err().kind, AddErrorKind::StorageFull { .. }));
    disk.always(Call::Append, StorageStep::Pass);
    let again = within(async {
        while collector.add("again").await.is_err() {
            tokio::time::sleep(ms(1)).await;
        }
    });
    assert!(again.await.is_some(), "there is room again");
    accepted.push("again".to_owned());
    kafka.set_up(true);
    kafka.wait_for(TOPIC, accepted.len()).await;
    assert_eq!(kafka.values(TOPIC, 0), accepted);
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.accepted, report.lost), (accepted.len() as u64, 0), "{report:?}");
}

#[tokio::test]
async fn a_topic_that_blocks_takes_what_memory_takes_and_then_waits() {
    let (kafka, disk) = (ScriptedProducer::new(TOPIC, 1), ScriptedStorage::new());
    let small = config(topic().batch_size(1)).max_memory_events(5);
    let batcher = builder(&kafka, small).storage(disk.clone()).build().unwrap();
    let collector = ready(&batcher).await;
    kafka.set_up(false);
    disk.always(Call::Append, StorageStep::Full);
    for value in numbers(0..5) {
        collector.add(value).await.unwrap();
    }
    let error = collector.try_add("5").unwrap_err();
    assert!(matches!(error.kind, AddErrorKind::Full) && error.event == "5");
    let waiting = tokio::spawn({
        let collector = collector.clone();
        async move { collector.add("5").await }
    });
    until("it was tried", || disk.calls(Call::Append) > 1).await;
    assert!(!waiting.is_finished());
    kafka.set_up(true); // draining needs no room
    assert!(within(waiting).await.unwrap().unwrap().is_ok());
    kafka.wait_for(TOPIC, 6).await;
    assert_eq!(kafka.values(TOPIC, 0), numbers(0..6));
}

#[tokio::test]
async fn a_full_journal_hands_events_back_if_so_set() {
    let (kafka, disk) = (ScriptedProducer::new(TOPIC, 1), ScriptedStorage::durable());
    let journaled = rejecting().durability(Durability::Journal);
    let batcher = builder(&kafka, config(journaled)).storage(disk.clone()).build().unwrap();
    let collector = ready(&batcher).await;
    collector.add("0").await.unwrap();
    disk.always(Call::Append, StorageStep::Full);
    let error = within(collector.add("1")).await.expect("at once").unwrap_err();
    assert!(matches!(error.kind, AddErrorKind::StorageFull { .. }) && error.event == "1", "{error}");
    let errors = collector.add_events(numbers(1..4)).await.unwrap_err();
    assert_eq!((errors.accepted, errors.refused.len()), (0, 3));
    disk.always(Call::Append, StorageStep::Pass);
    let again = within(async {
        while collector.add("1").await.is_err() {
            tokio::time::sleep(ms(1)).await;
        }
    });
    assert!(again.await.is_some(), "there is room again");
    kafka.wait_for(TOPIC, 2).await;
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.accepted, report.delivered, report.lost), (2, 2, 0), "{report:?}");
    assert_eq!(kafka.values(TOPIC, 0), ["0", "1"]);
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_and_all_that_was_accepted_arrives_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let options = SledOptions::new(folder.path().join("spool")).quota(SledOptions::MIN_QUOTA);
    let storage = SledStorage::open(options).unwrap();
    let kafka = ScriptedProducer::new(TOPIC, 1);
    let batcher = builder(&kafka, config(rejecting().batch_size(10))).storage(storage).build().unwrap();
    let collector = ready(&batcher).await;
    kafka.set_up(false);
    let mut accepted = fill(&collector, 20_000).await;
    assert!(accepted.len() > 50, "{} fill the quota", accepted.len());
    kafka.set_up(true);
    let again = within(async {
        while collector.add("again").await.is_err() {
            tokio::time::sleep(ms(1)).await;
        }
    });
    assert!(again.await.is_some(), "draining makes room");
    accepted.push("again".to_owned());
    kafka.wait_for(TOPIC, accepted.len()).await;
    assert!(kafka.values(TOPIC, 0) == accepted, "in order, each once");
    let report = batcher.shutdown(ms(5000)).await;
    assert!(report.is_complete() && report.delivered == accepted.len() as u64, "{report:?}");
}
