//! Searches of the log, and what they have to achieve: nothing is sent that was found, or would have been.

use kafka_batcher_core::lane::{Event, FlightId};
use kafka_batcher_core::{ErrorKind, Found, ProduceError, Search};

use super::plan::Trouble;
use super::process::Signal;
use super::world::{Item, Place, World, note};

impl World {
    /// A lane looks for a batch.
    pub(crate) fn search(&mut self, at: Place, flight: FlightId, search: Search) {
        self.tally("searched");
        assert!(self.plan.topic.reconcile, "the log is searched though nobody wants it");
        let partition = at.partition.expect("only a lane with a partition has a log");
        let mut events: Vec<u64> =
            search.wanted.iter().map(|stamp| self.ledger.sequences[&stamp[..]]).collect();
        events.sort_unstable();
        note!(self, "lane {partition}: looks for {events:?} from {:?}", search.from_offset);
        let log = &self.kafka.logs[partition as usize];
        let early = search.from_offset.map_or(0, |from| from as usize).min(log.len());
        let before = log[..early].iter().find(|(event, _)| events.contains(event));
        assert_eq!(before, None, "lane {partition}: looks for it behind where it is");
        let oldest = events.iter().map(|event| self.ledger.lives[*event as usize].timestamp).min();
        assert!(
            oldest.is_some_and(|oldest| search.from_timestamp <= oldest),
            "looks too late for {events:?}"
        );
        let view = &mut self.process().cells[at.cell].views[at.lane];
        assert!(view.flights.is_empty() && !view.recovering && !view.abandoned, "lane {partition} is busy");
        let memory = view.idle.contains_key(&events[0]);
        if memory {
            assert!(view.appending.is_none(), "lane {partition}: goes past what is being stored");
            for event in &events {
                assert!(view.idle.remove(event).is_some(), "lane {partition}: {event} is not in memory");
            }
        }
        let reads = view.reads;
        for entry in self.storage.lanes.get_mut(&at.partition).into_iter().flatten().filter(|_| !memory) {
            if !entry.acknowledged && entry.events.iter().any(|event| events.contains(event)) {
                entry.replay = reads;
            }
        }
        let view = &mut self.process().cells[at.cell].views[at.lane];
        view.flights.insert(flight, (events, memory));
        let latency = self.kafka.metadata_latency(&self.plan, self.now);
        self.after(latency, Item::Searched { at, flight, search });
    }

    /// A broker has answered, or nobody has.
    pub(crate) fn look(&mut self, at: Place, flight: FlightId, search: &Search) {
        let partition = at.partition.unwrap_or_default();
        let troubles = [Trouble::Outage, Trouble::Leaderless(partition), Trouble::Denied];
        let [outage, leaderless, denied] = troubles.map(|trouble| self.plan.has(self.now, trouble));
        let flaky = self.plan.flakiness(self.now);
        let kind = if self.kafka.broken {
            Some(ErrorKind::Fatal)
        } else if outage || leaderless {
            Some(ErrorKind::Transient)
        } else if denied {
            Some(ErrorKind::Denied)
        } else if flaky > 0 && self.dice.chance(flaky) {
            Some(self.dice.pick(&[ErrorKind::Transient, ErrorKind::Transient, ErrorKind::TooLarge]))
        } else {
            None
        };
        let result = match kind {
            Some(kind) => Err(ProduceError::new(kind, "the model says so")),
            None => {
                let from = search.from_offset.unwrap_or(0).max(0) as usize;
                let mut found = Found::new();
                let stamps = search.wanted.iter().map(|stamp| (self.ledger.sequences[&stamp[..]], stamp));
                let stamps: std::collections::BTreeMap<u64, &Box<[u8]>> = stamps.collect();
                for (offset, (event, _)) in self.kafka.logs[partition as usize].iter().enumerate().skip(from)
                {
                    if let Some(stamp) = stamps.get(event) {
                        found.entry((*stamp).clone()).or_insert(offset as i64);
                    }
                }
                Ok(found)
            }
        };
        if let Err(error) = &result {
            self.tally("search failed");
            self.call_failed(error.kind());
        }
        let seen = self.kafka.writes();
        self.process().cells[at.cell].views[at.lane].search_saw = seen;
        self.signal(Signal::Done { cell: at.cell, lane: at.lane, event: Event::Searched { flight, result } });
    }

    /// A lane hears what was found.
    pub(crate) fn found(&mut self, at: Place, flight: FlightId, result: &Result<Found, ProduceError>) {
        let now = self.now;
        let view = &mut self.process().cells[at.cell].views[at.lane];
        let Some((events, memory)) = view.flights.remove(&flight) else { return };
        let seen = view.search_saw;
        let there: Vec<u64> = match result {
            Ok(found) => found.keys().map(|stamp| self.ledger.sequences[&stamp[..]]).collect(),
            Err(_) => Vec::new(),
        };
        for event in &there {
            *self.tally.entry("found in the log").or_default() += 1;
            let life = self.ledger.life(*event);
            if life.is_done() {
                assert!(life.copies > 0, "{event} was looked for though it was delivered");
                life.copies -= 1;
            }
            life.acknowledged += 1;
        }
        let view = &mut self.process().cells[at.cell].views[at.lane];
        for event in events {
            if result.is_ok() {
                view.maybe.remove(&event);
            } else {
                view.last_failure = now;
            }
            if there.contains(&event) {
                view.searched.remove(&event);
                continue;
            }
            view.searched.insert(event, result.is_ok().then_some(seen));
            if memory {
                view.idle.insert(event, now);
            }
        }
    }

    /// A batch is sent: says whether Kafka may have had it, and checks that it could not be known.
    pub(crate) fn is_sent_unseen(&mut self, at: Place, events: &[u64]) -> bool {
        let view = &self.process.as_ref().expect("a process runs").cells[at.cell].views[at.lane];
        let unseen = events.iter().any(|event| matches!(view.searched.get(event), Some(None)));
        for event in events.iter().filter(|_| !unseen) {
            let until = view.searched.get(event).copied().flatten().unwrap_or(u64::MAX);
            let life = &self.ledger.lives[*event as usize];
            let copy = life
                .written
                .iter()
                .find(|(partition, order)| Some(*partition) == at.partition && *order < until);
            assert!(copy.is_none() || life.late, "{event} is sent although it is in the log since {copy:?}");
        }
        if unseen {
            *self.tally.entry("sent again unseen").or_default() += 1;
        }
        unseen
    }
}
