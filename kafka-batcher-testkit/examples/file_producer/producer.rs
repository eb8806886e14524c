use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher_core::config::RequiredAcks;
use kafka_batcher_core::{
    Batch, Capabilities, Delivered, ErrorKind, Persistence, ProduceError, ProduceFailure, ProduceRequest,
    Producer, Record, TopicConfig,
};

/// Writes to files: a topic is a folder, a partition a file with one batch behind the other.
#[derive(Debug)]
pub struct FileProducer {
    folder: PathBuf,
    /// Whether it is closed. Held by whoever writes, so that one does at a time.
    closed: Arc<Mutex<bool>>,
}

impl FileProducer {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), closed: Arc::default() }
    }
}

fn error(problem: io::Error) -> ProduceError {
    let kind = match problem.kind() {
        io::ErrorKind::NotFound => ErrorKind::UnknownTopic,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Transient,
    };
    ProduceError::new(kind, problem.to_string())
}

/// Appends the batch; gives the offset of its first record, or why not and whether it may be there all the same.
fn append(closed: &Mutex<bool>, path: &Path, batch: &Batch) -> Result<i64, (io::Error, Persistence)> {
    let closed = closed.lock().unwrap_or_else(PoisonError::into_inner);
    let not_written = |problem| (problem, Persistence::NotPersisted);
    if *closed {
        return Err(not_written(io::Error::other("closed")));
    }
    let base = read(path).map_err(not_written)?.len() as i64;
    let mut file = OpenOptions::new().append(true).open(path).map_err(not_written)?;
    let written = file.write_all(batch.as_bytes()).and_then(|()| file.sync_data());
    written.map(|()| base).map_err(|problem| (problem, Persistence::MaybePersisted))
}

#[async_trait]
impl Producer for FileProducer {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        (capabilities.acks, capabilities.repeated_headers, capabilities.null_headers) = (true, true, true);
        capabilities
    }

    async fn connect(&self, _timeout: Duration) -> Result<(), ProduceError> {
        fs::create_dir_all(&self.folder).map_err(error)
    }

    async fn partition_count(&self, topic: &str, _timeout: Duration) -> Result<NonZeroU32, ProduceError> {
        if *self.closed.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(ProduceError::new(ErrorKind::Fatal, "closed"));
        }
        let count = fs::read_dir(self.folder.join(topic)).map_err(error)?.count();
        let none = || ProduceError::new(ErrorKind::UnknownTopic, "it has no partitions");
        u32::try_from(count).ok().and_then(NonZeroU32::new).ok_or_else(none)
    }

    async fn create_topic(&self, topic: &TopicConfig, _timeout: Duration) -> Result<(), ProduceError> {
        let folder = self.folder.join(&*topic.topic_name);
        match fs::create_dir(&folder) {
            Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            created => created.map_err(error)?,
        }
        let mut partitions = 0..topic.new_topic_partitions.map_or(1, NonZeroU32::get);
        partitions.try_for_each(|number| fs::write(folder.join(number.to_string()), "")).map_err(error)
    }

    async fn produce(
        &self,
        request: &ProduceRequest,
        timeout: Duration,
    ) -> Result<Delivered, ProduceFailure> {
        let path = self.folder.join(&*request.topic.topic_name).join(request.partition.to_string());
        let (closed, batch) = (Arc::clone(&self.closed), request.batch.clone());
        let writing = tokio::task::spawn_blocking(move || append(&closed, &path, &batch));
        let (problem, persistence) = match tokio::time::timeout(timeout, writing).await {
            Ok(Ok(Ok(base))) => {
                let answered = request.topic.required_acks != RequiredAcks::None;
                return Ok(Delivered::at(answered.then_some(base)));
            }
            Ok(Ok(Err(failed))) => failed,
            // The thread goes on behind us.
            _ => (io::ErrorKind::TimedOut.into(), Persistence::MaybePersisted),
        };
        Err(ProduceFailure::whole(error(problem), persistence))
    }

    async fn close(&self, timeout: Duration) {
        let closed = Arc::clone(&self.closed);
        let close = move || *closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        drop(tokio::time::timeout(timeout, tokio::task::spawn_blocking(close)).await);
    }
}

/// The records of a partition.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let mut rest = bytes::Bytes::from(fs::read(path)?);
    let mut records = Vec::new();
    // A batch is in Kafka's own format: 8 bytes of offset, 4 of length, and then so many bytes.
    while let Some(length) = rest.get(8..12).and_then(|field| field.try_into().ok()) {
        let len = 12 + u32::from_be_bytes(length) as usize;
        let batch = Batch::parse(rest.split_to(len.min(rest.len()))).map_err(io::Error::other)?;
        records.extend(batch.records().map(|record| record.to_owned()));
    }
    Ok(records)
}
