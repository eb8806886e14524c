//! Sending, and what becomes of what was sent.

use super::{Action, Dead, Flight, FlightId, Held, Lane, Link, Origin, Replay, StorageOp};
use crate::dead_letter::DeadRecord;
use crate::notifier::{Trouble, What};
use crate::producer::{Delivered, ErrorKind, Failed, Persistence, ProduceFailure};
use crate::receipt::Outcome;
use crate::record::RecordRef;
use crate::storage::StorageError;
use crate::time::Moment;

impl Lane {
    pub(super) fn poll_produce(&mut self, now: Moment) -> Option<Action> {
        if self.link != Link::Up || !self.dead.is_empty() || self.failing.is_some_and(|until| now < until) {
            return None;
        }
        if self.winding_down && self.is_locked() {
            return None;
        }
        // After a failure one batch probes; behind a failed one nothing may start until all have landed.
        // Nothing flies beside a search, either.
        let alone = self.failing.is_some() || self.is_searching();
        let window = if alone { 1 } else { self.options.window as usize };
        if self.flights.len() >= window || self.flights.iter().any(|f| matches!(f.result, Some(Err(_)))) {
            return None;
        }
        if let Some(replay) = &mut self.replay {
            // Parts of one stored batch fly one at a time, so that a failed one is not overtaken.
            if !self.flights.is_empty() || replay.turn.is_some_and(|turn| now < turn) {
                return None;
            }
            let part = replay.parts.pop_front()?;
            return self.launch(part, now);
        }
        if self.stored_batches > 0 {
            let is_due = self.is_replay_due() && !self.winding_down;
            return if is_due { self.poll_recover(now) } else { None };
        }
        if self.options.journal {
            return None; // nothing is sent that is not in storage
        }
        if matches!(self.storage_op, Some(StorageOp::Append(_))) {
            return None; // the oldest batch is on its way to storage
        }
        if self.queue.is_empty() {
            let reason = self.due?;
            self.seal(reason);
        }
        let held = self.queue.pop_front()?;
        if self.is_to_be_searched(&held) && !self.flights.is_empty() {
            self.queue.push_front(held);
            return None;
        }
        self.launch(held, now)
    }

    /// When [`poll_produce`](Self::poll_produce) has to be tried again by itself.
    pub(super) fn produce_timeout(&self) -> Option<Moment> {
        if self.link != Link::Up
            || !self.dead.is_empty()
            || !self.flights.is_empty()
            || self.storage_op.is_some()
            || self.winding_down
        {
            return None;
        }
        let replaying = self.replay.is_some();
        let stored = self.is_replay_due() && !replaying;
        let turn = self.replay.as_ref().and_then(|replay| replay.turn);
        let pause = if stored { self.storage_pause } else { turn };
        let queued = !self.options.journal && (!self.queue.is_empty() || self.due.is_some());
        let waiting = stored || replaying || queued;
        if waiting { self.failing.max(pause) } else { None }
    }

    /// Sends it, unless it has to wait for its turn, or all of it is too old.
    fn launch(&mut self, mut held: Held, now: Moment) -> Option<Action> {
        if self.is_to_be_searched(&held) {
            match self.search_for(&held) {
                Some(search) => return Some(self.search(held, search)),
                None => self.send_unseen(&mut held),
            }
        }
        let held = self.without_expired(held, now)?;
        let mut held = self.in_turn(held, now)?;
        let again = std::mem::take(&mut self.retrying) || held.attempts > 0;
        if again && self.id.partition.is_some() {
            self.stats.retried += held.events();
        }
        held.attempts = held.attempts.saturating_add(1);
        if held.entry.is_none() {
            self.full = None; // nothing has to be stored now
            self.is_well(Trouble::Store);
        }
        let flight = FlightId(self.next_flight);
        self.next_flight += 1;
        let maybe = held.maybe;
        if maybe && self.id.partition.is_some() {
            self.stats.maybe_duplicated += held.events();
        }
        let (batch, since, attempt) = (held.batch.clone(), held.since, held.attempts);
        let tickets = held.tickets.clone();
        let origin = Origin { is_stored: held.entry.is_some(), maybe };
        self.flights.push_back(Flight { id: flight, held, result: None, searching: false });
        Some(if self.id.partition.is_some() {
            Action::Produce { flight, batch, since, attempt }
        } else {
            Action::Route { flight, batch, tickets, origin }
        })
    }

