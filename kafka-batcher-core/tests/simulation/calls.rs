//! What the lanes ask for: how it is carried out, how it is answered, and whether it may be asked.

use std::collections::BTreeSet;

use kafka_batcher_core::config::OnStorageFull;
use kafka_batcher_core::lane::{Action, Event, FlightId, Link, Origin};
use kafka_batcher_core::notifier::What;
use kafka_batcher_core::partition::{Router, route};
use kafka_batcher_core::receipt::Tickets;
use kafka_batcher_core::{
    Batch, DeadRecord, Delivered, EntryId, ErrorKind, Failed, Persistence, ProduceFailure, StorageError,
    StoredBatch,
};

use super::ledger::{id_of, ids, poison};
use super::plan::Trouble;
use super::process::{Signal, View};
use super::world::{Item, Place, World, note};

impl World {
    fn view(&mut self, at: Place) -> &mut View {
        &mut self.process().cells[at.cell].views[at.lane]
    }

    pub(crate) fn perform(&mut self, cell: usize, lane: usize, action: Action) {
        let now = self.now;
        let process = self.process();
        let place = Place {
            process: process.number,
            cell,
            lane,
            partition: process.cells[cell].views[lane].partition,
        };
        match action {
            Action::Produce { flight, batch, .. } => self.produce(place, flight, &batch),
            Action::Route { flight, batch, tickets, origin } => {
                self.route(place, flight, &batch, tickets.as_ref(), origin);
            }
            Action::Search { flight, search } => self.search(place, flight, search),
            Action::Store(stored) => self.store(place, stored),
            Action::Recover { after, max_bytes } => self.recover(place, after, max_bytes),
            Action::Acknowledge(id) => self.acknowledge(place, id),
            Action::DeadLetter(dead) => self.bury(place, &dead),
            Action::Report(report) => {
                note!(self, "{report}");
                if report.what == What::Lost {
                    self.ledger.reported_lost += report.events;
                }
            }
            Action::Sealed { events, bytes, reason } => {
                note!(self, "{}: {events} events sealed, {bytes} bytes, {reason}", name(place));
                let limit = self.plan.topic.max_batch_bytesize.get();
                assert!(bytes <= limit, "a batch of {bytes} bytes was sealed, the limit is {limit}");
                self.process().cells[cell].sealed_at = Some(now);
            }
        }
    }

