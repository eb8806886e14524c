//! The collector: which lanes a topic has, and whether new events may go to them directly.
//!
//! ```text
//!              partitions counted        lanes drained         unassigned lane drained
//!   Starting ─────────────────▶ Draining ─────────▶ Assigning ────────────────────▶ Ready
//!                                   ▲                                                 │
//!                                   └──────────── more partitions counted ────────────┘
//! ```
//!
//! Until it is ready, new events go to the topic's *unassigned* lane, which has no partition: it
//! gathers and stores like any other. While assigning, its batches are routed to the partitions'
//! lanes, oldest first. Starting and growing are thus the same path, and order holds through both:
//! what the partitions' lanes had goes first, then what was unassigned, then new events.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::{Timing, TopicConfig};
use crate::lane::Link;
use crate::notifier::{Report, Trouble, What};
use crate::producer::{ErrorKind, ProduceError};
use crate::time::{Moment, earliest};

/// How far a collector is, as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CollectorState {
    /// The partition count is not known yet. Events are accepted.
    Starting,
    /// Events go to their partitions' lanes.
    Ready,
    /// Kafka is unavailable for at least one lane. Events are accepted and stored, or refused if
    /// `on_unavailable` is `reject`; looked at again with back-off up to `recheck_interval`.
    Locked,
    /// The topic has more partitions than before: old lanes drain, then the new count is used.
    Growing,
}

/// What the driver is to do for a collector.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver must handle every action")]
pub enum CollectorAction {
    /// Call [`Producer::partition_count`](crate::Producer::partition_count); answer with [`Collector::counted`].
    CountPartitions,
    /// Call [`Producer::create_topic`](crate::Producer::create_topic); answer with [`Collector::created`].
    CreateTopic,
    /// From now on new events go to the unassigned lane.
    Divert,
    /// See to it that there are so many lanes.
    OpenLanes(NonZeroU32),
    /// Tell the unassigned lane whether its batches can be routed.
    UnassignedLink(Link),
    /// From now on new events go to the partitions' lanes.
    GoLive,
    /// Tell the error notifier.
    Report(Report),
}

/// The state machine of a topic's collector; see the [module](self).
#[derive(Debug)]
pub struct Collector {
    phase: Phase,
    partitions: Option<NonZeroU32>,
    link: Link,
    /// A metadata request is under way.
    asking: bool,
    /// When to ask for the partition count again.
    ask_at: Option<Moment>,
    backoff: Backoff,
    /// It was reported that the count can't be had, and not yet that it can.
    reported: bool,
    refresh: Duration,
    may_create: bool,
    /// While lanes drain, new events are held in memory until then, and stored after that.
    patience: Duration,
    patient_until: Option<Moment>,
    say: VecDeque<CollectorAction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Draining { next: NonZeroU32 },
    Assigning,
    Ready,
}

impl Collector {
    /// A collector that knows nothing yet.
    #[must_use]
    pub const fn new(topic: &TopicConfig, timing: Timing, seed: u64) -> Self {
        Self {
            phase: Phase::Starting,
            partitions: None,
            link: Link::Unknown,
            asking: false,
            ask_at: None,
            backoff: Backoff::new(timing.retry_backoff, timing.recheck_interval, seed),
            reported: false,
            refresh: timing.partitions_refresh,
            may_create: topic.allow_topic_auto_creation,
            patience: timing.recheck_interval,
            patient_until: None,
            say: VecDeque::new(),
        }
    }

    /// How many partitions are in use; `None` while that is unknown.
    #[must_use]
    pub const fn partitions(&self) -> Option<NonZeroU32> {
        self.partitions
    }

    /// How far it is. `lanes_locked` is whether any of its lanes [is locked](crate::lane::Lane::is_locked).
    #[must_use]
    pub const fn state(&self, lanes_locked: bool) -> CollectorState {
        match self.phase {
            Phase::Starting => CollectorState::Starting,
            _ if lanes_locked || matches!(self.link, Link::Down) => CollectorState::Locked,
            Phase::Draining { .. } | Phase::Assigning => CollectorState::Growing,
            Phase::Ready => CollectorState::Ready,
        }
    }

    /// The connection came up or went down.
    pub fn set_link(&mut self, link: Link, now: Moment) {
        self.link = link;
        if link == Link::Up {
            self.ask_at = Some(now);
        }
        self.say_unassigned_link();
    }

    fn say_unassigned_link(&mut self) {
        let link = match (self.link, self.phase) {
            // Once it is ready the lane is empty and idle, and is not to look locked after an outage.
            (Link::Up, Phase::Assigning | Phase::Ready) => Link::Up,
            // Connected, and the count not refused yet: it will be known in a moment.
            (Link::Up, Phase::Starting) if !self.backoff.is_waiting() => Link::Unknown,
            (Link::Unknown, Phase::Starting) => Link::Unknown,
            // The lanes will be empty in a moment.
            (Link::Up, Phase::Draining { .. }) if self.patient_until.is_some() => Link::Unknown,
            _ => Link::Down,
        };
        self.say.push_back(CollectorAction::UnassignedLink(link));
    }

