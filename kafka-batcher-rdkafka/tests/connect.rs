//! Reaching a cluster, or saying why not.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::*;
use kafka_batcher_core::config::{KafkaConfig, Sasl, SaslMechanism, Tls, TopicSettings};
use kafka_batcher_core::{ErrorKind, Persistence, Producer};
use kafka_batcher_rdkafka::{RdkafkaProducer, SetupError};
use tokio::net::TcpSocket;

const SHORT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_broker_that_is_there_is_reached() {
    let setup = Setup::new(LONG);
    setup.producer.connect(LONG).await.unwrap();
    setup.producer.connect(LONG).await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_said_with_the_endpoint() {
    // Bound and not listening: nobody else gets the port, and connections are refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = socket.local_addr().unwrap().to_string();
    let producer = RdkafkaProducer::new(&KafkaConfig::new(endpoint.as_str())).unwrap();
    let watch = Stopwatch::start();
    let error = producer.connect(SHORT).await.unwrap_err();
    watch.assert_within(SHORT + GRACE);
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().contains(&endpoint), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_listener_that_never_answers_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let producer =
        RdkafkaProducer::new(&KafkaConfig::new(listener.local_addr().unwrap().to_string())).unwrap();
    let watch = Stopwatch::start();
    let error = producer.connect(SHORT).await.unwrap_err();
    watch.assert_within(SHORT + GRACE);
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
}

#[tokio::test]
async fn the_executor_is_not_blocked_meanwhile() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let producer =
        RdkafkaProducer::new(&KafkaConfig::new(listener.local_addr().unwrap().to_string())).unwrap();
    let mut ticks = 0;
    let mut interval = tokio::time::interval(Duration::from_millis(10));
    let connect = producer.connect(SHORT);
    tokio::pin!(connect);
    loop {
        tokio::select! {
            result = &mut connect => { result.unwrap_err(); break }
            _ = interval.tick() => ticks += 1,
        }
    }
    assert!(ticks > 50, "only {ticks} ticks in {SHORT:?}");
}

#[tokio::test]
async fn asking_for_a_topic_does_not_make_it() {
    let setup = Setup::new(LONG);
    for _ in 0..2 {
        let error = setup.producer.partition_count("missing", SHORT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    }
}

#[tokio::test]
async fn creating_a_topic_ends_in_time() {
    let setup = Setup::new(LONG);
    let topic = topic(TopicSettings::new("new").allow_topic_auto_creation(true));
    // The embedded broker knows no CreateTopics request. `real_kafka.rs` has what happens with one that does.
    let watch = Stopwatch::start();
    setup.producer.create_topic(&topic, SHORT).await.unwrap_err();
    watch.assert_within(SHORT + GRACE);
}

/// A broker that speaks just enough Kafka to turn everybody away; gives its address.
fn broker_that_denies() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            std::thread::spawn(move || while deny(&mut connection).is_ok() {});
        }
    });
    address
}

/// Answers one request.
fn deny(connection: &mut TcpStream) -> std::io::Result<()> {
    let mut size = [0; 4];
    connection.read_exact(&mut size)?;
    let mut request = vec![0; u32::from_be_bytes(size) as usize];
    connection.read_exact(&mut request)?;
    let (key, version) = (request[1], request[3]);
    let mut answer = request[4..8].to_vec(); // the correlation id
    match key {
        // ApiVersions: first an answer of version 0 to the newer question (error 35), then the versions there are.
        18 => {
            answer.extend([0, if version > 0 { 35 } else { 0 }, 0, 0, 0, 5]);
            for (key, max) in [(0, 7), (3, 4), (17, 1), (18, 0), (36, 0)] {
                answer.extend([0, key, 0, 0, 0, max]);
            }
        }
        17 => answer.extend(b"\0\0\0\0\0\x01\0\x05PLAIN"), // SaslHandshake
        36 => answer.extend(b"\0\x3a\0\x0ago away 42\0\0\0\0"), // SaslAuthenticate: error 58
        _ => return Err(std::io::ErrorKind::Unsupported.into()),
    }
    connection.write_all(&(answer.len() as u32).to_be_bytes())?;
    connection.write_all(&answer)
}

