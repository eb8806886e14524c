//! Every call ends in time, whatever the brokers do, and says rightly whether records were written.
//!
//! `KAFKA_BATCHER_REPETITIONS` is how often each is tried, 2 by default. Freezing nodes and moving leaders wants
//! `KAFKA_BATCHER_BOOTSTRAP` and, to do it with, `KAFKA_BATCHER_BROKER_CTL`.

mod common;

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::ledger::Ledger;
use common::*;
use kafka_batcher_core::config::KafkaConfig;
use kafka_batcher_core::{Delivered, ErrorKind, Failed, Persistence, ProduceFailure, Producer};
use kafka_batcher_rdkafka::RdkafkaProducer;
use kafka_batcher_testkit::proxy::{FaultProxy, Side, Swallow};
use kafka_batcher_testkit::target::Target;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Mutex;

/// For a batch; librdkafka's verdict comes before it.
const TIMEOUT: Duration = Duration::from_millis(2500);

fn repetitions() -> usize {
    std::env::var("KAFKA_BATCHER_REPETITIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

fn config(bootstrap: &str, timeout: Duration) -> KafkaConfig {
    KafkaConfig::new(bootstrap).produce_timeout(timeout).connect_timeout(timeout)
}

fn producer(bootstrap: &str, timeout: Duration) -> RdkafkaProducer {
    RdkafkaProducer::new(&config(bootstrap, timeout)).unwrap()
}

/// Sends a batch and checks that there is an answer in time.
async fn send(
    producer: &RdkafkaProducer,
    topic: &str,
    batch: kafka_batcher_core::Batch,
    timeout: Duration,
) -> Result<Delivered, ProduceFailure> {
    let watch = Stopwatch::start();
    let result = producer.produce(&request(topic, 0, batch), timeout).await;
    watch.assert_within(timeout + GRACE);
    result
}

/// Sends single records until one is delivered: that the client works, and the broker after what was done to it.
async fn until_delivered(producer: &RdkafkaProducer, topic: &str, ledger: &mut Ledger) {
    let deadline = Instant::now() + LONG;
    loop {
        let result = send(producer, topic, ledger.next(1), TIMEOUT).await;
        ledger.note(1, &result);
        match result {
            Ok(_) => return,
            Err(failure) => assert!(Instant::now() < deadline, "{failure}"),
        }
    }
}

/// Nobody there can take a record: each call ends in time, and nothing was written.
async fn nothing_gets_through(bootstrap: &str) {
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..repetitions() {
        let bootstrap = bootstrap.to_owned();
        attempts.spawn(async move {
            // librdkafka's verdict, up to a second late, comes before our deadline on a busy machine, too.
            let config = config(&bootstrap, TIMEOUT).property("message.timeout.ms", "600");
            let producer = RdkafkaProducer::new(&config).unwrap();
            let watch = Stopwatch::start();
            let error = producer.connect(TIMEOUT).await.unwrap_err();
            watch.assert_within(TIMEOUT + GRACE);
            assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
            for count in [1, 3000] {
                let failure = send(&producer, "t", numbered(0, count), TIMEOUT).await.unwrap_err();
                assert_eq!(failure.error.kind(), ErrorKind::Transient, "{failure}");
                assert_eq!(failure.failed, Failed::All, "{failure}");
                assert_eq!(failure.persistence, Persistence::NotPersisted, "{failure}");
            }
            // Shorter than librdkafka's own: what it still holds may be written later.
            let hurried = Duration::from_millis(200);
            let failure = send(&producer, "t", numbered(0, 10), hurried).await.unwrap_err();
            assert_eq!(failure.persistence, Persistence::MaybePersisted, "{failure}");
            let watch = Stopwatch::start();
            producer.close(TIMEOUT).await;
            watch.assert_within(TIMEOUT + GRACE);
        });
    }
    while let Some(attempt) = attempts.join_next().await {
        attempt.unwrap();
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens() {
    // Bound and not listening: nobody else gets the port, and connections are refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    nothing_gets_through(&socket.local_addr().unwrap().to_string()).await;
}

#[tokio::test]
async fn a_listener_that_accepts_and_never_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepting = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            open.push(listener.accept().await.unwrap());
        }
    });
    nothing_gets_through(&address).await;
    accepting.abort();
}

#[tokio::test]
async fn a_listener_whose_queue_is_full() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(connection);
        assert!(waiting.len() < 100, "the queue is never full");
    }
    nothing_gets_through(&address.to_string()).await;
}

/// A topic with one partition, of the Kafka the environment names or an embedded one, behind a proxy.
struct Behind {
    target: Target,
    proxy: FaultProxy,
    topic: String,
}

impl Behind {
    async fn new(test: &str) -> Self {
        let target = Target::new("plaintext", std::env::var("KAFKA_BATCHER_BOOTSTRAP").ok(), None).unwrap();
        let topic = unique(test);
        target.create_topic(&topic, 1).await.unwrap();
        let proxy = FaultProxy::start(target.bootstrap()).unwrap();
        Self { target, proxy, topic }
    }

    async fn log(&self) -> Vec<String> {
        values(&self.target, &self.topic).await
    }
}

async fn values(target: &Target, topic: &str) -> Vec<String> {
    let value = |record: kafka_batcher_testkit::reader::ReadRecord| {
        String::from_utf8(record.value.expect("a value")).expect("text")
    };
    target.read(topic, LONG).await.unwrap().into_iter().map(value).collect()
}

fn unique(name: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    format!("rdkafka-{name}-{now}")
}

