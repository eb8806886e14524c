//! Checks what was read back from Kafka against what was sent, by itself: no number of the batcher's is used.

use std::collections::{HashMap, HashSet};

/// A record as it was read back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

/// What the records show. All lists hold the first few cases only; the counts hold all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Events that are there.
    pub(crate) delivered: u64,
    /// Events that are not there.
    pub(crate) lost: u64,
    /// Copies beyond the first of an event.
    pub(crate) duplicates: u64,
    /// Events that came after a later event of the same key, or on another partition than the key's.
    pub(crate) out_of_order: u64,
    /// Records that are no event that was sent, or not as it was sent.
    pub(crate) foreign: u64,
    /// Partitions that begin later than at their first record: the broker has thrown records away.
    pub(crate) truncated: u64,
    /// What is wrong, in words, the first few cases.
    pub(crate) examples: Vec<String>,
}

/// Cases shown of each kind of finding.
const EXAMPLES: u64 = 3;

impl Findings {
    fn example(&mut self, so_far: u64, text: impl FnOnce() -> String) {
        if so_far <= EXAMPLES {
            self.examples.push(text());
        }
    }
}

/// What was sent: event number `0..count`, each with its key and value.
pub(crate) trait Sent {
    /// How many.
    fn count(&self) -> u64;
    /// The number in a value; `None` when it has none.
    fn number(&self, value: &[u8]) -> Option<u64>;
    /// The key of event `number`.
    fn key(&self, number: u64) -> Option<&[u8]>;
    /// Writes the value of event `number`.
    fn write_value(&self, number: u64, to: &mut Vec<u8>);
}

