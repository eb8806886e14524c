//! Records that Kafka will never take: to the dead-letter topic, and if it can't be, to the fallback.

mod support;

use std::sync::Arc;

use kafka_batcher::core::DeadRecord;
use kafka_batcher::core::dead_letter::topic as headers;
use kafka_batcher::core::partition::hash::murmur2;
use kafka_batcher::{
    ErrorKind, KafkaBatcher, MemoryDeadLetters, PartitionStrategy, Record, TopicSettings, What,
};
use kafka_batcher_storage_sled::{SledOptions, SledStorage};
use kafka_batcher_testkit::scripted::{ScriptedProducer, Step};
use support::*;

const DEAD: &str = "dead";

fn with_dead_letter_topic() -> TopicSettings {
    topic().batch_size(1).dead_letter_topic(DEAD)
}

/// A Kafka with the topic and its dead-letter topic, of two partitions each.
fn kafka() -> ScriptedProducer {
    let kafka = ScriptedProducer::new(TOPIC, 2);
    kafka.set_partitions(DEAD, 2);
    kafka
}

/// What was sent to the dead-letter topic.
fn sent(kafka: &ScriptedProducer) -> Vec<Record> {
    (0..2).flat_map(|partition| kafka.log(DEAD, partition)).collect()
}

fn header(record: &Record, name: &str) -> Option<String> {
    let value = record.headers.iter().find(|header| header.name == name)?.value?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

fn value(dead: &DeadRecord) -> &[u8] {
    dead.record.value.as_deref().unwrap_or_default()
}

struct Run {
    batcher: KafkaBatcher,
    fallback: Arc<MemoryDeadLetters>,
    reports: Reports,
}

fn run(kafka: &ScriptedProducer, topic: TopicSettings) -> Run {
    let (fallback, reports) = (Arc::new(MemoryDeadLetters::default()), Reports::default());
    let batcher = builder(kafka, config(topic))
        .shared_dead_letter(fallback.clone())
        .notifier(reports.notifier())
        .build()
        .unwrap();
    Run { batcher, fallback, reports }
}

impl Run {
    /// Adds an event and waits until it has come to its end.
    async fn add(&self, event: Record) {
        let receipt = self.batcher.collector(TOPIC).unwrap().add_with_receipt(event).await.unwrap();
        assert!(within(receipt).await.is_some());
    }
}

#[tokio::test]
async fn a_poison_record_goes_to_the_dead_letter_topic_with_what_is_known_of_it() {
    let kafka = kafka();
    kafka.script([Step::Refuse(ErrorKind::Transient), Step::Refuse(ErrorKind::Permanent)]);
    let run = run(&kafka, with_dead_letter_topic().partition_strategy(PartitionStrategy::Murmur2));
    let event = Record::new("poison").with_key("k").with_header("a", "1").with_timestamp(1234);
    run.add(event).await;
    let of = murmur2(b"k", 2.try_into().unwrap());
    let [dead] = &kafka.log(DEAD, of)[..] else { panic!("{:?}", kafka.log(DEAD, of)) };
    assert_eq!((dead.key.as_deref(), dead.value.as_deref()), (Some(&b"k"[..]), Some(&b"poison"[..])));
    assert_eq!(header(dead, "a").as_deref(), Some("1"));
    assert_eq!(header(dead, headers::TOPIC).as_deref(), Some(TOPIC));
    assert_eq!(header(dead, headers::PARTITION), Some(of.to_string()));
    assert_eq!(header(dead, headers::TIMESTAMP).as_deref(), Some("1234"));
    assert_eq!(header(dead, headers::KIND).as_deref(), Some("permanent"));
    assert_eq!(header(dead, headers::ERROR).as_deref(), Some("scripted: permanent"));
    assert!(header(dead, headers::INSTANCE).is_some_and(|id| id.len() == 32));
    assert!(
        header(dead, headers::ATTEMPTS).is_some_and(|n| n == "1" || n == "2"),
        "in memory, or stored between"
    );
    let at = header(dead, headers::AT).unwrap().parse::<i64>().unwrap();
    assert!(at > 1_700_000_000_000 && dead.timestamp == Some(at), "{at}, {:?}", dead.timestamp);
    assert!(run.fallback.take().is_empty());
    let report = run.batcher.shutdown(ms(5000)).await;
    assert_eq!((report.accepted, report.dead_lettered), (1, 1), "{report:?}");
    assert!(report.is_complete());
}

#[tokio::test]
async fn a_record_that_has_no_partition_names_none() {
    let kafka = kafka();
    kafka.set_up(false);
    let nowhere = PartitionStrategy::function(|_, partitions, _, _| partitions);
    let run = run(&kafka, with_dead_letter_topic().partition_strategy(nowhere));
    let receipt = run.batcher.collector(TOPIC).unwrap().add_with_receipt("lost").await.unwrap();
    kafka.set_up(true);
    assert!(within(receipt).await.is_some());
    let [dead] = &sent(&kafka)[..] else { panic!("{:?}", sent(&kafka)) };
    assert_eq!(header(dead, headers::PARTITION), None);
    assert_eq!(header(dead, headers::KIND).as_deref(), Some("permanent"));
}

#[tokio::test]
async fn what_the_dead_letter_topic_does_not_take_goes_to_the_fallback() {
    use ErrorKind::{Denied, Permanent, TooLarge, Transient, UnknownTopic};
    for refusal in [Transient, Denied, UnknownTopic, TooLarge, Permanent] {
        let kafka = kafka();
        kafka.script([Step::Refuse(Permanent), Step::Refuse(refusal)]);
        let run = run(&kafka, with_dead_letter_topic());
        run.add(Record::new("a")).await;
        let kept = run.fallback.take();
        assert_eq!(kept.iter().map(value).collect::<Vec<_>>(), [b"a"], "{refusal}");
        assert_eq!((kept[0].kind, kept[0].attempts), (Permanent, 1), "why Kafka did not take it");
        assert!(kept[0].at.is_some());
        assert!(sent(&kafka).is_empty(), "{refusal}");
        let told = |what: What| run.reports.all().iter().any(|report| report.what == what);
        until("it is reported", || told(What::DeadLetterTopicFailed(refusal))).await;
        until("it is reported", || told(What::DeadLettered(Permanent))).await;
    }
}

#[tokio::test]
async fn a_dead_letter_topic_that_is_not_there_is_tried_again_when_it_is() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    let run = run(&kafka, with_dead_letter_topic());
    kafka.script([Step::Refuse(ErrorKind::Permanent)]);
    run.add(Record::new("early")).await;
    assert_eq!(run.fallback.take().iter().map(value).collect::<Vec<_>>(), [b"early"]);
    kafka.set_partitions(DEAD, 2);
    tokio::time::sleep(ms(50)).await; // longer than recheck_interval
    kafka.script([Step::Refuse(ErrorKind::Permanent)]);
    run.add(Record::new("late")).await;
    assert_eq!(sent(&kafka)[0].value.as_deref(), Some(&b"late"[..]));
    assert!(run.fallback.take().is_empty());
}

