//! The [`Producer`] itself.

use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher_core::config::{Compression, KafkaConfig, RequiredAcks};
use kafka_batcher_core::{
    Capabilities, ClientStatistics, Delivered, ErrorKind, Found, Persistence, ProduceError, ProduceFailure,
    ProduceRequest, Producer, Search, TopicConfig,
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::client::Client;
use crate::code::Code;
use crate::config::{Purpose, Settings};
use crate::error::SetupError;
use crate::ffi::{Client as Native, Step, describe};
use crate::parcel::{Answer, Cause, Parcel};
use crate::search::Searches;
use crate::statistics::Figures;

/// Sends batches with librdkafka.
///
/// Made without touching the network; see the [crate's documentation](crate) for how it works and what it promises.
#[derive(Debug)]
pub struct RdkafkaProducer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Arc<Settings>,
    /// One client for each of [`RequiredAcks`], made when first needed.
    clients: Mutex<Clients>,
    /// Held while a client is made, which blocks.
    making: Mutex<()>,
    statistics: Figures,
    searches: Arc<Searches>,
}

#[derive(Debug, Default)]
struct Clients {
    by_acks: [Option<Arc<Client>>; 3],
    /// Those that failed and are ending.
    former: Vec<Weak<Native>>,
    closed: bool,
}

const fn slot(acks: RequiredAcks) -> usize {
    match acks {
        RequiredAcks::All => 0,
        RequiredAcks::Leader => 1,
        RequiredAcks::None => 2,
    }
}

/// Records handed over between two looks at the clock, each with a chance for other tasks to run. About 0.3 ms.
const AT_ONCE: u32 = 1000;

/// How long to wait when librdkafka's queue is full. It says nothing when there is room again.
const FULL: Duration = Duration::from_millis(5);

/// Time between two looks at whether librdkafka is done with what was given up.
const DONE: Duration = Duration::from_millis(10);

/// Time between two looks at whether a new topic is there.
const VISIBLE: Duration = Duration::from_millis(20);

impl RdkafkaProducer {
    /// A producer for this configuration. Checks all of it, connects to nothing.
    ///
    /// # Errors
    /// [`SetupError`] when a setting, a property or their combination can't be used, or needs a Cargo feature that
    /// is not enabled.
    pub fn new(config: &KafkaConfig) -> Result<Self, SetupError> {
        Self::with_settings(Settings::new(config, None)?)
    }

    /// As [`new`](Self::new), and librdkafka says so often how it is doing: its [figures](Producer::statistics). The property
    /// `statistics.interval.ms` goes before it. With thousands of partitions librdkafka takes some milliseconds each
    /// time; every 10 s is often enough.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_statistics(config: &KafkaConfig, every: Duration) -> Result<Self, SetupError> {
        Self::with_settings(Settings::new(config, Some(every))?)
    }

    fn with_settings(settings: Settings) -> Result<Self, SetupError> {
        let settings = Arc::new(settings);
        let shared = Shared {
            searches: Arc::new(Searches::new(Arc::clone(&settings))),
            settings,
            clients: Mutex::default(),
            making: Mutex::default(),
            statistics: Figures::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Raises a fatal error in all clients as if librdkafka had found one. For tests of what follows.
    #[doc(hidden)]
    pub fn raise_fatal_error(&self) {
        for client in self.shared.clients.lock().by_acks.iter().flatten() {
            client.native().raise_fatal(c"raised by a test");
        }
    }

    async fn client(&self, acks: RequiredAcks, deadline: Instant) -> Result<Arc<Client>, ProduceError> {
        let shared = &self.shared;
        if let Some(client) = shared.usable(acks)? {
            return Ok(client);
        }
        let making = Arc::clone(shared);
        let making = tokio::task::spawn_blocking(move || making.make(acks));
        match timeout_at(deadline, making).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ProduceError::new(ErrorKind::Transient, "the runtime is ending")),
            Err(_) => Err(ProduceError::new(ErrorKind::Transient, "starting the client took too long")),
        }
    }
}

impl RdkafkaProducer {
    /// Waits until a topic that was just created can be used: the brokers hear of it one after the other. Without this,
    /// the next request may be told that it does not exist, and what is sent without idempotence gets lost or reordered.
    async fn wait_for(&self, client: &Arc<Client>, topic: &TopicConfig, deadline: Instant) {
        let name = &topic.topic_name;
        let mut ready = 0;
        while Instant::now() + VISIBLE < deadline {
            let again = match self.count(client, name, left(deadline)).await {
                Some(Ok(Some(count))) if topic.required_acks != RequiredAcks::All => {
                    let (name, timeout) = (Arc::clone(name), left(deadline));
                    let partitions = ready..i32::try_from(count.get()).unwrap_or(i32::MAX);
                    let ask = move |native: &Native| {
                        partitions.into_iter().find(|p| native.ask_leader(&name, *p, timeout).is_err())
                    };
                    let unready = client.blocking(timeout, ask).await.flatten();
                    ready = unready.unwrap_or(ready);
                    unready.is_some()
                }
                Some(Err(code)) => code.kind() == ErrorKind::UnknownTopic,
                _ => false,
            };
            if !again {
                return;
            }
            tokio::time::sleep(VISIBLE).await;
        }
    }

