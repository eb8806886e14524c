//! Each thing that can be wrong with storage is found by a case with a name.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use async_trait::async_trait;
use kafka_batcher_core::{
    Batch, BatchBuilder, EntryId, LaneId, LaneUsage, MemoryStorage, StorageError, StoredBatch, TempStorage,
};
use kafka_batcher_testkit::conformance::Outcome;
use kafka_batcher_testkit::conformance::storage::{self, FolderStorage, StorageFixture};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    EncodesAnew,
    ForgetsTheFlag,
    DropsTheStamp,
    CutsLargeBatches,
    LastComesFirst,
    IdsFall,
    ReadingRemoves,
    AfterIsIncluded,
    AskingMakesALane,
    PartitionsAreMixed,
    AcknowledgesOne,
    AcknowledgesTooMuch,
    AcknowledgingTwiceFails,
    UsageCountsBatchesAsEvents,
    EmptyIgnoresUnassigned,
    FullStoresAllTheSame,
    FullIsForEver,
    LargeBreaksIt,
    LosesUnderLoad,
    DroppedAppendsComeLate,
    DurabilityChanges,
    LosesTheLastOnReopening,
    LosesOrderOnReopening,
    IdsStartAnewOnReopening,
}

/// Storage in memory that keeps what it has in a place outside of itself, as a disk would be, when told to.
#[derive(Debug)]
struct Wrong {
    bug: Option<Bug>,
    memory: MemoryStorage,
    used: AtomicBool,
    full: AtomicBool,
    appends: AtomicU64,
    folder: String,
}

/// What is "on disk": entries of each folder, in order.
type Disk = BTreeMap<String, Folder>;

#[derive(Clone, Debug, Default)]
struct Folder {
    next: u64,
    entries: Vec<(LaneId, EntryId, StoredBatch)>,
}

static DISK: Mutex<Disk> = Mutex::new(BTreeMap::new());

impl Wrong {
    fn open(bug: Option<Bug>, folder: &Path, quota: u64) -> Self {
        let folder = folder.display().to_string();
        let mut left = DISK.lock().unwrap().get(&folder).cloned().unwrap_or_default();
        match bug {
            Some(Bug::LosesTheLastOnReopening) => drop(left.entries.pop()),
            Some(Bug::LosesOrderOnReopening) => left.entries.reverse(),
            _ => {}
        }
        let this = Self {
            bug,
            memory: MemoryStorage::new(quota),
            used: AtomicBool::new(false),
            full: AtomicBool::new(false),
            appends: AtomicU64::new(0),
            folder: folder.clone(),
        };
        let restore = async {
            // Entries get the ids they had: in memory ids are counted, so each that is gone is one to fill in.
            let fill = ![Some(Bug::IdsStartAnewOnReopening), Some(Bug::LosesOrderOnReopening)].contains(&bug);
            let filler = (LaneId::unassigned("filler"), StoredBatch::new(small(), false));
            for id in 0..if fill { left.next } else { 0 } {
                let entry = left.entries.iter().find(|(_, of, _)| of.0 == id);
                let (lane, batch) = entry.map_or((&filler.0, &filler.1), |(lane, _, batch)| (lane, batch));
                let id = this.memory.append(lane, batch.clone()).await.unwrap();
                if entry.is_none() {
                    this.memory.acknowledge(&filler.0, id).await.unwrap();
                }
            }
            for (lane, _, entry) in left.entries.iter().filter(|_| !fill) {
                this.memory.append(lane, entry.clone()).await.unwrap();
            }
        };
        futures_now(restore);
        this
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn lane(&self, lane: &LaneId) -> LaneId {
        let mixed = self.has(Bug::PartitionsAreMixed) && lane.partition.is_none();
        if mixed { LaneId::partition(&*lane.topic, 0) } else { lane.clone() }
    }
}

/// Runs what never waits.
fn futures_now(work: impl Future<Output = ()>) {
    let mut work = std::pin::pin!(work);
    let ready = work.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(ready.is_ready());
}

fn small() -> Batch {
    let mut builder = BatchBuilder::new();
    assert!(builder.push(&kafka_batcher_core::Record::new("").as_ref(), 0, None, usize::MAX));
    builder.seal().unwrap()
}

fn encoded_anew(batch: &Batch) -> Batch {
    let mut builder = BatchBuilder::new();
    for record in batch.records() {
        let mut record = record.to_owned();
        record.timestamp = record.timestamp.map(|time| time + 1);
        assert!(builder.push(&record.as_ref(), 0, None, usize::MAX));
    }
    builder.seal().unwrap()
}

#[async_trait]
impl TempStorage for Wrong {
    fn is_durable(&self) -> bool {
        !(self.has(Bug::DurabilityChanges) && self.used.load(SeqCst))
    }

