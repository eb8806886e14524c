//! The seam for "send now".

use crate::event::EventRef;

/// Decides whether an event must be sent at once, without waiting for the batch to fill.
///
/// Sees the event as it is accepted: key and value, and the typed event through [`EventRef::typed`].
/// Called in the caller's task; a panic in it is contained and the event handed back.
///
/// ```
/// use kafka_batcher_core::{BatchFlusher, EventRef};
///
/// let urgent = |event: &EventRef<'_>| event.record.key == Some(b"urgent");
/// fn takes(flusher: impl BatchFlusher) {}
/// takes(urgent);
/// ```
pub trait BatchFlusher: Send + Sync {
    /// Whether the batch with this event in it has to leave now.
    fn flush_now(&self, event: &EventRef<'_>) -> bool;
}

/// Never flushes: the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverFlush;

impl BatchFlusher for NeverFlush {
    fn flush_now(&self, _event: &EventRef<'_>) -> bool {
        false
    }
}

impl<F: Fn(&EventRef<'_>) -> bool + Send + Sync> BatchFlusher for F {
    fn flush_now(&self, event: &EventRef<'_>) -> bool {
        self(event)
    }
}
