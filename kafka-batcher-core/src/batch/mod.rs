//! A batch of records as one buffer in Kafka's record-batch format 2.
//!
//! The buffer is the batch in memory, in temporary storage and, for a backend that can use it, on
//! the wire; everybody else iterates it as borrowed records. The format is Kafka's own
//! (<https://kafka.apache.org/documentation/#recordbatch>): a header of 61 bytes, then the records.
//! A batch is never compressed here: compression is the producer's business.

mod buffers;
mod builder;
mod decode;
mod varint;

use std::fmt;

use bytes::Bytes;

pub use buffers::Buffers;
pub use builder::BatchBuilder;
pub(crate) use decode::EncodedHeaders;
pub use decode::{BatchError, Records};

/// Size of the header of a batch, in bytes.
pub const HEADER_LEN: usize = 61;

/// Where each field of the header begins.
mod layout {
    pub(super) const BASE_OFFSET: usize = 0;
    pub(super) const BATCH_LENGTH: usize = 8;
    pub(super) const AFTER_LENGTH: usize = 12;
    pub(super) const LEADER_EPOCH: usize = 12;
    pub(super) const MAGIC: usize = 16;
    pub(super) const CRC: usize = 17;
    pub(super) const ATTRIBUTES: usize = 21;
    pub(super) const LAST_OFFSET_DELTA: usize = 23;
    pub(super) const BASE_TIMESTAMP: usize = 27;
    pub(super) const MAX_TIMESTAMP: usize = 35;
    pub(super) const PRODUCER_ID: usize = 43;
    pub(super) const PRODUCER_EPOCH: usize = 51;
    pub(super) const BASE_SEQUENCE: usize = 53;
    pub(super) const COUNT: usize = 57;
}

/// Who sent a batch and with which sequence number, as an idempotent producer stamps it.
///
/// A batch sent again with the same identity is recognised by Kafka, and the copy is dropped. A
/// backend that numbers its own batches stamps a batch once, before it is first sent; from then on
/// the batch must not be cut, merged or encoded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Producer id, as given out by Kafka.
    pub producer_id: i64,
    /// Epoch of that producer id.
    pub producer_epoch: i16,
    /// Sequence number of the batch's first record.
    pub base_sequence: i32,
}

/// What Kafka takes for "not idempotent".
const NO_PRODUCER: Identity = Identity { producer_id: -1, producer_epoch: -1, base_sequence: -1 };

impl Identity {
    fn write(self, buf: &mut [u8]) {
        buf[layout::PRODUCER_ID..][..8].copy_from_slice(&self.producer_id.to_be_bytes());
        buf[layout::PRODUCER_EPOCH..][..2].copy_from_slice(&self.producer_epoch.to_be_bytes());
        buf[layout::BASE_SEQUENCE..][..4].copy_from_slice(&self.base_sequence.to_be_bytes());
    }
}

/// Fills in the CRC32C over everything behind its field.
fn write_crc(buf: &mut [u8]) {
    let crc = crc32c::crc32c(&buf[layout::ATTRIBUTES..]);
    buf[layout::CRC..][..4].copy_from_slice(&crc.to_be_bytes());
}

/// A sealed batch: at least one record, one immutable buffer, cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    count: u32,
}

impl Batch {
    fn sealed(bytes: Bytes, count: u32) -> Self {
        Self { bytes, count }
    }