    /// Notes a batch as in flight; says whether it comes from memory.
    fn take_off(&mut self, at: Place, flight: FlightId, batch: &Batch) -> (Vec<u64>, bool) {
        let events = ids(batch);
        let window = self.plan.window as usize;
        let view = self.view(at);
        let memory = view.idle.contains_key(&events[0]);
        note!(self, "{}: sends {events:?}{}", name(at), if memory { "" } else { " from storage" });
        for &event in &events {
            assert!(!self.is_expired(event), "{}: sends {event}, which is too old", name(at));
        }
        if !memory {
            // What is sent again in parts takes no other turn.
            let reads = self.view(at).reads;
            let entries = self.storage.lanes.get(&at.partition).into_iter().flatten();
            let gone: BTreeSet<u64> =
                entries.filter(|e| e.replay == reads).flat_map(|e| e.events.iter().copied()).collect();
            self.check_pace(events.iter().filter(|event| !gone.contains(event)).count());
        }
        let limit = self.plan.topic.max_batch_bytesize.get();
        assert!(
            batch.byte_len() <= limit,
            "a batch of {} bytes is sent, the limit is {limit}",
            batch.byte_len()
        );
        let view = self.view(at);
        assert!(view.flights.len() < window, "{}: more than {window} batches in flight", name(at));
        assert!(!view.abandoned, "{}: sends although it was abandoned", name(at));
        assert!(!view.recovering, "{}: sends while it reads storage", name(at));
        if memory {
            assert!(view.appending.is_none(), "{}: sends {events:?} past what is being stored", name(at));
            assert!(
                view.flights.values().all(|(_, memory)| *memory),
                "{}: sends {events:?} past a replay",
                name(at)
            );
            for event in &events {
                assert!(
                    view.idle.remove(event).is_some(),
                    "{}: {event} of {events:?} is not in memory",
                    name(at)
                );
            }
            let left = self.storage.lanes.get(&at.partition).and_then(|l| l.iter().find(|e| !e.acknowledged));
            assert!(left.is_none(), "{}: sends {events:?} past what is stored: {left:?}", name(at));
        } else {
            assert!(view.flights.is_empty(), "{}: replays {events:?} while something else flies", name(at));
            let mut left = &events[..];
            let reads = view.reads;
            let mut lane = self.storage.lanes.remove(&at.partition).unwrap_or_default();
            for entry in &mut lane {
                if entry.acknowledged || left.is_empty() {
                    continue;
                }
                // An event may be stored twice, if a process ended when it had routed it.
                let of_it =
                    entry.events.iter().fold(0, |n, event| n + usize::from(left.get(n) == Some(event)));
                // Parts of what was read together follow each other.
                assert!(
                    of_it > 0 || entry.replay == reads || entry.events.iter().all(|id| self.is_expired(*id)),
                    "{}: sends {events:?}, which is not in the oldest stored batches",
                    name(at)
                );
                left = &left[of_it..];
                entry.replay = reads;
            }
            if !lane.is_empty() {
                self.storage.lanes.insert(at.partition, lane);
            }
            assert!(left.is_empty(), "{}: sends {left:?} of {events:?}, which is not stored", name(at));
        }
        self.view(at).flights.insert(flight, (events.clone(), memory));
        self.tally(if memory { "sent from memory" } else { "replayed" });
        if self.view(at).flights.len() > 1 {
            self.tally("several in flight");
        }
        (events, memory)
    }

    fn produce(&mut self, at: Place, flight: FlightId, batch: &Batch) {
        let (events, memory) = self.take_off(at, flight, batch);
        let partition = at.partition.expect("only a lane with a partition sends");
        for &event in &events {
            let life = self.ledger.life(event);
            assert!(
                !life.is_done() || life.copies > 0,
                "{}: sends {event} although Kafka has acknowledged it or it is a dead letter",
                name(at)
            );
        }
        let reconcile = self.plan.topic.reconcile;
        let unseen = reconcile && self.is_sent_unseen(at, &events);
        let flagged = !memory
            && self.storage.lanes[&at.partition]
                .iter()
                .any(|e| !e.acknowledged && e.events.contains(&events[0]) && e.stored.maybe_persisted);
        let view = self.view(at);
        let doubtful =
            if reconcile { unseen } else { flagged || events.iter().any(|event| view.maybe.contains(event)) };
        if doubtful {
            view.maybe_duplicated += events.len() as u64;
            self.tally("sent again although Kafka may have it");
        }
        self.check_records(batch);
        let (process, now) = (at.process, self.now);
        let call =
            self.kafka.send(&self.plan, now, (process, partition), events, batch.byte_len(), &poison(batch));
        note!(self, "{}: will be {:?}", name(at), call.fate);
        let (write_at, answer_at) = (call.write_at, call.answer_at);
        if write_at > answer_at {
            self.tally("written after the answer");
        }
        self.calls.push(call);
        let call = self.calls.len() - 1;
        self.at(write_at, Item::Write(call));
        self.at(answer_at, Item::Answer { call, at, flight });
    }

    /// A broker has taken a batch, or not.
    pub(crate) fn written(&mut self, call: usize, overtaken: &[u64]) {
        let partition = self.calls[call].partition;
        let Some(log) = self.kafka.logs.get(partition as usize) else { return };
        for &(event, order) in log.iter().rev().take(self.calls[call].events.len()) {
            let life = self.ledger.life(event);
            if !life.written.contains(&(partition, order)) && self.calls[call].events.contains(&event) {
                life.written.push((partition, order));
            }
        }
        if self.calls[call].write_at > self.calls[call].answer_at {
            for event in self.calls[call].events.clone() {
                self.ledger.life(event).late = true;
            }
        }
        for &event in overtaken {
            self.ledger.life(event).overtaken = true;
        }
        note!(
            self,
            "log {partition} has {:?}",
            log.iter().rev().take(8).map(|(event, _)| event).collect::<Vec<_>>()
        );
    }

