//! Whether what was read is what was sent: every event, once, unchanged, and in the order of its key.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::input::Input;
use super::receive::Record;

/// What may arrive twice of one partition in one incident: a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    sent: u64,
    read: u64,
    lost: u64,
    /// Records that are like no event that was sent.
    strangers: u64,
    /// Events with a key that is not theirs.
    rekeyed: u64,
    /// Keys found on more than one partition.
    torn: u64,
    /// Events that came, for the first time, after a later one of their key.
    late: u64,
    /// Offsets that did not go up: the reader or the broker is odd.
    misread: u64,
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Partition {
    records: u64,
    duplicates: u64,
    /// Of their values.
    duplicate_bytes: u64,
}

pub(crate) fn check(input: &Input, mut read: Vec<Record>) -> Verdict {
    // Events have ids, so no two lines are the same.
    let known: HashMap<&[u8], usize> = (0..input.len()).map(|index| (input.value(index), index)).collect();
    let mut verdict = Verdict { sent: input.len() as u64, read: read.len() as u64, ..Verdict::default() };
    let mut arrived = vec![false; input.len()];
    let mut homes: HashMap<&str, (i32, bool)> = HashMap::new();
    let mut latest: HashMap<&str, usize> = HashMap::new();
    let mut offset: Option<(i32, i64)> = None;

    read.sort_by_key(|record| record.partition);
    for record in &read {
        let here = (record.partition, record.offset);
        verdict.misread += u64::from(offset.is_some_and(|before| before >= here));
        offset = Some(here);
        let partition = verdict.partitions.entry(record.partition).or_default();
        partition.records += 1;
        let Some(&index) = known.get(record.value.as_slice()) else {
            verdict.strangers += 1;
            continue;
        };
        let key = input.key(index);
        verdict.rekeyed += u64::from(record.key.as_deref() != key.map(str::as_bytes));
        if std::mem::replace(&mut arrived[index], true) {
            partition.duplicates += 1;
            partition.duplicate_bytes += record.value.len() as u64;
            continue;
        }
        // Events without a key are spread, in no order.
        let Some(key) = key else { continue };
        let home = homes.entry(key).or_insert((record.partition, false));
        home.1 |= home.0 != record.partition;
        let before = latest.entry(key).or_insert(index);
        verdict.late += u64::from(index < *before);
        *before = index.max(*before);
    }
    verdict.lost = arrived.iter().filter(|arrived| !**arrived).count() as u64;
    verdict.torn = homes.values().filter(|(_, torn)| *torn).count() as u64;
    verdict
}

impl Verdict {
    fn duplicates(&self) -> u64 {
        self.partitions.values().map(|partition| partition.duplicates).sum()
    }

