//! The process that goes through the outage: what it says, and what it takes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::mib;
use crate::children;
use crate::error::{Context, Error, Result};
use crate::workspace::Workspace;

/// Between looks at its memory and its spool.
const INTERVAL: Duration = Duration::from_millis(200);
/// It says something at least every few seconds, if the machine lets it.
const SILENCE: Duration = Duration::from_secs(300);
/// The longest that giving back the disk may take.
const TIDYING: Duration = Duration::from_secs(60);

/// Builds the program, and tells where it is.
pub(super) fn build(workspace: &Workspace, profile: &str) -> Result<PathBuf> {
    workspace.build_example("outage_worker", "sled", profile)
}

/// What it takes, or the most that it has taken so far, in bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Takes {
    pub(super) memory: u64,
    pub(super) disk: u64,
}

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    spool: PathBuf,
    now: Takes,
    pub(super) peaks: Takes,
}

impl Process {
    pub(super) fn start(program: &Path, spool: &Path, settings: &[(&str, String)]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(settings.iter().map(|(name, value)| format!("{name}={value}")))
            // glibc, left alone, would from the first freed batch on take batches from its heaps, and leave holes there:
            // twice the memory. The README tells users so.
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context(|| format!("cannot run {}", program.display()))?;
        let stdout = child.stdout.take().ok_or_else(|| Error::new("the worker has no standard output"))?;
        let lines = children::lines(stdout, |line| line);
        Ok(Self { child, lines, spool: spool.to_owned(), now: Takes::default(), peaks: Takes::default() })
    }

    /// Watches it until it says this word, with its numbers.
    pub(super) fn until<const N: usize>(&mut self, word: &str) -> Result<[u64; N]> {
        let mut heard = Instant::now();
        loop {
            match self.lines.recv_timeout(INTERVAL) {
                Ok(line) => {
                    heard = Instant::now();
                    let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
                    if first == word {
                        self.look()?;
                        return numbers(rest).ok_or_else(|| Error::new(format!("the worker said `{line}`")));
                    }
                    match first {
                        "FAILED" => return Err(Error::new(format!("the worker: {line}"))),
                        "ADDED" | "LEFT" => {
                            let Takes { memory, disk } = self.now;
                            eprint!("\r{line}, {} of memory, {} on the disk    ", mib(memory), mib(disk));
                        }
                        _ => eprintln!("{line}"),
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) if heard.elapsed() < SILENCE => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(Error::new(format!("the worker is silent, and was to say {word}")));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(format!("the worker has ended without {word}")));
                }
            }
            self.look()?;
        }
    }

    /// Waits until the spool has shrunk to less than this. What it takes then, or still.
    pub(super) fn until_small(&self, bytes: u64) -> Result<u64> {
        let deadline = Instant::now() + TIDYING;
        loop {
            let used = disk_use(&self.spool);
            if used < bytes || Instant::now() > deadline {
                return Ok(used);
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Lets it go on.
    pub(super) fn go_on(&mut self) -> Result<()> {
        let stdin =
            self.child.stdin.as_mut().ok_or_else(|| Error::new("the worker has no standard input"))?;
        stdin.write_all(b"\n").and_then(|()| stdin.flush()).context(|| "cannot tell the worker to go on")
    }

    /// Waits for its end. The most that it has taken.
    pub(super) fn end(mut self) -> Result<Takes> {
        let status = self.child.wait().context(|| "cannot wait for the worker")?;
        if status.success() { Ok(self.peaks) } else { Err(Error::new(format!("the worker: {status}"))) }
    }

    fn look(&mut self) -> Result<()> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).context(|| format!("cannot read {path}"))?;
        // It has none any more when it has just ended.
        if let (Some(now), Some(peak)) = (memory(&status, "VmRSS:"), memory(&status, "VmHWM:")) {
            self.now.memory = now;
            self.peaks.memory = self.peaks.memory.max(peak);
        }
        self.now.disk = disk_use(&self.spool);
        self.peaks.disk = self.peaks.disk.max(self.now.disk);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only if something else went wrong meanwhile.
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }
}

/// What is resident (`VmRSS:`), or the most that has been (`VmHWM:`), in bytes.
fn memory(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let numbers: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// Bytes that a folder takes on the disk; files may come and go meanwhile.
pub(super) fn disk_use(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, about)| about.blocks() * 512 + if about.is_dir() { disk_use(&path) } else { 0 })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_and_numbers_are_read() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n";
        assert_eq!((memory(status, "VmHWM:"), memory(status, "VmRSS:")), (Some(2 << 20), Some(1024)));
        assert_eq!(memory("Name:\tx\nState:\tZ (zombie)\n", "VmRSS:"), None);
        assert_eq!(numbers("3 4"), Some([3, 4]));
        assert_eq!(numbers::<1>("3 4"), None);
        assert_eq!(numbers::<1>("x"), None);
    }

    #[test]
    fn a_folder_takes_what_its_files_take() {
        let folder = std::env::temp_dir().join(format!("xtask-disk-use-{}", std::process::id()));
        fs::create_dir_all(folder.join("inner")).unwrap();
        let before = disk_use(&folder);
        fs::write(folder.join("inner").join("file"), vec![1; 100_000]).unwrap();
        fs::File::open(folder.join("inner").join("file")).unwrap().sync_all().unwrap();
        let grown = disk_use(&folder) - before;
        fs::remove_dir_all(&folder).unwrap();
        assert!((100_000..300_000).contains(&grown), "{grown}");
        assert_eq!(disk_use(&folder), 0);
    }
}
