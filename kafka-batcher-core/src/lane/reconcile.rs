//! Before what Kafka may have is sent again, its log is searched, and what is there is not sent.
//!
//! In doubt is what an attempt with an unknown outcome left behind, and what a former process left in storage: it may
//! have been delivered without being forgotten. Nothing else of the lane is sent while it is searched for, so that
//! what is found missing stays missing, unless the request of the failed attempt is still on its way.

use super::{Action, Flight, FlightId, Held, Lane, SEQUENCE_HEADER};
use crate::notifier::What;
use crate::producer::{Delivered, ErrorKind, ProduceError};
use crate::receipt::Outcome;
use crate::search::{Found, Search, last_value};
use crate::storage::EntryId;
use crate::time::Moment;

/// After so many searches in vain a batch is sent all the same: a duplicate is better than a lane that stands still.
const SEARCHES: u32 = 10;

impl Lane {
    /// Whether the log has to be searched before this is sent.
    pub(super) const fn is_to_be_searched(&self, held: &Held) -> bool {
        self.options.reconcile && held.maybe && !held.blind && self.id.partition.is_some()
    }

    /// Whether the log is being searched.
    pub(super) fn is_searching(&self) -> bool {
        self.flights.iter().any(|flight| flight.searching)
    }

    /// What to look for; `None` if none of the records could be known again.
    pub(super) fn search_for(&self, held: &Held) -> Option<Search> {
        let wanted: Vec<&[u8]> =
            held.batch.records().filter_map(|record| last_value(&record, SEQUENCE_HEADER)).collect();
        let partition = self.id.partition.filter(|_| !wanted.is_empty())?;
        let mut search = Search::new(self.id.topic.clone(), partition, SEQUENCE_HEADER, wanted);
        search.from_offset = held.from;
        search.from_timestamp =
            held.batch.records().map(|record| record.timestamp.unwrap_or(i64::MIN)).min().unwrap_or(i64::MIN);
        Some(search)
    }

    /// Has the log searched for a batch.
    pub(super) fn search(&mut self, held: Held, search: Search) -> Action {
        let flight = FlightId(self.next_flight);
        self.next_flight += 1;
        self.flights.push_back(Flight { id: flight, held, result: None, searching: true });
        Action::Search { flight, search }
    }

    /// A batch that can't be looked for is sent all the same.
    pub(super) fn send_unseen(&mut self, held: &mut Held) {
        held.blind = true;
        let message = "they carry no sequence header; sent again unseen".to_owned();
        self.report(What::ReconcileFailed(ErrorKind::Permanent), held.events(), message);
    }

    pub(super) fn searched(&mut self, flight: FlightId, result: Result<Found, ProduceError>, now: Moment) {
        // The only one there is, or an answer to a flight that was abandoned.
        let Some(flight) = self.flights.pop_front_if(|f| f.id == flight && f.searching) else { return };
        let mut held = flight.held;
        let rest = match result {
            Ok(found) => {
                self.searches_failed = 0;
                self.failing = None;
                self.backoff.reset();
                self.missing(held, &found)
            }
            Err(error) => {
                self.searches_failed += 1;
                let kind = error.kind();
                let again = matches!(kind, ErrorKind::Transient | ErrorKind::Fatal)
                    && self.searches_failed < SEARCHES;
                let next = if again { "" } else { "; sent again unseen" };
                self.report(What::ReconcileFailed(kind), held.events(), format!("{error}{next}"));
                if again {
                    self.failing = Some(self.backoff.next(now));
                    let rest = self.hold_back(held);
                    self.tell_stored();
                    rest
                } else {
                    self.searches_failed = 0;
                    held.blind = true;
                    Some(held)
                }
            }
        };
        self.put_back(rest);
        self.finish_replay();
    }

