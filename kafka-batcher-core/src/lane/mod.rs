//! A lane: the ordered way of one partition's events into Kafka.
//!
//! ```text
//!            push                    seal                launch
//!   record ───────▶ builder ───────────────▶ queue ───────────────▶ flights ──▶ Kafka
//!                                              │ ▲                     │
//!                                        store │ │ failed: to the front│
//!                                              ▼ └─────────────────────┘
//!                                         temporary storage
//!                                              │ recover, oldest first
//!                                              ▼
//!                                            replay ───────────────▶ flights ──▶ Kafka
//! ```
//!
//! What keeps the order: everything moves from left to right, a failed batch goes back to the front,
//! and as long as anything of the lane is stored or replayed, what comes later is stored behind it.
//! The lane is live again at the moment nothing is stored any more.
//!
//! The driver calls [`Lane::push`] and [`Lane::handle`], then [`Lane::poll_action`] until it gives
//! `None`, then [`Lane::poll_timeout`] for when to poll again. The lane has no clock: each call says
//! what time it is.

mod expire;
mod full;
mod gather;
mod journal;
mod obstacle;
mod pace;
mod produce;
mod reconcile;
mod store;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::accumulator::FlushReason;
use crate::backoff::Backoff;
use crate::batch::{Batch, BatchBuilder, Buffers};
use crate::config::{Durability, OnStorageFull, OnUnavailable, Timing, TopicConfig};
use crate::dead_letter::DeadRecord;
use crate::journal::Pledge;
use crate::notifier::{Report, Trouble, What};
use crate::producer::{Delivered, ErrorKind, Persistence, ProduceError, ProduceFailure};
use crate::receipt::Tickets;
use crate::search::{Found, Search};
use crate::snapshot::LaneState;
use crate::storage::{EntryId, LaneId, StorageError, StoredBatch};
use crate::time::{Moment, WallClock, earliest};

use full::Full;
pub use gather::{PushError, Pushed, SEQUENCE_HEADER};
use journal::Gathered;
pub use pace::Pace;

/// Settings of a lane.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LaneOptions {
    /// See [`TopicConfig::max_batch_bytesize`].
    pub max_batch_bytesize: NonZeroUsize,
    /// See [`TopicConfig::max_wait_time`].
    pub max_wait_time: Duration,
    /// See [`TopicConfig::on_unavailable`].
    pub on_unavailable: OnUnavailable,
    /// See [`TopicConfig::on_storage_full`].
    pub on_storage_full: OnStorageFull,
    /// See [`Timing::retry_backoff`].
    pub retry_backoff: Duration,
    /// See [`Timing::recheck_interval`].
    pub recheck_interval: Duration,
    /// Batches that may be in flight at once: [`Capabilities::window`](crate::Capabilities::window).
    pub window: u32,
    /// Events go to storage before they count as accepted: [`Durability::Journal`].
    pub journal: bool,
    /// Whether the storage survives the process: [`TempStorage::is_durable`](crate::TempStorage::is_durable).
    pub durable: bool,
    /// With it, events carry a [`SEQUENCE_HEADER`] of this instance.
    pub instance: Option<[u8; 16]>,
    /// Before what Kafka may have is sent again, its log is searched for it: see [`TopicConfig::reconcile`]. Takes an
    /// `instance`, and a producer that can [search](crate::Capabilities::search).
    pub reconcile: bool,
    /// See [`TopicConfig::max_age`].
    pub max_age: Option<Duration>,
    /// Seed for jitter.
    pub seed: u64,
}

impl LaneOptions {
    /// The options of a topic's lanes, for a producer with a window of 1 and storage that is not durable.
    #[must_use]
    pub fn new(topic: &TopicConfig, timing: Timing) -> Self {
        Self {
            max_batch_bytesize: topic.max_batch_bytesize,
            max_wait_time: topic.max_wait_time,
            on_unavailable: topic.on_unavailable,
            on_storage_full: topic.on_storage_full,
            retry_backoff: timing.retry_backoff,
            recheck_interval: timing.recheck_interval,
            window: 1,
            journal: topic.durability == Durability::Journal,
            durable: false,
            instance: None,
            reconcile: false,
            max_age: topic.max_age,
            seed: 0,
        }
    }
}

