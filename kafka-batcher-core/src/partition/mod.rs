//! Which partition an event goes to.

pub mod hash;
mod router;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use crate::config::ConfigError;
use crate::event::EventRef;

pub use router::{RouteError, Routed, Router, route};

/// Chooses a partition for an event.
///
/// Called in the task of whoever adds the event. A panic in it is contained: the event is handed
/// back with an error and everything goes on.
pub trait Partitioner: Send + Sync {
    /// The partition, from 0 to `partitions - 1`; `None` for "any": the event is then spread.
    fn partition(&self, topic: &str, partitions: NonZeroU32, event: &EventRef<'_>) -> Option<u32>;

    /// Whether the choice needs the typed event, which is gone once the event is encoded.
    ///
    /// If so, events wait to be accepted until the partition count is known, instead of being
    /// accepted at once and assigned later by their bytes.
    fn needs_typed_event(&self) -> bool {
        false
    }
}

/// How an event finds its partition (`partition_strategy`).
///
/// With a keyed strategy an event without a key is spread as by [`Sticky`](Self::Sticky), never sent
/// to one fixed partition.
///
/// With `collect_by_partition = false` a spread event goes where the topic's current batch goes, and
/// `random`, `sticky` and `round_robin` choose the partition of each new batch: events are then
/// spread in whole batches, and `random` and `sticky` prefer a partition with less before it. With `collect_by_partition = true` they choose for each event, but for
/// `sticky`, which stays with a partition until a batch has left it.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum PartitionStrategy {
    /// A random partition.
    #[default]
    Random,
    /// One partition until a batch has left it, then another, as Kafka's KIP-480 does.
    Sticky,
    /// One after the other.
    RoundRobin,
    /// By key, as Java's client does: [`hash::murmur2`].
    Murmur2,
    /// By key, as librdkafka's `consistent` does: [`hash::crc32`].
    Crc32,
    /// By key, as Sarama does: [`hash::fnv1a`].
    Fnv1a,
    /// By key, as `erlang:phash2/2` and the Elixir library's `md5` do: [`hash::phash2`].
    Phash2,
    /// By a function or an object of the application's own.
    Custom(Arc<dyn Partitioner>),
}

impl PartitionStrategy {
    /// The names a configuration file may use.
    pub(crate) const NAMES: &str = "\"random\", \"sticky\", \"round_robin\", \"murmur2\", \"crc32\", \"fnv1a\", \"phash2\", \"md5\" (the same as phash2)";

    /// A function of topic, partition count, key and value.
    ///
    /// ```
    /// use kafka_batcher_core::partition::PartitionStrategy;
    ///
    /// let by_length = PartitionStrategy::function(|_topic, partitions, _key, value| {
    ///     value.unwrap_or_default().len() as u32 % partitions
    /// });
    /// ```
    pub fn function<F>(function: F) -> Self
    where
        F: Fn(&str, u32, Option<&[u8]>, Option<&[u8]>) -> u32 + Send + Sync + 'static,
    {
        Self::Custom(Arc::new(ByBytes(function)))
    }

    /// A function of topic, partition count and the typed event, the `T` of a [`Json<T>`](crate::Json).
    ///
    /// Events of another type are spread. See [`Partitioner::needs_typed_event`] for what it costs.
    ///
    /// ```
    /// use kafka_batcher_core::partition::PartitionStrategy;
    ///
    /// struct Flight { carrier: u8 }
    /// let by_carrier = PartitionStrategy::typed(|_topic, partitions, flight: &Flight| {
    ///     u32::from(flight.carrier) % partitions
    /// });
    /// ```
    pub fn typed<T: 'static, F>(function: F) -> Self
    where
        F: Fn(&str, u32, &T) -> u32 + Send + Sync + 'static,
    {
        Self::Custom(Arc::new(ByType { function, event: std::marker::PhantomData }))
    }

    /// Whether the choice is made by the application's own code.
    #[must_use]
    pub const fn is_custom(&self) -> bool {
        matches!(self, Self::Custom(_))
    }

    /// Whether the choice needs the typed event.
    #[must_use]
    pub fn needs_typed_event(&self) -> bool {
        matches!(self, Self::Custom(custom) if custom.needs_typed_event())
    }
}

impl fmt::Debug for PartitionStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Sticky => "sticky",
            Self::RoundRobin => "round_robin",
            Self::Murmur2 => "murmur2",
            Self::Crc32 => "crc32",
            Self::Fnv1a => "fnv1a",
            Self::Phash2 => "phash2",
            Self::Custom(_) => "custom",
        })
    }
}

impl FromStr for PartitionStrategy {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        Ok(match name {
            "random" => Self::Random,
            "sticky" => Self::Sticky,
            "round_robin" => Self::RoundRobin,
            "murmur2" => Self::Murmur2,
            "crc32" => Self::Crc32,
            "fnv1a" => Self::Fnv1a,
            "phash2" | "md5" => Self::Phash2,
            other => {
                return Err(ConfigError::Invalid {
                    key: "partition_strategy".to_owned(),
                    problem: format!("{other:?}"),
                    allowed: Self::NAMES,
                });
            }
        })
    }
}

struct ByBytes<F>(F);

impl<F> Partitioner for ByBytes<F>
where
    F: Fn(&str, u32, Option<&[u8]>, Option<&[u8]>) -> u32 + Send + Sync,
{
    fn partition(&self, topic: &str, partitions: NonZeroU32, event: &EventRef<'_>) -> Option<u32> {
        Some(self.0(topic, partitions.get(), event.record.key, event.record.value))
    }
}

struct ByType<T, F> {
    function: F,
    event: std::marker::PhantomData<fn(&T)>,
}

impl<T: 'static, F> Partitioner for ByType<T, F>
where
    F: Fn(&str, u32, &T) -> u32 + Send + Sync,
{
    fn partition(&self, topic: &str, partitions: NonZeroU32, event: &EventRef<'_>) -> Option<u32> {
        event.typed::<T>().map(|event| (self.function)(topic, partitions.get(), event))
    }

    fn needs_typed_event(&self) -> bool {
        true
    }
}
