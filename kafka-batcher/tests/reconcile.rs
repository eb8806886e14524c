//! `reconcile = true`: what Kafka has already is not sent again.

mod support;

use kafka_batcher::{BuildError, Durability, ErrorKind, Outcome, TempStorage, TopicSettings};
use kafka_batcher_testkit::scripted::{Call, ScriptedProducer, ScriptedStorage, Step, StorageStep};
use support::*;

fn reconciling() -> TopicSettings {
    topic().reconcile(true)
}

#[tokio::test]
async fn a_lost_answer_leaves_no_duplicate() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    kafka.script([Step::LoseAnswer]);
    let batcher = builder(&kafka, config(reconciling())).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    let mut receipts = Vec::new();
    for number in numbers(0..30) {
        receipts.push(collector.add_with_receipt(number).await.unwrap());
    }
    for (number, receipt) in (0..).zip(receipts) {
        let outcome = within(receipt).await;
        assert_eq!(outcome, Some(Outcome::Delivered { partition: 0, offset: Some(number) }));
    }
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.accepted, report.delivered, report.maybe_duplicated), (30, 30, 0), "{report:?}");
    assert_eq!(kafka.values(TOPIC, 0), numbers(0..30));
    assert_eq!(kafka.searches(), 1);
}

/// Without it the batch is there twice: the test above can fail.
#[tokio::test]
async fn without_it_a_lost_answer_leaves_a_duplicate() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    kafka.script([Step::LoseAnswer]);
    let batcher = builder(&kafka, config(topic())).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("0").await.unwrap();
    kafka.wait_for(TOPIC, 2).await;
    assert!(batcher.shutdown(ms(5000)).await.is_complete());
    assert_eq!((kafka.values(TOPIC, 0), kafka.searches()), (vec!["0".to_owned(); 2], 0));
}

/// A process that ends between Kafka's answer and the note of it leaves what the next one would send again.
#[tokio::test]
async fn what_was_delivered_and_not_forgotten_is_not_sent_by_the_next_process() {
    let (kafka, disk) = (ScriptedProducer::new(TOPIC, 3), ScriptedStorage::durable());
    let settings = || reconciling().durability(Durability::Journal);
    for round in 0..4 {
        kafka.reopen();
        disk.always(Call::Acknowledge, StorageStep::Fail);
        let batcher = builder(&kafka, config(settings())).storage(disk.clone()).build().unwrap();
        let collector = batcher.collector(TOPIC).unwrap();
        for number in numbers(round * 50..(round + 1) * 50) {
            collector.add(number).await.unwrap();
        }
        let report = batcher.shutdown(ms(5000)).await;
        assert_eq!(report.lost, 0, "{report:?}");
        assert!(!disk.is_empty(TOPIC).await.unwrap(), "nothing was forgotten");
    }
    let mut values: Vec<u32> = kafka.all_values(TOPIC).iter().map(|value| value.parse().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn where_the_log_can_t_be_searched_it_is_at_least_once() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    kafka.script([Step::LoseAnswer]);
    kafka.fail_searches([ErrorKind::Denied]);
    let batcher = builder(&kafka, config(reconciling())).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("0").await.unwrap();
    kafka.wait_for(TOPIC, 2).await;
    let report = batcher.shutdown(ms(5000)).await;
    assert_eq!((report.delivered, report.maybe_duplicated), (1, 1), "{report:?}");
}

#[tokio::test]
async fn it_takes_a_producer_that_can_search() {
    let kafka = ScriptedProducer::new(TOPIC, 1);
    kafka.set_searchable(false);
    let error = builder(&kafka, config(reconciling())).build().unwrap_err();
    assert!(matches!(&error, BuildError::ReconcileNeedsSearch { topic } if topic == TOPIC), "{error}");
}
