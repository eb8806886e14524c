//! What must hold all along, and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_batcher_core::batch::HEADER_LEN;
use kafka_batcher_core::config::OnStorageFull;
use kafka_batcher_core::lane::{Link, SEQUENCE_HEADER};
use kafka_batcher_core::{Batch, Moment, Outcome, RecordRef};

use super::ledger::id_of;
use super::plan::Trouble;
use super::process::View;
use super::world::{World, note};

/// How late a task may come.
const SLACK: Duration = Duration::from_millis(2);

impl World {
    /// What a shard says of itself, after each poll.
    pub(crate) fn check_cell(&mut self, index: usize) {
        let cell = &self.process.as_ref().expect("a process runs").cells[index];
        let (mut arrived, mut maybe) = (0, 0);
        for lane in cell.shard.lanes() {
            let stats = lane.stats();
            arrived += stats.delivered + stats.stored + stats.dead_lettered + stats.lost + stats.returned;
            arrived += stats.turned_back;
            maybe += stats.maybe_duplicated;
        }
        assert_eq!(
            cell.released + cell.found,
            arrived,
            "cell {index}: events that left memory, and those found in storage, against delivered, stored, \
             dead-lettered and lost: {:#?}",
            cell.shard.lanes().iter().map(|lane| (lane.id().partition, lane.stats())).collect::<Vec<_>>()
        );
        let expected: u64 = cell.views.iter().map(|view| view.maybe_duplicated).sum();
        assert!(
            index == 0 || maybe == expected,
            "cell {index}: {maybe} events maybe duplicated, not {expected}"
        );
    }

    /// Nothing may lie about that somebody should have picked up by now; time goes on to `next`.
    pub(crate) fn check_overdue(&self, next: Moment) {
        let Some(process) = self.process.as_ref().filter(|process| process.found.is_some()) else { return };
        if process.turn_at.is_some() {
            return;
        }
        let recheck = self.plan.timing.recheck_interval;
        for cell in &process.cells {
            for (view, lane) in cell.views.iter().zip(cell.shard.lanes()) {
                if view.is_busy()
                    || view.abandoned
                    || process.winding_down
                    || matches!(view.link, None | Some(Link::Unknown))
                {
                    continue;
                }
                // Of several batches in flight, a failed one counts when all have landed.
                let together = self.plan.window > 1 && lane.is_locked();
                let failure = if together { view.last_news } else { view.last_failure };
                let news = view.last_news.max(failure + recheck);
                let oldest =
                    view.idle.values().min().map(|since| (*since + self.plan.topic.max_wait_time).max(news));
                assert!(
                    oldest.is_none_or(|due| next <= due + SLACK),
                    "{:?} lies in lane {:?} and was due at {oldest:?}; nothing happens until {next:?}; {lane:#?}",
                    view.idle.keys().next(),
                    view.partition
                );
                let due = self.expires_in_storage(view).map(|due| due.max(news));
                assert!(
                    due.is_none_or(|due| next <= due + SLACK),
                    "what is stored for lane {:?} is too old since {due:?}; nothing happens until {next:?}; {lane:#?}",
                    view.partition
                );
                let stored = lane.stats().stored;
                // What is in the journal may wait there until it is a batch.
                let topic = &self.plan.topic;
                let gather =
                    if self.plan.journal { topic.max_wait_time.max(topic.min_delay) } else { Duration::ZERO };
                assert!(
                    stored == 0
                        || view.link != Some(Link::Up)
                        || next <= news + gather + self.paced() + SLACK,
                    "{stored} events are stored for lane {:?} and left alone from {news:?} to {next:?}; {lane:#?}",
                    view.partition
                );
                let full = view.idle.len() >= self.plan.topic.batch_size.get() as usize;
                // More than goes into one batch: the first must have been sealed.
                let size: usize = view.idle.keys().map(|id| self.ledger.lives[*id as usize].size).sum();
                let sealed = size + HEADER_LEN > self.plan.topic.max_batch_bytesize.get();
                let live = view.link == Some(Link::Up) && stored == 0 && !lane.is_locked();
                if let (true, true, Some(last)) = (full || sealed, live, view.idle.values().max()) {
                    let held = cell.sealed_at.filter(|_| !sealed).map(|at| at + self.plan.topic.min_delay);
                    let due = held.unwrap_or(*last).max(*last).max(news);
                    assert!(
                        next <= due + SLACK,
                        "a full batch lies in lane {:?} and was due at {due:?}; nothing happens until {next:?}; {lane:#?}",
                        view.partition
                    );
                }
            }
        }
    }

