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
pub(crate) const OVERSIZED: &str = "oversized_events_total";
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
pub(crate) const RETRIED: &str = "events_retried_total";
pub(crate) const REPLAYED: &str = "events_replayed_total";
pub(crate) const RECONCILED: &str = "events_reconciled_total";
pub(crate) const STORED_BYTES: &str = "stored_bytes";
pub(crate) const STORED_OLDEST: &str = "stored_oldest_seconds";
pub(crate) const LANES: &str = "lanes";
pub(crate) const READY: &str = "ready";

pub(crate) const MEMORY_BYTES: &str = "memory_bytes";
pub(crate) const MEMORY_EVENTS: &str = "memory_events";
pub(crate) const MEMORY_MAX_BYTES: &str = "memory_max_bytes";
pub(crate) const MEMORY_MAX_EVENTS: &str = "memory_max_events";
pub(crate) const CONNECTED: &str = "connected";
pub(crate) const CONNECTS: &str = "connects_total";
pub(crate) const CONNECT_FAILURES: &str = "connect_failures_total";
pub(crate) const STORAGE_UP: &str = "storage_up";
pub(crate) const STORAGE_FULL: &str = "storage_full";
pub(crate) const STORAGE_USED: &str = "storage_used_bytes";
pub(crate) const STORAGE_QUOTA: &str = "storage_quota_bytes";
pub(crate) const STORAGE_OLDEST: &str = "storage_oldest_seconds";
pub(crate) const STORAGE_LOST: &str = "storage_lost_events_total";
pub(crate) const STORAGE_LOST_DEAD: &str = "storage_lost_dead_letters_total";
pub(crate) const STORAGE_SALVAGED: &str = "storage_salvaged_records_total";
pub(crate) const PANICS: &str = "panics_total";
pub(crate) const REPORTS: &str = "reports_total";
pub(crate) const REPORTS_DROPPED: &str = "reports_dropped_total";
pub(crate) const TELEMETRY_DROPPED: &str = "telemetry_dropped_total";

pub(crate) const CLIENT_MESSAGES: &str = "client_queued_messages";
pub(crate) const CLIENT_BYTES: &str = "client_queued_bytes";
pub(crate) const BROKER_UP: &str = "client_broker_up";
pub(crate) const BROKER_REQUESTS: &str = "client_broker_requests";
pub(crate) const BROKER_SENT: &str = "client_broker_sent_bytes_total";
pub(crate) const BROKER_RECEIVED: &str = "client_broker_received_bytes_total";
pub(crate) const BROKER_ERRORS: &str = "client_broker_errors_total";
pub(crate) const BROKER_TIMEOUTS: &str = "client_broker_timeouts_total";
pub(crate) const BROKER_RETRIES: &str = "client_broker_retries_total";
pub(crate) const BROKER_CONNECTS: &str = "client_broker_connects_total";
pub(crate) const BROKER_DISCONNECTS: &str = "client_broker_disconnects_total";
pub(crate) const BROKER_ROUND_TRIP: &str = "client_broker_rtt_seconds";
pub(crate) const BROKER_THROTTLE: &str = "client_broker_throttle_seconds";
pub(crate) const BROKER_QUEUE: &str = "client_broker_queue_seconds";

