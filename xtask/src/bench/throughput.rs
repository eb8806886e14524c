//! Events per second and client CPU per event, of `kafka-batcher/examples/throughput`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::median;
use crate::broker::Session;
use crate::error::{Context, Error, Result};
use crate::table::Table;
use crate::workspace::Workspace;
use crate::{compilers, print};

#[derive(Debug, Args)]
pub(crate) struct Throughput {
    /// What to send to
    #[arg(long, value_enum, default_value_t = Broker::Embedded)]
    broker: Broker,
    /// Rounds, in each of which every client sends all events
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Events that each client sends in a round
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Bytes of an event's value
    #[arg(long, default_value_t = 100)]
    size: u32,
    /// Partitions of the topic
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    partitions: u32,
    /// The batcher with an accumulator for each partition
    #[arg(long)]
    by_partition: bool,
    /// librdkafka's linger.ms, for all clients [default: 0 for the batcher, librdkafka's own for the others]
    #[arg(long)]
    linger: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Broker {
    /// librdkafka's mock cluster, in a process of its own
    Embedded,
    /// Real Apache Kafka: the cluster of `KAFKA_BATCHER_BOOTSTRAP`, or one started for this
    Kafka,
}

const OURS: &str = "kafka-batcher";
const FUTURE: &str = "future-producer";
const BARE: &str = "produceva";
const CLIENTS: [&str; 3] = [OURS, FUTURE, BARE];

#[derive(Debug, Deserialize)]
struct Figures {
    events: f64,
    wall_s: f64,
    cpu_s: f64,
}

pub(crate) fn run(options: &Throughput) -> Result<ExitCode> {
    compilers::check()?;
    let workspace = Workspace::load()?;
    build(&workspace)?;
    let programs = workspace.target.join("release/examples");
    let (broker, bootstrap) = match options.broker {
        Broker::Embedded => {
            let broker = MockBroker::start(&programs.join("mock_broker"), options.partitions)?;
            let bootstrap = broker.bootstrap.clone();
            (Running::Mock(broker), bootstrap)
        }
        Broker::Kafka => {
            let session = Session::begin(1)?;
            let bootstrap = session.bootstrap().to_owned();
            (Running::Kafka(session), bootstrap)
        }
    };
    let mut results: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
    for round in 1..=options.rounds {
        for client in CLIENTS {
            let topic = broker.topic(options.partitions, round, client)?;
            let result = send(&programs.join("throughput"), client, &bootstrap, &topic, options)?;
            eprintln!(
                "round {round}: {client:<15} {:.3} M events/s, {:.3} µs of CPU an event",
                result.events / result.wall_s / 1e6,
                result.cpu_s / result.events * 1e6
            );
            results.entry(client).or_default().push(result);
        }
    }
    print(&table(&results))?;
    Ok(ExitCode::SUCCESS)
}

/// The cluster, for as long as it is needed.
enum Running {
    Mock(#[expect(dead_code, reason = "held, and ended when dropped")] MockBroker),
    Kafka(Session),
}

impl Running {
    /// A topic of its own for each run on real Kafka: logs that have grown are slower.
    fn topic(&self, partitions: u32, round: u32, client: &str) -> Result<String> {
        match self {
            Self::Mock(_) => Ok(MockBroker::TOPIC.to_owned()),
            Self::Kafka(session) => {
                let topic = format!("bench-{}-{round}-{client}", std::process::id());
                session.create_topic(&topic, partitions)?;
                Ok(topic)
            }
        }
    }
}

fn build(workspace: &Workspace) -> Result<()> {
    for arguments in [
        &["--package", "kafka-batcher", "--example", "throughput"][..],
        &["--package", "kafka-batcher-testkit", "--features", "embedded", "--example", "mock_broker"],
    ] {
        let status = workspace.cargo().args(["build", "--release"]).args(arguments).status();
        if !status.context(|| "cannot run cargo")?.success() {
            return Err(Error::new("the programs to measure could not be built"));
        }
    }
    Ok(())
}

fn send(program: &Path, client: &str, bootstrap: &str, topic: &str, options: &Throughput) -> Result<Figures> {
    let mut command = Command::new(program);
    command.arg(client).args(["--bootstrap", bootstrap, "--topic", topic]);
    command.args(["--events", &options.events.to_string(), "--size", &options.size.to_string()]);
    command.args(["--partitions", &options.partitions.to_string()]);
    if options.by_partition {
        command.arg("--by-partition");
    }
    if let Some(linger) = &options.linger {
        command.args(["--linger", linger]);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        return Err(Error::new(format!("{client} failed: {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).context(|| format!("{client} printed no result"))
}

fn table(results: &BTreeMap<&str, Vec<Figures>>) -> String {
    let of = |client: &str, figure: fn(&Figures) -> f64| {
        median(results.get(client).into_iter().flatten().map(figure))
    };
    let rate = |client: &str| of(client, |r| r.events / r.wall_s / 1e6);
    let cpu = |client: &str| of(client, |r| r.cpu_s / r.events * 1e6);
    let mut table = Table::new(&[
        "client",
        "M events/s",
        "µs CPU/event",
        "rate, kafka-batcher's to it",
        "CPU, kafka-batcher's to it",
    ]);
    for client in CLIENTS {
        table.row(&[
            client,
            &format!("{:.3}", rate(client)),
            &format!("{:.3}", cpu(client)),
            &format!("{:.2}", rate(OURS) / rate(client)),
            &format!("{:.2}", cpu(OURS) / cpu(client)),
        ]);
    }
    format!(
        "{}medians of the rounds; at least 2.00 and at most 0.50 of {FUTURE}, at least 0.85 of {BARE} are aimed at\n",
        table.render()
    )
}

/// The embedded broker in a process of its own, so that its CPU time is not the client's. Ends when dropped.
#[derive(Debug)]
struct MockBroker {
    child: Child,
    bootstrap: String,
}

impl MockBroker {
    const TOPIC: &str = "bench";

    fn start(program: &Path, partitions: u32) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["--partitions", &partitions.to_string(), Self::TOPIC])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context(|| format!("cannot run {}", program.display()))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).context(|| "the embedded broker says nothing")?;
        }
        Ok(Self { child, bootstrap: line.trim().to_owned() })
    }
}

impl Drop for MockBroker {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // the end of its input ends it
        self.child.wait().map(drop).unwrap_or_default();
    }
}
