//! `cargo xtask bench`: how fast it is, against what people use, in the same run.
//!
//! Every figure is a median over rounds in which the contestants take turns, each in a process of its own: machines
//! drift, and the ratios hold where the figures do not.

mod kcat;
mod telemetry;
mod throughput;

use std::process::ExitCode;

use clap::Subcommand;

use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Events of 100 bytes, added one at a time: the batcher, `FutureProducer`, and a bare loop over librdkafka
    Throughput(throughput::Throughput),
    /// The flights through `kafka-batcher produce` and through `kcat -P`, into real Kafka
    Kcat(kcat::Kcat),
    /// Instructions an event with telemetry off and on, counted by callgrind
    Telemetry(telemetry::Telemetry),
}

pub(crate) fn run(bench: &Bench) -> Result<ExitCode> {
    match bench {
        Bench::Throughput(options) => throughput::run(options),
        Bench::Kcat(options) => kcat::run(options),
        Bench::Telemetry(options) => telemetry::run(options),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }
}
