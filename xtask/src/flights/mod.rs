//! `cargo xtask flights`: a year of real flights through `kafka-batcher produce` into real Kafka, keyed by aircraft, and
//! back through a consumer that is not ours; with `--kill`, through a broker that dies in the middle, too.
//!
//! [`input`] is what was sent, [`send`] the sending and killing, [`receive`] the reading back, and [`check`] the verdict.

mod check;
mod input;
pub(crate) mod receive;
pub(crate) mod send;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use clap::Args;

use crate::broker::Session;
use crate::error::{Context, Error, Result};
use crate::workspace::Workspace;
use crate::{compilers, files, print};
use check::Promise;
pub(crate) use input::Input;
use receive::Reader;

#[derive(Debug, Args)]
pub(crate) struct Flights {
    /// The flights, one JSON object with `id` and `tailnum` a line, gzipped or not [default: $KAFKA_BATCHER_FLIGHTS, or
    /// else ../shared/data/flights.ndjson.gz]
    #[arg(long)]
    file: Option<PathBuf>,
    /// Only the first so many
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Partitions of the topic
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    partitions: u32,
    /// Kill the broker (SIGKILL) in the middle, and start it again
    #[arg(long)]
    kill: bool,
    /// With --kill: how long the broker is dead before it is started again
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=60))]
    outage: u64,
    /// The consumer that reads back [default: kcat, or else Kafka's own]
    #[arg(long, value_enum)]
    reader: Option<Reader>,
    /// Cargo's profile to build kafka-batcher with
    #[arg(long, default_value = "release")]
    profile: String,
}

/// What `produce` is told with --kill, so that the promise is about these numbers.
const BATCH: Promise = Promise { events: 10_000, bytes: 1_000_000 };

pub(crate) fn run(options: &Flights) -> Result<ExitCode> {
    compilers::check()?;
    let workspace = Workspace::load()?;
    let reader = options.reader.map_or_else(Reader::find, Ok)?;
    let folder = workspace.target.join("flights");
    files::create_dir_all(&folder)?;
    let input = Input::load(&find_file(options.file.as_deref(), &workspace)?, options.count, &folder)?;
    let program = send::build(&workspace, &options.profile)?;

    let session = if options.kill { Session::local(1)? } else { Session::begin(1)? };
    let topic = fresh_topic();
    session.create_topic(&topic, options.partitions)?;
    let sender = send::Sender { program: &program, session: &session, topic: &topic, input: &input };
    let began = Instant::now();
    if options.kill {
        sender.send_and_kill(&BATCH, std::time::Duration::from_secs(options.outage))?;
    } else {
        sender.send()?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let events = input.len();
    let rate = events as f64 / seconds;
    eprintln!("sent {events} events in {seconds:.2} s, {rate:.0} a second, as seen from outside the process");

    let read = receive::read(reader, &session, &topic)?;
    let verdict = check::check(&input, read);
    // Without an incident there is no excuse for a duplicate.
    let promise = if options.kill { BATCH } else { Promise { events: 0, bytes: 0 } };
    let complaints = verdict.complaints(&promise);
    print(&format!(
        "flights: {events} events in {seconds:.2} s, {rate:.0} events/s{}; read back by {}: {verdict}\n",
        if options.kill { ", broker killed and restarted" } else { "" },
        reader.name(),
    ))?;
    for complaint in &complaints {
        eprintln!("error: {complaint}");
    }
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The named file, or the one of the environment, or the one beside the workspace.
pub(crate) fn find_file(named: Option<&Path>, workspace: &Workspace) -> Result<PathBuf> {
    const VARIABLE: &str = "KAFKA_BATCHER_FLIGHTS";
    if let Some(file) = named {
        return Ok(file.to_owned());
    }
    if let Some(file) = std::env::var_os(VARIABLE).filter(|file| !file.is_empty()) {
        return Ok(PathBuf::from(file));
    }
    let shared = workspace.root.join("../shared/data/flights.ndjson.gz");
    if shared.exists() {
        return Ok(shared);
    }
    Err(Error::new(format!(
        "which flights? Name a file with --file or {VARIABLE}: one JSON object with `id`, a number that no other line has, \
         and `tailnum`, text or null, a line, gzipped or not. kafka-batcher-cli/data has a sample"
    )))
}

/// One that no earlier run has used.
fn fresh_topic() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("flights-{}-{}", now.as_secs(), std::process::id())
}

/// The lines of the given file as bytes, unzipped if need be.
fn unzipped(file: &std::path::Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "gz") {
        return std::fs::read(file).context(|| format!("cannot read {}", file.display()));
    }
    let output = std::process::Command::new("gzip")
        .arg("-dc")
        .arg(file)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context(|| "cannot run `gzip`")?;
    if !output.status.success() {
        return Err(Error::new(format!("`gzip -dc {}` failed ({})", file.display(), output.status)));
    }
    Ok(output.stdout)
}
