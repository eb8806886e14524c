//! The suites of the testkit, for storage and for dead letters; and for the core's reference, as the measure.

use std::num::NonZeroU64;

use kafka_batcher_core::{DeadRecord, MemoryStorage};
use kafka_batcher_storage_sled::{Durability, SledOptions, SledStorage};
use kafka_batcher_testkit::conformance::dead_letter::DeadLetters;
use kafka_batcher_testkit::conformance::storage::{FolderStorage, Storage};

/// Its quota is of bytes on the disk; the suite's of encoded batches.
fn quota(batches: u64) -> u64 {
    SledOptions::MIN_QUOTA + 3 * batches
}

kafka_batcher_testkit::storage_conformance!(
    disk,
    FolderStorage::new(|path, bytes| SledStorage::open(SledOptions::new(path).quota(quota(bytes))))
);

kafka_batcher_testkit::storage_conformance!(
    os,
    FolderStorage::new(|path, bytes| {
        SledStorage::open(SledOptions::new(path).quota(quota(bytes)).durability(Durability::Os))
    })
);

kafka_batcher_testkit::storage_conformance!(memory, Storage::new(MemoryStorage::new));

/// Everything in the area of dead letters.
fn dead_letters(storage: &SledStorage) -> Vec<DeadRecord> {
    tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(async {
            let (mut all, mut after) = (Vec::new(), None);
            while let Some((id, dead, _)) = storage.next_dead_letter(after).await.unwrap() {
                all.push(dead);
                after = Some(id);
            }
            all
        })
    })
}

kafka_batcher_testkit::dead_letter_conformance!(DeadLetters::new(
    |limit| {
        // Removed by the system: the fixture has no place to keep it.
        let folder = tempfile::tempdir().unwrap().keep();
        let options = SledOptions::new(folder).dead_letter_limit(NonZeroU64::new(limit as u64));
        SledStorage::open(options).unwrap()
    },
    dead_letters
));
