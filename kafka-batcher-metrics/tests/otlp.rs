//! The OpenTelemetry exporter says what the one for Prometheus says.
#![cfg(feature = "opentelemetry")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::collector::CollectorState;
use kafka_batcher_core::config::{KafkaConfig, MetricOpts, TopicSettings};
use kafka_batcher_core::lane::{Lane, LaneOptions};
use kafka_batcher_core::snapshot::{LaneSnapshot, Memory, TopicSnapshot};
use kafka_batcher_core::{ErrorKind, FlushReason, LaneId, Moment, Record, Snapshot, StorageCall, Telemetry};
use kafka_batcher_metrics::otlp::Exporter;
use kafka_batcher_metrics::{Options, Recorded};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

/// What a meter has collected last.
struct Collected {
    provider: SdkMeterProvider,
    memory: InMemoryMetricExporter,
}

impl Collected {
    fn new() -> Self {
        let memory = InMemoryMetricExporter::default();
        let never = PeriodicReader::builder(memory.clone()).with_interval(Duration::from_secs(3600)).build();
        Self { provider: SdkMeterProvider::builder().with_reader(never).build(), memory }
    }

    /// Each metric, and each of its series under its labels: of histograms the count.
    fn collect(&self) -> BTreeMap<String, f64> {
        self.memory.reset();
        self.provider.force_flush().unwrap();
        let mut series = BTreeMap::new();
        for resource in self.memory.get_finished_metrics().unwrap() {
            for metric in resource.scope_metrics().flat_map(|scope| scope.metrics()) {
                read(metric, &mut series);
            }
        }
        series
    }
}

fn read(metric: &Metric, series: &mut BTreeMap<String, f64>) {
    let key = |attributes: Vec<(String, String)>| {
        let mut labels: Vec<String> =
            attributes.into_iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        labels.sort();
        format!("{}{{{}}}", metric.name(), labels.join(","))
    };
    macro_rules! labels {
        ($point:expr) => {
            key($point.attributes().map(|kv| (kv.key.to_string(), kv.value.to_string())).collect())
        };
    }
    match metric.data() {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            assert!(sum.is_monotonic());
            for point in sum.data_points() {
                series.insert(labels!(point), point.value() as f64);
            }
        }
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            for point in gauge.data_points() {
                series.insert(labels!(point), point.value());
            }
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            for point in histogram.data_points() {
                let bounds: Vec<f64> = point.bounds().collect();
                let counts: Vec<u64> = point.bucket_counts().collect();
                assert_eq!(counts.len(), bounds.len() + 1);
                series.insert(labels!(point), point.count() as f64);
                for (bound, count) in bounds.into_iter().zip(counts) {
                    series.insert(format!("{} le={bound}", metric.name()), count as f64);
                }
            }
        }
        other => panic!("{} is something else: {other:?}", metric.name()),
    }
}

fn tell(telemetry: &Recorded) {
    let lane = LaneId::partition("flights", 3);
    telemetry.batch_sealed(&lane, 5, 500, FlushReason::Count);
    telemetry.delivered(&lane, 5, 500, Duration::from_micros(2500), Some(Duration::from_millis(3)));
    telemetry.produce_failed(&lane, 5, ErrorKind::Transient, Duration::from_millis(1));
    telemetry.stored(&lane, 7, 700);
    telemetry.storage_called(StorageCall::Sync, Duration::from_millis(2), true);
    telemetry.rejected("flights", "too_large", 4);
    telemetry.dead_lettered(&lane, ErrorKind::TooLarge);
    telemetry.consumer("flights", 3).consumed(20, 2000, Duration::from_millis(15));
}

/// A snapshot of a lane that has so many events.
fn snapshot(events: u64) -> Snapshot {
    let config = KafkaConfig::new("a:1").with_topic(TopicSettings::new("flights"));
    let options = LaneOptions::new(&config.topics().unwrap()[0], config.timing());
    let mut lane = Lane::new(LaneId::partition("flights", 0), options);
    for _ in 0..events {
        lane.push(&Record::new("x").as_ref(), 0, 1, false, Moment::ZERO).unwrap();
    }
    let mut snapshot = Snapshot::new(Memory::new(1, 2, 3, 4));
    let name = Arc::from("flights");
    let lanes = vec![LaneSnapshot::at(&lane, Moment::ZERO)];
    snapshot.topics.push(TopicSnapshot::new(name, CollectorState::Ready, 0, lanes));
    snapshot
}

