//! Error notifiers, and the thread that calls one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use kafka_batcher_core::{Digest, ErrorNotifier, Moment, Report, Trouble, What};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::contain::contained;

/// Reports waiting for a slow notifier; more are dropped, counted and logged.
const WAITING: usize = 1024;
/// How often the same thing is said of a notifier at most.
const COMPLAINT: Duration = Duration::from_secs(60);

/// Writes each report to the log: a line of [`tracing`](crate::logs), of the level that it takes.
///
/// The default is one behind [`RateLimited`], since in an outage there may be thousands of reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogNotifier;

impl ErrorNotifier for LogNotifier {
    fn report(&self, report: &Report) {
        // The level is part of what is known where the program is compiled.
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    target: "kafka_batcher::report",
                    trouble = report.what.trouble().as_str(),
                    kind = report.kind().map(|kind| kind.as_str()),
                    topic = report.topic.as_deref(),
                    partition = report.partition,
                    events = report.events,
                    next = report.next.as_str(),
                    times = report.summary.map(|summary| summary.times),
                    "{report}"
                )
            };
        }
        match report.what {
            What::Recovered(_) => log!(info),
            What::Lost | What::Panicked => log!(error),
            _ => log!(warn),
        }
    }
}

/// Passes few reports on of many: the first of each (what, topic, kind), a summary every interval, and when the trouble
/// is over; see [`Digest`].
///
/// ```
/// use kafka_batcher::{LogNotifier, RateLimited};
/// use std::time::Duration;
///
/// let notifier = RateLimited::new(LogNotifier, Duration::from_secs(60));
/// ```
///
/// What is still to be told when it is dropped is told then.
#[derive(Debug)]
pub struct RateLimited<N: ErrorNotifier> {
    notifier: N,
    clock: Clock,
    digest: Mutex<Digest>,
}

impl<N: ErrorNotifier> RateLimited<N> {
    /// Passes reports on to `notifier`, and sums up every `interval`.
    pub fn new(notifier: N, interval: Duration) -> Self {
        Self { notifier, clock: Clock::new(), digest: Mutex::new(Digest::new(interval)) }
    }

    /// Passes on what the digest has to tell; it is not locked meanwhile.
    fn pass(&self, next: impl Fn(&mut Digest, Moment) -> Option<Report>) {
        while let Some(report) = {
            let mut digest = self.digest.lock();
            next(&mut digest, self.clock.now())
        } {
            self.notifier.report(&report);
        }
    }
}

impl<N: ErrorNotifier> ErrorNotifier for RateLimited<N> {
    fn report(&self, report: &Report) {
        let first = self.digest.lock().report(report, self.clock.now());
        if let Some(first) = first {
            self.notifier.report(&first);
        }
    }

    fn tick(&self) -> Option<Duration> {
        self.pass(Digest::poll);
        let own = self.digest.lock().poll_timeout().map(|at| at.since(self.clock.now()));
        own.into_iter().chain(self.notifier.tick()).min()
    }

    fn catch_up(&self, timeout: Duration) {
        self.pass(Digest::finish);
        self.notifier.catch_up(timeout);
    }
}

impl<N: ErrorNotifier> Drop for RateLimited<N> {
    fn drop(&mut self) {
        if let Err(panic) = contained(|| self.pass(Digest::finish)) {
            tracing::error!(target: "kafka_batcher::report", panic, "the error notifier panicked");
        }
    }
}

/// Passes each report on to several notifiers, each on a thread of its own: one that is slow, or panics, takes nothing
/// from the others.
///
/// ```
/// use kafka_batcher::{FanOut, LogNotifier, RateLimited, Report};
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// let notifier = FanOut::new()
///     .and(RateLimited::new(LogNotifier, minute))?
///     .and(RateLimited::new(|report: &Report| println!("to the pager: {report}"), 10 * minute))?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct FanOut(Vec<Notify>);

