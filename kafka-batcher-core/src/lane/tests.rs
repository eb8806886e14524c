//! The lane, row by row of the table of promises: what happens when.
//!
//! Events are single words. What a lane wants done is shown as text, `produce a b` or `store a b`;
//! `store? a b` is a batch that Kafka may have already.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::config::{KafkaConfig, TopicSettings};
use crate::journal::Journaled;
use crate::producer::ProduceError;
use crate::receipt::{Outcome, Receipt};
use crate::record::Record;

pub(super) fn at(ms: u64) -> Moment {
    Moment::from_millis(ms)
}

/// Waits 1 s for a batch to fill; tries again after 50 to 100 ms at first, 5 s at most. Storage is durable.
pub(super) fn options() -> LaneOptions {
    let config = KafkaConfig::new("localhost:9092").with_topic(TopicSettings::new("t"));
    let mut options = LaneOptions::new(&config.topics().unwrap()[0], config.timing());
    options.durable = true;
    options
}

/// A lane together with what is around it: storage that keeps what it is given, and the batches in flight.
pub(super) struct Play {
    pub(super) lane: Lane,
    pub(super) flights: VecDeque<FlightId>,
    appending: Option<StoredBatch>,
    /// How often each record that was buried had been sent.
    attempts: Vec<u32>,
    /// Why each was.
    pub(super) errors: Vec<(ErrorKind, String)>,
    pub(super) search: Option<Search>,
    pub(super) storage: Vec<(EntryId, StoredBatch)>,
    pub(super) reports: Vec<What>,
}

