//! The spool as it works, without threads: what is where, and in which order it gets to the disk.
//!
//! One caller at a time writes (whoever holds `writer`); any number read beside it.

mod open;
mod repair;
mod space;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_batcher_core::{LaneId, StorageCall, StorageError, Telemetry};

use crate::TARGET;
use crate::folder::Lock;
use crate::generation::{Generation, GenerationError};
use crate::lane::Lane;
use crate::marks::{Mark, MarkMap, Marks};
use crate::options::{Durability, SledOptions};
use crate::quiet::Quiet;
use crate::record::{Count, Kind, Place, Stored};
use crate::report::Recovery;

/// The lane of dead letters.
pub(crate) const DEAD: u32 = 0;
/// Sealed generations that are open at a time.
const OPEN: usize = 4;
/// Longest name of a topic; Kafka's own limit is 249.
const LONGEST_TOPIC: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct Engine {
    options: SledOptions,
    writer: Mutex<Marks>,
    state: Mutex<State>,
    pub(crate) telemetry: Told,
    /// Of writes that failed.
    failures: Quiet,
    _lock: Lock,
}

/// Who is told of what no caller sees.
#[derive(Default)]
pub(crate) struct Told(Mutex<Option<Arc<dyn Telemetry>>>);

impl Told {
    pub(crate) fn set(&self, telemetry: Arc<dyn Telemetry>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(telemetry);
    }

    fn get(&self) -> Option<Arc<dyn Telemetry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    lanes: BTreeMap<u32, Lane>,
    numbers: HashMap<LaneId, u32>,
    generations: Vec<Arc<Generation>>,
    /// The one that is written to: the last of them; none after it failed.
    current: Option<Arc<Generation>>,
    /// Sealed ones that are open, the one read last at the end.
    open: VecDeque<Arc<Generation>>,
    next_generation: u64,
    recovery: Recovery,
    reserve: bool,
    /// What was acknowledged when making room was last tried in vain.
    vain: Option<Count>,
}

/// Something to be written.
#[derive(Clone, Debug)]
pub(crate) struct New {
    /// `None`: a dead letter.
    pub(crate) lane: Option<LaneId>,
    pub(crate) maybe: bool,
    pub(crate) events: u32,
    pub(crate) body: Bytes,
    /// Milliseconds since the epoch; now, if not given.
    pub(crate) stored_at: Option<u64>,
}

impl New {
    fn topic_len(&self) -> usize {
        self.lane.as_ref().map_or(0, |lane| lane.topic.len())
    }
}

pub(crate) fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn kind_of(lane: u32) -> Kind {
    if lane == DEAD { Kind::Dead } else { Kind::Batch }
}

pub(crate) fn failed(error: &GenerationError, used: u64, quota: u64) -> StorageError {
    match error {
        GenerationError::Full(_) => StorageError::Full { used, quota },
        GenerationError::Failed(text) | GenerationError::Broken(text) => StorageError::Failed(text.clone()),
    }
}

/// A read met damage in this generation: repair it, then read again.
#[derive(Debug)]
pub(crate) struct Damaged(pub(crate) u64, pub(crate) GenerationError);

impl Engine {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Marks> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn options(&self) -> &SledOptions {
        &self.options
    }

    fn disk(&self) -> bool {
        self.options.durability == Durability::Disk
    }

    pub(crate) fn recovery(&self) -> Recovery {
        self.state().recovery.clone()
    }

    /// Lanes and what each holds; dead letters under `None`.
    pub(crate) fn usage(&self) -> Vec<(Option<LaneId>, Count)> {
        let state = self.state();
        let lanes = state.lanes.values().map(|lane| (lane.mark.id.clone(), lane.usage()));
        lanes.filter(|(_, usage)| usage.batches > 0).collect()
    }

    /// What one lane holds.
    pub(crate) fn usage_of(&self, lane: Option<&LaneId>) -> Count {
        let state = self.state();
        state.number(lane).and_then(|number| state.lanes.get(&number)).map(Lane::usage).unwrap_or_default()
    }

    /// The last record of a lane; 0 when it never had one.
    pub(crate) fn last_of_lane(&self, lane: Option<&LaneId>) -> u64 {
        let state = self.state();
        state.number(lane).and_then(|number| state.lanes.get(&number)).map_or(0, |lane| lane.mark.high)
    }

    /// The last record of a lane that is done with; 0 when there was none.
    pub(crate) fn acknowledged(&self, lane: Option<&LaneId>) -> u64 {
        let state = self.state();
        state.number(lane).and_then(|number| state.lanes.get(&number)).map_or(0, |lane| lane.mark.acked)
    }

