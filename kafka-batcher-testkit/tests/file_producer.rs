//! The guide's example passes the suite, and the guide shows it as it is.
#![expect(unreachable_pub, reason = "the guide explains it")]

#[path = "../examples/file_producer/producer.rs"]
mod producer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::SystemTime;

use async_trait::async_trait;
use kafka_batcher_core::{KafkaConfig, Producer, Record};
use kafka_batcher_testkit::conformance::Skip;
use kafka_batcher_testkit::conformance::producer::ProducerFixture;
use producer::FileProducer;

/// A folder of its own for each test.
struct Files(PathBuf);

static NEXT: AtomicU32 = AtomicU32::new(0);

fn unused(what: &str) -> String {
    format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}

impl Files {
    fn new() -> Self {
        // Not that of a process before, which had the same number and was killed.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let folder = std::env::temp_dir().join(unused(&format!("kafka-batcher-files-{now}")));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[async_trait]
impl ProducerFixture for Files {
    fn producer(&self, _config: &KafkaConfig) -> Result<Arc<dyn Producer>, String> {
        Ok(Arc::new(FileProducer::new(&self.0)))
    }

    async fn topic(&self, partitions: u32) -> String {
        let topic = unused("topic");
        self.grow(&topic, partitions).await.unwrap();
        topic
    }

    async fn read(&self, topic: &str, partition: u32) -> Vec<Record> {
        producer::read(&self.0.join(topic).join(partition.to_string())).unwrap()
    }

    async fn missing_topic(&self) -> Result<String, Skip> {
        Ok(unused("missing"))
    }

    async fn creatable_topic(&self) -> Result<String, Skip> {
        Ok(unused("created"))
    }

    async fn grow(&self, topic: &str, partitions: u32) -> Result<(), Skip> {
        let folder = self.0.join(topic);
        std::fs::create_dir_all(&folder).unwrap();
        for partition in 0..partitions {
            let file = folder.join(partition.to_string());
            std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        }
        Ok(())
    }
}

kafka_batcher_testkit::producer_conformance!(Files::new());

const GUIDE: &str = include_str!("../../docs/write-your-own-adapter.md");

/// The blocks of code that a guide says are from this file.
fn quoted<'a>(guide: &'a str, file: &str) -> impl Iterator<Item = &'a str> {
    let from = format!("<!-- from {file} -->\n```rs\n");
    let blocks: Vec<_> = guide.split(&from).skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    blocks.into_iter()
}

#[test]
fn the_guide_shows_the_example_as_it_is() {
    let source = include_str!("../examples/file_producer/producer.rs");
    let mut rest = source.to_owned();
    for block in quoted(GUIDE, "examples/file_producer/producer.rs") {
        let at = rest.find(block).unwrap_or_else(|| panic!("not in the example, or shown twice:\n{block}"));
        rest.replace_range(at..at + block.len(), "");
    }
    assert_eq!(rest.trim(), "", "not in the guide");
}

#[test]
fn the_guide_shows_this_fixture_as_it_is() {
    let this = include_str!("file_producer.rs");
    let blocks: Vec<&str> = quoted(GUIDE, "tests/file_producer.rs").collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert!(this.contains(block), "not in the test:\n{block}");
    }
}