impl Play {
    pub(super) fn new(options: LaneOptions) -> Self {
        let mut lane = Lane::new(LaneId::partition("t", 3), options);
        lane.handle(Event::Link(Link::Up), at(0));
        Self {
            lane,
            flights: VecDeque::new(),
            appending: None,
            attempts: Vec::new(),
            errors: Vec::new(),
            search: None,
            storage: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// Accepts an event for each word.
    pub(super) fn push(&mut self, words: &str, ms: u64) {
        for word in words.split(' ') {
            self.lane.push(&Record::new(word.to_owned()).as_ref(), 0, 1, false, at(ms)).unwrap();
        }
    }

    pub(super) fn push_for_receipt(&mut self, word: &str, ms: u64) -> Receipt {
        let pushed = self.lane.push(&Record::new(word.to_owned()).as_ref(), 0, 1, true, at(ms)).unwrap();
        pushed.receipt.unwrap()
    }

    /// Accepts an event for each word and declares them a batch.
    pub(super) fn batch(&mut self, words: &str, ms: u64) {
        self.push(words, ms);
        self.lane.flush(FlushReason::Manual);
    }

    /// What the lane wants done.
    pub(super) fn does(&mut self, ms: u64) -> Vec<String> {
        let mut done = Vec::new();
        while let Some(action) = self.lane.poll_action(at(ms)) {
            done.push(match action {
                Action::Produce { flight, batch, .. } => {
                    self.flights.push_back(flight);
                    format!("produce {}", words(&batch))
                }
                Action::Route { flight, batch, .. } => {
                    self.flights.push_back(flight);
                    format!("route {}", words(&batch))
                }
                Action::Store(stored) => {
                    let text = if stored.maybe_persisted { "store?" } else { "store" };
                    let text = format!("{text} {}", words(&stored.batch));
                    self.appending = Some(stored);
                    text
                }
                Action::Search { flight, search } => {
                    self.flights.push_back(flight);
                    let from = search.from_offset.map_or_else(String::new, |from| format!(" from {from}"));
                    let text = format!("search for {}{from}", search.wanted.len());
                    self.search = Some(search);
                    text
                }
                Action::Recover { after, .. } => {
                    after.map_or_else(|| "recover".to_owned(), |id| format!("recover after {}", id.0))
                }
                Action::Acknowledge(id) => format!("acknowledge {}", id.0),
                Action::DeadLetter(dead) => {
                    self.attempts.extend(dead.iter().map(|dead| dead.attempts));
                    self.errors.extend(dead.iter().map(|dead| (dead.kind, dead.error.clone())));
                    let names = dead.iter().map(|dead| word(dead.record.value.as_deref()));
                    format!("bury {}", names.collect::<Vec<_>>().join(" "))
                }
                Action::Report(report) => {
                    self.reports.push(report.what);
                    continue;
                }
                Action::Sealed { .. } => continue,
            });
        }
        let timeout = self.lane.poll_timeout();
        assert!(
            timeout.is_none_or(|timeout| timeout > at(ms)),
            "nothing to do at {ms} ms, and a timeout at {timeout:?}"
        );
        done
    }

    fn answer(&mut self, result: Result<Delivered, ProduceFailure>, ms: u64) {
        let flight = self.flights.pop_front().expect("something is in flight");
        self.lane.handle(Event::Produced { flight, result }, at(ms));
    }

    /// Kafka has the oldest batch in flight.
    pub(super) fn delivered(&mut self, ms: u64) {
        self.answer(Ok(Delivered::at(Some(700))), ms);
    }

    /// All of the oldest batch in flight failed, and is certainly not written.
    pub(super) fn fails(&mut self, kind: ErrorKind, ms: u64) {
        self.answer(Err(ProduceFailure::whole(ProduceError::new(kind, "no"), Persistence::NotPersisted)), ms);
    }

    /// Nobody knows what became of the oldest batch in flight.
    pub(super) fn times_out(&mut self, ms: u64) {
        let error = ProduceError::new(ErrorKind::Transient, "no answer");
        self.answer(Err(ProduceFailure::whole(error, Persistence::MaybePersisted)), ms);
    }

    /// Of the oldest batch in flight the records with these indexes failed.
    fn fails_in_part(&mut self, kind: ErrorKind, failed: &[u32], ms: u64) {
        let error = ProduceError::new(kind, "no");
        self.answer(Err(ProduceFailure::some(error, Persistence::NotPersisted, failed.to_vec())), ms);
    }

    /// Storage has taken the batch; entries are numbered from 1.
    pub(super) fn stored(&mut self, ms: u64) {
        let id = EntryId(self.storage.len() as u64 + 1);
        self.storage.push((id, self.appending.take().expect("something is being stored")));
        self.lane.handle(Event::Stored(Ok(id)), at(ms));
    }

    pub(super) fn storage_is_full(&mut self, ms: u64) {
        self.appending = None;
        self.lane.handle(Event::Stored(Err(StorageError::Full { used: 9, quota: 9 })), at(ms));
    }

    /// Storage gives back the entry with this number.
    pub(super) fn recovered(&mut self, id: usize, ms: u64) {
        let entry = self.storage[id - 1].clone();
        self.lane.handle(Event::Recovered(Ok(vec![entry])), at(ms));
    }

    pub(super) fn buried(&mut self, ms: u64) {
        self.lane.handle(Event::DeadLettered { taken: usize::MAX, result: Ok(()) }, at(ms));
    }

    /// Only so many of the records were put away.
    pub(super) fn burial_fails_after(&mut self, taken: usize, ms: u64) {
        let result = Err(StorageError::Failed("the sink is closed".to_owned()));
        self.lane.handle(Event::DeadLettered { taken, result }, at(ms));
    }

    /// The moment the lane wants to be polled at, in whole milliseconds, rounded up.
    pub(super) fn timeout(&self) -> u64 {
        self.lane.poll_timeout().expect("it waits for something").as_micros().div_ceil(1000)
    }

    /// A lane whose only batch, of these events, is stored as entry 1, ready to be read back at 200 ms.
    pub(super) fn with_stored(batch: &str) -> Self {
        let mut play = Self::new(options());
        play.batch(batch, 0);
        play.does(0);
        play.fails(ErrorKind::Transient, 1);
        play.does(1);
        play.stored(2);
        play
    }
}

fn word(value: Option<&[u8]>) -> String {
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

fn words(batch: &Batch) -> String {
    batch.records().map(|record| word(record.value)).collect::<Vec<_>>().join(" ")
}

pub(super) const NOTHING: [&str; 0] = [];

// All is well.

#[test]
fn one_batch_is_in_flight_and_what_comes_meanwhile_gathers() {
    let mut play = Play::new(options());
    play.batch("a b", 0);
    assert_eq!(play.does(0), ["produce a b"]);
    play.batch("c", 1);
    play.batch("d e", 2);
    assert_eq!(play.does(2), NOTHING);
    play.delivered(9);
    assert_eq!(play.does(9), ["produce c d e"]);
    play.delivered(12);
    assert!(play.lane.is_drained());
    assert_eq!(play.lane.take_released(), (5, 5));
}

#[test]
fn nothing_leaves_before_it_is_declared_a_batch() {
    let mut play = Play::new(options());
    play.push("a", 0);
    assert_eq!(play.does(900), NOTHING);
    assert!(!play.lane.is_settled());
}

#[test]
fn a_record_that_does_not_fit_seals_the_batch_and_begins_the_next_one() {
    let mut play = Play::new(LaneOptions { max_batch_bytesize: NonZeroUsize::new(80).unwrap(), ..options() });
    play.push("aaaaa", 0);
    let pushed = play.lane.push(&Record::new("bbbbb").as_ref(), 0, 1, false, at(5)).unwrap();
    assert!(pushed.sealed && pushed.first);
    assert_eq!(play.does(5), ["produce aaaaa"]);
    assert!(!play.lane.is_settled(), "b waits for its own batch");
}

#[test]
fn an_event_larger_than_a_batch_is_an_error_and_changes_nothing() {
    let mut play =
        Play::new(LaneOptions { max_batch_bytesize: NonZeroUsize::new(100).unwrap(), ..options() });
    play.push("a", 0);
    let large = Record::new(vec![b'x'; 100]);
    let error = play.lane.push(&large.as_ref(), 0, 1, true, at(1)).unwrap_err();
    assert!(matches!(error, PushError::TooLarge { size, limit: 100 } if size > 160), "{error}");
    assert_eq!((play.does(1), play.lane.stats().accepted), (vec![], 1));
    play.batch("b", 2);
    assert_eq!(play.does(2), ["produce a b"]);
}

#[test]
fn an_answer_that_nobody_asked_for_means_nothing() {
    let mut play = Play::new(options());
    play.batch("a", 0);
    play.does(0);
    let flight = play.flights[0];
    play.fails(ErrorKind::Transient, 1);
    let before = play.lane.stats();
    play.lane.handle(Event::Produced { flight, result: Ok(Delivered::at(None)) }, at(2));
    play.lane.handle(Event::Produced { flight: FlightId(99), result: Ok(Delivered::at(None)) }, at(2));
    play.lane.handle(Event::Stored(Ok(EntryId(5))), at(2));
    play.lane.handle(Event::Recovered(Ok(Vec::new())), at(2));
    play.lane.handle(Event::DeadLettered { taken: 1, result: Ok(()) }, at(2));
    assert_eq!(play.lane.stats(), before);
    assert_eq!(play.does(2), ["store a"]);
}

// Kafka down at start.

#[test]
fn before_anybody_has_tried_to_connect_events_are_held_in_memory() {
    let mut play = Play::new(options());
    play.lane.handle(Event::Link(Link::Unknown), at(0));
    play.batch("a", 0);
    assert_eq!(play.does(5000), NOTHING);
    play.lane.handle(Event::Link(Link::Up), at(5000));
    assert_eq!(play.does(5000), ["produce a"]);
}

#[test]
fn while_kafka_is_down_events_are_stored_and_replayed_when_it_is_there() {
    let mut play = Play::new(options());
    play.lane.handle(Event::Link(Link::Down), at(0));
    assert!(play.lane.is_locked());
    play.batch("a b", 0);
    assert_eq!(play.does(0), ["store a b"]);
    play.stored(1);
    assert_eq!(play.does(1), NOTHING);
    assert!(play.lane.is_settled() && !play.lane.is_drained());
    play.lane.handle(Event::Link(Link::Up), at(50));
    assert_eq!(play.does(50), ["recover"]);
    play.recovered(1, 51);
    assert_eq!(play.does(51), ["produce a b"]);
    play.delivered(55);
    assert_eq!(play.does(55), ["acknowledge 1"]);
    assert!(play.lane.is_drained() && !play.lane.is_locked());
}

#[test]
fn while_events_are_stored_enough_of_them_do_not_make_a_batch_but_time_does() {
    let mut play = Play::new(options());
    play.lane.handle(Event::Link(Link::Down), at(0));
    play.push("a", 10);
    play.lane.flush(FlushReason::Count);
    assert_eq!(play.does(10), NOTHING);
    play.push("b", 500);
    play.lane.flush(FlushReason::Flusher);
    assert_eq!((play.does(500), play.timeout()), (vec![], 1010));
    assert_eq!(play.does(1010), ["store a b"]);
}

#[test]
fn rejecting_lanes_hand_events_back_while_kafka_is_unavailable() {
    let mut play = Play::new(LaneOptions { on_unavailable: OnUnavailable::Reject, ..options() });
    play.batch("a", 0);
    play.does(0);
    play.fails(ErrorKind::Transient, 1);
    let refused = play.lane.push(&Record::new("b").as_ref(), 0, 1, false, at(2));
    assert_eq!(refused.unwrap_err(), PushError::Unavailable);
    assert_eq!(play.does(2), ["store a"], "what was accepted before is still stored");
    assert_eq!(play.lane.stats().accepted, 1);
}

// The broker dies, the leader moves.

#[test]
fn a_failed_batch_is_stored_at_the_front_and_later_events_go_behind_it() {
    let mut play = Play::new(options());
    play.batch("a", 0);
    assert_eq!(play.does(0), ["produce a"]);
    play.batch("b", 1);
    play.fails(ErrorKind::Transient, 5);
    assert_eq!(play.does(5), ["store a"]);
    play.stored(6);
    assert_eq!(play.does(6), ["store b"], "one storage operation at a time");
    play.stored(7);
    assert_eq!(play.reports, [What::ProduceFailed(ErrorKind::Transient)]);
    let retry = play.timeout();
    assert!((55..=105).contains(&retry), "{retry}");
    assert_eq!(play.does(retry), ["recover"]);
    play.recovered(1, retry);
    assert_eq!(play.does(retry), ["produce a"]);
}

#[test]
fn nothing_is_stored_past_a_batch_that_is_in_flight() {
    let mut play = Play::new(options());
    play.batch("a", 0);
    play.does(0);
    play.batch("b", 1);
    play.lane.handle(Event::Link(Link::Down), at(2));
    assert_eq!(play.does(2), NOTHING, "a may come back, and b must be behind it then");
    play.fails(ErrorKind::Transient, 3);
    assert_eq!(play.does(3), ["store a"]);
    play.stored(4);
    assert_eq!(play.does(4), ["store b"]);
}

#[test]
fn as_long_as_something_is_stored_later_events_are_stored_and_then_the_lane_is_live_again() {
    let mut play = Play::with_stored("a");
    assert_eq!(play.does(200), ["recover"]);
    play.recovered(1, 200);
    assert_eq!(play.does(200), ["produce a"]);
    play.batch("b", 201);
    assert_eq!(play.does(201), ["store b"], "a is not delivered yet");
    play.delivered(202);
    assert_eq!(play.does(202), ["acknowledge 1"], "b is on its way to storage");
    play.batch("c", 203);
    play.stored(204);
    assert_eq!(play.does(204), ["recover after 1",], "c waits: storage is read");
    play.recovered(2, 205);
    assert_eq!(play.does(205), ["produce b", "store c"]);
    play.stored(206);
    play.delivered(207);
    assert_eq!(play.does(207), ["acknowledge 2", "recover after 2"]);
    play.recovered(3, 208);
    assert_eq!(play.does(208), ["produce c"]);
    play.delivered(209);
    assert_eq!(play.does(209), ["acknowledge 3"]);
    play.batch("d", 210);
    assert_eq!(play.does(210), ["produce d"], "live again");
}

#[test]
fn a_replay_that_fails_is_read_again_later_and_waits_longer_each_time() {
    let mut play = Play::with_stored("a b");
    let mut now = 200;
    let mut waits = Vec::new();
    for _ in 0..4 {
        assert_eq!(play.does(now), ["recover"]);
        play.recovered(1, now);
        assert_eq!(play.does(now), ["produce a b"]);
        play.fails(ErrorKind::Transient, now);
        assert_eq!(play.does(now), NOTHING, "it is in storage already");
        waits.push(play.timeout() - now);
        now = play.timeout();
    }
    assert!(waits.is_sorted() && waits[3] >= 400, "{waits:?}");
    let stats = play.lane.stats();
    assert_eq!((stats.stored, stats.retried, stats.replayed), (2, 8, 0));
}

#[test]
fn kafka_is_tried_at_once_when_the_connection_comes_back() {
    let mut play = Play::with_stored("a");
    play.lane.handle(Event::Link(Link::Down), at(3));
    assert_eq!(play.does(3), NOTHING);
    play.lane.handle(Event::Link(Link::Up), at(4));
    assert_eq!(play.does(4), ["recover"], "long before the back-off is over");
    play.recovered(1, 4);
    assert_eq!(play.does(4), ["produce a"]);
    play.delivered(5);
    let stats = play.lane.stats();
    assert_eq!(
        (stats.retried, stats.replayed),
        (1, 1),
        "sent again, though with a new link and out of storage"
    );
}

// Timeout, unknown outcome.

#[test]
fn a_batch_that_may_be_in_kafka_is_stored_with_that_flag_and_counted_when_it_is_sent_again() {
    let mut play = Play::new(options());
    play.batch("a b", 0);
    play.does(0);
    play.times_out(10_000);
    assert_eq!(play.does(10_000), ["store? a b"]);
    play.stored(10_001);
    assert_eq!(play.lane.stats().maybe_duplicated, 0);
    let retry = play.timeout();
    play.does(retry);
    play.recovered(1, retry);
    assert_eq!(play.does(retry), ["produce a b"]);
    assert_eq!(play.lane.stats().maybe_duplicated, 2);
}

#[test]
fn that_a_replayed_batch_may_be_in_kafka_is_not_forgotten_when_it_is_read_again() {
    let mut play = Play::with_stored("a");
    play.does(200);
    play.recovered(1, 200);
    play.does(200);
    play.times_out(300);
    assert_eq!(play.does(300), NOTHING);
    let retry = play.timeout();
    play.does(retry);
    play.recovered(1, retry);
    assert!(!play.storage[0].1.maybe_persisted, "storage does not know");
    assert_eq!(play.does(retry), ["produce a"]);
    assert_eq!(play.lane.stats().maybe_duplicated, 1);
}

// Part of a batch failed.

#[test]
fn only_the_failed_records_are_stored() {
    let mut play = Play::new(options());
    play.batch("a b c d", 0);
    play.does(0);
    play.fails_in_part(ErrorKind::Transient, &[1, 3], 5);
    assert_eq!(play.does(5), ["store b d"]);
    assert_eq!((play.lane.stats().delivered, play.lane.take_released()), (2, (2, 2)));
    play.stored(6);
    assert_eq!((play.lane.stats().stored, play.lane.take_released()), (2, (2, 2)));
    assert!(play.lane.is_settled());
}

#[test]
fn only_the_failed_records_of_a_stored_batch_are_sent_again_and_then_all_of_it_is_acknowledged() {
    let mut play = Play::with_stored("a b c");
    play.does(200);
    play.recovered(1, 200);
    play.does(200);
    play.fails_in_part(ErrorKind::Transient, &[2], 201);
    assert_eq!((play.lane.stats().delivered, play.lane.stats().stored), (2, 1));
    let part = play.lane.stats().delivered_bytes;
    assert_eq!(play.does(201), NOTHING, "a part of it is delivered: it is not read again");
    let retry = play.timeout();
    assert_eq!(play.does(retry), ["produce c"]);
    play.delivered(retry + 1);
    // Two records of the same size, and then the third with what a batch has beside its records.
    let all = play.lane.stats().delivered_bytes;
    assert_eq!((part, all), (2 * 8, 3 * 8 + 61));
    assert_eq!(play.does(retry + 1), ["acknowledge 1"]);
    assert!(play.lane.is_drained());
}

#[test]
fn a_failure_of_no_record_is_a_delivery() {
    let mut play = Play::new(options());
    play.batch("a b", 0);
    play.does(0);
    play.fails_in_part(ErrorKind::Transient, &[], 5);
    assert_eq!(play.does(5), NOTHING);
    assert!(play.lane.is_drained() && !play.lane.is_locked());
    assert_eq!(play.lane.take_released(), (2, 2));
}

// A batch too large for the broker.

#[test]
fn a_batch_too_large_is_halved_and_sent_in_order_and_a_single_record_goes_to_the_dead_letters() {
    let mut play = Play::new(options());
    play.batch("a b c", 0);
    assert_eq!(play.does(0), ["produce a b c"]);
    play.batch("d", 1);
    play.fails(ErrorKind::TooLarge, 2);
    assert_eq!(play.does(2), ["produce a"], "at once: Kafka is there");
    play.delivered(3);
    assert_eq!(play.does(3), ["produce b c"]);
    play.fails(ErrorKind::TooLarge, 4);
    assert_eq!(play.does(4), ["produce b"]);
    play.fails(ErrorKind::TooLarge, 5);
    assert_eq!(play.does(5), ["bury b"]);
    assert_eq!(play.does(6), NOTHING, "c waits until b is safe");
    play.buried(7);
    assert_eq!(play.does(7), ["produce c"]);
    play.delivered(8);
    assert_eq!(play.does(8), ["produce d"]);
    play.delivered(9);
    let stats = play.lane.stats();
    assert_eq!((stats.delivered, stats.dead_lettered, stats.lost), (3, 1, 0));
    assert_eq!((stats.retried, stats.replayed), (5, 0), "a, b c, b, and c");
    assert_eq!(play.reports, [What::DeadLettered(ErrorKind::TooLarge)]);
    assert_eq!(play.attempts, [3], "with all, with c, and alone");
    assert_eq!(play.lane.take_released(), (4, 4));
}

/// Found by the simulation: the second half failed, and the whole batch was read again and sent.
#[test]
fn a_stored_batch_that_was_halved_is_not_read_again_when_its_second_half_fails() {
    let mut play = Play::with_stored("a b");
    play.does(200);
    play.recovered(1, 200);
    play.does(200);
    play.fails(ErrorKind::TooLarge, 201);
    assert_eq!(play.does(201), ["produce a"]);
    play.delivered(202);
    assert_eq!(play.does(202), ["produce b"]);
    play.fails(ErrorKind::Transient, 203);
    assert_eq!(play.does(203), NOTHING);
    let retry = play.timeout();
    assert_eq!(play.does(retry), ["produce b"]);
    play.delivered(retry);
    assert_eq!(play.does(retry), ["acknowledge 1"]);
    assert_eq!((play.lane.stats().delivered, play.lane.stats().stored), (2, 0));
}

// Authorisation or SASL failure.

#[test]
fn a_denied_lane_parks_for_long_stores_and_never_dead_letters() {
    let mut play = Play::new(options());
    play.batch("a", 0);
    play.does(0);
    play.fails(ErrorKind::Denied, 1);
    assert_eq!(play.does(1), ["store a"]);
    play.stored(2);
    assert_eq!(play.does(2), NOTHING);
    assert!((2501..=5001).contains(&play.timeout()), "{}", play.timeout());
    assert_eq!(play.reports, [What::ProduceFailed(ErrorKind::Denied)]);
    assert_eq!(play.lane.stats().dead_lettered, 0);
    play.batch("b", 3);
    assert_eq!(play.does(3), ["store b"]);
}

// Poison.

#[test]
fn a_poison_record_in_replay_is_dead_lettered_with_its_reason_and_the_lane_goes_on() {
    let mut play = Play::with_stored("a b");
    play.does(200);
    play.recovered(1, 200);
    play.does(200);
    play.fails_in_part(ErrorKind::Permanent, &[0], 201);
    assert_eq!(play.does(201), ["bury a"]);
    play.buried(202);
    assert_eq!(play.does(202), ["acknowledge 1"]);
    assert!(play.lane.is_drained());
    let stats = play.lane.stats();
    assert_eq!((stats.delivered, stats.dead_lettered, stats.stored), (1, 1, 0));
}

#[test]
fn a_dead_letter_sink_that_fails_is_called_again_and_the_lane_waits() {
    let mut play = Play::new(options());
    play.batch("a", 0);
    play.does(0);
    play.fails(ErrorKind::Permanent, 1);
    play.batch("b", 1);
    assert_eq!(play.does(1), ["bury a"]);
    play.burial_fails_after(0, 2);
    assert_eq!(play.does(2), NOTHING);
    let again = play.timeout();
    assert_eq!(play.does(again), ["bury a"]);
    play.buried(again);
    assert_eq!(play.does(again), ["produce b"]);
    assert_eq!(play.reports[0], What::DeadLetterFailed);
}

/// Found by the simulation: with nothing left to try with, the lane refused or passed over events for ever.
#[test]
fn a_lane_is_not_locked_when_the_last_thing_it_had_was_refused_for_good() {
    let mut play = Play::with_stored("a");
    assert!(play.lane.is_locked());
    play.does(200);
    play.recovered(1, 200);
    play.does(200);
    play.fails(ErrorKind::Permanent, 201);
    assert!(!play.lane.is_locked(), "Kafka answers, however long the dead letter takes");
    play.does(201);
    play.buried(202);
    play.does(202);
    assert!(play.lane.is_drained() && !play.lane.is_locked());
}

// Storage full, or failing.

#[test]
fn a_batch_that_storage_refuses_stays_at_the_front_and_is_tried_with_kafka_directly() {
    let mut play = Play::new(options());
    play.batch("a", 0);
    play.does(0);
    play.batch("b", 1);
    play.fails(ErrorKind::Transient, 2);
    assert_eq!(play.does(2), ["store a"]);
    play.storage_is_full(3);
    assert_eq!(play.does(3), NOTHING);
    let retry = play.timeout();
    assert!((50..=110).contains(&retry), "{retry}");
    let mut done = play.does(retry);
    if done == ["store a"] {
        // Storage's pause was over first.
        play.storage_is_full(retry);
        let retry = play.timeout();
        done = play.does(retry);
    }
    assert_eq!(done, ["produce a"]);
    play.delivered(200);
    assert_eq!(play.does(200), ["produce b"], "draining went on without storage");
    assert!(play.reports.contains(&What::StoreFailed));
}

#[test]
fn storage_that_can_not_be_read_is_asked_again_later() {
    let mut play = Play::with_stored("a");
    assert_eq!(play.does(200), ["recover"]);
    play.lane.handle(Event::Recovered(Err(StorageError::Failed("busy".to_owned()))), at(201));
    assert_eq!(play.does(201), NOTHING);
    let again = play.timeout();
    assert_eq!(play.does(again), ["recover"]);
    assert!(play.reports.contains(&What::RecoverFailed));
}

#[test]
fn what_storage_no_longer_has_is_counted_and_reported_as_lost_and_the_lane_is_live() {
    let mut play = Play::with_stored("a b");
    play.does(200);
    play.lane.handle(Event::Recovered(Ok(Vec::new())), at(201));
    assert_eq!(play.does(201), NOTHING);
    assert_eq!((play.lane.stats().lost, play.lane.stats().stored), (2, 0));
    assert!(play.lane.is_drained() && !play.lane.is_locked());
    assert!(play.reports.contains(&What::Lost));
}

#[test]
fn what_an_earlier_process_stored_goes_first() {
    let mut play = Play::with_stored("old");
    let entry = play.storage.clone();
    play = Play::new(options());
    play.storage = entry;
    play.lane.found(1, 1);
    play.batch("new", 0);
    assert_eq!(play.does(0), ["recover"]);
    play.recovered(1, 1);
    assert_eq!(play.does(1), ["produce old", "store new"]);
    assert_eq!(play.lane.stats().stored, 1);
}

// The end.

#[test]
fn when_the_time_is_up_all_in_memory_is_stored_in_order_and_what_was_in_flight_as_maybe_persisted() {
    let mut play = Play::new(options());
    play.batch("a", 0);
    play.does(0);
    play.batch("b", 1);
    play.push("c", 1);
    play.lane.abandon();
    assert_eq!(play.does(2), ["store? a"]);
    play.delivered(3); // too late: it counts no longer
    play.stored(4);
    assert_eq!(play.does(4), ["store b c"]);
    assert!(!play.lane.is_settled());
    play.stored(5);
    assert_eq!(play.does(5), NOTHING);
    assert!(play.lane.is_settled());
    assert_eq!((play.lane.stats().stored, play.lane.stats().delivered), (3, 0));
    assert_eq!(play.lane.take_released(), (3, 3));
}

#[test]
fn what_storage_refuses_when_the_time_is_up_is_lost_counted_and_reported() {
    let mut play = Play::new(options());
    let receipt = play.push_for_receipt("a", 0);
    play.push("b", 0);
    play.lane.abandon();
    assert_eq!(play.does(1), ["store a b"]);
    play.storage_is_full(2);
    assert_eq!(play.does(2), NOTHING);
    assert_eq!((play.lane.stats().lost, play.lane.is_settled()), (2, true));
    assert_eq!((play.reports.as_slice(), receipt.try_outcome()), (&[What::Lost][..], Some(Outcome::Lost)));
    assert_eq!(play.lane.take_released(), (2, 2));
}

/// Found by the simulation: answers that waited for others were forgotten.
#[test]
fn answers_that_wait_for_others_count_when_the_time_is_up() {
    let mut play = Play::new(LaneOptions { window: 3, ..options() });
    for batch in ["a b", "c", "d"] {
        play.batch(batch, 0);
        play.does(0);
    }
    let (first, second, third) = (play.flights[0], play.flights[1], play.flights[2]);
    let error = || ProduceError::new(ErrorKind::Transient, "no");
    let in_part = ProduceFailure::some(error(), Persistence::MaybePersisted, vec![1]);
    play.lane.handle(Event::Produced { flight: second, result: Ok(Delivered::at(None)) }, at(1));
    play.lane.handle(Event::Produced { flight: first, result: Err(in_part) }, at(1));
    assert_eq!(play.does(1), NOTHING, "{third:?} has not landed");
    play.lane.abandon();
    assert_eq!(play.does(2), ["store? b"], "a and c are delivered");
    play.stored(3);
    assert_eq!(play.does(3), ["store? d"]);
    assert_eq!(play.lane.stats().delivered, 2);
}

#[test]
fn what_is_settled_is_counted_without_a_gap_from_the_first_event_on() {
    let mut play = Play::new(options());
    play.batch("a b", 0);
    play.does(0);
    play.push("c", 1);
    assert_eq!(play.lane.settled_through(), 0);
    play.delivered(2);
    assert_eq!((play.lane.settled_through(), play.lane.is_settled()), (2, false));
    play.batch("d", 3);
    play.does(3);
    play.fails(ErrorKind::Transient, 4);
    play.does(4);
    assert_eq!(play.lane.settled_through(), 2, "being stored is not stored");
    play.stored(5);
    assert_eq!((play.lane.settled_through(), play.lane.is_settled()), (4, true));
    assert!(!play.lane.is_drained());
}

// Receipts.

#[test]
fn durable_storage_resolves_receipts_and_storage_that_goes_with_the_process_does_not() {
    for durable in [true, false] {
        let mut play = Play::new(LaneOptions { durable, ..options() });
        let receipt = play.push_for_receipt("a", 0);
        play.lane.handle(Event::Link(Link::Down), at(0));
        play.lane.flush(FlushReason::Manual);
        play.does(0);
        play.stored(1);
        assert_eq!(receipt.try_outcome(), durable.then_some(Outcome::Stored));
        play.lane.handle(Event::Link(Link::Up), at(2));
        play.does(2);
        play.recovered(1, 3);
        play.does(3);
        play.delivered(4);
        let delivered = Outcome::Delivered { partition: 3, offset: Some(700) };
        assert_eq!(receipt.try_outcome(), Some(if durable { Outcome::Stored } else { delivered }));
    }
}

#[test]
fn receipts_follow_their_records_through_cuts() {
    let mut play = Play::new(options());
    let receipts: Vec<_> = ["a", "b", "c", "d"].iter().map(|word| play.push_for_receipt(word, 0)).collect();
    play.lane.flush(FlushReason::Manual);
    play.does(0);
    play.fails_in_part(ErrorKind::TooLarge, &[1, 2, 3], 1); // a is delivered
    assert_eq!(play.does(1), ["produce b"]);
    play.fails(ErrorKind::TooLarge, 2);
    play.does(2);
    play.buried(3);
    assert_eq!(play.does(3), ["produce c d"]);
    play.delivered(4);
    let outcomes: Vec<_> = receipts.iter().map(|receipt| receipt.try_outcome().unwrap()).collect();
    let delivered = |offset| Outcome::Delivered { partition: 3, offset };
    let dead = Outcome::DeadLettered(ErrorKind::TooLarge);
    assert_eq!(outcomes, [delivered(None), dead, delivered(Some(700)), delivered(Some(701))]);
}

// More than one batch in flight.

#[test]
fn a_failed_batch_of_several_waits_for_the_others_and_all_go_back_in_order() {
    let mut play = Play::new(LaneOptions { window: 2, ..options() });
    for batch in ["a", "b", "c"] {
        play.batch(batch, 0);
        play.lane.seal(FlushReason::Manual);
    }
    assert_eq!(play.does(0), ["produce a", "produce b"]);
    play.fails(ErrorKind::Transient, 1);
    assert_eq!(play.does(1), NOTHING, "b is still in flight");
    play.fails(ErrorKind::Transient, 2);
    assert_eq!(play.does(2), ["store a"]);
    play.storage_is_full(3);
    let retry = 1000;
    assert_eq!(play.does(retry), ["produce a"], "one batch finds out whether Kafka is back");
    play.delivered(1001);
    assert_eq!(play.does(1001), ["produce b", "produce c"]);
}

/// Found by the simulation: a driver routes one batch at a time.
#[test]
fn the_lane_without_a_partition_routes_one_batch_at_a_time() {
    let mut play = Play::new(options());
    play.lane = Lane::new(LaneId::unassigned("t"), LaneOptions { window: 3, ..options() });
    play.lane.handle(Event::Link(Link::Up), at(0));
    for batch in ["a", "b"] {
        play.batch(batch, 0);
        play.lane.seal(FlushReason::Manual);
    }
    assert_eq!(play.does(0), ["route a"]);
    play.delivered(1);
    assert_eq!(play.does(1), ["route b"]);
}

#[test]
fn a_routed_batch_goes_behind_what_is_gathered() {
    let mut other = Play::new(options());
    other.push("b", 0);
    other.lane.seal(FlushReason::Manual);
    let batch = other.lane.queue.pop_front().unwrap().batch;
    let mut play = Play::new(options());
    play.push("a", 0);
    play.lane.enqueue(batch, None, 7, Origin::default());
    assert_eq!(play.does(0), ["produce a"]);
    play.delivered(1);
    assert_eq!(play.does(1), ["produce b"]);
    play.delivered(2);
    assert_eq!((play.lane.stats().accepted, play.lane.take_released()), (2, (8, 2)));
}

/// What the lane without a partition has in storage, its routing, and what the other lane makes of it in the end.
#[test]
fn what_was_routed_from_storage_stays_there_if_storage_refuses_it_elsewhere() {
    for (is_stored, lost, turned_back) in [(true, 0, 2), (false, 2, 0)] {
        let mut other = Play::new(options());
        other.push("a b", 0);
        other.lane.seal(FlushReason::Manual);
        let batch = other.lane.queue.pop_front().unwrap().batch;
        let mut play = Play::new(options());
        let tickets = Tickets::new();
        let receipt = tickets.receipt(1);
        play.lane.enqueue(batch, Some(tickets.clone()), 7, Origin { is_stored, maybe: false });
        play.does(0);
        play.lane.abandon();
        assert_eq!(play.does(1), ["store? a b"]);
        play.storage_is_full(2);
        play.does(2);
        let stats = play.lane.stats();
        assert_eq!(
            (stats.lost, stats.turned_back, play.lane.take_turned_back()),
            (lost, turned_back, turned_back)
        );
        assert_eq!((play.lane.take_turned_back(), play.lane.take_released()), (0, (7, 2)));
        assert_eq!(receipt.try_outcome(), Some(if is_stored { Outcome::Stored } else { Outcome::Lost }));
        assert_eq!(play.reports.contains(&What::Lost), !is_stored);
    }
}

#[test]
fn a_batch_of_which_a_part_was_turned_back_is_not_acknowledged() {
    let mut play = Play::with_stored("a b");
    play.lane.id.partition = None;
    play.does(200);
    play.recovered(1, 200);
    assert_eq!(play.does(200), ["route a b"]);
    let result = crate::partition::Routed::default().landed(1);
    play.answer(result, 201);
    play.lane.abandon();
    assert_eq!(play.does(300), NOTHING);
    let stats = play.lane.stats();
    assert_eq!((stats.stored, stats.delivered, stats.lost), (2, 0, 0));
}

// Sequence headers.

#[test]
fn a_sequence_header_names_instance_lane_and_number() {
    let mut play = Play::new(LaneOptions { instance: Some([7; 16]), ..options() });
    play.push("a b", 0);
    play.lane.seal(FlushReason::Manual);
    let batch = &play.lane.queue[0].batch;
    for (number, record) in (0_u64..).zip(batch.records()) {
        let header = record.headers.iter().last().unwrap();
        let expected = [&[7; 16][..], &3_u32.to_be_bytes(), &number.to_be_bytes()].concat();
        assert_eq!((header.name, header.value), (SEQUENCE_HEADER, Some(&expected[..])));
    }
}

// The journal.

fn journal() -> LaneOptions {
    LaneOptions { journal: true, ..options() }
}

impl Play {
    /// Accepts an event, if it gets into the journal.
    fn add(&mut self, word: &str, ms: u64) -> Journaled {
        let pushed = self.lane.push(&Record::new(word.to_owned()).as_ref(), 0, 1, false, at(ms)).unwrap();
        pushed.journaled.unwrap()
    }

    /// Storage gives back all entries from this number on.
    pub(super) fn recovered_from(&mut self, id: usize, ms: u64) {
        let entries = self.storage[id - 1..].to_vec();
        self.lane.handle(Event::Recovered(Ok(entries)), at(ms));
    }
}

/// Whether the event is in the journal, if that is known.
fn answer(journaled: &mut Journaled) -> Option<bool> {
    match Pin::new(journaled).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result.is_ok()),
        Poll::Pending => None,
    }
}

#[test]
fn with_a_journal_an_event_is_stored_at_once_and_only_then_accepted() {
    let mut play = Play::new(journal());
    let mut a = play.add("a", 0);
    assert_eq!(play.does(0), ["store a"]);
    let (mut b, mut c) = (play.add("b", 1), play.add("c", 1));
    assert_eq!(play.does(1), [""; 0], "one at a time");
    assert_eq!(answer(&mut a), None);
    play.stored(3);
    assert_eq!((answer(&mut a), answer(&mut b)), (Some(true), None));
    assert_eq!(play.does(3), ["store b c"], "together");
    play.stored(6);
    assert_eq!((answer(&mut b), answer(&mut c)), (Some(true), Some(true)));
    assert_eq!(play.does(6), [""; 0], "nothing is sent before it is a batch");
    assert_eq!(play.lane.take_released(), (3, 3), "what is in the journal need not be in memory");
}

#[test]
fn what_the_journal_took_bit_by_bit_is_sent_as_one_batch() {
    let mut play = Play::new(journal());
    for (word, ms) in [("a", 0), ("b", 2), ("c", 4)] {
        drop(play.add(word, ms));
        assert_eq!(play.does(ms), [format!("store {word}")]);
        play.stored(ms + 1);
    }
    assert!(play.lane.flush(FlushReason::Count));
    assert_eq!(play.does(5), ["recover"]);
    play.recovered_from(1, 6);
    assert_eq!(play.does(6), ["produce a b c"]);
    drop(play.add("d", 6));
    assert_eq!(play.does(6), ["store d"], "goes on while a batch flies");
    play.stored(7);
    play.delivered(8);
    assert_eq!(play.does(8), ["acknowledge 3"]);
    let stats = play.lane.stats();
    assert_eq!((stats.accepted, stats.delivered, stats.stored), (4, 3, 1));
    assert!(!play.lane.is_settled(), "d is still to be sent, and Kafka is there");
}

#[test]
fn a_batch_declared_while_it_is_written_is_sent_once_it_is() {
    let mut play = Play::new(journal());
    drop(play.add("a", 0));
    assert_eq!(play.does(0), ["store a"]);
    drop(play.add("b", 1));
    play.lane.flush(FlushReason::Manual);
    drop(play.add("c", 2));
    play.stored(3);
    assert_eq!(play.does(3), ["recover"], "a is part of it");
    play.recovered_from(1, 4);
    assert_eq!(play.does(4), ["produce a", "store b c"]);
    play.stored(5);
    play.delivered(6);
    assert_eq!(play.does(6), ["acknowledge 1", "recover after 1"], "and b is");
}

#[test]
fn a_journaled_batch_that_failed_is_read_again_and_counts_as_stored() {
    let mut play = Play::new(journal());
    let mut receipts = Vec::new();
    for word in ["a", "b"] {
        receipts.push(play.push_for_receipt(word, 0));
        play.does(0);
        play.stored(0);
    }
    play.lane.flush(FlushReason::Manual);
    play.does(0);
    play.recovered_from(1, 0);
    assert_eq!(receipts[1].try_outcome(), None, "it is on its way to Kafka");
    assert_eq!(play.does(0), ["produce a b"]);
    play.times_out(1);
    assert_eq!(receipts[1].try_outcome(), Some(Outcome::Stored));
    assert!(play.lane.is_settled(), "more can't be done without Kafka");
    assert_eq!(play.does(200), ["recover"]);
    play.recovered_from(1, 200);
    assert_eq!(play.does(200), ["produce a"], "Kafka may have it: it is not joined with others");
    play.delivered(201);
    assert_eq!(play.does(201), ["acknowledge 1", "recover after 1"]);
    assert_eq!(play.lane.stats().maybe_duplicated, 1);
}

#[test]
fn with_a_journal_a_lane_replays_what_kafka_was_away_for_and_not_what_has_just_come() {
    let mut play = Play::new(journal());
    let journaled = |play: &mut Play, word: &str, ms: u64| {
        play.batch(word, ms);
        assert_eq!(play.does(ms), [format!("store {word}")]);
        play.stored(ms);
    };
    journaled(&mut play, "a", 0);
    assert_eq!(play.lane.state(), LaneState::Live);
    assert_eq!(play.does(0), ["recover"]);
    play.recovered(1, 1);
    assert_eq!(play.does(1), ["produce a"]);
    play.fails(ErrorKind::Transient, 2);
    assert_eq!(play.does(2), NOTHING);
    assert_eq!(play.lane.state(), LaneState::Locked);
    play.lane.handle(Event::Link(Link::Down), at(3));
    journaled(&mut play, "b", 4);
    play.lane.handle(Event::Link(Link::Up), at(5));
    assert_eq!(play.lane.state(), LaneState::Replaying);
    assert_eq!(play.does(5), ["recover"]);
    play.recovered(1, 6);
    assert_eq!(play.does(6), ["produce a"]);
    play.delivered(7);
    assert_eq!(play.lane.state(), LaneState::Replaying);
    assert_eq!(play.does(7), ["acknowledge 1", "recover after 1"]);
    play.recovered(2, 8);
    assert_eq!(play.does(8), ["produce b"]);
    play.delivered(9);
    assert_eq!(play.lane.state(), LaneState::Live);
    play.does(9);
    journaled(&mut play, "c", 10);
    assert_eq!(play.lane.state(), LaneState::Live);
}

#[test]
fn an_event_the_journal_did_not_take_is_given_back() {
    let mut play = Play::new(journal());
    let mut a = play.add("a", 0);
    assert_eq!(play.does(0), ["store a"]);
    play.storage_is_full(1);
    assert_eq!(answer(&mut a), None, "storage is asked again");
    play.lane.abandon();
    assert_eq!(play.does(1), ["store a"]);
    play.storage_is_full(2);
    assert_eq!(answer(&mut a), Some(false));
    let stats = play.lane.stats();
    assert_eq!((stats.returned, stats.lost, play.lane.take_released()), (1, 0, (1, 1)));
}

#[test]
fn receipts_follow_their_events_through_the_journal() {
    let mut play = Play::new(journal());
    let mut receipts = Vec::new();
    for words in [&["a", "b"][..], &["c"]] {
        receipts.extend(words.iter().map(|word| play.push_for_receipt(word, 0)));
        play.does(0);
        play.stored(0);
    }
    play.lane.flush(FlushReason::Manual);
    play.does(0);
    play.recovered_from(1, 0);
    assert_eq!(play.does(0), ["produce a b c"]);
    play.delivered(1);
    let offset = |n: i64| Some(Outcome::Delivered { partition: 3, offset: Some(700 + n) });
    let outcomes: Vec<_> = receipts.iter().map(Receipt::try_outcome).collect();
    assert_eq!(outcomes, [offset(0), offset(1), offset(2)]);
}

#[test]
fn what_flies_from_storage_at_the_end_lands_and_nothing_else_is_sent() {
    let mut play = Play::with_stored("a");
    play.lane.found(1, 1);
    assert_eq!(play.does(200), ["recover"]);
    play.recovered(1, 200);
    assert_eq!(play.does(200), ["produce a"]);
    play.lane.wind_down();
    assert!(play.lane.is_settled() && !play.lane.is_at_rest());
    play.delivered(201);
    assert_eq!(play.does(201), ["acknowledge 1"]);
    assert!(play.lane.is_at_rest() && !play.lane.is_drained());
    assert_eq!(play.lane.poll_timeout(), None);
}

#[test]
fn what_is_read_from_storage_at_the_end_stays_there() {
    let mut play = Play::with_stored("a");
    for link in [Link::Down, Link::Up] {
        play.lane.handle(Event::Link(link), at(200));
    }
    assert_eq!(play.does(200), ["recover"]);
    assert!(!play.lane.is_at_rest(), "it is about to be sent");
    play.lane.wind_down();
    assert!(play.lane.is_at_rest());
    play.recovered(1, 200);
    assert_eq!(play.does(200), NOTHING);
    assert_eq!((play.lane.stats().stored, play.lane.poll_timeout()), (1, None));
}
