//! A shard: an accumulator and the lanes it fills. What one lock guards.

use std::num::NonZeroU32;

use crate::accumulator::{Accumulator, FlushReason};
use crate::batch::Batch;
use crate::config::TopicConfig;
use crate::journal::Journaled;
use crate::lane::{Action, Event, Lane, Link, Origin, PushError, Pushed};
use crate::partition::Router;
use crate::receipt::{Receipt, Tickets};
use crate::record::RecordRef;
use crate::time::{Moment, WallClock, earliest};

/// One accumulator and its lanes: all partitions of a topic, or one (`collect_by_partition`), or the
/// lane of events that have no partition yet.
///
/// The accumulator says when what is gathered is ready; each lane with something gathered then sends
/// it as soon as it is free. A lane that is busy or failing holds up no other.
#[derive(Debug)]
pub struct Shard {
    accumulator: Accumulator,
    lanes: Vec<Lane>,
    /// The lane in which spread events are gathered, until what is gathered there leaves.
    spread: usize,
    /// The timeout the driver was last told.
    armed: Option<Moment>,
    next: usize,
}

/// A record was taken by a shard.
#[derive(Debug)]
#[non_exhaustive]
pub struct Taken {
    /// The driver has to poll: there is something to do, or an earlier timeout.
    pub wake: bool,
    /// The first record of a batch.
    pub first: bool,
    /// Its batch is ready to leave.
    pub filled: bool,
    /// The receipt, if one was asked for.
    pub receipt: Option<Receipt>,
    /// Whether it is in the journal, if there is one: until then it is not accepted.
    pub journaled: Option<Journaled>,
}

/// Which of a shard's lanes a record goes to.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "to one or to any")]
pub enum Target<'a> {
    /// The lane with this index.
    Lane(usize),
    /// Whichever the router chooses for the current batch.
    Spread(&'a Router),
}

impl Shard {
    /// A shard of these lanes.
    #[must_use]
    pub fn new(topic: &TopicConfig, lanes: Vec<Lane>) -> Self {
        let accumulator = Accumulator::new(topic.batch_size, topic.max_wait_time, topic.min_delay);
        Self { accumulator, lanes, spread: 0, armed: None, next: 0 }
    }

    /// Adds a lane behind the others: the topic has grown.
    pub fn add_lane(&mut self, lane: Lane) {
        self.lanes.push(lane);
    }

