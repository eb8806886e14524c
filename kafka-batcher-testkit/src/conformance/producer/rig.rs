//! What the cases share.

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use kafka_batcher_core::config::TopicSettings;
use kafka_batcher_core::{
    Batch, BatchBuilder, Delivered, Failed, KafkaConfig, Persistence, ProduceError, ProduceFailure,
    ProduceRequest, Producer, Record, TopicConfig,
};

use super::ProducerFixture;
use crate::conformance::Skip;
use crate::stopwatch::Stopwatch;

/// Time for what should be quick.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// Time given to what is to fail by it.
pub(super) const SHORT: Duration = Duration::from_secs(3);
/// What a call may take beyond its timeout.
const GRACE: Duration = Duration::from_millis(500);
/// After this long beyond its timeout a call is taken for hung.
const HUNG: Duration = Duration::from_secs(10);
/// The timestamp of records that have none of their own. Not a made up one: Kafka deletes what is older than a topic's
/// retention time, by default a week, whenever it was written.
pub(super) fn then() -> i64 {
    static THEN: LazyLock<i64> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_millis()).unwrap_or_default()
    });
    *THEN
}
/// How long to look for what may be written late.
pub(super) const LATE: Duration = Duration::from_millis(1500);

/// A producer and a topic of its own.
pub(super) struct Rig<'a> {
    pub(super) fixture: &'a dyn ProducerFixture,
    pub(super) producer: Arc<dyn Producer>,
    pub(super) topic: Arc<TopicConfig>,
}

impl<'a> Rig<'a> {
    /// Connected to the fixture's broker, with a topic of so many partitions.
    pub(super) async fn new(fixture: &'a dyn ProducerFixture, partitions: u32) -> Result<Self, Skip> {
        fixture.ready()?;
        let rig = Self::at(fixture, fixture.config(), partitions, LONG, |topic| topic).await?;
        rig.connect().await;
        Ok(rig)
    }

    /// Connects with this configuration later, if at all.
    pub(super) async fn at(
        fixture: &'a dyn ProducerFixture,
        config: KafkaConfig,
        partitions: u32,
        produce_timeout: Duration,
        settings: impl FnOnce(TopicSettings) -> TopicSettings,
    ) -> Result<Self, Skip> {
        fixture.ready()?;
        let name = fixture.topic(partitions).await;
        let settings = settings(TopicSettings::new(name));
        let config = config.with_topic(settings).produce_timeout(produce_timeout);
        let producer = match fixture.producer(&config) {
            Ok(producer) => producer,
            #[expect(clippy::panic, reason = "that is how a case fails")]
            Err(error) => panic!("the producer can't be made: {error}"),
        };
        Ok(Self { fixture, producer, topic: topic_of(&config) })
    }

    pub(super) async fn connect(&self) {
        let connected = within(LONG, "connect", self.producer.connect(LONG)).await;
        assert!(connected.is_ok(), "connect: {}", shown(connected.err()));
    }

    pub(super) fn name(&self) -> &str {
        &self.topic.topic_name
    }

    pub(super) fn request(&self, partition: u32, batch: Batch) -> ProduceRequest {
        ProduceRequest::new(Arc::clone(&self.topic), partition, batch)
    }

    /// Produces, and checks that it took no longer than it may.
    pub(super) async fn try_produce(
        &self,
        partition: u32,
        batch: Batch,
        timeout: Duration,
    ) -> Result<Delivered, ProduceFailure> {
        let request = self.request(partition, batch);
        let result = within(timeout, "produce", self.producer.produce(&request, timeout)).await;
        if let Err(ProduceFailure { failed: Failed::Some(indexes), .. }) = &result {
            assert!(!indexes.is_empty(), "a failure that names no record");
            assert!(indexes.is_sorted_by(|a, b| a < b), "not ascending: {indexes:?}");
            assert!(indexes.iter().all(|index| *index < request.batch.len()), "no such record: {indexes:?}");
        }
        result
    }

    /// Produces what has to be delivered.
    pub(super) async fn produce(&self, partition: u32, batch: Batch) -> Delivered {
        match self.try_produce(partition, batch, LONG).await {
            Ok(delivered) => delivered,
            #[expect(clippy::panic, reason = "that is how a case fails")]
            Err(failure) => panic!("not delivered: {}", shown_failure(&failure)),
        }
    }

    pub(super) async fn read(&self, partition: u32) -> Vec<Record> {
        self.fixture.read(self.name(), partition).await
    }

    /// The values of a partition as text.
    pub(super) async fn values(&self, partition: u32) -> Vec<String> {
        self.read(partition).await.iter().map(value).collect()
    }

    /// Checks that the partition holds these records and nothing else.
    pub(super) async fn assert_holds(&self, partition: u32, sent: &[Record]) {
        let read = self.read(partition).await;
        assert_eq!(read.len(), sent.len(), "records in partition {partition}");
        for (index, (read, sent)) in read.iter().zip(sent).enumerate() {
            assert_same(read, sent, &format!("record {index}"));
        }
    }

