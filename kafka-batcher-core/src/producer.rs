//! The seam to a Kafka client.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::batch::Batch;
use crate::config::{RequiredAcks, TopicConfig};
use crate::record::Record;
use crate::search::{Found, Search};
use crate::statistics::ClientStatistics;

/// A Kafka client: starts, tells partition counts, and sends batches.
///
/// One producer serves all topics of a batcher. Methods are called from many tasks at once. Each
/// takes the longest time it may take as wall time, and must have answered by then; the driver
/// gives up some seconds later on a producer that has not, and counts the outcome as unknown.
///
/// **Cancellation:** a dropped future must not leak; what it was sending may or may not be written.
#[async_trait]
pub trait Producer: Send + Sync + fmt::Debug {
    /// What this producer can do.
    fn capabilities(&self) -> Capabilities;

    /// Starts the client, or replaces a failed one, and checks that a broker answers.
    ///
    /// Called again after a [`ErrorKind::Fatal`] error. Batches in flight on the client that is
    /// replaced end with an error or are delivered; they are never left unanswered.
    ///
    /// # Errors
    /// Any kind; the driver backs off and calls again.
    async fn connect(&self, timeout: Duration) -> Result<(), ProduceError>;

    /// How many partitions the topic has now, asked of the cluster and not of a cache.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopic`] when the topic does not exist.
    async fn partition_count(&self, topic: &str, timeout: Duration) -> Result<NonZeroU32, ProduceError>;

    /// Creates the topic as its configuration says. A topic that exists already is success.
    ///
    /// Only called when `allow_topic_auto_creation` is on.
    ///
    /// # Errors
    /// Any kind.
    async fn create_topic(&self, topic: &TopicConfig, timeout: Duration) -> Result<(), ProduceError>;

    /// Sends one batch to one partition and waits for Kafka's answer.
    ///
    /// The records reach the log in the batch's order. The call ends within `timeout`.
    ///
    /// # Errors
    /// [`ProduceFailure`] says which records failed, why, and whether they may have been written all
    /// the same. Records it does not name were delivered.
    async fn produce(&self, request: &ProduceRequest, timeout: Duration)
    -> Result<Delivered, ProduceFailure>;

    /// Looks for records in the log of one partition, among all that consumers could read when the call began.
    ///
    /// Looks from [`Search::from_offset`] and [`Search::from_timestamp`] on (from whichever is later; Kafka finds the
    /// offset to a timestamp), up to the high watermark at the beginning of the call, uncommitted transactions included. May stop
    /// early when all values have been found. Only called if [`Capabilities::search`] says so. The call ends within `timeout`.
    ///
    /// # Errors
    /// Any kind; [`ErrorKind::UnknownTopic`] when there is no such topic or partition. Whoever can't look through all of it in time gives an error, never a part of it.
    async fn search(&self, search: &Search, timeout: Duration) -> Result<Found, ProduceError> {
        let _ = (search, timeout);
        Err(ProduceError::new(ErrorKind::Permanent, "this producer can't search Kafka's log"))
    }

    /// The client's own figures; `None` if it keeps none, or has none yet. Cheap: whoever looks at the batcher gets them.
    fn statistics(&self) -> Option<ClientStatistics> {
        None
    }

    /// Ends the client: everything in flight is answered, threads are stopped. What is asked of it from then on fails
    /// as [`ErrorKind::Fatal`], with nothing written.
    async fn close(&self, timeout: Duration);
}

/// What a [`Producer`] can do; decides what the batcher asks of it and which conformance cases run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// How many batches of one partition may be in flight at once without a failed one being
    /// overtaken by the next. 1 unless the producer numbers its own batches.
    pub window: u32,
    /// `required_acks` other than "all" are honoured.
    pub acks: bool,
    /// Retries inside the client leave no duplicates.
    pub idempotence: bool,
    /// Header names may repeat.
    pub repeated_headers: bool,
    /// Header values may be null.
    pub null_headers: bool,
    /// It can [search](Producer::search) Kafka's log.
    pub search: bool,
}

impl Default for Capabilities {
    /// The least a producer can do.
    fn default() -> Self {
        Self {
            window: 1,
            acks: false,
            idempotence: false,
            repeated_headers: false,
            null_headers: false,
            search: false,
        }
    }
}

