//! The folder: who may open and read it, how much it takes, and how it shrinks.

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{MIB, all, append, lane, names, open, options};
use kafka_batcher_core::{EntryId, StorageError, TempStorage};
use kafka_batcher_storage_sled::{Durability, SledError, SledOptions, SledStorage, SpoolView};

const FOLDER: &str = "KAFKA_BATCHER_LOCK_FOLDER";
/// Time for what is done in the background.
const PATIENCE: Duration = Duration::from_secs(120);

fn disk_bytes(path: &Path) -> u64 {
    common::files(path)
        .iter()
        .filter_map(|file| std::fs::metadata(file).ok())
        .map(|file| file.blocks() * 512)
        .sum()
}

#[test]
fn the_other_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let began = Instant::now();
    let error = SledStorage::open(options(Path::new(&folder))).unwrap_err();
    println!("{error}, {}", began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_second_process_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = format!("is locked by process {}, true", std::process::id());
    assert!(said.contains(&expected), "{said}{}", String::from_utf8_lossy(&output.stderr));
    append(&storage, &lane(0), "a", 10).await.unwrap();
}

#[tokio::test]
async fn a_second_opening_is_refused_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    append(&storage, &lane(0), "a", 10).await.unwrap();
    let error = SledStorage::open(options(folder.path())).unwrap_err();
    assert!(
        matches!(error, SledError::StorageLocked { pid: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    append(&storage, &lane(0), "b", 10).await.unwrap();
    storage.close().await;
    assert_eq!(names(&open(folder.path()), &lane(0)).await, ["a", "b"]);
}

#[tokio::test]
async fn only_the_owner_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b");
    for _ in 0..2 {
        let storage = SledStorage::open(options(&path).generation_bytes(MIB)).unwrap();
        for n in 0..30 {
            append(&storage, &lane(0), &n.to_string(), 30_000).await.unwrap();
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for file in common::files(&path) {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
            assert_eq!(mode(file.parent().unwrap()), 0o700, "{}", file.display());
        }
        drop(storage);
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    append(&storage, &lane(0), "a", 10).await.unwrap();
    drop(storage);
    let format = folder.path().join("FORMAT");
    let mine = std::fs::read(&format).unwrap();
    let text = "kafka-batcher spool 2";
    let newer = format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()));
    std::fs::write(&format, &newer).unwrap();
    let error = SledStorage::open(options(folder.path())).unwrap_err();
    assert!(matches!(error, SledError::NewerFormat { found: 2, known: 1, .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), newer);
    std::fs::write(&format, mine).unwrap();
    assert_eq!(names(&open(folder.path()), &lane(0)).await, ["a"]);
}

/// sled, opening it, could cut something off: it is read without it.
#[tokio::test]
async fn what_is_sealed_is_read_as_it_is_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path()).generation_bytes(MIB);
    let storage = SledStorage::open(options.clone()).unwrap();
    for n in 0..60 {
        append(&storage, &lane(0), &n.to_string(), 30_000).await.unwrap();
    }
    drop(storage);
    let flags = common::files(folder.path()).into_iter().filter(|file| file.ends_with("SEALED"));
    let sealed: Vec<_> = flags.map(|flag| flag.parent().unwrap().to_path_buf()).collect();
    assert!(sealed.len() > 1, "{sealed:?}");
    let states = || sealed.iter().map(|dir| common::state(dir).unwrap()).collect::<Vec<_>>();
    let before = states();
    let storage = SledStorage::open(options).unwrap();
    assert_eq!(names(&storage, &lane(0)).await.len(), 60);
    drop(storage);
    assert_eq!(states(), before);
}

#[tokio::test]
async fn half_written_things_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    append(&storage, &lane(0), "a", 10).await.unwrap();
    drop(storage);
    let generation = folder.path().join("gen-0000000001");
    assert!(generation.is_dir());
    std::fs::write(generation.join("snap.00000000000000FF.generating"), "half").unwrap();
    std::fs::create_dir_all(folder.path().join("gen-0000000099/blobs")).unwrap();
    std::fs::create_dir_all(folder.path().join("deleting-gen-0000000098")).unwrap();
    let storage = open(folder.path());
    assert_eq!(names(&storage, &lane(0)).await, ["a"]);
    assert_eq!(storage.recovery().half_written, 3);
    assert!(storage.recovery().is_clean());
    assert!(!folder.path().join("gen-0000000099").exists());
}

