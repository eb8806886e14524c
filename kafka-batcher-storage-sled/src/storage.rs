//! [`SledStorage`]: the spool with its two threads, one that writes and one that reads.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use kafka_batcher_core::storage::StorageUsage;
use kafka_batcher_core::{
    Batch, DeadLetter, DeadRecord, EntryId, LaneId, LaneUsage, StorageError, StoredBatch, Telemetry,
    TempStorage,
};
use tokio::sync::oneshot;

use crate::TARGET;
use crate::dead;
use crate::engine::{Damaged, Engine, New, failed, now_millis};
use crate::error::{Context, SledError};
use crate::options::{Durability, SledOptions};
use crate::record::Stored;
use crate::report::Recovery;

/// Most records, and about the most bytes, that are forced to the disk together. sled takes some ten times the bytes
/// of memory while it writes them, and writing a mebibyte takes longer than forcing it.
const GROUP_RECORDS: usize = 256;
const GROUP_BYTES: usize = 1024 * 1024;
/// Longest that a record waits for others to share its way to the disk with.
const GATHER: Duration = Duration::from_millis(2);
/// How long nothing has to be asked of the writer until it tidies up, and how often it does so when it is busy.
const IDLE: Duration = Duration::from_millis(200);
/// Damaged generations that one read may meet and repair; each repair leaves one less.
const REPAIRS: usize = 64;

type Job = Box<dyn FnOnce(&Engine) + Send>;
type Answer = oneshot::Sender<Result<u64, StorageError>>;

enum Request {
    Append(New, Answer),
    Run(Job),
}

/// Durable temporary storage on sled, with an area for dead letters. See the [crate](crate) for what it promises.
///
/// Dropping it writes what was asked for and ends its threads, which takes some milliseconds of the disk's;
/// [`close`](Self::close) does it without blocking the executor.
pub struct SledStorage {
    engine: Arc<Engine>,
    writer: Worker<Request>,
    reader: Worker<Job>,
    oldest: Arc<Mutex<Oldest>>,
}

/// For each lane the last record that is done with, and since when the one behind it is stored: whoever asks again and
/// again how long that is does not have it read again and again.
type Oldest = HashMap<LaneId, (u64, u64)>;

/// A thread that works off what it is sent, and ends when nothing more can come.
struct Worker<T> {
    sender: Option<mpsc::Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(name: &str, run: impl FnOnce(mpsc::Receiver<T>) + Send + 'static) -> Result<Self, SledError> {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(receiver));
        let thread = thread.context(|| format!("start the thread {name}"))?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    fn send(&self, what: T) -> Result<(), StorageError> {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(what).is_ok());
        if sent { Ok(()) } else { Err(gone()) }
    }
}

impl<T> Worker<T> {
    fn end(&mut self) {
        self.sender = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(target: TARGET, "a thread of the storage panicked");
        }
    }
}

fn gone() -> StorageError {
    StorageError::Failed("the storage's thread is gone".to_owned())
}

impl SledStorage {
    /// Opens the storage, or begins it in a folder that is empty or not there.
    ///
    /// Blocks: for some ten milliseconds after a clean end, and for up to some seconds after a crash, as the youngest
    /// part of what is there is then read and checked. What was found is told by [`recovery`](Self::recovery).
    ///
    /// # Errors
    /// [`SledError::StorageLocked`] at once when it is open elsewhere; [`SledError::NewerFormat`] when a newer release
    /// wrote it; other errors of the file system. Damage is no error: it is repaired as far as it goes and told.
    pub fn open(options: SledOptions) -> Result<Self, SledError> {
        Self::on(Engine::open(options)?)
    }

    pub(crate) fn on(engine: Engine) -> Result<Self, SledError> {
        let engine = Arc::new(engine);
        let (for_writer, for_reader) = (Arc::clone(&engine), Arc::clone(&engine));
        let writer = Worker::start("spool-writer", move |requests| write_all(&for_writer, &requests))?;
        let reader = Worker::start("spool-reader", move |jobs: mpsc::Receiver<Job>| {
            for job in jobs {
                contain(|| job(&for_reader));
            }
        })?;
        Ok(Self { engine, writer, reader, oldest: Arc::default() })
    }

