//! What a page of metrics says about a batcher.

use std::collections::BTreeMap;

use super::text::Sample;

/// The figures of a batcher at one moment; what a page does not say is 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    pub(super) connected: bool,
    pub(super) connects: f64,
    pub(super) connect_failures: f64,
    pub(super) memory_bytes: f64,
    pub(super) memory_max_bytes: f64,
    pub(super) memory_events: f64,
    pub(super) storage: Storage,
    pub(super) panics: f64,
    pub(super) topics: BTreeMap<String, Topic>,
}

/// Temporary storage.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Storage {
    pub(super) up: bool,
    pub(super) used: f64,
    /// None when there is no limit.
    pub(super) quota: Option<f64>,
    /// Seconds.
    pub(super) oldest: f64,
    pub(super) lost: f64,
    pub(super) append: Histogram,
}

/// A topic. Events, unless it says otherwise; since the start, where it is no state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Topic {
    pub(super) accepted: f64,
    pub(super) delivered: f64,
    pub(super) delivered_bytes: f64,
    pub(super) replayed: f64,
    pub(super) lost: f64,
    pub(super) maybe_duplicated: f64,
    /// In storage now.
    pub(super) stored: f64,
    /// In memory only, now.
    pub(super) in_memory: f64,
    /// In calls that failed.
    pub(super) failed: f64,
    /// Lanes that are starting, live, locked, replaying.
    pub(super) lanes: [f64; 4],
    /// Calls that failed, by kind.
    pub(super) failures: BTreeMap<String, f64>,
    /// Handed back, by reason.
    pub(super) rejected: BTreeMap<String, f64>,
    /// Dead letters, by kind.
    pub(super) dead: BTreeMap<String, f64>,
    pub(super) latency: Histogram,
}

/// The places of the states in [`Topic::lanes`].
pub(super) const STATES: [&str; 4] = ["starting", "live", "locked", "replaying"];
pub(super) const LOCKED: usize = 2;
pub(super) const REPLAYING: usize = 3;

/// For each upper bound, ascending: how many observations were at most that.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// Adds to the bucket of this bound.
    pub(super) fn add(&mut self, bound: f64, count: f64) {
        match self.0.binary_search_by(|(of, _)| of.total_cmp(&bound)) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => self.0.insert(at, (bound, count)),
        }
    }

    /// All observations of both.
    pub(super) fn plus(mut self, other: &Self) -> Self {
        other.0.iter().for_each(|(bound, count)| self.add(*bound, *count));
        self
    }

    /// The observations since `before`; all of them when there are fewer than before: the process is another one.
    pub(super) fn since(&self, before: &Self) -> Self {
        let total = |histogram: &Self| histogram.0.last().map_or(0.0, |(_, count)| *count);
        if total(before) > total(self) {
            return self.clone();
        }
        let count =
            |bound: f64| before.0.iter().find(|(of, _)| *of == bound).map_or(0.0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, now)| (*bound, (now - count(*bound)).max(0.0))).collect())
    }

    /// The value below which this part of the observations lies; `None` without any. Within a bucket they are taken to
    /// lie evenly, as Prometheus' `histogram_quantile` does it; the second is true when it may be more: it is in the last bucket.
    pub(super) fn quantile(&self, part: f64) -> Option<(f64, bool)> {
        let total = self.0.last().filter(|(_, total)| *total > 0.0)?.1;
        let rank = part * total;
        let at = self.0.iter().position(|(_, count)| *count >= rank)?;
        let (low, below) = at.checked_sub(1).map_or((0.0, 0.0), |at| self.0[at]);
        let (bound, count) = self.0[at];
        if bound.is_infinite() {
            return Some((low, true));
        }
        let share = if count > below { (rank - below) / (count - below) } else { 1.0 };
        Some((low + (bound - low) * share, false))
    }
}

/// What all names of a batcher's metrics begin with.
///
/// # Errors
/// All there are, when it is not exactly one.
pub(super) fn prefix(samples: &[Sample]) -> Result<String, Vec<String>> {
    let named = |name: &str| samples.iter().any(|sample| sample.name == name);
    let mut prefixes: Vec<_> = samples
        .iter()
        .filter_map(|sample| sample.name.strip_suffix("_storage_up"))
        .filter(|prefix| named(&format!("{prefix}_memory_max_bytes")))
        .map(str::to_owned)
        .collect();
    prefixes.dedup();
    match prefixes.len() {
        1 => Ok(prefixes.remove(0)),
        _ => Err(prefixes),
    }
}

impl Reading {
    /// What the metrics with this prefix say; `None` if there are none.
    pub(super) fn of(samples: &[Sample], prefix: &str) -> Option<Self> {
        let mut reading = Self::default();
        let mut any = false;
        for sample in samples {
            let name = sample.name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
            if let Some(name) = name {
                any = true;
                reading.take(name, sample);
            }
        }
        any.then_some(reading)
    }

    fn take(&mut self, name: &str, sample: &Sample) {
        let value = if sample.value.is_finite() { sample.value } else { 0.0 };
        match name {
            "connected" => self.connected = value > 0.0,
            "connects_total" => self.connects = value,
            "connect_failures_total" => self.connect_failures = value,
            "memory_bytes" => self.memory_bytes = value,
            "memory_max_bytes" => self.memory_max_bytes = value,
            "memory_events" => self.memory_events = value,
            "storage_up" => self.storage.up = value > 0.0,
            "storage_used_bytes" => self.storage.used = value,
            // An exabyte is as good as no limit, which is how it is meant.
            "storage_quota_bytes" => self.storage.quota = Some(value).filter(|quota| *quota < 1e18),
            "storage_oldest_seconds" => self.storage.oldest = value,
            "storage_lost_events_total" => self.storage.lost = value,
            "panics_total" => self.panics = value,
            "storage_call_seconds_bucket" if sample.label("call") == "append" => {
                self.storage.append.take(sample, value);
            }
            _ if !sample.label("topic").is_empty() => self.take_of_topic(name, sample, value),
            _ => {}
        }
    }

