//! What an operator does with a spool that no process uses; and dead letters.

mod common;

use std::num::NonZeroU64;
use std::time::Duration;

use common::{append, dead, dead_names, lane, name_of, names, open, options, put};
use kafka_batcher_core::{DeadLetter, EntryId, LaneId, StoredBatch, TempStorage};
use kafka_batcher_storage_sled::{Purge, SledError, SledStorage, Spool};

async fn spool_with(batches: u32, letters: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    for n in 0..batches {
        let entry = StoredBatch::new(common::named(&n.to_string(), 3, 100), n % 5 == 0);
        storage.append(&lane(n % 2), entry).await.unwrap();
    }
    for n in 0..letters {
        put(&storage, &format!("d{n}")).await.unwrap();
    }
    storage.close().await;
    folder
}

#[tokio::test]
async fn lanes_and_dead_letters_are_told() {
    let folder = spool_with(20, 3).await;
    let spool = Spool::open(folder.path()).unwrap();
    let lanes = spool.lanes().unwrap();
    assert_eq!(
        lanes.iter().map(|l| (l.usage.batches, l.usage.events, l.maybe_persisted)).collect::<Vec<_>>(),
        [(10, 30, 2), (10, 30, 2)]
    );
    assert!(lanes.iter().all(|lane| lane.oldest.is_some_and(|age| age < Duration::from_secs(60))));
    let dead = spool.dead_letters().unwrap();
    assert_eq!(dead.records, 3);
    let entry = spool.next_dead(Some(EntryId(1))).unwrap().unwrap();
    assert_eq!((entry.id, entry.dead.error.as_str()), (EntryId(2), "refused"));
    let second = spool.next(&lane(1), Some(EntryId(1))).unwrap().unwrap();
    assert_eq!(name_of(&second.stored.batch), "3");
    let found = spool.verify().unwrap();
    assert!(found.is_clean());
    assert_eq!((found.batches, found.events, found.dead_letters), (20, 60, 3));
    assert!(spool.disk_bytes() > 100_000);
}

#[tokio::test]
async fn a_spool_in_use_and_what_is_no_spool_are_refused() {
    let folder = spool_with(1, 0).await;
    let storage = open(folder.path());
    assert!(matches!(Spool::open(folder.path()), Err(SledError::StorageLocked { .. })));
    drop(storage);
    let nothing = folder.path().join("nothing");
    assert!(matches!(Spool::open(&nothing), Err(SledError::NotASpool { .. })));
    assert!(!nothing.exists());
}

#[tokio::test]
async fn dead_letters_are_requeued_behind_their_lane() {
    let folder = spool_with(4, 6).await;
    let spool = Spool::open(folder.path()).unwrap();
    let odd = |name: &[u8]| name.last().is_some_and(|digit| digit % 2 == 1);
    let requeued = spool.requeue(|entry| odd(entry.dead.record.key.as_deref().unwrap_or_default())).unwrap();
    assert_eq!(requeued, 3);
    drop(spool);
    let storage = open(folder.path());
    assert_eq!(names(&storage, &lane(1)).await, ["1", "3", "d1", "d3", "d5"]);
    assert_eq!(dead_names(&storage).await, ["d0", "d2", "d4"]);
    assert!(storage.recovery().is_clean());
    let batch = common::all(&storage, &lane(1)).await.pop().unwrap().1;
    let record = batch.records().next().unwrap().to_owned();
    assert_eq!(record, dead("d5").record);
}

#[tokio::test]
async fn what_is_purged_is_gone() {
    let folder = spool_with(20, 6).await;
    let spool = Spool::open(folder.path()).unwrap();
    assert_eq!(spool.purge(&Purge::Lane(lane(0))).unwrap(), 10);
    assert_eq!(spool.purge(&Purge::Lane(LaneId::unassigned("unknown"))).unwrap(), 0);
    assert_eq!(spool.lanes().unwrap().len(), 1);
    assert_eq!(spool.purge(&Purge::DeadLetters).unwrap(), 6);
    assert_eq!(spool.purge(&Purge::Batches).unwrap(), 10);
    drop(spool);
    let storage = open(folder.path());
    assert!(storage.lanes().await.unwrap().is_empty() && dead_names(&storage).await.is_empty());
    assert!(storage.recovery().is_clean());
}

#[tokio::test]
async fn dead_letters_survive_and_are_limited_in_number() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path()).dead_letter_limit(NonZeroU64::new(3));
    let storage = SledStorage::open(options.clone()).unwrap();
    for n in 0..3 {
        put(&storage, &n.to_string()).await.unwrap();
    }
    assert!(put(&storage, "3").await.unwrap_err().to_string().contains("limit"));
    drop(storage);
    let storage = SledStorage::open(options).unwrap();
    assert!(DeadLetter::is_durable(&storage));
    let (id, found, _) = storage.next_dead_letter(None).await.unwrap().unwrap();
    assert_eq!((found.record, found.lane, found.kind), (dead("0").record, dead("0").lane, dead("0").kind));
    storage.forget_dead_letters(id).await.unwrap();
    put(&storage, "3").await.unwrap();
    assert_eq!(dead_names(&storage).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn old_dead_letters_are_removed_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let storage =
        SledStorage::open(options(folder.path()).dead_letter_max_age(Duration::from_secs(3))).unwrap();
    append(&storage, &lane(0), "a batch has no age limit", 10).await.unwrap();
    put(&storage, "old").await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while storage.recovery().expired_dead_letters == 0 && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    put(&storage, "new").await.unwrap();
    assert_eq!(dead_names(&storage).await, ["new"]);
    assert_eq!(storage.recovery().expired_dead_letters, 1);
    assert_eq!(names(&storage, &lane(0)).await.len(), 1);
}
