//! [`Spool`] and [`SpoolView`]: what an operator does with a spool.

use std::path::Path;
use std::time::{Duration, SystemTime};

use kafka_batcher_core::{
    Batch, BatchBuilder, DeadRecord, EntryId, LaneId, LaneUsage, StorageError, StoredBatch,
};

use crate::dead;
use crate::engine::{DEAD, Engine, New, kind_of};
use crate::error::{Context, SledError};
use crate::folder;
use crate::marks::{self, MarkMap};
use crate::options::SledOptions;
use crate::record::{Count, Place, Stored};
use crate::report::Recovery;
use crate::scan::Index;
use crate::storage::{SledStorage, age, instant, lane_usage, next, next_batch};

/// What a lane holds, as an operator wants to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneInfo {
    /// Lane, batches, events, bytes.
    pub usage: LaneUsage,
    /// Batches that Kafka may have already.
    pub maybe_persisted: u64,
    /// How long the oldest batch has been here, by the wall clock.
    pub oldest: Option<Duration>,
}

/// What the area of dead letters holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadInfo {
    /// How many there are.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long the oldest has been here, by the wall clock.
    pub oldest: Option<Duration>,
}

/// A stored batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SpoolEntry {
    /// Its id within the lane.
    pub id: EntryId,
    /// The batch.
    pub stored: StoredBatch,
    /// When it was stored.
    pub stored_at: SystemTime,
}

/// A stored dead letter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadEntry {
    /// Its id among the dead letters.
    pub id: EntryId,
    /// The record, where it was to go, and why it did not.
    pub dead: DeadRecord,
    /// When it was stored.
    pub stored_at: SystemTime,
}

/// What [`Spool::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Batches that are there and sound.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Dead letters that are there and sound.
    pub dead_letters: u64,
    /// Batches and dead letters that can be read but not decoded.
    pub undecodable: u64,
    /// What is missing, and what was repaired.
    pub recovery: Recovery,
}

impl Verification {
    /// Whether everything is there and sound.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.undecodable == 0 && self.recovery.is_clean()
    }
}

/// What to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purge {
    /// The batches of one lane.
    Lane(LaneId),
    /// The batches of all lanes.
    Batches,
    /// The dead letters.
    DeadLetters,
}

/// A spool that no process is using, opened to look into it and to change it. All calls block.
///
/// It is opened as [`SledStorage`](crate::SledStorage) opens it: damage is repaired and told by
/// [`recovery`](Self::recovery).
#[derive(Debug)]
pub struct Spool {
    engine: Engine,
}

fn check_is_spool(path: &Path) -> Result<(), SledError> {
    if path.join("FORMAT").exists() || path.join("MARKS").exists() {
        return Ok(());
    }
    Err(SledError::NotASpool { path: path.to_path_buf(), why: "there is no FORMAT in it".to_owned() })
}

fn refused(error: StorageError) -> SledError {
    match error {
        StorageError::Full { .. } => SledError::Full(error.to_string()),
        other => SledError::Damaged(other.to_string()),
    }
}

fn dead_entry(stored: &Stored) -> Option<DeadEntry> {
    let dead = dead::decode(&stored.body)?;
    Some(DeadEntry { id: EntryId(stored.place.seq), dead, stored_at: instant(stored.stored_at) })
}

