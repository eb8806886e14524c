//! What changes between readings: rates, times, and how far a replay is.
//!
//! Without a clock: each reading comes with the time at which it was made.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::reading::{LOCKED, REPLAYING, Reading, Topic};

/// Time over which the speed of a replay is measured.
const WINDOW: Duration = Duration::from_secs(10);
/// Rates that are kept to be drawn.
const HISTORY: usize = 300;

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The readings of the last seconds, the newest last; two at least, once there are so many.
    readings: VecDeque<(Duration, Reading)>,
    /// Accepted and delivered events a second, the newest last.
    rates: VecDeque<(u64, u64)>,
    /// The most that was stored since nothing was.
    peak: f64,
    /// When Kafka was there last, or was gone last, as far as it was seen.
    changed: Option<Duration>,
    /// Why the last reading failed, and since when none has succeeded.
    trouble: Option<(Duration, String)>,
    /// When the process was another one than before.
    restarted: Option<Duration>,
}

/// What is to be seen now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View {
    pub(super) reading: Reading,
    /// How long Kafka has been there or not, if that change was seen.
    pub(super) link_for: Option<Duration>,
    pub(super) topics: Vec<TopicView>,
    /// All topics together.
    pub(super) total: TopicView,
    /// The 99th percentile of putting a batch to storage.
    pub(super) append: Option<(f64, bool)>,
    pub(super) replay: Option<Replay>,
    pub(super) rates: Vec<(u64, u64)>,
    /// Why there is no newer reading, and for how long.
    pub(super) trouble: Option<(Duration, String)>,
    /// How long ago the process was seen to be another one than before.
    pub(super) restarted: Option<Duration>,
}

/// A topic, and what it has done since the reading before.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TopicView {
    pub(super) name: String,
    pub(super) now: Topic,
    /// Per second.
    pub(super) accepted: f64,
    pub(super) delivered: f64,
    pub(super) delivered_bytes: f64,
    pub(super) rejected: f64,
    pub(super) failed: f64,
    /// Seconds; the second is true when it may be more.
    pub(super) p50: Option<(f64, bool)>,
    pub(super) p99: Option<(f64, bool)>,
    /// What is new of failures, rejections and dead letters.
    pub(super) new_failures: BTreeMap<String, f64>,
    pub(super) new_rejected: BTreeMap<String, f64>,
    pub(super) new_dead: BTreeMap<String, f64>,
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Replay {
    pub(super) left: f64,
    /// Of the most there was, as far as that was seen: 0 to 1.
    pub(super) done: f64,
    /// Events a second by which what is stored grows less.
    pub(super) rate: f64,
    /// None when it does not get less.
    pub(super) eta: Option<Duration>,
}

/// A second's part of what a counter has grown by; one that is less than before has begun anew, at 0.
pub(super) fn rate(before: f64, now: f64, time: Duration) -> f64 {
    let grown = if now < before { now } else { now - before };
    if time.is_zero() { 0.0 } else { grown / time.as_secs_f64() }
}

fn sum(counts: &BTreeMap<String, f64>) -> f64 {
    counts.values().sum()
}

/// What each counter has grown by.
fn new(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let grown = |name: &String, count: &f64| {
        rate(before.get(name).copied().unwrap_or_default(), *count, Duration::from_secs(1))
    };
    now.iter().map(|(name, count)| (name.clone(), grown(name, count))).collect()
}

impl TopicView {
    fn between(name: &str, before: &Topic, now: &Topic, time: Duration) -> Self {
        let latency = now.latency.since(&before.latency);
        Self {
            name: name.to_owned(),
            accepted: rate(before.accepted, now.accepted, time),
            delivered: rate(before.delivered, now.delivered, time),
            delivered_bytes: rate(before.delivered_bytes, now.delivered_bytes, time),
            rejected: rate(sum(&before.rejected), sum(&now.rejected), time),
            failed: rate(before.failed, now.failed, time),
            p50: latency.quantile(0.5),
            p99: latency.quantile(0.99),
            new_failures: new(&before.failures, &now.failures),
            new_rejected: new(&before.rejected, &now.rejected),
            new_dead: new(&before.dead, &now.dead),
            now: now.clone(),
        }
    }

    /// Whether somebody should look at it.
    pub(super) fn is_in_trouble(&self) -> bool {
        let is_new = |counts: &BTreeMap<String, f64>| counts.values().any(|count| *count > 0.0);
        self.now.lanes[LOCKED] > 0.0
            || self.now.lost > 0.0
            || self.failed > 0.0
            || is_new(&self.new_rejected)
            || is_new(&self.new_dead)
    }
}

