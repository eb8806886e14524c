//! Reaching a cluster, or saying why not.

mod common;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::fake::{Answer, FakeBroker, Login};
use common::*;
use kafka_batcher_core::config::{
    KafkaConfig, Sasl, SaslMechanism, Token, TokenError, TokenProvider, TopicSettings,
};
use kafka_batcher_core::{Denial, ErrorKind, Persistence, ProduceError, Producer};
use kafka_batcher_rskafka::RskafkaProducer;
use tokio::net::TcpSocket;

const SHORT: Duration = Duration::from_secs(2);

/// Connects, checks that it took no longer than it may, and gives how long it took.
async fn connect(producer: &RskafkaProducer, timeout: Duration) -> (Result<(), ProduceError>, Duration) {
    let (watch, start) = (Stopwatch::start(), Instant::now());
    let result = producer.connect(timeout).await;
    let took = start.elapsed();
    watch.assert_within(timeout + GRACE);
    (result, took)
}

fn producer(config: &KafkaConfig) -> RskafkaProducer {
    RskafkaProducer::new(config).unwrap()
}

/// An address where nobody listens, nor will as long as the socket is there, which is bound to it.
fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// Someone who accepts connections, and never says a word.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// An address where the system does not even accept connections any more: the queue of those waiting is full.
async fn black_hole() -> (tokio::net::TcpListener, Vec<tokio::net::TcpStream>, String) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let full = Duration::from_millis(300);
    while let Ok(connected) = tokio::time::timeout(full, tokio::net::TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 100, "the queue does not fill up");
    }
    (listener, waiting, address.to_string())
}

#[tokio::test]
async fn a_broker_that_is_there_is_reached() {
    let setup = Setup::new(LONG);
    setup.producer.connect(LONG).await.unwrap();
    setup.producer.connect(LONG).await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_said_with_the_endpoint_at_once() {
    let (_socket, endpoint) = nobody();
    let (result, took) = connect(&producer(&KafkaConfig::new(endpoint.as_str())), LONG).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().contains(&endpoint) && error.to_string().contains("refused"), "{error}");
    assert!(took < SHORT, "there was no need to wait: {took:?}");
}

#[tokio::test]
async fn a_listener_that_never_answers_is_given_up_in_time() {
    let (_listener, endpoint) = silent();
    let error = connect(&producer(&KafkaConfig::new(endpoint.as_str())), SHORT).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert!(error.to_string().contains(&endpoint), "{error}");
}

