//! The seam for records Kafka will never take.
//!
//! With a `dead_letter_topic` they are sent there, each with [headers](topic) that tell where it was to go and why
//! it did not get there. What that topic does not take, and everything when there is none, goes to a [`DeadLetter`].

mod sinks;
pub mod topic;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::producer::ErrorKind;
use crate::record::Record;
use crate::storage::{LaneId, StorageError};

pub use sinks::{Sink, Sinks};

/// A record that Kafka will never take, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadRecord {
    /// Where it was to go.
    pub lane: LaneId,
    /// The record as accepted, with the timestamp it was accepted with.
    pub record: Record,
    /// What kind of refusal it was.
    pub kind: ErrorKind,
    /// Kafka's or the batcher's words for it.
    pub error: String,
    /// How often it was sent since it was accepted or last read from storage; 0 when it never was, or that is not known.
    pub attempts: u32,
    /// When it was given up, in milliseconds since the Unix epoch by the wall clock; `None` when that is not known.
    pub at: Option<i64>,
}

impl DeadRecord {
    /// A record of `lane` that failed with an error of this kind. The other fields can be set afterwards.
    #[must_use]
    pub fn new(lane: LaneId, record: Record, kind: ErrorKind, error: impl Into<String>) -> Self {
        Self { lane, record, kind, error: error.into(), attempts: 0, at: None }
    }
}

/// Takes records that Kafka will never take, and that a dead-letter topic has not taken.
///
/// The lane waits until its dead record is safe: a sink that fails is called again, with back-off.
#[async_trait]
pub trait DeadLetter: Send + Sync + fmt::Debug {
    /// Whether what was put here survives the end of the process.
    fn is_durable(&self) -> bool;

    /// Puts a record away. Once this returns, it is as safe as the sink makes it.
    ///
    /// # Errors
    /// When it can't be done now; the record was then not taken.
    async fn put(&self, dead: DeadRecord) -> Result<(), StorageError>;
}

/// Keeps dead records in memory, up to a number of them: the reference implementation and the default.
#[derive(Debug)]
pub struct MemoryDeadLetters {
    limit: usize,
    records: Mutex<VecDeque<DeadRecord>>,
}

impl MemoryDeadLetters {
    /// Keeps up to `limit` records and refuses more, so that none is dropped in silence.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, records: Mutex::default() }
    }

    /// Takes out what was put here, oldest first.
    #[must_use]
    pub fn take(&self) -> Vec<DeadRecord> {
        self.records().drain(..).collect()
    }

    fn records(&self) -> MutexGuard<'_, VecDeque<DeadRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryDeadLetters {
    /// 10,000 records.
    fn default() -> Self {
        Self::new(10_000)
    }
}

#[async_trait]
impl DeadLetter for MemoryDeadLetters {
    fn is_durable(&self) -> bool {
        false
    }

    async fn put(&self, dead: DeadRecord) -> Result<(), StorageError> {
        let mut records = self.records();
        if records.len() >= self.limit {
            return Err(StorageError::Failed(format!(
                "{} dead records are kept, none more is taken",
                self.limit
            )));
        }
        records.push_back(dead);
        Ok(())
    }
}
