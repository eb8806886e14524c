//! The [`Producer`] itself.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher_core::config::KafkaConfig;
use kafka_batcher_core::{
    Capabilities, Delivered, ErrorKind, Found, Persistence, ProduceError, ProduceFailure, ProduceRequest,
    Producer, Search, TopicConfig,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::attempt::{Progress, Sending};
use crate::cluster::Cluster;
use crate::config::{Settings, check_topic};
use crate::engine::Engine;
use crate::error::SetupError;
use crate::records;
use crate::search::Looking;
use crate::trouble::Trouble;

/// Sends batches with rskafka.
///
/// Made without touching the network; see the [crate's documentation](crate) for how it works and what it promises.
#[derive(Debug)]
pub struct RskafkaProducer {
    settings: Arc<Settings>,
    state: Mutex<State>,
    /// Each call under way holds a receiver.
    under_way: watch::Sender<()>,
}

#[derive(Debug)]
enum State {
    Unused,
    Running(Arc<Running>),
    Closed,
}

/// The thread, and what lives on it.
#[derive(Debug)]
struct Running {
    engine: Engine,
    cluster: Arc<Cluster>,
}

/// What a call may take beyond its deadline before it is answered without the engine's thread, which is busy with
/// encoding then.
const BUSY: Duration = Duration::from_millis(100);

impl RskafkaProducer {
    /// A producer for this configuration. Checks all of it, connects to nothing.
    ///
    /// Certificates and keys are read here, and not again.
    ///
    /// # Errors
    /// [`SetupError`] when a setting can't be used, is something rskafka can't do, or needs a Cargo feature that is not
    /// enabled.
    pub fn new(config: &KafkaConfig) -> Result<Self, SetupError> {
        let settings = Arc::new(Settings::new(config)?);
        Ok(Self { settings, state: Mutex::new(State::Unused), under_way: watch::Sender::new(()) })
    }

    fn running(&self) -> Result<Arc<Running>, Trouble> {
        let mut state = self.state.lock();
        match &*state {
            State::Running(running) => Ok(Arc::clone(running)),
            State::Closed => Err(closed()),
            State::Unused => {
                let engine = Engine::start().map_err(|error| {
                    Trouble::passing(format!("the client's thread does not start: {error}"))
                })?;
                let cluster = Arc::new(Cluster::new(Arc::clone(&self.settings)));
                let running = Arc::new(Running { engine, cluster });
                *state = State::Running(Arc::clone(&running));
                Ok(running)
            }
        }
    }

    /// Does something on the engine's thread until `deadline`.
    async fn call<T, F>(
        &self,
        deadline: Instant,
        work: impl FnOnce(Arc<Cluster>, Handle) -> F + Send,
    ) -> Result<T, Trouble>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Trouble>> + Send + 'static,
    {
        let running = self.running()?;
        let task = running.engine.spawn(work(Arc::clone(&running.cluster), Handle::current()));
        // Not held while waiting, or the producer would live on when it is dropped.
        drop(running);
        match timeout_at(deadline + BUSY, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) if error.is_panic() => Err(Trouble::new(ErrorKind::Fatal, "rskafka panicked")),
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(Trouble::silence("no answer in time")),
        }
    }

    fn error(&self, what: &str, trouble: &Trouble) -> ProduceError {
        let text = self.settings.clean(&trouble.text);
        Trouble { text, ..trouble.clone() }.error(what)
    }

    /// Sends a batch of which nothing is unfit.
    async fn send(
        &self,
        request: &ProduceRequest,
        batch: kafka_batcher_core::Batch,
        compression: rskafka::client::partition::Compression,
        timeout: Duration,
    ) -> Result<Delivered, ProduceFailure> {
        let deadline = deadline(timeout);
        let progress = Arc::new(Progress::default());
        let (topic, partition) = (Arc::clone(&request.topic.topic_name), request.partition);
        let result = match self.running() {
            Err(trouble) => Err(trouble),
            Ok(running) => {
                let stopped_clock = running.engine.stopped_clock();
                drop(running);
                let progress = Arc::clone(&progress);
                self.call(deadline, |cluster, home| async move {
                    let sending =
                        Sending { topic, partition, batch, compression, progress, stopped_clock, home };
                    sending.run(&cluster, timeout, deadline).await
                })
                .await
            }
        };
        result.map(Delivered::at).map_err(|trouble| {
            let what = format!("producing to topic `{}`, partition {partition}", request.topic.topic_name);
            ProduceFailure::whole(self.error(&what, &trouble), progress.persistence())
        })
    }
}

fn closed() -> Trouble {
    Trouble::new(ErrorKind::Fatal, "the producer is closed")
}

fn deadline(timeout: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365);
    Instant::now() + timeout.min(FAR)
}