    async fn append(&self, lane: &LaneId, mut entry: StoredBatch) -> Result<EntryId, StorageError> {
        self.used.store(true, SeqCst);
        let number = self.appends.fetch_add(1, SeqCst);
        match self.bug {
            Some(Bug::EncodesAnew) => entry.batch = encoded_anew(&entry.batch),
            Some(Bug::ForgetsTheFlag) => entry.maybe_persisted = false,
            Some(Bug::DropsTheStamp) => entry.batch = entry.batch.select(|_| true).unwrap(),
            Some(Bug::CutsLargeBatches) if entry.batch.byte_len() > 2_000_000 => return Ok(EntryId(number)),
            Some(Bug::LosesUnderLoad) => {
                tokio::task::yield_now().await;
                if self.appends.load(SeqCst) > number + 1 {
                    return Ok(EntryId(number));
                }
            }
            Some(Bug::DroppedAppendsComeLate) => {
                let mut late = OnDrop(Some((self, lane.clone(), entry.clone())));
                tokio::time::sleep(std::time::Duration::from_micros(200)).await;
                late.0 = None;
            }
            Some(Bug::FullIsForEver) if self.full.load(SeqCst) => {
                return Err(StorageError::Full { used: 1, quota: 1 });
            }
            Some(Bug::LargeBreaksIt) if self.full.load(SeqCst) => {
                return Err(StorageError::Failed("broken".into()));
            }
            _ => {}
        }
        let lane = self.lane(lane);
        let appended = self.memory.append(&lane, entry.clone()).await;
        match &appended {
            Ok(id) => {
                let mut disk = DISK.lock().unwrap();
                let folder = disk.entry(self.folder.clone()).or_default();
                folder.next = id.0 + 1;
                folder.entries.push((lane, *id, entry));
            }
            Err(_) => {
                self.full.store(true, SeqCst);
                if self.has(Bug::FullStoresAllTheSame) {
                    let small = entry.batch.select(|index| index == 0).unwrap();
                    drop(self.memory.append(&lane, StoredBatch::new(small, false)).await);
                }
            }
        }
        appended.map(|id| if self.has(Bug::IdsFall) { EntryId(u64::MAX - id.0) } else { id })
    }

    async fn next(
        &self,
        lane: &LaneId,
        after: Option<EntryId>,
    ) -> Result<Option<(EntryId, StoredBatch)>, StorageError> {
        let lane = &self.lane(lane);
        if self.has(Bug::AskingMakesALane) {
            self.used.store(true, SeqCst);
        }
        let after = match after {
            Some(EntryId(id)) if self.has(Bug::AfterIsIncluded) => id.checked_sub(2).map(EntryId),
            after => after,
        };
        let mut next = self.memory.next(lane, after).await?;
        if self.has(Bug::LastComesFirst) && after.is_none() {
            while let Some(behind) = self.memory.next(lane, next.as_ref().map(|(id, _)| *id)).await? {
                next = Some(behind);
            }
        }
        if let Some((id, _)) = next.as_ref().filter(|_| self.has(Bug::ReadingRemoves)) {
            self.memory.acknowledge(lane, *id).await?;
        }
        Ok(next)
    }

    async fn acknowledge(&self, lane: &LaneId, entry: EntryId) -> Result<(), StorageError> {
        let lane = &self.lane(lane);
        let oldest = self.memory.next(lane, None).await?;
        let mut upto = entry;
        match self.bug {
            Some(Bug::AcknowledgesOne) if oldest.as_ref().is_some_and(|(id, _)| *id < entry) => return Ok(()),
            Some(Bug::AcknowledgesTooMuch) => upto = EntryId(entry.0 + 1),
            Some(Bug::AcknowledgingTwiceFails) if oldest.is_none_or(|(id, _)| id > entry) => {
                return Err(StorageError::Failed("gone".to_owned()));
            }
            _ => {}
        }
        self.memory.acknowledge(lane, upto).await?;
        if let Some(folder) = DISK.lock().unwrap().get_mut(&self.folder) {
            folder.entries.retain(|(of, id, _)| of != lane || *id > upto);
        }
        Ok(())
    }