impl Spool {
    /// Opens a spool that is there, whatever quota it was made for.
    ///
    /// # Errors
    /// [`SledError::StorageLocked`] while a process uses it: [`SpoolView`] can show it all the same.
    /// [`SledError::NotASpool`] when there is none.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SledError> {
        check_is_spool(path.as_ref())?;
        let options = SledOptions::new(path).quota(u64::MAX / 2).reserve(1024 * 1024).dead_letter_limit(None);
        Ok(Self { engine: Engine::open(options)? })
    }

    /// What opening found and repaired, and what was found to be lost since.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.engine.recovery()
    }

    /// The spool as storage, for a batcher to send what is in it; without a quota.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn into_storage(self) -> Result<SledStorage, SledError> {
        SledStorage::on(self.engine)
    }

    /// Bytes the spool takes on the disk, without what is quarantined.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.engine.used()
    }

    /// All lanes that hold something. Reads every batch.
    ///
    /// # Errors
    /// When reading fails.
    pub fn lanes(&self) -> Result<Vec<LaneInfo>, SledError> {
        let info = |usage: LaneUsage| {
            let mut info = LaneInfo { usage, maybe_persisted: 0, oldest: None };
            let mut after = 0;
            while let Some(stored) = next(&self.engine, Some(&info.usage.id), after).map_err(refused)? {
                after = stored.place.seq;
                info.maybe_persisted += u64::from(stored.maybe);
                info.oldest.get_or_insert_with(|| age(stored.stored_at));
            }
            Ok(info)
        };
        lane_usage(&self.engine).into_iter().map(info).collect()
    }

    /// What the area of dead letters holds.
    ///
    /// # Errors
    /// When reading fails.
    pub fn dead_letters(&self) -> Result<DeadInfo, SledError> {
        let Count { batches: records, bytes, .. } = self.engine.usage_of(None);
        let oldest = next(&self.engine, None, 0).map_err(refused)?.map(|stored| age(stored.stored_at));
        Ok(DeadInfo { records, bytes, oldest })
    }

    /// The first batch of a lane behind `after`, or the oldest: to peek, and to export.
    ///
    /// # Errors
    /// When reading fails.
    pub fn next(&self, lane: &LaneId, after: Option<EntryId>) -> Result<Option<SpoolEntry>, SledError> {
        let found = next_batch(&self.engine, lane, after.map_or(0, |id| id.0)).map_err(refused)?;
        Ok(found.map(|(id, stored, at)| SpoolEntry { id, stored, stored_at: instant(at) }))
    }

    /// The first dead letter behind `after`, or the oldest.
    ///
    /// # Errors
    /// When reading fails.
    pub fn next_dead(&self, after: Option<EntryId>) -> Result<Option<DeadEntry>, SledError> {
        let mut after = after.map_or(0, |id| id.0);
        while let Some(stored) = next(&self.engine, None, after).map_err(refused)? {
            after = stored.place.seq;
            if let Some(entry) = dead_entry(&stored) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Reads everything: checksums, that nothing is missing, that every batch can be decoded.
    ///
    /// # Errors
    /// When reading fails; damage is no error, but told.
    pub fn verify(&self) -> Result<Verification, SledError> {
        let mut found = Verification::default();
        for usage in lane_usage(&self.engine) {
            let mut after = 0;
            while let Some(stored) = next(&self.engine, Some(&usage.id), after).map_err(refused)? {
                after = stored.place.seq;
                match Batch::parse(stored.body) {
                    Ok(batch) => {
                        found.batches += 1;
                        found.events += u64::from(batch.len());
                    }
                    Err(_) => found.undecodable += 1,
                }
            }
        }
        let mut after = 0;
        while let Some(stored) = next(&self.engine, None, after).map_err(refused)? {
            after = stored.place.seq;
            if dead_entry(&stored).is_some() { found.dead_letters += 1 } else { found.undecodable += 1 }
        }
        found.recovery = self.engine.recovery();
        Ok(found)
    }

    /// Puts those dead letters that `wanted` approves to the end of the lanes they were meant for. How many.
    ///
    /// The others stay, behind each other as before, under new ids. Stopped halfway it leaves some of them twice,
    /// none lost.
    ///
    /// # Errors
    /// When there is no room, or reading or writing fails: nothing is lost then either.
    pub fn requeue(&self, mut wanted: impl FnMut(&DeadEntry) -> bool) -> Result<u64, SledError> {
        let (end, mut after, mut requeued) = (self.engine.last_of_lane(None), 0, 0);
        while after < end {
            let Some(stored) =
                next(&self.engine, None, after).map_err(refused)?.filter(|s| s.place.seq <= end)
            else {
                break;
            };
            after = stored.place.seq;
            let entry = dead_entry(&stored).filter(&mut wanted);
            let again = match &entry {
                Some(entry) => {
                    let mut builder = BatchBuilder::new();
                    let at = i64::try_from(stored.stored_at).unwrap_or(i64::MAX);
                    let fits = builder.push(&entry.dead.record.as_ref(), at, None, usize::MAX);
                    let batch = builder.seal().filter(|_| fits);
                    batch.map(|batch| New {
                        lane: Some(entry.dead.lane.clone()),
                        maybe: false,
                        events: batch.len(),
                        body: batch.as_bytes().clone(),
                        stored_at: None,
                    })
                }
                None => None,
            };
            requeued += u64::from(again.is_some());
            let again = again.unwrap_or(New {
                lane: None,
                maybe: false,
                events: 1,
                body: stored.body,
                stored_at: Some(stored.stored_at),
            });
            for answer in self.engine.append(&[again]) {
                answer.map_err(refused)?;
            }
            self.engine.acknowledge(None, after).map_err(refused)?;
        }
        self.engine.sync_marks();
        Ok(requeued)
    }

    /// Deletes for good. How many batches or dead letters.
    ///
    /// # Errors
    /// When writing fails.
    pub fn purge(&self, what: &Purge) -> Result<u64, SledError> {
        let purge = |lane: Option<&LaneId>| {
            let usage = self.engine.usage_of(lane).batches;
            self.engine.acknowledge(lane, self.engine.last_of_lane(lane)).map_err(refused)?;
            Ok(usage)
        };
        let purged = match what {
            Purge::Lane(lane) => purge(Some(lane)),
            Purge::DeadLetters => purge(None),
            Purge::Batches => lane_usage(&self.engine).iter().map(|usage| purge(Some(&usage.id))).sum(),
        };
        self.engine.sync_marks();
        self.engine.tidy();
        purged
    }
}

/// A look into a spool that a process may be using: reads its files and changes nothing, not even sled's.
///
/// Shows what was in the files at some time between the beginning and the end of [`read`](Self::read). A generation
/// that the process removes meanwhile is missing in it.
#[derive(Debug)]
pub struct SpoolView {
    marks: MarkMap,
    index: Index,
    /// Places by lane, in order, with what is known without reading the record.
    places: Vec<Place>,
}

impl SpoolView {
    /// Reads a spool, used or not.
    ///
    /// # Errors
    /// [`SledError::NotASpool`] when there is none; when reading fails.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, SledError> {
        let path = path.as_ref();
        check_is_spool(path)?;
        // The marks first: what is promised there is in the files.
        let marks = marks::read(path).context(|| "read MARKS".to_owned())?.marks;
        let mut index = Index::default();
        let wanted = |place: Place| {
            let mark = marks.get(&place.lane);
            mark.is_some_and(|mark| {
                place.seq > mark.acked && place.seq <= mark.high && !mark.is_void(place.seq)
            })
        };
        for name in folder::names(path).context(|| "list the spool".to_owned())? {
            if name.starts_with("gen-") {
                match index.add_dir(&path.join(&name), wanted) {
                    Ok(()) => {}
                    // Just removed.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(SledError::io(format!("read {name}"), error)),
                }
            }
        }
        let places = index.places().collect();
        Ok(Self { marks, index, places })
    }

    fn stored(&self, number: u32, after: u64) -> impl Iterator<Item = Stored> {
        let kind = kind_of(number);
        let of_lane = move |place: &&Place| place.kind == kind && place.lane == number && place.seq > after;
        self.places.iter().filter(of_lane).filter_map(|place| self.index.read(*place).ok().flatten())
    }

    fn number(&self, lane: &LaneId) -> Option<u32> {
        self.marks.iter().find(|(_, mark)| mark.id.as_ref() == Some(lane)).map(|(number, _)| *number)
    }

    /// All lanes that hold something.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneInfo> {
        let info = |number: u32, id: &LaneId| {
            let usage = LaneUsage::new(id.clone(), 0, 0, 0);
            let mut info = LaneInfo { usage, maybe_persisted: 0, oldest: None };
            for stored in self.stored(number, 0) {
                info.usage.batches += 1;
                info.usage.events += u64::from(stored.events);
                info.usage.bytes += stored.body.len() as u64;
                info.maybe_persisted += u64::from(stored.maybe);
                info.oldest.get_or_insert_with(|| age(stored.stored_at));
            }
            (info.usage.batches > 0).then_some(info)
        };
        self.marks.iter().filter_map(|(number, mark)| info(*number, mark.id.as_ref()?)).collect()
    }

    /// What the area of dead letters holds.
    #[must_use]
    pub fn dead_letters(&self) -> DeadInfo {
        let mut info = DeadInfo::default();
        for stored in self.stored(DEAD, 0) {
            info.records += 1;
            info.bytes += stored.body.len() as u64;
            info.oldest.get_or_insert_with(|| age(stored.stored_at));
        }
        info
    }

    /// The first batch of a lane behind `after`, or the oldest.
    #[must_use]
    pub fn next(&self, lane: &LaneId, after: Option<EntryId>) -> Option<SpoolEntry> {
        self.stored(self.number(lane)?, after.map_or(0, |id| id.0)).find_map(|stored| {
            let batch = Batch::parse(stored.body).ok()?;
            let (id, stored_at) = (EntryId(stored.place.seq), instant(stored.stored_at));
            Some(SpoolEntry { id, stored: StoredBatch::new(batch, stored.maybe), stored_at })
        })
    }

    /// The first dead letter behind `after`, or the oldest.
    #[must_use]
    pub fn next_dead(&self, after: Option<EntryId>) -> Option<DeadEntry> {
        self.stored(DEAD, after.map_or(0, |id| id.0)).find_map(|stored| dead_entry(&stored))
    }
}
