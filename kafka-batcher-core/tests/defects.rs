//! Defects of the Elixir library that fall to the core, each with the input that went wrong there.
//!
//! Numbers are those of the project's list. Others are tested where they live: 6 in `event.rs`, 13 (the
//! clock) in `accumulator.rs`, 14 in `partition/router.rs`, 15 in `collector.rs`, and those that need the
//! driver (1, 2, 3, 4, 7–12, 18, 19) end to end in `kafka-batcher/tests`; 17 in `kafka-batcher-rdkafka/tests`.

use std::time::Duration;

use kafka_batcher_core::config::TopicSettings;
use kafka_batcher_core::lane::{Action, Event, Lane, LaneOptions, Link, PushError};
use kafka_batcher_core::shard::{Shard, Stamps, Target};
use kafka_batcher_core::{
    ConfigError, Delivered, ErrorKind, FlushReason, KafkaConfig, LaneId, Moment, Persistence, ProduceError,
    ProduceFailure, Record,
};

fn at(ms: u64) -> Moment {
    Moment::from_millis(ms)
}

/// A shard of one lane, linked.
fn shard(settings: TopicSettings) -> Shard {
    let config = KafkaConfig::new("k:9092").with_topic(settings);
    let topic = config.topics().expect("a valid topic").remove(0);
    let lane = Lane::new(LaneId::partition("t", 0), LaneOptions::new(&topic, config.timing()));
    let mut shard = Shard::new(&topic, vec![lane]);
    shard.set_link(Link::Up, at(0));
    shard
}

fn push(shard: &mut Shard, value: &str, now: Moment) -> Result<(), PushError> {
    let stamps = Stamps { timestamp: 0, cost: 1, receipt: false, now };
    shard.push(Target::Lane(0), &Record::new(value.to_owned()).as_ref(), stamps, false).map(drop)
}

/// What it wants done now, but for what is only to be told.
fn actions(shard: &mut Shard, now: Moment) -> Vec<Action> {
    let told = |action: &Action| matches!(action, Action::Sealed { .. } | Action::Report(_));
    std::iter::from_fn(|| shard.poll_action(now))
        .map(|(_, action)| action)
        .filter(|action| !told(action))
        .collect()
}

fn values(action: &Action) -> Vec<String> {
    let batch = match action {
        Action::Produce { batch, .. } => batch,
        Action::Store(stored) => &stored.batch,
        other => unreachable!("{other:?} has no batch"),
    };
    batch.records().map(|r| String::from_utf8_lossy(r.value.unwrap_or_default()).into_owned()).collect()
}

fn answer(shard: &mut Shard, action: &Action, result: Result<Delivered, ProduceFailure>, now: Moment) {
    let Action::Produce { flight, .. } = action else { unreachable!("{action:?} was not sent") };
    shard.handle(0, Event::Produced { flight: *flight, result }, now);
}

fn topic() -> TopicSettings {
    TopicSettings::new("t")
}

/// There it was dropped and answered with success.
#[test]
fn defect_03_an_oversize_event_is_an_error_and_changes_nothing() {
    let mut shard = shard(topic().max_batch_bytesize(200));
    push(&mut shard, "fits", at(0)).unwrap();
    let error = push(&mut shard, &"x".repeat(200), at(0)).unwrap_err();
    assert!(matches!(error, PushError::TooLarge { limit: 200, size } if size > 200), "{error:?}");
    assert_eq!(shard.lanes()[0].stats().accepted, 1);
    let sent = actions(&mut shard, at(1000));
    assert_eq!(values(&sent[0]), ["fits"]);
}

/// There it stayed behind with its timer cancelled, perhaps for ever.
#[test]
fn defect_05_an_event_pushed_out_by_the_byte_limit_has_its_own_deadline() {
    let mut shard = shard(topic().max_batch_bytesize(200).max_wait_time(Duration::from_millis(100)));
    push(&mut shard, &"a".repeat(80), at(0)).unwrap();
    push(&mut shard, &"b".repeat(80), at(10)).unwrap();
    let first = actions(&mut shard, at(10));
    assert_eq!(values(&first[0]), ["a".repeat(80)]);
    answer(&mut shard, &first[0], Ok(Delivered::default()), at(20));
    assert!(actions(&mut shard, at(20)).is_empty());
    let deadline = shard.poll_timeout().expect("somebody has to look again");
    assert!(deadline <= at(110), "{deadline:?}");
    assert_eq!(values(&actions(&mut shard, at(110))[0]), ["b".repeat(80)]);
}

/// There the batch was saved, then the event that had triggered it again.
#[test]
fn defect_07_a_failed_batch_is_stored_once() {
    let mut shard = shard(topic().batch_size(2));
    push(&mut shard, "1", at(0)).unwrap();
    push(&mut shard, "2", at(0)).unwrap();
    let sent = actions(&mut shard, at(0));
    let failure =
        ProduceFailure::whole(ProduceError::new(ErrorKind::Transient, "down"), Persistence::NotPersisted);
    answer(&mut shard, &sent[0], Err(failure), at(1));
    let stored = actions(&mut shard, at(1));
    assert_eq!((stored.len(), values(&stored[0])), (1, vec!["1".to_owned(), "2".to_owned()]));
}

