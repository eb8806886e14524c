//! Settings of the whole client.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::ConfigError;
use super::security::{Sasl, Tls};
use super::topic::{TOPIC_KEYS, TopicConfig, TopicSettings};
use super::value::{Table, Value};
use crate::budget::Budget;

/// The settings of a batcher: where Kafka is, how to get in, limits, and its topics.
///
/// Built in code, or deserialised from a configuration file with the same key names; durations there
/// are milliseconds. Settings of a topic may also stand here and then hold for all topics.
///
/// ```
/// use kafka_batcher_core::config::{KafkaConfig, TopicSettings};
///
/// let config = KafkaConfig::new("localhost:9092")
///     .defaults(TopicSettings::default().batch_size(100))
///     .with_topic(TopicSettings::new("flights"));
/// assert_eq!(config.topics()?[0].batch_size.get(), 100);
/// # Ok::<(), kafka_batcher_core::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct KafkaConfig {
    endpoints: String,
    sasl: Option<Sasl>,
    ssl: Option<Tls>,
    client_id: String,
    limits: Limits,
    timing: Timing,
    kafka_topic_aliases: BTreeMap<String, String>,
    kafka_metric_opts: MetricOpts,
    properties: Properties,
    defaults: TopicSettings,
    topics: Vec<TopicSettings>,
}

/// Shows only the names in `Debug`: a value may be a password.
#[derive(Clone, Default)]
struct Properties(BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is limited over all topics together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// `max_memory_bytes`: bytes of accepted events that are neither delivered nor stored, over all
    /// topics. Default 64 MiB.
    pub max_memory_bytes: usize,
    /// `max_memory_events`: the same as a number of events. Default 1,000,000.
    pub max_memory_events: usize,
    /// `replay_rate`: how many events a second are sent of what was stored while Kafka was away, and of what comes behind that
    /// until nothing is stored any more. Default: as fast as Kafka takes them.
    ///
    /// It holds over all topics, since the cluster that has just come back is what it spares. Batches stay as large as they are:
    /// after each, sending pauses for as long as so many events may take. It has to be more than what comes in, or what is
    /// stored only grows.
    pub replay_rate: Option<NonZeroU32>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// `produce_timeout`: longest time a batch may take to be acknowledged before it is stored. Default 10 s.
    pub produce_timeout: Duration,
    /// `connect_timeout`: longest time one attempt to reach Kafka, or one metadata request, may take. Default 5 s.
    pub connect_timeout: Duration,
    /// `retry_backoff`: time before the first new attempt after a failure; doubles with each, with jitter. Default 100 ms.
    pub retry_backoff: Duration,
    /// `recheck_interval`: the longest time between two such attempts. Default 5 s.
    pub recheck_interval: Duration,
    /// `partitions_refresh`: time between two looks at the partition count. Default 60 s.
    pub partitions_refresh: Duration,
}

/// Options of the metrics (`kafka_metric_opts`).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MetricOpts {
    /// Upper bounds of the buckets of `producer_duration_seconds`, in seconds; `None` for the defaults.
    pub producer_buckets: Option<Vec<f64>>,
    /// Upper bounds of the buckets of `consumer_duration_seconds`, in seconds; `None` for the defaults.
    pub consumer_buckets: Option<Vec<f64>>,
}

const ENDPOINTS: &str = "\"host:port\", several separated by commas";
const MILLIS: &str = "milliseconds, a whole number from 1 to 86400000 (a day)";
const RATE: &str = "false, or events a second, a whole number from 1 to 4294967295";
const EVENTS: &str = "a whole number from 1 to 33554432";
const MEMORY: &str = "bytes, a whole number from max_batch_bytesize to 137438953472 (128 GiB)";
const TEXTS: &str = "a table of text values";
const METRIC_OPTS: &str = "a table with producer_buckets and consumer_buckets, lists of ascending numbers";
const TOPICS: &str = "a list of tables, one a topic";

const CLIENT_KEYS: &[&str] = &[
    "endpoints",
    "sasl",
    "ssl",
    "client_id",
    "max_memory_bytes",
    "max_memory_events",
    "replay_rate",
    "produce_timeout",
    "connect_timeout",
    "retry_backoff",
    "recheck_interval",
    "partitions_refresh",
    "kafka_topic_aliases",
    "kafka_metric_opts",
    "properties",
    "topics",
];

