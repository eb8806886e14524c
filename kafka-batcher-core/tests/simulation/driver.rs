//! The driver of the machines, as the reactor of the tokio driver is: signals go in, actions come
//! out, and a shard is only polled when somebody has a reason to.

use std::num::NonZeroU32;
use std::time::Duration;

use kafka_batcher_core::collector::{CollectorAction, CollectorState};
use kafka_batcher_core::connection::ConnectionAction;
use kafka_batcher_core::lane::{Lane, Link};
use kafka_batcher_core::shard::Shard;
use kafka_batcher_core::{ErrorKind, FlushReason};

use super::process::{Cell, Process, Signal, View};
use super::world::{Item, Place, World, note};

impl World {
    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a process runs")
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        // A task does not run at once.
        let at = self.now + Duration::from_micros(self.dice.between(0, 200));
        let process = self.process();
        process.signals.push_back(signal);
        process.turn_at.get_or_insert(at);
    }

    /// The process has something to do by now.
    pub(crate) fn wake(&mut self) {
        let now = self.now;
        if self.process().connection.poll_timeout().is_some_and(|at| at <= now) {
            self.manage();
        } else {
            self.turn();
        }
    }

    /// One turn of the reactor's loop.
    fn turn(&mut self) {
        self.process().turn_at = None;
        for _ in 0..256 {
            let Some(signal) = self.process().signals.pop_front() else { break };
            self.take(signal);
        }
        let now = self.now;
        while let Some(&(at, cell)) = self.process().timers.first().filter(|(at, _)| *at <= now) {
            self.process().timers.remove(&(at, cell));
            self.process().cells[cell].armed = None;
            self.poll(cell);
        }
        self.drive();
        let process = self.process();
        if !process.signals.is_empty() {
            process.turn_at = Some(now);
        }
        self.end_if_done();
    }

    fn take(&mut self, signal: Signal) {
        let now = self.now;
        match signal {
            Signal::Poll(cell) => self.poll(cell),
            Signal::Done { cell, lane, event } => {
                let process = self.process();
                let partition = process.cells[cell].views[lane].partition;
                let at = Place { process: process.number, cell, lane, partition };
                self.heard(at, &event);
                self.process().cells[cell].shard.handle(lane, event, now);
                self.hand_back(at);
                self.poll(cell);
            }
            Signal::Link(link) => {
                self.process().last_link = link;
                self.process().counted_at = None;
                self.process().collector.set_link(link, now);
                for cell in 1..self.process().cells.len() {
                    self.set_link(cell, link);
                    self.poll(cell);
                }
            }
            Signal::Counted(result) => {
                self.process().counted_at = result.is_ok().then_some(now);
                self.process().collector.counted(result, now);
            }
            Signal::Created(result) => self.process().collector.created(result, now),
            Signal::Flush(reason) => {
                if reason == FlushReason::Pressure {
                    self.process().pressed = false;
                }
                self.flush(reason);
            }
            Signal::WindDown => {
                self.process().winding_down = true;
                for cell in 0..self.process().cells.len() {
                    self.process().cells[cell].shard.wind_down();
                    self.poll(cell);
                }
            }
            Signal::Abandon => {
                self.tally("abandoned");
                self.process().abandoned = true;
                let routing = self.process().routing.is_some();
                for cell in (1..self.process().cells.len()).chain((!routing).then_some(0)) {
                    self.abandon(cell);
                    self.poll(cell);
                }
            }
        }
    }

    fn abandon(&mut self, cell: usize) {
        let now = self.now;
        let process = self.process.as_mut().expect("a process runs");
        let cell = &mut process.cells[cell];
        cell.shard.abandon();
        for view in &mut cell.views {
            view.abandoned = true;
            view.burying = None;
            for (events, memory) in std::mem::take(&mut view.flights).into_values() {
                for event in events {
                    view.maybe.insert(event);
                    if memory {
                        view.idle.insert(event, now);
                    }
                }
            }
        }
    }

    fn set_link(&mut self, cell: usize, link: Link) {
        let now = self.now;
        let cell = &mut self.process().cells[cell];
        cell.shard.set_link(link, now);
        for view in &mut cell.views {
            view.link = Some(link);
            view.last_news = now;
        }
    }

    fn flush(&mut self, reason: FlushReason) {
        for cell in 0..self.process().cells.len() {
            self.process().cells[cell].shard.flush(reason);
            self.poll(cell);
        }
    }

    /// Carries out what a cell's lanes want done, and sets its timer.
    pub(crate) fn poll(&mut self, index: usize) {
        let now = self.now;
        let clock = self.wall_clock;
        self.process().cells[index].signalled = false;
        self.process().cells[index].shard.set_wall_clock(clock);
        for round in 0.. {
            assert!(round < 10_000, "cell {index} always wants something more");
            let process = self.process();
            let cell = &mut process.cells[index];
            let action = cell.shard.poll_action(now);
            let (bytes, events) = cell.shard.take_released();
            cell.released += events as u64;
            process.budget.give_back(bytes, events);
            let Some((lane, action)) = action else { break };
            self.perform(index, lane, action);
            self.slip_in();
        }
        let process = self.process();
        let cell = &mut process.cells[index];
        // Whatever slipped in since the last poll has signalled if it had to.
        let timeout = cell.shard.poll_timeout();
        assert!(
            timeout.is_none_or(|at| at > now),
            "cell {index} has nothing to do at {now:?} and wants to be polled at {timeout:?}: a hot loop; {:#?}",
            cell.shard
        );
        if cell.armed != timeout {
            if let Some(at) = cell.armed {
                process.timers.remove(&(at, index));
            }
            process.timers.extend(timeout.map(|at| (at, index)));
            process.cells[index].armed = timeout;
        }
        self.check_cell(index);
    }

    /// Moves the collector on as far as it goes.
    pub(crate) fn drive(&mut self) {
        loop {
            let now = self.now;
            self.slip_in();
            let settled = self.lanes_are(Shard::is_settled);
            if settled && self.process().routing.is_some() {
                self.routed();
                if self.process().abandoned {
                    self.abandon(0);
                }
                self.poll(0);
            }
            if self.process().collector.awaits_lanes() && self.lanes_are(Shard::is_drained) {
                self.process().collector.lanes_drained();
            }
            // None slips into it between finding it empty and going live.
            if self.process().collector.awaits_unassigned() && self.process().cells[0].shard.is_drained() {
                self.process().direct = true;
                self.process().collector.unassigned_drained();
            }
            match self.process().collector.poll_action(now) {
                Some(action) => self.perform_collector(action),
                None if self.process().routing.is_some() && self.lanes_are(Shard::is_settled) => {}
                None => break,
            }
        }
        let timeout = self.process().collector.poll_timeout();
        assert!(
            timeout.is_none_or(|at| at > self.now),
            "the collector wants to be polled again at {timeout:?}"
        );
    }

    fn lanes_are(&mut self, what: impl Fn(&Shard) -> bool) -> bool {
        self.process().cells[1..].iter().all(|cell| what(&cell.shard))
    }

    fn perform_collector(&mut self, action: CollectorAction) {
        note!(self, "collector: {action:?}");
        let (plan, now) = (&self.plan, self.now);
        match action {
            CollectorAction::CountPartitions => {
                let due = self
                    .process
                    .as_ref()
                    .and_then(|p| p.counted_at)
                    .map(|at| at + plan.timing.partitions_refresh);
                assert!(due.is_none_or(|due| now >= due), "partitions are counted again long before {due:?}");
                let latency = self.kafka.metadata_latency(plan, now);
                let number = self.process().number;
                self.after(latency, Item::Counted(number));
            }
            CollectorAction::CreateTopic => {
                let latency = self.kafka.metadata_latency(plan, now);
                let number = self.process().number;
                self.after(latency, Item::Created(number));
            }
            CollectorAction::Divert => {
                self.tally("growth");
                self.process().direct = false;
                self.slip_in();
                self.flush(FlushReason::Manual);
            }
            CollectorAction::OpenLanes(count) => self.open_lanes(count),
            CollectorAction::UnassignedLink(link) => {
                self.set_link(0, link);
                self.poll(0);
            }
            // The routes have changed already, when the unassigned lane was found empty.
            CollectorAction::GoLive | CollectorAction::Report(_) => {}
        }
    }

    fn open_lanes(&mut self, count: NonZeroU32) {
        let by_partition = self.plan.topic.collect_by_partition;
        let process = self.process.as_mut().expect("a process runs");
        let open = process.partitions.map_or(0, NonZeroU32::get);
        if !by_partition && process.cells.len() == 1 {
            process.cells.push(Cell::new(Shard::new(&self.plan.topic, Vec::new())));
        }
        for partition in open..count.get() {
            let mut lane = process.lane(&self.plan, Some(partition));
            let found = process.found.as_mut().and_then(|found| found.remove(&Some(partition)));
            if let Some((batches, events)) = found {
                lane.found(batches, events);
            }
            if by_partition {
                process.cells.push(Cell::new(Shard::new(&self.plan.topic, vec![lane])));
            } else {
                process.cells[1].views.push(View::of(&lane));
                process.cells[1].shard.add_lane(lane);
            }
            if let (Some((_, events)), Some(cell)) = (found, process.cells.last_mut()) {
                cell.found += events;
            }
        }
        process.partitions = Some(count);
        let link = process.last_link;
        for cell in 1..self.process().cells.len() {
            if self.process().winding_down {
                self.process().cells[cell].shard.wind_down();
            }
            self.set_link(cell, link);
            self.poll(cell);
        }
    }

    /// Storage has said what an earlier process left, or could not.
    pub(crate) fn looked(&mut self) {
        if self.storage.works(&self.plan, self.now).is_err() {
            let number = self.process().number;
            self.after(self.plan.timing.recheck_interval, Item::Looked(number));
            return;
        }
        let usage = self.storage.usage();
        note!(
            self,
            "storage holds {:?}",
            usage.iter().map(|u| (u.id.partition, u.events)).collect::<Vec<_>>()
        );
        let process = self.process();
        let mut found: std::collections::BTreeMap<_, _> =
            usage.into_iter().map(|lane| (lane.id.partition, (lane.batches, lane.events))).collect();
        if let Some((batches, events)) = found.remove(&None) {
            process.cells[0].shard.found(0, batches, events);
            process.cells[0].found += events;
        }
        process.found = Some(found);
        self.turn();
    }

    /// One turn of the connection's task.
    pub(crate) fn manage(&mut self) {
        let now = self.now;
        while let Some(action) = self.process().connection.poll_action(now) {
            note!(self, "connection: {action:?}");
            match action {
                ConnectionAction::Connect => {
                    let latency = self.kafka.metadata_latency(&self.plan, now);
                    let number = self.process().number;
                    self.after(latency, Item::Connected(number));
                }
                ConnectionAction::Link(link) => self.signal(Signal::Link(link)),
                ConnectionAction::Report(_) => {}
            }
        }
        let timeout = self.process().connection.poll_timeout();
        assert!(timeout.is_none_or(|at| at > now), "the connection wants to be polled again at {timeout:?}");
    }

    pub(crate) fn connected(&mut self) {
        let result = self.kafka.connect(&self.plan, self.now);
        let now = self.now;
        self.process().connection.connected(result, now);
        self.manage();
    }

    pub(crate) fn call_failed(&mut self, kind: ErrorKind) {
        let now = self.now;
        self.process().connection.failed(kind, now);
        self.manage();
    }

    pub(crate) fn counted(&mut self) {
        let highest = self.storage.lanes.keys().filter_map(|lane| *lane).max();
        let result = self.kafka.count(&self.plan, self.now, highest.map_or(0, |highest| highest + 1));
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fatal) {
            self.call_failed(ErrorKind::Fatal);
        }
        self.signal(Signal::Counted(result));
    }

    pub(crate) fn created(&mut self) {
        let result = self.kafka.create(&self.plan, self.now);
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fatal) {
            self.call_failed(ErrorKind::Fatal);
        }
        self.signal(Signal::Created(result));
    }

    /// Whether everything there is has arrived and events go straight to Kafka.
    pub(crate) fn is_at_rest(&mut self) -> bool {
        let Some(process) = &self.process else { return false };
        let locked = process.cells[1..].iter().any(|cell| cell.shard.lanes().iter().any(Lane::is_locked));
        process.direct
            && !self.kafka.broken
            && process.signals.is_empty()
            && process.connection.is_connected()
            && process.collector.state(locked) == CollectorState::Ready
            && process
                .cells
                .iter()
                .all(|cell| cell.shard.is_drained() && !cell.views.iter().any(View::is_busy))
    }
}
