//! Buffers of delivered batches, used again for new ones.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::{Batch, varint};

/// A handful of buffers kept between batches, so that a busy topic neither allocates nor grows them.
///
/// Shared by the lanes of a topic. It keeps at most [`Buffers::KEPT`] of them, however many lanes there are.
#[derive(Debug, Default)]
pub struct Buffers {
    spare: Mutex<Vec<Vec<u8>>>,
    /// Size of the last batch.
    last: AtomicUsize,
}

impl Buffers {
    /// How many buffers are kept.
    pub const KEPT: usize = 8;

    /// An empty buffer: one of an earlier batch, or a new one with room for a batch as large as the last.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| {
            // The builder wants room to write a record's fields with a copy of fixed size.
            Vec::with_capacity(self.last.load(Relaxed) + varint::Fields::ROOM)
        })
    }

    /// A batch of `size` bytes was sealed: the next may be as large.
    pub fn sealed(&self, size: usize) {
        self.last.store(size, Relaxed);
    }

    /// Takes over the buffer of a batch that is done with, if nobody else still holds it.
    pub fn give(&self, batch: Batch) {
        if !batch.bytes.is_unique() {
            return;
        }
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < Self::KEPT {
            // Not a copy: there is no other holder.
            spare.push(batch.bytes.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::record::Record;

    fn batch(buffer: Vec<u8>) -> Batch {
        let mut builder = BatchBuilder::with_buffer(buffer);
        builder.push(&Record::new(vec![1; 1000]).as_ref(), 0, None, usize::MAX);
        builder.seal().unwrap()
    }

    #[test]
    fn a_buffer_comes_back_unless_somebody_still_reads_it() {
        let buffers = Buffers::default();
        let first = batch(buffers.take());
        let address = first.as_bytes().as_ptr();
        let reader = first.clone();
        buffers.give(first);
        assert!(buffers.take().capacity() < 1000);
        buffers.give(reader);
        let again = batch(buffers.take());
        assert_eq!(again.as_bytes().as_ptr(), address);
    }

    #[test]
    fn only_a_handful_is_kept() {
        let buffers = Buffers::default();
        let batches: Vec<_> = (0..20).map(|_| batch(Vec::new())).collect();
        batches.into_iter().for_each(|batch| buffers.give(batch));
        assert_eq!(buffers.spare.lock().unwrap().len(), Buffers::KEPT);
    }
}
