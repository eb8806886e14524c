//! Events that are too old to be sent, and the pace of replay.

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kafka_batcher::core::dead_letter::topic as headers;
use kafka_batcher::{ErrorKind, MemoryDeadLetters, Outcome, Record, TopicSettings, What};
use kafka_batcher_storage_sled::{SledOptions, SledStorage};
use kafka_batcher_testkit::scripted::{ScriptedProducer, Step};
use support::*;

const HOUR: u64 = 3_600_000;

fn limited() -> TopicSettings {
    topic().max_age(ms(HOUR))
}

/// An event that is so many milliseconds old.
fn aged(value: &str, millis: u64) -> Record {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    Record::new(value.to_owned()).with_timestamp(i64::try_from(now).unwrap() - i64::try_from(millis).unwrap())
}

#[tokio::test]
async fn while_kafka_is_away_what_is_too_old_goes_to_the_dead_letters_and_the_rest_waits() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    kafka.set_up(false);
    let (dead, reports) = (Arc::new(MemoryDeadLetters::default()), Reports::default());
    let batcher = builder(&kafka, config(limited().batch_size(1)))
        .shared_dead_letter(dead.clone())
        .notifier(reports.notifier())
        .build()
        .unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    let old = collector.add_with_receipt(aged("old", HOUR + 1)).await.unwrap();
    until("it is stored", || batcher.stats().stored == 1 || batcher.stats().dead_lettered == 1).await;
    let young = collector.add_with_receipt(aged("young", 0)).await.unwrap();
    assert_eq!(within(old).await, Some(Outcome::DeadLettered(ErrorKind::Expired)));
    let kept = dead.take();
    assert_eq!((kept.len(), kept[0].kind, kept[0].attempts), (1, ErrorKind::Expired, 0));
    assert!(kept[0].error.ends_with("old, max_age is 3600s"), "{}", kept[0].error);
    let told = |report: &kafka_batcher::Report| report.what == What::DeadLettered(ErrorKind::Expired);
    until("it is reported", || reports.all().iter().any(told)).await;
    kafka.set_up(true);
    assert!(matches!(within(young).await, Some(Outcome::Delivered { .. })));
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.accepted, report.delivered, report.dead_lettered), (2, 1, 1), "{report:?}");
    assert_eq!((report.lost, report.stored, report.in_memory), (0, 0, 0), "{report:?}");
    assert_eq!(kafka.values(TOPIC, 0), ["young"]);
}

/// Only the wall clock knows how long the process was away.
#[tokio::test]
async fn what_grew_too_old_between_two_processes_goes_to_the_dead_letter_topic_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let open = || SledStorage::open(SledOptions::new(folder.path().join("spool")));
    let kafka = ScriptedProducer::new(TOPIC, 1);
    kafka.set_up(false);
    let former = builder(&kafka, config(topic())).storage(open().unwrap()).build().unwrap();
    let collector = former.collector(TOPIC).unwrap();
    for n in 0..400 {
        let age = if n % 4 == 3 { 0 } else { HOUR + 1 };
        collector.add(aged(&n.to_string(), age)).await.unwrap();
    }
    assert_eq!(former.shutdown(ms(20)).await.stored, 400);
    drop(collector);
    let mut storage = None;
    until("the spool is free", || {
        storage = open().ok();
        storage.is_some()
    })
    .await;

    let kafka = ScriptedProducer::new(TOPIC, 1);
    kafka.set_partitions("dead", 1);
    let settings = limited().dead_letter_topic("dead");
    let batcher = builder(&kafka, config(settings)).storage(storage.unwrap()).build().unwrap();
    until("all have come to their end", || {
        let stats = batcher.stats();
        stats.delivered + stats.dead_lettered == 400
    })
    .await;
    let snapshot = batcher.snapshot().await;
    let totals = snapshot.topics[0].totals;
    assert_eq!((totals.found, totals.delivered, totals.dead_lettered), (400, 100, 300), "{totals:?}");
    let wanted = |dead: bool| (0..400).filter(move |n| dead != (n % 4 == 3)).map(|n| n.to_string());
    assert_eq!(kafka.values(TOPIC, 0), wanted(false).collect::<Vec<_>>());
    assert_eq!(kafka.values("dead", 0), wanted(true).collect::<Vec<_>>());
    let record = &kafka.log("dead", 0)[0];
    let kind = record.headers.iter().find(|header| header.name == headers::KIND).and_then(|h| h.value);
    assert_eq!(kind, Some(&b"expired"[..]));
    assert!(kafka.calls().len() < 50, "they are sent in batches: {} calls", kafka.calls().len());
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.stored, report.lost), (0, 0), "{report:?}");
}

#[tokio::test]
async fn one_that_the_dead_letter_topic_can_never_take_does_not_keep_the_others_from_it() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    kafka.set_partitions("dead", 1);
    kafka.set_up(false);
    let fallback = Arc::new(MemoryDeadLetters::default());
    let settings = limited().dead_letter_topic("dead").collect_by_partition(true);
    let batcher = builder(&kafka, config(settings)).shared_dead_letter(fallback.clone()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    let receipts = [
        collector.add_with_receipt(aged("a", 2 * HOUR)).await.unwrap(),
        collector.add_with_receipt(aged("b", 2 * HOUR)).await.unwrap(),
    ];
    // The batch of both, then a alone.
    kafka.script([Step::Refuse(ErrorKind::Permanent), Step::Refuse(ErrorKind::TooLarge)]);
    kafka.set_up(true);
    for receipt in receipts {
        assert_eq!(within(receipt).await, Some(Outcome::DeadLettered(ErrorKind::Expired)));
    }
    let kept: Vec<_> = fallback.take().into_iter().filter_map(|dead| dead.record.value).collect();
    let mut all = kafka.values("dead", 0);
    all.extend(kept.iter().map(|value| String::from_utf8_lossy(value).into_owned()));
    all.sort();
    assert_eq!(all, ["a", "b"], "each in one place");
}

#[tokio::test]
async fn what_was_stored_is_sent_no_faster_than_is_set() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    kafka.set_up(false);
    let settings = topic().batch_size(1).max_batch_bytesize(200);
    let rate = NonZeroU32::new(100).unwrap();
    let batcher = builder(&kafka, config(settings).replay_rate(rate)).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    let events: Vec<String> = (0..40).map(|n| format!("{n:040}")).collect();
    for event in &events {
        collector.add(event.clone()).await.unwrap();
    }
    until("all are stored", || batcher.stats().stored == 40).await;
    let start = Instant::now();
    kafka.set_up(true);
    kafka.wait_for(TOPIC, events.len()).await;
    // The first batch goes at once, and none is of more than four events.
    assert!(start.elapsed() >= ms(360), "{:?}", start.elapsed());
    assert_eq!(kafka.values(TOPIC, 0), events);
    until("it has caught up", || batcher.stats().stored == 0).await;
    assert_eq!(batcher.shutdown(ms(5000)).await.delivered, 40);
}
