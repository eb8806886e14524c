//! The suite of [`TempStorage`].

mod behind;
mod cases;
mod many;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use kafka_batcher_core::TempStorage;

use super::Skip;
pub use {behind::*, cases::*, many::*};

/// Opens storage for the suite.
#[async_trait]
pub trait StorageFixture: Send + Sync {
    /// Opens storage with nothing in it and room for about `quota` bytes of encoded batches.
    async fn open(&self, quota: u64) -> Arc<dyn TempStorage>;

    /// Ends this storage as the end of the process would, and opens what it left. Nobody else holds it.
    ///
    /// # Errors
    /// Why that can't be done.
    async fn reopen(&self, storage: Arc<dyn TempStorage>) -> Result<Arc<dyn TempStorage>, Skip> {
        let why = if storage.is_durable() { "the fixture can't open it again" } else { "it is not durable" };
        Err(Skip::new(why))
    }
}

/// A fixture for storage that does not survive its process: how it is made, for a quota in bytes.
pub struct Storage<F>(F);

impl<F> fmt::Debug for Storage<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Storage")
    }
}

impl<F, S> Storage<F>
where
    F: Fn(u64) -> S + Send + Sync,
    S: TempStorage + 'static,
{
    /// Storage made by `make`, which is given the quota.
    pub const fn new(make: F) -> Self {
        Self(make)
    }
}

#[async_trait]
impl<F, S> StorageFixture for Storage<F>
where
    F: Fn(u64) -> S + Send + Sync,
    S: TempStorage + 'static,
{
    async fn open(&self, quota: u64) -> Arc<dyn TempStorage> {
        Arc::new((self.0)(quota))
    }
}

/// A fixture for storage in a folder: how it is opened, for a folder and a quota in bytes.
///
/// The folder is a new one, in the system's folder for temporary files, and removed with the fixture.
pub struct FolderStorage<F> {
    open: F,
    folder: PathBuf,
    quota: std::sync::atomic::AtomicU64,
}

impl<F> fmt::Debug for FolderStorage<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderStorage").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl<F, S, E> FolderStorage<F>
where
    F: Fn(&Path, u64) -> Result<S, E> + Send + Sync,
    S: TempStorage + 'static,
    E: fmt::Display,
{
    /// Storage opened by `open`, which is given a folder and the quota.
    pub fn new(open: F) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Not that of a process before, which had the same number and was killed.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let (process, next) = (std::process::id(), NEXT.fetch_add(1, Relaxed));
        let name = format!("kafka-batcher-conformance-{process}-{now}-{next}");
        Self { open, folder: std::env::temp_dir().join(name), quota: 0.into() }
    }

    async fn opened(&self) -> Arc<dyn TempStorage> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            // The one before may still be ending.
            let problem = match (self.open)(&self.folder, self.quota.load(Relaxed)) {
                Ok(storage) => return Arc::new(storage),
                Err(error) => error.to_string(),
            };
            assert!(Instant::now() < deadline, "opening {}: {problem}", self.folder.display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl<F> Drop for FolderStorage<F> {
    fn drop(&mut self) {
        // The system's folder for temporary files is cleaned by others, too.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

#[async_trait]
impl<F, S, E> StorageFixture for FolderStorage<F>
where
    F: Fn(&Path, u64) -> Result<S, E> + Send + Sync,
    S: TempStorage + 'static,
    E: fmt::Display,
{
    async fn open(&self, quota: u64) -> Arc<dyn TempStorage> {
        self.quota.store(quota, Relaxed);
        self.opened().await
    }

    async fn reopen(&self, storage: Arc<dyn TempStorage>) -> Result<Arc<dyn TempStorage>, Skip> {
        if !storage.is_durable() {
            return Err(Skip::new("it is not durable"));
        }
        drop(storage);
        Ok(self.opened().await)
    }
}

/// Tests that a [`TempStorage`] does what the trait's documentation promises: one test for each case.
///
/// Takes an expression that makes a [`StorageFixture`], evaluated anew for each test. The tests are in a module
/// `storage_conformance`, or of the name given before the expression.
///
/// ```rs
/// kafka_batcher_testkit::storage_conformance!(Storage::new(MemoryStorage::new));
/// ```
#[macro_export]
macro_rules! storage_conformance {
    ($fixture:expr) => {
        $crate::storage_conformance!(storage_conformance, $fixture);
    };
    ($module:ident, $fixture:expr) => {
        $crate::__conformance_tests! { storage, $module, $fixture;
            what_is_appended_comes_back_as_it_was
            the_flag_maybe_persisted_is_kept
            a_stamped_batch_keeps_its_identity
            large_batches_come_back
            batches_come_back_in_the_order_of_appending
            entries_are_named_by_growing_ids
            reading_removes_nothing
            reading_goes_on_behind_any_entry
            a_lane_without_batches_has_none
            lanes_are_kept_apart
            acknowledging_forgets_all_up_to_the_entry
            acknowledging_again_or_nothing_is_success
            ids_grow_on_when_a_lane_was_drained
            usage_is_told_for_each_lane
            a_topic_is_empty_when_all_its_lanes_are
            full_storage_refuses_and_keeps_what_it_has
            acknowledging_makes_room
            a_batch_larger_than_the_quota_harms_nothing
            many_lanes_are_used_at_once
            one_lane_is_appended_to_while_it_is_read
            a_dropped_append_is_whole_or_not_there
            durability_does_not_change
            what_was_appended_survives_the_process
            what_was_acknowledged_may_return_but_nothing_else_does
            ids_grow_on_in_the_next_process
        }
    };
}
