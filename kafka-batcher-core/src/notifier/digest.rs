//! Few reports of many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Report, Summary, Trouble, What};
use crate::producer::ErrorKind;
use crate::time::Moment;

/// So many topics are told apart by name in each sort of trouble; others are counted together.
const TOPICS: usize = 10;

/// Makes few reports of many: the first of each (what, topic, kind) passes, then there is a summary every interval as
/// long as there is something to tell, and at the end a report that says that it is over and how long it took.
///
/// ```text
///   reports    │││││││││││││││││││││││││││││││││││││ ✓
///   passed on  │         Σ         Σ         Σ       ✓
///              first     └ interval┘                 over
/// ```
///
/// A trouble that comes and goes within an interval is told once, when it stays away. However many reports come in, of
/// each [`Trouble`] and topic at most one passes in an interval, beside the first of each kind and the first that says
/// that it is over; beyond 10 topics the others are told together.
///
/// Call [`report`](Self::report) with each report, then [`poll`](Self::poll) until it gives `None`, then
/// [`poll_timeout`](Self::poll_timeout) for when to poll again.
#[derive(Debug)]
pub struct Digest {
    interval: Duration,
    open: BTreeMap<(Trouble, Scope), Incident>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Client,
    Topic(String),
    /// All topics beyond the first few.
    Others,
}

type Place = (Option<String>, Option<u32>);

#[derive(Debug)]
struct Incident {
    since: Moment,
    /// When something of it was passed on last.
    told: Moment,
    kinds: Vec<Option<ErrorKind>>,
    /// Where the trouble is now, and how many events it concerned last.
    troubled: BTreeMap<Place, u64>,
    /// Where it was since something was passed on.
    places: BTreeSet<Place>,
    /// Reports and events since something was passed on.
    times: u64,
    events: u64,
    /// Reports since it began, and where.
    all: u64,
    all_places: BTreeSet<Place>,
    latest: Report,
    over: Option<Moment>,
    /// That it is over was told, and it has not come back since.
    is_over_told: bool,
    /// Whether it ever was: after the first time, that waits for the interval.
    was_over_told: bool,
}

impl Digest {
    /// A digest that sums up every `interval`.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval, open: BTreeMap::new() }
    }

    /// Takes a report; gives the one to pass on at once, if there is one.
    pub fn report(&mut self, report: &Report, now: Moment) -> Option<Report> {
        let trouble = report.what.trouble();
        let place = (report.topic.clone(), report.partition);
        if let What::Recovered(_) = report.what {
            let (scope, incident) = self.find(trouble, &report.topic)?;
            incident.recovered(&place, now);
            let tells = incident.over == Some(now) && !incident.was_over_told;
            return tells.then(|| incident.tell_over(&scope, now));
        }
        self.forget(now);
        let scope = self.scope(trouble, &report.topic);
        let incident = self.open.entry((trouble, scope)).or_insert_with(|| Incident::new(report, now));
        incident.add(report, place);
        if incident.kinds.contains(&report.kind()) {
            return None;
        }
        // The first of its kind stands for itself.
        incident.kinds.push(report.kind());
        incident.times -= 1;
        incident.events -= report.events;
        Some(report.clone())
    }

    /// The next report that has become due; `None` when there is none now.
    pub fn poll(&mut self, now: Moment) -> Option<Report> {
        self.forget(now);
        let interval = self.interval;
        let due = |incident: &&mut Incident| incident.has_news() && now.since(incident.told) >= interval;
        let ((_, scope), incident) =
            self.open.iter_mut().find_map(|(key, incident)| Some((key, Some(incident).filter(due)?)))?;
        if incident.over.is_some() {
            return Some(incident.tell_over(scope, now));
        }
        Some(incident.tell_summary(scope, now))
    }

    /// When to poll again although nothing is reported.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        let news = self.open.values().filter(|incident| incident.has_news());
        news.map(|incident| incident.told + self.interval).min()
    }

    /// What is still to be told, at once: nothing more is coming for now.
    pub fn finish(&mut self, now: Moment) -> Option<Report> {
        let interval = std::mem::take(&mut self.interval);
        let report = self.poll(now);
        self.interval = interval;
        report
    }

    /// What is over for an interval would be news.
    fn forget(&mut self, now: Moment) {
        let interval = self.interval;
        self.open.retain(|(trouble, _), incident| {
            !incident.is_finished(*trouble) || now.since(incident.told) < interval
        });
    }

    /// The incident that a topic's trouble is counted in.
    fn find(&mut self, trouble: Trouble, topic: &Option<String>) -> Option<(Scope, &mut Incident)> {
        let own = topic.clone().map_or(Scope::Client, Scope::Topic);
        let scope = if self.open.contains_key(&(trouble, own.clone())) { own } else { Scope::Others };
        let incident = self.open.get_mut(&(trouble, scope.clone()))?;
        Some((scope, incident))
    }

    fn scope(&self, trouble: Trouble, topic: &Option<String>) -> Scope {
        let Some(topic) = topic else { return Scope::Client };
        let own = Scope::Topic(topic.clone());
        let of_trouble = self.open.range((trouble, Scope::Client)..=(trouble, Scope::Others));
        let named = of_trouble.filter(|((_, scope), _)| matches!(scope, Scope::Topic(_))).count();
        let others = self.open.get(&(trouble, Scope::Others));
        // Who is counted with the others stays there until that is over.
        let stays = others.is_some_and(|others| others.troubles(topic));
        if !stays && (named < TOPICS || self.open.contains_key(&(trouble, own.clone()))) {
            own
        } else {
            Scope::Others
        }
    }
}

