//! Steps of writing that fail: what was answered with an error is not there, what was promised is, and it goes on.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::{lane, options};
use kafka_batcher_core::StorageError;
use kafka_batcher_storage_sled::{Faults, SledStorage, Step};

const STEPS: [Step; 7] = [
    Step::Apply,
    Step::Flush,
    Step::Sync,
    Step::WriteMarks,
    Step::SyncMarks,
    Step::RenameMarks,
    Step::Create,
];

/// Fails this step from its nth time on, so many times.
fn failing(step: Step, from: u64, times: u64, full: bool) -> (Faults, Arc<AtomicU64>) {
    let (seen, failed) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&failed);
    let faults = Faults::new(move |at| {
        if at == step && (from..from + times).contains(&seen.fetch_add(1, Relaxed)) {
            count.fetch_add(1, Relaxed);
            // 28 is ENOSPC, 5 is EIO.
            return Err(io::Error::from_raw_os_error(if full { 28 } else { 5 }));
        }
        Ok(())
    });
    (faults, failed)
}

async fn run(step: Step, from: u64, times: u64, full: bool) -> u64 {
    let told = format!("{step:?} fails {times} times from the time {from} on, full: {full}");
    let folder = tempfile::tempdir().unwrap();
    let (faults, failed) = failing(step, from, times, full);
    let options = options(folder.path());
    let storage = match SledStorage::open(options.clone().faults(faults)) {
        Ok(storage) => storage,
        // Making the spool failed: nothing was promised.
        Err(error) => {
            assert!(failed.load(Relaxed) > 0, "{told}: {error}");
            SledStorage::open(options.clone()).unwrap_or_else(|error| panic!("{told}: {error}"))
        }
    };
    let mut kept = [Vec::new(), Vec::new()];
    let mut refused = 0;
    for n in 0..24 {
        let (number, name) = (n % 2, format!("b{n}"));
        match common::append(&storage, &lane(number as u32), &name, 5000).await {
            Ok(_) => kept[number].push(name),
            Err(error) => {
                refused += 1;
                assert!(!full || matches!(error, StorageError::Full { .. }), "{told}: {error}");
            }
        }
        if n == 12 {
            for (number, kept) in kept.iter().enumerate() {
                assert_eq!(common::names(&storage, &lane(number as u32)).await, *kept, "{told}");
            }
        }
    }
    assert!(refused <= times && kept[1].len() > 6, "{told}: {refused} refused");
    for (number, kept) in kept.iter().enumerate() {
        assert_eq!(common::names(&storage, &lane(number as u32)).await, *kept, "{told}");
    }
    let usage: u64 =
        kafka_batcher_core::TempStorage::lanes(&storage).await.unwrap().iter().map(|lane| lane.batches).sum();
    assert_eq!(usage, 24 - refused, "{told}");
    // As a kill would leave it.
    let left = tempfile::tempdir().unwrap();
    common::copy_dir(folder.path(), left.path());
    drop(storage);
    for path in [folder.path(), left.path()] {
        let storage =
            SledStorage::open(common::options(path)).unwrap_or_else(|error| panic!("{told}: {error}"));
        for (number, kept) in kept.iter().enumerate() {
            assert_eq!(common::names(&storage, &lane(number as u32)).await, *kept, "{told}, opened again");
        }
        assert!(storage.recovery().is_clean(), "{told}: {:?}", storage.recovery());
    }
    failed.load(Relaxed)
}

#[tokio::test]
async fn what_fails_is_not_there_and_what_was_promised_is() {
    for step in STEPS {
        let mut failed = 0;
        for (from, times) in [(0, 1), (3, 1), (7, 2), (10, 4)] {
            for full in [false, true] {
                failed += run(step, from, times, full).await;
            }
        }
        assert!(failed > 0, "{step:?} never failed: that tests nothing");
    }
}

/// A sync that failed is not tried again, as the second would succeed without the data being there.
#[tokio::test]
async fn a_generation_whose_sync_failed_gets_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let generations = || {
        let names = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("gen-")).collect();
        names.sort();
        names
    };
    // Making the first generation takes the first sync.
    let (faults, failed) = failing(Step::Sync, 2, 1, false);
    let storage = SledStorage::open(options(folder.path()).faults(faults)).unwrap();
    common::append(&storage, &lane(0), "a", 10).await.unwrap();
    let before = generations();
    assert!(common::append(&storage, &lane(0), "b", 10).await.is_err());
    assert_eq!(failed.load(Relaxed), 1);
    let size =
        |name: &str| std::fs::metadata(folder.path().join(name).join("db")).unwrap().modified().unwrap();
    let modified = size(&before[0]);
    common::append(&storage, &lane(0), "c", 10).await.unwrap();
    let after = generations();
    assert_eq!((before.len(), after.len()), (1, 2));
    assert_eq!(size(&before[0]), modified, "the suspect generation was written to");
    drop(storage);
    let storage = SledStorage::open(options(folder.path())).unwrap();
    common::append(&storage, &lane(0), "d", 10).await.unwrap();
    assert_eq!(common::names(&storage, &lane(0)).await, ["a", "c", "d"]);
}
