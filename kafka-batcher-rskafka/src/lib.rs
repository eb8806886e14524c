//! Sends the batches of `kafka-batcher` with rskafka: pure Rust, no C compiler needed.
//!
//! [`RskafkaProducer`] implements the batcher's [`Producer`](kafka_batcher_core::Producer): it reaches the cluster, counts
//! and creates topics' partitions, and sends each batch as one request over a connection of its own to the partition's
//! leader.
//!
//! ```text
//!  the caller's task            the engine: one thread, everything of rskafka's
//!  ─────────────────            ──────────────────────────────────────────────────────────────────
//!  produce(batch) ────────────► lane of the partition: one batch at a time
//!        │                        │ no connection: list topics ─► reach the leader   (session)
//!        │                        ▼
//!        │                      attempt: encode, send, wait ──────────────────────────────► leader
//!        │                        │ answered: the offset, or Kafka's error code ◄───────────┘
//!        │                        │ failed: connection dropped; pause; next attempt
//!        ▼                        ▼
//!  Delivered / ProduceFailure ◄── all within the deadline
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `producer.rs` | the trait; what can't be sent; closing |
//! | `attempt.rs` | sends one batch, and knows at any time whether it may have been written |
//! | `search.rs` | looks for records in the log of one partition |
//! | `cluster.rs`, `session.rs` | the client in use, connections to leaders, and when they are replaced |
//! | `contained.rs`, `engine.rs` | rskafka's futures given up without anything going on behind; the thread |
//! | `trouble.rs`, `code.rs` | what rskafka and Kafka say, in the batcher's terms |
//! | `config.rs`, `sasl.rs`, `tls.rs`, `records.rs` | the batcher's settings and records, in rskafka's terms |
//!
//! # Example
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use kafka_batcher_core::config::{KafkaConfig, TopicSettings};
//! use kafka_batcher_core::{BatchBuilder, ProduceRequest, Producer, Record};
//! use kafka_batcher_rskafka::RskafkaProducer;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = KafkaConfig::new("localhost:9092").with_topic(TopicSettings::new("flights"));
//! let producer = RskafkaProducer::new(&config)?; // checks everything, connects to nothing
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
//! # What it can't do
//!
//! rskafka is a small client. What it lacks is refused; nothing is changed silently:
//!
//! | what | then |
//! | --- | --- |
//! | `required_acks` other than −1 (all) | [`RskafkaProducer::new`] fails |
//! | `properties`, but for `rskafka.sort.headers` | [`RskafkaProducer::new`] fails |
//! | encrypted private keys; TLS with an IPv6 address in `endpoints` | [`RskafkaProducer::new`] fails |
//! | a header name twice in a record; a header whose value is null; headers that are not in alphabetic order (by bytes; those that the batcher adds may move); a timestamp outside of ±262,000 years | the record fails as [`Permanent`](kafka_batcher_core::ErrorKind::Permanent), not persisted, which dead-letters it; the others of its batch are delivered in order |
//! | idempotence | see "Duplicates" |
//! | quotas of the broker | see "Throttling" |
//! | connections shared by partitions | each partition that is sent to has a TCP connection of its own to its leader |
//! | metadata of one topic | every look at a partition count, and at a leader after a failure, fetches the list of all topics |
//!
//! rskafka sorts headers by name. Where their order does not matter, property `rskafka.sort.headers` = `true` allows that
//! ([`KafkaConfig::property`](kafka_batcher_core::KafkaConfig::property)); set it if records have several headers, or one
//! beside the `sequence_header`.
//!
//! Keys and values may be null or empty, timestamps 0 or negative; they arrive as they are.
//!
//! # What it promises
//!
//! * A call ends within its timeout, as wall time, whatever the brokers do: refused, silent, hung, moving, denying. rskafka
//!   itself counts only its pauses and tries for ever, so each of its calls is one attempt with a deadline; trying again is
//!   done here, until the timeout.
//! * All endpoints are tried, the next one beside the last when that has not answered within 250 ms. Every list of topics
//!   is asked of the cluster, and leaders are looked up anew after each failure, from a list that is newer than it.
//! * A failure says whether the records may have been written. "Not persisted" is certain: they were never sent, or only a
//!   part of the request was, or Kafka refused them. "Maybe persisted" is the rest: no answer, a connection cut while
//!   waiting for one, or an answer that says that the leader has appended the records but can't vouch for them
//!   (`RequestTimedOut`, `NotEnoughReplicasAfterAppend`, `NotLeaderOrFollower`).
//! * What is given up, by deadline or because a call is dropped, does not go on: the connection is closed, a half-written
//!   request stays incomplete, and no task is left behind. What can still happen is that a request that was written
//!   completely lies in the system's or the broker's buffers and is carried out later; that is why it is "maybe persisted".
//! * The caller's executor is never blocked: encoding and compressing happen on the engine's thread, which starts with the
//!   first call and ends when the producer is closed or dropped. A tokio runtime with time enabled is needed; tokens are
//!   asked for on it.
//!
//! # Order
//!
//! One batch of a partition is on its way at a time, as one request; the next begins when the last has been answered or
//! given up. So batches are written in the order of the calls, with one exception: a request that was given up as "maybe
//! persisted" may be carried out by a broker that was hung, after what was sent next. When the failed batch is sent again
//! before anything else, as the batcher does, that late one is a duplicate: every record is first seen in order.
//!
//! # Duplicates
//!
//! Brokers do not recognise what this client sends again. A batch can be in the log twice when a broker wrote it and the
//! answer was lost or was one of the three above: once for each such attempt. Those within a call are logged but not
//! reported when the batch is delivered in the end. `sequence_header` lets consumers drop them;
//! `reconcile` prevents those of one call after another.
//!
//! # Searching
//!
//! With `reconcile` ([`search`](kafka_batcher_core::Producer::search)) the log is read over the partition's connection, 1 MiB at
//! a time, from the offset that is known or the one that Kafka finds for the timestamp, up to the high watermark when it
//! began. A log that was truncated, or deleted up to behind that offset, is read from the timestamp on instead. A search
//! takes the right to read the topic (ACL: Read); without, it is denied. What it can't know it does not guess:
//!
//! | what | then |
//! | --- | --- |
//! | the end does not come in time; an open transaction hides it; the cluster can't be reached | [`Transient`](kafka_batcher_core::ErrorKind::Transient): the batcher tries again, up to ten times |
//! | between the beginning and the end there is a batch that is compressed with something this build lacks, a header whose value is null or whose name is no UTF-8, the mark at a transaction's end, or a timestamp out of range: rskafka reads none of it | [`Permanent`](kafka_batcher_core::ErrorKind::Permanent) |
//! | the right to read is missing | [`Denied`](kafka_batcher_core::ErrorKind::Denied) |
//!
//! After an error that lasts, the batcher sends unseen: at least once. A request that was given up and is still on its way
//! to the log when it is searched is not found either.
//!
//! # Throttling
//!
//! rskafka 0.6 takes an answer by which a broker delays a client for its quota for no answer, and would send the batch again
//! and again, although it was written. That is prevented here, but what Kafka said of the batch is lost with it: it is
//! "maybe persisted" when its time is up, and then sent again. For clusters with produce quotas use librdkafka.
//!
//! # Security
//!
//! TLS goes through rustls with ring, TLS 1.2 and 1.3. Without `ssl.ca_file` the system's certificates are trusted. Files
//! are read once, by [`RskafkaProducer::new`]. SASL works with and without TLS: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, and
//! OAUTHBEARER with the configured provider, which is asked for a token for every connection. A login is not renewed on
//! a connection that lasts; a broker that wants that (`connections.max.reauth.ms`) closes it, and the next one logs in
//! anew.
//!
//! A topic that is not listed does not exist, or must not be seen. To tell one from the other, a client that logs in asks to
//! create the topic with 0 partitions, which a broker refuses either way, with the reason; brokers may log that.
//!
//! # Cargo features
//!
//! | feature | what for | needs |
//! | --- | --- | --- |
//! | `gzip`, `snappy` (default) | compression | nothing |
//! | `lz4`, `zstd` | compression | a C compiler |
//! | `tls` | encrypted connections | a C compiler (for ring) |
//!
//! Settings that need a feature which is not enabled are refused by [`RskafkaProducer::new`].
//!
//! Logs go to `tracing`, target `kafka_batcher::rskafka`; rskafka's own have targets below `rskafka`.

mod attempt;
mod cluster;
mod code;
mod config;
mod contained;
mod engine;
mod error;
mod producer;
mod records;
mod sasl;
mod search;
mod session;
#[cfg(feature = "tls")]
mod tls;
mod trouble;

pub use error::SetupError;
pub use producer::RskafkaProducer;