    /// Takes an encoded batch back, for example from disk, and checks all of it: lengths, checksum, every record.
    ///
    /// # Errors
    /// [`BatchError`] says what is wrong. A compressed batch, a control batch and one without
    /// records are refused: this crate never writes them.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let count = decode::check(&bytes)?;
        Ok(Self { bytes, count })
    }

    /// How many records it holds; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Size in bytes, Kafka's batch header included.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The encoded batch.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records in order, borrowed from the buffer.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.bytes, self.count)
    }

    /// The largest timestamp of its records, in milliseconds since the Unix epoch, as the header has it.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(decode::field(&self.bytes, layout::MAX_TIMESTAMP))
    }

    /// The identity the batch was stamped with.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        let identity = Identity {
            producer_id: i64::from_be_bytes(decode::field(&self.bytes, layout::PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(decode::field(&self.bytes, layout::PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(decode::field(&self.bytes, layout::BASE_SEQUENCE)),
        };
        (identity.producer_id >= 0).then_some(identity)
    }

    /// The same batch stamped with `identity`, its checksum renewed.
    ///
    /// Copies the buffer only when somebody else still holds it.
    #[must_use]
    pub fn stamped(self, identity: Identity) -> Self {
        let mut buf: Vec<u8> = self.bytes.into();
        identity.write(&mut buf);
        write_crc(&mut buf);
        Self { bytes: buf.into(), count: self.count }
    }

    /// A new batch of the records whose index `keep` approves, in the same order, without an identity.
    ///
    /// `None` when it approves none.
    #[must_use]
    pub fn select(&self, mut keep: impl FnMut(u32) -> bool) -> Option<Self> {
        let mut builder = BatchBuilder::new();
        for (index, record) in (0..).zip(self.records()) {
            if keep(index) {
                // A part of a batch is never larger than the batch, which was within the format's limit.
                let fits = builder.push(&record, 0, None, usize::MAX);
                debug_assert!(fits, "a record of a batch fits a part of that batch");
            }
        }
        builder.seal()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("records", &self.count)
            .field("bytes", &self.byte_len())
            .field("identity", &self.identity())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Record, RecordRef};

    fn build(records: &[Record]) -> Batch {
        let mut builder = BatchBuilder::new();
        for record in records {
            assert!(builder.push(&record.as_ref(), 1_700_000_000_000, None, usize::MAX));
        }
        builder.seal().unwrap()
    }

    pub(super) fn any_record() -> impl Strategy<Value = Record> {
        let bytes = || option::of(vec(any::<u8>(), 0..200));
        (bytes(), bytes(), vec((".{0,12}", bytes()), 0..4), option::of(0..i64::MAX / 4)).prop_map(
            |(key, value, headers, timestamp)| {
                let (key, value) = (key.map(Into::into), value.map(Into::into));
                let mut record = Record { key, value, timestamp, ..Record::default() };
                for (name, value) in headers {
                    record.headers.push(name, value.map(Into::into));
                }
                record
            },
        )
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(records in vec(any_record(), 1..40)) {
            let batch = build(&records);
            prop_assert_eq!(Batch::parse(batch.as_bytes().clone()).unwrap(), batch.clone());
            let read: Vec<_> = batch.records().map(|r| r.to_owned()).collect();
            let expected: Vec<_> =
                records.into_iter().map(|r| { let t = r.timestamp.unwrap_or(1_700_000_000_000); r.with_timestamp(t) }).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_part_holds_the_chosen_records_only(records in vec(any_record(), 1..20), mask: u32) {
            let batch = build(&records);
            let part = batch.select(|i| mask & (1 << i) != 0);
            let expected: Vec<_> = batch.records().zip(0..).filter(|(_, i)| mask & (1 << i) != 0).map(|(r, _)| r.to_owned()).collect();
            let got: Vec<_> = part.iter().flat_map(|p| p.records().map(|r| r.to_owned())).collect();
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes in vec(any::<u8>(), 0..300)) {
            prop_assert!(Batch::parse(bytes.into()).is_err());
        }

        #[test]
        fn damage_never_passes_for_a_batch(records in vec(any_record(), 1..8), at: prop::sample::Index, bit in 0..8_u8) {
            let batch = build(&records);
            let mut bytes = batch.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            // Base offset and leader epoch are the broker's to write and are not covered by the checksum.
            let covered = !(at < layout::BATCH_LENGTH || (layout::LEADER_EPOCH..layout::MAGIC).contains(&at));
            prop_assert_eq!(Batch::parse(bytes.into()).is_err(), covered);
        }
    }

    #[test]
    fn the_limit_is_exact_and_a_refused_record_leaves_no_trace() {
        let record = Record::new(vec![7; 100]).with_key("k").with_timestamp(5);
        let one = build(std::slice::from_ref(&record)).byte_len();
        let mut builder = BatchBuilder::new();
        assert!(!builder.push(&record.as_ref(), 0, None, one - 1));
        assert_eq!((builder.byte_len(), builder.seal()), (0, None));
        assert!(builder.push(&record.as_ref(), 0, None, one));
        assert_eq!(builder.byte_len(), one);
        assert!(!builder.push(&record.as_ref(), 0, None, one + 50));
        assert_eq!(builder.seal().unwrap().byte_len(), one);
    }

    #[test]
    fn an_identity_is_stamped_and_kept() {
        let batch = build(&[Record::new("v")]);
        assert_eq!(batch.identity(), None);
        let identity = Identity { producer_id: 7, producer_epoch: 1, base_sequence: 42 };
        let stamped = batch.clone().stamped(identity);
        assert_eq!(Batch::parse(stamped.as_bytes().clone()).unwrap().identity(), Some(identity));
        assert_eq!(stamped.select(|_| true).unwrap(), batch, "a re-cut batch has no identity");
    }

    #[test]
    fn one_more_header_goes_behind_the_record_s_own() {
        let mut builder = BatchBuilder::new();
        let record = Record::new("v").with_header("a", "1");
        assert!(builder.push(&record.as_ref(), 0, Some(("kb", &[9, 9])), usize::MAX));
        let batch = builder.seal().unwrap();
        let headers: Vec<_> =
            batch.records().next().unwrap().headers.iter().map(|h| h.name.to_owned()).collect();
        assert_eq!(headers, ["a", "kb"]);
    }

    #[test]
    fn timestamps_may_run_backwards() {
        let batch = build(&[Record::new("a").with_timestamp(1000), Record::new("b").with_timestamp(-5)]);
        let stamps: Vec<_> = batch.records().map(|r: RecordRef<'_>| r.timestamp.unwrap()).collect();
        assert_eq!(stamps, [1000, -5]);
        assert_eq!(batch.max_timestamp(), 1000);
    }
}