    pub(crate) fn answer(&mut self, call: usize, at: Place, flight: FlightId) {
        let call = self.calls[call].clone();
        let result = self.kafka.answer(&self.plan, &call);
        if self.process.as_ref().is_none_or(|process| process.number != at.process) {
            return; // nobody is there any more to hear it
        }
        note!(
            self,
            "{}: {:?} {:?}",
            name(at),
            call.events,
            result.as_ref().map_err(|failure| failure.error.kind())
        );
        if let Err(failure) = &result {
            self.call_failed(failure.error.kind());
        }
        self.signal(Signal::Done { cell: at.cell, lane: at.lane, event: Event::Produced { flight, result } });
    }

    /// A lane is about to hear an answer.
    pub(crate) fn heard(&mut self, at: Place, event: &Event) {
        let now = self.now;
        let view = self.view(at);
        view.last_news = now;
        match event {
            Event::Produced { flight, result } => {
                if let Some(partition) = at.partition {
                    self.kafka.landed(at.process, partition);
                }
                self.landed(at, *flight, result);
            }
            Event::Searched { flight, result } => self.found(at, *flight, result),
            Event::Stored(result) => {
                let events = view.appending.take().unwrap_or_default();
                let abandoned = view.abandoned;
                view.full = match result {
                    Ok(_) => None,
                    Err(StorageError::Full { .. }) => Some(now),
                    Err(_) => view.full,
                };
                if result.is_err() && abandoned && self.is_unpromised(&events) {
                    // Their adders are told so.
                    *self.tally.entry("given back").or_default() += 1;
                } else if result.is_err() && abandoned && self.is_where_it_was(at, &events) {
                    *self.tally.entry("turned back").or_default() += 1;
                } else if result.is_err() && abandoned {
                    events.iter().for_each(|event| self.ledger.life(*event).lost = true);
                    *self.tally.entry("lost").or_default() += 1;
                    self.process().lost += events.len() as u64;
                } else if result.is_err() {
                    let view = self.view(at);
                    view.last_failure = now;
                    view.idle.extend(events.into_iter().map(|event| (event, now)));
                }
            }
            Event::Recovered(result) => {
                view.recovering = false;
                if result.is_err() {
                    view.last_failure = now;
                }
            }
            Event::DeadLettered { taken, result } => {
                for event in view.burying.take().unwrap_or_default().into_iter().take(*taken) {
                    view.idle.remove(&event);
                    view.maybe.remove(&event);
                }
                if result.is_err() {
                    view.last_failure = now;
                }
            }
            Event::Link(_) => {}
        }
    }

    /// A lane has heard an answer: a full journal may have handed events back.
    pub(crate) fn hand_back(&mut self, at: Place) {
        if !self.plan.journal || self.plan.topic.on_storage_full != OnStorageFull::Reject {
            return;
        }
        self.ledger.look_into_journal();
        let view = &mut self.process.as_mut().expect("a process runs").cells[at.cell].views[at.lane];
        let before = view.idle.len();
        view.idle.retain(|event, _| !self.ledger.lives[*event as usize].returned);
        *self.tally.entry("handed back by a full journal").or_default() += (before - view.idle.len()) as u64;
    }

    /// Whether these events were routed from storage and are still there.
    fn is_where_it_was(&self, at: Place, events: &[u64]) -> bool {
        let Some(lane) = at.partition.and_then(|_| self.storage.lanes.get(&None)) else { return false };
        events.iter().all(|event| lane.iter().any(|e| !e.acknowledged && e.events.contains(event)))
    }

    /// Whether the application still waits to hear that these events are in the journal.
    fn is_unpromised(&mut self, events: &[u64]) -> bool {
        self.ledger.look_into_journal();
        self.plan.journal && events.iter().all(|event| !self.ledger.life(*event).promised)
    }

