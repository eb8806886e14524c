//! Temporary storage: putting batches there, and getting them back.

use super::{Action, Held, Lane, Link, Replay, StorageOp};
use crate::accumulator::FlushReason;
use crate::batch::BatchBuilder;
use crate::notifier::{Trouble, What};
use crate::receipt::{Outcome, Tickets};
use crate::storage::{EntryId, StorageError, StoredBatch};
use crate::time::Moment;
use std::collections::VecDeque;

impl Lane {
    pub(super) fn poll_store(&mut self, now: Moment) -> Option<Action> {
        let pause = if self.abandoned { None } else { self.storage_pause.max(self.full_until()) };
        if !self.may_store() || pause.is_some_and(|until| now < until) {
            return None;
        }
        if self.queue.is_empty() && self.store_by().is_some_and(|by| now >= by) {
            self.seal(self.due.filter(|r| *r != FlushReason::Count).unwrap_or(FlushReason::Wait));
        }
        let held = self.queue.pop_front()?;
        let entry = StoredBatch::new(held.batch.clone(), held.maybe);
        self.storage_op = Some(StorageOp::Append(held));
        Some(Action::Store(entry))
    }

    /// Whether the next batch goes to storage.
    fn may_store(&self) -> bool {
        // What flies from memory is older than what is in the queue and may come back: it must be
        // able to go first.
        let flying = self.flights.iter().any(|f| f.held.entry.is_none())
            || self.dead.iter().any(|d| d.held.entry.is_none());
        (self.abandoned || self.is_storing()) && self.storage_op.is_none() && !flying
    }

    /// When [`poll_store`](Self::poll_store) has to be tried again by itself.
    pub(super) fn store_timeout(&self) -> Option<Moment> {
        if !self.may_store() {
            return None;
        }
        let by = if self.queue.is_empty() { self.store_by()? } else { Moment::ZERO };
        self.storage_pause.max(self.full_until()).max(Some(by))
    }

    pub(super) fn stored(&mut self, result: Result<EntryId, StorageError>, now: Moment) {
        let Some(StorageOp::Append(held)) = self.storage_op.take_if(|op| matches!(op, StorageOp::Append(_)))
        else {
            return;
        };
        match result {
            Ok(id) => {
                self.storage_pause = None;
                self.full = None;
                self.storage_backoff.reset();
                self.is_well(Trouble::Store);
                self.stored_batches += 1;
                if self.stored_batches == 1 {
                    self.front = Some(held.batch.max_timestamp());
                }
                self.stats.stored += held.events();
                if held.maybe {
                    self.stored_from.extend(held.from.map(|from| (id, from)));
                }
                self.release(&held);
                self.gathered(held.events(), held.batch.byte_len());
                if let Some(pledge) = held.pledge {
                    pledge.resolve(Ok(()));
                }
                match held.tickets {
                    Some(tickets) if self.options.durable && !self.is_sent_on() => {
                        tickets.resolve(0..held.batch.len(), |_| Outcome::Stored);
                    }
                    Some(tickets) => self.stored_tickets.push_back((id, tickets, held.batch.len())),
                    None => {}
                }
            }
            Err(error) if self.abandoned => {
                if held.pledge.is_some() {
                    self.give_back(held, error);
                    return;
                }
                if held.origin.is_stored {
                    // It stays where it was routed from.
                    if let Some(tickets) = held.tickets.as_ref().filter(|_| self.options.durable) {
                        tickets.resolve(0..held.batch.len(), |_| Outcome::Stored);
                    }
                    self.stats.turned_back += held.events();
                    self.turned_back += held.events();
                    self.release(&held);
                    return;
                }
                if let Some(tickets) = &held.tickets {
                    // Said at once: other parts of the batch may still hold the same receipts open.
                    tickets.resolve(0..held.batch.len(), |_| Outcome::Lost);
                }
                self.stats.lost += held.events();
                self.release(&held);
                self.report(What::Lost, held.events(), error.to_string());
            }
            Err(StorageError::Full { used, quota }) => self.storage_is_full(held, used, quota, now),
            Err(error) => {
                self.storage_pause = Some(self.storage_backoff.next(now));
                self.report(What::StoreFailed, held.events(), error.to_string());
                self.queue.push_front(held);
            }
        }
    }

