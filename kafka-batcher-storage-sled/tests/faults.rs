//! Steps of writing that fail: what was answered with an error is not there, what was promised is, and it goes on.
//!
//! `KAFKA_BATCHER_FAULTS` sets the number of runs with failures at random, `KAFKA_BATCHER_SEED` the first seed;
//! `cargo xtask campaign faults`.

mod common;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use common::{MIB, Rng, all, append, from_env, lane, name_of, options};
use kafka_batcher_core::{EntryId, StorageError, TempStorage};
use kafka_batcher_storage_sled::{Durability, Faults, SledOptions, SledStorage, Step};

const STEPS: [Step; 9] = [
    Step::Apply,
    Step::Flush,
    Step::Sync,
    Step::WriteMarks,
    Step::SyncMarks,
    Step::RenameMarks,
    Step::Create,
    Step::Flag,
    Step::RenameFlag,
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

/// What was refused may be in the files, behind what was taken, and is not what the lane ends with.
#[tokio::test]
async fn a_refusal_at_the_end_of_a_lane_is_not_taken_for_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let bad: Arc<Mutex<Option<Step>>> = Arc::default();
    let is_bad = Arc::clone(&bad);
    let faults = Faults::new(move |step| match *is_bad.lock().unwrap() {
        Some(bad) if bad == step => Err(io::Error::from_raw_os_error(5)),
        _ => Ok(()),
    });
    let storage = SledStorage::open(options(folder.path()).faults(faults)).unwrap();
    // Each in a generation of its own. What is refused before sled has it is not in the files, and the first generation
    // ends with what was taken; what is refused later is, and the second ends with that.
    for (name, step) in [("a", Step::Apply), ("b", Step::Flush)] {
        append(&storage, &lane(0), name, 10).await.unwrap();
        *bad.lock().unwrap() = Some(step);
        assert!(append(&storage, &lane(0), "refused", 10).await.is_err());
        *bad.lock().unwrap() = None;
    }
    drop(storage);
    for _ in 0..2 {
        let storage = SledStorage::open(options(folder.path())).unwrap();
        assert!(storage.recovery().is_clean(), "{:?}", storage.recovery());
        assert_eq!(storage.lanes().await.unwrap()[0].batches, 2);
        assert_eq!(common::names(&storage, &lane(0)).await, ["a", "b"]);
    }
}

/// That something was refused is written down as soon as the disk lets it be, at the latest when the storage is closed.
#[tokio::test]
async fn what_was_refused_does_not_turn_up_after_a_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    let bad = Arc::new(AtomicBool::new(false));
    let is_bad = Arc::clone(&bad);
    let faults = Faults::new(move |step| match step {
        Step::Flush | Step::WriteMarks if is_bad.load(Relaxed) => Err(io::Error::from_raw_os_error(5)),
        _ => Ok(()),
    });
    let storage = SledStorage::open(options(folder.path()).faults(faults)).unwrap();
    append(&storage, &lane(0), "a", 10).await.unwrap();
    bad.store(true, Relaxed);
    assert!(append(&storage, &lane(0), "refused", 10).await.is_err());
    bad.store(false, Relaxed);
    drop(storage);
    let storage = SledStorage::open(options(folder.path())).unwrap();
    assert_eq!(common::names(&storage, &lane(0)).await, ["a"]);
}

/// A disk that fails now and then, for a while, in one way or another.
struct Weather {
    faults: Faults,
    bad: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
}

impl Weather {
    fn new(seed: u64) -> Self {
        let (bad, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_bad, count) = (Arc::clone(&bad), Arc::clone(&failed));
        let rng = Mutex::new(Rng::new(seed));
        let faults = Faults::new(move |_| {
            let mut rng = rng.lock().unwrap();
            if !is_bad.load(Relaxed) || rng.below(3) > 0 {
                return Ok(());
            }
            count.fetch_add(1, Relaxed);
            Err(match rng.below(3) {
                0 => io::Error::from_raw_os_error(5),
                1 => io::Error::from_raw_os_error(28),
                // Half of it is written.
                _ => io::ErrorKind::WriteZero.into(),
            })
        });
        Self { faults, bad, failed }
    }
}

#[derive(Default)]
struct Expected {
    kept: BTreeMap<u64, String>,
    acknowledged: u64,
    /// Acknowledging failed: they may come again when it is opened again.
    may_come_again: BTreeMap<u64, String>,
    /// Refused, and perhaps not even that could be written down: a crash now may leave them there.
    uncertain: Vec<String>,
}

impl Expected {
    fn acknowledge(&mut self, upto: u64, failed: bool) {
        let later = self.kept.split_off(&(upto + 1));
        let done = std::mem::replace(&mut self.kept, later);
        if failed {
            self.may_come_again.extend(done);
        }
        self.acknowledged = self.acknowledged.max(upto);
    }
}

