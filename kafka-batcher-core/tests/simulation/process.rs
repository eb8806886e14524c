//! One run of the program: the machines under test, and what its driver holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use kafka_batcher_core::batch::Buffers;
use kafka_batcher_core::budget::Budget;
use kafka_batcher_core::collector::Collector;
use kafka_batcher_core::connection::Connection;
use kafka_batcher_core::lane::{Event, FlightId, Lane, LaneOptions, Link, Pace};
use kafka_batcher_core::partition::{Routed, Router};
use kafka_batcher_core::shard::Shard;
use kafka_batcher_core::{FlushReason, LaneId, Moment, ProduceError};

use super::plan::Plan;
use super::storage::Partition;

/// What the reactor is told; as in the driver.
#[derive(Debug)]
pub(crate) enum Signal {
    Poll(usize),
    Done { cell: usize, lane: usize, event: Event },
    Link(Link),
    Counted(Result<NonZeroU32, ProduceError>),
    Created(Result<(), ProduceError>),
    Flush(FlushReason),
    WindDown,
    Abandon,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) number: u32,
    pub(crate) collector: Collector,
    pub(crate) connection: Connection,
    pub(crate) router: Router,
    pub(crate) options: LaneOptions,
    buffers: Arc<Buffers>,
    pace: Option<Arc<Pace>>,
    /// Events sent from storage that the pace has not made up for, by when; and the most of one batch.
    pub(crate) paced: (f64, Moment, usize),
    pub(crate) budget: Budget,
    /// The unassigned cell, then the partitions'.
    pub(crate) cells: Vec<Cell>,
    /// Events go to their partitions' lanes and not to the unassigned one.
    pub(crate) direct: bool,
    pub(crate) partitions: Option<NonZeroU32>,
    pub(crate) closed: bool,
    pub(crate) signals: VecDeque<Signal>,
    pub(crate) turn_at: Option<Moment>,
    pub(crate) timers: BTreeSet<(Moment, usize)>,
    pub(crate) found: Option<BTreeMap<Partition, (u64, u64)>>,
    pub(crate) routing: Option<(FlightId, Routed)>,
    pub(crate) last_link: Link,
    /// The partition count came in last, and the connection has been up since.
    pub(crate) counted_at: Option<Moment>,
    pub(crate) winding_down: bool,
    pub(crate) abandoned: bool,
    /// Memory is short and the reactor has been told.
    pub(crate) pressed: bool,
    pub(crate) ending: Option<Ending>,
    /// Events that storage refused when the time was up.
    pub(crate) lost: u64,
}

/// A shutdown that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) until: Moment,
    pub(crate) last: bool,
}

#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) shard: Shard,
    pub(crate) signalled: bool,
    pub(crate) armed: Option<Moment>,
    pub(crate) views: Vec<View>,
    /// Events given back to the budget, and events found in storage at the start.
    pub(crate) released: u64,
    pub(crate) found: u64,
    pub(crate) sealed_at: Option<Moment>,
}

/// What the driver has seen of a lane.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) partition: Partition,
    /// Events in memory that nobody is at, and since when.
    pub(crate) idle: BTreeMap<u64, Moment>,
    /// Events in flight, and whether they are from memory.
    pub(crate) flights: BTreeMap<FlightId, (Vec<u64>, bool)>,
    pub(crate) appending: Option<Vec<u64>>,
    pub(crate) recovering: bool,
    /// The last batch found no room in storage, and when.
    pub(crate) full: Option<Moment>,
    /// How often storage was read.
    pub(crate) reads: u64,
    pub(crate) burying: Option<Vec<u64>>,
    /// Told to the lane, when, and the last time something failed.
    pub(crate) link: Option<Link>,
    pub(crate) last_news: Moment,
    pub(crate) last_failure: Moment,
    /// Events of which a call ended with an unknown outcome.
    pub(crate) maybe: BTreeSet<u64>,
    pub(crate) maybe_duplicated: u64,
    /// Events that were looked for in the log and not found, with how much was written to any log by then; `None` if
    /// the search failed.
    pub(crate) searched: BTreeMap<u64, Option<u64>>,
    /// How much was written to any log when the last search read it.
    pub(crate) search_saw: u64,
    pub(crate) abandoned: bool,
}

impl View {
    pub(crate) fn is_busy(&self) -> bool {
        !self.flights.is_empty() || self.appending.is_some() || self.recovering || self.burying.is_some()
    }
}

impl Cell {
    pub(crate) fn new(shard: Shard) -> Self {
        let views = shard.lanes().iter().map(View::of).collect();
        Self { shard, signalled: false, armed: None, views, released: 0, found: 0, sealed_at: None }
    }
}

impl View {
    pub(crate) fn of(lane: &Lane) -> Self {
        Self { partition: lane.id().partition, ..Self::default() }
    }
}

impl Process {
    pub(crate) fn new(plan: &Plan, number: u32, seed: u64) -> Self {
        let topic = &plan.topic;
        let mut options = LaneOptions::new(topic, plan.timing);
        options.window = plan.window;
        options.durable = plan.durable;
        options.reconcile = topic.reconcile;
        let stamped = topic.sequence_header || topic.reconcile;
        options.instance = stamped.then(|| (u128::from(number) + 1).to_be_bytes());
        options.seed = seed;
        let mut process = Self {
            number,
            buffers: Arc::default(),
            pace: plan.replay_rate.map(|rate| Arc::new(Pace::new(rate))),
            paced: (0.0, Moment::ZERO, 0),
            collector: Collector::new(topic, plan.timing, seed),
            connection: Connection::new(plan.timing, seed),
            router: Router::new(Arc::clone(&topic.topic_name), topic.partition_strategy.clone(), seed),
            options,
            budget: Budget::new(usize::MAX, plan.memory_events),
            cells: Vec::new(),
            direct: false,
            partitions: None,
            closed: false,
            signals: VecDeque::new(),
            turn_at: None,
            timers: BTreeSet::new(),
            found: None,
            routing: None,
            last_link: Link::Unknown,
            counted_at: None,
            winding_down: false,
            abandoned: false,
            pressed: false,
            ending: None,
            lost: 0,
        };
        process.cells.push(Cell::new(Shard::new(topic, vec![process.lane(plan, None)])));
        process
    }

    /// A lane with nothing in it.
    pub(crate) fn lane(&self, plan: &Plan, partition: Partition) -> Lane {
        let id = LaneId { topic: Arc::clone(&plan.topic.topic_name), partition };
        Lane::new(id, self.options).with_buffers(Arc::clone(&self.buffers)).with_pace(self.pace.clone())
    }

    /// When it wants to act next.
    pub(crate) fn wakes_at(&self) -> Option<Moment> {
        if self.found.is_none() {
            // The reactor still waits for storage; the connection does not.
            return self.connection.poll_timeout();
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        [self.turn_at, timer, self.collector.poll_timeout(), self.connection.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }
}
