//! What `/readyz` says.

use kafka_batcher_core::Health;
use kafka_batcher_core::collector::CollectorState;
use kafka_batcher_core::health::StorageHealth;
use serde_json::{Value, json};

const fn state(state: CollectorState) -> &'static str {
    match state {
        CollectorState::Starting => "starting",
        CollectorState::Ready => "ready",
        CollectorState::Locked => "locked",
        CollectorState::Growing => "growing",
        _ => "other",
    }
}

/// The verdict, a line for Kafka, one for storage, and one a topic. `None` is a batcher that has ended.
pub(crate) fn text(health: Option<&Health>) -> String {
    let Some(health) = health else { return "not ready: ended\n".to_owned() };
    let verdict = if health.is_ready() { "ready" } else { "not ready" };
    let kafka = if health.connected { "reached" } else { "not reached" };
    let mut lines = format!("{verdict}\nkafka: {kafka}\nstorage: {}\n", storage(&health.storage));
    for topic in &health.topics {
        lines.push_str(&format!(
            "{}: {}, {} lanes locked, {} replaying, {} events stored",
            topic.topic,
            state(topic.state),
            topic.locked,
            topic.replaying,
            topic.stored
        ));
        if let Some(obstacle) = topic.obstacle {
            lines.push_str(&format!("; takes no events: {obstacle}"));
        }
        lines.push('\n');
    }
    lines
}

fn storage(storage: &StorageHealth) -> String {
    if !storage.up && storage.quota.is_none() {
        return "fails or does not answer".to_owned();
    }
    let fails = if storage.up { "" } else { "fails, " };
    let survives = if storage.durable { "survives the process" } else { "in memory" };
    let mut text = format!("{fails}{survives}, {} events, {} bytes", storage.events, storage.bytes);
    if let Some(quota) = storage.quota {
        text.push_str(&format!(" of {quota}"));
    }
    if let Some(oldest) = storage.oldest {
        text.push_str(&format!(", the oldest for {} s", oldest.as_secs()));
    }
    text
}

/// The same for programs.
pub(crate) fn json(health: Option<&Health>) -> Value {
    let Some(health) = health else { return json!({"ready": false, "ended": true}) };
    let storage = &health.storage;
    let topics = health.topics.iter().map(|topic| {
        json!({
            "topic": &*topic.topic,
            "state": state(topic.state),
            "lanes_locked": topic.locked,
            "lanes_replaying": topic.replaying,
            "events_stored": topic.stored,
            "obstacle": topic.obstacle.map(|obstacle| obstacle.as_str()),
        })
    });
    json!({
        "ready": health.is_ready(),
        "ended": false,
        "connected": health.connected,
        "storage": {
            "up": storage.up,
            "durable": storage.durable,
            "events": storage.events,
            "bytes": storage.bytes,
            "quota_bytes": storage.quota,
            "oldest_seconds": storage.oldest.map(|oldest| oldest.as_secs_f64()),
        },
        "topics": topics.collect::<Value>(),
    })
}
