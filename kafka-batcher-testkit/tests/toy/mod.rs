//! A toy Kafka: a broker with a protocol of its own, a producer that does all it has to, and ways to get it wrong.

mod broker;
mod producer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use async_trait::async_trait;
use kafka_batcher_core::config::{Sasl, SaslMechanism};
use kafka_batcher_core::{Denial, ErrorKind, KafkaConfig, Producer, Record};
use kafka_batcher_testkit::conformance::Skip;
use kafka_batcher_testkit::conformance::producer::{DeniedCase, ProducerFixture, RefusedBatch};
use kafka_batcher_testkit::proxy::FaultProxy;

pub(crate) use broker::Broker;
pub(crate) use producer::{Bug, ToyProducer};

/// The password the broker knows.
pub(crate) const PASSWORD: &str = "open-sesame";

pub(crate) struct Toy {
    broker: Broker,
    bug: Option<Bug>,
    names: AtomicU32,
}

impl Toy {
    pub(crate) fn new(bug: Option<Bug>) -> Self {
        Self { broker: Broker::start(), bug, names: AtomicU32::new(0) }
    }

    fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.names.fetch_add(1, Relaxed))
    }
}

#[async_trait]
impl ProducerFixture for Toy {
    fn producer(&self, config: &KafkaConfig) -> Result<Arc<dyn Producer>, String> {
        Ok(Arc::new(ToyProducer::new(config, self.bug)?))
    }

    async fn topic(&self, partitions: u32) -> String {
        let name = self.name("topic");
        self.broker.create(&name, partitions);
        name
    }

    async fn read(&self, topic: &str, partition: u32) -> Vec<Record> {
        self.broker.read(topic, partition)
    }

    fn config(&self) -> KafkaConfig {
        KafkaConfig::new(self.broker.address())
    }

    fn config_at(&self, endpoints: &str) -> Result<KafkaConfig, Skip> {
        Ok(KafkaConfig::new(endpoints))
    }

    fn proxy(&self) -> Result<FaultProxy, Skip> {
        Ok(FaultProxy::start(self.broker.address()).unwrap())
    }

    async fn missing_topic(&self) -> Result<String, Skip> {
        Ok(self.name("missing"))
    }

    async fn creatable_topic(&self) -> Result<String, Skip> {
        Ok(self.name("created"))
    }

    async fn grow(&self, topic: &str, partitions: u32) -> Result<(), Skip> {
        self.broker.create(topic, partitions);
        Ok(())
    }

    async fn refused(&self, kind: ErrorKind) -> Result<RefusedBatch, Skip> {
        match kind {
            ErrorKind::TooLarge => {
                let large = vec![Record::new(vec![1; 1_500_000])];
                Ok(RefusedBatch::new(self.topic(1).await, large, vec![0]))
            }
            ErrorKind::Permanent => {
                let name = self.name("compacted");
                self.broker.create(&name, 1);
                let keyed = |n: &'static str| Record::new(n).with_key(n);
                let records = vec![keyed("0"), keyed("1"), Record::new("no key"), keyed("3")];
                Ok(RefusedBatch::new(name, records, vec![2]))
            }
            _ => Err(Skip::new("nothing is")),
        }
    }

    fn answer_produce_with(&self, errors: &[i16]) -> Result<(), Skip> {
        self.broker.answer_with(errors);
        Ok(())
    }

    async fn move_leader(&self, _topic: &str, _partition: u32) -> Result<(), Skip> {
        // It answers NOT_LEADER once, as if the leader had moved and come back.
        self.broker.answer_with(&[6]);
        Ok(())
    }

    fn deduplicates(&self) -> bool {
        // It does not, but a producer that sends nothing twice can't tell.
        true
    }

    fn denied(&self) -> Result<Vec<DeniedCase>, Skip> {
        self.broker.create("forbidden", 1);
        let wrong = self.config().sasl(Sasl::new(SaslMechanism::Plain, "me", "hunter2"));
        Ok(vec![
            DeniedCase::new("wrong password".into(), wrong, Denial::Credentials, None),
            DeniedCase::new("no acl".into(), self.config(), Denial::NotAuthorized, Some("forbidden".into())),
        ])
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned(), "hunter2".to_owned()]
    }
}
