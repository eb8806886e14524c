//! Where the dead letters of a topic go: to the dead-letter topic, or to the fallback.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::dead_letter::{Sink, Sinks};
use kafka_batcher_core::{
    BatchBuilder, DeadRecord, ErrorKind, Moment, ProduceError, ProduceRequest, Report, StorageError,
    TopicConfig, Trouble, What,
};
use parking_lot::Mutex;

use crate::shared::Shared;

/// The sinks of one topic's dead letters.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    topic: Option<Arc<TopicConfig>>,
    machine: Mutex<Sinks>,
    /// How many partitions the dead-letter topic has, and until when that holds.
    partitions: Mutex<Option<(NonZeroU32, Moment)>>,
}

impl DeadLetters {
    pub(crate) fn new(config: &TopicConfig, shared: &Shared, seed: u64) -> Self {
        let topic = config.dead_letter_config().map(Arc::new);
        let machine = Mutex::new(Sinks::new(topic.is_some(), shared.timing, seed));
        Self { topic, machine, partitions: Mutex::new(None) }
    }

    /// Puts a dead record away, wherever it is taken.
    pub(crate) async fn put(&self, shared: &Shared, mut dead: DeadRecord) -> Result<(), StorageError> {
        let now = shared.clock.now();
        dead.at = Some(shared.clock.unix_millis(now));
        let sink = self.machine.lock().next(now);
        if let (Sink::Topic, Some(topic)) = (sink, &self.topic) {
            match self.send(shared, topic, &dead).await {
                Ok(()) => {
                    if self.machine.lock().taken() {
                        let mut report = Report::new(What::Recovered(Trouble::DeadLetterTopic), "");
                        report.topic = Some(dead.lane.topic.to_string());
                        shared.notify.send(report);
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.machine.lock().refused(error.kind(), shared.clock.now());
                    let message = format!("{}: {error}", topic.topic_name);
                    let mut report = Report::new(What::DeadLetterTopicFailed(error.kind()), message);
                    report.topic = Some(dead.lane.topic.to_string());
                    (report.partition, report.events) = (dead.lane.partition, 1);
                    shared.notify.send(report);
                }
            }
        }
        shared.storage_call(shared.dead_letter.put(dead)).await
    }

    /// Sends a dead record to the dead-letter topic. All of it together takes no longer than `produce_timeout`.
    async fn send(
        &self,
        shared: &Shared,
        topic: &Arc<TopicConfig>,
        dead: &DeadRecord,
    ) -> Result<(), ProduceError> {
        let deadline = shared.clock.now() + shared.timing.produce_timeout;
        let partitions = self.count(shared, topic, deadline).await?;
        let mut builder = BatchBuilder::new();
        let record = dead.to_topic_record(shared.instance);
        let timestamp = shared.clock.unix_millis(shared.clock.now());
        let fits = builder.push(&record.as_ref(), timestamp, None, usize::MAX);
        let Some(batch) = builder.seal().filter(|_| fits) else {
            return Err(ProduceError::new(ErrorKind::TooLarge, "with its headers it fits no batch"));
        };
        let request = ProduceRequest::new(Arc::clone(topic), dead.topic_partition(partitions), batch);
        let time = left(shared, deadline)?;
        let sent = shared.producer_call(time, shared.producer.produce(&request, time)).await;
        let sent = sent.and_then(|result| result.map_err(|failure| failure.error));
        shared.heed(&sent);
        if matches!(&sent, Err(error) if error.kind() == ErrorKind::UnknownTopic) {
            *self.partitions.lock() = None;
        }
        sent.map(drop)
    }

    /// How many partitions the dead-letter topic has. It is created if it is not there and that is allowed.
    async fn count(
        &self,
        shared: &Shared,
        topic: &TopicConfig,
        deadline: Moment,
    ) -> Result<NonZeroU32, ProduceError> {
        let known = *self.partitions.lock();
        if let Some((count, until)) = known
            && shared.clock.now() < until
        {
            return Ok(count);
        }
        let mut counted = self.ask(shared, topic, deadline).await;
        if topic.allow_topic_auto_creation
            && matches!(&counted, Err(error) if error.kind() == ErrorKind::UnknownTopic)
        {
            let time = left(shared, deadline)?;
            let created = shared.producer_call(time, shared.producer.create_topic(topic, time)).await;
            let created = created.and_then(|result| result);
            shared.heed(&created);
            created?;
            counted = self.ask(shared, topic, deadline).await;
        }
        let count = counted?;
        *self.partitions.lock() = Some((count, shared.clock.now() + shared.timing.partitions_refresh));
        Ok(count)
    }

    async fn ask(
        &self,
        shared: &Shared,
        topic: &TopicConfig,
        deadline: Moment,
    ) -> Result<NonZeroU32, ProduceError> {
        let time = left(shared, deadline)?.min(shared.timing.connect_timeout);
        let count = shared.producer.partition_count(&topic.topic_name, time);
        let counted = shared.producer_call(time, count).await.and_then(|result| result);
        shared.heed(&counted);
        counted
    }
}

fn left(shared: &Shared, deadline: Moment) -> Result<Duration, ProduceError> {
    let left = deadline.since(shared.clock.now());
    if left.is_zero() {
        return Err(ProduceError::new(ErrorKind::Transient, "produce_timeout is over"));
    }
    Ok(left)
}
