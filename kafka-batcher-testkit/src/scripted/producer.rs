//! A producer that follows a script, for tests of what a real broker can't be made to do on cue.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher_core::config::RequiredAcks;
use kafka_batcher_core::{
    Capabilities, Delivered, ErrorKind, Found, Persistence, ProduceError, ProduceFailure, ProduceRequest,
    Producer, Record, Search, TopicConfig,
};
use tokio::sync::Notify;

/// How one call of [`Producer::produce`] goes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// All is written and acknowledged.
    Deliver,
    /// Nothing is written, and that is known.
    Refuse(ErrorKind),
    /// The records with these indexes are refused, the others written.
    RefuseSome(ErrorKind, Vec<u32>),
    /// All is written, but the acknowledgement gets lost.
    LoseAnswer,
    /// Nothing is written, and that is not known.
    LoseRequest,
    /// Takes so long, and then delivers.
    Delay(Duration),
    /// Panics.
    Panic,
    /// Never answers.
    Hang,
}

/// A producer whose Kafka is a list of records for each partition, and whose calls go as scripted.
///
/// A clone is another handle on the same thing: give one to the batcher and keep one. Calls beyond
/// the script deliver while Kafka is up and are refused as transient while it is down.
#[derive(Clone, Debug, Default)]
pub struct ScriptedProducer {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    written: Notify,
}

#[derive(Debug)]
struct State {
    up: bool,
    topics: BTreeMap<String, u32>,
    log: BTreeMap<(String, u32), Vec<Record>>,
    script: VecDeque<Step>,
    /// Steps for one partition only; they go before the script.
    partition_scripts: BTreeMap<u32, VecDeque<Step>>,
    /// What each call has taken over, in order: partition and number of records.
    calls: Vec<(u32, u32)>,
    connects: u32,
    /// Errors that the next searches end with, and how many searches there were.
    search_errors: VecDeque<ErrorKind>,
    searches: u32,
    searchable: bool,
    closed: bool,
    produced_after_close: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            up: true,
            topics: BTreeMap::new(),
            log: BTreeMap::new(),
            script: VecDeque::new(),
            partition_scripts: BTreeMap::new(),
            calls: Vec::new(),
            connects: 0,
            search_errors: VecDeque::new(),
            searches: 0,
            searchable: true,
            closed: false,
            produced_after_close: false,
        }
    }
}

impl ScriptedProducer {
    /// A producer whose Kafka is up and has one topic.
    #[must_use]
    pub fn new(topic: &str, partitions: u32) -> Self {
        let producer = Self::default();
        producer.set_partitions(topic, partitions);
        producer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a topic, or gives it another number of partitions.
    pub fn set_partitions(&self, topic: &str, partitions: u32) {
        self.state().topics.insert(topic.to_owned(), partitions);
    }

    /// Takes back that it was closed: the next process has a client of its own for the same Kafka.
    pub fn reopen(&self) {
        self.state().closed = false;
    }

    /// Whether there is such a topic.
    #[must_use]
    pub fn has_topic(&self, topic: &str) -> bool {
        self.state().topics.contains_key(topic)
    }

    /// Kafka is there, or not.
    pub fn set_up(&self, up: bool) {
        self.state().up = up;
    }

    /// Adds steps to the script.
    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.state().script.extend(steps);
    }

    /// Adds steps for the calls of one partition.
    pub fn script_partition(&self, partition: u32, steps: impl IntoIterator<Item = Step>) {
        self.state().partition_scripts.entry(partition).or_default().extend(steps);
    }

    /// The next searches of the log fail so, one after the other.
    pub fn fail_searches(&self, errors: impl IntoIterator<Item = ErrorKind>) {
        self.state().search_errors.extend(errors);
    }

    /// Whether it can [search](Producer::search) the log; it can unless told otherwise.
    pub fn set_searchable(&self, searchable: bool) {
        self.state().searchable = searchable;
    }

    /// How often the log was searched.
    #[must_use]
    pub fn searches(&self) -> u32 {
        self.state().searches
    }

    /// What is in Kafka, partition by partition, in order.
    #[must_use]
    pub fn log(&self, topic: &str, partition: u32) -> Vec<Record> {
        self.state().log.get(&(topic.to_owned(), partition)).cloned().unwrap_or_default()
    }

    /// The values in Kafka as text, partition by partition, in order.
    #[must_use]
    pub fn values(&self, topic: &str, partition: u32) -> Vec<String> {
        let text = |record: &Record| {
            String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
        };
        self.log(topic, partition).iter().map(text).collect()
    }

    /// The values of all partitions of the topic, partition 0 first.
    #[must_use]
    pub fn all_values(&self, topic: &str) -> Vec<String> {
        let partitions = self.state().topics.get(topic).copied().unwrap_or_default();
        (0..partitions).flat_map(|partition| self.values(topic, partition)).collect()
    }

    /// The calls of `produce` so far: partition and number of records.
    #[must_use]
    pub fn calls(&self) -> Vec<(u32, u32)> {
        self.state().calls.clone()
    }

    /// How often the client was started.
    #[must_use]
    pub fn connects(&self) -> u32 {
        self.state().connects
    }

    /// Whether anything was sent after the client was told to end.
    #[must_use]
    pub fn produced_after_close(&self) -> bool {
        self.state().produced_after_close
    }

