//! The testkit's suite for telemetry.

use kafka_batcher_metrics::{Options, Recorded};

#[cfg(feature = "prometheus")]
fn prometheus() -> Recorded {
    kafka_batcher_metrics::prometheus::Exporter::new(&Options::default()).unwrap().telemetry()
}

#[cfg(feature = "opentelemetry")]
fn otlp() -> Recorded {
    use opentelemetry::metrics::MeterProvider;
    use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

    let reader = PeriodicReader::builder(InMemoryMetricExporter::default()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    kafka_batcher_metrics::otlp::Exporter::new(&Options::default(), &provider.meter("test"))
        .unwrap()
        .telemetry()
}

/// No recorder is installed: nothing is recorded, and nothing goes wrong.
fn global() -> Recorded {
    Recorded::global(&Options::default().partition_labels(false)).unwrap()
}

#[cfg(feature = "prometheus")]
kafka_batcher_testkit::telemetry_conformance!(prometheus, crate::prometheus());
#[cfg(feature = "opentelemetry")]
kafka_batcher_testkit::telemetry_conformance!(otlp, crate::otlp());
kafka_batcher_testkit::telemetry_conformance!(no_recorder, crate::global());