/// Where a batch that is routed comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// It is in storage, in the lane without a partition, until its parts have settled.
    pub is_stored: bool,
    /// A former process may have routed it already, and Kafka may have it.
    pub maybe: bool,
}

/// Names one attempt to send a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlightId(u64);

/// What the driver is to do for a lane.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver must handle every action")]
pub enum Action {
    /// Send the batch to the lane's partition; answer with [`Event::Produced`].
    Produce {
        /// To be named in the answer.
        flight: FlightId,
        /// What to send.
        batch: Batch,
        /// When the first of it was accepted; not known of what was in storage.
        since: Option<Moment>,
        /// How often it is sent by now, since it was accepted or read from storage: 1 the first time.
        attempt: u32,
    },
    /// Give each record its partition and hand them to those lanes ([`Lane::enqueue`]); answer with
    /// [`Event::Produced`] once those lanes are settled: the result is [`Routed::landed`](crate::partition::Routed::landed).
    /// Only from the lane without a partition.
    Route {
        /// To be named in the answer.
        flight: FlightId,
        /// What to route.
        batch: Batch,
        /// The receipts of its records, to go with them.
        tickets: Option<Tickets>,
        /// Where it comes from, to go with them too.
        origin: Origin,
    },
    /// Search the log of the lane's partition; answer with [`Event::Searched`].
    Search {
        /// To be named in the answer.
        flight: FlightId,
        /// What to look for.
        search: Search,
    },
    /// Append to temporary storage; answer with [`Event::Stored`].
    Store(StoredBatch),
    /// Read the first batches behind this one ([`TempStorage::next_few`](crate::TempStorage::next_few)); answer with
    /// [`Event::Recovered`].
    Recover {
        /// The last one that was delivered.
        after: Option<EntryId>,
        /// So many bytes of them.
        max_bytes: usize,
    },
    /// Kafka has this stored batch: forget it. No answer.
    Acknowledge(EntryId),
    /// Put these records to the dead letters, in this order; answer with [`Event::DeadLettered`].
    DeadLetter(Vec<DeadRecord>),
    /// Tell the error notifier. No answer.
    Report(Report),
    /// Tell telemetry that a batch was gathered. No answer.
    Sealed {
        /// Events in it.
        events: u32,
        /// Its size in bytes.
        bytes: usize,
        /// Why it was ready.
        reason: FlushReason,
    },
}

/// What the driver tells a lane.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver knows every event it may send")]
pub enum Event {
    /// Whether the lane can be served.
    Link(Link),
    /// The answer to [`Action::Produce`] or [`Action::Route`].
    Produced {
        /// Which attempt.
        flight: FlightId,
        /// How it ended.
        result: Result<Delivered, ProduceFailure>,
    },
    /// The answer to [`Action::Search`].
    Searched {
        /// Which search.
        flight: FlightId,
        /// What is there.
        result: Result<Found, ProduceError>,
    },
    /// The answer to [`Action::Store`].
    Stored(Result<EntryId, StorageError>),
    /// The answer to [`Action::Recover`].
    Recovered(Result<Vec<(EntryId, StoredBatch)>, StorageError>),
    /// The answer to [`Action::DeadLetter`].
    DeadLettered {
        /// So many of the records were taken, from the first on without a gap.
        taken: usize,
        /// Why the next one was not, if one was not.
        result: Result<(), StorageError>,
    },
}

/// Whether there is a client that could send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum Link {
    /// Nobody has tried yet: events are held in memory for the moment.
    Unknown,
    /// Yes.
    Up,
    /// No: events are stored.
    Down,
}