    /// Settles what was found; gives what has to be sent.
    fn missing(&mut self, mut held: Held, found: &Found) -> Option<Held> {
        let offsets: Vec<Option<i64>> = held
            .batch
            .records()
            .map(|record| last_value(&record, SEQUENCE_HEADER).and_then(|value| found.get(value)).copied())
            .collect();
        if offsets.iter().any(Option::is_some) {
            let there: Vec<u32> = (0..).zip(&offsets).filter(|(_, o)| o.is_some()).map(|(i, _)| i).collect();
            self.stats.reconciled += there.len() as u64;
            self.next_offset = offsets.iter().flatten().max().map(|last| last + 1).max(self.next_offset);
            if let (Some(tickets), Some(partition)) = (&held.tickets, self.id.partition) {
                let offset = |index: u32| offsets.get(index as usize).copied().flatten();
                tickets.resolve(there.iter().copied(), |index| Outcome::Delivered {
                    partition,
                    offset: offset(index),
                });
            }
            if there.len() == offsets.len() {
                let tickets = held.tickets.take();
                self.settle(held, &Delivered::default());
                drop(tickets);
                return None;
            }
            held = self.without(held, &there)?;
        }
        // What carries no header can't be known again.
        held.maybe = held.batch.records().any(|record| last_value(&record, SEQUENCE_HEADER).is_none());
        held.blind = true;
        Some(held)
    }

    /// Since when Kafka may have a stored batch, if it may; `nth` of those that are read now.
    pub(super) fn doubt(&self, nth: usize, id: EntryId, maybe_persisted: bool) -> Option<Option<i64>> {
        if (nth as u64) < self.left_behind {
            return Some(None);
        }
        if let Some((_, from)) = self.doubtful.filter(|(last, _)| id <= *last) {
            return Some(from);
        }
        let from = self.stored_from.iter().find(|(of, _)| *of == id).map(|(_, from)| *from);
        maybe_persisted.then_some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Play, at, options};
    use super::super::{Event, LaneOptions, LaneStats};
    use super::*;

    fn reconciling() -> LaneOptions {
        LaneOptions { reconcile: true, instance: Some([7; 16]), ..options() }
    }

    impl Play {
        /// The log has those of the batch that is looked for, counted from 0, at offsets from 40 on.
        pub(in crate::lane) fn finds(&mut self, there: &[usize], ms: u64) {
            let wanted = self.search.take().expect("a search").wanted;
            let stamps = wanted.iter().enumerate().filter(|(index, _)| there.contains(index));
            let found = (40..).zip(stamps).map(|(offset, (_, stamp))| (stamp.clone(), offset)).collect();
            self.searched(Ok(found), ms);
        }

        fn searched(&mut self, result: Result<Found, ProduceError>, ms: u64) {
            let flight = self.flights.pop_front().expect("a search is on its way");
            self.lane.handle(Event::Searched { flight, result }, at(ms));
        }

        fn search_fails(&mut self, kind: ErrorKind, ms: u64) {
            self.searched(Err(ProduceError::new(kind, "no")), ms);
        }

        /// A batch of these events timed out at 1 ms, is stored as entry 1 and read back at 200 ms.
        fn in_doubt(words: &str) -> Self {
            let mut play = Self::new(reconciling());
            play.batch(words, 0);
            play.does(0);
            play.times_out(1);
            assert_eq!(play.does(1), [format!("store? {words}")]);
            play.stored(2);
            assert_eq!(play.does(200), ["recover"]);
            play.recovered(1, 200);
            play
        }

        fn reconciled(&self) -> (u64, u64, u64) {
            let LaneStats { reconciled, delivered, maybe_duplicated, .. } = self.lane.stats();
            (reconciled, delivered, maybe_duplicated)
        }
    }

    #[test]
    fn what_the_log_has_is_not_sent_again() {
        let mut play = Play::in_doubt("a b");
        assert_eq!(play.does(200), ["search for 2"]);
        play.finds(&[0, 1], 201);
        assert_eq!(play.does(201), ["acknowledge 1"]);
        assert_eq!(play.reconciled(), (2, 2, 0));
        assert!(play.lane.is_drained());
    }

