//! Whether the lane takes new events, for those who ask before they send some.

use super::Lane;
use crate::config::OnUnavailable;
use crate::health::Obstacle;

impl Lane {
    /// Why a new event would be refused or held up now, as far as is known without one.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        if self.is_locked() && self.options.on_unavailable == OnUnavailable::Reject {
            Some(Obstacle::Unavailable)
        } else if !self.is_storing() {
            None
        } else if self.full.is_some() {
            Some(Obstacle::StorageFull)
        } else {
            self.storage_pause.map(|_| Obstacle::StorageFailed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Play, at, options};
    use crate::config::OnUnavailable;
    use crate::health::Obstacle;
    use crate::lane::{Event, LaneOptions, Link};
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
            assert_eq!(play.lane.obstacle(), None, "nobody has tried yet");
            play.lane.handle(Event::Link(Link::Down), at(0));
            assert_eq!(play.lane.obstacle(), obstacle);
            play.lane.handle(Event::Link(Link::Up), at(1));
            assert_eq!(play.lane.obstacle(), None);
        }
    }

    #[test]
    fn storage_is_an_obstacle_while_it_is_needed_and_does_not_take_what_it_is_given() {
        let mut play = play(OnUnavailable::Store);
        play.lane.handle(Event::Link(Link::Down), at(0));
        play.batch("a", 0);
        assert_eq!(play.does(0), ["store a"]);
        play.storage_is_full(1);
        assert_eq!(play.lane.obstacle(), Some(Obstacle::StorageFull));
        let retry = play.timeout();
        assert_eq!(play.does(retry), ["store a"]);
        let broken = StorageError::Failed("no such device".to_owned());
        play.lane.handle(Event::Stored(Ok(crate::storage::EntryId(1))), at(retry));
        assert_eq!(play.lane.obstacle(), None);
        play.batch("b", retry + 100);
        assert_eq!(play.does(retry + 100), ["store b"]);
        play.lane.handle(Event::Stored(Err(broken)), at(retry + 101));
        assert_eq!(play.lane.obstacle(), Some(Obstacle::StorageFailed));
    }
}