impl FanOut {
    /// Tells nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells this one, too.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn and(mut self, notifier: impl ErrorNotifier + 'static) -> std::io::Result<Self> {
        self.0.push(Notify::start(Arc::new(notifier))?);
        Ok(self)
    }
}

impl ErrorNotifier for FanOut {
    fn report(&self, report: &Report) {
        self.0.iter().for_each(|notify| notify.pass(report.clone()));
    }

    fn catch_up(&self, timeout: Duration) {
        let (done, all_done) = channel();
        for notify in &self.0 {
            let done = done.clone();
            notify.when_told(timeout, move || {
                done.send(()).ok();
            });
        }
        drop(done);
        let clock = Clock::new();
        let start = clock.now();
        // Until all have said so, or the time is up.
        while all_done.recv_timeout(timeout.saturating_sub(clock.now().since(start))).is_ok() {}
    }
}

/// Passes reports to the notifier's thread without ever waiting for it.
#[derive(Clone, Debug)]
pub(crate) struct Notify {
    reports: SyncSender<Sent>,
    marks: Sender<Mark>,
    left: Arc<Left>,
    panics: Arc<AtomicU64>,
    /// How often each trouble was reported.
    reported: Arc<[AtomicU64; Trouble::ALL.len()]>,
}

#[derive(Debug)]
enum Sent {
    Report(Report),
    /// There is a mark.
    Look,
}

/// To be called when all that was sent before is told; and how long the notifier may take to pass it on.
type Mark = (Duration, Box<dyn FnOnce() + Send>);

/// What found no place in the queue.
#[derive(Debug, Default)]
struct Left {
    dropped: AtomicU64,
    /// That these troubles are over is told when the queue is empty: whoever was told of one must not believe for ever
    /// that it lasts. No more than there are lanes.
    over: Mutex<BTreeSet<Place>>,
}

type Place = (Trouble, Option<String>, Option<u32>);

fn place(report: &Report) -> Place {
    (report.what.trouble(), report.topic.clone(), report.partition)
}

impl Notify {
    pub(crate) fn start(notifier: Arc<dyn ErrorNotifier>) -> std::io::Result<Self> {
        let (reports, waiting) = sync_channel(WAITING);
        let (marks, marked) = channel();
        let left = Arc::new(Left::default());
        let panics = Arc::new(AtomicU64::new(0));
        let mut caller = Caller {
            notifier,
            left: Arc::clone(&left),
            panics: Arc::clone(&panics),
            marked,
            marks: Vec::new(),
            told: 0,
            complained: [None; 2],
            clock: Clock::new(),
        };
        // Ends by itself when the last sender is gone; never joined, since user code may hang in it.
        std::thread::Builder::new()
            .name("kafka-batcher-notifier".to_owned())
            .spawn(move || caller.run(&waiting))?;
        Ok(Self { reports, marks, left, panics, reported: Arc::default() })
    }

    /// How many panics were contained.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }

    /// One more panic was contained, and is told of in another way than by a report of it.
    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// How often each trouble was reported.
    pub(crate) fn reported(&self) -> BTreeMap<Trouble, u64> {
        Trouble::ALL.into_iter().zip(self.reported.iter().map(|count| count.load(Relaxed))).collect()
    }

    /// How many reports the notifier was too slow for.
    pub(crate) fn dropped(&self) -> u64 {
        self.left.dropped.load(Relaxed)
    }

    pub(crate) fn send(&self, report: Report) {
        tracing::debug!(target: "kafka_batcher::report", %report, "reported");
        if report.what == What::Panicked {
            self.panicked();
        }
        if !matches!(report.what, What::Recovered(_)) {
            self.reported[report.what.trouble() as usize].fetch_add(1, Relaxed);
        }
        self.pass(report);
    }

