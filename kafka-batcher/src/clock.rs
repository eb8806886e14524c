//! The one place that reads clocks.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka_batcher_core::{Moment, WallClock};

/// Monotonic time for every decision but how old a record is; wall-clock time for that, and for the timestamps of records.
///
/// Reads the processor's counter where that can be trusted (`quanta`): it is asked for every event,
/// and asking the system costs three times as much.
#[derive(Debug)]
pub(crate) struct Clock {
    clock: quanta::Clock,
    /// The counter at the clock's zero.
    origin: u64,
    /// Unix time at the origin, in microseconds; renewed now and then, since the wall clock is set at times.
    unix_at_origin: AtomicI64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let clock = quanta::Clock::new();
        let this = Self { origin: clock.raw(), clock, unix_at_origin: AtomicI64::new(0) };
        this.follow_wall_clock();
        this
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        Moment::from_micros(self.clock.delta_as_nanos(self.origin, self.clock.raw()) / 1000)
    }

    /// Milliseconds since the Unix epoch at `now`, without asking the system.
    #[inline]
    pub(crate) fn unix_millis(&self, now: Moment) -> i64 {
        self.wall().unix_millis(now)
    }

    /// What the wall clock shows, without asking the system.
    #[inline]
    pub(crate) fn wall(&self) -> WallClock {
        WallClock::with_origin(self.unix_at_origin.load(Relaxed))
    }

    pub(crate) fn follow_wall_clock(&self) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let unix = i64::try_from(unix.as_micros()).unwrap_or(i64::MAX);
        self.unix_at_origin.store(unix.saturating_sub_unsigned(self.now().as_micros()), Relaxed);
    }

    /// Sleeps until `at`; for ever when there is none.
    pub(crate) async fn sleep_until(&self, at: Option<Moment>) {
        match at {
            // From now, since this clock and the runtime's may drift apart.
            Some(at) => tokio::time::sleep(at.since(self.now())).await,
            None => std::future::pending().await,
        }
    }
}
