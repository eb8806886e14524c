//! A consumer goes on with the trace of whoever added the event, through Kafka and with OpenTelemetry's own library.
#![cfg(all(feature = "trace-context", any(feature = "rdkafka", feature = "rskafka")))]

use std::collections::HashMap;
use std::time::Duration;

use kafka_batcher::{KafkaBatcher, KafkaConfig, Producer, TopicSettings, TraceContext};
use kafka_batcher_testkit::reader::ReadRecord;
use kafka_batcher_testkit::target::Target;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

const LONG: Duration = Duration::from_secs(30);

/// An application that traces: its spans are `traced` and what the batcher does in it.
async fn produce(topic: &str, config: KafkaConfig, producer: impl Producer + 'static) {
    let config = config.with_topic(TopicSettings::new(topic).sequence_header(true));
    let batcher = KafkaBatcher::builder()
        .config(config)
        .producer(producer)
        .header_source(TraceContext::new())
        .build()
        .unwrap();
    let collector = batcher.collector(topic).unwrap();
    let traced = async {
        collector.add("in the trace").await.unwrap();
        let own = [("traceparent", "its own"), ("x", "")];
        collector.add((own, None::<&str>, "with a context of its own")).await.unwrap();
        collector.add(([("x", "")], None::<&str>, "with another header")).await.unwrap();
    };
    traced.instrument(tracing::info_span!(target: "application", "traced")).await;
    collector.add("outside of any trace").await.unwrap();
    let report = batcher.shutdown(LONG).await;
    assert_eq!((report.accepted, report.delivered), (4, 4), "{report:?}");
}

fn header<'a>(record: &'a ReadRecord, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().find(|(of, _)| of == name)?;
    value.as_deref().and_then(|value| std::str::from_utf8(value).ok())
}

/// Goes on with the trace of a record; gives the span that does.
fn consume(record: &ReadRecord) -> SpanData {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let carrier: HashMap<String, String> = record
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), String::from_utf8(value.clone()?).ok()?)))
        .collect();
    let context = TraceContextPropagator::new().extract(&carrier);
    provider.tracer("consumer").start_with_context("consume", &context).end();
    exporter.get_finished_spans().unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_goes_on_with_the_trace() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("producer"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();

    let target = Target::from_env().unwrap();
    let config = target.config();
    let mut topics: Vec<String> = Vec::new();
    #[cfg(feature = "rdkafka")]
    {
        let topic = new_topic(&target, "rdkafka").await;
        let producer = kafka_batcher::rdkafka::RdkafkaProducer::new(&config).unwrap();
        produce(&topic, config.clone(), producer).await;
        topics.push(topic);
    }
    #[cfg(feature = "rskafka")]
    {
        let topic = new_topic(&target, "rskafka").await;
        let producer = kafka_batcher::rskafka::RskafkaProducer::new(&config).unwrap();
        produce(&topic, config.clone(), producer).await;
        topics.push(topic);
    }
    let spans = exporter.get_finished_spans().unwrap();
    let traced: Vec<&SpanData> = spans.iter().filter(|span| span.name == "traced").collect();
    for (topic, traced) in topics.iter().zip(traced) {
        let read = target.read(topic, LONG).await.unwrap();
        let find = |value: &str| {
            let is_it = |record: &&ReadRecord| record.value.as_deref() == Some(value.as_bytes());
            read.iter().find(is_it).unwrap_or_else(|| panic!("{topic}: {value} did not arrive"))
        };
        for value in ["in the trace", "with another header"] {
            let consumed = consume(find(value));
            assert_eq!(consumed.span_context.trace_id(), traced.span_context.trace_id(), "{topic}: {value}");
            assert_eq!(consumed.parent_span_id, traced.span_context.span_id(), "{topic}: {value}");
        }
        assert_eq!(header(find("with a context of its own"), "traceparent"), Some("its own"));
        assert_eq!(header(find("outside of any trace"), "traceparent"), None);
        assert_eq!(find("with another header").headers.len(), 3, "its own, the sequence and the context");
    }
}

async fn new_topic(target: &Target, client: &str) -> String {
    let topic = format!("trace-context-{client}-{}", std::process::id());
    target.create_topic(&topic, 1).await.unwrap();
    topic
}