    /// Asks the cluster for a topic's partitions; librdkafka learns the answer too. `None` when it took too long.
    async fn count(
        &self,
        client: &Arc<Client>,
        topic: &str,
        timeout: Duration,
    ) -> Option<Result<Option<NonZeroU32>, Code>> {
        let name = topic.to_owned();
        let properties = self.shared.settings.topic(topic, Compression::None);
        let ask = move |native: &Native| match native.topic(&name, || properties) {
            Ok(topic) => native.partitions(topic, timeout),
            Err(_) => Err(Code::UNKNOWN_TOPIC),
        };
        client.blocking(timeout, ask).await
    }
}

impl Shared {
    /// The client in use, unless it has failed.
    fn usable(&self, acks: RequiredAcks) -> Result<Option<Arc<Client>>, ProduceError> {
        let clients = self.clients.lock();
        if clients.closed {
            return Err(ProduceError::new(ErrorKind::Fatal, "the producer is closed"));
        }
        Ok(clients.by_acks[slot(acks)].clone())
    }

    /// Makes a client where there is none. Blocks.
    fn make(self: &Arc<Self>, acks: RequiredAcks) -> Result<Arc<Client>, ProduceError> {
        let _one_at_a_time = self.making.lock();
        if let Some(client) = self.usable(acks)? {
            return Ok(client);
        }
        let client = Client::start(&self.settings, Purpose::Produce(acks), self.statistics.slot()).map_err(
            |error| ProduceError::new(ErrorKind::Transient, "the client does not start").with_source(error),
        )?;
        let client = Arc::new(client);
        let mut clients = self.clients.lock();
        if clients.closed {
            return Err(ProduceError::new(ErrorKind::Fatal, "the producer is closed"));
        }
        clients.by_acks[slot(acks)] = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Whether records of a call that has ended may still be sent to this partition.
    fn may_still_send(&self, topic: &str, partition: u32) -> bool {
        let mut clients = self.clients.lock();
        clients.former.retain(|former| former.strong_count() > 0);
        !clients.former.is_empty()
            || clients.by_acks.iter().flatten().any(|client| client.native().holds(topic, partition))
    }

    /// Lets go of clients that have failed. What they had in flight ends with an error.
    fn discard_failed(&self) {
        let Clients { by_acks, former, .. } = &mut *self.clients.lock();
        for client in by_acks {
            if let Some(failed) = client.take_if(|client| client.native().fatal().is_some()) {
                failed.stop(None);
                former.push(Arc::downgrade(failed.native()));
            }
        }
    }
}

fn deadline(timeout: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365);
    Instant::now() + timeout.min(FAR)
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[async_trait]
impl Producer for RdkafkaProducer {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.window = 1;
        capabilities.acks = true;
        capabilities.idempotence = true;
        capabilities.repeated_headers = true;
        capabilities.null_headers = true;
        capabilities.search = true;
        capabilities
    }

    async fn connect(&self, timeout: Duration) -> Result<(), ProduceError> {
        let deadline = deadline(timeout);
        self.shared.discard_failed();
        let client = self.client(self.shared.settings.acks, deadline).await?;
        client.ping(left(deadline)).await
    }

    async fn partition_count(&self, topic: &str, timeout: Duration) -> Result<NonZeroU32, ProduceError> {
        let deadline = deadline(timeout);
        let client = self.client(self.shared.settings.acks, deadline).await?;
        let count = self.count(&client, topic, left(deadline)).await;
        let code = match count {
            Some(Ok(Some(count))) => {
                client.health().well();
                return Ok(count);
            }
            Some(Ok(None)) => Code::UNKNOWN_TOPIC,
            Some(Err(code)) => code,
            None => Code::TIMED_OUT,
        };
        Err(client.error(&format!("counting the partitions of topic `{topic}`"), code, None).await)
    }

    async fn create_topic(&self, topic: &TopicConfig, timeout: Duration) -> Result<(), ProduceError> {
        let deadline = deadline(timeout);
        let client = self.client(self.shared.settings.acks, deadline).await?;
        let (name, partitions, replicas) =
            (Arc::clone(&topic.topic_name), topic.new_topic_partitions, topic.new_topic_replication);
        let timeout = left(deadline);
        let created = client
            .blocking(timeout, move |native| native.create_topic(&name, partitions, replicas, timeout))
            .await;
        match created.unwrap_or_else(|| Err((Code::TIMED_OUT, describe(Code::TIMED_OUT)))) {
            Err((Code::TOPIC_EXISTS, _)) => Ok(()),
            Ok(()) => {
                self.wait_for(&client, topic, deadline).await;
                Ok(())
            }
            Err((code, text)) => {
                Err(client.error(&format!("creating topic `{}`", topic.topic_name), code, Some(&text)).await)
            }
        }
    }

