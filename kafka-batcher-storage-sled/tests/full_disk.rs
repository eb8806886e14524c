//! A disk that is really full: a small file system in memory; and one whose writes fail under the file system. Needs root,
//! to mount them. `KAFKA_BATCHER_FILLS` sets the number of fills; `cargo xtask campaign fills`.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::disk::{Disk, Memory};
use common::{MIB, from_env, lane};
use kafka_batcher_core::{StorageError, TempStorage};
use kafka_batcher_storage_sled::{SledOptions, SledStorage};

fn options(path: &Path) -> SledOptions {
    // The disk is full long before the quota is.
    SledOptions::new(path).quota(1024 * MIB).generation_bytes(4 * MIB)
}

/// Fills what is left of the disk with a file of somebody else.
fn hog(path: &Path, leave: u64) -> PathBuf {
    let stat = rustix::fs::statvfs(path).unwrap();
    let hog = path.join("somebody-elses");
    let bytes = (stat.f_bavail * stat.f_frsize).saturating_sub(leave);
    std::fs::write(&hog, vec![1; bytes as usize]).unwrap();
    hog
}

#[test]
fn a_full_disk_costs_nothing_that_was_accepted() {
    let mount = match Memory::new(24 * MIB) {
        Ok(mount) => mount,
        Err(why) => {
            println!(
                "SKIPPED a_full_disk_costs_nothing_that_was_accepted: cannot mount a file system: {why}"
            );
            return;
        }
    };
    let spool = mount.path().join("spool");
    let runtime = common::runtime();
    let (fills, mut kept) = (from_env("KAFKA_BATCHER_FILLS", 3), 0);
    for round in 0..fills {
        let (hog, stored) = runtime.block_on(fill_and_drain(&mount, &spool, round));
        std::fs::remove_file(hog).unwrap();
        kept += stored;
    }
    println!("{fills} fills: {kept} batches accepted, 0 lost");
}

async fn fill_and_drain(mount: &Memory, spool: &Path, round: u64) -> (PathBuf, usize) {
    let storage = SledStorage::open(options(spool)).unwrap();
    let (mut kept, mut refused) = (Vec::new(), 0);
    for n in 0..10_000 {
        let name = format!("{round}-{n}");
        match common::append(&storage, &lane(0), &name, 10_000).await {
            Ok(_) => kept.push(name),
            Err(error) => {
                assert!(matches!(error, StorageError::Full { .. }), "{error}");
                refused += 1;
                if refused == 5 {
                    break;
                }
            }
        }
    }
    assert!(refused == 5 && kept.len() > 100, "{} fit", kept.len());
    assert!(!storage.recovery().losses.iter().any(|_| true));
    // Now somebody takes the last byte, the process ends, and another one begins.
    let hog = hog(mount.path(), 0);
    assert!(matches!(common::append(&storage, &lane(0), "no", 10_000).await, Err(StorageError::Full { .. })));
    drop(storage);
    let storage = SledStorage::open(options(spool)).unwrap_or_else(|error| panic!("on a full disk: {error}"));
    assert!(storage.recovery().is_clean(), "{:?}", storage.recovery());
    let found = common::all(&storage, &lane(0)).await;
    let names: Vec<String> = found.iter().map(|(_, batch)| common::name_of(batch)).collect();
    assert_eq!(names, kept);
    // It can be drained, and gives space back on the way: enough to store again.
    for (id, _) in found {
        storage.acknowledge(&lane(0), id).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        if common::append(&storage, &lane(1), "again", 10_000).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (id, _) = storage.next(&lane(1), None).await.unwrap().expect("no room, though all is drained");
    storage.acknowledge(&lane(1), id).await.unwrap();
    drop(storage);
    (hog, kept.len())
}

/// An image that is promised more room than there is: writing what the file system has accepted fails, and so does
/// `fsync`, with EIO.
#[test]
fn a_disk_that_fails_under_its_file_system_costs_nothing_that_was_accepted() {
    let test = "a_disk_that_fails_under_its_file_system_costs_nothing_that_was_accepted";
    let (fills, mut kept) = (from_env("KAFKA_BATCHER_FILLS", 3), 0);
    for round in 0..fills {
        let room = 12 * MIB + round % 7 * 700_000;
        let images = match Memory::new(room).and_then(|images| {
            Disk::format(&images.path().join("image"), 64 * MIB)?;
            Disk::mount(&images.path().join("image")).map(|disk| (images, disk))
        }) {
            Ok(images) => images,
            Err(why) => {
                println!("SKIPPED {test}: no disk to fail: {why}");
                return;
            }
        };
        kept += common::runtime().block_on(write_until_it_fails(images));
    }
    println!("{fills} fills of a disk that fails: {kept} batches accepted, 0 lost");
}

async fn write_until_it_fails((images, disk): (Memory, Disk)) -> usize {
    let options = |disk: &Disk| SledOptions::new(disk.path().join("spool")).generation_bytes(4 * MIB);
    let storage = SledStorage::open(options(&disk)).unwrap();
    let (mut kept, mut refused) = (Vec::new(), 0);
    while refused < 5 {
        let name = format!("{}", kept.len() + refused);
        match common::append(&storage, &lane(0), &name, 10_000).await {
            Ok(_) => kept.push(name),
            Err(_) => refused += 1,
        }
        assert!(kept.len() < 10_000, "it never fails: that tests nothing");
    }
    assert!(kept.len() > 20, "only {} fit", kept.len());
    assert_eq!(common::names(&storage, &lane(0)).await, kept);
    drop(storage);
    drop(disk);
    // Somebody finds room for the image, and starts again.
    images.resize(128 * MIB);
    let disk = Disk::mount(&images.path().join("image")).unwrap();
    let storage = SledStorage::open(options(&disk)).unwrap();
    assert_eq!(common::names(&storage, &lane(0)).await, kept, "{:?}", storage.recovery());
    assert!(storage.recovery().is_clean(), "{:?}", storage.recovery());
    common::append(&storage, &lane(0), "again", 10_000).await.unwrap();
    drop(storage);
    drop(disk);
    drop(images);
    kept.len()
}