    pub(super) fn produced(
        &mut self,
        flight: FlightId,
        result: Result<Delivered, ProduceFailure>,
        now: Moment,
    ) {
        // An answer to a flight that was abandoned, or a second answer, means nothing any more.
        let is_it = |f: &&mut Flight| f.id == flight && f.result.is_none() && !f.searching;
        let Some(flight) = self.flights.iter_mut().find(is_it) else {
            return;
        };
        flight.result = Some(result);
        let failed = self.flights.iter().any(|f| matches!(f.result, Some(Err(_))));
        if failed && self.flights.iter().any(|f| f.result.is_none()) {
            return;
        }
        let mut back = Vec::new();
        while let Some(flight) = self.flights.pop_front_if(|f| f.result.is_some()) {
            match flight.result {
                Some(Ok(delivered)) => self.settle(flight.held, &delivered),
                Some(Err(failure)) => back.extend(self.failed(flight.held, failure, now)),
                None => {}
            }
        }
        self.put_back(back);
        if self.failing.is_some() {
            self.tell_stored();
        }
        self.finish_replay();
    }

    /// These are next, in this order.
    pub(super) fn put_back(&mut self, back: impl IntoIterator<Item = Held, IntoIter: DoubleEndedIterator>) {
        for held in back.into_iter().rev() {
            match (&mut self.replay, held.entry) {
                (Some(replay), Some(_)) => replay.parts.push_front(held),
                _ => self.queue.push_front(held),
            }
        }
    }

    /// Kafka has every record of it.
    pub(super) fn settle(&mut self, held: Held, delivered: &Delivered) {
        self.failing = None;
        self.is_well(Trouble::Produce);
        self.backoff.reset();
        if held.entry.is_some() && !held.maybe {
            self.left_behind = 0; // it was not there: what comes later was not sent either
        }
        let next = delivered.base_offset.map(|base| base + i64::from(held.batch.len()));
        self.next_offset = next.max(self.next_offset);
        self.delivered(&held, 0..held.batch.len(), delivered.base_offset);
        self.stats.delivered_bytes += held.batch.byte_len() as u64;
        self.release(&held);
        self.buffers.give(held.batch);
    }

    fn delivered(
        &mut self,
        held: &Held,
        indexes: impl ExactSizeIterator<Item = u32>,
        base_offset: Option<i64>,
    ) {
        let events = indexes.len() as u64;
        self.stats.delivered += events;
        self.count_replayed(held, events);
        if held.entry.is_some() {
            self.stats.stored = self.stats.stored.saturating_sub(events);
        }
        // Routed events are not in Kafka yet: the lanes they went to settle their receipts.
        if let (Some(tickets), Some(partition)) = (&held.tickets, self.id.partition) {
            let offset = |index| base_offset.map(|base| base + i64::from(index));
            tickets.resolve(indexes, |index| Outcome::Delivered { partition, offset: offset(index) });
        }
    }

    fn count_replayed(&mut self, held: &Held, events: u64) {
        if held.entry.is_some() || held.origin.is_stored {
            self.stats.replayed += events;
        }
    }

    /// Gives what has to be sent again, in order.
    fn failed(&mut self, held: Held, failure: ProduceFailure, now: Moment) -> Vec<Held> {
        self.stats.failures += 1;
        let kind = failure.error.kind();
        let message = failure.error.to_string();
        let Some(mut held) = self.keep_failed(held, &failure.failed) else {
            self.failing = None; // a failure of nothing
            return Vec::new();
        };
        if failure.persistence == Persistence::MaybePersisted {
            held.from = if held.maybe { held.from } else { self.next_offset };
            (held.maybe, held.blind) = (true, false);
        }
        match kind {
            ErrorKind::TooLarge | ErrorKind::Permanent | ErrorKind::Expired => {
                // Kafka is there: nobody is turned away, or has to be stored, while this is being buried.
                self.failing = None;
                self.is_well(Trouble::Produce);
                self.backoff.reset();
                if held.batch.len() > 1 {
                    return halves(held);
                }
                self.dead.push_back(Dead { held, kind, error: message, asked: false });
                return Vec::new();
            }
            ErrorKind::Transient | ErrorKind::Fatal => self.failing = Some(self.backoff.next(now)),
            ErrorKind::Denied | ErrorKind::UnknownTopic => self.failing = Some(self.backoff.longest(now)),
        }
        self.retrying = true;
        self.report(What::ProduceFailed(kind), held.events(), message);
        self.hold_back(held).into_iter().collect()
    }

