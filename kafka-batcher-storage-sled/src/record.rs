//! How a batch or a dead letter looks in the files: chunks that each say what they are.
//!
//! ```text
//! chunk   magic "\xf5KB1" │ kind │ flags │ lane u32 │ sequence u64 │ index u32 │ of u32 │ length u16 │ CRC32C │ payload
//! payloads, joined:  before (batches, events, bytes) │ acknowledged │ stored at │ events │ partition │ topic │ body
//! ```
//!
//! Numbers are big-endian; the checksum covers all of the chunk but itself. `before` counts what the lane took before
//! this record: two neighbours whose counts do not follow on each other have lost what was between them, and the
//! difference says how much. No record refers to a file or a place in it, so that a search through a damaged file for
//! the magic finds all that is left.

use std::sync::Arc;

use bytes::Bytes;
use kafka_batcher_core::LaneId;

/// Begins each chunk; its last byte is the version of the format.
pub(crate) const MAGIC: [u8; 4] = *b"\xf5KB1";
/// Size of what stands before a chunk's payload.
pub(crate) const HEADER: usize = 32;
/// Most bytes of a chunk: well below what sled would move to a file of its own, which it never syncs.
pub(crate) const CHUNK: usize = 4096;
/// Most bytes of a chunk's payload.
pub(crate) const PAYLOAD: usize = CHUNK - HEADER;
/// Size of the fixed part of a record before its topic and body.
const HEAD: usize = 24 + 8 + 8 + 4 + 5 + 4;

const CRC_AT: usize = 28;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Batch = 1,
    Dead = 2,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Batch),
            2 => Some(Self::Dead),
            _ => None,
        }
    }
}

/// What a lane took up to some point, since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) batches: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Count {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            batches: self.batches.wrapping_add(other.batches),
            events: self.events.wrapping_add(other.events),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }

    pub(crate) const fn minus(self, other: Self) -> Self {
        Self {
            batches: self.batches.saturating_sub(other.batches),
            events: self.events.saturating_sub(other.events),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        for number in [self.batches, self.events, self.bytes] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// The place of a record: which lane, by the number the spool gave it, and which of the lane's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) lane: u32,
    pub(crate) seq: u64,
}

impl Place {
    /// The key in sled of one of the record's chunks.
    pub(crate) fn key(self, chunk: u32) -> [u8; 17] {
        let mut key = [0; 17];
        key[0] = self.kind as u8;
        key[1..5].copy_from_slice(&self.lane.to_be_bytes());
        key[5..13].copy_from_slice(&self.seq.to_be_bytes());
        key[13..].copy_from_slice(&chunk.to_be_bytes());
        key
    }

    pub(crate) fn of_key(key: &[u8]) -> Option<(Self, u32)> {
        let mut reader = Reader(key);
        let kind = Kind::from_byte(reader.u8()?)?;
        let place = Self { kind, lane: reader.u32()?, seq: reader.u64()? };
        let chunk = reader.u32()?;
        reader.0.is_empty().then_some((place, chunk))
    }
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) place: Place,
    /// Kafka may have it already.
    pub(crate) maybe: bool,
    pub(crate) before: Count,
    /// Up to which of its records the lane was acknowledged when this one was written.
    pub(crate) acked: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) stored_at: u64,
    pub(crate) events: u32,
    pub(crate) lane: LaneId,
    pub(crate) body: Bytes,
}

impl Stored {
    /// What the lane took up to and including this record.
    pub(crate) fn after(&self) -> Count {
        let this = Count { batches: 1, events: u64::from(self.events), bytes: self.body.len() as u64 };
        self.before.plus(this)
    }

    /// Bytes that its chunks take.
    pub(crate) fn encoded_len(topic: usize, body: usize) -> u64 {
        let stream = HEAD + topic + body;
        (stream + stream.div_ceil(PAYLOAD) * (HEADER + 17)) as u64
    }

    /// The record's chunks, in order.
    pub(crate) fn chunks(&self) -> Vec<Vec<u8>> {
        let topic = self.lane.topic.as_bytes();
        let mut stream = Vec::with_capacity(HEAD + topic.len() + self.body.len());
        self.before.put(&mut stream);
        stream.extend_from_slice(&self.acked.to_be_bytes());
        stream.extend_from_slice(&self.stored_at.to_be_bytes());
        stream.extend_from_slice(&self.events.to_be_bytes());
        put_lane(&mut stream, &self.lane);
        stream.extend_from_slice(&self.body);
        let of = u32::try_from(stream.len().div_ceil(PAYLOAD)).unwrap_or(u32::MAX);
        let flags = u8::from(self.maybe);
        (0..)
            .zip(stream.chunks(PAYLOAD))
            .map(|(index, part)| chunk(self.place, flags, index, of, part))
            .collect()
    }

    /// A record whose chunks' payloads, joined, are `stream`.
    fn decode(last: &Chunk<'_>, stream: Vec<u8>) -> Option<Self> {
        let mut reader = Reader(&stream);
        let before = reader.count()?;
        let (acked, stored_at, events) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let lane = reader.lane()?;
        let at = stream.len() - reader.0.len();
        Some(Self {
            place: last.place,
            maybe: last.flags & 1 != 0,
            before,
            acked,
            stored_at,
            events,
            lane,
            body: Bytes::from(stream).slice(at..),
        })
    }
}

