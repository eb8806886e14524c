//! Why a spool can't be opened or worked on.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why storage can't be opened, or a command on a spool not be carried out.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SledError {
    /// Somebody holds it: another process, or this one.
    #[error("storage {} is locked by {}", path.display(), holder(*pid))]
    StorageLocked {
        /// The folder.
        path: PathBuf,
        /// Which process, as far as it said so.
        pid: Option<u32>,
    },
    /// A newer release wrote it; this one would damage it.
    #[error("storage {} has format {found}, and this release knows formats up to {known}", path.display())]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: u32,
        /// The newest this release knows.
        known: u32,
    },
    /// The folder holds something else.
    #[error("{} is no spool: {why}", path.display())]
    NotASpool {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An option makes no sense.
    #[error("options of storage: {0}")]
    Options(String),
    /// Reading or writing failed.
    #[error("storage cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What came back.
        source: Arc<io::Error>,
    },
    /// Something is damaged and could not be worked around.
    #[error("storage is damaged: {0}")]
    Damaged(String),
    /// There is no room on the disk or within the quota.
    #[error("there is no room for it: {0}")]
    Full(String),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl SledError {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        if is_full(&source) {
            return Self::Full(format!("cannot {what}: {source}"));
        }
        Self::Io { what, source: Arc::new(source) }
    }
}

/// Whether the error says that the disk, or the user's part of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Adds what was tried to an I/O error.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, SledError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, SledError> {
        self.map_err(|error| SledError::io(what(), error))
    }
}
