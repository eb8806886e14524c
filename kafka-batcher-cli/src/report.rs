//! How a run ended: the final report and the exit code.

use std::fmt;
use std::time::Duration;

use kafka_batcher::ShutdownReport;

use crate::format::{bytes, count, counted, rate, seconds};
use crate::signals::Signal;

/// Exit code: everything is where it should be.
pub(crate) const OK: u8 = 0;
/// Exit code: something is not in Kafka that should be.
pub(crate) const NOT_DELIVERED: u8 = 1;
/// Exit code: options, configuration or input can't be used.
pub(crate) const UNUSABLE: u8 = 2;
/// Exit code: part of the input was no events.
pub(crate) const BAD_INPUT: u8 = 3;
/// Exit code: no Kafka, or no topic.
pub(crate) const NO_KAFKA: u8 = 4;

/// Why reading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything was read.
    OfInput,
    /// The program was asked to stop.
    Signal(Signal),
    /// A line was no event, and the program was told to stop at such.
    AtBadLine,
    /// Reading failed.
    Failed(String),
}

/// What was read, and what became of it line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Lines read.
    pub(crate) lines: u64,
    /// Lines that the batcher accepted as events.
    pub(crate) events: u64,
    /// Lines that are no events.
    pub(crate) bad: u64,
    /// Empty lines.
    pub(crate) blank: u64,
    /// Events without a key because the separator did not occur.
    pub(crate) unseparated: u64,
    /// Lines that were read and not accepted any more when the time was up.
    pub(crate) too_late: u64,
    /// Bytes of a last line that had not ended when reading was stopped.
    pub(crate) unfinished: u64,
}

/// Where the accepted events are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) delivered: u64,
    /// Durably.
    pub(crate) stored: u64,
    pub(crate) in_memory: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) lost: u64,
}

impl From<&ShutdownReport> for Fate {
    fn from(report: &ShutdownReport) -> Self {
        Self {
            delivered: report.delivered,
            stored: report.stored,
            in_memory: report.in_memory,
            dead_lettered: report.dead_lettered,
            lost: report.lost,
        }
    }
}

impl Fate {
    const fn sum(&self) -> u64 {
        self.delivered + self.stored + self.in_memory + self.dead_lettered + self.lost
    }
}

/// A finished run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) topic: String,
    pub(crate) input: String,
    /// The input is a file: stopped before its end, part of it is missing.
    pub(crate) is_file: bool,
    pub(crate) taken: Taken,
    pub(crate) fate: Fate,
    /// The spool, where there is one.
    pub(crate) spool: Option<Spool>,
    pub(crate) end: End,
    pub(crate) elapsed: Duration,
}

/// What a spool brought into the run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spool {
    pub(crate) folder: String,
    /// Events of the topic that an earlier run left in it.
    pub(crate) found: u64,
    /// Events and dead letters that an earlier run left in it, and that are gone.
    pub(crate) damaged: u64,
}

impl Outcome {
    /// Events of an earlier run.
    fn found(&self) -> u64 {
        self.spool.as_ref().map_or(0, |spool| spool.found)
    }

    fn damaged(&self) -> u64 {
        self.spool.as_ref().map_or(0, |spool| spool.damaged)
    }

    /// Accepted events that are not accounted for.
    pub(crate) fn missing(&self) -> u64 {
        (self.taken.events + self.found()).saturating_sub(self.fate.sum())
    }

    pub(crate) fn exit_code(&self) -> u8 {
        let Fate { in_memory, dead_lettered, lost, .. } = self.fate;
        if in_memory + dead_lettered + lost + self.taken.too_late + self.missing() + self.damaged() > 0 {
            return NOT_DELIVERED;
        }
        match self.end {
            End::AtBadLine | End::Failed(_) => BAD_INPUT,
            _ if self.taken.bad > 0 => BAD_INPUT,
            End::Signal(signal) if self.is_file => signal.exit_code(),
            End::Signal(_) | End::OfInput => OK,
        }
    }