    /// Checks a failure against what is in the log: what it does not name was delivered, in order, and what it says is
    /// not persisted is not there, and does not turn up later. `before` records are there from before.
    pub(super) async fn assert_true(
        &self,
        partition: u32,
        before: usize,
        records: &[Record],
        failure: &ProduceFailure,
    ) {
        let named = |index: u32| match &failure.failed {
            Failed::All => true,
            Failed::Some(indexes) => indexes.contains(&index),
        };
        let unnamed: Vec<&Record> = (0..).zip(records).filter(|(i, _)| !named(*i)).map(|(_, r)| r).collect();
        if failure.persistence == Persistence::NotPersisted {
            tokio::time::sleep(LATE).await;
            let read = self.read(partition).await;
            let (there, expected) = (read.len().saturating_sub(before), unnamed.len());
            assert_eq!(
                there,
                expected,
                "records of a batch that failed, NotPersisted: {}",
                shown_failure(failure)
            );
            for (read, sent) in read.iter().skip(before).zip(unnamed) {
                assert_same(read, sent, "a record that did not fail");
            }
        } else {
            let read = self.read(partition).await;
            for sent in unnamed {
                let there =
                    read.iter().skip(before).any(|read| (&read.key, &read.value) == (&sent.key, &sent.value));
                assert!(there, "a record that is not named is not there: {}", shown_failure(failure));
            }
        }
    }
}

pub(super) fn assert_same(read: &Record, sent: &Record, which: &str) {
    let short = |bytes: &Option<bytes::Bytes>| {
        bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes.get(..64).unwrap_or(bytes)).into_owned())
    };
    assert!(read.key == sent.key, "key of {which}: {:?} instead of {:?}", short(&read.key), short(&sent.key));
    assert!(
        read.value == sent.value,
        "value of {which}: {:?} instead of {:?}",
        short(&read.value),
        short(&sent.value)
    );
    let headers = |record: &Record| {
        record.headers.iter().map(|h| (h.name.to_owned(), h.value.map(<[u8]>::to_vec))).collect::<Vec<_>>()
    };
    assert_eq!(headers(read), headers(sent), "headers of {which}");
    assert_eq!(read.timestamp, sent.timestamp.or_else(|| Some(then())), "timestamp of {which}");
}

/// The first topic of a configuration.
#[expect(clippy::panic, reason = "the suite's own configurations are valid")]
pub(super) fn topic_of(config: &KafkaConfig) -> Arc<TopicConfig> {
    match config.topics().map(|topics| topics.into_iter().next()) {
        Ok(Some(topic)) => Arc::new(topic),
        other => panic!("a configuration without a valid topic: {other:?}"),
    }
}

pub(super) fn batch(records: impl IntoIterator<Item = Record>) -> Batch {
    let mut builder = BatchBuilder::new();
    for record in records {
        assert!(builder.push(&record.as_ref(), then(), None, usize::MAX), "it fits");
    }
    #[expect(clippy::panic, reason = "the suite's own batches have records")]
    builder.seal().unwrap_or_else(|| panic!("a batch without records"))
}

/// Records whose values are the numbers from `from` on, as text.
pub(super) fn numbers(from: usize, count: usize) -> Vec<Record> {
    (from..from + count).map(|n| Record::new(n.to_string())).collect()
}

pub(super) fn numbered(from: usize, count: usize) -> Batch {
    batch(numbers(from, count))
}

pub(super) fn value(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or(b"null")).into_owned()
}

/// Awaits `call` and checks that it took no longer than `timeout` and a little, pauses of the machine left out.
pub(super) async fn within<T>(timeout: Duration, what: &str, call: impl Future<Output = T>) -> T {
    let watch = Stopwatch::start();
    let answer = tokio::time::timeout(timeout + HUNG, call).await;
    let took = watch.beyond(timeout + GRACE);
    #[expect(clippy::panic, reason = "that is how a case fails")]
    let Ok(answer) = answer else {
        panic!("{what} was given {timeout:?} and had not answered {HUNG:?} later")
    };
    assert!(took.is_none(), "{what} was given {timeout:?} and took {:?}", took.unwrap_or_default());
    answer
}

/// Waits until `check` holds.
pub(super) async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + LONG;
    while !check().await {
        assert!(Instant::now() < deadline, "not within {LONG:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The error that had to come.
pub(super) fn failure<T>(result: Result<T, ProduceFailure>, when: &str) -> ProduceFailure {
    #[expect(clippy::panic, reason = "that is how a case fails")]
    result.err().unwrap_or_else(|| panic!("delivered, {when}"))
}

/// The error that had to come.
pub(super) fn error<T>(result: Result<T, ProduceError>, when: &str) -> ProduceError {
    #[expect(clippy::panic, reason = "that is how a case fails")]
    result.err().unwrap_or_else(|| panic!("success, {when}"))
}

/// An error with its kind and causes.
pub(super) fn shown(error: Option<ProduceError>) -> String {
    error.map_or_else(|| "no error".to_owned(), |error| format!("{}: {error} ({error:?})", error.kind()))
}

pub(super) fn shown_failure(failure: &ProduceFailure) -> String {
    format!("{:?}, {:?}, {}", failure.persistence, failure.failed, shown(Some(failure.error.clone())))
}
