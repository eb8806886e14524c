//! Figures of a batcher.

use kafka_batcher_core::lane::Lane;

/// What a batcher, or one of its topics, has done so far, and what it holds now. Events, unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Accepted from the application.
    pub accepted: u64,
    /// Acknowledged by Kafka. Those found in storage at the start count here too, but not in `accepted`.
    pub delivered: u64,
    /// Bytes of the batches acknowledged by Kafka, before compression.
    pub delivered_bytes: u64,
    /// In temporary storage now.
    pub stored: u64,
    /// Accepted, but neither delivered nor stored nor dead-lettered yet. Of the whole batcher, for a topic too.
    pub in_memory: u64,
    /// Bytes those take of the memory budget. Of the whole batcher, for a topic too.
    pub in_memory_bytes: u64,
    /// Put to the dead letters.
    pub dead_lettered: u64,
    /// Gone: refused by storage when the time to shut down was up.
    pub lost: u64,
    /// Attempts to send a batch that failed; a number of attempts.
    pub failures: u64,
    /// Sent again although Kafka may have had them: each may be a duplicate.
    pub maybe_duplicated: u64,
    /// Found in Kafka's log and not sent again (`reconcile`); they count as delivered, too.
    pub reconciled: u64,
    /// Whether the client has reached Kafka.
    pub connected: bool,
}

impl Stats {
    pub(crate) fn add_lane(&mut self, lane: &Lane) {
        let stats = lane.stats();
        self.accepted += stats.accepted - stats.returned;
        self.stored += stats.stored;
        self.dead_lettered += stats.dead_lettered;
        self.lost += stats.lost;
        if lane.id().partition.is_some() {
            self.delivered += stats.delivered;
            self.delivered_bytes += stats.delivered_bytes;
            self.failures += stats.failures;
            self.maybe_duplicated += stats.maybe_duplicated;
            self.reconciled += stats.reconciled;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.delivered_bytes += other.delivered_bytes;
        self.stored += other.stored;
        self.dead_lettered += other.dead_lettered;
        self.lost += other.lost;
        self.failures += other.failures;
        self.maybe_duplicated += other.maybe_duplicated;
        self.reconciled += other.reconciled;
    }
}

/// What became of everything, told at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it says whether anything was lost"]
pub struct ShutdownReport {
    /// Accepted from the application since the start.
    pub accepted: u64,
    /// Acknowledged by Kafka.
    pub delivered: u64,
    /// In storage that survives the process: the next batcher on it delivers them.
    pub stored: u64,
    /// Only in memory: neither delivered nor durably stored in time. They go with the process.
    pub in_memory: u64,
    /// Put to the dead letters.
    pub dead_lettered: u64,
    /// Refused by storage when the time was up, and reported one by one.
    pub lost: u64,
    /// Sent again although Kafka may have had them: each may be a duplicate.
    pub maybe_duplicated: u64,
    /// Found in Kafka's log and not sent again (`reconcile`); they count as delivered, too.
    pub reconciled: u64,
}

impl ShutdownReport {
    /// Whether every event is in Kafka, durably stored, or among the dead letters.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.in_memory == 0 && self.lost == 0
    }
}
