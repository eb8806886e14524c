//! Few of the many lines that librdkafka logs: in an outage it says the same of each broker with each attempt.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Each kind of line passes once in this time.
const INTERVAL: Duration = Duration::from_secs(60);
/// So many kinds are told apart; librdkafka has a few dozen.
const KINDS: usize = 64;

/// Decides which lines are logged as what they are. Of one producer, whose clients come and go in an outage.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    told: Mutex<HashMap<String, Told>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    left_out: u64,
}

impl Lines {
    /// Whether a line of this kind (a facility, or the code of an error) is logged now, and how many were left out before it.
    pub(crate) fn pass(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut told = self.told.lock();
        let kind = if told.len() < KINDS || told.contains_key(kind) { kind } else { "others" };
        match told.get_mut(kind) {
            Some(last) if now.saturating_duration_since(last.at) < INTERVAL => {
                last.left_out += 1;
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.left_out))
            }
            None => {
                told.insert(kind.to_owned(), Told { at: now, left_out: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_the_same_is_a_line_a_minute_and_says_how_many_were_left_out() {
        let (lines, start) = (Lines::default(), Instant::now());
        let said: Vec<u64> =
            (0..3600).filter_map(|second| lines.pass("FAIL", start + Duration::from_secs(second))).collect();
        assert_eq!(said.len(), 60);
        assert_eq!((said[0], &said[1..]), (0, &[59; 59][..]));
    }

    #[test]
    fn kinds_are_told_apart_and_are_no_more_than_there_is_room_for() {
        let (lines, now) = (Lines::default(), Instant::now());
        let passed = (0..1000).filter(|kind| lines.pass(&kind.to_string(), now).is_some()).count();
        assert_eq!(passed, KINDS + 1, "each of the first, and one of all others");
        assert_eq!(lines.pass("0", now), None);
    }
}
