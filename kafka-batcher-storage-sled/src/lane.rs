//! What is known of a lane while the spool is open: counts, not records.

use std::collections::VecDeque;

use crate::marks::Mark;
use crate::record::{Count, Stored};

/// So many places of records read lately are remembered, so that acknowledging them reads nothing.
const RECENT: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) mark: Mark,
    /// What the next record gets; ahead of the mark while a group is being written.
    pub(crate) next_seq: u64,
    pub(crate) next_count: Count,
    /// Up to here everything was seen, or is known to be lost.
    verified: (u64, Count),
    /// Losses that are not yet acknowledged over: what was lost, and up to which record.
    losses: Vec<(u64, Count)>,
    recent: VecDeque<(u64, Count)>,
}

impl Lane {
    pub(crate) fn new(mark: Mark) -> Self {
        Self {
            next_seq: mark.high.max(mark.voids.iter().map(|(_, to)| *to).max().unwrap_or(0)) + 1,
            next_count: mark.high_count,
            verified: (mark.acked, mark.acked_count),
            losses: Vec::new(),
            recent: VecDeque::new(),
            mark,
        }
    }

    /// What is there.
    pub(crate) fn usage(&self) -> Count {
        let lost = self.losses.iter().fold(Count::default(), |sum, (_, lost)| sum.plus(*lost));
        self.mark.high_count.minus(self.mark.acked_count).minus(lost)
    }

    /// Takes note that behind `from` the first record is `record`, or that up to `high` there is none.
    ///
    /// Gives what turns out to be missing: the counts of neighbours must follow on each other.
    pub(crate) fn saw(&mut self, from: u64, high: (u64, Count), record: Option<&Stored>) -> Option<Count> {
        if let Some(record) = record {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((record.place.seq, record.after()));
        }
        let (lost, seq, after) = self.missing(from, high, record)?;
        self.verified = (seq, after);
        if lost.batches == 0 {
            return None;
        }
        let end = if record.is_some() { seq - 1 } else { seq };
        self.losses.push((end, lost));
        Some(lost)
    }

    /// Everything behind what the lane had taken up to `last` is gone. Gives what was not known to be.
    pub(crate) fn end_is_lost(&mut self, last: Count) -> Option<Count> {
        let lost = self.mark.high_count.minus(last);
        let known = self.losses.iter().any(|(end, _)| *end >= self.mark.high);
        if known || lost.batches == 0 {
            return None;
        }
        self.losses.push((self.mark.high, lost));
        Some(lost)
    }

    /// What is missing between what was seen so far and this record, and where that leaves the lane; `None` when this
    /// does not follow on what was seen.
    fn missing(&self, from: u64, high: (u64, Count), record: Option<&Stored>) -> Option<(Count, u64, Count)> {
        let (seq, before, after) = match record {
            Some(record) => (record.place.seq, record.before, record.after()),
            None => (high.0, high.1, high.1),
        };
        if from > self.verified.0 || seq <= self.verified.0 {
            return None;
        }
        let known = self.losses.iter().filter(|(end, _)| *end > self.verified.0 && *end <= seq);
        let known = known.fold(Count::default(), |sum, (_, lost)| sum.plus(*lost));
        let lost = before.minus(self.verified.1).minus(known);
        Some((lost, seq, after))
    }

    /// Whether [`saw`](Self::saw) would find something missing.
    pub(crate) fn would_lose(&self, from: u64, high: (u64, Count), record: Option<&Stored>) -> bool {
        self.missing(from, high, record).is_some_and(|(lost, ..)| lost.batches > 0)
    }

    /// What the lane had taken up to a record that was read lately.
    pub(crate) fn recent_count(&self, seq: u64) -> Option<Count> {
        if seq >= self.mark.high {
            return Some(self.mark.high_count);
        }
        self.recent.iter().find(|(recent, _)| *recent == seq).map(|(_, count)| *count)
    }

    /// Everything up to `seq` is done with.
    pub(crate) fn acknowledge(&mut self, seq: u64, count: Count) {
        self.mark.acked = seq;
        self.mark.acked_count = count;
        self.mark.prune();
        if self.verified.0 < seq {
            self.verified = (seq, count);
        }
        self.losses.retain(|(end, _)| *end > seq);
        self.recent.retain(|(recent, _)| *recent > seq);
    }
}

#[cfg(test)]
mod tests {
    use kafka_batcher_core::LaneId;

    use super::*;
    use crate::record::{Kind, Place};

    fn count(n: u64) -> Count {
        Count { batches: n, events: 2 * n, bytes: 3 * n }
    }

    fn record(seq: u64) -> Stored {
        Stored {
            place: Place { kind: Kind::Batch, lane: 1, seq },
            maybe: false,
            before: count(seq - 1),
            acked: 0,
            stored_at: 0,
            events: 2,
            lane: LaneId::unassigned("t"),
            body: vec![0; 3].into(),
        }
    }

    fn lane() -> Lane {
        Lane::new(Mark { high: 10, high_count: count(10), ..Mark::default() })
    }

    const HIGH: (u64, Count) = (10, Count { batches: 10, events: 20, bytes: 30 });

    #[test]
    fn a_gap_is_counted_once() {
        let mut lane = lane();
        assert_eq!(lane.saw(0, HIGH, Some(&record(1))), None);
        assert_eq!(lane.saw(1, HIGH, Some(&record(4))), Some(count(2)));
        assert_eq!(lane.saw(1, HIGH, Some(&record(4))), None);
        assert_eq!(lane.usage(), count(8));
        assert_eq!(lane.saw(4, HIGH, None), Some(count(6)));
        assert_eq!(lane.saw(4, HIGH, None), None);
        assert_eq!(lane.usage(), count(2));
        lane.acknowledge(4, count(4));
        assert_eq!(lane.usage(), count(0));
    }

    #[test]
    fn what_is_skipped_is_not_lost() {
        let mut lane = lane();
        assert_eq!(lane.saw(5, HIGH, Some(&record(6))), None);
        assert_eq!(lane.saw(0, HIGH, Some(&record(1))), None);
        assert_eq!(lane.usage(), count(10));
    }

    #[test]
    fn what_was_read_lately_can_be_acknowledged_without_reading() {
        let mut lane = lane();
        lane.saw(0, HIGH, Some(&record(1)));
        assert_eq!(lane.recent_count(1), Some(count(1)));
        assert_eq!(lane.recent_count(2), None);
        assert_eq!(lane.recent_count(99), Some(count(10)));
    }
}
