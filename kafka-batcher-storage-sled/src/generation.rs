//! A generation: one sled database, to which records are only ever added. It goes as a whole, when all in it is
//! acknowledged or has been moved: sled never gives space back.

use std::collections::HashMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::TARGET;
use crate::error::is_full;
use crate::faults::{Faults, Step};
use crate::folder::{self, READY, SEALED, SUSPECT};
use crate::record::{Assembly, Chunk, Count, Kind, Place, Reader, Stored};
use crate::scan::Index;

/// Longest time sled may take to open: its threads may be gone after a panic, and then it waits for ever.
const OPEN_LIMIT: Duration = Duration::from_secs(120);
/// Longest time that a lock of a database that was just closed is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of sled's cache for each generation. What is read is mostly what was just written, once, or not read by sled.
const CACHE: u64 = 1024 * 1024;

/// Why a generation did not do as told.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum GenerationError {
    #[error("the disk is full: {0}")]
    Full(String),
    #[error("{0}")]
    Failed(String),
    /// Damaged: sled panicked, or gave something wrong.
    #[error("{0}")]
    Broken(String),
}

impl From<std::io::Error> for GenerationError {
    fn from(error: std::io::Error) -> Self {
        if is_full(&error) { Self::Full(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

impl From<sled::Error> for GenerationError {
    fn from(error: sled::Error) -> Self {
        match error {
            // sled copies its errors as kind and text; the kind is kept.
            sled::Error::Io(error) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

type Result<T> = std::result::Result<T, GenerationError>;

/// Which of a lane's records are in a generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// What the lane had taken before the first of them.
    pub(crate) before: Count,
    /// Up to and including the last.
    pub(crate) after: Count,
    pub(crate) last: u64,
    /// How far the last of them says that the lane was acknowledged.
    pub(crate) acked: u64,
    pub(crate) first: u64,
}

/// Where records are read from.
#[derive(Debug)]
enum Source {
    /// While records are added.
    Sled(sled::Db),
    /// Once it is sealed: the files as they are. Opening them with sled again would take the more memory the more was
    /// read, and where sled meets damage it cuts off what is behind.
    Files(Arc<Index>),
    /// Sealed, and not read lately; or ended.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    dir: PathBuf,
    source: RwLock<Source>,
    /// Something that was put in here is not found any more.
    pub(crate) damaged: AtomicBool,
    /// sled's file, to force it to the disk.
    file: File,
    extents: Mutex<HashMap<(Kind, u32), Extent>>,
    sealed: AtomicBool,
    suspect: AtomicBool,
    /// It was searched for records that sled has lost.
    pub(crate) searched: AtomicBool,
    disk_bytes: AtomicU64,
    disk: bool,
    faults: Faults,
}

/// Runs what may panic.
fn contained<T>(what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(GenerationError::Broken(format!("sled panicked to {what}: {text}")))
        }
    }
}

fn open_sled(dir: &Path) -> Result<sled::Db> {
    let (answer, answered) = mpsc::channel();
    let path = dir.to_path_buf();
    thread::Builder::new().name("spool-open".to_owned()).spawn(move || {
        let config = sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(None);
        let deadline = Instant::now() + LOCK_LIMIT;
        let opened = contained("open", || {
            loop {
                match config.open() {
                    Ok(db) => return Ok(db),
                    // The threads of one that was just closed may still hold it.
                    Err(sled::Error::Io(error))
                        if error.to_string().contains("could not acquire lock")
                            && Instant::now() < deadline =>
                    {
                        thread::sleep(Duration::from_millis(5));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        });
        if let Err(mpsc::SendError(opened)) = answer.send(opened) {
            discard(opened.ok());
        }
    })?;
    answered
        .recv_timeout(OPEN_LIMIT)
        .unwrap_or_else(|_| Err(GenerationError::Broken("sled does not open".to_owned())))
}

/// Ends a database that may be damaged: that may panic, or never end.
fn discard(db: Option<sled::Db>) {
    if let Some(db) = db {
        let spawned = thread::Builder::new().name("spool-discard".to_owned()).spawn(move || {
            contained("close", || {
                drop(db);
                Ok(())
            })
        });
        if let Err(error) = spawned {
            tracing::warn!(target: TARGET, %error, "a damaged database is not closed");
        }
    }
}

impl Generation {
    /// Begins a generation. Whatever happens, there is either a whole one afterwards or one that is removed on opening.
    pub(crate) fn create(dir: &Path, number: u64, disk: bool, faults: &Faults) -> Result<Self> {
        faults.at(Step::Create)?;
        let path = folder::generation_dir(dir, number);
        if path.exists() {
            folder::delete_dir(&path)?;
        }
        folder::create_dir(&path)?;
        let generation = Self::load(path, number, disk, faults)?;
        generation.force_all()?;
        folder::put_flag(&generation.dir, READY, b"", disk, faults)?;
        Ok(generation)
    }

    /// Takes a generation that is there; a sealed one is opened only when it is read.
    pub(crate) fn open(dir: &Path, number: u64, disk: bool, faults: &Faults) -> Result<Self> {
        let path = folder::generation_dir(dir, number);
        if let Some(extents) = sealed_extents(&path) {
            let generation = Self::new(path, number, None, disk, faults)?;
            generation.sealed.store(true, Relaxed);
            *generation.extents() = extents;
            return Ok(generation);
        }
        let generation = Self::load(path, number, disk, faults)?;
        let extents = generation.find_extents()?;
        *generation.extents() = extents;
        Ok(generation)
    }

    fn load(dir: PathBuf, number: u64, disk: bool, faults: &Faults) -> Result<Self> {
        let db = open_sled(&dir)?;
        Self::new(dir, number, Some(db), disk, faults)
    }

    fn new(dir: PathBuf, number: u64, db: Option<sled::Db>, disk: bool, faults: &Faults) -> Result<Self> {
        let dir_is_suspect = dir.join(SUSPECT).exists();
        let file = File::options().read(true).write(true).open(dir.join("db"))?;
        folder::restrict(&dir)?;
        let generation = Self {
            number,
            dir,
            source: RwLock::new(db.map_or(Source::Closed, Source::Sled)),
            damaged: AtomicBool::new(false),
            file,
            extents: Mutex::default(),
            sealed: AtomicBool::new(false),
            suspect: AtomicBool::new(dir_is_suspect),
            searched: AtomicBool::new(false),
            disk_bytes: AtomicU64::new(0),
            disk,
            faults: faults.clone(),
        };
        generation.measure();
        Ok(generation)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn extents(&self) -> MutexGuard<'_, HashMap<(Kind, u32), Extent>> {
        self.extents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of each lane's records are in here.
    pub(crate) fn extent_list(&self) -> Vec<((Kind, u32), Extent)> {
        self.extents().iter().map(|(lane, extent)| (*lane, *extent)).collect()
    }

    pub(crate) fn extent(&self, lane: (Kind, u32)) -> Option<Extent> {
        self.extents().get(&lane).copied()
    }

    fn source(&self) -> std::sync::RwLockReadGuard<'_, Source> {
        self.source.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace_source(&self, new: Source) -> Source {
        std::mem::replace(&mut *self.source.write().unwrap_or_else(PoisonError::into_inner), new)
    }

    fn with_db<T>(&self, what: &str, run: impl FnOnce(&sled::Db) -> Result<T>) -> Result<T> {
        match &*self.source() {
            Source::Sled(db) => contained(what, || run(db)),
            Source::Files(_) | Source::Closed => {
                Err(GenerationError::Broken("the generation was ended".to_owned()))
            }
        }
    }

    /// Of a sealed generation, where everything is in its files; `None` for others.
    fn index(&self) -> Result<Option<Arc<Index>>> {
        match &*self.source() {
            Source::Sled(_) => return Ok(None),
            Source::Files(index) => return Ok(Some(Arc::clone(index))),
            Source::Closed if !self.is_sealed() => return Ok(None),
            Source::Closed => {}
        }
        let mut index = Index::default();
        match index.add_dir(&self.dir, |_| true) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(GenerationError::Broken("the generation was taken out".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        let index = Arc::new(index);
        self.replace_source(Source::Files(Arc::clone(&index)));
        Ok(Some(index))
    }

    /// Gives the memory of a sealed generation back; the next read takes it again.
    pub(crate) fn close(&self) {
        if self.is_sealed() {
            self.replace_source(Source::Closed);
        }
    }

    /// Adds records, all or none, and forces them to the disk as the level says: `sync` does it.
    pub(crate) fn add(
        &self,
        records: &[Stored],
        sync: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> Result<()> {
        self.with_db("write", |db| {
            let mut batch = sled::Batch::default();
            for record in records {
                for (index, chunk) in (0..).zip(record.chunks()) {
                    batch.insert(&record.place.key(index), chunk);
                }
            }
            self.faults.at(Step::Apply)?;
            db.apply_batch(batch)?;
            self.faults.at(Step::Flush)?;
            db.flush()?;
            Ok(())
        })?;
        if self.disk {
            self.faults.at(Step::Sync)?;
            sync(&self.file)?;
        }
        let mut extents = self.extents();
        for record in records {
            widen(&mut extents, record);
        }
        drop(extents);
        self.measure();
        Ok(())
    }

    /// The first record of a lane behind `from`, up to and including `to`.
    pub(crate) fn find(&self, kind: Kind, lane: u32, from: u64, to: u64) -> Result<Option<Stored>> {
        if from >= to || self.extents().get(&(kind, lane)).is_none_or(|extent| extent.last <= from) {
            return Ok(None);
        }
        let place = |seq| Place { kind, lane, seq };
        match self.index()? {
            Some(index) => Ok(index.first(place(from.saturating_add(1))..=place(to))?),
            None => self.find_in_sled(kind, lane, from, to),
        }
    }

    fn find_in_sled(&self, kind: Kind, lane: u32, from: u64, to: u64) -> Result<Option<Stored>> {
        let place = |seq| Place { kind, lane, seq };
        let (first, last) = (place(from.saturating_add(1)).key(0), place(to).key(u32::MAX));
        self.with_db("read", |db| {
            let mut assembly = Assembly::default();
            for item in db.range(first..=last) {
                let (key, value) = item?;
                if let Some(record) = assemble(&mut assembly, &key, &value)? {
                    return Ok(Some(record));
                }
            }
            if assembly.is_empty() {
                return Ok(None);
            }
            Err(GenerationError::Broken(format!("lane {lane}: a record is cut off")))
        })
    }

    /// Calls `each` with every record, in order of lanes and sequence.
    pub(crate) fn walk(&self, mut each: impl FnMut(Stored) -> Result<()>) -> Result<()> {
        if let Some(index) = self.index()? {
            return index.each(each);
        }
        self.with_db("read", |db| {
            let mut assembly = Assembly::default();
            for item in db.iter() {
                let (key, value) = item?;
                if let Some(record) = assemble(&mut assembly, &key, &value)? {
                    each(record)?;
                }
            }
            if assembly.is_empty() {
                return Ok(());
            }
            Err(GenerationError::Broken("the last record is cut off".to_owned()))
        })
    }

    /// Looks up first and last record of each lane.
    fn find_extents(&self) -> Result<HashMap<(Kind, u32), Extent>> {
        let broken = |what: &str| GenerationError::Broken(what.to_owned());
        let mut extents = HashMap::new();
        let mut from = vec![0_u8];
        loop {
            let first = self.with_db("read", |db| Ok(db.range(from.clone()..).next().transpose()?))?;
            let Some((key, _)) = first else { return Ok(extents) };
            let (first, _) = Place::of_key(&key).ok_or_else(|| broken("a key is damaged"))?;
            let end = Place { seq: u64::MAX, ..first }.key(u32::MAX);
            let last = self.with_db("read", |db| Ok(db.range(..=end).next_back().transpose()?))?;
            let last =
                last.and_then(|(key, _)| Place::of_key(&key)).ok_or_else(|| broken("a key is damaged"))?.0;
            for seq in [first.seq, last.seq] {
                let record = self.find_in_sled(first.kind, first.lane, seq.saturating_sub(1), seq)?;
                widen(&mut extents, &record.ok_or_else(|| broken("a record is gone"))?);
            }
            from = end.to_vec();
            from.push(0);
        }
    }

    /// Nothing more is added: sled is done with this.
    pub(crate) fn seal(&self) -> Result<()> {
        if self.sealed.swap(true, Relaxed) {
            return Ok(());
        }
        let old = self.replace_source(Source::Closed);
        contained("close", || {
            drop(old);
            Ok(())
        })?;
        folder::restrict(&self.dir)?;
        self.force_all()?;
        let extents = encode_extents(&self.extents());
        folder::put_flag(&self.dir, SEALED, &extents, self.disk, &self.faults)?;
        self.measure();
        Ok(())
    }

    /// Writing failed: what is in here can be read, but nothing is added any more, also by later processes.
    pub(crate) fn give_up(&self) -> Result<()> {
        self.suspect.store(true, Relaxed);
        Ok(folder::put_flag(&self.dir, SUSPECT, b"", self.disk, &self.faults)?)
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Relaxed)
    }

    /// Whether records of this lane between these two, or of them, were put in here.
    pub(crate) fn covers(&self, kind: Kind, lane: u32, from: u64, to: u64) -> bool {
        self.extents().get(&(kind, lane)).is_some_and(|extent| extent.last > from && extent.first <= to)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Relaxed)
    }

    /// Forces all files to the disk.
    fn force_all(&self) -> Result<()> {
        if self.disk {
            self.faults.at(Step::Sync)?;
            for name in folder::names(&self.dir)? {
                let path = self.dir.join(name);
                File::open(path)?.sync_all()?;
            }
        }
        Ok(())
    }

    fn measure(&self) {
        self.disk_bytes.store(folder::disk_bytes(&self.dir), Relaxed);
    }

    /// Bytes of its files, as of the last change.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Relaxed)
    }

    /// Ends it without waiting, whatever state it is in.
    pub(crate) fn abandon(&self) {
        if let Source::Sled(db) = self.replace_source(Source::Closed) {
            discard(Some(db));
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let source = self.replace_source(Source::Closed);
        let ended = contained("close", || {
            drop(source);
            Ok(())
        });
        if let Err(error) = ended {
            tracing::warn!(target: TARGET, %error, generation = self.number, "closing a generation of the storage");
        }
    }
}

/// What a sealed generation says is in it; `None` when it is not sealed, or what it says is damaged.
fn sealed_extents(dir: &Path) -> Option<HashMap<(Kind, u32), Extent>> {
    let bytes = std::fs::read(dir.join(SEALED)).ok()?;
    let (bytes, crc) = bytes.split_last_chunk()?;
    if crc32c::crc32c(bytes) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (mut reader, mut extents) = (Reader(bytes), HashMap::new());
    for _ in 0..reader.u32()? {
        let (kind, lane) = (Kind::from_byte(reader.u8()?)?, reader.u32()?);
        let (first, before) = (reader.u64()?, reader.count()?);
        let (last, after, acked) = (reader.u64()?, reader.count()?, reader.u64()?);
        extents.insert((kind, lane), Extent { before, after, last, acked, first });
    }
    Some(extents)
}

fn encode_extents(extents: &HashMap<(Kind, u32), Extent>) -> Vec<u8> {
    let mut out = u32::try_from(extents.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    for ((kind, lane), Extent { before, after, last, acked, first }) in extents {
        out.push(*kind as u8);
        out.extend_from_slice(&lane.to_be_bytes());
        out.extend_from_slice(&first.to_be_bytes());
        before.put(&mut out);
        out.extend_from_slice(&last.to_be_bytes());
        after.put(&mut out);
        out.extend_from_slice(&acked.to_be_bytes());
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// Whether nothing is added to the generation any more.
pub(crate) fn is_sealed(dir: &Path, number: u64) -> bool {
    sealed_extents(&folder::generation_dir(dir, number)).is_some()
}

fn assemble(assembly: &mut Assembly, key: &[u8], value: &[u8]) -> Result<Option<Stored>> {
    let chunk = Chunk::parse(value).filter(|chunk| Place::of_key(key) == Some((chunk.place, chunk.index)));
    let pushed = chunk.ok_or(()).and_then(|chunk| assembly.push(&chunk));
    pushed.map_err(|()| GenerationError::Broken("a record is damaged".to_owned()))
}

fn widen(extents: &mut HashMap<(Kind, u32), Extent>, record: &Stored) {
    let Place { kind, lane, seq } = record.place;
    let (before, after) = (record.before, record.after());
    let new = Extent { before, after, last: seq, acked: record.acked, first: seq };
    let extent = extents.entry((kind, lane)).or_insert(new);
    if seq < extent.first {
        (extent.first, extent.before) = (seq, before);
    }
    if seq > extent.last {
        (extent.last, extent.after, extent.acked) = (seq, after, record.acked);
    }
}