    /// Waits until there are `count` records in the topic.
    ///
    /// # Panics
    /// After ten seconds without.
    pub async fn wait_for(&self, topic: &str, count: usize) {
        let there = async {
            loop {
                let written = self.inner.written.notified();
                tokio::pin!(written);
                written.as_mut().enable();
                if self.all_values(topic).len() >= count {
                    return;
                }
                written.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), there).await;
        assert!(waited.is_ok(), "{count} records were awaited, there are {:?}", self.all_values(topic));
    }

    /// All but the refused records are written, and acknowledged as the topic asks for.
    fn deliver(&self, request: &ProduceRequest, refused: &[u32]) -> Delivered {
        let base = self.write(request, refused);
        Delivered::at((request.topic.required_acks != RequiredAcks::None).then_some(base))
    }

    fn write(&self, request: &ProduceRequest, refused: &[u32]) -> i64 {
        let mut state = self.state();
        let log = state.log.entry((request.topic.topic_name.to_string(), request.partition)).or_default();
        let base = log.len();
        let records = (0..).zip(request.batch.records()).filter(|(index, _)| !refused.contains(index));
        log.extend(records.map(|(_, record)| record.to_owned()));
        drop(state);
        self.inner.written.notify_waiters();
        base as i64
    }
}

fn error(kind: ErrorKind) -> ProduceError {
    ProduceError::new(kind, format!("scripted: {kind}"))
}

#[async_trait]
impl Producer for ScriptedProducer {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        (capabilities.acks, capabilities.search) = (true, self.state().searchable);
        (capabilities.repeated_headers, capabilities.null_headers) = (true, true);
        capabilities
    }

    async fn connect(&self, _timeout: Duration) -> Result<(), ProduceError> {
        let mut state = self.state();
        state.connects += 1;
        if state.up { Ok(()) } else { Err(error(ErrorKind::Transient)) }
    }

    async fn partition_count(&self, topic: &str, _timeout: Duration) -> Result<NonZeroU32, ProduceError> {
        let state = self.state();
        if state.closed {
            return Err(error(ErrorKind::Fatal));
        }
        if !state.up {
            return Err(error(ErrorKind::Transient));
        }
        state
            .topics
            .get(topic)
            .and_then(|count| NonZeroU32::new(*count))
            .ok_or_else(|| error(ErrorKind::UnknownTopic))
    }

    async fn create_topic(&self, topic: &TopicConfig, _timeout: Duration) -> Result<(), ProduceError> {
        let partitions = topic.new_topic_partitions.map_or(1, NonZeroU32::get);
        self.state().topics.entry(topic.topic_name.to_string()).or_insert(partitions);
        Ok(())
    }

    async fn produce(
        &self,
        request: &ProduceRequest,
        timeout: Duration,
    ) -> Result<Delivered, ProduceFailure> {
        let step = {
            let mut state = self.state();
            state.calls.push((request.partition, request.batch.len()));
            state.produced_after_close |= state.closed;
            let partitions = state.topics.get(&*request.topic.topic_name).copied().unwrap_or_default();
            let refused = if state.closed {
                Some(ErrorKind::Fatal)
            } else {
                (request.partition >= partitions).then_some(ErrorKind::UnknownTopic)
            };
            if let Some(kind) = refused {
                return Err(ProduceFailure::whole(error(kind), Persistence::NotPersisted));
            }
            let own = state.partition_scripts.get_mut(&request.partition).and_then(VecDeque::pop_front);
            let step = own.or_else(|| state.script.pop_front());
            step.unwrap_or(if state.up { Step::Deliver } else { Step::Refuse(ErrorKind::Transient) })
        };
        match step {
            Step::Deliver => Ok(self.deliver(request, &[])),
            Step::Delay(time) => {
                tokio::time::sleep(time).await;
                Ok(self.deliver(request, &[]))
            }
            Step::Refuse(kind) => Err(ProduceFailure::whole(error(kind), Persistence::NotPersisted)),
            Step::RefuseSome(kind, indexes) => {
                self.write(request, &indexes);
                Err(ProduceFailure::some(error(kind), Persistence::NotPersisted, indexes))
            }
            Step::LoseAnswer => {
                self.write(request, &[]);
                Err(ProduceFailure::whole(error(ErrorKind::Transient), Persistence::MaybePersisted))
            }
            Step::LoseRequest => {
                Err(ProduceFailure::whole(error(ErrorKind::Transient), Persistence::MaybePersisted))
            }
            #[expect(clippy::panic, reason = "that is the step")]
            Step::Panic => panic!("scripted panic"),
            Step::Hang => {
                tokio::time::sleep(timeout + Duration::from_secs(3600)).await;
                Err(ProduceFailure::whole(error(ErrorKind::Transient), Persistence::MaybePersisted))
            }
        }
    }

    async fn search(&self, search: &Search, _timeout: Duration) -> Result<Found, ProduceError> {
        let mut state = self.state();
        state.searches += 1;
        let scripted = state.search_errors.pop_front();
        let partitions = state.topics.get(&*search.topic).copied().unwrap_or_default();
        let kind = scripted
            .or_else(|| state.closed.then_some(ErrorKind::Fatal))
            .or_else(|| (!state.up).then_some(ErrorKind::Transient))
            .or_else(|| (search.partition >= partitions).then_some(ErrorKind::UnknownTopic));
        if let Some(kind) = kind {
            return Err(error(kind));
        }
        let log = state.log.get(&(search.topic.to_string(), search.partition));
        Ok(search.among((0..).zip(log.into_iter().flatten())))
    }

    async fn close(&self, _timeout: Duration) {
        self.state().closed = true;
    }
}
