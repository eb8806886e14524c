//! Settings of a topic.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use super::ConfigError;
use super::value::Value;
use crate::batch::HEADER_LEN;
use crate::flusher::{BatchFlusher, NeverFlush};
use crate::partition::PartitionStrategy;

/// The settings of one topic, complete and valid.
///
/// Made by [`KafkaConfig::topics`](super::KafkaConfig::topics) or
/// [`KafkaConfig::topic`](super::KafkaConfig::topic) from the defaults, the client-wide settings and
/// the topic's own, in that order of increasing weight.
#[derive(Clone)]
#[non_exhaustive]
pub struct TopicConfig {
    /// `topic_name`: the topic.
    pub topic_name: Arc<str>,
    /// An accumulator for each partition instead of one for the topic. Default `false`.
    pub collect_by_partition: bool,
    /// How an event finds its partition. Default `random`.
    pub partition_strategy: PartitionStrategy,
    /// Events that make a batch ready. Default 10. A batch may grow beyond it, up to
    /// `max_batch_bytesize`, while the one before it is in flight or `min_delay` lasts.
    pub batch_size: NonZeroU32,
    /// Longest time a gathered event waits for its batch to fill. Default 1 s.
    pub max_wait_time: Duration,
    /// Shortest time between two batches that are sent because they are full of events. Default 0.
    pub min_delay: Duration,
    /// Exact upper limit of an encoded batch, in bytes, Kafka's batch header included. Default 1,000,000.
    pub max_batch_bytesize: NonZeroUsize,
    /// Looks at each event and may say "send now". Default: never.
    pub batch_flusher: Arc<dyn BatchFlusher>,
    /// Acknowledgements Kafka's leader waits for. Default all.
    pub required_acks: RequiredAcks,
    /// Compression of what goes over the wire. Default none.
    pub compression: Compression,
    /// Create the topic when it does not exist. Default `false`.
    pub allow_topic_auto_creation: bool,
    /// Partitions of a topic created so. Default: the broker's.
    pub new_topic_partitions: Option<NonZeroU32>,
    /// Replicas of a topic created so. Default: the broker's.
    pub new_topic_replication: Option<NonZeroU32>,
    /// Whether the topic shows up in metrics. Default `true`.
    pub telemetry: bool,
    /// What happens to events while Kafka is unavailable. Default: they are stored.
    pub on_unavailable: OnUnavailable,
    /// What happens to new events while they would have to be stored and storage has no room. Default: they are
    /// accepted as long as memory has, and then wait.
    pub on_storage_full: OnStorageFull,
    /// When an event counts as accepted. Default: once it is in memory.
    pub durability: Durability,
    /// Add a header [`SEQUENCE_HEADER`](crate::lane::SEQUENCE_HEADER) by which consumers can drop duplicates. Default `false`.
    pub sequence_header: bool,
    /// The topic that gets the records Kafka will never take, as [`dead_letter`](crate::dead_letter) says. Default: none;
    /// they go to the batcher's [`DeadLetter`](crate::DeadLetter) then.
    pub dead_letter_topic: Option<Arc<str>>,
    /// Search Kafka's log before sending again what it may have, and leave out what is there. Brings the sequence header.
    /// Default `false`.
    ///
    /// After an attempt with an unknown outcome, and for what a former process left in storage, the partition is read from the
    /// last known offset, or from the oldest of the records' timestamps, to its end; this takes the right to read the topic,
    /// and a producer that can [search](crate::Capabilities::search). It can't know, and may send twice:
    ///
    /// * when the request of the failed attempt is written only after the search: it was held up on its way
    /// * when it is there, but can't be read yet: the leader has it, and its replicas have not
    /// * when the log can't be searched: not allowed, too much to read within `produce_timeout`, ten failures in a row
    /// * what was stored without the header; what had no partition yet, if their number has changed since
    /// * when the log keeps the time of arrival (`LogAppendTime`) and the clocks differ
    /// * when the records have been compacted or deleted in the meantime
    ///
    /// Each of these that the batcher can see is reported, and counted as maybe duplicated.
    pub reconcile: bool,
    /// How old an event may be when it comes to be sent, from 1 ms to a year. One that is older goes to the dead letters as
    /// [`Expired`](crate::ErrorKind::Expired), and the others of its batch are sent. While Kafka is away, what is stored goes
    /// there too, batch by batch, once all of the oldest batch is that old. Default: events are sent however old they are.
    ///
    /// An event is as old as the wall clock and its timestamp say: a clock that is set makes all of them older or younger
    /// at once, and one with a timestamp in the future lives longer. What Kafka may have got already is looked for first with
    /// `reconcile`, as long as Kafka is there; otherwise the dead letter says that it may. A batch that a producer has numbered
    /// is never cut: it is sent whole until its youngest event is too old.
    pub max_age: Option<Duration>,
}

