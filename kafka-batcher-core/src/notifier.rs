//! The seam to error reporting.
//!
//! A [`Report`] says what happened, to how many events of which topic and partition, and what happens to them
//! [next](Next). A trouble that lasts is reported with every attempt, until a report says that it is
//! [over](What::Recovered); [`Digest`] makes few reports of many.

mod digest;

use std::fmt;
use std::time::Duration;

pub use digest::Digest;

use crate::producer::ErrorKind;

/// Something an operator should know about.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// What happens to them now.
    pub next: Next,
    /// The error in words; never contains a secret.
    pub message: String,
    /// The report stands for many: what they have in common is in the other fields, what they add up to is here.
    pub summary: Option<Summary>,
}

impl Report {
    /// A report that concerns no topic; the fields can be set afterwards.
    #[must_use]
    pub fn new(what: What, message: impl Into<String>) -> Self {
        let (topic, partition, events, next) = (None, None, 0, what.next());
        Self { what, topic, partition, events, next, message: message.into(), summary: None }
    }

    /// Of which kind the error is; `None` of what has no kind, as storage's errors.
    #[must_use]
    pub const fn kind(&self) -> Option<ErrorKind> {
        self.what.kind()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        match (&self.topic, &self.summary) {
            (Some(topic), _) => write!(f, " on {topic}")?,
            (None, Some(summary)) if summary.topics > 0 => write!(f, " on {} topics", summary.topics)?,
            _ => {}
        }
        if let Some(partition) = self.partition {
            write!(f, "/{partition}")?;
        }
        match &self.summary {
            Some(summary) => summary.show(f, self)?,
            None if self.events > 0 => write!(f, " ({})", Count(self.events, "event"))?,
            None => {}
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match self.next {
            Next::GoesOn => Ok(()),
            next => write!(f, "; {next}"),
        }
    }
}

/// What a [`Report`] that stands for many adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// How many reports it stands for.
    pub times: u64,
    /// How long it took: the time since the last report of the trouble was passed on; or, when it is
    /// [over](What::Recovered), how long the trouble lasted.
    pub period: Duration,
    /// How many partitions are concerned.
    pub partitions: u32,
    /// How many topics are concerned, if the report names none.
    pub topics: u32,
}

