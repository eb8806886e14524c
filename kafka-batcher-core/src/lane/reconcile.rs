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

    /// Has the log searched for a batch; a batch that can't be known again is given back.
    pub(super) fn search(&mut self, mut held: Held) -> Result<Action, Held> {
        let wanted: Vec<&[u8]> =
            held.batch.records().filter_map(|record| last_value(&record, SEQUENCE_HEADER)).collect();
        if wanted.is_empty() {
            held.blind = true;
            let message = "they carry no sequence header; sent again unseen".to_owned();
            self.report(What::ReconcileFailed(ErrorKind::Permanent), held.events(), message);
            return Err(held);
        }
        let partition = self.id.partition.unwrap_or_default();
        let mut search = Search::new(self.id.topic.clone(), partition, SEQUENCE_HEADER, wanted);
        search.from_offset = held.from;
        search.from_timestamp =
            held.batch.records().map(|record| record.timestamp.unwrap_or(i64::MIN)).min().unwrap_or(i64::MIN);
        let flight = FlightId(self.next_flight);
        self.next_flight += 1;
        self.flights.push_back(Flight { id: flight, held, result: None, searching: true });
        Ok(Action::Search { flight, search })
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
                    self.tell_stored();
                    self.hold_back(held)
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