    /// Writes records in order, each behind all others of its lane. Answers for each; those that were taken are safe.
    pub(crate) fn append(&self, items: &[New]) -> Vec<Result<u64, StorageError>> {
        let mut writer = self.writer();
        let (records, mut answers) = self.place(&mut writer, items);
        if records.is_empty() {
            return answers;
        }
        let current = self.current();
        let added =
            current.clone().and_then(|current| current.add(&records, |file| self.synced(|| file.sync_all())));
        let marked = added.and_then(|()| Ok(self.promise(&mut writer, &records)?));
        match marked.and(current) {
            Ok(current) => {
                let mut state = self.state();
                for record in &records {
                    let Some(lane) = state.lanes.get_mut(&record.place.lane) else { continue };
                    (lane.mark.high, lane.mark.high_count) = (record.place.seq, record.after());
                }
                drop(state);
                if current.disk_bytes() >= self.options.generation_size() {
                    self.seal_current();
                }
            }
            Err(error) => {
                self.take_back(&mut writer, &records, &error);
                let error = self.describe(&error);
                for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                    *answer = Err(error.clone());
                }
            }
        }
        answers
    }

    fn describe(&self, error: &GenerationError) -> StorageError {
        failed(error, self.used(), self.options.quota)
    }

    /// Gives each item its place in its lane, if there is room for it.
    fn place(&self, writer: &mut Marks, items: &[New]) -> (Vec<Stored>, Vec<Result<u64, StorageError>>) {
        let (mut records, mut answers) = (Vec::new(), Vec::new());
        let mut room = self.room();
        let mut dead = self.usage_of(None).batches;
        for item in items {
            let cost = Self::cost(item);
            if cost > room {
                // What is planned already is not on the disk yet.
                let planned: u64 = items
                    .iter()
                    .zip(&answers)
                    .filter(|(_, answer)| Result::is_ok(answer))
                    .map(|(item, _)| Self::cost(item))
                    .sum();
                if self.make_room(writer, cost.saturating_add(planned)) {
                    room = self.room().saturating_sub(planned);
                }
            }
            let too_long = item.topic_len() > LONGEST_TOPIC;
            let too_many =
                item.lane.is_none() && self.options.dead_limit.is_some_and(|limit| dead >= limit.get());
            if too_long || too_many {
                let why = if too_long {
                    "the topic's name is too long"
                } else {
                    "the limit of dead letters is reached"
                };
                answers.push(Err(StorageError::Failed(why.to_owned())));
            } else if cost > room {
                answers.push(Err(StorageError::Full { used: self.used(), quota: self.options.quota }));
            } else {
                room -= cost;
                dead += u64::from(item.lane.is_none());
                let record = self.state().assign(item);
                answers.push(Ok(record.place.seq));
                records.push(record);
            }
        }
        (records, answers)
    }

    /// Writes down that the records are there, so that it would be noticed if they were not.
    fn promise(&self, writer: &mut Marks, records: &[Stored]) -> std::io::Result<()> {
        let mut state = self.state();
        let mut changed = BTreeMap::new();
        for record in records {
            let lane = state.lanes.entry(record.place.lane).or_default();
            let mark = changed.entry(record.place.lane).or_insert_with(|| lane.mark.clone());
            (mark.high, mark.high_count) = (record.place.seq, record.after());
        }
        let mut frames = Vec::new();
        for (number, mark) in &changed {
            // The first of a lane brings its name along.
            if let Some(id) = mark.id.as_ref().filter(|_| state.lanes[number].mark.high == 0) {
                Mark::name_frame(*number, id, &mut frames);
            }
            mark.frame(*number, &mut frames);
        }
        drop(state);
        let all = || {
            let mut all = self.state().marks();
            all.append(&mut changed);
            all
        };
        writer.write(&frames, all)?;
        if self.disk() { self.synced(|| writer.sync()) } else { writer.sync() }
    }

    /// Forces something to the disk, and tells telemetry how long that took.
    fn synced(&self, sync: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
        let telemetry = self.telemetry.get();
        let start = Instant::now();
        let result = sync();
        if let Some(telemetry) = telemetry {
            telemetry.storage_called(StorageCall::Sync, start.elapsed(), result.is_ok());
        }
        result
    }

    /// Writing failed: none of these records is there, now or later, and nothing more goes to where that was.
    fn take_back(&self, writer: &mut Marks, records: &[Stored], error: &GenerationError) {
        let said = self.failures.pass(Instant::now());
        if let Some(left_out) = said {
            tracing::error!(
                target: TARGET, %error, records = records.len(), left_out,
                "writing to the storage failed; going on in a new generation"
            );
        }
        let mut frames = Vec::new();
        let mut state = self.state();
        let mut voids: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for Place { lane, seq, .. } in records.iter().map(|record| record.place) {
            voids.entry(lane).and_modify(|(_, to)| *to = seq).or_insert((seq, seq));
        }
        for (number, void) in voids {
            if let Some(lane) = state.lanes.get_mut(&number) {
                lane.mark.voids.push(void);
                lane.next_count = lane.mark.high_count;
            }
            Mark::void_frame(number, void, &mut frames);
        }
        let suspect = state.current.take();
        drop(state);
        if let Some(Err(error)) = suspect.map(|generation| generation.give_up())
            && said.is_some()
        {
            tracing::warn!(target: TARGET, %error, "a generation that failed is not marked so");
        }
        if matches!(error, GenerationError::Full(_)) {
            self.release_reserve();
        }
        if let Err(error) = writer.write(&frames, || self.state().marks()).and_then(|()| writer.sync())
            && said.is_some()
        {
            tracing::warn!(target: TARGET, %error, "what was refused may be found in the storage after a crash, too");
        }
    }

    /// The first record of a lane behind `after`.
    pub(crate) fn next(&self, lane: Option<&LaneId>, after: u64) -> Result<Option<Stored>, Damaged> {
        let mut after = after;
        loop {
            let state = self.state();
            let Some((number, lane)) = state.number(lane).and_then(|n| Some((n, state.lanes.get(&n)?)))
            else {
                return Ok(None);
            };
            let from = after.max(lane.mark.acked);
            let high = (lane.mark.high, lane.mark.high_count);
            let voids = lane.mark.voids.clone();
            let generations = state.generations.clone();
            drop(state);
            let found = self.find(&generations, number, from, high.0, &voids)?;
            let mut state = self.state();
            let would_lose =
                state.lanes.get(&number).is_some_and(|lane| lane.would_lose(from, high, found.as_ref()));
            if would_lose {
                // Before it is given up: sled may have lost what is still in its file.
                drop(state);
                let to = found.as_ref().map_or(high.0, |record| record.place.seq - 1);
                self.search(&generations, number, from, to)?;
                state = self.state();
            }
            let state = &mut *state;
            let Some(lane) = state.lanes.get_mut(&number) else { return Ok(None) };
            if let Some(lost) = lane.saw(from, high, found.as_ref()) {
                state.recovery.lose(lane.mark.id.clone(), from, lost);
            }
            match found {
                // Acknowledged while it was being read.
                Some(record) if record.place.seq <= lane.mark.acked => after = lane.mark.acked,
                found => return Ok(found),
            }
        }
    }

    /// Everything of the lane up to `seq` is done with.
    pub(crate) fn acknowledge(&self, lane: Option<&LaneId>, seq: u64) -> Result<(), StorageError> {
        let mut writer = self.writer();
        let state = self.state();
        let Some((number, found)) = state.number(lane).and_then(|n| Some((n, state.lanes.get(&n)?))) else {
            return Ok(());
        };
        let seq = seq.min(found.mark.high);
        if seq <= found.mark.acked {
            return Ok(());
        }
        let count = found.recent_count(seq);
        let (acked, high, voids) =
            (found.mark.acked, (found.mark.high, found.mark.high_count), found.mark.voids.clone());
        let generations = state.generations.clone();
        drop(state);
        let count = match count {
            Some(count) => count,
            None => self.count_at(&generations, number, acked, seq, high, &voids)?,
        };
        let mut state = self.state();
        let mut frames = Vec::new();
        if let Some(lane) = state.lanes.get_mut(&number) {
            lane.acknowledge(seq, count);
            lane.mark.frame(number, &mut frames);
        }
        drop(state);
        writer.write(&frames, || self.state().marks()).map_err(|error| self.describe(&error.into()))
    }

    /// What the lane had taken up to a record, that record included.
    fn count_at(
        &self,
        generations: &[Arc<Generation>],
        lane: u32,
        acked: u64,
        seq: u64,
        high: (u64, Count),
        voids: &[(u64, u64)],
    ) -> Result<Count, StorageError> {
        let describe = |damaged: Damaged| self.describe(&damaged.1);
        if let Some(record) =
            self.find(generations, lane, seq.saturating_sub(1).max(acked), seq, voids).map_err(describe)?
        {
            return Ok(record.after());
        }
        // Lost: what follows knows what was before it.
        let next = self.find(generations, lane, seq, high.0, voids).map_err(describe)?;
        Ok(next.map_or(high.1, |record| record.before))
    }

    /// Forces acknowledgements to the disk; they are safe from the end of the process without. What could not be written
    /// before is tried again.
    pub(crate) fn sync_marks(&self) {
        let mut writer = self.writer();
        if let Err(error) = writer.mend(|| self.state().marks()).and_then(|()| writer.sync()) {
            tracing::warn!(target: TARGET, %error, "acknowledged batches may come again after a power cut");
        }
    }

    /// The first record of a lane behind `from` in any of the generations.
    fn find(
        &self,
        generations: &[Arc<Generation>],
        lane: u32,
        from: u64,
        to: u64,
        voids: &[(u64, u64)],
    ) -> Result<Option<Stored>, Damaged> {
        let mut best: Option<Stored> = None;
        for generation in generations {
            let mut from = from;
            // Whatever is behind the best so far is of no interest.
            let to = best.as_ref().map_or(to, |best| best.place.seq - 1);
            if !generation.covers(kind_of(lane), lane, from, to) {
                continue;
            }
            self.keep_few_open(generation);
            let found = loop {
                let found = generation.find(kind_of(lane), lane, from, to);
                let found = found.map_err(|error| Damaged(generation.number, error))?;
                let seq = found.as_ref().map(|record| record.place.seq);
                let void =
                    voids.iter().find(|(first, last)| seq.is_some_and(|seq| (*first..=*last).contains(&seq)));
                match void {
                    Some((_, last)) => from = *last,
                    None => break found,
                }
            };
            best = found.or(best);
        }
        Ok(best)
    }

    /// Looks into the files of generations in which sled does not find what was put there.
    fn search(&self, generations: &[Arc<Generation>], lane: u32, from: u64, to: u64) -> Result<(), Damaged> {
        for generation in generations {
            if !generation.covers(kind_of(lane), lane, from, to) || generation.searched.load(Relaxed) {
                continue;
            }
            if generation.is_sealed() {
                // That was a search of its files already. It is kept when it has been drained.
                generation.damaged.store(true, Relaxed);
                continue;
            }
            if self.has_more(generation.dir(), generation).unwrap_or(true) {
                let what = "sled does not find what is in its file".to_owned();
                return Err(Damaged(generation.number, GenerationError::Broken(what)));
            }
            generation.searched.store(true, Relaxed);
        }
        Ok(())
    }

    /// Closes the sealed generation that was read longest ago: where everything is in it takes some memory.
    fn keep_few_open(&self, generation: &Arc<Generation>) {
        if !generation.is_sealed() {
            return;
        }
        let mut state = self.state();
        state.open.retain(|other| other.number != generation.number);
        state.open.push_back(Arc::clone(generation));
        let oldest = if state.open.len() > OPEN { state.open.pop_front() } else { None };
        drop(state);
        if let Some(oldest) = oldest {
            oldest.close();
        }
    }
}

