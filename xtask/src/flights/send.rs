//! Sending the flights with `kafka-batcher produce`, in peace or while the broker is killed and restarted.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::check::Promise;
use super::input::Input;
use crate::broker::Session;
use crate::children::{self, End};
use crate::error::{Context, Error, Result};
use crate::workspace::Workspace;

/// While the broker is dead, lines come in over so long a time, so that there is something going on.
const THROUGH_OUTAGE: Duration = Duration::from_secs(4);
const STEPS: usize = 100;
/// Far more than it takes; it gives up by itself before.
const LONGEST: Duration = Duration::from_secs(300);

/// Builds the program, and tells where it is.
pub(crate) fn build(workspace: &Workspace, profile: &str) -> Result<PathBuf> {
    eprintln!("building kafka-batcher (profile {profile})");
    let status = workspace
        .cargo()
        .args(["build", "--quiet", "--package", "kafka-batcher-cli", "--profile", profile])
        .status()
        .context(|| "cannot run cargo")?;
    if !status.success() {
        return Err(Error::new(format!("building kafka-batcher failed ({status})")));
    }
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(workspace.target.join(folder).join("kafka-batcher"))
}

pub(crate) struct Sender<'a> {
    pub(crate) program: &'a Path,
    pub(crate) session: &'a Session,
    pub(crate) topic: &'a str,
    pub(crate) input: &'a Input,
}

impl Sender<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command
            .args(["produce", "--topic", self.topic, "--key-field", "tailnum", "--no-progress"])
            .args(["--brokers", self.session.bootstrap()]);
        command
    }

    /// The file as it is, with the defaults.
    pub(crate) fn send(&self) -> Result<()> {
        let child = self.command().arg(&self.input.path).stdin(Stdio::null()).spawn();
        finish(child.context(|| format!("cannot run {}", self.program.display()))?)
    }

    /// Through standard input: a third as fast as it goes, then the broker is killed; a third while it is dead; and
    /// the rest once it is back.
    pub(crate) fn send_and_kill(&self, batch: &Promise, outage: Duration) -> Result<()> {
        let mut child = self
            .command()
            .args(["--batch-size", &batch.events.to_string()])
            .args(["--max-batch-bytesize", &batch.bytes.to_string()])
            .arg("-")
            .stdin(Stdio::piped())
            .spawn()
            .context(|| format!("cannot run {}", self.program.display()))?;
        let stdin = child.stdin.take().ok_or_else(|| Error::new("the child has no standard input"))?;
        let outcome = thread::scope(|scope| {
            let (reached, at_a_third) = mpsc::channel();
            let (tell, events) = mpsc::channel();
            let writer = scope.spawn(|| self.write(stdin, reached, events));
            let incident = self.incident(&mut child, &at_a_third, &tell, outage);
            // The writer may be waiting for the broker, or for somebody to read what it writes.
            drop(tell);
            if incident.is_err() {
                child.kill().unwrap_or_default();
            }
            let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
            let written = written.context(|| "cannot write to kafka-batcher's standard input");
            incident.and(written)
        });
        match outcome {
            Ok(()) => finish(child),
            Err(error) => {
                // Whatever became of it, the error is the better story.
                child.kill().and_then(|()| child.wait()).map(|_| ()).unwrap_or_default();
                Err(error)
            }
        }
    }

    /// `events` says first that the broker is killed, and then that it is back.
    fn write(
        &self,
        mut stdin: impl Write,
        reached: mpsc::Sender<()>,
        events: mpsc::Receiver<()>,
    ) -> io::Result<()> {
        let all = self.input.len();
        let (first, second) = (all / 3, all / 3 * 2);
        let step = (second - first) / STEPS + 1;
        stdin.write_all(self.input.lines(0..first))?;
        reached.send(()).unwrap_or_default();
        let mut next = first;
        let mut killed = false;
        while next < second {
            let until = (next + step).min(second);
            stdin.write_all(self.input.lines(next..until))?;
            stdin.flush()?;
            next = until;
            // At full speed until it is killed, so that there is much under way then.
            killed = killed || events.try_recv().is_ok();
            if killed {
                thread::sleep(THROUGH_OUTAGE / STEPS as u32);
            }
        }
        let is_back = (killed || events.recv().is_ok()) && events.recv().is_ok();
        if is_back { stdin.write_all(self.input.lines(second..all)) } else { Ok(()) }
    }

    /// Kills the broker once a third is written, and brings it back.
    fn incident(
        &self,
        child: &mut Child,
        at_a_third: &mpsc::Receiver<()>,
        events: &mpsc::Sender<()>,
        outage: Duration,
    ) -> Result<()> {
        at_a_third.recv().context(|| "kafka-batcher ended before a third of the events was written")?;
        self.session.kill(1)?;
        eprintln!("node 1 is killed");
        events.send(()).unwrap_or_default();
        thread::sleep(outage);
        self.session.restart(1)?;
        events.send(()).unwrap_or_default();
        match child.try_wait().context(|| "cannot wait for kafka-batcher")? {
            Some(status) => {
                Err(Error::new(format!("kafka-batcher ended while the broker was away ({status})")))
            }
            None => Ok(()),
        }
    }
}

fn finish(mut child: Child) -> Result<()> {
    match children::wait(&mut child, LONGEST)? {
        End::Success => Ok(()),
        End::Failure => Err(Error::new("kafka-batcher failed")),
        End::TimedOut => Err(Error::new(format!("kafka-batcher did not end within {} s", LONGEST.as_secs()))),
    }
}
