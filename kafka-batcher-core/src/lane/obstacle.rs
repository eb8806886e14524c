//! Whether the lane takes new events, for those who ask before they send some.

use super::Lane;
use crate::config::OnUnavailable;
use crate::health::Obstacle;
use crate::time::Moment;

impl Lane {
    /// Why a new event would be refused or held up now, as far as is known without one. Storage that has not answered for
    /// a [`recheck_interval`](crate::config::Timing::recheck_interval) counts as failing.
    #[must_use]
    pub fn obstacle(&self, now: Moment) -> Option<Obstacle> {
        if self.is_locked() && self.options.on_unavailable == OnUnavailable::Reject {
            Some(Obstacle::Unavailable)
        } else if self.cannot_bury() && self.dead.iter().any(|dead| dead.held.entry.is_none()) {
            // What is dead and not in storage: nothing may be stored before it, either.
            Some(Obstacle::DeadLetters)
        } else if !self.is_storing() {
            None
        } else if self.full.is_some() {
            Some(Obstacle::StorageFull)
        } else {
            let is_silent =
                self.storage_asked.is_some_and(|asked| now.since(asked) > self.options.recheck_interval);
            (self.storage_pause.is_some() || is_silent).then_some(Obstacle::StorageFailed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOTHING, Play, at, options};
    use crate::config::OnUnavailable;
    use crate::health::Obstacle;
    use crate::lane::{Event, LaneOptions, Link};
    use crate::producer::ErrorKind;
    use crate::snapshot::LaneState;
    use crate::storage::StorageError;

    fn play(on_unavailable: OnUnavailable) -> Play {
        Play::new(LaneOptions { on_unavailable, ..options() })
    }

    #[test]
    fn an_outage_is_an_obstacle_only_where_events_are_handed_back() {
        for (what, obstacle) in
            [(OnUnavailable::Store, None), (OnUnavailable::Reject, Some(Obstacle::Unavailable))]
        {
            let mut play = play(what);
            assert_eq!(play.lane.obstacle(at(0)), None, "nobody has tried yet");
            play.lane.handle(Event::Link(Link::Down), at(0));
            assert_eq!(play.lane.obstacle(at(0)), obstacle);
            play.lane.handle(Event::Link(Link::Up), at(1));
            assert_eq!(play.lane.obstacle(at(1)), None);
        }
    }

    #[test]
    fn storage_is_an_obstacle_while_it_is_needed_and_does_not_take_what_it_is_given() {
        let mut play = play(OnUnavailable::Store);
        play.lane.handle(Event::Link(Link::Down), at(0));
        play.batch("a", 0);
        assert_eq!(play.does(0), ["store a"]);
        play.storage_is_full(1);
        assert_eq!(play.lane.obstacle(at(1)), Some(Obstacle::StorageFull));
        let retry = play.timeout();
        assert_eq!(play.does(retry), ["store a"]);
        let broken = StorageError::Failed("no such device".to_owned());
        play.lane.handle(Event::Stored(Ok(crate::storage::EntryId(1))), at(retry));
        assert_eq!(play.lane.obstacle(at(retry)), None);
        play.batch("b", retry + 100);
        assert_eq!(play.does(retry + 100), ["store b"]);
        play.lane.handle(Event::Stored(Err(broken)), at(retry + 101));
        assert_eq!(play.lane.obstacle(at(retry + 101)), Some(Obstacle::StorageFailed));
    }

    #[test]
    fn storage_that_does_not_answer_counts_as_failing_after_a_while() {
        let mut play = play(OnUnavailable::Store);
        let late = options().recheck_interval;
        play.lane.handle(Event::Link(Link::Down), at(0));
        play.batch("a", 10);
        assert_eq!(play.does(10), ["store a"]);
        assert_eq!(play.does(20), NOTHING);
        assert_eq!(play.lane.obstacle(at(10) + late), None);
        assert_eq!(play.lane.obstacle(at(11) + late), Some(Obstacle::StorageFailed));
        play.stored(9000);
        assert_eq!(play.lane.obstacle(at(9000)), None);
        play.lane.handle(Event::Link(Link::Up), at(9000));
        assert_eq!(play.does(9000), ["recover"]);
        assert_eq!(play.lane.obstacle(at(9000) + late), None, "it counts from this call on");
        assert_eq!(play.lane.obstacle(at(9001) + late), Some(Obstacle::StorageFailed));
        play.recovered(1, 15_000);
        assert_eq!(play.lane.obstacle(at(15_000)), None);
    }

    #[test]
    fn dead_letters_that_are_not_taken_are_an_obstacle_unless_what_comes_is_stored_behind_them() {
        let mut play = play(OnUnavailable::Store);
        play.batch("a", 0);
        play.does(0);
        play.fails(ErrorKind::Permanent, 1);
        assert_eq!(play.does(1), ["bury a"]);
        assert_eq!((play.lane.obstacle(at(1)), play.lane.state()), (None, LaneState::Live));
        play.burial_fails_after(0, 2);
        play.batch("b", 3);
        assert_eq!(play.does(3), NOTHING);
        let stuck = (Some(Obstacle::DeadLetters), LaneState::Locked);
        assert_eq!((play.lane.obstacle(at(3)), play.lane.state()), stuck);
        let retry = play.timeout();
        assert_eq!(play.does(retry), ["bury a"]);
        assert_eq!((play.lane.obstacle(at(retry)), play.lane.state()), stuck, "until it has succeeded");
        play.buried(retry);
        assert_eq!((play.lane.obstacle(at(retry)), play.lane.state()), (None, LaneState::Live));
        assert_eq!(play.does(retry), ["produce b"]);

        let mut play = Play::with_stored("a");
        assert_eq!(play.does(200), ["recover"]);
        play.recovered(1, 200);
        play.does(200);
        play.fails(ErrorKind::Permanent, 201);
        assert_eq!(play.does(201), ["bury a"]);
        play.burial_fails_after(0, 202);
        play.batch("b", 203);
        assert_eq!(play.does(1203), ["bury a", "store b"]);
        assert_eq!((play.lane.obstacle(at(1203)), play.lane.state()), (None, LaneState::Locked));
    }
}