    /// What is wrong, or was out of the ordinary; empty if nothing was.
    fn remarks(&self) -> Vec<String> {
        let Self { taken, fate, .. } = self;
        let mut remarks = Vec::new();
        let mut say = |number: u64, text: &str| {
            if number > 0 {
                remarks.push(format!("{} {text}", count(number)));
            }
        };
        say(fate.lost, "lost");
        say(fate.in_memory, "only in memory when the time was up, and gone now");
        match &self.spool {
            Some(Spool { folder, .. }) => {
                let look = format!("look at them with `kafka-batcher spool peek --dead {folder}`");
                say(
                    fate.dead_lettered,
                    &format!("refused by Kafka or too old, and kept in the spool; {look}"),
                );
                let send =
                    format!("`kafka-batcher spool replay {folder}`, or the next run with it, sends them");
                say(fate.stored, &format!("stored in {folder}; {send}"));
                say(self.damaged(), "left in the spool by an earlier run, and gone: its files are damaged");
            }
            None => say(fate.dead_lettered, "refused by Kafka or too old, and gone now"),
        }
        say(self.missing(), "unaccounted for; this is a bug of kafka-batcher");
        say(taken.too_late, "read from the input, and not sent when the time was up");
        say(taken.unseparated, "lines without the key separator, sent without a key");
        let after = || format!("after line {} of {}", count(taken.lines), self.input);
        match &self.end {
            End::OfInput => {}
            End::Signal(signal) if self.is_file => {
                remarks.push(format!("stopped by {signal} {}; what follows was not sent", after()));
            }
            End::Signal(signal) => {
                let unfinished = match taken.unfinished {
                    0 => String::new(),
                    n => format!("; {} of an unfinished line were not sent", counted(n, "byte")),
                };
                remarks.push(format!("stopped by {signal} {}{unfinished}", after()));
            }
            End::AtBadLine => remarks.push(format!(
                "stopped at line {} of {}; what follows was not sent",
                count(taken.lines),
                self.input
            )),
            End::Failed(error) => {
                remarks.push(format!("reading failed {}: {error}; what follows was not sent", after()))
            }
        }
        remarks
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, input, taken, fate, elapsed, .. } = self;
        writeln!(
            f,
            "{} of {} ({}) to topic {topic} in {}: {:.0} events/s, {:.1} MB/s",
            counted(taken.events, "event"),
            input,
            bytes(taken.bytes),
            seconds(*elapsed),
            rate(taken.events, *elapsed),
            rate(taken.bytes, *elapsed) / 1e6,
        )?;
        for (what, number) in [
            ("from before", self.found()),
            ("delivered", fate.delivered),
            ("stored", fate.stored),
            ("in memory", fate.in_memory),
            ("dead-lettered", fate.dead_lettered),
            ("lost", fate.lost),
            ("bad lines", taken.bad),
            ("empty lines", taken.blank),
        ] {
            // The promise is always there to be read; the rest only when there is something to it.
            if number > 0 || matches!(what, "delivered" | "lost") {
                writeln!(f, "  {what:<14}{:>14}", count(number))?;
            }
        }
        for remark in self.remarks() {
            writeln!(f, "  - {remark}")?;
        }
        f.write_str(match self.exit_code() {
            NOT_DELIVERED => "NOT everything is in Kafka.",
            OK if fate.stored > 0 => "Everything is in Kafka or stored to be sent later.",
            OK if self.end == End::OfInput => "Everything is in Kafka.",
            _ if taken.events == 0 => "Nothing was sent.",
            _ if fate.stored > 0 => "Every event that was read is in Kafka or stored to be sent later.",
            _ => "Every event that was read is in Kafka.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            topic: "flights".to_owned(),
            input: "flights.ndjson".to_owned(),
            is_file: true,
            taken: Taken { bytes: 62_000_000, lines: 336_776, events: 336_776, ..Taken::default() },
            fate: Fate { delivered: 336_776, ..Fate::default() },
            spool: None,
            end: End::OfInput,
            elapsed: Duration::from_secs(2),
        }
    }

    #[test]
    fn all_delivered_is_success() {
        let outcome = outcome();
        assert_eq!(outcome.exit_code(), 0);
        let text = outcome.to_string();
        assert!(text.starts_with("336,776 events of flights.ndjson (62.0 MB) to topic flights in 2.00 s: 168388 events/s, 31.0 MB/s\n"), "{text}");
        assert!(text.ends_with("lost                       0\nEverything is in Kafka."), "{text}");
    }