async fn is_as_expected(storage: &SledStorage, lanes: &[Expected; 3], reopened: bool, told: &str) {
    assert!(storage.recovery().is_clean(), "{told}: {:?}", storage.recovery());
    for (number, expected) in (0..).zip(lanes) {
        let found = all(storage, &lane(number)).await;
        let found: BTreeMap<u64, String> = found.iter().map(|(id, batch)| (id.0, name_of(batch))).collect();
        for (id, name) in &expected.kept {
            assert_eq!(found.get(id), Some(name), "{told}: entry {id} of lane {number} is lost");
        }
        for (id, name) in found.iter().filter(|(id, _)| !expected.kept.contains_key(id)) {
            let again = expected.may_come_again.get(id) == Some(name) || expected.uncertain.contains(name);
            let again = reopened && again;
            assert!(again, "{told}: {name}, entry {id} of lane {number}, should not be there");
        }
    }
}

fn small(path: &Path) -> SledOptions {
    SledOptions::new(path).quota(64 * MIB).generation_bytes(1_500_000)
}

/// How many steps failed, appends were refused, and batches kept.
async fn random_run(seed: u64) -> (u64, u64, u64) {
    let told = format!("KAFKA_BATCHER_SEED={seed}");
    let mut rng = Rng::new(seed);
    let level = if rng.below(2) == 0 { Durability::Disk } else { Durability::Os };
    let folder = tempfile::tempdir().unwrap();
    let (mut lanes, mut refused, mut kept): ([Expected; 3], u64, u64) = Default::default();
    let weather = Weather::new(seed);
    let options = small(folder.path()).durability(level).faults(weather.faults.clone());
    let mut storage = SledStorage::open(options.clone()).unwrap();
    for n in 0..120 {
        weather.bad.store(rng.below(4) == 0, Relaxed);
        let number = rng.below(3);
        let expected = &mut lanes[number as usize];
        match rng.below(10) {
            0 => {
                let last = expected.kept.last_key_value().map_or(0, |(id, _)| *id);
                let upto = last.saturating_sub(rng.below(6)).max(expected.acknowledged);
                let answer = storage.acknowledge(&lane(number as u32), EntryId(upto)).await;
                expected.acknowledge(upto, answer.is_err());
            }
            1 => {
                // As a kill would leave it.
                let left = tempfile::tempdir().unwrap();
                common::copy_dir(folder.path(), left.path());
                let left =
                    SledStorage::open(small(left.path())).unwrap_or_else(|error| panic!("{told}: {error}"));
                is_as_expected(&left, &lanes, true, &told).await;
            }
            2 if rng.below(3) == 0 => {
                if !weather.bad.load(Relaxed) {
                    lanes.iter_mut().for_each(|lane| lane.uncertain.clear());
                }
                drop(storage);
                storage = match SledStorage::open(options.clone()) {
                    Ok(storage) => storage,
                    Err(_) => {
                        assert!(weather.bad.swap(false, Relaxed), "{told}: not opened, without a failure");
                        SledStorage::open(options.clone()).unwrap_or_else(|error| panic!("{told}: {error}"))
                    }
                };
                weather.bad.store(false, Relaxed);
                is_as_expected(&storage, &lanes, true, &told).await;
                for (number, expected) in (0..).zip(&mut lanes) {
                    let found = all(&storage, &lane(number)).await;
                    expected.kept.extend(found.iter().map(|(id, batch)| (id.0, name_of(batch))));
                    expected.may_come_again.clear();
                    expected.uncertain.clear();
                }
            }
            _ => {
                let most = if rng.below(4) == 0 { 60_000 } else { 900 };
                let len = rng.below(most) as usize;
                let name = format!("b{n}");
                match append(&storage, &lane(number as u32), &name, len).await {
                    Ok(id) => {
                        assert!(id.0 > expected.acknowledged, "{told}: {id:?}");
                        expected.kept.insert(id.0, name);
                        kept += 1;
                        lanes.iter_mut().for_each(|lane| lane.uncertain.clear());
                    }
                    Err(_) => {
                        refused += 1;
                        expected.uncertain.push(name);
                    }
                }
            }
        }
    }
    weather.bad.store(false, Relaxed);
    is_as_expected(&storage, &lanes, false, &told).await;
    // The disk is well again: so is the storage.
    append(&storage, &lane(9), "again", 10).await.unwrap_or_else(|error| panic!("{told}: {error}"));
    drop(storage);
    lanes.iter_mut().for_each(|lane| lane.uncertain.clear());
    let storage = SledStorage::open(small(folder.path())).unwrap_or_else(|error| panic!("{told}: {error}"));
    is_as_expected(&storage, &lanes, true, &told).await;
    (weather.failed.load(Relaxed), refused, kept)
}

#[test]
fn whatever_fails_at_random_costs_nothing_that_was_accepted() {
    let runs = from_env("KAFKA_BATCHER_FAULTS", 8);
    let first = from_env("KAFKA_BATCHER_SEED", u64::from(std::process::id()));
    println!("{runs} runs with failures, KAFKA_BATCHER_SEED={first}");
    let (runtime, mut sum) = (common::runtime(), (0, 0, 0));
    for seed in first..first + runs {
        let (failed, refused, kept) = runtime.block_on(random_run(seed));
        sum = (sum.0 + failed, sum.1 + refused, sum.2 + kept);
    }
    println!("{runs} runs: {} steps failed, {} batches refused, {} accepted, 0 lost", sum.0, sum.1, sum.2);
    assert!(runs < 5 || (sum.0 > 0 && sum.1 > 0), "nothing ever failed: that tests nothing");
}
