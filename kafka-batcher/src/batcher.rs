//! The batcher: owner of everything, from the start to the report at the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_batcher_core::FlushReason;
use kafka_batcher_core::KafkaConfig;
use kafka_batcher_core::config::TopicConfig;
use kafka_batcher_core::lane::Link;
use kafka_batcher_core::shard::Shard;
use kafka_batcher_core::{Health, Snapshot};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::builder::Builder;
use crate::collector::Collector;
use crate::contain::contained_async;
use crate::observer::{Observer, snapshot};
use crate::reactor::{Signal, millis};
use crate::shared::Shared;
use crate::stats::{ShutdownReport, Stats};
use crate::topic::Topic;

/// How long storage may take for what is left when the time to shut down is up.
const STORE_TIME: Duration = Duration::from_secs(5);
/// How long the client may take to end, and then whoever is still being told of something.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// How long a batcher that is dropped without a shutdown goes on delivering, if the runtime lets it.
const DROP_TIME: Duration = Duration::from_secs(5);

/// Collects events for the configured topics and gets them into Kafka.
///
/// End it with [`shutdown`](Self::shutdown), which tells what became of everything. Dropped without
/// that, it goes on for up to 5 seconds in the background, as long as the runtime lives, and then
/// stores what it could not deliver; nobody hears how that ended but the error notifier.
#[derive(Debug)]
pub struct KafkaBatcher {
    config: KafkaConfig,
    /// Gone once it is shut down.
    running: Option<Running>,
    shared: Arc<Shared>,
    topics: Topics,
    link: watch::Receiver<Link>,
}

/// The topics of a batcher, in the order of its configuration.
type Topics = Arc<[Arc<Topic>]>;

/// The tasks of a batcher.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    topics: Topics,
    reactors: Vec<JoinHandle<()>>,
    manager: JoinHandle<()>,
}

impl KafkaBatcher {
    /// Begins to put a batcher together.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn started(
        config: KafkaConfig,
        shared: Arc<Shared>,
        topics: Topics,
        reactors: Vec<JoinHandle<()>>,
        manager: JoinHandle<()>,
        link: watch::Receiver<Link>,
    ) -> Self {
        let running = Running { shared: Arc::clone(&shared), topics: Arc::clone(&topics), reactors, manager };
        Self { config, running: Some(running), shared, topics, link }
    }

    /// The collector of a topic; `None` when the topic is not configured.
    #[must_use]
    pub fn collector(&self, topic: &str) -> Option<Collector> {
        let topic = self.topics.iter().find(|t| &*t.config.topic_name == topic)?;
        Some(Collector::new(Arc::clone(topic)))
    }

    /// The configuration.
    pub const fn config(&self) -> &KafkaConfig {
        &self.config
    }

    /// The settings in force for each topic (`get_configs_by_topic`).
    pub fn topics(&self) -> impl Iterator<Item = &TopicConfig> {
        self.topics.iter().map(|topic| &*topic.config)
    }

    /// Whether the client has reached Kafka.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.link.borrow() == Link::Up
    }

    /// What it has done so far, and what it holds now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = stats(&self.shared, &self.topics);
        stats.connected = self.is_connected();
        stats
    }

    /// A handle for those who watch: metrics, health checks.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer { shared: Arc::downgrade(&self.shared), link: self.link.clone() }
    }

    /// What it is doing and holding now.
    pub async fn snapshot(&self) -> Snapshot {
        snapshot(&self.shared, &self.link).await
    }

    /// Whether it can do its work: Kafka and storage are there, and what each topic is at.
    pub async fn health(&self) -> Health {
        self.snapshot().await.health()
    }

    /// Sends what is gathered now and waits until everything accepted before is delivered, stored or dead-lettered.
    ///
    /// **Cancellation:** a dropped future only stops waiting.
    pub async fn flush(&self) {
        for topic in &*self.topics {
            Collector::new(Arc::clone(topic)).flush().await;
        }
    }

    /// Ends the batcher: accepts nothing more, sends what it has until `deadline` from now, stores the
    /// rest, ends the client, and tells what became of everything.
    ///
    /// With storage that survives the process it ends as soon as nothing is in memory only, and what is just being sent
    /// from storage has landed; with storage that does not, it goes on trying to deliver what is stored until the deadline.
    /// It takes at most some 10 seconds longer than `deadline`, for storage and client, and for telemetry and the error
    /// notifier to be told of all that happened. Producer and storage are let go
    /// of when the collectors are dropped, too: storage that only one may have open can be opened anew then.
    ///
    /// **Cancellation:** dropping the future is as dropping the batcher.
    pub async fn shutdown(mut self, deadline: Duration) -> ShutdownReport {
        match &mut self.running {
            Some(running) => {
                let report = running.shutdown(deadline).await;
                self.running = None;
                report
            }
            None => ShutdownReport::default(),
        }
    }
}