/// All topics of a reading as one.
fn total(reading: &Reading) -> Topic {
    let mut total = Topic::default();
    for topic in reading.topics.values() {
        total.accepted += topic.accepted;
        total.delivered += topic.delivered;
        total.delivered_bytes += topic.delivered_bytes;
        total.replayed += topic.replayed;
        total.lost += topic.lost;
        total.maybe_duplicated += topic.maybe_duplicated;
        total.stored += topic.stored;
        total.in_memory += topic.in_memory;
        total.failed += topic.failed;
        total.lanes.iter_mut().zip(topic.lanes).for_each(|(all, of)| *all += of);
        for (all, of) in [
            (&mut total.failures, &topic.failures),
            (&mut total.rejected, &topic.rejected),
            (&mut total.dead, &topic.dead),
        ] {
            of.iter().for_each(|(name, count)| *all.entry(name.clone()).or_default() += count);
        }
        total.latency = std::mem::take(&mut total.latency).plus(&topic.latency);
    }
    total
}

impl Watch {
    /// Takes what was read, or why nothing could be.
    pub(super) fn take(&mut self, at: Duration, result: Result<Reading, String>) {
        let reading = match result {
            Ok(reading) => reading,
            Err(message) => {
                let since = self.trouble.take().map_or(at, |(since, _)| since);
                self.trouble = Some((since, message));
                return;
            }
        };
        self.trouble = None;
        let now = total(&reading);
        self.peak = if now.stored == 0.0 { 0.0 } else { self.peak.max(now.stored) };
        if let Some((before_at, before)) = self.readings.back() {
            if before.connected != reading.connected {
                self.changed = Some(at);
            }
            let then = total(before);
            if now.accepted < then.accepted || reading.connects < before.connects {
                self.restarted = Some(at);
            }
            let change = TopicView::between("", &then, &now, at.saturating_sub(*before_at));
            self.rates.push_back((change.accepted.round() as u64, change.delivered.round() as u64));
        }
        self.readings.push_back((at, reading));
        while self.readings.len() > 2 && self.readings.get(1).is_some_and(|(old, _)| at - *old >= WINDOW) {
            self.readings.pop_front();
        }
        while self.rates.len() > HISTORY {
            self.rates.pop_front();
        }
    }

    /// What is to be seen at this time.
    pub(super) fn view(&self, now: Duration) -> View {
        let trouble = |(since, why): &(Duration, String)| (now.saturating_sub(*since), why.clone());
        let mut view = View { trouble: self.trouble.as_ref().map(trouble), ..View::default() };
        let Some((at, reading)) = self.readings.back() else { return view };
        // Nothing has changed as far as is known, when there is no reading before.
        let (before_at, before) = self.readings.iter().nth_back(1).unwrap_or(&self.readings[0]);
        let time = at.saturating_sub(*before_at);
        let nothing = Topic::default();
        let mut topics: Vec<_> = reading
            .topics
            .iter()
            .map(|(name, of)| {
                // One that was not there has been there all the time, with nothing to tell.
                TopicView::between(name, before.topics.get(name).unwrap_or(&nothing), of, time)
            })
            .collect();
        // Those by name who are all right.
        topics.sort_by_key(|topic| !topic.is_in_trouble());
        view.total = TopicView::between("all", &total(before), &total(reading), time);
        view.append = reading.storage.append.since(&before.storage.append).quantile(0.99);
        view.topics = topics;
        view.replay = self.replay(&view.total.now);
        view.link_for = self.changed.map(|changed| now.saturating_sub(changed));
        view.rates = self.rates.iter().copied().collect();
        view.restarted = self.restarted.map(|restarted| now.saturating_sub(restarted));
        view.reading = reading.clone();
        view
    }

