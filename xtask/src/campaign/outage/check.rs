//! Whether everything that was added is in the topic, once, and in order.

use std::collections::HashMap;
use std::fmt;

use crate::flights::receive::Record;

/// What the records of a topic say, one after the other, those of each partition in their order.
#[derive(Debug)]
pub(super) struct Check {
    /// By task and number: whether it was there.
    seen: Vec<Vec<bool>>,
    /// Of a task on a partition: the number that came last.
    latest: HashMap<(i32, usize), usize>,
    /// Of a key: its partition, and whether there is another.
    homes: HashMap<Vec<u8>, (i32, bool)>,
    verdict: Verdict,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    records: u64,
    lost: u64,
    duplicates: u64,
    /// Events that came, for the first time, after a later one of their task, on the same partition.
    late: u64,
    /// Keys found on more than one partition.
    torn: u64,
    /// Records that are like no event that was added.
    strangers: u64,
}

impl Check {
    /// For so many events, to each task the same number of them.
    pub(super) fn new(tasks: u64, events: u64) -> Self {
        let share = usize::try_from(events / tasks).unwrap_or(usize::MAX);
        let seen = (0..tasks).map(|_| vec![false; share]).collect();
        Self { seen, latest: HashMap::new(), homes: HashMap::new(), verdict: Verdict::default() }
    }

    pub(super) fn take(&mut self, record: &Record) {
        self.verdict.records += 1;
        let key = record.key.as_deref().unwrap_or_default();
        let event = event(key, &record.value);
        let Some((task, number, seen)) = event.and_then(|(task, number)| {
            self.seen.get_mut(task)?.get_mut(number).map(|seen| (task, number, seen))
        }) else {
            self.verdict.strangers += 1;
            return;
        };
        if std::mem::replace(seen, true) {
            self.verdict.duplicates += 1;
            return;
        }
        let latest = self.latest.entry((record.partition, task)).or_insert(number);
        self.verdict.late += u64::from(number < *latest);
        *latest = number.max(*latest);
        if let Some(home) = self.homes.get_mut(key) {
            home.1 |= home.0 != record.partition;
        } else {
            self.homes.insert(key.to_vec(), (record.partition, false));
        }
    }

    pub(super) fn verdict(mut self) -> Verdict {
        self.verdict.lost = self.seen.iter().flatten().filter(|seen| !**seen).count() as u64;
        self.verdict.torn = self.homes.values().filter(|(_, torn)| *torn).count() as u64;
        self.verdict
    }
}

/// Task and number, if it is as the worker makes them.
fn event(key: &[u8], value: &[u8]) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(value).ok()?;
    let content = text.trim_end_matches(' ');
    let (task, number) = content.split_once(' ')?;
    let (task, number): (usize, usize) = (task.parse().ok()?, number.parse().ok()?);
    let length = 100 + number.wrapping_mul(7919) % 201;
    (text.len() == length && key == format!("{task}-{}", number % 50).as_bytes()).then_some((task, number))
}

impl Verdict {
    pub(super) fn complaints(&self) -> Vec<String> {
        let Self { lost, duplicates, late, torn, strangers, .. } = *self;
        let all = [
            (lost, "events that `add` had accepted are not in Kafka"),
            (duplicates, "events are there twice"),
            (late, "events came after later ones of their task"),
            (torn, "keys are on more than one partition"),
            (strangers, "records are like no event that was added"),
        ];
        all.into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, text)| format!("{count} {text}"))
            .collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, lost, duplicates, late, .. } = self;
        write!(f, "{records} records read back: {lost} lost, {duplicates} duplicates, {late} out of order")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, task: usize, number: usize) -> Record {
        let length = 100 + number * 7919 % 201;
        Record {
            partition,
            offset: 0,
            key: Some(format!("{task}-{}", number % 50).into_bytes()),
            value: format!("{:<length$}", format!("{task} {number}")).into_bytes(),
        }
    }

    fn complaints(records: &[Record]) -> String {
        let mut check = Check::new(2, 4);
        records.iter().for_each(|record| check.take(record));
        check.verdict().complaints().join("; ")
    }

    #[test]
    fn everything_once_and_in_order_is_no_complaint() {
        assert_eq!(complaints(&[record(0, 0, 0), record(1, 1, 0), record(0, 1, 1), record(2, 0, 1)]), "");
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let all = || vec![record(0, 0, 0), record(0, 0, 1), record(0, 1, 0), record(0, 1, 1)];
        assert_eq!(complaints(&all()), "");
        assert!(complaints(&all()[1..]).starts_with("1 events that `add` had accepted are not"));
        let mut swapped = all();
        swapped.swap(0, 1);
        assert!(complaints(&swapped).starts_with("1 events came after later ones"));
        let with = |more: Record| complaints(&all().into_iter().chain([more]).collect::<Vec<_>>());
        assert_eq!(with(record(0, 1, 0)), "1 events are there twice");
        assert_eq!(with(record(0, 1, 2)), "1 records are like no event that was added");
        let mut cut = record(0, 1, 1);
        cut.value.pop();
        assert_eq!(with(cut), "1 records are like no event that was added");
        let mut check = Check::new(1, 51);
        (0..51).for_each(|number| check.take(&record(i32::from(number == 50), 0, number)));
        assert_eq!(check.verdict().complaints(), ["1 keys are on more than one partition"]);
    }
}