fn chunk(place: Place, flags: u8, index: u32, of: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[place.kind as u8, flags]);
    out.extend_from_slice(&place.lane.to_be_bytes());
    out.extend_from_slice(&place.seq.to_be_bytes());
    out.extend_from_slice(&index.to_be_bytes());
    out.extend_from_slice(&of.to_be_bytes());
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), payload);
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A chunk whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) place: Place,
    pub(crate) flags: u8,
    pub(crate) index: u32,
    pub(crate) of: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The chunk at the beginning of `bytes`, if it is one and undamaged.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.take(4)? != MAGIC {
            return None;
        }
        let (kind, flags) = (reader.u8()?, reader.u8()?);
        let (lane, seq, index, of) = (reader.u32()?, reader.u64()?, reader.u32()?, reader.u32()?);
        let len = usize::from(reader.u16()?);
        let crc = reader.u32()?;
        let payload = reader.take(len)?;
        if crc != crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), payload) {
            return None;
        }
        let place = Place { kind: Kind::from_byte(kind)?, lane, seq };
        (index < of).then_some(Self { place, flags, index, of, payload })
    }

    /// Bytes of the whole chunk.
    pub(crate) const fn len(&self) -> usize {
        HEADER + self.payload.len()
    }
}

/// Puts a record together from its chunks, given in order.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    stream: Vec<u8>,
    next: u32,
    place: Option<Place>,
}

impl Assembly {
    /// Whether there is no record half put together.
    pub(crate) const fn is_empty(&self) -> bool {
        self.next == 0
    }

    /// Adds the next chunk. The record when it is complete, nothing while it is not.
    ///
    /// `Err`: this is not the chunk that has to follow.
    pub(crate) fn push(&mut self, chunk: &Chunk<'_>) -> Result<Option<Stored>, ()> {
        if chunk.index != self.next || self.place.is_some_and(|place| place != chunk.place) {
            return Err(());
        }
        self.next += 1;
        self.place = Some(chunk.place);
        self.stream.extend_from_slice(chunk.payload);
        if self.next < chunk.of {
            return Ok(None);
        }
        (self.next, self.place) = (0, None);
        Stored::decode(chunk, std::mem::take(&mut self.stream)).map(Some).ok_or(())
    }
}

pub(crate) fn put_lane(out: &mut Vec<u8>, lane: &LaneId) {
    out.push(u8::from(lane.partition.is_some()));
    out.extend_from_slice(&lane.partition.unwrap_or(0).to_be_bytes());
    put_bytes(out, lane.topic.as_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Takes fields off the front; `None` when there is not enough left.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn count(&mut self) -> Option<Count> {
        Some(Count { batches: self.u64()?, events: self.u64()?, bytes: self.u64()? })
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len).ok()?)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn lane(&mut self) -> Option<LaneId> {
        let has_partition = self.u8()?;
        let partition = self.u32()?;
        let topic: Arc<str> = self.text()?.into();
        match has_partition {
            0 => Some(LaneId { topic, partition: None }),
            1 => Some(LaneId { topic, partition: Some(partition) }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(topic: &str, body: Vec<u8>) -> Stored {
        Stored {
            place: Place { kind: Kind::Batch, lane: 7, seq: 9 },
            maybe: true,
            before: Count { batches: 1, events: 2, bytes: 3 },
            acked: 4,
            stored_at: 5,
            events: 6,
            lane: LaneId::partition(topic, 3),
            body: body.into(),
        }
    }

    fn join(chunks: &[Vec<u8>]) -> Option<Stored> {
        let mut assembly = Assembly::default();
        let mut done = None;
        for chunk in chunks {
            done = assembly.push(&Chunk::parse(chunk)?).ok()?;
        }
        done
    }

    proptest! {
        #[test]
        fn a_record_comes_back(topic in ".{0,300}", body in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let record = stored(&topic, body);
            let chunks = record.chunks();
            prop_assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK));
            let encoded: usize = chunks.iter().map(|chunk| chunk.len() + 17).sum();
            prop_assert_eq!(encoded as u64, Stored::encoded_len(topic.len(), record.body.len()));
            prop_assert_eq!(join(&chunks), Some(record));
        }

        #[test]
        fn a_flipped_bit_is_noticed(body in proptest::collection::vec(any::<u8>(), 0..6000), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut chunks = stored("topic", body).chunks();
            let chunk = chunks.last_mut().unwrap();
            let at = at.index(chunk.len());
            chunk[at] ^= 1_u8 << bit;
            prop_assert_eq!(join(&chunks), None);
        }

        #[test]
        fn anything_else_is_no_chunk(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let with_magic: Vec<u8> = MAGIC.iter().copied().chain(bytes.iter().copied()).collect();
            prop_assert!(Chunk::parse(&bytes).is_none() && Chunk::parse(&with_magic).is_none());
        }
    }

    #[test]
    fn chunks_out_of_order_are_no_record() {
        let mut chunks = stored("topic", vec![1; 9000]).chunks();
        chunks.swap(0, 1);
        assert_eq!(join(&chunks), None);
    }

    #[test]
    fn keys_sort_like_places() {
        let place = |lane, seq| Place { kind: Kind::Batch, lane, seq };
        assert!(place(1, 255).key(9) < place(1, 256).key(0));
        assert!(place(1, u64::MAX).key(u32::MAX) < place(2, 0).key(0));
        assert_eq!(Place::of_key(&place(3, 4).key(5)), Some((place(3, 4), 5)));
        assert_eq!(Place::of_key(&[1; 16]), None);
    }
}
