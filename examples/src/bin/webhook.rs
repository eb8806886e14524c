//! Posts error reports as JSON to a webhook: `webhook http://localhost:8080/hooks/kafka`.
//!
//! The first report of a trouble, a summary every minute as long as it lasts, and that it is over. The batcher calls a
//! notifier from a thread of its own, so a webhook that is slow or gone holds up nothing: after five seconds the next
//! report is tried.

use std::sync::Arc;
use std::time::Duration;

use kafka_batcher::{
    ErrorNotifier, FanOut, KafkaBatcher, KafkaConfig, LogNotifier, MemoryProducer, RateLimited, Report,
    TopicSettings,
};

/// Posts each report to a URL.
#[derive(Debug)]
struct Webhook {
    url: String,
    agent: ureq::Agent,
}

impl Webhook {
    fn new(url: impl Into<String>) -> Self {
        // All of a call: connecting, sending, the answer.
        let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
        Self { url: url.into(), agent }
    }

    fn body(report: &Report) -> String {
        serde_json::json!({
            "text": report.to_string(),
            "what": report.what.trouble().as_str(),
            "kind": report.kind().map(|kind| kind.as_str()),
            "topic": report.topic,
            "partition": report.partition,
            "events": report.events,
            "next": report.next.as_str(),
            "times": report.summary.map_or(1, |summary| summary.times),
        })
        .to_string()
    }
}

impl ErrorNotifier for Webhook {
    fn report(&self, report: &Report) {
        let post = self.agent.post(&self.url).header("content-type", "application/json");
        if let Err(error) = post.send(Self::body(report)) {
            eprintln!("the webhook did not take it: {error}; {report}");
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: webhook URL")?;
    let minute = Duration::from_secs(60);
    let notifier = FanOut::new()
        .and(RateLimited::new(LogNotifier, minute))?
        .and(RateLimited::new(Webhook::new(url), minute))?;

    // A Kafka of its own, so that it runs anywhere; in earnest, leave the producer away.
    let kafka = Arc::new(MemoryProducer::new(std::num::NonZeroU32::MIN));
    let config = KafkaConfig::new("localhost:9092").with_topic(TopicSettings::new("flights"));
    let batcher = KafkaBatcher::builder().config(config).shared_producer(kafka).notifier(notifier).build()?;
    batcher.collector("flights").ok_or("no such topic")?.add("N14228 took off").await?;
    let report = batcher.shutdown(Duration::from_secs(10)).await;
    println!("{} delivered", report.delivered);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use kafka_batcher::{ErrorKind, What};

    use super::*;

    fn failed() -> Report {
        let mut report = Report::new(What::ProduceFailed(ErrorKind::Transient), "broker down");
        report.topic = Some("flights".to_owned());
        (report.partition, report.events) = (Some(3), 17);
        report
    }

    /// Reads a request and answers it; gives its first line and body.
    fn answer(mut stream: TcpStream) -> (String, String) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        (first.trim().to_owned(), String::from_utf8(body).unwrap())
    }

    #[test]
    fn a_report_arrives_as_json() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let webhook = Webhook::new(format!("http://{}/hooks/kafka", server.local_addr().unwrap()));
        let served = std::thread::spawn(move || answer(server.accept().unwrap().0));
        webhook.report(&failed());
        let (first, body) = served.join().unwrap();
        assert_eq!(first, "POST /hooks/kafka HTTP/1.1");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["what"], "produce");
        assert_eq!(json["kind"], "transient");
        assert_eq!((&json["topic"], &json["partition"]), (&"flights".into(), &3.into()));
        assert_eq!(
            (&json["events"], &json["next"], &json["times"]),
            (&17.into(), &"sent_again".into(), &1.into())
        );
    }

    #[test]
    fn a_webhook_that_is_gone_is_survived() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Webhook::new(format!("http://{address}/")).report(&failed());
    }
}
