//! Setting metrics from a snapshot.

use kafka_batcher_core::Snapshot;
use kafka_batcher_core::lane::Link;
use kafka_batcher_core::snapshot::{LaneState, TopicSnapshot};

use crate::labels::and;
use crate::names;
use crate::telemetry::Recorded;

impl Recorded {
    /// Sets the counters and gauges that come from snapshots. The Prometheus endpoint does that before each scrape; with
    /// another exporter call it as often as that collects.
    pub fn publish(&self, snapshot: &Snapshot) {
        for topic in snapshot.topics.iter().filter(|topic| topic.telemetry) {
            self.publish_topic(topic);
        }
        let source = &self.inner.source;
        let gauge = |name, value: f64| source.gauge(name, Vec::new()).set(value);
        let counter = |name, value| source.counter(name, Vec::new()).absolute(value);
        let memory = &snapshot.memory;
        gauge(names::MEMORY_BYTES, memory.bytes as f64);
        gauge(names::MEMORY_EVENTS, memory.events as f64);
        gauge(names::MEMORY_MAX_BYTES, memory.max_bytes as f64);
        gauge(names::MEMORY_MAX_EVENTS, memory.max_events as f64);
        gauge(names::CONNECTED, f64::from(u8::from(snapshot.link == Link::Up)));
        counter(names::CONNECTS, snapshot.connects);
        counter(names::PANICS, snapshot.panics);
        gauge(names::STORAGE_UP, f64::from(u8::from(snapshot.storage.is_some())));
        if let Some(usage) = &snapshot.storage {
            gauge(names::STORAGE_USED, usage.used as f64);
            if let Some(quota) = usage.quota {
                gauge(names::STORAGE_QUOTA, quota as f64);
            }
            gauge(names::STORAGE_OLDEST, usage.oldest.unwrap_or_default().as_secs_f64());
            counter(names::STORAGE_LOST, usage.lost_events);
        }
    }

    fn publish_topic(&self, topic: &TopicSnapshot) {
        let source = &self.inner.source;
        let totals = &topic.totals;
        for (name, value) in [
            (names::ACCEPTED, totals.accepted),
            (names::FOUND, totals.found),
            (names::DELIVERED, totals.delivered),
            (names::DELIVERED_BYTES, totals.delivered_bytes),
            (names::DEAD_LETTERED, totals.dead_lettered),
            (names::LOST, totals.lost),
            (names::MAYBE_DUPLICATED, totals.maybe_duplicated),
            (names::RECONCILED, totals.reconciled),
        ] {
            source.counter(name, source.topic(&topic.topic)).absolute(value);
        }
        for (name, value) in [(names::STORED, totals.stored), (names::IN_MEMORY, totals.in_memory)] {
            source.gauge(name, source.topic(&topic.topic)).set(value as f64);
        }
        for state in LaneState::ALL {
            let lanes = topic.lanes.iter().filter(|lane| lane.state == state).count();
            let labels = and(source.topic(&topic.topic), "state", state.as_str());
            source.gauge(names::LANES, labels).set(lanes as f64);
        }
    }
}
