//! The marks: how far each lane was written and acknowledged, in a file of their own beside sled.
//!
//! sled loses the end of its log in silence when the file was cut off or damaged there. So what was promised is
//! written down elsewhere, and forced to the disk before a promise is made. It is also what makes acknowledging
//! cheap: records are never deleted one by one, only whole generations are.
//!
//! The file is a row of frames, each `magic │ length u16 │ type │ payload │ CRC32C`, later ones overruling earlier ones,
//! behind them zeros. A damaged frame is stepped over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kafka_batcher_core::LaneId;

use crate::faults::{Faults, Step};
use crate::folder;
use crate::record::{Count, Reader, put_lane};

const MAGIC: [u8; 2] = [0xd7, b'M'];
/// Magic, length, type and checksum.
const AROUND: usize = 2 + 2 + 1 + 4;
/// The file grows by this, in zeros: a frame written into them needs no new blocks, not even on a full disk.
const GROWTH: u64 = 64 * 1024;
/// Beyond this the file is replaced by one with only what still counts.
const LARGE: u64 = 1024 * 1024;

/// What is known of a lane without sled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// `None`: of dead letters, or its name was lost.
    pub(crate) id: Option<LaneId>,
    /// Everything up to this record is done with.
    pub(crate) acked: u64,
    pub(crate) acked_count: Count,
    /// The last record that was promised.
    pub(crate) high: u64,
    pub(crate) high_count: Count,
    /// First and last of records that were refused after they were partly written: they are not there.
    pub(crate) voids: Vec<(u64, u64)>,
}

impl Mark {
    pub(crate) fn is_void(&self, seq: u64) -> bool {
        self.voids.iter().any(|(from, to)| (*from..=*to).contains(&seq))
    }

    /// Forgets what no longer counts.
    pub(crate) fn prune(&mut self) {
        let acked = self.acked;
        self.voids.retain(|(_, to)| *to > acked);
    }

    pub(crate) fn name_frame(lane: u32, id: &LaneId, out: &mut Vec<u8>) {
        let mut payload = lane.to_be_bytes().to_vec();
        put_lane(&mut payload, id);
        frame(b'N', &payload, out);
    }

    pub(crate) fn frame(&self, lane: u32, out: &mut Vec<u8>) {
        let mut payload = lane.to_be_bytes().to_vec();
        payload.extend_from_slice(&self.acked.to_be_bytes());
        self.acked_count.put(&mut payload);
        payload.extend_from_slice(&self.high.to_be_bytes());
        self.high_count.put(&mut payload);
        frame(b'L', &payload, out);
    }

    pub(crate) fn void_frame(lane: u32, (from, to): (u64, u64), out: &mut Vec<u8>) {
        let mut payload = lane.to_be_bytes().to_vec();
        payload.extend_from_slice(&from.to_be_bytes());
        payload.extend_from_slice(&to.to_be_bytes());
        frame(b'V', &payload, out);
    }

    /// All of it.
    fn frames(&self, lane: u32, out: &mut Vec<u8>) {
        if let Some(id) = &self.id {
            Self::name_frame(lane, id, out);
        }
        self.frame(lane, out);
        for void in &self.voids {
            Self::void_frame(lane, *void, out);
        }
    }
}

