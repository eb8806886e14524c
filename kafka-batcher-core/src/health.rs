//! Whether a batcher can do its work, for those who ask before they send events its way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::collector::CollectorState;
use crate::lane::Link;
use crate::snapshot::{LaneSnapshot, LaneState, Snapshot, TopicSnapshot};
use crate::storage::StorageUsage;

/// Whether a batcher can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The client has reached Kafka.
    pub connected: bool,
    /// Temporary storage.
    pub storage: StorageHealth,
    /// Each topic.
    pub topics: Vec<TopicHealth>,
}

/// What temporary storage is at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageHealth {
    /// It answers, and no lane waits for it because it fails. That it is full is no failure.
    pub up: bool,
    /// What is in it survives the process.
    pub durable: bool,
    /// Events in it, of the batcher's topics.
    pub events: u64,
    /// Bytes it takes; 0 when it does not answer.
    pub bytes: u64,
    /// Bytes it may take; `None` without a limit.
    pub quota: Option<u64>,
    /// How long the oldest batch has been in it; `None` when there is none, or that is not known.
    pub oldest: Option<Duration>,
}

/// Whether a topic can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicHealth {
    /// The topic.
    pub topic: Arc<str>,
    /// How far its collector is.
    pub state: CollectorState,
    /// Lanes of which nothing goes out: Kafka is not there for them, or their dead letters are not taken.
    pub locked: usize,
    /// Lanes that send what is stored.
    pub replaying: usize,
    /// Events in temporary storage.
    pub stored: u64,
    /// Why new events are refused or held up, if they are.
    pub obstacle: Option<Obstacle>,
}

/// Why new events of a topic are refused or held up: all of them, or those of some partitions.
///
/// That Kafka is away is none as long as events are stored. That memory is short for a moment, while Kafka and storage
/// take what they are given, is none either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Obstacle {
    /// The batcher is shutting down, or has ended.
    Closed,
    /// The topic's partitions are not known yet, and its partitioner needs to know them: events wait.
    Starting,
    /// Kafka is unavailable, and events are handed back then (`on_unavailable = "reject"`).
    Unavailable,
    /// Events have to be stored, and storage has no room: they wait or are handed back, as `on_storage_full` says.
    StorageFull,
    /// Events have to be stored, and storage fails or does not answer: they wait.
    StorageFailed,
    /// Dead letters are taken nowhere: events wait behind them.
    DeadLetters,
}

impl Obstacle {
    /// A word for logs and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Starting => "starting",
            Self::Unavailable => "unavailable",
            Self::StorageFull => "storage_full",
            Self::StorageFailed => "storage_failed",
            Self::DeadLetters => "dead_letters",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "shutting down",
            Self::Starting => "the partitions are not known yet, and the partitioner needs them",
            Self::Unavailable => "Kafka is unavailable, and events are handed back then",
            Self::StorageFull => "events have to be stored, and temporary storage is full",
            Self::StorageFailed => "events have to be stored, and temporary storage fails",
            Self::DeadLetters => "events wait behind dead letters, which are taken nowhere",
        })
    }
}

impl Health {
    /// Whether events of every topic are accepted without being refused or held up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.topics.is_empty() && self.topics.iter().all(|topic| topic.obstacle.is_none())
    }
}

impl Snapshot {
    /// Whether temporary storage answers, and no lane waits for it because it fails.
    #[must_use]
    pub fn storage_is_up(&self) -> bool {
        let fails = |lane: &LaneSnapshot| lane.obstacle == Some(Obstacle::StorageFailed);
        self.storage.is_some() && !self.topics.iter().any(|topic| topic.lanes.iter().any(fails))
    }

    /// What it means for somebody who asks whether all is well.
    #[must_use]
    pub fn health(&self) -> Health {
        let usage = self.storage.as_ref();
        Health {
            connected: self.link == Link::Up,
            storage: StorageHealth {
                up: self.storage_is_up(),
                durable: self.durable,
                events: self.topics.iter().map(|topic| topic.totals.stored).sum(),
                bytes: usage.map_or(0, |usage| usage.used),
                quota: usage.and_then(|usage| usage.quota),
                oldest: usage.and_then(|usage| usage.oldest),
            },
            topics: self.topics.iter().map(|topic| topic.health(usage)).collect(),
        }
    }
}

