//! The dashboard and the alerts ask for metrics that there are, and the runbook knows every alert.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kafka_batcher_core::{ErrorKind, What};
use kafka_batcher_metrics::{Options, Recorded};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::Value;

const PREFIX: &str = "kafka_batcher_";
const RULES: &str = "alerts/kafka-batcher.rules.yml";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Histogram,
}

/// Takes down what is described to it.
#[derive(Clone, Default)]
struct Described(Arc<Mutex<BTreeMap<String, Kind>>>);

impl Described {
    fn add(&self, name: &KeyName, kind: Kind) {
        self.0.lock().unwrap().insert(name.as_str().to_owned(), kind);
    }
}

impl Recorder for Described {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.add(&name, Kind::Plain);
    }
    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.add(&name, Kind::Plain);
    }
    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.add(&name, Kind::Histogram);
    }
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// The series of all metrics there are: of a histogram the three that it has.
fn series() -> BTreeSet<String> {
    let described = Described::default();
    Recorded::with_recorder(described.clone(), &Options::default()).unwrap();
    let described = described.0.lock().unwrap();
    let suffixes = |kind| match kind {
        Kind::Plain => [""].as_slice(),
        Kind::Histogram => &["_bucket", "_sum", "_count"],
    };
    described
        .iter()
        .flat_map(|(name, kind)| suffixes(*kind).iter().map(move |suffix| format!("{name}{suffix}")))
        .collect()
}

/// All words in the text that begin with the prefix.
fn asked_for(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_word(c))
        .filter(|word| word.len() > PREFIX.len() && word.starts_with(PREFIX))
        .map(str::to_owned)
        .collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("dashboard/kafka-batcher.json")).unwrap()
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

/// The alerts by name, each with its lines.
fn alerts() -> BTreeMap<String, String> {
    read(RULES)
        .split("- alert: ")
        .skip(1)
        .map(|text| text.split_once('\n').unwrap())
        .map(|(name, lines)| (name.to_owned(), lines.to_owned()))
        .collect()
}

#[test]
fn only_metrics_that_there_are_are_asked_for() {
    let series = series();
    assert!(
        series.contains("kafka_batcher_events_stored")
            && series.contains("kafka_batcher_latency_seconds_bucket")
    );
    for file in [RULES, "alerts/kafka-batcher.test.yml", "dashboard/kafka-batcher.json"] {
        let asked_for = asked_for(&read(file));
        assert!(asked_for.len() > 10, "{file}");
        let unknown: Vec<_> = asked_for.difference(&series).collect();
        assert!(unknown.is_empty(), "{file} asks for metrics that there are not: {unknown:?}");
    }
}

/// Those of consumers come from the application, if it has one.
#[test]
fn every_metric_is_on_the_dashboard() {
    let text = read("dashboard/kafka-batcher.json");
    let described = Described::default();
    Recorded::with_recorder(described.clone(), &Options::default()).unwrap();
    let described = described.0.lock().unwrap();
    let asked_for = asked_for(&text);
    let shown = |name: &str| asked_for.iter().any(|word| word.starts_with(name));
    let missing: Vec<_> = described
        .keys()
        .filter(|name| !name.starts_with("kafka_batcher_consumer_") && !shown(name))
        .collect();
    assert!(missing.is_empty(), "not on the dashboard: {missing:?}");
}

#[test]
fn every_panel_says_what_it_shows_and_of_what() {
    let dashboard = dashboard();
    let rows: Vec<_> = panels(&dashboard)
        .iter()
        .filter(|p| p["type"] == "row")
        .map(|p| p["title"].as_str().unwrap())
        .collect();
    assert_eq!(rows, ["Overview", "Per topic", "Outage and replay", "Spool", "Latency"]);
    let names: Vec<_> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["datasource", "instance", "topic"]);
    let mut ids = BTreeSet::new();
    let mut titles = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's, too");
        assert!(titles.insert(title), "{title}: there are two of them");
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            panel["description"].as_str().is_some_and(|text| text.ends_with('.')),
            "{title}: no description"
        );
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: no unit");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expr = target["expr"].as_str().unwrap();
            let selectors = expr.matches('{').count();
            // `"$instance|"` takes what is of no instance, too.
            assert_eq!(expr.matches(r#"instance=~"$instance"#).count(), selectors, "{title}: {expr}");
            assert!(!expr.contains("rate(") || expr.contains("[$__rate_interval]"), "{title}: {expr}");
        }
    }
}

