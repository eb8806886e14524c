//! The testkit's suite for telemetry.

use kafka_batcher_metrics::prometheus::Exporter;
use kafka_batcher_metrics::{Options, Recorded};

fn exporter() -> Recorded {
    Exporter::new(&Options::default()).unwrap().telemetry()
}

/// No recorder is installed: nothing is recorded, and nothing goes wrong.
fn global() -> Recorded {
    Recorded::global(&Options::default().partition_labels(false)).unwrap()
}

kafka_batcher_testkit::telemetry_conformance!(prometheus, crate::exporter());
kafka_batcher_testkit::telemetry_conformance!(no_recorder, crate::global());
