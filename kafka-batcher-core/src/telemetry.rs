//! The seam to metrics.

use std::time::Duration;

use crate::accumulator::FlushReason;
use crate::producer::ErrorKind;
use crate::storage::LaneId;

/// Observes what the batcher does. Called once per batch, never once per event.
///
/// Must be quick and must not block; a panic in it is contained and reported. Every method does
/// nothing unless implemented.
pub trait Telemetry: Send + Sync {
    /// A batch was gathered and left its accumulator.
    fn batch_sealed(&self, lane: &LaneId, events: u32, bytes: usize, reason: FlushReason) {
        let _ = (lane, events, bytes, reason);
    }

    /// Kafka acknowledged these events of a batch.
    fn delivered(&self, lane: &LaneId, events: u32, bytes: usize, took: Duration) {
        let _ = (lane, events, bytes, took);
    }

    /// These events of a batch were not delivered.
    fn produce_failed(&self, lane: &LaneId, events: u32, kind: ErrorKind, took: Duration) {
        let _ = (lane, events, kind, took);
    }

    /// A batch went to temporary storage.
    fn stored(&self, lane: &LaneId, events: u32, bytes: usize) {
        let _ = (lane, events, bytes);
    }

    /// An event went to the dead letters.
    fn dead_lettered(&self, lane: &LaneId, kind: ErrorKind) {
        let _ = (lane, kind);
    }
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTelemetry;

impl Telemetry for NoTelemetry {}