    /// What can't be sent now is let go of, if all of it can be read again when it is time.
    pub(super) fn hold_back(&mut self, held: Held) -> Option<Held> {
        let whole = |replay: &mut Replay| {
            held.entry == replay.last()
                && held.batch.len() == replay.entries.iter().map(|(_, count)| count).sum::<u32>()
        };
        if let Some(replay) = self.replay.take_if(whole) {
            // Nothing of the stored batches got through: they can as well be read again when it is time.
            if held.maybe {
                let before = self.doubtful.map(|(last, _)| last);
                self.doubtful = held.entry.max(before).map(|last| (last, held.from));
            }
            if let Some(tickets) = held.tickets {
                let mut end = held.batch.len();
                for &(entry, count) in replay.entries.iter().rev() {
                    let indexes: Vec<u32> = (end - count..end).collect();
                    self.stored_tickets.push_front((entry, tickets.select(&indexes), count));
                    end -= count;
                }
            }
            return None;
        }
        Some(held)
    }

    /// Settles the records that were delivered and keeps the others.
    pub(super) fn keep_failed(&mut self, held: Held, failed: &Failed) -> Option<Held> {
        let Failed::Some(indexes) = failed else { return Some(held) };
        let count = held.batch.len();
        let is_failed = |index: &u32| indexes.binary_search(index).is_ok();
        let delivered: Vec<u32> = (0..count).filter(|index| !is_failed(index)).collect();
        self.delivered(&held, delivered.iter().copied(), None);
        if delivered.is_empty() {
            return Some(held);
        }
        self.rest(held, &delivered)
    }

    /// The records of it that are not these, which are delivered.
    fn rest(&mut self, held: Held, delivered: &[u32]) -> Option<Held> {
        let kept: Vec<u32> =
            (0..held.batch.len()).filter(|index| delivered.binary_search(index).is_err()).collect();
        let (part, rest_cost) = part(&held, &kept);
        let left = part.as_ref().map_or(0, |part| part.batch.byte_len());
        self.stats.delivered_bytes += held.batch.byte_len().saturating_sub(left) as u64;
        // The budget is given back for what was delivered, in proportion.
        if held.entry.is_none() {
            self.released.0 += held.cost - rest_cost;
            self.released.1 += delivered.len();
        }
        part
    }

    /// Settles these records, but not their receipts, and gives the others.
    pub(super) fn without(&mut self, held: Held, delivered: &[u32]) -> Option<Held> {
        self.stats.delivered += delivered.len() as u64;
        self.count_replayed(&held, delivered.len() as u64);
        if held.entry.is_some() {
            self.stats.stored = self.stats.stored.saturating_sub(delivered.len() as u64);
        }
        self.rest(held, delivered)
    }

