//! The seam to metrics.

use std::time::Duration;

use crate::accumulator::FlushReason;
use crate::producer::ErrorKind;
use crate::storage::LaneId;

/// Observes what the batcher does. Called once per batch, not per event, and by a thread that does nothing else.
///
/// Should be quick and not block: it can't hold up the batcher, but what it is too slow for is dropped and counted. A panic
/// in it is contained and reported. Every method does nothing unless implemented.
pub trait Telemetry: Send + Sync {
    /// A batch was gathered and left its accumulator.
    fn batch_sealed(&self, lane: &LaneId, events: u32, bytes: usize, reason: FlushReason) {
        let _ = (lane, events, bytes, reason);
    }

    /// Kafka acknowledged a batch. The call of the producer took so long; before it, the oldest event had waited for
    /// `queued` since it was accepted. `None` for what was in storage.
    fn delivered(&self, lane: &LaneId, events: u32, bytes: usize, took: Duration, queued: Option<Duration>) {
        let _ = (lane, events, bytes, took, queued);
    }

    /// These events of a batch were not delivered.
    fn produce_failed(&self, lane: &LaneId, events: u32, kind: ErrorKind, took: Duration) {
        let _ = (lane, events, kind, took);
    }

    /// A batch went to temporary storage.
    fn stored(&self, lane: &LaneId, events: u32, bytes: usize) {
        let _ = (lane, events, bytes);
    }

    /// Storage has answered a call, with an error or without.
    fn storage_called(&self, call: StorageCall, took: Duration, ok: bool) {
        let _ = (call, took, ok);
    }

    /// So many events were not accepted, for this reason: a word that labels it.
    fn rejected(&self, topic: &str, reason: &'static str, events: u64) {
        let _ = (topic, reason, events);
    }

    /// An event went to the dead letters.
    fn dead_lettered(&self, lane: &LaneId, kind: ErrorKind) {
        let _ = (lane, kind);
    }
}

/// A call of [`TempStorage`](crate::TempStorage).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageCall {
    /// A batch is put there, and is safe at the end of the call.
    Append,
    /// Batches are read to be sent.
    Read,
    /// A batch is forgotten.
    Acknowledge,
    /// Not a call but a part of it: what was written is forced to the disk.
    Sync,
}

impl StorageCall {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Append, Self::Read, Self::Acknowledge, Self::Sync];

    /// A word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Read => "read",
            Self::Acknowledge => "acknowledge",
            Self::Sync => "sync",
        }
    }
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTelemetry;

impl Telemetry for NoTelemetry {}
