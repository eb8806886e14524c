//! An outage of an hour in a few minutes: millions of events are accepted while Kafka is gone, and all of them are sent
//! when it is back.
//!
//! The process is the example `outage_worker`. [`process`] listens to it and watches its memory and its spool, [`check`]
//! is the verdict about what another client then reads from the topic.

mod check;
mod process;

use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use super::End;
use crate::broker::Session;
use crate::error::Result;
use crate::files;
use crate::flights::receive::{self, Reader};
use crate::workspace::Workspace;
use check::Check;
use process::Process;

/// What an application with 1,400 a second adds in an hour.
pub(super) const EVENTS: u64 = 5_000_000;

const MIB: u64 = 1024 * 1024;

/// The batcher's default memory budget, and what the process may take beside it.
const MEMORY: u64 = 64 * MIB;
const BESIDE: u64 = 64 * MIB;
/// The spool's quota, and what may be left of it when it is drained.
const QUOTA: u64 = 4096 * MIB;
const DRAINED: u64 = 16 * MIB;

const PARTITIONS: u32 = 12;
const TASKS: u64 = 8;
/// Events that go through before Kafka dies.
const WARM_UP: u64 = 8_000;

pub(super) fn run(workspace: &Workspace, profile: &str, events: u64, journal: bool) -> Result<End> {
    // The same for each task.
    let events = events.div_ceil(TASKS) * TASKS;
    let reader = Reader::find()?;
    let program = process::build(workspace, profile)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let topic = format!("outage-{}-{}", now.as_secs(), std::process::id());
    let folder = workspace.target.join("outage");
    files::create_dir_all(&folder)?;
    let outage = Outage { program, spool: folder.join(&topic), topic, events, journal };

    let session = Session::local(1)?;
    session.create_topic(&outage.topic, PARTITIONS)?;
    let began = Instant::now();
    let mut end = outage.happen(&session)?;
    let mut check = Check::new(TASKS, WARM_UP + events);
    receive::each(reader, &session, &outage.topic, |record| check.take(&record))?;
    let verdict = check.verdict();
    end.sums.push(verdict.to_string());
    end.complaints.extend(verdict.complaints());
    end.seconds = began.elapsed().as_secs_f64();
    if end.complaints.is_empty() {
        files::remove_dir_all(&outage.spool)?;
    } else {
        eprintln!("the spool is kept in {}", outage.spool.display());
    }
    Ok(end)
}

struct Outage {
    program: PathBuf,
    spool: PathBuf,
    topic: String,
    events: u64,
    journal: bool,
}

impl Outage {
    fn settings(&self, bootstrap: &str) -> Vec<(&'static str, String)> {
        vec![
            ("bootstrap", bootstrap.to_owned()),
            ("topic", self.topic.clone()),
            ("spool", self.spool.display().to_string()),
            ("events", self.events.to_string()),
            ("warm_up", WARM_UP.to_string()),
            ("quota", QUOTA.to_string()),
            ("memory", MEMORY.to_string()),
            ("tasks", TASKS.to_string()),
            ("journal", self.journal.to_string()),
        ]
    }

    fn happen(&self, session: &Session) -> Result<End> {
        let mut end = End::default();
        let mut complain = |broken: bool, text: String| {
            if broken {
                end.complaints.push(text);
            }
        };
        let mut process = Process::start(&self.program, &self.spool, &self.settings(session.bootstrap()))?;
        let [delivered] = process.until("READY")?;
        complain(delivered != WARM_UP, format!("{delivered} of {WARM_UP} events came through at first"));
        session.kill(1)?;
        eprintln!("Kafka is dead");
        process.go_on()?;
        let gone = Instant::now();
        let [accepted, delivered, stored, in_memory] = process.until("ALL")?;
        let accepting = gone.elapsed().as_secs_f64();
        let all = WARM_UP + self.events;
        complain(accepted != all, format!("{accepted} of {all} events were accepted"));
        complain(delivered != WARM_UP, format!("{delivered} events were delivered, and Kafka was dead"));
        let outage = process.peaks;

        session.restart(1)?;
        let back = Instant::now();
        let [maybe] = process.until("DRAINED")?;
        let sending = back.elapsed().as_secs_f64();
        let left = process.until_small(DRAINED)?;
        process.go_on()?;
        let [lost] = process.until("CLOSED")?;
        let peaks = process.end()?;
        let closed = process::disk_use(&self.spool);
        complain(lost > 0, format!("{lost} events are lost, says the process"));
        let memory = peaks.memory;
        complain(memory > MEMORY + BESIDE, format!("{} of memory", mib(memory)));
        complain(peaks.disk > QUOTA, format!("{} on the disk, of {}", mib(peaks.disk), mib(QUOTA)));
        complain(left.max(closed) >= DRAINED, format!("{} are left on the disk", mib(left.max(closed))));
        end.sums.push(format!(
            "{accepted} events accepted in {accepting:.0} s{}, {stored} of them stored and {in_memory} in memory when the \
             last was; sent in {sending:.0} s, {maybe} perhaps twice; {lost} lost",
            if self.journal { " through the journal" } else { "" },
        ));
        end.sums.push(format!(
            "at most {} of memory ({} without Kafka) of {}, {} on the disk of {}; {} there when it was drained, {} when it was closed",
            mib(memory),
            mib(outage.memory),
            mib(MEMORY + BESIDE),
            mib(peaks.disk),
            mib(QUOTA),
            mib(left),
            mib(closed),
        ));
        Ok(end)
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}