    fn replay(&self, now: &Topic) -> Option<Replay> {
        if now.lanes[REPLAYING] == 0.0 || now.stored == 0.0 {
            return None;
        }
        let ((at, _), (from, first)) = (self.readings.back()?, self.readings.front()?);
        let time = at.saturating_sub(*from).as_secs_f64();
        let gone = total(first).stored - now.stored;
        let rate = if time > 0.0 { (gone / time).max(0.0) } else { 0.0 };
        let seconds = now.stored / rate;
        let eta = (seconds < 1e9).then(|| Duration::from_secs_f64(seconds));
        let done = if self.peak > 0.0 { 1.0 - now.stored / self.peak } else { 0.0 };
        Some(Replay { left: now.stored, done, rate, eta })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn reading(change: impl FnOnce(&mut Reading, &mut Topic)) -> Reading {
        let mut reading = Reading { connected: true, connects: 1.0, ..Reading::default() };
        let mut topic = Topic::default();
        change(&mut reading, &mut topic);
        reading.topics.insert("t".to_owned(), topic);
        reading
    }

    fn counted(accepted: f64, delivered: f64) -> Reading {
        reading(|_, topic| (topic.accepted, topic.delivered) = (accepted, delivered))
    }

    #[test]
    fn a_counter_that_is_less_than_before_has_begun_anew() {
        assert_eq!(rate(10.0, 30.0, at(2)), 10.0);
        assert_eq!(rate(30.0, 10.0, at(2)), 5.0);
        assert_eq!(rate(10.0, 30.0, Duration::ZERO), 0.0);
        let now = BTreeMap::from([("a".to_owned(), 3.0), ("b".to_owned(), 2.0)]);
        let grown = new(&BTreeMap::from([("a".to_owned(), 1.0)]), &now);
        assert_eq!((grown["a"], grown["b"]), (2.0, 2.0));
    }

    #[test]
    fn rates_are_those_since_the_reading_before() {
        let mut watch = Watch::default();
        assert_eq!(watch.view(at(0)), View::default());
        watch.take(at(0), Ok(counted(100.0, 50.0)));
        let view = watch.view(at(0));
        assert_eq!((view.total.accepted, view.topics[0].accepted), (0.0, 0.0), "not as if all were new");
        watch.take(at(2), Ok(counted(140.0, 60.0)));
        let view = watch.view(at(2));
        assert_eq!((view.topics[0].accepted, view.total.delivered, view.restarted), (20.0, 5.0, None));
        watch.take(at(4), Ok(counted(8.0, 6.0)));
        let view = watch.view(at(9));
        assert_eq!((view.topics[0].accepted, view.total.delivered, view.restarted), (4.0, 3.0, Some(at(5))));
        assert_eq!(view.rates, [(20, 5), (4, 3)]);
    }

    #[test]
    fn a_process_that_is_gone_is_told_with_the_last_that_was_seen() {
        let mut watch = Watch::default();
        watch.take(at(0), Ok(counted(1.0, 1.0)));
        watch.take(at(1), Err("refused".to_owned()));
        watch.take(at(5), Err("no answer".to_owned()));
        let view = watch.view(at(6));
        assert_eq!(view.trouble, Some((at(5), "no answer".to_owned())));
        assert_eq!(view.total.now.accepted, 1.0);
        watch.take(at(7), Ok(counted(1.0, 1.0)));
        assert_eq!(watch.view(at(7)).trouble, None);
    }

    #[test]
    fn a_replay_has_a_speed_and_an_end() {
        let stored = |events, replaying| {
            reading(|_, topic| (topic.stored, topic.lanes[REPLAYING]) = (events, replaying))
        };
        let mut watch = Watch::default();
        watch.take(at(0), Ok(stored(400.0, 0.0)));
        watch.take(at(10), Ok(stored(1000.0, 0.0)));
        assert_eq!(watch.view(at(10)).replay, None);
        watch.take(at(20), Ok(stored(1000.0, 4.0)));
        assert_eq!(watch.view(at(20)).replay.unwrap().eta, None, "it has not begun");
        watch.take(at(30), Ok(stored(600.0, 4.0)));
        let replay = watch.view(at(30)).replay.unwrap();
        assert_eq!((replay.left, replay.done, replay.rate), (600.0, 0.4, 40.0));
        assert_eq!(replay.eta, Some(at(15)));
        watch.take(at(31), Ok(stored(0.0, 4.0)));
        watch.take(at(32), Ok(stored(10.0, 4.0)));
        assert_eq!(watch.view(at(32)).replay.unwrap().done, 0.0, "that is another one");
    }

    #[test]
    fn how_long_kafka_has_been_away_is_known_once_it_was_seen_to_go() {
        let link = |connected| reading(|reading, _| reading.connected = connected);
        let mut watch = Watch::default();
        watch.take(at(0), Ok(link(true)));
        assert_eq!(watch.view(at(1)).link_for, None);
        watch.take(at(5), Ok(link(false)));
        watch.take(at(6), Ok(link(false)));
        assert_eq!(watch.view(at(8)).link_for, Some(at(3)));
    }

    #[test]
    fn topics_in_trouble_come_first_and_what_is_kept_has_an_end() {
        let mut both = counted(1.0, 1.0);
        let locked = Topic { lanes: [0.0, 0.0, 1.0, 0.0], ..Topic::default() };
        both.topics.insert("z".to_owned(), locked);
        let mut watch = Watch::default();
        for second in 0..1000 {
            watch.take(at(second), Ok(both.clone()));
        }
        let view = watch.view(at(1000));
        assert_eq!(view.topics.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["z", "t"]);
        assert_eq!((view.rates.len(), watch.readings.len()), (HISTORY, 11));
        assert_eq!(view.total.now.lanes[LOCKED], 1.0);
    }
}