/// One batch on its way to one partition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProduceRequest {
    /// Where to; the settings of the topic.
    pub topic: Arc<TopicConfig>,
    /// The partition, from 0.
    pub partition: u32,
    /// What to send. Cloning it is cheap; it may be held for as long as the client needs the bytes.
    pub batch: Batch,
}

impl ProduceRequest {
    /// A request to send `batch` to `partition` of `topic`.
    #[must_use]
    pub const fn new(topic: Arc<TopicConfig>, partition: u32, batch: Batch) -> Self {
        Self { topic, partition, batch }
    }
}

/// Kafka acknowledged every record of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// Offset of the batch's first record; the others follow without a gap. `None` when unknown:
    /// `required_acks = 0`, or records that were not written next to each other.
    pub base_offset: Option<i64>,
}

impl Delivered {
    /// Delivered, the first record at this offset.
    #[must_use]
    pub const fn at(base_offset: Option<i64>) -> Self {
        Self { base_offset }
    }
}

/// What kind of failure it was; decides what the batcher does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// May work later: broker down, leader moving, timeout. The batch is stored and replayed.
    Transient,
    /// Kafka understood the records and will never take them. The record at fault is dead-lettered.
    Permanent,
    /// Authentication or authorisation failed. The batch is stored and the lane parks.
    Denied,
    /// The batch is larger than the broker or the topic allows. It is cut in halves.
    TooLarge,
    /// The topic, or the partition, does not exist. The batch is stored and the lane parks.
    UnknownTopic,
    /// The client itself is no longer usable and has to be started anew. The batch is stored.
    Fatal,
    /// It waited in storage for longer than `max_age`, and is dead-lettered. Never from a [`Producer`].
    Expired,
}

impl ErrorKind {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::Transient,
        Self::Permanent,
        Self::Denied,
        Self::TooLarge,
        Self::UnknownTopic,
        Self::Fatal,
        Self::Expired,
    ];

    /// A word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Denied => "denied",
            Self::TooLarge => "too_large",
            Self::UnknownTopic => "unknown_topic",
            Self::Fatal => "fatal",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a client was not let in. What to do about it differs for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denial {
    /// The broker knows no such user, the password is wrong, or the token is not accepted.
    Credentials,
    /// The token provider gave no token.
    NoToken,
    /// The broker does not offer this SASL mechanism.
    Mechanism,
    /// The broker's certificate has expired, or is not valid yet.
    CertificateExpired,
    /// Nobody the client trusts has signed the broker's certificate.
    UnknownAuthority,
    /// The broker's certificate is for another host name.
    HostName,
    /// The broker wants a certificate of the client, or does not accept the one it has.
    ClientCertificate,
    /// The TLS handshake failed for another reason.
    Handshake,
    /// The client is known, but not allowed to do this: an ACL is missing.
    NotAuthorized,
}

impl Denial {
    /// A word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::NoToken => "no_token",
            Self::Mechanism => "mechanism",
            Self::CertificateExpired => "certificate_expired",
            Self::UnknownAuthority => "unknown_authority",
            Self::HostName => "host_name",
            Self::ClientCertificate => "client_certificate",
            Self::Handshake => "handshake",
            Self::NotAuthorized => "not_authorized",
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether records that failed may be in Kafka's log all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum Persistence {
    /// Certainly not written: sending them again leaves no duplicate.
    NotPersisted,
    /// Unknown: the answer got lost.
    MaybePersisted,
}

/// An error of a [`Producer`]: kind, text and cause. Never contains a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ProduceError {
    kind: ErrorKind,
    denial: Option<Denial>,
    message: String,
    #[source]
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl ProduceError {
    /// An error of this kind. `message` says what was tried and what came back.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, denial: None, message: message.into(), source: None }
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// An error of kind [`ErrorKind::Denied`], for this reason.
    #[must_use]
    pub fn denied(denial: Denial, message: impl Into<String>) -> Self {
        Self { denial: Some(denial), ..Self::new(ErrorKind::Denied, message) }
    }

    /// What kind of failure it was.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Why the client was not let in, where that is known; only with [`ErrorKind::Denied`].
    #[must_use]
    pub const fn denial(&self) -> Option<Denial> {
        self.denial
    }
}

