//! What is older than `max_age` is not sent: it goes to the dead letters.
//!
//! Each batch is looked at just before it is sent, and parts with what is too old. While nothing can be sent, the oldest
//! stored batch is looked at when all of it is too old, so that storage does not keep for ever what nobody wants any more.

use std::time::Duration;

use super::{Action, Dead, Held, Lane, StorageOp, produce::part};
use crate::producer::ErrorKind;
use crate::record::RecordRef;
use crate::storage::{EntryId, StoredBatch};
use crate::time::{Moment, WallClock};

/// Most records that are put to the dead letters by one action.
const AT_ONCE: usize = 256;

impl Lane {
    /// What the wall clock shows; to be told before it is polled, and whenever the clock was set.
    pub const fn set_wall_clock(&mut self, clock: WallClock) {
        self.wall_clock = clock;
    }

    /// When a record with this timestamp is too old; `None` for never.
    fn expires(&self, timestamp: i64) -> Option<Moment> {
        let age = i64::try_from(self.options.max_age?.as_micros().div_ceil(1000)).unwrap_or(i64::MAX);
        Some(self.wall_clock.moment(timestamp.saturating_add(age)))
    }

    fn is_expired(&self, timestamp: i64, now: Moment) -> bool {
        self.expires(timestamp).is_some_and(|at| now >= at)
    }

    /// Parts with the records that are too old; gives those that are not.
    pub(super) fn without_expired(&mut self, held: Held, now: Moment) -> Option<Held> {
        if self.options.max_age.is_none() {
            return Some(held);
        }
        let count = held.batch.len();
        let is_expired = |record: &RecordRef<'_>| self.is_expired(record.timestamp.unwrap_or(i64::MAX), now);
        let expired: Vec<u32> = if self.is_expired(held.batch.max_timestamp(), now) {
            (0..count).collect()
        } else if held.batch.identity().is_some() {
            Vec::new() // it stays what it is
        } else {
            (0..).zip(held.batch.records()).filter(|(_, record)| is_expired(record)).map(|(i, _)| i).collect()
        };
        if expired.is_empty() {
            return Some(held);
        }
        let kept: Vec<u32> = (0..count).filter(|index| expired.binary_search(index).is_err()).collect();
        let (rest, mut cost) = if kept.is_empty() { (None, 0) } else { part(&held, &kept) };
        for (nth, few) in (1..).zip(expired.chunks(AT_ONCE)) {
            let (Some(few), share) = part(&held, few) else { continue };
            // The last one takes what the division has left of the cost.
            let last = nth == expired.len().div_ceil(AT_ONCE);
            let share = if last { held.cost - cost } else { share };
            cost += share;
            self.bury_expired(Held { cost: share, ..few }, now);
        }
        rest
    }

    fn bury_expired(&mut self, held: Held, now: Moment) {
        let oldest = held.batch.records().filter_map(|record| record.timestamp).min().unwrap_or(i64::MAX);
        let up_to = if held.batch.len() > 1 { "up to " } else { "" };
        let error = format!("{up_to}{}", self.too_old(oldest, &held, now));
        self.dead.push_back(Dead { held, kind: ErrorKind::Expired, error, asked: false });
    }

    /// Why a record of it with this timestamp is not sent.
    pub(super) fn too_old(&self, timestamp: i64, held: &Held, now: Moment) -> String {
        let age = self.wall_clock.unix_millis(now).saturating_sub(timestamp);
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        let doubt = if held.maybe { "; Kafka may have it already" } else { "" };
        format!("{age:?} old, max_age is {:?}{doubt}", self.options.max_age.unwrap_or_default())
    }

    /// While nothing can be sent: buries the oldest of what is stored, if all of it is too old.
    pub(super) fn poll_expire(&mut self, now: Moment) -> Option<Action> {
        if !self.may_expire() || self.expire_timeout().is_none_or(|at| now < at) {
            return None;
        }
        if let Some(part) = self.replay.as_mut().and_then(|replay| replay.parts.pop_front()) {
            let rest = self.without_expired(part, now);
            self.put_back(rest);
            return self.poll_dead_letter(now);
        }
        self.storage_op = Some(StorageOp::Look);
        Some(Action::Recover { after: self.cursor, max_bytes: self.options.max_batch_bytesize.get() })
    }

    const fn may_expire(&self) -> bool {
        self.options.max_age.is_some()
            && self.stored_batches > 0
            && self.is_locked()
            && !self.abandoned
            && !self.winding_down
            && self.storage_op.is_none()
    }

