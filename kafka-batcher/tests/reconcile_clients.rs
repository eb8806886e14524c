//! `reconcile = true` with real clients: the answer to a batch is lost on its way, and the log has no event twice.
#![cfg(feature = "rskafka")]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kafka_batcher::{KafkaBatcher, KafkaConfig, Producer, TopicSettings};
use kafka_batcher_testkit::proxy::{FaultProxy, Swallow};
use kafka_batcher_testkit::target::Target;
use support::*;

const LONG: Duration = Duration::from_secs(30);

/// Delivers one event, loses the answer to the next batch, and lets everything through from then on. What is in the log.
async fn after_a_lost_answer(
    test: &str,
    reconcile: bool,
    make: impl FnOnce(&KafkaConfig) -> Arc<dyn Producer>,
) -> Vec<String> {
    let target = Target::new("plaintext", std::env::var("KAFKA_BATCHER_BOOTSTRAP").ok(), None).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let topic = format!("reconcile-{test}-{now}");
    target.create_topic(&topic, 1).await.unwrap();
    let proxy = FaultProxy::start(target.bootstrap()).unwrap();
    let config = KafkaConfig::new(proxy.bootstrap())
        .retry_backoff(ms(5))
        .recheck_interval(ms(40))
        .produce_timeout(ms(1500))
        .with_topic(
            TopicSettings::new(topic.as_str()).batch_size(30).max_wait_time(ms(20)).reconcile(reconcile),
        );
    let producer = make(&config);
    let batcher = KafkaBatcher::builder().config(config).shared_producer(producer).build().unwrap();
    let collector = batcher.collector(&topic).unwrap();
    within(collector.add_with_receipt("0").await.unwrap()).await.unwrap();
    proxy.swallow(Swallow::Produce);
    for number in numbers(1..31) {
        collector.add(number).await.unwrap();
    }
    let lost = proxy.wait_for(|counts| counts.swallowed > 0);
    tokio::time::timeout(LONG, lost).await.expect("an answer is lost");
    proxy.heal();
    let report = batcher.shutdown(LONG).await;
    assert_eq!((report.accepted, report.delivered, report.lost), (31, 31, 0), "{report:?}");
    let read = target.read(&topic, LONG).await.unwrap();
    read.into_iter().map(|record| String::from_utf8(record.value.unwrap()).unwrap()).collect()
}

mod rskafka {
    use super::*;

    fn make(config: &KafkaConfig) -> Arc<dyn Producer> {
        Arc::new(kafka_batcher::rskafka::RskafkaProducer::new(config).unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lost_answer_leaves_no_duplicate() {
        assert_eq!(after_a_lost_answer("rskafka", true, make).await, numbers(0..31));
    }

    /// Without it the batch is there twice: the test above can fail.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_it_a_lost_answer_leaves_duplicates() {
        let values = after_a_lost_answer("rskafka", false, make).await;
        let mut seen = std::collections::BTreeSet::new();
        let firsts: Vec<_> = values.iter().filter(|value| seen.insert(value.as_str())).cloned().collect();
        assert!(values.len() > 31 && firsts == numbers(0..31), "{values:?}");
    }
}