    async fn produce(
        &self,
        request: &ProduceRequest,
        timeout: Duration,
    ) -> Result<Delivered, ProduceFailure> {
        let deadline = deadline(timeout);
        let never_left = |error| ProduceFailure::whole(error, Persistence::NotPersisted);
        let client = self.client(request.topic.required_acks, deadline).await.map_err(never_left)?;
        let name = &*request.topic.topic_name;
        let what = || format!("producing to topic `{name}`, partition {}", request.partition);
        // Whoever was turned away asks first. What librdkafka has, it would keep until its time is up.
        if client.health().is_denied()
            && let Some(error) = client.still_denied(left(deadline)).await
        {
            return Err(never_left(error));
        }
        let properties = || self.shared.settings.topic(name, request.topic.compression);
        let topic = match client.native().topic(name, properties) {
            Ok(topic) => topic,
            Err(text) => {
                return Err(never_left(client.error(&what(), Code::UNKNOWN_TOPIC, Some(&text)).await));
            }
        };
        let Ok(partition) = i32::try_from(request.partition) else {
            return Err(never_left(client.error(&what(), Code::UNKNOWN_PARTITION, None).await));
        };

        let parcel = Arc::new(Parcel::new(request, client.is_answered()));
        let refusal = {
            let mut hold = client.native().hold(&parcel);
            let mut asked = false;
            // To a leader that doesn't know us yet the first record goes alone, and the others when it is there.
            let mut introduce = !client.is_known_to(name, partition);
            loop {
                if Instant::now() >= deadline {
                    break Some((Code::TIMED_OUT, describe(Code::TIMED_OUT)));
                }
                match hold.hand_over(topic, partition, if introduce { 1 } else { AT_ONCE }) {
                    Step::Done => break None,
                    Step::More if introduce => {
                        introduce = false;
                        if !matches!(timeout_at(deadline, parcel.first_delivered()).await, Ok(true)) {
                            break None;
                        }
                    }
                    Step::More => tokio::task::yield_now().await,
                    Step::Full if Instant::now() + FULL < deadline => tokio::time::sleep(FULL).await,
                    Step::Full => break Some((Code::QUEUE_FULL, describe(Code::QUEUE_FULL))),
                    // librdkafka remembers for minutes what it was told of a topic. Ask, and try again.
                    Step::Refused(code, _) if !asked && hold.handed() == 0 && code.is_of_topic() => {
                        asked = true;
                        let _only_the_effect_counts = self.count(&client, name, left(deadline)).await;
                    }
                    Step::Refused(code, text) => break Some((code, text)),
                }
            }
        };
        let _late_reports_only_free_memory = timeout_at(deadline, parcel.settled()).await;
        let refusal =
            refusal.map(|(code, text)| Cause { index: parcel.handed(), code, text, bystander: false });
        match parcel.answer(refusal) {
            Answer::Delivered(delivered) => {
                client.health().well();
                client.heard_of(&request.topic.topic_name, partition, true);
                Ok(delivered)
            }
            Answer::Failed { cause, persistence, failed } => {
                client.heard_of(&request.topic.topic_name, partition, false);
                let (code, text) = match cause {
                    Some(Cause { code, text, .. }) => (code, text),
                    None => (Code::TIMED_OUT, format!("no answer within {timeout:?}")),
                };
                let mut failure =
                    ProduceFailure::whole(client.error(&what(), code, Some(&text)).await, persistence);
                failure.failed = failed;
                Err(failure)
            }
        }
    }

    fn statistics(&self) -> Option<ClientStatistics> {
        self.shared.statistics.sum()
    }

    async fn search(&self, search: &Search, timeout: Duration) -> Result<Found, ProduceError> {
        let deadline = deadline(timeout);
        // What is sent after the log was read is not found in it.
        while self.shared.may_still_send(&search.topic, search.partition) {
            if Instant::now() + DONE >= deadline {
                let message = format!(
                    "searching topic `{}`, partition {}: librdkafka may still send what it was given before",
                    search.topic, search.partition
                );
                return Err(ProduceError::new(ErrorKind::Transient, message));
            }
            tokio::time::sleep(DONE).await;
        }
        self.shared.searches.search(search, deadline).await
    }

    async fn close(&self, timeout: Duration) {
        /// Kept back for purging and for threads to end.
        const ENDING: Duration = Duration::from_millis(500);
        let deadline = deadline(timeout);
        let clients = {
            let mut clients = self.shared.clients.lock();
            clients.closed = true;
            std::mem::take(&mut clients.by_acks)
        };
        let searches = self.shared.searches.close();
        let flush_until = std::time::Instant::now() + timeout.saturating_sub(ENDING.min(timeout / 2));
        let mut ends = Vec::new();
        for client in clients.into_iter().flatten() {
            client.stop(Some(flush_until));
            ends.push(client.ended());
        }
        for ended in ends {
            if timeout_at(deadline, ended).await.is_err() {
                tracing::warn!(target: "kafka_batcher::rdkafka", "a client was still ending after {timeout:?}");
            }
        }
        if timeout_at(deadline, searches).await.is_err() {
            tracing::warn!(target: "kafka_batcher::rdkafka", "a search was still ending after {timeout:?}");
        }
    }
}
