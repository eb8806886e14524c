//! What the batcher says through `tracing` is what its documentation says it says.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_batcher::ErrorKind;
use kafka_batcher_testkit::scripted::{ScriptedProducer, Step};
use support::*;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

/// Target, and name or message.
type Name = (String, String);

/// At which levels, and with which fields.
type Ways = (BTreeSet<Level>, BTreeSet<String>);

/// What was said.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<BTreeMap<Name, Ways>>>);

#[derive(Default)]
struct Fields {
    message: String,
    names: BTreeSet<String>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.names.insert(field.name().to_owned());
        }
    }
}

impl Said {
    fn add(&self, metadata: &Metadata<'_>, name: String, fields: BTreeSet<String>) {
        let mut said = self.0.lock().unwrap();
        let entry = said.entry((metadata.target().to_owned(), name)).or_default();
        entry.0.insert(*metadata.level());
        entry.1.extend(fields);
    }
}

impl tracing::Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("kafka_batcher")
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        self.add(span.metadata(), format!("span {}", span.metadata().name()), fields.names);
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.add(event.metadata(), fields.message, fields.names);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The table: of each target and name, the levels and the fields.
fn documented() -> BTreeMap<Name, (BTreeSet<String>, BTreeSet<String>)> {
    let page = include_str!("../docs/tracing.md");
    let mut rows = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let target = quoted(cells[0]).remove(0);
        let span = if cells[1].starts_with("span ") { "span " } else { "" };
        for name in quoted(cells[1]) {
            let (levels, fields) = (quoted(cells[2]), quoted(cells[3]));
            rows.insert(
                (target.clone(), format!("{span}{name}")),
                (levels.into_iter().collect(), fields.into_iter().collect()),
            );
        }
    }
    rows
}

/// A life with everything in it: an outage, a replay, a poisoned event, an end that is not complete.
async fn live() {
    let producer = ScriptedProducer::new(TOPIC, 1);
    producer.set_up(false);
    let batcher = start(&producer, topic().batch_size(1));
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("a").await.unwrap();
    until("it is stored", || batcher.stats().stored == 1).await;
    producer.set_up(true);
    until("it is delivered", || batcher.stats().delivered == 1).await;
    collector.flush().await;
    producer.script([Step::Refuse(ErrorKind::Permanent)]);
    collector.add("b").await.unwrap();
    until("it is dead-lettered", || batcher.stats().dead_lettered == 1).await;
    producer.script([Step::Refuse(ErrorKind::Transient)]);
    collector.add("c").await.unwrap();
    until("it is delivered, too", || batcher.stats().delivered == 2).await;
    assert!(batcher.shutdown(Duration::from_secs(5)).await.is_complete());
}

#[tokio::test]
async fn what_is_said_is_documented_and_what_is_documented_is_said() {
    let said = Said::default();
    tracing::subscriber::set_global_default(said.clone()).expect("the only test of this program");
    live().await;
    let shut = |said: &Said| said.0.lock().unwrap().keys().any(|(_, name)| name == "shut down");
    until("the end is told", || shut(&said)).await;
    let documented = documented();
    assert!(documented.len() >= 14, "{documented:#?}");
    let said = said.0.lock().unwrap().clone();
    for (name, (levels, fields)) in &said {
        // A name that is none of those is the text of a report.
        let is_text = name.0 == "kafka_batcher::report" && name.1 != "reported";
        let text = || documented.get(&(name.0.clone(), "LogNotifier".to_owned()));
        let row = if is_text { text() } else { documented.get(name) };
        let (known_levels, known) = row.unwrap_or_else(|| panic!("{name:?} is not documented"));
        assert!(fields.is_subset(known), "{name:?}: {fields:?}, documented are {known:?}");
        for level in levels {
            assert!(
                known_levels.contains(level.as_str()),
                "{name:?} at {level}, documented is {known_levels:?}"
            );
        }
    }
    // Troubles of the notifier and of the end are not part of this life.
    let unsaid = ["the ", "LogNotifier"];
    for (name, (_, fields)) in documented {
        if unsaid.iter().any(|begin| name.1.contains(begin)) {
            continue;
        }
        let Some((_, seen)) = said.get(&name) else { panic!("{name:?} is documented and not said") };
        assert_eq!(*seen, fields, "{name:?}");
    }
}
