//! Calls of the producer while Kafka can't be reached, is frozen, or moves leaders: each ends in time, and what it says of
//! its records is held against what Kafka holds.
//!
//! Freezing nodes and moving leaders takes a cluster of `cargo xtask broker up`, of three nodes for the latter, and
//! `KAFKA_BATCHER_BROKER_CTL`, the path of the program xtask.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kafka_batcher::core::{
    BatchBuilder, Delivered, Failed, Persistence, ProduceFailure, ProduceRequest, TopicConfig,
};
use kafka_batcher::{KafkaConfig, Producer, Record, TopicSettings};
use kafka_batcher_testkit::target::Target;

use crate::{Backend, Failure, unused};

const TIMEOUT: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(30);
/// Calls at a time.
const TOGETHER: usize = 10;
/// Records a call.
const RECORDS: u64 = 20;

pub(crate) async fn run(backend: Backend, target: &Arc<Target>, times: usize) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    unreachable(backend, target, "port refused", &nobody, times).await?;
    unreachable(backend, target, "black hole", &listener.local_addr()?.to_string(), times).await?;
    let Some(nodes) = Nodes::from_env() else {
        println!(
            "SKIPPED node frozen, leader moved: KAFKA_BATCHER_BROKER_CTL or KAFKA_BATCHER_BOOTSTRAP is not set"
        );
        return Ok(());
    };
    let nodes = Arc::new(nodes);
    frozen(backend, target, &nodes, times).await?;
    if target.bootstrap().split(',').count() < 2 {
        println!("SKIPPED leader moved: there is one node");
        return Ok(());
    }
    moved(backend, target, &nodes, times).await
}

/// What was called, and what came of it.
struct Ledger {
    topic: Arc<TopicConfig>,
    next: AtomicU64,
    calls: Mutex<Vec<(u64, Result<Delivered, ProduceFailure>)>>,
    slowest: Mutex<Duration>,
}

impl Ledger {
    async fn new(target: &Target, what: &str) -> Result<Self, Failure> {
        let name = unused(what);
        target.create_topic(&name, 1).await?;
        let config = KafkaConfig::new("any:1").with_topic(TopicSettings::new(name));
        Ok(Self {
            topic: Arc::new(config.topics()?.remove(0)),
            next: AtomicU64::new(0),
            calls: Mutex::default(),
            slowest: Mutex::default(),
        })
    }

    fn config(&self, target: &Target, endpoints: &str) -> KafkaConfig {
        let settings = TopicSettings::new(&*self.topic.topic_name);
        target.config_at(endpoints).with_topic(settings).produce_timeout(TIMEOUT).connect_timeout(TIMEOUT)
    }

    /// One call, timed.
    async fn produce(&self, producer: &dyn Producer, timeout: Duration) -> Result<(), Failure> {
        let from = self.next.fetch_add(RECORDS, SeqCst);
        let mut builder = BatchBuilder::new();
        for value in from..from + RECORDS {
            let record = Record::new(value.to_string());
            builder.push(&record.as_ref(), 1_700_000_000_000, None, 1_000_000);
        }
        let batch = builder.seal().ok_or("no record")?;
        let request = ProduceRequest::new(Arc::clone(&self.topic), 0, batch);
        let start = Instant::now();
        let answer = tokio::time::timeout(timeout + LONG, producer.produce(&request, timeout)).await;
        let took = start.elapsed();
        let answer = answer.map_err(|_| format!("no answer {took:?} after {timeout:?} were given"))?;
        if took > timeout + GRACE {
            return Err(format!("took {took:?} of {timeout:?}: {answer:?}").into());
        }
        let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        *slowest = took.max(*slowest);
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push((from, answer));
        Ok(())
    }

    /// Holds what was said against what is there, and prints the sums.
    async fn check(&self, target: &Target, what: &str) -> Result<Sums, Failure> {
        let mut there: BTreeMap<u64, u64> = BTreeMap::new();
        for record in target.read(&self.topic.topic_name, LONG).await? {
            let value = String::from_utf8(record.value.unwrap_or_default())?;
            *there.entry(value.parse()?).or_default() += 1;
        }
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = Sums::default();
        for (from, answer) in calls.iter() {
            let failed = |index: u64| match answer {
                Ok(_) => None,
                Err(failure) => match &failure.failed {
                    Failed::Some(indexes) if !indexes.iter().any(|i| u64::from(*i) == index) => None,
                    _ => Some(failure.persistence),
                },
            };
            for index in 0..RECORDS {
                let times = there.get(&(from + index)).copied().unwrap_or_default();
                sums.twice += times.saturating_sub(1);
                let lie = match failed(index) {
                    None => times == 0,
                    Some(Persistence::NotPersisted) => times > 0,
                    Some(Persistence::MaybePersisted) => false,
                };
                if lie {
                    return Err(format!(
                        "{what}: record {} is there {times} times: {answer:?}",
                        from + index
                    )
                    .into());
                }
            }
            match answer {
                Ok(_) => sums.delivered += 1,
                Err(failure) if failure.persistence == Persistence::NotPersisted => sums.not += 1,
                Err(_) => sums.maybe += 1,
            }
        }
        let slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        println!(
            "{what}: {} calls: {} delivered, {} not written, {} maybe; {} records twice; slowest {slowest:?} of {TIMEOUT:?}",
            calls.len(),
            sums.delivered,
            sums.not,
            sums.maybe,
            sums.twice
        );
        Ok(sums)
    }
}

