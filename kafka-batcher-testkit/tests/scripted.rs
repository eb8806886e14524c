//! The scripted fakes do what their scripts say, and pass the suites where nothing is scripted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher_core::config::TopicSettings;
use kafka_batcher_core::{
    Batch, BatchBuilder, ErrorKind, Failed, KafkaConfig, LaneId, Persistence, ProduceRequest, Producer,
    Record, StorageError, StoredBatch, TempStorage,
};
use kafka_batcher_testkit::conformance::Skip;
use kafka_batcher_testkit::conformance::producer::ProducerFixture;
use kafka_batcher_testkit::conformance::storage::Storage;
use kafka_batcher_testkit::scripted::{Call, ScriptedProducer, ScriptedStorage, Step, StorageStep};

kafka_batcher_testkit::storage_conformance!(Storage::new(|_| ScriptedStorage::new()));
kafka_batcher_testkit::producer_conformance!(Scripted(ScriptedProducer::new("topic", 8)));

/// One topic for each test; it is made anew with each.
struct Scripted(ScriptedProducer);

#[async_trait]
impl ProducerFixture for Scripted {
    fn producer(&self, _config: &KafkaConfig) -> Result<Arc<dyn Producer>, String> {
        Ok(Arc::new(self.0.clone()))
    }

    fn ready(&self) -> Result<(), Skip> {
        Ok(())
    }

    async fn topic(&self, partitions: u32) -> String {
        let name = format!("topic-{}", self.0.calls().len());
        let name = (0..).map(|n| format!("{name}-{n}")).find(|name| !self.0.has_topic(name)).unwrap();
        self.0.set_partitions(&name, partitions);
        name
    }

    async fn read(&self, topic: &str, partition: u32) -> Vec<Record> {
        self.0.log(topic, partition)
    }

    async fn missing_topic(&self) -> Result<String, Skip> {
        Ok("missing".to_owned())
    }

    async fn creatable_topic(&self) -> Result<String, Skip> {
        Ok("created".to_owned())
    }

    async fn grow(&self, topic: &str, partitions: u32) -> Result<(), Skip> {
        self.0.set_partitions(topic, partitions);
        Ok(())
    }
}

fn batch(values: &[&'static str]) -> Batch {
    let mut builder = BatchBuilder::new();
    for value in values {
        assert!(builder.push(&Record::new(*value).as_ref(), 5, None, usize::MAX));
    }
    builder.seal().unwrap()
}

fn request(values: &[&'static str]) -> ProduceRequest {
    let config = KafkaConfig::new("a:1").with_topic(TopicSettings::new("t"));
    ProduceRequest::new(Arc::new(config.topics().unwrap().remove(0)), 0, batch(values))
}

#[tokio::test(start_paused = true)]
async fn a_producer_follows_its_script() {
    let producer = ScriptedProducer::new("t", 1);
    producer.script([
        Step::RefuseSome(ErrorKind::Permanent, vec![1]),
        Step::LoseAnswer,
        Step::LoseRequest,
        Step::Delay(Duration::from_secs(3600)),
    ]);
    let timeout = Duration::from_secs(5);
    let failed = producer.produce(&request(&["a", "b"]), timeout).await.unwrap_err();
    assert_eq!((failed.persistence, failed.failed), (Persistence::NotPersisted, Failed::Some(vec![1])));
    let failed = producer.produce(&request(&["c"]), timeout).await.unwrap_err();
    assert_eq!((failed.persistence, failed.failed), (Persistence::MaybePersisted, Failed::All));
    producer.produce(&request(&["d"]), timeout).await.unwrap_err();
    let start = tokio::time::Instant::now();
    assert_eq!(producer.produce(&request(&["e"]), timeout).await.unwrap().base_offset, Some(2));
    assert_eq!(start.elapsed().as_secs(), 3600, "of virtual time");
    assert_eq!(producer.values("t", 0), ["a", "c", "e"]);
}

#[tokio::test(start_paused = true)]
async fn storage_follows_its_script() {
    let storage = ScriptedStorage::durable();
    assert!(storage.is_durable() && !ScriptedStorage::new().is_durable());
    let lane = LaneId::partition("t", 0);
    let entry = |value| StoredBatch::new(batch(&[value]), false);
    let hour = Duration::from_secs(3600);
    storage.script(
        Call::Append,
        [StorageStep::Full, StorageStep::Fail, StorageStep::Pass, StorageStep::Delay(hour)],
    );
    assert!(matches!(storage.append(&lane, entry("a")).await, Err(StorageError::Full { .. })));
    assert!(matches!(storage.append(&lane, entry("a")).await, Err(StorageError::Failed(_))));
    let first = storage.append(&lane, entry("a")).await.unwrap();
    let start = tokio::time::Instant::now();
    storage.append(&lane, entry("b")).await.unwrap();
    assert_eq!(start.elapsed(), hour);

    // A call that is dropped while it is done behind its caller's back.
    storage.script(Call::Append, [StorageStep::Behind(hour)]);
    assert!(tokio::time::timeout(Duration::from_secs(1), storage.append(&lane, entry("c"))).await.is_err());
    tokio::time::sleep(hour).await;
    let values: Vec<_> = storage.records(&lane).await.into_iter().map(|r| r.value.unwrap()).collect();
    assert_eq!(values, ["a", "b", "c"]);

    storage.always(Call::Next, StorageStep::Fail);
    for _ in 0..3 {
        storage.next(&lane, None).await.unwrap_err();
    }
    storage.script(Call::Next, [StorageStep::Pass]);
    assert_eq!(storage.clone().next(&lane, None).await.unwrap().unwrap().0, first, "a clone is the same");
    storage.script(Call::Acknowledge, [StorageStep::Hang, StorageStep::Panic]);
    assert!(tokio::time::timeout(hour, storage.acknowledge(&lane, first)).await.is_err());
    let handle = storage.clone();
    let panicked = tokio::spawn(async move { handle.acknowledge(&LaneId::partition("t", 0), first).await });
    assert!(panicked.await.unwrap_err().is_panic());
    storage.acknowledge(&lane, first).await.unwrap();
    assert_eq!(storage.records(&lane).await.len(), 2);
    assert_eq!(
        (storage.calls(Call::Append), storage.calls(Call::Next), storage.calls(Call::Lanes)),
        (5, 4, 0)
    );
    storage.script(Call::Lanes, [StorageStep::Fail]);
    storage.is_empty("t").await.unwrap_err();
    assert!(!storage.is_empty("t").await.unwrap());
}
