//! From a batch to rskafka's records, and which of them rskafka can't send.

use std::collections::BTreeMap;

use kafka_batcher_core::lane::SEQUENCE_HEADER;
use kafka_batcher_core::{Batch, RecordRef, TRACEPARENT_HEADER, TRACESTATE_HEADER};
use rskafka::chrono::{DateTime, Utc};
use rskafka::record::Record;

use crate::config::SORT_HEADERS;

/// Why rskafka can't send a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("two of its headers have the same name")]
    RepeatedHeader,
    #[error("the value of one of its headers is null")]
    NullHeader,
    #[error(
        "its headers are not in alphabetic order, and rskafka would sort them; property `{SORT_HEADERS}` allows that"
    )]
    UnsortedHeaders,
    #[error("its timestamp is out of range")]
    Timestamp,
}

/// The records rskafka can't send: their indexes, and what is wrong with the first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) indexes: Vec<u32>,
    pub(crate) first: Unfit,
}

/// What can't be sent of a batch as it is; `None` when all of it can. With `may_sort` the order of headers may change.
pub(crate) fn refused(batch: &Batch, may_sort: bool) -> Option<Refused> {
    let mut refused: Option<Refused> = None;
    for (index, record) in (0..).zip(batch.records()) {
        if let Some(unfit) = unfit(&record, may_sort) {
            refused.get_or_insert_with(|| Refused { indexes: Vec::new(), first: unfit }).indexes.push(index);
        }
    }
    refused
}

fn unfit(record: &RecordRef<'_>, may_sort: bool) -> Option<Unfit> {
    if timestamp(record).is_none() {
        return Some(Unfit::Timestamp);
    }
    if record.headers.is_empty() {
        return None;
    }
    if record.headers.iter().any(|header| header.value.is_none()) {
        return Some(Unfit::NullHeader);
    }
    let names = || record.headers.iter().map(|header| header.name);
    if names().is_sorted_by(|one, next| one < next) {
        return None;
    }
    let mut sorted: Vec<_> = names().collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Some(Unfit::RepeatedHeader);
    }
    let may_sort = may_sort || names().filter(|name| !ADDED.contains(name)).is_sorted();
    (!may_sort).then_some(Unfit::UnsortedHeaders)
}

/// Headers that the batcher adds behind those of the application: where they stand means nothing.
const ADDED: [&str; 3] = [SEQUENCE_HEADER, TRACEPARENT_HEADER, TRACESTATE_HEADER];

/// The records of a batch of which [`refused`] found none unfit.
pub(crate) fn convert(batch: &Batch) -> Vec<Record> {
    let bytes = |bytes: &[u8]| bytes.to_vec();
    let convert = |record: RecordRef<'_>| Record {
        key: record.key.map(bytes),
        value: record.value.map(bytes),
        headers: record
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect::<BTreeMap<_, _>>(),
        timestamp: timestamp(&record).unwrap_or_default(),
    };
    batch.records().map(convert).collect()
}

fn timestamp(record: &RecordRef<'_>) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(record.timestamp.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kafka_batcher_core::{BatchBuilder, Record as Ours};

    fn batch(records: &[Ours]) -> Batch {
        let mut builder = BatchBuilder::new();
        for record in records {
            assert!(builder.push(&record.as_ref(), 1, None, usize::MAX));
        }
        builder.seal().expect("records")
    }

    fn with_null() -> Ours {
        let mut record = Ours::new("null");
        record.headers.push("a", None);
        record.headers.push("b", Some(Bytes::new()));
        record
    }

    #[test]
    fn exactly_what_can_t_be_sent_is_named() {
        let good = Ours::new("v").with_header("a", "1").with_header("b", "1");
        let twice = Ours::new("v").with_header("a", "1").with_header("b", "").with_header("a", "2");
        let late = Ours::new("v").with_timestamp(i64::MAX);
        assert_eq!(refused(&batch(&[good.clone(), Ours::default(), Ours::tombstone("k")]), false), None);
        let found = refused(&batch(&[good.clone(), twice, good, with_null(), late]), true).expect("some");
        assert_eq!(found, Refused { indexes: vec![1, 3, 4], first: Unfit::RepeatedHeader });
        assert_eq!(refused(&batch(&[with_null()]), false).expect("one").first, Unfit::NullHeader);
    }

    #[test]
    fn what_the_batcher_adds_may_move() {
        let added = |record: Ours| record.with_header("traceparent", "1").with_header(SEQUENCE_HEADER, "2");
        assert_eq!(refused(&batch(&[added(Ours::new("v").with_header("x", ""))]), false), None);
        let unsorted = added(Ours::new("v").with_header("x", "").with_header("a", ""));
        assert_eq!(refused(&batch(&[unsorted]), false).expect("one").first, Unfit::UnsortedHeaders);
        let twice = added(added(Ours::new("v")));
        assert_eq!(refused(&batch(&[twice]), true).expect("one").first, Unfit::RepeatedHeader);
    }

    #[test]
    fn headers_are_only_sorted_when_that_is_allowed() {
        let unsorted = batch(&[Ours::new("v").with_header("b", "1").with_header("a", "2")]);
        assert_eq!(refused(&unsorted, false).expect("one").first, Unfit::UnsortedHeaders);
        assert_eq!(refused(&unsorted, true), None);
    }

    #[test]
    fn nulls_stay_nulls_and_empty_stays_empty() {
        let records = convert(&batch(&[Ours::default(), Ours::new("").with_key(""), Ours::tombstone("k")]));
        let shown: Vec<_> = records.iter().map(|r| (r.key.as_deref(), r.value.as_deref())).collect();
        assert_eq!(shown, [(None, None), (Some(&b""[..]), Some(&b""[..])), (Some(&b"k"[..]), None)]);
    }

    #[test]
    fn timestamps_are_milliseconds_also_before_the_epoch() {
        let at = |millis| Ours::new("v").with_timestamp(millis);
        let records = convert(&batch(&[at(0), at(-1), at(1_600_000_000_123)]));
        let shown: Vec<_> = records.iter().map(|r| r.timestamp.timestamp_millis()).collect();
        assert_eq!(shown, [0, -1, 1_600_000_000_123]);
    }
}
