//! The thread that calls the error notifier.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use kafka_batcher_core::{ErrorNotifier, Report, What};

use crate::contain::contained;

/// Reports waiting for a slow notifier; more are dropped, counted and logged.
const WAITING: usize = 1024;

/// Writes reports to the log (`tracing`, target `kafka_batcher`): the default notifier.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogNotifier;

impl ErrorNotifier for LogNotifier {
    fn report(&self, report: &Report) {
        tracing::warn!(
            target: "kafka_batcher",
            topic = report.topic.as_deref(),
            partition = report.partition,
            events = report.events,
            "{}: {}", report.what, report.message
        );
    }
}

/// Passes reports to the notifier's thread without ever waiting for it.
#[derive(Debug)]
pub(crate) struct Notify {
    reports: SyncSender<Report>,
    dropped: Arc<AtomicU64>,
    panics: Arc<AtomicU64>,
}

impl Notify {
    pub(crate) fn start(notifier: Arc<dyn ErrorNotifier>) -> std::io::Result<Self> {
        let (reports, waiting) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let panics = Arc::new(AtomicU64::new(0));
        let (thread_dropped, thread_panics) = (Arc::clone(&dropped), Arc::clone(&panics));
        // Ends by itself when the last sender is gone; never joined, since user code may hang in it.
        std::thread::Builder::new()
            .name("kafka-batcher-notifier".to_owned())
            .spawn(move || run(&*notifier, &waiting, &thread_dropped, &thread_panics))?;
        Ok(Self { reports, dropped, panics })
    }

    /// How many panics were contained.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }

    /// One more panic was contained, and is told of in another way than by a report of it.
    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// How many reports the notifier was too slow for.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(crate) fn send(&self, report: Report) {
        tracing::debug!(target: "kafka_batcher", %report);
        if report.what == What::Panicked {
            self.panicked();
        }
        if self.reports.try_send(report).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

fn run(
    notifier: &dyn ErrorNotifier,
    waiting: &Receiver<Report>,
    all_dropped: &AtomicU64,
    panics: &AtomicU64,
) {
    let mut told = 0;
    for report in waiting {
        if let Err(panic) = contained(|| notifier.report(&report)) {
            panics.fetch_add(1, Relaxed);
            tracing::error!(target: "kafka_batcher", %panic, %report, "the error notifier panicked");
        }
        let all = all_dropped.load(Relaxed);
        let dropped = all - std::mem::replace(&mut told, all);
        if dropped > 0 {
            tracing::warn!(target: "kafka_batcher", dropped, "the error notifier is too slow: reports were dropped");
        }
    }
}