impl State {
    fn number(&self, lane: Option<&LaneId>) -> Option<u32> {
        lane.map_or(Some(DEAD), |lane| self.numbers.get(lane).copied())
    }

    fn marks(&self) -> MarkMap {
        self.lanes.iter().map(|(number, lane)| (*number, lane.mark.clone())).collect()
    }

    /// The next place of the item's lane.
    fn assign(&mut self, item: &New) -> Stored {
        let number = self.number(item.lane.as_ref()).unwrap_or_else(|| {
            let number = self.lanes.last_key_value().map_or(DEAD, |(number, _)| *number) + 1;
            self.numbers.extend(item.lane.clone().map(|id| (id, number)));
            number
        });
        let new = || Lane::new(Mark { id: item.lane.clone(), ..Mark::default() });
        let lane = self.lanes.entry(number).or_insert_with(new);
        let record = Stored {
            place: Place { kind: kind_of(number), lane: number, seq: lane.next_seq },
            maybe: item.maybe,
            before: lane.next_count,
            acked: lane.mark.acked,
            stored_at: item.stored_at.unwrap_or_else(now_millis),
            events: item.events,
            lane: item.lane.clone().unwrap_or_else(|| LaneId::unassigned("")),
            body: item.body.clone(),
        };
        lane.next_seq += 1;
        lane.next_count = record.after();
        record
    }

    /// Whether somebody still needs this record.
    fn is_live(&self, place: Place) -> bool {
        self.lanes
            .get(&place.lane)
            .is_none_or(|lane| place.seq > lane.mark.acked && !lane.mark.is_void(place.seq))
    }
}