impl Incident {
    fn new(report: &Report, now: Moment) -> Self {
        Self {
            since: now,
            told: now,
            kinds: Vec::new(),
            troubled: BTreeMap::new(),
            places: BTreeSet::new(),
            times: 0,
            events: 0,
            all: 0,
            all_places: BTreeSet::new(),
            latest: report.clone(),
            over: None,
            is_over_told: false,
            was_over_told: false,
        }
    }

    fn add(&mut self, report: &Report, place: Place) {
        if report.what.trouble().lasts() {
            self.troubled.insert(place.clone(), report.events);
            self.over = None;
            self.is_over_told = false;
        }
        self.places.insert(place.clone());
        self.all_places.insert(place);
        self.times += 1;
        self.all += 1;
        self.events = self.events.saturating_add(report.events);
        self.latest = report.clone();
    }

    fn recovered(&mut self, place: &Place, now: Moment) {
        match place {
            (Some(topic), None) => self.troubled.retain(|(of, _), _| of.as_ref() != Some(topic)),
            place => drop(self.troubled.remove(place)),
        }
        if self.troubled.is_empty() && self.over.is_none() {
            self.over = Some(now);
        }
    }

    fn troubles(&self, topic: &String) -> bool {
        let first: Place = (Some(topic.clone()), None);
        self.troubled.range(first..).next().is_some_and(|((name, _), _)| name.as_ref() == Some(topic))
    }

    fn has_news(&self) -> bool {
        if self.over.is_some() { !self.is_over_told } else { self.times > 0 }
    }

    /// Nothing is left to be told of it, and nothing more is to come.
    fn is_finished(&self, trouble: Trouble) -> bool {
        !self.has_news() && (self.over.is_some() || !trouble.lasts())
    }

    fn tell_over(&mut self, scope: &Scope, now: Moment) -> Report {
        let over = self.over.unwrap_or(now);
        let mut report = Report::new(What::Recovered(self.latest.what.trouble()), "");
        let summary = summary(scope, &self.all_places, self.all, over.since(self.since));
        (report.topic, report.summary) = (self.topic(scope), Some(summary));
        self.is_told(now);
        (self.is_over_told, self.was_over_told) = (true, true);
        report
    }

    fn tell_summary(&mut self, scope: &Scope, now: Moment) -> Report {
        let mut report = self.latest.clone();
        let summary = summary(scope, &self.places, self.times, now.since(self.told));
        report.topic = self.topic(scope);
        report.partition = report.partition.filter(|_| summary.partitions == 1 && summary.topics == 0);
        // What fails again and again is the same events; what is gone or dead is others each time.
        let lasts = report.what.trouble().lasts();
        report.events = if lasts { self.troubled.values().sum() } else { self.events };
        report.summary = Some(summary);
        self.is_told(now);
        report
    }

    fn topic(&self, scope: &Scope) -> Option<String> {
        match scope {
            Scope::Topic(topic) => Some(topic.clone()),
            Scope::Client | Scope::Others => None,
        }
    }

    fn is_told(&mut self, now: Moment) {
        self.told = now;
        (self.times, self.events) = (0, 0);
        self.places.clear();
    }
}

