//! Encoding: records appended one by one, sealed into a batch.

use super::{Batch, HEADER_LEN, NO_PRODUCER, layout, varint};
use crate::record::RecordRef;

/// Gathers records, each encoded as it is added, until they are sealed into a [`Batch`].
///
/// An empty builder owns no memory.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    buf: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty builder.
    #[must_use]
    pub const fn new() -> Self {
        Self { buf: Vec::new(), count: 0, base_timestamp: 0, max_timestamp: 0 }
    }

    /// An empty builder that writes into `buffer`, whose content is discarded.
    #[must_use]
    pub fn with_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { buf: buffer, ..Self::new() }
    }

    /// Records added so far.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether nothing was added yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the batch if it were sealed now, in bytes, Kafka's batch header included; 0 when empty.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.buf.len()
    }

    /// Appends a record if the batch then takes at most `limit` bytes; says whether it did.
    ///
    /// `timestamp` is in milliseconds since the Unix epoch and is used where the record has none.
    /// `stamp` is one more header, written after the record's own.
    pub fn push(
        &mut self,
        record: &RecordRef<'_>,
        timestamp: i64,
        stamp: Option<(&str, &[u8])>,
        limit: usize,
    ) -> bool {
        let timestamp = record.timestamp.unwrap_or(timestamp);
        let base = if self.count == 0 { timestamp } else { self.base_timestamp };
        let delta = timestamp.wrapping_sub(base);
        let headers = record.headers.len() + usize::from(stamp.is_some());
        // The fields before the key, which is missing mostly, and those before the value.
        let (mut head, mut more) = (varint::Fields::new(), varint::Fields::new());
        head.byte(0); // attributes: none are defined for a record
        head.put(delta);
        head.put(i64::from(self.count));
        head.put(record.key.map_or(-1, |key| key.len() as i64));
        let fields = if record.key.is_some() { &mut more } else { &mut head };
        fields.put(record.value.map_or(-1, |value| value.len() as i64));
        let body = head.len()
            + record.key.map_or(0, |key| more.len() + key.len())
            + record.value.map_or(0, <[u8]>::len)
            + if headers == 0 { 1 } else { headers_len(record, headers, stamp) };
        let length_len = varint::len(body as i64);
        let needed = self.buf.len().max(HEADER_LEN) + length_len + body;
        if needed > limit || self.count >= i32::MAX as u32 {
            return false;
        }
        if self.count == 0 {
            self.buf.clear();
            self.buf.resize(HEADER_LEN, 0);
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let buf = &mut self.buf;
        buf.reserve(needed - buf.len() + varint::Fields::ROOM);
        head.lead(body as i64, length_len);
        head.write(buf);
        if let Some(key) = record.key {
            buf.extend_from_slice(key);
            more.write(buf);
        }
        buf.extend_from_slice(record.value.unwrap_or_default());
        if headers == 0 {
            buf.push(0);
            self.count += 1;
            return true;
        }
        varint::put(buf, headers as i64);
        for header in record.headers.iter() {
            put_nullable(buf, Some(header.name.as_bytes()));
            put_nullable(buf, header.value);
        }
        if let Some((name, value)) = stamp {
            put_nullable(buf, Some(name.as_bytes()));
            put_nullable(buf, Some(value));
        }
        self.count += 1;
        true
    }

    /// Takes the batch out, leaving the builder empty; `None` when nothing was added.
    pub fn seal(&mut self) -> Option<Batch> {
        if self.count == 0 {
            return None;
        }
        let Self { mut buf, count, base_timestamp, max_timestamp } = std::mem::take(self);
        let batch_length = buf.len() - layout::AFTER_LENGTH;
        let put = |buf: &mut [u8], at: usize, bytes: &[u8]| buf[at..at + bytes.len()].copy_from_slice(bytes);
        put(&mut buf, layout::BASE_OFFSET, &0_i64.to_be_bytes());
        put(&mut buf, layout::BATCH_LENGTH, &(batch_length as i32).to_be_bytes());
        put(&mut buf, layout::LEADER_EPOCH, &(-1_i32).to_be_bytes());
        buf[layout::MAGIC] = 2;
        put(&mut buf, layout::ATTRIBUTES, &0_i16.to_be_bytes());
        put(&mut buf, layout::LAST_OFFSET_DELTA, &(count as i32 - 1).to_be_bytes());
        put(&mut buf, layout::BASE_TIMESTAMP, &base_timestamp.to_be_bytes());
        put(&mut buf, layout::MAX_TIMESTAMP, &max_timestamp.to_be_bytes());
        NO_PRODUCER.write(&mut buf);
        put(&mut buf, layout::COUNT, &(count as i32).to_be_bytes());
        super::write_crc(&mut buf);
        Some(Batch::sealed(buf.into(), count))
    }
}

/// Length of the headers and their count.
#[cold]
fn headers_len(record: &RecordRef<'_>, count: usize, stamp: Option<(&str, &[u8])>) -> usize {
    let one = |name: &str, value| nullable_len(Some(name.as_bytes())) + nullable_len(value);
    let own: usize = record.headers.iter().map(|header| one(header.name, header.value)).sum();
    varint::len(count as i64) + own + stamp.map_or(0, |(name, value)| one(name, Some(value)))
}

#[inline]
fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |b| varint::len(b.len() as i64) + b.len())
}

#[inline]
fn put_nullable(buf: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put(buf, bytes.len() as i64);
            buf.extend_from_slice(bytes);
        }
        None => varint::put(buf, -1),
    }
}
