//! How long to wait before trying again.

use std::time::Duration;

use crate::rng::Rng;
use crate::time::Moment;

/// Exponential back-off with jitter: attempt n waits between half and all of `first * 2^n`, at most `max`.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    attempt: u32,
    rng: Rng,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, max: Duration, seed: u64) -> Self {
        Self { first, max, attempt: 0, rng: Rng::new(seed) }
    }

    /// When to try again after one more failure.
    pub(crate) fn next(&mut self, now: Moment) -> Moment {
        let full = self.first.saturating_mul(1 << self.attempt.min(20)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        now + self.jittered(full)
    }

    /// When to try again when trying soon is pointless.
    pub(crate) fn longest(&mut self, now: Moment) -> Moment {
        now + self.jittered(self.max)
    }

    /// Whether there was a failure since the last success.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.attempt > 0
    }

    pub(crate) const fn reset(&mut self) {
        self.attempt = 0;
    }

    fn jittered(&mut self, full: Duration) -> Duration {
        let half = full / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(if micros == 0 { 0 } else { self.rng.next() % (micros + 1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_with_jitter_and_start_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), 1);
        for full in [100, 200, 400, 800, 1600, 3200, 5000, 5000_u64] {
            let wait = backoff.next(Moment::ZERO).since(Moment::ZERO);
            assert!((full / 2..=full).contains(&(wait.as_millis() as u64)), "{wait:?} for {full}");
        }
        backoff.reset();
        assert!(backoff.next(Moment::ZERO) <= Moment::from_millis(100));
    }
}
