//! `kafka-batcher produce --listen`, or an application of somebody's own, fed line by line at a steady rate.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::process::{Signal, signal};
use crate::children::{self, End};
use crate::error::{Context, Error, Result};
use crate::files;

/// Far more than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two portions of lines.
const STEP: Duration = Duration::from_millis(50);
/// Said when it listens, before the address.
const LISTENS: &str = "metrics and health checks at http://";

/// How it is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    /// Its instance, and the end of its topic's name.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// `kafka-batcher produce`.
    Produce {
        options: &'static [&'static str],
        /// More lines for its configuration file.
        config: &'static str,
    },
    /// The example of that name.
    OwnPartitioner,
}

/// Where all of them are at home.
#[derive(Debug)]
pub(super) struct Home<'a> {
    pub(super) program: &'a Path,
    pub(super) own_partitioner: &'a Path,
    pub(super) bootstrap: &'a str,
    pub(super) folder: &'a Path,
    /// The beginning of all topics' names.
    pub(super) topics: &'a str,
}

#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    child: Child,
    /// Where it listens.
    pub(super) address: String,
    pub(super) spool: PathBuf,
    feed: Arc<Feed>,
}

/// What is written to it.
#[derive(Debug)]
struct Feed {
    per_second: AtomicU32,
    /// Of a line.
    bytes: AtomicU32,
}

impl Home<'_> {
    pub(super) fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.topics)
    }

    /// Starts it, and waits until it listens.
    pub(super) fn start(&self, setup: &Setup, per_second: u32, bytes: u32) -> Result<Program> {
        let folder = self.folder.join(setup.name);
        files::create_dir_all(&folder)?;
        let (log, spool) = (folder.join("log.txt"), folder.join("spool"));
        let stderr = File::create(&log).context(|| format!("cannot write {}", log.display()))?;
        // A file that may not grow is an error for it like others, as on a disk that fails, and not its end.
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]);
        let topic = self.topic(setup.name);
        match setup.kind {
            Kind::Produce { options, config: more } => {
                let config = folder.join("config.toml");
                files::write(&config, &format!("{TIMES}{more}"))?;
                command
                    .arg(self.program)
                    .args(["produce", "--no-progress", "--listen", "127.0.0.1:0"])
                    .args(["--topic", &topic, "--brokers", self.bootstrap])
                    .arg("--config")
                    .arg(&config)
                    .arg("--spool")
                    .arg(&spool)
                    .args(options);
            }
            Kind::OwnPartitioner => drop(command.arg(self.own_partitioner).args([self.bootstrap, &topic])),
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .context(|| "cannot run sh")?;
        let stdin = child.stdin.take().ok_or_else(|| Error::new("the child has no standard input"))?;
        let feed = Arc::new(Feed { per_second: AtomicU32::new(per_second), bytes: AtomicU32::new(bytes) });
        let mut program =
            Program { name: setup.name, child, address: String::new(), spool, feed: Arc::clone(&feed) };
        let deadline = Instant::now() + PATIENCE;
        program.address = loop {
            let said = files::read_lossy(&log)?;
            if let Some((_, after)) = said.split_once(LISTENS)
                && let Some((address, _)) = after.split_once('\n')
            {
                break address.trim().to_owned();
            }
            if program.child.try_wait().context(|| "cannot wait for kafka-batcher")?.is_some()
                || Instant::now() > deadline
            {
                return Err(Error::new(format!("{} does not listen: {said}", setup.name)));
            }
            thread::sleep(Duration::from_millis(20));
        };
        // It ends with the process.
        thread::spawn(move || feed.write(stdin).unwrap_or_default());
        Ok(program)
    }
}

impl Feed {
    /// Until nobody reads it any more.
    fn write(&self, mut to: ChildStdin) -> io::Result<()> {
        let mut due = 0.0;
        let mut number: u64 = 0;
        let mut last = Instant::now();
        loop {
            thread::sleep(STEP);
            let now = Instant::now();
            due += f64::from(self.per_second.load(Ordering::Relaxed)) * (now - last).as_secs_f64();
            last = now;
            // What was not read in time is not made up for: a steady rate, not a flood after a jam.
            due = due.min(f64::from(self.per_second.load(Ordering::Relaxed)));
            let mut lines = String::new();
            while due >= 1.0 {
                due -= 1.0;
                number += 1;
                let width = self.bytes.load(Ordering::Relaxed) as usize;
                lines.push_str(&format!("{number:x<width$}\n"));
            }
            to.write_all(lines.as_bytes())?;
            to.flush()?;
        }
    }
}

impl Program {
    /// Feeds it so many lines a second of so many bytes from now on.
    pub(super) fn feed(&self, per_second: u32, bytes: u32) {
        self.feed.per_second.store(per_second, Ordering::Relaxed);
        self.feed.bytes.store(bytes, Ordering::Relaxed);
    }

    /// From now on every write to a file fails that would make it longer; or none does any more.
    pub(super) fn files_may_grow(&self, may: bool) -> Result<()> {
        let limit = if may { "--fsize=unlimited:" } else { "--fsize=0:" };
        let status = Command::new("prlimit").args(["--pid", &self.child.id().to_string(), limit]).status();
        if status.context(|| "cannot run prlimit, of util-linux")?.success() {
            return Ok(());
        }
        Err(Error::new(format!("prlimit could not limit the files of {}", self.name)))
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn end(mut self) -> Result<()> {
        signal(self.child.id(), Signal::Term)?;
        match children::wait(&mut self.child, PATIENCE)? {
            End::TimedOut => Err(Error::new(format!("kafka-batcher ({}) does not end", self.name))),
            // What it could not deliver is in its spool, and its exit code may say so.
            End::Success | End::Failure => Ok(()),
        }
    }

    /// Kills it, and leaves its spool.
    pub(super) fn kill(mut self) -> Result<PathBuf> {
        self.child.kill().and_then(|()| self.child.wait()).context(|| "cannot kill kafka-batcher")?;
        Ok(self.spool.clone())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }
}

/// An outage is noticed within seconds, so that the run need not take long.
const TIMES: &str = "\
produce_timeout = 3000
connect_timeout = 1000
retry_backoff = 100
recheck_interval = 1000
";
