//! What the driver's tests share: a batcher on a scripted producer.

#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_batcher::{Builder, KafkaBatcher, KafkaConfig, Report, TopicSettings};
use kafka_batcher_testkit::scripted::ScriptedProducer;

pub(crate) const TOPIC: &str = "t";

/// Short times, so that tests are quick; the ratios are those of the defaults.
pub(crate) fn config(topic: TopicSettings) -> KafkaConfig {
    KafkaConfig::new("scripted:1")
        .defaults(TopicSettings::default().max_wait_time(ms(20)))
        .retry_backoff(ms(5))
        .recheck_interval(ms(40))
        .produce_timeout(ms(500))
        .connect_timeout(ms(500))
        .partitions_refresh(ms(50))
        .with_topic(topic)
}

pub(crate) fn topic() -> TopicSettings {
    TopicSettings::new(TOPIC)
}

pub(crate) fn builder(producer: &ScriptedProducer, config: KafkaConfig) -> Builder {
    KafkaBatcher::builder().config(config).producer(producer.clone())
}

pub(crate) fn start(producer: &ScriptedProducer, topic: TopicSettings) -> KafkaBatcher {
    builder(producer, config(topic)).build().unwrap()
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|i| i.to_string()).collect()
}

/// Waits until `done` holds.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waited = within(async {
        while !done() {
            tokio::time::sleep(ms(1)).await;
        }
    });
    assert!(waited.await.is_some(), "not within ten seconds: {what}");
}

/// As [`until`], for what takes a future to find out.
pub(crate) async fn until_async<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let waited = within(async {
        while !done().await {
            tokio::time::sleep(ms(1)).await;
        }
    });
    assert!(waited.await.is_some(), "not within ten seconds: {what}");
}

/// Ten seconds are for ever here.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(10), future).await.ok()
}

/// A notifier that remembers.
#[derive(Clone, Default)]
pub(crate) struct Reports(Arc<Mutex<Vec<Report>>>);

impl Reports {
    pub(crate) fn notifier(&self) -> impl Fn(&Report) + Send + Sync + 'static {
        let seen = Arc::clone(&self.0);
        move |report| seen.lock().unwrap().push(report.clone())
    }

    pub(crate) fn all(&self) -> Vec<Report> {
        self.0.lock().unwrap().clone()
    }
}