    pub(super) fn poll_recover(&mut self, now: Moment) -> Option<Action> {
        let paused = self.storage_pause.is_some_and(|until| now < until);
        if paused || self.storage_op.is_some() || !self.flights.is_empty() || self.link != Link::Up {
            return None;
        }
        self.storage_op = Some(StorageOp::Recover);
        Some(Action::Recover { after: self.cursor, max_bytes: self.options.max_batch_bytesize.get() })
    }

    pub(super) fn recovered(
        &mut self,
        result: Result<Vec<(EntryId, StoredBatch)>, StorageError>,
        now: Moment,
    ) {
        let reads = |op: &mut StorageOp| matches!(op, StorageOp::Recover | StorageOp::Look);
        let Some(op) = self.storage_op.take_if(reads) else { return };
        if self.abandoned || self.winding_down {
            return;
        }
        match result {
            Ok(mut entries) if !entries.is_empty() => {
                self.storage_pause = None;
                self.is_well(Trouble::Recover);
                self.front = entries.first().map(|(_, stored)| stored.batch.max_timestamp());
                if matches!(op, StorageOp::Look) || self.link != Link::Up {
                    self.keep_expired(&mut entries, now);
                }
                if !entries.is_empty() {
                    self.replay(entries);
                }
            }
            Ok(_) => {
                // Storage holds less than it took or said it held.
                let missing = std::mem::take(&mut self.stats.stored);
                (self.stored_batches, self.left_behind, self.is_behind) = (0, 0, false);
                self.journal_is_empty();
                self.stored_tickets.clear();
                self.failing = None; // nothing is left to try with
                self.is_well(Trouble::Recover);
                self.is_well(Trouble::Produce);
                if missing > 0 {
                    self.stats.lost += missing;
                    self.report(What::Lost, missing, "temporary storage no longer has them".to_owned());
                }
            }
            Err(error) => {
                self.storage_pause = Some(self.storage_backoff.next(now));
                self.report(What::RecoverFailed, self.stats.stored, error.to_string());
            }
        }
    }

    /// Readies stored batches for being sent: as one, as many of them as may be and fit.
    fn replay(&mut self, mut entries: Vec<(EntryId, StoredBatch)>) {
        let doubts: Vec<Option<Option<i64>>> = (0..)
            .zip(&entries)
            .map(|(nth, (id, stored))| self.doubt(nth, *id, stored.maybe_persisted))
            .collect();
        // What Kafka may have is sent again as it was, unless the log is searched for each of its records; and what
        // is numbered has to stay what it is.
        let reconcile = self.options.reconcile;
        let joins =
            |nth: usize| (reconcile || doubts[nth].is_none()) && entries[nth].1.batch.identity().is_none();
        let mut count = 1;
        let mut builder = BatchBuilder::new();
        if joins(0) && entries.len() > 1 && joins(1) {
            let limit = self.options.max_batch_bytesize.get();
            let joining = entries.iter().enumerate().take_while(|(nth, _)| joins(*nth));
            let sizes = joining.scan(0, |bytes, (_, (_, stored))| {
                // A record may take some bytes more behind others: for its distance from the first.
                *bytes += stored.batch.byte_len() + 13 * stored.batch.len() as usize;
                Some(*bytes)
            });
            count = sizes.take_while(|bytes| *bytes <= limit).count().max(1);
        }
        entries.truncate(count);
        let doubts = &doubts[..count];
        let unsure = doubts.iter().any(Option::is_some);
        // `None`, from anywhere on, is the least.
        let from = doubts.iter().flatten().copied().min().flatten();
        let last = entries[count - 1].0;
        let tickets = Tickets::join(entries.iter().map(|(id, stored)| {
            let of = self.stored_tickets.pop_front_if(|(of, ..)| of == id);
            (of.map(|(_, tickets, _)| tickets), stored.batch.len())
        }));
        let counts = entries.iter().map(|(id, stored)| (*id, stored.batch.len())).collect();
        let batch = if count == 1 {
            entries.swap_remove(0).1.batch
        } else {
            for record in entries.iter().flat_map(|(_, stored)| stored.batch.records()) {
                let fits = builder.push(&record, 0, None, usize::MAX);
                debug_assert!(fits, "records of stored batches fit one batch");
            }
            let Some(batch) = builder.seal() else { return };
            batch
        };
        self.departs(batch.len(), batch.byte_len(), last);
        let held = Held { maybe: unsure, from, entry: Some(last), ..Held::new(batch, tickets, 0, 0) };
        self.replay =
            Some(Replay { entries: counts, parts: VecDeque::from([held]), turn: None, has_gone: false });
    }
}