    /// How long a lane may have to wait for its turn, at most.
    fn paced(&self) -> Duration {
        let all = self.ledger.lives.len() as u64 * 2;
        self.plan
            .replay_rate
            .map_or(Duration::ZERO, |rate| Duration::from_micros(all * 1_000_000 / u64::from(rate.get())))
    }

    /// When all of the oldest stored batch of a lane that can't send is too old: of all that was read together, if it was.
    fn expires_in_storage(&self, view: &View) -> Option<Moment> {
        let age = self.plan.topic.max_age.filter(|_| view.link == Some(Link::Down))?;
        let entries = self.storage.lanes.get(&view.partition)?.iter().filter(|entry| !entry.acknowledged);
        let reads = view.reads;
        let front = entries.scan(true, |first, entry| {
            let together = std::mem::take(first) || entry.replay == reads;
            together.then_some(entry)
        });
        let timestamp = |id: &u64| self.ledger.lives[*id as usize].timestamp;
        let youngest = front.flat_map(|entry| entry.events.iter().map(timestamp)).max()?;
        Some(self.wall_clock.moment(youngest + age.as_millis() as i64))
    }

    /// Whether an event is too old to be sent.
    pub(crate) fn is_expired(&self, id: u64) -> bool {
        let age = self.wall_clock.unix_millis(self.now) - self.ledger.lives[id as usize].timestamp;
        self.plan.topic.max_age.is_some_and(|limit| age >= limit.as_millis() as i64)
    }

    /// Over any time, no more is sent from storage than the pace allows, but for one batch of each lane.
    pub(crate) fn check_pace(&mut self, events: usize) {
        let Some(rate) = self.plan.replay_rate.filter(|_| !self.plan.journal) else { return };
        self.tally("replayed at a pace");
        let now = self.now;
        let process = self.process();
        let lanes: usize = process.cells.iter().map(|cell| cell.views.len()).sum();
        let (above, since, largest) = process.paced;
        let above = (above - now.since(since).as_secs_f64() * f64::from(rate.get())).max(0.0);
        let largest = largest.max(events);
        assert!(
            above <= (lanes * largest) as f64,
            "{events} events are sent from storage, {above} more than the pace allows"
        );
        process.paced = (above + events as f64, now, largest);
    }

    /// The records of a batch are those that were accepted.
    pub(crate) fn check_records(&mut self, batch: &Batch) {
        assert_eq!(Batch::parse(batch.as_bytes().clone()).as_ref(), Ok(batch), "a batch is not what it says");
        for record in batch.records() {
            let id = id_of(&record);
            let life = &self.ledger.lives[id as usize];
            assert_eq!(record.key, life.key.as_deref().map(str::as_bytes), "the key of {id}");
            assert_eq!(record.timestamp, Some(life.timestamp), "the timestamp of {id}");
            self.check_sequence(id, &record);
        }
    }

    /// A sequence header names one event, and an event has one.
    fn check_sequence(&mut self, id: u64, record: &RecordRef<'_>) {
        let stamps: Vec<_> = record.headers.iter().filter(|header| header.name == SEQUENCE_HEADER).collect();
        let stamped = self.plan.topic.sequence_header || self.plan.topic.reconcile;
        assert_eq!(stamps.len(), usize::from(stamped), "sequence headers of {id}");
        if let Some(value) = stamps.first().and_then(|stamp| stamp.value) {
            let of = *self.ledger.sequences.entry(value.to_vec()).or_insert(id);
            assert_eq!(of, id, "two events have the same sequence header");
        }
    }

