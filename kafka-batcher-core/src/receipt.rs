//! Receipts: what became of one event.
//!
//! All receipts of a batch share one allocation. A batch carries its receipts as [`Tickets`], which
//! follow the records when the batch is cut, stored, or routed to partitions.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::producer::ErrorKind;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Kafka acknowledged it.
    Delivered {
        /// The partition it is in.
        partition: u32,
        /// Its offset; `None` when Kafka did not tell (`required_acks = 0`).
        offset: Option<i64>,
    },
    /// It is durably stored and will be delivered later, by this process or the next one.
    Stored,
    /// Kafka will never take it; it went to the dead letters.
    DeadLettered(ErrorKind),
    /// It is gone: the batcher was told to end before it could be delivered or stored.
    Lost,
}

/// A future of what becomes of one event.
///
/// Resolves once. Storage that does not survive the process does not resolve it: such an event is
/// still on its way. **Cancellation:** dropping a receipt has no effect on the event.
#[derive(Debug)]
#[must_use = "a receipt tells nothing until it is awaited"]
pub struct Receipt {
    group: Arc<Group>,
    index: u32,
}

#[derive(Debug, Default)]
struct Group {
    state: Mutex<GroupState>,
}

#[derive(Debug, Default)]
struct GroupState {
    /// What became of each record, by its index in the original batch.
    outcomes: Vec<Option<Outcome>>,
    /// Nothing more will be heard: what has no outcome is lost.
    ended: bool,
    wakers: Vec<(u32, Waker)>,
}

