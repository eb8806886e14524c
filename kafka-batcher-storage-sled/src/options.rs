//! What can be set.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::SledError;
use crate::faults::Faults;

const MIB: u64 = 1024 * 1024;

/// What an `append` that returned survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The end of the process, `kill -9` included, but not of the machine: written, not forced to the disk.
    Os,
    /// Also a power cut: forced to the disk (`fsync`) before `append` returns. The default.
    #[default]
    Disk,
}

/// How a [`SledStorage`](crate::SledStorage) is opened: builder methods on top of a folder.
///
/// ```
/// use std::time::Duration;
/// use kafka_batcher_storage_sled::{Durability, SledOptions};
///
/// let options = SledOptions::new("/var/lib/app/spool")
///     .durability(Durability::Disk)
///     .quota(4 * 1024 * 1024 * 1024)
///     .dead_letter_max_age(Duration::from_secs(30 * 24 * 3600));
/// assert!(options.check().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct SledOptions {
    pub(crate) path: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) quota: u64,
    pub(crate) reserve: u64,
    pub(crate) generation: Option<u64>,
    pub(crate) dead_limit: Option<NonZeroU64>,
    pub(crate) dead_age: Option<Duration>,
    pub(crate) faults: Faults,
}

impl SledOptions {
    /// The smallest quota: below it, what an empty spool takes is most of it.
    pub const MIN_QUOTA: u64 = 8 * MIB;

    /// Storage in this folder, which is made if it is not there: level [`Durability::Disk`], 1 GiB, 100,000 dead
    /// letters of any age.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_path_buf(),
            durability: Durability::default(),
            quota: 1024 * MIB,
            reserve: 2 * MIB,
            generation: None,
            dead_limit: NonZeroU64::new(100_000),
            dead_age: None,
            faults: Faults::default(),
        }
    }

    /// What an `append` that returned survives.
    #[must_use]
    pub const fn durability(mut self, level: Durability) -> Self {
        self.durability = level;
        self
    }

    /// Most bytes the folder may take on the disk, the reserve included and what is quarantined not; at least
    /// [`MIN_QUOTA`](Self::MIN_QUOTA). Encoded batches take two to three times their size there.
    #[must_use]
    pub const fn quota(mut self, bytes: u64) -> Self {
        self.quota = bytes;
        self
    }

    /// Bytes of the quota kept back on the disk, so that storage can be opened and drained when the disk is full.
    /// From 1 MiB to a quarter of the quota; 2 MiB unless set.
    #[must_use]
    pub const fn reserve(mut self, bytes: u64) -> Self {
        self.reserve = bytes;
        self
    }

    /// Most dead letters kept; more are refused, so that none is dropped in silence. `None`: as the quota allows.
    #[must_use]
    pub const fn dead_letter_limit(mut self, records: Option<NonZeroU64>) -> Self {
        self.dead_limit = records;
        self
    }

    /// Dead letters older than this are removed, and counted.
    #[must_use]
    pub const fn dead_letter_max_age(mut self, age: Duration) -> Self {
        self.dead_age = Some(age);
        self
    }

    /// Size of a generation on the disk, in bytes, instead of a sixteenth of the quota, from 3 to 16 MiB. For tests.
    #[doc(hidden)]
    #[must_use]
    pub const fn generation_bytes(mut self, bytes: u64) -> Self {
        self.generation = Some(bytes);
        self
    }

    /// Makes steps of writing fail. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the values make sense; opening checks, too.
    ///
    /// # Errors
    /// [`SledError::Options`] names the value that does not.
    pub fn check(&self) -> Result<(), SledError> {
        let wrong = |what: String| Err(SledError::Options(what));
        if self.path.as_os_str().is_empty() {
            return wrong("the path is empty".to_owned());
        }
        if self.quota < Self::MIN_QUOTA {
            return wrong(format!("the quota is {} bytes, the least is {}", self.quota, Self::MIN_QUOTA));
        }
        if self.reserve < MIB || self.reserve > self.quota / 4 {
            return wrong(format!(
                "the reserve is {} bytes; it has to be between 1 MiB and a quarter of the quota",
                self.reserve
            ));
        }
        if self.dead_age == Some(Duration::ZERO) {
            return wrong("the age limit of dead letters is 0".to_owned());
        }
        Ok(())
    }

    /// Bytes on the disk after which a new generation is begun.
    pub(crate) fn generation_size(&self) -> u64 {
        self.generation.unwrap_or_else(|| (self.quota / 16).clamp(3 * MIB, 16 * MIB))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_make_no_sense_are_named() {
        let said = |options: SledOptions| options.check().unwrap_err().to_string();
        assert!(said(SledOptions::new("")).contains("path"));
        assert!(said(SledOptions::new("a").quota(1)).contains("quota"));
        assert!(said(SledOptions::new("a").reserve(1)).contains("reserve"));
        assert!(said(SledOptions::new("a").quota(16 * MIB).reserve(8 * MIB)).contains("reserve"));
        assert!(said(SledOptions::new("a").dead_letter_max_age(Duration::ZERO)).contains("age"));
        assert!(SledOptions::new("a").quota(SledOptions::MIN_QUOTA).check().is_ok());
    }
}
