//! How much is told of an outage that lasts an hour, with the state machines as they are and time that is made up.

use std::time::Duration;

use kafka_batcher_core::config::KafkaConfig;
use kafka_batcher_core::connection::{Connection, ConnectionAction};
use kafka_batcher_core::lane::{Action, Event, Lane, LaneOptions};
use kafka_batcher_core::producer::{Delivered, Persistence};
use kafka_batcher_core::storage::EntryId;
use kafka_batcher_core::{
    Digest, ErrorKind, FlushReason, LaneId, Moment, ProduceError, ProduceFailure, Record, Report,
    StoredBatch, TopicSettings,
};

/// The outage begins at a minute, and ends here.
const BEGIN: u64 = 60;
const END: u64 = BEGIN + 3600;

/// How Kafka fails.
#[derive(Clone, Copy, PartialEq)]
enum Outage {
    /// Nobody answers.
    Down,
    /// It is there, and takes nothing.
    Denied,
}

struct World {
    outage: Outage,
    now: u64,
    connection: Connection,
    lanes: Vec<Lane>,
    storage: Vec<Vec<StoredBatch>>,
    digest: Digest,
    reports: u64,
    lines: Vec<String>,
}

impl World {
    /// Two topics of 12 partitions.
    fn new(outage: Outage) -> Self {
        let topic = TopicSettings::new("flights").max_wait_time(Duration::from_millis(100));
        let config = KafkaConfig::new("k:1").with_topic(topic);
        let topics = config.topics().unwrap();
        let lanes: Vec<Lane> = (0..24)
            .map(|n| {
                let topic = if n < 12 { "flights" } else { "weather" };
                let mut options = LaneOptions::new(&topics[0], config.timing());
                options.seed = n;
                Lane::new(LaneId::partition(topic, n as u32 % 12), options)
            })
            .collect();
        Self {
            outage,
            now: 0,
            connection: Connection::new(config.timing(), 7),
            storage: vec![Vec::new(); lanes.len()],
            lanes,
            digest: Digest::new(Duration::from_secs(60)),
            reports: 0,
            lines: Vec::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment::from_millis(self.now)
    }

    fn is_out(&self) -> bool {
        (BEGIN * 1000..END * 1000).contains(&self.now)
    }

    fn report(&mut self, report: &Report) {
        self.reports += 1;
        let line = self.digest.report(report, self.moment());
        self.lines.extend(line.map(|line| format!("{} s: {line}", self.now / 1000)));
    }

    fn produce(&self) -> Result<Delivered, ProduceFailure> {
        if !self.is_out() {
            return Ok(Delivered::default());
        }
        let kind = if self.outage == Outage::Down { ErrorKind::Transient } else { ErrorKind::Denied };
        Err(ProduceFailure::whole(ProduceError::new(kind, "no"), Persistence::NotPersisted))
    }

    fn connect(&mut self) {
        while let Some(action) = self.connection.poll_action(self.moment()) {
            match action {
                ConnectionAction::Connect => {
                    let is_down = self.is_out() && self.outage == Outage::Down;
                    let refused = Err(ProduceError::new(ErrorKind::Transient, "refused"));
                    self.connection.connected(if is_down { refused } else { Ok(()) }, self.moment());
                }
                ConnectionAction::Link(link) => {
                    let now = self.moment();
                    self.lanes.iter_mut().for_each(|lane| lane.handle(Event::Link(link), now));
                }
                ConnectionAction::Report(report) => self.report(&report),
            }
        }
    }

    fn serve(&mut self, index: usize) {
        let now = self.moment();
        while let Some(action) = self.lanes[index].poll_action(now) {
            let stored = &mut self.storage[index];
            let answer = match action {
                Action::Produce { flight, .. } => {
                    let result = self.produce();
                    if let Err(failure) = &result {
                        self.connection.failed(failure.error.kind(), now);
                    }
                    Event::Produced { flight, result }
                }
                Action::Store(entry) => {
                    stored.push(entry);
                    Event::Stored(Ok(EntryId(stored.len() as u64)))
                }
                Action::Recover { after, .. } => {
                    let next = after.map_or(0, |id| id.0);
                    let entry = stored[next as usize].clone();
                    Event::Recovered(Ok(vec![(EntryId(next + 1), entry)]))
                }
                Action::Report(report) => {
                    self.report(&report);
                    continue;
                }
                Action::Acknowledge(_) | Action::Sealed { .. } => continue,
                other => unreachable!("{other:?}"),
            };
            self.lanes[index].handle(answer, now);
        }
    }

    /// An event a second for each lane, for a minute more than the outage lasts.
    fn run(mut self) -> Self {
        let mut seconds = 0;
        while self.now < (END + 120) * 1000 {
            if self.now >= seconds * 1000 {
                let now = self.moment();
                for lane in &mut self.lanes {
                    lane.push(&Record::new("event").as_ref(), 0, 1, false, now).unwrap();
                    lane.flush(FlushReason::Wait);
                }
                seconds += 1;
            }
            self.connect();
            (0..self.lanes.len()).for_each(|index| self.serve(index));
            while let Some(line) = self.digest.poll(self.moment()) {
                self.lines.push(format!("{} s: {line}", self.now / 1000));
            }
            let lanes = self.lanes.iter().filter_map(Lane::poll_timeout);
            let timers = lanes.chain(self.connection.poll_timeout()).chain(self.digest.poll_timeout());
            let next = timers.min().map_or(u64::MAX, |at| at.as_micros().div_ceil(1000));
            self.now = next.min(seconds * 1000).max(self.now + 1);
        }
        println!("{} lines tell {} reports", self.lines.len(), self.reports);
        self
    }
}

#[test]
fn an_hour_without_a_broker_is_told_in_some_70_lines_and_its_end_too() {
    let world = World::new(Outage::Down).run();
    assert!(world.reports > 500, "{} reports: no outage worth the name", world.reports);
    assert!(world.lines.len() <= 70, "{} lines: {:#?}", world.lines.len(), world.lines);
    for over in [
        "connected to Kafka again",
        "Kafka takes events again on flights",
        "Kafka takes events again on weather",
    ] {
        let over = format!("{over} after 60 min");
        assert!(world.lines.iter().any(|line| line.contains(&over)), "{over}: {:#?}", world.lines);
    }
    assert!(world.lanes.iter().all(Lane::is_drained));
}

#[test]
fn an_hour_of_refusals_is_told_in_some_130_lines_for_two_topics() {
    let world = World::new(Outage::Denied).run();
    assert!(world.reports > 10_000, "{} reports: no outage worth the name", world.reports);
    assert!(world.lines.len() <= 130, "{} lines: {:#?}", world.lines.len(), world.lines);
    let last = &world.lines[world.lines.len() - 2..];
    assert!(last.iter().all(|line| line.contains("Kafka takes events again on ")), "{last:#?}");
}