    async fn lanes(&self) -> Result<Vec<LaneUsage>, StorageError> {
        let mut lanes = self.memory.lanes().await?;
        if self.has(Bug::UsageCountsBatchesAsEvents) {
            lanes.iter_mut().for_each(|lane| lane.events = lane.batches);
        }
        if self.has(Bug::AskingMakesALane) && self.used.load(SeqCst) {
            lanes.push(LaneUsage::new(LaneId::unassigned("asked"), 0, 0, 0));
        }
        Ok(lanes)
    }

    async fn is_empty(&self, topic: &str) -> Result<bool, StorageError> {
        let lanes = self.lanes().await?;
        let ignored = |lane: &LaneUsage| self.has(Bug::EmptyIgnoresUnassigned) && lane.id.partition.is_none();
        Ok(lanes.iter().all(|lane| &*lane.id.topic != topic || ignored(lane)))
    }
}

/// Appends when its call is dropped: at once, but twice.
struct OnDrop<'a>(Option<(&'a Wrong, LaneId, StoredBatch)>);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        if let Some((storage, lane, entry)) = self.0.take() {
            for _ in 0..2 {
                futures_now(async { drop(storage.memory.append(&lane, entry.clone()).await) });
            }
        }
    }
}

fn fixture(bug: Option<Bug>) -> impl StorageFixture {
    FolderStorage::new(move |folder: &Path, quota| Ok::<_, String>(Wrong::open(bug, folder, quota)))
}

kafka_batcher_testkit::storage_conformance!(a_right_one, fixture(None));

type Case = for<'a> fn(&'a dyn StorageFixture) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

fn finds(name: &str, case: Case, bug: Bug) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let run = runtime.spawn(async move { case(&fixture(Some(bug))).await });
    match runtime.block_on(run) {
        Err(error) => assert!(error.is_panic()),
        Ok(outcome) => panic!("{name} did not find {bug:?}: {outcome:?}"),
    }
}

macro_rules! finds {
    ($($bug:ident: $case:ident,)*) => {
        mod a_wrong_one {
            use super::*;
            $(
                #[test]
                #[expect(non_snake_case, reason = "named for the bug")]
                fn $bug() {
                    finds(stringify!($case), |fixture| Box::pin(storage::$case(fixture)), Bug::$bug);
                }
            )*
        }
    };
}

finds! {
    EncodesAnew: what_is_appended_comes_back_as_it_was,
    ForgetsTheFlag: the_flag_maybe_persisted_is_kept,
    DropsTheStamp: a_stamped_batch_keeps_its_identity,
    CutsLargeBatches: large_batches_come_back,
    LastComesFirst: batches_come_back_in_the_order_of_appending,
    IdsFall: entries_are_named_by_growing_ids,
    ReadingRemoves: reading_removes_nothing,
    AfterIsIncluded: reading_goes_on_behind_any_entry,
    AskingMakesALane: a_lane_without_batches_has_none,
    PartitionsAreMixed: lanes_are_kept_apart,
    AcknowledgesOne: acknowledging_forgets_all_up_to_the_entry,
    AcknowledgesTooMuch: acknowledging_forgets_all_up_to_the_entry,
    AcknowledgingTwiceFails: acknowledging_again_or_nothing_is_success,
    UsageCountsBatchesAsEvents: usage_is_told_for_each_lane,
    EmptyIgnoresUnassigned: a_topic_is_empty_when_all_its_lanes_are,
    FullStoresAllTheSame: full_storage_refuses_and_keeps_what_it_has,
    FullIsForEver: acknowledging_makes_room,
    LargeBreaksIt: a_batch_larger_than_the_quota_harms_nothing,
    LosesUnderLoad: many_lanes_are_used_at_once,
    DroppedAppendsComeLate: a_dropped_append_is_whole_or_not_there,
    DurabilityChanges: durability_does_not_change,
    LosesTheLastOnReopening: what_was_appended_survives_the_process,
    LosesOrderOnReopening: what_was_acknowledged_may_return_but_nothing_else_does,
    IdsStartAnewOnReopening: ids_grow_on_in_the_next_process,
}