    /// Receipts that have resolved tell the truth; if the process has ended in order, all have resolved.
    pub(crate) fn check_receipts(&mut self, ended: bool) {
        let durable = self.plan.durable;
        for id in std::mem::take(&mut self.ledger.open_receipts) {
            let life = &self.ledger.lives[id as usize];
            let outcome = life.receipt.as_ref().and_then(kafka_batcher_core::Receipt::try_outcome);
            assert!(
                life.outcome.is_none() || life.outcome == outcome,
                "the receipt of {id} has changed its mind"
            );
            let what = match outcome {
                Some(Outcome::Delivered { .. }) => "receipt: delivered",
                Some(Outcome::Stored) => "receipt: stored",
                Some(Outcome::DeadLettered(_)) => "receipt: dead-lettered",
                Some(Outcome::Lost) => "receipt: lost",
                _ => "receipt: open at the end of a process",
            };
            *self.tally.entry(what).or_default() += 1;
            match outcome {
                Some(Outcome::Delivered { partition, offset }) => {
                    let log = &self.kafka.logs[partition as usize];
                    let at = offset.map(|offset| log.get(offset as usize).map(|(event, _)| *event));
                    let there = log.iter().any(|(event, _)| *event == id);
                    assert!(
                        there && at.is_none_or(|event| event == Some(id)),
                        "the receipt of {id} says {outcome:?}"
                    );
                }
                Some(Outcome::Stored) => assert!(life.was_stored, "the receipt of {id} says stored"),
                Some(Outcome::DeadLettered(_)) => {
                    assert!(life.dead > 0, "the receipt of {id} says dead-lettered")
                }
                Some(Outcome::Lost) => {
                    // What is in storage that goes with the process is lost with it.
                    let gone = !durable
                        && life.acknowledged == 0
                        && self.process.as_ref().is_some_and(|p| p.abandoned);
                    assert!(life.lost || gone || life.returned, "the receipt of {id} says lost");
                }
                Some(other) => panic!("the receipt of {id} says {other:?}"),
                None => {
                    // A dead letter that is put away after the time was up is stored as well, to be safe.
                    let dead = life.dead > 0 && !self.process.as_ref().is_some_and(|p| p.abandoned);
                    let known = life.acknowledged > 0 || dead || life.lost || (life.was_stored && durable);
                    assert!(!(ended && known), "the receipt of {id} says nothing");
                }
            }
            self.ledger.lives[id as usize].outcome = outcome;
            self.ledger.open_receipts.push(id);
        }
    }

    /// The process has ended as it should: its figures add up, and nothing is in memory.
    pub(crate) fn check_report(&mut self) {
        let process = self.process.as_ref().expect("a process ends");
        assert_eq!(process.budget.used(), (0, 0), "the budget is not given back");
        let lost: u64 =
            process.cells.iter().flat_map(|cell| cell.shard.lanes()).map(|lane| lane.stats().lost).sum();
        assert_eq!(lost, process.lost, "lost events");
        let stored: u64 =
            process.cells.iter().flat_map(|cell| cell.shard.lanes()).map(|lane| lane.stats().stored).sum();
        let left = process.found.iter().flatten().map(|(_, (_, events))| events).sum::<u64>();
        let kept: u64 = self
            .storage
            .entries()
            .filter(|(_, entry)| !entry.acknowledged)
            .map(|(_, entry)| entry.events.len() as u64)
            .sum();
        assert!(
            stored + left <= kept,
            "{stored} events are said to be stored, {left} were left alone, {kept} are there"
        );
        for cell in &process.cells {
            for view in &cell.views {
                assert!(view.idle.is_empty(), "{:?} still lie in lane {:?}", view.idle, view.partition);
            }
        }
    }

