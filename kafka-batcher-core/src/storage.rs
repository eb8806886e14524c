//! The seam to temporary storage: where batches wait while Kafka is unavailable.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::batch::Batch;
use crate::dead_letter::DeadLetter;
use crate::telemetry::Telemetry;

/// Names a lane: a partition of a topic, or the events of a topic that have no partition yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition; `None` for events accepted before the topic's partition count was known.
    pub partition: Option<u32>,
}

impl LaneId {
    /// The lane of one partition.
    #[must_use]
    pub fn partition(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition: Some(partition) }
    }

    /// The lane of a topic's events that have no partition yet.
    #[must_use]
    pub fn unassigned(topic: impl Into<Arc<str>>) -> Self {
        Self { topic: topic.into(), partition: None }
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "{}/{partition}", self.topic),
            None => write!(f, "{}/unassigned", self.topic),
        }
    }
}

/// Names a stored batch within its lane; grows with each append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub u64);

/// A batch as it is kept in storage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredBatch {
    /// The records.
    pub batch: Batch,
    /// Kafka may have it already: an attempt to send it ended with an unknown outcome.
    pub maybe_persisted: bool,
}

impl StoredBatch {
    /// A batch to be stored.
    #[must_use]
    pub const fn new(batch: Batch, maybe_persisted: bool) -> Self {
        Self { batch, maybe_persisted }
    }
}

/// Keeps batches in order, a queue for each lane.
///
/// The batcher appends to and reads from one lane by one call at a time, but works on many lanes at
/// once. **Cancellation:** a dropped future of `append` may or may not have stored the batch.
#[async_trait]
pub trait TempStorage: Send + Sync + fmt::Debug {
    /// Whether what is stored survives the end of the process.
    fn is_durable(&self) -> bool;

    /// Puts a batch behind all others of its lane. Once this returns, the batch is as safe as the storage makes it.
    ///
    /// # Errors
    /// [`StorageError::Full`] when there is no room. After any error the batch is not stored.
    async fn append(&self, lane: &LaneId, entry: StoredBatch) -> Result<EntryId, StorageError>;

    /// The first batch of the lane behind `after`, or the oldest of all; `None` when there is none.
    ///
    /// # Errors
    /// When it can't be read now.
    async fn next(
        &self,
        lane: &LaneId,
        after: Option<EntryId>,
    ) -> Result<Option<(EntryId, StoredBatch)>, StorageError>;

    /// The first batches of the lane behind `after`, oldest first: at least one if there is one, and more as long as
    /// they take no more than `max_bytes` together.
    ///
    /// # Errors
    /// When they can't be read now.
    async fn next_few(
        &self,
        lane: &LaneId,
        after: Option<EntryId>,
        max_bytes: usize,
    ) -> Result<Vec<(EntryId, StoredBatch)>, StorageError> {
        let mut few: Vec<(EntryId, StoredBatch)> = Vec::new();
        let mut bytes = 0;
        loop {
            let last = few.last().map_or(after, |(id, _)| Some(*id));
            let Some((id, stored)) = self.next(lane, last).await? else { return Ok(few) };
            bytes += stored.batch.byte_len();
            if !few.is_empty() && bytes > max_bytes {
                return Ok(few);
            }
            few.push((id, stored));
        }
    }

    /// Forgets this batch of the lane and all before it: Kafka has them. May be done lazily; an
    /// acknowledgement lost in a crash is a duplicate, not a loss.
    ///
    /// # Errors
    /// When it can't be done now; the batcher goes on, and acknowledges a later batch later.
    async fn acknowledge(&self, lane: &LaneId, entry: EntryId) -> Result<(), StorageError>;

    /// All lanes that hold something.
    ///
    /// # Errors
    /// When it can't be read now.
    async fn lanes(&self) -> Result<Vec<LaneUsage>, StorageError>;

    /// How much of it is used, and what it has lost. Unless it knows better: what its lanes hold, no limit, no loss.
    ///
    /// # Errors
    /// When it can't be read now.
    async fn usage(&self) -> Result<StorageUsage, StorageError> {
        let lanes = self.lanes().await?;
        let mut usage =
            StorageUsage { used: lanes.iter().map(|lane| lane.bytes).sum(), ..StorageUsage::default() };
        lanes.iter().for_each(|lane| usage.add(lane, None));
        Ok(usage)
    }

    /// Where to tell what no caller can see: [`StorageCall::Sync`](crate::StorageCall::Sync). A batcher says so when it
    /// starts; it may never, and it may be told anew. Does nothing unless implemented.
    fn set_telemetry(&self, telemetry: Arc<dyn Telemetry>) {
        drop(telemetry);
    }

    /// Its area for dead letters, if it has one: the batcher uses it unless it is told of another
    /// [`DeadLetter`].
    fn dead_letters(self: Arc<Self>) -> Option<Arc<dyn DeadLetter>> {
        None
    }

    /// Whether the topic has nothing stored.
    ///
    /// # Errors
    /// When it can't be read now.
    async fn is_empty(&self, topic: &str) -> Result<bool, StorageError> {
        Ok(self.lanes().await?.iter().all(|lane| &*lane.id.topic != topic))
    }
}

/// What a lane holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneUsage {
    /// Which lane.
    pub id: LaneId,
    /// Stored batches.
    pub batches: u64,
    /// Stored events.
    pub events: u64,
    /// Bytes of the encoded batches.
    pub bytes: u64,
}

