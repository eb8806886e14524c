//! What opening and reading found out about the state of the spool.

use std::path::PathBuf;

use kafka_batcher_core::{EntryId, LaneId};

use crate::TARGET;
use crate::record::Count;

/// Most losses that are told one by one; the sums count all of them.
const TOLD: usize = 1000;

/// What was found on opening, and since: repairs, and what could not be saved.
///
/// Nothing is lost but by a damaged disk or somebody's hand: a killed process and, at level
/// [`Durability::Disk`](crate::Durability::Disk), a power cut leave none of this but `half_written`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Half-written things of a process that was killed, removed; nothing that was promised was in them.
    pub half_written: u64,
    /// Damaged folders, renamed aside and kept. What was readable in them was saved.
    pub quarantined: Vec<PathBuf>,
    /// Batches and dead letters saved out of damaged folders.
    pub salvaged: u64,
    /// The marks were damaged or missing: some of what was acknowledged may come again, and the end of a lane that
    /// is missing may go unnoticed.
    pub marks_damaged: bool,
    /// Batches that are lost.
    pub lost_batches: u64,
    /// Events that are lost.
    pub lost_events: u64,
    /// Dead letters that are lost.
    pub lost_dead_letters: u64,
    /// Dead letters removed for their age.
    pub expired_dead_letters: u64,
    /// The losses one by one, up to 1,000.
    pub losses: Vec<Loss>,
}

/// A loss: neighbouring batches of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Of which lane; `None` for dead letters.
    pub lane: Option<LaneId>,
    /// Behind which entry.
    pub after: EntryId,
    /// How many batches, or dead letters.
    pub batches: u64,
    /// How many events.
    pub events: u64,
    /// Their bytes, encoded.
    pub bytes: u64,
}

impl Recovery {
    /// Whether everything was as it should be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let Self { quarantined, marks_damaged, lost_batches, lost_dead_letters, .. } = self;
        quarantined.is_empty() && !marks_damaged && *lost_batches == 0 && *lost_dead_letters == 0
    }

    pub(crate) fn lose(&mut self, lane: Option<LaneId>, after: u64, lost: Count) {
        let Count { batches, events, bytes } = lost;
        match &lane {
            Some(lane) => {
                tracing::error!(target: TARGET, %lane, after, batches, events, "stored batches are lost");
                self.lost_batches += batches;
                self.lost_events += events;
            }
            None => {
                tracing::error!(target: TARGET, after, records = batches, "stored dead letters are lost");
                self.lost_dead_letters += batches;
            }
        }
        if self.losses.len() < TOLD {
            self.losses.push(Loss { lane, after: EntryId(after), batches, events, bytes });
        }
    }
}
