//! The world: a clock that jumps from one thing to the next, and everything that happens in it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kafka_batcher_core::lane::FlightId;
use kafka_batcher_core::shard::Shard;
use kafka_batcher_core::{EntryId, ErrorKind, FlushReason, Moment, Search, StoredBatch, WallClock};

use super::dice::Dice;
use super::kafka::{Call, Fate, Kafka};
use super::ledger::Ledger;
use super::plan::{Op, Plan};
use super::process::{Ending, Process, Signal};
use super::storage::{Partition, Storage};

use kafka_batcher_core::Persistence;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Moment,
    pub(crate) wall_clock: WallClock,
    pub(crate) dice: Dice,
    agenda: BTreeMap<(Moment, u64), Item>,
    scheduled: u64,
    pub(crate) calls: Vec<Call>,
    pub(crate) kafka: Kafka,
    pub(crate) storage: Storage,
    pub(crate) ledger: Ledger,
    pub(crate) process: Option<Process>,
    started: u32,
    steps: u64,
    /// The application only adds what the end of the run asks for.
    pub(crate) quiet: bool,
    /// Nothing is wrong and nothing is left over: no event has a reason to go to storage.
    pub(crate) at_rest: bool,
    pub(crate) trace: Trace,
    /// How often things happened.
    pub(crate) tally: BTreeMap<&'static str, u64>,
}

/// Something that is due at a moment. What belongs to a process names it.
#[derive(Debug)]
pub(crate) enum Item {
    Op(Op),
    Restart,
    /// Storage answers what it holds.
    Looked(u32),
    Connected(u32),
    Counted(u32),
    Created(u32),
    /// A broker takes a batch.
    Write(usize),
    Answer {
        call: usize,
        at: Place,
        flight: FlightId,
    },
    Append {
        at: Place,
        stored: StoredBatch,
        events: Vec<u64>,
    },
    Recover {
        at: Place,
        after: Option<EntryId>,
        max_bytes: usize,
    },
    Searched {
        at: Place,
        flight: FlightId,
        search: Search,
    },
    Acknowledge {
        process: u32,
        lane: Partition,
        id: EntryId,
    },
    Bury {
        at: Place,
        events: Vec<u64>,
        kind: ErrorKind,
    },
    /// The time to shut down is up.
    Deadline(u32),
}

/// A lane of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) process: u32,
    pub(crate) cell: usize,
    pub(crate) lane: usize,
    pub(crate) partition: Partition,
}

/// What happened, in words; of a long run the last part.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) on: bool,
    pub(crate) lines: VecDeque<String>,
    pub(crate) count: u64,
    /// FNV-1a over all lines.
    pub(crate) hash: u64,
}

