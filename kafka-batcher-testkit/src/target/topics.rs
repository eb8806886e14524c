//! Making topics of a real Kafka and reading them back, over its plaintext listener.

use std::time::{Duration, Instant};

use kafka_batcher_core::Record;
use kafka_batcher_core::config::Compression;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::sync::oneshot;

use super::TargetError;
use crate::reader::{ReadError, ReadRecord, read_topic};

/// Time for what should be quick.
const LONG: Duration = Duration::from_secs(20);

/// Time between two looks.
const AGAIN: Duration = Duration::from_millis(20);

/// Runs what blocks in a thread of its own, so that it works in every runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, answer) = oneshot::channel();
    std::thread::spawn(move || drop(done.send(work())));
    answer.await.ok()
}

fn failed(what: &str, reason: impl ToString) -> TargetError {
    TargetError::Kafka { what: what.to_owned(), reason: reason.to_string() }
}

pub(super) async fn create(
    bootstrap: &str,
    name: &str,
    partitions: u32,
    settings: &[(&str, &str)],
) -> Result<(), TargetError> {
    let what = format!("creating topic `{name}`");
    let count = i32::try_from(partitions).unwrap_or(i32::MAX);
    // -1: as the broker thinks best.
    let mut topic = NewTopic::new(name, count, TopicReplication::Fixed(-1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let (admin, options) = admin(bootstrap, &what)?;
    let results = admin.create_topics([&topic], &options).await.map_err(|error| failed(&what, error))?;
    for result in results {
        result.map_err(|(_, code)| failed(&what, code))?;
    }
    settled(bootstrap, name, partitions, what).await
}

pub(super) async fn grow(bootstrap: &str, name: &str, partitions: u32) -> Result<(), TargetError> {
    let what = format!("growing topic `{name}`");
    let (admin, options) = admin(bootstrap, &what)?;
    let grown = NewPartitions::new(name, partitions as usize);
    let results = admin.create_partitions([&grown], &options).await.map_err(|error| failed(&what, error))?;
    for result in results {
        result.map_err(|(_, code)| failed(&what, code))?;
    }
    settled(bootstrap, name, partitions, what).await
}

fn admin(
    bootstrap: &str,
    what: &str,
) -> Result<(AdminClient<DefaultClientContext>, AdminOptions), TargetError> {
    let mut config = ClientConfig::new();
    let admin = config.set("bootstrap.servers", bootstrap).create().map_err(|error| failed(what, error))?;
    Ok((admin, AdminOptions::new().operation_timeout(Some(LONG)).request_timeout(Some(LONG))))
}

/// Waits until every broker says that the topic has so many partitions and a leader for each.
async fn settled(bootstrap: &str, name: &str, partitions: u32, what: String) -> Result<(), TargetError> {
    let (bootstrap, name) = (bootstrap.to_owned(), name.to_owned());
    let gone = failed(&what, "its thread has ended");
    let wait = move || {
        let deadline = Instant::now() + LONG;
        for broker in bootstrap.split(',') {
            let asking: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", broker)
                .set("allow.auto.create.topics", "false")
                .create()
                .map_err(|error| failed(&what, error))?;
            loop {
                let metadata = asking.fetch_metadata(Some(&name), LONG);
                let ready = metadata.as_ref().is_ok_and(|metadata| {
                    metadata.topics().iter().any(|topic| {
                        topic.error().is_none()
                            && topic.partitions().len() == partitions as usize
                            && topic.partitions().iter().all(|p| p.error().is_none() && p.leader() >= 0)
                    })
                });
                if ready {
                    break;
                }
                if Instant::now() >= deadline {
                    return Err(failed(&what, format!("{broker} does not know it after {LONG:?}")));
                }
                std::thread::sleep(AGAIN);
            }
        }
        Ok(())
    };
    blocking(wait).await.unwrap_or(Err(gone))
}

pub(super) async fn read(
    bootstrap: &str,
    topic: &str,
    timeout: Duration,
) -> Result<Vec<ReadRecord>, ReadError> {
    let (from, name) = (bootstrap.to_owned(), topic.to_owned());
    let gone = ReadError::NoTopic(topic.to_owned());
    blocking(move || read_topic(&from, &name, timeout)).await.unwrap_or(Err(gone))
}

/// Writes records with librdkafka, which takes them as they are.
pub(super) async fn write(
    bootstrap: &str,
    topic: &str,
    partition: u32,
    records: &[Record],
    compression: Compression,
) -> Result<(), TargetError> {
    let what = format!("writing to topic `{topic}`");
    let gone = failed(&what, "its thread has ended");
    let (bootstrap, topic, records) = (bootstrap.to_owned(), topic.to_owned(), records.to_vec());
    let write = move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("compression.type", compression.as_str())
            .set("linger.ms", "20")
            .create()
            .map_err(|error| failed(&what, error))?;
        for record in &records {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
                headers.insert(Header { key: header.name, value: header.value })
            });
            let mut sent = BaseRecord::<[u8], [u8]>::to(&topic)
                .partition(i32::try_from(partition).unwrap_or(i32::MAX))
                .headers(headers);
            sent.key = record.key.as_deref();
            sent.payload = record.value.as_deref();
            sent.timestamp = record.timestamp;
            producer.send(sent).map_err(|(error, _)| failed(&what, error))?;
        }
        producer.flush(LONG).map_err(|error| failed(&what, error))
    };
    blocking(write).await.unwrap_or(Err(gone))
}
