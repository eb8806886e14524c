//! How fast what was stored is sent.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Held, Lane};
use crate::time::Moment;

/// A token bucket that all lanes share: so many events a second may be sent, see
/// [`Limits::replay_rate`](crate::config::Limits::replay_rate).
///
/// A batch goes as a whole when its turn has come, and the next turn is as much later as its events take at that rate. Turns
/// are given in the order in which lanes ask, so that none waits for ever. What was not used is not saved up.
#[derive(Debug)]
pub struct Pace {
    events_per_second: NonZeroU32,
    /// The next turn, in microseconds.
    next: AtomicU64,
}

impl Pace {
    /// At most so many events a second.
    #[must_use]
    pub const fn new(events_per_second: NonZeroU32) -> Self {
        Self { events_per_second, next: AtomicU64::new(0) }
    }

    /// When a batch of so many events may be sent; that turn is taken.
    fn turn(&self, events: u32, now: Moment) -> Moment {
        let takes = (u64::from(events) * 1_000_000).div_ceil(u64::from(self.events_per_second.get()));
        let turn = |next: u64| next.max(now.as_micros());
        let taken = self.next.fetch_update(Relaxed, Relaxed, |next| Some(turn(next).saturating_add(takes)));
        // It always says what comes next.
        Moment::from_micros(taken.map_or(0, turn))
    }
}

impl Lane {
    /// What was stored is sent at this pace, which other lanes may share.
    #[must_use]
    pub fn with_pace(mut self, pace: Option<Arc<Pace>>) -> Self {
        self.pace = pace;
        self
    }

    /// Gives back what may be sent now; something stored may have to wait for its turn.
    pub(super) fn in_turn(&mut self, held: Held, now: Moment) -> Option<Held> {
        let (Some(pace), Some(replay)) = (&self.pace, &mut self.replay) else { return Some(held) };
        if self.is_behind && !self.winding_down && !replay.has_gone && replay.turn.take().is_none() {
            let turn = pace.turn(held.batch.len(), now);
            if turn > now {
                replay.turn = Some(turn);
                replay.parts.push_front(held);
                return None;
            }
        }
        replay.has_gone = true;
        Some(held)
    }

    /// What waits for its turn goes on waiting for Kafka: when that is back, not all lanes are to send at once.
    pub(super) fn lose_turn(&mut self) {
        let Some(replay) = self.replay.as_mut().filter(|replay| replay.turn.is_some()) else { return };
        replay.turn = None;
        let held = replay.parts.pop_front().and_then(|part| self.hold_back(part));
        self.put_back(held);
    }
}

#[cfg(test)]
mod tests {
    use super::super::expire::tests::limited;
    use super::super::tests::{NOTHING, Play, at, options};
    use super::super::{Event, Link};
    use super::*;

    #[test]
    fn each_batch_puts_the_next_off_by_as_long_as_its_events_take() {
        let pace = Pace::new(NonZeroU32::new(100).unwrap());
        assert_eq!(pace.turn(50, at(1000)), at(1000), "the first goes at once");
        assert_eq!(pace.turn(10, at(1000)), at(1500));
        assert_eq!(pace.turn(1, at(1001)), at(1600));
        assert_eq!(pace.turn(1, at(5000)), at(5000), "nothing is saved up");
        assert_eq!(pace.turn(1, at(5000)), at(5010));
        let pace = Pace::new(NonZeroU32::new(3).unwrap());
        pace.turn(1, at(0));
        assert_eq!(pace.turn(1, at(0)), Moment::from_micros(333_334), "never a little faster");
    }

    fn paced(words: &str, per_second: u32) -> Play {
        let pace = Arc::new(Pace::new(NonZeroU32::new(per_second).unwrap()));
        let mut options = options();
        options.max_batch_bytesize = std::num::NonZeroUsize::new(75).unwrap(); // one event each
        let mut play = Play::locked(options, words);
        play.lane.pace = Some(pace);
        play
    }