/// A working client meets this fault; what it says must fit with the log.
async fn fault(test: &str, break_it: impl Fn(&FaultProxy)) {
    let behind = Behind::new(test).await;
    let mut ledger = Ledger::default();
    for _ in 0..repetitions() {
        let producer = producer(behind.proxy.bootstrap(), TIMEOUT);
        until_delivered(&producer, &behind.topic, &mut ledger).await;
        break_it(&behind.proxy);
        for count in [1, 2000] {
            let result = send(&producer, &behind.topic, ledger.next(count), TIMEOUT).await;
            let failure = result.as_ref().expect_err("there is no answer");
            assert_eq!(failure.error.kind(), ErrorKind::Transient, "{failure}");
            ledger.note(count, &result);
        }
        behind.proxy.heal();
        producer.close(LONG).await;
    }
    let (delivered, _, maybe) = ledger.counts();
    assert_eq!(delivered, repetitions(), "the first of each client");
    assert!(maybe >= repetitions(), "what is on its way may be written");
    ledger.check(&behind.log().await);
}

#[tokio::test]
async fn answers_get_lost() {
    fault("answers", |proxy| proxy.swallow(Swallow::All)).await;
}

#[tokio::test]
async fn answers_to_batches_get_lost() {
    fault("produce-answers", |proxy| proxy.swallow(Swallow::Produce)).await;
}

#[tokio::test]
async fn connections_stall() {
    fault("stall", |proxy| {
        proxy.stall(Side::Requests);
        proxy.stall(Side::Answers);
    })
    .await;
}

/// Tests that do something to nodes run one at a time.
static NODES: Mutex<()> = Mutex::const_new(());

/// Does things to the nodes of a real Kafka.
struct Nodes {
    program: PathBuf,
    target: Target,
}

impl Nodes {
    fn new(test: &str) -> Option<Self> {
        let bootstrap = real_kafka(test)?;
        let program = std::env::var("KAFKA_BATCHER_BROKER_CTL").ok().filter(|program| !program.is_empty());
        if program.is_none() {
            println!("SKIPPED {test}: KAFKA_BATCHER_BROKER_CTL is not set");
        }
        let target = Target::new("plaintext", Some(bootstrap), None).unwrap();
        Some(Self { program: program?.into(), target })
    }

    fn call(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.program).arg("broker").args(arguments).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "{arguments:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
        said
    }

    fn leader(&self, topic: &str) -> String {
        self.call(&["leader", topic]).lines().last().expect("a line").trim().to_owned()
    }
}

/// A node that is stopped, until this is dropped.
struct Frozen<'a> {
    nodes: &'a Nodes,
    node: String,
}

impl<'a> Frozen<'a> {
    fn new(nodes: &'a Nodes, node: String) -> Self {
        nodes.call(&["stop", &node]);
        Self { nodes, node }
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.nodes.call(&["continue", &self.node]);
        self.nodes.call(&["wait"]);
    }
}

#[tokio::test]
async fn a_node_that_is_frozen() {
    let _one_at_a_time = NODES.lock().await;
    let Some(nodes) = Nodes::new("a_node_that_is_frozen") else { return };
    let topic = unique("frozen");
    nodes.target.create_topic(&topic, 1).await.unwrap();
    let mut ledger = Ledger::default();
    for _ in 0..repetitions() {
        let warm = producer(nodes.target.bootstrap(), TIMEOUT);
        until_delivered(&warm, &topic, &mut ledger).await;
        let frozen = Frozen::new(&nodes, nodes.leader(&topic));
        for count in [1, 2000] {
            let result = send(&warm, &topic, ledger.next(count), TIMEOUT).await;
            ledger.note(count, &result);
        }
        let stranger = producer(nodes.target.bootstrap(), TIMEOUT);
        let result = send(&stranger, &topic, ledger.next(10), TIMEOUT).await;
        ledger.note(10, &result);
        drop(frozen);
        // It goes on, with what stands in its sockets, and then with us.
        until_delivered(&warm, &topic, &mut ledger).await;
        warm.close(LONG).await;
        stranger.close(LONG).await;
    }
    let (delivered, not, maybe) = ledger.counts();
    println!("delivered {delivered}, not written {not}, maybe {maybe}");
    assert!(not + maybe >= repetitions(), "a frozen node was noticed");
    ledger.check(&values(&nodes.target, &topic).await);
}

#[tokio::test]
async fn a_leader_that_moves() {
    let test = "a_leader_that_moves";
    let _one_at_a_time = NODES.lock().await;
    let Some(nodes) = Nodes::new(test).map(Arc::new) else { return };
    if nodes.target.bootstrap().split(',').count() < 3 {
        println!("SKIPPED {test}: there are fewer than three nodes");
        return;
    }
    let topic = unique("moves");
    nodes.target.create_topic(&topic, 1).await.unwrap();
    let timeout = Duration::from_secs(5);
    let producer = producer(nodes.target.bootstrap(), timeout);
    let mut ledger = Ledger::default();
    for _ in 0..repetitions() {
        let moved = Arc::new(AtomicBool::new(false));
        let before = nodes.leader(&topic);
        let moving = tokio::task::spawn_blocking({
            let (nodes, topic, moved) = (Arc::clone(&nodes), topic.clone(), Arc::clone(&moved));
            move || {
                nodes.call(&["move-leader", &topic]);
                moved.store(true, Ordering::SeqCst);
            }
        });
        let mut after = 0;
        while after < 5 {
            after += usize::from(moved.load(Ordering::SeqCst));
            let result = send(&producer, &topic, ledger.next(300), timeout).await;
            ledger.note(300, &result);
        }
        moving.await.unwrap();
        assert_ne!(nodes.leader(&topic), before);
    }
    let (delivered, not, maybe) = ledger.counts();
    println!("delivered {delivered}, not written {not}, maybe {maybe}");
    assert_eq!((not, maybe), (0, 0), "a move is shorter than the timeout");
    ledger.check(&values(&nodes.target, &topic).await);
}