    /// When [`poll_expire`](Self::poll_expire) has to be tried again by itself.
    pub(super) fn expire_timeout(&self) -> Option<Moment> {
        if !self.may_expire() || !self.dead.is_empty() || !self.flights.is_empty() {
            return None;
        }
        match &self.replay {
            Some(replay) => self.expires(replay.parts.front()?.batch.max_timestamp()),
            None => {
                self.front.map_or(Some(Moment::ZERO), |front| self.expires(front)).max(self.storage_pause)
            }
        }
    }

    /// Of what was read and can't be sent now, keeps those batches at the front that are too old; the others are
    /// read again when it is time.
    pub(super) fn keep_expired(&self, entries: &mut Vec<(EntryId, StoredBatch)>, now: Moment) {
        let is_expired = |stored: &StoredBatch| self.is_expired(stored.batch.max_timestamp(), now);
        let count = entries.iter().take_while(|(_, stored)| is_expired(stored)).count();
        entries.truncate(count);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{NOTHING, Play, at, options};
    use super::*;
    use crate::accumulator::FlushReason;
    use crate::batch::Identity;
    use crate::lane::{Event, LaneOptions, Link};
    use crate::notifier::{Trouble, What};
    use crate::receipt::Outcome;
    use crate::record::Record;

    /// Events are too old after 10 s. The wall clock shows the time since the beginning.
    pub(in crate::lane) fn limited() -> LaneOptions {
        LaneOptions { max_age: Some(Duration::from_secs(10)), ..options() }
    }

    impl Play {
        /// Accepts a batch of these words, now.
        pub(in crate::lane) fn accept(&mut self, words: &str, ms: u64) {
            for word in words.split(' ') {
                let record = Record::new(word.to_owned());
                self.lane.push(&record.as_ref(), ms as i64, 1, false, at(ms)).unwrap();
            }
            self.lane.flush(FlushReason::Manual);
        }

        /// A lane that waits for Kafka and has stored a batch of each of these words, of 0, 1000, 2000 ms and so on.
        pub(in crate::lane) fn locked(options: LaneOptions, words: &str) -> Self {
            let mut play = Self::new(options);
            play.lane.handle(Event::Link(Link::Down), at(0));
            for (second, word) in (0..).zip(words.split(' ')) {
                play.accept(word, second * 1000);
                assert_eq!(play.does(second * 1000), [format!("store {word}")]);
                play.stored(second * 1000);
            }
            play
        }

        fn figures(&self) -> (u64, u64, u64) {
            let stats = self.lane.stats();
            (stats.delivered, stats.dead_lettered, stats.stored)
        }
    }

    #[test]
    fn what_is_too_old_when_it_comes_to_be_sent_is_buried_and_the_others_are_sent() {
        let mut play = Play::new(limited());
        play.lane.handle(Event::Link(Link::Unknown), at(0));
        play.accept("a", 0);
        play.accept("b c", 5000);
        play.lane.handle(Event::Link(Link::Up), at(10_000));
        assert_eq!(play.does(10_000), ["produce b c", "bury a"]);
        let (kind, error) = &play.errors[0];
        assert_eq!((*kind, error.as_str()), (ErrorKind::Expired, "10s old, max_age is 10s"));
        play.delivered(10_001);
        play.accept("d", 10_001);
        assert_eq!(play.does(10_001), NOTHING, "it waits until that is safe");
        play.buried(10_002);
        assert_eq!(play.does(10_002), ["produce d"]);
        play.delivered(10_003);
        assert_eq!(play.figures(), (3, 1, 0));
        assert_eq!(play.reports, [What::DeadLettered(ErrorKind::Expired)]);
        assert!(play.lane.is_drained());
        assert_eq!(play.lane.take_released(), (4, 4));
    }

    #[test]
    fn nothing_is_too_old_without_a_limit_or_before_its_time() {
        for (max_age, ms) in [(None, u64::MAX / 1_000_000), (limited().max_age, 9_999)] {
            let mut play = Play::locked(LaneOptions { max_age, ..limited() }, "a");
            assert_eq!(play.does(ms), NOTHING);
            play.lane.handle(Event::Link(Link::Up), at(ms));
            assert_eq!(play.does(ms), ["recover"]);
            play.recovered(1, ms);
            assert_eq!(play.does(ms), ["produce a"]);
        }
    }

    #[test]
    fn a_stored_batch_is_acknowledged_when_its_rest_is_delivered_and_the_old_are_buried() {
        let mut play = Play::locked(limited(), "a");
        play.accept("b", 1000);
        play.accept("c", 8000);
        assert_eq!(play.does(8000), ["store b c"]);
        play.stored(8000);
        play.lane.handle(Event::Link(Link::Up), at(12_000));
        assert_eq!(play.does(12_000), ["recover"]);
        play.recovered_from(1, 12_000);
        assert_eq!(play.does(12_000), ["produce c", "bury a b"]);
        play.buried(12_001);
        assert_eq!(play.does(12_001), NOTHING);
        play.delivered(12_002);
        assert_eq!(play.does(12_002), ["acknowledge 2"]);
        assert_eq!(play.figures(), (1, 2, 0));
    }

    #[test]
    fn a_locked_lane_buries_its_oldest_batches_when_all_of_them_is_too_old() {
        let mut play = Play::locked(limited(), "a b c");
        assert_eq!(play.timeout(), 10_000);
        assert_eq!(play.does(9_999), NOTHING, "storage is not read before it is time");
        assert_eq!(play.does(11_500), ["recover"]);
        play.recovered_from(1, 11_500);
        assert_eq!(play.does(11_500), ["bury a b"]);
        assert_eq!(play.errors[1].1, "10.5s old, max_age is 10s", "each its own age");
        play.buried(11_501);
        assert_eq!(play.does(11_501), ["acknowledge 2", "recover after 2"]);
        play.recovered(3, 11_501);
        assert_eq!((play.does(11_501), play.timeout()), (vec![], 12_000));
        assert_eq!(play.figures(), (0, 2, 1));
        play.lane.handle(Event::Link(Link::Up), at(11_600));
        assert_eq!(play.does(11_600), ["recover after 2"]);
        play.recovered(3, 11_600);
        assert_eq!(play.does(11_600), ["produce c"], "it is young enough");
    }

    #[test]
    fn what_an_earlier_process_left_is_looked_at_too() {
        let former = Play::locked(limited(), "a");
        let mut play = Play::new(limited());
        play.storage = former.storage;
        play.lane.handle(Event::Link(Link::Down), at(0));
        play.lane.found(1, 1);
        play.lane.set_wall_clock(WallClock::with_origin(9_000_000));
        assert_eq!(play.does(0), ["recover"]);
        play.recovered(1, 0);
        assert_eq!((play.does(0), play.timeout()), (vec![], 1000));
        play.lane.set_wall_clock(WallClock::with_origin(60_000_000));
        assert_eq!(play.does(1), ["recover"], "the wall clock was set");
        play.recovered(1, 1);
        assert_eq!(play.does(1), ["bury a"]);
    }

    /// It is tried again for as long as it fails, and then the rest of it.
    #[test]
    fn a_sink_that_takes_some_is_asked_for_the_others_again() {
        let mut play = Play::new(limited());
        play.lane.handle(Event::Link(Link::Unknown), at(0));
        let receipts = ["a", "b", "c"].map(|word| play.push_for_receipt(word, 0));
        play.lane.flush(FlushReason::Manual);
        play.lane.handle(Event::Link(Link::Up), at(20_000));
        assert_eq!(play.does(20_000), ["bury a b c"]);
        play.burial_fails_after(1, 20_000);
        assert_eq!(play.does(20_000), NOTHING);
        let outcomes = |receipts: &[crate::receipt::Receipt]| {
            receipts.iter().map(crate::receipt::Receipt::try_outcome).collect::<Vec<_>>()
        };
        let dead = Some(Outcome::DeadLettered(ErrorKind::Expired));
        assert_eq!(outcomes(&receipts), [dead, None, None]);
        let again = play.timeout();
        assert_eq!(play.does(again), ["bury b c"]);
        play.buried(again);
        assert_eq!(outcomes(&receipts), [dead, dead, dead]);
        assert_eq!((play.figures(), play.lane.take_released()), ((0, 3, 0), (3, 3)));
        let [buried, failed] = [What::DeadLettered(ErrorKind::Expired), What::DeadLetterFailed];
        assert_eq!(play.does(again), NOTHING);
        assert_eq!(play.reports, [buried, failed, What::Recovered(Trouble::DeadLetter), buried]);
        assert!(play.lane.is_drained());
    }

    #[test]
    fn many_are_put_away_some_at_a_time() {
        let mut play = Play::new(limited());
        play.lane.handle(Event::Link(Link::Unknown), at(0));
        let words: Vec<String> = (0..AT_ONCE + 44).map(|n| n.to_string()).collect();
        play.accept(&words.join(" "), 0);
        play.lane.handle(Event::Link(Link::Up), at(20_000));
        let wanted = format!("bury {}", words[..AT_ONCE].join(" "));
        assert_eq!(play.does(20_000), [wanted]);
        play.buried(20_001);
        assert_eq!(play.does(20_001), [format!("bury {}", words[AT_ONCE..].join(" "))]);
        play.buried(20_002);
        assert_eq!(play.lane.take_released(), (words.len(), words.len()));
    }

    #[test]
    fn the_dead_letter_says_that_kafka_may_have_it() {
        let mut play = Play::new(limited());
        play.accept("a", 0);
        play.does(0);
        play.times_out(1);
        assert_eq!(play.does(1), ["store? a"]);
        play.stored(2);
        play.lane.handle(Event::Link(Link::Down), at(3));
        assert_eq!(play.does(60_000), ["recover"]);
        play.recovered(1, 60_000);
        assert_eq!(play.does(60_000), ["bury a"]);
        assert_eq!(play.errors[0].1, "60s old, max_age is 10s; Kafka may have it already");
    }

    #[test]
    fn what_kafka_may_have_is_looked_for_before_it_is_buried() {
        let mut play = Play::new(LaneOptions { reconcile: true, instance: Some([7; 16]), ..limited() });
        play.accept("a b", 0);
        play.does(0);
        play.times_out(1);
        play.does(1);
        play.stored(2);
        play.lane.handle(Event::Link(Link::Unknown), at(3));
        play.lane.handle(Event::Link(Link::Up), at(60_000));
        assert_eq!(play.does(60_000), ["recover"]);
        play.recovered(1, 60_000);
        assert_eq!(play.does(60_000), ["search for 2"]);
        play.finds(&[0], 60_001);
        assert_eq!(play.does(60_001), ["bury b"]);
        assert_eq!(play.errors[0].1, "60.001s old, max_age is 10s", "Kafka does not have it");
        play.buried(60_002);
        assert_eq!(play.does(60_002), ["acknowledge 1"]);
        assert_eq!(play.figures(), (1, 1, 0));
    }

    #[test]
    fn a_batch_with_a_number_is_never_cut() {
        let mut former = Play::new(limited());
        former.lane.handle(Event::Link(Link::Down), at(0));
        former.push("a", 0);
        former.accept("b", 5000);
        former.does(5000);
        former.stored(5000);
        let identity = Identity { producer_id: 7, producer_epoch: 1, base_sequence: 42 };
        let (id, stored) = former.storage.pop().unwrap();
        let stored = StoredBatch::new(stored.batch.stamped(identity), true);
        for (ms, wanted) in [(12_000, "produce a b"), (15_000, "bury a b")] {
            let mut play = Play::new(limited());
            play.storage.push((id, stored.clone()));
            play.lane.found(1, 2);
            assert_eq!(play.does(ms), ["recover"]);
            play.recovered(1, ms);
            assert_eq!(play.does(ms), [wanted]);
        }
    }

    /// Nobody would ever try again.
    #[test]
    fn a_lane_that_has_buried_everything_is_no_longer_locked() {
        let mut play = Play::with_stored("a");
        play.lane.options.max_age = limited().max_age;
        assert!(play.lane.is_locked());
        assert_eq!(play.does(50_000), ["recover"]);
        play.recovered(1, 50_000);
        assert_eq!(play.does(50_000), ["bury a"]);
        play.buried(50_001);
        assert_eq!(play.does(50_001), ["acknowledge 1"]);
        assert!(play.lane.is_drained() && !play.lane.is_locked());
    }

    #[test]
    fn events_behind_what_is_too_old_keep_their_order() {
        let mut play = Play::locked(limited(), "a");
        play.lane.handle(Event::Link(Link::Up), at(30_000));
        assert_eq!(play.does(30_000), ["recover"]);
        play.recovered(1, 30_000);
        play.accept("b", 30_000);
        assert_eq!(play.does(30_000), ["bury a", "store b"]);
        play.stored(30_001);
        play.accept("c", 30_001);
        assert_eq!(play.does(30_001), ["store c"], "behind b");
        play.buried(30_002);
        play.stored(30_002);
        assert_eq!(play.does(30_002), ["acknowledge 1", "recover after 1"]);
        play.recovered_from(2, 30_003);
        assert_eq!(play.does(30_003), ["produce b c"]);
    }

    #[test]
    fn an_answer_after_the_end_leaves_what_was_too_old_in_storage() {
        let mut play = Play::locked(limited(), "a");
        assert_eq!(play.does(10_000), ["recover"]);
        play.recovered(1, 10_000);
        assert_eq!(play.does(10_000), ["bury a"]);
        play.lane.abandon();
        play.buried(10_001);
        assert_eq!((play.does(10_001), play.figures()), (vec![], (0, 0, 1)));
    }
}