/// The last value of a time range is that of a process that has ended meanwhile, too.
#[test]
fn panels_of_one_figure_say_how_it_is_now() {
    let dashboard = dashboard();
    let stats: Vec<_> = panels(&dashboard).iter().filter(|panel| panel["type"] == "stat").collect();
    assert!(stats.len() > 5);
    for panel in stats {
        let title = &panel["title"];
        assert!(panel["fieldConfig"]["defaults"]["noValue"].is_string(), "{title}: nothing for no value");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!((&target["instant"], &target["range"]), (&true.into(), &false.into()), "{title}");
        }
    }
}

#[test]
fn no_panel_covers_another() {
    let dashboard = dashboard();
    let mut taken = BTreeMap::new();
    for panel in panels(&dashboard) {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            let other = taken.insert(cell, panel["title"].clone());
            assert_eq!(other, None, "{}", panel["title"]);
        }
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_where_the_runbook_has_it() {
    let runbook = read("../docs/runbook.md");
    let sections: BTreeSet<_> =
        runbook.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    let alerts = alerts();
    assert_eq!(alerts.keys().cloned().collect::<BTreeSet<_>>(), sections);
    for (alert, lines) in &alerts {
        let value = |key: &str| {
            let found = lines.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
            found.unwrap_or_else(|| panic!("{alert} has no {key}")).trim_matches('"')
        };
        let severity = value("severity");
        assert!(["critical", "warning"].contains(&severity), "{alert}: {severity}");
        let section = runbook.split(&format!("## {alert}\n\n*")).nth(1).unwrap();
        assert!(section.starts_with(severity), "{alert}: the runbook says another severity");
        assert!(
            value("runbook_url").ends_with(&format!("/docs/runbook.md#{}", alert.to_lowercase())),
            "{alert}"
        );
        assert!(!value("summary").is_empty() && !value("description").is_empty());
    }
}

#[test]
fn every_alert_is_tested_for_firing() {
    let tests = read("alerts/kafka-batcher.test.yml");
    for alert in alerts().keys() {
        assert!(tests.contains(&format!("labels: '{{alertname=\"{alert}\"}}'")), "{alert}");
    }
}

/// What the log can say: the beginnings of reports, and a few lines whose source is looked at.
fn log_texts() -> Vec<String> {
    let kind = ErrorKind::Transient;
    let reports = [
        What::ConnectFailed(kind),
        What::PartitionsUnknown(kind),
        What::ProduceFailed(kind),
        What::StoreFailed,
        What::RecoverFailed,
        What::AcknowledgeFailed,
        What::ReconcileFailed(kind),
        What::DeadLettered(kind),
        What::DeadLetterTopicFailed(kind),
        What::DeadLetterFailed,
        What::Panicked,
        What::Lost,
    ];
    let sources = [
        ("shut down", "../kafka-batcher/src/batcher.rs"),
        ("the collector's task", "../kafka-batcher/src/reactor.rs"),
        ("the connection's task", "../kafka-batcher/src/manager.rs"),
    ];
    for (text, source) in sources {
        assert!(read(source).contains(&format!("\"{text}")), "{source} does not say {text}");
    }
    reports.iter().map(What::to_string).chain(sources.map(|(text, _)| text.to_owned())).collect()
}

/// What is quoted in it and has several words is a command, a setting, or something that the log says.
#[test]
fn the_runbook_quotes_what_the_log_says() {
    let runbook = read("../docs/runbook.md");
    let is_input = |text: &str| {
        ["kafka-batcher ", "spool ", "curl "].iter().any(|it| text.starts_with(it)) || text.contains(" = ")
    };
    let quoted: BTreeSet<_> =
        runbook.split('`').skip(1).step_by(2).filter(|text| text.contains(' ') && !is_input(text)).collect();
    assert!(quoted.len() > 5, "{quoted:?}");
    let texts = log_texts();
    let unknown: Vec<_> =
        quoted.iter().filter(|quoted| !texts.iter().any(|text| text.starts_with(**quoted))).collect();
    assert!(unknown.is_empty(), "nothing says {unknown:?}");
}