/// Why events are handed back: the words of `AddErrorKind`.
pub(crate) const REJECTIONS: [&str; 11] = [
    "memory_full",
    "too_large",
    "encode",
    "route",
    "panicked",
    "not_ready",
    "unavailable",
    "storage_full",
    "needs_journal",
    "journal",
    "closed",
];

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
    (OVERSIZED, Counter, Unit::Count, "Events that are too large, by whose limit"),
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
    (RETRIED, Counter, Unit::Count, "Events sent again after a call that failed"),
    (REPLAYED, Counter, Unit::Count, "Events delivered out of temporary storage"),
    (RECONCILED, Counter, Unit::Count, "Events found in Kafka's log and not sent again"),
    (STORED_BYTES, Gauge, Unit::Bytes, "Bytes of batches in temporary storage"),
    (STORED_OLDEST, Gauge, Unit::Seconds, "How long the oldest stored batch of the topic has been stored"),
    (LANES, Gauge, Unit::Count, "Lanes by what they are at"),
    (READY, Gauge, Unit::Count, "Whether new events are taken without being refused or held up"),
    (MEMORY_BYTES, Gauge, Unit::Bytes, "Bytes of the memory budget that are taken"),
    (MEMORY_EVENTS, Gauge, Unit::Count, "Events of the memory budget that are taken"),
    (MEMORY_MAX_BYTES, Gauge, Unit::Bytes, "The memory budget"),
    (MEMORY_MAX_EVENTS, Gauge, Unit::Count, "The memory budget as a number of events"),
    (CONNECTED, Gauge, Unit::Count, "Whether the client has reached Kafka"),
    (CONNECTS, Counter, Unit::Count, "How often the client reached Kafka after it had not"),
    (CONNECT_FAILURES, Counter, Unit::Count, "How often the client tried to reach Kafka and could not"),
    (STORAGE_UP, Gauge, Unit::Count, "Whether temporary storage answers, and no lane waits because it fails"),
    (STORAGE_FULL, Gauge, Unit::Count, "Whether a lane waits because temporary storage is full: its quota, or the disk"),
    (STORAGE_USED, Gauge, Unit::Bytes, "What temporary storage takes"),
    (STORAGE_QUOTA, Gauge, Unit::Bytes, "What temporary storage may take"),
    (STORAGE_OLDEST, Gauge, Unit::Seconds, "How long the oldest stored batch has been stored"),
    (STORAGE_LOST, Counter, Unit::Count, "Stored events that are lost through damage"),
    (STORAGE_LOST_DEAD, Counter, Unit::Count, "Stored dead letters that are lost through damage"),
    (STORAGE_SALVAGED, Counter, Unit::Count, "Stored batches and dead letters saved out of what is damaged"),
    (PANICS, Counter, Unit::Count, "Panics that were contained: of code that the batcher calls, or of its own tasks"),
    (REPORTS, Counter, Unit::Count, "Reports to the error notifier, by what they are about"),
    (REPORTS_DROPPED, Counter, Unit::Count, "Reports dropped because the error notifier was too slow"),
    (TELEMETRY_DROPPED, Counter, Unit::Count, "Calls of telemetry dropped because the recorder was too slow"),
    (CLIENT_MESSAGES, Gauge, Unit::Count, "Records that the client has and that are not answered yet"),
    (CLIENT_BYTES, Gauge, Unit::Bytes, "Bytes of the records that the client has and that are not answered yet"),
    (BROKER_UP, Gauge, Unit::Count, "Whether the client has a connection to the broker"),
    (BROKER_REQUESTS, Gauge, Unit::Count, "Requests that wait to be sent to the broker or answered by it"),
    (BROKER_SENT, Counter, Unit::Bytes, "Bytes sent to the broker"),
    (BROKER_RECEIVED, Counter, Unit::Bytes, "Bytes received from the broker"),
    (BROKER_ERRORS, Counter, Unit::Count, "Requests that could not be sent and answers that could not be read"),
    (BROKER_TIMEOUTS, Counter, Unit::Count, "Requests the broker did not answer in time"),
    (BROKER_RETRIES, Counter, Unit::Count, "Requests sent to the broker again"),
    (BROKER_CONNECTS, Counter, Unit::Count, "Connections established to the broker"),
    (BROKER_DISCONNECTS, Counter, Unit::Count, "Connections to the broker that ended"),
    (BROKER_ROUND_TRIP, Gauge, Unit::Seconds, "Time from a request to its answer"),
    (BROKER_THROTTLE, Gauge, Unit::Seconds, "Time the broker made the client wait for using more than its quota"),
    (BROKER_QUEUE, Gauge, Unit::Seconds, "Time records waited in the client before they were sent"),
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
