//! Settings are checked when the producer is made, and secrets stay secret.

mod common;

use std::time::Duration;

use common::*;
use kafka_batcher_core::Producer;
use kafka_batcher_core::config::{
    Compression, KafkaConfig, RequiredAcks, Sasl, SaslMechanism, Tls, TopicSettings,
};
use kafka_batcher_rdkafka::{RdkafkaProducer, SetupError};
use kafka_batcher_testkit::lines::Lines;

const SECRET: &str = "hunter2-hunter2";

fn refused(config: &KafkaConfig) -> SetupError {
    RdkafkaProducer::new(config).expect_err("unusable settings")
}

fn unreachable() -> KafkaConfig {
    KafkaConfig::new("127.0.0.1:1")
}

#[test]
fn construction_needs_no_runtime_and_no_broker() {
    RdkafkaProducer::new(&unreachable()).unwrap();
}

#[test]
fn an_unknown_property_is_named() {
    let error = refused(&unreachable().property("linger.msec", SECRET));
    assert_eq!(error, SetupError::UnknownProperty { name: "linger.msec".to_owned() });
    assert!(error.to_string().contains("linger.msec"), "{error}");
}

#[test]
fn an_impossible_value_is_not_shown() {
    for (name, value) in [("linger.ms", SECRET), ("client.id", "nul\0byte")] {
        let error = refused(&unreachable().property(name, value));
        assert_eq!(error, SetupError::InvalidProperty { name: name.to_owned() });
        assert!(!format!("{error} {error:?}").contains(value), "{error}");
    }
    let error = refused(&unreachable().property("with\0nul", "1"));
    assert!(matches!(error, SetupError::UnknownProperty { .. }), "{error}");
}

#[test]
fn properties_that_do_not_fit_together_are_refused() {
    let error = refused(&unreachable().property("acks", "1").property("enable.idempotence", "true"));
    assert!(matches!(&error, SetupError::Refused { reason } if reason.contains("acks")), "{error}");
}

#[test]
fn acks_as_a_property_turn_idempotence_off() {
    RdkafkaProducer::new(&unreachable().property("acks", "1")).unwrap();
    RdkafkaProducer::new(&unreachable().property("request.required.acks", "-1")).unwrap();
}

#[test]
fn the_batcher_s_own_configuration_is_checked_too() {
    let error = refused(&KafkaConfig::new("no port"));
    assert!(matches!(error, SetupError::Config(_)), "{error}");
}

#[test]
fn every_kind_of_acks_can_be_made() {
    for acks in [RequiredAcks::All, RequiredAcks::Leader, RequiredAcks::None] {
        RdkafkaProducer::new(&unreachable().with_topic(TopicSettings::new("t").required_acks(acks))).unwrap();
    }
}

#[test]
fn timeouts_of_all_sizes_can_be_used() {
    for millis in [1, 10, 999, 2000, 3000, 10_000, 86_400_000] {
        let time = Duration::from_millis(millis);
        RdkafkaProducer::new(&unreachable().produce_timeout(time).connect_timeout(time)).unwrap();
    }
}

#[test]
fn the_largest_batches_can_be_used() {
    let topic = TopicSettings::new("t").max_batch_bytesize(1 << 30);
    RdkafkaProducer::new(&unreachable().max_memory_bytes(1 << 30).with_topic(topic)).unwrap();
}

/// What is not built in is said with the feature that brings it; what is, works.
fn needs(config: &KafkaConfig, feature: &str, built: bool) {
    match RdkafkaProducer::new(config) {
        Ok(_) => assert!(built, "made without `{feature}`"),
        Err(error) => {
            assert!(!built, "{error}");
            assert!(
                matches!(&error, SetupError::MissingFeature { feature: f, .. } if *f == feature),
                "{error}"
            );
            assert!(error.to_string().contains(&format!("`{feature}`")), "{error}");
        }
    }
}

#[test]
fn features_that_are_not_built_in_are_named() {
    let ssl =
        cfg!(any(feature = "ssl", feature = "ssl-vendored", feature = "gssapi", feature = "gssapi-vendored"));
    let scram = |mechanism| Sasl::new(mechanism, "me", SECRET);
    let compressed = |compression| unreachable().with_topic(TopicSettings::new("t").compression(compression));
    needs(&unreachable().ssl(Tls::default()), "ssl", ssl);
    needs(&unreachable().sasl(scram(SaslMechanism::ScramSha256)), "ssl", ssl);
    needs(&unreachable().sasl(scram(SaslMechanism::ScramSha512)), "ssl", ssl);
    needs(
        &unreachable().property("security.protocol", "sasl_ssl").sasl(scram(SaslMechanism::Plain)),
        "ssl",
        ssl,
    );
    needs(&unreachable().sasl(scram(SaslMechanism::Plain)), "", true);
    needs(&compressed(Compression::Gzip), "libz", cfg!(feature = "libz"));
    needs(&compressed(Compression::Snappy), "", true);
    needs(&compressed(Compression::Lz4), "", true);
    needs(&compressed(Compression::Zstd), "zstd", cfg!(feature = "zstd"));
    needs(&unreachable().property("compression.codec", "zstd"), "zstd", cfg!(feature = "zstd"));
}

#[tokio::test]
async fn secrets_are_shown_nowhere() {
    let lines = Lines::keep().unwrap();
    let broker = kafka_batcher_testkit::embedded::EmbeddedBroker::start(1).unwrap();
    let config = KafkaConfig::new(broker.bootstrap())
        .sasl(Sasl::new(SaslMechanism::Plain, "me", SECRET))
        .property("debug", "all")
        .property("sasl.password", SECRET)
        .produce_timeout(Duration::from_secs(2));
    let producer = RdkafkaProducer::new(&config).unwrap();
    let mut shown = format!("{producer:?} {config:?}");
    // The embedded broker knows no SASL, so that fails, with many a log line.
    let error = producer.connect(Duration::from_secs(2)).await.unwrap_err();
    shown += &format!("{error} {error:?} {producer:?}");
    let failure =
        producer.produce(&request("t", 0, numbered(0, 1)), Duration::from_secs(2)).await.unwrap_err();
    shown += &format!("{failure} {failure:?}");
    producer.close(LONG).await;
    let lines = lines.text();
    assert!(lines.contains("kafka_batcher::rdkafka"), "librdkafka's log goes to tracing");
    assert!(lines.len() > 10_000, "debug lines are there");
    for text in [&shown, &lines] {
        let at = text.find(SECRET).map(|at| &text[at.saturating_sub(200)..at + 30]);
        assert_eq!(at, None, "shown");
    }
}
