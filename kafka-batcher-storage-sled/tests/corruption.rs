//! Damaged files: flipped bits, zeroed pages, files cut off. Whatever is damaged, nothing panics, nothing wrong is read,
//! and what was stored is either read, in order, or counted as lost.
//!
//! `KAFKA_BATCHER_CORRUPTIONS` sets the number of runs, `KAFKA_BATCHER_SEED` the first seed;
//! `cargo xtask campaign corruptions`.

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{MIB, Rng, from_env, lane, name_of, named};
use kafka_batcher_core::{DeadLetter, StoredBatch, TempStorage};
use kafka_batcher_storage_sled::{Durability, SledOptions, SledStorage};

const LANES: u32 = 3;
const DEAD: usize = 20;

fn options(path: &Path) -> SledOptions {
    SledOptions::new(path).quota(256 * MIB).generation_bytes(1_500_000).durability(Durability::Os)
}

/// A spool as a killed process leaves it, and what is in it.
struct Template {
    folder: tempfile::TempDir,
    /// By lane, in order: id and name.
    stored: BTreeMap<u32, Vec<(u64, String)>>,
    /// As they are in the files: those of the batches that are one chunk.
    chunks: BTreeMap<String, Vec<u8>>,
}

impl Template {
    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    async fn make(batches: u32, acknowledged: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = SledStorage::open(options(&folder.path().join("used"))).unwrap();
        let mut stored: BTreeMap<u32, Vec<(u64, String)>> = BTreeMap::new();
        for n in 0..batches {
            let (number, name) = (n % LANES, format!("b{n}"));
            let len = if n % 9 == 0 { 9000 } else { 400 };
            let entry = StoredBatch::new(named(&name, 2, len), n % 4 == 0);
            let id = storage.append(&lane(number), entry).await.unwrap();
            stored.entry(number).or_default().push((id.0, name));
        }
        for n in 0..DEAD {
            storage.put(common::dead(&format!("d{n}"))).await.unwrap();
        }
        for number in 0..LANES {
            let id = kafka_batcher_core::EntryId(acknowledged);
            storage.acknowledge(&lane(number), id).await.unwrap();
            stored.entry(number).or_default().retain(|(id, _)| *id > acknowledged);
        }
        // As it is while the process runs: that is what a kill leaves.
        common::copy_dir(&folder.path().join("used"), &folder.path().join("spool"));
        drop(storage);
        let files = contents(&folder.path().join("spool"));
        let names = stored.values().flatten().map(|(_, name)| name.clone());
        let chunks = names.filter_map(|name| Some((name.clone(), chunk_of(&files, &name)?))).collect();
        Self { folder, stored, chunks }
    }
}

fn contents(spool: &Path) -> Vec<Vec<u8>> {
    let files = common::files(spool).into_iter().filter(|file| file.ends_with("db"));
    files.map(|file| std::fs::read(file).unwrap()).collect()
}

/// The chunk that a small batch is in, as found in the files.
fn chunk_of(files: &[Vec<u8>], name: &str) -> Option<Vec<u8>> {
    let batch = named(name, 2, 400);
    files.iter().find_map(|file| {
        let at = memchr::memmem::find(file, batch.as_bytes())?;
        let from = memchr::memmem::rfind(&file[..at], b"\xf5KB1")?;
        Some(file[from..at + batch.byte_len()].to_vec())
    })
}

