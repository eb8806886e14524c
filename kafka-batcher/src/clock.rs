//! The one place that reads clocks.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_batcher_core::Moment;

/// Monotonic time for every decision; wall-clock time only for the timestamps of records.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// Unix time at the origin, in microseconds; renewed now and then, since the wall clock is set at times.
    unix_at_origin: AtomicI64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let clock = Self { origin: Instant::now(), unix_at_origin: AtomicI64::new(0) };
        clock.follow_wall_clock();
        clock
    }

    pub(crate) fn now(&self) -> Moment {
        let elapsed = self.origin.elapsed();
        // Not `as_micros`, which divides 128 bits.
        Moment::from_micros(elapsed.as_secs() * 1_000_000 + u64::from(elapsed.subsec_micros()))
    }

    /// Milliseconds since the Unix epoch at `now`, without asking the system.
    pub(crate) fn unix_millis(&self, now: Moment) -> i64 {
        self.unix_at_origin.load(Relaxed).saturating_add_unsigned(now.as_micros()) / 1000
    }

    pub(crate) fn follow_wall_clock(&self) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let unix = i64::try_from(unix.as_micros()).unwrap_or(i64::MAX);
        self.unix_at_origin.store(unix.saturating_sub_unsigned(self.now().as_micros()), Relaxed);
    }

    pub(crate) fn instant(&self, at: Moment) -> tokio::time::Instant {
        let after = at.since(Moment::ZERO);
        // Far enough for "never", near enough not to overflow.
        let limit = Duration::from_secs(3600 * 24 * 365);
        (self.origin + after.min(self.origin.elapsed() + limit)).into()
    }
}