impl LaneUsage {
    /// What lane `id` holds.
    #[must_use]
    pub const fn new(id: LaneId, batches: u64, events: u64, bytes: u64) -> Self {
        Self { id, batches, events, bytes }
    }
}

/// How much of a storage is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageUsage {
    /// Bytes used: on the disk, where there is one.
    pub used: u64,
    /// Bytes allowed, in the same unit; `None` without a limit.
    pub quota: Option<u64>,
    /// How long the oldest batch has been stored, by the wall clock; `None` when there is none, or it is not known.
    pub oldest: Option<Duration>,
    /// Events that were stored and are lost through damage, since the storage was opened.
    pub lost_events: u64,
    /// Dead letters that are lost so.
    pub lost_dead_letters: u64,
    /// Batches and dead letters that were saved out of what is damaged, since the storage was opened.
    pub salvaged: u64,
    /// What it holds of each topic.
    pub topics: BTreeMap<Arc<str>, TopicUsage>,
}

/// What storage holds of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicUsage {
    /// Bytes of the encoded batches.
    pub bytes: u64,
    /// How long the oldest batch has been stored, by the wall clock; `None` when it is not known.
    pub oldest: Option<Duration>,
}

impl StorageUsage {
    /// Counts in a lane whose oldest batch has been stored for so long.
    pub fn add(&mut self, lane: &LaneUsage, oldest: Option<Duration>) {
        let topic = self.topics.entry(Arc::clone(&lane.id.topic)).or_default();
        topic.bytes += lane.bytes;
        topic.oldest = topic.oldest.max(oldest);
        self.oldest = self.oldest.max(oldest);
    }
}

/// Why storage refused. Never contains a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Its quota, or the disk, is used up.
    #[error("temporary storage is full: {used} of {quota} bytes are used")]
    Full {
        /// Bytes used.
        used: u64,
        /// Bytes allowed.
        quota: u64,
    },
    /// Reading or writing failed; it may work later.
    #[error("temporary storage failed: {0}")]
    Failed(String),
}

/// Keeps batches in memory: survives an outage of Kafka, not the end of the process.
///
/// The reference implementation of [`TempStorage`], and the default.
///
/// ```
/// use kafka_batcher_core::MemoryStorage;
///
/// let storage = MemoryStorage::new(64 * 1024 * 1024); // bytes
/// ```
pub struct MemoryStorage {
    quota: u64,
    state: Mutex<MemoryState>,
}

#[derive(Default)]
struct MemoryState {
    used: u64,
    next: u64,
    lanes: BTreeMap<LaneId, VecDeque<(EntryId, StoredBatch)>>,
}

impl MemoryStorage {
    /// Storage for up to `quota` bytes of encoded batches.
    #[must_use]
    pub fn new(quota: u64) -> Self {
        Self { quota, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, MemoryState> {
        // Nothing panics while the lock is held halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStorage {
    /// 256 MiB.
    fn default() -> Self {
        Self::new(256 * 1024 * 1024)
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemoryStorage")
            .field("quota", &self.quota)
            .field("used", &state.used)
            .field("lanes", &state.lanes.len())
            .finish()
    }
}

#[async_trait]
impl TempStorage for MemoryStorage {
    fn is_durable(&self) -> bool {
        false
    }

    async fn append(&self, lane: &LaneId, entry: StoredBatch) -> Result<EntryId, StorageError> {
        let mut state = self.state();
        let bytes = entry.batch.byte_len() as u64;
        if state.used + bytes > self.quota {
            return Err(StorageError::Full { used: state.used, quota: self.quota });
        }
        let id = EntryId(state.next);
        state.next += 1;
        state.used += bytes;
        state.lanes.entry(lane.clone()).or_default().push_back((id, entry));
        Ok(id)
    }

    async fn next(
        &self,
        lane: &LaneId,
        after: Option<EntryId>,
    ) -> Result<Option<(EntryId, StoredBatch)>, StorageError> {
        let state = self.state();
        let Some(queue) = state.lanes.get(lane) else { return Ok(None) };
        Ok(queue.iter().find(|(id, _)| after.is_none_or(|after| *id > after)).cloned())
    }

    async fn acknowledge(&self, lane: &LaneId, entry: EntryId) -> Result<(), StorageError> {
        let mut state = self.state();
        let state = &mut *state;
        let Some(queue) = state.lanes.get_mut(lane) else { return Ok(()) };
        while let Some((_, stored)) = queue.pop_front_if(|(id, _)| *id <= entry) {
            state.used -= stored.batch.byte_len() as u64;
        }
        if queue.is_empty() {
            state.lanes.remove(lane);
        }
        Ok(())
    }

    async fn lanes(&self) -> Result<Vec<LaneUsage>, StorageError> {
        let usage = |(id, queue): (&LaneId, &VecDeque<(EntryId, StoredBatch)>)| LaneUsage {
            id: id.clone(),
            batches: queue.len() as u64,
            events: queue.iter().map(|(_, s)| u64::from(s.batch.len())).sum(),
            bytes: queue.iter().map(|(_, s)| s.batch.byte_len() as u64).sum(),
        };
        Ok(self.state().lanes.iter().map(usage).collect())
    }
}
