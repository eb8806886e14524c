//! Metrics of the application's own consumer.

use std::time::Duration;

use crate::telemetry::{Batches, Recorded};

/// Records what an application consumes, under the names it had in the Elixir library.
///
/// ```
/// # use std::time::Duration;
/// # use kafka_batcher_metrics::{Options, Recorded};
/// # fn main() -> Result<(), kafka_batcher_metrics::OptionsError> {
/// let recorded = Recorded::global(&Options::default())?;
/// let consumer = recorded.consumer("flights", 3);
/// consumer.consumed(500, 40_000, Duration::from_millis(12)); // events, bytes, time
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Consumer {
    recorded: Recorded,
    batches: Batches,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

impl Recorded {
    /// For batches that the application consumes from this partition.
    #[must_use]
    pub fn consumer(&self, topic: &str, partition: u32) -> Consumer {
        let batches = Batches::new(&self.inner.source, "consumer", topic, Some(partition));
        Consumer { recorded: self.clone(), batches }
    }
}

impl Consumer {
    /// A batch of so many events and bytes was worked on for so long.
    pub fn consumed(&self, events: u64, bytes: u64, took: Duration) {
        self.batches.record(events, bytes, took);
        self.recorded.inner.upkeep.recorded();
    }
}