impl TopicConfig {
    /// The settings by which dead letters are sent to [`dead_letter_topic`](Self::dead_letter_topic), if there is one:
    /// those of this topic, but for `required_acks`, which is "all".
    #[must_use]
    pub fn dead_letter_config(&self) -> Option<Self> {
        let topic_name = Arc::clone(self.dead_letter_topic.as_ref()?);
        Some(Self { topic_name, dead_letter_topic: None, required_acks: RequiredAcks::All, ..self.clone() })
    }

    pub(super) fn with_defaults(topic_name: &str) -> Self {
        Self {
            topic_name: topic_name.into(),
            collect_by_partition: false,
            partition_strategy: PartitionStrategy::Random,
            batch_size: const { NonZeroU32::new(10).unwrap() },
            max_wait_time: Duration::from_secs(1),
            min_delay: Duration::ZERO,
            max_batch_bytesize: const { NonZeroUsize::new(1_000_000).unwrap() },
            batch_flusher: Arc::new(NeverFlush),
            required_acks: RequiredAcks::All,
            compression: Compression::None,
            allow_topic_auto_creation: false,
            new_topic_partitions: None,
            new_topic_replication: None,
            telemetry: true,
            on_unavailable: OnUnavailable::Store,
            on_storage_full: OnStorageFull::Block,
            durability: Durability::Memory,
            sequence_header: false,
            dead_letter_topic: None,
            reconcile: false,
            max_age: None,
        }
    }
}

impl fmt::Debug for TopicConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicConfig")
            .field("topic_name", &self.topic_name)
            .field("collect_by_partition", &self.collect_by_partition)
            .field("partition_strategy", &self.partition_strategy)
            .field("batch_size", &self.batch_size)
            .field("max_wait_time", &self.max_wait_time)
            .field("min_delay", &self.min_delay)
            .field("max_batch_bytesize", &self.max_batch_bytesize)
            .field("required_acks", &self.required_acks)
            .field("compression", &self.compression)
            .field("allow_topic_auto_creation", &self.allow_topic_auto_creation)
            .field("telemetry", &self.telemetry)
            .field("on_unavailable", &self.on_unavailable)
            .field("on_storage_full", &self.on_storage_full)
            .field("durability", &self.durability)
            .field("sequence_header", &self.sequence_header)
            .field("dead_letter_topic", &self.dead_letter_topic)
            .field("reconcile", &self.reconcile)
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

/// How many replicas must have a batch before Kafka acknowledges it (`required_acks`, Kafka's `acks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "Kafka knows no other")]
pub enum RequiredAcks {
    /// −1: all in-sync replicas. The only setting with which nothing is lost when a leader fails.
    #[default]
    All,
    /// 1: the leader alone.
    Leader,
    /// 0: none; "delivered" then only means "handed to the network".
    None,
}

impl RequiredAcks {
    /// Kafka's number for it: −1, 1 or 0.
    #[must_use]
    pub const fn as_i16(self) -> i16 {
        match self {
            Self::All => -1,
            Self::Leader => 1,
            Self::None => 0,
        }
    }
}

/// Compression of produce requests (Kafka's `compression.type`). A backend may need a feature for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// Kafka's name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What happens to new events while Kafka is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "accept or refuse")]
pub enum OnUnavailable {
    /// They are accepted, stored, and replayed in order.
    #[default]
    Store,
    /// They are handed back with an error that says so; what was accepted before is still stored.
    Reject,
}

/// What happens to new events of a partition while they would have to be stored and temporary storage has no room.
///
/// Either way nothing that was accepted is given up, and what is stored goes on being delivered, which makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "wait or refuse")]
pub enum OnStorageFull {
    /// They are accepted and held in memory. When that is full too (`max_memory_bytes`, `max_memory_events`), `add` waits
    /// and `try_add` hands the event back. With a journal, `add` waits until there is room, since an event is accepted
    /// only once it is stored.
    #[default]
    Block,
    /// They are handed back at once with an error that says so, until storage has room again or events of the partition
    /// need not be stored any more. With a journal, those that wait to be written are handed back, too.
    Reject,
}