/// What a lane has done so far. Events, unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneStats {
    /// Taken over by [`Lane::push`] or [`Lane::enqueue`].
    pub accepted: u64,
    /// Found in storage at the start.
    pub found: u64,
    /// Acknowledged by Kafka, or handed on by [`Action::Route`].
    pub delivered: u64,
    /// Bytes of batches acknowledged by Kafka.
    pub delivered_bytes: u64,
    /// In temporary storage now.
    pub stored: u64,
    /// Put to the dead letters.
    pub dead_lettered: u64,
    /// Gone.
    pub lost: u64,
    /// Not accepted after all, and handed back: they were to go to the journal, and could not.
    pub returned: u64,
    /// Routed to it and given up when the time was up, because storage did not take them: they are where they came from,
    /// in storage too.
    pub turned_back: u64,
    /// Attempts to send a batch that failed, as a number of attempts.
    pub failures: u64,
    /// Sent again after a call that failed: each as often as it was.
    pub retried: u64,
    /// Delivered out of storage: out of the lane's own, or out of that of the lane without a partition.
    pub replayed: u64,
    /// Sent again although Kafka may have had them: each may be a duplicate.
    pub maybe_duplicated: u64,
    /// Found in Kafka's log, and therefore not sent again; they count as delivered, too.
    pub reconciled: u64,
}

/// A sealed batch that the lane is responsible for.
#[derive(Debug)]
struct Held {
    batch: Batch,
    tickets: Option<Tickets>,
    /// Of those who wait until it is in the journal.
    pledge: Option<Pledge>,
    /// What it takes of the memory budget.
    cost: usize,
    /// Number of the lane's events accepted before it.
    first: u64,
    /// When the first of them was accepted.
    since: Option<Moment>,
    /// How often it was sent since it was accepted or read from storage.
    attempts: u32,
    /// Kafka may have it already.
    maybe: bool,
    /// But not before this offset.
    from: Option<i64>,
    /// It is sent without a search of the log: there was one, or there can't be.
    blind: bool,
    /// It is also in storage, as this entry.
    entry: Option<EntryId>,
    /// Where it was routed from.
    origin: Origin,
}

impl Replay {
    /// The last batch of it.
    fn last(&self) -> Option<EntryId> {
        self.entries.last().map(|(id, _)| *id)
    }
}

impl Held {
    /// A batch of the lane, with `first` of its events before it, that was never sent.
    const fn new(batch: Batch, tickets: Option<Tickets>, cost: usize, first: u64) -> Self {
        let (since, pledge, from, entry) = (None, None, None, None);
        let (attempts, maybe, blind) = (0, false, false);
        let origin = Origin { is_stored: false, maybe: false };
        Self { batch, tickets, pledge, cost, first, since, attempts, maybe, from, blind, entry, origin }
    }

    fn events(&self) -> u64 {
        u64::from(self.batch.len())
    }
}

#[derive(Debug)]
struct Flight {
    id: FlightId,
    held: Held,
    result: Option<Result<Delivered, ProduceFailure>>,
    /// It is not sent yet: the log is searched for it.
    searching: bool,
}

/// A stored batch that is being sent, or several as one.
#[derive(Debug)]
struct Replay {
    /// Which, and how many events each has.
    entries: Vec<(EntryId, u32)>,
    /// What is still to be sent of it: the batch, or its parts after a cut.
    parts: VecDeque<Held>,
    /// When the first part may be sent, as long as it waits for that.
    turn: Option<Moment>,
    /// Its turn has come: what is sent again of it in parts takes no other.
    has_gone: bool,
}

#[derive(Debug)]
enum StorageOp {
    Append(Held),
    Recover,
    /// Reads to find out what is too old to be kept.
    Look,
}

/// Records that will never be sent, all for the same reason.
#[derive(Debug)]
struct Dead {
    held: Held,
    kind: ErrorKind,
    error: String,
    /// The driver is at it.
    asked: bool,
}

/// The state machine of a lane; see the [module](self).
#[derive(Debug)]
pub struct Lane {
    id: LaneId,
    options: LaneOptions,

    wall_clock: WallClock,
    pace: Option<Arc<Pace>>,
    buffers: Arc<Buffers>,
    builder: BatchBuilder,
    builder_tickets: Option<Tickets>,
    builder_pledge: Option<Pledge>,
    builder_cost: usize,
    builder_since: Moment,
    due: Option<FlushReason>,

