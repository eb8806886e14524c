//! Putting a batcher together.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kafka_batcher_core::budget::Budget;
use kafka_batcher_core::config::Durability;
use kafka_batcher_core::lane::{Link, Pace};
use kafka_batcher_core::{
    DeadLetter, ErrorNotifier, HeaderSource, KafkaConfig, MemoryDeadLetters, MemoryStorage, Producer, Report,
    Telemetry, TempStorage, What,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify as Wakeup, mpsc, watch};

use crate::batcher::KafkaBatcher;
use crate::clock::Clock;
use crate::contain::contained;
use crate::error::BuildError;
use crate::manager::Manager;
use crate::notify::{LogNotifier, Notify, RateLimited};
use crate::reactor::Reactor;
use crate::shared::Shared;
use crate::telemeter::Telemeter;
use crate::topic::Topic;

/// How often the log tells of a trouble that lasts.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Chooses the parts of a [`KafkaBatcher`]; only the configuration has no default.
#[derive(Default)]
#[must_use = "nothing starts before `build`"]
pub struct Builder {
    config: Option<KafkaConfig>,
    producer: Option<Arc<dyn Producer>>,
    storage: Option<Arc<dyn TempStorage>>,
    dead_letter: Option<Arc<dyn DeadLetter>>,
    notifier: Option<Arc<dyn ErrorNotifier>>,
    telemetry: Option<Arc<dyn Telemetry>>,
    header_source: Option<Arc<dyn HeaderSource>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("producer", &self.producer)
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// The configuration. Required.
    pub fn config(mut self, config: KafkaConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// The Kafka client. Default: librdkafka with feature `rdkafka`, or else rskafka with feature `rskafka`.
    ///
    /// With both, this chooses rskafka: `.producer(kafka_batcher::rskafka::RskafkaProducer::new(&config)?)`.
    pub fn producer(self, producer: impl Producer + 'static) -> Self {
        self.shared_producer(Arc::new(producer))
    }

    /// As [`producer`](Self::producer), for a client the application keeps a hand on.
    ///
    /// ```
    /// # use std::{num::NonZeroU32, sync::Arc, time::Duration};
    /// use kafka_batcher::{KafkaBatcher, KafkaConfig, MemoryProducer, TopicSettings};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let kafka = Arc::new(MemoryProducer::new(NonZeroU32::MIN));
    /// let config = KafkaConfig::new("nowhere:1").with_topic(TopicSettings::new("flights"));
    /// let batcher = KafkaBatcher::builder().config(config).shared_producer(kafka.clone()).build()?;
    /// let collector = batcher.collector("flights").ok_or("no such topic")?;
    /// collector.add(("N14228", "took off")).await?;
    /// let report = batcher.shutdown(Duration::from_secs(5)).await;
    /// assert_eq!((report.delivered, kafka.records("flights", 0).len()), (1, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn shared_producer(mut self, producer: Arc<dyn Producer>) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Where batches wait while Kafka is unavailable. Default: memory, up to 256 MiB.
    pub fn storage(self, storage: impl TempStorage + 'static) -> Self {
        self.shared_storage(Arc::new(storage))
    }

    /// As [`storage`](Self::storage), for storage the application keeps a hand on.
    pub fn shared_storage(mut self, storage: Arc<dyn TempStorage>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Where records go that Kafka will never take, and that no `dead_letter_topic` takes either. Default: the storage's
    /// own area for them, if it has one; otherwise memory, up to 10,000 records.
    pub fn dead_letter(self, sink: impl DeadLetter + 'static) -> Self {
        self.shared_dead_letter(Arc::new(sink))
    }

    /// As [`dead_letter`](Self::dead_letter), for a sink the application keeps a hand on.
    pub fn shared_dead_letter(mut self, sink: Arc<dyn DeadLetter>) -> Self {
        self.dead_letter = Some(sink);
        self
    }

    /// Who is told about errors. Default: the log, and that in an outage once a minute for each topic:
    /// [`LogNotifier`] behind [`RateLimited`].
    ///
    /// It is told of each attempt: whatever passes reports on to people is best behind [`RateLimited`], too.
    pub fn notifier(mut self, notifier: impl ErrorNotifier + 'static) -> Self {
        self.notifier = Some(Arc::new(notifier));
        self
    }

    /// Who counts. Default: nobody. It is called by a thread of its own, some milliseconds late; of what a slow one leaves
    /// waiting there is a limit, and more than that is dropped and [counted](crate::Snapshot::dropped_telemetry).
    pub fn telemetry(mut self, telemetry: impl Telemetry + 'static) -> Self {
        self.telemetry = Some(Arc::new(telemetry));
        self
    }

    /// Who gives records headers as they are accepted, as `TraceContext` (feature `trace-context`) does. Default: nobody.
    pub fn header_source(mut self, source: impl HeaderSource + 'static) -> Self {
        self.header_source = Some(Arc::new(source));
        self
    }

    /// Starts the batcher. Does not wait for Kafka: events are accepted at once, whether Kafka is there or not.
    ///
    /// # Errors
    /// [`BuildError`] when a part or the configuration can't be used, or there is no tokio runtime.
    pub fn build(self) -> Result<KafkaBatcher, BuildError> {
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let config = self.config.ok_or(BuildError::NoConfig)?;
        config.validate()?;
        let topics = config.topics()?;
        let storage = self.storage.unwrap_or_else(|| Arc::new(MemoryStorage::default()));
        let journal = topics.iter().find(|topic| topic.durability == Durability::Journal);
        if let Some(topic) = journal.filter(|_| !storage.is_durable()) {
            return Err(BuildError::JournalNeedsStorage { topic: topic.topic_name.to_string() });
        }
        let telemetry = self.telemetry.filter(|_| topics.iter().any(|topic| topic.telemetry));
        let producer = match self.producer {
            Some(producer) => producer,
            None => default_producer(&config, telemetry.is_some())?,
        };
        let reconcile = topics.iter().find(|topic| topic.reconcile);
        if let Some(topic) = reconcile.filter(|_| !producer.capabilities().search) {
            return Err(BuildError::ReconcileNeedsSearch { topic: topic.topic_name.to_string() });
        }
        let log = || -> Arc<dyn ErrorNotifier> { Arc::new(RateLimited::new(LogNotifier, LOG_INTERVAL)) };
        let notify = Notify::start(self.notifier.unwrap_or_else(log)).map_err(BuildError::Thread)?;
        let telemetry = telemetry
            .map(|telemetry| Telemeter::start(telemetry, notify.clone()))
            .transpose()
            .map_err(BuildError::Thread)?;
        if let Some(telemeter) = &telemetry {
            contained(|| storage.set_telemetry(telemeter.for_storage())).unwrap_or_else(|panic| {
                notify.send(Report::new(What::Panicked, format!("storage: {panic}")))
            });
        }
        let dead_letter = self.dead_letter.or_else(|| Arc::clone(&storage).dead_letters());
        let (failures, failures_waiting) = mpsc::unbounded_channel();
        let limits = config.limits();
        // The standard library's hasher keys are random for each call: seed enough for jitter and names.
        let seeds = RandomState::new();
        let mut instance = [0; 16];
        instance[..8].copy_from_slice(&seeds.hash_one("a").to_be_bytes());
        instance[8..].copy_from_slice(&seeds.hash_one("b").to_be_bytes());
        let shared = Arc::new(Shared {
            timing: config.timing(),
            clock: Clock::new(),
            budget: Budget::new(limits.max_memory_bytes, limits.max_memory_events),
            pace: limits.replay_rate.map(|rate| Arc::new(Pace::new(rate))),
            room: Wakeup::new(),
            producer,
            storage,
            dead_letter: dead_letter.unwrap_or_else(|| Arc::new(MemoryDeadLetters::default())),
            header_source: self.header_source,
            telemetry,
            notify,
            runtime: runtime.clone(),
            failures,
            topics: OnceLock::new(),
            connects: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            instance,
        });
        let mut reactors = Vec::new();
        let mut all = Vec::new();
        for config in topics {
            let seed = seeds.hash_one(&*config.topic_name);
            let (topic, signals) = Topic::new(config, Arc::clone(&shared), seed);
            reactors.push(Reactor::new(Arc::clone(&topic), signals, seed));
            all.push(topic);
        }
        // Set before anything runs, and only here.
        shared.topics.get_or_init(|| all.iter().map(Arc::downgrade).collect());
        let reactors = reactors.into_iter().map(|reactor| runtime.spawn(reactor.supervise())).collect();
        let (link_sender, link) = watch::channel(Link::Unknown);
        let manager =
            Manager::new(Arc::clone(&shared), failures_waiting, link_sender, seeds.hash_one("manager"));
        let manager = runtime.spawn(manager.supervise());
        Ok(KafkaBatcher::started(config, shared, all.into(), reactors, manager, link))
    }
}

#[cfg(feature = "rdkafka")]
fn default_producer(config: &KafkaConfig, statistics: bool) -> Result<Arc<dyn Producer>, BuildError> {
    /// How often librdkafka says how it is doing, if anybody wants to know.
    const EVERY: std::time::Duration = std::time::Duration::from_secs(10);
    let producer = if statistics {
        kafka_batcher_rdkafka::RdkafkaProducer::with_statistics(config, EVERY)
    } else {
        kafka_batcher_rdkafka::RdkafkaProducer::new(config)
    };
    Ok(Arc::new(producer.map_err(|e| BuildError::Backend(Box::new(e)))?))
}

#[cfg(all(feature = "rskafka", not(feature = "rdkafka")))]
fn default_producer(config: &KafkaConfig, _statistics: bool) -> Result<Arc<dyn Producer>, BuildError> {
    let producer =
        kafka_batcher_rskafka::RskafkaProducer::new(config).map_err(|e| BuildError::Backend(Box::new(e)))?;
    Ok(Arc::new(producer))
}

#[cfg(not(any(feature = "rdkafka", feature = "rskafka")))]
fn default_producer(_config: &KafkaConfig, _statistics: bool) -> Result<Arc<dyn Producer>, BuildError> {
    Err(BuildError::NoProducer)
}