fn frame(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    // A topic's name is at most 64 KiB here; anything longer was refused before.
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&len.to_be_bytes());
    let checked = out.len() - 2;
    out.push(kind);
    out.extend_from_slice(payload);
    let crc = crc32c::crc32c(&out[checked..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// Marks by number of lane.
pub(crate) type MarkMap = BTreeMap<u32, Mark>;

/// What a file of marks says.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) marks: MarkMap,
    /// There are frames, and some of them are damaged; a torn last one is not counted.
    pub(crate) damaged: bool,
    pub(crate) missing: bool,
}

/// Reads marks without changing anything; a live process may be writing them.
pub(crate) fn read(dir: &Path) -> io::Result<Read> {
    let bytes = match std::fs::read(path(dir)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Read { missing: true, ..Read::default() });
        }
        Err(error) => return Err(error),
    };
    let mut read = Read { missing: bytes.is_empty(), ..Read::default() };
    let (mut rest, mut bad) = (&bytes[..], false);
    while !rest.is_empty() {
        if let Some(len) = parse(rest, &mut read.marks) {
            read.damaged |= bad;
            bad = false;
            rest = &rest[len..];
        } else {
            // Frames follow on each other: even zeros do not belong between them.
            bad = true;
            let next = memchr::memchr(MAGIC[0], &rest[1..]).map_or(rest.len(), |at| at + 1);
            rest = &rest[next..];
        }
    }
    Ok(read)
}

fn parse(bytes: &[u8], marks: &mut MarkMap) -> Option<usize> {
    let mut reader = Reader(bytes);
    if reader.take(2)? != MAGIC {
        return None;
    }
    let len = usize::from(reader.u16()?);
    let (kind, payload) = (reader.u8()?, reader.take(len)?);
    if reader.u32()? != crc32c::crc32c(&bytes[2..5 + len]) {
        return None;
    }
    let mut reader = Reader(payload);
    let lane = reader.u32()?;
    // What a later release of the same format may have added is not known here, and stepped over.
    match kind {
        b'N' => marks.entry(lane).or_default().id = Some(reader.lane()?),
        b'L' => {
            let (acked, acked_count) = (reader.u64()?, reader.count()?);
            let (high, high_count) = (reader.u64()?, reader.count()?);
            let mark = marks.entry(lane).or_default();
            if acked >= mark.acked {
                (mark.acked, mark.acked_count) = (acked, acked_count);
            }
            if high >= mark.high {
                (mark.high, mark.high_count) = (high, high_count);
            }
        }
        b'V' => marks.entry(lane).or_default().voids.push((reader.u64()?, reader.u64()?)),
        _ => {}
    }
    Some(AROUND + len)
}

fn path(dir: &Path) -> PathBuf {
    dir.join("MARKS")
}

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct Marks {
    dir: PathBuf,
    file: File,
    /// Size of what it was begun with.
    begun: u64,
    end: u64,
    allocated: u64,
    disk: bool,
    /// A write or a sync of this file failed: nothing more goes into it, it has to be replaced.
    suspect: bool,
    faults: Faults,
}

impl Marks {
    /// Begins a new file with these marks in the place of the one there is.
    pub(crate) fn create(dir: &Path, marks: &MarkMap, disk: bool, faults: Faults) -> io::Result<Self> {
        let mut bytes = Vec::new();
        for (lane, mark) in marks {
            mark.frames(*lane, &mut bytes);
        }
        let end = bytes.len() as u64;
        let allocated = (end / GROWTH + 1) * GROWTH;
        bytes.resize(usize::try_from(allocated).unwrap_or(bytes.len()), 0);
        let new = dir.join("MARKS.new");
        let file = folder::create_file(&new)?;
        faults.write_all_at(Step::WriteMarks, &file, &bytes, 0)?;
        if disk {
            faults.at(Step::SyncMarks)?;
            file.sync_all()?;
        }
        faults.at(Step::RenameMarks)?;
        std::fs::rename(&new, path(dir))?;
        folder::sync_dir(dir, disk)?;
        Ok(Self { dir: dir.to_path_buf(), file, begun: end, end, allocated, disk, suspect: false, faults })
    }

    /// Writes frames; they are safe from the end of the process now, and from a power cut after [`sync`](Self::sync).
    ///
    /// `all` is everything that counts, and what is written if the file has to be replaced.
    pub(crate) fn write(&mut self, frames: &[u8], all: impl FnOnce() -> MarkMap) -> io::Result<()> {
        if self.suspect || self.end > self.begun + LARGE {
            *self = Self::create(&self.dir, &all(), self.disk, self.faults.clone())?;
            return Ok(());
        }
        let written = self.try_write(frames);
        self.suspect |= written.is_err();
        written
    }

