//! What a process shows at `/metrics`, and whether its figures add up.

use std::collections::BTreeMap;

const PREFIX: &str = "kafka_batcher_";
/// What came in, and what went out or is here.
const IN: [&str; 2] = ["events_accepted_total", "events_found_total"];
const OUT: [&str; 5] = [
    "events_delivered_total",
    "events_dead_lettered_total",
    "events_lost_total",
    "events_stored",
    "events_in_memory",
];

/// The same over all targets: not 0 where the figures do not add up.
pub(super) fn expression() -> String {
    let sum =
        |names: &[&str]| names.iter().map(|name| format!("{PREFIX}{name}")).collect::<Vec<_>>().join(" + ");
    format!("({}) - ({})", sum(&IN), sum(&OUT))
}

/// What is wrong with the figures of a scrape. A topic that lacks one of them is wrong, too, and so is a scrape without topics.
pub(super) fn complaint(scrape: &str) -> Option<String> {
    let mut topics: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    for line in scrape.lines() {
        let Some((name, rest)) = line.strip_prefix(PREFIX).and_then(|line| line.split_once('{')) else {
            continue;
        };
        let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
        if let Some(name) = IN.iter().chain(&OUT).find(|known| **known == name) {
            topics.entry(labels).or_default().insert(name, value.parse().unwrap_or(f64::NAN));
        }
    }
    if topics.is_empty() {
        return Some("no topic".to_owned());
    }
    topics.iter().find_map(|(topic, figures)| {
        let sum = |names: &[&str]| {
            names.iter().map(|name| figures.get(name).copied().unwrap_or(f64::NAN)).sum::<f64>()
        };
        let (came, went) = (sum(&IN), sum(&OUT));
        (came != went)
            .then(|| format!("{{{topic}}}: {came} came in, {went} went out or are here: {figures:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(in_memory: &str) -> String {
        let figures = [10, 1, 5, 2, 0, 3].map(|n| n.to_string());
        let values = figures.iter().map(String::as_str).chain([in_memory]);
        let lines = IN.iter().chain(&OUT).zip(values);
        let lines =
            lines.map(|(name, value)| format!("{PREFIX}{name}{{topic=\"t\",topic_alias=\"a b\"}} {value}\n"));
        lines.collect::<String>()
            + "# HELP x y\nkafka_batcher_lanes{topic=\"t\",state=\"live\"} 7\nkafka_batcher_connected 1\n"
    }

    #[test]
    fn figures_add_up_or_not() {
        assert_eq!(complaint(&scrape("1")), None);
        assert!(complaint(&scrape("2")).unwrap().contains("11 came in, 12 went out"));
        assert!(complaint(&scrape("NaN")).is_some());
        assert!(
            complaint(&scrape("1").replace("events_lost", "events_found_again")).is_some(),
            "one is missing"
        );
        assert!(complaint("kafka_batcher_connected 1\n").is_some());
    }

    #[test]
    fn prometheus_is_asked_for_the_same() {
        assert!(
            expression()
                .starts_with("(kafka_batcher_events_accepted_total + kafka_batcher_events_found_total) - (")
        );
        assert!(expression().ends_with("kafka_batcher_events_stored + kafka_batcher_events_in_memory)"));
    }
}