    /// Notes what became of a flight.
    fn landed(&mut self, at: Place, flight: FlightId, result: &Result<Delivered, ProduceFailure>) {
        let now = self.now;
        let Some((events, memory)) = self.view(at).flights.remove(&flight) else { return };
        let view = self.view(at);
        let is_failed = |index: u32| match result {
            Ok(_) => false,
            Err(failure) => match &failure.failed {
                Failed::All => true,
                Failed::Some(indexes) => indexes.contains(&index),
            },
        };
        let (failed, delivered): (Vec<_>, Vec<_>) =
            (0..).zip(events).partition(|(index, _)| is_failed(*index));
        if let (Err(failure), Some((_, first))) = (result, failed.first()) {
            view.last_failure = now;
            let what = match (failure.error.kind(), failed.len() + delivered.len() > 1, &failure.failed) {
                (ErrorKind::TooLarge, true, _) => "too large, cut",
                (ErrorKind::Permanent, true, Failed::All) => "poisoned, cut",
                (ErrorKind::Permanent, true, Failed::Some(_)) => "poisoned, culprit named",
                (ErrorKind::TooLarge | ErrorKind::Permanent, false, _) => "refused for good",
                (ErrorKind::Transient, _, Failed::Some(_)) => "failed in part",
                (ErrorKind::Transient, _, Failed::All) => "failed",
                (ErrorKind::Denied, ..) => "denied",
                (ErrorKind::UnknownTopic, ..) => "unknown partition",
                (ErrorKind::Fatal, ..) => "client broken",
                _ => "another failure",
            };
            *self.tally.entry(what).or_default() += 1;
            let for_good = matches!(failure.error.kind(), ErrorKind::TooLarge | ErrorKind::Permanent);
            if for_good && failed.len() == 1 {
                self.ledger.life(*first).refused = true;
            }
        }
        let ambiguous = matches!(result, Err(f) if f.persistence == Persistence::MaybePersisted);
        for (_, event) in failed {
            let view = self.view(at);
            if memory {
                view.idle.insert(event, now);
            }
            if ambiguous {
                view.searched.remove(&event);
                view.maybe.insert(event);
            }
        }
        if at.partition.is_some() {
            for (_, event) in delivered {
                self.view(at).maybe.remove(&event);
                let life = self.ledger.life(event);
                if life.is_done() {
                    assert!(
                        life.copies > 0,
                        "{event} was delivered again without a crash or an unknown outcome"
                    );
                    life.copies -= 1;
                }
                life.acknowledged += 1;
            }
        }
    }

    fn route(
        &mut self,
        at: Place,
        flight: FlightId,
        batch: &Batch,
        tickets: Option<&Tickets>,
        origin: Origin,
    ) {
        self.tally("routed");
        self.take_off(at, flight, batch);
        let now = self.now;
        let process = self.process();
        assert!(process.routing.is_none(), "a batch is routed while another is on its way");
        let Some(partitions) = process.collector.partitions() else { panic!("nothing can be routed yet") };
        let (mut spread, batch_size) = (0, self.plan.topic.batch_size);
        let router = &self.process.as_ref().expect("a process runs").router;
        let mut routed = route(batch, tickets, |event| match router.assigned(partitions, event) {
            Ok(Some(partition)) => Ok(partition),
            Ok(None) => {
                let again = self.plan.topic.reconcile;
                if let Some(partition) =
                    again.then(|| Router::spread_again(&event.record, batch_size, partitions)).flatten()
                {
                    return Ok(partition);
                }
                spread += 1;
                Ok(router.spread_behind(spread - 1, batch_size, partitions))
            }
            Err(error) => Err(error.to_string()),
        });
        for (partition, (part, tickets)) in std::mem::take(&mut routed.parts) {
            let by_partition = self.plan.topic.collect_by_partition;
            let (cell, lane) =
                if by_partition { (1 + partition as usize, 0) } else { (1, partition as usize) };
            let (bytes, events) = (part.byte_len(), ids(&part));
            note!(self, "{events:?} go to {partition}");
            events.iter().for_each(|event| self.ledger.life(*event).routed += 1);
            let process = self.process();
            process.budget.take(bytes, events.len());
            let view = &mut process.cells[cell].views[lane];
            if origin.maybe {
                view.maybe.extend(events.iter().copied());
            }
            view.idle.extend(events.into_iter().map(|event| (event, now)));
            process.cells[cell].shard.enqueue(lane, part, tickets, bytes, origin);
            self.poll(cell);
        }
        let process = self.process();
        process.router.batch_left(partitions);
        process.routing = Some((flight, routed));
    }