#[tokio::test]
async fn being_denied_is_told_from_nobody_being_there() {
    let address = broker_that_denies();
    let config = KafkaConfig::new(address.as_str())
        .sasl(Sasl::new(SaslMechanism::Plain, "me", "wrong-password"))
        .produce_timeout(LONG);
    let producer = RdkafkaProducer::new(&config).unwrap();
    let timeout = Duration::from_secs(10);
    for _ in 0..2 {
        let start = Instant::now();
        let error = producer.connect(timeout).await.unwrap_err();
        assert!(start.elapsed() < timeout / 2, "there was no need to wait: {:?}", start.elapsed());
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("go away 42"), "{error}");
        assert!(error.to_string().contains(&address), "{error}");
        assert!(!error.to_string().contains("wrong-password"), "{error}");
    }
    // Nor has a batch.
    let start = Instant::now();
    let failure = producer.produce(&request("t", 0, numbered(0, 3)), LONG).await.unwrap_err();
    assert!(start.elapsed() < timeout / 2, "there was no need to wait: {:?}", start.elapsed());
    assert_eq!(failure.error.kind(), ErrorKind::Denied, "{failure}");
    assert_eq!(failure.persistence, Persistence::NotPersisted);
    // Nor have many, of which one asks for all.
    let producer = std::sync::Arc::new(producer);
    let many: Vec<_> = (0..1500)
        .map(|_| {
            let producer = std::sync::Arc::clone(&producer);
            tokio::spawn(async move {
                producer.produce(&request("t", 0, numbered(0, 3)), LONG).await.unwrap_err()
            })
        })
        .collect();
    let start = Instant::now();
    for one in many {
        let failure = one.await.unwrap();
        assert_eq!(failure.error.kind(), ErrorKind::Denied, "{failure}");
        assert_eq!(failure.persistence, Persistence::NotPersisted);
    }
    assert!(start.elapsed() < timeout / 2, "each has asked: {:?}", start.elapsed());
    // The first one of a client finds out by waiting in vain.
    let producer = RdkafkaProducer::new(&config.produce_timeout(SHORT)).unwrap();
    let failure = producer.produce(&request("t", 0, numbered(0, 3)), SHORT).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Denied, "{failure}");
    assert_eq!(failure.persistence, Persistence::NotPersisted);
}

/// What the client says first to whoever listens.
async fn first_bytes(config: impl FnOnce(KafkaConfig) -> KafkaConfig) -> Result<Vec<u8>, SetupError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let producer = RdkafkaProducer::new(&config(KafkaConfig::new(address.as_str())))?;
    let heard = tokio::task::spawn_blocking(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 6];
        connection.read_exact(&mut bytes).unwrap();
        bytes
    });
    assert!(producer.connect(SHORT).await.is_err(), "nobody answers");
    Ok(tokio::time::timeout(LONG, heard).await.expect("the client says something").unwrap())
}

/// Defect 17: one of the two clients ignored the TLS and SASL settings.
#[tokio::test]
async fn defect_17_tls_and_sasl_settings_are_used_or_refused_but_never_ignored() {
    let plain = first_bytes(|config| config).await.unwrap();
    assert_eq!(plain[4..], [0, 18], "in the clear it begins with an ApiVersions request");

    // A TLS handshake record, or the name of the feature that is missing.
    match first_bytes(|config| config.ssl(Tls::default())).await {
        Ok(bytes) => assert_eq!(bytes[..2], [0x16, 0x03]),
        Err(error) => assert!(matches!(error, SetupError::MissingFeature { .. }), "{error}"),
    }

    // Only a client that does as it is told comes to the point where it is turned away.
    let config = KafkaConfig::new(broker_that_denies()).sasl(Sasl::new(SaslMechanism::Plain, "me", "secret"));
    let error = RdkafkaProducer::new(&config).unwrap().connect(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}
