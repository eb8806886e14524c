//! How a dead letter is written.

use bytes::Bytes;
use kafka_batcher_core::{DeadRecord, ErrorKind, Record};

use crate::record::{Reader, put_bytes, put_lane};

const KINDS: [ErrorKind; 7] = [
    ErrorKind::Transient,
    ErrorKind::Permanent,
    ErrorKind::Denied,
    ErrorKind::TooLarge,
    ErrorKind::UnknownTopic,
    ErrorKind::Fatal,
    ErrorKind::Expired,
];

pub(crate) fn encode(dead: &DeadRecord) -> Bytes {
    let DeadRecord { lane, record, kind, error, attempts, at, .. } = dead;
    let mut out = Vec::new();
    put_lane(&mut out, lane);
    put_bytes(&mut out, kind.as_str().as_bytes());
    put_bytes(&mut out, error.as_bytes());
    put_option(&mut out, record.key.as_deref());
    put_option(&mut out, record.value.as_deref());
    out.push(u8::from(record.timestamp.is_some()));
    out.extend_from_slice(&record.timestamp.unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&u32::try_from(record.headers.len()).unwrap_or(u32::MAX).to_be_bytes());
    for header in record.headers.iter() {
        put_bytes(&mut out, header.name.as_bytes());
        put_option(&mut out, header.value);
    }
    out.extend_from_slice(&attempts.to_be_bytes());
    out.push(u8::from(at.is_some()));
    out.extend_from_slice(&at.unwrap_or(0).to_be_bytes());
    out.into()
}

fn put_option(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    put_bytes(out, bytes.unwrap_or_default());
}

fn option(reader: &mut Reader<'_>) -> Option<Option<Bytes>> {
    let there = reader.u8()? != 0;
    let bytes = reader.bytes()?;
    Some(there.then(|| Bytes::copy_from_slice(bytes)))
}

pub(crate) fn decode(bytes: &[u8]) -> Option<DeadRecord> {
    let mut reader = Reader(bytes);
    let lane = reader.lane()?;
    let kind = reader.text()?;
    // A kind of a later release: it was refused for good all the same.
    let kind = KINDS.into_iter().find(|known| known.as_str() == kind).unwrap_or(ErrorKind::Permanent);
    let error = reader.text()?.to_owned();
    let mut record = Record::default();
    record.key = option(&mut reader)?;
    record.value = option(&mut reader)?;
    let has_timestamp = reader.u8()? != 0;
    let timestamp = reader.u64()?.cast_signed();
    record.timestamp = has_timestamp.then_some(timestamp);
    for _ in 0..reader.u32()? {
        let name = reader.text()?.to_owned();
        record.headers.push(name, option(&mut reader)?);
    }
    let mut dead = DeadRecord::new(lane, record, kind, error);
    // An earlier release ended here.
    if !reader.0.is_empty() {
        dead.attempts = reader.u32()?;
        let has_at = reader.u8()? != 0;
        let at = reader.u64()?.cast_signed();
        dead.at = has_at.then_some(at);
    }
    reader.0.is_empty().then_some(dead)
}

#[cfg(test)]
mod tests {
    use kafka_batcher_core::LaneId;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_dead_letter_comes_back(
            (topic, partition, kind, error) in (".{0,20}", option::of(any::<u32>()), 0..7_usize, ".{0,50}"),
            (key, value) in (option::of(vec(any::<u8>(), 0..50)), option::of(vec(any::<u8>(), 0..50))),
            headers in vec((".{0,9}", option::of(vec(any::<u8>(), 0..9))), 0..4),
            (timestamp, at, attempts) in (option::of(any::<i64>()), option::of(any::<i64>()), any::<u32>()),
        ) {
            let mut record = Record::default();
            (record.key, record.value, record.timestamp) = (key.map(Bytes::from), value.map(Bytes::from), timestamp);
            for (name, value) in headers {
                record.headers.push(name, value.map(Bytes::from));
            }
            let lane = LaneId { topic: topic.into(), partition };
            let mut dead = DeadRecord::new(lane, record, KINDS[kind], error);
            (dead.attempts, dead.at) = (attempts, at);
            let back = decode(&encode(&dead)).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{dead:?}"));
            prop_assert!(back.record == dead.record && back.kind == dead.kind);
            let old = encode(&dead);
            let old = decode(&old[..old.len() - 13]).unwrap();
            prop_assert!(old.record == dead.record && (old.attempts, old.at) == (0, None));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in vec(any::<u8>(), 0..200)) {
            drop(decode(&bytes));
        }
    }
}
