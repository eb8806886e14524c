//! core
pub mod accumulator;
mod backoff;
pub mod batch;
pub mod budget;
pub mod collector;
pub mod config;
pub mod connection;
pub mod dead_letter;
pub mod event;
pub mod flusher;
pub mod lane;
pub mod notifier;
pub mod partition;
pub mod producer;
pub mod receipt;
pub mod record;
mod rng;
pub mod shard;
pub mod storage;
pub mod telemetry;
pub mod time;

pub use accumulator::{Accumulator, FlushReason};
pub use batch::{Batch, BatchBuilder, BatchError};
pub use config::{ConfigError, KafkaConfig, TopicConfig, TopicSettings};
pub use dead_letter::{DeadLetter, DeadRecord, MemoryDeadLetters};
pub use event::{Event, EventError, EventRef, Json, Payload};
pub use flusher::{BatchFlusher, NeverFlush};
pub use receipt::{Outcome, Receipt};
pub use notifier::{ErrorNotifier, NoNotifier, Report, What};
pub use partition::{PartitionStrategy, Partitioner};
pub use producer::{
    Capabilities, Delivered, ErrorKind, Failed, Persistence, ProduceError, ProduceFailure, ProduceRequest, Producer,
};
pub use record::{Header, HeaderRef, Headers, HeadersRef, Record, RecordRef, ToHeaders};
pub use storage::{EntryId, LaneId, LaneUsage, MemoryStorage, StorageError, StoredBatch, TempStorage};
pub use telemetry::{NoTelemetry, Telemetry};
pub use time::Moment;
