//! With a journal all events go through storage, and the accumulator decides when what is there is sent.
//!
//! They are stored in small batches, as they come, and sent in large ones, as they are read.

use super::{Action, Lane, StorageOp};
use crate::accumulator::FlushReason;
use crate::receipt::Outcome;
use crate::storage::EntryId;

/// What is in storage and not yet a batch: the accumulator has not said so.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    events: u64,
    bytes: usize,
    /// So many of the next events to be stored have been declared a batch already.
    ready: u64,
    reason: Option<FlushReason>,
    /// Up to here, telemetry has been told of batches.
    told: Option<EntryId>,
}

impl Lane {
    /// What is gathered, in memory and in storage, shall be sent; says whether the driver has to poll.
    pub(super) fn flush_journal(&mut self, reason: FlushReason) -> bool {
        let stored = std::mem::take(&mut self.journal.events);
        self.journal.bytes = 0;
        self.journal.ready = self.stats.accepted - self.in_memory_from();
        if stored == 0 && self.journal.ready == 0 {
            return false;
        }
        self.journal.reason = Some(reason);
        stored > 0 && self.flights.is_empty()
    }

    /// A batch is in storage.
    pub(super) fn gathered(&mut self, events: u64, bytes: usize) {
        if !self.options.journal {
            return;
        }
        let ready = self.journal.ready.min(events);
        self.journal.ready -= ready;
        self.journal.events += events - ready;
        self.journal.bytes += bytes;
        if self.journal.bytes >= self.options.max_batch_bytesize.get() {
            self.journal = Gathered {
                events: 0,
                bytes: 0,
                reason: Some(FlushReason::Bytes),
                ..std::mem::take(&mut self.journal)
            };
        }
    }

    /// So many events were not stored after all, and are no longer in memory.
    pub(super) fn not_gathered(&mut self, events: u64) {
        self.journal.ready = self.journal.ready.saturating_sub(events);
    }

    /// Storage turned out to hold nothing.
    pub(super) const fn journal_is_empty(&mut self) {
        self.journal.events = 0;
        self.journal.bytes = 0;
    }

    /// Whether storage is only half the way of an event: it has a journal, and Kafka is there.
    pub(super) const fn is_sent_on(&self) -> bool {
        self.options.journal && !self.is_locked() && !self.abandoned && !self.winding_down
    }

    /// Whether something is on its way into storage or there, and not yet a batch.
    pub(super) fn is_gathering_in_storage(&self) -> bool {
        self.options.journal
            && (self.journal.events > 0 || matches!(self.storage_op, Some(StorageOp::Append(_))))
    }

    /// Whether there is something in storage to be sent now.
    pub(super) const fn is_replay_due(&self) -> bool {
        self.stored_batches > 0 && self.stats.stored > self.journal.events
    }

    /// So many events were read from storage to be sent, up to `last`, which is the first time unless an attempt failed.
    pub(super) fn departs(&mut self, events: u32, bytes: usize, last: EntryId) {
        if !self.options.journal {
            return;
        }
        let ready = self.stats.stored.saturating_sub(self.journal.events);
        self.journal.events -= u64::from(events).saturating_sub(ready).min(self.journal.events);
        if self.journal.events == 0 {
            self.journal.bytes = 0;
        }
        if self.journal.told.is_none_or(|told| told < last) {
            self.journal.told = Some(last);
            let reason = self.journal.reason.unwrap_or(FlushReason::Wait);
            self.say.push_back(Action::Sealed { events, bytes, reason });
        }
    }

    /// Kafka is not there: whoever waits for a receipt of what is stored hears that it is.
    pub(super) fn tell_stored(&mut self) {
        if !self.options.durable {
            return;
        }
        for (_, tickets, events) in self.stored_tickets.drain(..) {
            tickets.resolve(0..events, |_| Outcome::Stored);
        }
        let parts = self.replay.iter().flat_map(|replay| &replay.parts);
        let flying = self.flights.iter().map(|flight| &flight.held);
        let dead = self.dead.iter().map(|dead| &dead.held);
        for held in parts.chain(flying).chain(dead).filter(|held| held.entry.is_some()) {
            if let Some(tickets) = &held.tickets {
                tickets.resolve(0..held.batch.len(), |_| Outcome::Stored);
            }
        }
    }
}
