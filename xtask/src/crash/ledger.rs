//! What was accepted before each kill, and whether all of it is in Kafka, in order, and how often.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::flights::receive::Record;

/// Most events in a batch of the worker: `BATCH` bytes there, of records of `VALUE` bytes, a key and a few more.
const BATCH: u64 = 75;
/// Most events of a task that are on their way when it is killed.
const UNDER_WAY: u64 = 30;

/// One task of one process.
type Source = (u64, u64);

/// What a spool's processes have said.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// How many events were accepted, by task and run.
    accepted: BTreeMap<Source, u64>,
    /// Events that were sent again because it was not known whether Kafka had them.
    maybe: u64,
    kills: u64,
}

/// What the topic says about that.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) accepted: u64,
    pub(crate) lost: u64,
    /// Records that are like no event that was added.
    pub(crate) strangers: u64,
    /// Events that came, for the first time, after a later one of their task, on the same partition.
    pub(crate) late: u64,
    /// Keys found on more than one partition.
    pub(crate) torn: u64,
    pub(crate) duplicates: u64,
    /// How often a partition went back to what it had.
    pub(crate) rewinds: u64,
    /// The most events that came again at once.
    pub(crate) longest: u64,
    /// Partitions with more duplicates than kills and lost answers account for.
    pub(crate) excessive: u64,
}

impl Ledger {
    pub(crate) fn killed(&mut self) {
        self.kills += 1;
    }

    /// Takes in what process number `run` has said; what it does not understand is for others.
    pub(crate) fn hear(&mut self, run: u64, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["+", task, first, last] => {
                let numbers = (task.parse::<u64>(), first.parse::<u64>(), last.parse::<u64>());
                if let (Ok(task), Ok(first), Ok(last)) = numbers {
                    let count = self.accepted.entry((task, run)).or_default();
                    // A task goes on only with what it has got accepted.
                    if *count == first {
                        *count = last + 1;
                    }
                }
            }
            ["MAYBE", events] => self.maybe += events.parse::<u64>().unwrap_or_default(),
            _ => {}
        }
    }

    /// Compares with everything that is in the topic.
    pub(crate) fn check(&self, mut records: Vec<Record>) -> Verdict {
        let mut verdict = Verdict { accepted: self.accepted.values().sum(), ..Verdict::default() };
        records.sort_by_key(|record| (record.partition, record.offset));
        let mut arrived: HashMap<Source, Vec<bool>> = HashMap::new();
        let mut homes: HashMap<&[u8], (i32, bool)> = HashMap::new();
        // Of a task on a partition: the run and number that came last.
        let mut latest: HashMap<(i32, u64), (u64, u64)> = HashMap::new();
        let mut partitions: BTreeMap<i32, Partition> = BTreeMap::new();
        for record in &records {
            let Some((source, number)) = self.event(&record.value) else {
                verdict.strangers += 1;
                continue;
            };
            let home =
                homes.entry(record.key.as_deref().unwrap_or_default()).or_insert((record.partition, false));
            home.1 |= home.0 != record.partition;
            let partition = partitions.entry(record.partition).or_default();
            let seen = arrived.entry(source).or_default();
            let place = usize::try_from(number).unwrap_or(usize::MAX - 1);
            if seen.len() <= place {
                seen.resize(place + 1, false);
            }
            if let Some(seen) = seen.get_mut(place)
                && !std::mem::replace(seen, true)
            {
                let (task, run) = source;
                let before = latest.entry((record.partition, task)).or_insert((run, number));
                verdict.late += u64::from((run, number) < *before);
                *before = (run, number).max(*before);
                partition.new_one(source, number);
            } else {
                partition.again(source, number);
            }
        }
        for (source, count) in &self.accepted {
            let seen = arrived.get(source).map_or(&[][..], Vec::as_slice);
            verdict.lost +=
                (0..*count).filter(|n| !seen.get(*n as usize).is_some_and(|seen| *seen)).count() as u64;
        }
        verdict.torn = homes.values().filter(|(_, torn)| *torn).count() as u64;
        for partition in partitions.values() {
            verdict.duplicates += partition.duplicates;
            verdict.rewinds += partition.rewinds;
            verdict.longest = verdict.longest.max(partition.longest);
            verdict.excessive += u64::from(partition.duplicates > BATCH * self.kills + self.maybe);
        }
        verdict
    }

    /// The event with this value, if it may be there: accepted, or on its way when its process was killed.
    fn event(&self, value: &[u8]) -> Option<(Source, u64)> {
        let mut words = std::str::from_utf8(value).ok()?.split_whitespace().map(str::parse::<u64>);
        let (task, run, number) = (words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?);
        let source = (task, run);
        let accepted = self.accepted.get(&source).copied().unwrap_or_default();
        (words.next().is_none() && number < accepted + UNDER_WAY).then_some((source, number))
    }
}

/// A partition's log: where it goes back to events that it has already.
#[derive(Debug, Default)]
struct Partition {
    places: HashMap<(Source, u64), u64>,
    previous: Option<u64>,
    duplicates: u64,
    rewinds: u64,
    longest: u64,
    current: u64,
}

impl Partition {
    fn new_one(&mut self, source: Source, number: u64) {
        let place = self.places.len() as u64;
        self.places.insert((source, number), place);
        self.previous = Some(place);
        self.current = 0;
    }