    /// The answer to [`CollectorAction::CountPartitions`].
    pub fn counted(&mut self, result: Result<NonZeroU32, ProduceError>, now: Moment) {
        self.asking = false;
        match result {
            Ok(count) => {
                self.backoff.reset();
                if std::mem::take(&mut self.reported) {
                    let report = Report::new(What::Recovered(Trouble::Partitions), "");
                    self.say.push_back(CollectorAction::Report(report));
                }
                self.ask_at = Some(now + self.refresh);
                self.use_count(count, now);
            }
            Err(error) if error.kind() == ErrorKind::UnknownTopic && self.may_create => {
                self.asking = true;
                self.say.push_back(CollectorAction::CreateTopic);
            }
            Err(error) => self.ask_later(&error, now),
        }
    }

    /// The answer to [`CollectorAction::CreateTopic`].
    pub fn created(&mut self, result: Result<(), ProduceError>, now: Moment) {
        self.asking = false;
        match result {
            // The new topic takes a moment to be known everywhere.
            Ok(()) => self.ask_at = Some(self.backoff.next(now)),
            Err(error) => self.ask_later(&error, now),
        }
    }

    fn ask_later(&mut self, error: &ProduceError, now: Moment) {
        self.ask_at = Some(self.backoff.next(now));
        self.say.push_back(CollectorAction::Report(Report::new(
            What::PartitionsUnknown(error.kind()),
            error.to_string(),
        )));
        self.reported = true;
        if self.phase == Phase::Starting {
            self.say_unassigned_link();
        }
    }

    fn use_count(&mut self, count: NonZeroU32, now: Moment) {
        match (self.phase, self.partitions) {
            (Phase::Starting, _) => {
                self.partitions = Some(count);
                self.say.push_back(CollectorAction::OpenLanes(count));
                self.phase = Phase::Draining { next: count };
            }
            (Phase::Ready, Some(known)) if count > known => {
                self.say.push_back(CollectorAction::Divert);
                self.phase = Phase::Draining { next: count };
            }
            (Phase::Draining { next }, _) if count > next => self.phase = Phase::Draining { next: count },
            // Kafka never takes partitions away; a smaller number is a topic made anew, and the lanes
            // of partitions that are gone say so by themselves.
            _ => return,
        }
        self.patient_until = Some(now + self.patience);
        self.say_unassigned_link();
    }

