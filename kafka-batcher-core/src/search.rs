//! Looking for records in Kafka's log, so that what is there already is not sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::record::{Record, RecordRef};

/// What to look for in the log of one partition: records by the value of a header.
///
/// Of several headers of that name in a record, the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Search {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: u32,
    /// None of the records is at an earlier offset; `None` if that is not known.
    pub from_offset: Option<i64>,
    /// None of the records has an earlier timestamp, in milliseconds since the Unix epoch.
    pub from_timestamp: i64,
    /// The name of the header.
    pub header: &'static str,
    /// The values looked for.
    pub wanted: Arc<BTreeSet<Box<[u8]>>>,
}

/// At which offset each value was found first; a value that is missing is not in the log.
pub type Found = BTreeMap<Box<[u8]>, i64>;

impl Search {
    /// A search of the whole partition for records whose last header of this name has one of these values.
    #[must_use]
    pub fn new(
        topic: impl Into<Arc<str>>,
        partition: u32,
        header: &'static str,
        wanted: impl IntoIterator<Item = impl Into<Box<[u8]>>>,
    ) -> Self {
        Self {
            topic: topic.into(),
            partition,
            from_offset: None,
            from_timestamp: i64::MIN,
            header,
            wanted: Arc::new(wanted.into_iter().map(Into::into).collect()),
        }
    }

    /// The value a record is known by, if it has such a header and its value is looked for.
    #[must_use]
    pub fn matches<'a>(&self, record: &RecordRef<'a>) -> Option<&'a [u8]> {
        last_value(record, self.header).filter(|value| self.wanted.contains(*value))
    }

    /// The same, for a client that gives headers as pairs of name and value.
    #[must_use]
    pub fn matches_headers<'a>(
        &self,
        headers: impl DoubleEndedIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Option<&'a [u8]> {
        let (_, value) = headers.rev().find(|(name, _)| *name == self.header)?;
        value.filter(|value| self.wanted.contains(*value))
    }

    /// Searches records that are given with their offsets, as a reference for what is to be found.
    #[must_use]
    pub fn among<'a>(&self, log: impl IntoIterator<Item = (i64, &'a Record)>) -> Found {
        let mut found = Found::new();
        for (offset, record) in log {
            let early = self.from_offset.is_some_and(|from| offset < from)
                || record.timestamp.is_some_and(|time| time < self.from_timestamp);
            if let Some(value) = self.matches(&record.as_ref()).filter(|_| !early) {
                found.entry(value.into()).or_insert(offset);
            }
        }
        found
    }
}

/// The value of a record's last header of this name.
pub(crate) fn last_value<'a>(record: &RecordRef<'a>, name: &str) -> Option<&'a [u8]> {
    record.headers.iter().filter(|header| header.name == name).last().and_then(|header| header.value)
}
