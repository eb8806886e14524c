//! Where the dead letters of a topic go: to the dead-letter topic, or to the fallback.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use kafka_batcher_core::dead_letter::{Sink, Sinks};
use kafka_batcher_core::{
    BatchBuilder, DeadRecord, ErrorKind, Failed, Moment, Persistence, ProduceError, ProduceFailure,
    ProduceRequest, Report, StorageError, TopicConfig, Trouble, What,
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

    /// Puts dead records of one lane away, in their order, wherever they are taken. Says how many were, from the first on
    /// without a gap, and why the next one was not.
    pub(crate) async fn put(
        &self,
        shared: &Shared,
        mut dead: Vec<DeadRecord>,
    ) -> (usize, Result<(), StorageError>) {
        let now = shared.clock.now();
        dead.iter_mut().for_each(|dead| dead.at = Some(shared.clock.unix_millis(now)));
        let count = dead.len();
        let left = match &self.topic {
            Some(topic) => self.offer(shared, topic, &dead).await,
            None => (0..count).collect(),
        };
        let left = dead.into_iter().enumerate().filter(|(index, _)| left.contains(index));
        let puts = left.map(|(index, dead)| async move {
            shared.storage_call(shared.dead_letter.put(dead)).await.map_err(|error| (index, error))
        });
        let failed = all(puts).await.into_iter().find_map(Result::err);
        failed.map_or((count, Ok(())), |(taken, error)| (taken, Err(error)))
    }

    /// Sends dead records to the dead-letter topic, one batch for each of its partitions, and each record alone where one may
    /// be at fault for the others. All of it together takes no longer than `produce_timeout`. Gives the indexes of those that it did not take.
    async fn offer(&self, shared: &Shared, topic: &Arc<TopicConfig>, dead: &[DeadRecord]) -> BTreeSet<usize> {
        let mut left: BTreeSet<usize> = (0..dead.len()).collect();
        let is_open = || self.machine.lock().next(shared.clock.now()) == Sink::Topic;
        if !is_open() {
            return left;
        }
        let deadline = shared.clock.now() + shared.timing.produce_timeout;
        let mut groups: VecDeque<(u32, Vec<usize>)> = match self.count(shared, topic, deadline).await {
            Ok(partitions) => {
                let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
                for (index, dead) in dead.iter().enumerate() {
                    groups.entry(dead.topic_partition(partitions)).or_default().push(index);
                }
                groups.into_iter().collect()
            }
            Err(error) => {
                self.refused(shared, topic, dead, &error);
                return left;
            }
        };
        while let Some((partition, group)) = groups.pop_front().filter(|_| is_open()) {
            let of_group: Vec<&DeadRecord> = group.iter().map(|index| &dead[*index]).collect();
            let (failed, error) = match self.send(shared, topic, (partition, deadline), &of_group).await {
                Ok(()) => (BTreeSet::new(), None),
                Err(ProduceFailure { error, failed: Failed::All, .. }) => {
                    (group.iter().collect(), Some(error))
                }
                Err(ProduceFailure { error, failed: Failed::Some(indexes), .. }) => {
                    (indexes.iter().filter_map(|index| group.get(*index as usize)).collect(), Some(error))
                }
            };
            left.retain(|index| !group.contains(index) || failed.contains(index));
            match error {
                None => self.taken(shared, &of_group),
                Some(error) if group.len() > 1 && is_fault_of_a_record(error.kind()) => {
                    failed.iter().rev().for_each(|index| groups.push_front((partition, vec![**index])));
                }
                Some(error) => {
                    let failed: Vec<&DeadRecord> = failed.into_iter().map(|index| &dead[*index]).collect();
                    self.refused(shared, topic, &failed, &error);
                }
            }
        }
        left
    }

    /// The dead-letter topic has taken these.
    fn taken(&self, shared: &Shared, dead: &[&DeadRecord]) {
        if self.machine.lock().taken() {
            let mut report = Report::new(What::Recovered(Trouble::DeadLetterTopic), "");
            report.topic = dead.first().map(|dead| dead.lane.topic.to_string());
            shared.notify.send(report);
        }
    }

    /// The dead-letter topic has not taken these.
    fn refused<D: Borrow<DeadRecord>>(
        &self,
        shared: &Shared,
        topic: &TopicConfig,
        dead: &[D],
        error: &ProduceError,
    ) {
        let Some(first) = dead.first() else { return };
        let lane = &first.borrow().lane;
        self.machine.lock().refused(error.kind(), shared.clock.now());
        let message = format!("{}: {error}", topic.topic_name);
        let mut report = Report::new(What::DeadLetterTopicFailed(error.kind()), message);
        report.topic = Some(lane.topic.to_string());
        (report.partition, report.events) = (lane.partition, dead.len() as u64);
        shared.notify.send(report);
    }

    /// Sends dead records to one partition of the dead-letter topic.
    async fn send(
        &self,
        shared: &Shared,
        topic: &Arc<TopicConfig>,
        (partition, deadline): (u32, Moment),
        dead: &[&DeadRecord],
    ) -> Result<(), ProduceFailure> {
        let failed = |error| ProduceFailure::whole(error, Persistence::NotPersisted);
        let mut builder = BatchBuilder::new();
        let timestamp = shared.clock.unix_millis(shared.clock.now());
        // One record is sent however large it is.
        let limit = if dead.len() > 1 { topic.max_batch_bytesize.get() } else { usize::MAX };
        let fits = dead.iter().all(|dead| {
            builder.push(&dead.to_topic_record(shared.instance).as_ref(), timestamp, None, limit)
        });
        let Some(batch) = builder.seal().filter(|_| fits) else {
            let error = ProduceError::new(ErrorKind::TooLarge, "with their headers they fit no batch");
            return Err(failed(error));
        };
        let request = ProduceRequest::new(Arc::clone(topic), partition, batch);
        let time = left(shared, deadline).map_err(failed)?;
        let sent = shared.producer_call(time, shared.producer.produce(&request, time)).await;
        let sent =
            sent.unwrap_or_else(|error| Err(ProduceFailure::whole(error, Persistence::MaybePersisted)));
        if let Err(failure) = &sent {
            shared.failures.send(failure.error.kind()).ok();
            if failure.error.kind() == ErrorKind::UnknownTopic {
                *self.partitions.lock() = None;
            }
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

const fn is_fault_of_a_record(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Permanent | ErrorKind::TooLarge | ErrorKind::Expired)
}

/// Works on all of them at once, begun in their order: storage writes them together then.
async fn all<F: Future>(work: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut work: Vec<_> = work.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|cx| {
        for (future, output) in work.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(done) = Pin::as_mut(future).poll(cx) {
                *output = Some(done);
            }
        }
        if work.iter().all(|(_, output)| output.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    work.into_iter().filter_map(|(_, output)| output).collect()
}
