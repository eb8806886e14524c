//! What the process leaves behind.

use std::sync::Arc;

use kafka_batcher_core::{EntryId, LaneId, TempStorage};

use super::StorageFixture;
use super::cases::{AMPLE, all, append, assert_entries, entry, lane, must};
use crate::conformance::Outcome;

/// What a storage says of its durability is so from the beginning.
pub async fn durability_does_not_change(fixture: &dyn StorageFixture) -> Outcome {
    let storage = fixture.open(AMPLE).await;
    let durable = storage.is_durable();
    let id = append(&*storage, &lane(), entry(0)).await;
    assert_eq!(storage.is_durable(), durable);
    must("acknowledge", storage.acknowledge(&lane(), id).await);
    assert_eq!(storage.is_durable(), durable);
    Ok(())
}

/// Opens, appends to two lanes, and opens again.
async fn left(
    fixture: &dyn StorageFixture,
    acknowledge: usize,
) -> Result<(Arc<dyn TempStorage>, Vec<EntryId>), crate::conformance::Skip> {
    let storage = fixture.open(AMPLE).await;
    let mut ids = Vec::new();
    for name in 0..20 {
        ids.push(append(&*storage, &lane(), entry(name)).await);
        append(&*storage, &LaneId::unassigned("other"), entry(100 + name)).await;
    }
    if acknowledge > 0 {
        must("acknowledge", storage.acknowledge(&lane(), ids[acknowledge - 1]).await);
    }
    Ok((fixture.reopen(storage).await?, ids))
}

/// Every batch whose `append` returned is there, in order, with its id.
pub async fn what_was_appended_survives_the_process(fixture: &dyn StorageFixture) -> Outcome {
    let (storage, ids) = left(fixture, 0).await?;
    let found = all(&*storage, &lane()).await;
    assert_entries(&found, &(0..20).map(entry).collect::<Vec<_>>());
    assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    let other = all(&*storage, &LaneId::unassigned("other")).await;
    assert_entries(&other, &(100..120).map(entry).collect::<Vec<_>>());
    assert_eq!(must("lanes", storage.lanes().await).len(), 2);
    assert!(!must("is_empty", storage.is_empty("topic").await));
    Ok(())
}

/// An acknowledgement may get lost with the process; what is behind it is complete and in order.
pub async fn what_was_acknowledged_may_return_but_nothing_else_does(fixture: &dyn StorageFixture) -> Outcome {
    let (storage, ids) = left(fixture, 8).await?;
    let found = all(&*storage, &lane()).await;
    let gone = 20 - found.len();
    assert!(found.len() <= 20 && gone <= 8, "{} of 12 batches that were not acknowledged", found.len());
    assert_entries(&found, &(gone..20).map(entry).collect::<Vec<_>>());
    must("acknowledge", storage.acknowledge(&lane(), ids[19]).await);
    assert!(all(&*storage, &lane()).await.is_empty());
    Ok(())
}

/// New entries come behind the old ones, also behind those that were acknowledged.
pub async fn ids_grow_on_in_the_next_process(fixture: &dyn StorageFixture) -> Outcome {
    let (storage, ids) = left(fixture, 20).await?;
    let id = append(&*storage, &lane(), entry(20)).await;
    assert!(id > ids[19], "{id:?} after {:?}", ids[19]);
    let storage = fixture.reopen(storage).await?;
    let found = all(&*storage, &lane()).await;
    assert_eq!(found.last().map(|(id, _)| *id), Some(id));
    Ok(())
}
