//! TLS and SASL on real Kafka: who is let in, and what those are told who are not.
//!
//! Needs Cargo feature `ssl`, and `KAFKA_BATCHER_SECURITY` to name the file that tells how a secured cluster is reached
//! (`cargo xtask broker up --secure`). With `KAFKA_BATCHER_SECURITY_ROW` only that row is tried.

mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use common::*;
use kafka_batcher_core::config::{KafkaConfig, Sasl, Token, TokenError, TokenProvider, TopicSettings};
use kafka_batcher_core::{Denial, ErrorKind, Failed, Persistence, ProduceError, ProduceFailure, Producer};
use kafka_batcher_rdkafka::RdkafkaProducer;
use kafka_batcher_testkit::lines::{Lines, leak, whole};
use kafka_batcher_testkit::target::{RefusedCase, Target};

/// A timeout within which everybody is told.
const TIMEOUT: Duration = Duration::from_secs(6);

const ROWS: [&str; 6] = ["tls", "mutual_tls", "sasl_plain", "scram_sha_256", "scram_sha_512", "oauthbearer"];

const SSL: bool =
    cfg!(any(feature = "ssl", feature = "ssl-vendored", feature = "gssapi", feature = "gssapi-vendored"));

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The file that tells how the secured cluster is reached.
fn file(test: &str) -> Option<PathBuf> {
    if !SSL {
        println!("SKIPPED {test}: built without feature `ssl`");
        return None;
    }
    let file = variable("KAFKA_BATCHER_SECURITY");
    if file.is_none() {
        println!("SKIPPED {test}: KAFKA_BATCHER_SECURITY is not set");
    }
    file.map(PathBuf::from)
}

/// The ways of getting in that are to be tried.
fn targets(test: &str) -> Vec<Target> {
    let Some(file) = file(test) else { return Vec::new() };
    let only = variable("KAFKA_BATCHER_SECURITY_ROW").filter(|row| row != "plaintext");
    let rows = ROWS.into_iter().filter(|row| only.as_ref().is_none_or(|only| only == row));
    let targets: Vec<_> = rows.map(|row| Target::new(row, None, Some(&file)).unwrap()).collect();
    assert!(!targets.is_empty(), "no row to try");
    targets
}

fn unique(name: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    format!("rdkafka-{name}-{now}")
}

fn producer(config: &KafkaConfig, topic: &str) -> RdkafkaProducer {
    let config = config
        .clone()
        .with_topic(TopicSettings::new(topic))
        .produce_timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        // Its verdict, up to a second late, comes before our deadline on a busy machine, too.
        .property("message.timeout.ms", "2500");
    RdkafkaProducer::new(&config).unwrap()
}

#[tokio::test]
async fn every_way_of_getting_in_delivers() {
    for target in targets("every_way_of_getting_in_delivers") {
        let (row, topic) = (target.row().to_owned(), unique("in"));
        target.create_topic(&topic, 2).await.unwrap();
        let producer = producer(&target.config(), &topic);
        producer.connect(LONG).await.unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!(producer.partition_count(&topic, LONG).await.unwrap().get(), 2, "{row}");
        let records = every_kind();
        let delivered = producer.produce(&request(&topic, 1, batch(records.clone())), LONG).await;
        assert_eq!(delivered.unwrap_or_else(|f| panic!("{row}: {f}")).base_offset, Some(0), "{row}");
        assert_same(&target.read(&topic, LONG).await.unwrap(), &records, 1);
        producer.close(LONG).await;
    }
}

/// Does something with all refused cases at once: most of it is waiting.
async fn for_each_case<F: Future<Output = ()> + Send + 'static>(
    target: &Target,
    check: impl Fn(RefusedCase, Vec<String>) -> F,
) {
    assert!(target.refused().len() >= 8, "only {:?}", target.refused());
    let mut checks = tokio::task::JoinSet::new();
    for case in target.refused() {
        checks.spawn(check(case.clone(), target.secrets().to_vec()));
    }
    while let Some(checked) = checks.join_next().await {
        checked.unwrap();
    }
}

/// Tries to get in; what it is told.
async fn connect(case: &RefusedCase) -> ProduceError {
    let producer = producer(&case.config, "t");
    let watch = Stopwatch::start();
    let error = producer.connect(TIMEOUT).await.expect_err(&case.name);
    watch.assert_within(TIMEOUT + GRACE);
    error
}