#[tokio::test]
async fn a_dead_letter_topic_is_made_where_that_is_allowed() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    kafka.script([Step::Refuse(ErrorKind::Permanent)]);
    let run = run(&kafka, with_dead_letter_topic().allow_topic_auto_creation(true).new_topic_partitions(2));
    run.add(Record::new("a")).await;
    assert_eq!(sent(&kafka).len(), 1);
}

#[tokio::test]
async fn a_dead_letter_that_gets_no_answer_in_time_goes_to_the_fallback() {
    let kafka = kafka();
    kafka.script([Step::Refuse(ErrorKind::Permanent), Step::LoseAnswer]);
    let run = run(&kafka, with_dead_letter_topic());
    run.add(Record::new("a")).await;
    // It may be in both, and is at least in one.
    assert_eq!((sent(&kafka).len(), run.fallback.take().len()), (1, 1));
}

#[tokio::test]
async fn without_a_topic_they_go_to_the_area_that_the_storage_has_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(SledStorage::open(SledOptions::new(folder.path().join("spool"))).unwrap());
    let kafka = kafka();
    kafka.script([Step::Refuse(ErrorKind::Permanent)]);
    let batcher =
        builder(&kafka, config(topic().batch_size(1))).shared_storage(storage.clone()).build().unwrap();
    let receipt = batcher.collector(TOPIC).unwrap().add_with_receipt("a").await.unwrap();
    assert!(within(receipt).await.is_some());
    let (_, dead, _) = storage.next_dead_letter(None).await.unwrap().unwrap();
    assert_eq!((value(&dead), dead.kind, dead.attempts), (&b"a"[..], ErrorKind::Permanent, 1));
    assert!(dead.at.is_some() && dead.record.timestamp.is_some());
}
