//! The same against real Kafka, where `KAFKA_BATCHER_BOOTSTRAP` says there is one.

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::{FLIGHTS, read, run, values};

/// Where Kafka is; says that the test is skipped if that is nowhere.
fn bootstrap(test: &str) -> Option<String> {
    let bootstrap = std::env::var("KAFKA_BATCHER_BOOTSTRAP").ok().filter(|bootstrap| !bootstrap.is_empty());
    if bootstrap.is_none() {
        println!("SKIPPED {test}: KAFKA_BATCHER_BOOTSTRAP is not set");
    }
    bootstrap
}

/// A topic name no other run uses.
fn topic(name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("cli-{name}-{now}")
}

#[test]
fn a_topic_is_created_and_the_flights_arrive() {
    let Some(bootstrap) = bootstrap("a_topic_is_created_and_the_flights_arrive") else { return };
    let topic = topic("created");
    let create = ["--create-topic", "--partitions", "12"];
    let args = [&["produce", "-t", &topic, "-b", &bootstrap, "--key-field", "tailnum", FLIGHTS][..], &create]
        .concat();
    let ended = run(&args, "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let records = read(&bootstrap, &topic);
    let mut sent: Vec<String> =
        std::fs::read_to_string(FLIGHTS).unwrap().lines().map(str::to_owned).collect();
    sent.sort();
    assert_eq!(values(&records), sent);
    assert!(records.iter().map(|r| r.partition).max() > Some(3), "it has the partitions asked for");
}

#[test]
fn an_unknown_topic_is_not_created_unasked() {
    let Some(bootstrap) = bootstrap("an_unknown_topic_is_not_created_unasked") else { return };
    let topic = topic("unknown");
    for _ in 0..2 {
        let ended = run(&["produce", "-t", &topic, "-b", &bootstrap, "--connect-timeout", "3", FLIGHTS], "");
        assert_eq!(ended.code, Some(4), "{ended:?}");
        assert!(
            ended.stderr.contains("does not exist") && ended.stderr.contains("--create-topic"),
            "{ended:?}"
        );
    }
}
