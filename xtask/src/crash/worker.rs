//! The process that is killed: starting it, hearing what it says, and killing it at an instant.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use crate::children;
use crate::error::{Context, Error, Result};
use crate::workspace::Workspace;

/// Far more than anything takes, on a machine that is busy with other things, too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Builds the program, and tells where it is.
pub(crate) fn build(workspace: &Workspace, profile: &str) -> Result<PathBuf> {
    workspace.build_example("crash_worker", "sled", profile)
}

/// What a process is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Starting,
    Opening,
    Running,
    Closing,
    Closed,
}

impl Phase {
    /// The line by which it begins.
    fn of(line: &str) -> Option<Self> {
        Some(match line.split(' ').next()? {
            "OPENING" => Self::Opening,
            "RUNNING" => Self::Running,
            "CLOSING" => Self::Closing,
            "CLOSED" => Self::Closed,
            _ => return None,
        })
    }
}

/// A process and what it has said so far.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    lines: mpsc::Receiver<(Instant, String)>,
    run: u64,
    pub(crate) phase: Phase,
    /// When each phase began.
    pub(crate) began: Vec<(Phase, Instant)>,
    /// What it has said that it should not have.
    pub(crate) complaints: Vec<String>,
    pub(crate) is_drained: bool,
}

impl Worker {
    /// Starts run number `run` with these settings.
    pub(crate) fn start(program: &Path, run: u64, settings: &[(&str, String)]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(settings.iter().map(|(name, value)| format!("{name}={value}")))
            .arg(format!("run={run}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context(|| format!("cannot run {}", program.display()))?;
        let stdout = child.stdout.take().ok_or_else(|| Error::new("the worker has no standard output"))?;
        let lines = children::lines(stdout, |line| (Instant::now(), line));
        let (began, complaints) = (Vec::new(), Vec::new());
        Ok(Self { child, lines, run, phase: Phase::Starting, began, complaints, is_drained: false })
    }

    /// Listens until the phase is reached, or the process has ended before.
    pub(crate) fn until(&mut self, phase: Phase, ledger: &mut Ledger) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.phase < phase {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((at, line)) => self.hear(at, &line, ledger),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(Error::new(format!("run {}: it is still {:?}", self.run, self.phase)));
                }
            }
        }
        Ok(())
    }

    /// Kills it, and hears what it said before. Whether it was killed, or had ended by itself.
    pub(crate) fn kill(mut self, ledger: &mut Ledger) -> Result<(Self, bool)> {
        self.child.kill().context(|| "cannot kill the worker")?;
        self.finish(ledger)
    }

    /// Waits until it has ended.
    pub(crate) fn finish(mut self, ledger: &mut Ledger) -> Result<(Self, bool)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((at, line)) => self.hear(at, &line, ledger),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(Error::new(format!("run {}: it does not end", self.run)));
                }
            }
        }
        let status = self.child.wait().context(|| "cannot wait for the worker")?;
        match status.code() {
            None => return Ok((self, true)),
            Some(0) => {}
            // It has said why, unless it panicked.
            Some(code) => self.complain(format!("ended with exit code {code}")),
        }
        Ok((self, false))
    }

    /// How long a phase took until the next one began.
    pub(crate) fn took(&self, phase: Phase) -> Option<Duration> {
        let at =
            |wanted: &dyn Fn(Phase) -> bool| self.began.iter().find(|(p, _)| wanted(*p)).map(|(_, at)| *at);
        Some(at(&|p| p > phase)?.duration_since(at(&|p| p == phase)?))
    }

    fn complain(&mut self, what: String) {
        self.complaints.push(format!("run {}: {what}", self.run));
    }

    fn hear(&mut self, at: Instant, line: &str, ledger: &mut Ledger) {
        ledger.hear(self.run, line);
        if let Some(phase) = Phase::of(line) {
            self.phase = phase;
            self.began.push((phase, at));
        }
        match line.split(' ').next() {
            Some("DRAINED") => self.is_drained = true,
            Some("DAMAGED" | "FAILED") => self.complain(line.to_owned()),
            Some("CLOSED") if line != "CLOSED 0" => self.complain(line.to_owned()),
            _ => {}
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Only if something else went wrong meanwhile.
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }
}