    #[test]
    fn what_the_log_lacks_is_sent_and_is_no_duplicate() {
        let mut play = Play::in_doubt("a b c");
        play.does(200);
        play.finds(&[0], 201);
        assert_eq!(play.does(201), ["produce b c"]);
        play.delivered(202);
        assert_eq!(play.does(202), ["acknowledge 1"]);
        assert_eq!(play.reconciled(), (1, 3, 0));
    }

    #[test]
    fn nothing_flies_beside_a_search_and_what_comes_is_stored_behind_it() {
        let mut play = Play::in_doubt("a");
        assert_eq!(play.does(200), ["search for 1"]);
        play.batch("b", 200);
        assert_eq!(play.does(1200), ["store b"]);
        play.finds(&[], 1201);
        assert_eq!(play.does(1201), ["produce a"]);
    }

    #[test]
    fn the_search_begins_behind_what_was_there_before_the_attempt() {
        let mut play = Play::new(reconciling());
        play.batch("a b", 0);
        play.does(0);
        play.delivered(1); // at 700 and 701
        play.batch("c", 1);
        play.does(1);
        play.times_out(2);
        play.does(2);
        play.stored(3);
        play.does(200);
        play.recovered(1, 200);
        assert_eq!(play.does(200), ["search for 1 from 702"]);
    }

    #[test]
    fn receipts_tell_the_offsets_that_were_found() {
        let mut play = Play::new(LaneOptions { durable: false, ..reconciling() });
        let receipts = ["a", "b"].map(|word| play.push_for_receipt(word, 0));
        play.lane.flush(crate::accumulator::FlushReason::Manual);
        play.does(0);
        play.times_out(1);
        play.does(1);
        play.stored(2);
        play.does(200);
        play.recovered(1, 200);
        play.does(200);
        play.finds(&[1], 201);
        assert_eq!(receipts[0].try_outcome(), None);
        assert_eq!(receipts[1].try_outcome(), Some(Outcome::Delivered { partition: 3, offset: Some(40) }));
        assert_eq!(play.does(201), ["produce a"]);
        play.delivered(202);
        assert_eq!(receipts[0].try_outcome(), Some(Outcome::Delivered { partition: 3, offset: Some(700) }));
    }

    /// What a former process left may have been delivered: looked for, until something of it was not there.
    #[test]
    fn what_a_former_process_left_is_looked_for_until_some_is_missing() {
        let mut former = Play::new(reconciling());
        former.lane.handle(Event::Link(super::super::Link::Down), at(0));
        for word in ["a", "b", "c"] {
            former.batch(word, 0);
            former.does(1000);
            former.stored(1000);
        }
        let mut play = Play::new(LaneOptions {
            max_batch_bytesize: const { std::num::NonZeroUsize::new(130).unwrap() },
            ..reconciling()
        });
        play.storage = former.storage;
        play.lane.found(3, 3);
        assert_eq!(play.does(0), ["recover"]);
        play.recovered(1, 0);
        assert_eq!(play.does(0), ["search for 1"]);
        play.finds(&[0], 1);
        assert_eq!(play.does(1), ["acknowledge 1", "recover after 1"]);
        play.recovered(2, 1);
        assert_eq!(play.does(1), ["search for 1"]);
        play.finds(&[], 2);
        assert_eq!(play.does(2), ["produce b"]);
        play.delivered(3);
        assert_eq!(play.does(3), ["acknowledge 2", "recover after 2"]);
        play.recovered(3, 3);
        assert_eq!(play.does(3), ["produce c"], "it was not sent before b");
    }