/// Tries to write; what it is told.
async fn produce(case: &RefusedCase) -> (ProduceFailure, Duration) {
    let topic = case.topic.as_deref().unwrap_or("t");
    let producer = producer(&case.config, topic);
    let watch = Stopwatch::start();
    let failure = producer.produce(&request(topic, 0, numbered(0, 3)), TIMEOUT).await.expect_err(&case.name);
    watch.assert_within(TIMEOUT + GRACE);
    (failure, watch.elapsed())
}

fn check(case: &RefusedCase, error: &ProduceError, secrets: &[String]) {
    let name = &case.name;
    assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {error}");
    assert_eq!(error.denial(), Some(case.expect), "{name}: {error}");
    assert!(!secrets.iter().any(|secret| format!("{error} {error:?}").contains(secret)), "{name}");
    println!("{name}: {}: {error}", case.expect);
}

#[tokio::test]
async fn every_refusal_says_why() {
    let Some(target) = targets("every_refusal_says_why").pop() else { return };
    for_each_case(&target, |case, secrets| async move {
        let (failure, took) = produce(&case).await;
        check(&case, &failure.error, &secrets);
        let (persistence, failed) = (failure.persistence, &failure.failed);
        assert_eq!(
            (persistence, failed),
            (Persistence::NotPersisted, &Failed::All),
            "{} {took:?}",
            case.name
        );
        if case.topic.is_none() {
            let error = connect(&case).await;
            check(&case, &error, &secrets);
            let endpoint = &case.config.endpoints().unwrap()[0];
            assert!(error.to_string().contains(endpoint.as_str()), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_said_each_time() {
    let Some(target) = targets("a_refusal_is_said_each_time").pop() else { return };
    for_each_case(&target, |case, secrets| async move {
        let topic = case.topic.as_deref().unwrap_or("t");
        let producer = producer(&case.config, topic);
        // librdkafka says the same thing once in 30 seconds.
        for _ in 0..3 {
            let watch = Stopwatch::start();
            let failure = producer.produce(&request(topic, 0, numbered(0, 1)), TIMEOUT).await.unwrap_err();
            check(&case, &failure.error, &secrets);
            if case.topic.is_none() {
                check(&case, &producer.connect(TIMEOUT).await.unwrap_err(), &secrets);
            }
            watch.assert_within(TIMEOUT * 2 + GRACE);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_in_words() {
    let Some(target) = targets("what_is_wrong_with_a_certificate_is_said_in_words").pop() else { return };
    for (denial, words) in [
        (Denial::CertificateExpired, "has expired"),
        (Denial::UnknownAuthority, "trusted"),
        (Denial::HostName, "another"),
        (Denial::ClientCertificate, "certificate"),
        (Denial::Credentials, "uthentication"),
    ] {
        let case = target.refused().iter().find(|case| case.expect == denial).expect("such a case");
        let error = connect(case).await;
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn who_may_not_write_still_gets_in() {
    let Some(target) = targets("who_may_not_write_still_gets_in").pop() else { return };
    for case in target.refused().iter().filter(|case| case.topic.is_some()) {
        let topic = case.topic.as_deref().unwrap();
        let producer = producer(&case.config, topic);
        producer.connect(TIMEOUT).await.unwrap();
        for _ in 0..3 {
            let failure = producer.produce(&request(topic, 0, numbered(0, 3)), TIMEOUT).await.unwrap_err();
            assert_eq!(failure.error.denial(), Some(Denial::NotAuthorized), "{failure}");
            assert!(failure.error.to_string().contains(topic), "{failure}");
        }
        // The refusal is of the topic, not of the client.
        producer.connect(TIMEOUT).await.unwrap();
    }
}

/// Gives the tokens of two other providers: first of the one, then of the other.
#[derive(Debug)]
struct FirstThen {
    first: Arc<dyn TokenProvider>,
    then: Arc<dyn TokenProvider>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl TokenProvider for FirstThen {
    async fn token(&self) -> Result<Token, TokenError> {
        let first = self.asked.fetch_add(1, Ordering::SeqCst) == 0;
        let mut token = if first { self.first.token().await? } else { self.then.token().await? };
        if first {
            // Only the client believes that: it asks for the next after 80% of the time.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
            token.expires_at = now as i64 + 4000;
        }
        Ok(token)
    }
}

#[tokio::test]
async fn a_client_that_is_refused_later_is_told_too() {
    let test = "a_client_that_is_refused_later_is_told_too";
    let Some(target) = targets(test).into_iter().find(|target| target.row() == "oauthbearer") else { return };
    let case = target.refused().iter().find(|case| case.name == "bad_token").expect("a bad token");
    let provider =
        |config: &KafkaConfig| config.get_sasl().and_then(|sasl| sasl.tokens.clone()).expect("a token");
    let asked = Arc::new(AtomicUsize::new(0));
    let tokens = FirstThen {
        first: provider(&target.config()),
        then: provider(&case.config),
        asked: Arc::clone(&asked),
    };
    let topic = unique("later");
    target.create_topic(&topic, 1).await.unwrap();
    // Idle connections are closed, so that the next record needs a new one, and for that the next token.
    let config = target.config().sasl(Sasl::oauth_bearer(tokens)).property("connections.max.idle.ms", "1000");
    let producer = producer(&config, &topic);
    let one = |n| request(&topic, 0, numbered(n, 1));
    producer.produce(&one(0), TIMEOUT).await.unwrap();
    eventually("asked again", || asked.load(Ordering::SeqCst) > 1).await;
    let deadline = Instant::now() + LONG;
    let mut sent = 1;
    let failure = loop {
        tokio::time::sleep(Duration::from_secs(3)).await; // longer than connections may idle
        let watch = Stopwatch::start();
        let result = producer.produce(&one(sent), TIMEOUT).await;
        watch.assert_within(TIMEOUT + GRACE);
        match result {
            Ok(_) => sent += 1,
            Err(failure) => break failure,
        }
        assert!(Instant::now() < deadline, "never refused");
    };
    assert_eq!(failure.error.denial(), Some(Denial::Credentials), "{failure}");
    assert_eq!(failure.persistence, Persistence::NotPersisted, "{failure}");
    assert_eq!(target.read(&topic, LONG).await.unwrap().len(), sent);
}

#[tokio::test]
async fn no_secret_is_shown_anywhere() {
    let targets = targets("no_secret_is_shown_anywhere");
    if targets.is_empty() {
        return;
    }
    let lines = Lines::keep().unwrap();
    let shown = Arc::new(Mutex::new(String::new()));
    let topic = unique("secrets");
    targets[0].create_topic(&topic, 1).await.unwrap();
    let secrets = targets[0].secrets();
    assert!(secrets.len() >= 6, "only {} secrets", secrets.len());
    for target in &targets {
        let config = target.config().property("debug", "all");
        let producer = producer(&config, &topic);
        producer.connect(LONG).await.unwrap();
        producer.produce(&request(&topic, 0, numbered(0, 3)), LONG).await.unwrap();
        *shown.lock().unwrap() += &format!("{config:?} {producer:?} {target:?}\n");
        producer.close(LONG).await;
    }
    for_each_case(&targets[0], |case, secrets| {
        let shown = Arc::clone(&shown);
        async move {
            let config = case.config.clone().property("debug", "all");
            let topic = case.topic.clone().unwrap_or_else(|| "t".to_owned());
            let producer = producer(&config, &topic);
            let failure = producer.produce(&request(&topic, 0, numbered(0, 3)), TIMEOUT).await.unwrap_err();
            let mut text = format!("{config:?} {producer:?} {case:?} {}", whole(&failure));
            text += &producer.connect(TIMEOUT).await.err().as_ref().map(whole).unwrap_or_default();
            text += &producer
                .partition_count(&topic, TIMEOUT)
                .await
                .err()
                .as_ref()
                .map(whole)
                .unwrap_or_default();
            // A secret where it does not belong. librdkafka takes what begins with a digit for a number, whatever follows.
            let misplaced = format!("x{}", secrets[0]);
            let wrong = RdkafkaProducer::new(&config.property("linger.ms", misplaced)).unwrap_err();
            text += &whole(&wrong);
            producer.close(TIMEOUT).await;
            *shown.lock().unwrap() += &text;
        }
    })
    .await;
    let shown = shown.lock().unwrap().clone();
    let lines = lines.text();
    assert!(lines.contains("SASL mechanism") && lines.len() > 100_000, "the debug lines are there");
    assert_eq!(leak(&shown, secrets), None, "what was shown");
    assert_eq!(leak(&lines, secrets), None, "the log");
}
