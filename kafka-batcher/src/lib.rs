//! Get events into Kafka in batches, in order, and keep them when Kafka is down.

mod batcher;
mod builder;
mod clock;
mod collector;
mod contain;
mod error;
mod manager;
mod notify;
mod reactor;
mod shared;
mod stats;
mod topic;

pub use batcher::KafkaBatcher;
pub use builder::Builder;
pub use collector::Collector;
pub use error::{AddError, AddErrorKind, AddEventsError, BuildError};
pub use kafka_batcher_core::collector::CollectorState;
pub use kafka_batcher_core::config::{Compression, OnUnavailable, RequiredAcks, Sasl, SaslMechanism, Tls};
pub use kafka_batcher_core::{
    Batch, BatchFlusher, ConfigError, DeadLetter, DeadRecord, ErrorKind, ErrorNotifier, Event, EventError, EventRef,
    FlushReason, Headers, Json, KafkaConfig, LaneId, MemoryDeadLetters, MemoryStorage, Outcome, PartitionStrategy,
    Partitioner, Payload, Producer, Receipt, Record, RecordRef, Report, Telemetry, TempStorage, TopicConfig,
    TopicSettings, What,
};
/// Everything of the core: what an adapter implements and what the batcher is made of.
pub use kafka_batcher_core as core;
#[cfg(feature = "rdkafka")]
pub use kafka_batcher_rdkafka as rdkafka;
pub use notify::LogNotifier;
pub use stats::{ShutdownReport, Stats};
