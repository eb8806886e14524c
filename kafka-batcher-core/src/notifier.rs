//! The seam to error reporting.

use std::fmt;

use crate::producer::ErrorKind;

/// Something an operator should know about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What happened.
    pub what: What,
    /// The topic, unless the whole client is concerned.
    pub topic: Option<String>,
    /// The partition, where there is one.
    pub partition: Option<u32>,
    /// How many events are concerned.
    pub events: u64,
    /// The error in words; never contains a secret.
    pub message: String,
}

impl Report {
    /// A report that concerns no topic; the fields can be set afterwards.
    #[must_use]
    pub fn new(what: What, message: impl Into<String>) -> Self {
        Self { what, topic: None, partition: None, events: 0, message: message.into() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some(topic) = &self.topic {
            write!(f, " on {topic}")?;
        }
        if let Some(partition) = self.partition {
            write!(f, "/{partition}")?;
        }
        if self.events > 0 {
            write!(f, " ({} events)", self.events)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What a [`Report`] is about, and with that what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum What {
    /// The client can't reach Kafka. It tries again with back-off.
    ConnectFailed(ErrorKind),
    /// The partition count of a topic could not be had. It is asked again; events are kept.
    PartitionsUnknown(ErrorKind),
    /// A batch was not delivered. It is stored and sent again.
    ProduceFailed(ErrorKind),
    /// Temporary storage refused a batch. It stays in memory and is tried again.
    StoreFailed,
    /// A stored batch could not be read back. It is tried again.
    RecoverFailed,
    /// Kafka's log could not be searched for a batch it may have. It is searched again, or the batch is sent again, and
    /// may be there twice; the message says which.
    ReconcileFailed(ErrorKind),
    /// A record was put to the dead letters.
    DeadLettered(ErrorKind),
    /// The dead-letter topic did not take a record. It goes to the fallback, and the topic is tried again later.
    DeadLetterTopicFailed(ErrorKind),
    /// A dead record could not be put away. It is tried again; its lane waits.
    DeadLetterFailed,
    /// Code that is not the batcher's own (a producer, storage, partitioner, flusher, notifier) panicked.
    Panicked,
    /// Events are gone: the process was told to end before they could be delivered or stored.
    Lost,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed(kind) => write!(f, "can't connect to Kafka ({kind})"),
            Self::PartitionsUnknown(kind) => write!(f, "partition count unknown ({kind})"),
            Self::ProduceFailed(kind) => write!(f, "produce failed ({kind})"),
            Self::StoreFailed => f.write_str("temporary storage refused a batch"),
            Self::RecoverFailed => f.write_str("temporary storage could not be read"),
            Self::ReconcileFailed(kind) => write!(f, "Kafka's log could not be searched ({kind})"),
            Self::DeadLettered(kind) => write!(f, "dead-lettered ({kind})"),
            Self::DeadLetterTopicFailed(kind) => write!(f, "the dead-letter topic failed ({kind})"),
            Self::DeadLetterFailed => f.write_str("a dead letter could not be put away"),
            Self::Panicked => f.write_str("panic contained"),
            Self::Lost => f.write_str("events lost"),
        }
    }
}

/// Tells somebody about errors.
///
/// Called from a thread of its own, one report at a time: it may block, it may panic, delivery goes
/// on. When reports come faster than it takes them, some are dropped and the drop is logged.
pub trait ErrorNotifier: Send + Sync {
    /// Passes a report on.
    fn report(&self, report: &Report);
}

/// Tells nobody. The driver's default logs instead.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNotifier;

impl ErrorNotifier for NoNotifier {
    fn report(&self, _report: &Report) {}
}

impl<F: Fn(&Report) + Send + Sync> ErrorNotifier for F {
    fn report(&self, report: &Report) {
        self(report);
    }
}
