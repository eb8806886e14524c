//! What a batcher is doing and holding, for dashboards and health checks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::collector::CollectorState;
use crate::health::Obstacle;
use crate::lane::{Lane, LaneStats, Link};
use crate::notifier::Trouble;
use crate::statistics::ClientStatistics;
use crate::storage::{LaneId, StorageUsage};
use crate::time::Moment;

/// Gives snapshots of a batcher.
#[async_trait]
pub trait Observe: Send + Sync + fmt::Debug {
    /// How things are now; `None` when the batcher is gone. Takes the locks of all lanes of a topic for a moment, so that its figures belong together.
    async fn snapshot(&self) -> Option<Snapshot>;

    /// Whether the batcher is there and would answer: what a liveness check asks. One that has ended is not there, even
    /// while somebody holds a part of it; one that is shutting down is. It must not wait for Kafka or storage.
    async fn is_alive(&self) -> bool {
        self.snapshot().await.is_some()
    }
}

/// A batcher at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Whether the client has reached Kafka.
    pub link: Link,
    /// How often the client reached Kafka after it had not: 1 after a start that went well.
    pub connects: u64,
    /// How often it tried to reach Kafka and could not.
    pub connect_failures: u64,
    /// The client's own figures, if it has some.
    pub client: Option<ClientStatistics>,
    /// The memory budget.
    pub memory: Memory,
    /// Each topic.
    pub topics: Vec<TopicSnapshot>,
    /// What temporary storage holds; `None` if it could not say.
    pub storage: Option<StorageUsage>,
    /// Whether what is in storage survives the process.
    pub durable: bool,
    /// Panics that were contained so far: of code that the batcher calls, or of its own tasks.
    pub panics: u64,
    /// How often each trouble was reported; a report that one is over is not counted. Of a batcher, all of them are here.
    pub reports: BTreeMap<Trouble, u64>,
    /// Reports that the error notifier was too slow for: they were dropped.
    pub dropped_reports: u64,
    /// Calls of telemetry that were dropped because it was too slow for them: figures that come from calls are too low then.
    pub dropped_telemetry: u64,
}

/// The memory budget, of all topics together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Bytes taken.
    pub bytes: u64,
    /// Bytes allowed: [`Limits::max_memory_bytes`](crate::config::Limits::max_memory_bytes).
    pub max_bytes: u64,
    /// Events taken.
    pub events: u64,
    /// Events allowed.
    pub max_events: u64,
}

impl Memory {
    /// A budget of which so much is taken.
    #[must_use]
    pub const fn new(bytes: u64, max_bytes: u64, events: u64, max_events: u64) -> Self {
        Self { bytes, max_bytes, events, max_events }
    }
}

/// A topic at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopicSnapshot {
    /// The topic.
    pub topic: Arc<str>,
    /// How far its collector is.
    pub state: CollectorState,
    /// Whether it is to show up in metrics: its setting `telemetry`.
    pub telemetry: bool,
    /// Why new events are refused or held up now, if they are.
    pub obstacle: Option<Obstacle>,
    /// Whether events have to be in storage before they count as accepted.
    pub journal: bool,
    /// Events, from all its lanes.
    pub totals: Totals,
    /// Its lanes; the one without a partition first.
    pub lanes: Vec<LaneSnapshot>,
}

impl TopicSnapshot {
    /// A topic with these lanes, `routed` of whose events went from the lane without a partition to others.
    #[must_use]
    pub fn new(topic: Arc<str>, state: CollectorState, routed: u64, lanes: Vec<LaneSnapshot>) -> Self {
        let totals = Totals::of(&lanes, routed);
        Self { topic, state, telemetry: true, obstacle: None, journal: false, totals, lanes }
    }

    /// How many of its lanes are at this: one a partition. That without a partition counts only while there is no other,
    /// or something is stored in it.
    #[must_use]
    pub fn lanes_at(&self, state: LaneState) -> usize {
        let counts = |lane: &&LaneSnapshot| {
            lane.id.partition.is_some() || self.lanes.len() == 1 || lane.stats.stored > lane.handed_on
        };
        self.lanes.iter().filter(counts).filter(|lane| lane.state == state).count()
    }
}

