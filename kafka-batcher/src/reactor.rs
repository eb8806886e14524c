//! One task per topic that does what its state machines decide.
//!
//! No decision is taken here: signals go into the machines, actions come out, and each action is
//! carried out in a task of its own, whose answer is the next signal.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_batcher_core::collector::{Collector, CollectorAction};
use kafka_batcher_core::lane::{Action, Event, FlightId, Link, Origin};
use kafka_batcher_core::partition::{Routed, Router, route};
use kafka_batcher_core::receipt::Tickets;
use kafka_batcher_core::shard::Shard;
use kafka_batcher_core::{
    Batch, ErrorKind, FlushReason, LaneId, Moment, Next, Persistence, ProduceError, ProduceFailure,
    ProduceRequest, Report, Search, StorageCall, What,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::contain::{contained, contained_async};
use crate::routes::Cell;
use crate::topic::Topic;

/// What the reactor of a topic is told.
#[derive(Debug)]
pub(crate) enum Signal {
    /// Poll the cell with this index.
    Poll(usize),
    /// The answer to an action of a lane.
    Done {
        cell: usize,
        lane: usize,
        event: Event,
    },
    /// The connection came up or went down.
    Link(Link),
    Counted(Result<NonZeroU32, ProduceError>),
    Created(Result<(), ProduceError>),
    /// Send what is gathered.
    Flush(FlushReason),
    /// Memory is short.
    Pressure,
    /// Nothing is in memory only any more: what is in storage stays there for the next batcher.
    WindDown,
    /// The time to shut down is up.
    Abandon,
    /// Nothing is left to do.
    Stop,
}

pub(crate) struct Reactor {
    topic: Arc<Topic>,
    machine: Collector,
    signals: mpsc::UnboundedReceiver<Signal>,
    /// The unassigned cell, then the partitions' in order.
    cells: Vec<Arc<Cell>>,
    timers: BTreeSet<(Moment, usize)>,
    /// The timer of each cell.
    armed: Vec<Option<Moment>>,
    /// What an earlier process left in storage and no lane has yet: batches and events.
    found: Option<HashMap<Option<u32>, (u64, u64)>>,
    /// A batch of the unassigned lane is on its way through the partitions' lanes.
    routing: Option<(FlightId, Routed)>,
    /// Since when lanes send what they have in storage, for those who listen.
    replaying: HashMap<(usize, usize), Moment>,
    /// Delivered batches that storage is being told to forget.
    acknowledging: JoinSet<()>,
    last_link: Link,
    winding_down: bool,
    abandoned: bool,
    stopped: bool,
}

impl Reactor {
    pub(crate) fn new(topic: Arc<Topic>, signals: mpsc::UnboundedReceiver<Signal>, seed: u64) -> Self {
        Self {
            machine: Collector::new(&topic.config, topic.shared.timing, seed),
            cells: vec![Arc::clone(&topic.unassigned)],
            topic,
            signals,
            timers: BTreeSet::new(),
            armed: vec![None],
            found: None,
            routing: None,
            replaying: HashMap::new(),
            acknowledging: JoinSet::new(),
            last_link: Link::Unknown,
            winding_down: false,
            abandoned: false,
            stopped: false,
        }
    }

    /// Runs until told to stop. A panic in here is contained and reported, and the loop goes on with
    /// everything it held.
    pub(crate) async fn supervise(mut self) {
        while let Err(panic) = contained_async(self.run()).await {
            self.report(What::Panicked, format!("the collector's task: {panic}"));
        }
        // What Kafka has, the next batcher on this storage is not to send again.
        while self.acknowledging.join_next().await.is_some() {}
    }

    async fn run(&mut self) {
        if self.found.is_none() {
            self.look_into_storage().await;
        }
        while !self.stopped {
            self.drive();
            let next = earliest(self.timers.first().map(|(at, _)| *at), self.machine.poll_timeout());
            tokio::select! {
                signal = self.signals.recv() => match signal {
                    Some(signal) => self.take(signal),
                    None => return,
                },
                () = self.topic.shared.clock.sleep_until(next) => {}
            }
            // Answers come in bursts.
            for _ in 0..256 {
                let Ok(signal) = self.signals.try_recv() else { break };
                self.take(signal);
            }
            self.topic.shared.clock.follow_wall_clock();
            self.fire_timers();
        }
    }

    /// Asks storage what an earlier process left, until it answers.
    async fn look_into_storage(&mut self) {
        let found = loop {
            match contained_async(self.topic.shared.storage.lanes()).await {
                Ok(Ok(lanes)) => break lanes,
                Ok(Err(error)) => self.report(What::RecoverFailed, error.to_string()),
                Err(panic) => self.report(What::Panicked, format!("storage: {panic}")),
            }
            tokio::time::sleep(self.topic.shared.timing.recheck_interval).await;
        };
        let name = &self.topic.config.topic_name;
        let mut found: HashMap<_, _> = found
            .into_iter()
            .filter(|l| l.id.topic == *name)
            .map(|l| (l.id.partition, (l.batches, l.events)))
            .collect();
        if let Some((batches, events)) = found.remove(&None) {
            self.topic.unassigned.shard.lock().found(0, batches, events);
        }
        self.found = Some(found);
    }

    fn take(&mut self, signal: Signal) {
        let now = self.topic.shared.clock.now();
        match signal {
            Signal::Poll(cell) => self.poll(cell),
            Signal::Done { cell, lane, event } => {
                self.cells[cell].shard.lock().handle(lane, event, now);
                self.poll(cell);
            }
            Signal::Link(link) => {
                self.last_link = link;
                self.machine.set_link(link, now);
                for index in 1..self.cells.len() {
                    self.cells[index].shard.lock().set_link(link, now);
                    self.poll(index);
                }
            }
            Signal::Counted(result) => self.machine.counted(result, now),
            Signal::Created(result) => self.machine.created(result, now),
            Signal::Flush(reason) => self.flush(reason),
            Signal::Pressure => {
                self.topic.pressure_seen();
                self.flush(FlushReason::Pressure);
            }
            Signal::WindDown => {
                self.winding_down = true;
                for index in 0..self.cells.len() {
                    self.cells[index].shard.lock().wind_down();
                    self.poll(index);
                }
            }
            Signal::Abandon => {
                self.abandoned = true;
                // The unassigned lane comes last: what it has routed is with the others now.
                for index in (1..self.cells.len()).chain(self.routing.is_none().then_some(0)) {
                    self.cells[index].shard.lock().abandon();
                    self.poll(index);
                }
            }
            Signal::Stop => self.stopped = true,
        }
    }

    fn flush(&mut self, reason: FlushReason) {
        for index in 0..self.cells.len() {
            self.cells[index].shard.lock().flush(reason);
            self.poll(index);
        }
    }

    fn fire_timers(&mut self) {
        let now = self.topic.shared.clock.now();
        while let Some(&(at, cell)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, cell));
            self.armed[cell] = None;
            self.poll(cell);
        }
    }

    /// Carries out what a cell's lanes want done, and sets its timer.
    fn poll(&mut self, index: usize) {
        let cell = Arc::clone(&self.cells[index]);
        cell.signalled.store(false, Ordering::Release);
        let now = self.topic.shared.clock.now();
        cell.shard.lock().set_wall_clock(self.topic.shared.clock.wall());
        loop {
            let mut shard = cell.shard.lock();
            let action = shard.poll_action(now);
            let released = shard.take_released();
            let Some((lane, action)) = action else {
                let timeout = shard.poll_timeout();
                drop(shard);
                self.topic.shared.release(released);
                self.arm(index, timeout);
                break;
            };
            let id = shard.lanes()[lane].id().clone();
            drop(shard);
            self.topic.shared.release(released);
            self.perform(index, lane, id, action);
        }
        self.topic.progress.notify_waiters();
    }

    fn arm(&mut self, cell: usize, timeout: Option<Moment>) {
        if self.armed[cell] == timeout {
            return;
        }
        if let Some(at) = self.armed[cell] {
            self.timers.remove(&(at, cell));
        }
        if let Some(at) = timeout {
            self.timers.insert((at, cell));
        }
        self.armed[cell] = timeout;
    }

    fn perform(&mut self, cell: usize, lane: usize, id: LaneId, action: Action) {
        match action {
            Action::Produce { flight, batch, since, attempt } => {
                self.produce(cell, lane, id, (flight, since, attempt), batch);
            }
            Action::Route { flight, batch, tickets, origin } => {
                self.route(flight, &batch, tickets.as_ref(), origin);
            }
            Action::Search { flight, search } => self.search(cell, lane, flight, search),
            Action::Store(entry) => {
                let (topic, events, bytes) =
                    (Arc::clone(&self.topic), entry.batch.len(), entry.batch.byte_len());
                self.answer(cell, lane, async move {
                    let append = topic.shared.storage.append(&id, entry);
                    let start = topic.shared.clock.now();
                    let stored = topic.timed(StorageCall::Append, topic.shared.storage_call(append)).await;
                    if stored.is_ok() {
                        let took = topic.shared.clock.now().since(start);
                        tracing::debug!(
                            target: "kafka_batcher::spill",
                            topic = &*id.topic, partition = id.partition, events, bytes,
                            took_ms = millis(took), "stored"
                        );
                        topic.shared.telemetry(&topic.config, |t| t.stored(&id, events, bytes));
                    }
                    Event::Stored(stored)
                });
            }
            Action::Recover { after, max_bytes } => {
                self.replay_begins(cell, lane, &id);
                let topic = Arc::clone(&self.topic);
                self.answer(cell, lane, async move {
                    let read = topic.shared.storage.next_few(&id, after, max_bytes);
                    Event::Recovered(topic.timed(StorageCall::Read, topic.shared.storage_call(read)).await)
                });
            }
            Action::Acknowledge(entry) => {
                self.replay_ends(cell, lane, &id);
                let topic = Arc::clone(&self.topic);
                let runtime = self.topic.shared.runtime.clone();
                while self.acknowledging.try_join_next().is_some() {}
                let acknowledge = async move {
                    // The next acknowledgement covers this one; if it is the last, its batch is a duplicate later.
                    let call = topic.shared.storage.acknowledge(&id, entry);
                    if let Err(error) =
                        topic.timed(StorageCall::Acknowledge, topic.shared.storage_call(call)).await
                    {
                        let mut report = Report::new(What::AcknowledgeFailed, error.to_string());
                        report.topic = Some(id.topic.to_string());
                        report.partition = id.partition;
                        topic.shared.notify.send(report);
                    }
                };
                self.acknowledging.spawn_on(acknowledge, &runtime);
            }
            Action::DeadLetter(dead) => {
                let topic = Arc::clone(&self.topic);
                self.answer(cell, lane, async move {
                    let kinds: Vec<ErrorKind> = dead.iter().map(|dead| dead.kind).collect();
                    let (taken, result) = topic.dead_letters.put(&topic.shared, dead).await;
                    for kind in kinds.into_iter().take(taken) {
                        tracing::debug!(
                            target: "kafka_batcher::dead_letter",
                            topic = &*id.topic, partition = id.partition, kind = kind.as_str(), "dead-lettered"
                        );
                        topic.shared.telemetry(&topic.config, |t| t.dead_lettered(&id, kind));
                    }
                    Event::DeadLettered { taken, result }
                });
            }
            Action::Report(report) => self.topic.shared.notify.send(report),
            Action::Sealed { events, bytes, reason } => {
                self.topic
                    .shared
                    .telemetry(&self.topic.config, |t| t.batch_sealed(&id, events, bytes, reason));
            }
        }
    }

    /// A lane begins to send what it has in storage, unless it is at it.
    fn replay_begins(&mut self, cell: usize, lane: usize, id: &LaneId) {
        if !tracing::enabled!(target: REPLAY, tracing::Level::DEBUG) {
            return;
        }
        let now = self.topic.shared.clock.now();
        if let Entry::Vacant(since) = self.replaying.entry((cell, lane)) {
            since.insert(now);
            let events = self.cells[cell].shard.lock().lanes()[lane].stats().stored;
            tracing::debug!(
                target: REPLAY,
                topic = &*id.topic, partition = id.partition, events, "replay begins"
            );
        }
    }

    /// A lane has sent something of what it has in storage: all of it, perhaps.
    fn replay_ends(&mut self, cell: usize, lane: usize, id: &LaneId) {
        if self.replaying.is_empty() || self.cells[cell].shard.lock().lanes()[lane].stats().stored > 0 {
            return;
        }
        if let Some(since) = self.replaying.remove(&(cell, lane)) {
            let took = self.topic.shared.clock.now().since(since);
            tracing::debug!(
                target: REPLAY,
                topic = &*id.topic, partition = id.partition, took_ms = millis(took), "replay ends"
            );
        }
    }

    /// Runs `work` in a task of its own and hands its answer to the lane.
    fn answer(&self, cell: usize, lane: usize, work: impl Future<Output = Event> + Send + 'static) {
        let topic = Arc::clone(&self.topic);
        self.topic.shared.runtime.spawn(async move {
            let event = work.await;
            topic.signal(Signal::Done { cell, lane, event });
        });
    }

    fn produce(
        &self,
        cell: usize,
        lane: usize,
        id: LaneId,
        (flight, since, attempt): (FlightId, Option<Moment>, u32),
        batch: Batch,
    ) {
        let topic = Arc::clone(&self.topic);
        self.answer(cell, lane, async move {
            let shared = &topic.shared;
            let (events, bytes) = (batch.len(), batch.byte_len());
            let request =
                ProduceRequest::new(Arc::clone(&topic.config), id.partition.unwrap_or_default(), batch);
            let timeout = shared.timing.produce_timeout;
            let start = shared.clock.now();
            let call = shared.producer_call(timeout, shared.producer.produce(&request, timeout));
            let span = tracing::debug_span!(
                target: PRODUCE, "produce",
                topic = &*id.topic, partition = id.partition, events, bytes, attempt,
            );
            let result = call.instrument(span).await;
            let took = shared.clock.now().since(start);
            // Nobody answered: it is not known what was written.
            let result =
                result.unwrap_or_else(|error| Err(ProduceFailure::whole(error, Persistence::MaybePersisted)));
            match &result {
                Ok(delivered) => {
                    tracing::debug!(
                        target: PRODUCE,
                        topic = &*id.topic, partition = id.partition, events, offset = delivered.base_offset,
                        took_ms = millis(took), "delivered"
                    );
                    let queued = since.map(|since| start.since(since));
                    shared.telemetry(&topic.config, |t| t.delivered(&id, events, bytes, took, queued));
                }
                Err(failure) => {
                    let kind = failure.error.kind();
                    tracing::debug!(
                        target: PRODUCE,
                        topic = &*id.topic, partition = id.partition, events, kind = kind.as_str(),
                        error = %failure.error, took_ms = millis(took), "not delivered"
                    );
                    shared.failures.send(kind).ok();
                    shared.telemetry(&topic.config, |t| t.produce_failed(&id, events, kind, took));
                }
            }
            Event::Produced { flight, result }
        });
    }

    fn search(&self, cell: usize, lane: usize, flight: FlightId, search: Search) {
        let topic = Arc::clone(&self.topic);
        self.answer(cell, lane, async move {
            let timeout = topic.shared.timing.produce_timeout;
            let result =
                topic.shared.producer_call(timeout, topic.shared.producer.search(&search, timeout)).await;
            let result = result.and_then(|result| result);
            topic.shared.heed(&result);
            Event::Searched { flight, result }
        });
    }

    /// Hands a batch without a partition to the partitions' lanes.
    fn route(&mut self, flight: FlightId, batch: &Batch, tickets: Option<&Tickets>, origin: Origin) {
        let topic = Arc::clone(&self.topic);
        let Some(partitions) = self.machine.partitions() else { return };
        let mut spread = 0;
        let mut routed =
            route(batch, tickets, |event| match contained(|| topic.router.assigned(partitions, event)) {
                Ok(Ok(Some(partition))) => Ok(partition),
                Ok(Ok(None)) => {
                    let size = topic.config.batch_size;
                    // What may have been routed before has to go where it went then.
                    let again = topic.options.reconcile;
                    if let Some(partition) =
                        again.then(|| Router::spread_again(&event.record, size, partitions)).flatten()
                    {
                        return Ok(partition);
                    }
                    spread += 1;
                    Ok(topic.router.spread_behind(spread - 1, topic.config.batch_size, partitions))
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(panic) => Err(format!("the partitioner panicked: {panic}")),
            });
        for (partition, (part, tickets)) in std::mem::take(&mut routed.parts) {
            let (cell, lane) = if topic.config.collect_by_partition {
                (1 + partition as usize, 0)
            } else {
                (1, partition as usize)
            };
            let (bytes, events) = (part.byte_len(), part.len() as usize);
            topic.shared.budget.take(bytes, events);
            let mut shard = self.cells[cell].shard.lock();
            // Under the lock, so that whoever holds all of them sees both or neither.
            topic.routed.fetch_add(events as u64, Ordering::Relaxed);
            shard.enqueue(lane, part, tickets, bytes, origin);
            drop(shard);
            self.poll(cell);
        }
        topic.router.batch_left(partitions);
        self.routing = Some((flight, routed));
    }

    /// Moves the collector on as far as it goes.
    fn drive(&mut self) {
        loop {
            let now = self.topic.shared.clock.now();
            if let Some((flight, routed)) =
                self.routing.take_if(|_| self.cells[1..].iter().all(|c| c.shard.lock().is_settled()))
            {
                let turned_back = self.cells[1..].iter().map(|c| c.shard.lock().take_turned_back()).sum();
                let result = routed.landed(turned_back);
                {
                    let mut shard = self.cells[0].shard.lock();
                    shard.handle(0, Event::Produced { flight, result }, now);
                    if self.abandoned {
                        shard.abandon();
                    }
                }
                self.poll(0);
            }
            if self.machine.awaits_lanes() && self.cells[1..].iter().all(|c| c.shard.lock().is_drained()) {
                self.machine.lanes_drained();
            }
            // None slips into it between finding it empty and going live.
            if self.machine.awaits_unassigned()
                && self.topic.routes.go_live(&self.topic.unassigned, Shard::is_drained)
            {
                self.machine.unassigned_drained();
            }
            match self.machine.poll_action(now) {
                Some(action) => self.perform_collector(action, now),
                None if self.routing.is_some()
                    && self.cells[1..].iter().all(|c| c.shard.lock().is_settled()) => {}
                None => break,
            }
        }
        *self.topic.state.lock() = [self.machine.state(false), self.machine.state(true)];
    }

    fn perform_collector(&mut self, action: CollectorAction, now: Moment) {
        let topic = Arc::clone(&self.topic);
        let timeout = topic.shared.timing.connect_timeout;
        match action {
            CollectorAction::CountPartitions => drop(topic.shared.runtime.clone().spawn(async move {
                let count = topic.shared.producer.partition_count(&topic.config.topic_name, timeout);
                let counted = topic.shared.producer_call(timeout, count).await.and_then(|result| result);
                topic.shared.heed(&counted);
                topic.signal(Signal::Counted(counted));
            })),
            CollectorAction::CreateTopic => drop(topic.shared.runtime.clone().spawn(async move {
                let create = topic.shared.producer.create_topic(&topic.config, timeout);
                let created = topic.shared.producer_call(timeout, create).await.and_then(|result| result);
                topic.shared.heed(&created);
                topic.signal(Signal::Created(created));
            })),
            CollectorAction::Divert => {
                topic.routes.divert(&topic.unassigned, |_| ());
                self.flush(FlushReason::Manual);
            }
            CollectorAction::OpenLanes(count) => self.open_lanes(count, now),
            CollectorAction::UnassignedLink(link) => {
                self.cells[0].shard.lock().set_link(link, now);
                self.poll(0);
            }
            CollectorAction::GoLive => {
                // The routes have changed already, when the unassigned lane was found empty.
                topic.ready.notify_waiters();
                topic.progress.notify_waiters();
            }
            CollectorAction::Report(mut report) => {
                report.topic = Some(topic.config.topic_name.to_string());
                topic.shared.notify.send(report);
            }
        }
    }

    fn open_lanes(&mut self, count: NonZeroU32, now: Moment) {
        let topic = Arc::clone(&self.topic);
        let by_partition = topic.config.collect_by_partition;
        let open = topic.routes.current().partitions.map_or(0, NonZeroU32::get);
        if !by_partition && self.cells.len() == 1 {
            self.add_cell(Shard::new(&topic.config, Vec::new()));
        }
        for partition in open..count.get() {
            let mut lane = topic.lane(partition);
            if let Some((batches, events)) =
                self.found.as_mut().and_then(|found| found.remove(&Some(partition)))
            {
                lane.found(batches, events);
            }
            if by_partition {
                self.add_cell(Shard::new(&topic.config, vec![lane]));
            } else {
                self.cells[1].shard.lock().add_lane(lane);
            }
        }
        self.report_leftovers(count);
        topic.routes.divert(&topic.unassigned, |routes| {
            routes.partitions = Some(count);
            routes.cells = self.cells[1..].to_vec();
        });
        for index in 1..self.cells.len() {
            let mut shard = self.cells[index].shard.lock();
            if self.winding_down {
                shard.wind_down();
            }
            shard.set_link(self.last_link, now);
            drop(shard);
            self.poll(index);
        }
    }

    /// Storage may hold batches for partitions that do not exist: of a topic that was made anew with
    /// fewer. They stay there.
    fn report_leftovers(&self, count: NonZeroU32) {
        let leftovers =
            self.found.iter().flatten().filter(|(partition, _)| partition.is_some_and(|p| p >= count.get()));
        for (partition, (_, events)) in leftovers {
            let message =
                format!("the topic has only {count} partitions; the events stay in temporary storage");
            let mut report = Report::new(What::ProduceFailed(ErrorKind::UnknownTopic), message);
            report.topic = Some(self.topic.config.topic_name.to_string());
            (report.partition, report.events, report.next) = (*partition, *events, Next::LeftInStorage);
            self.topic.shared.notify.send(report);
        }
    }

    fn add_cell(&mut self, shard: Shard) {
        self.cells.push(Cell::new(self.cells.len(), shard));
        self.armed.push(None);
    }

    fn report(&self, what: What, message: String) {
        let mut report = Report::new(what, message);
        report.topic = Some(self.topic.config.topic_name.to_string());
        self.topic.shared.notify.send(report);
    }
}

const PRODUCE: &str = "kafka_batcher::produce";
const REPLAY: &str = "kafka_batcher::replay";

/// For fields of events.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn earliest(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    a.into_iter().chain(b).min()
}