    /// The process has ended in time: what Kafka has is not left in storage to be sent again, unless it has a part of a
    /// batch only, and can't be given the rest now, or the dead letters can't.
    pub(crate) fn check_rest(&self) {
        let process = self.process.as_ref().expect("a process ends");
        let in_time = process.ending.is_some_and(|ending| self.now < ending.until) && !process.abandoned;
        if !in_time || self.plan.faults.iter().any(|fault| fault.trouble == Trouble::DeadLetters) {
            return;
        }
        let lanes = process.cells.iter().flat_map(|cell| cell.views.iter().zip(cell.shard.lanes()));
        for (view, _) in lanes.filter(|(_, lane)| !lane.is_locked()) {
            for entry in self.storage.lanes.get(&view.partition).into_iter().flatten() {
                let lives = entry.events.iter().map(|event| &self.ledger.lives[*event as usize]);
                let is_known = entry.acknowledged || entry.leftover;
                let again =
                    lives.filter(|life| life.is_done() && life.copies == 0 && life.routed < 2).count();
                assert!(is_known || again == 0, "{entry:?} of lane {:?} is left behind", view.partition);
            }
        }
    }

    /// What was only in memory is gone with the process; notes which copies that leaves behind.
    pub(crate) fn bury_memory(&mut self) {
        self.ledger.look_into_journal();
        // Those who still wait to hear of the journal go with the process.
        self.ledger.lives.iter_mut().for_each(|life| life.journaled = None);
        let durable = self.plan.durable;
        let mut kept: BTreeMap<u64, u32> = BTreeMap::new();
        let mut parted: BTreeMap<u64, bool> = BTreeMap::new();
        for (lane, entry) in self.storage.entries() {
            for event in &entry.events {
                *kept.entry(*event).or_default() += 1;
                *parted.entry(*event).or_default() |= lane.is_some();
            }
        }
        let lives = &mut self.ledger.lives;
        for (lane, entries) in &mut self.storage.lanes {
            let mut repeated = BTreeSet::new();
            for entry in entries {
                let is_copy =
                    |event: &u64| lives[*event as usize].is_done() || (lane.is_none() && parted[event]);
                let copy = entry.events.iter().any(is_copy);
                if copy && !entry.leftover && !entry.acknowledged {
                    repeated.insert(entry.replay);
                }
                entry.leftover |= copy;
                entry.acknowledged = false;
            }
            let repeated = repeated.len();
            assert!(
                repeated <= 1,
                "{repeated} batches of lane {lane:?} will be sent again after this ending"
            );
        }
        if !durable {
            self.storage.lanes.clear();
            kept.clear();
        }
        let writes = self.kafka.writes();
        for (id, life) in (0..).zip(lives) {
            let copies = kept.get(&id).copied().unwrap_or(0);
            if life.is_done() {
                life.copies = copies;
            } else if copies == 0 && !life.lost && !life.returned {
                assert!(!life.promised, "{id} was in the journal, and is gone");
                life.gone = true;
                life.gone_at.get_or_insert(writes);
            } else {
                life.copies = copies.saturating_sub(1);
            }
            if life.lost {
                life.gone_at.get_or_insert(writes);
            }
            life.receipt = None;
        }
        self.ledger.open_receipts.clear();
    }

    /// Goes on until everything has arrived.
    pub(crate) fn come_to_rest(&mut self, when: &str) {
        let stored: u32 = self.storage.entries().count() as u32;
        let limit = self.now
            + Duration::from_secs(60)
            + self.plan.timing.recheck_interval * 40
            + Duration::from_secs(1) * stored
            + self.paced() * 2;
        while !self.is_at_rest() {
            assert!(
                self.step(limit),
                "{when}: not everything has arrived, or events do not go straight to Kafka; {:#?}",
                self.process
                    .as_ref()
                    .map(|p| (&p.collector, p.cells.iter().map(|cell| &cell.shard).collect::<Vec<_>>()))
            );
        }
        note!(self, "at rest");
    }