    #[test]
    fn whatever_is_not_in_kafka_is_failure() {
        let undelivered = |change: &dyn Fn(&mut Outcome)| {
            let mut outcome = outcome();
            outcome.fate.delivered -= 1;
            change(&mut outcome);
            assert!(outcome.to_string().ends_with("NOT everything is in Kafka."), "{outcome}");
            outcome.exit_code()
        };
        assert_eq!(undelivered(&|o| o.fate.lost = 1), 1);
        assert_eq!(undelivered(&|o| o.fate.in_memory = 1), 1);
        assert_eq!(undelivered(&|o| o.fate.dead_lettered = 1), 1);
        assert_eq!(undelivered(&|_| ()), 1, "one is unaccounted for");
        assert_eq!(undelivered(&|o| (o.taken.events -= 1, o.taken.too_late = 1).0), 1);
        assert_eq!(undelivered(&|o| (o.end = End::Signal(Signal::Interrupt), o.taken.bad = 1).0), 1);
    }

    #[test]
    fn durably_stored_is_safe() {
        let mut outcome = outcome();
        outcome.fate = Fate { delivered: 336_000, stored: 776, ..Fate::default() };
        assert_eq!(outcome.exit_code(), 0);
        assert!(outcome.to_string().ends_with("or stored to be sent later."), "{outcome}");
    }

    #[test]
    fn what_an_earlier_run_left_is_counted_too() {
        let mut outcome = outcome();
        outcome.spool = Some(Spool { folder: "/s".to_owned(), found: 24, damaged: 0 });
        assert_eq!((outcome.exit_code(), outcome.missing()), (1, 24), "where are they?");
        outcome.fate.delivered += 20;
        outcome.fate.stored = 4;
        assert_eq!(outcome.exit_code(), 0);
        let text = outcome.to_string();
        assert!(text.contains("from before               24\n"), "{text}");
        assert!(text.contains("4 stored in /s; `kafka-batcher spool replay /s`"), "{text}");
        outcome.spool = Some(Spool { folder: "/s".to_owned(), found: 24, damaged: 1 });
        assert_eq!(outcome.exit_code(), 1, "the disk has lost one");
    }

    #[test]
    fn dead_letters_are_gone_or_kept() {
        let mut outcome = outcome();
        outcome.fate = Fate { delivered: 336_775, dead_lettered: 1, ..Fate::default() };
        assert!(outcome.to_string().contains("1 refused by Kafka or too old, and gone now"), "{outcome}");
        outcome.spool = Some(Spool { folder: "/s".to_owned(), ..Spool::default() });
        assert!(
            outcome
                .to_string()
                .contains("kept in the spool; look at them with `kafka-batcher spool peek --dead /s`"),
            "{outcome}"
        );
        assert_eq!(outcome.exit_code(), 1);
    }

    #[test]
    fn bad_lines_and_broken_input_are_told_apart_from_loss() {
        let mut outcome = outcome();
        outcome.taken.bad = 2;
        assert_eq!(outcome.exit_code(), 3);
        assert!(outcome.to_string().contains("bad lines                  2\n"), "{outcome}");
        outcome.taken.bad = 0;
        outcome.end = End::Failed("the disk is gone".to_owned());
        assert_eq!(outcome.exit_code(), 3);
        assert!(
            outcome.to_string().contains("after line 336,776 of flights.ndjson: the disk is gone"),
            "{outcome}"
        );
        outcome.end = End::AtBadLine;
        assert_eq!(outcome.exit_code(), 3);
    }

    #[test]
    fn a_stopped_file_is_incomplete_and_a_stopped_stream_is_not() {
        let mut outcome = outcome();
        outcome.end = End::Signal(Signal::Terminate);
        assert_eq!(outcome.exit_code(), 143);
        assert!(outcome.to_string().contains("stopped by SIGTERM after line 336,776"), "{outcome}");
        outcome.is_file = false;
        outcome.taken.unfinished = 3;
        assert_eq!(outcome.exit_code(), 0);
        assert!(outcome.to_string().contains("3 bytes of an unfinished line"), "{outcome}");
    }
}
