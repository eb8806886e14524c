//! An application whose own partitioner has a bug, for `cargo xtask observe`: `own_partitioner BOOTSTRAP TOPIC`.
//!
//! Sends the lines of standard input. The partitioner looks at byte 100 of each, and panics where a line is shorter.

use std::error::Error;
use std::time::Duration;

use kafka_batcher::metrics::{Options, prometheus::Exporter};
use kafka_batcher::{KafkaBatcher, KafkaConfig, PartitionStrategy, TopicSettings};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, topic] = &arguments[..] else {
        return Err("usage: own_partitioner BOOTSTRAP TOPIC".into());
    };
    let by_byte_100 = PartitionStrategy::function(|_, partitions, _, value| {
        u32::from(value.unwrap_or_default()[100]) % partitions
    });
    let settings =
        TopicSettings::new(topic.as_str()).partition_strategy(by_byte_100).allow_topic_auto_creation(true);
    let config = KafkaConfig::new(bootstrap.as_str()).with_topic(settings);
    let exporter = Exporter::new(&Options::of(&config))?;
    let batcher = KafkaBatcher::builder().config(config).telemetry(exporter.telemetry()).build()?;
    let collector = batcher.collector(topic).ok_or("no such topic")?;
    let server = exporter.serve("127.0.0.1:0".parse()?, batcher.observer()).await?;
    eprintln!("metrics and health checks at http://{}", server.address());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if let Err(refused) = collector.add(line).await {
            eprintln!("handed back: {}", refused.kind);
        }
    }
    println!("{:?}", batcher.shutdown(Duration::from_secs(10)).await);
    Ok(())
}
