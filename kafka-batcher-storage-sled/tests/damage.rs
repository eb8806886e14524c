//! Damage of a known kind, each with what has to come of it; `corruption.rs` damages at random.

mod common;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{append, lane, names};
use kafka_batcher_core::{EntryId, TempStorage};
use kafka_batcher_storage_sled::{Durability, SledOptions, SledStorage};

fn options(path: &Path) -> SledOptions {
    SledOptions::new(path).quota(256 * common::MIB).durability(Durability::Os)
}

/// A spool as a killed process leaves it, with so many batches in one lane, and its only sled file.
async fn killed(batches: usize) -> (tempfile::TempDir, PathBuf) {
    let (used, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let storage = SledStorage::open(options(used.path())).unwrap();
    for n in 0..batches {
        append(&storage, &lane(0), &n.to_string(), 600).await.unwrap();
    }
    common::copy_dir(used.path(), left.path());
    let db = left.path().join("gen-0000000001/db");
    assert!(db.exists());
    (left, db)
}

fn numbers(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

/// Where the chunk of a batch is in sled's file, at its first and at its last place.
fn places(db: &Path, name: &str) -> (usize, usize) {
    let bytes = std::fs::read(db).unwrap();
    let value = common::named(name, 2, 600).as_bytes().to_vec();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, &value).collect();
    (places[0], *places.last().unwrap())
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_noticed_and_its_loss_counted() {
    let (folder, db) = killed(200).await;
    let (first, _) = places(&db, "150");
    std::fs::File::options().write(true).open(&db).unwrap().set_len(first as u64).unwrap();
    let storage = SledStorage::open(options(folder.path())).unwrap();
    let found = names(&storage, &lane(0)).await;
    let recovery = storage.recovery();
    assert!(found.len() <= 150 && found.len() > 100, "{} are there", found.len());
    assert_eq!(found, numbers(0, found.len()));
    assert_eq!(recovery.lost_batches as usize, 200 - found.len());
    assert_eq!(recovery.lost_events as usize, 2 * (200 - found.len()));
    assert_eq!(recovery.losses[0].lane, Some(lane(0)));
    assert_eq!(recovery.losses[0].after, EntryId(found.len() as u64));
    // What is lost does not count as there, and what comes now does.
    append(&storage, &lane(0), "new", 10).await.unwrap();
    let usage = storage.lanes().await.unwrap();
    assert_eq!(usage[0].batches as usize, found.len() + 1);
    assert_eq!(names(&storage, &lane(0)).await.last().unwrap(), "new");
}

#[tokio::test]
async fn everything_gone_is_noticed_too() {
    let (folder, db) = killed(50).await;
    std::fs::remove_dir_all(db.parent().unwrap()).unwrap();
    let storage = SledStorage::open(options(folder.path())).unwrap();
    assert_eq!(names(&storage, &lane(0)).await, numbers(0, 0));
    assert_eq!((storage.recovery().lost_batches, storage.recovery().lost_events), (50, 100));
    assert!(storage.lanes().await.unwrap().is_empty());
}

/// sled takes damage for the torn end of its log, and cuts off all that is behind it. It is saved from the copy.
#[tokio::test]
async fn what_sled_would_cut_off_is_saved() {
    let (folder, db) = killed(400).await;
    let (_, last) = places(&db, "100");
    let file = std::fs::File::options().write(true).open(&db).unwrap();
    file.write_all_at(&[0xaa; 8], last as u64 + 30).unwrap();
    drop(file);
    let storage = SledStorage::open(options(folder.path())).unwrap();
    let found = names(&storage, &lane(0)).await;
    let recovery = storage.recovery();
    // An older copy of the damaged one is still in the file.
    assert_eq!(found, numbers(0, 400), "{recovery:?}");
    assert_eq!((recovery.lost_batches, recovery.quarantined.len(), recovery.salvaged), (0, 1, 400));
    assert!(recovery.quarantined[0].join("db").exists());
    drop(storage);
    let storage = SledStorage::open(options(folder.path())).unwrap();
    assert_eq!(names(&storage, &lane(0)).await, found);
    assert!(storage.recovery().quarantined.is_empty());
}

#[tokio::test]
async fn a_damaged_head_is_salvaged_whole() {
    let (folder, db) = killed(100).await;
    let file = std::fs::File::options().write(true).open(&db).unwrap();
    file.write_all_at(&[0xff; 12], 0).unwrap();
    let storage = SledStorage::open(options(folder.path())).unwrap();
    assert_eq!(names(&storage, &lane(0)).await, numbers(0, 100));
    assert_eq!(storage.recovery().lost_batches, 0);
}

#[tokio::test]
async fn without_marks_nothing_is_lost() {
    let (folder, _) = killed(100).await;
    std::fs::remove_file(folder.path().join("MARKS")).unwrap();
    let storage = SledStorage::open(options(folder.path())).unwrap();
    assert!(storage.recovery().marks_damaged);
    assert_eq!(names(&storage, &lane(0)).await, numbers(0, 100));
    let id = append(&storage, &lane(0), "100", 10).await.unwrap();
    assert!(id > EntryId(100));
    assert_eq!(storage.recovery().lost_batches, 0);
}

/// A process that was killed may have left parts of records that it never promised: their numbers are not used again, or
/// a search through the files could take them for the records that got these numbers later.
#[tokio::test]
async fn numbers_of_what_was_not_promised_are_not_used_again() {
    let (folder, _) = killed(10).await;
    let storage = SledStorage::open(options(folder.path())).unwrap();
    let id = append(&storage, &lane(0), "10", 10).await.unwrap();
    assert!(id > EntryId(10 + 256), "{id:?}");
    assert_eq!(names(&storage, &lane(0)).await, numbers(0, 11));
    assert_eq!(storage.recovery().lost_batches, 0);
}

/// What is left of a mostly drained generation is moved, and the old one goes: not if it has lost something.
#[tokio::test]
async fn a_mostly_drained_generation_that_is_damaged_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let storage = SledStorage::open(options(folder.path())).unwrap();
    let db = folder.path().join("gen-0000000001/db");
    let mut stored = 0;
    while !folder.path().join("gen-0000000002").exists() {
        append(&storage, &lane(0), &stored.to_string(), 60_000).await.unwrap();
        stored += 1;
    }
    let bytes = std::fs::read(&db).unwrap();
    let value = common::named(&(stored - 5).to_string(), 2, 60_000).as_bytes().to_vec();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, &value[..1000]).collect();
    for at in &places {
        std::fs::File::options().write(true).open(&db).unwrap().write_all_at(&[0; 16], *at as u64).unwrap();
    }
    assert!(!places.is_empty());
    drop(bytes);
    storage.acknowledge(&lane(0), EntryId(stored as u64 - 10)).await.unwrap();
    let gone = async {
        while db.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.expect("it is moved");
    let left = names(&storage, &lane(0)).await;
    assert_eq!(left.len(), 9, "{left:?}");
    let recovery = storage.recovery();
    assert_eq!((recovery.lost_batches, recovery.quarantined.len()), (1, 1), "{recovery:?}");
}
