//! Which brokers' certificates are taken, and what is said of those that are not. Needs feature `ssl`, and no Kafka: the
//! broker here only shakes hands.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use kafka_batcher_core::config::{KafkaConfig, Tls};
use kafka_batcher_core::{Denial, ErrorKind, Persistence, ProduceError, Producer};
use kafka_batcher_rdkafka::RdkafkaProducer;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, version};

const TIMEOUT: Duration = Duration::from_secs(3);

const SSL: bool =
    cfg!(any(feature = "ssl", feature = "ssl-vendored", feature = "gssapi", feature = "gssapi-vendored"));

/// Signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For these names, valid in these years.
    fn sign(&self, names: &[&str], years: (i32, i32)) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = leaf(names, years);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (certificate, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

fn leaf(names: &[&str], (from, until): (i32, i32)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "broker");
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    params
}

const VALID: (i32, i32) = (2020, 2200);
const HERE: &[&str] = &["localhost", "127.0.0.1"];

/// A broker with this certificate: its port, and the first bytes that each client sends through TLS.
async fn broker(
    (certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>),
    old: bool,
) -> (u16, mpsc::UnboundedReceiver<Vec<u8>>) {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let versions = if old { [&version::TLS12] } else { [&version::TLS13] };
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, hears) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let (acceptor, heard) = (acceptor.clone(), heard.clone());
            tokio::spawn(async move {
                let Ok(mut connection) = acceptor.accept(connection).await else { return };
                let mut bytes = vec![0; 6];
                if connection.read_exact(&mut bytes).await.is_ok() {
                    heard.send(bytes).ok();
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    (port, hears)
}

fn producer(endpoint: String, ca: &Path) -> RdkafkaProducer {
    let mut tls = Tls::default();
    tls.ca_file = Some(ca.to_owned());
    RdkafkaProducer::new(&KafkaConfig::new(endpoint.as_str()).ssl(tls).produce_timeout(TIMEOUT)).unwrap()
}

/// Whether this build can do it; says so if not.
fn ssl(test: &str) -> bool {
    if !SSL {
        println!("SKIPPED {test}: built without feature `ssl`");
    }
    SSL
}

fn ca_file(authority: &Authority) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &authority.pem).unwrap();
    file
}

fn check(error: &ProduceError, denial: Denial, words: &str) {
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(error.denial(), Some(denial), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test]
async fn a_good_certificate_is_taken() {
    if !ssl("a_good_certificate_is_taken") {
        return;
    }
    let authority = Authority::new("authority");
    let ca = ca_file(&authority);
    for (host, old) in [("localhost", false), ("127.0.0.1", false), ("localhost", true)] {
        let (port, mut hears) = broker(authority.sign(HERE, VALID), old).await;
        let producer = producer(format!("{host}:{port}"), ca.path());
        let error = producer.connect(TIMEOUT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "this broker says nothing: {error}");
        assert_eq!(hears.recv().await.unwrap()[4..], [0, 18], "an ApiVersions request");
    }
}

#[tokio::test]
async fn bad_certificates_are_refused_each_for_its_reason() {
    if !ssl("bad_certificates_are_refused_each_for_its_reason") {
        return;
    }
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let ca = ca_file(&authority);
    let own_key = KeyPair::generate().unwrap();
    let own = leaf(HERE, VALID).self_signed(&own_key).unwrap().der().clone();
    let own = (own, PrivateKeyDer::try_from(own_key.serialize_der()).unwrap());
    let cases = [
        (authority.sign(HERE, (2001, 2002)), "localhost", Denial::CertificateExpired, "has expired"),
        (authority.sign(HERE, (2150, 2200)), "localhost", Denial::CertificateExpired, "not valid yet"),
        (other.sign(HERE, VALID), "localhost", Denial::UnknownAuthority, "trusted"),
        (own, "localhost", Denial::UnknownAuthority, "signed by itself"),
        (authority.sign(&["elsewhere.example"], VALID), "localhost", Denial::HostName, "another host name"),
        (authority.sign(&["localhost"], VALID), "127.0.0.1", Denial::HostName, "another address"),
    ];
    for (certificate, host, denial, words) in cases {
        for old in [false, true] {
            let (port, mut hears) = broker((certificate.0.clone(), certificate.1.clone_key()), old).await;
            let producer = producer(format!("{host}:{port}"), ca.path());
            for _ in 0..2 {
                let watch = Stopwatch::start();
                check(&producer.connect(TIMEOUT).await.unwrap_err(), denial, words);
                watch.assert_within(TIMEOUT + GRACE);
            }
            let watch = Stopwatch::start();
            let failure = producer.produce(&request("t", 0, numbered(0, 3)), TIMEOUT).await.unwrap_err();
            watch.assert_within(TIMEOUT + GRACE);
            check(&failure.error, denial, words);
            assert_eq!(failure.persistence, Persistence::NotPersisted, "{failure}");
            assert!(hears.try_recv().is_err(), "it was told something all the same");
        }
    }
}

#[tokio::test]
async fn what_is_not_tls_is_no_denial() {
    if !ssl("what_is_not_tls_is_no_denial") {
        return;
    }
    let ca = ca_file(&Authority::new("authority"));
    let broker = kafka_batcher_testkit::embedded::EmbeddedBroker::start(1).unwrap();
    let error = producer(broker.bootstrap(), ca.path()).connect(TIMEOUT).await.unwrap_err();
    // It could be a broker that ends in the middle of a handshake.
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    // What is wrong with it, if the answer is seen before the end of the connection; else just where it ended.
    let said = error.to_string();
    assert!(said.contains("SSL handshake failed") || said.contains("SSL_HANDSHAKE"), "{said}");
}
