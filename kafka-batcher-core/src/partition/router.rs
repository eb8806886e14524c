//! The partition of each event of a topic.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{PartitionStrategy, hash};
use crate::batch::Batch;
use crate::event::EventRef;
use crate::lane::SEQUENCE_HEADER;
use crate::producer::{Delivered, ErrorKind, Persistence, ProduceError, ProduceFailure};
use crate::receipt::Tickets;
use crate::record::RecordRef;
use crate::rng::{below, mix};
use crate::search::last_value;

/// Applies a topic's [`PartitionStrategy`]. Shared by all tasks that add events; takes no lock.
#[derive(Debug)]
pub struct Router {
    topic: Arc<str>,
    strategy: PartitionStrategy,
    seed: u64,
    /// One more than the choice whose batch has begun.
    began: AtomicU64,
    /// Counts choices: events for `random` and `round_robin`, moves for `sticky`.
    choices: AtomicU64,
}

/// Why an event has no partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The application's partitioner chose a partition that does not exist.
    #[error("the partitioner chose partition {chosen}, there are {partitions}")]
    NoSuchPartition {
        /// What it chose.
        chosen: u32,
        /// How many there are.
        partitions: u32,
    },
}

impl Router {
    /// A router for `topic`, random choices drawn from `seed`.
    #[must_use]
    pub fn new(topic: Arc<str>, strategy: PartitionStrategy, seed: u64) -> Self {
        Self { topic, strategy, seed, began: AtomicU64::new(0), choices: AtomicU64::new(0) }
    }

    /// The partition the event belongs to; `None` when it belongs to none and is to be spread.
    ///
    /// # Errors
    /// When a custom partitioner chooses a partition that does not exist.
    pub fn assigned(&self, partitions: NonZeroU32, event: &EventRef<'_>) -> Result<Option<u32>, RouteError> {
        let by_key = match &self.strategy {
            PartitionStrategy::Random | PartitionStrategy::Sticky | PartitionStrategy::RoundRobin => {
                return Ok(None);
            }
            PartitionStrategy::Custom(custom) => {
                return match custom.partition(&self.topic, partitions, event) {
                    Some(chosen) if chosen >= partitions.get() => {
                        Err(RouteError::NoSuchPartition { chosen, partitions: partitions.get() })
                    }
                    choice => Ok(choice),
                };
            }
            PartitionStrategy::Murmur2 => hash::murmur2,
            PartitionStrategy::Crc32 => hash::crc32,
            PartitionStrategy::Fnv1a => hash::fnv1a,
            PartitionStrategy::Phash2 => hash::phash2,
        };
        Ok(event.record.key.map(|key| by_key(key, partitions)))
    }

    /// A partition for an event, or for a batch of events, that belongs to none.
    #[must_use]
    pub fn spread(&self, partitions: NonZeroU32) -> u32 {
        match self.strategy {
            PartitionStrategy::Random => {
                below(mix(self.seed.wrapping_add(self.choices.fetch_add(1, Relaxed))), partitions.get())
            }
            PartitionStrategy::RoundRobin => {
                (self.seed.wrapping_add(self.choices.fetch_add(1, Relaxed)) % u64::from(partitions.get()))
                    as u32
            }
            _ => below(mix(self.seed.wrapping_add(self.choices.load(Relaxed))), partitions.get()),
        }
    }

    /// A partition for an event that belongs to none, behind `before` such events that are routed with it: so many of
    /// them as make a batch stay together, however many came before there were partitions.
    #[must_use]
    pub fn spread_behind(&self, before: u32, batch_size: NonZeroU32, partitions: NonZeroU32) -> u32 {
        if before > 0 && before % batch_size == 0 {
            self.batch_left(partitions);
        }
        self.spread(partitions)
    }

    /// A partition for an event that belongs to none and carries a sequence header: the same whoever routes it, as long
    /// as the topic has so many partitions. `None` without such a header.
    #[must_use]
    pub fn spread_again(
        record: &RecordRef<'_>,
        batch_size: NonZeroU32,
        partitions: NonZeroU32,
    ) -> Option<u32> {
        let stamp: &[u8; 28] = last_value(record, SEQUENCE_HEADER)?.try_into().ok()?;
        let [instance @ .., _, _, _, _, _, _, _, _] = stamp;
        let number = stamp.last_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        let salt = instance.iter().fold(0, |salt, byte| mix(salt ^ u64::from(*byte)));
        Some(below(mix(salt.wrapping_add(number / u64::from(batch_size.get()))), partitions.get()))
    }