#[derive(Default)]
struct Sums {
    delivered: usize,
    not: usize,
    maybe: usize,
    twice: u64,
}

async fn unreachable(
    backend: Backend,
    target: &Arc<Target>,
    what: &str,
    address: &str,
    times: usize,
) -> Result<(), Failure> {
    let ledger = Ledger::new(target, "unreachable").await?;
    let mut left = times;
    while left > 0 {
        let producer = backend.producer(&ledger.config(target, address))?;
        let calls = (0..left.min(TOGETHER)).map(|_| ledger.produce(&*producer, TIMEOUT));
        all(calls).await?;
        producer.close(TIMEOUT).await;
        left = left.saturating_sub(TOGETHER);
    }
    let sums = ledger.check(target, what).await?;
    if sums.not != times {
        return Err(
            format!("{what}: nothing can have been written, and {} of {times} say so", sums.not).into()
        );
    }
    Ok(())
}

async fn frozen(backend: Backend, target: &Arc<Target>, nodes: &Nodes, times: usize) -> Result<(), Failure> {
    let ledger = Ledger::new(target, "frozen").await?;
    let mut left = times;
    while left > 0 {
        let together = left.min(TOGETHER);
        let mut producers = Vec::new();
        for index in 0..together {
            let producer = backend.producer(&ledger.config(target, target.bootstrap()))?;
            // Every other one knows the leader already.
            if index % 2 == 0 {
                ledger.produce(&*producer, LONG).await?;
            }
            producers.push(producer);
        }
        let node = nodes.leader(&ledger.topic.topic_name)?;
        nodes.call(&["stop", &node])?;
        let calls = all(producers.iter().map(|producer| ledger.produce(&**producer, TIMEOUT))).await;
        nodes.call(&["continue", &node])?;
        nodes.call(&["wait"])?;
        calls?;
        for producer in producers {
            producer.close(TIMEOUT).await;
        }
        left -= together;
    }
    // What stood in sockets is written now, if ever.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sums = ledger.check(target, "node frozen").await?;
    if sums.not + sums.maybe == 0 {
        return Err("nobody noticed that the node was frozen".into());
    }
    Ok(())
}

async fn moved(
    backend: Backend,
    target: &Arc<Target>,
    nodes: &Arc<Nodes>,
    times: usize,
) -> Result<(), Failure> {
    let ledger = Ledger::new(target, "moved").await?;
    let producer = backend.producer(&ledger.config(target, target.bootstrap()))?;
    for _ in 0..times {
        let done = Arc::new(AtomicBool::new(false));
        let moving = tokio::task::spawn_blocking({
            let (nodes, done, topic) =
                (Arc::clone(nodes), Arc::clone(&done), ledger.topic.topic_name.to_string());
            move || {
                let moved = nodes.call(&["move-leader", &topic]);
                done.store(true, SeqCst);
                moved
            }
        });
        let mut after = 0;
        while after < 3 {
            after += usize::from(done.load(SeqCst));
            ledger.produce(&*producer, TIMEOUT).await?;
        }
        moving.await??;
    }
    producer.close(TIMEOUT).await;
    let sums = ledger.check(target, &format!("leader moved {times} times")).await?;
    if sums.delivered == 0 {
        return Err("nothing was delivered".into());
    }
    Ok(())
}

/// Awaits all of them at once; gives the first error.
async fn all(calls: impl Iterator<Item = impl Future<Output = Result<(), Failure>>>) -> Result<(), Failure> {
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let mut result = Ok(());
    std::future::poll_fn(|cx| {
        calls.retain_mut(|call| match call.as_mut().poll(cx) {
            std::task::Poll::Ready(Ok(())) => false,
            std::task::Poll::Ready(Err(error)) => {
                result = Err(error);
                false
            }
            std::task::Poll::Pending => true,
        });
        if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    result
}

/// Does things to the nodes of a real Kafka.
struct Nodes {
    program: String,
}

impl Nodes {
    fn from_env() -> Option<Self> {
        std::env::var("KAFKA_BATCHER_BOOTSTRAP").ok().filter(|bootstrap| !bootstrap.is_empty())?;
        let program = std::env::var("KAFKA_BATCHER_BROKER_CTL").ok().filter(|program| !program.is_empty())?;
        Some(Self { program })
    }

    fn call(&self, arguments: &[&str]) -> Result<String, Failure> {
        let output = Command::new(&self.program).arg("broker").args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            return Err(format!("broker {arguments:?}: {said} {error}").into());
        }
        Ok(said)
    }

    fn leader(&self, topic: &str) -> Result<String, Failure> {
        let said = self.call(&["leader", topic])?;
        Ok(said.lines().last().unwrap_or_default().trim().to_owned())
    }
}
