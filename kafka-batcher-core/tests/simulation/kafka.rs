//! A model of Kafka: a log for each partition, and everything that can go wrong on the way there.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use kafka_batcher_core::{Delivered, ErrorKind, Moment, Persistence, ProduceError, ProduceFailure};

use super::dice::Dice;
use super::plan::{Plan, Trouble};

#[derive(Debug)]
pub(crate) struct Kafka {
    /// For each partition, the events in its log and when each was written, as a number that grows
    /// over all partitions.
    pub(crate) logs: Vec<Vec<(u64, u64)>>,
    pub(crate) exists: bool,
    /// The client's calls fail until it is connected anew.
    pub(crate) broken: bool,
    dice: Dice,
    writes: u64,
    /// What each incarnation has in flight to each partition.
    chains: BTreeMap<(u32, u32), Chain>,
}

/// Batches in flight to one partition, by a backend that numbers them: from the first until the sender
/// knows what became of each.
#[derive(Debug, Default)]
struct Chain {
    open: u32,
    /// One failed, and whether it is in the log all the same: those behind it fail too.
    broken: Option<bool>,
    last_write: Moment,
}

/// One call of `produce`.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) incarnation: u32,
    pub(crate) partition: u32,
    pub(crate) events: Vec<u64>,
    pub(crate) fate: Fate,
    pub(crate) write_at: Moment,
    pub(crate) answer_at: Moment,
    base: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Delivered,
    Refused {
        kind: ErrorKind,
        persistence: Persistence,
        /// Indexes of what failed; `None` for all.
        failed: Option<Vec<u32>>,
        /// What failed is written all the same.
        written: bool,
    },
}

impl Fate {
    pub(crate) const fn transient(persistence: Persistence, written: bool) -> Self {
        Self::Refused { kind: ErrorKind::Transient, persistence, failed: None, written }
    }

    const fn refused(kind: ErrorKind) -> Self {
        Self::Refused { kind, persistence: Persistence::NotPersisted, failed: None, written: false }
    }

    fn has_failed(&self, index: u32) -> bool {
        match self {
            Self::Delivered => false,
            Self::Refused { failed, .. } => failed.as_ref().is_none_or(|failed| failed.contains(&index)),
        }
    }
}

impl Kafka {
    pub(crate) fn new(plan: &Plan, dice: Dice) -> Self {
        let logs = vec![Vec::new(); plan.partitions as usize];
        Self { logs, exists: plan.exists, broken: false, dice, writes: 0, chains: BTreeMap::new() }
    }

    pub(crate) fn grow(&mut self, by: u32) {
        let partitions = self.logs.len() + by as usize;
        self.logs.resize(partitions, Vec::new());
    }

    /// How much was written to any log so far.
    pub(crate) const fn writes(&self) -> u64 {
        self.writes
    }

    fn latency(&mut self, plan: &Plan, now: Moment) -> Duration {
        let slow = if plan.has(now, Trouble::Slow) { self.dice.between(1, 50) } else { 1 };
        Duration::from_micros(self.dice.between(50, plan.kafka_latency) * slow)
            .min(plan.timing.produce_timeout)
    }

    /// A batch is sent; says when it is written and answered, and how.
    pub(crate) fn send(
        &mut self,
        plan: &Plan,
        now: Moment,
        to: (u32, u32),
        events: Vec<u64>,
        bytes: usize,
        poison: &[u32],
    ) -> Call {
        let (incarnation, partition) = to;
        let mut fate = self.fate(plan, now, partition, bytes, poison, events.len() as u32);
        if let Fate::Refused { kind: ErrorKind::Transient, failed, written, .. } = &mut fate {
            // What Kafka never takes does not get into a log by accident either.
            if !poison.is_empty() || bytes > plan.broker_limit {
                (*failed, *written) = (None, false);
            }
        }
        let latency = self.latency(plan, now);
        let mut write_at = now + latency / 2;
        let mut answer_at = now + latency;
        if let Fate::Refused { persistence: Persistence::MaybePersisted, failed: None, written, .. } = &fate {
            answer_at = now + plan.timing.produce_timeout;
            // A request that was held up somewhere can be written long after everybody gave up on it.
            if *written && plan.window == 1 && self.dice.chance(40) {
                write_at = answer_at + self.dice.millis(0, 4000);
            }
        }
        if plan.window > 1 {
            let chain = self.chains.entry(to).or_default();
            chain.open += 1;
            write_at = write_at.max(chain.last_write + Duration::from_micros(1));
            chain.last_write = write_at;
            answer_at = answer_at.max(write_at);
        }
        Call { incarnation, partition, events, fate, write_at, answer_at, base: None }
    }

    fn fate(
        &mut self,
        plan: &Plan,
        now: Moment,
        partition: u32,
        bytes: usize,
        poison: &[u32],
        events: u32,
    ) -> Fate {
        let dice = &mut self.dice;
        if self.broken {
            return Fate::refused(ErrorKind::Fatal);
        }
        if !self.exists || partition as usize >= self.logs.len() {
            return Fate::refused(ErrorKind::UnknownTopic);
        }
        if plan.has(now, Trouble::Outage) || plan.has(now, Trouble::Leaderless(partition)) {
            return match dice.between(0, 3) {
                0 => Fate::transient(Persistence::MaybePersisted, false),
                1 => Fate::transient(Persistence::MaybePersisted, true),
                _ => Fate::refused(ErrorKind::Transient),
            };
        }
        if plan.has(now, Trouble::Denied) {
            return Fate::refused(ErrorKind::Denied);
        }
        if bytes > plan.broker_limit {
            return Fate::refused(ErrorKind::TooLarge);
        }
        let flaky = plan.flakiness(now);
        if flaky > 0 && dice.chance(flaky) {
            return self.mishap(plan, events);
        }
        if !poison.is_empty() {
            let culprits = plan.names_culprits && plan.window == 1 && poison.len() < events as usize;
            let failed = culprits.then(|| poison.to_vec());
            return Fate::Refused {
                kind: ErrorKind::Permanent,
                persistence: Persistence::NotPersisted,
                failed,
                written: false,
            };
        }
        Fate::Delivered
    }

