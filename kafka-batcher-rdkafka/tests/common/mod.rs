//! What the tests share.
#![allow(dead_code, unreachable_pub, reason = "every test file is a crate of its own and uses a part of it")]

pub mod ledger;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_batcher_core::config::{KafkaConfig, TopicConfig, TopicSettings};
use kafka_batcher_core::{
    Batch, BatchBuilder, Delivered, Persistence, ProduceFailure, ProduceRequest, Producer, Record,
};
use kafka_batcher_rdkafka::RdkafkaProducer;
use kafka_batcher_testkit::embedded::EmbeddedBroker;
use kafka_batcher_testkit::reader::{ReadRecord, read_topic};

pub use kafka_batcher_testkit::stopwatch::Stopwatch;

/// Time given to what should be quick.
pub const LONG: Duration = Duration::from_secs(20);
/// What a call may take beyond its timeout.
pub const GRACE: Duration = Duration::from_millis(500);

pub fn batch(records: impl IntoIterator<Item = Record>) -> Batch {
    let mut builder = BatchBuilder::new();
    for record in records {
        assert!(builder.push(&record.as_ref(), 1_700_000_000_000, None, usize::MAX));
    }
    builder.seal().expect("a record at least")
}

/// Records with the values `from..from + count` as text.
pub fn numbered(from: usize, count: usize) -> Batch {
    batch((from..from + count).map(|n| Record::new(n.to_string())))
}

/// Records with and without everything.
pub fn every_kind() -> Vec<Record> {
    let mut null_headers = Record::new("h");
    null_headers.headers.push("", None);
    null_headers.headers.push("x", Some(Bytes::new()));
    null_headers.headers.push("x", None);
    null_headers.headers.push("ä", Some(Bytes::from_static(b"\0\xff")));
    null_headers.headers.push("x", Some(Bytes::from_static(b"1")));
    vec![
        Record::new("value"),
        Record::new("value").with_key("key"),
        Record::new("").with_key(""),
        Record::tombstone("key"),
        Record::tombstone(""),
        Record::default(),
        Record::new("").with_timestamp(1),
        Record::new("v").with_key("k").with_timestamp(1_600_000_000_123),
        Record::new("v").with_header("trace", "a").with_header("trace", "b").with_header("", ""),
        null_headers,
        Record::new(vec![0xff; 70_000]).with_key(vec![0; 40_000]),
    ]
}

/// Checks that what was read is what was sent, to this partition and nothing else to the topic.
pub fn assert_same(read: &[ReadRecord], sent: &[Record], partition: i32) {
    assert_eq!(read.len(), sent.len());
    for (offset, (read, sent)) in (0..).zip(read.iter().zip(sent)) {
        assert_eq!((read.partition, read.offset), (partition, offset));
        assert_eq!(read.key.as_deref(), sent.key.as_deref(), "key at {offset}");
        assert_eq!(read.value.as_deref(), sent.value.as_deref(), "value at {offset}");
        assert_eq!(read.timestamp, sent.timestamp.or(Some(1_700_000_000_000)), "timestamp at {offset}");
        let headers: Vec<_> =
            sent.headers.iter().map(|h| (h.name.to_owned(), h.value.map(<[u8]>::to_vec))).collect();
        assert_eq!(read.headers, headers, "headers at {offset}");
    }
}

pub fn topic(settings: TopicSettings) -> Arc<TopicConfig> {
    let config = KafkaConfig::new("localhost:1").with_topic(settings);
    Arc::new(config.topics().expect("valid").remove(0))
}

pub fn request(name: &str, partition: u32, batch: Batch) -> ProduceRequest {
    ProduceRequest::new(topic(TopicSettings::new(name)), partition, batch)
}

/// One embedded broker, a topic `t` with 4 partitions, and a producer with this `produce_timeout`.
pub struct Setup {
    pub broker: EmbeddedBroker,
    pub producer: RdkafkaProducer,
    pub timeout: Duration,
}

impl Setup {
    pub fn new(timeout: Duration) -> Self {
        Self::with(timeout, |config| config)
    }

    pub fn with(timeout: Duration, change: impl FnOnce(KafkaConfig) -> KafkaConfig) -> Self {
        let broker = EmbeddedBroker::start(1).expect("embedded broker");
        broker.create_topic("t", 4).expect("topic");
        let config =
            KafkaConfig::new(broker.bootstrap()).with_topic(TopicSettings::new("t")).produce_timeout(timeout);
        let producer = RdkafkaProducer::new(&change(config)).expect("valid settings");
        Self { broker, producer, timeout }
    }

    /// Produces and checks that it took no longer than it may.
    pub async fn produce(&self, request: &ProduceRequest) -> Result<Delivered, ProduceFailure> {
        self.produce_within(request, self.timeout).await
    }

    pub async fn produce_within(
        &self,
        request: &ProduceRequest,
        timeout: Duration,
    ) -> Result<Delivered, ProduceFailure> {
        let watch = Stopwatch::start();
        let result = self.producer.produce(request, timeout).await;
        watch.assert_within(timeout + GRACE);
        result
    }

    /// Delivers one record, so that connections are up and metadata is known.
    pub async fn warm_up(&self, partition: u32) {
        let warm = request("t", partition, numbered(0, 1));
        let deadline = Instant::now() + LONG;
        // On a busy machine the first try, which also connects, may take longer than the producer's own timeout.
        while let Err(failure) = self.producer.produce(&warm, LONG).await {
            assert!(
                Instant::now() < deadline && failure.persistence == Persistence::NotPersisted,
                "{failure}"
            );
        }
    }

    pub async fn read(&self) -> Vec<ReadRecord> {
        read(&self.broker.bootstrap(), "t").await
    }

    /// The values of a partition, in order.
    pub async fn values(&self, partition: i32) -> Vec<String> {
        let value = |r: ReadRecord| String::from_utf8(r.value.expect("a value")).expect("text");
        self.read().await.into_iter().filter(|r| r.partition == partition).map(value).collect()
    }
}

pub async fn read(bootstrap: &str, topic: &str) -> Vec<ReadRecord> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_topic(&bootstrap, &topic, LONG))
        .await
        .expect("no panic")
        .expect("readable")
}

/// Waits until `check` holds.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !check() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The address of a real Kafka; without one the test is skipped, and says so.
pub fn real_kafka(test: &str) -> Option<String> {
    let bootstrap = std::env::var("KAFKA_BATCHER_BOOTSTRAP").ok().filter(|b| !b.is_empty());
    if bootstrap.is_none() {
        println!("SKIPPED {test}: KAFKA_BATCHER_BOOTSTRAP is not set");
    }
    bootstrap
}