    #[test]
    fn what_was_stored_is_sent_at_the_pace_and_what_comes_meanwhile_behind_it() {
        let mut play = paced("a b", 2);
        play.lane.handle(Event::Link(Link::Up), at(5000));
        assert_eq!(play.does(5000), ["recover"]);
        play.recovered(1, 5000);
        assert_eq!(play.does(5000), ["produce a"]);
        play.delivered(5001);
        assert_eq!(play.does(5001), ["acknowledge 1", "recover after 1"]);
        play.recovered(2, 5002);
        assert_eq!((play.does(5002), play.timeout()), (vec![], 5500));
        play.batch("c", 5003);
        assert_eq!(play.does(5003), ["store c"]);
        play.stored(5004);
        assert_eq!(play.does(5499), NOTHING);
        assert_eq!(play.does(5500), ["produce b"]);
        play.delivered(5501);
        play.does(5501);
        play.recovered(3, 5502);
        assert_eq!((play.does(5502), play.timeout()), (vec![], 6000));
        assert_eq!(play.does(6000), ["produce c"]);
        play.delivered(6001);
        play.does(6001);
        for ms in [6002, 6003] {
            play.batch("d", ms);
            assert_eq!(play.does(ms), ["produce d"], "it is live again");
            play.delivered(ms);
        }
    }

    #[test]
    fn what_waits_for_its_turn_when_kafka_goes_away_takes_another_one() {
        let mut play = paced("a b", 2);
        play.lane.handle(Event::Link(Link::Up), at(5000));
        play.does(5000);
        play.recovered(1, 5000);
        play.does(5000);
        play.delivered(5001);
        play.does(5001);
        play.recovered(2, 5002);
        assert_eq!(play.does(5002), NOTHING);
        play.lane.handle(Event::Link(Link::Down), at(5003));
        assert_eq!((play.does(5700), play.lane.poll_timeout()), (vec![], None));
        play.lane.handle(Event::Link(Link::Up), at(5700));
        assert_eq!(play.does(5700), ["recover after 1"]);
        play.recovered(2, 5700);
        assert_eq!((play.does(5700), play.timeout()), (vec![], 6000));
        assert_eq!(play.does(6000), ["produce b"]);
    }

    #[test]
    fn lanes_share_the_pace_and_what_is_too_old_takes_none_of_it() {
        let mut first = paced("a", 2);
        let mut second = Play::locked(limited(), "b c");
        second.lane.pace = first.lane.pace.clone();
        first.lane.handle(Event::Link(Link::Up), at(10_500));
        first.does(10_500);
        first.recovered(1, 10_500);
        assert_eq!(first.does(10_500), ["produce a"]);
        second.lane.handle(Event::Link(Link::Up), at(10_500));
        second.does(10_500);
        second.recovered_from(1, 10_500);
        assert_eq!(second.does(10_500), ["bury b"]);
        second.buried(10_501);
        assert_eq!((second.does(10_501), second.timeout()), (vec![], 11_000));
        // Past its age while it waited for its turn.
        assert_eq!(second.does(11_000), ["bury c"]);
    }

    #[test]
    fn a_batch_that_is_cut_takes_one_turn() {
        let mut play = Play::locked(options(), "a");
        play.accept("b c", 1000);
        play.does(1000);
        play.stored(1000);
        play.lane.pace = Some(Arc::new(Pace::new(NonZeroU32::new(1).unwrap())));
        play.lane.handle(Event::Link(Link::Up), at(5000));
        play.does(5000);
        play.recovered_from(1, 5000);
        assert_eq!(play.does(5000), ["produce a b c"]);
        play.fails(crate::producer::ErrorKind::TooLarge, 5001);
        assert_eq!(play.does(5001), ["produce a"]);
        play.delivered(5002);
        assert_eq!(play.does(5002), ["produce b c"]);
    }

    #[test]
    fn a_journal_goes_at_its_own_pace_once_it_has_caught_up() {
        let mut play = paced("a", 1);
        play.lane.options.journal = true;
        let sent = |play: &mut Play, word: &str, entry: usize, ms: u64| {
            play.batch(word, ms);
            assert_eq!(play.does(ms).last(), Some(&format!("store {word}")));
            play.stored(ms);
            assert_eq!(play.does(ms).last().map(|did| did.starts_with("recover")), Some(true), "{word}");
            play.recovered(entry, ms);
            assert_eq!(play.does(ms), [format!("produce {word}")]);
            play.delivered(ms);
        };
        play.lane.handle(Event::Link(Link::Up), at(5000));
        play.does(5000);
        play.recovered(1, 5000);
        assert_eq!(play.does(5000), ["produce a"]);
        play.delivered(5000);
        assert_eq!(play.does(5000), ["acknowledge 1"]);
        sent(&mut play, "b", 2, 5001);
        sent(&mut play, "c", 3, 5002);
    }
}
