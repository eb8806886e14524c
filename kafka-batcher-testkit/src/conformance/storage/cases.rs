//! One lane and several, one call at a time.

use std::sync::Arc;

use kafka_batcher_core::batch::Identity;
use kafka_batcher_core::{
    Batch, BatchBuilder, EntryId, LaneId, Record, StorageError, StoredBatch, TempStorage,
};

use super::StorageFixture;
use crate::conformance::Outcome;

/// Room for everything.
pub(super) const AMPLE: u64 = 256 * 1024 * 1024;

/// A batch of `count` records that say who they are.
pub(super) fn batch(name: usize, count: usize) -> Batch {
    sealed((0..count).map(|n| Record::new(format!("{name}:{n}")).with_key("k").with_header("h", "v")))
}

fn sealed(records: impl IntoIterator<Item = Record>) -> Batch {
    let mut builder = BatchBuilder::new();
    for record in records {
        assert!(builder.push(&record.as_ref(), 1_700_000_000_000, None, usize::MAX), "it fits");
    }
    #[expect(clippy::panic, reason = "the suite's own batches have records")]
    builder.seal().unwrap_or_else(|| panic!("a batch without records"))
}

pub(super) fn entry(name: usize) -> StoredBatch {
    StoredBatch::new(batch(name, 3), false)
}

pub(super) fn lane() -> LaneId {
    LaneId::partition("topic", 0)
}