    /// What opening found and repaired, and what was found to be lost since.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.engine.recovery()
    }

    /// The first dead letter behind `after`, or the oldest, with its id and how long it has been here.
    ///
    /// # Errors
    /// When it can't be read now.
    pub async fn next_dead_letter(
        &self,
        after: Option<EntryId>,
    ) -> Result<Option<(EntryId, DeadRecord, Duration)>, StorageError> {
        let mut after = after.map_or(0, |id| id.0);
        loop {
            let Some(stored) = self.read(move |engine| next(engine, None, after)).await? else {
                return Ok(None);
            };
            after = stored.place.seq;
            match dead::decode(&stored.body) {
                Some(dead) => return Ok(Some((EntryId(after), dead, age(stored.stored_at)))),
                None => tracing::error!(target: TARGET, after, "a dead letter can't be decoded"),
            }
        }
    }

    /// Forgets this dead letter and all before it.
    ///
    /// # Errors
    /// When it can't be done now.
    pub async fn forget_dead_letters(&self, up_to: EntryId) -> Result<(), StorageError> {
        self.write(move |engine| engine.acknowledge(None, up_to.0)).await
    }

    /// Writes what was asked for, ends the threads and unlocks the folder.
    pub async fn close(self) {
        let (done, is_done) = oneshot::channel::<()>();
        let ending = thread::Builder::new().name("spool-close".to_owned()).spawn(move || {
            drop(self);
            drop(done);
        });
        if ending.is_ok() {
            // It is done when the other half is dropped: an error is what is waited for.
            drop(is_done.await);
        }
    }

    async fn append_new(&self, new: New) -> Result<EntryId, StorageError> {
        let (answer, answered) = oneshot::channel();
        self.writer.send(Request::Append(new, answer))?;
        answered.await.map_err(|_| gone())?.map(EntryId)
    }

    async fn write<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Engine) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (answer, answered) = oneshot::channel();
        // Nobody waits any more: nobody is told.
        self.writer.send(Request::Run(Box::new(move |engine| drop(answer.send(run(engine))))))?;
        answered.await.map_err(|_| gone())?
    }

    async fn read<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Engine) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (answer, answered) = oneshot::channel();
        self.reader.send(Box::new(move |engine| {
            // Who has given up waiting keeps nobody else waiting.
            if !answer.is_closed() {
                drop(answer.send(run(engine)));
            }
        }))?;
        answered.await.map_err(|_| gone())?
    }
}

/// Runs what should not panic, and does not let it.
fn contain(run: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        tracing::error!(target: TARGET, "a panic in the storage was contained");
    }
}

/// The writer: takes what has gathered while the last group was on its way, and writes it as one.
fn write_all(engine: &Engine, requests: &mpsc::Receiver<Request>) {
    let (mut last_group, mut dirty, mut tidied) = (0, false, Instant::now());
    loop {
        let first = match requests.recv_timeout(IDLE) {
            Ok(first) => Some(first),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        };
        if first.is_none() || tidied.elapsed() > 5 * IDLE {
            contain(|| {
                if std::mem::take(&mut dirty) {
                    engine.sync_marks();
                }
                engine.tidy();
            });
            tidied = Instant::now();
        }
        let Some(first) = first else { continue };
        let (mut items, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        let deadline = Instant::now() + GATHER;
        while let Some(request) = next {
            match request {
                Request::Append(new, answer) => {
                    bytes += new.body.len();
                    items.push(new);
                    answers.push(answer);
                }
                Request::Run(job) => {
                    contain(|| job(engine));
                    dirty = true;
                }
            }
            next = if items.len() >= GROUP_RECORDS || bytes >= GROUP_BYTES {
                None
            } else if items.is_empty() || items.len() >= last_group {
                requests.try_recv().ok()
            } else {
                // As many as last time are probably on their way again.
                requests.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
            };
        }
        if !items.is_empty() {
            last_group = items.len();
            contain(|| {
                for (answer, result) in answers.into_iter().zip(engine.append(&items)) {
                    // That it was refused may not be written down yet.
                    dirty |= result.is_err();
                    // Who no longer waits does not know whether it is stored, and it is.
                    drop(answer.send(result));
                }
            });
        }
    }
    contain(|| engine.sync_marks());
}

/// Reads, and repairs what turns out to be damaged.
pub(crate) fn next(
    engine: &Engine,
    lane: Option<&LaneId>,
    after: u64,
) -> Result<Option<Stored>, StorageError> {
    let mut last = None;
    for _ in 0..REPAIRS {
        match engine.next(lane, after) {
            Ok(found) => return Ok(found),
            Err(Damaged(number, error)) => {
                let repaired = engine.repair(number, &error.to_string());
                repaired.map_err(|error| failed(&error, engine.used(), engine.options().quota))?;
                last = Some(error);
            }
        }
    }
    Err(StorageError::Failed(last.map_or_else(String::new, |error| error.to_string())))
}

/// As [`next`], for batches; one whose content is no batch is passed over and reported.
pub(crate) fn next_batch(
    engine: &Engine,
    lane: &LaneId,
    mut after: u64,
) -> Result<Option<(EntryId, StoredBatch, u64)>, StorageError> {
    while let Some(stored) = next(engine, Some(lane), after)? {
        after = stored.place.seq;
        match Batch::parse(stored.body) {
            Ok(batch) => {
                let entry = StoredBatch::new(batch, stored.maybe);
                return Ok(Some((EntryId(after), entry, stored.stored_at)));
            }
            // It was one when it was written, and its checksum is right: a bug, then.
            Err(error) => {
                tracing::error!(target: TARGET, %lane, after, %error, "a stored batch can't be decoded")
            }
        }
    }
    Ok(None)
}

/// How long ago that was, by the wall clock.
pub(crate) fn age(stored_at: u64) -> Duration {
    Duration::from_millis(now_millis().saturating_sub(stored_at))
}

pub(crate) fn instant(stored_at: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(stored_at)).unwrap_or(UNIX_EPOCH)
}

