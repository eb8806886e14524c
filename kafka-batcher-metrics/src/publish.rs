//! Setting metrics from a snapshot.

use std::sync::Arc;

use kafka_batcher_core::health::Obstacle;
use kafka_batcher_core::lane::Link;
use kafka_batcher_core::snapshot::{LaneSnapshot, LaneState, Snapshot, TopicSnapshot};
use kafka_batcher_core::statistics::BrokerStatistics;
use metrics::Label;

use crate::labels::and;
use crate::names;
use crate::telemetry::Recorded;

impl Recorded {
    /// Sets the counters and gauges that come from snapshots. The Prometheus endpoint does that before each scrape; with
    /// another exporter call it as often as that collects.
    pub fn publish(&self, snapshot: &Snapshot) {
        let source = &self.inner.source;
        let health = snapshot.health();
        for (topic, health) in snapshot.topics.iter().zip(&health.topics).filter(|(topic, _)| topic.telemetry)
        {
            if self.inner.topics.lock().insert(Arc::clone(&topic.topic)) {
                self.begin(&topic.topic);
            }
            self.publish_topic(topic);
            let ready = f64::from(u8::from(health.obstacle.is_none()));
            source.gauge(names::READY, source.topic(&topic.topic)).set(ready);
        }
        let gauge = |name, value: f64| source.gauge(name, Vec::new()).set(value);
        let counter = |name, value| source.counter(name, Vec::new()).absolute(value);
        let memory = &snapshot.memory;
        gauge(names::MEMORY_BYTES, memory.bytes as f64);
        gauge(names::MEMORY_EVENTS, memory.events as f64);
        gauge(names::MEMORY_MAX_BYTES, memory.max_bytes as f64);
        gauge(names::MEMORY_MAX_EVENTS, memory.max_events as f64);
        gauge(names::CONNECTED, f64::from(u8::from(snapshot.link == Link::Up)));
        counter(names::CONNECTS, snapshot.connects);
        counter(names::CONNECT_FAILURES, snapshot.connect_failures);
        counter(names::PANICS, snapshot.panics);
        for (trouble, times) in &snapshot.reports {
            let labels = and(Vec::new(), "trouble", trouble.as_str());
            source.counter(names::REPORTS, labels).absolute(*times);
        }
        counter(names::REPORTS_DROPPED, snapshot.dropped_reports);
        counter(names::TELEMETRY_DROPPED, snapshot.dropped_telemetry);
        gauge(names::STORAGE_UP, f64::from(u8::from(snapshot.storage_is_up())));
        let is_full = |lane: &LaneSnapshot| lane.obstacle == Some(Obstacle::StorageFull);
        let full = snapshot.topics.iter().any(|topic| topic.lanes.iter().any(is_full));
        gauge(names::STORAGE_FULL, f64::from(u8::from(full)));
        if let Some(usage) = &snapshot.storage {
            gauge(names::STORAGE_USED, usage.used as f64);
            if let Some(quota) = usage.quota {
                gauge(names::STORAGE_QUOTA, quota as f64);
            }
            gauge(names::STORAGE_OLDEST, usage.oldest.unwrap_or_default().as_secs_f64());
            counter(names::STORAGE_LOST, usage.lost_events);
            counter(names::STORAGE_LOST_DEAD, usage.lost_dead_letters);
            counter(names::STORAGE_SALVAGED, usage.salvaged);
            for topic in snapshot.topics.iter().filter(|topic| topic.telemetry) {
                let held = usage.topics.get(&topic.topic).cloned().unwrap_or_default();
                let oldest = held.oldest.unwrap_or_default().as_secs_f64();
                source.gauge(names::STORED_BYTES, source.topic(&topic.topic)).set(held.bytes as f64);
                source.gauge(names::STORED_OLDEST, source.topic(&topic.topic)).set(oldest);
            }
        }
        if let Some(client) = &snapshot.client {
            gauge(names::CLIENT_MESSAGES, client.queued_messages as f64);
            gauge(names::CLIENT_BYTES, client.queued_bytes as f64);
            client.brokers.iter().for_each(|broker| self.publish_broker(broker));
        }
    }

    /// Says of a batcher that is gone, for those who go on asking: it is not connected, and takes nothing.
    #[cfg(any(feature = "prometheus", feature = "opentelemetry"))]
    pub(crate) fn publish_end(&self) {
        let source = &self.inner.source;
        let topics = self.inner.topics.lock();
        for topic in &*topics {
            source.gauge(names::READY, source.topic(topic)).set(0.0);
        }
        if !topics.is_empty() {
            source.gauge(names::CONNECTED, Vec::new()).set(0.0);
        }
    }

    fn publish_broker(&self, broker: &BrokerStatistics) {
        let source = &self.inner.source;
        let labels = || vec![Label::new("broker", broker.id.to_string())];
        for (name, value) in [
            (names::BROKER_SENT, broker.sent_bytes),
            (names::BROKER_RECEIVED, broker.received_bytes),
            (names::BROKER_ERRORS, broker.errors),
            (names::BROKER_TIMEOUTS, broker.timeouts),
            (names::BROKER_RETRIES, broker.retries),
            (names::BROKER_CONNECTS, broker.connects),
            (names::BROKER_DISCONNECTS, broker.disconnects),
        ] {
            source.counter(name, labels()).absolute(value);
        }
        source.gauge(names::BROKER_UP, labels()).set(f64::from(u8::from(broker.up)));
        source.gauge(names::BROKER_REQUESTS, labels()).set(broker.requests as f64);
        for (name, times) in [
            (names::BROKER_ROUND_TRIP, &broker.round_trip),
            (names::BROKER_THROTTLE, &broker.throttle),
            (names::BROKER_QUEUE, &broker.queue),
        ] {
            for (word, time) in times.labelled() {
                source.gauge(name, and(labels(), "stat", word)).set(time.as_secs_f64());
            }
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
            (names::RETRIED, totals.retried),
            (names::REPLAYED, totals.replayed),
            (names::MAYBE_DUPLICATED, totals.maybe_duplicated),
            (names::RECONCILED, totals.reconciled),
        ] {
            source.counter(name, source.topic(&topic.topic)).absolute(value);
        }
        for (name, value) in [(names::STORED, totals.stored), (names::IN_MEMORY, totals.in_memory)] {
            source.gauge(name, source.topic(&topic.topic)).set(value as f64);
        }
        for state in LaneState::ALL {
            let labels = and(source.topic(&topic.topic), "state", state.as_str());
            source.gauge(names::LANES, labels).set(topic.lanes_at(state) as f64);
        }
    }
}