    fn again(&mut self, source: Source, number: u64) {
        // On another partition, then, which is a complaint of its own.
        let place = self.places.get(&(source, number)).copied().unwrap_or_default();
        let goes_on = self.current > 0 && self.previous.is_some_and(|previous| place == previous + 1);
        if !goes_on {
            self.rewinds += 1;
            self.current = 0;
        }
        self.current += 1;
        self.duplicates += 1;
        self.longest = self.longest.max(self.current);
        self.previous = Some(place);
    }
}

impl Verdict {
    /// What breaks the promise; with `reconcile` there is to be no duplicate at all.
    pub(crate) fn complaints(&self, reconcile: bool) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut say = |count: u64, text: String| {
            if count > 0 {
                complaints.push(format!("{count} {text}"));
            }
        };
        say(self.lost, "events that `add` had accepted are not in Kafka".to_owned());
        say(self.strangers, "records are like no event that was added".to_owned());
        say(self.late, "events came after later ones of their task".to_owned());
        say(self.torn, "keys are on more than one partition".to_owned());
        say(self.excessive, "partitions have more duplicates than a batch a kill".to_owned());
        if reconcile {
            say(self.duplicates, "events are there twice, in spite of `reconcile`".to_owned());
        }
        if self.longest > BATCH {
            say(self.longest, format!("events came again at once; a batch has {BATCH} at most"));
        }
        complaints
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.lost += other.lost;
        self.strangers += other.strangers;
        self.late += other.late;
        self.torn += other.torn;
        self.duplicates += other.duplicates;
        self.rewinds += other.rewinds;
        self.longest = self.longest.max(other.longest);
        self.excessive += other.excessive;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, lost, late, duplicates, rewinds, longest, .. } = self;
        write!(
            f,
            "{accepted} events accepted, {lost} lost, {late} out of order, {duplicates} duplicates in {rewinds} \
             places, {longest} at most in one"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(lines: &[(u64, &str)], kills: u64) -> Ledger {
        let mut ledger = Ledger { kills, ..Ledger::default() };
        for (run, line) in lines {
            ledger.hear(*run, line);
        }
        ledger
    }

    fn topic(records: &[(i32, &str, &str)]) -> Vec<Record> {
        let record = |(offset, (partition, key, value)): (usize, &(i32, &str, &str))| Record {
            partition: *partition,
            offset: offset as i64,
            key: Some(key.as_bytes().to_vec()),
            value: format!("{value}      ").into_bytes(),
        };
        records.iter().enumerate().map(record).collect()
    }

    #[test]
    fn everything_in_order_is_no_complaint() {
        let ledger =
            ledger(&[(1, "OPENING"), (1, "+ 0 0 0"), (1, "+ 0 1 2"), (2, "+ 0 0 0"), (2, "+ 5 0")], 2);
        let records =
            [(0, "a", "0 1 0"), (1, "b", "0 1 1"), (0, "a", "0 1 2"), (0, "a", "0 1 3"), (0, "a", "0 2 0")];
        let verdict = ledger.check(topic(&records));
        assert_eq!(verdict.complaints(false), [""; 0], "that on its way may be there");
        assert_eq!((verdict.accepted, verdict.duplicates), (4, 0));
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let ledger = ledger(&[(1, "+ 0 0 3"), (2, "+ 0 0 0")], 2);
        let all =
            [(0, "a", "0 1 0"), (0, "a", "0 1 1"), (0, "a", "0 1 2"), (0, "a", "0 1 3"), (0, "a", "0 2 0")];
        let complaint =
            |records: &[(i32, &str, &str)]| ledger.check(topic(records)).complaints(false).join("; ");
        assert_eq!(complaint(&all), "");
        assert!(
            complaint(&all[1..]).starts_with("1 events that `add` had accepted are not"),
            "the first is missing"
        );
        let mut swapped = all;
        swapped.swap(1, 2);
        assert!(complaint(&swapped).contains("1 events came after later ones"));
        let mut swapped = all;
        swapped.swap(3, 4);
        assert!(complaint(&swapped).contains("1 events came after later ones"), "runs are in order, too");
        assert!(complaint(&[&all[..], &[(0, "a", "0 1 99")]].concat()).contains("like no event"));
        assert!(complaint(&[&all[..], &[(0, "a", "0 1")]].concat()).contains("like no event"));
        assert!(complaint(&[&all[..], &[(1, "a", "0 1 4")]].concat()).contains("1 keys are on more"));
    }

    #[test]
    fn duplicates_are_counted_by_where_the_log_goes_back() {
        let numbers: Vec<String> = (0..200).map(|n| format!("0 1 {n}")).collect();
        let log = |ranges: &[std::ops::Range<usize>]| {
            let values = ranges.iter().flat_map(|range| &numbers[range.clone()]);
            topic(&values.map(|value| (0, "a", value.as_str())).collect::<Vec<_>>())
        };
        let ledger = ledger(&[(1, "+ 0 0 199"), (1, "MAYBE 5")], 3);
        let verdict = ledger.check(log(&[0..50, 20..50, 20..120, 100..200]));
        assert_eq!((verdict.duplicates, verdict.rewinds, verdict.longest), (80, 3, 30));
        assert_eq!(verdict.complaints(false), [""; 0]);
        assert!(verdict.complaints(true).join("").contains("80 events are there twice"));
        let verdict = ledger.check(log(&[0..100, 10..200]));
        assert!(
            verdict.complaints(false).join("").contains("90 events came again at once"),
            "more than a batch"
        );
        let verdict = ledger.check(log(&[0..70, 0..70, 0..70, 0..70, 0..200]));
        assert!(
            verdict.complaints(false).join("").contains("1 partitions have more duplicates"),
            "280 of 230 allowed"
        );
    }
}
