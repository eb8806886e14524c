//! Storage that has no room.
//!
//! Whatever is set, nothing that was accepted is given up: it waits in memory and is offered to storage again, with
//! back-off and whenever something of the lane was delivered from storage. Reading what is stored goes on meanwhile.

use super::{Held, Lane, PushError};
use crate::accumulator::FlushReason;
use crate::config::OnStorageFull;
use crate::notifier::What;
use crate::storage::StorageError;
use crate::time::Moment;

/// Storage had no room for a batch of the lane, and has not taken one since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    used: u64,
    quota: u64,
    /// It is not asked before then.
    until: Moment,
}

impl Lane {
    /// Whether storage is to be left alone for now because it is full, and until when.
    pub(super) fn full_until(&self) -> Option<Moment> {
        self.full.map(|full| full.until)
    }

    /// Whether there may be room for a new event.
    pub(super) fn check_room(&mut self, now: Moment) -> Result<(), PushError> {
        let Some(Full { used, quota, until }) = self.full else { return Ok(()) };
        if self.options.on_storage_full == OnStorageFull::Block || !self.is_storing() {
            return Ok(());
        }
        let waits = self.storage_op.is_some() || !self.queue.is_empty();
        if waits || now < until {
            return Err(PushError::StorageFull { used, quota });
        }
        // Nothing of the lane waits for room that could find out whether there is some: new events have to.
        self.full = None;
        Ok(())
    }

    /// Storage has no room for a batch.
    pub(super) fn storage_is_full(&mut self, held: Held, used: u64, quota: u64, now: Moment) {
        self.full = Some(Full { used, quota, until: self.storage_backoff.next(now) });
        let error = StorageError::Full { used, quota };
        self.report(What::StoreFailed, held.events(), error.to_string());
        self.queue.push_front(held);
        if self.options.on_storage_full == OnStorageFull::Reject && self.options.journal {
            // They are not accepted yet: those who wait for the journal get them back.
            self.seal(FlushReason::Manual);
            for held in std::mem::take(&mut self.queue) {
                match held.pledge {
                    Some(_) => self.give_back(held, error.clone()),
                    None => self.queue.push_back(held),
                }
            }
        }
    }

    /// Those who wait until the events are in the journal get them back.
    pub(super) fn give_back(&mut self, held: Held, error: StorageError) {
        self.stats.returned += held.events();
        self.not_gathered(held.events());
        self.release(&held);
        if let Some(pledge) = &held.pledge {
            pledge.resolve(Err(error));
        }
    }

    /// Something stored was delivered: there may be room now.
    pub(super) fn may_have_room(&mut self) {
        if let Some(full) = &mut self.full {
            full.until = Moment::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::super::tests::{NOTHING, Play, at, options};
    use super::*;
    use crate::lane::{LaneOptions, Link};
    use crate::record::Record;
    use crate::storage::EntryId;

    fn play(what: OnStorageFull, journal: bool) -> Play {
        Play::new(LaneOptions { on_storage_full: what, journal, ..options() })
    }

    fn push(play: &mut Play, word: &str, ms: u64) -> Result<Option<crate::journal::Journaled>, PushError> {
        let record = Record::new(word.to_owned());
        play.lane.push(&record.as_ref(), 0, 1, false, at(ms)).map(|pushed| pushed.journaled)
    }

    fn is_refused(play: &mut Play, ms: u64) -> bool {
        matches!(push(play, "x", ms), Err(PushError::StorageFull { used: 9, quota: 9 }))
    }

    /// A lane that has `a` and could not store it.
    fn full(what: OnStorageFull) -> Play {
        let mut play = play(what, false);
        play.lane.handle(crate::lane::Event::Link(Link::Down), at(0));
        play.batch("a", 0);
        assert_eq!(play.does(0), ["store a"]);
        play.storage_is_full(1);
        assert_eq!(play.does(1), NOTHING);
        play
    }

    #[test]
    fn events_are_accepted_behind_what_waits_for_room_or_refused_as_it_is_set() {
        assert!(!is_refused(&mut full(OnStorageFull::Block), 1));
        let mut play = full(OnStorageFull::Reject);
        assert!(is_refused(&mut play, 1));
        let retry = play.timeout();
        assert!(is_refused(&mut play, retry), "a still waits for room");
        assert_eq!(play.does(retry), ["store a"]);
        assert!(is_refused(&mut play, retry));
        play.stored(retry);
        assert!(!is_refused(&mut play, retry));
        assert_eq!((play.lane.stats().accepted, play.lane.stats().stored), (2, 1));
    }

    #[test]
    fn events_are_accepted_when_they_need_not_be_stored() {
        let mut play = full(OnStorageFull::Reject);
        play.lane.handle(crate::lane::Event::Link(Link::Up), at(2));
        assert!(!is_refused(&mut play, 2));
        assert_eq!(play.does(2), ["produce a"]);
        play.lane.handle(crate::lane::Event::Link(Link::Down), at(3));
        assert!(!is_refused(&mut play, 3), "it is not known to be full any more");
    }

    #[test]
    fn what_is_stored_is_read_on_and_each_delivery_lets_storage_be_asked_at_once() {
        let mut play = Play::with_stored("a");
        play.lane.options.on_storage_full = OnStorageFull::Reject;
        play.lane.found(1, 1);
        assert_eq!(play.does(200), ["recover"]);
        play.recovered(1, 1003);
        play.batch("b", 1003);
        assert_eq!(play.does(1003), ["produce a", "store b"]);
        play.storage_is_full(1004);
        assert_eq!(play.does(1004), NOTHING);
        play.delivered(1005);
        assert!(is_refused(&mut play, 1005), "b has to go behind what else is stored");
        assert_eq!(play.does(1005), ["acknowledge 1", "recover after 1"]);
        let second = (EntryId(2), play.storage[0].1.clone());
        play.storage.push(second);
        play.recovered(2, 1006);
        assert_eq!(play.does(1006), ["produce a", "store b"]);
    }

    #[test]
    fn a_full_journal_hands_back_all_that_wait_and_is_asked_again_later() {
        let mut play = play(OnStorageFull::Reject, true);
        let mut waiting = vec![push(&mut play, "a", 0).unwrap().unwrap()];
        assert_eq!(play.does(0), ["store a"]);
        waiting.push(push(&mut play, "b", 0).unwrap().unwrap());
        play.storage_is_full(1);
        assert_eq!(play.does(1), NOTHING);
        for journaled in &mut waiting {
            let heard = Pin::new(journaled).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(heard, Poll::Ready(Err(StorageError::Full { used: 9, quota: 9 }))), "{heard:?}");
        }
        assert_eq!((play.lane.stats().returned, play.lane.take_released()), (2, (2, 2)));
        assert!(play.lane.is_drained() && is_refused(&mut play, 1));
        assert_eq!(play.lane.poll_timeout(), None, "nothing waits");
        let mut scout = push(&mut play, "c", 200).unwrap().unwrap();
        assert!(!is_refused(&mut play, 200));
        assert_eq!(play.does(200), ["store c x"]);
        play.stored(201);
        let heard = Pin::new(&mut scout).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(heard, Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_full_journal_that_blocks_keeps_them_waiting() {
        let mut play = play(OnStorageFull::Block, true);
        let mut waiting = push(&mut play, "a", 0).unwrap().unwrap();
        play.does(0);
        play.storage_is_full(1);
        assert!(!is_refused(&mut play, 1));
        assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let retry = play.timeout();
        assert_eq!(play.does(retry), ["store a"]);
    }
}
