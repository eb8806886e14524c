//! Room: the quota, the reserve, and generations that come and go.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{DEAD, Engine, New, now_millis};
use crate::TARGET;
use crate::folder;
use crate::generation::{Extent, Generation, GenerationError};
use crate::marks::Marks;
use crate::record::{Count, Place, Stored};

/// Room kept for what sled writes beside the records: it takes space by half-mebibyte segments.
const SLACK: u64 = 1536 * 1024;
/// An acknowledged generation smaller than this is kept and added to: making a new one costs some syncs.
const SMALL: u64 = 3 * 1024 * 1024;
/// Records are moved in groups of about so many bytes.
pub(super) const GROUP: usize = 1024 * 1024;

impl Engine {
    /// Bytes that a record takes on the disk, roughly and rather too many: sled writes about twice its size, at times
    /// a little more.
    pub(super) fn cost(item: &New) -> u64 {
        let len = Stored::encoded_len(item.topic_len(), item.body.len());
        len.saturating_mul(5) / 2 + 256
    }

    /// Bytes of the folder on the disk, as of the last change, without what is quarantined.
    pub(crate) fn used(&self) -> u64 {
        let state = self.state();
        let generations: u64 = state.generations.iter().map(|generation| generation.disk_bytes()).sum();
        let marks = std::fs::metadata(self.options.path.join("MARKS")).map_or(0, |marks| marks.len());
        generations + marks + if state.reserve { self.options.reserve } else { 0 }
    }

    /// Bytes that may still be written, by the quota and by the disk, with some kept back for moving records.
    pub(super) fn room(&self) -> u64 {
        let reserve = self.state().reserve;
        if !reserve && !self.retake_reserve() {
            return 0;
        }
        let free = folder::free_bytes(&self.options.path).unwrap_or(u64::MAX);
        let quota = self.options.quota.saturating_sub(self.used());
        free.min(quota).saturating_sub(SLACK + self.options.generation_size() / 4)
    }

    pub(super) fn release_reserve(&self) {
        folder::release_reserve(&self.options.path);
        self.state().reserve = false;
    }

    pub(super) fn retake_reserve(&self) -> bool {
        let taken = folder::take_reserve(&self.options.path, self.options.reserve);
        self.state().reserve = taken;
        taken
    }

    /// The generation that is written to; a new one after the last has failed or is large enough.
    pub(super) fn current(&self) -> Result<Arc<Generation>, GenerationError> {
        if let Some(current) = self.state().current.clone() {
            return Ok(current);
        }
        let generation = self.begin()?;
        let mut state = self.state();
        state.generations.push(Arc::clone(&generation));
        state.current = Some(Arc::clone(&generation));
        Ok(generation)
    }

    /// Makes a generation that is not yet among the others.
    pub(super) fn begin(&self) -> Result<Arc<Generation>, GenerationError> {
        let mut state = self.state();
        let number = state.next_generation;
        state.next_generation += 1;
        drop(state);
        let created = Generation::create(&self.options.path, number, self.disk(), &self.options.faults);
        if created.is_err() {
            drop(folder::delete_dir(&folder::generation_dir(&self.options.path, number)));
        }
        created.map(Arc::new)
    }

    /// Ends the current generation; the next record begins another.
    pub(super) fn seal_current(&self) {
        let current = self.state().current.take();
        let Some(current) = current else { return };
        if let Err(error) = current.seal() {
            tracing::warn!(target: TARGET, %error, "sealing a generation of the storage");
            if matches!(error, GenerationError::Broken(_))
                && let Err(error) = self.repair_generation(current.number, &error.to_string())
            {
                tracing::error!(target: TARGET, %error, "a damaged generation can't be saved now");
            }
        }
        current.close();
    }

    /// Bytes of records in a generation that somebody still needs.
    fn live_bytes(&self, generation: &Generation) -> u64 {
        let state = self.state();
        let live = |((_, number), extent): &((_, u32), Extent)| {
            let Some(mark) = state.lanes.get(number).map(|lane| &lane.mark) else { return 1 };
            if mark.acked >= extent.last.min(mark.high) {
                return 0;
            }
            let from = if mark.acked >= extent.first { mark.acked_count } else { extent.before };
            extent.after.bytes.saturating_sub(from.bytes).max(1)
        };
        generation.extent_list().iter().map(live).sum()
    }

