//! A scripted run whose metrics go to an OTLP receiver over HTTP while it goes on: `otlp http://host:port/v1/metrics`.
//!
//! Ends with a line of JSON, the batcher's own figures; `cargo xtask otlp` holds them against what was received.

use std::error::Error;
use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kafka_batcher::metrics::{Options, otlp::Exporter};
use kafka_batcher::{ErrorKind, KafkaBatcher, KafkaConfig, Observe, TopicSettings};
use kafka_batcher_testkit::scripted::{ScriptedProducer, Step};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

const EVENTS: u64 = 3000;

/// A request a connection, and no more than that: applications use one of the clients that opentelemetry-otlp brings.
struct Client;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let to = request.uri().authority().ok_or("no host")?.as_str();
        let mut stream = TcpStream::connect(to)?;
        let mut head =
            format!("POST {} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n", request.uri().path());
        for (name, value) in request.headers() {
            head.push_str(&format!("{name}: {}\r\n", value.to_str()?));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", request.body().len()));
        stream.write_all(head.as_bytes())?;
        stream.write_all(request.body())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let status = String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).parse::<u16>()?;
        Ok(Response::builder().status(status).body(Bytes::new())?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = std::env::args().nth(1).ok_or("usage: otlp http://host:port/v1/metrics")?;
    let exporter = MetricExporter::builder()
        .with_http()
        .with_http_client(Client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()?;
    let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_millis(50)).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();

    let config = KafkaConfig::new("scripted:1")
        .retry_backoff(Duration::from_millis(5))
        .recheck_interval(Duration::from_millis(40))
        .topic_alias("flights", "planes")
        .with_topic(TopicSettings::new("flights").max_wait_time(Duration::from_millis(5)));
    let options = Options::of(&config).prefix("prom_ex_kafka");
    let exporter = Exporter::new(&options, &provider.meter("kafka-batcher"))?;
    let kafka = ScriptedProducer::new("flights", 3);
    let some = [
        Step::Deliver,
        Step::Refuse(ErrorKind::Transient),
        Step::LoseAnswer,
        Step::Deliver,
        Step::Delay(Duration::from_millis(5)),
        Step::Refuse(ErrorKind::Permanent),
    ];
    kafka.script(
        [Step::Refuse(ErrorKind::Permanent)].into_iter().chain(std::iter::repeat_n(some, 30).flatten()),
    );
    let batcher =
        KafkaBatcher::builder().config(config).producer(kafka).telemetry(exporter.telemetry()).build()?;
    let watch = exporter.watch(batcher.observer(), Duration::from_millis(10));

    let collector = batcher.collector("flights").ok_or("no such topic")?;
    collector.add("refused for good").await?;
    collector.flush().await;
    for number in 1..EVENTS {
        collector.add((number.to_string(), "landed")).await?;
        if number % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if number % 1000 == 500 {
            drop(collector.try_add("x".repeat(2_000_000)));
        }
    }
    collector.flush().await;
    let snapshot = loop {
        let snapshot = batcher.observer().snapshot().await.ok_or("the batcher is gone")?;
        // What was stored meanwhile is delivered, too.
        if snapshot.topics[0].totals.stored + snapshot.topics[0].totals.in_memory == 0 {
            break snapshot;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    drop(watch);
    exporter.publish(&snapshot);
    provider.shutdown()?;
    let totals = &snapshot.topics[0].totals;
    println!(
        r#"{{"accepted": {}, "delivered": {}, "dead_lettered": {}, "retried": {}, "rejected": 3}}"#,
        totals.accepted, totals.delivered, totals.dead_lettered, totals.retried
    );
    let report = batcher.shutdown(Duration::from_secs(10)).await;
    if report.is_complete() { Ok(()) } else { Err(format!("{report:?}").into()) }
}
