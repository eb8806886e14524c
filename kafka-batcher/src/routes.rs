//! Where a topic's events go, read by every call that adds one and changed a few times in a batcher's life.
//!
//! Reading takes no lock and touches nothing that other tasks write: the tables form a list, each
//! pointing to the one that replaced it, and a reader walks to the end. What makes a change safe is
//! the lane's own lock: each [`Cell`] accepts events only from readers of the table it was
//! [admitted](Cell::admit) to, so a reader that was overtaken by a change is turned away and looks again.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use kafka_batcher_core::shard::Shard;
use parking_lot::{Mutex, MutexGuard};

/// One state of affairs.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    number: u64,
    /// Events go to their partitions' lanes, and not to the unassigned one.
    pub(crate) direct: bool,
    pub(crate) partitions: Option<NonZeroU32>,
    /// One for each partition, or one for all.
    pub(crate) cells: Vec<Arc<Cell>>,
    pub(crate) closed: bool,
    next: OnceLock<Arc<Routes>>,
}

/// The tables of a topic, from the first to the current one.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    first: Routes,
    publishing: Mutex<()>,
}

impl RouteTable {
    /// The current table.
    #[inline]
    pub(crate) fn current(&self) -> &Routes {
        let mut routes = &self.first;
        while let Some(next) = routes.next.get() {
            routes = next;
        }
        routes
    }

    /// Replaces the current table by a changed one; gives its number.
    fn publish(&self, change: impl FnOnce(&mut Routes)) -> u64 {
        let _one_at_a_time = self.publishing.lock();
        let now = self.current();
        let mut next = Routes {
            number: now.number + 1,
            direct: now.direct,
            partitions: now.partitions,
            cells: now.cells.clone(),
            closed: now.closed,
            next: OnceLock::new(),
        };
        change(&mut next);
        let number = next.number;
        // Only one publishes, so the place behind the last is free.
        now.next.get_or_init(|| Arc::new(next));
        number
    }

    /// From now on events go to the unassigned lane; once this returns, none gets into the others any more.
    pub(crate) fn divert(&self, unassigned: &Cell, change: impl FnOnce(&mut Routes)) {
        {
            let _shard = unassigned.shard.lock();
            let number = self.publish(|routes| {
                routes.direct = false;
                change(routes);
            });
            unassigned.admit(number);
        }
        self.current().cells.iter().for_each(|cell| cell.shut());
    }

    /// From now on events go to the partitions' lanes, if `empty` says so of the unassigned one; then
    /// none gets into that one any more.
    pub(crate) fn go_live(&self, unassigned: &Cell, empty: impl FnOnce(&Shard) -> bool) -> bool {
        let shard = unassigned.shard.lock();
        if !empty(&shard) {
            return false;
        }
        let number = self.publish(|routes| routes.direct = true);
        // A reader of the new table that comes too early looks again.
        self.current().cells.iter().for_each(|cell| cell.admit(number));
        unassigned.number.store(SHUT, Ordering::Relaxed);
        true
    }

    /// From now on no event is accepted; once this returns, none is on its way in.
    pub(crate) fn close(&self, unassigned: &Cell) {
        self.publish(|routes| routes.closed = true);
        unassigned.shut();
        self.current().cells.iter().for_each(|cell| cell.shut());
    }
}

/// The number of no table.
const SHUT: u64 = u64::MAX;

/// A shard behind its lock.
#[derive(Debug)]
pub(crate) struct Cell {
    /// Its place among the reactor's cells.
    pub(crate) index: usize,
    pub(crate) shard: Mutex<Shard>,
    /// The table whose readers may push. Checked under the lock.
    number: AtomicU64,
    /// The reactor has been told to poll it.
    pub(crate) signalled: AtomicBool,
}

impl Cell {
    /// A cell that accepts events from readers of the first table if it is the unassigned one, and none otherwise.
    pub(crate) fn new(index: usize, shard: Shard) -> Arc<Self> {
        let number = AtomicU64::new(if index == 0 { 0 } else { SHUT });
        Arc::new(Self { index, shard: Mutex::new(shard), number, signalled: AtomicBool::new(false) })
    }

    /// The shard, if it takes events from readers of `routes`.
    #[inline]
    pub(crate) fn enter(&self, routes: &Routes) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shard.lock();
        // Relaxed is enough: it is shut under this lock.
        (self.number.load(Ordering::Relaxed) == routes.number).then_some(shard)
    }

    fn admit(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }

    fn shut(&self) {
        let _shard = self.shard.lock();
        self.number.store(SHUT, Ordering::Relaxed);
    }
}