    /// Gives back what can be given back cheaply. To be called now and then.
    pub(crate) fn tidy(&self) {
        let mut writer = self.writer();
        self.expire_dead(&mut writer);
        self.drop_empty(SMALL);
        self.move_remains(4);
        let reserve = self.state().reserve;
        if !reserve {
            self.retake_reserve();
        }
    }

    /// Tries to get room for so many bytes. Whether there is.
    pub(super) fn make_room(&self, writer: &mut Marks, bytes: u64) -> bool {
        let acked =
            self.state().lanes.values().fold(Count::default(), |sum, lane| sum.plus(lane.mark.acked_count));
        if self.state().vain == Some(acked) {
            return false;
        }
        self.expire_dead(writer);
        self.drop_empty(SLACK);
        // While a group is being planned, the current generation has to stay.
        self.move_remains(2);
        let enough = self.room() >= bytes;
        self.state().vain = (!enough).then_some(acked);
        enough
    }

    /// Removes generations in which nothing is needed any more; the current one if it has so many bytes.
    fn drop_empty(&self, current_from: u64) {
        let (generations, current) = {
            let state = self.state();
            (state.generations.clone(), state.current.as_ref().map(|current| current.number))
        };
        for generation in generations {
            if self.live_bytes(&generation) > 0 {
                continue;
            }
            if Some(generation.number) == current {
                if generation.disk_bytes() < current_from || generation.extent_list().is_empty() {
                    continue;
                }
                self.state().current = None;
            }
            self.remove(&generation);
        }
    }

    /// Takes a generation out, and deletes it. Who still reads from it can go on.
    fn remove(&self, generation: &Arc<Generation>) {
        let mut state = self.state();
        state.generations.retain(|other| other.number != generation.number);
        state.open.retain(|other| other.number != generation.number);
        drop(state);
        if generation.damaged.load(Relaxed) {
            self.put_aside(generation.dir());
        } else if let Err(error) = folder::delete_dir(generation.dir()) {
            tracing::warn!(target: TARGET, %error, "a drained generation of the storage is not deleted; the next start tries again");
        }
    }

    /// Moves what is left in mostly drained generations to a new one, if that halves (2), quarters (4)… the space.
    fn move_remains(&self, times: u64) {
        let generations = self.state().generations.clone();
        let (mut chosen, mut live, mut disk) = (Vec::new(), 0, 0);
        for generation in generations {
            let bytes = self.live_bytes(&generation);
            let is_current =
                self.state().current.as_ref().is_some_and(|current| current.number == generation.number);
            let worth = bytes > 0 && generation.disk_bytes() > SMALL;
            // Written, a record takes some 2.5 times its bytes.
            if worth
                && bytes.saturating_mul(5) / 2 * times <= generation.disk_bytes()
                && (live + bytes) * 5 / 2 <= self.options.generation_size() / 4
            {
                if is_current {
                    self.seal_current();
                }
                live += bytes;
                disk += generation.disk_bytes();
                chosen.push(generation);
            }
        }
        // A generation takes a mebibyte, even when it is empty.
        if chosen.is_empty() || live * 5 / 2 + SLACK > disk {
            return;
        }
        if let Err(error) = self.merge(&chosen) {
            tracing::warn!(target: TARGET, %error, "moving what is left in drained generations of the storage");
        }
    }

    fn merge(&self, chosen: &[Arc<Generation>]) -> Result<(), GenerationError> {
        let target = self.begin()?;
        let mut group = Group::new(&target);
        let walked = chosen.iter().try_for_each(|generation| {
            let (mut seen, mut gaps) = (self.start_of(generation), Vec::new());
            generation.walk(|record| {
                if !self.state().is_live(record.place) {
                    return Ok(());
                }
                let Place { lane, seq, .. } = record.place;
                let before = seen.insert(lane, (seq, record.after()));
                gaps.extend(
                    before
                        .filter(|(_, count)| *count != record.before)
                        .map(|(last, _)| (lane, last, seq - 1)),
                );
                group.push(record)
            })?;
            if self.has_lost(generation, &seen, gaps) {
                generation.damaged.store(true, Relaxed);
            }
            Ok(())
        });
        let moved = walked.and_then(|()| group.end()).and_then(|()| target.seal());
        if let Err(error) = moved {
            target.abandon();
            drop(folder::delete_dir(target.dir()));
            return Err(error);
        }
        let mut state = self.state();
        state.generations.insert(0, target);
        drop(state);
        for generation in chosen {
            self.remove(generation);
        }
        Ok(())
    }