/// Damages one file. Says what it did.
fn damage(spool: &Path, rng: &mut Rng) -> String {
    let files: Vec<_> = common::files(spool)
        .into_iter()
        .filter(|file| {
            std::fs::metadata(file).unwrap().len() > 0
                && !file.ends_with("LOCK")
                && !file.ends_with("RESERVE")
        })
        .collect();
    // Most of the time where the data is.
    let data: Vec<_> = files.iter().filter(|file| file.ends_with("db") || file.ends_with("MARKS")).collect();
    let path = if rng.below(4) == 0 {
        &files[rng.below(files.len() as u64) as usize]
    } else {
        data[rng.below(data.len() as u64) as usize]
    };
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let at = rng.below(len);
    let what = match rng.below(4) {
        0 | 1 => {
            let flips = 1 + rng.below(3);
            for n in 0..flips {
                let (at, mut byte) = ((at + n * 977) % len, [0]);
                file.read_exact_at(&mut byte, at).unwrap();
                byte[0] ^= 1 << rng.below(8);
                file.write_all_at(&byte, at).unwrap();
            }
            format!("{flips} flipped bits from {at}")
        }
        2 => {
            let (from, many) = (at / 4096 * 4096, 4096 * (1 + rng.below(3)));
            let many = many.min(len - from);
            file.write_all_at(&vec![0; many as usize], from).unwrap();
            format!("{many} zeros from {from}")
        }
        _ => {
            file.set_len(at).unwrap();
            format!("cut off at {at}")
        }
    };
    format!("{}: {what} of {len}", path.strip_prefix(spool).unwrap().display())
}

#[derive(Debug, Default)]
struct Sum {
    /// Searched for in the files, in vain.
    missed: u64,
    clean: u64,
    salvaged: u64,
    lost: u64,
    quarantined: u64,
}

async fn check(template: &Template, spool: &Path, told: &str, sum: &mut Sum) {
    // Found in the files as it was written: then it has to be found by the storage, too.
    let files = contents(spool);
    let is_whole = |name: &str| {
        let chunk = template.chunks.get(name);
        chunk.is_some_and(|chunk| files.iter().any(|file| memchr::memmem::find(file, chunk).is_some()))
    };
    let storage =
        SledStorage::open(options(spool)).unwrap_or_else(|error| panic!("{told}: not opened: {error}"));
    let (mut there, mut missing) = (0, 0);
    for (number, stored) in &template.stored {
        let found = common::all(&storage, &lane(*number)).await;
        let mut last = 0;
        let first_stored = stored.first().map_or(0, |(id, _)| *id);
        for (id, batch) in &found {
            assert!(id.0 > last, "{told}: lane {number} is out of order");
            last = id.0;
            match stored.iter().find(|(stored, _)| *stored == id.0) {
                Some((_, name)) => {
                    assert_eq!(
                        *batch,
                        named(name, 2, batch.records().next().unwrap().value.unwrap().len()),
                        "{told}"
                    );
                }
                // Acknowledged, and the marks that said so are gone: it comes again.
                None => assert!(id.0 < first_stored, "{told}: {} was never stored as {id:?}", name_of(batch)),
            }
        }
        let still: usize =
            stored.iter().filter(|(id, _)| found.iter().any(|(found, _)| found.0 == *id)).count();
        let missed = stored.iter().filter(|(id, _)| !found.iter().any(|(found, _)| found.0 == *id));
        // A sample: searching takes its time.
        for (_, name) in missed.step_by(stored.len() / 25 + 1) {
            sum.missed += 1;
            assert!(!is_whole(name), "{told}: {name} is in the files, not found: {:?}", storage.recovery());
        }
        there += still;
        missing += stored.len() - still;
    }
    let dead = common::dead_names(&storage).await.len();
    let recovery = storage.recovery();
    let marks = recovery.marks_damaged || told.starts_with("MARKS");
    if marks {
        assert!(missing == 0 && dead == DEAD, "{told}: {missing} are missing with sound data: {recovery:?}");
    } else {
        assert_eq!(recovery.lost_batches as usize, missing, "{told}: {there} are there: {recovery:?}");
        assert_eq!(recovery.lost_events as usize, 2 * missing, "{told}");
        assert_eq!(recovery.lost_dead_letters as usize, DEAD - dead, "{told}: {recovery:?}");
        let told_one_by_one: u64 = recovery.losses.iter().map(|loss| loss.batches).sum();
        assert_eq!(told_one_by_one, recovery.lost_batches + recovery.lost_dead_letters, "{told}");
    }
    // It works on.
    let id =
        common::append(&storage, &lane(0), "new", 10).await.unwrap_or_else(|error| panic!("{told}: {error}"));
    let (last, batch) = common::all(&storage, &lane(0)).await.pop().unwrap();
    assert!(last == id && name_of(&batch) == "new", "{told}");
    sum.clean += u64::from(recovery.is_clean());
    sum.salvaged += u64::from(recovery.salvaged > 0);
    sum.lost += recovery.lost_batches + recovery.lost_dead_letters;
    sum.quarantined += recovery.quarantined.len() as u64;
    for folder in &recovery.quarantined {
        assert!(folder.exists(), "{told}: {} is not kept", folder.display());
    }
    drop(storage);
    // What was repaired stays so.
    let again =
        SledStorage::open(options(spool)).unwrap_or_else(|error| panic!("{told}: not opened again: {error}"));
    let counts: usize = again.lanes().await.unwrap().iter().map(|usage| usage.batches as usize).sum();
    assert!(counts > there, "{told}: {counts} batches of {there} and one");
    assert!(again.recovery().quarantined.is_empty(), "{told}: {:?}", again.recovery());
}