fn summary(scope: &Scope, places: &BTreeSet<Place>, times: u64, period: Duration) -> Summary {
    let partitions = places.iter().filter(|(_, partition)| partition.is_some()).count();
    let topics: BTreeSet<_> = places.iter().map(|(topic, _)| topic).collect();
    let topics = if *scope == Scope::Others { topics.len() } else { 0 };
    let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
    Summary { times, period, partitions: number(partitions), topics: number(topics) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(s: u64) -> Moment {
        Moment::from_millis(s * 1000)
    }

    fn on(topic: &str, partition: u32, what: What) -> Report {
        let mut report = Report::new(what, "broker down");
        report.topic = Some(topic.to_owned());
        (report.partition, report.events) = (Some(partition), 10);
        report
    }

    fn failed(topic: &str, partition: u32) -> Report {
        on(topic, partition, What::ProduceFailed(ErrorKind::Transient))
    }

    fn back(topic: &str, partition: u32) -> Report {
        let mut report = on(topic, partition, What::Recovered(Trouble::Produce));
        report.events = 0;
        report
    }

    /// All that is told from one report to the next.
    fn told(digest: &mut Digest, report: &Report, now: Moment) -> Vec<String> {
        let first = digest.report(report, now);
        let rest: Vec<Report> = std::iter::from_fn(|| digest.poll(now)).collect();
        first.into_iter().chain(rest).map(|report| report.to_string()).collect()
    }

    #[test]
    fn first_then_a_summary_every_interval_then_that_it_is_over() {
        let mut digest = Digest::new(MINUTE);
        let mut lines = Vec::new();
        for second in 0..150 {
            for partition in 0..3 {
                lines.extend(told(&mut digest, &failed("flights", partition), at(second)));
            }
        }
        for partition in 0..3 {
            lines.extend(told(&mut digest, &back("flights", partition), at(150)));
        }
        let next = "broker down; the events are kept and sent again";
        assert_eq!(
            lines,
            [
                format!("produce failed (transient) on flights/0 (10 events): {next}"),
                format!(
                    "produce failed (transient) on flights, 180 times in 60 s (30 events of 3 partitions): {next}"
                ),
                format!(
                    "produce failed (transient) on flights, 180 times in 60 s (30 events of 3 partitions): {next}"
                ),
                "Kafka takes events again on flights after 2 min 30 s (450 reports)".to_owned(),
            ]
        );
        assert_eq!(digest.poll_timeout(), None);
        // Later it is news again.
        assert_eq!(told(&mut digest, &failed("flights", 0), at(300)).len(), 1);
    }

    #[test]
    fn a_summary_is_due_by_itself() {
        let mut digest = Digest::new(MINUTE);
        told(&mut digest, &failed("flights", 0), at(0));
        assert_eq!(digest.poll_timeout(), None, "nothing is to be told that was not");
        told(&mut digest, &failed("flights", 0), at(1));
        assert_eq!(digest.poll_timeout(), Some(at(60)));
        assert_eq!(digest.poll(at(59)), None);
        let report = digest.poll(at(60)).unwrap();
        assert_eq!((report.partition, report.summary.unwrap().times), (Some(0), 1));
        assert_eq!(digest.poll(at(600)), None, "silence is not summed up");
    }

    #[test]
    fn what_comes_and_goes_is_told_once_an_interval() {
        let mut digest = Digest::new(MINUTE);
        let mut lines = Vec::new();
        for second in 0..3600 {
            let report = if second % 2 == 0 { failed("flights", 0) } else { back("flights", 0) };
            lines.extend(told(&mut digest, &report, at(second)));
        }
        assert!(lines.len() <= 62, "{} lines", lines.len());
        let last = digest.poll(at(4000)).unwrap().to_string();
        assert_eq!(last, "Kafka takes events again on flights after 59 min 59 s (1,800 reports)");
        assert_eq!((digest.poll(at(4000)), digest.poll_timeout()), (None, None));
    }

    #[test]
    fn another_kind_is_news() {
        let mut digest = Digest::new(MINUTE);
        let denied = on("flights", 0, What::ProduceFailed(ErrorKind::Denied));
        assert_eq!(told(&mut digest, &failed("flights", 0), at(0)).len(), 1);
        assert_eq!(told(&mut digest, &denied, at(1)).len(), 1);
        assert!(told(&mut digest, &denied, at(2)).is_empty());
    }

    #[test]
    fn what_does_not_last_is_summed_up_and_forgotten() {
        let mut digest = Digest::new(MINUTE);
        let dead = on("flights", 1, What::DeadLettered(ErrorKind::Permanent));
        for second in 0..30 {
            told(&mut digest, &dead, at(second));
        }
        let report = digest.poll(at(60)).unwrap();
        assert_eq!((report.events, report.summary.unwrap().times), (290, 29));
        assert_eq!(digest.poll(at(120)), None);
        assert!(digest.open.is_empty());
        assert_eq!(told(&mut digest, &dead, at(121)).len(), 1, "news again");
    }

    #[test]
    fn many_topics_are_not_told_one_by_one() {
        let mut digest = Digest::new(MINUTE);
        let mut lines = Vec::new();
        for second in (0..600).step_by(20) {
            for topic in 0..200 {
                lines.extend(told(&mut digest, &failed(&format!("topic-{topic}"), 0), at(second)));
            }
        }
        assert!(lines.len() <= 11 * 10, "{} lines in 10 minutes", lines.len());
        assert!(lines.iter().any(|line| line.contains(" on 190 topics, ")), "{lines:#?}");
        let mut lines = Vec::new();
        for topic in 0..200 {
            lines.extend(told(&mut digest, &back(&format!("topic-{topic}"), 0), at(590)));
        }
        assert_eq!(lines.len(), 11, "{lines:#?}");
        assert!(lines[10].starts_with("Kafka takes events again on 190 topics after"), "{}", lines[10]);
    }

    #[test]
    fn at_the_end_everything_is_told_at_once() {
        let mut digest = Digest::new(MINUTE);
        told(&mut digest, &failed("flights", 0), at(0));
        told(&mut digest, &failed("flights", 1), at(1));
        assert_eq!(digest.finish(at(2)).unwrap().summary.unwrap().times, 1);
        assert_eq!(digest.finish(at(2)), None);
    }

    #[test]
    fn an_end_of_what_was_never_told_is_not_told() {
        assert_eq!(told(&mut Digest::new(MINUTE), &back("flights", 0), at(0)), [""; 0]);
    }
}
