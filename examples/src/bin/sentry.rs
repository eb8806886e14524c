//! Error reports in Sentry, through `tracing`: `SENTRY_DSN=https://… sentry`.
//!
//! The default notifier logs each trouble once, sums up every minute and says when it is over. Sentry makes an event of
//! each warning and error among that, with its fields as context, and breadcrumbs of what else the batcher says.

use std::sync::Arc;
use std::time::Duration;

use kafka_batcher::{KafkaBatcher, KafkaConfig, MemoryProducer, TopicSettings};
use sentry::integrations::tracing::{BreadcrumbLayer, ErrorLayer};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Gives Sentry what is logged, and tells how to reach it. What is under way is sent when the guard is dropped.
fn install(dsn: &str) -> Result<sentry::ClientInitGuard, Box<dyn std::error::Error>> {
    let mut options = sentry::ClientOptions::new();
    options.dsn = Some(dsn.parse()?);
    let guard = sentry::init(options);
    let batcher = |level| Targets::new().with_target("kafka_batcher", level);
    tracing_subscriber::registry()
        .with(ErrorLayer::new().with_filter(batcher(LevelFilter::WARN)))
        .with(BreadcrumbLayer::new().with_filter(batcher(LevelFilter::INFO)))
        .try_init()?;
    Ok(guard)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _sentry = install(&std::env::var("SENTRY_DSN")?)?;

    // A Kafka of its own, so that it runs anywhere; in earnest, leave the producer away.
    let kafka = Arc::new(MemoryProducer::new(std::num::NonZeroU32::MIN));
    let config = KafkaConfig::new("localhost:9092").with_topic(TopicSettings::new("flights"));
    let batcher = KafkaBatcher::builder().config(config).shared_producer(kafka).build()?;
    batcher.collector("flights").ok_or("no such topic")?.add("N14228 took off").await?;
    let report = batcher.shutdown(Duration::from_secs(10)).await;
    println!("{} delivered", report.delivered);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use kafka_batcher::{ErrorKind, ErrorNotifier, LogNotifier, Report, What};

    use super::*;

    #[test]
    fn a_report_arrives_at_sentry() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let dsn = format!("http://key@{}/1", server.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&read).contains("the broker is down") {
                let count = stream.read(&mut buffer).unwrap();
                assert!(count > 0, "closed after {}", String::from_utf8_lossy(&read));
                read.extend_from_slice(&buffer[..count]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            String::from_utf8_lossy(&read).into_owned()
        });
        let sentry = install(&dsn).unwrap();
        let mut report = Report::new(What::ProduceFailed(ErrorKind::Transient), "the broker is down");
        report.topic = Some("flights".to_owned());
        LogNotifier.report(&report);
        drop(sentry);
        let envelope = served.join().unwrap();
        assert!(envelope.starts_with("POST /api/1/envelope/"), "{envelope}");
        assert!(envelope.contains("produce failed (transient) on flights: the broker is down"), "{envelope}");
    }
}