#[test]
fn names_labels_figures_and_buckets_are_those_of_prometheus() {
    let config = KafkaConfig::new("a:1").topic_alias("flights", "planes");
    let options = Options::of(&config).prefix("prom_ex_kafka");
    let collected = Collected::new();
    let otlp = Exporter::new(&options, &collected.provider.meter("test")).unwrap();
    let prometheus = kafka_batcher_metrics::prometheus::Exporter::new(&options).unwrap();
    tell(&otlp.telemetry());
    tell(&prometheus.telemetry());
    otlp.publish(&snapshot(5));
    prometheus.telemetry().publish(&snapshot(5));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(otlp.refresh(&Gone));
    let ours = collected.collect();
    let text = runtime.block_on(prometheus.render(&Gone));
    let mut seen = 0;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (key, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) =
            key.split_once('{').map_or((key, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
        if name.ends_with("_sum") || name.ends_with("_bucket") {
            continue;
        }
        let is_histogram =
            text.contains(&format!("# TYPE {} histogram", name.strip_suffix("_count").unwrap_or(name)));
        let name = if is_histogram { name.strip_suffix("_count").unwrap() } else { name };
        let mut labels: Vec<&str> = labels.split(',').filter(|label| !label.is_empty()).collect();
        labels.sort_unstable();
        let key = format!("{name}{{{}}}", labels.join(","));
        assert_eq!(ours.get(&key), Some(&value.parse().unwrap()), "{key}\n{ours:#?}");
        seen += 1;
    }
    assert!(seen > 40, "only {seen}");
    let bounds =
        ours.keys().filter_map(|key| key.strip_prefix("prom_ex_kafka_producer_duration_seconds le="));
    let mut bounds: Vec<f64> = bounds.map(|bound| bound.parse().unwrap()).collect();
    bounds.sort_by(f64::total_cmp);
    assert_eq!(bounds, [0.001, 0.002, 0.003, 0.004, 0.005, 0.01, 0.015, 0.02, 0.05, 0.1]);
    assert_eq!(ours["prom_ex_kafka_producer_duration_seconds le=0.003"], 1.0);
}

#[derive(Debug)]
struct Gone;

impl kafka_batcher_core::Observe for Gone {
    fn snapshot<'a: 'b, 'b>(&'a self) -> std::pin::Pin<Box<dyn Future<Output = Option<Snapshot>> + Send + 'b>>
    where
        Self: 'b,
    {
        Box::pin(async { None })
    }
}

/// Snapshots are published by one thread while another collects: what is reported together is from one of them.
#[test]
fn the_figures_of_a_collection_are_those_of_one_snapshot() {
    let collected = Collected::new();
    let exporter = Exporter::new(&Options::default(), &collected.provider.meter("test")).unwrap();
    exporter.publish(&snapshot(0));
    let rounds = 300;
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| (1..=rounds).for_each(|events| exporter.publish(&snapshot(events))));
        let mut last = 0.0;
        loop {
            let done = publishing.is_finished();
            let series = collected.collect();
            let value =
                |name| series[&format!("kafka_batcher_{name}{{topic=\"flights\",topic_alias=\"flights\"}}")];
            assert_eq!(value("events_accepted_total"), value("events_in_memory"));
            assert!(value("events_accepted_total") >= last);
            last = value("events_accepted_total");
            if done {
                break;
            }
        }
        assert_eq!(last, rounds as f64);
    });
}

#[test]
fn buckets_that_do_not_ascend_are_refused() {
    let mut opts = MetricOpts::default();
    opts.producer_buckets = Some(vec![2.0, 1.0]);
    let config = KafkaConfig::new("a:1").kafka_metric_opts(opts);
    let meter = Collected::new().provider.meter("test");
    assert!(Exporter::new(&Options::of(&config), &meter).is_err());
}