    /// Everything works and everything has arrived: an event goes straight to Kafka, and in time.
    pub(crate) fn prove_live(&mut self) {
        // A backend that numbers its batches fails those behind a refused one: they are stored for a moment.
        self.at_rest =
            self.plan.window == 1 || (self.plan.poison == 0 && self.plan.broker_limit == usize::MAX);
        // A lane that has found storage full may go by that for a while.
        let until = self.now + self.plan.timing.recheck_interval;
        while self.plan.topic.on_storage_full == OnStorageFull::Reject && self.step(until) {}
        let mut added = Vec::new();
        // Many are refused where the limits are narrow.
        for round in 0..100 {
            added.extend(self.add());
            if added.len() >= 10 {
                break;
            }
            if round % 4 == 3 {
                let until = self.now + self.dice.millis(0, 50);
                while self.step(until) {}
            }
        }
        assert!(!added.is_empty(), "events are refused though all is well");
        let longest =
            self.plan.topic.max_wait_time + Duration::from_micros(self.plan.kafka_latency * 2) + SLACK * 4;
        let until = self.now + longest + self.flight_time();
        while self.step(until) {}
        for id in added {
            let life = self.ledger.life(id);
            assert!(life.is_done(), "{id} was added when all was well, and has not arrived in time");
        }
        self.come_to_rest("after some more events");
        self.at_rest = false;
    }

    /// How long a queue of batches of one event each may take, and dead letters on the way.
    fn flight_time(&self) -> Duration {
        Duration::from_micros((self.plan.kafka_latency + self.plan.storage_latency + 400) * 60)
    }

    /// The last process ends; everything has been delivered.
    pub(crate) fn end_well(&mut self) {
        self.shut_down(Duration::from_secs(30), true);
        let limit = self.now + Duration::from_secs(20);
        while self.process.is_some() {
            assert!(self.step(limit), "the last process does not end");
        }
        let limit = self.now + Duration::from_secs(600);
        while !self.is_idle() && self.step(limit) {}
    }

    /// The promises, over the whole run.
    pub(crate) fn check_history(&mut self) {
        self.ledger.look_into_journal();
        for (id, life) in (0..).zip(&self.ledger.lives) {
            assert!(life.is_done() || life.lost || life.gone || life.returned, "{id} is nowhere: {life:#?}");
            assert!(!life.returned || life.written.is_empty(), "{id} was given back, and is in the log");
            assert!(
                life.acknowledged == 0 || !life.written.is_empty(),
                "{id} was acknowledged and is not in the log"
            );
        }
        let lost = self.ledger.lives.iter().filter(|life| life.lost).count() as u64;
        assert_eq!(self.ledger.reported_lost, lost, "lost and reported lost");
        self.check_order();
    }

    fn check_order(&self) {
        let mut partitions: BTreeMap<u32, BTreeMap<u64, u64>> = BTreeMap::new();
        let mut keys: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
        for (id, life) in (0..).zip(&self.ledger.lives) {
            let first = life.written.iter().min_by_key(|(_, order)| *order);
            // What was in memory when its process ended may still have been on its way to a broker.
            let too_late = |order: u64| life.gone_at.is_some_and(|at| order >= at);
            // What was given up for its age may still have been on its way, too.
            let in_order = |first: u64| !(life.overtaken || too_late(first) || life.expired && life.late);
            let Some(&(partition, first)) = first.filter(|(_, first)| in_order(*first)) else {
                continue;
            };
            // A process that ended while it was at this has left it to the next one, and that may have
            // found another partition for it.
            if life.routed < 2 {
                partitions.entry(partition).or_default().insert(first, id);
            }
            if let Some(key) = life.key.as_deref().filter(|_| self.plan.keyed) {
                keys.entry(key).or_default().insert(first, id);
            }
        }
        for (partition, order) in partitions {
            check_ascending(&format!("partition {partition}"), &order);
        }
        for (key, order) in keys {
            check_ascending(&format!("key {key}"), &order);
        }
    }
}

fn check_ascending(what: &str, order: &BTreeMap<u64, u64>) {
    let ids: Vec<u64> = order.values().copied().collect();
    let bad = ids.windows(2).find(|pair| pair[0] > pair[1]);
    assert!(bad.is_none(), "{what}: {bad:?} out of order in {ids:?}");
}