    queue: VecDeque<Held>,
    flights: VecDeque<Flight>,
    next_flight: u64,

    stored_batches: u64,
    cursor: Option<EntryId>,
    /// The largest timestamp of the oldest stored batch, if that is known.
    front: Option<i64>,
    /// It has not caught up since Kafka was away, or an earlier process left something.
    is_behind: bool,
    storage_op: Option<StorageOp>,
    /// Since when storage owes the answer to that.
    storage_asked: Option<Moment>,
    /// Storage failed: leave it alone until then.
    storage_pause: Option<Moment>,
    storage_backoff: Backoff,
    full: Option<Full>,
    replay: Option<Replay>,
    /// Kafka may have the stored batches up to this one, from this offset on, and storage does not say so.
    doubtful: Option<(EntryId, Option<i64>)>,
    /// From which offset on Kafka may have a stored batch.
    stored_from: VecDeque<(EntryId, i64)>,
    /// So many of the oldest stored batches were left by a former process, which may have sent them.
    left_behind: u64,
    /// The offset behind the last event that is known to be in the log.
    next_offset: Option<i64>,
    /// Searches of the log that failed one after the other.
    searches_failed: u32,
    journal: Gathered,
    /// Receipts of what is in storage that would not survive the process.
    /// And how many records each batch has.
    stored_tickets: VecDeque<(EntryId, Tickets, u32)>,

    dead: VecDeque<Dead>,
    dead_pause: Option<Moment>,

    link: Link,
    /// The last attempt failed: the next one is not before then.
    failing: Option<Moment>,
    /// What is sent next was sent before, in vain, whether it went through storage since or not.
    retrying: bool,
    backoff: Backoff,

    abandoned: bool,
    winding_down: bool,
    /// Events turned back since the last call of [`Lane::take_turned_back`].
    turned_back: u64,
    released: (usize, usize),
    /// What was reported and is not over yet.
    troubles: Vec<Trouble>,
    say: VecDeque<Action>,
    stats: LaneStats,
}

impl Lane {
    /// A lane with nothing in it.
    #[must_use]
    pub fn new(id: LaneId, mut options: LaneOptions) -> Self {
        if id.partition.is_none() {
            // A driver routes one batch at a time.
            options.window = 1;
        }
        let backoff = |salt| {
            let seed = crate::rng::mix(options.seed ^ salt ^ u64::from(id.partition.map_or(u32::MAX, |p| p)));
            Backoff::new(options.retry_backoff, options.recheck_interval, seed)
        };
        Self {
            wall_clock: WallClock::default(),
            pace: None,
            buffers: Arc::default(),
            builder: BatchBuilder::new(),
            builder_tickets: None,
            builder_pledge: None,
            builder_cost: 0,
            builder_since: Moment::ZERO,
            due: None,
            queue: VecDeque::new(),
            flights: VecDeque::new(),
            next_flight: 0,
            stored_batches: 0,
            cursor: None,
            front: None,
            is_behind: false,
            storage_op: None,
            storage_asked: None,
            storage_pause: None,
            storage_backoff: backoff(1),
            full: None,
            replay: None,
            doubtful: None,
            stored_from: VecDeque::new(),
            left_behind: 0,
            next_offset: None,
            searches_failed: 0,
            journal: Gathered::default(),
            stored_tickets: VecDeque::new(),
            dead: VecDeque::new(),
            dead_pause: None,
            link: Link::Unknown,
            failing: None,
            retrying: false,
            backoff: backoff(2),
            abandoned: false,
            winding_down: false,
            turned_back: 0,
            released: (0, 0),
            troubles: Vec::new(),
            say: VecDeque::new(),
            stats: LaneStats::default(),
            id,
            options,
        }
    }

    /// Shares buffers with other lanes of the topic, instead of keeping its own.
    #[must_use]
    pub fn with_buffers(mut self, buffers: Arc<Buffers>) -> Self {
        self.buffers = buffers;
        self
    }

    /// An earlier process left so much in storage. To be called before the lane is [linked](Event::Link).
    pub const fn found(&mut self, batches: u64, events: u64) {
        self.stored_batches += batches;
        self.stats.stored += events;
        self.stats.found += events;
        self.is_behind |= batches > 0;
        if self.options.reconcile {
            self.left_behind += batches;
        }
    }

