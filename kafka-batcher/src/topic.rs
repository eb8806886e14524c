//! A topic's lanes, and how an event gets into one.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kafka_batcher_core::batch::Buffers;
use kafka_batcher_core::collector::CollectorState;
use kafka_batcher_core::config::TopicConfig;
use kafka_batcher_core::journal::Journaled;
use kafka_batcher_core::lane::{Lane, LaneOptions};
use kafka_batcher_core::partition::Router;
use kafka_batcher_core::receipt::Receipt;
use kafka_batcher_core::record::ExtendedHeaders;
use kafka_batcher_core::shard::{Shard, Stamps, Target};
use kafka_batcher_core::{Event, EventRef, LaneId, Next, Report, StorageCall, What};
use parking_lot::Mutex;
use tokio::sync::{Notify as Wakeup, mpsc};

use crate::contain::contained;
use crate::dead::DeadLetters;
use crate::error::AddErrorKind;
use crate::reactor::Signal;
use crate::routes::{Cell, RouteTable, Routes};
use crate::shared::Shared;
use crate::stats::Stats;

/// An event was taken.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// The receipt, if one was asked for.
    pub(crate) receipt: Option<Receipt>,
    /// Whether it is in the journal, if there is one; until then it is not accepted.
    pub(crate) journaled: Option<Journaled>,
}

/// Why an event is not taken. Boxed, since it is seldom and what is returned for every event is better small.
pub(crate) type Refusal = Box<AddErrorKind>;

/// One topic of a batcher.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) config: Arc<TopicConfig>,
    pub(crate) options: LaneOptions,
    buffers: Arc<Buffers>,
    pub(crate) router: Router,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) shared: Arc<Shared>,
    pub(crate) routes: RouteTable,
    /// The lane of events that have no partition yet.
    pub(crate) unassigned: Arc<Cell>,
    signals: mpsc::UnboundedSender<Signal>,
    /// Events may be added directly to partitions.
    pub(crate) ready: Wakeup,
    /// Something was settled or changed state.
    pub(crate) progress: Wakeup,
    /// Events handed from the unassigned lane to partitions: they are counted as accepted twice.
    pub(crate) routed: AtomicU64,
    /// Memory is short: the reactor has been told.
    pressed: AtomicBool,
    /// How far the collector is: while no lane is locked, and while one is.
    pub(crate) state: Mutex<[CollectorState; 2]>,
}

/// Memory taken for an event that is not accepted yet, given back when it is not: the application's partitioner may panic.
struct Room<'a> {
    shared: &'a Shared,
    cost: usize,
}

impl Room<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.shared.release((self.cost, 1));
    }
}

impl Topic {
    pub(crate) fn new(
        config: TopicConfig,
        shared: Arc<Shared>,
        seed: u64,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Signal>) {
        let mut options = LaneOptions::new(&config, shared.timing);
        options.window = shared.producer.capabilities().window.max(1);
        options.durable = shared.storage.is_durable();
        options.reconcile = config.reconcile;
        options.instance = (config.sequence_header || config.reconcile).then_some(shared.instance);
        options.seed = seed;
        let id = LaneId { topic: Arc::clone(&config.topic_name), partition: None };
        let buffers = Arc::new(Buffers::default());
        let lane = Lane::new(id, options).with_buffers(Arc::clone(&buffers)).with_pace(shared.pace.clone());
        let unassigned = Cell::new(0, Shard::new(&config, vec![lane]));
        let (signals, waiting) = mpsc::unbounded_channel();
        let topic = Self {
            router: Router::new(Arc::clone(&config.topic_name), config.partition_strategy.clone(), seed),
            dead_letters: DeadLetters::new(&config, &shared, seed),
            config: Arc::new(config),
            options,
            buffers,
            shared,
            routes: RouteTable::default(),
            unassigned,
            signals,
            ready: Wakeup::new(),
            progress: Wakeup::new(),
            routed: AtomicU64::new(0),
            pressed: AtomicBool::new(false),
            state: Mutex::new([CollectorState::Starting; 2]),
        };
        (Arc::new(topic), waiting)
    }

    /// The lane of a partition, with nothing in it.
    pub(crate) fn lane(&self, partition: u32) -> Lane {
        let id = LaneId { topic: Arc::clone(&self.config.topic_name), partition: Some(partition) };
        Lane::new(id, self.options)
            .with_buffers(Arc::clone(&self.buffers))
            .with_pace(self.shared.pace.clone())
    }

    /// Tells the reactor. It is gone only after a shutdown, when there is nothing left to tell it.
    pub(crate) fn signal(&self, signal: Signal) {
        self.signals.send(signal).ok();
    }

    /// Waits until the reactor is gone: nothing moves any more.
    pub(crate) async fn ended(&self) {
        self.signals.closed().await;
    }

    /// Tells the reactor to poll a cell, once until it does.
    pub(crate) fn wake(&self, cell: &Cell) {
        if !cell.signalled.swap(true, Ordering::AcqRel) {
            self.signal(Signal::Poll(cell.index));
        }
    }

    /// Memory is short: what is gathered anywhere shall move on.
    pub(crate) fn press(&self) {
        if !self.pressed.swap(true, Ordering::AcqRel) {
            self.signal(Signal::Pressure);
        }
    }

    pub(crate) fn pressure_seen(&self) {
        self.pressed.store(false, Ordering::Release);
    }

    /// Calls storage, and tells telemetry how long that took.
    pub(crate) async fn timed<T, E>(
        &self,
        call: StorageCall,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let start = self.shared.clock.now();
        let result = work.await;
        let took = self.shared.clock.now().since(start);
        self.shared.telemetry(&self.config, |t| t.storage_called(call, took, result.is_ok()));
        result
    }