#[async_trait]
impl Producer for RskafkaProducer {
    fn capabilities(&self) -> Capabilities {
        // One batch at a time, acknowledged by all, each header once and with a value: the least there is, but for searches.
        let mut capabilities = Capabilities::default();
        capabilities.search = true;
        capabilities
    }

    async fn connect(&self, timeout: Duration) -> Result<(), ProduceError> {
        let _under_way = self.under_way.subscribe();
        let deadline = deadline(timeout);
        let connect =
            self.call(deadline, |cluster, home| async move { cluster.connect(&home, deadline).await });
        connect.await.map_err(|trouble| self.error("connecting", &trouble))
    }

    async fn partition_count(&self, topic: &str, timeout: Duration) -> Result<NonZeroU32, ProduceError> {
        let _under_way = self.under_way.subscribe();
        let deadline = deadline(timeout);
        let name = topic.to_owned();
        let count = self.call(deadline, |cluster, home| async move {
            let count = cluster.count(&home, &name, deadline).await?;
            NonZeroU32::new(count).ok_or_else(|| Trouble::new(ErrorKind::UnknownTopic, "it has none"))
        });
        count
            .await
            .map_err(|trouble| self.error(&format!("counting the partitions of topic `{topic}`"), &trouble))
    }

    async fn create_topic(&self, topic: &TopicConfig, timeout: Duration) -> Result<(), ProduceError> {
        let _under_way = self.under_way.subscribe();
        let deadline = deadline(timeout);
        let name = Arc::clone(&topic.topic_name);
        // -1 is the broker's default.
        let partitions =
            topic.new_topic_partitions.map_or(-1, |n| i32::try_from(n.get()).unwrap_or(i32::MAX));
        let replicas = topic.new_topic_replication.map_or(-1, |n| i16::try_from(n.get()).unwrap_or(i16::MAX));
        let create = self.call(deadline, |cluster, home| async move {
            cluster.create(&home, &name, partitions, replicas, deadline).await
        });
        create
            .await
            .map_err(|trouble| self.error(&format!("creating topic `{}`", topic.topic_name), &trouble))
    }

    async fn produce(
        &self,
        request: &ProduceRequest,
        timeout: Duration,
    ) -> Result<Delivered, ProduceFailure> {
        let _under_way = self.under_way.subscribe();
        // The batcher's topics were checked when the producer was made. Wrong settings can be put right, and pass.
        let compression = check_topic(&request.topic).map_err(|error| {
            let error = ProduceError::new(ErrorKind::Transient, error.to_string());
            ProduceFailure::whole(error, Persistence::NotPersisted)
        })?;
        let Some(refused) = records::refused(&request.batch, self.settings.may_sort_headers) else {
            return self.send(request, request.batch.clone(), compression, timeout).await;
        };
        // The others are sent, in order; those that can't be are named, and will be dead-lettered.
        let is_refused = |index: &u32| refused.indexes.binary_search(index).is_ok();
        let rest = request.batch.select(|index| !is_refused(&index));
        let failed = if let Some(rest) = rest {
            self.send(request, rest, compression, timeout).await?;
            Some(refused.indexes)
        } else {
            None
        };
        let index = failed.iter().flatten().next().copied().unwrap_or_default();
        let text = format!("rskafka can't send record {index} of the batch: {}", refused.first);
        let error = ProduceError::new(ErrorKind::Permanent, text);
        Err(match failed {
            Some(failed) => ProduceFailure::some(error, Persistence::NotPersisted, failed),
            None => ProduceFailure::whole(error, Persistence::NotPersisted),
        })
    }

    async fn search(&self, search: &Search, timeout: Duration) -> Result<Found, ProduceError> {
        let _under_way = self.under_way.subscribe();
        let deadline = deadline(timeout);
        let looking = Looking::new(search.clone());
        let looked = self.call(deadline, |cluster, home| async move {
            looking.run(&cluster, &home, timeout, deadline).await
        });
        looked.await.map_err(|trouble| {
            let what = format!("searching topic `{}`, partition {}", search.topic, search.partition);
            self.error(&what, &trouble)
        })
    }

    async fn close(&self, timeout: Duration) {
        let deadline = deadline(timeout);
        let state = std::mem::replace(&mut *self.state.lock(), State::Closed);
        let State::Running(running) = state else { return };
        // Calls under way go on until time is up; then they end with the thread.
        let kept_back = BUSY.min(timeout / 2);
        let _those_left_are_cancelled = timeout_at(deadline - kept_back, self.under_way.closed()).await;
        let ended = running.engine.ended();
        running.engine.stop();
        drop(running);
        if timeout_at(deadline, ended).await.is_err() {
            tracing::warn!(target: "kafka_batcher::rskafka", "the client was still ending after {timeout:?}");
        }
    }
}