    /// Behind which record of each lane, and behind how much of it, what is needed of a generation begins.
    fn start_of(&self, generation: &Generation) -> BTreeMap<u32, (u64, Count)> {
        let state = self.state();
        let start = |((_, number), extent): ((_, u32), Extent)| {
            let mark = &state.lanes.get(&number)?.mark;
            let is_begun = mark.acked >= extent.first;
            let start =
                if is_begun { (mark.acked, mark.acked_count) } else { (extent.first - 1, extent.before) };
            Some((number, start))
        };
        generation.extent_list().into_iter().filter_map(start).collect()
    }

    /// Whether something that is needed was put into a generation and is not found any more, there or elsewhere: it would
    /// be in one of these gaps, or behind what was seen.
    fn has_lost(
        &self,
        generation: &Generation,
        seen: &BTreeMap<u32, (u64, Count)>,
        mut gaps: Vec<(u32, u64, u64)>,
    ) -> bool {
        let (marks, generations) = {
            let state = self.state();
            (state.marks(), state.generations.clone())
        };
        for ((_, number), Extent { last, .. }) in generation.extent_list() {
            let is_needed = marks.get(&number).is_some_and(|mark| last <= mark.high && !mark.is_void(last));
            if is_needed && seen.get(&number).is_some_and(|(seen, _)| *seen < last) {
                gaps.push((number, last - 1, last));
            }
        }
        gaps.into_iter().any(|(number, from, to)| {
            let voids = marks.get(&number).map_or(&[][..], |mark| &mark.voids);
            matches!(self.find(&generations, number, from, to, voids), Ok(None))
        })
    }

    /// Removes dead letters that are older than the limit.
    fn expire_dead(&self, writer: &mut Marks) {
        let Some(age) = self.options.dead_age else { return };
        let limit = now_millis().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let before = self.state().recovery.expired_dead_letters;
        self.expire_dead_before(limit, writer);
        let removed = self.state().recovery.expired_dead_letters - before;
        if removed > 0 {
            tracing::warn!(target: TARGET, removed, ?age, "dead letters are removed for their age");
        }
    }

    fn expire_dead_before(&self, limit: u64, writer: &mut Marks) {
        for _ in 0..10_000 {
            let Ok(Some(oldest)) = self.next(None, 0) else { return };
            if oldest.stored_at > limit {
                return;
            }
            let mut state = self.state();
            let mut frames = Vec::new();
            if let Some(lane) = state.lanes.get_mut(&DEAD) {
                lane.acknowledge(oldest.place.seq, oldest.after());
                lane.mark.frame(DEAD, &mut frames);
            }
            state.recovery.expired_dead_letters += 1;
            drop(state);
            if writer.write(&frames, || self.state().marks()).is_err() {
                return;
            }
        }
    }
}

/// Adds records to a generation, many at a time.
pub(super) struct Group<'a> {
    target: &'a Generation,
    records: Vec<Stored>,
    bytes: usize,
}

impl<'a> Group<'a> {
    pub(super) const fn new(target: &'a Generation) -> Self {
        Self { target, records: Vec::new(), bytes: 0 }
    }

    pub(super) fn push(&mut self, record: Stored) -> Result<(), GenerationError> {
        self.bytes += record.body.len();
        self.records.push(record);
        if self.bytes >= GROUP || self.records.len() >= 1024 { self.end() } else { Ok(()) }
    }

    pub(super) fn end(&mut self) -> Result<(), GenerationError> {
        if self.records.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        // Moving records is no call of anybody's.
        self.target.add(&std::mem::take(&mut self.records), File::sync_all)
    }
}
