//! A seam for tests: steps of writing that fail.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A step of writing that may be made to fail.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "for tests of this crate")]
pub enum Step {
    /// Records go to sled.
    Apply,
    /// sled hands what it has to the operating system.
    Flush,
    /// A generation's file is forced to the disk.
    Sync,
    /// The marks are written.
    WriteMarks,
    /// The marks are forced to the disk.
    SyncMarks,
    /// The marks are replaced by shorter ones.
    RenameMarks,
    /// A generation is begun.
    Create,
    /// A file that says something about a generation is written, or its name forced to the disk.
    Flag,
    /// That file gets its name.
    RenameFlag,
}

type Hook = dyn Fn(Step) -> io::Result<()> + Send + Sync;

/// Says of each step whether it fails.
#[doc(hidden)]
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Hook>>);

impl Faults {
    /// Asks `hook` before each step.
    #[must_use]
    pub fn new(hook: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    pub(crate) fn at(&self, step: Step) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |hook| hook(step))
    }

    /// Writes, unless that is to fail; when it is to fail as a short write does (`WriteZero`), half of it.
    pub(crate) fn write_all_at(&self, step: Step, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if let Err(error) = self.at(step) {
            if error.kind() == io::ErrorKind::WriteZero {
                file.write_all_at(&bytes[..bytes.len() / 2], at)?;
            }
            return Err(error);
        }
        file.write_all_at(bytes, at)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Faults(..)" } else { "Faults" })
    }
}
