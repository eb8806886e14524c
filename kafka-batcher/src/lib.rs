#![doc = include_str!("../README.md")]
//!
//! # How it works
//!
//! ```text
//!  application tasks                one task per topic               tasks for each call
//!  ─────────────────                ──────────────────               ───────────────────
//!  Collector::add ──▶ lane ─────▶ reactor ── Produce ─────────────▶ Producer ──▶ Kafka
//!    hashes, locks    (state        polls the machines and            │
//!    one shard,        machine)     carries out their actions ◀───────┘ answers
//!    appends              ▲             │  Store, Recover ──────────▶ TempStorage
//!                         └─────────────┘  DeadLetter ──────────────▶ DeadLetter
//!                                          Report ──────────────────▶ ErrorNotifier (a thread)
//! ```
//!
//! Every decision is taken by the state machines of [`core`]; this crate gives them time, tasks and
//! I/O. Where to look:
//!
//! | file | what it does |
//! |---|---|
//! | `batcher.rs`, `builder.rs` | [`KafkaBatcher`]: puts the parts together, shuts down, reports |
//! | `collector.rs`, `topic.rs` | [`Collector`]: how an event gets into its lane |
//! | `routes.rs` | which lane an event goes to, and how that changes |
//! | `reactor.rs` | the task of a topic: carries out what its machines decide |
//! | `dead.rs` | where dead letters go |
//! | `telemeter.rs` | the thread that calls telemetry |
//! | `manager.rs` | the task that connects the client, and connects it again |
//! | `observer.rs`, `stats.rs` | what it is doing, for those who watch |
//! | `contain.rs`, `notify.rs` | panics and slowness of code that is not ours |

#[doc = include_str!("../docs/tracing.md")]
pub mod logs {}

mod batcher;
mod builder;
mod clock;
mod collector;
mod contain;
mod dead;
mod error;
mod manager;
mod notify;
mod observer;
mod reactor;
mod routes;
mod shared;
mod stats;
mod telemeter;
mod topic;
#[cfg(feature = "trace-context")]
mod trace_context;

pub use batcher::KafkaBatcher;
pub use builder::Builder;
pub use collector::Collector;
pub use error::{AddError, AddErrorKind, AddEventsError, BuildError};
/// Everything of the core: what an adapter implements, and what the batcher is made of.
pub use kafka_batcher_core as core;
pub use kafka_batcher_core::collector::CollectorState;
pub use kafka_batcher_core::config::{
    Compression, Durability, OnStorageFull, OnUnavailable, RequiredAcks, Sasl, SaslMechanism, Tls, Token,
    TokenError, TokenProvider,
};
pub use kafka_batcher_core::{
    Batch, BatchFlusher, ConfigError, DeadLetter, DeadRecord, Denial, ErrorKind, ErrorNotifier, Event,
    EventError, EventRef, FlushReason, HeaderSource, Headers, Health, Json, KafkaConfig, LaneId, LaneState,
    MemoryDeadLetters, MemoryProducer, MemoryStorage, Next, NoNotifier, Observe, Obstacle, Outcome,
    PartitionStrategy, Partitioner, Payload, Producer, Receipt, Record, RecordRef, Report, Snapshot,
    StorageCall, Summary, Telemetry, TempStorage, TopicConfig, TopicSettings, Trouble, What,
};
/// Metrics, and an endpoint for Prometheus.
///
/// ```
/// use kafka_batcher::{KafkaBatcher, KafkaConfig, MemoryProducer, TopicSettings};
/// use kafka_batcher::metrics::{Options, prometheus::Exporter};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = KafkaConfig::new("localhost:9092").with_topic(TopicSettings::new("flights"));
/// let exporter = Exporter::new(&Options::of(&config))?;
/// let batcher = KafkaBatcher::builder()
///     .config(config)
/// #   .producer(MemoryProducer::new(std::num::NonZeroU32::MIN))
///     .telemetry(exporter.telemetry())
///     .build()?;
/// let server = exporter.serve("127.0.0.1:0".parse()?, batcher.observer()).await?;
/// println!("http://{}/metrics", server.address());
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "metrics")]
pub use kafka_batcher_metrics as metrics;
/// The producer on librdkafka.
#[cfg(feature = "rdkafka")]
pub use kafka_batcher_rdkafka as rdkafka;
/// The producer on rskafka, in pure Rust.
#[cfg(feature = "rskafka")]
pub use kafka_batcher_rskafka as rskafka;
/// Temporary storage that survives the process and a power cut, on sled.
#[cfg(feature = "sled")]
pub use kafka_batcher_storage_sled as sled;
pub use notify::{FanOut, LogNotifier, RateLimited};
pub use observer::Observer;
pub use stats::{ShutdownReport, Stats};
#[cfg(feature = "trace-context")]
pub use trace_context::TraceContext;
