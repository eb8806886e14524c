//! A producer that writes to files, as an example of an adapter: docs/write-your-own-adapter.md walks through it.
//!
//! Given a folder, writes a record there.

#![expect(unreachable_pub, reason = "the guide explains it")]

mod producer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::{BatchBuilder, KafkaConfig, ProduceRequest, Producer, Record, TopicSettings};
use producer::FileProducer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("which folder?")?);
    let settings = TopicSettings::new("flights").new_topic_partitions(2);
    let topic = Arc::new(KafkaConfig::new("files:1").with_topic(settings).topics()?.remove(0));
    let producer = FileProducer::new(&folder);
    producer.connect(Duration::from_secs(1)).await?;
    producer.create_topic(&topic, Duration::from_secs(1)).await?;
    let mut builder = BatchBuilder::new();
    builder.push(&Record::new("landed").with_key("N14228").as_ref(), 1_700_000_000_000, None, 1_000_000);
    let batch = builder.seal().ok_or("no record")?;
    let delivered = producer.produce(&ProduceRequest::new(topic, 1, batch), Duration::from_secs(1)).await?;
    let file = folder.join("flights/1");
    println!("{}: {} records", file.display(), producer::read(&file)?.len());
    println!("the last at offset {:?}", delivered.base_offset);
    Ok(())
}
