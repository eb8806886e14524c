//! What our encoder writes is read back by a decoder that is not ours: the `kafka-protocol` crate.
//!
//! `cargo xtask dump-log-check` has Kafka's own tool read batches too.

use bytes::{Bytes, BytesMut};
use kafka_batcher_core::batch::Identity;
use kafka_batcher_core::{Batch, BatchBuilder, Record};
use kafka_protocol::records::{
    Compression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const ACCEPTED: i64 = 1_700_000_000_000;

fn encode(records: &[Record]) -> Batch {
    let mut builder = BatchBuilder::new();
    for record in records {
        assert!(builder.push(&record.as_ref(), ACCEPTED, None, usize::MAX));
    }
    builder.seal().expect("there are records")
}

fn decode(bytes: &Bytes) -> Vec<TheirRecord> {
    RecordBatchDecoder::decode(&mut bytes.clone()).expect("they can read it").records
}

fn any_record() -> impl Strategy<Value = Record> {
    let bytes = || option::of(vec(any::<u8>(), 0..300));
    // Their headers are a map: names that differ, in any order. Repeats are tested by hand, below.
    let headers = proptest::collection::btree_map("[a-z]{1,8}", bytes(), 0..4);
    (bytes(), bytes(), headers, option::of(0..4_000_000_000_000_i64)).prop_map(
        |(key, value, headers, timestamp)| {
            let mut record = Record::default();
            record.key = key.map(Into::into);
            record.value = value.map(Into::into);
            for (name, value) in headers {
                record.headers.push(name, value.map(Into::into));
            }
            record.timestamp = timestamp;
            record
        },
    )
}

proptest! {
    #[test]
    fn every_field_comes_back(records in vec(any_record(), 1..50)) {
        let read = decode(encode(&records).as_bytes());
        prop_assert_eq!(read.len(), records.len());
        for (index, (ours, theirs)) in records.iter().zip(&read).enumerate() {
            prop_assert_eq!(&theirs.key, &ours.key);
            prop_assert_eq!(&theirs.value, &ours.value);
            prop_assert_eq!(theirs.timestamp, ours.timestamp.unwrap_or(ACCEPTED));
            prop_assert_eq!(theirs.timestamp_type, TimestampType::Creation);
            prop_assert_eq!(theirs.offset, index as i64);
            prop_assert!(!theirs.transactional && !theirs.control);
            let headers: Vec<_> = theirs.headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            let expected: Vec<_> =
                ours.headers.iter().map(|h| (h.name.to_owned(), h.value.map(Bytes::copy_from_slice))).collect();
            prop_assert_eq!(headers, expected);
        }
    }

    /// The other way round: what their encoder writes, we read the same.
    #[test]
    fn their_batches_are_read_by_ours(records in vec(any_record(), 1..20)) {
        let theirs = decode(encode(&records).as_bytes());
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut bytes, theirs.iter(), &options).expect("they can write it");
        let batch = Batch::parse(bytes.freeze()).expect("we can read it");
        let read: Vec<_> = batch.records().map(|record| record.to_owned()).collect();
        let expected: Vec<_> = records
            .into_iter()
            .map(|record| { let timestamp = record.timestamp.unwrap_or(ACCEPTED); record.with_timestamp(timestamp) })
            .collect();
        prop_assert_eq!(read, expected);
    }
}

#[test]
fn null_and_empty_are_not_the_same() {
    let mut empty = Record::new("").with_key("");
    empty.headers.push("empty", Some(Bytes::new()));
    empty.headers.push("null", None);
    let read = decode(encode(&[empty, Record::default()]).as_bytes());
    assert_eq!((read[0].key.clone(), read[0].value.clone()), (Some(Bytes::new()), Some(Bytes::new())));
    assert_eq!((read[1].key.clone(), read[1].value.clone()), (None, None));
    let headers: Vec<_> = read[0].headers.values().cloned().collect();
    assert_eq!(headers, [Some(Bytes::new()), None]);
}

#[test]
fn a_repeated_header_is_written_twice_in_order() {
    let record = Record::new("v").with_header("h", "1").with_header("other", "2").with_header("h", "3");
    let batch = encode(&[record]);
    // Their map keeps the last of a name: it is there, behind the first.
    let read = decode(batch.as_bytes());
    let last =
        read[0].headers.iter().find(|(name, _)| name.as_str() == "h").and_then(|(_, value)| value.clone());
    assert_eq!(last, Some(Bytes::from_static(b"3")));
    let ours: Vec<_> =
        batch.records().next().into_iter().flat_map(|r| r.headers.iter().map(|h| h.name)).collect();
    assert_eq!(ours, ["h", "other", "h"]);
}

#[test]
fn an_identity_is_where_they_look_for_it() {
    let identity = Identity { producer_id: 4711, producer_epoch: 3, base_sequence: 100 };
    let batch = encode(&[Record::new("a"), Record::new("b")]).stamped(identity);
    let read = decode(batch.as_bytes());
    assert_eq!(
        read.iter().map(|r| (r.producer_id, r.producer_epoch, r.sequence)).collect::<Vec<_>>(),
        [(4711, 3, 100), (4711, 3, 101)]
    );
}