/// Compares records, ordered by partition and offset, with what was sent.
///
/// Order is that of first occurrences: a copy behind the first is a duplicate, not disorder.
pub(crate) fn check<'a>(sent: &impl Sent, records: impl IntoIterator<Item = Seen<'a>>) -> Findings {
    let mut findings = Findings::default();
    let mut arrived = vec![false; usize::try_from(sent.count()).unwrap_or(usize::MAX)];
    // For each key: its partition and the highest number so far.
    let mut newest: HashMap<&[u8], (i32, u64)> = HashMap::new();
    let mut partitions = HashSet::new();
    let mut expected = Vec::new();
    for record in records {
        let place = || format!("partition {}, offset {}", record.partition, record.offset);
        if partitions.insert(record.partition) && record.offset > 0 {
            findings.truncated += 1;
            findings.example(findings.truncated, || format!("{} is the first record left", place()));
        }
        let number =
            record.value.and_then(|value| sent.number(value)).filter(|number| *number < sent.count());
        let Some(number) = number else {
            findings.foreign += 1;
            findings.example(findings.foreign, || format!("{}: no event that was sent", place()));
            continue;
        };
        expected.clear();
        sent.write_value(number, &mut expected);
        if record.value != Some(&expected) || record.key != sent.key(number) {
            findings.foreign += 1;
            findings
                .example(findings.foreign, || format!("{}: event {number} is not as it was sent", place()));
            continue;
        }
        if std::mem::replace(&mut arrived[number as usize], true) {
            findings.duplicates += 1;
            continue;
        }
        findings.delivered += 1;
        let Some(key) = record.key else { continue };
        let last = newest.entry(key).or_insert((record.partition, number));
        if last.0 != record.partition || number < last.1 {
            findings.out_of_order += 1;
            let (partition, after) = *last;
            findings.example(findings.out_of_order, || {
                let key = String::from_utf8_lossy(key);
                format!(
                    "{}: event {number} of key {key} comes after event {after} on partition {partition}",
                    place()
                )
            });
        }
        last.1 = last.1.max(number);
    }
    for number in (0..sent.count()).filter(|number| !arrived[*number as usize]) {
        findings.lost += 1;
        findings.example(findings.lost, || format!("event {number} is not there"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events 0 to 5 with the keys a, b, a, b, a, none.
    struct Six;

    impl Sent for Six {
        fn count(&self) -> u64 {
            6
        }
        fn number(&self, value: &[u8]) -> Option<u64> {
            std::str::from_utf8(value).ok()?.strip_prefix('v')?.split('.').next()?.parse().ok()
        }
        fn key(&self, number: u64) -> Option<&[u8]> {
            [Some(b"a".as_slice()), Some(b"b"), Some(b"a"), Some(b"b"), Some(b"a"), None][number as usize]
        }
        fn write_value(&self, number: u64, to: &mut Vec<u8>) {
            to.extend_from_slice(format!("v{number}").as_bytes());
        }
    }

    /// Each as (partition, number); offsets count up by themselves.
    fn seen(records: &[(i32, u64)]) -> Findings {
        let values: Vec<_> = records.iter().map(|(_, number)| format!("v{number}")).collect();
        let mut next = HashMap::new();
        let records = records.iter().zip(&values).map(|((partition, number), value)| {
            let offset = next.entry(*partition).or_insert(0);
            *offset += 1;
            let key = Six.key(*number);
            Seen { partition: *partition, offset: *offset - 1, key, value: Some(value.as_bytes()) }
        });
        check(&Six, records.collect::<Vec<_>>())
    }

    fn is_good(findings: &Findings) -> bool {
        findings.examples.is_empty()
    }

    const GOOD: [(i32, u64); 6] = [(0, 0), (0, 2), (0, 4), (1, 1), (1, 5), (1, 3)];

    #[test]
    fn everything_in_order_is_good() {
        assert_eq!(seen(&GOOD), Findings { delivered: 6, ..Findings::default() });
        assert!(is_good(&seen(&GOOD)));
    }

    #[test]
    fn a_missing_event_is_lost() {
        let findings = seen(&GOOD[..5]);
        assert_eq!((findings.delivered, findings.lost), (5, 1));
        assert_eq!(findings.examples, ["event 3 is not there"]);
        assert!(!is_good(&findings));
        assert_eq!(seen(&[]).lost, 6);
    }

    #[test]
    fn copies_are_duplicates_and_not_disorder() {
        let findings = seen(&[(0, 0), (0, 2), (0, 0), (0, 2), (0, 4), (1, 1), (1, 5), (1, 3), (1, 5)]);
        assert_eq!(findings, Findings { delivered: 6, duplicates: 3, ..Findings::default() });
        assert!(is_good(&findings));
    }

    #[test]
    fn a_swap_within_a_key_is_disorder() {
        let findings = seen(&[(0, 2), (0, 0), (0, 4), (1, 3), (1, 5), (1, 1)]);
        assert_eq!((findings.out_of_order, findings.lost), (2, 0));
        assert_eq!(
            findings.examples[0],
            "partition 0, offset 1: event 0 of key a comes after event 2 on partition 0"
        );
        assert!(!is_good(&findings));
    }

    #[test]
    fn a_key_on_two_partitions_has_no_order() {
        assert_eq!(seen(&[(0, 0), (0, 2), (1, 1), (1, 5), (1, 3), (2, 4)]).out_of_order, 1);
    }

    #[test]
    fn events_without_a_key_may_come_in_any_order() {
        assert!(is_good(&seen(&[(0, 5), (0, 0), (0, 2), (0, 4), (1, 1), (1, 3)])));
    }

    #[test]
    fn what_was_not_sent_or_is_changed_is_foreign() {
        let record = |key, value| Seen { partition: 0, offset: 0, key, value };
        for (key, value) in [
            (None, None),
            (None, Some(b"nonsense".as_slice())),
            (Some(b"a".as_slice()), Some(b"v6")),
            (Some(b"b"), Some(b"v0")),
            (None, Some(b"v0")),
            (Some(b"a"), Some(b"v0.")),
        ] {
            let findings = check(&Six, [record(key, value)]);
            assert_eq!((findings.foreign, findings.delivered, findings.lost), (1, 0, 6), "{key:?} {value:?}");
        }
    }

    #[test]
    fn records_the_broker_threw_away_are_no_loss_of_the_batcher_s_but_no_proof_either() {
        let record = Seen { partition: 0, offset: 7, key: Some(b"a"), value: Some(b"v0") };
        let findings = check(&Six, [record]);
        assert_eq!(findings.truncated, 1);
        assert!(!is_good(&findings));
    }
}
