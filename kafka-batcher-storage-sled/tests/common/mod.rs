//! What the tests share.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod disk;
pub(crate) mod victim;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kafka_batcher_core::{
    Batch, BatchBuilder, DeadLetter, DeadRecord, EntryId, ErrorKind, LaneId, Record, StorageError,
    StoredBatch, TempStorage,
};
use kafka_batcher_storage_sled::{SledOptions, SledStorage};

pub(crate) const MIB: u64 = 1024 * 1024;

/// A batch of so many events that says who it is and has a value of `len` bytes, different in each batch.
pub(crate) fn named(name: &str, events: usize, len: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    let mut rng =
        Rng::new(name.bytes().fold(len as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())));
    for _ in 0..events {
        let value: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
        let record = Record::new(value).with_key(name.to_owned());
        assert!(builder.push(&record.as_ref(), 1_700_000_000_000, None, usize::MAX));
    }
    builder.seal().unwrap()
}

pub(crate) fn name_of(batch: &Batch) -> String {
    String::from_utf8(batch.records().next().unwrap().key.unwrap().to_vec()).unwrap()
}

pub(crate) fn lane(n: u32) -> LaneId {
    LaneId::partition("topic", n)
}

pub(crate) fn dead(name: &str) -> DeadRecord {
    let record = Record::new("v").with_key(name.to_owned()).with_header("h", "v").with_timestamp(7);
    DeadRecord::new(lane(1), record, ErrorKind::Permanent, "refused")
}

pub(crate) fn open(path: &Path) -> SledStorage {
    SledStorage::open(options(path)).unwrap()
}

pub(crate) fn options(path: &Path) -> SledOptions {
    SledOptions::new(path).quota(512 * MIB)
}

pub(crate) async fn append(
    storage: &SledStorage,
    lane: &LaneId,
    name: &str,
    len: usize,
) -> Result<EntryId, StorageError> {
    storage.append(lane, StoredBatch::new(named(name, 2, len), false)).await
}

/// Everything in a lane, in order.
pub(crate) async fn all(storage: &SledStorage, lane: &LaneId) -> Vec<(EntryId, Batch)> {
    let (mut found, mut after) = (Vec::new(), None);
    while let Some((id, entry)) = storage.next(lane, after).await.unwrap() {
        assert!(after.is_none_or(|after| id > after));
        after = Some(id);
        found.push((id, entry.batch));
    }
    found
}

pub(crate) async fn names(storage: &SledStorage, lane: &LaneId) -> Vec<String> {
    all(storage, lane).await.iter().map(|(_, batch)| name_of(batch)).collect()
}

pub(crate) async fn dead_names(storage: &SledStorage) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), None);
    while let Some((id, dead, _)) = storage.next_dead_letter(after).await.unwrap() {
        after = Some(id);
        found.push(String::from_utf8(dead.record.key.unwrap().to_vec()).unwrap());
    }
    found
}

pub(crate) async fn put(storage: &SledStorage, name: &str) -> Result<(), StorageError> {
    storage.put(dead(name)).await
}

/// xorshift64*: the same for the same seed, everywhere.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// A number from the environment: more runs than by default, or the seed of a failed one.
pub(crate) fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A copy of a folder as it is at an instant, even if storage tidies it up in the background: as a kill would leave it.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let before = state(from);
        let copied = try_copy(from, to);
        if copied.is_ok() && before.is_ok_and(|before| state(from).is_ok_and(|after| after == before)) {
            return;
        }
        assert!(Instant::now() < deadline, "{} changes all the time: {copied:?}", from.display());
        std::fs::remove_dir_all(to).unwrap();
    }
}

/// Files and folders, and what changes when they are written to.
pub(crate) fn state(dir: &Path) -> io::Result<BTreeMap<PathBuf, (u64, u64, i64, i64)>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let (path, about) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        if about.is_dir() {
            found.append(&mut state(&path)?);
        }
        found.insert(path, (about.ino(), about.len(), about.mtime(), about.mtime_nsec()));
    }
    Ok(found)
}

fn try_copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            try_copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// All files in a folder and below it.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
