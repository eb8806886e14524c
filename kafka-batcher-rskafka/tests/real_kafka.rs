//! The same against real Kafka, and what the embedded broker can't do. Needs `KAFKA_BATCHER_BOOTSTRAP`.

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::*;
use kafka_batcher_core::config::{Compression, KafkaConfig, TopicSettings};
use kafka_batcher_core::{
    Batch, Delivered, ErrorKind, Failed, Persistence, ProduceFailure, ProduceRequest, Producer, Record,
    TopicConfig,
};
use kafka_batcher_rskafka::RskafkaProducer;

struct Real {
    bootstrap: String,
    topic: Arc<TopicConfig>,
    producer: RskafkaProducer,
}

impl Real {
    /// A producer and a new topic with 2 partitions.
    async fn new(test: &str, change: impl FnOnce(TopicSettings) -> TopicSettings) -> Option<Self> {
        let bootstrap = real_kafka(test)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        let settings = TopicSettings::new(format!("rskafka-{test}-{now}")).new_topic_partitions(2);
        let config = KafkaConfig::new(bootstrap.as_str()).with_topic(change(settings)).produce_timeout(LONG);
        let topic = Arc::new(config.topics().unwrap().remove(0));
        let producer = RskafkaProducer::new(&config).unwrap();
        producer.connect(LONG).await.unwrap();
        producer.create_topic(&topic, LONG).await.unwrap();
        Some(Self { bootstrap, topic, producer })
    }

    async fn produce(&self, partition: u32, batch: Batch) -> Result<Delivered, ProduceFailure> {
        let request = ProduceRequest::new(Arc::clone(&self.topic), partition, batch);
        self.producer.produce(&request, LONG).await
    }

    async fn values(&self) -> Vec<String> {
        let records = read(&self.bootstrap, &self.topic.topic_name).await;
        records.into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap()).collect()
    }
}

#[tokio::test]
async fn real_kafka_takes_every_kind_of_record() {
    let Some(real) = Real::new("real_kafka_takes_every_kind_of_record", |t| t).await else { return };
    let records = every_kind();
    assert_eq!(real.produce(1, batch(records.clone())).await.unwrap().base_offset, Some(0));
    let read = read(&real.bootstrap, &real.topic.topic_name).await;
    assert_same(&read, &records, 1);
}

#[tokio::test]
async fn real_kafka_keeps_order_and_counts() {
    let Some(real) = Real::new("real_kafka_keeps_order_and_counts", |t| t).await else { return };
    let mut sent = 0;
    for count in [1, 3000, 1, 999, 1000, 1001, 20_000] {
        assert_eq!(real.produce(0, numbered(sent, count)).await.unwrap().base_offset, Some(sent as i64));
        sent += count;
    }
    let expected: Vec<_> = (0..sent).map(|n| n.to_string()).collect();
    assert!(real.values().await == expected, "lost, doubled or reordered");
}

#[tokio::test]
async fn real_kafka_keeps_order_from_the_first_record_of_a_topic_on() {
    for _ in 0..20 {
        let Some(real) = Real::new("real_kafka_keeps_order_from_the_first_record_of_a_topic_on", |t| t).await
        else {
            return;
        };
        // Leaders of a topic just made refuse at first, and it is luck whether the first request or the second.
        for partition in 0..2 {
            let delivered = real.produce(partition, numbered(0, 2000)).await.unwrap();
            assert_eq!(delivered.base_offset, Some(0), "{:?}", real.values().await);
        }
    }
}

#[tokio::test]
async fn real_kafka_creates_a_topic_once() {
    let Some(real) = Real::new("real_kafka_creates_a_topic_once", |t| t).await else { return };
    real.producer.create_topic(&real.topic, LONG).await.unwrap();
    assert_eq!(real.producer.partition_count(&real.topic.topic_name, LONG).await.unwrap().get(), 2);
}

#[tokio::test]
async fn real_kafka_gets_no_topic_by_asking() {
    let Some(real) = Real::new("real_kafka_gets_no_topic_by_asking", |t| t).await else { return };
    let missing = format!("{}-missing", real.topic.topic_name);
    for _ in 0..2 {
        let error = real.producer.partition_count(&missing, LONG).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
        let failure = real.producer.produce(&request(&missing, 0, numbered(0, 3)), LONG).await.unwrap_err();
        assert_eq!(failure.error.kind(), ErrorKind::UnknownTopic, "{failure}");
        assert_eq!((failure.persistence, failure.failed), (Persistence::NotPersisted, Failed::All));
    }
}

#[tokio::test]
async fn real_kafka_refuses_what_is_too_large() {
    // The default of Kafka's message.max.bytes is 1,048,588.
    let large = |t: TopicSettings| t.max_batch_bytesize(3_000_000);
    let Some(real) = Real::new("real_kafka_refuses_what_is_too_large", large).await else { return };
    let failure = real.produce(0, batch([Record::new(vec![b'x'; 1_500_000])])).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::TooLarge, "{failure}");
    assert_eq!((failure.persistence, failure.failed), (Persistence::NotPersisted, Failed::All));
    assert_eq!(real.produce(0, numbered(0, 3)).await.unwrap().base_offset, Some(0));
}

#[tokio::test]
async fn real_kafka_takes_all_compressions() {
    if real_kafka("real_kafka_takes_all_compressions").is_none() {
        return;
    }
    let mut compressions = vec![Compression::None];
    compressions.extend(cfg!(feature = "gzip").then_some(Compression::Gzip));
    compressions.extend(cfg!(feature = "snappy").then_some(Compression::Snappy));
    compressions.extend(cfg!(feature = "lz4").then_some(Compression::Lz4));
    compressions.extend(cfg!(feature = "zstd").then_some(Compression::Zstd));
    for compression in compressions {
        let change = |t: TopicSettings| t.compression(compression);
        let Some(real) = Real::new("compression", change).await else { return };
        let delivered = real.produce(1, numbered(0, 1000)).await.unwrap();
        assert_eq!(delivered.base_offset, Some(0), "{compression:?}");
        let expected: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
        assert_eq!(real.values().await, expected, "{compression:?}");
    }
}

#[tokio::test]
async fn real_kafka_gives_a_new_topic_its_own_defaults() {
    let Some(bootstrap) = real_kafka("real_kafka_gives_a_new_topic_its_own_defaults") else { return };
    let producer = RskafkaProducer::new(&KafkaConfig::new(bootstrap)).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    // Neither partitions nor replicas are given.
    let topic = topic(TopicSettings::new(format!("rskafka-defaults-{now}")));
    producer.create_topic(&topic, LONG).await.unwrap();
    assert!(producer.partition_count(&topic.topic_name, LONG).await.unwrap().get() >= 1);
}

#[tokio::test]
async fn real_kafka_refuses_what_it_can_t_create() {
    let Some(bootstrap) = real_kafka("real_kafka_refuses_what_it_can_t_create") else { return };
    let producer = RskafkaProducer::new(&KafkaConfig::new(bootstrap)).unwrap();
    let topic = topic(TopicSettings::new("rskafka-replicas").new_topic_replication(100));
    let timeout = Duration::from_secs(3);
    let error = producer.create_topic(&topic, timeout).await.unwrap_err();
    assert!(error.to_string().contains("InvalidReplicationFactor"), "{error}");
}
