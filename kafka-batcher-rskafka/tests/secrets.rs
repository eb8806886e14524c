//! No secret is shown, in a log line of any level, an error or a `Debug`. Needs `KAFKA_BATCHER_SECURITY` and feature `tls`.
#![cfg(feature = "tls")]

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use kafka_batcher_core::Producer;
use kafka_batcher_core::config::TopicSettings;
use kafka_batcher_rskafka::RskafkaProducer;
use kafka_batcher_testkit::lines::{Lines, leak, whole};
use kafka_batcher_testkit::target::Target;

const TIMEOUT: Duration = Duration::from_secs(10);
const ROWS: [&str; 6] = ["tls", "mutual_tls", "sasl_plain", "scram_sha_256", "scram_sha_512", "oauthbearer"];

#[tokio::test]
async fn no_secret_is_shown_anywhere() {
    let Some(file) = std::env::var_os("KAFKA_BATCHER_SECURITY").filter(|file| !file.is_empty()) else {
        println!("SKIPPED no_secret_is_shown_anywhere: KAFKA_BATCHER_SECURITY is not set");
        return;
    };
    let file = PathBuf::from(file);
    let lines = Lines::keep().unwrap();
    let mut shown = String::new();
    let mut secrets = Vec::new();
    for row in ROWS {
        let target = Target::new(row, None, Some(&file)).unwrap();
        secrets = target.secrets().to_vec();
        let config = target.config().with_topic(TopicSettings::new("secrets"));
        let producer = RskafkaProducer::new(&config).unwrap();
        producer.connect(TIMEOUT).await.unwrap();
        let unknown = producer.partition_count("no-such-topic", TIMEOUT).await.unwrap_err();
        shown += &format!("{config:?} {producer:?} {target:?} {}", whole(&unknown));
        producer.close(TIMEOUT).await;
        for case in target.refused() {
            let topic = topic(TopicSettings::new(case.topic.as_deref().unwrap_or("t")));
            let producer = RskafkaProducer::new(&case.config).unwrap();
            let request = kafka_batcher_core::ProduceRequest::new(Arc::clone(&topic), 0, numbered(0, 3));
            let failure = producer.produce(&request, TIMEOUT).await.unwrap_err();
            shown += &format!("{case:?} {producer:?} {}", whole(&failure));
            let refused = producer.connect(TIMEOUT).await.err();
            shown += &refused.as_ref().map(whole).unwrap_or_default();
            producer.close(TIMEOUT).await;
        }
    }
    assert!(secrets.len() >= 6, "only {} secrets", secrets.len());
    let lines = lines.text();
    assert!(lines.contains("kafka_batcher::rskafka") || lines.contains("rskafka"), "the adapter speaks");
    assert_eq!(leak(&shown, &secrets), None, "what was shown");
    assert_eq!(leak(&lines, &secrets), None, "the log");
}
