//! Storage that follows a script.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher_core::{
    EntryId, LaneId, LaneUsage, MemoryStorage, Record, StorageError, StoredBatch, TempStorage,
};

/// A method of [`TempStorage`] that can be scripted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Call {
    /// [`TempStorage::append`].
    Append,
    /// [`TempStorage::next`].
    Next,
    /// [`TempStorage::acknowledge`].
    Acknowledge,
    /// [`TempStorage::lanes`], which [`TempStorage::is_empty`] goes by.
    Lanes,
}

/// How one call goes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StorageStep {
    /// As it should.
    Pass,
    /// Takes so long, and then goes as it should.
    Delay(Duration),
    /// Is done only after so long; a call that is dropped meanwhile is done all the same, as by a thread of its own.
    Behind(Duration),
    /// Refused: there is no room.
    Full,
    /// Fails, and nothing is changed.
    Fail,
    /// Panics, and nothing is changed.
    Panic,
    /// Never answers, and nothing is changed.
    Hang,
}

/// Storage in memory whose calls go as scripted; beyond the script they go as they should.
///
/// A clone is another handle on the same thing: keep one, to look into it, or to give it to the next batcher as what
/// the one before has left on its disk.
///
/// ```
/// use kafka_batcher_testkit::scripted::{Call, ScriptedStorage, StorageStep};
///
/// let disk = ScriptedStorage::durable();
/// disk.script(Call::Append, [StorageStep::Full, StorageStep::Full, StorageStep::Pass]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ScriptedStorage {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    memory: MemoryStorage,
    durable: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    scripts: BTreeMap<Call, VecDeque<StorageStep>>,
    calls: BTreeMap<Call, u32>,
    /// Holds for all calls that have no step of their own.
    always: BTreeMap<Call, StorageStep>,
}

impl ScriptedStorage {
    /// Storage that ends with its process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Storage that says it survives its process, and does as long as there is a clone of it.
    #[must_use]
    pub fn durable() -> Self {
        let storage = Self::default();
        storage.inner.durable.store(true, SeqCst);
        storage
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds steps for the next calls of this method.
    pub fn script(&self, call: Call, steps: impl IntoIterator<Item = StorageStep>) {
        self.state().scripts.entry(call).or_default().extend(steps);
    }

    /// Every call of this method that has no step of its own goes like this from now on.
    pub fn always(&self, call: Call, step: StorageStep) {
        self.state().always.insert(call, step);
    }

    /// How often this method was called.
    #[must_use]
    pub fn calls(&self, call: Call) -> u32 {
        self.state().calls.get(&call).copied().unwrap_or_default()
    }

    /// The records stored in a lane, oldest first, whatever is scripted.
    pub async fn records(&self, lane: &LaneId) -> Vec<Record> {
        let mut records = Vec::new();
        let mut after = None;
        while let Ok(Some((id, entry))) = self.inner.memory.next(lane, after).await {
            records.extend(entry.batch.records().map(|record| record.to_owned()));
            after = Some(id);
        }
        records
    }

    async fn follow(&self, call: Call) -> Result<(), StorageError> {
        let step = {
            let mut state = self.state();
            *state.calls.entry(call).or_default() += 1;
            let own = state.scripts.get_mut(&call).and_then(VecDeque::pop_front);
            own.or_else(|| state.always.get(&call).cloned()).unwrap_or(StorageStep::Pass)
        };
        match step {
            StorageStep::Pass => Ok(()),
            StorageStep::Delay(time) | StorageStep::Behind(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            StorageStep::Full => Err(StorageError::Full { used: 1, quota: 1 }),
            StorageStep::Fail => Err(StorageError::Failed("scripted".to_owned())),
            #[expect(clippy::panic, reason = "that is the step")]
            StorageStep::Panic => panic!("scripted panic"),
            StorageStep::Hang => std::future::pending().await,
        }
    }

    /// Whether the next call of `append` is to be done behind its caller's back.
    fn is_behind(&self) -> bool {
        let state = self.state();
        let next = state.scripts.get(&Call::Append).and_then(VecDeque::front);
        matches!(next.or_else(|| state.always.get(&Call::Append)), Some(StorageStep::Behind(_)))
    }
}

#[async_trait]
impl TempStorage for ScriptedStorage {
    fn is_durable(&self) -> bool {
        self.inner.durable.load(SeqCst)
    }

    async fn append(&self, lane: &LaneId, entry: StoredBatch) -> Result<EntryId, StorageError> {
        if self.is_behind() {
            let (this, lane) = (self.clone(), lane.clone());
            let work = tokio::spawn(async move {
                this.follow(Call::Append).await?;
                this.inner.memory.append(&lane, entry).await
            });
            return work.await.unwrap_or_else(|error| Err(StorageError::Failed(error.to_string())));
        }
        self.follow(Call::Append).await?;
        self.inner.memory.append(lane, entry).await
    }

    async fn next(
        &self,
        lane: &LaneId,
        after: Option<EntryId>,
    ) -> Result<Option<(EntryId, StoredBatch)>, StorageError> {
        self.follow(Call::Next).await?;
        self.inner.memory.next(lane, after).await
    }

    async fn acknowledge(&self, lane: &LaneId, entry: EntryId) -> Result<(), StorageError> {
        self.follow(Call::Acknowledge).await?;
        self.inner.memory.acknowledge(lane, entry).await
    }

    async fn lanes(&self) -> Result<Vec<LaneUsage>, StorageError> {
        self.follow(Call::Lanes).await?;
        self.inner.memory.lanes().await
    }
}
