//! Measures [`RdkafkaProducer::produce`] against a bare loop over `rd_kafka_produceva` and against `FutureProducer`.
//!
//! ```sh
//! cargo build --release --package kafka-batcher-testkit --features embedded --example mock_broker
//! cargo run --release --package kafka-batcher-rdkafka --example handover -- [--rounds N] [--seconds S] [--batch N]
//!     [--size BYTES] [--lanes N] [--bootstrap HOST:PORT] [--only ours,bare,future] [--set PROPERTY=VALUE]...
//! ```
//!
//! The peers take turns, because machines drift. Without `--bootstrap` the broker is the embedded one, in a process of
//! its own; CPU is this process's.

mod peers;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_batcher_core::config::{KafkaConfig, TopicSettings};
use kafka_batcher_core::{BatchBuilder, ProduceRequest, Producer, Record};
use kafka_batcher_rdkafka::RdkafkaProducer;
use peers::broker::BrokerProcess;
use peers::{Figures, Load, Meter};

fn main() -> Result<(), Box<dyn Error>> {
    let mut load = Load {
        bootstrap: String::new(),
        topic: "handover".to_owned(),
        lanes: 4,
        batch: 8192,
        size: 100,
        time: Duration::from_secs(3),
        properties: Vec::new(),
    };
    let (mut rounds, mut only) = (5, "bare,ours,future".to_owned());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--rounds" => rounds = value.parse()?,
            "--seconds" => load.time = Duration::from_secs_f64(value.parse()?),
            "--batch" => load.batch = value.parse()?,
            "--size" => load.size = value.parse()?,
            "--lanes" => load.lanes = value.parse()?,
            "--bootstrap" => load.bootstrap = value,
            "--only" => only = value,
            "--set" => {
                let (name, value) = value.split_once('=').ok_or("--set PROPERTY=VALUE")?;
                load.properties.push((name.to_owned(), value.to_owned()));
            }
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let broker =
        if load.bootstrap.is_empty() { Some(BrokerProcess::start(&load.topic, load.lanes)?) } else { None };
    if let Some(broker) = &broker {
        load.bootstrap.clone_from(&broker.bootstrap);
    }
    type Peer = fn(&Load) -> Result<Figures, Box<dyn Error>>;
    let peers: [(&str, Peer); 3] =
        [("bare", peers::bare::run), ("ours", ours), ("future", peers::future_producer::run)];
    let peers: Vec<_> = peers.into_iter().filter(|(name, _)| only.split(',').any(|o| o == *name)).collect();
    let mut figures = vec![Vec::new(); peers.len()];
    for _ in 0..rounds {
        for ((name, peer), all) in peers.iter().zip(&mut figures) {
            let result = peer(&load)?;
            println!(
                "{name:8} {:6.3} M events/s  {:6.3} µs CPU an event",
                result.rate(),
                result.cpu_per_event()
            );
            all.push(result);
        }
    }
    println!("medians of {rounds}:");
    for ((name, _), all) in peers.iter().zip(&figures) {
        let rate = median(all.iter().map(Figures::rate));
        let cpu = median(all.iter().map(Figures::cpu_per_event));
        println!("{name:8} {rate:6.3} M events/s  {cpu:6.3} µs CPU an event");
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ours(load: &Load) -> Result<Figures, Box<dyn Error>> {
    let mut config =
        KafkaConfig::new(load.bootstrap.as_str()).with_topic(TopicSettings::new(load.topic.as_str()));
    for (name, value) in &load.properties {
        config = config.property(name, value);
    }
    let topic = Arc::new(config.topics()?.remove(0));
    let producer = Arc::new(RdkafkaProducer::new(&config)?);
    let mut builder = BatchBuilder::new();
    for _ in 0..load.batch {
        builder.push(&Record::new(vec![b'x'; load.size]).as_ref(), 1, None, usize::MAX);
    }
    let batch = builder.seal().ok_or("an empty batch")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        const TIMEOUT: Duration = Duration::from_secs(10);
        producer.connect(TIMEOUT).await?;
        producer.produce(&ProduceRequest::new(Arc::clone(&topic), 0, batch.clone()), TIMEOUT).await?;
        let meter = Meter::start();
        let mut lanes = tokio::task::JoinSet::new();
        for partition in 0..load.lanes {
            let (producer, time, count) = (Arc::clone(&producer), load.time, u64::from(load.batch));
            let request = ProduceRequest::new(Arc::clone(&topic), partition, batch.clone());
            lanes.spawn(async move {
                let (start, mut events) = (Instant::now(), 0);
                while start.elapsed() < time {
                    producer.produce(&request, TIMEOUT).await?;
                    events += count;
                }
                Ok::<u64, kafka_batcher_core::ProduceFailure>(events)
            });
        }
        let mut events = 0;
        while let Some(lane) = lanes.join_next().await {
            events += lane??;
        }
        let figures = meter.stop(events);
        producer.close(TIMEOUT).await;
        Ok(figures)
    })
}
