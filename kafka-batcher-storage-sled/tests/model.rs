//! The same calls to this storage and to the core's reference give the same answers, also over restarts.

mod common;

use kafka_batcher_core::{EntryId, LaneId, LaneUsage, MemoryStorage, StoredBatch, TempStorage};
use kafka_batcher_storage_sled::{Durability, SledOptions, SledStorage};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Append {
        lane: usize,
        len: usize,
        maybe: bool,
    },
    /// Reads on behind what was read last, or from the beginning.
    Next {
        lane: usize,
        on: bool,
    },
    /// Acknowledges the so manyth of those that were appended to the lane.
    Acknowledge {
        lane: usize,
        nth: prop::sample::Index,
    },
    Lanes,
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let lane = || 0..4_usize;
    let op = prop_oneof![
        8 => (lane(), prop_oneof![0..500_usize, 3000..20_000_usize], any::<bool>())
            .prop_map(|(lane, len, maybe)| Op::Append { lane, len, maybe }),
        6 => (lane(), any::<bool>()).prop_map(|(lane, on)| Op::Next { lane, on }),
        3 => (lane(), any::<prop::sample::Index>()).prop_map(|(lane, nth)| Op::Acknowledge { lane, nth }),
        1 => Just(Op::Lanes),
        1 => Just(Op::Reopen),
    ];
    vec(op, 1..80)
}

fn lane(n: usize) -> LaneId {
    [
        LaneId::partition("a", 0),
        LaneId::partition("a", u32::MAX),
        LaneId::unassigned("a"),
        LaneId::unassigned("größer"),
    ][n]
        .clone()
}

fn sorted(mut lanes: Vec<LaneUsage>) -> Vec<LaneUsage> {
    lanes.sort_by(|a, b| a.id.cmp(&b.id));
    lanes
}

fn options(path: &std::path::Path) -> SledOptions {
    SledOptions::new(path).quota(256 * common::MIB).generation_bytes(1_200_000).durability(Durability::Os)
}

async fn run(ops: Vec<Op>) {
    let folder = tempfile::tempdir().unwrap();
    let model = MemoryStorage::new(u64::MAX);
    let mut storage = SledStorage::open(options(folder.path())).unwrap();
    // Ids by place in the lane, of the model and of the storage, and what was read last.
    let mut ids: [Vec<(EntryId, EntryId)>; 4] = Default::default();
    let mut last: [Option<usize>; 4] = [None; 4];
    for (n, op) in ops.into_iter().enumerate() {
        match op {
            Op::Append { lane: l, len, maybe } => {
                let entry = StoredBatch::new(common::named(&n.to_string(), 1 + len % 3, len), maybe);
                let expected = model.append(&lane(l), entry.clone()).await.unwrap();
                let id = storage.append(&lane(l), entry).await.unwrap();
                assert!(ids[l].last().is_none_or(|(_, last)| *last < id));
                ids[l].push((expected, id));
            }
            Op::Next { lane: l, on } => {
                let after = last[l].filter(|_| on).map(|place| ids[l][place]);
                let expected = model.next(&lane(l), after.map(|after| after.0)).await.unwrap();
                let found = storage.next(&lane(l), after.map(|after| after.1)).await.unwrap();
                let place =
                    expected.as_ref().map(|(id, _)| ids[l].iter().position(|ids| ids.0 == *id).unwrap());
                assert_eq!(found.as_ref().map(|found| found.0), place.map(|place| ids[l][place].1));
                assert_eq!(found.map(|found| found.1), expected.map(|found| found.1));
                last[l] = place;
            }
            Op::Acknowledge { lane: l, nth } if !ids[l].is_empty() => {
                let (expected, id) = ids[l][nth.index(ids[l].len())];
                model.acknowledge(&lane(l), expected).await.unwrap();
                storage.acknowledge(&lane(l), id).await.unwrap();
            }
            Op::Acknowledge { .. } => {}
            Op::Lanes => {
                assert_eq!(sorted(storage.lanes().await.unwrap()), sorted(model.lanes().await.unwrap()));
            }
            Op::Reopen => {
                drop(storage);
                storage = SledStorage::open(options(folder.path())).unwrap();
                assert!(storage.recovery().is_clean(), "{:?}", storage.recovery());
                assert_eq!(sorted(storage.lanes().await.unwrap()), sorted(model.lanes().await.unwrap()));
            }
        }
    }
    assert!(storage.recovery().is_clean(), "{:?}", storage.recovery());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn it_does_what_the_reference_does(ops in ops()) {
        common::runtime().block_on(run(ops));
    }
}