    /// All that was routed has settled.
    pub(crate) fn routed(&mut self) {
        let now = self.now;
        let process = self.process();
        let Some((flight, routed)) = process.routing.take() else { return };
        let result =
            routed.landed(process.cells[1..].iter_mut().map(|cell| cell.shard.take_turned_back()).sum());
        let at = Place { process: process.number, cell: 0, lane: 0, partition: None };
        self.landed(at, flight, &result);
        self.process().cells[0].shard.handle(0, Event::Produced { flight, result }, now);
    }

    fn store(&mut self, at: Place, stored: StoredBatch) {
        let events = ids(&stored.batch);
        note!(self, "{}: stores {events:?}", name(at));
        assert!(!self.at_rest || self.plan.journal, "{}: stores {events:?} though all is well", name(at));
        let limit = self.plan.topic.max_batch_bytesize.get();
        assert!(stored.batch.byte_len() <= limit, "a batch of {} bytes is stored", stored.batch.byte_len());
        self.check_records(&stored.batch);
        let view = self.view(at);
        assert!(view.appending.is_none() && !view.recovering, "{}: two storage operations at once", name(at));
        let overtakes = view.flights.values().any(|(_, memory)| *memory);
        assert!(!overtakes, "{}: stores {events:?} while a batch from memory is in flight", name(at));
        let maybe = events.iter().any(|event| view.maybe.contains(event));
        assert_eq!(stored.maybe_persisted, maybe, "{}: maybe persisted, of {events:?}", name(at));
        for event in &events {
            assert!(
                view.idle.remove(event).is_some(),
                "{}: stores {event}, which it does not have",
                name(at)
            );
        }
        view.appending = Some(events.clone());
        let latency = self.storage_latency();
        self.after(latency, Item::Append { at, stored, events });
    }

    pub(crate) fn appended(&mut self, at: Place, stored: StoredBatch, events: Vec<u64>) {
        let result = self.storage.append(&self.plan, self.now, at.partition, stored, events.clone());
        self.tally(match result {
            Ok(_) => "stored",
            Err(StorageError::Full { .. }) => "storage full",
            Err(_) => "append failed",
        });
        note!(self, "{}: {result:?} for {events:?}", name(at));
        if result.is_ok() && self.plan.durable {
            events.iter().for_each(|event| self.ledger.life(*event).was_stored = true);
        }
        self.signal(Signal::Done { cell: at.cell, lane: at.lane, event: Event::Stored(result) });
    }

    fn recover(&mut self, at: Place, after: Option<EntryId>, max_bytes: usize) {
        let view = self.view(at);
        assert!(view.appending.is_none() && !view.recovering, "{}: two storage operations at once", name(at));
        assert!(view.flights.is_empty(), "{}: reads storage while something flies", name(at));
        view.recovering = true;
        view.reads += 1;
        let latency = self.storage_latency();
        self.after(latency, Item::Recover { at, after, max_bytes });
    }

