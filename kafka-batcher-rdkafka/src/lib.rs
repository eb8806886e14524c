//! Sends the batches of `kafka-batcher` with librdkafka.
//!
//! [`RdkafkaProducer`] implements the batcher's [`Producer`](kafka_batcher_core::Producer): it reaches the cluster,
//! counts and creates topics' partitions, and hands each batch over to librdkafka record by record without copying a
//! value and without an allocation of its own for a record.
//!
//! ```text
//!   produce(batch)                                librdkafka, one client for each of `acks`
//!        │                                        ┌──────────────────────────────────────┐
//!        │ ticket 71, 72, 73 … for the records    │  partition queue ─► message set ─► broker
//!        ├── rd_kafka_produceva, one a record ───►│   │ values stay in the batch         │ │
//!        │                                        └───┼──────────────────────────────────┼─┘
//!   ┌────▼────────────────────┐                       │                                  │
//!   │ parcel: the batch, what │◄──────────────────────┘                                  │
//!   │ became of its records,  │   delivery reports, a whole request's at a time          │
//!   │ who waits               │◄───────────────── the client's one polling thread ◄──────┘
//!   └────┬────────────────────┘
//!        ▼ all reported, or the deadline
//!   Delivered / ProduceFailure
//! ```
//!
//! # Example
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use kafka_batcher_core::config::{KafkaConfig, TopicSettings};
//! use kafka_batcher_core::{BatchBuilder, ProduceRequest, Producer, Record};
//! use kafka_batcher_rdkafka::RdkafkaProducer;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = KafkaConfig::new("localhost:9092").with_topic(TopicSettings::new("flights"));
//! let producer = RdkafkaProducer::new(&config)?; // checks everything, connects to nothing
//! producer.connect(Duration::from_secs(5)).await?;
//!
//! let mut batch = BatchBuilder::new();
//! batch.push(&Record::new("landed").with_key("N14228").as_ref(), 1_700_000_000_000, None, 1_000_000);
//! let topic = Arc::new(config.topics()?.remove(0));
//! let request = ProduceRequest::new(topic, 0, batch.seal().expect("one record"));
//! let delivered = producer.produce(&request, Duration::from_secs(10)).await?;
//! println!("at offset {:?}", delivered.base_offset);
//! # Ok(())
//! # }
//! ```
//!
//! # Settings
//!
//! librdkafka's properties are derived from the batcher's configuration; every entry of
//! [`KafkaConfig::property`](kafka_batcher_core::KafkaConfig::property) is then passed on as it is and wins. Those that
//! matter most:
//!
//! | property | value | why |
//! | --- | --- | --- |
//! | `acks`, `enable.idempotence` | of the topic; `true` with all | a client for each of `acks` in use |
//! | `message.timeout.ms` | `produce_timeout` − 1.5 s, or a third of it if that is more | librdkafka looks at its clock once a second; so its verdict, which tells whether a record was written, comes before ours |
//! | `linger.ms` | 0; 2 without idempotence | batches arrive complete |
//! | `batch.size`, `message.max.bytes` | the largest `max_batch_bytesize`, 1 MB at least, and 64 KiB | a batch travels in one request, or few |
//! | `queue.buffering.max.messages` | 0, unlimited | memory is bounded by the batcher |
//! | `allow.auto.create.topics` | `false` | topics are created on request only |
//! | `compression.codec` | of the topic | |
//! | `statistics.interval.ms` | 0; that of [`with_statistics`](RdkafkaProducer::with_statistics) | [figures](kafka_batcher_core::Producer::statistics) for metrics; the batcher asks for them every 10 s if it has telemetry |
//!
//! A property of a client holds for all topics; `message.timeout.ms` cannot follow the timeout of a single call. A call
//! whose timeout is shorter is answered in time all the same, but then nobody knows whether the records were written.
//!
//! # What it promises
//!
//! * A call ends within its timeout, whatever the brokers do, give or take the executor's punctuality.
//! * A failure names exactly the records that failed, and says whether they may have been written. Records that were
//!   never handed to librdkafka, as behind one that is refused for its size, count as failed and not written.
//! * A batch's buffer is kept until librdkafka is done with it, and not longer, also when the call is given up or
//!   dropped. What is dropped may or may not be written.
//! * The executor is never blocked: what blocks runs on the polling thread or on tokio's blocking threads. Handing over
//!   pauses for other tasks every 1000 records. A tokio runtime with time enabled is needed.
//! * "Delivered" means that a broker said so. librdkafka itself takes records for delivered when later ones were, which
//!   is wrong on a broker that does not know the producer; records without an offset therefore count as failed, maybe
//!   written (not with `acks` 0, where nobody answers).
//!
//! # Order
//!
//! Records of a batch, and the batches of successive calls for one partition, are written in order. In detail, and what
//! remains:
//!
//! * With idempotence brokers refuse what arrives out of order, and librdkafka repairs it. A broker checks that only for
//!   producers it knows. So the first record of the first batch to a partition, and of the first after a failure or ten
//!   minutes of silence, goes alone, and the others follow when it is acknowledged. Without that about one in ten
//!   batches to topics just created lost its first few records (librdkafka 2.12, Kafka 4.1).
//! * When one message set of a batch fails for good and a later one is delivered, sending the failed records again puts
//!   them behind. A batch within `max_batch_bytesize` is one to four message sets, and those for a failure to pass
//!   between must be in flight together, which librdkafka allows for the first few records only; time runs out for
//!   all records of a batch at once, as they are enqueued within milliseconds.
//! * Without idempotence (`acks` 0 or 1) a request that is refused and tried again, as when leadership moves, can fall
//!   behind one that was made meanwhile. `linger.ms` of 2 makes a batch of some thousand records one request, which
//!   can't overtake itself.
//! * After a call that ended at its own deadline (not librdkafka's) records may still be in librdkafka's queue, and be
//!   written after what is sent next. With `timeout` at `produce_timeout` that takes a stalled client.
//! * A duplicate can arise when the same records are sent again after `MaybePersisted`, and, rarely, through
//!   librdkafka on leader changes (its issue 4953).
//!
//! # Searching the log
//!
//! For `reconcile`. A client of its own reads the partition, which belongs to no group, commits nothing, and needs the
//! right to read the topic and none to a group. Up to four partitions are searched at once, each by its own client;
//! a client is kept for ten seconds for the next search, for to connect takes longer than to read. On Kafka on the same
//! machine, busy with other things, a search with a kept client took some 40 ms when there was nothing to read and 70 ms
//! for 26,000 records, and the first one 160 ms. Values are thrown away as they come: a search takes some 2 MB, or the
//! largest batch in the log.
//!
//! * Of the properties, it gets those that say how brokers are reached and how clients are let in, not those of
//!   producers, consumers and groups, nor limits of size. Tokens come from the same provider.
//! * It ends when everything before the high watermark of its beginning has been seen, and fails, telling nothing, when
//!   that does not come about in time. When the offset it has come to is gone it fails too: it never goes on elsewhere.
//! * It waits until librdkafka is done with what earlier calls for the partition left, those that were dropped and those of failed
//!   clients too. What it reported as failed it does not send any more: its time, `message.timeout.ms`, is up. If the
//!   property is longer than `produce_timeout` the search may fail for as long.
//! * What can't be waited for is a request that left this machine, and that a broker takes up only after it has answered the
//!   search, as one may that was stopped for a while. The search then finds nothing, and the records are there twice.
//!
//! # Being let in
//!
//! `ssl` and `sasl` of the configuration. Brokers' certificates are checked, host name included; librdkafka's properties
//! (`ssl.endpoint.identification.algorithm`, …) can change that.
//!
//! * Whoever is not let in gets [`ErrorKind::Denied`](kafka_batcher_core::ErrorKind) with a
//!   [`Denial`](kafka_batcher_core::Denial), and librdkafka's text behind what was wrong in plain words. A client that
//!   was turned away asks again, for 2.5 seconds at most, before it takes a batch; the first batch of a client waits for
//!   its timeout.
//! * Tokens for SASL/OAUTHBEARER are asked for in the tokio runtime in which the client was made, that of the first call:
//!   when it starts, when four fifths of a token's time are over, ten seconds after there was none, and at each
//!   `connect` and batch that begins without one. The provider has `connect_timeout` to answer.
//! * A denial is the client's, not a broker's: when one broker turns us away and another does not, a batch for the first
//!   fails with [`ErrorKind::Transient`](kafka_batcher_core::ErrorKind), and the reason in its text.
//! * A broker that just closes the connection is taken for one that is down. With a `log_level` property below 3 what is
//!   wrong with a certificate is not known, and [`Denial::Handshake`](kafka_batcher_core::Denial) is all that is said.
//! * Secrets of the configuration, and tokens, are cut out of whatever librdkafka says.
//!
//! # Limits
//!
//! * A timestamp of 0 is sent as 1: librdkafka takes 0 for "now".
//! * A fatal error of the idempotent producer is reported as [`ErrorKind::Fatal`](kafka_batcher_core::ErrorKind);
//!   [`connect`](kafka_batcher_core::Producer::connect) then makes a new client.
//! * On 32-bit machines four billion records can be in flight, not more.
//!
//! # Cargo features
//!
//! librdkafka is built along (C compiler and make). `libz` (default): gzip. `zstd`: zstd. `ssl`, `ssl-vendored`: TLS,
//! SCRAM and OAUTHBEARER. `gssapi`, `gssapi-vendored`: Kerberos. `lz4`: the external liblz4. Snappy, lz4 and SASL PLAIN are always
//! there. Settings that need a feature which is not enabled are refused by [`RdkafkaProducer::new`].
//!
//! librdkafka's log goes to `tracing`, target `kafka_batcher::rdkafka`: of each kind of line (`facility`, or the `code` of an
//! error) one a minute as what it is, with how many were `left_out` before it; the others at level `DEBUG`.

mod client;
mod code;
mod config;
mod denial;
mod error;
mod ffi;
mod health;
mod lines;
mod parcel;
mod producer;
mod search;
mod statistics;
mod tokens;

pub use error::SetupError;
pub use producer::RdkafkaProducer;