    fn mishap(&mut self, plan: &Plan, events: u32) -> Fate {
        let dice = &mut self.dice;
        let persistence = dice.pick(&[Persistence::NotPersisted, Persistence::MaybePersisted]);
        let written = persistence == Persistence::MaybePersisted && dice.chance(50);
        match dice.between(0, 9) {
            0 => {
                self.broken = true;
                Fate::refused(ErrorKind::Fatal)
            }
            // Kafka takes a numbered batch as a whole or not at all.
            1..=2 if plan.window == 1 => {
                let from = dice.between(0, u64::from(events)) as u32;
                let failed = (from..events).collect();
                Fate::Refused { kind: ErrorKind::Transient, persistence, failed: Some(failed), written }
            }
            3 if plan.window == 1 => {
                let failed = (0..events).filter(|_| dice.chance(40)).collect();
                Fate::Refused { kind: ErrorKind::Transient, persistence, failed: Some(failed), written }
            }
            _ => Fate::transient(persistence, written),
        }
    }

    /// The broker takes a batch in, or what it takes of it. Gives those of its events that later
    /// ones of the same batch have overtaken.
    pub(crate) fn write(&mut self, call: &mut Call) -> Vec<u64> {
        if let Some(chain) = self.chains.get_mut(&(call.incarnation, call.partition)) {
            if let Some(before) = chain.broken {
                let persistence =
                    if before { Persistence::MaybePersisted } else { Persistence::NotPersisted };
                call.fate = Fate::transient(persistence, before && self.dice.chance(50));
            }
            if let Fate::Refused { written, .. } = call.fate {
                chain.broken = Some(written);
            }
        }
        let fails_unwritten = matches!(call.fate, Fate::Refused { written: false, .. });
        let taken = |index: u32| !call.fate.has_failed(index) || !fails_unwritten;
        let Some(log) = self.logs.get_mut(call.partition as usize) else { return Vec::new() };
        let mut missing = Vec::new();
        let mut overtaken = 0;
        for (index, &event) in (0..).zip(&call.events) {
            if taken(index) {
                call.base.get_or_insert(log.len() as i64);
                log.push((event, self.writes));
                self.writes += 1;
                overtaken = missing.len();
            } else {
                missing.push(event);
            }
        }
        missing.truncate(overtaken);
        missing
    }

    /// The client's answer.
    pub(crate) fn answer(&self, plan: &Plan, call: &Call) -> Result<Delivered, ProduceFailure> {
        match &call.fate {
            Fate::Delivered => Ok(Delivered::at(call.base.filter(|_| plan.offsets))),
            Fate::Refused { kind, persistence, failed, .. } => {
                let error = ProduceError::new(*kind, "the model says so");
                Err(match failed {
                    None => ProduceFailure::whole(error, *persistence),
                    Some(failed) => ProduceFailure::some(error, *persistence, failed.clone()),
                })
            }
        }
    }

    /// The sender knows of an answer.
    pub(crate) fn landed(&mut self, process: u32, partition: u32) {
        let key = (process, partition);
        if let Some(chain) = self.chains.get_mut(&key) {
            chain.open -= 1;
            if chain.open == 0 {
                self.chains.remove(&key);
            }
        }
    }

    pub(crate) fn connect(&mut self, plan: &Plan, now: Moment) -> Result<(), ProduceError> {
        if plan.has(now, Trouble::Outage) {
            return Err(ProduceError::new(ErrorKind::Transient, "refused"));
        }
        self.broken = false;
        Ok(())
    }

    /// `at_least`: partitions that are known for sure, because something is stored for them.
    pub(crate) fn count(
        &mut self,
        plan: &Plan,
        now: Moment,
        at_least: u32,
    ) -> Result<NonZeroU32, ProduceError> {
        if self.broken {
            return Err(ProduceError::new(ErrorKind::Fatal, "the client is broken"));
        }
        if plan.has(now, Trouble::Outage) || plan.has(now, Trouble::Metadata) {
            return Err(ProduceError::new(ErrorKind::Transient, "no answer"));
        }
        let partitions = self.logs.len() as u32;
        // Not every broker knows at once.
        let stale = now < plan.end && self.dice.chance(5);
        let known = if stale {
            self.dice.between(at_least.max(1).into(), partitions.into()) as u32
        } else {
            partitions
        };
        match NonZeroU32::new(known) {
            Some(count) if self.exists => Ok(count),
            _ => Err(ProduceError::new(ErrorKind::UnknownTopic, "no such topic")),
        }
    }

    pub(crate) fn create(&mut self, plan: &Plan, now: Moment) -> Result<(), ProduceError> {
        if plan.has(now, Trouble::Outage) || plan.has(now, Trouble::Denied) {
            return Err(ProduceError::new(ErrorKind::Denied, "not now"));
        }
        self.exists = true;
        Ok(())
    }

    pub(crate) fn metadata_latency(&mut self, plan: &Plan, now: Moment) -> Duration {
        self.latency(plan, now).min(plan.timing.connect_timeout)
    }
}
