//! The target as a fixture of the producers' suite.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kafka_batcher_core::config::Compression;
use kafka_batcher_core::{ErrorKind, KafkaConfig, Producer, Record};

use super::{Target, TargetError, topics};
use crate::conformance::Skip;
use crate::conformance::producer::{DeniedCase, ProducerFixture, RefusedBatch};
use crate::embedded::RDKafkaRespErr as Code;
use crate::proxy::FaultProxy;

/// Time to read a topic.
const LONG: Duration = Duration::from_secs(20);

type Make = Box<dyn Fn(&KafkaConfig) -> Result<Arc<dyn Producer>, String> + Send + Sync>;

/// Runs the suite of producers against the [`Target`] that the environment names.
///
/// ```rs
/// kafka_batcher_testkit::producer_conformance!(TargetFixture::new(MyProducer::new).secured(cfg!(feature = "tls")));
/// ```
pub struct TargetFixture {
    target: Result<Target, TargetError>,
    make: Make,
    secured: bool,
    moves: AtomicU32,
}

impl fmt::Debug for TargetFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetFixture").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Numbers topics.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A topic name nobody has used, on this cluster and in this process.
fn unused(what: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("conformance-{what}-{now}-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}

impl TargetFixture {
    /// The target of the environment, and how producers are made. A target that can't be had makes every case fail.
    pub fn new<P, E>(make: impl Fn(&KafkaConfig) -> Result<P, E> + Send + Sync + 'static) -> Self
    where
        P: Producer + 'static,
        E: fmt::Display + fmt::Debug,
    {
        Self::of(Target::from_env(), make)
    }

    /// This target, and how producers are made.
    pub fn of<P, E>(
        target: Result<Target, TargetError>,
        make: impl Fn(&KafkaConfig) -> Result<P, E> + Send + Sync + 'static,
    ) -> Self
    where
        P: Producer + 'static,
        E: fmt::Display + fmt::Debug,
    {
        let make: Make = Box::new(move |config| match make(config) {
            Ok(producer) => Ok(Arc::new(producer)),
            Err(error) => Err(format!("{error} ({error:?})")),
        });
        Self { target, make, secured: true, moves: AtomicU32::new(0) }
    }

    /// Whether this build of the adapter knows TLS and SASL. Without, the suite is skipped on secured rows.
    #[must_use]
    pub const fn secured(mut self, available: bool) -> Self {
        self.secured = available;
        self
    }

    /// The target.
    ///
    /// # Panics
    /// When it can't be had.
    #[must_use]
    #[expect(clippy::panic, reason = "a fixture without a target makes its tests fail")]
    pub fn target(&self) -> &Target {
        match &self.target {
            Ok(target) => target,
            Err(error) => panic!("the target: {error}"),
        }
    }
}

/// What has to work, as the suite can't go on without.
#[expect(clippy::panic, reason = "a fixture that does not work makes its test fail")]
fn must<T>(result: Result<T, impl fmt::Display>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the fixture: {error}"),
    }
}

#[async_trait]
impl ProducerFixture for TargetFixture {
    fn producer(&self, config: &KafkaConfig) -> Result<Arc<dyn Producer>, String> {
        (self.make)(config)
    }

    async fn topic(&self, partitions: u32) -> String {
        let name = unused("topic");
        must(self.target().create_topic(&name, partitions).await);
        name
    }

    async fn read(&self, topic: &str, partition: u32) -> Vec<Record> {
        let read = must(self.target().read(topic, LONG).await);
        read.into_iter()
            .filter(|record| u32::try_from(record.partition) == Ok(partition))
            .map(Record::from)
            .collect()
    }

    fn ready(&self) -> Result<(), Skip> {
        let target = self.target();
        if target.is_secured() && !self.secured {
            return Err(Skip::new(format!("this build can't do what row `{}` asks for", target.row())));
        }
        Ok(())
    }

    fn config(&self) -> KafkaConfig {
        self.target().config()
    }

    fn config_at(&self, endpoints: &str) -> Result<KafkaConfig, Skip> {
        Ok(self.target().config_at(endpoints))
    }

    fn proxy(&self) -> Result<FaultProxy, Skip> {
        let target = self.target();
        if target.is_secured() {
            return Err(Skip::new(format!("the fault proxy can't read row `{}`", target.row())));
        }
        Ok(must(FaultProxy::start(target.bootstrap())))
    }

    async fn missing_topic(&self) -> Result<String, Skip> {
        let name = unused("missing");
        if let Some(broker) = self.target().embedded() {
            // It would be created by being asked for.
            must(broker.set_topic_error(&name, Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART));
        }
        Ok(name)
    }

    async fn creatable_topic(&self) -> Result<String, Skip> {
        match self.target().embedded() {
            Some(_) => Err(Skip::new("the embedded broker can't create topics on request")),
            None => Ok(unused("created")),
        }
    }

    async fn grow(&self, topic: &str, partitions: u32) -> Result<(), Skip> {
        if self.target().embedded().is_some() {
            return Err(Skip::new("topics of the embedded broker can't grow"));
        }
        must(self.target().grow_topic(topic, partitions).await);
        Ok(())
    }

    async fn refused(&self, kind: ErrorKind) -> Result<RefusedBatch, Skip> {
        let small = || vec![Record::new("refused").with_key("k")];
        if let Some(broker) = self.target().embedded() {
            let code = match kind {
                ErrorKind::TooLarge => Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
                ErrorKind::Permanent => Code::RD_KAFKA_RESP_ERR_INVALID_RECORD,
                _ => return Err(Skip::new(format!("nothing is refused as {kind} here"))),
            };
            must(broker.stop_failing_produce());
            must(broker.fail_produce(&[code]));
            return Ok(RefusedBatch::new(self.topic(1).await, small(), vec![0]));
        }
        match kind {
            // Above Kafka's default of message.max.bytes, 1,048,588.
            ErrorKind::TooLarge => {
                let large = vec![Record::new(vec![b'x'; 1_500_000]).with_key("k")];
                Ok(RefusedBatch::new(self.topic(1).await, large, vec![0]))
            }
            // A compacted topic takes no record without a key.
            ErrorKind::Permanent => {
                let name = unused("compacted");
                must(self.target().create_topic_with(&name, 1, &[("cleanup.policy", "compact")]).await);
                let keyed = |n: &str| Record::new(n.to_owned()).with_key(n.to_owned());
                let records = vec![keyed("0"), keyed("1"), Record::new("without a key"), keyed("3")];
                Ok(RefusedBatch::new(name, records, vec![2]))
            }
            _ => Err(Skip::new(format!("nothing is refused as {kind} here"))),
        }
    }

    fn answer_produce_with(&self, errors: &[i16]) -> Result<(), Skip> {
        let Some(broker) = self.target().embedded() else {
            return Err(Skip::new("a real broker can't be told to answer with errors"));
        };
        let codes: Result<Vec<Code>, Skip> = errors.iter().map(|error| code(*error)).collect();
        must(broker.fail_produce(&codes?));
        Ok(())
    }

    async fn move_leader(&self, topic: &str, partition: u32) -> Result<(), Skip> {
        let Some(broker) = self.target().embedded() else {
            if self.target().bootstrap().split(',').count() < 2 {
                return Err(Skip::new("there is one node to lead"));
            }
            let program = std::env::var_os("KAFKA_BATCHER_BROKER_CTL").filter(|program| !program.is_empty());
            let program = program.ok_or_else(|| Skip::new("KAFKA_BATCHER_BROKER_CTL is not set"))?;
            let mut command = std::process::Command::new(program);
            command.args(["broker", "move-leader", topic, "--partition", &partition.to_string()]);
            let output = must(command.output());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "the fixture: moving a leader: {said}");
            return Ok(());
        };
        // Back and forth between two nodes; whichever it was, two of three moves are one.
        let node = 1 + self.moves.fetch_add(1, Relaxed) % 2;
        must(broker.set_leader(topic, partition, Some(node)));
        Ok(())
    }

    async fn write(
        &self,
        topic: &str,
        partition: u32,
        records: &[Record],
        compression: Compression,
    ) -> Result<(), Skip> {
        // librdkafka is built without it here.
        if compression == Compression::Zstd {
            return Err(Skip::new("the other client knows no zstd"));
        }
        must(topics::write(self.target().bootstrap(), topic, partition, records, compression).await);
        Ok(())
    }

    fn finds_offsets_by_time(&self) -> Result<(), Skip> {
        match self.target().embedded() {
            Some(_) => Err(Skip::new("the embedded broker finds no offset by timestamp")),
            None => Ok(()),
        }
    }

    fn deduplicates(&self) -> bool {
        // The embedded broker does not check sequence numbers.
        self.target().embedded().is_none()
    }

    fn denied(&self) -> Result<Vec<DeniedCase>, Skip> {
        let target = self.target();
        if target.refused().is_empty() {
            return Err(Skip::new("everybody is let in: KAFKA_BATCHER_SECURITY names no cluster"));
        }
        if !self.secured {
            return Err(Skip::new("this build knows neither TLS nor SASL"));
        }
        let case = |case: &super::RefusedCase| {
            DeniedCase::new(case.name.clone(), case.config.clone(), case.expect, case.topic.clone())
        };
        Ok(target.refused().iter().map(case).collect())
    }

    fn secrets(&self) -> Vec<String> {
        self.target().secrets().to_vec()
    }
}

/// One of Kafka's errors, by its number.
fn code(number: i16) -> Result<Code, Skip> {
    let known = [
        Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
        Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT,
        Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
        Code::RD_KAFKA_RESP_ERR_INVALID_RECORD,
    ];
    known
        .into_iter()
        .find(|code| *code as i32 == i32::from(number))
        .ok_or_else(|| Skip::new(format!("the embedded broker knows no error {number}")))
}
