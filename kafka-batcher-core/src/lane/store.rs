//! Temporary storage: putting batches there, and getting them back.

use super::{Action, Held, Lane, Link, Replay, StorageOp};
use crate::accumulator::FlushReason;
use crate::notifier::What;
use crate::receipt::Outcome;
use crate::storage::{EntryId, StorageError, StoredBatch};
use crate::time::Moment;
use std::collections::VecDeque;

impl Lane {
    pub(super) fn poll_store(&mut self, now: Moment) -> Option<Action> {
        if !self.may_store() || (!self.abandoned && self.storage_pause.is_some_and(|until| now < until)) {
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
        Some(self.storage_pause.map_or(by, |pause| pause.max(by)))
    }

    pub(super) fn stored(&mut self, result: Result<EntryId, StorageError>, now: Moment) {
        let Some(StorageOp::Append(held)) = self.storage_op.take_if(|op| matches!(op, StorageOp::Append(_)))
        else {
            return;
        };
        match result {
            Ok(id) => {
                self.storage_pause = None;
                self.storage_backoff.reset();
                self.stored_batches += 1;
                self.stats.stored += held.events();
                self.release(&held);
                match held.tickets {
                    Some(tickets) if self.options.durable => {
                        tickets.resolve(0..held.batch.len(), |_| Outcome::Stored);
                    }
                    Some(tickets) => self.stored_tickets.push_back((id, tickets)),
                    None => {}
                }
            }
            Err(error) if self.abandoned => {
                if let Some(tickets) = &held.tickets {
                    // Said at once: other parts of the batch may still hold the same receipts open.
                    tickets.resolve(0..held.batch.len(), |_| Outcome::Lost);
                }
                self.stats.lost += held.events();
                self.release(&held);
                self.report(What::Lost, held.events(), error.to_string());
            }
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
        Some(Action::Recover { after: self.cursor })
    }

    pub(super) fn recovered(
        &mut self,
        result: Result<Option<(EntryId, StoredBatch)>, StorageError>,
        now: Moment,
    ) {
        if self.storage_op.take_if(|op| matches!(op, StorageOp::Recover)).is_none() || self.abandoned {
            return;
        }
        match result {
            Ok(Some((id, stored))) => {
                self.storage_pause = None;
                let tickets =
                    self.stored_tickets.pop_front_if(|(of, _)| *of == id).map(|(_, tickets)| tickets);
                let held = Held {
                    batch: stored.batch,
                    tickets,
                    cost: 0,
                    first: 0,
                    maybe: stored.maybe_persisted || self.doubtful == Some(id),
                    entry: Some(id),
                };
                self.replay =
                    Some(Replay { entry: id, events: held.batch.len(), parts: VecDeque::from([held]) });
            }
            Ok(None) => {
                // Storage holds less than it took or said it held.
                let missing = std::mem::take(&mut self.stats.stored);
                self.stored_batches = 0;
                self.stored_tickets.clear();
                self.failing = None; // nothing is left to try with
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
}
