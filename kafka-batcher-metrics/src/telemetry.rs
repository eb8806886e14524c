//! The core's [`Telemetry`] over the `metrics` facade.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use kafka_batcher_core::{ErrorKind, FlushReason, LaneId, StorageCall, Telemetry};
use metrics::{Counter, Histogram, Recorder};
use parking_lot::{Mutex, RwLock};
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
    pub(crate) upkeep: Upkeep,
    /// Of which a snapshot was published.
    pub(crate) topics: Mutex<BTreeSet<Arc<str>>>,
    lanes: Kept<LaneId, Lane>,
    sealed: Kept<(Arc<str>, FlushReason), Counter>,
    counters: Kept<(&'static str, Arc<str>, &'static str), Counter>,
    calls: Kept<(StorageCall, bool), Histogram>,
}

/// What a recorder wants done once in a while, however rarely somebody reads it: it may keep every observation until then.
pub(crate) struct Upkeep {
    work: Box<dyn Fn() + Send + Sync>,
    calls: AtomicU32,
}

impl Upkeep {
    /// Calls that record some observations between two upkeeps.
    const EVERY: u32 = 4096;

    pub(crate) fn recorded(&self) {
        if self.calls.fetch_add(1, Relaxed) % Self::EVERY == Self::EVERY - 1 {
            (self.work)();
        }
    }
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
    /// Records with the application's global recorder, which has to be installed before: what is recorded without one goes
    /// nowhere, then and later.
    ///
    /// # Errors
    /// [`OptionsError`] names the option that makes no sense.
    pub fn global(options: &Options) -> Result<Self, OptionsError> {
        Self::new(None, options, || ())
    }

    /// Records with this recorder.
    ///
    /// # Errors
    /// [`OptionsError`] names the option that makes no sense.
    pub fn with_recorder(
        recorder: impl Recorder + Send + Sync + 'static,
        options: &Options,
    ) -> Result<Self, OptionsError> {
        Self::with_upkeep(recorder, options, || ())
    }

    /// Records with this recorder, and does this work for it once in a while.
    pub(crate) fn with_upkeep(
        recorder: impl Recorder + Send + Sync + 'static,
        options: &Options,
        work: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, OptionsError> {
        Self::new(Some(Arc::new(recorder)), options, work)
    }

    fn new(
        recorder: Option<Arc<dyn Recorder + Send + Sync>>,
        options: &Options,
        work: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, OptionsError> {
        options.check()?;
        let source = Source::new(recorder, options.clone());
        source.with(|recorder| names::describe(recorder, options));
        let inner = Inner {
            source,
            upkeep: Upkeep { work: Box::new(work), calls: AtomicU32::new(0) },
            topics: Mutex::default(),
            lanes: Kept::new(),
            sealed: Kept::new(),
            counters: Kept::new(),
            calls: Kept::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A counter that begins with its first value hides that one from `rate`: those of a topic whose labels are known
    /// begin at 0.
    pub(crate) fn begin(&self, topic: &Arc<str>) {
        let zero = |name, label, value| self.count(name, topic, Some((label, value)), 0);
        FlushReason::ALL.iter().for_each(|reason| zero(names::BATCHES, "reason", reason.as_str()));
        names::REJECTIONS.iter().for_each(|reason| zero(names::REJECTED, "reason", reason));
        for kind in ErrorKind::ALL.iter().filter(|kind| **kind != ErrorKind::Expired) {
            zero(names::FAILURES, "kind", kind.as_str());
            zero(names::FAILED_EVENTS, "kind", kind.as_str());
        }
        for kind in [ErrorKind::Permanent, ErrorKind::TooLarge, ErrorKind::Expired] {
            zero(names::DEAD_LETTERS, "kind", kind.as_str());
        }
        ["max_batch_bytesize", "kafka"].iter().for_each(|limit| zero(names::OVERSIZED, "limit", limit));
        self.count(names::SPILLED, topic, None, 0);
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
        let source = &self.inner.source;
        let key = (Arc::clone(&lane.topic), reason);
        let make = || {
            let labels = and(source.topic(&lane.topic), "reason", reason.as_str());
            (key.clone(), source.counter(names::BATCHES, labels))
        };
        self.inner.sealed.with(&key, make, |counter| counter.increment(1));
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
        self.inner.upkeep.recorded();
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
        self.inner.upkeep.recorded();
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

#[cfg(test)]
mod tests {
    use metrics::NoopRecorder;

    use super::*;

    #[test]
    fn who_is_never_read_is_kept_up_all_the_same() {
        let times = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&times);
        let work = move || {
            count.fetch_add(1, Relaxed);
        };
        let recorded = Recorded::with_upkeep(NoopRecorder, &Options::default(), work).unwrap();
        let (lane, ms) = (LaneId::partition("t", 0), Duration::from_millis(1));
        let consumer = recorded.consumer("t", 0);
        for _ in 0..Upkeep::EVERY {
            recorded.delivered(&lane, 1, 100, ms, None);
            recorded.storage_called(StorageCall::Append, ms, true);
            consumer.consumed(1, 100, ms);
        }
        assert_eq!(times.load(Relaxed), 3);
    }
}