impl Group {
    fn ended() -> Self {
        Self { state: Mutex::new(GroupState { ended: true, ..GroupState::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receipt {
    /// What became of the event, if that is known by now.
    #[must_use]
    pub fn try_outcome(&self) -> Option<Outcome> {
        let state = self.group.state();
        let known = state.outcomes.get(self.index as usize).copied().flatten();
        known.or(if state.ended { Some(Outcome::Lost) } else { None })
    }
}

impl Future for Receipt {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        // The lock is taken twice so that the waker is registered before the last look.
        if self.try_outcome().is_none() {
            let mut state = self.group.state();
            state.wakers.retain(|(index, waker)| *index != self.index || !waker.will_wake(cx.waker()));
            state.wakers.push((self.index, cx.waker().clone()));
        }
        self.try_outcome().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Held by whoever may still give an outcome; when the last one goes, the rest is lost.
#[derive(Debug)]
struct Resolver(Arc<Group>);

impl Drop for Resolver {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// The receipts of a batch's records.
///
/// Clones share the receipts; an event whose last ticket is dropped without an outcome is [`Outcome::Lost`].
#[derive(Clone, Debug)]
pub struct Tickets {
    /// More than one when batches were joined; ascending by [`Part::at`].
    parts: Vec<Part>,
}

/// Tickets of records that stand next to each other and came from one batch.
#[derive(Clone, Debug)]
struct Part {
    /// Index of the first of them.
    at: u32,
    /// How many, at most.
    len: u32,
    resolver: Arc<Resolver>,
    indexes: Indexes,
}

impl Part {
    /// The index, in the batch it came from, of the record that has this index now.
    fn original(&self, index: u32) -> Option<u32> {
        let within = index.checked_sub(self.at).filter(|within| *within < self.len)?;
        self.indexes.original(within)
    }
}

/// Which of the original batch's records the batch has now.
#[derive(Clone, Debug)]
enum Indexes {
    From(u32),
    Each(Vec<u32>),
}

impl Indexes {
    fn original(&self, index: u32) -> Option<u32> {
        match self {
            Self::From(base) => Some(base + index),
            Self::Each(each) => each.get(index as usize).copied(),
        }
    }
}

impl Tickets {
    /// Tickets for a batch whose records are yet to come.
    #[must_use]
    pub(crate) fn new() -> Self {
        let resolver = Arc::new(Resolver(Arc::default()));
        Self { parts: vec![Part { at: 0, len: u32::MAX, resolver, indexes: Indexes::From(0) }] }
    }

    /// The receipt of the record with this index.
    pub(crate) fn receipt(&self, index: u32) -> Receipt {
        let found = self.parts.iter().find_map(|part| Some((part, part.original(index)?)));
        // A record without tickets has nobody who could say anything.
        found.map_or_else(
            || Receipt { group: Arc::new(Group::ended()), index },
            |(part, index)| Receipt { group: Arc::clone(&part.resolver.0), index },
        )
    }

    /// Tickets of the records whose index is in `kept`, which is ascending.
    pub(crate) fn select(&self, kept: &[u32]) -> Self {
        let mut parts = Vec::new();
        for part in &self.parts {
            let is_of_part = |index: &u32| part.original(*index).is_some();
            let Some(at) = kept.iter().position(is_of_part) else { continue };
            let each: Vec<u32> = kept[at..].iter().map_while(|index| part.original(*index)).collect();
            let (at, len) = (at as u32, each.len() as u32);
            let resolver = Arc::clone(&part.resolver);
            parts.push(Part { at, len, resolver, indexes: Indexes::Each(each) });
        }
        Self { parts }
    }

    /// Tickets of batches that become one: their records follow each other, so many of each batch. `None` when none of
    /// them has any.
    pub(crate) fn join(batches: impl IntoIterator<Item = (Option<Self>, u32)>) -> Option<Self> {
        let mut parts = Vec::new();
        let mut at = 0;
        for (tickets, count) in batches {
            for part in tickets.into_iter().flat_map(|tickets| tickets.parts) {
                let len = part.len.min(count.saturating_sub(part.at));
                parts.push(Part { at: at + part.at, len, ..part });
            }
            at += count;
        }
        if parts.is_empty() { None } else { Some(Self { parts }) }
    }

    /// Gives the records with these indexes their outcome; a record's first outcome stays.
    pub(crate) fn resolve(&self, indexes: impl Iterator<Item = u32>, outcome: impl Fn(u32) -> Outcome) {
        let indexes: Vec<u32> = indexes.collect();
        for part in &self.parts {
            let mut state = part.resolver.0.state();
            for &index in &indexes {
                let Some(original) = part.original(index) else { continue };
                let at = original as usize;
                if state.outcomes.len() <= at {
                    state.outcomes.resize(at + 1, None);
                }
                state.outcomes[at].get_or_insert_with(|| outcome(index));
            }
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            // Those whose record is still open register again when they are polled.
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_receipt_gets_its_own_outcome_also_after_cuts() {
        let tickets = Tickets::new();
        let receipts: Vec<_> = (0..6).map(|i| tickets.receipt(i)).collect();
        let odd = tickets.select(&[1, 3, 5]);
        let last = odd.select(&[2]);
        last.resolve(0..1, |_| Outcome::DeadLettered(ErrorKind::Permanent));
        odd.resolve(0..2, |i| Outcome::Delivered { partition: 1, offset: Some(i64::from(i)) });
        drop((tickets, odd, last));
        let seen: Vec<_> = receipts.iter().map(|r| r.try_outcome().unwrap()).collect();
        let delivered = |offset| Outcome::Delivered { partition: 1, offset: Some(offset) };
        let dead = Outcome::DeadLettered(ErrorKind::Permanent);
        assert_eq!(seen, [Outcome::Lost, delivered(0), Outcome::Lost, delivered(1), Outcome::Lost, dead]);
    }

    #[test]
    fn receipts_of_joined_batches_find_their_records() {
        let (first, last) = (Tickets::new(), Tickets::new());
        let receipts = [first.receipt(0), first.receipt(1), last.receipt(0), last.receipt(2)];
        // Two records, then three without receipts, then three.
        let joined = Tickets::join([(Some(first), 2), (None, 3), (Some(last), 3)]).unwrap();
        let cut = joined.select(&[1, 3, 5, 7]);
        let offset = |index| Outcome::Delivered { partition: 0, offset: Some(i64::from(index)) };
        cut.resolve(0..4, offset);
        joined.resolve([0, 2, 6].into_iter(), |_| Outcome::Stored);
        let seen: Vec<_> = receipts.iter().map(|r| r.try_outcome().unwrap()).collect();
        assert_eq!(seen, [Outcome::Stored, offset(0), offset(2), offset(3)]);
        assert!(Tickets::join([(None, 1), (None, 2)]).is_none());
    }

    #[test]
    fn an_outcome_is_unknown_until_given_and_the_first_one_stays() {
        let tickets = Tickets::new();
        let receipt = tickets.receipt(0);
        assert_eq!(receipt.try_outcome(), None);
        tickets.resolve(0..1, |_| Outcome::Stored);
        tickets.resolve(0..1, |_| Outcome::Lost);
        assert_eq!(receipt.try_outcome(), Some(Outcome::Stored));
    }
}