#[tokio::test]
async fn space_comes_back_when_it_is_drained() {
    let folder = tempfile::tempdir().unwrap();
    let storage = SledStorage::open(options(folder.path()).generation_bytes(4 * MIB)).unwrap();
    for n in 0..1500 {
        append(&storage, &lane(n % 2), &n.to_string(), 5_000).await.unwrap();
    }
    let full = disk_bytes(folder.path());
    assert!(full > 20 * MIB, "{full}");
    assert!(
        common::files(folder.path())
            .iter()
            .all(|file| file.parent().unwrap().file_name().unwrap() != "blobs"),
        "sled moved something to files that it never syncs"
    );
    // One lane is drained; the other stands still, with some batches in each generation.
    let last = all(&storage, &lane(0)).await.last().unwrap().0;
    storage.acknowledge(&lane(0), last).await.unwrap();
    let standing = all(&storage, &lane(1)).await;
    storage.acknowledge(&lane(1), standing[700].0).await.unwrap();
    let (deadline, mut now) = (Instant::now() + PATIENCE, full);
    while now > full / 3 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = disk_bytes(folder.path());
    }
    assert!(now <= full / 3, "{now} of {full} bytes are still there");
    assert_eq!(all(&storage, &lane(1)).await, standing[701..]);
    storage.acknowledge(&lane(1), standing.last().unwrap().0).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while now > 8 * MIB && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = disk_bytes(folder.path());
    }
    assert!(now <= 8 * MIB, "{now} bytes are still there");
    assert!(storage.recovery().is_clean());
}

/// sled never syncs what it moves to files of its own.
#[tokio::test]
async fn nothing_is_too_large_for_sled() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    for n in 0..100 {
        append(&storage, &lane(0), &n.to_string(), 40_000).await.unwrap();
    }
    for file in common::files(folder.path()) {
        assert_ne!(file.parent().unwrap().file_name().unwrap(), "blobs", "{}", file.display());
    }
    assert_eq!(names(&storage, &lane(0)).await.len(), 100);
}

/// Few batches of a lane that stands still are moved together, and come back in order.
#[tokio::test]
async fn what_is_left_is_moved_and_stays_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let storage = SledStorage::open(options(folder.path()).generation_bytes(3 * MIB)).unwrap();
    let mut standing = Vec::new();
    for n in 0..1200 {
        let id = append(&storage, &lane(0), &n.to_string(), 5_000).await.unwrap();
        if n % 100 == 0 {
            append(&storage, &lane(1), &n.to_string(), 100).await.unwrap();
            standing.push(n.to_string());
        }
        if n % 10 == 0 {
            storage.acknowledge(&lane(0), id).await.unwrap();
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let mut now = disk_bytes(folder.path());
    while now > 14 * MIB && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = disk_bytes(folder.path());
    }
    assert!(now <= 14 * MIB, "{now} bytes are still there");
    assert_eq!(names(&storage, &lane(1)).await, standing);
    drop(storage);
    let storage = open(folder.path());
    assert_eq!(names(&storage, &lane(1)).await, standing);
    assert!(storage.recovery().is_clean(), "{:?}", storage.recovery());
}

