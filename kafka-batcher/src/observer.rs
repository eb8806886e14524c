//! Looking at a batcher from outside: for metrics, health checks and dashboards.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher_core::config::Durability;
use kafka_batcher_core::lane::{Lane, Link};
use kafka_batcher_core::shard::Shard;
use kafka_batcher_core::snapshot::{LaneSnapshot, Memory, Observe, Snapshot, TopicSnapshot};
use kafka_batcher_core::{Moment, Obstacle};
use parking_lot::MutexGuard;
use tokio::sync::watch;

use crate::contain::contained;
use crate::shared::Shared;
use crate::telemeter::Telemeter;
use crate::topic::Topic;

/// How long storage may take to say what it holds; after that it counts as not answering.
const USAGE_TIME: Duration = Duration::from_secs(2);

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

    async fn is_alive(&self) -> bool {
        // An application that keeps a collector keeps that of a batcher that has ended.
        let Some(shared) = self.shared.upgrade().filter(|shared| !shared.ended.load(Ordering::Relaxed))
        else {
            return false;
        };
        // Somebody who holds one for ever keeps this from answering, as he keeps everything else.
        shared.topics().for_each(|topic| topic.cells().iter().for_each(|cell| drop(cell.shard.lock())));
        true
    }
}

/// How long a snapshot waits for a slow recorder, so that figures which are told and those of the snapshot go together.
const CATCH_UP: Duration = Duration::from_millis(100);

pub(crate) async fn snapshot(shared: &Shared, link: &watch::Receiver<Link>) -> Snapshot {
    if let Some(telemeter) = &shared.telemetry {
        telemeter.catch_up(CATCH_UP).await;
    }
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
    let usage = shared.storage_call(shared.storage.usage());
    snapshot.storage = tokio::time::timeout(USAGE_TIME, usage).await.ok().and_then(Result::ok);
    snapshot.client = contained(|| shared.producer.statistics()).unwrap_or_else(|_| {
        shared.notify.panicked();
        None
    });
    snapshot.panics = shared.notify.panics();
    snapshot.reports = shared.notify.reported();
    snapshot.dropped_reports = shared.notify.dropped();
    snapshot.dropped_telemetry = shared.telemetry.as_ref().map_or(0, Telemeter::dropped);
    snapshot
}

/// All lanes of a topic at the same moment.
fn topic_snapshot(topic: &Topic) -> TopicSnapshot {
    loop {
        let cells = topic.cells();
        // In this order only, and nobody else holds two of them.
        let shards: Vec<_> = cells.iter().map(|cell| cell.shard.lock()).collect();
        let now = topic.shared.clock.now();
        let routed = topic.routed.load(Ordering::Relaxed);
        if cells.len() != topic.cells().len() {
            continue; // the topic has just got more lanes
        }
        let lanes: Vec<LaneSnapshot> =
            shards.iter().flat_map(|shard| shard.lanes()).map(|lane| LaneSnapshot::at(lane, now)).collect();
        let locked = shards.iter().skip(1).flat_map(|shard| shard.lanes()).any(Lane::is_locked);
        let state = topic.state.lock()[usize::from(locked)];
        let obstacle = obstacle(topic, &shards, now);
        let name = Arc::clone(&topic.config.topic_name);
        let mut snapshot = TopicSnapshot::new(name, state, routed, lanes);
        snapshot.telemetry = topic.config.telemetry;
        snapshot.journal = topic.config.durability == Durability::Journal;
        snapshot.obstacle = obstacle;
        return snapshot;
    }
}

/// Why new events are refused or held up where they go to now, if they are.
fn obstacle(topic: &Topic, shards: &[MutexGuard<'_, Shard>], now: Moment) -> Option<Obstacle> {
    let routes = topic.routes.current();
    if routes.closed {
        return Some(Obstacle::Closed);
    }
    if !routes.direct && topic.config.partition_strategy.needs_typed_event() {
        return Some(Obstacle::Starting);
    }
    let (unassigned, partitions) = shards.split_at(1.min(shards.len()));
    let targets = if routes.direct { partitions } else { unassigned };
    targets.iter().flat_map(|shard| shard.lanes()).find_map(|lane| lane.obstacle(now))
}