    /// Replaces the file if writing it has failed.
    pub(crate) fn mend(&mut self, all: impl FnOnce() -> MarkMap) -> io::Result<()> {
        if self.suspect { self.write(&[], all) } else { Ok(()) }
    }

    fn try_write(&mut self, frames: &[u8]) -> io::Result<()> {
        let end = self.end + frames.len() as u64;
        if end > self.allocated {
            let more = (end - self.allocated).div_ceil(GROWTH) * GROWTH;
            self.file.write_all_at(&vec![0; usize::try_from(more).unwrap_or(0)], self.allocated)?;
            self.allocated += more;
        }
        self.faults.write_all_at(Step::WriteMarks, &self.file, frames, self.end)?;
        self.end = end;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.disk {
            let synced = self.faults.at(Step::SyncMarks).and_then(|()| self.file.sync_data());
            self.suspect |= synced.is_err();
            return synced;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(n: u64) -> Mark {
        let count = |n| Count { batches: n, events: n * 10, bytes: n * 100 };
        Mark {
            id: Some(LaneId::partition("topic", 1)),
            acked: n,
            acked_count: count(n),
            high: n * 2,
            high_count: count(n * 2),
            voids: vec![(n + 1, n + 1)],
        }
    }

    fn folder_with(marks: &MarkMap) -> (tempfile::TempDir, Marks) {
        let dir = tempfile::tempdir().unwrap();
        let file = Marks::create(dir.path(), marks, true, Faults::default()).unwrap();
        (dir, file)
    }

    #[test]
    fn marks_come_back_and_later_ones_count() {
        let mut all = MarkMap::from([(1, mark(1)), (2, Mark { id: None, ..mark(5) })]);
        let (dir, mut file) = folder_with(&all);
        assert_eq!(read(dir.path()).unwrap().marks, all);
        for n in 2..2000 {
            all.insert(1, Mark { voids: vec![(2, 2)], ..mark(n) });
            let mut frames = Vec::new();
            all[&1].frame(1, &mut frames);
            file.write(&frames, || all.clone()).unwrap();
        }
        file.sync().unwrap();
        let read = read(dir.path()).unwrap();
        assert_eq!(read.marks, all);
        assert!(!read.damaged && !read.missing);
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let all = MarkMap::from([(1, mark(1))]);
        let (dir, mut file) = folder_with(&all);
        let mut frames = Vec::new();
        all[&1].frame(1, &mut frames);
        for _ in 0..40_000 {
            file.write(&frames, || all.clone()).unwrap();
        }
        assert!(std::fs::metadata(path(dir.path())).unwrap().len() <= LARGE + 2 * GROWTH);
        assert_eq!(read(dir.path()).unwrap().marks, all);
    }

    #[test]
    fn a_damaged_frame_is_stepped_over_and_told() {
        let all: MarkMap = (1..50).map(|n| (n, mark(u64::from(n)))).collect();
        let (dir, _file) = folder_with(&all);
        let mut bytes = std::fs::read(path(dir.path())).unwrap();
        bytes[200] ^= 4;
        std::fs::write(path(dir.path()), &bytes).unwrap();
        let read = read(dir.path()).unwrap();
        assert!(read.damaged);
        assert!(read.marks.len() >= 48);
        assert_eq!(read.marks[&49], all[&49]);
    }

    #[test]
    fn a_torn_end_is_no_damage() {
        let all = MarkMap::from([(1, mark(1))]);
        let (dir, mut file) = folder_with(&all);
        let mut frames = Vec::new();
        mark(9).frame(1, &mut frames);
        file.write(&frames[..20], || all.clone()).unwrap();
        let read = read(dir.path()).unwrap();
        assert!(!read.damaged);
        assert_eq!(read.marks, all);
    }
}