/// When an event counts as accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "before the disk or after it")]
pub enum Durability {
    /// Once it is in memory. The end of the process loses what is neither delivered nor stored by then.
    #[default]
    Memory,
    /// Once it is in temporary storage, together with others that came at the same time. The end of the process
    /// then loses nothing that was accepted; how much the end of the machine does is up to the storage.
    Journal,
}

/// Settings of a topic as far as they are set; unset ones fall back to the client-wide ones, then to the defaults.
///
/// ```
/// use std::time::Duration;
/// use kafka_batcher_core::config::TopicSettings;
/// use kafka_batcher_core::partition::PartitionStrategy;
///
/// let flights = TopicSettings::new("flights")
///     .collect_by_partition(true)
///     .partition_strategy(PartitionStrategy::Murmur2)
///     .batch_size(500)
///     .max_wait_time(Duration::from_millis(50));
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct TopicSettings {
    pub(super) name: Option<String>,
    settings: Vec<Setting>,
    /// A value of the wrong range given to a setter; comes out on construction.
    error: Option<ConfigError>,
}

type Setting = Arc<dyn Fn(&mut TopicConfig) + Send + Sync>;

impl fmt::Debug for TopicSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut config = TopicConfig::with_defaults(self.name.as_deref().unwrap_or_default());
        self.settings.iter().for_each(|set| set(&mut config));
        f.debug_tuple("TopicSettings").field(&config).finish()
    }
}

const POSITIVE: &str = "a whole number from 1 to 4294967295";
const MILLIS: &str = "milliseconds, a whole number from 0 to 86400000 (a day)";
const BYTES: &str = "bytes, a whole number from 128 to 1073741824 (1 GiB)";
const ACKS: &str = "-1 (all), 1 (leader), 0 (none)";
const COMPRESSIONS: &str = "\"none\", \"gzip\", \"snappy\", \"lz4\", \"zstd\"";
const UNAVAILABLE: &str = "\"store\", \"reject\"";
const STORAGE_FULL: &str = "\"block\", \"reject\"";
const DURABILITIES: &str = "\"memory\", \"journal\"";
const AGE: &str = "false, or milliseconds, a whole number from 1 to 31536000000 (a year)";
const DEAD_LETTER_TOPIC: &str = "false, or the name of another topic";
const NAME: &str = "1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-', but not \".\" or \"..\"";

/// Every key a topic may have, in the order of the documentation.
pub(super) const TOPIC_KEYS: &[&str] = &[
    "topic_name",
    "collect_by_partition",
    "partition_strategy",
    "batch_size",
    "max_wait_time",
    "min_delay",
    "max_batch_bytesize",
    "required_acks",
    "compression",
    "allow_topic_auto_creation",
    "new_topic_partitions",
    "new_topic_replication",
    "telemetry",
    "on_unavailable",
    "on_storage_full",
    "durability",
    "sequence_header",
    "dead_letter_topic",
    "reconcile",
    "max_age",
];

impl TopicSettings {
    /// Settings of the topic with this name.
    pub fn new(topic_name: impl Into<String>) -> Self {
        Self { name: Some(topic_name.into()), ..Self::default() }
    }

    fn set(mut self, set: impl Fn(&mut TopicConfig) + Send + Sync + 'static) -> Self {
        self.settings.push(Arc::new(set));
        self
    }

    fn check(mut self, key: &str, good: bool, value: impl fmt::Display, allowed: &'static str) -> Self {
        if !good && self.error.is_none() {
            self.error = Some(ConfigError::invalid(key, value.to_string(), allowed));
        }
        self
    }

    /// See [`TopicConfig::collect_by_partition`].
    pub fn collect_by_partition(self, on: bool) -> Self {
        self.set(move |c| c.collect_by_partition = on)
    }

    /// See [`TopicConfig::partition_strategy`].
    pub fn partition_strategy(self, strategy: PartitionStrategy) -> Self {
        self.set(move |c| c.partition_strategy = strategy.clone())
    }

    /// See [`TopicConfig::batch_size`]. From 1.
    pub fn batch_size(self, events: u32) -> Self {
        self.check("batch_size", events > 0, events, POSITIVE)
            .set(move |c| c.batch_size = NonZeroU32::new(events).unwrap_or(c.batch_size))
    }

    /// See [`TopicConfig::max_wait_time`]. Up to a day.
    pub fn max_wait_time(self, time: Duration) -> Self {
        self.check("max_wait_time", within_a_day(time), format_args!("{time:?}"), MILLIS)
            .set(move |c| c.max_wait_time = time)
    }

