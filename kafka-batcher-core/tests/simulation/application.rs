//! The application: adds events, as the driver's collector handle does.

use kafka_batcher_core::config::{OnStorageFull, OnUnavailable};
use kafka_batcher_core::lane::{Lane, PushError};
use kafka_batcher_core::shard::{Stamps, Target};
use kafka_batcher_core::{EventRef, FlushReason};

use super::process::{Process, Signal};
use super::world::{World, note};

/// Where an event is to go.
enum Goal {
    Lane(usize),
    Spread,
}

impl World {
    /// Sometimes another task adds an event just when the driver is at something.
    pub(crate) fn slip_in(&mut self) {
        if !self.quiet && self.dice.chance(2) {
            self.add();
        }
    }

    /// Adds an event, unless it is refused; says whether it was accepted.
    pub(crate) fn add(&mut self) -> Option<u64> {
        let draft = self.ledger.draft(&self.plan, &mut self.dice);
        let now = self.now;
        let plan = &self.plan;
        let process = self.process.as_mut().filter(|process| !process.closed)?;
        let record = draft.record.as_ref();
        let event = EventRef::of_record(record);
        let Process { router, cells, budget, .. } = process;
        // In accumulators per partition, a batch may make `sticky` move on.
        let mut spread = None;
        let (cell, goal) = match process.partitions.filter(|_| process.direct) {
            None => (0, Goal::Lane(0)),
            Some(partitions) => {
                // The application is told of a partitioner that goes astray.
                let assigned = router.assigned(partitions, &event).ok()?;
                match assigned {
                    _ if plan.topic.collect_by_partition => {
                        spread = Some(partitions).filter(|_| assigned.is_none());
                        let partition = assigned.unwrap_or_else(|| router.spread(partitions));
                        (1 + partition as usize, Goal::Lane(0))
                    }
                    Some(partition) => (1, Goal::Lane(partition as usize)),
                    None => (1, Goal::Spread),
                }
            }
        };
        let cost = record.size_hint();
        if !budget.try_take(cost) {
            *self.tally.entry("memory full").or_default() += 1;
            if !std::mem::replace(&mut process.pressed, true) {
                self.signal(Signal::Flush(FlushReason::Pressure));
            }
            return None;
        }
        let accepted = |cell: &super::process::Cell| -> Vec<u64> {
            cell.shard.lanes().iter().map(|lane| lane.stats().accepted).collect()
        };
        let before = accepted(&cells[cell]);
        let target = match goal {
            Goal::Lane(lane) => Target::Lane(lane),
            Goal::Spread => Target::Spread(router),
        };
        let timestamp = self.wall_clock.unix_millis(now);
        let stamps = Stamps { timestamp, cost, receipt: draft.receipt, now };
        let result = cells[cell].shard.push(target, &record, stamps, draft.flush);
        let lane = before.iter().zip(accepted(&cells[cell])).position(|(before, after)| *before != after);
        let taken = match (result, lane) {
            (Ok(taken), Some(lane)) => (taken, lane),
            (Ok(_), None) => panic!("an event was accepted and no lane has it"),
            (Err(error), None) => {
                budget.give_back(cost, 1);
                match error {
                    PushError::TooLarge { size, limit } => {
                        *self.tally.entry("event too large").or_default() += 1;
                        assert!(size > limit && limit == plan.topic.max_batch_bytesize.get(), "{error}");
                    }
                    PushError::Unavailable => {
                        *self.tally.entry("event rejected").or_default() += 1;
                        let locked = cells[cell].shard.lanes().iter().any(Lane::is_locked);
                        assert!(plan.topic.on_unavailable == OnUnavailable::Reject && locked, "{error}");
                    }
                    PushError::StorageFull { .. } => {
                        *self.tally.entry("event rejected, storage full").or_default() += 1;
                        let recheck = plan.timing.recheck_interval;
                        let is_full = |view: &super::process::View| {
                            let waits = view.appending.is_some() || !view.idle.is_empty() || view.recovering;
                            view.full.is_some_and(|at| waits || now <= at + recheck)
                        };
                        let full = process.cells[cell].views.iter().any(is_full);
                        assert!(plan.topic.on_storage_full == OnStorageFull::Reject && full, "{error}");
                    }
                    other => panic!("{other}"),
                }
                return None;
            }
            (Err(error), Some(_)) => panic!("an event was refused ({error}) and kept all the same"),
        };
        let (taken, lane) = taken;
        match spread {
            Some(partitions) if taken.filled => router.batch_left(partitions),
            Some(partitions) if taken.first => router.batch_began(partitions),
            _ => {}
        }
        assert_eq!(taken.receipt.is_some(), draft.receipt);
        assert_eq!(taken.journaled.is_some(), self.plan.journal);
        let id = self.ledger.accepted(draft, taken.receipt, taken.journaled, timestamp);
        process.cells[cell].views[lane].idle.insert(id, now);
        note!(
            self,
            "{id} is added to {:?}, wake: {}",
            self.process.as_ref().map(|p| p.cells[cell].views[lane].partition),
            taken.wake
        );
        if taken.wake {
            let signalled = &mut self.process().cells[cell].signalled;
            if !std::mem::replace(signalled, true) {
                self.signal(Signal::Poll(cell));
            }
        }
        Some(id)
    }
}