    /// Whether the partition of a spread batch may also be another one than [`spread`](Self::spread) said.
    #[must_use]
    pub const fn may_choose(&self) -> bool {
        !matches!(self.strategy, PartitionStrategy::RoundRobin)
    }

    /// A spread event was the first of a batch in the partition of the current choice. The second time,
    /// the batch before has left, and `sticky` moves on.
    pub fn batch_began(&self, partitions: NonZeroU32) {
        let choice = self.choices.load(Relaxed) + 1;
        if self.began.swap(choice, Relaxed) == choice {
            self.batch_left(partitions);
        }
    }

    /// A batch of spread events has left: `sticky` moves on.
    pub fn batch_left(&self, partitions: NonZeroU32) {
        let before = self.choices.load(Relaxed);
        let here = below(mix(self.seed.wrapping_add(before)), partitions.get());
        // Skip choices that would stay where it is; a handful is enough, and one partition has no other.
        let next = (before + 1..before + 9)
            .find(|choice| below(mix(self.seed.wrapping_add(*choice)), partitions.get()) != here)
            .unwrap_or(before + 1);
        if !matches!(self.strategy, PartitionStrategy::Random | PartitionStrategy::RoundRobin) {
            // Lost to a concurrent move: that one is as good.
            self.choices.compare_exchange(before, next, Relaxed, Relaxed).ok();
        }
    }
}

/// A batch taken apart by partition.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Routed {
    /// For each partition that gets something: its records in order, and their receipts.
    pub parts: BTreeMap<u32, (Batch, Option<Tickets>)>,
    /// Indexes of the records that could not be routed.
    pub failed: Vec<u32>,
    /// The first error.
    pub error: Option<String>,
}

impl Routed {
    /// How routing ended, once the lanes that got the parts are settled. So many of its events were
    /// [turned back](crate::lane::Lane::take_turned_back).
    ///
    /// If any were, all of the batch stays in storage, although other parts of it may have got further: they are
    /// duplicates later, which is better than a loss.
    ///
    /// # Errors
    /// The answer for [`Action::Route`](crate::lane::Action::Route): what has to stay, and what can never be routed.
    pub fn landed(self, turned_back: u64) -> Result<Delivered, ProduceFailure> {
        if turned_back > 0 {
            let message = format!("storage was to take {turned_back} of its events elsewhere, and did not");
            let error = ProduceError::new(ErrorKind::Transient, message);
            return Err(ProduceFailure::whole(error, Persistence::NotPersisted));
        }
        match self.error {
            None => Ok(Delivered::default()),
            Some(error) => {
                let error = ProduceError::new(ErrorKind::Permanent, error);
                Err(ProduceFailure::some(error, Persistence::NotPersisted, self.failed))
            }
        }
    }
}