    pub(super) fn poll_dead_letter(&mut self, now: Moment) -> Option<Action> {
        if self.dead_pause.is_some_and(|until| now < until) {
            return None;
        }
        let dead = self.dead.front_mut().filter(|dead| !dead.asked)?;
        dead.asked = true;
        self.dead_pause = None;
        let Dead { held, kind, error, .. } = self.dead.front()?;
        let dead_record = |record: RecordRef<'_>| {
            let error = match (kind, record.timestamp) {
                (ErrorKind::Expired, Some(timestamp)) => self.too_old(timestamp, held, now),
                _ => error.clone(),
            };
            let mut dead = DeadRecord::new(self.id.clone(), record.to_owned(), *kind, error);
            dead.attempts = held.attempts;
            dead
        };
        Some(Action::DeadLetter(held.batch.records().map(dead_record).collect()))
    }

    pub(super) fn dead_lettered(&mut self, taken: usize, result: Result<(), StorageError>, now: Moment) {
        if !self.dead.front().is_some_and(|dead| dead.asked) {
            return;
        }
        let Some(Dead { held, kind, error, .. }) = self.dead.pop_front() else { return };
        let count = held.batch.len();
        let taken = if result.is_ok() { count } else { u32::try_from(taken).unwrap_or(count).min(count) };
        if result.is_ok() {
            self.is_well(Trouble::DeadLetter);
        }
        if taken > 0 {
            self.storage_backoff.reset();
            self.stats.dead_lettered += u64::from(taken);
            if held.entry.is_some() {
                self.stats.stored = self.stats.stored.saturating_sub(taken.into());
            }
            if let Some(tickets) = &held.tickets {
                tickets.resolve(0..taken, |_| Outcome::DeadLettered(kind));
            }
            self.report(What::DeadLettered(kind), taken.into(), error.clone());
        }
        let taken: Vec<u32> = (0..taken).collect();
        if let Err(error_of_sink) = result {
            self.dead_pause = Some(self.storage_backoff.next(now));
            self.report(
                What::DeadLetterFailed,
                u64::from(count) - taken.len() as u64,
                error_of_sink.to_string(),
            );
        }
        let left = if taken.is_empty() {
            Some(held)
        } else if taken.len() < count as usize {
            self.rest(held, &taken)
        } else {
            self.release(&held);
            None
        };
        if let Some(held) = left {
            self.dead.push_front(Dead { held, kind, error, asked: false });
        }
        self.finish_replay();
        self.give_up_on_nothing();
    }

    /// Whether it waits for its dead letters to be taken: nothing is sent before that.
    pub(super) fn cannot_bury(&self) -> bool {
        !self.dead.is_empty() && self.troubles.contains(&Trouble::DeadLetter)
    }

    /// A lane that waits for Kafka although nothing is left to try with would wait for ever.
    fn give_up_on_nothing(&mut self) {
        let is_idle = self.stored_batches == 0
            && self.queue.is_empty()
            && self.flights.is_empty()
            && self.dead.is_empty()
            && self.storage_op.is_none();
        if is_idle {
            self.failing = None;
        }
    }

    /// Acknowledges the stored batch when all of it is delivered or dead-lettered.
    pub(super) fn finish_replay(&mut self) {
        let open = !self.flights.is_empty() || !self.dead.is_empty();
        if let Some(replay) = self.replay.take_if(|replay| !open && replay.parts.is_empty()) {
            let batches = replay.entries.len() as u64;
            self.stored_batches = self.stored_batches.saturating_sub(batches);
            self.left_behind = self.left_behind.saturating_sub(batches);
            if let Some(last) = replay.last() {
                self.cursor = Some(last);
                self.front = None;
                self.doubtful.take_if(|(doubtful, _)| *doubtful <= last);
                self.stored_from.retain(|(of, _)| *of > last);
                self.say.push_back(Action::Acknowledge(last));
                self.may_have_room();
            }
            self.is_behind &= self.is_replay_due();
        }
    }
}

/// Both halves of a batch of at least two records.
fn halves(held: Held) -> Vec<Held> {
    let middle = held.batch.len() / 2;
    let left: Vec<u32> = (0..middle).collect();
    let right: Vec<u32> = (middle..held.batch.len()).collect();
    let (mut left, left_cost) = part(&held, &left);
    let (mut right, _) = part(&held, &right);
    if let (Some(left), Some(right)) = (&mut left, &mut right) {
        right.cost = held.cost - left_cost;
        right.first = held.first + u64::from(middle);
        left.cost = left_cost;
    }
    left.into_iter().chain(right).collect()
}

/// The records with these indexes as a batch of their own, and their share of the cost.
pub(super) fn part(held: &Held, kept: &[u32]) -> (Option<Held>, usize) {
    let batch = held.batch.select(|index| kept.binary_search(&index).is_ok());
    let cost = (held.cost as u128 * kept.len() as u128 / u128::from(held.batch.len())) as usize;
    let tickets = held.tickets.as_ref().map(|tickets| tickets.select(kept));
    let part = batch.map(|batch| Held {
        since: held.since,
        attempts: held.attempts,
        maybe: held.maybe,
        from: held.from,
        blind: held.blind,
        entry: held.entry,
        origin: held.origin,
        ..Held::new(batch, tickets, cost, held.first)
    });
    (part, cost)
}
