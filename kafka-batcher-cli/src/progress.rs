//! The numbers that are shown while events flow.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::format::count;

/// Where things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Events accepted.
    pub(crate) events: u64,
    /// Of those: in memory now,
    pub(crate) in_memory: u64,
    /// in temporary storage now,
    pub(crate) stored: u64,
    /// in Kafka.
    pub(crate) delivered: u64,
    /// Bad lines, failed attempts to send, and events that were lost or dead-lettered.
    pub(crate) errors: u64,
}

/// Time over which the speed is measured.
const WINDOW: Duration = Duration::from_secs(3);

/// Measures the speed at which bytes are read.
#[derive(Debug)]
pub(crate) struct Speedometer {
    readings: VecDeque<(Instant, u64)>,
}

impl Speedometer {
    pub(crate) fn new(start: Instant) -> Self {
        Self { readings: VecDeque::from([(start, 0)]) }
    }

    /// Bytes a second over the last seconds.
    pub(crate) fn read(&mut self, now: Instant, bytes: u64) -> f64 {
        self.readings.push_back((now, bytes));
        // One reading from before the window stays, so that there is always something to compare with.
        while self.readings.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.readings.pop_front();
        }
        let (from, before) = self.readings.front().copied().unwrap_or((now, bytes));
        crate::format::rate(bytes - before, now.duration_since(from))
    }
}

/// A line of progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) now: Snapshot,
    pub(crate) bytes_per_second: f64,
}

impl Line {
    /// The speed.
    pub(crate) fn speed(&self) -> String {
        format!("{:.1} MB/s", self.bytes_per_second / 1e6)
    }

    /// Everything else.
    pub(crate) fn counts(&self) -> String {
        let Snapshot { events, in_memory, stored, delivered, errors } = self.now;
        let [events, in_memory, stored, delivered, errors] =
            [events, in_memory, stored, delivered, errors].map(count);
        format!(
            "{events} events, in memory {in_memory}, stored {stored}, delivered {delivered}, errors {errors}"
        )
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.speed(), self.counts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut speed = Speedometer::new(start);
        assert_eq!(speed.read(start, 0), 0.0);
        assert_eq!(speed.read(at(1_000), 1_000), 1_000.0);
        assert_eq!(speed.read(at(2_000), 3_000), 1_500.0);
        for second in 3..20 {
            speed.read(at(second * 1_000), 3_000);
        }
        assert_eq!(speed.read(at(20_000), 3_000), 0.0);
        assert!(speed.readings.len() < 10);
    }

    #[test]
    fn a_line_has_it_all() {
        let now = Snapshot { events: 336_776, in_memory: 1_200, stored: 34, delivered: 335_542, errors: 5 };
        assert_eq!(
            Line { now, bytes_per_second: 32_340_000.0 }.to_string(),
            "32.3 MB/s, 336,776 events, in memory 1,200, stored 34, delivered 335,542, errors 5"
        );
    }
}