    /// The lanes.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// An earlier process left so much in storage for the lane with this index: see [`Lane::found`].
    pub fn found(&mut self, lane: usize, batches: u64, events: u64) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.found(batches, events);
        }
    }

    /// Takes a record. `flush` is what the topic's flusher said.
    ///
    /// # Errors
    /// [`PushError`]; nothing is then changed.
    #[inline]
    pub fn push(
        &mut self,
        target: Target<'_>,
        record: &RecordRef<'_>,
        stamps: Stamps,
        flush: bool,
    ) -> Result<Taken, PushError> {
        let Stamps { timestamp, cost, receipt, now } = stamps;
        let index = match target {
            Target::Lane(index) => index,
            Target::Spread(router) => self.spread_lane(router),
        };
        let pushed = self.lanes[index].push(record, timestamp, cost, receipt, now)?;
        self.accumulator.added(now);
        let mut wake = pushed.sealed || pushed.wake;
        if pushed.sealed && matches!(target, Target::Spread(_)) {
            self.spread = self.lanes.len(); // the batch is full: the next event chooses anew
        }
        let ready = if flush { Some(FlushReason::Flusher) } else { self.accumulator.ready(now) };
        if let Some(reason) = ready {
            wake |= self.flush(reason);
        } else if pushed.first || self.accumulator.is_full() {
            // An earlier timeout than the driver knows of: a new batch, or one that `min_delay` holds.
            wake |=
                self.armed.is_none_or(|armed| self.accumulator.poll_timeout().is_some_and(|at| at < armed));
        }
        let Pushed { first, receipt, journaled, .. } = pushed;
        Ok(Taken { wake, first, filled: ready.is_some(), receipt, journaled })
    }

    /// The lane of the topic's current batch of spread events.
    fn spread_lane(&mut self, router: &Router) -> usize {
        if self.lanes.get(self.spread).is_some_and(Lane::is_gathering) {
            return self.spread;
        }
        let Some(count) = u32::try_from(self.lanes.len()).ok().and_then(NonZeroU32::new) else { return 0 };
        router.batch_left(count);
        let mut choice = router.spread(count) as usize;
        if router.may_choose() {
            // Of two, the one with less before it; as Kafka's KIP-794, slow partitions get fewer batches.
            let other = (choice + 1 + router.spread(count) as usize) % self.lanes.len();
            if self.lanes[other].backlog() < self.lanes[choice].backlog() {
                choice = other;
            }
        }
        // A partition that fails at the moment is passed over, if there is another.
        for _ in 0..self.lanes.len() {
            if !self.lanes[choice].is_locked() {
                break;
            }
            choice = (choice + 1) % self.lanes.len();
        }
        self.spread = choice;
        choice
    }

    /// Puts a batch behind all else of the lane with this index.
    pub fn enqueue(
        &mut self,
        lane: usize,
        batch: Batch,
        tickets: Option<Tickets>,
        cost: usize,
        origin: Origin,
    ) {
        self.lanes[lane].enqueue(batch, tickets, cost, origin);
    }

    /// How many routed events were turned back since the last call: see [`Lane::take_turned_back`].
    pub fn take_turned_back(&mut self) -> u64 {
        self.lanes.iter_mut().map(Lane::take_turned_back).sum()
    }

    /// What is gathered shall leave as soon as its lane is free; says whether the driver has to poll.
    pub fn flush(&mut self, reason: FlushReason) -> bool {
        self.accumulator.taken();
        let mut wake = false;
        for lane in &mut self.lanes {
            wake |= lane.flush(reason);
        }
        wake
    }

    /// Takes an answer for the lane with this index.
    pub fn handle(&mut self, lane: usize, event: Event, now: Moment) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.handle(event, now);
        }
    }

    /// Tells all lanes whether they can be served.
    pub fn set_link(&mut self, link: Link, now: Moment) {
        self.lanes.iter_mut().for_each(|lane| lane.handle(Event::Link(link), now));
    }

    /// Sends nothing more from storage: see [`Lane::wind_down`].
    pub fn wind_down(&mut self) {
        self.lanes.iter_mut().for_each(Lane::wind_down);
    }

    /// Gives up sending: see [`Lane::abandon`].
    pub fn abandon(&mut self) {
        self.lanes.iter_mut().for_each(Lane::abandon);
    }

    /// Tells all lanes what the wall clock shows: see [`Lane::set_wall_clock`].
    pub fn set_wall_clock(&mut self, clock: WallClock) {
        self.lanes.iter_mut().for_each(|lane| lane.set_wall_clock(clock));
    }

    /// The next thing to do, and for which lane.
    pub fn poll_action(&mut self, now: Moment) -> Option<(usize, Action)> {
        if let Some(reason) = self.accumulator.ready(now) {
            self.flush(reason);
        }
        for _ in 0..self.lanes.len() {
            self.next %= self.lanes.len();
            if let Some(action) = self.lanes[self.next].poll_action(now) {
                if matches!(action, Action::Sealed { .. }) {
                    self.accumulator.sent(now);
                }
                return Some((self.next, action));
            }
            self.next += 1;
        }
        None
    }

    /// When to poll again although nothing happened.
    pub fn poll_timeout(&mut self) -> Option<Moment> {
        let lanes = self.lanes.iter().filter_map(Lane::poll_timeout).min();
        self.armed = earliest(self.accumulator.poll_timeout(), lanes);
        self.armed
    }

    /// What left memory since the last call, as bytes and events of the budget.
    pub fn take_released(&mut self) -> (usize, usize) {
        self.lanes.iter_mut().map(Lane::take_released).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// Whether nothing is in memory only.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.lanes.iter().all(Lane::is_settled)
    }

    /// Whether it can end: see [`Lane::is_at_rest`].
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.lanes.iter().all(Lane::is_at_rest)
    }

    /// Whether nothing is left, in storage neither.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.lanes.iter().all(Lane::is_drained)
    }
}

/// What is noted about a record when it is accepted.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "an argument list with names")]
pub struct Stamps {
    /// Wall-clock time in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// What it takes of the memory budget.
    pub cost: usize,
    /// Whether somebody wants to know what becomes of it.
    pub receipt: bool,
    /// Now.
    pub now: Moment,
}