#[test]
fn damaged_files_are_survived() {
    let runs = from_env("KAFKA_BATCHER_CORRUPTIONS", 60);
    let first = from_env("KAFKA_BATCHER_SEED", u64::from(std::process::id()));
    println!("{runs} corruptions, KAFKA_BATCHER_SEED={first}");
    damage_and_check(first, runs);
}

/// Seeds that once found something: sled opened a sealed generation and did not find all that was in it.
#[test]
fn known_seeds_stay_good() {
    damage_and_check(10_015, 15);
}

fn damage_and_check(first: u64, runs: u64) {
    let runtime = common::runtime();
    let templates = [(500, 0), (60, 0), (500, 20), (3, 0)];
    let templates =
        templates.map(|(batches, acknowledged)| runtime.block_on(Template::make(batches, acknowledged)));
    let mut sum = Sum::default();
    for seed in first..first + runs {
        let mut rng = Rng::new(seed);
        let template = &templates[rng.below(templates.len() as u64) as usize];
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        common::copy_dir(&template.spool(), &spool);
        let told = damage(&spool, &mut rng);
        let told = format!("{told}, seed {seed}");
        runtime.block_on(check(template, &spool, &told, &mut sum));
    }
    println!("{runs} corruptions: {sum:?}");
    assert!(runs < 50 || sum.quarantined > 0, "nothing was ever damaged: that tests nothing");
}

/// Damage that appears while the spool is open is met when it is read.
#[test]
fn damage_under_an_open_spool_is_survived() {
    let seed = from_env("KAFKA_BATCHER_SEED", u64::from(std::process::id()));
    println!("KAFKA_BATCHER_SEED={seed}");
    let runtime = common::runtime();
    let mut rng = Rng::new(seed);
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let storage = SledStorage::open(options(folder.path())).unwrap();
            for n in 0..1500 {
                common::append(&storage, &lane(0), &format!("b{n}"), 900).await.unwrap();
            }
            for file in common::files(folder.path()).iter().filter(|file| file.ends_with("db")) {
                let file = std::fs::File::options().write(true).open(file).unwrap();
                let len = file.metadata().unwrap().len();
                for _ in 0..20 {
                    file.write_all_at(&[0xaa; 64], rng.below(len - 64)).unwrap();
                }
            }
            let found = common::names(&storage, &lane(0)).await;
            let numbers: Vec<u32> = found.iter().map(|name| name[1..].parse().unwrap()).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b));
            let lost = storage.recovery().lost_batches as usize;
            assert_eq!(found.len() + lost, 1500, "{:?}", storage.recovery());
        });
    }
}