    pub(crate) fn recovered(&mut self, at: Place, after: Option<EntryId>, max_bytes: usize) {
        let now = self.now;
        let result: Result<_, StorageError> = self
            .storage
            .works(&self.plan, now)
            .map(|()| self.storage.next_few(at.partition, after, max_bytes));
        if result.is_err() {
            self.tally("recovery failed");
        }
        note!(
            self,
            "{}: recovers {:?}",
            name(at),
            result.as_ref().map(|entries| entries.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        );
        let nothing = result.as_ref().is_ok_and(Vec::is_empty);
        assert!(!nothing, "{}: looks for a batch that was never stored", name(at));
        self.signal(Signal::Done { cell: at.cell, lane: at.lane, event: Event::Recovered(result) });
    }

    fn acknowledge(&mut self, at: Place, id: EntryId) {
        note!(self, "{}: acknowledges {id:?}", name(at));
        let Some(entry) = self.storage.entry_mut(at.partition, id) else {
            panic!("{}: acknowledges {id:?}, which is not stored", name(at));
        };
        assert!(!entry.acknowledged, "{}: acknowledges {id:?} twice", name(at));
        let mut events = Vec::new();
        for entry in self.storage.lanes.get_mut(&at.partition).into_iter().flatten() {
            if entry.id <= id && !entry.acknowledged {
                entry.acknowledged = true;
                events.extend(entry.events.iter().copied());
            }
        }
        for event in events {
            let elsewhere = at.partition.is_none()
                && self
                    .storage
                    .entries()
                    .any(|(lane, entry)| lane.is_some() && entry.events.contains(&event));
            let life = self.ledger.life(event);
            assert!(
                life.is_done() || life.lost || elsewhere,
                "{}: acknowledges {id:?} although {event} is not delivered",
                name(at)
            );
        }
        let latency = self.storage_latency();
        self.after(latency, Item::Acknowledge { process: at.process, lane: at.partition, id });
    }

    fn bury(&mut self, at: Place, dead: &[DeadRecord]) {
        let events: Vec<u64> = dead.iter().map(|dead| id_of(&dead.record.as_ref())).collect();
        let Some(DeadRecord { kind, error, .. }) = dead.first() else { panic!("nothing is dead") };
        note!(self, "{}: {events:?} are dead: {error}", name(at));
        for &event in &events {
            let is_expired = self.is_expired(event);
            let life = self.ledger.life(event);
            if *kind == ErrorKind::Expired {
                assert!(is_expired, "{}: {event} is buried before its time", name(at));
                life.expired = true;
            } else {
                assert!(life.refused, "{}: {event} is buried, Kafka has never refused it for good", name(at));
            }
            assert!(life.dead == 0 || life.copies > 0, "{}: {event} is buried twice", name(at));
        }
        if *kind == ErrorKind::Expired {
            let is_locked = self.view(at).link == Some(Link::Down);
            self.tally(if is_locked { "too old while Kafka was away" } else { "too old to be sent" });
        }
        let view = self.view(at);
        assert!(view.burying.is_none(), "{}: buries twice at once", name(at));
        let reads = view.reads;
        let memory = view.idle.contains_key(&events[0]);
        view.burying = Some(events.clone());
        for entry in self.storage.lanes.get_mut(&at.partition).into_iter().flatten().filter(|_| !memory) {
            if !entry.acknowledged && entry.events.iter().any(|event| events.contains(event)) {
                entry.replay = reads;
            }
        }
        let latency = self.storage_latency();
        self.after(latency, Item::Bury { at, events, kind: *kind });
    }

    pub(crate) fn buried(&mut self, at: Place, events: &[u64], kind: ErrorKind) {
        let now = self.now;
        let fails = self.plan.has(now, Trouble::DeadLetters);
        // It may take some of them.
        let taken = if fails { self.dice.between(0, events.len() as u64 - 1) as usize } else { events.len() };
        let result = if fails { Err(StorageError::Failed("the sink is closed".to_owned())) } else { Ok(()) };
        self.tally(if fails { "burial failed" } else { "buried" });
        note!(self, "{}: {taken} of {events:?} buried ({kind}): {result:?}", name(at));
        for &event in &events[..taken] {
            let life = self.ledger.life(event);
            if life.is_done() {
                assert!(life.copies > 0, "{event} was buried again");
                life.copies -= 1;
            }
            life.dead += 1;
        }
        let event = Event::DeadLettered { taken, result };
        self.signal(Signal::Done { cell: at.cell, lane: at.lane, event });
    }
}

fn name(at: Place) -> String {
    at.partition.map_or_else(|| "unassigned".to_owned(), |partition| format!("lane {partition}"))
}
