//! Durable temporary storage for kafka-batcher, on [sled](https://docs.rs/sled/0.34): where batches wait while Kafka is
//! unavailable, and where dead letters are kept.
//!
//! ```
//! use kafka_batcher_core::{Batch, BatchBuilder, LaneId, Record, StoredBatch, TempStorage};
//! use kafka_batcher_storage_sled::{SledOptions, SledStorage};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path();
//! let storage = SledStorage::open(SledOptions::new(path))?;
//! # let mut builder = BatchBuilder::new();
//! # builder.push(&Record::new("v").as_ref(), 0, None, usize::MAX);
//! # let batch: Batch = builder.seal().expect("a record");
//! let lane = LaneId::partition("flights", 3);
//! let id = storage.append(&lane, StoredBatch::new(batch, false)).await?; // survives a power cut from here on
//! let (same, stored) = storage.next(&lane, None).await?.expect("it is there");
//! assert_eq!((same, stored.batch.len()), (id, 1));
//! storage.acknowledge(&lane, id).await?;
//! storage.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! | | [`Durability::Disk`] (default) | [`Durability::Os`] |
//! |---|---|---|
//! | `kill -9` at any instant | nothing whose `append` returned is lost | the same |
//! | power cut, crash of the system | the same | what was written in the last half minute or so may be gone, or the order of what is left have gaps, which are counted |
//! | cost of an append | two `fsync`s, shared by all appends at the time | none |
//!
//! At both levels: what was stored is readable again after any end of the process; order in each lane is that of the
//! appends; ids grow from process to process; a second process, or a second [`open`](SledStorage::open), gets
//! [`SledError::StorageLocked`] at once; the folder is its owner's alone (0700, files 0600).
//!
//! * **An acknowledgement** is safe from the end of the process when `acknowledge` returns, and from a power cut with
//!   the next append or a fifth of a second later. One that is lost means that a batch comes again, never that one
//!   is lost.
//! * **After an error** of `append` the batch is not stored, and will not turn up later; one exception: the disk
//!   failed so thoroughly that not even this could be written down, and the process then crashed.
//!   A failed `fsync` is never tried again: that generation gets nothing more, and the next append begins a new one.
//! * **A dropped future** of `append` may have stored the batch or not, never half of it.
//! * **Full**: the quota is of bytes on the disk, `StorageError::Full` leaves everything as it was, and a reserve
//!   is kept back on the disk, so that a spool can be opened and drained when there is no other room left.
//! * **Damage** (flipped bits, zeroed pages, files cut off): nothing panics, nothing wrong is given out, and what is
//!   readable is saved to a new generation; the damaged one is renamed to `quarantine-…` and kept. What is gone is
//!   counted, in [`Recovery`]. The last is as good as the marks (`MARKS`) are: if they are damaged along with the
//!   data, the loss of a lane's end may go unnoticed, and what was acknowledged may come again; `Recovery` says so.
//!
//! What is not promised: anything of a disk that lies about `fsync`, or of two machines that mount the same folder
//! over a network whose locks do not work.
//!
//! # How
//!
//! ```text
//!  append ──▶ writer thread ──▶ group ──▶ sled: apply, flush ──▶ fsync ──▶ MARKS: write, fsync ──▶ answers
//!  acknowledge ──▶ writer ──▶ MARKS: write
//!  next ──▶ reader thread ──▶ sled, or the files of what is sealed
//!
//!  spool/  LOCK FORMAT MARKS RESERVE  gen-0000000001/ (SEALED)  gen-0000000002/ …  quarantine-…/
//! ```
//!
//! sled 0.34 alone loses the end of its log in silence, forces nothing to the disk, panics on damage, repairs by cutting
//! off, and never gives space back (measured; see the project's field notes). So:
//!
//! * Records are only ever added. What is acknowledged is written in `MARKS`, a small file of our own; a *generation*,
//!   one sled database, is deleted when nothing in it is needed any more, and the little that is left in a mostly drained one is moved.
//! * Each record is cut in chunks of at most 4 KiB that say what they are and carry a CRC32C, so that they can be
//!   found in a damaged file without sled; each says how many batches and events its lane had taken before it, so that a gap
//!   shows, with its size.
//! * `MARKS` also says how far each lane was written, so that a missing end shows.
//! * The generation that was being added to is copied before sled opens it and compared afterwards; when sled has
//!   lost something that was in the copy, the copy is what counts.
//! * A generation that is complete is sealed, and sled never sees it again: opening it would take memory for all that
//!   is read, and could cut off more. Its file is searched for chunks and read as it is.
//!
//! # For operators
//!
//! [`Spool`] opens a spool that nobody uses: what is there, verify, requeue dead letters, purge. [`SpoolView`] looks
//! into one that is in use, without touching it.
//!
//! Unix only, as it needs permissions and `statvfs`.

mod dead;
mod engine;
mod error;
mod faults;
mod folder;
mod generation;
mod lane;
mod marks;
mod options;
mod quiet;
mod record;
mod report;
mod scan;
mod spool;
mod storage;

/// Of what is logged.
const TARGET: &str = "kafka_batcher::sled";

pub use error::SledError;
#[doc(hidden)]
pub use faults::{Faults, Step};
pub use options::{Durability, SledOptions};
pub use report::{Loss, Recovery};
pub use spool::{DeadEntry, DeadInfo, LaneInfo, Purge, Spool, SpoolEntry, SpoolView, Verification};
pub use storage::SledStorage;
