//! The pure core of `kafka-batcher`: what is decided, without I/O, without tasks, without a clock.
//!
//! ```text
//!              ┌────────────── Shard: what one lock guards ───────────────┐
//!   Event ───▶ │ Accumulator ── ready ──▶ Lane ── Action ──▶              │ ──▶ the driver
//!   with_record│ (count, wait, min delay)  (order, flights, spill, replay) │     does it and
//!   Router     │                            ◀── Event ──                   │ ◀── answers
//!              └──────────────────────────────────────────────────────────┘
//!   Collector: which lanes a topic has        Connection: connect, back off, connect anew
//! ```
//!
//! Time comes in as an argument ([`Moment`]), decisions come out as values, and whoever drives the
//! machines does what they say and reports back. That is the crate `kafka-batcher`, on tokio; a test or
//! a simulation drives them just as well, a whole outage in microseconds.
//!
//! Of every machine: call its inputs, then `poll_action` until it gives `None`, then `poll_timeout`
//! for when to poll again.
//!
//! | to | look at |
//! |---|---|
//! | add events of your own type | [`Event`], [`Payload`] |
//! | write a producer | [`Producer`], [`ProduceFailure`], [`Batch::records`]; [`MemoryProducer`] is the reference |
//! | write storage | [`TempStorage`]; [`MemoryStorage`] is the reference |
//! | write a partitioner, a flusher | [`Partitioner`], [`BatchFlusher`] |
//! | hear of errors, count | [`ErrorNotifier`], [`Telemetry`], [`Snapshot`] |
//! | understand order and replay | [`lane`] |
//! | understand starting and growing | [`collector`] |
//!
//! ```
//! use kafka_batcher_core::{Batch, BatchBuilder, Record};
//!
//! let mut builder = BatchBuilder::new();
//! let record = Record::new("value").with_key("key");
//! assert!(builder.push(&record.as_ref(), 1_700_000_000_000, None, 1_000_000));
//! let batch = builder.seal().expect("it has a record");
//! let read_back = Batch::parse(batch.as_bytes().clone())?;
//! assert_eq!(read_back.records().next().and_then(|r| r.key), Some(&b"key"[..]));
//! # Ok::<(), kafka_batcher_core::BatchError>(())
//! ```

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
mod header_source;
pub mod health;
pub mod journal;
pub mod lane;
pub mod notifier;
pub mod partition;
pub mod producer;
pub mod receipt;
pub mod record;
mod rng;
pub mod search;
pub mod shard;
pub mod snapshot;
pub mod statistics;
pub mod storage;
pub mod telemetry;
pub mod time;

pub use accumulator::{Accumulator, FlushReason};
pub use batch::{Batch, BatchBuilder, BatchError};
pub use config::{ConfigError, KafkaConfig, TopicConfig, TopicSettings};
pub use dead_letter::{DeadLetter, DeadRecord, MemoryDeadLetters};
pub use event::{Event, EventError, EventRef, Json, Payload};
pub use flusher::{BatchFlusher, NeverFlush};
pub use header_source::{HeaderSource, TRACEPARENT_HEADER, TRACESTATE_HEADER};
pub use health::{Health, Obstacle};
pub use notifier::{Digest, ErrorNotifier, Next, NoNotifier, Report, Summary, Trouble, What};
pub use partition::{PartitionStrategy, Partitioner};
pub use producer::{
    Capabilities, Delivered, Denial, ErrorKind, Failed, MemoryProducer, Persistence, ProduceError,
    ProduceFailure, ProduceRequest, Producer,
};
pub use receipt::{Outcome, Receipt};
pub use record::{Header, HeaderRef, Headers, HeadersRef, Record, RecordRef, ToHeaders};
pub use search::{Found, Search};
pub use snapshot::{LaneState, Observe, Snapshot};
pub use statistics::ClientStatistics;
pub use storage::{EntryId, LaneId, LaneUsage, MemoryStorage, StorageError, StoredBatch, TempStorage};
pub use telemetry::{NoTelemetry, StorageCall, Telemetry};
pub use time::{Moment, WallClock};