/// There one failure saved everything, delivered events included.
#[test]
fn defect_08_what_was_delivered_is_not_kept() {
    let mut shard = shard(topic().batch_size(4));
    for value in ["1", "2", "3", "4"] {
        push(&mut shard, value, at(0)).unwrap();
    }
    let sent = actions(&mut shard, at(0));
    let error = ProduceError::new(ErrorKind::Transient, "down");
    answer(
        &mut shard,
        &sent[0],
        Err(ProduceFailure::some(error, Persistence::NotPersisted, vec![3, 2])),
        at(1),
    );
    assert_eq!(values(&actions(&mut shard, at(1))[0]), ["3", "4"]);
    assert_eq!(shard.lanes()[0].stats().delivered, 2);
}

/// There newer events went live while the failed batch was saved.
#[test]
fn defect_11_newer_events_wait_behind_a_failed_batch() {
    let mut shard = shard(topic().batch_size(1));
    push(&mut shard, "old", at(0)).unwrap();
    let sent = actions(&mut shard, at(0));
    push(&mut shard, "new", at(1)).unwrap();
    let failure =
        ProduceFailure::whole(ProduceError::new(ErrorKind::Transient, "down"), Persistence::NotPersisted);
    answer(&mut shard, &sent[0], Err(failure), at(2));
    let next = actions(&mut shard, at(2));
    assert!(matches!(next[0], Action::Store(_)) && next.len() == 1, "{next:?}");
    assert_eq!(values(&next[0]), ["old"]);
}

