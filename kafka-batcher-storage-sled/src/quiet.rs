//! What may go wrong with every write is logged once a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(60);

/// Decides when something is said again.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<Option<Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    left_out: u64,
}

impl Quiet {
    /// Whether it is said now, and how often it was not since the last time.
    pub(crate) fn pass(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *said {
            Some(said) if now.saturating_duration_since(said.at) < INTERVAL => {
                said.left_out += 1;
                None
            }
            said => said.replace(Said { at: now, left_out: 0 }).map_or(Some(0), |last| Some(last.left_out)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_it_is_a_line_a_minute_that_says_how_many_were_left_out() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        let said: Vec<u64> =
            (0..3600).filter_map(|second| quiet.pass(start + Duration::from_secs(second))).collect();
        assert_eq!((said.len(), said[0], &said[1..]), (60, 0, &[59; 59][..]));
    }
}
