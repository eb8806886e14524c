//! A model of temporary storage. It is honest: what it took it has, until it is acknowledged.

use std::collections::{BTreeMap, VecDeque};

use kafka_batcher_core::{EntryId, LaneId, LaneUsage, Moment, StorageError, StoredBatch};

use super::dice::Dice;
use super::plan::{Plan, Trouble};

/// Names a lane of the topic; `None` is the one without a partition.
pub(crate) type Partition = Option<u32>;

#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) lanes: BTreeMap<Partition, VecDeque<Entry>>,
    next: u64,
    dice: Dice,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: EntryId,
    pub(crate) stored: StoredBatch,
    pub(crate) events: Vec<u64>,
    /// The lane has acknowledged it; whether that arrived is another matter.
    pub(crate) acknowledged: bool,
    /// Batches that were read together for one replay have the same number.
    pub(crate) replay: u64,
    /// An earlier process left it although something of it had already arrived.
    pub(crate) leftover: bool,
}

impl Storage {
    pub(crate) fn new(dice: Dice) -> Self {
        Self { lanes: BTreeMap::new(), next: 0, dice }
    }

    /// Whether a call fails now.
    pub(crate) fn works(&mut self, plan: &Plan, now: Moment) -> Result<(), StorageError> {
        if self.dice.chance(plan.storage_flakiness(now)) {
            return Err(StorageError::Failed("bad luck".to_owned()));
        }
        Ok(())
    }

    pub(crate) fn append(
        &mut self,
        plan: &Plan,
        now: Moment,
        lane: Partition,
        stored: StoredBatch,
        events: Vec<u64>,
    ) -> Result<EntryId, StorageError> {
        self.works(plan, now)?;
        if plan.has(now, Trouble::StorageFull) {
            return Err(StorageError::Full { used: 1, quota: 1 });
        }
        self.next += 1;
        let id = EntryId(self.next);
        self.lanes.entry(lane).or_default().push_back(Entry {
            id,
            stored,
            events,
            acknowledged: false,
            replay: 0,
            leftover: false,
        });
        Ok(id)
    }

    pub(crate) fn next_few(
        &mut self,
        lane: Partition,
        after: Option<EntryId>,
        max_bytes: usize,
    ) -> Vec<(EntryId, StoredBatch)> {
        let mut bytes = 0;
        let entries = self.lanes.get(&lane).into_iter().flatten();
        entries
            .filter(|entry| after.is_none_or(|after| entry.id > after))
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.stored.batch.byte_len();
                first || bytes <= max_bytes
            })
            .map(|entry| (entry.id, entry.stored.clone()))
            .collect()
    }

    pub(crate) fn acknowledge(&mut self, lane: Partition, id: EntryId) {
        if let Some(entries) = self.lanes.get_mut(&lane) {
            entries.retain(|entry| entry.id > id);
            if entries.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }

    pub(crate) fn usage(&self) -> Vec<LaneUsage> {
        let usage = |(lane, entries): (&Partition, &VecDeque<Entry>)| {
            let id = LaneId { topic: "t".into(), partition: *lane };
            let events = entries.iter().map(|entry| u64::from(entry.stored.batch.len())).sum();
            LaneUsage::new(id, entries.len() as u64, events, 0)
        };
        self.lanes.iter().map(usage).collect()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (Partition, &Entry)> {
        self.lanes.iter().flat_map(|(lane, entries)| entries.iter().map(|entry| (*lane, entry)))
    }

    pub(crate) fn entry_mut(&mut self, lane: Partition, id: EntryId) -> Option<&mut Entry> {
        self.lanes.get_mut(&lane)?.iter_mut().find(|entry| entry.id == id)
    }
}