/// A batch that was not delivered, or not all of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
#[non_exhaustive]
pub struct ProduceFailure {
    /// Why. If records failed for different reasons, the reason of the first.
    #[source]
    pub error: ProduceError,
    /// Whether the failed records may be in the log all the same.
    pub persistence: Persistence,
    /// Which records failed.
    pub failed: Failed,
}

/// Which records of a batch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "all or some")]
pub enum Failed {
    /// Every one.
    All,
    /// Those with these indexes, ascending; the others were delivered.
    Some(Vec<u32>),
}

impl ProduceFailure {
    /// The whole batch failed.
    #[must_use]
    pub const fn whole(error: ProduceError, persistence: Persistence) -> Self {
        Self { error, persistence, failed: Failed::All }
    }

    /// Only the records with these indexes failed; they are sorted here.
    #[must_use]
    pub fn some(error: ProduceError, persistence: Persistence, mut failed: Vec<u32>) -> Self {
        failed.sort_unstable();
        failed.dedup();
        Self { error, persistence, failed: Failed::Some(failed) }
    }
}

/// A Kafka in memory: any topic, the same number of partitions each, nothing ever fails.
///
/// The reference implementation of [`Producer`]: for tests of an application, and to see what a batcher
/// would send.
#[derive(Debug)]
pub struct MemoryProducer {
    partitions: NonZeroU32,
    logs: Mutex<Logs>,
    closed: AtomicBool,
}

/// What is in each partition of each topic.
type Logs = BTreeMap<(Arc<str>, u32), Vec<Record>>;

impl MemoryProducer {
    /// A producer whose topics have so many partitions.
    #[must_use]
    pub fn new(partitions: NonZeroU32) -> Self {
        Self { partitions, logs: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// What was sent to a partition, in order; a record's place is its offset.
    #[must_use]
    pub fn records(&self, topic: &str, partition: u32) -> Vec<Record> {
        self.logs().get(&(topic.into(), partition)).cloned().unwrap_or_default()
    }

    fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<(), ProduceError> {
        if self.closed.load(Relaxed) {
            return Err(ProduceError::new(ErrorKind::Fatal, "the producer is closed"));
        }
        Ok(())
    }

    fn exists(&self, partition: u32) -> Result<(), ProduceError> {
        if partition >= self.partitions.get() {
            let message = format!("partition {partition} of {} partitions", self.partitions);
            return Err(ProduceError::new(ErrorKind::UnknownTopic, message));
        }
        Ok(())
    }
}

#[async_trait]
impl Producer for MemoryProducer {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            window: 1,
            acks: true,
            idempotence: true,
            repeated_headers: true,
            null_headers: true,
            search: true,
        }
    }

    async fn connect(&self, _timeout: Duration) -> Result<(), ProduceError> {
        self.open()
    }

    async fn partition_count(&self, _topic: &str, _timeout: Duration) -> Result<NonZeroU32, ProduceError> {
        self.open().map(|()| self.partitions)
    }

    async fn create_topic(&self, _topic: &TopicConfig, _timeout: Duration) -> Result<(), ProduceError> {
        self.open()
    }

    async fn produce(
        &self,
        request: &ProduceRequest,
        _timeout: Duration,
    ) -> Result<Delivered, ProduceFailure> {
        self.open().map_err(|error| ProduceFailure::whole(error, Persistence::NotPersisted))?;
        self.exists(request.partition)
            .map_err(|error| ProduceFailure::whole(error, Persistence::NotPersisted))?;
        let mut logs = self.logs();
        let log = logs.entry((Arc::clone(&request.topic.topic_name), request.partition)).or_default();
        let told = request.topic.required_acks != RequiredAcks::None;
        let base_offset = i64::try_from(log.len()).ok().filter(|_| told);
        log.extend(request.batch.records().map(|record| record.to_owned()));
        Ok(Delivered::at(base_offset))
    }

    async fn search(&self, search: &Search, _timeout: Duration) -> Result<Found, ProduceError> {
        self.open()?;
        self.exists(search.partition)?;
        let logs = self.logs();
        let log = logs.get(&(Arc::clone(&search.topic), search.partition));
        Ok(search.among((0..).zip(log.into_iter().flatten())))
    }

    async fn close(&self, _timeout: Duration) {
        self.closed.store(true, Relaxed);
    }
}