/// There `min_delay` let a batch outgrow every limit.
#[test]
fn defect_13_a_batch_held_by_min_delay_stays_within_max_batch_bytesize() {
    let delayed =
        topic().batch_size(1).min_delay(Duration::from_secs(60)).max_wait_time(Duration::from_secs(60));
    let mut shard = shard(delayed.max_batch_bytesize(1000));
    push(&mut shard, "first", at(0)).unwrap();
    let first = actions(&mut shard, at(0));
    answer(&mut shard, &first[0], Ok(Delivered::default()), at(0));
    for i in 0..1000 {
        push(&mut shard, &i.to_string(), at(1)).unwrap();
    }
    let mut received = Vec::new();
    while received.len() < 900 {
        let sent = actions(&mut shard, at(2));
        let Action::Produce { batch, .. } = &sent[0] else { unreachable!("{sent:?}") };
        assert!(batch.byte_len() <= 1000);
        received.extend(values(&sent[0]));
        answer(&mut shard, &sent[0], Ok(Delivered::default()), at(2));
    }
    assert_eq!(received, (0..received.len()).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(shard.flush(FlushReason::Manual), "what is left waits for the delay to pass");
}

fn config(text: &str) -> Result<KafkaConfig, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

/// There defaults overrode the global settings, `false` could not be set, and unknown keys were ignored.
#[test]
fn defect_16_a_topic_s_settings_win_then_the_global_ones_then_the_defaults() {
    let config = config(
        r#"
        endpoints = "a:9092,b:9092"
        telemetry = true
        batch_size = 20
        collect_by_partition = true
        [[topics]]
        topic_name = "own"
        batch_size = 30
        telemetry = false
        collect_by_partition = false
        [[topics]]
        topic_name = "global"
        "#,
    )
    .unwrap();
    let of = |name: &str| config.topic(name).unwrap().unwrap();
    let seen = |name: &str| {
        let topic = of(name);
        (topic.batch_size.get(), topic.telemetry, topic.collect_by_partition, topic.max_wait_time)
    };
    assert_eq!(seen("own"), (30, false, false, Duration::from_secs(1)));
    assert_eq!(seen("global"), (20, true, true, Duration::from_secs(1)));
    assert!(config.topic("none").unwrap().is_none());
}

#[test]
fn defect_16_an_unknown_key_is_an_error_that_names_the_nearest() {
    for (text, expected) in [
        ("endpoints = 'a:1'\nbatch_sise = 1", "unknown setting `batch_sise`; did you mean `batch_size`?"),
        ("endpoints = 'a:1'\n[[topics]]\ntopic_name = 't'\nmax_wait = 1", "did you mean `max_wait_time`?"),
        ("endpoints = 'a:1'\nmax_ages = 1", "did you mean `max_age`?"),
        ("endpoints = 'a:1'\nreplay_rat = 1", "did you mean `replay_rate`?"),
        ("endpoints = 'a:1'\n[[topics]]\ntopic_name = 't'\nreplay_rate = 1", "belongs to the whole client"),
        ("endpoints = 'a:1'\n[[topics]]\ntopic_name = 't'\nsasl = 1", "`sasl` belongs to the whole client"),
        (
            "endpoints = 'a:1'\n[sasl]\nmechanism = 'plain'\nlogin = 'u'\npasword = 'p'",
            "did you mean `sasl.password`?",
        ),
        ("batch_size = 1", "setting `endpoints` is required"),
    ] {
        let error = config(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_bad_value_is_named_with_its_key_and_what_is_allowed() {
    for (text, expected) in [
        ("batch_size = 0", "setting `batch_size` is 0; allowed: a whole number from 1"),
        ("batch_size = 'ten'", "setting `batch_size` is text; allowed"),
        ("max_wait_time = -1", "setting `max_wait_time` is -1; allowed: milliseconds"),
        ("max_batch_bytesize = 10", "setting `max_batch_bytesize` is 10; allowed: bytes"),
        ("partition_strategy = 'md6'", "\"phash2\", \"md5\""),
        ("required_acks = 2", "allowed: -1 (all), 1 (leader), 0 (none)"),
        ("compression = 'rar'", "\"zstd\""),
        ("on_unavailable = 'panic'", "\"store\", \"reject\""),
        ("telemetry = 'yes'", "setting `telemetry` is text; allowed: true, false"),
        ("produce_timeout = 0", "setting `produce_timeout`"),
        ("retry_backoff = 10000", "more than recheck_interval"),
        ("max_memory_events = 0", "setting `max_memory_events` is 0"),
        ("max_memory_bytes = 1000", "less than max_batch_bytesize of topic `t`"),
        ("kafka_metric_opts = { producer_buckets = [2, 1] }", "ascending"),
        ("sasl = { mechanism = 'plain', login = 'u' }", "setting `password` is required"),
        ("sasl = { mechanism = 'md5', login = 'u', password = 'hunter2' }", "sasl.mechanism"),
        ("topics = 1", "setting `topics` is 1"),
        ("dead_letter_topic = 't'", "setting `dead_letter_topic` is the topic itself; allowed: false, or"),
        ("dead_letter_topic = 'a b'", "setting `dead_letter_topic` is \"a b\""),
        ("max_age = 0", "setting `max_age` is 0ns; allowed: false, or milliseconds"),
        ("max_age = 31536000001", "setting `max_age` is 31536000.001s"),
        ("max_age = true", "setting `max_age` is true"),
        ("replay_rate = 0", "setting `replay_rate` is 0; allowed: false, or events a second"),
        ("replay_rate = -1", "setting `replay_rate` is -1"),
        ("dead_letter_topic = true", "setting `dead_letter_topic` is true"),
    ] {
        let topics = if text.starts_with("topics") { "" } else { "\n[[topics]]\ntopic_name = 't'" };
        let error = config(&format!("endpoints = 'a:1'\n{text}{topics}")).unwrap_err();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{text}: {error}");
    }
    for endpoints in ["", "a", "a:", "a:x", "a:0", ":1", "a:1,,b:2", "http://a:1", "::1:9092"] {
        let error = KafkaConfig::new(endpoints).validate().unwrap_err();
        assert!(
            matches!(&error, ConfigError::Invalid { key, .. } if key == "endpoints"),
            "{endpoints}: {error}"
        );
    }
    for endpoints in ["a:1", " a:1 , b:2 ", "[::1]:9092", "10.0.0.1:9092"] {
        assert!(KafkaConfig::new(endpoints).validate().is_ok(), "{endpoints}");
    }
    for name in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
        let error = KafkaConfig::new("a:1").with_topic(TopicSettings::new(name)).topics().unwrap_err();
        assert!(error.to_string().contains("topic_name"), "{name}: {error}");
    }
    let twice = KafkaConfig::new("a:1").with_topic(topic()).with_topic(topic());
    assert_eq!(twice.topics().unwrap_err(), ConfigError::DuplicateTopic("t".to_owned()));
}

#[test]
fn limits_of_age_and_pace_are_none_unless_they_are_set() {
    let limits = |text: &str| {
        let config = config(&format!("endpoints = 'a:1'\n{text}\n[[topics]]\ntopic_name = 'a'")).unwrap();
        (config.limits().replay_rate.map(|rate| rate.get()), config.topic("a").unwrap().unwrap().max_age)
    };
    assert_eq!(limits(""), (None, None));
    let set = "replay_rate = 500\nmax_age = 3600000";
    assert_eq!(limits(set), (Some(500), Some(Duration::from_secs(3600))));
    assert_eq!(limits("replay_rate = false\nmax_age = false"), (None, None));
    let config = config(&format!("endpoints = 'a:1'\n{set}\n[[topics]]\ntopic_name = 'a'\nmax_age = false"));
    assert_eq!(config.unwrap().topics().unwrap()[0].max_age, None, "a topic's own goes before");
}

#[test]
fn secrets_are_not_shown() {
    let config = config(
        "endpoints = 'a:1'\nproperties = { 'sasl.password' = 'hunter2' }\n[sasl]\nmechanism = 'plain'\nlogin = 'u'\npassword = 'hunter2'\n[ssl]\nkey_password = 'hunter2'",
    )
    .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
