//! Taking records in and sealing batches.

use super::{Action, Held, Lane, Link, Origin};
use crate::accumulator::FlushReason;
use crate::batch::{Batch, BatchBuilder};
use crate::config::OnUnavailable;
use crate::journal::Journaled;
use crate::receipt::{Receipt, Tickets};
use crate::record::RecordRef;
use crate::time::Moment;

/// The header by which a consumer can tell duplicates, if `sequence_header` is on.
///
/// Its value is 28 bytes: the instance (16, random for each batcher), the lane (4, the partition, or
/// −1 for events accepted before the partition count was known) and the event's number in that lane
/// (8), integers big-endian. Of one instance and lane the numbers grow, not always by one; one that
/// was seen before is a duplicate.
pub const SEQUENCE_HEADER: &str = "kafka-batcher-sequence";

/// A record was taken.
#[derive(Debug)]
#[non_exhaustive]
pub struct Pushed {
    /// It filled a batch up to `max_batch_bytesize`, which was sealed: there is something to do.
    pub sealed: bool,
    /// It is the first of a new batch.
    pub first: bool,
    /// It is to be stored, and storage is free: there is something to do.
    pub wake: bool,
    /// The receipt, if one was asked for.
    pub receipt: Option<Receipt>,
    /// Whether it is in the journal, if there is one: until then it is not accepted.
    pub journaled: Option<Journaled>,
}

/// A record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// It does not fit even an empty batch.
    #[error("the event takes a batch of {size} bytes, max_batch_bytesize is {limit}")]
    TooLarge {
        /// Size of a batch with nothing but this record.
        size: usize,
        /// `max_batch_bytesize`.
        limit: usize,
    },
    /// Kafka is unavailable and the topic is set to refuse events then (`on_unavailable = "reject"`).
    #[error("Kafka is unavailable")]
    Unavailable,
    /// The event would have to be stored, temporary storage is full, and the topic is set to refuse events then
    /// (`on_storage_full = "reject"`).
    #[error("temporary storage is full: {used} of {quota} bytes are used")]
    StorageFull {
        /// Bytes used.
        used: u64,
        /// Bytes allowed.
        quota: u64,
    },
}

impl Lane {
    /// Takes a record behind all others of the lane. `cost` is what it takes of the memory budget.
    ///
    /// # Errors
    /// [`PushError`]; the lane is then unchanged.
    #[inline]
    pub fn push(
        &mut self,
        record: &RecordRef<'_>,
        timestamp: i64,
        cost: usize,
        receipt: bool,
        now: Moment,
    ) -> Result<Pushed, PushError> {
        if self.options.on_unavailable == OnUnavailable::Reject && self.is_locked() {
            return Err(PushError::Unavailable);
        }
        if self.full.is_some() {
            self.check_room(now)?;
        }
        let limit = self.options.max_batch_bytesize.get();
        let header = self.options.instance.map(|instance| self.sequence(instance));
        let stamp = header.as_ref().map(|value| (SEQUENCE_HEADER, &value[..]));
        let mut sealed = false;
        if self.builder.is_empty() {
            self.builder = BatchBuilder::with_buffer(self.buffers.take());
        }
        if !self.builder.push(record, timestamp, stamp, limit) {
            let size = single_size(record, stamp);
            if size > limit {
                return Err(PushError::TooLarge { size, limit });
            }
            self.seal(FlushReason::Bytes);
            sealed = true;
            self.builder = BatchBuilder::with_buffer(self.buffers.take());
            // It fits an empty batch: that was just measured.
            let fits = self.builder.push(record, timestamp, stamp, limit);
            debug_assert!(fits, "a record of {size} bytes fits an empty batch of {limit}");
        }
        let first = self.builder.len() == 1;
        if first {
            self.builder_since = now;
        }
        self.builder_cost += cost;
        self.stats.accepted += 1;
        let receipt = receipt.then(|| {
            let index = self.builder.len() - 1;
            self.builder_tickets.get_or_insert_with(Tickets::new).receipt(index)
        });
        let journal = self.options.journal;
        let journaled = journal.then(|| self.builder_pledge.get_or_insert_default().journaled());
        let wake = journal && first && self.storage_op.is_none();
        Ok(Pushed { sealed, first, wake, receipt, journaled })
    }