impl KafkaConfig {
    /// A configuration with everything at its default. `endpoints` is `"host:port,host:port"`.
    pub fn new(endpoints: impl Into<String>) -> Self {
        Self {
            endpoints: endpoints.into(),
            sasl: None,
            ssl: None,
            client_id: "kafka-batcher".to_owned(),
            limits: Limits {
                max_memory_bytes: 64 * 1024 * 1024,
                max_memory_events: 1_000_000,
                replay_rate: None,
            },
            timing: Timing {
                produce_timeout: Duration::from_secs(10),
                connect_timeout: Duration::from_secs(5),
                retry_backoff: Duration::from_millis(100),
                recheck_interval: Duration::from_secs(5),
                partitions_refresh: Duration::from_secs(60),
            },
            kafka_topic_aliases: BTreeMap::new(),
            kafka_metric_opts: MetricOpts::default(),
            properties: Properties::default(),
            defaults: TopicSettings::default(),
            topics: Vec::new(),
        }
    }

    /// Credentials.
    pub fn sasl(mut self, sasl: Sasl) -> Self {
        self.sasl = Some(sasl);
        self
    }

    /// Encrypted connections.
    pub fn ssl(mut self, tls: Tls) -> Self {
        self.ssl = Some(tls);
        self
    }

    /// The name the client gives itself towards the brokers. Default `kafka-batcher`.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = id.into();
        self
    }

    /// See [`Limits::max_memory_bytes`].
    pub fn max_memory_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_memory_bytes = bytes;
        self
    }

    /// See [`Limits::max_memory_events`].
    pub fn max_memory_events(mut self, events: usize) -> Self {
        self.limits.max_memory_events = events;
        self
    }

    /// See [`Limits::replay_rate`]. In events a second, from 1; `None` for no limit.
    pub fn replay_rate(mut self, rate: impl Into<Option<NonZeroU32>>) -> Self {
        self.limits.replay_rate = rate.into();
        self
    }

    /// See [`Timing::produce_timeout`].
    pub fn produce_timeout(mut self, time: Duration) -> Self {
        self.timing.produce_timeout = time;
        self
    }

    /// See [`Timing::connect_timeout`].
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.timing.connect_timeout = time;
        self
    }

    /// See [`Timing::retry_backoff`].
    pub fn retry_backoff(mut self, time: Duration) -> Self {
        self.timing.retry_backoff = time;
        self
    }

    /// See [`Timing::recheck_interval`].
    pub fn recheck_interval(mut self, time: Duration) -> Self {
        self.timing.recheck_interval = time;
        self
    }

    /// See [`Timing::partitions_refresh`].
    pub fn partitions_refresh(mut self, time: Duration) -> Self {
        self.timing.partitions_refresh = time;
        self
    }

    /// The name under which `topic` appears in metrics (`kafka_topic_aliases`).
    pub fn topic_alias(mut self, topic: impl Into<String>, alias: impl Into<String>) -> Self {
        self.kafka_topic_aliases.insert(topic.into(), alias.into());
        self
    }

    /// Options of the metrics.
    pub fn kafka_metric_opts(mut self, opts: MetricOpts) -> Self {
        self.kafka_metric_opts = opts;
        self
    }

    /// A property handed to the backend as it is, for example one of librdkafka's. It wins over what
    /// the batcher would set.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.0.insert(name.into(), value.into());
        self
    }

    /// Settings that hold for every topic that does not set them itself. A name in it has no meaning.
    pub fn defaults(mut self, settings: TopicSettings) -> Self {
        self.defaults = settings;
        self
    }

    /// Adds a topic.
    pub fn with_topic(mut self, topic: TopicSettings) -> Self {
        self.topics.push(topic);
        self
    }

    /// Where Kafka is: `host:port` each.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when one of them is not that.
    pub fn endpoints(&self) -> Result<Vec<String>, ConfigError> {
        let bad = |e: &str| ConfigError::invalid("endpoints", format!("{e:?}"), ENDPOINTS);
        let check = |endpoint: &str| {
            let endpoint = endpoint.trim();
            let (host, port) = endpoint.rsplit_once(':').ok_or_else(|| bad(endpoint))?;
            let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
            if host.is_empty() || host.contains(char::is_whitespace) || host.contains('/') || bare_v6 {
                return Err(bad(endpoint));
            }
            port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| bad(endpoint))?;
            Ok(endpoint.to_owned())
        };
        self.endpoints.split(',').map(check).collect()
    }

    /// Credentials, if any.
    #[must_use]
    pub const fn get_sasl(&self) -> Option<&Sasl> {
        self.sasl.as_ref()
    }

    /// Encryption, if any.
    #[must_use]
    pub const fn get_ssl(&self) -> Option<&Tls> {
        self.ssl.as_ref()
    }

    /// The client's name.
    #[must_use]
    pub fn get_client_id(&self) -> &str {
        &self.client_id
    }

    /// Limits over all topics.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Timeouts and intervals.
    #[must_use]
    pub const fn timing(&self) -> Timing {
        self.timing
    }

    /// Metric names of topics.
    #[must_use]
    pub const fn topic_aliases(&self) -> &BTreeMap<String, String> {
        &self.kafka_topic_aliases
    }

    /// Options of the metrics.
    #[must_use]
    pub const fn metric_opts(&self) -> &MetricOpts {
        &self.kafka_metric_opts
    }

    /// Properties for the backend. May hold secrets: do not show them.
    #[must_use]
    pub const fn properties(&self) -> &BTreeMap<String, String> {
        &self.properties.0
    }

    /// Checks everything.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.endpoints()?;
        self.sasl.iter().try_for_each(Sasl::validate)?;
        let Timing { produce_timeout, connect_timeout, retry_backoff, recheck_interval, partitions_refresh } =
            self.timing;
        for (key, time) in [
            ("produce_timeout", produce_timeout),
            ("connect_timeout", connect_timeout),
            ("retry_backoff", retry_backoff),
            ("recheck_interval", recheck_interval),
            ("partitions_refresh", partitions_refresh),
        ] {
            if !(Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&time) {
                return Err(ConfigError::invalid(key, format!("{time:?}"), MILLIS));
            }
        }
        if retry_backoff > recheck_interval {
            let problem = format!("{retry_backoff:?}, more than recheck_interval, {recheck_interval:?}");
            return Err(ConfigError::invalid("retry_backoff", problem, "at most recheck_interval"));
        }
        let Limits { max_memory_bytes, max_memory_events, .. } = self.limits;
        if !(1..=Budget::MAX_EVENTS).contains(&max_memory_events) {
            return Err(ConfigError::invalid("max_memory_events", max_memory_events.to_string(), EVENTS));
        }
        if max_memory_bytes > Budget::MAX_BYTES {
            return Err(ConfigError::invalid("max_memory_bytes", max_memory_bytes.to_string(), MEMORY));
        }
        for topic in self.topics()? {
            if topic.max_batch_bytesize.get() > self.limits.max_memory_bytes {
                let problem = format!(
                    "{}, less than max_batch_bytesize of topic `{}`, {}",
                    self.limits.max_memory_bytes, topic.topic_name, topic.max_batch_bytesize
                );
                return Err(ConfigError::invalid("max_memory_bytes", problem, "at least max_batch_bytesize"));
            }
        }
        for buckets in [&self.kafka_metric_opts.producer_buckets, &self.kafka_metric_opts.consumer_buckets] {
            if buckets.as_ref().is_some_and(|b| b.is_empty() || !b.is_sorted_by(|a, b| a < b)) {
                return Err(ConfigError::invalid("kafka_metric_opts", "empty or not ascending", METRIC_OPTS));
            }
        }
        Ok(())
    }

    /// The settings in force for each topic (`get_configs_by_topic`).
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn topics(&self) -> Result<Vec<TopicConfig>, ConfigError> {
        let mut names = BTreeSet::new();
        let resolve = |own: &TopicSettings| {
            let config = self.defaults.resolve(own)?;
            if !names.insert(config.topic_name.clone()) {
                return Err(ConfigError::DuplicateTopic(config.topic_name.to_string()));
            }
            Ok(config)
        };
        self.topics.iter().map(resolve).collect()
    }

    /// The settings in force for one topic (`get_collector_config`); `None` when it is not configured.
    ///
    /// # Errors
    /// The first [`ConfigError`] found in its settings.
    pub fn topic(&self, name: &str) -> Result<Option<TopicConfig>, ConfigError> {
        self.topics
            .iter()
            .find(|t| t.name.as_deref() == Some(name))
            .map(|own| self.defaults.resolve(own))
            .transpose()
    }

    fn from_table(table: &Table) -> Result<Self, ConfigError> {
        let mut config = Self::new("");
        for (key, value) in table {
            // Settings of topics may stand here and then hold for all of them; but for the name.
            let known = config.set_key(key, value)?
                || (key != "topic_name" && config.defaults.set_key(key, value)?);
            if !known {
                return Err(ConfigError::unknown(key, CLIENT_KEYS.iter().chain(TOPIC_KEYS).copied()));
            }
        }
        if !table.contains_key("endpoints") {
            return Err(ConfigError::Missing { key: "endpoints", allowed: ENDPOINTS });
        }
        config.validate()?;
        Ok(config)
    }

    /// Sets `key`; `false` when the client has no such key.
    fn set_key(&mut self, key: &str, value: &Value) -> Result<bool, ConfigError> {
        let millis = || value.int::<u64>(key, MILLIS).map(Duration::from_millis);
        match key {
            "endpoints" => self.endpoints = value.text(key, ENDPOINTS)?.to_owned(),
            "sasl" => self.sasl = Sasl::from_value(value)?,
            "ssl" => self.ssl = Tls::from_value(value)?,
            "client_id" => self.client_id = value.text(key, "text")?.to_owned(),
            "max_memory_bytes" => self.limits.max_memory_bytes = value.int(key, MEMORY)?,
            "max_memory_events" => self.limits.max_memory_events = value.int(key, EVENTS)?,
            "replay_rate" => {
                self.limits.replay_rate = match value {
                    Value::Bool(false) => None,
                    _ => Some(value.int(key, RATE).and_then(|rate: u32| {
                        NonZeroU32::new(rate).ok_or_else(|| ConfigError::invalid(key, "0", RATE))
                    })?),
                };
            }
            "produce_timeout" => self.timing.produce_timeout = millis()?,
            "connect_timeout" => self.timing.connect_timeout = millis()?,
            "retry_backoff" => self.timing.retry_backoff = millis()?,
            "recheck_interval" => self.timing.recheck_interval = millis()?,
            "partitions_refresh" => self.timing.partitions_refresh = millis()?,
            "kafka_topic_aliases" => self.kafka_topic_aliases = texts(key, value)?,
            "properties" => self.properties = Properties(texts(key, value)?),
            "kafka_metric_opts" => self.kafka_metric_opts = metric_opts(value)?,
            "topics" => {
                for topic in value.list(key, TOPICS)? {
                    self.topics.push(topic_settings(topic.table(key, TOPICS)?)?);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn topic_settings(table: &Table) -> Result<TopicSettings, ConfigError> {
    let mut settings = TopicSettings::default();
    for (key, value) in table {
        if settings.set_key(key, value)? {
            continue;
        }
        if CLIENT_KEYS.contains(&key.as_str()) {
            let topic =
                table.get("topic_name").and_then(|name| name.text("topic_name", "").ok()).unwrap_or_default();
            return Err(ConfigError::NotPerTopic { key: key.clone(), topic: topic.to_owned() });
        }
        return Err(ConfigError::unknown(key, TOPIC_KEYS.iter().copied()));
    }
    Ok(settings)
}

fn texts(key: &str, value: &Value) -> Result<BTreeMap<String, String>, ConfigError> {
    let entry = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => value.shown(),
            other => other.text(&format!("{key}.{name}"), TEXTS)?.to_owned(),
        };
        Ok((name.clone(), text))
    };
    value.table(key, TEXTS)?.iter().map(entry).collect()
}

fn metric_opts(value: &Value) -> Result<MetricOpts, ConfigError> {
    let buckets = |key: &str, value: &Value| {
        let number = |value: &Value| match value {
            Value::Int(i) => Ok(*i as f64),
            Value::Float(f) => Ok(*f),
            other => Err(ConfigError::invalid(key, other.shown(), METRIC_OPTS)),
        };
        value.list(key, METRIC_OPTS)?.iter().map(number).collect::<Result<Vec<_>, _>>().map(Some)
    };
    let mut opts = MetricOpts::default();
    for (key, value) in value.table("kafka_metric_opts", METRIC_OPTS)? {
        match key.as_str() {
            "producer_buckets" => opts.producer_buckets = buckets(key, value)?,
            "consumer_buckets" => opts.consumer_buckets = buckets(key, value)?,
            _ => return Err(ConfigError::unknown(key, ["producer_buckets", "consumer_buckets"].into_iter())),
        }
    }
    Ok(opts)
}

impl<'de> Deserialize<'de> for KafkaConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        Self::from_table(&table).map_err(de::Error::custom)
    }
}
