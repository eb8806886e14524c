//! Reads a topic back, every partition from its beginning to its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_batcher_core::Record;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadRecord {
    /// The partition, from 0.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, if the record has a timestamp.
    pub timestamp: Option<i64>,
    /// The key; `None` is Kafka's null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl From<ReadRecord> for Record {
    /// The record without its place.
    fn from(read: ReadRecord) -> Self {
        let mut record = Self::default();
        record.key = read.key.map(Bytes::from);
        record.value = read.value.map(Bytes::from);
        record.headers =
            read.headers.into_iter().map(|(name, value)| (name, value.map(Bytes::from))).collect();
        record.timestamp = read.timestamp;
        record
    }
}

/// A topic could not be read to its end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The topic does not exist, or has no partitions.
    #[error("topic `{0}` does not exist")]
    NoTopic(String),
    /// The end was not reached in time.
    #[error("topic `{topic}` was not read to its end in time; {read} records were")]
    TimedOut {
        /// The topic.
        topic: String,
        /// How many records were read.
        read: usize,
    },
    /// The consumer failed.
    #[error("reading topic `{topic}`")]
    Kafka {
        /// The topic.
        topic: String,
        /// Why.
        #[source]
        source: KafkaError,
    },
}

/// Reads every partition of `topic` from its beginning to the high watermark of the moment at which
/// it starts. The records come ordered by partition and offset.
///
/// Blocks for up to `timeout`. From async code:
/// `tokio::task::spawn_blocking(move || read_topic(&bootstrap, "flights", timeout)).await`.
/// Works on the embedded broker and on real ones that need neither TLS nor SASL.
///
/// # Errors
/// [`ReadError`]; the records read so far are lost.
pub fn read_topic(bootstrap: &str, topic: &str, timeout: Duration) -> Result<Vec<ReadRecord>, ReadError> {
    let deadline = Instant::now() + timeout;
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let failed = |source| ReadError::Kafka { topic: topic.to_owned(), source };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "kafka-batcher-testkit-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        .create()
        .map_err(failed)?;
    let metadata = consumer.fetch_metadata(Some(topic), left()).map_err(failed)?;
    let partitions = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
    let partitions: Vec<i32> = partitions.iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
    if partitions.is_empty() {
        return Err(ReadError::NoTopic(topic.to_owned()));
    }
    // Where each partition that holds something ends.
    let mut ends = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, left()).map_err(failed)?;
        if low < high {
            ends.insert(partition, high);
            assignment.add_partition_offset(topic, partition, Offset::Offset(low)).map_err(failed)?;
        }
    }
    consumer.assign(&assignment).map_err(failed)?;
    let mut records = Vec::new();
    while !ends.is_empty() {
        if Instant::now() >= deadline {
            return Err(ReadError::TimedOut { topic: topic.to_owned(), read: records.len() });
        }
        match consumer.poll(left().min(Duration::from_millis(200))) {
            None => {}
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                let Some(end) = ends.get(&partition) else { continue };
                if offset < *end {
                    records.push(owned(&message));
                }
                if offset + 1 >= *end {
                    ends.remove(&partition);
                }
            }
            // The watermark is not reached by a record when the last ones were compacted away.
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ends.remove(&partition)),
            Some(Err(error)) if transient(&error) => {}
            Some(Err(error)) => return Err(failed(error)),
        }
    }
    records.sort_by_key(|record: &ReadRecord| (record.partition, record.offset));
    Ok(records)
}

fn owned(message: &impl Message) -> ReadRecord {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    ReadRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}

/// librdkafka reconnects by itself.
fn transient(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut)
    )
}
