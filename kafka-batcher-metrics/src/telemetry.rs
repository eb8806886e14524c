//! The core's [`Telemetry`] over the `metrics` facade.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::{ErrorKind, FlushReason, LaneId, StorageCall, Telemetry};
use metrics::{Counter, Histogram, Recorder};
use parking_lot::RwLock;
use rapidhash::fast::RandomState;

use crate::labels::{Source, and};
use crate::names;
use crate::options::{Options, OptionsError};

/// Records what a batcher does with a recorder of the `metrics` facade: hand it to `Builder::telemetry`.
///
/// Cheap to clone; clones record the same metrics. Handles are kept, so that a batch costs a few atomic operations.
#[derive(Clone)]
pub struct Recorded {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) source: Source,
    lanes: Kept<LaneId, Lane>,
    counters: Kept<(&'static str, Arc<str>, &'static str), Counter>,
    calls: Kept<(StorageCall, bool), Histogram>,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").field("source", &self.inner.source).finish_non_exhaustive()
    }
}

/// Handles that were asked for before. Keys come from the configuration, so that a fast hasher will do.
struct Kept<K, V>(RwLock<HashMap<K, V, RandomState>>);

impl<K: Hash + Eq, V> Kept<K, V> {
    fn new() -> Self {
        Self(RwLock::default())
    }

    fn with(&self, key: &K, make: impl FnOnce() -> (K, V), work: impl FnOnce(&V)) {
        if let Some(kept) = self.0.read().get(key) {
            return work(kept);
        }
        let (key, new) = make();
        work(self.0.write().entry(key).or_insert(new));
    }
}

/// Histograms of the batches of a lane.
#[derive(Clone)]
pub(crate) struct Batches {
    duration: Histogram,
    messages: Histogram,
    bytes: Histogram,
}

impl Batches {
    /// `who`: `producer` or `consumer`.
    pub(crate) fn new(source: &Source, who: &str, topic: &str, partition: Option<u32>) -> Self {
        let histogram =
            |name: &str| source.histogram(&format!("{who}_{name}"), source.partition(topic, partition));
        Self {
            duration: histogram(names::DURATION),
            messages: histogram(names::MESSAGES),
            bytes: histogram(names::BYTES),
        }
    }

    pub(crate) fn record(&self, events: u64, bytes: u64, took: Duration) {
        self.duration.record(took.as_secs_f64());
        self.messages.record(events as f64);
        self.bytes.record(bytes as f64);
    }
}

/// Histograms of what a lane delivers.
struct Lane {
    batches: Batches,
    queue: Histogram,
    latency: Histogram,
}

impl Lane {
    fn new(source: &Source, id: &LaneId) -> Self {
        let histogram = |name| source.histogram(name, source.topic(&id.topic));
        Self {
            batches: Batches::new(source, "producer", &id.topic, id.partition),
            queue: histogram(names::QUEUE),
            latency: histogram(names::LATENCY),
        }
    }
}

impl Recorded {
    /// Records with the application's global recorder, which may be installed later.
    ///
    /// # Errors
    /// [`OptionsError`] names the option that makes no sense.
    pub fn global(options: &Options) -> Result<Self, OptionsError> {
        Self::new(None, options)
    }

    /// Records with this recorder.
    ///
    /// # Errors
    /// [`OptionsError`] names the option that makes no sense.
    pub fn with_recorder(
        recorder: impl Recorder + Send + Sync + 'static,
        options: &Options,
    ) -> Result<Self, OptionsError> {
        Self::new(Some(Arc::new(recorder)), options)
    }

    fn new(
        recorder: Option<Arc<dyn Recorder + Send + Sync>>,
        options: &Options,
    ) -> Result<Self, OptionsError> {
        options.check()?;
        let source = Source::new(recorder, options.clone());
        source.with(|recorder| names::describe(recorder, options));
        let inner = Inner { source, lanes: Kept::new(), counters: Kept::new(), calls: Kept::new() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Counts something of a topic, with one more label or none.
    fn count(
        &self,
        name: &'static str,
        topic: &Arc<str>,
        label: Option<(&'static str, &'static str)>,
        by: u64,
    ) {
        let source = &self.inner.source;
        let key = (name, Arc::clone(topic), label.map_or("", |(_, value)| value));
        let make = || {
            let labels = source.topic(topic);
            let labels =
                label.map_or_else(|| labels.clone(), |(label, value)| and(labels.clone(), label, value));
            (key.clone(), source.counter(name, labels))
        };
        self.inner.counters.with(&key, make, |counter| counter.increment(by));
    }
}

impl Telemetry for Recorded {
    fn batch_sealed(&self, lane: &LaneId, _events: u32, _bytes: usize, reason: FlushReason) {
        self.count(names::BATCHES, &lane.topic, Some(("reason", reason.as_str())), 1);
    }

    fn delivered(&self, lane: &LaneId, events: u32, bytes: usize, took: Duration, queued: Option<Duration>) {
        let make = || (lane.clone(), Lane::new(&self.inner.source, lane));
        self.inner.lanes.with(lane, make, |kept| {
            kept.batches.record(events.into(), bytes as u64, took);
            if let Some(queued) = queued {
                kept.queue.record(queued.as_secs_f64());
                kept.latency.record(queued.saturating_add(took).as_secs_f64());
            }
        });
    }

    fn produce_failed(&self, lane: &LaneId, events: u32, kind: ErrorKind, _took: Duration) {
        let label = Some(("kind", kind.as_str()));
        self.count(names::FAILURES, &lane.topic, label, 1);
        self.count(names::FAILED_EVENTS, &lane.topic, label, events.into());
    }

    fn stored(&self, lane: &LaneId, events: u32, _bytes: usize) {
        self.count(names::SPILLED, &lane.topic, None, events.into());
    }

    fn storage_called(&self, call: StorageCall, took: Duration, ok: bool) {
        let source = &self.inner.source;
        let make = || {
            let ok_label = if ok { "true" } else { "false" };
            let labels = and(and(Vec::new(), "call", call.as_str()), "ok", ok_label);
            ((call, ok), source.histogram(names::STORAGE_CALL, labels))
        };
        self.inner.calls.with(&(call, ok), make, |histogram| histogram.record(took.as_secs_f64()));
    }

    fn rejected(&self, topic: &str, reason: &'static str, events: u64) {
        let topic = Arc::from(topic);
        self.count(names::REJECTED, &topic, Some(("reason", reason)), events);
        if reason == ErrorKind::TooLarge.as_str() {
            self.count(names::OVERSIZED, &topic, Some(("limit", "max_batch_bytesize")), events);
        }
    }

    fn dead_lettered(&self, lane: &LaneId, kind: ErrorKind) {
        self.count(names::DEAD_LETTERS, &lane.topic, Some(("kind", kind.as_str())), 1);
        if kind == ErrorKind::TooLarge {
            self.count(names::OVERSIZED, &lane.topic, Some(("limit", "kafka")), 1);
        }
    }
}
