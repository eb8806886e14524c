//! How a dead record looks in a dead-letter topic.
//!
//! Key, value and headers are those of the original. What is known about its end comes as further headers, all of them
//! text, in alphabetic order behind those of the record; where the record's own are in alphabetic order, all are, so
//! that a producer that can't keep another order takes them. A header that the record already has by one of these names,
//! because it has been a dead letter before, is replaced.
//!
//! The record's timestamp is the time at which it was given up, so that the topic's retention counts from then.

use std::num::NonZeroU32;

use bytes::Bytes;

use super::DeadRecord;
use crate::partition::hash::murmur2;
use crate::record::{Headers, Record};

/// Header: when it was given up, in milliseconds since the Unix epoch. Absent if that is not known.
pub const AT: &str = "kafka-batcher-dead-at";
/// Header: how often it was sent before it was given up, a decimal number; see [`DeadRecord::attempts`].
pub const ATTEMPTS: &str = "kafka-batcher-dead-attempts";
/// Header: Kafka's or the batcher's words for why it was given up.
pub const ERROR: &str = "kafka-batcher-dead-error";
/// Header: the batcher that gave it up, 32 hexadecimal digits, random for each; as in a
/// [`SEQUENCE_HEADER`](crate::lane::SEQUENCE_HEADER).
pub const INSTANCE: &str = "kafka-batcher-dead-instance";
/// Header: the kind of refusal, as [`ErrorKind::as_str`](crate::ErrorKind::as_str) has it.
pub const KIND: &str = "kafka-batcher-dead-kind";
/// Header: the partition it was to go to, a decimal number. Absent if it had none yet.
pub const PARTITION: &str = "kafka-batcher-dead-partition";
/// Header: its timestamp, in milliseconds since the Unix epoch. Absent if it had none.
pub const TIMESTAMP: &str = "kafka-batcher-dead-timestamp";
/// Header: the topic it was to go to.
pub const TOPIC: &str = "kafka-batcher-dead-topic";

const NAMES: [&str; 8] = [AT, ATTEMPTS, ERROR, INSTANCE, KIND, PARTITION, TIMESTAMP, TOPIC];

impl DeadRecord {
    /// The record to be sent to the dead-letter topic, given up by the batcher with this instance.
    #[must_use]
    pub fn to_topic_record(&self, instance: [u8; 16]) -> Record {
        let values = [
            self.at.map(|at| at.to_string()),
            Some(self.attempts.to_string()),
            Some(self.error.clone()),
            Some(format!("{:032x}", u128::from_be_bytes(instance))),
            Some(self.kind.as_str().to_owned()),
            self.lane.partition.map(|partition| partition.to_string()),
            self.record.timestamp.map(|timestamp| timestamp.to_string()),
            Some(self.lane.topic.to_string()),
        ];
        let own = self.record.headers.iter().filter(|header| !NAMES.contains(&header.name));
        let mut headers: Vec<(String, Option<Bytes>)> =
            own.map(|header| (header.name.to_owned(), header.value.map(Bytes::copy_from_slice))).collect();
        let was_sorted = headers.is_sorted_by(|one, next| one.0 <= next.0);
        let told = NAMES.into_iter().zip(values);
        headers.extend(told.filter_map(|(name, value)| Some((name.to_owned(), Some(Bytes::from(value?))))));
        if was_sorted {
            headers.sort_by(|one, next| one.0.cmp(&next.0));
        }
        let headers: Headers = headers.into_iter().collect();
        Record {
            key: self.record.key.clone(),
            value: self.record.value.clone(),
            headers,
            timestamp: self.at.or(self.record.timestamp),
        }
    }

    /// The partition of a dead-letter topic with so many: that of the key as Java's client has it, or without a key
    /// the one it was to go to, as far as there is one.
    #[must_use]
    pub fn topic_partition(&self, partitions: NonZeroU32) -> u32 {
        match &self.record.key {
            Some(key) => murmur2(key, partitions),
            None => self.lane.partition.unwrap_or(0) % partitions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::ErrorKind;
    use crate::storage::LaneId;

    fn names(record: &Record) -> Vec<&str> {
        record.headers.iter().map(|header| header.name).collect()
    }

    fn dead(record: Record) -> DeadRecord {
        DeadRecord::new(LaneId::partition("t", 3), record, ErrorKind::TooLarge, "too large")
    }

    #[test]
    fn headers_in_alphabetic_order_stay_so_and_others_stay_as_they_are() {
        let record =
            dead(Record::new("v").with_header("a", "1").with_header("z", "2")).to_topic_record([1; 16]);
        assert_eq!(names(&record), ["a", ATTEMPTS, ERROR, INSTANCE, KIND, PARTITION, TOPIC, "z"]);
        let record =
            dead(Record::new("v").with_header("z", "1").with_header("a", "2")).to_topic_record([1; 16]);
        assert_eq!(names(&record), ["z", "a", ATTEMPTS, ERROR, INSTANCE, KIND, PARTITION, TOPIC]);
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn a_record_that_dies_again_tells_of_its_last_death_only() {
        let mut first = dead(Record::new("v").with_header("a", "1").with_timestamp(7));
        first.at = Some(8);
        let again = DeadRecord::new(
            LaneId::unassigned("dead"),
            first.to_topic_record([1; 16]),
            ErrorKind::Permanent,
            "no",
        );
        let record = again.to_topic_record([2; 16]);
        assert_eq!(names(&record), ["a", ATTEMPTS, ERROR, INSTANCE, KIND, TIMESTAMP, TOPIC]);
        let value = |name| record.headers.iter().find(|h| h.name == name).and_then(|h| h.value);
        assert_eq!(value(TOPIC), Some(&b"dead"[..]));
        assert_eq!(value(INSTANCE), Some(&b"02020202020202020202020202020202"[..]));
        assert_eq!(value(TIMESTAMP), Some(&b"8"[..]), "that of the record in the dead-letter topic");
    }

    #[test]
    fn a_key_has_its_partition_and_others_keep_theirs() {
        let of = |dead: DeadRecord, count| dead.topic_partition(NonZeroU32::new(count).unwrap());
        assert_eq!(of(dead(Record::new("v").with_key("N14228")), 12), 8);
        assert_eq!(of(dead(Record::new("v")), 12), 3);
        assert_eq!(of(dead(Record::new("v")), 2), 1);
        let none = DeadRecord::new(LaneId::unassigned("t"), Record::new("v"), ErrorKind::Permanent, "");
        assert_eq!(of(none, 12), 0);
    }
}