impl Trace {
    pub(crate) fn push(&mut self, line: String) {
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.count += 1;
        if self.lines.len() == 20_000 {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// Writes a line of the trace, if there is one.
macro_rules! note {
    ($world:expr, $($words:tt)*) => {
        if $world.trace.on {
            let line = format!("{:?} {}", $world.now, format_args!($($words)*));
            $world.trace.push(line);
        }
    };
}
pub(crate) use note;

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let plan = Plan::new(seed);
        let mut dice = Dice::new(seed ^ 0x5eed);
        let kafka = Kafka::new(&plan, dice.split());
        let storage = Storage::new(dice.split());
        let mut world = Self {
            plan,
            now: Moment::from_millis(1),
            wall_clock: WallClock::with_origin(1_700_000_000_000_000),
            dice,
            agenda: BTreeMap::new(),
            scheduled: 0,
            calls: Vec::new(),
            kafka,
            storage,
            ledger: Ledger::default(),
            process: None,
            started: 0,
            steps: 0,
            quiet: false,
            at_rest: false,
            tally: BTreeMap::new(),
            trace: Trace { on: trace, hash: 0xcbf2_9ce4_8422_2325, ..Trace::default() },
        };
        for (at, op) in std::mem::take(&mut world.plan.script) {
            world.at(at, Item::Op(op));
        }
        world
    }

    pub(crate) fn run(&mut self) {
        note!(self, "{:?}", self.plan);
        self.start();
        let end = self.plan.end;
        while self.step(end) {}
        note!(self, "everything works from here on");
        self.quiet = true;
        self.come_to_rest("after the last fault");
        self.prove_live();
        self.end_well();
        self.check_history();
    }

    pub(crate) fn tally(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(crate) fn after(&mut self, delay: Duration, item: Item) {
        self.at(self.now + delay, item);
    }

    pub(crate) fn at(&mut self, at: Moment, item: Item) {
        self.scheduled += 1;
        self.agenda.insert((at.max(self.now), self.scheduled), item);
    }

    /// Goes on to the next thing that is due, unless that is later than `limit`.
    pub(crate) fn step(&mut self, limit: Moment) -> bool {
        let due = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let wake = self.process.as_ref().and_then(Process::wakes_at);
        let next = [due, wake].into_iter().flatten().min().unwrap_or(limit);
        self.check_overdue(next.min(limit));
        if next >= limit {
            self.now = self.now.max(limit);
            return false;
        }
        self.steps += 1;
        assert!(self.steps < 2_000_000, "the run does not end: a hot loop?");
        self.now = self.now.max(next);
        match self.agenda.first_entry().filter(|entry| entry.key().0 <= next) {
            Some(entry) => {
                let item = entry.remove();
                self.happen(item);
            }
            None => self.wake(),
        }
        true
    }

    fn is_current(&self, process: u32) -> bool {
        self.process.as_ref().is_some_and(|p| p.number == process)
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::Op(op) => self.op(op),
            Item::Restart => self.start(),
            Item::Write(call) => {
                let overtaken = self.kafka.write(&mut self.calls[call]);
                self.written(call, &overtaken);
            }
            Item::Answer { call, at, flight } => self.answer(call, at, flight),
            Item::Append { at, stored, events } if self.is_current(at.process) => {
                self.appended(at, stored, events)
            }
            Item::Recover { at, after, max_bytes } if self.is_current(at.process) => {
                self.recovered(at, after, max_bytes);
            }
            Item::Bury { at, events, kind } if self.is_current(at.process) => self.buried(at, &events, kind),
            Item::Searched { at, flight, search } if self.is_current(at.process) => {
                self.look(at, flight, &search);
            }
            Item::Acknowledge { process, lane, id }
                if self.is_current(process) && self.storage.works(&self.plan, self.now).is_ok() =>
            {
                self.storage.acknowledge(lane, id);
            }
            Item::Looked(process) if self.is_current(process) => self.looked(),
            Item::Connected(process) if self.is_current(process) => self.connected(),
            Item::Counted(process) if self.is_current(process) => self.counted(),
            Item::Created(process) if self.is_current(process) => self.created(),
            Item::Deadline(process) if self.is_current(process) => self.deadline(),
            // Of a process that is no more.
            _ => {}
        }
    }

    fn op(&mut self, op: Op) {
        if self.now >= self.plan.end {
            return;
        }
        match op {
            Op::Add(events) => {
                for _ in 0..events {
                    self.add();
                }
            }
            Op::Flush if self.process.is_some() => self.signal(Signal::Flush(FlushReason::Manual)),
            Op::Crash if self.process.is_some() => {
                note!(self, "crash");
                self.tally("crash");
                self.end_process(false);
                self.restart();
            }
            Op::Shutdown(time) if self.process.is_some() => self.shut_down(time, false),
            Op::BreakClient => self.kafka.broken = true,
            Op::Grow(by) => {
                self.kafka.grow(by);
                note!(self, "{} partitions", self.kafka.logs.len());
            }
            Op::SetClock(by) => {
                note!(self, "the wall clock is set by {by} ms");
                let unix = self.wall_clock.unix_millis(Moment::ZERO) + by;
                self.wall_clock = WallClock::with_origin(unix * 1000);
                // It is noticed when a lane is looked at next.
                let cells = self.process.as_ref().map_or(0, |process| process.cells.len());
                (0..cells).for_each(|cell| self.signal(Signal::Poll(cell)));
            }
            Op::Flush | Op::Crash | Op::Shutdown(_) => {}
        }
    }

    fn start(&mut self) {
        self.started += 1;
        if self.started > 1 && self.dice.chance(40) {
            // The program comes back with other settings.
            let topic = &mut self.plan.topic;
            topic.collect_by_partition ^= self.dice.chance(50);
            topic.batch_size = topic.batch_size.saturating_add(self.dice.between(0, 9) as u32);
            note!(self, "collect_by_partition: {}", self.plan.topic.collect_by_partition);
        }
        let seed = self.dice.next();
        self.process = Some(Process::new(&self.plan, self.started, seed));
        note!(self, "process {} starts", self.started);
        let look = self.storage_latency();
        self.after(look, Item::Looked(self.started));
        self.manage();
    }

    fn restart(&mut self) {
        let pause = self.dice.millis(0, 500);
        self.after(pause, Item::Restart);
    }

    pub(crate) fn storage_latency(&mut self) -> Duration {
        Duration::from_micros(self.dice.between(1, self.plan.storage_latency))
    }

    /// Ends the process as it should be ended: accepts no more, and sends or stores what there is.
    pub(crate) fn shut_down(&mut self, time: Duration, last: bool) {
        note!(self, "shutdown within {time:?}");
        let until = self.now + time;
        let process = self.process();
        if process.ending.is_some() {
            return;
        }
        process.closed = true;
        process.ending = Some(Ending { until, last });
        let number = process.number;
        self.signal(Signal::Flush(FlushReason::Close));
        self.at(until, Item::Deadline(number));
    }

    fn deadline(&mut self) {
        let now = self.now;
        let Some(ending) = &mut self.process().ending else { return };
        let abandon = now <= ending.until;
        if abandon {
            // Storage may take so long for the rest.
            ending.until = now + Duration::from_secs(5);
            let (until, number) = (ending.until, self.process().number);
            self.process().ending =
                Some(Ending { until, last: self.process().ending.is_some_and(|e| e.last) });
            note!(self, "time is up");
            self.at(until + Duration::from_micros(1), Item::Deadline(number));
            self.signal(Signal::Abandon);
        } else {
            note!(self, "storage was too slow for the rest");
            self.finish(false);
        }
    }

    /// Ends the process if that is wanted and nothing is left to do.
    pub(crate) fn end_if_done(&mut self) {
        let durable = self.plan.durable;
        let process = self.process();
        if process.ending.is_none() || process.found.is_none() || !process.signals.is_empty() {
            return;
        }
        let is_ending = process.winding_down || process.abandoned;
        let is_done = match (is_ending, durable) {
            (true, _) => Shard::is_at_rest,
            (false, true) => Shard::is_settled,
            (false, false) => Shard::is_drained,
        };
        if !process.cells.iter().all(|cell| is_done(&cell.shard)) {
            return;
        }
        if is_ending {
            self.finish(true);
        } else {
            self.signal(Signal::WindDown);
        }
    }

    fn finish(&mut self, in_time: bool) {
        let last = self.process().ending.is_some_and(|ending| ending.last);
        self.tally(if in_time { "shutdown in time" } else { "shutdown that left something" });
        self.end_process(in_time);
        if !last {
            self.restart();
        }
    }

    /// The process is gone, and what it was at may or may not have happened.
    fn end_process(&mut self, orderly: bool) {
        self.ledger.look_into_journal();
        self.check_receipts(orderly);
        if orderly {
            self.check_report();
        }
        let number = self.process().number;
        let mut agenda = std::mem::take(&mut self.agenda);
        for item in agenda.values_mut() {
            let item = match item {
                Item::Append { at, .. } | Item::Bury { at, .. } if at.process == number => item,
                Item::Acknowledge { process, .. } if *process == number => item,
                Item::Write(call) if self.calls[*call].incarnation == number => item,
                _ => continue,
            };
            // An end in order waits until storage has forgotten what Kafka has.
            let waited = orderly && matches!(item, Item::Acknowledge { .. });
            let happens = self.dice.chance(50) || waited;
            match item {
                Item::Append { at, stored, events } if happens => {
                    let stored = StoredBatch::new(stored.batch.clone(), stored.maybe_persisted);
                    let appended = self.storage.append(
                        &self.plan,
                        self.now,
                        at.partition,
                        stored,
                        std::mem::take(events),
                    );
                    note!(self, "{:?} {appended:?} as the process ended", at.partition);
                }
                Item::Acknowledge { lane, id, .. } if happens => self.storage.acknowledge(*lane, *id),
                Item::Bury { events, .. } if happens => {
                    events.iter().for_each(|event| self.ledger.life(*event).dead += 1);
                }
                Item::Write(call) if !happens => {
                    self.calls[*call].fate = Fate::transient(Persistence::MaybePersisted, false);
                }
                _ => {}
            }
        }
        self.agenda = agenda;
        if orderly {
            self.check_rest();
        }
        self.bury_memory();
        self.process = None;
    }

    /// Whether anything scheduled will still change the world.
    pub(crate) fn is_idle(&self) -> bool {
        self.agenda.values().all(|item| matches!(item, Item::Op(_)))
    }
}