    /// See [`TopicConfig::min_delay`]. Up to a day.
    pub fn min_delay(self, time: Duration) -> Self {
        self.check("min_delay", within_a_day(time), format_args!("{time:?}"), MILLIS)
            .set(move |c| c.min_delay = time)
    }

    /// See [`TopicConfig::max_batch_bytesize`]. From 128 bytes to 1 GiB.
    pub fn max_batch_bytesize(self, bytes: usize) -> Self {
        let good = (128..=1 << 30).contains(&bytes) && bytes > HEADER_LEN;
        self.check("max_batch_bytesize", good, bytes, BYTES)
            .set(move |c| c.max_batch_bytesize = NonZeroUsize::new(bytes).unwrap_or(c.max_batch_bytesize))
    }

    /// See [`TopicConfig::batch_flusher`].
    pub fn batch_flusher(self, flusher: impl BatchFlusher + 'static) -> Self {
        let flusher: Arc<dyn BatchFlusher> = Arc::new(flusher);
        self.set(move |c| c.batch_flusher = Arc::clone(&flusher))
    }

    /// See [`TopicConfig::required_acks`].
    pub fn required_acks(self, acks: RequiredAcks) -> Self {
        self.set(move |c| c.required_acks = acks)
    }

    /// See [`TopicConfig::compression`].
    pub fn compression(self, compression: Compression) -> Self {
        self.set(move |c| c.compression = compression)
    }

    /// See [`TopicConfig::allow_topic_auto_creation`].
    pub fn allow_topic_auto_creation(self, on: bool) -> Self {
        self.set(move |c| c.allow_topic_auto_creation = on)
    }

    /// See [`TopicConfig::new_topic_partitions`]. From 1.
    pub fn new_topic_partitions(self, partitions: u32) -> Self {
        self.check("new_topic_partitions", partitions > 0, partitions, POSITIVE)
            .set(move |c| c.new_topic_partitions = NonZeroU32::new(partitions))
    }

    /// See [`TopicConfig::new_topic_replication`]. From 1.
    pub fn new_topic_replication(self, replicas: u32) -> Self {
        self.check("new_topic_replication", replicas > 0, replicas, POSITIVE)
            .set(move |c| c.new_topic_replication = NonZeroU32::new(replicas))
    }

    /// See [`TopicConfig::telemetry`].
    pub fn telemetry(self, on: bool) -> Self {
        self.set(move |c| c.telemetry = on)
    }

    /// See [`TopicConfig::on_unavailable`].
    pub fn on_unavailable(self, what: OnUnavailable) -> Self {
        self.set(move |c| c.on_unavailable = what)
    }

    /// See [`TopicConfig::on_storage_full`].
    pub fn on_storage_full(self, what: OnStorageFull) -> Self {
        self.set(move |c| c.on_storage_full = what)
    }

    /// See [`TopicConfig::durability`].
    pub fn durability(self, durability: Durability) -> Self {
        self.set(move |c| c.durability = durability)
    }

    /// See [`TopicConfig::sequence_header`].
    pub fn sequence_header(self, on: bool) -> Self {
        self.set(move |c| c.sequence_header = on)
    }