    fn take_of_topic(&mut self, name: &str, sample: &Sample, value: f64) {
        let topic = self.topics.entry(sample.label("topic").to_owned()).or_default();
        let by = |map: &mut BTreeMap<String, f64>, label: &str| {
            *map.entry(sample.label(label).to_owned()).or_default() += value;
        };
        match name {
            "events_accepted_total" => topic.accepted = value,
            "events_delivered_total" => topic.delivered = value,
            "bytes_delivered_total" => topic.delivered_bytes = value,
            "events_replayed_total" => topic.replayed = value,
            "events_lost_total" => topic.lost = value,
            "events_maybe_duplicated_total" => topic.maybe_duplicated = value,
            "events_stored" => topic.stored = value,
            "events_in_memory" => topic.in_memory = value,
            "produce_failed_events_total" => topic.failed += value,
            "produce_failures_total" => by(&mut topic.failures, "kind"),
            "rejected_events_total" => by(&mut topic.rejected, "reason"),
            "dead_letters_total" => by(&mut topic.dead, "kind"),
            "latency_seconds_bucket" => topic.latency.take(sample, value),
            "lanes" => {
                if let Some(at) = STATES.iter().position(|state| *state == sample.label("state")) {
                    topic.lanes[at] = value;
                }
            }
            _ => {}
        }
    }
}

impl Histogram {
    fn take(&mut self, sample: &Sample, count: f64) {
        match sample.label("le") {
            "+Inf" => self.add(f64::INFINITY, count),
            bound => {
                if let Ok(bound) = bound.parse() {
                    self.add(bound, count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::parse;
    use super::*;

    fn histogram(buckets: &[(f64, f64)]) -> Histogram {
        buckets.iter().fold(Histogram::default(), |mut histogram, (bound, count)| {
            histogram.add(*bound, *count);
            histogram
        })
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let of = histogram(&[(1.0, 10.0), (2.0, 30.0), (f64::INFINITY, 40.0)]);
        assert_eq!(of.quantile(0.5), Some((1.5, false)));
        assert_eq!(of.quantile(0.25), Some((1.0, false)));
        assert_eq!(of.quantile(0.99), Some((2.0, true)), "it may be more");
        assert_eq!(histogram(&[(0.1, 0.0), (f64::INFINITY, 0.0)]).quantile(0.5), None);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn observations_of_an_interval_are_the_difference_and_all_after_a_restart() {
        let before = histogram(&[(0.1, 10.0), (0.2, 10.0), (f64::INFINITY, 10.0)]);
        let now = histogram(&[(0.1, 10.0), (0.2, 14.0), (f64::INFINITY, 14.0)]);
        let since = now.since(&before);
        assert_eq!(since.quantile(1.0), Some((0.2, false)));
        assert_eq!(before.since(&now), before);
        assert_eq!(now.since(&Histogram::default()), now);
        let twice = histogram(&[(0.1, 20.0), (0.2, 20.0), (f64::INFINITY, 20.0)]);
        assert_eq!(before.clone().plus(&before), twice);
    }

    const PAGE: &str = r#"
go_goroutines 12
x_connected 1
x_storage_up 1
x_memory_max_bytes 64
x_storage_used_bytes 7
x_storage_quota_bytes 9223372036854775807
x_events_accepted_total{topic="a",topic_alias="A"} 5
x_events_stored{topic="b",topic_alias="b"} 3
x_lanes{topic="b",topic_alias="b",state="locked"} 4
x_lanes{topic="b",topic_alias="b",state="dreaming"} 9
x_produce_failures_total{topic="b",topic_alias="b",kind="transient"} 2
x_produce_failed_events_total{topic="b",kind="transient"} 20
x_produce_failed_events_total{topic="b",kind="denied"} 1
x_latency_seconds_bucket{topic="a",le="0.5"} 1
x_latency_seconds_bucket{topic="a",le="+Inf"} 2
x_storage_call_seconds_bucket{call="append",ok="true",le="+Inf"} 1
x_storage_call_seconds_bucket{call="append",ok="false",le="+Inf"} 1
"#;

    #[test]
    fn a_page_is_read_whatever_the_prefix_and_the_company() {
        let samples = parse(PAGE).unwrap();
        assert_eq!(prefix(&samples).as_deref(), Ok("x"));
        let reading = Reading::of(&samples, "x").unwrap();
        assert!(reading.connected && reading.storage.up);
        assert_eq!((reading.storage.used, reading.storage.quota), (7.0, None));
        let (a, b) = (&reading.topics["a"], &reading.topics["b"]);
        assert_eq!((a.accepted, b.stored, b.lanes), (5.0, 3.0, [0.0, 0.0, 4.0, 0.0]));
        assert_eq!((b.failures["transient"], b.failed), (2.0, 21.0));
        assert_eq!(a.latency, histogram(&[(0.5, 1.0), (f64::INFINITY, 2.0)]));
        assert_eq!(reading.storage.append, histogram(&[(f64::INFINITY, 2.0)]));
        assert_eq!(Reading::of(&samples, "y"), None);
    }

    #[test]
    fn no_batcher_or_several_are_told() {
        assert_eq!(prefix(&parse("up 1\na_storage_up 1").unwrap()), Err(Vec::new()));
        let two = PAGE.replace("\nx_", "\ny_") + PAGE;
        assert_eq!(prefix(&parse(&two).unwrap()), Err(vec!["y".to_owned(), "x".to_owned()]));
    }
}
