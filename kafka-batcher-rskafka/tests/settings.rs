//! Settings are checked when the producer is made, and secrets stay secret.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::fake::{FakeBroker, Login};
use common::*;
use kafka_batcher_core::config::{
    Compression, KafkaConfig, RequiredAcks, Sasl, SaslMechanism, Tls, TopicSettings,
};
use kafka_batcher_core::{Capabilities, ErrorKind, Persistence, ProduceRequest, Producer};
use kafka_batcher_rskafka::{RskafkaProducer, SetupError};

const SECRET: &str = "hunter2-hunter2";

fn refused(config: &KafkaConfig) -> SetupError {
    RskafkaProducer::new(config).expect_err("unusable settings")
}

fn unreachable() -> KafkaConfig {
    KafkaConfig::new("127.0.0.1:1")
}

#[test]
fn construction_needs_no_runtime_and_no_broker() {
    let producer = RskafkaProducer::new(&unreachable()).unwrap();
    let mut expected = Capabilities::default();
    expected.search = true;
    assert_eq!(producer.capabilities(), expected);
}

#[test]
fn properties_of_librdkafka_are_refused_by_name_without_their_value() {
    let error = refused(&unreachable().property("sasl.password", SECRET));
    assert_eq!(error, SetupError::UnknownProperty { name: "sasl.password".to_owned() });
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("sasl.password") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn the_one_property_takes_true_and_false() {
    for value in ["true", "false"] {
        RskafkaProducer::new(&unreachable().property("rskafka.sort.headers", value)).unwrap();
    }
    let error = refused(&unreachable().property("rskafka.sort.headers", SECRET));
    assert_eq!(error, SetupError::InvalidProperty { name: "rskafka.sort.headers".to_owned() });
    assert!(!error.to_string().contains(SECRET), "{error}");
}

#[test]
fn the_batcher_s_own_configuration_is_checked_too() {
    let error = refused(&KafkaConfig::new("no port"));
    assert!(matches!(error, SetupError::Config(_)), "{error}");
}

#[tokio::test]
async fn acks_other_than_all_are_refused() {
    for acks in [RequiredAcks::Leader, RequiredAcks::None] {
        let settings = TopicSettings::new("t").required_acks(acks);
        let error = refused(&unreachable().with_topic(settings.clone()));
        assert!(matches!(error, SetupError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("required_acks") && error.to_string().contains("`t`"), "{error}");
        // Also for a topic that was not configured.
        let producer = RskafkaProducer::new(&unreachable()).unwrap();
        let request = ProduceRequest::new(topic(settings), 0, numbered(0, 1));
        let failure = producer.produce(&request, LONG).await.unwrap_err();
        assert_eq!(
            (failure.error.kind(), failure.persistence),
            (ErrorKind::Transient, Persistence::NotPersisted)
        );
        assert!(failure.to_string().contains("required_acks"), "{failure}");
    }
}

#[test]
fn a_client_id_that_can_t_be_sent_is_refused() {
    RskafkaProducer::new(&unreachable().client_id("x".repeat(32_767))).unwrap();
    let error = refused(&unreachable().client_id("x".repeat(32_768)));
    assert!(error.to_string().contains("client_id"), "{error}");
}

/// What is not built in is said with the feature that brings it; what is, works.
fn needs(config: &KafkaConfig, feature: &str, built: bool) {
    match RskafkaProducer::new(config) {
        Ok(_) => assert!(built, "made without `{feature}`"),
        Err(error) => {
            assert!(!built, "{error}");
            let missing = matches!(&error, SetupError::MissingFeature { feature: f, .. } if *f == feature);
            assert!(missing && error.to_string().contains(&format!("`{feature}`")), "{error}");
        }
    }
}

#[test]
fn features_that_are_not_built_in_are_named() {
    let compressed = |compression| unreachable().with_topic(TopicSettings::new("t").compression(compression));
    for mechanism in [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512] {
        needs(&unreachable().sasl(Sasl::new(mechanism, "me", SECRET)), "", true);
    }
    needs(&compressed(Compression::None), "", true);
    needs(&compressed(Compression::Gzip), "gzip", cfg!(feature = "gzip"));
    needs(&compressed(Compression::Snappy), "snappy", cfg!(feature = "snappy"));
    needs(&compressed(Compression::Lz4), "lz4", cfg!(feature = "lz4"));
    needs(&compressed(Compression::Zstd), "zstd", cfg!(feature = "zstd"));
    // The authorities don't matter: there is always an error without the feature.
    let mut tls = Tls::default();
    tls.ca_file = Some("/no/such/file".into());
    match refused(&unreachable().ssl(tls)) {
        SetupError::MissingFeature { feature, .. } => assert!(feature == "tls" && !cfg!(feature = "tls")),
        error => assert!(matches!(error, SetupError::File { .. }) && cfg!(feature = "tls"), "{error}"),
    }
}

#[test]
fn tls_with_an_ipv6_address_is_refused() {
    let error = refused(&KafkaConfig::new("[::1]:9092").ssl(Tls::default()));
    assert!(error.to_string().contains("[::1]:9092"), "{error}");
}

#[cfg(feature = "tls")]
mod tls {
    use std::io::Write;

    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn error(change: impl FnOnce(&mut Tls)) -> String {
        let mut tls = Tls::default();
        change(&mut tls);
        refused(&unreachable().ssl(tls)).to_string()
    }

    #[test]
    fn files_that_can_t_be_used_are_named_with_the_reason() {
        let empty = file("nothing");
        let path = empty.path().to_owned();
        let text = error(|tls| tls.ca_file = Some(path.clone()));
        assert!(text.contains("ssl.ca_file") && text.contains(path.to_str().unwrap()), "{text}");
        let text = error(|tls| tls.ca_file = Some("/no/such/file".into()));
        assert!(text.contains("/no/such/file"), "{text}");
    }

    /// An authority of no importance.
    const CA: &str = "-----BEGIN CERTIFICATE-----
MIIBczCCARmgAwIBAgIUHdxC2dEbQ3Y0nBHnRgTZDAKS/SkwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAeFw0yNDAxMDEwMDAwMDBaFw0zNDAxMDEwMDAwMDBa
MA8xDTALBgNVBAMMBHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ=
-----END CERTIFICATE-----
";

    #[test]
    fn an_encrypted_key_is_said_to_be_encrypted() {
        let certificate = file(CA);
        for encrypted in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            let key = file(encrypted);
            let mut tls = Tls::default();
            tls.cert_file = Some(certificate.path().to_owned());
            tls.key_file = Some(key.path().to_owned());
            tls.key_password = Some(SECRET.to_owned().into());
            let error = refused(&unreachable().ssl(tls));
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("encrypted") && shown.contains("ssl.key_file"), "{shown}");
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let certificate = file(CA);
        let path = certificate.path().to_owned();
        assert!(error(|tls| tls.cert_file = Some(path.clone())).contains("ssl.key_file"));
        assert!(error(|tls| tls.key_file = Some(path.clone())).contains("ssl.cert_file"));
    }
}

/// Keeps all log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl tracing::field::Visit for Line<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write;
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut lines = self.0.lock().unwrap();
        lines.push_str(event.metadata().target());
        event.record(&mut Line(&mut lines));
        lines.push('\n');
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn secrets_are_shown_nowhere() {
    const SHORT: Duration = Duration::from_secs(2);
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).expect("the only test that does");
    let broker = FakeBroker::start(Login::Denies, &[]);
    let config = KafkaConfig::new(broker.address())
        .sasl(Sasl::new(SaslMechanism::Plain, "me", SECRET))
        .produce_timeout(SHORT);
    let producer = RskafkaProducer::new(&config).unwrap();
    let mut shown = format!("{producer:?} {config:?}");
    let error = producer.connect(SHORT).await.unwrap_err();
    shown += &format!("{error} {error:?} {producer:?}");
    let failure = producer.produce(&request("t", 0, numbered(0, 1)), SHORT).await.unwrap_err();
    shown += &format!("{failure} {failure:?}");
    // And one that gets in, so that there is more to be said.
    let open = FakeBroker::start(Login::Open, &[]);
    let other = RskafkaProducer::new(&KafkaConfig::new(open.address())).unwrap();
    other.connect(SHORT).await.unwrap();
    shown += &format!("{other:?}");
    producer.close(LONG).await;
    let lines = lines.0.lock().unwrap();
    assert!(lines.contains("kafka_batcher::rskafka"), "its log goes to tracing");
    assert!(lines.contains("Detected supported broker versions"), "debug lines of rskafka's are there");
    for text in [&shown, &*lines] {
        let at = text.find(SECRET).map(|at| &text[at.saturating_sub(200)..at + 30]);
        assert_eq!(at, None, "shown");
    }
}
