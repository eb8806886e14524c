//! Metrics of [kafka-batcher](https://docs.rs/kafka-batcher), over the [`metrics`](https://docs.rs/metrics) facade: any
//! exporter works. With the feature `prometheus` (on by default) there is one with the right buckets and an HTTP endpoint, and
//! with `opentelemetry` one that feeds a meter, for OTLP, under the same names.
//!
//! With the facade's feature `metrics` (see [there](https://docs.rs/kafka-batcher/latest/kafka_batcher/metrics) for the whole of it):
//! make an [`Exporter`](prometheus::Exporter), hand its [`telemetry`](prometheus::Exporter::telemetry) to the builder of the batcher, and
//! [`serve`](prometheus::Exporter::serve) the batcher's observer. Without the facade:
//!
//! ```
//! use kafka_batcher_core::{LaneId, Telemetry};
//! use kafka_batcher_metrics::{Options, Recorded};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), kafka_batcher_metrics::OptionsError> {
//! let recorded = Recorded::global(&Options::default())?; // the recorder that the application has installed
//! recorded.delivered(&LaneId::partition("flights", 3), 500, 40_000, Duration::from_millis(7), None);
//! # Ok(())
//! # }
//! ```
//!
//! # Metrics
//!
//! All names begin with a prefix, `kafka_batcher` unless set: with `prom_ex_kafka`, the first six are those of the Elixir
//! library. Times are seconds. Every metric of a topic has the labels `topic` and `topic_alias` (from
//! `kafka_topic_aliases`; the topic's name where there is none).
//!
//! | name behind the prefix | kind | more labels | what |
//! |---|---|---|---|
//! | `producer_duration_seconds` | histogram | `partition` | a batch, from the call of the producer to Kafka's acknowledgement |
//! | `producer_batch_messages_count` | histogram | `partition` | events of such a batch |
//! | `producer_batch_total_size_byte` | histogram | `partition` | its bytes, before compression |
//! | `consumer_duration_seconds`, `consumer_batch_messages_count`, `consumer_batch_total_size_byte` | histogram | `partition` | the same of an application's consumer: [`Consumer`] |
//! | `queue_seconds` | histogram | | the oldest event of a batch, from being accepted to the call that sent it; not of what was stored |
//! | `latency_seconds` | histogram | | the same to Kafka's acknowledgement |
//! | `storage_call_seconds` | histogram | `call`, `ok` | `append`, `read`, `acknowledge` of temporary storage; `sync`: forcing to the disk what was appended (of storage that says so) |
//! | `batches_total` | counter | `reason` | batches gathered, by what made them ready |
//! | `produce_failures_total` | counter | `kind` | calls of the producer that failed |
//! | `produce_failed_events_total` | counter | `kind` | events in them |
//! | `spilled_events_total` | counter | | events put to temporary storage |
//! | `rejected_events_total` | counter | `reason` | events that were handed back to the application |
//! | `oversized_events_total` | counter | `limit` | events that were too large: for `max_batch_bytesize` (handed back, and counted as rejected too), or for `kafka` (put to the dead letters) |
//! | `dead_letters_total` | counter | `kind` | events put to the dead letters |
//! | `events_accepted_total` | counter | | accepted from the application |
//! | `events_found_total` | counter | | found in storage at the start |
//! | `events_delivered_total`, `bytes_delivered_total` | counter | | acknowledged by Kafka |
//! | `events_dead_lettered_total` | counter | | put to the dead letters |
//! | `events_lost_total` | counter | | gone, and reported |
//! | `events_stored` | gauge | | in temporary storage |
//! | `events_in_memory` | gauge | | in memory only |
//! | `events_retried_total` | counter | | sent again after a call that failed, each as often as it was, whether it was stored in between or not |
//! | `events_replayed_total` | counter | | delivered out of temporary storage: its rate is that of the replay. With a journal, all of them |
//! | `events_maybe_duplicated_total` | counter | | sent again although Kafka may have had them |
//! | `events_reconciled_total` | counter | | found in Kafka's log and not sent again |
//! | `stored_bytes` | gauge | | bytes of the topic's batches in temporary storage |
//! | `stored_oldest_seconds` | gauge | | how long the oldest of them has been there; 0 if there is none |
//! | `lanes` | gauge | `state` | partitions whose lane is `starting`, `live`, `locked`, `replaying`; before they are known, one; and one more while something without a partition is stored |
//! | `ready` | gauge | | 1 while new events are taken without being refused or held up; 0 when the batcher has ended |
//! | `memory_bytes`, `memory_events`, `memory_max_bytes`, `memory_max_events` | gauge | none at all | the memory budget |
//! | `connected` | gauge | none at all | 1 if the client has reached Kafka; 0 when the batcher has ended |
//! | `connects_total` | counter | none at all | how often it did after it had not |
//! | `connect_failures_total` | counter | none at all | how often it tried and could not |
//! | `storage_up` | gauge | none at all | 1 if temporary storage answers and no lane waits because it fails |
//! | `storage_full` | gauge | none at all | 1 while a lane waits because it is full: its quota, or the disk |
//! | `storage_used_bytes`, `storage_quota_bytes`, `storage_oldest_seconds` | gauge | none at all | what it holds |
//! | `storage_lost_events_total` | counter | none at all | lost in it through damage |
//! | `storage_lost_dead_letters_total` | counter | none at all | lost in the same way |
//! | `storage_salvaged_records_total` | counter | none at all | batches and dead letters saved out of what was damaged |
//! | `panics_total` | counter | none at all | panics that were contained: of code that the batcher calls, or, a bug then, of its own tasks |
//! | `reports_total` | counter | `trouble` | reports to the error notifier: what fails without being counted above shows here, such as the dead-letter topic or a search of Kafka's log |
//! | `reports_dropped_total` | counter | none at all | reports for which the error notifier was too slow |
//! | `telemetry_dropped_total` | counter | none at all | calls of telemetry for which the recorder was too slow; should be 0 |
//! | `client_queued_messages`, `client_queued_bytes` | gauge | none at all | what the client has and is not answered yet |
//! | `client_broker_up`, `client_broker_requests` | gauge | `broker` | whether there is a connection to this broker; requests that wait to be sent or answered |
//! | `client_broker_rtt_seconds`, `client_broker_throttle_seconds`, `client_broker_queue_seconds` | gauge | `broker`, `stat` | round trips, waits for quotas, and time in the client's queue in the last seconds; `mean`, `p50`, `p99`, `max` |
//! | `client_broker_sent_bytes_total`, `client_broker_received_bytes_total`, `client_broker_errors_total`, `client_broker_timeouts_total`, `client_broker_retries_total`, `client_broker_connects_total`, `client_broker_disconnects_total` | counter | `broker` | since the client was started |
//!
//! Those from `events_accepted_total` on are set together, from one [`Snapshot`](kafka_batcher_core::Snapshot), whenever the endpoint is asked
//! (or by [`Recorded::publish`]), so that they add up in every scrape:
//! `accepted + found = delivered + dead_lettered + lost + stored + in_memory`.
//!
//! **Cardinality**: the histograms with `partition` have 35 series a partition; switch that label off with
//! [`Options::partition_labels`]. All others grow with the number of topics, 95 series each, and of brokers, 21 each. Counters of
//! a topic begin at 0 for each of the labels' values, so that `rate` sees the first event. Labels' values are words of the library, but for
//! the names of topics and their aliases.
//!
//! While storage does not answer, `storage_…` and `stored_…` are those of its last answer; brokers of which the client has heard once stay.
//!
//! Those that begin with `client_` are librdkafka's own statistics and there with that backend only; `broker` is the broker's number.
//!
//! Topics whose setting `telemetry` is off show up in none of them.
//!
//! Of the Elixir library's buckets, those of durations were meant as milliseconds and applied to seconds; here they are milliseconds.

mod consumer;
mod labels;
mod names;
mod options;
#[cfg(feature = "opentelemetry")]
pub mod otlp;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod publish;
#[cfg(feature = "prometheus")]
mod readiness;
mod telemetry;

pub use consumer::Consumer;
pub use options::{Options, OptionsError};
pub use telemetry::Recorded;