/// Takes a batch apart: `assign` says where each record goes.
#[must_use]
pub fn route(
    batch: &Batch,
    tickets: Option<&Tickets>,
    mut assign: impl FnMut(&EventRef<'_>) -> Result<u32, String>,
) -> Routed {
    let mut routed = Routed::default();
    let mut indexes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (index, record) in (0..).zip(batch.records()) {
        match assign(&EventRef::of_record(record)) {
            Ok(partition) => indexes.entry(partition).or_default().push(index),
            Err(error) => {
                routed.failed.push(index);
                routed.error.get_or_insert(error);
            }
        }
    }
    for (partition, kept) in indexes {
        if let Some(part) = batch.select(|index| kept.binary_search(&index).is_ok()) {
            routed.parts.insert(partition, (part, tickets.map(|tickets| tickets.select(&kept))));
        }
    }
    routed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    const TWELVE: NonZeroU32 = NonZeroU32::new(12).unwrap();

    fn router(strategy: PartitionStrategy) -> Router {
        Router::new("t".into(), strategy, 7)
    }

    fn keyed(key: &str) -> Record {
        Record::new("v").with_key(key.to_owned())
    }

    #[test]
    fn a_key_always_goes_to_the_same_partition() {
        for strategy in ["murmur2", "crc32", "fnv1a", "phash2", "md5"] {
            let router = router(strategy.parse().unwrap());
            let of = |key: &str| {
                router.assigned(TWELVE, &EventRef::of_record(keyed(key).as_ref())).unwrap().unwrap()
            };
            assert_eq!(of("N14228"), of("N14228"), "{strategy}");
            assert!(
                (0..100).map(|i| of(&i.to_string())).collect::<std::collections::BTreeSet<_>>().len() > 6
            );
        }
    }

    /// Defect 14: keyless events under `md5` all went to one partition.
    #[test]
    fn defect_14_events_without_a_key_are_spread() {
        for strategy in ["random", "sticky", "round_robin", "murmur2", "crc32", "fnv1a", "phash2", "md5"] {
            let router = router(strategy.parse().unwrap());
            let event = EventRef::of_record(RecordRef { value: Some(b"v"), ..RecordRef::default() });
            assert_eq!(router.assigned(TWELVE, &event).unwrap(), None, "{strategy}");
            let mut counts = [0; 12];
            for _ in 0..1200 {
                counts[router.spread(TWELVE) as usize] += 1;
                router.batch_left(TWELVE);
            }
            assert!(counts.iter().all(|c| (40..200).contains(c)), "{strategy}: {counts:?}");
        }
    }

    #[test]
    fn many_events_that_are_routed_at_once_do_not_all_go_to_one_partition() {
        let router = Router::new("t".into(), PartitionStrategy::Sticky, 7);
        let (batch, partitions) = (NonZeroU32::new(10).unwrap(), NonZeroU32::new(4).unwrap());
        let chosen: Vec<u32> = (0..100).map(|n| router.spread_behind(n, batch, partitions)).collect();
        for tens in chosen.chunks(10) {
            assert!(tens.iter().all(|partition| *partition == tens[0]), "{chosen:?}");
        }
        assert!(chosen.iter().any(|partition| *partition != chosen[0]), "{chosen:?}");
    }

    #[test]
    fn sticky_stays_until_a_batch_has_left_and_then_moves() {
        let router = router(PartitionStrategy::Sticky);
        for _ in 0..100 {
            let here = router.spread(TWELVE);
            assert_eq!(router.spread(TWELVE), here);
            router.batch_left(TWELVE);
            assert_ne!(router.spread(TWELVE), here);
        }
    }

    #[test]
    fn round_robin_takes_turns() {
        let router = router(PartitionStrategy::RoundRobin);
        let first = router.spread(TWELVE);
        for i in 1..30 {
            assert_eq!(router.spread(TWELVE), (first + i) % 12);
        }
    }

    #[test]
    fn a_function_sees_topic_count_key_and_value_and_must_stay_in_range() {
        let router = router(PartitionStrategy::function(|topic, n, key, value| {
            assert_eq!((topic, n, key), ("t", 12, Some(&b"k"[..])));
            value.unwrap().len() as u32
        }));
        let record = keyed("k");
        assert_eq!(router.assigned(TWELVE, &EventRef::of_record(record.as_ref())), Ok(Some(1)));
        let long = Record::new(vec![0; 12]).with_key("k");
        assert_eq!(
            router.assigned(TWELVE, &EventRef::of_record(long.as_ref())),
            Err(RouteError::NoSuchPartition { chosen: 12, partitions: 12 })
        );
    }

    #[test]
    fn a_typed_function_sees_the_event_before_it_is_encoded() {
        use crate::event::{Event, Json};
        let strategy = PartitionStrategy::typed(|_, n, event: &u64| (*event % u64::from(n)) as u32);
        assert!(strategy.needs_typed_event());
        let router = router(strategy);
        let of = |event: Json<u64>| event.with_record(|e| router.assigned(TWELVE, &e)).unwrap().unwrap();
        assert_eq!(of(Json(25)), Some(1));
        assert_eq!("bytes".with_record(|e| router.assigned(TWELVE, &e)).unwrap(), Ok(None));
    }
}