    /// An event is not accepted.
    pub(crate) fn refuse(&self, kind: &AddErrorKind) {
        self.shared.telemetry(&self.config, |t| t.rejected(&self.config.topic_name, kind.as_str(), 1));
    }

    /// Takes an event in, or says why not.
    pub(crate) fn push(&self, event: &impl Event, receipt: bool) -> Result<Accepted, Refusal> {
        // The event's own encoding is application code too.
        match contained(|| event.with_record(|event| self.push_extended(&event, receipt))) {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(AddErrorKind::from(error).into()),
            Err(panic) => Err(self.panicked(panic).into()),
        }
    }

    fn panicked(&self, panic: String) -> AddErrorKind {
        let mut report = Report::new(What::Panicked, panic.clone());
        (report.events, report.next) = (1, Next::HandedBack);
        report.topic = Some(self.config.topic_name.to_string());
        self.shared.notify.send(report);
        AddErrorKind::Panicked(panic)
    }

    /// As [`push_record`](Self::push_record), with the headers that somebody else has for it.
    fn push_extended(&self, event: &EventRef<'_>, receipt: bool) -> Result<Accepted, Refusal> {
        let Some(source) = &self.shared.header_source else { return self.push_record(event, receipt) };
        let mut pushed = None;
        source.with_headers(&self.config.topic_name, &event.record, &mut |more| {
            if pushed.is_none() {
                let headers = ExtendedHeaders::new(event.record.headers, more);
                let mut event = *event;
                event.record.headers = headers.as_ref();
                pushed = Some(self.push_record(&event, receipt));
            }
        });
        pushed.unwrap_or_else(|| self.push_record(event, receipt))
    }

    fn push_record(&self, event: &EventRef<'_>, receipt: bool) -> Result<Accepted, Refusal> {
        let flush = self.config.batch_flusher.flush_now(event);
        let cost = event.record.size_hint();
        if !self.shared.budget.try_take(cost) {
            let closed = self.routes.current().closed;
            return Err(if closed { AddErrorKind::Closed } else { AddErrorKind::Full }.into());
        }
        let room = Room { shared: &self.shared, cost };
        let result = self.push_paid(event, cost, receipt, flush);
        if result.is_ok() {
            room.keep();
        }
        result
    }

    fn push_paid(
        &self,
        event: &EventRef<'_>,
        cost: usize,
        receipt: bool,
        flush: bool,
    ) -> Result<Accepted, Refusal> {
        loop {
            let routes = self.routes.current();
            if routes.closed {
                return Err(AddErrorKind::Closed.into());
            }
            let (cell, target, spread) = self.target(routes, event)?;
            let now = self.shared.clock.now();
            let stamps = Stamps { timestamp: self.shared.clock.unix_millis(now), cost, receipt, now };
            // Turned away when the routes have changed since: look again.
            let Some(mut shard) = cell.enter(routes) else { continue };
            let taken = shard.push(target, &event.record, stamps, flush).map_err(AddErrorKind::from)?;
            drop(shard);
            if taken.wake {
                self.wake(cell);
            }
            if let Some(partitions) = spread {
                if taken.filled {
                    self.router.batch_left(partitions);
                } else if taken.first {
                    self.router.batch_began(partitions);
                }
            }
            return Ok(Accepted { receipt: taken.receipt, journaled: taken.journaled });
        }
    }

    /// The cell and the lane in it; and how many partitions there are if the router chose among them.
    fn target<'a>(
        &'a self,
        routes: &'a Routes,
        event: &EventRef<'_>,
    ) -> Result<(&'a Arc<Cell>, Target<'a>, Option<NonZeroU32>), Refusal> {
        let Some(partitions) = routes.partitions.filter(|_| routes.direct) else {
            if self.config.partition_strategy.needs_typed_event() {
                return Err(AddErrorKind::NotReady.into());
            }
            return Ok((&self.unassigned, Target::Lane(0), None));
        };
        let assigned = self.router.assigned(partitions, event).map_err(AddErrorKind::from)?;
        Ok(if self.config.collect_by_partition {
            let partition = assigned.unwrap_or_else(|| self.router.spread(partitions));
            let spread = assigned.is_none().then_some(partitions);
            (&routes.cells[partition as usize], Target::Lane(0), spread)
        } else {
            let target =
                assigned.map_or(Target::Spread(&self.router), |partition| Target::Lane(partition as usize));
            (&routes.cells[0], target, None)
        })
    }

    /// All cells: the unassigned one and the partitions'.
    pub(crate) fn cells(&self) -> Vec<Arc<Cell>> {
        std::iter::once(&self.unassigned).chain(&self.routes.current().cells).cloned().collect()
    }

    pub(crate) fn state(&self) -> CollectorState {
        let locked = self
            .routes
            .current()
            .cells
            .iter()
            .any(|cell| cell.shard.lock().lanes().iter().any(Lane::is_locked));
        self.state.lock()[usize::from(locked)]
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for cell in self.cells() {
            for lane in cell.shard.lock().lanes() {
                stats.add_lane(lane);
            }
        }
        stats.accepted = stats.accepted.saturating_sub(self.routed.load(Ordering::Relaxed));
        stats
    }

    /// Accepts nothing any more. Once this returns, no event is on its way in.
    pub(crate) fn stop_accepting(&self) {
        self.routes.close(&self.unassigned);
        self.ready.notify_waiters();
    }
}