/// Where the events of a topic are. What came in is always what went out and what is here:
/// `accepted + found = delivered + dead_lettered + lost + stored + in_memory`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Accepted from the application.
    pub accepted: u64,
    /// Found in storage at the start, left there by an earlier process.
    pub found: u64,
    /// Acknowledged by Kafka.
    pub delivered: u64,
    /// Bytes of batches acknowledged by Kafka, before compression.
    pub delivered_bytes: u64,
    /// Put to the dead letters.
    pub dead_lettered: u64,
    /// Gone, and reported.
    pub lost: u64,
    /// In temporary storage now.
    pub stored: u64,
    /// In memory only, now.
    pub in_memory: u64,
    /// Attempts to send a batch that failed; a number of attempts.
    pub failures: u64,
    /// Sent again after a call that failed: each as often as it was.
    pub retried: u64,
    /// Delivered out of storage. With a journal, that is all of them.
    pub replayed: u64,
    /// Sent again although Kafka may have had them.
    pub maybe_duplicated: u64,
    /// Found in Kafka's log and not sent again; counted as delivered, too.
    pub reconciled: u64,
}

impl Totals {
    fn of(lanes: &[LaneSnapshot], routed: u64) -> Self {
        let mut totals = Self::default();
        for lane in lanes {
            let stats = &lane.stats;
            totals.accepted += stats.accepted - stats.returned;
            totals.found += stats.found;
            totals.dead_lettered += stats.dead_lettered;
            totals.lost += stats.lost;
            // What was handed on is with another lane already.
            totals.stored += stats.stored.saturating_sub(lane.handed_on);
            if lane.id.partition.is_some() {
                totals.delivered += stats.delivered;
                totals.delivered_bytes += stats.delivered_bytes;
                totals.failures += stats.failures;
                totals.retried += stats.retried;
                totals.replayed += stats.replayed;
                totals.maybe_duplicated += stats.maybe_duplicated;
                totals.reconciled += stats.reconciled;
            }
        }
        totals.accepted = totals.accepted.saturating_sub(routed);
        let gone = totals.delivered + totals.dead_lettered + totals.lost;
        totals.in_memory = (totals.accepted + totals.found).saturating_sub(gone + totals.stored);
        totals
    }
}

/// A lane at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LaneSnapshot {
    /// Which lane.
    pub id: LaneId,
    /// What it is at.
    pub state: LaneState,
    /// Why new events of it would be refused or held up, if they would.
    pub obstacle: Option<Obstacle>,
    /// Its figures.
    pub stats: LaneStats,
    /// Stored events of the lane without a partition that are on their way through others.
    pub handed_on: u64,
}

impl LaneSnapshot {
    /// A lane as it is at this moment.
    #[must_use]
    pub fn at(lane: &Lane, now: Moment) -> Self {
        Self {
            id: lane.id().clone(),
            state: lane.state(),
            obstacle: lane.obstacle(now),
            stats: lane.stats(),
            handed_on: lane.handed_on(),
        }
    }
}

/// What a lane is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LaneState {
    /// Nobody has tried to reach Kafka yet.
    Starting,
    /// Events go straight to Kafka; with a journal, through it.
    Live,
    /// Nothing of it goes out: Kafka is not there for it, and events are stored; or its dead letters are not taken.
    Locked,
    /// What is stored is being sent, and new events go behind it.
    Replaying,
}

impl LaneState {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Live, Self::Locked, Self::Replaying];

    /// A word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Locked => "locked",
            Self::Replaying => "replaying",
        }
    }
}

impl Snapshot {
    /// A snapshot without topics, of a batcher that has not connected yet.
    #[must_use]
    pub const fn new(memory: Memory) -> Self {
        Self {
            link: Link::Unknown,
            connects: 0,
            connect_failures: 0,
            client: None,
            memory,
            topics: Vec::new(),
            storage: None,
            durable: false,
            panics: 0,
            reports: BTreeMap::new(),
            dropped_reports: 0,
            dropped_telemetry: 0,
        }
    }
}
