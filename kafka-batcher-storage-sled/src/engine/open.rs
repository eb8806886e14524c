//! Opening: clean up after a process that was killed, open what is there, compare it with what was promised.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::{DEAD, Damaged, Engine, State, Told, kind_of};
use crate::TARGET;
use crate::error::{Context, SledError};
use crate::folder;
use crate::generation::{Generation, GenerationError, is_sealed};
use crate::lane::Lane;
use crate::marks::{self, Mark, MarkMap, Marks};
use crate::options::{Durability, SledOptions};
use crate::quiet::Quiet;
use crate::record::{Count, Kind};

/// A generation that was being added to, opened, beside a copy of what it was before.
struct Young {
    generation: Arc<Generation>,
    copy: Option<PathBuf>,
    /// It has gaps, or can't be read.
    suspicious: bool,
}

impl From<GenerationError> for SledError {
    fn from(error: GenerationError) -> Self {
        match error {
            GenerationError::Full(text) => Self::Full(text),
            GenerationError::Failed(text) | GenerationError::Broken(text) => Self::Damaged(text),
        }
    }
}

/// More records than a lane can have in one group.
const GROUP_LIMIT: u64 = 1024;

/// Passes over the sequence numbers that the process before may have been about to use: parts of records that it never
/// promised may be in the files, and must not be taken for others with the same number.
fn skip(mark: &mut Mark) {
    match mark.voids.iter_mut().find(|(_, to)| *to > mark.high) {
        Some((_, to)) => *to += GROUP_LIMIT,
        None => mark.voids.push((mark.high + 1, mark.high + GROUP_LIMIT)),
    }
}

impl Engine {
    pub(crate) fn open(options: SledOptions) -> Result<Self, SledError> {
        options.check()?;
        let dir = options.path.clone();
        let disk = options.durability == Durability::Disk;
        let lock = folder::lock(&dir)?;
        folder::check_format(&dir, disk)?;
        folder::restrict(&dir).context(|| format!("set the permissions of {}", dir.display()))?;
        folder::release_reserve(&dir);
        let (numbers, half_written) = folder::clean_up(&dir).context(|| "clean up".to_owned())?;
        let read = marks::read(&dir).context(|| "read MARKS".to_owned())?;
        let marks_damaged = read.damaged || (read.missing && !numbers.is_empty());
        if read.damaged {
            drop(std::fs::copy(dir.join("MARKS"), dir.join("quarantine-MARKS")));
        }
        let writer = Marks::create(&dir, &read.marks, disk, options.faults.clone());
        let writer = writer.context(|| "write MARKS".to_owned())?;
        let mut state =
            State { next_generation: numbers.last().map_or(1, |last| last + 1), ..State::default() };
        state.recovery.half_written = half_written;
        state.recovery.marks_damaged = marks_damaged;
        state.lanes = read.marks.iter().map(|(number, mark)| (*number, Lane::new(mark.clone()))).collect();
        let engine = Self {
            options,
            writer: Mutex::new(writer),
            state: Mutex::new(state),
            telemetry: Told::default(),
            failures: Quiet::default(),
            _lock: lock,
        };

        let mut young = Vec::new();
        for number in &numbers {
            young.extend(engine.open_one(*number)?);
        }
        let marks = engine.adjusted(read.marks, marks_damaged)?;
        engine.check_young(young, &marks)?;
        // Saving may have found more.
        let mut marks = engine.adjusted(marks, marks_damaged)?;
        engine.use_marks(&mut marks);
        engine.look_for_losses();
        engine.choose_current(numbers.last().copied());
        let marks = engine.state().marks();
        let new = Marks::create(&dir, &marks, disk, engine.options.faults.clone());
        *engine.writer() = new.context(|| "write MARKS".to_owned())?;
        engine.retake_reserve();
        engine.tidy();
        Ok(engine)
    }