    /// Whether [`lanes_drained`](Self::lanes_drained) is waited for; not before all actions so far are
    /// carried out, because lanes that are not opened yet look empty.
    #[must_use]
    pub fn awaits_lanes(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. }) && self.say.is_empty()
    }

    /// The partitions' lanes are empty, in storage too.
    pub fn lanes_drained(&mut self) {
        let Phase::Draining { next } = self.phase else { return };
        if self.partitions != Some(next) {
            self.partitions = Some(next);
            self.say.push_back(CollectorAction::OpenLanes(next));
        }
        self.phase = Phase::Assigning;
        self.patient_until = None;
        self.say_unassigned_link();
    }

    /// Whether [`unassigned_drained`](Self::unassigned_drained) is waited for; not before all actions so
    /// far are carried out, so that [`CollectorAction::GoLive`] is the next one then.
    #[must_use]
    pub fn awaits_unassigned(&self) -> bool {
        matches!(self.phase, Phase::Assigning) && self.say.is_empty()
    }

    /// The unassigned lane is empty, in storage too. The driver must see to it that nothing is put
    /// into it between finding that and carrying out [`CollectorAction::GoLive`].
    pub fn unassigned_drained(&mut self) {
        if self.phase == Phase::Assigning {
            self.phase = Phase::Ready;
            self.say.push_back(CollectorAction::GoLive);
        }
    }

    /// The next thing to do; `None` when there is nothing now.
    pub fn poll_action(&mut self, now: Moment) -> Option<CollectorAction> {
        if self.patient_until.take_if(|until| now >= *until).is_some() {
            self.say_unassigned_link();
        }
        if let Some(action) = self.say.pop_front() {
            return Some(action);
        }
        if self.link == Link::Up && !self.asking && self.ask_at.is_some_and(|at| now >= at) {
            self.asking = true;
            return Some(CollectorAction::CountPartitions);
        }
        None
    }

    /// When to poll again although nothing happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        earliest(self.patient_until, if self.link == Link::Up && !self.asking { self.ask_at } else { None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KafkaConfig, TopicSettings};

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn n(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    fn collector(topic: TopicSettings) -> Collector {
        let config = KafkaConfig::new("localhost:9092").with_topic(topic);
        Collector::new(&config.topics().unwrap()[0], config.timing(), 1)
    }

    fn said(collector: &mut Collector, now: Moment) -> Vec<String> {
        std::iter::from_fn(|| collector.poll_action(now))
            .map(|action| format!("{action:?}").split(" {").next().unwrap_or_default().to_owned())
            .collect()
    }

    fn ready(topic: TopicSettings, count: u32) -> Collector {
        let mut c = collector(topic);
        c.set_link(Link::Up, at(0));
        said(&mut c, at(0));
        c.counted(Ok(n(count)), at(0));
        c.lanes_drained();
        c.unassigned_drained();
        said(&mut c, at(0));
        assert_eq!(c.state(false), CollectorState::Ready);
        c
    }

    #[test]
    fn starts_when_the_count_is_known() {
        let mut c = collector(TopicSettings::new("t"));
        assert_eq!(c.poll_timeout(), None, "not connected: nothing to ask");
        c.set_link(Link::Up, at(0));
        assert_eq!(said(&mut c, at(0)), ["UnassignedLink(Unknown)", "CountPartitions"]);
        c.counted(Ok(n(3)), at(1));
        assert!(!c.awaits_lanes(), "they are not opened yet");
        assert_eq!(said(&mut c, at(1)), ["OpenLanes(3)", "UnassignedLink(Unknown)"]);
        assert!(c.awaits_lanes());
        c.lanes_drained();
        assert!(!c.awaits_unassigned(), "the unassigned lane has not heard of it yet");
        assert_eq!(said(&mut c, at(1)), ["UnassignedLink(Up)"]);
        assert!(c.awaits_unassigned());
        c.unassigned_drained();
        assert_eq!(said(&mut c, at(1)), ["GoLive"]);
        assert_eq!(c.state(false), CollectorState::Ready);
        assert_eq!(c.state(true), CollectorState::Locked);
    }

    /// Defect 15: the partition count was read once, for ever.
    #[test]
    fn defect_15_more_partitions_are_noticed_and_used_once_the_old_lanes_are_empty() {
        let mut c = ready(TopicSettings::new("t"), 3);
        let refresh = c.poll_timeout().unwrap();
        assert_eq!(said(&mut c, refresh), ["CountPartitions"]);
        c.counted(Ok(n(5)), refresh);
        assert_eq!(said(&mut c, refresh), ["Divert", "UnassignedLink(Unknown)"]);
        assert_eq!((c.state(false), c.partitions()), (CollectorState::Growing, Some(n(3))));
        c.lanes_drained();
        assert_eq!(said(&mut c, refresh), ["OpenLanes(5)", "UnassignedLink(Up)"]);
        assert_eq!(c.partitions(), Some(n(5)));
        c.unassigned_drained();
        assert_eq!(said(&mut c, refresh), ["GoLive"]);
    }

    #[test]
    fn lanes_that_do_not_drain_soon_make_new_events_be_stored() {
        let mut c = collector(TopicSettings::new("t"));
        c.set_link(Link::Up, at(0));
        c.counted(Ok(n(3)), at(0));
        said(&mut c, at(0));
        let until = c.poll_timeout().unwrap();
        assert_eq!(until, at(5000));
        assert_eq!(said(&mut c, until), ["UnassignedLink(Down)"]);
        assert!(c.awaits_lanes() && c.poll_timeout() > Some(until));
    }

    #[test]
    fn the_same_or_a_smaller_count_changes_nothing() {
        let mut c = ready(TopicSettings::new("t"), 3);
        c.counted(Ok(n(3)), at(9));
        c.counted(Ok(n(2)), at(9));
        assert_eq!(said(&mut c, at(9)), [""; 0]);
        assert_eq!(c.partitions(), Some(n(3)));
    }

    #[test]
    fn an_unknown_topic_is_reported_asked_for_again_and_its_events_stored() {
        let mut c = collector(TopicSettings::new("t"));
        c.set_link(Link::Up, at(0));
        said(&mut c, at(0));
        c.counted(Err(ProduceError::new(ErrorKind::UnknownTopic, "no such topic")), at(0));
        let heard = said(&mut c, at(0));
        assert!(heard[0].starts_with("Report") && heard[1] == "UnassignedLink(Down)", "{heard:?}");
        let again = c.poll_timeout().unwrap();
        assert!(again > at(0) && again <= at(100));
        assert_eq!(said(&mut c, again), ["CountPartitions"]);
    }

    #[test]
    fn a_topic_is_created_only_where_that_is_allowed() {
        let mut c = collector(TopicSettings::new("t").allow_topic_auto_creation(true));
        c.set_link(Link::Up, at(0));
        said(&mut c, at(0));
        c.counted(Err(ProduceError::new(ErrorKind::UnknownTopic, "no such topic")), at(0));
        assert_eq!(said(&mut c, at(0)), ["CreateTopic"]);
        c.created(Ok(()), at(0));
        let again = c.poll_timeout().unwrap();
        assert_eq!(said(&mut c, again), ["CountPartitions"]);
    }

    #[test]
    fn a_lost_connection_locks_and_asks_again_when_it_is_back() {
        let mut c = ready(TopicSettings::new("t"), 3);
        c.set_link(Link::Down, at(5));
        assert_eq!(c.state(false), CollectorState::Locked);
        assert_eq!(c.poll_timeout(), None);
        assert_eq!(said(&mut c, at(5)), ["UnassignedLink(Down)"]);
        c.set_link(Link::Up, at(10));
        assert_eq!(
            said(&mut c, at(10)),
            ["UnassignedLink(Up)", "CountPartitions"],
            "and no lane is left locked"
        );
    }
}