impl Drop for KafkaBatcher {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.stop_accepting();
            let runtime = self.shared.runtime.clone();
            runtime.spawn(async move {
                tracing::warn!(target: SHUTDOWN, "the batcher was dropped without a shutdown");
                #[expect(clippy::let_underscore_must_use, reason = "it has told its report to the log")]
                let _: ShutdownReport = running.shutdown(DROP_TIME).await;
            });
        }
    }
}

const SHUTDOWN: &str = "kafka_batcher::shutdown";

/// Tells how a shutdown ended.
fn tell(report: ShutdownReport, took: Duration) {
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                target: SHUTDOWN,
                accepted = report.accepted,
                delivered = report.delivered,
                stored = report.stored,
                in_memory = report.in_memory,
                dead_lettered = report.dead_lettered,
                lost = report.lost,
                took_ms = millis(took),
                "shut down"
            )
        };
    }
    if report.is_complete() { log!(info) } else { log!(warn) }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.manager.abort();
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

impl Running {
    fn stop_accepting(&self) {
        self.topics.iter().for_each(|topic| topic.stop_accepting());
        // Whoever waits for room hears now that there will be none.
        self.shared.room.notify_waiters();
    }

    async fn shutdown(&mut self, deadline: Duration) -> ShutdownReport {
        let start = self.shared.clock.now();
        tracing::info!(target: SHUTDOWN, deadline_ms = millis(deadline), "shutting down");
        self.stop_accepting();
        self.signal(|| Signal::Flush(FlushReason::Close));
        let until = Instant::now().checked_add(deadline);
        let durable = self.shared.storage.is_durable();
        let is_done = if durable { Shard::is_settled } else { Shard::is_drained };
        let mut in_time = self.wait_for(is_done, until).await;
        if in_time {
            // What is on its way from storage may land, or the next batcher would send it again.
            self.signal(|| Signal::WindDown);
            in_time = self.wait_for(Shard::is_at_rest, until).await;
        }
        if !in_time {
            self.signal(|| Signal::Abandon);
            self.wait_for(Shard::is_at_rest, Some(Instant::now() + STORE_TIME)).await;
        }
        self.signal(|| Signal::Stop);
        // Those that have ended were waited for by a shutdown that was given up on.
        for reactor in self.reactors.iter_mut().filter(|reactor| !reactor.is_finished()) {
            // A reactor that is stuck in storage when it starts does not hear the signal, and one may wait for storage to forget.
            if tokio::time::timeout(CLOSE_TIME, &mut *reactor).await.is_err() {
                reactor.abort();
            }
        }
        self.manager.abort();
        if !self.manager.is_finished() {
            // It says on its way out that the link is down.
            drop((&mut self.manager).await);
        }
        let close = contained_async(self.shared.producer.close(CLOSE_TIME));
        if !matches!(tokio::time::timeout(CLOSE_TIME * 2, close).await, Ok(Ok(()))) {
            tracing::warn!(target: SHUTDOWN, "the client did not end as it should");
        }
        let telemetry = async {
            if let Some(telemeter) = &self.shared.telemetry {
                telemeter.catch_up(CLOSE_TIME).await;
            }
        };
        tokio::join!(telemetry, self.shared.notify.catch_up(CLOSE_TIME));
        let stats = stats(&self.shared, &self.topics);
        let report = ShutdownReport {
            accepted: stats.accepted,
            delivered: stats.delivered,
            stored: if durable { stats.stored } else { 0 },
            in_memory: stats.in_memory + if durable { 0 } else { stats.stored },
            dead_lettered: stats.dead_lettered,
            lost: stats.lost,
            maybe_duplicated: stats.maybe_duplicated,
            reconciled: stats.reconciled,
        };
        tell(report, self.shared.clock.now().since(start));
        report
    }

    fn signal(&self, signal: impl Fn() -> Signal) {
        self.topics.iter().for_each(|topic| topic.signal(signal()));
    }

    /// Waits until all shards are `done`; says whether they were in time.
    async fn wait_for(&self, done: impl Fn(&Shard) -> bool, until: Option<Instant>) -> bool {
        for topic in &*self.topics {
            loop {
                let progress = topic.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                if topic.cells().iter().all(|cell| done(&cell.shard.lock())) {
                    break;
                }
                match until {
                    Some(until) => {
                        if tokio::time::timeout_at(until, progress).await.is_err() {
                            return false;
                        }
                    }
                    None => progress.await,
                }
            }
        }
        true
    }
}

fn stats(shared: &Shared, topics: &[Arc<Topic>]) -> Stats {
    let mut stats = Stats::default();
    topics.iter().for_each(|topic| stats.add(&topic.stats()));
    let (bytes, events) = shared.budget.used();
    Stats { in_memory: events as u64, in_memory_bytes: bytes as u64, ..stats }
}
