//! Adds events and sends them nowhere, with telemetry or without: `telemetry_cost none|off|on BATCH_SIZE EVENTS`.
//!
//! For counting instructions: `cargo xtask bench telemetry`. One thread does all the work but telemetry's own.

use std::error::Error;
use std::num::NonZeroU32;
use std::time::Duration;

use kafka_batcher::core::{Capabilities, Delivered, ProduceError, ProduceFailure, ProduceRequest};
use kafka_batcher::metrics::{Options, prometheus::Exporter};
use kafka_batcher::{KafkaBatcher, KafkaConfig, Producer, TopicConfig, TopicSettings};

static VALUE: [u8; 100] = [b'x'; 100];

/// Takes everything at once.
#[derive(Debug)]
struct Nowhere;

#[async_trait::async_trait]
impl Producer for Nowhere {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn connect(&self, _: Duration) -> Result<(), ProduceError> {
        Ok(())
    }

    async fn partition_count(&self, _: &str, _: Duration) -> Result<NonZeroU32, ProduceError> {
        Ok(NonZeroU32::MIN)
    }

    async fn create_topic(&self, _: &TopicConfig, _: Duration) -> Result<(), ProduceError> {
        Ok(())
    }

    async fn produce(&self, _: &ProduceRequest, _: Duration) -> Result<Delivered, ProduceFailure> {
        Ok(Delivered::at(None))
    }

    async fn close(&self, _: Duration) {}
}

/// Callgrind is told to begin and to end where these are called.
#[inline(never)]
fn measured_from_here() {
    std::hint::black_box("from");
}

#[inline(never)]
fn measured_up_to_here() {
    std::hint::black_box("up to");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, size, events] = &arguments[..] else {
        return Err("usage: telemetry_cost none|off|on BATCH_SIZE EVENTS".into());
    };
    let (size, events): (NonZeroU32, u64) = (size.parse()?, events.parse()?);
    let topic = TopicSettings::new("flights").batch_size(size.get()).telemetry(mode != "off");
    let config = KafkaConfig::new("nowhere:1").with_topic(topic);
    let exporter = Exporter::new(&Options::of(&config))?;
    let mut builder = KafkaBatcher::builder().config(config).producer(Nowhere);
    if mode != "none" {
        builder = builder.telemetry(exporter.telemetry());
    }
    let batcher = builder.build()?;
    let collector = batcher.collector("flights").ok_or("no such topic")?;
    collector.add(("N14228", &VALUE[..])).await?;
    collector.flush().await;
    measured_from_here();
    for number in 1..events {
        collector.add(("N14228", &VALUE[..])).await?;
        // A batch is sent when it is full, not when the next ones have gathered.
        if number % u64::from(size.get()) == 0 {
            tokio::task::yield_now().await;
        }
    }
    // What a scrape costs is part of it.
    if mode == "on" {
        let text = exporter.render(&batcher.observer()).await;
        assert!(text.contains("events_delivered_total"), "{text}");
    }
    let report = batcher.shutdown(Duration::from_secs(60)).await;
    measured_up_to_here();
    if report.delivered == events { Ok(()) } else { Err(format!("{report:?}").into()) }
}