impl TopicSnapshot {
    fn health(&self, storage: Option<&StorageUsage>) -> TopicHealth {
        let (locked, replaying) = (self.lanes_at(LaneState::Locked), self.lanes_at(LaneState::Replaying));
        let is_needed = self.journal || locked + replaying > 0;
        let silent = (is_needed && storage.is_none()).then_some(Obstacle::StorageFailed);
        TopicHealth {
            topic: Arc::clone(&self.topic),
            state: self.state,
            locked,
            replaying,
            stored: self.totals.stored,
            obstacle: self.obstacle.or(silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::LaneStats;
    use crate::snapshot::Memory;
    use crate::storage::LaneId;

    fn snapshot(journal: bool, obstacle: Option<Obstacle>) -> Snapshot {
        let mut snapshot = Snapshot::new(Memory::default());
        let mut topic = TopicSnapshot::new("t".into(), CollectorState::Ready, 0, Vec::new());
        (topic.journal, topic.obstacle) = (journal, obstacle);
        topic.totals.stored = 7;
        snapshot.topics.push(topic);
        snapshot
    }

    fn lane(partition: Option<u32>) -> LaneSnapshot {
        LaneSnapshot {
            id: LaneId { topic: "t".into(), partition },
            state: LaneState::Locked,
            obstacle: None,
            stats: LaneStats::default(),
            handed_on: 0,
        }
    }

    #[test]
    fn storage_that_does_not_answer_is_an_obstacle_to_what_goes_through_it() {
        let obstacle = |journal| snapshot(journal, None).health().topics[0].obstacle;
        assert_eq!((obstacle(true), obstacle(false)), (Some(Obstacle::StorageFailed), None));
        for state in LaneState::ALL {
            let mut topic = snapshot(false, None).topics.remove(0);
            topic.lanes.push(LaneSnapshot { state, ..lane(Some(0)) });
            let needs = matches!(state, LaneState::Locked | LaneState::Replaying);
            assert_eq!(topic.health(None).obstacle.is_some(), needs, "{state:?}");
        }
        let mut up = snapshot(true, None);
        let quota = Some(9);
        up.storage = Some(StorageUsage { used: 5, quota, ..StorageUsage::default() });
        let health = up.health();
        assert!(health.is_ready() && !health.connected, "Kafka may be away");
        assert_eq!((health.storage.up, health.storage.events), (true, 7));
        assert_eq!((health.storage.bytes, health.storage.quota), (5, Some(9)));
    }

    #[test]
    fn the_lane_without_a_partition_counts_if_it_is_alone_or_something_is_in_it() {
        let mut topic = TopicSnapshot::new("t".into(), CollectorState::Locked, 0, vec![lane(None)]);
        assert_eq!((topic.lanes_at(LaneState::Locked), topic.lanes_at(LaneState::Live)), (1, 0));
        topic.lanes.extend([lane(Some(0)), lane(Some(1))]);
        assert_eq!(topic.lanes_at(LaneState::Locked), 2);
        topic.lanes[0].stats.stored = 5;
        assert_eq!(topic.lanes_at(LaneState::Locked), 3);
        topic.lanes[0].handed_on = 5;
        assert_eq!(topic.health(None).locked, 2, "others have them already");
    }

    #[test]
    fn storage_is_up_if_it_answers_and_no_lane_waits_because_it_fails() {
        let mut snapshot = snapshot(false, None);
        assert!(!snapshot.storage_is_up(), "it does not answer");
        snapshot.storage = Some(StorageUsage::default());
        snapshot.topics[0].lanes = vec![lane(Some(0)), lane(Some(1))];
        for (obstacle, up) in
            [(None, true), (Some(Obstacle::StorageFull), true), (Some(Obstacle::StorageFailed), false)]
        {
            snapshot.topics[0].lanes[1].obstacle = obstacle;
            assert_eq!((snapshot.storage_is_up(), snapshot.health().storage.up), (up, up), "{obstacle:?}");
        }
    }

    #[test]
    fn ready_is_who_has_topics_and_takes_events_for_all_of_them() {
        assert!(!Snapshot::new(Memory::default()).health().is_ready());
        let mut two = snapshot(false, None);
        assert!(two.health().is_ready());
        two.topics.extend(snapshot(false, Some(Obstacle::Closed)).topics);
        assert!(!two.health().is_ready());
    }
}