pub(crate) fn lane_usage(engine: &Engine) -> Vec<LaneUsage> {
    let named = engine.usage().into_iter().filter_map(|(lane, usage)| Some((lane?, usage)));
    named.map(|(lane, usage)| LaneUsage::new(lane, usage.batches, usage.events, usage.bytes)).collect()
}

#[async_trait]
impl TempStorage for SledStorage {
    fn is_durable(&self) -> bool {
        true
    }

    async fn append(&self, lane: &LaneId, entry: StoredBatch) -> Result<EntryId, StorageError> {
        let StoredBatch { batch, maybe_persisted, .. } = entry;
        let (events, body) = (batch.len(), batch.as_bytes().clone());
        self.append_new(New {
            lane: Some(lane.clone()),
            maybe: maybe_persisted,
            events,
            body,
            stored_at: None,
        })
        .await
    }

    async fn next(
        &self,
        lane: &LaneId,
        after: Option<EntryId>,
    ) -> Result<Option<(EntryId, StoredBatch)>, StorageError> {
        let (lane, after) = (lane.clone(), after.map_or(0, |id| id.0));
        let found = self.read(move |engine| next_batch(engine, &lane, after)).await?;
        Ok(found.map(|(id, entry, _)| (id, entry)))
    }

    async fn next_few(
        &self,
        lane: &LaneId,
        after: Option<EntryId>,
        max_bytes: usize,
    ) -> Result<Vec<(EntryId, StoredBatch)>, StorageError> {
        let lane = lane.clone();
        self.read(move |engine| {
            let (mut few, mut bytes, mut after) = (Vec::new(), 0, after.map_or(0, |id| id.0));
            while let Some((id, entry, _)) = next_batch(engine, &lane, after)? {
                bytes += entry.batch.byte_len();
                if !few.is_empty() && bytes > max_bytes {
                    break;
                }
                after = id.0;
                few.push((id, entry));
            }
            Ok(few)
        })
        .await
    }

    async fn acknowledge(&self, lane: &LaneId, entry: EntryId) -> Result<(), StorageError> {
        let lane = lane.clone();
        self.write(move |engine| engine.acknowledge(Some(&lane), entry.0)).await
    }

    async fn lanes(&self) -> Result<Vec<LaneUsage>, StorageError> {
        Ok(lane_usage(&self.engine))
    }

    fn set_telemetry(&self, telemetry: Arc<dyn Telemetry>) {
        self.engine.telemetry.set(telemetry);
    }

    fn dead_letters(self: Arc<Self>) -> Option<Arc<dyn DeadLetter>> {
        Some(self)
    }

    async fn usage(&self) -> Result<StorageUsage, StorageError> {
        let known = Arc::clone(&self.oldest);
        self.read(move |engine| {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let mut usage = StorageUsage::default();
            (usage.used, usage.quota) = (engine.used(), Some(engine.options().quota));
            for lane in lane_usage(engine) {
                // Before it is read: what is acknowledged meanwhile is found out the next time.
                let acked = engine.acknowledged(Some(&lane.id));
                let stored_at = match known.get(&lane.id) {
                    Some((of, stored_at)) if *of == acked => Some(*stored_at),
                    _ => next(engine, Some(&lane.id), 0)?.map(|stored| stored.stored_at),
                };
                known.extend(stored_at.map(|stored_at| (lane.id.clone(), (acked, stored_at))));
                usage.add(&lane, stored_at.map(age));
            }
            // Looking may have found that something is damaged.
            let recovery = engine.recovery();
            (usage.lost_events, usage.lost_dead_letters) = (recovery.lost_events, recovery.lost_dead_letters);
            usage.salvaged = recovery.salvaged;
            Ok(usage)
        })
        .await
    }
}

#[async_trait]
impl DeadLetter for SledStorage {
    fn is_durable(&self) -> bool {
        true
    }

    async fn put(&self, dead: DeadRecord) -> Result<(), StorageError> {
        let body = dead::encode(&dead);
        let new = New { lane: None, maybe: false, events: 1, body, stored_at: None };
        self.append_new(new).await.map(drop)
    }
}

impl fmt::Debug for SledStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.engine.options();
        f.debug_struct("SledStorage")
            .field("path", &options.path)
            .field("survives_a_power_cut", &(options.durability == Durability::Disk))
            .field("quota", &options.quota)
            .finish_non_exhaustive()
    }
}

impl Drop for SledStorage {
    fn drop(&mut self) {
        self.reader.end();
        self.writer.end();
    }
}
