//! The same metrics for an OpenTelemetry meter: same names, labels, figures and buckets.
//!
//! What is made here feeds a [`Meter`]; which exporter, protocol and endpoint are behind it is the application's choice, with
//! the `opentelemetry_sdk` and `opentelemetry-otlp` it has anyway:
//!
//! ```
//! use std::time::Duration;
//! use kafka_batcher_core::Observe;
//! use kafka_batcher_metrics::{Options, otlp};
//!
//! # async fn example(observer: impl Observe + 'static) -> Result<(), kafka_batcher_metrics::OptionsError> {
//! let meter = opentelemetry::global::meter("kafka-batcher"); // or that of a provider of its own
//! let exporter = otlp::Exporter::new(&Options::default(), &meter)?;
//! // The batcher is built with `.telemetry(exporter.telemetry())`, and its observer is watched:
//! let watch = exporter.watch(observer, Duration::from_secs(10)); // until it is dropped
//! # drop(watch);
//! # Ok(())
//! # }
//! ```
//!
//! Figures that come from a snapshot are taken over together, and a collection reports all of them from the same one, as long as
//! the meter has one reader. The SDK keeps 2000 series of a metric unless its views say otherwise, and throws the
//! rest together: with more partitions than that switch [their labels](Options::partition_labels) off.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use kafka_batcher_core::{Observe, Snapshot};
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::options::{Options, OptionsError};
use crate::telemetry::Recorded;

/// Records into a meter.
#[derive(Clone)]
pub struct Exporter {
    recorded: Recorded,
    figures: Arc<Figures>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("recorded", &self.recorded).finish_non_exhaustive()
    }
}

impl Exporter {
    /// An exporter with nothing in it yet.
    ///
    /// # Errors
    /// [`OptionsError`] names the option that makes no sense.
    pub fn new(options: &Options, meter: &Meter) -> Result<Self, OptionsError> {
        let figures = Arc::new(Figures::default());
        let buckets = options.buckets()?.into_iter().map(|(name, bounds)| (name, bounds.to_vec()));
        let bridge = Bridge {
            meter: meter.clone(),
            figures: Arc::clone(&figures),
            buckets: buckets.collect(),
            descriptions: Mutex::default(),
            histograms: Mutex::default(),
        };
        Ok(Self { recorded: Recorded::with_recorder(bridge, options)?, figures })
    }

    /// What records into it: for `Builder::telemetry`, and for [consumers](Recorded::consumer).
    #[must_use]
    pub fn telemetry(&self) -> Recorded {
        self.recorded.clone()
    }

    /// Takes over the figures of a snapshot, for the next collection.
    pub fn publish(&self, snapshot: &Snapshot) {
        let _whole = self.figures.publishing.lock();
        self.recorded.publish(snapshot);
    }

    /// Publishes a snapshot of the observed batcher now: before the meter's provider is shut down, for example.
    pub async fn refresh(&self, observer: &dyn Observe) {
        match observer.snapshot().await {
            Some(snapshot) => self.publish(&snapshot),
            None => {
                let _whole = self.figures.publishing.lock();
                self.recorded.publish_end();
            }
        }
    }

    /// Publishes a snapshot every so often, until what is returned is dropped: best about as often as the meter's reader
    /// collects. Has to be called within a tokio runtime.
    pub fn watch(&self, observer: impl Observe + 'static, every: Duration) -> Watch {
        let exporter = self.clone();
        let task = tokio::spawn(async move {
            loop {
                exporter.refresh(&observer).await;
                tokio::time::sleep(every).await;
            }
        });
        Watch { task: task.abort_handle() }
    }
}

/// A batcher is being watched; that ends when this is dropped.
#[derive(Debug)]
#[must_use = "watching ends when this is dropped"]
pub struct Watch {
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counters and gauges: the meter asks for them.
#[derive(Default)]
struct Figures {
    all: Mutex<All>,
    /// Held while figures that belong together are set, and while they are taken for a collection.
    publishing: Mutex<()>,
}

#[derive(Default)]
struct All {
    handles: HashMap<Key, Arc<AtomicU64>>,
    by_name: HashMap<String, Vec<Figure>>,
}

/// One series.
struct Figure {
    labels: Vec<KeyValue>,
    now: Arc<AtomicU64>,
    /// What this collection reports; none if it is newer.
    taken: Option<u64>,
}

impl Figures {
    /// The handle of a series; and whether it is the first of its name, and the first of all.
    fn handle(&self, key: &Key) -> (Arc<AtomicU64>, bool, bool) {
        let mut all = self.all.lock();
        if let Some(handle) = all.handles.get(key) {
            return (Arc::clone(handle), false, false);
        }
        let first = all.handles.is_empty();
        let handle = Arc::new(AtomicU64::new(0));
        all.handles.insert(key.clone(), Arc::clone(&handle));
        let series = all.by_name.entry(key.name().to_owned()).or_default();
        series.push(Figure { labels: labels(key), now: Arc::clone(&handle), taken: None });
        let new = series.len() == 1;
        (handle, new, first)
    }

