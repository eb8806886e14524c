//! Errors of the driver.

use std::fmt;

use kafka_batcher_core::config::ConfigError;
use kafka_batcher_core::lane::PushError;
use kafka_batcher_core::partition::RouteError;
use kafka_batcher_core::{EventError, StorageError};

/// Why a batcher could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No configuration was given.
    #[error("no configuration was given: call `Builder::config`")]
    NoConfig,
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No producer was given, and no backend feature provides a default.
    #[error(
        "no producer was given and the features `rdkafka` and `rskafka` are off: call `Builder::producer`"
    )]
    NoProducer,
    /// The backend refused the configuration.
    #[error("the backend refused the configuration: {0}")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A topic has `durability = "journal"`, and the storage does not survive the process.
    #[error(
        "topic `{topic}` has durability = \"journal\": give `Builder::storage` one that survives the process"
    )]
    JournalNeedsStorage {
        /// Which topic.
        topic: String,
    },
    /// A topic has `reconcile = true`, and the producer can't search Kafka's log.
    #[error("topic `{topic}` has reconcile = true: this producer can't search Kafka's log")]
    ReconcileNeedsSearch {
        /// Which topic.
        topic: String,
    },
    /// Not called from within a tokio runtime.
    #[error("a batcher has to be built within a tokio runtime")]
    NoRuntime,
    /// The operating system gave no thread for the error notifier.
    #[error("no thread for the error notifier: {0}")]
    Thread(#[source] std::io::Error),
}

/// An event that was not accepted: why, and the event itself.
pub struct AddError<E> {
    /// The event, handed back untouched.
    pub event: E,
    /// Why it was not accepted.
    pub kind: AddErrorKind,
}

impl<E> AddError<E> {
    /// Why the event was not accepted.
    #[must_use]
    pub const fn kind(&self) -> &AddErrorKind {
        &self.kind
    }
}

impl<E> fmt::Debug for AddError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<E> fmt::Display for AddError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<E> std::error::Error for AddError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.kind)
    }
}

/// Why an event was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddErrorKind {
    /// Memory is full (`max_memory_bytes`, `max_memory_events`). Only from `try_add`: `add` waits.
    #[error("memory is full")]
    Full,
    /// The event does not fit even an empty batch.
    #[error("the event takes a batch of {size} bytes, max_batch_bytesize is {limit}")]
    TooLarge {
        /// Size of a batch with nothing but this event.
        size: usize,
        /// `max_batch_bytesize`.
        limit: usize,
    },
    /// The event can't be encoded.
    #[error(transparent)]
    Encode(#[from] EventError),
    /// The partitioner chose a partition that does not exist.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The partitioner, the flusher or the event's own encoding panicked, with this message.
    #[error("code of the application panicked: {0}")]
    Panicked(String),
    /// The partitioner needs the typed event and the partition count is not known yet. Only from `try_add`: `add` waits.
    #[error("the partition count is not known yet, and the partitioner needs it")]
    NotReady,
    /// Kafka is unavailable and the topic is set to refuse events then (`on_unavailable = "reject"`).
    #[error("Kafka is unavailable")]
    Unavailable,
    /// Temporary storage is full and the topic is set to refuse events then (`on_storage_full = "reject"`).
    #[error("temporary storage is full: {used} of {quota} bytes are used")]
    StorageFull {
        /// Bytes used.
        used: u64,
        /// Bytes allowed.
        quota: u64,
    },
    /// The topic has a journal, and being written to it takes time (`durability = "journal"`). Only from `try_add`: `add` waits.
    #[error("the event has to be written to the journal, which `try_add` can't wait for")]
    NeedsJournal,
    /// The journal refused the event when the batcher was ending. If the batcher was dropped without a shutdown, the event
    /// may have been written all the same.
    #[error("the event is not in the journal: {0}")]
    Journal(#[source] StorageError),
    /// The batcher was shut down or dropped.
    #[error("the batcher is closed")]
    Closed,
}

impl AddErrorKind {
    /// A word for logs and metric labels.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Full => "memory_full",
            Self::TooLarge { .. } => "too_large",
            Self::Encode(_) => "encode",
            Self::Route(_) => "route",
            Self::Panicked(_) => "panicked",
            Self::NotReady => "not_ready",
            Self::Unavailable => "unavailable",
            Self::StorageFull { .. } => "storage_full",
            Self::NeedsJournal => "needs_journal",
            Self::Journal(_) => "journal",
            Self::Closed => "closed",
        }
    }
}

impl From<PushError> for AddErrorKind {
    fn from(error: PushError) -> Self {
        match error {
            PushError::TooLarge { size, limit } => Self::TooLarge { size, limit },
            PushError::StorageFull { used, quota } => Self::StorageFull { used, quota },
            _ => Self::Unavailable,
        }
    }
}

/// Some events of a list were not accepted; all others were.
#[non_exhaustive]
pub struct AddEventsError<E> {
    /// How many were accepted.
    pub accepted: usize,
    /// The others: their place in the list, the event itself, and why.
    pub refused: Vec<(usize, AddError<E>)>,
}

impl<E> fmt::Debug for AddEventsError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddEventsError")
            .field("accepted", &self.accepted)
            .field("refused", &self.refused)
            .finish()
    }
}

impl<E> fmt::Display for AddEventsError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} events were not accepted",
            self.refused.len(),
            self.refused.len() + self.accepted
        )?;
        if let Some((place, error)) = self.refused.first() {
            write!(f, ", the first at place {place}: {error}")?;
        }
        Ok(())
    }
}

impl<E> std::error::Error for AddEventsError<E> {}
