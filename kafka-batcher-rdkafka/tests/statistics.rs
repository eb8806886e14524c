//! What librdkafka says of itself reaches whoever asks.

mod common;

use std::time::{Duration, Instant};

use common::*;
use kafka_batcher_core::config::{KafkaConfig, TopicSettings};
use kafka_batcher_core::{ProduceRequest, Producer};
use kafka_batcher_rdkafka::RdkafkaProducer;
use kafka_batcher_testkit::embedded::EmbeddedBroker;

#[tokio::test]
async fn queue_connections_and_round_trips_are_told_by_broker() {
    let broker = EmbeddedBroker::start(1).unwrap();
    broker.create_topic("t", 1).unwrap();
    let config = KafkaConfig::new(broker.bootstrap()).with_topic(TopicSettings::new("t"));
    let producer = RdkafkaProducer::with_statistics(&config, Duration::from_millis(50)).unwrap();
    assert_eq!(producer.statistics(), None, "there is no client yet");
    producer.connect(LONG).await.unwrap();
    let topic = topic(TopicSettings::new("t"));
    let began = Instant::now();
    for round in 0.. {
        let request = ProduceRequest::new(topic.clone(), 0, numbered(round, 1));
        producer.produce(&request, LONG).await.unwrap();
        let statistics = producer.statistics().unwrap_or_default();
        let told = statistics
            .brokers
            .iter()
            .find(|broker| broker.up && broker.connects > 0 && broker.round_trip.max > Duration::ZERO);
        if told.is_some_and(|broker| broker.id > 0 && broker.sent_bytes > 0 && broker.received_bytes > 0) {
            break;
        }
        assert!(began.elapsed() < LONG, "{statistics:?}");
    }
    producer.close(LONG).await;
    let last = producer.statistics().unwrap();
    assert!(last.brokers.iter().any(|broker| broker.sent_bytes > 0), "what was counted stays: {last:?}");
}

#[tokio::test]
async fn nobody_asks_for_statistics_unless_told_to_and_the_application_s_property_goes_first() {
    let broker = EmbeddedBroker::start(1).unwrap();
    broker.create_topic("t", 1).unwrap();
    let config = KafkaConfig::new(broker.bootstrap()).with_topic(TopicSettings::new("t"));
    let off = config.clone().property("statistics.interval.ms", "0");
    let quiet = [
        RdkafkaProducer::new(&config).unwrap(),
        RdkafkaProducer::with_statistics(&off, Duration::from_millis(10)).unwrap(),
    ];
    let loud = RdkafkaProducer::new(&config.property("statistics.interval.ms", "10")).unwrap();
    for producer in quiet.iter().chain([&loud]) {
        producer.connect(LONG).await.unwrap();
    }
    let began = Instant::now();
    // By then the others would have said something, too.
    while loud.statistics().is_none() {
        assert!(began.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(quiet.iter().all(|producer| producer.statistics().is_none()));
}