    fn pass(&self, report: Report) {
        let is_over = matches!(report.what, What::Recovered(_));
        let mut over = self.left.over.lock();
        if !is_over && !over.is_empty() {
            over.remove(&place(&report)); // it is back
        }
        match self.reports.try_send(Sent::Report(report)) {
            Err(TrySendError::Full(Sent::Report(report))) if is_over => drop(over.insert(place(&report))),
            Ok(()) => {}
            Err(_) => drop(self.left.dropped.fetch_add(1, Relaxed)),
        }
    }

    /// Waits until what was sent before is told, for so long at most.
    pub(crate) async fn catch_up(&self, timeout: Duration) {
        let (done, is_done) = oneshot::channel();
        self.when_told(timeout, move || {
            // Who no longer waits need not hear it.
            done.send(()).ok();
        });
        // Whether it was in time is of no consequence.
        drop(tokio::time::timeout(timeout, is_done).await);
    }

    fn when_told(&self, timeout: Duration, done: impl FnOnce() + Send + 'static) {
        self.marks.send((timeout, Box::new(done))).ok();
        // A thread with a full queue looks by itself.
        self.reports.try_send(Sent::Look).ok();
    }
}

/// The notifier's thread.
struct Caller {
    notifier: Arc<dyn ErrorNotifier>,
    left: Arc<Left>,
    panics: Arc<AtomicU64>,
    marked: Receiver<Mark>,
    /// Those taken from there.
    marks: Vec<Mark>,
    /// So many dropped reports were told of.
    told: u64,
    /// When something was said of it last: that it panicked, that it is slow.
    complained: [Option<Moment>; 2],
    clock: Clock,
}

impl Caller {
    fn run(&mut self, waiting: &Receiver<Sent>) {
        loop {
            let wait = self.call(|notifier| notifier.tick()).flatten();
            // Before the queue is found empty: what was sent before these is told then.
            self.marks.extend(self.marked.try_iter());
            let next = match self.next(waiting) {
                Some(sent) => Ok(sent),
                None => {
                    self.all_is_told();
                    match wait {
                        Some(wait) => waiting.recv_timeout(wait),
                        None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    }
                }
            };
            match next {
                Ok(Sent::Report(report)) => drop(self.call(|notifier| notifier.report(&report))),
                Ok(Sent::Look) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.complain_of_dropped(false);
        }
        self.complain_of_dropped(true);
    }

    fn all_is_told(&mut self) {
        for (timeout, done) in std::mem::take(&mut self.marks) {
            self.call(|notifier| notifier.catch_up(timeout));
            done();
        }
    }

    /// The next report that is there: from the queue, or, once that is empty, of what is over.
    fn next(&self, waiting: &Receiver<Sent>) -> Option<Sent> {
        // Whoever puts something into the queue holds this, too.
        let mut over = self.left.over.lock();
        waiting.try_recv().ok().or_else(|| {
            let (trouble, topic, partition) = over.pop_first()?;
            let mut report = Report::new(What::Recovered(trouble), "");
            (report.topic, report.partition) = (topic, partition);
            Some(Sent::Report(report))
        })
    }

    fn call<R>(&mut self, call: impl FnOnce(&dyn ErrorNotifier) -> R) -> Option<R> {
        match contained(|| call(&*self.notifier)) {
            Ok(result) => Some(result),
            Err(panic) => {
                self.panics.fetch_add(1, Relaxed);
                if self.may_complain(0) {
                    tracing::error!(target: "kafka_batcher::report", panic, "the error notifier panicked");
                }
                None
            }
        }
    }

    fn complain_of_dropped(&mut self, is_last: bool) {
        let all = self.left.dropped.load(Relaxed);
        if all > self.told && (is_last || self.may_complain(1)) {
            let dropped = all - std::mem::replace(&mut self.told, all);
            tracing::warn!(
                target: "kafka_batcher::report",
                dropped, "the error notifier is too slow: reports were dropped"
            );
        }
    }

    fn may_complain(&mut self, about: usize) -> bool {
        let now = self.clock.now();
        let may = self.complained[about].is_none_or(|at| now.since(at) >= COMPLAINT);
        if may {
            self.complained[about] = Some(now);
        }
        may
    }
}