impl Summary {
    /// `self` is a summary of `report`.
    fn show(&self, f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
        if let What::Recovered(_) = report.what {
            return write!(f, " after {} ({})", Time(self.period), Count(self.times, "report"));
        }
        write!(f, ", {} in {}", Count(self.times, "time"), Time(self.period))?;
        if report.events > 0 {
            write!(f, " ({}", Count(report.events, "event"))?;
            if self.partitions > 1 {
                write!(f, " of {}", Count(self.partitions.into(), "partition"))?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// A number, grouped, and what it counts.
struct Count(u64, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        write!(f, " {}{}", self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A time as people say it: the two largest units of it.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 => write!(f, "{} ms", self.0.as_millis()),
            1..=119 => write!(f, "{seconds} s"),
            120..=7199 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            _ => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }
}

/// What a [`Report`] is about.
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
    /// A delivered batch could not be removed from storage. The next removal covers it; until then it would be sent
    /// again by the next process.
    AcknowledgeFailed,
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
    /// A trouble that was reported is over: for the partition, the whole topic or the client the report names.
    Recovered(Trouble),
}

impl What {
    /// What a trouble is called, whatever its kind.
    #[must_use]
    pub const fn trouble(self) -> Trouble {
        match self {
            Self::ConnectFailed(_) => Trouble::Connect,
            Self::PartitionsUnknown(_) => Trouble::Partitions,
            Self::ProduceFailed(_) => Trouble::Produce,
            Self::StoreFailed => Trouble::Store,
            Self::RecoverFailed => Trouble::Recover,
            Self::AcknowledgeFailed => Trouble::Acknowledge,
            Self::ReconcileFailed(_) => Trouble::Reconcile,
            Self::DeadLettered(_) => Trouble::DeadLettered,
            Self::DeadLetterTopicFailed(_) => Trouble::DeadLetterTopic,
            Self::DeadLetterFailed => Trouble::DeadLetter,
            Self::Panicked => Trouble::Panic,
            Self::Lost => Trouble::Loss,
            Self::Recovered(trouble) => trouble,
        }
    }

    /// Of which kind the error is.
    #[must_use]
    pub const fn kind(self) -> Option<ErrorKind> {
        match self {
            Self::ConnectFailed(kind)
            | Self::PartitionsUnknown(kind)
            | Self::ProduceFailed(kind)
            | Self::ReconcileFailed(kind)
            | Self::DeadLettered(kind)
            | Self::DeadLetterTopicFailed(kind) => Some(kind),
            _ => None,
        }
    }

    /// What happens next, as far as that follows from what happened.
    const fn next(self) -> Next {
        match self {
            Self::ConnectFailed(_) | Self::PartitionsUnknown(_) => Next::Kept,
            Self::ProduceFailed(_) | Self::ReconcileFailed(_) => Next::SentAgain,
            Self::StoreFailed | Self::RecoverFailed | Self::AcknowledgeFailed | Self::DeadLetterFailed => {
                Next::TriedAgain
            }
            Self::DeadLettered(_) => Next::DeadLettered,
            Self::DeadLetterTopicFailed(_) => Next::ToFallback,
            Self::Lost => Next::Lost,
            Self::Panicked | Self::Recovered(_) => Next::GoesOn,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed(kind) => write!(f, "can't connect to Kafka ({kind})"),
            Self::PartitionsUnknown(kind) => write!(f, "partition count unknown ({kind})"),
            Self::ProduceFailed(kind) => write!(f, "produce failed ({kind})"),
            Self::StoreFailed => f.write_str("temporary storage refused a batch"),
            Self::RecoverFailed => f.write_str("temporary storage could not be read"),
            Self::AcknowledgeFailed => f.write_str("a delivered batch could not be removed from storage"),
            Self::ReconcileFailed(kind) => write!(f, "Kafka's log could not be searched ({kind})"),
            Self::DeadLettered(kind) => write!(f, "dead-lettered ({kind})"),
            Self::DeadLetterTopicFailed(kind) => write!(f, "the dead-letter topic failed ({kind})"),
            Self::DeadLetterFailed => f.write_str("a dead letter could not be put away"),
            Self::Panicked => f.write_str("panic contained"),
            Self::Lost => f.write_str("events lost"),
            Self::Recovered(trouble) => f.write_str(match trouble {
                Trouble::Connect => "connected to Kafka again",
                Trouble::Partitions => "partition count known",
                Trouble::Produce => "Kafka takes events again",
                Trouble::Store => "temporary storage takes batches again",
                Trouble::Recover => "temporary storage can be read again",
                Trouble::DeadLetterTopic => "the dead-letter topic takes records again",
                Trouble::DeadLetter => "dead letters are put away again",
                Trouble::Acknowledge
                | Trouble::Reconcile
                | Trouble::DeadLettered
                | Trouble::Panic
                | Trouble::Loss => "all is well",
            }),
        }
    }
}

/// What a report is about, whatever the kind of its error: what it has in common with the one that says it is
/// [over](What::Recovered).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Trouble {
    /// [`What::ConnectFailed`].
    Connect,
    /// [`What::PartitionsUnknown`].
    Partitions,
    /// [`What::ProduceFailed`].
    Produce,
    /// [`What::StoreFailed`].
    Store,
    /// [`What::RecoverFailed`].
    Recover,
    /// [`What::AcknowledgeFailed`]; no report says when it is over.
    Acknowledge,
    /// [`What::ReconcileFailed`]; a search is given up after some attempts, and no report says that it is over.
    Reconcile,
    /// [`What::DeadLettered`]; each is one of its own.
    DeadLettered,
    /// [`What::DeadLetterTopicFailed`].
    DeadLetterTopic,
    /// [`What::DeadLetterFailed`].
    DeadLetter,
    /// [`What::Panicked`]; each is one of its own.
    Panic,
    /// [`What::Lost`]; each is one of its own.
    Loss,
}

impl Trouble {
    /// All there are, in their order.
    pub const ALL: [Self; 12] = [
        Self::Connect,
        Self::Partitions,
        Self::Produce,
        Self::Store,
        Self::Recover,
        Self::Acknowledge,
        Self::Reconcile,
        Self::DeadLettered,
        Self::DeadLetterTopic,
        Self::DeadLetter,
        Self::Panic,
        Self::Loss,
    ];

    /// Whether it lasts until a report says that it is over.
    #[must_use]
    pub const fn lasts(self) -> bool {
        !matches!(self, Self::Acknowledge | Self::Reconcile | Self::DeadLettered | Self::Panic | Self::Loss)
    }

    /// A word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Partitions => "partitions",
            Self::Produce => "produce",
            Self::Store => "store",
            Self::Recover => "recover",
            Self::Acknowledge => "acknowledge",
            Self::Reconcile => "reconcile",
            Self::DeadLettered => "dead_lettered",
            Self::DeadLetterTopic => "dead_letter_topic",
            Self::DeadLetter => "dead_letter",
            Self::Panic => "panic",
            Self::Loss => "loss",
        }
    }
}

/// What happens to the events of a [`Report`] now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Next {
    /// No event is concerned; the work goes on.
    GoesOn,
    /// Events are kept, in storage or in memory, until it works; it is tried again with back-off.
    Kept,
    /// They go to temporary storage, unless they are there or it refuses them, and are sent again with back-off.
    SentAgain,
    /// They stay where they are; the call is made again with back-off.
    TriedAgain,
    /// They stay in temporary storage, and somebody has to look after them.
    LeftInStorage,
    /// They go to the sink behind the dead-letter topic.
    ToFallback,
    /// They are among the dead letters and not sent again.
    DeadLettered,
    /// They were handed back to whoever added them.
    HandedBack,
    /// They are gone.
    Lost,
}

