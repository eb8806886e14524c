//! Limits, and many calls at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_batcher_core::{EntryId, LaneId, StorageError, StoredBatch, TempStorage};

use super::StorageFixture;
use super::cases::{AMPLE, all, append, assert_entries, batch, entry, lane, must};
use crate::conformance::{Outcome, Skip};

/// A quota that some dozens of batches use up.
const TIGHT: u64 = 1024 * 1024;

/// So many times the quota is tried before storage is taken for unlimited.
const PATIENCE: u64 = 8;

/// Time in which what was acknowledged makes room.
const ROOM: Duration = Duration::from_secs(20);

fn bulky(name: usize) -> StoredBatch {
    StoredBatch::new(batch(name, 500), false)
}

/// Appends until storage is full.
async fn fill(storage: &dyn TempStorage, from: usize) -> Result<Vec<EntryId>, Skip> {
    let mut ids = Vec::new();
    let most = PATIENCE * TIGHT / bulky(0).batch.byte_len() as u64;
    for name in from..from + usize::try_from(most).unwrap_or(usize::MAX) {
        match storage.append(&lane(), bulky(name)).await {
            Ok(id) => ids.push(id),
            Err(StorageError::Full { used, quota }) => {
                assert!(used <= quota, "{used} of {quota} bytes");
                return Ok(ids);
            }
            #[expect(clippy::panic, reason = "that is how a case fails")]
            Err(error) => panic!("full storage says: {error}"),
        }
    }
    Err(Skip::new(format!("it is never full: {PATIENCE} times its quota went in")))
}

/// `Full` is said, the batch that met it is not stored, and what was stored is there.
pub async fn full_storage_refuses_and_keeps_what_it_has(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(TIGHT).await;
    let ids = fill(&*storage, 0).await?;
    assert!(!ids.is_empty(), "full from the start");
    for _ in 0..3 {
        assert!(matches!(storage.append(&lane(), bulky(9999)).await, Err(StorageError::Full { .. })));
    }
    let expected: Vec<_> = (0..ids.len()).map(bulky).collect();
    assert_entries(&all(&*storage, &lane()).await, &expected);
    Ok(())
}

/// Storage that was full takes batches again when others are acknowledged, be it a moment later.
pub async fn acknowledging_makes_room(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(TIGHT).await;
    let mut name = 0;
    for _ in 0..5 {
        let ids = fill(&*storage, name).await?;
        assert!(!ids.is_empty(), "no room though all was acknowledged");
        name += ids.len();
        let oldest = must("next", storage.next(&lane(), None).await);
        assert!(oldest.is_some(), "full storage can be drained");
        if let Some(last) = ids.last() {
            must("acknowledge", storage.acknowledge(&lane(), *last).await);
        }
        let deadline = Instant::now() + ROOM;
        while Instant::now() < deadline {
            if storage.append(&LaneId::unassigned("probe"), bulky(0)).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let probe = must("next", storage.next(&LaneId::unassigned("probe"), None).await);
        assert!(probe.is_some(), "no room though all was acknowledged");
        if let Some((id, _)) = probe {
            must("acknowledge", storage.acknowledge(&LaneId::unassigned("probe"), id).await);
        }
    }
    Ok(())
}

/// It is refused, and smaller ones are stored as before.
pub async fn a_batch_larger_than_the_quota_harms_nothing(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(TIGHT).await;
    append(&*storage, &lane(), entry(0)).await;
    let large = StoredBatch::new(batch(1, 200_000), false);
    assert!(large.batch.byte_len() as u64 > 3 * TIGHT);
    match storage.append(&lane(), large).await {
        Ok(_) => return Err(Skip::new("its quota is not so strict")),
        Err(error) => assert!(matches!(error, StorageError::Full { .. }), "{error}"),
    }
    append(&*storage, &lane(), entry(1)).await;
    assert_entries(&all(&*storage, &lane()).await, &[entry(0), entry(1)]);
    Ok(())
}

/// Lanes are appended to, read and acknowledged by tasks of their own, and none disturbs another.
pub async fn many_lanes_are_used_at_once(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    let tasks: Vec<_> = (0..24)
        .map(|partition| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                let lane = LaneId::partition("topic", partition);
                let base = partition as usize * 1000;
                for round in 0..5 {
                    let mut last = None;
                    for name in 0..10 {
                        last = Some(append(&*storage, &lane, entry(base + round * 10 + name)).await);
                    }
                    let found = all(&*storage, &lane).await;
                    let expected: Vec<_> = (0..10).map(|name| entry(base + round * 10 + name)).collect();
                    assert_entries(&found, &expected);
                    if let Some(last) = last.filter(|_| round < 4) {
                        must("acknowledge", storage.acknowledge(&lane, last).await);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    let lanes = must("lanes", storage.lanes().await);
    assert_eq!(lanes.len(), 24);
    assert!(lanes.iter().all(|usage| usage.batches == 10), "{lanes:?}");
    Ok(())
}

/// A lane is drained from the front while its end grows.
pub async fn one_lane_is_appended_to_while_it_is_read(fixture: &dyn StorageFixture) -> Outcome {
    const BATCHES: usize = 400;
    let storage = fixture.open(AMPLE).await;
    let writer = {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move {
            for name in 0..BATCHES {
                append(&*storage, &lane(), entry(name)).await;
                tokio::task::yield_now().await;
            }
        })
    };
    // For the next one, not for all: forcing some hundred to a busy disk may well take a minute.
    let patience = || Instant::now() + Duration::from_secs(60);
    let (mut read, mut deadline) = (0, patience());
    while read < BATCHES {
        match must("next", storage.next(&lane(), None).await) {
            Some((id, found)) => {
                assert_entries(&[(id, found)], &[entry(read)]);
                read += 1;
                must("acknowledge", storage.acknowledge(&lane(), id).await);
                deadline = patience();
            }
            None => {
                assert!(Instant::now() < deadline, "lost: {read} of {BATCHES} batches were there");
                tokio::task::yield_now().await;
            }
        }
    }
    assert!(writer.await.is_ok());
    assert!(all(&*storage, &lane()).await.is_empty());
    Ok(())
}

/// A call of `append` that is dropped has stored the batch or not, but not half of it, and what comes after is behind it.
pub async fn a_dropped_append_is_whole_or_not_there(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    let mut certain = Vec::new();
    for round in 0..30_u32 {
        let (dropped, kept) = (round as usize * 2, round as usize * 2 + 1);
        let lane = lane();
        let append_it = storage.append(&lane, bulky(dropped));
        // Polled once and dropped, or a few times, or some milliseconds later.
        let patience = async {
            for _ in 0..round % 10 {
                tokio::task::yield_now().await;
            }
            if round >= 10 {
                tokio::time::sleep(Duration::from_millis(u64::from(round / 10))).await;
            }
        };
        tokio::select! {
            biased;
            appended = append_it => assert!(appended.is_ok(), "{appended:?}"),
            () = patience => {}
        }
        append(&*storage, &lane, bulky(kept)).await;
        certain.push(kept);
    }
    let found = all(&*storage, &lane()).await;
    let names: Vec<usize> = found
        .iter()
        .map(|(_, entry)| {
            let whole = (0..60).find(|name| entry.batch.as_bytes() == bulky(*name).batch.as_bytes());
            assert!(whole.is_some(), "a batch nobody appended");
            whole.unwrap_or_default()
        })
        .collect();
    assert!(names.is_sorted_by(|a, b| a < b), "out of order, or twice: {names:?}");
    assert!(certain.iter().all(|name| names.contains(name)), "lost: {names:?}");
    Ok(())
}