    /// See [`TopicConfig::dead_letter_topic`]. `None` for a topic that is to have none although others have.
    pub fn dead_letter_topic<'a>(self, topic: impl Into<Option<&'a str>>) -> Self {
        let topic: Option<Arc<str>> = topic.into().map(Arc::from);
        self.set(move |c| c.dead_letter_topic.clone_from(&topic))
    }

    /// See [`TopicConfig::reconcile`].
    pub fn reconcile(self, on: bool) -> Self {
        self.set(move |c| c.reconcile = on)
    }

    /// See [`TopicConfig::max_age`]. From 1 ms to a year; `None` for a topic whose events may be of any age although others'
    /// may not.
    pub fn max_age(self, age: impl Into<Option<Duration>>) -> Self {
        let age = age.into();
        let year = Duration::from_secs(365 * 86_400);
        let good = age.is_none_or(|age| (Duration::from_millis(1)..=year).contains(&age));
        self.check("max_age", good, format_args!("{:?}", age.unwrap_or_default()), AGE)
            .set(move |c| c.max_age = age)
    }

    /// Sets `key` from a configuration file's value; `false` when a topic has no such key.
    pub(super) fn set_key(&mut self, key: &str, value: &Value) -> Result<bool, ConfigError> {
        let this = std::mem::take(self);
        let millis = |key| value.int::<u64>(key, MILLIS).map(Duration::from_millis);
        *self = match key {
            "topic_name" => Self { name: Some(value.text(key, NAME)?.to_owned()), ..this },
            "collect_by_partition" => this.collect_by_partition(value.bool(key)?),
            "partition_strategy" => {
                this.partition_strategy(value.text(key, PartitionStrategy::NAMES)?.parse()?)
            }
            "batch_size" => this.batch_size(value.int(key, POSITIVE)?),
            "max_wait_time" => this.max_wait_time(millis(key)?),
            "min_delay" => this.min_delay(millis(key)?),
            "max_batch_bytesize" => this.max_batch_bytesize(value.int(key, BYTES)?),
            "required_acks" => this.required_acks(match value.int::<i64>(key, ACKS)? {
                -1 => RequiredAcks::All,
                1 => RequiredAcks::Leader,
                0 => RequiredAcks::None,
                other => return Err(ConfigError::invalid(key, other.to_string(), ACKS)),
            }),
            "compression" => this.compression(match value.text(key, COMPRESSIONS)? {
                "none" => Compression::None,
                "gzip" => Compression::Gzip,
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd,
                other => return Err(ConfigError::invalid(key, format!("{other:?}"), COMPRESSIONS)),
            }),
            "allow_topic_auto_creation" => this.allow_topic_auto_creation(value.bool(key)?),
            "new_topic_partitions" => this.new_topic_partitions(value.int(key, POSITIVE)?),
            "new_topic_replication" => this.new_topic_replication(value.int(key, POSITIVE)?),
            "telemetry" => this.telemetry(value.bool(key)?),
            "on_unavailable" => this.on_unavailable(match value.text(key, UNAVAILABLE)? {
                "store" => OnUnavailable::Store,
                "reject" => OnUnavailable::Reject,
                other => return Err(ConfigError::invalid(key, format!("{other:?}"), UNAVAILABLE)),
            }),
            "on_storage_full" => this.on_storage_full(match value.text(key, STORAGE_FULL)? {
                "block" => OnStorageFull::Block,
                "reject" => OnStorageFull::Reject,
                other => return Err(ConfigError::invalid(key, format!("{other:?}"), STORAGE_FULL)),
            }),
            "durability" => this.durability(match value.text(key, DURABILITIES)? {
                "memory" => Durability::Memory,
                "journal" => Durability::Journal,
                other => return Err(ConfigError::invalid(key, format!("{other:?}"), DURABILITIES)),
            }),
            "sequence_header" => this.sequence_header(value.bool(key)?),
            "dead_letter_topic" => this.dead_letter_topic(match value {
                Value::Bool(false) => None,
                _ => Some(value.text(key, DEAD_LETTER_TOPIC)?),
            }),
            "reconcile" => this.reconcile(value.bool(key)?),
            "max_age" => this.max_age(match value {
                Value::Bool(false) => None,
                _ => Some(Duration::from_millis(value.int(key, AGE)?)),
            }),
            _ => {
                *self = this;
                return Ok(false);
            }
        };
        Ok(true)
    }

    /// The settings in force: defaults, then `self`, then `own`.
    pub(super) fn resolve(&self, own: &Self) -> Result<TopicConfig, ConfigError> {
        if let Some(error) = self.error.clone().or_else(|| own.error.clone()) {
            return Err(error);
        }
        let Some(name) = own.name.as_deref() else {
            return Err(ConfigError::Missing { key: "topic_name", allowed: NAME });
        };
        if !is_topic_name(name) {
            return Err(ConfigError::invalid("topic_name", format!("{name:?}"), NAME));
        }
        let mut config = TopicConfig::with_defaults(name);
        self.settings.iter().chain(&own.settings).for_each(|set| set(&mut config));
        if let Some(dead) = config.dead_letter_topic.as_deref()
            && (dead == name || !is_topic_name(dead))
        {
            let problem = if dead == name { "the topic itself".to_owned() } else { format!("{dead:?}") };
            return Err(ConfigError::invalid("dead_letter_topic", problem, DEAD_LETTER_TOPIC));
        }
        Ok(config)
    }
}

/// Kafka's own rule: org.apache.kafka.common.internals.Topic.
fn is_topic_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(legal)
}

fn within_a_day(time: Duration) -> bool {
    time <= Duration::from_secs(86_400)
}