/// What storage has to be able to do now.
#[expect(clippy::panic, reason = "that is how a case fails")]
pub(super) fn must<T>(what: &str, result: Result<T, StorageError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

pub(super) async fn append(storage: &dyn TempStorage, lane: &LaneId, entry: StoredBatch) -> EntryId {
    must("append", storage.append(lane, entry).await)
}

/// Everything in a lane, in order.
pub(super) async fn all(storage: &dyn TempStorage, lane: &LaneId) -> Vec<(EntryId, StoredBatch)> {
    let mut found = Vec::new();
    let mut after = None;
    while let Some((id, entry)) = must("next", storage.next(lane, after).await) {
        assert!(after.is_none_or(|after| id > after), "next gave {id:?} after {after:?}");
        after = Some(id);
        found.push((id, entry));
    }
    found
}

pub(super) fn assert_entries(found: &[(EntryId, StoredBatch)], expected: &[StoredBatch]) {
    assert_eq!(found.len(), expected.len(), "batches in the lane");
    for (index, ((_, found), expected)) in found.iter().zip(expected).enumerate() {
        assert!(found.batch.as_bytes() == expected.batch.as_bytes(), "bytes of batch {index}");
        assert_eq!(found.maybe_persisted, expected.maybe_persisted, "flag of batch {index}");
        assert_eq!(found.batch.len(), expected.batch.len(), "count of batch {index}");
    }
}

async fn filled(fixture: &dyn StorageFixture, count: usize) -> (Arc<dyn TempStorage>, Vec<EntryId>) {
    let storage = fixture.open(AMPLE).await;
    let mut ids = Vec::new();
    for name in 0..count {
        ids.push(append(&*storage, &lane(), entry(name)).await);
    }
    (storage, ids)
}

fn entries(names: std::ops::Range<usize>) -> Vec<StoredBatch> {
    names.map(entry).collect()
}

/// A batch comes back byte by byte.
pub async fn what_is_appended_comes_back_as_it_was(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    let mut odd = Record::tombstone("");
    odd.headers.push("null", None);
    odd.headers.push("null", Some(bytes::Bytes::new()));
    let records =
        [Record::default(), Record::new(vec![0xff; 1000]), odd, Record::new("v").with_timestamp(-5)];
    let appended = [StoredBatch::new(sealed(records), false), entry(1)];
    for entry in &appended {
        append(&*storage, &lane(), entry.clone()).await;
    }
    assert_entries(&all(&*storage, &lane()).await, &appended);
    Ok(())
}

/// Whether Kafka may have a batch already is stored with it.
pub async fn the_flag_maybe_persisted_is_kept(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    let appended: Vec<_> = [true, false, false, true]
        .into_iter()
        .enumerate()
        .map(|(name, maybe)| StoredBatch::new(batch(name, 1), maybe))
        .collect();
    for entry in &appended {
        append(&*storage, &lane(), entry.clone()).await;
    }
    assert_entries(&all(&*storage, &lane()).await, &appended);
    Ok(())
}

/// The stamp of an idempotent producer is stored with the batch, and the batch is not encoded anew.
pub async fn a_stamped_batch_keeps_its_identity(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    let identity = Identity { producer_id: 77, producer_epoch: 3, base_sequence: 1234 };
    let stamped = StoredBatch::new(batch(0, 5).stamped(identity), true);
    append(&*storage, &lane(), stamped.clone()).await;
    let found = all(&*storage, &lane()).await;
    assert_entries(&found, &[stamped]);
    assert_eq!(found.first().and_then(|(_, entry)| entry.batch.identity()), Some(identity));
    Ok(())
}

/// Batches of several megabytes.
pub async fn large_batches_come_back(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    let mut appended = Vec::new();
    for size in [1_000, 65_536, 1_000_000, 3_000_000, 10] {
        let noise: Vec<u8> = (0..size).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        appended.push(StoredBatch::new(sealed([Record::new(noise)]), false));
    }
    for entry in &appended {
        append(&*storage, &lane(), entry.clone()).await;
    }
    assert_entries(&all(&*storage, &lane()).await, &appended);
    Ok(())
}

/// A lane is a queue.
pub async fn batches_come_back_in_the_order_of_appending(fixture: &dyn StorageFixture) -> Outcome {
    let (storage, _) = filled(fixture, 300).await;
    assert_entries(&all(&*storage, &lane()).await, &entries(0..300));
    Ok(())
}

/// Each append gives a larger id than the one before, and reading gives the same ids.
pub async fn entries_are_named_by_growing_ids(fixture: &dyn StorageFixture) -> Outcome {
    let (storage, ids) = filled(fixture, 20).await;
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let found: Vec<EntryId> = all(&*storage, &lane()).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(found, ids);
    Ok(())
}

/// `next` can be asked again and gives the same.
pub async fn reading_removes_nothing(fixture: &dyn StorageFixture) -> Outcome {
    let (storage, ids) = filled(fixture, 3).await;
    for _ in 0..3 {
        assert_entries(&all(&*storage, &lane()).await, &entries(0..3));
        let oldest = must("next", storage.next(&lane(), None).await);
        assert_eq!(oldest.map(|(id, _)| id), ids.first().copied());
    }
    Ok(())
}

/// `next` begins behind the entry it is given, though that may be gone, and ends behind the last.
pub async fn reading_goes_on_behind_any_entry(fixture: &dyn StorageFixture) -> Outcome {
    let (storage, ids) = filled(fixture, 5).await;
    let next =
        async |after: Option<EntryId>| must("next", storage.next(&lane(), after).await).map(|(id, _)| id);
    for pair in ids.windows(2) {
        assert_eq!(next(Some(pair[0])).await, Some(pair[1]));
    }
    assert_eq!(next(ids.last().copied()).await, None);
    assert_eq!(next(Some(EntryId(u64::MAX))).await, None);
    must("acknowledge", storage.acknowledge(&lane(), ids[2]).await);
    assert_eq!(next(Some(ids[0])).await, Some(ids[3]), "behind an entry that is gone");
    assert_eq!(next(None).await, Some(ids[3]));
    Ok(())
}

/// A lane nobody appended to is empty, and asking for it does not make it.
pub async fn a_lane_without_batches_has_none(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    assert!(must("next", storage.next(&lane(), None).await).is_none());
    assert!(must("next", storage.next(&lane(), Some(EntryId(5))).await).is_none());
    assert!(must("lanes", storage.lanes().await).is_empty());
    assert!(must("is_empty", storage.is_empty("topic").await));
    Ok(())
}

/// Lanes whose names look alike.
pub async fn lanes_are_kept_apart(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    let longest = "x".repeat(249);
    let mut lanes = vec![LaneId::partition(longest.as_str(), 1), LaneId::unassigned(longest.as_str())];
    for topic in ["a", "a.1", "a-1", "ab", "A", "a_", "1", "unassigned"] {
        lanes.push(LaneId::unassigned(topic));
        lanes.extend([0, 1, 10, 255, 256, 65_536, u32::MAX].map(|p| LaneId::partition(topic, p)));
    }
    for round in 0..2 {
        for (name, lane) in lanes.iter().enumerate() {
            append(&*storage, lane, entry(name * 2 + round)).await;
        }
    }
    for (name, lane) in lanes.iter().enumerate() {
        assert_entries(&all(&*storage, lane).await, &entries(name * 2..name * 2 + 2));
    }
    // What is acknowledged in one is not in another.
    for (name, lane) in lanes.iter().enumerate() {
        let found = all(&*storage, lane).await;
        assert_entries(&found, &entries(name * 2..name * 2 + 2));
        must("acknowledge", storage.acknowledge(lane, found[1].0).await);
        assert_entries(&all(&*storage, lane).await, &[]);
    }
    Ok(())
}

/// The entry and all before it are gone, and nothing behind it.
pub async fn acknowledging_forgets_all_up_to_the_entry(fixture: &dyn StorageFixture) -> Outcome {
    let (storage, ids) = filled(fixture, 10).await;
    for (index, rest) in [(0, 1..10), (3, 4..10), (9, 10..10)] {
        must("acknowledge", storage.acknowledge(&lane(), ids[index]).await);
        assert_entries(&all(&*storage, &lane()).await, &entries(rest));
    }
    Ok(())
}

/// An entry that is gone, and a lane that has nothing.
pub async fn acknowledging_again_or_nothing_is_success(fixture: &dyn StorageFixture) -> Outcome {
    let (storage, ids) = filled(fixture, 4).await;
    for index in [1, 1, 0] {
        must("acknowledge", storage.acknowledge(&lane(), ids[index]).await);
        assert_entries(&all(&*storage, &lane()).await, &entries(2..4));
    }
    must("acknowledge", storage.acknowledge(&LaneId::unassigned("other"), ids[3]).await);
    assert_entries(&all(&*storage, &lane()).await, &entries(2..4));
    assert!(must("lanes", storage.lanes().await).iter().all(|usage| usage.id == lane()));
    Ok(())
}

/// An id is never used twice in a lane: an acknowledgement that comes late must not meet a new entry.
pub async fn ids_grow_on_when_a_lane_was_drained(fixture: &dyn StorageFixture) -> Outcome {
    let (storage, ids) = filled(fixture, 3).await;
    let mut last = ids[2];
    for name in 3..8 {
        must("acknowledge", storage.acknowledge(&lane(), last).await);
        let id = append(&*storage, &lane(), entry(name)).await;
        assert!(id > last, "{id:?} after {last:?}");
        assert_entries(&all(&*storage, &lane()).await, &entries(name..name + 1));
        last = id;
    }
    Ok(())
}

/// Batches, events and bytes of each lane that holds something.
pub async fn usage_is_told_for_each_lane(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    let (full, other) = (LaneId::partition("topic", 7), LaneId::unassigned("other"));
    let mut ids = Vec::new();
    for count in [5, 2, 4] {
        ids.push(append(&*storage, &full, StoredBatch::new(batch(1, count), false)).await);
    }
    let only = append(&*storage, &other, entry(1)).await;
    let usage = async |lane: &LaneId| {
        let lanes = must("lanes", storage.lanes().await);
        let mut found = lanes.into_iter().filter(|usage| usage.id == *lane);
        let usage = found.next().map(|usage| (usage.batches, usage.events, usage.bytes));
        assert!(found.next().is_none(), "{lane} is told twice");
        usage
    };
    let bytes = |count| batch(1, count).byte_len() as u64;
    assert_eq!(usage(&full).await, Some((3, 11, bytes(5) + bytes(2) + bytes(4))));
    assert_eq!(usage(&other).await, Some((1, 3, bytes(3))));
    must("acknowledge", storage.acknowledge(&full, ids[1]).await);
    assert_eq!(usage(&full).await, Some((1, 4, bytes(4))));
    must("acknowledge", storage.acknowledge(&other, only).await);
    assert_eq!(usage(&other).await, None, "a lane that holds nothing");
    Ok(())
}

/// Whatever its lanes are.
pub async fn a_topic_is_empty_when_all_its_lanes_are(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    let (one, two) = (LaneId::partition("topic", 3), LaneId::unassigned("topic"));
    let first = append(&*storage, &one, entry(0)).await;
    let second = append(&*storage, &two, entry(1)).await;
    let empty = async |topic: &str| must("is_empty", storage.is_empty(topic).await);
    assert!(!empty("topic").await);
    assert!(empty("topi").await && empty("topic1").await && empty("").await);
    must("acknowledge", storage.acknowledge(&one, first).await);
    assert!(!empty("topic").await, "events without a partition are left");
    must("acknowledge", storage.acknowledge(&two, second).await);
    assert!(empty("topic").await);
    Ok(())
}
