//! An event as text and as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kafka_batcher::sled::{DeadEntry, SpoolEntry};
use kafka_batcher::{LaneId, RecordRef};
use serde::Serialize;
use serde_json::{Map, Value};

/// Most characters of a value that `peek` shows.
const SHOWN: usize = 120;

/// A stored event.
#[derive(Debug, Serialize)]
pub(crate) struct Event<'a> {
    topic: &'a str,
    /// None when it has none yet.
    partition: Option<u32>,
    /// Milliseconds since the Unix epoch, as all times.
    stored_at: u64,
    timestamp: Option<i64>,
    #[serde(flatten)]
    state: State<'a>,
    /// `key`, or `key_base64` when it is no text.
    #[serde(flatten)]
    key: Map<String, Value>,
    /// The same.
    #[serde(flatten)]
    value: Map<String, Value>,
    headers: Vec<Value>,
}

/// Where it is.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum State<'a> {
    Waiting {
        /// The number of the batch in its lane.
        batch: u64,
        /// Kafka may have it.
        maybe_persisted: bool,
    },
    Dead {
        dead_letter: u64,
        kind: &'static str,
        error: &'a str,
    },
}

impl<'a> Event<'a> {
    /// The events of a batch.
    pub(crate) fn all(lane: &'a LaneId, entry: &'a SpoolEntry) -> impl Iterator<Item = Self> {
        let (batch, maybe_persisted) = (entry.id.0, entry.stored.maybe_persisted);
        entry.stored.batch.records().map(move |record| {
            Self::new(lane, entry.stored_at, &record, State::Waiting { batch, maybe_persisted })
        })
    }

    pub(crate) fn dead(entry: &'a DeadEntry) -> Self {
        let dead = &entry.dead;
        let state = State::Dead { dead_letter: entry.id.0, kind: dead.kind.as_str(), error: &dead.error };
        Self::new(&dead.lane, entry.stored_at, &dead.record.as_ref(), state)
    }

    fn new(lane: &'a LaneId, stored_at: SystemTime, record: &RecordRef<'_>, state: State<'a>) -> Self {
        let headers = record.headers.iter().map(|header| {
            let mut one = bytes("value", header.value);
            one.insert("name".to_owned(), header.name.into());
            Value::Object(one)
        });
        let stored_at = stored_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self {
            topic: &lane.topic,
            partition: lane.partition,
            stored_at,
            timestamp: record.timestamp,
            state,
            key: bytes("key", record.key),
            value: bytes("value", record.value),
            headers: headers.collect(),
        }
    }
}

/// Bytes under this name as text where they are, or else as Base64 under another.
fn bytes(name: &str, bytes: Option<&[u8]>) -> Map<String, Value> {
    let (name, value) = match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => (name.to_owned(), Value::Null),
        Some(Ok(text)) => (name.to_owned(), text.into()),
        Some(Err(bytes)) => (format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
    Map::from_iter([(name, value)])
}

/// An event on one line, for a person: its time, key and value, cut where it is long.
pub(crate) fn line(record: &RecordRef<'_>) -> String {
    let time = record.timestamp.map(crate::format::time);
    let key = record.key.map_or_else(|| "(no key)".to_owned(), |key| short(key, 40));
    let value = record.value.map_or_else(|| "(no value)".to_owned(), |value| short(value, SHOWN));
    let headers = record.headers.iter().count();
    let headers = if headers > 0 {
        format!("  ({})", crate::format::counted(headers as u64, "header"))
    } else {
        String::new()
    };
    format!("{}  {key}  {value}{headers}", time.as_deref().unwrap_or("(no time)"))
}

/// Text without what a terminal would take for a command, or the number of bytes if it is none.
fn short(bytes: &[u8], most: usize) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("({}, no text)", crate::format::counted(bytes.len() as u64, "byte"));
    };
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(most).map(plain).collect();
    if text.chars().nth(most).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use kafka_batcher::Record;
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_text_and_anything_else_is_base64() {
        let mut record = Record::new(vec![0xff, 0]).with_key("N1").with_header("a", "é").with_timestamp(5);
        record.headers.push("b", None);
        let lane = LaneId::partition("flights", 3);
        let state = State::Waiting { batch: 7, maybe_persisted: true };
        let event = Event::new(&lane, UNIX_EPOCH, &record.as_ref(), state);
        let expected = json!({
            "topic": "flights", "partition": 3, "stored_at": 0, "timestamp": 5, "batch": 7, "maybe_persisted": true,
            "key": "N1", "value_base64": "/wA=",
            "headers": [{"name": "a", "value": "é"}, {"name": "b", "value": null}],
        });
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
        let state = State::Dead { dead_letter: 1, kind: "too_large", error: "no" };
        let lane = LaneId::unassigned("flights");
        let event = Event::new(&lane, UNIX_EPOCH, &RecordRef::default(), state);
        let event = serde_json::to_value(&event).unwrap();
        assert_eq!(
            (&event["key"], &event["value"], &event["partition"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert_eq!((&event["kind"], &event["error"]), (&json!("too_large"), &json!("no")));
    }

    #[test]
    fn a_line_holds_no_commands_for_the_terminal() {
        assert_eq!(short(b"a\x1b[2Jb\n", 40), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(short(b"12345", 5), "12345");
        assert_eq!(short("ééé".as_bytes(), 2), "éé…");
        assert_eq!(short(&[0xff, 1], 2), "(2 bytes, no text)");
        let record = Record::new("v").with_header("a", "b").with_timestamp(0);
        assert_eq!(line(&record.as_ref()), "1970-01-01T00:00:00.000Z  (no key)  v  (1 header)");
    }
}
