//! SASL/OAUTHBEARER: how tokens are asked for, and what comes of none. `security.rs` has what real Kafka makes of them.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::*;
use kafka_batcher_core::config::{KafkaConfig, Sasl, Token, TokenError, TokenProvider};
use kafka_batcher_core::{Denial, Persistence, ProduceError, Producer};
use kafka_batcher_rdkafka::{RdkafkaProducer, SetupError};

const SHORT: Duration = Duration::from_secs(2);
const SECRET: &str = "hunter2-hunter2";
const FAR: i64 = 4_000_000_000_000;

const SSL: bool =
    cfg!(any(feature = "ssl", feature = "ssl-vendored", feature = "gssapi", feature = "gssapi-vendored"));

/// What a provider does when it is asked for the nth time.
type Does = fn(usize) -> Option<Result<Token, TokenError>>;

#[derive(Clone)]
struct Scripted {
    does: Does,
    asked: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait]
impl TokenProvider for Scripted {
    async fn token(&self) -> Result<Token, TokenError> {
        // tokio's timers are there.
        tokio::time::sleep(Duration::from_millis(1)).await;
        match (self.does)(self.asked.fetch_add(1, Ordering::SeqCst)) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// A producer with this provider, towards a broker without SASL; `None`, with a word on it, where TLS is not built in.
fn producer(test: &str, does: Does) -> Option<(Setup, Arc<AtomicUsize>)> {
    let asked = Arc::new(AtomicUsize::new(0));
    let provider = Scripted { does, asked: Arc::clone(&asked) };
    if !SSL {
        let config = KafkaConfig::new("127.0.0.1:1").sasl(Sasl::oauth_bearer(provider));
        let error = RdkafkaProducer::new(&config).unwrap_err();
        assert!(matches!(error, SetupError::MissingFeature { feature: "ssl", .. }), "{error}");
        println!("SKIPPED {test}: built without feature `ssl`");
        return None;
    }
    let sasl = Sasl::oauth_bearer(provider);
    Some((Setup::with(SHORT, |config| config.connect_timeout(SHORT).sasl(sasl)), asked))
}

async fn connect(setup: &Setup) -> ProduceError {
    let watch = Stopwatch::start();
    let error = setup.producer.connect(SHORT).await.unwrap_err();
    watch.assert_within(SHORT + GRACE);
    assert!(!format!("{error} {error:?}").contains(SECRET), "shown");
    error
}

#[test]
fn oauthbearer_needs_feature_ssl_and_says_so() {
    let provider = Scripted { does: |_| None, asked: Arc::default() };
    let made = RdkafkaProducer::new(&KafkaConfig::new("127.0.0.1:1").sasl(Sasl::oauth_bearer(provider)));
    assert_eq!(made.is_ok(), SSL);
    if let Err(error) = made {
        assert!(error.to_string().contains("`ssl`") && error.to_string().contains("OAUTHBEARER"), "{error}");
    }
}

#[tokio::test]
async fn a_provider_without_a_token_is_the_reason() {
    let test = "a_provider_without_a_token_is_the_reason";
    let fails: Does = |_| Some(Err(TokenError("the vault is sealed".to_owned())));
    let Some((setup, asked)) = producer(test, fails) else { return };
    for time in 1..=3 {
        let error = connect(&setup).await;
        assert_eq!(error.denial(), Some(Denial::NoToken), "{error}");
        assert!(error.to_string().contains("the vault is sealed"), "{error}");
        // Each attempt asks anew, not only librdkafka every ten seconds.
        assert!(asked.load(Ordering::SeqCst) >= time, "asked {asked:?} times");
    }
    let failure = setup.produce(&request("t", 0, numbered(0, 3))).await.unwrap_err();
    assert_eq!(failure.error.denial(), Some(Denial::NoToken), "{failure}");
    assert_eq!(failure.persistence, Persistence::NotPersisted);
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_the_reason() {
    let test = "a_provider_that_does_not_answer_is_the_reason";
    let Some((setup, _)) = producer(test, |_| None) else { return };
    for _ in 0..2 {
        let error = connect(&setup).await;
        assert_eq!(error.denial(), Some(Denial::NoToken), "{error}");
        assert!(error.to_string().contains("not answer"), "{error}");
    }
}

#[tokio::test]
async fn a_provider_that_panics_is_the_reason_and_nothing_else_breaks() {
    let test = "a_provider_that_panics_is_the_reason_and_nothing_else_breaks";
    let Some((setup, _)) = producer(test, |_| panic!("in a provider, on purpose")) else { return };
    let error = connect(&setup).await;
    assert_eq!(error.denial(), Some(Denial::NoToken), "{error}");
    assert!(error.to_string().contains("panicked"), "{error}");
    setup.producer.close(SHORT).await;
}

#[tokio::test]
async fn tokens_that_cannot_be_sent_are_refused_without_being_shown() {
    let test = "tokens_that_cannot_be_sent_are_refused_without_being_shown";
    let cases: [(Does, &str); 5] = [
        (|_| Some(Ok(Token::new(format!("{SECRET}\u{1}"), "me", FAR))), "characters"),
        (|_| Some(Ok(Token::new(format!("{SECRET}\0"), "me", FAR))), "characters"),
        (|_| Some(Ok(Token::new(SECRET, "m\0e", FAR))), "NUL"),
        (|_| Some(Ok(Token::new(SECRET, "me", 1))), "expired"),
        (|_| Some(Ok(Token::new(SECRET, "me", i64::MIN))), "expired"),
    ];
    for (does, says) in cases {
        let Some((setup, _)) = producer(test, does) else { return };
        let error = connect(&setup).await;
        assert_eq!(error.denial(), Some(Denial::NoToken), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_token_that_comes_later_is_used() {
    let test = "a_token_that_comes_later_is_used";
    static READY: AtomicBool = AtomicBool::new(false);
    let later: Does = |_| {
        Some(if READY.load(Ordering::SeqCst) {
            Ok(Token::new(SECRET, "me", i64::MAX))
        } else {
            Err(TokenError("not yet".to_owned()))
        })
    };
    let Some((setup, _)) = producer(test, later) else { return };
    assert_eq!(connect(&setup).await.denial(), Some(Denial::NoToken));
    READY.store(true, Ordering::SeqCst);
    // The embedded broker knows no SASL, so there is an error still, but it is the broker's.
    let error = connect(&setup).await;
    assert_ne!(error.denial(), Some(Denial::NoToken), "{error}");
}

#[tokio::test]
async fn a_pending_question_ends_with_the_producer() {
    let test = "a_pending_question_ends_with_the_producer";
    /// Says when it is dropped.
    #[derive(Debug)]
    struct Forever(Arc<()>);
    #[async_trait]
    impl TokenProvider for Forever {
        async fn token(&self) -> Result<Token, TokenError> {
            let _held = Arc::clone(&self.0);
            std::future::pending().await
        }
    }
    if !SSL {
        println!("SKIPPED {test}: built without feature `ssl`");
        return;
    }
    let alive = Arc::new(());
    let sasl = Sasl::oauth_bearer(Forever(Arc::clone(&alive)));
    let setup = Setup::with(LONG, |config| config.connect_timeout(LONG).sasl(sasl));
    setup.producer.connect(Duration::from_millis(300)).await.unwrap_err();
    eventually("the question is pending", || Arc::strong_count(&alive) >= 3).await;
    let watch = Stopwatch::start();
    setup.producer.close(SHORT).await;
    drop(setup.producer);
    eventually("provider and question are let go", || Arc::strong_count(&alive) == 1).await;
    watch.assert_within(SHORT + GRACE);
}