#[tokio::test]
async fn the_quota_is_kept_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let quota = 16 * MIB;
    let storage = SledStorage::open(SledOptions::new(folder.path()).quota(quota)).unwrap();
    let mut stored = 0_u64;
    for round in 0..3 {
        loop {
            match append(&storage, &lane(0), &stored.to_string(), 3_000).await {
                Ok(_) => stored += 1,
                Err(StorageError::Full { used, quota: told }) => {
                    assert!(used <= told && told == quota);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
            let bytes = disk_bytes(folder.path());
            assert!(bytes <= quota, "{bytes} bytes on the disk");
        }
        // Half of it is drained.
        let found = all(&storage, &lane(0)).await;
        assert!(found.len() > 300, "{} batches in round {round}", found.len());
        storage.acknowledge(&lane(0), found[found.len() / 2].0).await.unwrap();
    }
    let usage = storage.usage().await.unwrap();
    assert_eq!((usage.quota, usage.lost_events), (Some(quota), 0));
    assert!(usage.used > 4 * MIB && usage.oldest.is_some(), "{usage:?}");
}

#[tokio::test]
async fn the_oldest_is_that_of_what_is_still_there_however_often_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let oldest = async || storage.usage().await.unwrap().oldest;
    assert_eq!(oldest().await, None);
    let first = append(&storage, &lane(0), "a", 100).await.unwrap();
    let apart = std::time::Duration::from_millis(300);
    while oldest().await.unwrap() < apart {
        tokio::task::yield_now().await;
    }
    let start = std::time::Instant::now();
    let second = append(&storage, &lane(0), "b", 100).await.unwrap();
    assert!(oldest().await.unwrap() >= apart);
    storage.acknowledge(&lane(0), first).await.unwrap();
    let age = oldest().await.unwrap();
    assert!(age <= start.elapsed() + apart / 2, "{age:?} is that of what is done with");
    storage.acknowledge(&lane(0), second).await.unwrap();
    assert_eq!(oldest().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_appends_share_their_way_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(open(folder.path()));
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                for m in 0..20 {
                    append(&storage, &lane(n), &m.to_string(), 100).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for n in 0..64 {
        let expected: Vec<String> = (0..20).map(|m| m.to_string()).collect();
        assert_eq!(names(&storage, &lane(n)).await, expected);
    }
}

#[tokio::test]
async fn a_view_of_a_spool_in_use_shows_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    for n in 0..50 {
        append(&storage, &lane(n % 2), &n.to_string(), 3_000).await.unwrap();
    }
    common::put(&storage, "d").await.unwrap();
    storage.acknowledge(&lane(0), EntryId(20)).await.unwrap();
    let before = common::files(folder.path());
    let view = SpoolView::read(folder.path()).unwrap();
    assert_eq!(common::files(folder.path()), before);
    let usage: Vec<_> = view.lanes().into_iter().map(|lane| lane.usage).collect();
    assert_eq!(usage, storage.lanes().await.unwrap());
    let first = view.next(&lane(0), None).unwrap();
    assert_eq!((first.id, common::name_of(&first.stored.batch)), (EntryId(21), "40".to_owned()));
    assert_eq!(view.dead_letters().records, 1);
    assert!(view.next_dead(None).is_some());
    append(&storage, &lane(0), "more", 10).await.unwrap();
}

/// Counts how often something was forced to the disk.
#[derive(Default)]
struct Syncs(std::sync::atomic::AtomicU64);

impl kafka_batcher_core::Telemetry for Syncs {
    fn storage_called(&self, call: kafka_batcher_core::StorageCall, took: Duration, ok: bool) {
        assert_eq!((call.as_str(), ok), ("sync", true));
        assert!(took < Duration::from_secs(600));
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[tokio::test]
async fn how_long_the_disk_takes_is_told_and_what_is_held_of_a_topic() {
    for (level, least) in [(Durability::Disk, 6), (Durability::Os, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let storage = SledStorage::open(options(folder.path()).durability(level)).unwrap();
        let syncs = Arc::new(Syncs::default());
        storage.set_telemetry(syncs.clone());
        for value in ["a", "b", "c"] {
            append(&storage, &lane(0), value, 1000).await.unwrap();
        }
        let told = syncs.0.load(std::sync::atomic::Ordering::Relaxed);
        assert!(told >= least && (least > 0 || told == 0), "{level:?}: {told}");
        let usage = storage.usage().await.unwrap();
        let topic = &usage.topics[&lane(0).topic];
        assert!(topic.bytes > 3000 && topic.oldest.is_some() && topic.oldest == usage.oldest, "{usage:?}");
        assert_eq!((usage.salvaged, usage.lost_dead_letters), (0, 0));
    }
}
