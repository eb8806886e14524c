//! `durability = "journal"`: what `add` has accepted survives the process.

mod support;

use kafka_batcher::{
    AddErrorKind, BuildError, Durability, LaneId, Outcome, PartitionStrategy, TempStorage, TopicSettings,
};
use kafka_batcher_testkit::scripted::{Call, ScriptedProducer, ScriptedStorage, StorageStep};
use support::*;

fn journaled() -> TopicSettings {
    topic().durability(Durability::Journal)
}

#[tokio::test]
async fn an_event_is_on_disk_before_it_is_accepted_and_goes_when_kafka_has_it() {
    let (kafka, disk) = (ScriptedProducer::new(TOPIC, 1), ScriptedStorage::durable());
    let batcher = builder(&kafka, config(journaled())).storage(disk.clone()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    for number in numbers(0..20) {
        collector.add(number).await.unwrap();
    }
    let receipt = collector.add_with_receipt("20").await.unwrap();
    assert!(matches!(within(receipt).await, Some(Outcome::Delivered { .. })));
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.accepted, report.delivered, report.stored), (21, 21, 0), "{report:?}");
    assert_eq!(kafka.values(TOPIC, 0), numbers(0..21));
    assert!(disk.is_empty(TOPIC).await.unwrap(), "what Kafka has need not be kept");
}

#[tokio::test]
async fn a_shutdown_is_not_over_before_storage_has_forgotten_what_kafka_has() {
    let (kafka, disk) = (ScriptedProducer::new(TOPIC, 1), ScriptedStorage::durable());
    disk.always(Call::Acknowledge, StorageStep::Delay(ms(300)));
    let batcher = builder(&kafka, config(journaled())).storage(disk.clone()).build().unwrap();
    batcher.collector(TOPIC).unwrap().add_events(numbers(0..5)).await.unwrap();
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!(report.delivered, 5, "{report:?}");
    assert!(disk.is_empty(TOPIC).await.unwrap(), "the next batcher would send it again");
}

#[tokio::test]
async fn a_storage_that_never_forgets_does_not_keep_it_from_ending() {
    let (kafka, disk) = (ScriptedProducer::new(TOPIC, 1), ScriptedStorage::durable());
    disk.always(Call::Acknowledge, StorageStep::Hang);
    let batcher = builder(&kafka, config(journaled())).storage(disk.clone()).build().unwrap();
    batcher.collector(TOPIC).unwrap().add_events(numbers(0..5)).await.unwrap();
    let report = within(batcher.shutdown(ms(5000))).await.unwrap();
    assert_eq!(report.delivered, 5, "{report:?}");
}

#[tokio::test]
async fn what_was_accepted_survives_a_process_that_is_just_gone() {
    let disk = ScriptedStorage::durable();
    {
        // Kafka never answers; and nobody ends the batcher as it should be.
        let kafka = ScriptedProducer::new(TOPIC, 1);
        kafka.set_up(false);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn({
            let disk = disk.clone();
            move || {
                runtime.block_on(async {
                    let batcher = builder(&kafka, config(journaled())).storage(disk).build().unwrap();
                    let collector = batcher.collector(TOPIC).unwrap();
                    assert_eq!(collector.add_events(numbers(0..500)).await.unwrap(), 500);
                    std::mem::forget(batcher);
                });
                runtime.shutdown_background();
            }
        });
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    }
    let kafka = ScriptedProducer::new(TOPIC, 1);
    let batcher = builder(&kafka, config(journaled())).storage(disk.clone()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("500").await.unwrap();
    until("all of it is delivered", || kafka.values(TOPIC, 0).len() == 501).await;
    assert_eq!(kafka.values(TOPIC, 0), numbers(0..501));
    let report = batcher.shutdown(ms(5000)).await;
    assert!(report.is_complete(), "{report:?}");
}

#[tokio::test]
async fn while_the_journal_is_full_add_waits_and_at_the_end_it_gives_the_event_back() {
    let (kafka, disk) = (ScriptedProducer::new(TOPIC, 1), ScriptedStorage::durable());
    let batcher = builder(&kafka, config(journaled())).storage(disk.clone()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    let receipt = collector.add_with_receipt("0").await.unwrap();
    assert!(matches!(within(receipt).await, Some(Outcome::Delivered { .. })));
    disk.script(Call::Append, vec![StorageStep::Full; 1000]);
    let waiting = tokio::spawn({
        let collector = collector.clone();
        async move { collector.add("1").await }
    });
    tokio::time::sleep(ms(50)).await;
    assert!(!waiting.is_finished());
    let report = batcher.shutdown(ms(50)).await;
    let error = within(waiting).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error.kind, AddErrorKind::Journal(_)), "{error}");
    assert_eq!(error.event, "1");
    assert_eq!((report.accepted, report.delivered, report.lost), (1, 1, 0), "{report:?}");
}

#[tokio::test]
async fn try_add_says_that_it_cannot_wait_for_a_journal() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    let disk = ScriptedStorage::durable();
    let batcher = builder(&kafka, config(journaled())).storage(disk).build().unwrap();
    let error = batcher.collector(TOPIC).unwrap().try_add("a").unwrap_err();
    assert!(matches!(error.kind, AddErrorKind::NeedsJournal));
}

#[tokio::test]
async fn a_journal_in_memory_is_refused() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    let error = builder(&kafka, config(journaled())).build().unwrap_err();
    assert!(matches!(error, BuildError::JournalNeedsStorage { .. }), "{error}");
}

#[tokio::test]
async fn what_was_routed_and_finds_no_room_at_the_end_stays_where_it_was() {
    let (kafka, disk) = (ScriptedProducer::new(TOPIC, 2), ScriptedStorage::durable());
    kafka.set_up(false);
    let by_key = || journaled().partition_strategy(PartitionStrategy::Murmur2);
    let batcher = builder(&kafka, config(by_key())).storage(disk.clone()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    let receipt = collector.add_with_receipt(("0", "0")).await.unwrap();
    for i in 1..20 {
        collector.add((i.to_string(), i.to_string())).await.unwrap();
    }
    assert_eq!(disk.records(&LaneId::unassigned(TOPIC)).await.len(), 20);
    let before = disk.calls(Call::Append);
    disk.always(Call::Append, StorageStep::Full);
    kafka.set_up(true);
    until("it is routed, and refused", || disk.calls(Call::Append) > before).await;
    let report = batcher.shutdown(ms(50)).await;
    assert_eq!((report.accepted, report.stored, report.lost), (20, 20, 0), "{report:?}");
    assert!(report.is_complete());
    assert_eq!(within(receipt).await, Some(Outcome::Stored));

    disk.always(Call::Append, StorageStep::Pass);
    kafka.reopen();
    let batcher = builder(&kafka, config(by_key())).storage(disk.clone()).build().unwrap();
    kafka.wait_for(TOPIC, 20).await;
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.delivered, report.lost, report.stored), (20, 0, 0), "{report:?}");
}