    /// Which lane this is.
    #[must_use]
    pub const fn id(&self) -> &LaneId {
        &self.id
    }

    /// What it has done so far.
    #[must_use]
    pub const fn stats(&self) -> LaneStats {
        self.stats
    }

    /// Takes an answer or news.
    pub fn handle(&mut self, event: Event, now: Moment) {
        match event {
            Event::Link(link) => self.set_link(link),
            Event::Produced { flight, result } => self.produced(flight, result, now),
            Event::Searched { flight, result } => self.searched(flight, result, now),
            Event::Stored(result) => self.stored(result, now),
            Event::Recovered(result) => self.recovered(result, now),
            Event::DeadLettered { taken, result } => self.dead_lettered(taken, result, now),
        }
        self.storage_asked.take_if(|_| self.storage_op.is_none());
        // With a journal, everything is stored.
        self.is_behind |= self.stored_batches > 0 && (self.is_locked() || !self.options.journal);
    }

    fn set_link(&mut self, link: Link) {
        if link == Link::Up && self.link != Link::Up {
            // Whoever says so has just reached Kafka: try at once.
            self.failing = None;
            self.backoff.reset();
        }
        if link == Link::Down {
            self.tell_stored();
        }
        if link != Link::Up {
            self.lose_turn();
        }
        self.link = link;
    }

    /// The next thing to do; `None` when there is nothing now.
    pub fn poll_action(&mut self, now: Moment) -> Option<Action> {
        if self.say.is_empty() && !self.abandoned {
            let action = self
                .poll_dead_letter(now)
                .or_else(|| self.poll_produce(now))
                .or_else(|| self.poll_dead_letter(now)) // what turned out to be too old
                .or_else(|| self.poll_expire(now));
            if action.is_some() {
                // Sealing a batch on the way may have left something to say, and that comes first.
                self.say.extend(action);
            }
        }
        if self.say.is_empty() {
            let action = self.poll_store(now);
            self.say.extend(action);
        }
        if self.storage_op.is_some() {
            self.storage_asked.get_or_insert(now);
        }
        self.say.pop_front()
    }

