//! What the conformance kit does not ask of a secured cluster. Needs `KAFKA_BATCHER_SECURITY` and feature `tls`.
#![cfg(feature = "tls")]

mod common;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use kafka_batcher_core::config::TopicSettings;
use kafka_batcher_core::{Denial, ErrorKind, Persistence, ProduceRequest, Producer};
use kafka_batcher_rskafka::RskafkaProducer;
use kafka_batcher_testkit::target::Target;

const TIMEOUT: Duration = Duration::from_secs(20);

/// The secured cluster; without one the test is skipped, and says so.
fn secured(test: &str) -> Option<Target> {
    let target = Target::from_env().unwrap();
    if target.refused().is_empty() {
        println!("SKIPPED {test}: KAFKA_BATCHER_SECURITY is not set");
        return None;
    }
    Some(target)
}

/// The error of a call that has no need to wait for its deadline.
async fn at_once<T: Debug, E: Debug>(case: &str, call: impl Future<Output = Result<T, E>>) -> E {
    let start = Instant::now();
    let error = call.await.unwrap_err();
    assert!(start.elapsed() < TIMEOUT / 2, "{case}: there was no need to wait");
    error
}

#[tokio::test]
async fn each_refusal_has_its_reason_in_every_call() {
    let Some(target) = secured("each_refusal_has_its_reason_in_every_call") else { return };
    for case in target.refused() {
        let producer = RskafkaProducer::new(&case.config).unwrap();
        let topic = topic(TopicSettings::new(case.topic.as_deref().unwrap_or("t")));
        let request = ProduceRequest::new(Arc::clone(&topic), 0, numbered(0, 3));
        let failure = at_once(&case.name, producer.produce(&request, TIMEOUT)).await;
        assert_eq!(failure.persistence, Persistence::NotPersisted, "{}: {failure}", case.name);
        let mut errors = vec![failure.error];
        if case.expect != Denial::NotAuthorized {
            errors.push(at_once(&case.name, producer.partition_count(&topic.topic_name, TIMEOUT)).await);
            errors.push(at_once(&case.name, producer.connect(TIMEOUT)).await);
            errors.push(at_once(&case.name, producer.create_topic(&topic, TIMEOUT)).await);
        }
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Denied, "{}: {error}", case.name);
            assert_eq!(error.denial(), Some(case.expect), "{}: {error}", case.name);
            let shown = format!("{error} {error:?} {producer:?}");
            for secret in target.secrets() {
                assert!(!shown.contains(secret.as_str()), "{}: a secret is shown", case.name);
            }
        }
    }
}