    /// What is wrong, given what may arrive twice of a partition.
    pub(crate) fn complaints(&self, promise: &Promise) -> Vec<String> {
        let mut complaints: Vec<String> = [
            (self.lost, "events were lost"),
            (self.strangers, "records are no event that was sent"),
            (self.rekeyed, "events have another key"),
            (self.torn, "keys are on more than one partition"),
            (self.late, "events came after later ones of their key"),
            (self.misread, "records were not read in the order of their offsets"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        for (number, partition) in &self.partitions {
            let Partition { duplicates, duplicate_bytes, .. } = partition;
            if *duplicates > promise.events || *duplicate_bytes > promise.bytes {
                complaints.push(format!(
                    "partition {number} has {duplicates} duplicates of {duplicate_bytes} bytes, and may have {} of {}",
                    promise.events, promise.bytes
                ));
            }
        }
        complaints
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, lost, late, .. } = self;
        let partitions = self.partitions.len();
        let order = if *late == 0 { "order per key kept".to_owned() } else { format!("{late} out of order") };
        let duplicates = self.duplicates();
        write!(f, "{read} records on {partitions} partitions, lost {lost}, duplicates {duplicates}, {order}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::tests::input;
    use super::*;

    const NONE: Promise = Promise { events: 0, bytes: 0 };

    /// Events 0 to 5; 0, 2 and 4 of aircraft A, 1 and 3 of B, 5 of none.
    fn flights() -> Input {
        let keys = ["\"A\"", "\"B\"", "\"A\"", "\"B\"", "\"A\"", "null"];
        let lines: Vec<String> =
            keys.iter().enumerate().map(|(id, key)| format!("{{\"id\":{id},\"tailnum\":{key}}}\n")).collect();
        input(&lines.concat())
    }

    /// Records of events, per partition in the order of their offsets.
    fn records(input: &Input, partitions: &[&[usize]]) -> Vec<Record> {
        let mut records = Vec::new();
        for (partition, events) in partitions.iter().enumerate() {
            for (offset, &event) in events.iter().enumerate() {
                records.push(Record {
                    partition: partition as i32,
                    offset: offset as i64,
                    key: input.key(event).map(|key| key.as_bytes().to_vec()),
                    value: input.value(event).to_vec(),
                });
            }
        }
        records
    }

    fn complaints(partitions: &[&[usize]], promise: &Promise) -> Vec<String> {
        let input = flights();
        check(&input, records(&input, partitions)).complaints(promise)
    }

    #[test]
    fn all_once_and_in_order_is_fine() {
        assert_eq!(complaints(&[&[0, 2, 4], &[1, 5, 3]], &NONE), Vec::<String>::new());
        // Whatever comes first, between keys there is no order.
        assert_eq!(complaints(&[&[1, 3, 0, 2, 4, 5]], &NONE), Vec::<String>::new());
        let input = flights();
        let verdict = check(&input, records(&input, &[&[0, 2, 4], &[1, 5, 3]]));
        assert_eq!(
            verdict.to_string(),
            "6 records on 2 partitions, lost 0, duplicates 0, order per key kept"
        );
    }

    #[test]
    fn a_loss_is_seen() {
        assert_eq!(complaints(&[&[0, 2], &[1, 5, 3]], &NONE), ["1 events were lost"]);
        assert_eq!(complaints(&[], &NONE), ["6 events were lost"]);
    }

    #[test]
    fn an_order_that_is_not_kept_is_seen() {
        assert_eq!(
            complaints(&[&[0, 4, 2], &[1, 5, 3]], &NONE),
            ["1 events came after later ones of their key"]
        );
    }

    #[test]
    fn duplicates_are_measured_against_the_promise_partition_by_partition() {
        let partitions: &[&[usize]] = &[&[0, 2, 0, 2, 4], &[1, 5, 3]];
        let said = complaints(partitions, &NONE);
        assert!(said.len() == 1 && said[0].starts_with("partition 0 has 2 duplicates"), "{said:?}");
        // A batch sent again is one of first occurrences in order, and its copy no break of it.
        assert_eq!(complaints(partitions, &Promise { events: 2, bytes: 100 }), Vec::<String>::new());
        assert_eq!(complaints(partitions, &Promise { events: 1, bytes: 100 }).len(), 1);
        assert_eq!(complaints(partitions, &Promise { events: 2, bytes: 10 }).len(), 1);
    }

    #[test]
    fn a_key_on_two_partitions_is_seen() {
        assert_eq!(complaints(&[&[0, 2], &[1, 5, 3, 4]], &NONE), ["1 keys are on more than one partition"]);
    }

    #[test]
    fn changed_values_and_keys_are_seen() {
        let input = flights();
        let mut read = records(&input, &[&[0, 1, 2, 3, 4, 5]]);
        read[0].value.push(b' ');
        read[5].key = Some(Vec::new());
        assert_eq!(
            check(&input, read).complaints(&NONE),
            ["1 events were lost", "1 records are no event that was sent", "1 events have another key"]
        );
    }

    #[test]
    fn a_reader_that_mixes_up_offsets_is_seen() {
        let input = flights();
        let mut read = records(&input, &[&[0, 1, 2, 3, 4, 5]]);
        read[3].offset = 1;
        assert_eq!(
            check(&input, read).complaints(&NONE),
            ["1 records were not read in the order of their offsets"]
        );
    }
}
