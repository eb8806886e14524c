//! The names behind the prefix, and what they mean.

use metrics::{KeyName, Recorder, Unit};

use crate::options::Options;

/// Histograms with one series a partition: of producers and of consumers.
pub(crate) const DURATION: &str = "duration_seconds";
pub(crate) const MESSAGES: &str = "batch_messages_count";
pub(crate) const BYTES: &str = "batch_total_size_byte";

pub(crate) const QUEUE: &str = "queue_seconds";
pub(crate) const LATENCY: &str = "latency_seconds";
pub(crate) const STORAGE_CALL: &str = "storage_call_seconds";
pub(crate) const BATCHES: &str = "batches_total";
pub(crate) const FAILURES: &str = "produce_failures_total";
pub(crate) const FAILED_EVENTS: &str = "produce_failed_events_total";
pub(crate) const SPILLED: &str = "spilled_events_total";
pub(crate) const REJECTED: &str = "rejected_events_total";
pub(crate) const DEAD_LETTERS: &str = "dead_letters_total";

pub(crate) const ACCEPTED: &str = "events_accepted_total";
pub(crate) const FOUND: &str = "events_found_total";
pub(crate) const DELIVERED: &str = "events_delivered_total";
pub(crate) const DELIVERED_BYTES: &str = "bytes_delivered_total";
pub(crate) const DEAD_LETTERED: &str = "events_dead_lettered_total";
pub(crate) const LOST: &str = "events_lost_total";
pub(crate) const STORED: &str = "events_stored";
pub(crate) const IN_MEMORY: &str = "events_in_memory";
pub(crate) const MAYBE_DUPLICATED: &str = "events_maybe_duplicated_total";
pub(crate) const RECONCILED: &str = "events_reconciled_total";
pub(crate) const LANES: &str = "lanes";

pub(crate) const MEMORY_BYTES: &str = "memory_bytes";
pub(crate) const MEMORY_EVENTS: &str = "memory_events";
pub(crate) const MEMORY_MAX_BYTES: &str = "memory_max_bytes";
pub(crate) const MEMORY_MAX_EVENTS: &str = "memory_max_events";
pub(crate) const CONNECTED: &str = "connected";
pub(crate) const CONNECTS: &str = "connects_total";
pub(crate) const STORAGE_UP: &str = "storage_up";
pub(crate) const STORAGE_USED: &str = "storage_used_bytes";
pub(crate) const STORAGE_QUOTA: &str = "storage_quota_bytes";
pub(crate) const STORAGE_OLDEST: &str = "storage_oldest_seconds";
pub(crate) const STORAGE_LOST: &str = "storage_lost_events_total";
pub(crate) const PANICS: &str = "panics_total";

enum Kind {
    Counter,
    Gauge,
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

#[rustfmt::skip]
const TABLE: &[(&str, Kind, Unit, &str)] = &[
    ("producer_duration_seconds", Histogram, Unit::Seconds, "Time from the call of the producer to Kafka's acknowledgement of a batch"),
    ("producer_batch_messages_count", Histogram, Unit::Count, "Events of a batch that Kafka acknowledged"),
    ("producer_batch_total_size_byte", Histogram, Unit::Bytes, "Bytes of a batch that Kafka acknowledged, before compression"),
    ("consumer_duration_seconds", Histogram, Unit::Seconds, "Time the application took for a batch it consumed"),
    ("consumer_batch_messages_count", Histogram, Unit::Count, "Events of a batch that the application consumed"),
    ("consumer_batch_total_size_byte", Histogram, Unit::Bytes, "Bytes of a batch that the application consumed"),
    (QUEUE, Histogram, Unit::Seconds, "Time from accepting the oldest event of a batch to the call that sent it"),
    (LATENCY, Histogram, Unit::Seconds, "Time from accepting the oldest event of a batch to Kafka's acknowledgement"),
    (STORAGE_CALL, Histogram, Unit::Seconds, "Time a call of temporary storage took"),
    (BATCHES, Counter, Unit::Count, "Batches gathered, by what made them ready"),
    (FAILURES, Counter, Unit::Count, "Calls of the producer that failed"),
    (FAILED_EVENTS, Counter, Unit::Count, "Events in calls of the producer that failed"),
    (SPILLED, Counter, Unit::Count, "Events put to temporary storage"),
    (REJECTED, Counter, Unit::Count, "Events handed back to the application"),
    (DEAD_LETTERS, Counter, Unit::Count, "Events put to the dead letters, by why"),
    (ACCEPTED, Counter, Unit::Count, "Events accepted from the application"),
    (FOUND, Counter, Unit::Count, "Events found in temporary storage at the start"),
    (DELIVERED, Counter, Unit::Count, "Events acknowledged by Kafka"),
    (DELIVERED_BYTES, Counter, Unit::Bytes, "Bytes of batches acknowledged by Kafka, before compression"),
    (DEAD_LETTERED, Counter, Unit::Count, "Events put to the dead letters"),
    (LOST, Counter, Unit::Count, "Events that are gone"),
    (STORED, Gauge, Unit::Count, "Events in temporary storage"),
    (IN_MEMORY, Gauge, Unit::Count, "Events in memory only"),
    (MAYBE_DUPLICATED, Counter, Unit::Count, "Events sent again although Kafka may have had them"),
    (RECONCILED, Counter, Unit::Count, "Events found in Kafka's log and not sent again"),
    (LANES, Gauge, Unit::Count, "Lanes by what they are at"),
    (MEMORY_BYTES, Gauge, Unit::Bytes, "Bytes of the memory budget that are taken"),
    (MEMORY_EVENTS, Gauge, Unit::Count, "Events of the memory budget that are taken"),
    (MEMORY_MAX_BYTES, Gauge, Unit::Bytes, "The memory budget"),
    (MEMORY_MAX_EVENTS, Gauge, Unit::Count, "The memory budget as a number of events"),
    (CONNECTED, Gauge, Unit::Count, "Whether the client has reached Kafka"),
    (CONNECTS, Counter, Unit::Count, "How often the client reached Kafka after it had not"),
    (STORAGE_UP, Gauge, Unit::Count, "Whether temporary storage answers"),
    (STORAGE_USED, Gauge, Unit::Bytes, "What temporary storage takes"),
    (STORAGE_QUOTA, Gauge, Unit::Bytes, "What temporary storage may take"),
    (STORAGE_OLDEST, Gauge, Unit::Seconds, "How long the oldest stored batch has been stored"),
    (STORAGE_LOST, Counter, Unit::Count, "Stored events that are lost through damage"),
    (PANICS, Counter, Unit::Count, "Panics of code that is not the batcher's, contained"),
];

/// Tells the recorder what each metric means.
pub(crate) fn describe(recorder: &dyn Recorder, options: &Options) {
    for (name, kind, unit, text) in TABLE {
        let (name, unit) = (KeyName::from(format!("{}_{name}", options.prefix)), Some(*unit));
        match kind {
            Counter => recorder.describe_counter(name, unit, (*text).into()),
            Gauge => recorder.describe_gauge(name, unit, (*text).into()),
            Histogram => recorder.describe_histogram(name, unit, (*text).into()),
        }
    }
}