    /// Takes all as they are now.
    fn take(&self) {
        let _whole = self.publishing.lock();
        for figure in self.all.lock().by_name.values_mut().flatten() {
            figure.taken = Some(figure.now.load(Relaxed));
        }
    }

    /// What was taken of a metric.
    fn report(&self, name: &str, mut observe: impl FnMut(u64, &[KeyValue])) {
        for figure in self.all.lock().by_name.get(name).into_iter().flatten() {
            if let Some(value) = figure.taken {
                observe(value, &figure.labels);
            }
        }
    }
}

fn labels(key: &Key) -> Vec<KeyValue> {
    let label = |label: &metrics::Label| KeyValue::new(label.key().to_owned(), label.value().to_owned());
    key.labels().map(label).collect()
}

/// Takes a value and its labels.
type Report<'a> = dyn FnMut(u64, &[KeyValue]) + 'a;

/// A recorder of the `metrics` facade over a meter.
struct Bridge {
    meter: Meter,
    figures: Arc<Figures>,
    buckets: HashMap<String, Vec<f64>>,
    descriptions: Mutex<HashMap<String, Description>>,
    histograms: Mutex<HashMap<String, opentelemetry::metrics::Histogram<f64>>>,
}

#[derive(Clone, Default)]
struct Description {
    unit: &'static str,
    text: String,
}

impl Bridge {
    fn describe(&self, name: &KeyName, unit: Option<Unit>, text: SharedString) {
        // Only what the name says too: receivers that put units behind names, as Prometheus, leave the names as they are then.
        let unit = match unit {
            Some(Unit::Seconds) if name.as_str().contains("seconds") => "s",
            Some(Unit::Bytes) if name.as_str().contains("bytes") => "By",
            _ => "",
        };
        let description = Description { unit, text: text.into_owned() };
        self.descriptions.lock().insert(name.as_str().to_owned(), description);
    }

    fn description(&self, name: &str) -> Description {
        self.descriptions.lock().get(name).cloned().unwrap_or_default()
    }

    /// The collection asks in the order in which metrics were made: the first one takes the figures for all.
    fn callback(&self, name: &str, first: bool) -> impl Fn(&mut Report<'_>) + use<> {
        let (figures, name) = (Arc::clone(&self.figures), name.to_owned());
        move |observe| {
            if first {
                figures.take();
            }
            figures.report(&name, observe);
        }
    }
}

impl Recorder for Bridge {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let (handle, new, first) = self.figures.handle(key);
        if new {
            let Description { unit, text } = self.description(key.name());
            let report = self.callback(key.name(), first);
            self.meter
                .u64_observable_counter(key.name().to_owned())
                .with_unit(unit)
                .with_description(text)
                .with_callback(move |observer| report(&mut |value, labels| observer.observe(value, labels)))
                .build();
        }
        Counter::from_arc(handle)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let (handle, new, first) = self.figures.handle(key);
        if new {
            let Description { unit, text } = self.description(key.name());
            let report = self.callback(key.name(), first);
            self.meter
                .f64_observable_gauge(key.name().to_owned())
                .with_unit(unit)
                .with_description(text)
                .with_callback(move |observer| {
                    report(&mut |value, labels| observer.observe(f64::from_bits(value), labels));
                })
                .build();
        }
        Gauge::from_arc(handle)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let name = key.name();
        let known = self.histograms.lock().get(name).cloned();
        let histogram = known.unwrap_or_else(|| {
            let Description { unit, text } = self.description(name);
            let builder = self.meter.f64_histogram(name.to_owned()).with_unit(unit).with_description(text);
            let histogram =
                builder.with_boundaries(self.buckets.get(name).cloned().unwrap_or_default()).build();
            // Made twice, it is the same to the meter.
            self.histograms.lock().entry(name.to_owned()).or_insert(histogram).clone()
        });
        Histogram::from_arc(Arc::new(Series { histogram, labels: labels(key) }))
    }
}

/// A histogram with its labels.
struct Series {
    histogram: opentelemetry::metrics::Histogram<f64>,
    labels: Vec<KeyValue>,
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.histogram.record(value, &self.labels);
    }
}
