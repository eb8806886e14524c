//! Secrets stay secret.

use std::error::Error;

use kafka_batcher_core::config::{Sasl, SaslMechanism, Tls};
use kafka_batcher_core::{ProduceError, TopicSettings};

use super::ProducerFixture;
use super::rig::{Rig, SHORT, failure, numbered, topic_of};
use crate::conformance::Outcome;

/// Passwords of the configuration turn up neither in `Debug` nor in errors.
pub async fn secrets_are_not_shown(fixture: &dyn ProducerFixture) -> Outcome {
    const SECRET: &str = "hunter2-correct-horse";
    fixture.ready()?;
    let mut secrets = fixture.secrets();
    secrets.push(SECRET.to_owned());
    let plain = fixture.config();
    let topic = || TopicSettings::new("secrets");
    let nobody = || kafka_batcher_core::KafkaConfig::new("127.0.0.1:9").with_topic(topic());
    let mut tls = Tls::default();
    tls.key_password = Some(SECRET.to_owned().into());
    tls.key_file = Some("/no/such/key.pem".into());
    tls.cert_file = Some("/no/such/certificate.pem".into());
    let login = |mechanism| Sasl::new(mechanism, "me", SECRET);
    for (name, config) in [
        ("the fixture's own", plain.with_topic(topic())),
        ("PLAIN", nobody().sasl(login(SaslMechanism::Plain))),
        ("SCRAM", nobody().sasl(login(SaslMechanism::ScramSha512))),
        ("PLAIN over TLS", nobody().sasl(login(SaslMechanism::Plain)).ssl(Tls::default())),
        ("a key's password", nobody().ssl(tls)),
        ("an unknown property", nobody().property("no.such.password", SECRET)),
        ("two lines", nobody().sasl(Sasl::new(SaslMechanism::Plain, "me", format!("{SECRET}\n{SECRET}")))),
    ] {
        assert_hidden(&secrets, &format!("{config:?}"), name);
        let producer = match fixture.producer(&config.clone().produce_timeout(SHORT)) {
            Ok(producer) => producer,
            Err(error) => {
                assert_hidden(&secrets, &error, name);
                continue;
            }
        };
        assert_hidden(&secrets, &format!("{producer:?}"), name);
        let rig = Rig { fixture, producer, topic: topic_of(&config) };
        if name == "the fixture's own" {
            continue;
        }
        if let Err(error) = rig.producer.connect(SHORT).await {
            assert_hidden(&secrets, &told(&error), name);
        }
        if let Err(error) = rig.producer.partition_count("secrets", SHORT).await {
            assert_hidden(&secrets, &told(&error), name);
        }
        if fixture.config_at("127.0.0.1:9").is_ok() {
            let failed = failure(rig.try_produce(0, numbered(0, 1), SHORT).await, "to nobody");
            assert_hidden(&secrets, &told(&failed.error), name);
        }
        assert_hidden(&secrets, &format!("{:?}", rig.producer), name);
    }
    Ok(())
}

/// Everything an error says: itself, its causes, and all of it as `Debug`.
fn told(error: &ProduceError) -> String {
    let mut text = format!("{error:?}");
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// Checks that none of the secrets is in the text, without showing either.
pub(super) fn assert_hidden(secrets: &[String], text: &str, of: &str) {
    let shown = secrets.iter().any(|secret| !secret.is_empty() && text.contains(secret.as_str()));
    assert!(!shown, "a secret is shown by: {of}");
}
