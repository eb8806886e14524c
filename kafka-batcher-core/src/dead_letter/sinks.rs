//! Which sink a dead record goes to.

use crate::backoff::Backoff;
use crate::config::Timing;
use crate::producer::ErrorKind;
use crate::time::Moment;

/// Where a dead record is put next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver must know every sink")]
pub enum Sink {
    /// Sent to the `dead_letter_topic`.
    Topic,
    /// Put to the [`DeadLetter`](super::DeadLetter).
    Fallback,
}

/// Decides which sink a dead record goes to: the state machine of a topic's dead letters.
///
/// The driver asks [`next`](Self::next) for each record. When the dead-letter topic does not take one, that record goes
/// to the fallback at once, and the topic is left alone for a while if others would fare no better.
#[derive(Debug)]
pub struct Sinks {
    has_topic: bool,
    /// The topic is left alone until then.
    paused: Option<Moment>,
    /// It did not take the last record.
    refused: bool,
    backoff: Backoff,
}

impl Sinks {
    /// The sinks of a topic that has a dead-letter topic, or has none. `seed` is for jitter.
    #[must_use]
    pub const fn new(has_topic: bool, timing: Timing, seed: u64) -> Self {
        let backoff = Backoff::new(timing.retry_backoff, timing.recheck_interval, seed);
        Self { has_topic, paused: None, refused: false, backoff }
    }

    /// Where the next dead record goes.
    #[must_use]
    pub fn next(&self, now: Moment) -> Sink {
        if self.has_topic && self.paused.is_none_or(|until| now >= until) {
            Sink::Topic
        } else {
            Sink::Fallback
        }
    }

    /// The topic has taken a record; says whether it had not taken the one before.
    pub const fn taken(&mut self) -> bool {
        self.paused = None;
        std::mem::replace(&mut self.refused, false)
    }

    /// The topic has not taken a record, which goes to the fallback now.
    ///
    /// If it was the record's own fault, the next one may fare better. Otherwise each attempt may take as long as
    /// `produce_timeout`, and lanes wait for it: the topic is tried again after `recheck_interval`.
    pub fn refused(&mut self, kind: ErrorKind, now: Moment) {
        self.refused = true;
        self.paused = match kind {
            ErrorKind::Permanent | ErrorKind::TooLarge | ErrorKind::Expired => None,
            ErrorKind::Transient | ErrorKind::Denied | ErrorKind::UnknownTopic | ErrorKind::Fatal => {
                Some(self.backoff.longest(now))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;

    fn sinks(has_topic: bool) -> Sinks {
        Sinks::new(has_topic, KafkaConfig::new("k:1").timing(), 1)
    }

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    #[test]
    fn without_a_topic_everything_goes_to_the_fallback() {
        assert_eq!(sinks(false).next(at(0)), Sink::Fallback);
    }

    #[test]
    fn a_topic_that_takes_nothing_is_left_alone_for_a_while() {
        use ErrorKind::{Denied, Fatal, Transient, UnknownTopic};
        for kind in [Transient, Denied, UnknownTopic, Fatal] {
            let mut sinks = sinks(true);
            assert_eq!(sinks.next(at(0)), Sink::Topic);
            sinks.refused(kind, at(0));
            assert_eq!(sinks.next(at(2000)), Sink::Fallback, "{kind}");
            assert_eq!(sinks.next(at(5000)), Sink::Topic, "{kind}: as late as recheck_interval");
        }
    }

    #[test]
    fn a_record_that_the_topic_can_never_take_does_not_keep_the_next_from_it() {
        for kind in [ErrorKind::TooLarge, ErrorKind::Permanent] {
            let mut sinks = sinks(true);
            sinks.refused(kind, at(0));
            assert_eq!(sinks.next(at(0)), Sink::Topic, "{kind}");
        }
    }

    #[test]
    fn an_answer_that_comes_late_opens_the_topic_again() {
        let mut sinks = sinks(true);
        sinks.refused(ErrorKind::Transient, at(0));
        sinks.taken();
        assert_eq!(sinks.next(at(1)), Sink::Topic);
    }
}