    /// When to poll again although nothing happened; always later than the last poll.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.abandoned {
            return None;
        }
        let dead = if self.dead.front().is_some_and(|d| !d.asked) { self.dead_pause } else { None };
        let sending = earliest(self.produce_timeout(), self.expire_timeout());
        earliest(dead, earliest(sending, self.store_timeout()))
    }

    /// Whether new events can't go to Kafka at the moment.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        matches!(self.link, Link::Down) || self.failing.is_some()
    }

    /// What it is at.
    #[must_use]
    pub fn state(&self) -> LaneState {
        match self.link {
            Link::Unknown => LaneState::Starting,
            _ if self.is_locked() || self.cannot_bury() => LaneState::Locked,
            // With a journal, what has just come is stored, too.
            _ if self.stored_batches > 0 && (!self.options.journal || self.is_behind) => LaneState::Replaying,
            _ => LaneState::Live,
        }
    }

    /// Stored events that another lane has, too, until they are settled there.
    #[must_use]
    pub fn handed_on(&self) -> u64 {
        let stored = self.flights.iter().filter(|flight| flight.held.entry.is_some());
        if self.id.partition.is_some() { 0 } else { stored.map(|flight| flight.held.events()).sum() }
    }

    /// Batches that are in flight or wait for it in memory.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.queue.len() + self.flights.len()
    }

    /// Whether nothing is in memory only: all is delivered, stored, or dead-lettered.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled_through() == self.stats.accepted
    }

    /// Whether nothing is left at all, in storage neither.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_settled()
            && self.stored_batches == 0
            && self.flights.is_empty()
            && self.dead.is_empty()
            && self.storage_op.is_none()
    }

    /// Nothing of it is in memory only, and the end is near: nothing more is sent from storage, but what is on its way
    /// may land, and the rest of a batch of which a part has landed is sent, too.
    pub fn wind_down(&mut self) {
        self.winding_down = true;
        self.tell_stored();
        self.lose_turn();
    }

    /// Whether it can end without sending anything twice later: nothing is in memory only or on its way, and nothing of
    /// what is stored is going to be, or can be, sent.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let is_over = self.winding_down || self.abandoned || self.stored_batches == 0;
        let is_stuck = self.is_locked() || !self.dead.is_empty();
        is_over
            && self.in_memory_from() == self.stats.accepted
            && self.flights.is_empty()
            && self.dead.iter().all(|dead| !dead.asked)
            && (self.replay.is_none() || is_stuck)
    }

    /// Of the events accepted so far, how many are settled without a gap from the first on.
    #[must_use]
    pub fn settled_through(&self) -> u64 {
        if self.is_sent_on() {
            return self.in_memory_from().saturating_sub(self.stats.stored);
        }
        self.in_memory_from()
    }

    /// Number of the first event that is in memory only; of the next one when there is none.
    fn in_memory_from(&self) -> u64 {
        let flying = self.flights.iter().map(|f| &f.held).chain(self.dead.iter().map(|d| &d.held));
        let appending = match &self.storage_op {
            Some(StorageOp::Append(held)) => Some(held),
            _ => None,
        };
        let oldest = flying
            .filter(|h| h.entry.is_none())
            .chain(appending)
            .chain(self.queue.front())
            .map(|h| h.first)
            .min();
        oldest.unwrap_or_else(|| self.stats.accepted - u64::from(self.builder.len()))
    }

    /// What left memory since the last call, as bytes and events of the budget.
    pub fn take_released(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.released)
    }

    /// How many routed events were [turned back](LaneStats::turned_back) since the last call.
    pub fn take_turned_back(&mut self) -> u64 {
        std::mem::take(&mut self.turned_back)
    }

    /// The time is up: nothing is sent any more, all that is in memory goes to storage, and what
    /// storage refuses is lost and reported, unless it was routed from storage and is still there.
    ///
    /// What is in flight is stored as well, as maybe persisted; its answer no longer counts.
    pub fn abandon(&mut self) {
        if self.abandoned {
            return;
        }
        self.abandoned = true;
        self.tell_stored();
        self.replay = None;
        let mut open: Vec<Held> = self.dead.drain(..).map(|dead| dead.held).collect();
        for flight in std::mem::take(&mut self.flights) {
            match flight.result {
                Some(Ok(delivered)) => self.settle(flight.held, &delivered),
                Some(Err(failure)) => {
                    let maybe = flight.held.maybe || failure.persistence == Persistence::MaybePersisted;
                    let kept = self.keep_failed(flight.held, &failure.failed);
                    open.extend(kept.map(|held| Held { maybe, blind: false, ..held }));
                }
                None => open.push(Held { maybe: true, blind: false, ..flight.held }),
            }
        }
        open.sort_by_key(|held| held.first);
        for held in open.into_iter().rev().filter(|held| held.entry.is_none()) {
            self.queue.push_front(held);
        }
        self.seal(FlushReason::Close);
    }

    fn release(&mut self, held: &Held) {
        if held.entry.is_none() {
            self.released.0 += held.cost;
            self.released.1 += held.batch.len() as usize;
        }
    }

    fn report(&mut self, what: What, events: u64, message: String) {
        let trouble = what.trouble();
        if trouble.lasts() && !self.troubles.contains(&trouble) {
            self.troubles.push(trouble);
        }
        self.tell(what, events, message);
    }

    /// A trouble is over: whoever heard of it hears that, too.
    fn is_well(&mut self, trouble: Trouble) {
        if let Some(at) = self.troubles.iter().position(|of| *of == trouble) {
            self.troubles.swap_remove(at);
            self.tell(What::Recovered(trouble), 0, String::new());
        }
    }

    fn tell(&mut self, what: What, events: u64, message: String) {
        let mut report = Report::new(what, message);
        report.topic = Some(self.id.topic.to_string());
        report.partition = self.id.partition;
        report.events = events;
        self.say.push_back(Action::Report(report));
    }
}