    #[test]
    fn what_a_former_process_left_is_looked_for_together() {
        let mut former = Play::new(LaneOptions { journal: true, ..reconciling() });
        for word in ["a", "b", "c"] {
            former.push(word, 0);
            former.does(0);
            former.stored(0);
        }
        let mut play = Play::new(LaneOptions { journal: true, ..reconciling() });
        play.storage = former.storage;
        play.lane.found(3, 3);
        assert_eq!(play.does(0), ["recover"]);
        play.recovered_from(1, 0);
        assert_eq!(play.does(0), ["search for 3"]);
        play.finds(&[0, 1], 1);
        assert_eq!(play.does(1), ["produce c"]);
    }

    #[test]
    fn a_search_that_failed_is_tried_again_and_given_up_in_the_end() {
        let mut play = Play::in_doubt("a");
        let mut ms = 200;
        for round in 1..SEARCHES {
            assert_eq!(play.does(ms), ["search for 1"], "round {round}");
            play.search_fails(ErrorKind::Transient, ms);
            assert_eq!(play.does(ms), [""; 0], "not at once");
            ms = play.timeout();
            assert_eq!(play.does(ms), ["recover"]);
            play.recovered(1, ms);
        }
        play.does(ms);
        play.search_fails(ErrorKind::Transient, ms);
        assert_eq!(play.does(ms), ["produce a"]);
        assert_eq!(play.reconciled(), (0, 0, 1));
        assert_eq!(play.reports.last(), Some(&What::ReconcileFailed(ErrorKind::Transient)));
    }

    #[test]
    fn whoever_waits_hears_that_it_is_stored_when_the_log_can_t_be_searched() {
        let options = LaneOptions { journal: true, durable: true, ..reconciling() };
        let mut former = Play::new(options);
        former.push("a", 0);
        former.does(0);
        former.stored(0);
        let mut play = Play::new(LaneOptions { instance: Some([8; 16]), ..options });
        play.storage = former.storage;
        play.lane.found(1, 1);
        play.lane.handle(Event::Link(super::super::Link::Unknown), at(0));
        let receipt = play.push_for_receipt("b", 0);
        assert_eq!(play.does(0), ["store b"]);
        play.stored(0);
        play.lane.handle(Event::Link(super::super::Link::Up), at(0));
        assert_eq!(play.does(0), ["recover"]);
        play.recovered_from(1, 0);
        assert_eq!((play.does(0), receipt.try_outcome()), (vec!["search for 2".to_owned()], None));
        play.search_fails(ErrorKind::Transient, 1);
        assert_eq!(receipt.try_outcome(), Some(Outcome::Stored));
    }

    #[test]
    fn what_can_t_be_looked_for_is_sent_at_once() {
        for kind in [ErrorKind::Denied, ErrorKind::TooLarge, ErrorKind::Permanent] {
            let mut play = Play::in_doubt("a");
            play.does(200);
            play.search_fails(kind, 201);
            assert_eq!(play.does(201), ["produce a"], "{kind}");
            assert_eq!(play.reconciled(), (0, 0, 1));
            assert_eq!(play.reports.last(), Some(&What::ReconcileFailed(kind)));
        }
    }

    #[test]
    fn what_carries_no_header_is_sent_unseen() {
        let mut former = Play::new(LaneOptions { instance: None, ..options() });
        former.batch("a", 0);
        former.does(0);
        former.times_out(1);
        former.does(1);
        former.stored(2);
        let mut play = Play::new(reconciling());
        play.storage = former.storage;
        play.lane.found(1, 1);
        assert_eq!(play.does(0), ["recover"]);
        play.recovered(1, 0);
        assert_eq!(play.does(0), ["produce a"]);
        assert_eq!(play.reconciled(), (0, 0, 1));
        assert_eq!(play.reports, [What::ReconcileFailed(ErrorKind::Permanent)]);
    }

    #[test]
    fn an_answer_after_the_end_means_nothing() {
        let mut play = Play::in_doubt("a");
        play.does(200);
        play.lane.abandon();
        play.finds(&[0], 201);
        assert_eq!(play.does(201), [""; 0]);
        assert_eq!((play.lane.stats().stored, play.lane.stats().delivered), (1, 0));
    }
}