    fn sequence(&self, instance: [u8; 16]) -> [u8; 28] {
        let mut value = [0; 28];
        value[..16].copy_from_slice(&instance);
        let lane = self.id.partition.map_or(-1, |p| p as i32);
        value[16..20].copy_from_slice(&lane.to_be_bytes());
        value[20..].copy_from_slice(&self.stats.accepted.to_be_bytes());
        value
    }

    /// Takes a batch that was routed behind all others of the lane, as it is.
    pub fn enqueue(&mut self, batch: Batch, tickets: Option<Tickets>, cost: usize, origin: Origin) {
        self.seal(FlushReason::Manual);
        let first = self.stats.accepted;
        self.stats.accepted += u64::from(batch.len());
        let held = Held { maybe: origin.maybe, origin, ..Held::new(batch, tickets, cost, first) };
        self.queue.push_back(held);
        if self.options.journal {
            // It was a batch before, and does not wait to become one.
            self.flush_journal(FlushReason::Manual);
        }
    }

    /// What is gathered shall leave as soon as the lane is free; says whether that is news.
    pub fn flush(&mut self, reason: FlushReason) -> bool {
        if self.options.journal {
            return self.flush_journal(reason);
        }
        if self.builder.is_empty() {
            return false;
        }
        // While events are stored, only some reasons count: those must not be covered by one that does not.
        let news = self.due.is_none()
            || (!self.due.is_some_and(counts_while_storing) && counts_while_storing(reason));
        if news {
            self.due = Some(reason);
        }
        news && (self.flights.len() < self.options.window as usize || self.is_storing())
    }

    /// Whether something is gathered.
    #[must_use]
    pub fn is_gathering(&self) -> bool {
        !self.builder.is_empty() || self.is_gathering_in_storage()
    }

    /// Moves what is gathered into the queue.
    pub(super) fn seal(&mut self, reason: FlushReason) {
        let events = self.builder.len();
        let Some(batch) = self.builder.seal() else { return };
        self.buffers.sealed(batch.byte_len());
        let first = self.stats.accepted - u64::from(events);
        let tickets = self.builder_tickets.take();
        let cost = std::mem::take(&mut self.builder_cost);
        let pledge = self.builder_pledge.take();
        if !self.options.journal {
            self.due = None;
            self.say.push_back(Action::Sealed { events, bytes: batch.byte_len(), reason });
        }
        let since = Some(self.builder_since);
        self.queue.push_back(Held { since, pledge, ..Held::new(batch, tickets, cost, first) });
    }

    /// Whether what is gathered has to go to storage by now, or when.
    pub(super) fn store_by(&self) -> Option<Moment> {
        if self.builder.is_empty() {
            None
        } else if self.options.journal || self.due.is_some_and(counts_while_storing) {
            Some(Moment::ZERO)
        } else {
            Some(self.builder_since + self.options.max_wait_time)
        }
    }

    /// Whether batches go to storage now instead of to Kafka.
    pub(super) fn is_storing(&self) -> bool {
        self.options.journal
            || self.stored_batches > 0
            || self.replay.is_some()
            || self.link == Link::Down
            || self.failing.is_some()
    }
}

/// While events are stored, "enough of them" and "send now" do not make a batch: larger ones replay faster.
const fn counts_while_storing(reason: FlushReason) -> bool {
    !matches!(reason, FlushReason::Count | FlushReason::Flusher)
}

/// Size of a batch with nothing but this record.
#[cold]
fn single_size(record: &RecordRef<'_>, stamp: Option<(&str, &[u8])>) -> usize {
    let mut builder = BatchBuilder::new();
    builder.push(record, 0, stamp, usize::MAX);
    builder.byte_len()
}
