//! How much may be in memory.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A bound on what is accepted but neither delivered nor stored, in bytes and events, over all lanes.
///
/// Shared by all tasks that add events; takes no lock.
#[derive(Debug)]
pub struct Budget {
    max_bytes: usize,
    max_events: usize,
    /// Bytes and events in one number, so that an event costs one atomic operation.
    used: AtomicU64,
}

/// The lower bits of the number are bytes, the others events.
const BYTES_BITS: u32 = 38;

impl Budget {
    /// The largest number of bytes a budget can have: 128 GiB. Half of what fits, so that an event larger
    /// than the budget, which is let in when it is alone, fits too.
    pub const MAX_BYTES: usize = 1 << (BYTES_BITS - 1);
    /// The largest number of events a budget can have: some 33 million.
    pub const MAX_EVENTS: usize = 1 << (63 - BYTES_BITS);

    /// A budget of so many bytes and events, all of it free. More than the maximum is the maximum.
    #[must_use]
    pub fn new(max_bytes: usize, max_events: usize) -> Self {
        let (max_bytes, max_events) = (max_bytes.min(Self::MAX_BYTES), max_events.min(Self::MAX_EVENTS));
        Self { max_bytes, max_events, used: AtomicU64::new(0) }
    }

    /// Takes room for one event of `bytes`; `false` when there is none, and nothing is taken.
    #[must_use]
    #[inline]
    pub fn try_take(&self, bytes: usize) -> bool {
        let mut used = self.used.load(Relaxed);
        loop {
            let (bytes_before, events_before) = split(used);
            // An event larger than the budget is let in when it is alone, or it would wait for ever.
            let fits = bytes_before + bytes <= self.max_bytes || bytes_before == 0;
            if !fits || events_before >= self.max_events {
                return false;
            }
            // Not added first and taken back: somebody else would meanwhile find it full, and wait for
            // room that nobody is about to give.
            match self.used.compare_exchange_weak(used, used + join(bytes, 1), Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => used = now,
            }
        }
    }

    /// Takes room whether there is any or not: for events that were accepted before.
    pub fn take(&self, bytes: usize, events: usize) {
        self.used.fetch_add(join(bytes, events), Relaxed);
    }

    /// Gives room back.
    pub fn give_back(&self, bytes: usize, events: usize) {
        self.used.fetch_sub(join(bytes, events), Relaxed);
    }

    /// The largest number of bytes and of events.
    #[must_use]
    pub const fn limits(&self) -> (usize, usize) {
        (self.max_bytes, self.max_events)
    }

    /// Bytes and events in memory now.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        split(self.used.load(Relaxed))
    }
}

const fn join(bytes: usize, events: usize) -> u64 {
    ((events as u64) << BYTES_BITS) + bytes as u64
}

const fn split(used: u64) -> (usize, usize) {
    ((used & ((1 << BYTES_BITS) - 1)) as usize, (used >> BYTES_BITS) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_by_bytes_or_by_events_and_free_again() {
        let budget = Budget::new(100, 2);
        assert!(budget.try_take(60));
        assert!(!budget.try_take(41));
        assert!(budget.try_take(40));
        assert!(!budget.try_take(0), "two events are the limit");
        assert_eq!(budget.used(), (100, 2));
        budget.give_back(60, 1);
        assert!(budget.try_take(1));
    }

    #[test]
    fn bytes_and_events_do_not_mix() {
        let budget = Budget::new(usize::MAX, usize::MAX);
        budget.take(Budget::MAX_BYTES, Budget::MAX_EVENTS - 1);
        assert_eq!(budget.used(), (Budget::MAX_BYTES, Budget::MAX_EVENTS - 1));
        assert!(!budget.try_take(1), "no byte is free");
        budget.give_back(Budget::MAX_BYTES, 0);
        assert!(budget.try_take(Budget::MAX_BYTES));
        assert!(!budget.try_take(0), "no event is free");
        budget.give_back(Budget::MAX_BYTES, Budget::MAX_EVENTS);
        assert_eq!(budget.used(), (0, 0));
    }

    #[test]
    fn an_event_larger_than_the_budget_passes_when_alone() {
        let budget = Budget::new(10, 5);
        assert!(budget.try_take(11));
        assert!(!budget.try_take(1));
    }
}
