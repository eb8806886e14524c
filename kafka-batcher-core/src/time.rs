//! Time as a value: the core never asks what time it is, it is told.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the driver's monotonic clock, in microseconds since an origin the driver chose.
///
/// `std::time::Instant` can only be had from the operating system's clock. The state machines
/// take this type instead, so a test or a simulation can invent any instant it likes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The origin itself.
    pub const ZERO: Self = Self(0);

    /// The moment `micros` microseconds after the origin.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment `millis` milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Microseconds since the origin.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Saturates at the end of time, some 584,000 years after the origin.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    /// Saturates at the origin.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:?}", Duration::from_micros(self.0))
    }
}

/// What the wall clock shows, as far as that is known: the Unix time of the driver's origin, which changes when
/// the wall clock is set.
///
/// It decides nothing but how old a record is. The default shows 1970 at the origin, so that nothing is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WallClock(i64);

impl WallClock {
    /// The origin was so many microseconds after the Unix epoch.
    #[must_use]
    pub const fn with_origin(unix_micros: i64) -> Self {
        Self(unix_micros)
    }

    /// Milliseconds since the Unix epoch at `now`.
    #[must_use]
    pub const fn unix_millis(self, now: Moment) -> i64 {
        self.0.saturating_add_unsigned(now.0).div_euclid(1000)
    }

    /// When it shows so many milliseconds since the Unix epoch; the origin for what was before that.
    #[must_use]
    pub const fn moment(self, unix_millis: i64) -> Moment {
        let micros = unix_millis.saturating_mul(1000).saturating_sub(self.0);
        Moment(if micros < 0 { 0 } else { micros.unsigned_abs() })
    }
}

/// The earlier of two optional moments; `None` means "never".
pub(crate) fn earliest(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_shows_a_time_at_the_moment_it_says() {
        let clock = WallClock::with_origin(1_700_000_000_000_700);
        for unix in [1_700_000_000_001, 1_700_000_000_002, 1_700_000_086_400_000] {
            let moment = clock.moment(unix);
            assert_eq!(clock.unix_millis(moment), unix);
            assert_eq!(clock.unix_millis(moment - Duration::from_micros(1)), unix - 1);
        }
        assert_eq!(clock.moment(1_700_000_000_000), Moment::ZERO, "it was then before the origin");
        assert_eq!((clock.moment(i64::MIN), clock.moment(-1)), (Moment::ZERO, Moment::ZERO));
        assert_eq!(WallClock::default().unix_millis(Moment::from_millis(7)), 7);
    }
}
