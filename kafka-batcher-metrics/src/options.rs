//! What the metrics are called and how fine they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_batcher_core::KafkaConfig;

/// What the metrics are called and how fine they are.
///
/// ```
/// use kafka_batcher_metrics::Options;
///
/// // An existing dashboard of the Elixir library goes on working.
/// let options = Options::default().prefix("prom_ex_kafka");
/// assert!(options.check().is_ok());
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    pub(crate) prefix: String,
    pub(crate) partition_labels: bool,
    pub(crate) aliases: Arc<BTreeMap<String, String>>,
    pub(crate) producer_buckets: Option<Vec<f64>>,
    pub(crate) consumer_buckets: Option<Vec<f64>>,
}

/// The options make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Prometheus knows no such names.
    #[error("the prefix {0:?} is no name of a metric: letters, digits and _, no digit first")]
    Prefix(String),
    /// A histogram without buckets, or with some that do not ascend.
    #[error("kafka_metric_opts: a histogram needs at least one bucket, and they have to ascend")]
    Buckets,
}

impl Default for Options {
    /// The prefix `kafka_batcher`, labels for partitions, no aliases, default buckets.
    fn default() -> Self {
        Self {
            prefix: "kafka_batcher".to_owned(),
            partition_labels: true,
            aliases: Arc::default(),
            producer_buckets: None,
            consumer_buckets: None,
        }
    }
}

impl Options {
    /// The defaults, with `kafka_topic_aliases` and `kafka_metric_opts` of this configuration.
    pub fn of(config: &KafkaConfig) -> Self {
        Self {
            aliases: Arc::new(config.topic_aliases().clone()),
            producer_buckets: config.metric_opts().producer_buckets.clone(),
            consumer_buckets: config.metric_opts().consumer_buckets.clone(),
            ..Self::default()
        }
    }

    /// What all names begin with.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Whether histograms of batches have a label `partition`. Default `true`.
    pub const fn partition_labels(mut self, on: bool) -> Self {
        self.partition_labels = on;
        self
    }

    /// The upper bounds of each histogram's buckets.
    #[cfg(any(feature = "prometheus", feature = "opentelemetry"))]
    pub(crate) fn buckets(&self) -> Result<Vec<(String, &[f64])>, OptionsError> {
        use crate::names;
        let mut all = Vec::new();
        for (who, seconds) in [
            ("producer", self.producer_buckets.as_deref().unwrap_or(buckets::PRODUCER_SECONDS)),
            ("consumer", self.consumer_buckets.as_deref().unwrap_or(buckets::CONSUMER_SECONDS)),
        ] {
            all.push((format!("{}_{who}_{}", self.prefix, names::DURATION), seconds));
            all.push((format!("{}_{who}_{}", self.prefix, names::MESSAGES), buckets::MESSAGES));
            all.push((format!("{}_{who}_{}", self.prefix, names::BYTES), buckets::BYTES));
        }
        for (name, seconds) in [
            (names::QUEUE, buckets::LATENCY_SECONDS),
            (names::LATENCY, buckets::LATENCY_SECONDS),
            (names::STORAGE_CALL, buckets::STORAGE_SECONDS),
        ] {
            all.push((format!("{}_{name}", self.prefix), seconds));
        }
        let good = |bounds: &[f64]| !bounds.is_empty() && bounds.is_sorted_by(|a, b| a < b);
        if all.iter().all(|(_, bounds)| good(bounds)) { Ok(all) } else { Err(OptionsError::Buckets) }
    }

    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`OptionsError`] names the value that does not.
    pub fn check(&self) -> Result<(), OptionsError> {
        let first = self.prefix.bytes().next();
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if first.is_none_or(|byte| byte.is_ascii_digit()) || !self.prefix.bytes().all(legal) {
            return Err(OptionsError::Prefix(self.prefix.clone()));
        }
        Ok(())
    }
}

/// Upper bounds of the histograms' buckets, unless the configuration has others.
#[cfg(any(feature = "prometheus", feature = "opentelemetry"))]
mod buckets {
    /// Milliseconds in the Elixir library's table.
    pub(crate) const PRODUCER_SECONDS: &[f64] =
        &[0.001, 0.002, 0.003, 0.004, 0.005, 0.01, 0.015, 0.02, 0.05, 0.1];
    pub(crate) const CONSUMER_SECONDS: &[f64] = &[0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.5, 1.0, 2.0];
    pub(crate) const BYTES: &[f64] = &[1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5];
    pub(crate) const MESSAGES: &[f64] = &[1.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 100.0];
    /// From a healthy cluster to one that is hardly alive.
    pub(crate) const LATENCY_SECONDS: &[f64] = &[
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
        300.0,
    ];
    /// From a page cache to a disk that is hardly alive.
    pub(crate) const STORAGE_SECONDS: &[f64] =
        &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_beginning_of_a_name() {
        for good in ["kafka_batcher", "prom_ex_kafka", "_x", "A9"] {
            assert_eq!(Options::default().prefix(good).check(), Ok(()), "{good}");
        }
        for bad in ["", "9a", "a-b", "a.b", "ä", "a b"] {
            assert_eq!(Options::default().prefix(bad).check(), Err(OptionsError::Prefix(bad.to_owned())));
        }
    }
}
