//! When a batch is ready, and why.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::time::{Moment, earliest};

/// Why a batch left its accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FlushReason {
    /// `batch_size` events were there.
    Count,
    /// The next event would have gone beyond `max_batch_bytesize`.
    Bytes,
    /// The oldest event had waited `max_wait_time`.
    Wait,
    /// The topic's `batch_flusher` said so.
    Flusher,
    /// Somebody called `flush`.
    Manual,
    /// Memory is short: what is gathered has to move on.
    Pressure,
    /// The batcher shuts down.
    Close,
}

impl FlushReason {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Count, Self::Bytes, Self::Wait, Self::Flusher, Self::Manual, Self::Pressure, Self::Close];

    /// A word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Wait => "wait",
            Self::Flusher => "flusher",
            Self::Manual => "manual",
            Self::Pressure => "pressure",
            Self::Close => "close",
        }
    }
}

impl fmt::Display for FlushReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counts what a topic, or one partition of it, has gathered, and says when that is a batch.
///
/// Knows nothing of bytes: whether another record fits is the encoder's exact answer
/// ([`BatchBuilder::push`](crate::BatchBuilder::push)).
///
/// * Enough events make it ready at once, but not within `min_delay` of the last batch; it then
///   becomes ready by itself when that has passed.
/// * `max_wait_time` after its first event it is ready in any case.
#[derive(Debug)]
pub struct Accumulator {
    batch_size: u32,
    max_wait_time: Duration,
    min_delay: Duration,
    count: u32,
    first_at: Moment,
    last_sent: Option<Moment>,
}

impl Accumulator {
    /// An empty accumulator.
    #[must_use]
    pub const fn new(batch_size: NonZeroU32, max_wait_time: Duration, min_delay: Duration) -> Self {
        Self {
            batch_size: batch_size.get(),
            max_wait_time,
            min_delay,
            count: 0,
            first_at: Moment::ZERO,
            last_sent: None,
        }
    }

    /// An event was gathered.
    #[inline]
    pub fn added(&mut self, now: Moment) {
        if self.count == 0 {
            self.first_at = now;
        }
        self.count = self.count.saturating_add(1);
    }

    /// Whether what is gathered is ready to leave, and why.
    #[must_use]
    #[inline]
    pub fn ready(&self, now: Moment) -> Option<FlushReason> {
        if self.count == 0 {
            None
        } else if self.count >= self.batch_size && self.held_until().is_none_or(|until| now >= until) {
            Some(FlushReason::Count)
        } else if now >= self.first_at + self.max_wait_time {
            Some(FlushReason::Wait)
        } else {
            None
        }
    }

    /// Whether enough events are there, even if `min_delay` still holds them.
    #[must_use]
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.count >= self.batch_size
    }

    /// When it becomes ready by itself.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.count == 0 {
            return None;
        }
        let waited = self.first_at + self.max_wait_time;
        if self.count < self.batch_size {
            return Some(waited);
        }
        earliest(Some(waited), Some(self.held_until().unwrap_or(Moment::ZERO)))
    }

    /// What was gathered has been declared a batch: counting starts over.
    pub const fn taken(&mut self) {
        self.count = 0;
    }

    /// A batch was sent: `min_delay` counts from here.
    pub const fn sent(&mut self, now: Moment) {
        self.last_sent = Some(now);
    }

    fn held_until(&self) -> Option<Moment> {
        if self.min_delay.is_zero() { None } else { self.last_sent.map(|sent| sent + self.min_delay) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn accumulator(batch_size: u32, max_wait: u64, min_delay: u64) -> Accumulator {
        let ms = Duration::from_millis;
        Accumulator::new(NonZeroU32::new(batch_size).unwrap(), ms(max_wait), ms(min_delay))
    }

    #[test]
    fn ready_by_count() {
        let mut acc = accumulator(2, 1000, 0);
        acc.added(at(0));
        assert_eq!(acc.ready(at(1)), None);
        acc.added(at(1));
        assert_eq!(acc.ready(at(1)), Some(FlushReason::Count));
        acc.taken();
        assert_eq!((acc.ready(at(5000)), acc.poll_timeout()), (None, None));
    }

    #[test]
    fn ready_by_wait_counted_from_the_first_event() {
        let mut acc = accumulator(10, 1000, 0);
        acc.added(at(5));
        acc.added(at(900));
        assert_eq!(acc.poll_timeout(), Some(at(1005)));
        assert_eq!(acc.ready(at(1004)), None);
        assert_eq!(acc.ready(at(1005)), Some(FlushReason::Wait));
    }

    /// Part of defect 13: the delay ends by itself and is measured on the monotonic clock.
    #[test]
    fn defect_13_min_delay_counts_from_the_last_batch_and_wakes_by_itself() {
        let mut acc = accumulator(1, 1000, 100);
        acc.added(at(0));
        assert_eq!(acc.ready(at(0)), Some(FlushReason::Count), "nothing was sent before");
        acc.taken();
        acc.sent(at(0));
        acc.added(at(10));
        assert_eq!(acc.ready(at(10)), None);
        assert_eq!(acc.poll_timeout(), Some(at(100)));
        assert_eq!(acc.ready(at(100)), Some(FlushReason::Count));
    }

    #[test]
    fn min_delay_never_holds_an_event_beyond_max_wait_time() {
        let mut acc = accumulator(1, 50, 10_000);
        acc.sent(at(0));
        acc.added(at(10));
        assert_eq!(acc.poll_timeout(), Some(at(60)));
        assert_eq!(acc.ready(at(60)), Some(FlushReason::Wait));
    }
}