    /// Opens a generation and puts it among the others. One that was being added to is not yet trusted.
    fn open_one(&self, number: u64) -> Result<Option<Young>, SledError> {
        let dir = &self.options.path;
        let mut copy = None;
        if !is_sealed(dir, number) {
            // sled cuts off what it takes for a torn end, also when that is damage with sound records behind it.
            match folder::copy_generation(dir, number) {
                Ok(()) => copy = Some(folder::copy_dir(dir, number)),
                Err(error) => {
                    tracing::warn!(target: TARGET, %error, "no room to copy a part of the storage before it is opened");
                    drop(std::fs::remove_dir_all(folder::copy_dir(dir, number)));
                }
            }
        }
        let opened = Generation::open(dir, number, self.disk(), &self.options.faults);
        let error = match opened {
            Ok(generation) => {
                let generation = Arc::new(generation);
                self.state().generations.push(Arc::clone(&generation));
                let suspicious = !generation.is_sealed() && self.has_gaps(&generation);
                return Ok((!generation.is_sealed()).then_some(Young { generation, copy, suspicious }));
            }
            Err(GenerationError::Full(text)) => return Err(SledError::Full(text)),
            Err(error) => error,
        };
        let from = copy.clone().unwrap_or_else(|| folder::generation_dir(dir, number));
        let saved = self.salvage(&from, &error.to_string())?;
        self.state().generations.extend(saved);
        self.retire(number, copy.as_ref());
        Ok(None)
    }

    /// Puts a damaged generation aside; of two, what it was before sled opened it.
    fn retire(&self, number: u64, copy: Option<&PathBuf>) {
        let original = folder::generation_dir(&self.options.path, number);
        match copy {
            Some(copy) => {
                if let Err(error) = folder::delete_dir(&original) {
                    tracing::warn!(target: TARGET, %error, "a damaged part of the storage is not deleted");
                }
                self.put_aside(copy);
            }
            None => {
                self.put_aside(&original);
            }
        }
    }

    fn has_gaps(&self, generation: &Generation) -> bool {
        let mut last: BTreeMap<(Kind, u32), Count> = BTreeMap::new();
        let mut gaps = false;
        let walked = generation.walk(|record| {
            let before = last.insert((record.place.kind, record.place.lane), record.after());
            gaps |= before.is_some_and(|before| before != record.before);
            Ok(())
        });
        gaps || walked.is_err()
    }

    /// Compares what sled has made of the generations that were being added to with what they were before.
    fn check_young(&self, young: Vec<Young>, marks: &MarkMap) -> Result<(), SledError> {
        let has_end = |number: &u32, mark: &Mark| {
            let generations = self.state().generations.clone();
            mark.acked >= mark.high
                || self.last_of(&generations, *number, mark).is_some_and(|(last, _)| last >= mark.high)
        };
        let ends_missing = !marks.iter().all(|(number, mark)| has_end(number, mark));
        for Young { generation, copy, suspicious } in young {
            let number = generation.number;
            if suspicious || ends_missing {
                let dir = copy.clone().unwrap_or_else(|| generation.dir().to_path_buf());
                // Unreadable is as good as missing.
                if self.has_more(&dir, &generation).unwrap_or(true) {
                    let saved = self.salvage(&dir, "it has lost records, or can't be read")?;
                    self.state().generations.retain(|other| other.number != number);
                    self.state().generations.extend(saved);
                    generation.abandon();
                    self.retire(number, copy.as_ref());
                    continue;
                }
            }
            if let Some(copy) = copy {
                folder::delete_dir(&copy)
                    .and_then(|()| folder::sync_dir(&self.options.path, self.disk()))
                    .context(|| "remove a copy".to_owned())?;
            }
        }
        Ok(())
    }

