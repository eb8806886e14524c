//! Looking at a batcher from outside: for metrics, health checks and dashboards.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use kafka_batcher_core::lane::{Lane, Link};
use kafka_batcher_core::snapshot::{LaneSnapshot, Memory, Observe, Snapshot, TopicSnapshot};
use tokio::sync::watch;

use crate::contain::contained;
use crate::shared::Shared;
use crate::topic::Topic;

/// Gives [`Snapshot`]s of a batcher. Cheap to clone; does not keep the batcher or its storage.
#[derive(Clone, Debug)]
pub struct Observer {
    pub(crate) shared: Weak<Shared>,
    pub(crate) link: watch::Receiver<Link>,
}

#[async_trait]
impl Observe for Observer {
    async fn snapshot(&self) -> Option<Snapshot> {
        let shared = self.shared.upgrade()?;
        Some(snapshot(&shared, &self.link).await)
    }
}

pub(crate) async fn snapshot(shared: &Shared, link: &watch::Receiver<Link>) -> Snapshot {
    let (bytes, events) = shared.budget.used();
    let (max_bytes, max_events) = shared.budget.limits();
    let figures = [bytes, max_bytes, events, max_events].map(|figure| figure as u64);
    let [bytes, max_bytes, events, max_events] = figures;
    let mut snapshot = Snapshot::new(Memory::new(bytes, max_bytes, events, max_events));
    snapshot.link = *link.borrow();
    snapshot.connects = shared.connects.load(Ordering::Relaxed);
    snapshot.connect_failures = shared.connect_failures.load(Ordering::Relaxed);
    snapshot.durable = shared.storage.is_durable();
    snapshot.topics = shared.topics().map(|topic| topic_snapshot(&topic)).collect();
    snapshot.storage = shared.storage_call(shared.storage.usage()).await.ok();
    snapshot.client = contained(|| shared.producer.statistics()).unwrap_or_else(|_| {
        shared.notify.panicked();
        None
    });
    snapshot.panics = shared.notify.panics();
    snapshot.dropped_reports = shared.notify.dropped();
    snapshot
}

/// All lanes of a topic at the same moment.
fn topic_snapshot(topic: &Topic) -> TopicSnapshot {
    loop {
        let cells = topic.cells();
        // In this order only, and nobody else holds two of them.
        let shards: Vec<_> = cells.iter().map(|cell| cell.shard.lock()).collect();
        let routed = topic.routed.load(Ordering::Relaxed);
        if cells.len() != topic.cells().len() {
            continue; // the topic has just got more lanes
        }
        let lanes: Vec<LaneSnapshot> =
            shards.iter().flat_map(|shard| shard.lanes()).map(LaneSnapshot::of).collect();
        let locked = shards.iter().skip(1).flat_map(|shard| shard.lanes()).any(Lane::is_locked);
        let state = topic.state.lock()[usize::from(locked)];
        let name = Arc::clone(&topic.config.topic_name);
        let mut snapshot = TopicSnapshot::new(name, state, routed, lanes);
        snapshot.telemetry = topic.config.telemetry;
        return snapshot;
    }
}