#[tokio::test]
async fn a_black_hole_is_given_up_in_time_by_every_call() {
    let (_listener, _waiting, endpoint) = black_hole().await;
    let producer = producer(&KafkaConfig::new(endpoint));
    connect(&producer, SHORT).await.0.unwrap_err();
    for timeout in [Duration::from_millis(200), SHORT] {
        let watch = Stopwatch::start();
        producer.partition_count("t", timeout).await.unwrap_err();
        let failure = producer.produce(&request("t", 0, numbered(0, 3)), timeout).await.unwrap_err();
        producer.create_topic(&topic(TopicSettings::new("t")), timeout).await.unwrap_err();
        watch.assert_within(3 * (timeout + GRACE));
        assert_eq!(failure.persistence, Persistence::NotPersisted, "{failure}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_silent_or_refuses_does_not_keep_the_others_from_being_tried() {
    let (_listener, silent) = silent();
    let (_hole, _waiting, hole) = black_hole().await;
    let broker = FakeBroker::start(Login::Open, &[]);
    let (_socket, nobody) = nobody();
    let endpoints = [&silent, &hole, &nobody, broker.address()].map(|e| e as &str).join(", ");
    for _ in 0..5 {
        let (result, took) = connect(&producer(&KafkaConfig::new(endpoints.as_str())), LONG).await;
        result.unwrap();
        assert!(took < Duration::from_secs(4), "waited for those that are silent: {took:?}");
    }
}

#[tokio::test]
async fn the_executor_is_not_blocked_meanwhile() {
    let (_listener, endpoint) = silent();
    let producer = producer(&KafkaConfig::new(endpoint));
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
        // The embedded broker would make it if it were asked for by name.
        let error = setup.producer.partition_count("missing", SHORT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
        let failure =
            setup.producer.produce(&request("missing", 0, numbered(0, 3)), SHORT).await.unwrap_err();
        assert_eq!(failure.error.kind(), ErrorKind::UnknownTopic, "{failure}");
        assert_eq!(failure.persistence, Persistence::NotPersisted);
    }
}

#[tokio::test]
async fn a_failed_client_is_replaced_by_connecting() {
    let setup = Setup::new(LONG);
    setup.producer.connect(LONG).await.unwrap();
    setup.broker.down().unwrap();
    connect(&setup.producer, SHORT).await.0.unwrap_err();
    setup.broker.up().unwrap();
    setup.producer.connect(LONG).await.unwrap();
    assert_eq!(setup.producer.partition_count("t", LONG).await.unwrap().get(), 4);
}

#[tokio::test]
async fn a_connection_that_broke_unnoticed_does_not_fail_the_next_count() {
    let setup = Setup::new(LONG);
    setup.producer.connect(LONG).await.unwrap();
    setup.broker.down().unwrap();
    setup.broker.up().unwrap();
    assert_eq!(setup.producer.partition_count("t", LONG).await.unwrap().get(), 4);
}

#[tokio::test]
async fn a_client_that_hangs_is_replaced_in_time_for_the_call() {
    let [first, second] = [(); 2].map(|()| FakeBroker::start(Login::Open, &[]));
    let endpoints = format!("{},{}", first.address(), second.address());
    let producer = producer(&KafkaConfig::new(endpoints).connect_timeout(Duration::from_secs(1)));
    producer.connect(LONG).await.unwrap();
    let (hung, other) = if first.lists() > 0 { (&first, &second) } else { (&second, &first) };
    hung.set_deaf(true);
    let start = Instant::now();
    assert_eq!(producer.partition_count("t", LONG).await.unwrap().get(), 1);
    assert!(start.elapsed() < Duration::from_secs(3), "took {:?}", start.elapsed());
    assert!(other.lists() > 0);
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

#[tokio::test]
async fn being_denied_is_told_from_nobody_being_there() {
    let broker = FakeBroker::start(Login::Denies, &[]);
    let config =
        KafkaConfig::new(broker.address()).sasl(Sasl::new(SaslMechanism::Plain, "me", "wrong-password"));
    let producer = producer(&config);
    for _ in 0..2 {
        let (result, took) = connect(&producer, LONG).await;
        let error = result.unwrap_err();
        assert!(took < LONG / 2, "there was no need to wait: {took:?}");
        assert_eq!((error.kind(), error.denial()), (ErrorKind::Denied, Some(Denial::Credentials)), "{error}");
        assert!(error.to_string().contains(broker.address()), "{error}");
        assert!(!format!("{error} {error:?}").contains("wrong-password"), "{error}");
    }
    let start = Instant::now();
    let failure = producer.produce(&request("t", 0, numbered(0, 3)), LONG).await.unwrap_err();
    assert!(start.elapsed() < LONG / 2, "trying again would change nothing: {:?}", start.elapsed());
    assert_eq!(failure.error.denial(), Some(Denial::Credentials), "{failure}");
    assert_eq!(failure.persistence, Persistence::NotPersisted);
}

#[tokio::test]
async fn a_denial_counts_more_than_silence() {
    let broker = FakeBroker::start(Login::Denies, &[]);
    let (_listener, silent) = silent();
    let (_socket, nobody) = nobody();
    let endpoints = format!("{silent},{},{nobody}", broker.address());
    let config = KafkaConfig::new(endpoints).sasl(Sasl::new(SaslMechanism::Plain, "me", "x"));
    let error = connect(&producer(&config), SHORT).await.0.unwrap_err();
    assert_eq!(error.denial(), Some(Denial::Credentials), "{error}");
    assert!(error.to_string().contains(&silent), "every endpoint is accounted for: {error}");
}

#[tokio::test]
async fn a_mechanism_that_is_not_offered_is_said() {
    let broker = FakeBroker::start(Login::OffersOther, &[]);
    let config = KafkaConfig::new(broker.address()).sasl(Sasl::new(SaslMechanism::ScramSha256, "me", "x"));
    let error = connect(&producer(&config), LONG).await.0.unwrap_err();
    assert_eq!(error.denial(), Some(Denial::Mechanism), "{error}");
}

#[tokio::test]
async fn a_topic_that_may_not_be_seen_is_told_from_one_that_is_not_there() {
    const EXISTS: i16 = 36;
    const INVALID_PARTITIONS: i16 = 37;
    const NOT_AUTHORIZED: i16 = 29;
    const UNKNOWN: i16 = 3;
    for (create, metadata, expected) in [
        (EXISTS, 0, Some(Denial::NotAuthorized)),
        (INVALID_PARTITIONS, 0, None),
        (NOT_AUTHORIZED, NOT_AUTHORIZED, Some(Denial::NotAuthorized)),
        (NOT_AUTHORIZED, UNKNOWN, None),
    ] {
        let broker = FakeBroker::start(Login::Takes(create, metadata), &[]);
        let config = KafkaConfig::new(broker.address()).sasl(Sasl::new(SaslMechanism::Plain, "me", "x"));
        let producer = producer(&config);
        assert_eq!(producer.partition_count("t", LONG).await.unwrap().get(), 1);
        let error = producer.partition_count("hidden", LONG).await.unwrap_err();
        let kind = if expected.is_some() { ErrorKind::Denied } else { ErrorKind::UnknownTopic };
        assert_eq!((error.kind(), error.denial()), (kind, expected), "{create} {metadata}: {error}");
        assert_eq!(broker.created(), [0], "only what no broker creates");
    }
    // Who does not log in asks nothing of the kind.
    let broker = FakeBroker::start(Login::Open, &[]);
    let error =
        producer(&KafkaConfig::new(broker.address())).partition_count("hidden", LONG).await.unwrap_err();
    assert_eq!((error.kind(), broker.created().len()), (ErrorKind::UnknownTopic, 0), "{error}");
}

/// Gives no tokens, and notes on which thread it was asked.
#[derive(Debug, Default)]
struct NoTokens;

#[async_trait::async_trait]
impl TokenProvider for NoTokens {
    async fn token(&self) -> Result<Token, TokenError> {
        // Works only on the application's runtime, whose worker it blocks.
        tokio::task::block_in_place(|| {});
        Err(TokenError("the vault is sealed".to_owned()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_missing_token_is_said_with_the_reason() {
    let broker = FakeBroker::start(Login::Denies, &[]);
    let config = KafkaConfig::new(broker.address()).sasl(Sasl::oauth_bearer(NoTokens));
    let error = connect(&producer(&config), LONG).await.0.unwrap_err();
    assert_eq!(error.denial(), Some(Denial::NoToken), "{error}");
    assert!(error.to_string().contains("the vault is sealed"), "{error}");
}

/// Never gives a token.
#[derive(Debug)]
struct Slow;

#[async_trait::async_trait]
impl TokenProvider for Slow {
    async fn token(&self) -> Result<Token, TokenError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_token_that_never_comes_is_given_up_in_time() {
    let broker = FakeBroker::start(Login::Denies, &[Answer::Silence]);
    let config = KafkaConfig::new(broker.address()).sasl(Sasl::oauth_bearer(Slow));
    connect(&producer(&config), SHORT).await.0.unwrap_err();
}