    /// The last record of a lane, of those that were not refused.
    fn last_of(&self, generations: &[Arc<Generation>], number: u32, mark: &Mark) -> Option<(u64, Count)> {
        let key = (kind_of(number), number);
        let last = |generation: &Arc<Generation>| {
            let extent = generation.extent(key)?;
            let mut seq = extent.last;
            while seq >= extent.first {
                if let Some((from, _)) = mark.voids.iter().find(|(from, to)| (*from..=*to).contains(&seq)) {
                    // Refused; what was taken before may be in the same generation.
                    seq = from.saturating_sub(1);
                } else if seq == extent.last {
                    return Some((seq, extent.after));
                } else if let Ok(Some(record)) = generation.find(key.0, number, seq - 1, seq) {
                    return Some((seq, record.after()));
                } else {
                    seq -= 1;
                }
            }
            None
        };
        generations.iter().filter_map(last).max_by_key(|(last, _)| *last)
    }

    /// The marks, with what the generations know better: records written just before a crash, lanes whose marks are lost.
    fn adjusted(&self, mut marks: MarkMap, damaged: bool) -> Result<MarkMap, SledError> {
        let generations = self.state().generations.clone();
        for generation in &generations {
            for ((kind, number), extent) in generation.extent_list() {
                if kind != kind_of(number) {
                    continue;
                }
                let mark = marks.entry(number).or_default();
                if mark.id.is_none() && number != DEAD {
                    let first = generation.find(kind, number, extent.first - 1, extent.first);
                    mark.id = first?.map(|record| record.lane);
                }
                if extent.last > mark.high && !mark.is_void(extent.last) {
                    (mark.high, mark.high_count) = (extent.last, extent.after);
                }
                if damaged && extent.acked > mark.acked {
                    mark.acked = extent.acked;
                }
            }
        }
        if damaged {
            for (number, mark) in &mut marks {
                // How much was acknowledged is not known any more: all that is not there, presumably.
                let first = self.find(&generations, *number, mark.acked, mark.high, &mark.voids);
                mark.acked_count = match first {
                    Ok(Some(first)) => {
                        mark.acked = first.place.seq - 1;
                        first.before
                    }
                    _ => mark.acked_count,
                };
            }
        }
        // A lane without a name holds nothing that could be told.
        marks.retain(|number, mark| mark.id.is_some() || *number == DEAD);
        Ok(marks)
    }

    fn use_marks(&self, marks: &mut MarkMap) {
        for mark in marks.values_mut().filter(|mark| mark.high > 0) {
            skip(mark);
        }
        let mut state = self.state();
        state.lanes = marks.iter().map(|(number, mark)| (*number, Lane::new(mark.clone()))).collect();
        state.numbers = marks.iter().filter_map(|(number, mark)| Some((mark.id.clone()?, *number))).collect();
    }

    /// Looks at both ends of each lane.
    fn look_for_losses(&self) {
        let numbers: Vec<u32> = self.state().lanes.keys().copied().collect();
        for number in numbers {
            let Some(mark) = self.state().lanes.get(&number).map(|lane| lane.mark.clone()) else { continue };
            if mark.acked >= mark.high {
                continue;
            }
            for _ in 0..3 {
                match self.next(mark.id.as_ref(), 0) {
                    Ok(_) => break,
                    Err(Damaged(generation, error)) => {
                        if let Err(error) = self.repair(generation, &error.to_string()) {
                            tracing::error!(target: TARGET, %error, "a damaged generation can't be saved now");
                            break;
                        }
                    }
                }
            }
            let generations = self.state().generations.clone();
            if let Some((last, count)) = self.last_of(&generations, number, &mark)
                && last < mark.high
                && last > mark.acked
            {
                let mut state = self.state();
                let state = &mut *state;
                if let Some(lost) = state.lanes.get_mut(&number).and_then(|lane| lane.end_is_lost(count)) {
                    state.recovery.lose(mark.id.clone(), last, lost);
                }
            }
        }
    }

    /// Goes on writing to the youngest generation, if that is sound and not yet large; ends the others.
    fn choose_current(&self, youngest: Option<u64>) {
        let generations = self.state().generations.clone();
        for generation in generations.iter().filter(|generation| !generation.is_sealed()) {
            self.state().current = Some(Arc::clone(generation));
            let large = generation.disk_bytes() >= self.options.generation_size();
            if large || generation.is_suspect() || Some(generation.number) != youngest {
                self.seal_current();
            }
        }
    }
}
