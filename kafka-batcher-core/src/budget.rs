//! How much may be in memory.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A bound on what is accepted but neither delivered nor stored, in bytes and events, over all lanes.
///
/// Shared by all tasks that add events; takes no lock.
#[derive(Debug)]
pub struct Budget {
    max_bytes: usize,
    max_events: usize,
    bytes: AtomicUsize,
    events: AtomicUsize,
}

impl Budget {
    /// A budget of so many bytes and events, all of it free.
    #[must_use]
    pub const fn new(max_bytes: usize, max_events: usize) -> Self {
        Self { max_bytes, max_events, bytes: AtomicUsize::new(0), events: AtomicUsize::new(0) }
    }

    /// Takes room for one event of `bytes`; `false` when there is none, and nothing is taken.
    #[must_use]
    #[inline]
    pub fn try_take(&self, bytes: usize) -> bool {
        let bytes_before = self.bytes.fetch_add(bytes, Relaxed);
        let events_before = self.events.fetch_add(1, Relaxed);
        // An event larger than the budget is let in when it is alone, or it would wait for ever.
        let fits = bytes_before + bytes <= self.max_bytes || bytes_before == 0;
        if fits && events_before < self.max_events {
            return true;
        }
        self.give_back(bytes, 1);
        false
    }

    /// Takes room whether there is any or not: for events that were accepted before.
    pub fn take(&self, bytes: usize, events: usize) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.events.fetch_add(events, Relaxed);
    }

    /// Gives room back.
    pub fn give_back(&self, bytes: usize, events: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
        self.events.fetch_sub(events, Relaxed);
    }

    /// Bytes and events in memory now.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        (self.bytes.load(Relaxed), self.events.load(Relaxed))
    }
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
    fn an_event_larger_than_the_budget_passes_when_alone() {
        let budget = Budget::new(10, 5);
        assert!(budget.try_take(11));
        assert!(!budget.try_take(1));
    }
}
