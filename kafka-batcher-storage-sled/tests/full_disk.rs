//! A disk that is really full: a small file system in memory. Needs root, to mount it.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{MIB, from_env, lane};
use kafka_batcher_core::{StorageError, TempStorage};
use kafka_batcher_storage_sled::{SledOptions, SledStorage};

/// A file system of so many bytes, gone with the value.
struct Mount(PathBuf, #[allow(dead_code, reason = "removed last")] tempfile::TempDir);

impl Mount {
    fn new(bytes: u64) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_path_buf();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"])
            .arg(&path)
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(Self(path, folder))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let umounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(umounted.is_ok_and(|status| status.success()));
    }
}

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
    let mount = match Mount::new(24 * MIB) {
        Ok(mount) => mount,
        Err(why) => {
            println!(
                "SKIPPED a_full_disk_costs_nothing_that_was_accepted: cannot mount a file system: {why}"
            );
            return;
        }
    };
    let spool = mount.0.join("spool");
    let runtime = common::runtime();
    for round in 0..from_env("KAFKA_BATCHER_FILLS", 3) {
        let hog = runtime.block_on(fill_and_drain(&mount, &spool, round));
        std::fs::remove_file(hog).unwrap();
    }
}

async fn fill_and_drain(mount: &Mount, spool: &Path, round: u64) -> PathBuf {
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
    let hog = hog(&mount.0, 0);
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
    for _ in 0..100 {
        if common::append(&storage, &lane(1), "again", 10_000).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (id, _) = storage.next(&lane(1), None).await.unwrap().expect("no room, though all is drained");
    storage.acknowledge(&lane(1), id).await.unwrap();
    drop(storage);
    hog
}
