//! Decoding: a checked walk over an encoded batch.

use super::{HEADER_LEN, layout, varint};
use crate::record::{HeaderRef, HeadersRef, RecordRef};

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Shorter than a batch header, or than the length the header states; or longer.
    #[error("the batch is {actual} bytes long, its header says {expected}")]
    Length {
        /// What the header says, or the size of a header if there is not even that.
        expected: usize,
        /// What there is.
        actual: usize,
    },
    /// Not format 2.
    #[error("record-batch format {0} is not supported, only 2 is")]
    Magic(u8),
    /// The checksum does not match: the bytes were damaged.
    #[error("the batch's checksum is {stored:08x}, its content gives {computed:08x}")]
    Checksum {
        /// The one in the header.
        stored: u32,
        /// The one over the content.
        computed: u32,
    },
    /// Compressed, transactional or a control batch.
    #[error("batch attributes {0:#06x} are not supported, only plain batches are")]
    Attributes(u16),
    /// The record with this index is malformed.
    #[error("record {0} of the batch is malformed")]
    Record(u32),
    /// The number of records is not positive, or does not match the content.
    #[error("the batch says it holds {0} records, which its content does not")]
    Count(i32),
}

pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Checks everything; gives the number of records.
pub(super) fn check(bytes: &[u8]) -> Result<u32, BatchError> {
    let actual = bytes.len();
    if actual < HEADER_LEN {
        return Err(BatchError::Length { expected: HEADER_LEN, actual });
    }
    if bytes[layout::MAGIC] != 2 {
        return Err(BatchError::Magic(bytes[layout::MAGIC]));
    }
    let stated = i32::from_be_bytes(field(bytes, layout::BATCH_LENGTH));
    let expected = usize::try_from(stated).unwrap_or(0) + layout::AFTER_LENGTH;
    if expected != actual {
        return Err(BatchError::Length { expected, actual });
    }
    let stored = u32::from_be_bytes(field(bytes, layout::CRC));
    let computed = crc32c::crc32c(&bytes[layout::ATTRIBUTES..]);
    if stored != computed {
        return Err(BatchError::Checksum { stored, computed });
    }
    let attributes = u16::from_be_bytes(field(bytes, layout::ATTRIBUTES));
    if attributes != 0 {
        return Err(BatchError::Attributes(attributes));
    }
    let stated = i32::from_be_bytes(field(bytes, layout::COUNT));
    let last_delta = i32::from_be_bytes(field(bytes, layout::LAST_OFFSET_DELTA));
    let Some(count) = u32::try_from(stated).ok().filter(|c| *c > 0 && last_delta == stated - 1) else {
        return Err(BatchError::Count(stated));
    };
    let mut records = Records::new(bytes, count);
    for index in 0..count {
        records.read().ok_or(BatchError::Record(index))?;
    }
    if records.rest.is_empty() { Ok(count) } else { Err(BatchError::Count(stated)) }
}

/// Iterator over a batch's records, in order; made by [`Batch::records`](super::Batch::records).
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    base_timestamp: i64,
    left: u32,
}

impl<'a> Records<'a> {
    pub(super) fn new(batch: &'a [u8], count: u32) -> Self {
        let base_timestamp = i64::from_be_bytes(field(batch, layout::BASE_TIMESTAMP));
        Self { rest: &batch[HEADER_LEN..], base_timestamp, left: count }
    }

    #[inline]
    fn read(&mut self) -> Option<RecordRef<'a>> {
        let body = take_bytes(&mut self.rest)??;
        let (_attributes, mut body) = body.split_first()?;
        let delta = varint::take(&mut body)?;
        let _offset_delta = varint::take(&mut body)?;
        let key = take_bytes(&mut body)?;
        let value = take_bytes(&mut body)?;
        // A lone zero is "no headers", as nearly always.
        let headers = if body == [0] { HeadersRef::default() } else { read_headers(body)? };
        let timestamp = Some(self.base_timestamp.wrapping_add(delta));
        Some(RecordRef { key, value, headers, timestamp })
    }
}

#[inline(never)]
fn read_headers(mut body: &[u8]) -> Option<HeadersRef<'_>> {
    let count = usize::try_from(varint::take(&mut body)?).ok()?;
    let encoded = EncodedHeaders { rest: body, left: count };
    let mut walk = encoded;
    for _ in 0..count {
        walk.read()?;
    }
    if !walk.rest.is_empty() {
        return None;
    }
    Some(if count == 0 { HeadersRef::default() } else { HeadersRef::encoded(encoded) })
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.read()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// The outer `None` is "malformed", the inner one Kafka's null.
#[inline]
fn take_bytes<'a>(buf: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = varint::take(buf)?;
    if len == -1 {
        return Some(None);
    }
    let len = usize::try_from(len).ok()?;
    let (bytes, rest) = buf.split_at_checked(len)?;
    *buf = rest;
    Some(Some(bytes))
}

/// The headers of one record, still encoded.
#[derive(Clone, Copy, Default)]
pub(crate) struct EncodedHeaders<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> EncodedHeaders<'a> {
    pub(crate) fn count(self) -> usize {
        self.left
    }

    pub(crate) fn encoded_len(self) -> usize {
        self.rest.len()
    }

    fn read(&mut self) -> Option<HeaderRef<'a>> {
        let name = std::str::from_utf8(take_bytes(&mut self.rest)??).ok()?;
        let value = take_bytes(&mut self.rest)?;
        Some(HeaderRef { name, value })
    }
}

impl<'a> Iterator for EncodedHeaders<'a> {
    type Item = HeaderRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.read()
    }
}
