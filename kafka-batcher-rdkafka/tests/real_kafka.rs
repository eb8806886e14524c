//! The same against real Kafka, and what the embedded broker can't do. Needs `KAFKA_BATCHER_BOOTSTRAP`.

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::*;
use kafka_batcher_core::config::{Compression, KafkaConfig, RequiredAcks, TopicSettings};
use kafka_batcher_core::{
    Batch, Delivered, ErrorKind, Failed, Persistence, ProduceFailure, ProduceRequest, Producer, Record,
    Search, TopicConfig,
};
use kafka_batcher_rdkafka::RdkafkaProducer;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

struct Real {
    bootstrap: String,
    topic: Arc<TopicConfig>,
    producer: RdkafkaProducer,
}

impl Real {
    /// A producer and a new topic with 2 partitions.
    async fn new(test: &str, change: impl FnOnce(TopicSettings) -> TopicSettings) -> Option<Self> {
        let bootstrap = real_kafka(test)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        let settings = TopicSettings::new(format!("rdkafka-{test}-{now}")).new_topic_partitions(2);
        let config = KafkaConfig::new(bootstrap.as_str()).with_topic(change(settings)).produce_timeout(LONG);
        let topic = Arc::new(config.topics().unwrap().remove(0));
        let producer = RdkafkaProducer::new(&config).unwrap();
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
async fn real_kafka_takes_all_acks_and_compressions() {
    let bootstrap = real_kafka("real_kafka_takes_all_acks_and_compressions");
    if bootstrap.is_none() {
        return;
    }
    let mut compressions = vec![Compression::None, Compression::Snappy, Compression::Lz4];
    compressions.extend(cfg!(feature = "libz").then_some(Compression::Gzip));
    compressions.extend(cfg!(feature = "zstd").then_some(Compression::Zstd));
    for compression in compressions {
        for acks in [RequiredAcks::All, RequiredAcks::Leader, RequiredAcks::None] {
            let change = |t: TopicSettings| t.compression(compression).required_acks(acks);
            let Some(real) = Real::new("acks-and-compression", change).await else { return };
            let delivered = real.produce(1, numbered(0, 1000)).await.unwrap();
            let base = (acks != RequiredAcks::None).then_some(0);
            assert_eq!(delivered.base_offset, base, "{compression:?} {acks:?} {:?}", real.values().await);
            let deadline = std::time::Instant::now() + LONG;
            while real.values().await.len() < 1000 {
                assert!(std::time::Instant::now() < deadline, "never there: {compression:?} {acks:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// While somebody else's transaction is open, consumers that want only what is committed see nothing behind its beginning.
#[tokio::test]
async fn real_kafka_is_searched_behind_an_open_transaction_and_behind_its_end() {
    let test = "real_kafka_is_searched_behind_an_open_transaction_and_behind_its_end";
    let Some(real) = Real::new(test, |t| t).await else { return };
    let name = real.topic.topic_name.to_string();
    let transactional: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &real.bootstrap)
        .set("transactional.id", &name)
        .create()
        .unwrap();
    let transactional = Arc::new(transactional);
    let with = |work: fn(&ThreadedProducer<DefaultProducerContext>, &str)| {
        let (transactional, name) = (Arc::clone(&transactional), name.clone());
        tokio::task::spawn_blocking(move || work(&transactional, &name))
    };
    with(|transactional, name| {
        transactional.init_transactions(LONG).unwrap();
        transactional.begin_transaction().unwrap();
        transactional.send(BaseRecord::<(), _>::to(name).partition(0).payload("other")).unwrap();
        transactional.flush(LONG).unwrap();
    })
    .await
    .unwrap();
    let marked = |mark: &str| batch([Record::new("v").with_header("mark", mark.to_owned())]);
    real.produce(0, marked("behind")).await.unwrap();
    let search = Search::new(name.as_str(), 0, "mark", ["behind", "missing"].map(str::as_bytes));
    let found = real.producer.search(&search, LONG).await.unwrap();
    assert_eq!(found.into_values().collect::<Vec<_>>(), [1]);
    // The log ends with a mark that is no record.
    with(|transactional, _| transactional.commit_transaction(LONG).unwrap()).await.unwrap();
    let found = real.producer.search(&search, LONG).await.unwrap();
    assert_eq!(found.into_values().collect::<Vec<_>>(), [1]);
}
