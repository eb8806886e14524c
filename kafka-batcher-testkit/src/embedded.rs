//! A Kafka broker inside the process: librdkafka's mock cluster.
//!
//! It speaks the real protocol over loopback TCP, so any client works against it, and it can be taken
//! down, slowed and made to answer with errors. What it is not:
//!
//! * it keeps about 5 MiB a partition and forgets the oldest beyond that;
//! * it does not check sequence numbers of idempotent producers, so duplicates can't be counted on it;
//! * an injected error skips the append: "written but not acknowledged" is a long round-trip time
//!   and then [`EmbeddedBroker::down`];
//! * it has no TLS, no SASL, no authorisation, and can neither grow nor delete a topic;
//! * a topic that is asked for and does not exist is created, with 4 partitions.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;
pub use rdkafka::types::RDKafkaRespErr;

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Command = Box<dyn FnOnce(&Cluster) + Send>;

/// The embedded broker could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("embedded broker: {what}: {reason}")]
pub struct EmbeddedError {
    what: &'static str,
    reason: String,
}

impl EmbeddedError {
    fn new(what: &'static str, reason: impl ToString) -> Self {
        Self { what, reason: reason.to_string() }
    }
}

/// A cluster of one or more embedded brokers; ends when dropped.
///
/// All methods block for well under a millisecond and may be called from async code and from many
/// threads.
#[derive(Debug)]
pub struct EmbeddedBroker {
    bootstrap: String,
    nodes: i32,
    // The cluster may be used from one thread only; it lives there and takes commands.
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Starts a cluster of `nodes` brokers on free loopback ports.
    ///
    /// # Errors
    /// When `nodes` is 0 or librdkafka can't start it.
    pub fn start(nodes: u32) -> Result<Self, EmbeddedError> {
        let count = i32::try_from(nodes).ok().filter(|n| *n > 0);
        let count =
            count.ok_or_else(|| EmbeddedError::new("start", "the number of nodes must be 1 or more"))?;
        let (commands, inbox) = mpsc::channel::<Command>();
        let (started, start) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || {
                let cluster = match Cluster::new(count) {
                    Ok(cluster) => cluster,
                    Err(error) => {
                        drop(started.send(Err(EmbeddedError::new("start", error))));
                        return;
                    }
                };
                drop(started.send(Ok(cluster.bootstrap_servers())));
                for command in inbox {
                    command(&cluster);
                }
            })
            .map_err(|error| EmbeddedError::new("start", error))?;
        let bootstrap = start.recv().map_err(|error| EmbeddedError::new("start", error))??;
        Ok(Self { bootstrap, nodes: count, commands: Some(commands), thread: Some(thread) })
    }

    /// Where it listens: `host:port`, several separated by commas.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.bootstrap.clone()
    }

    /// Creates a topic, replicated once.
    ///
    /// # Errors
    /// When it exists already or `partitions` is 0.
    pub fn create_topic(&self, name: &str, partitions: u32) -> Result<(), EmbeddedError> {
        let name = name.to_owned();
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        self.ask("create topic", move |cluster| cluster.create_topic(&name, partitions, 1))
    }

    /// Takes every node down: connections are closed and new ones refused.
    ///
    /// # Errors
    /// When the cluster's thread has died.
    pub fn down(&self) -> Result<(), EmbeddedError> {
        self.each_node("take down", Cluster::broker_down)
    }

    /// Brings every node up again; what was written before is still there.
    ///
    /// # Errors
    /// When the cluster's thread has died.
    pub fn up(&self) -> Result<(), EmbeddedError> {
        self.each_node("bring up", Cluster::broker_up)
    }

    /// Delays every answer of every node by this much; zero for no delay.
    ///
    /// Requests are carried out at once; only their answers are late.
    ///
    /// # Errors
    /// When the cluster's thread has died.
    pub fn set_round_trip_time(&self, time: Duration) -> Result<(), EmbeddedError> {
        self.each_node("set round-trip time", move |cluster, node| cluster.broker_round_trip_time(node, time))
    }

    /// The next produce requests are answered with these errors, one each, and not carried out.
    ///
    /// [`RD_KAFKA_RESP_ERR__TRANSPORT`](RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT) closes the
    /// connection instead of answering; `RD_KAFKA_RESP_ERR_NO_ERROR` lets one request pass.
    ///
    /// # Errors
    /// When the cluster's thread has died.
    pub fn fail_produce(&self, errors: &[RDKafkaRespErr]) -> Result<(), EmbeddedError> {
        let errors = errors.to_vec();
        self.ask("inject produce errors", move |cluster| {
            cluster.request_errors(RDKafkaApiKey::Produce, &errors);
            Ok(())
        })
    }

    /// Forgets the injected errors that are left.
    ///
    /// # Errors
    /// When the cluster's thread has died.
    pub fn stop_failing_produce(&self) -> Result<(), EmbeddedError> {
        self.ask("clear produce errors", |cluster| {
            cluster.clear_request_errors(RDKafkaApiKey::Produce);
            Ok(())
        })
    }

    /// Metadata requests answer with this error for the topic, until set to
    /// `RD_KAFKA_RESP_ERR_NO_ERROR`. A topic that does not exist comes to be seen as existing.
    ///
    /// # Errors
    /// When the cluster's thread has died.
    pub fn set_topic_error(&self, topic: &str, error: RDKafkaRespErr) -> Result<(), EmbeddedError> {
        let topic = topic.to_owned();
        self.ask("set topic error", move |cluster| cluster.topic_error(&topic, error))
    }

    /// Moves the leadership of a partition to a node, numbered from 1; `None` for no leader at all.
    ///
    /// # Errors
    /// When there is no such topic, partition or node.
    pub fn set_leader(&self, topic: &str, partition: u32, node: Option<u32>) -> Result<(), EmbeddedError> {
        let topic = topic.to_owned();
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        let node = node.map(|node| i32::try_from(node).unwrap_or(i32::MAX));
        self.ask("set leader", move |cluster| cluster.partition_leader(&topic, partition, node))
    }

    fn each_node(
        &self,
        what: &'static str,
        call: impl Fn(&Cluster, i32) -> rdkafka::error::KafkaResult<()> + Send + 'static,
    ) -> Result<(), EmbeddedError> {
        let nodes = self.nodes;
        self.ask(what, move |cluster| (1..=nodes).try_for_each(|node| call(cluster, node)))
    }

    fn ask(
        &self,
        what: &'static str,
        call: impl FnOnce(&Cluster) -> rdkafka::error::KafkaResult<()> + Send + 'static,
    ) -> Result<(), EmbeddedError> {
        let gone = || EmbeddedError::new(what, "its thread has ended");
        let (answer, answered) = mpsc::channel();
        let command: Command = Box::new(move |cluster| drop(answer.send(call(cluster))));
        self.commands.as_ref().ok_or_else(gone)?.send(command).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?.map_err(|error| EmbeddedError::new(what, error))
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