impl Next {
    /// A word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GoesOn => "goes_on",
            Self::Kept => "kept",
            Self::SentAgain => "sent_again",
            Self::TriedAgain => "tried_again",
            Self::LeftInStorage => "left_in_storage",
            Self::ToFallback => "to_fallback",
            Self::DeadLettered => "dead_lettered",
            Self::HandedBack => "handed_back",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GoesOn => "the work goes on",
            Self::Kept => "events are kept, and it is tried again",
            Self::SentAgain => "the events are kept and sent again",
            Self::TriedAgain => "they stay where they are, and it is tried again",
            Self::LeftInStorage => "they stay in temporary storage",
            Self::ToFallback => "it goes to the fallback for dead letters",
            Self::DeadLettered => "it is among the dead letters and not sent again",
            Self::HandedBack => "it was handed back",
            Self::Lost => "they are gone",
        })
    }
}

/// Tells somebody about errors.
///
/// Called from a thread of its own, one report at a time: it may block, it may panic, delivery goes
/// on. When reports come faster than it takes them, some are dropped and the drop is logged.
///
/// In an outage each attempt is reported: thousands an hour. A notifier that passes them on to people is best put
/// behind a [`Digest`], as `kafka_batcher::RateLimited` does.
pub trait ErrorNotifier: Send + Sync {
    /// Passes a report on.
    fn report(&self, report: &Report);

    /// For what is to be done although nothing is reported, as summing up. Called from the same thread, after each
    /// report and when the time is over that it gave last; gives how long it can wait, `None` for until the next
    /// report.
    fn tick(&self) -> Option<Duration> {
        None
    }

    /// A batcher has ended, and the process may end next: for whoever passes reports on later, or by another thread, to
    /// do that now, and to wait for it, but not longer than this. Called from the same thread. Other reports may follow.
    fn catch_up(&self, _timeout: Duration) {}
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

impl ErrorNotifier for std::sync::Arc<dyn ErrorNotifier> {
    fn report(&self, report: &Report) {
        (**self).report(report);
    }

    fn tick(&self) -> Option<Duration> {
        (**self).tick()
    }

    fn catch_up(&self, timeout: Duration) {
        (**self).catch_up(timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flights(what: What) -> Report {
        let mut report = Report::new(what, "broker down");
        report.topic = Some("flights".to_owned());
        (report.partition, report.events) = (Some(3), 1500);
        report
    }

    #[test]
    fn all_troubles_are_there_each_at_its_place() {
        let places = Trouble::ALL.map(|trouble| trouble as usize);
        assert!(places.into_iter().eq(0..=Trouble::Loss as usize), "{places:?}");
    }

    #[test]
    fn a_report_says_what_happens_next() {
        let report = flights(What::ProduceFailed(ErrorKind::Transient));
        assert_eq!((report.kind(), report.next), (Some(ErrorKind::Transient), Next::SentAgain));
        assert_eq!(
            report.to_string(),
            "produce failed (transient) on flights/3 (1,500 events): broker down; the events are kept and sent again"
        );
        assert_eq!(Report::new(What::Panicked, "oh").to_string(), "panic contained: oh");
        assert_eq!(flights(What::Lost).kind(), None);
    }

    #[test]
    fn a_summary_is_told_in_numbers_that_can_be_read() {
        let mut report = flights(What::ProduceFailed(ErrorKind::Transient));
        report.partition = None;
        let summary = Summary { times: 1234, period: Duration::from_secs(60), partitions: 12, topics: 0 };
        report.summary = Some(summary);
        assert_eq!(
            report.to_string(),
            "produce failed (transient) on flights, 1,234 times in 60 s (1,500 events of 12 partitions): broker down; \
             the events are kept and sent again"
        );
        (report.topic, report.summary) = (None, Some(Summary { topics: 990, ..summary }));
        assert!(
            report.to_string().starts_with("produce failed (transient) on 990 topics, 1,234 times in 60 s")
        );
        let mut over = Report::new(What::Recovered(Trouble::Connect), "");
        over.summary = Some(Summary { times: 1, period: Duration::from_secs(312), partitions: 0, topics: 0 });
        assert_eq!(over.to_string(), "connected to Kafka again after 5 min 12 s (1 report)");
    }

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        let told = |ms| Time(Duration::from_millis(ms)).to_string();
        assert_eq!(
            [999, 119_000, 120_000, 7_199_999, 7_200_000, 90_061_000].map(told),
            ["999 ms", "119 s", "2 min 0 s", "119 min 59 s", "2 h 0 min", "25 h 1 min"]
        );
    }
}
