//! `cargo xtask broker`: real Apache Kafka 4 on loopback, for tests that want the truth.
//!
//! Kafka's jars come from Maven, so nothing needs to be installed but Java and Maven. One node or three, in KRaft mode,
//! each of them broker and controller; `kill`, `stop`, `continue` and `restart` do to them what happens to brokers.
//! With `--secure` they also listen with TLS and SASL, see [`security`]. [`layout`] says where everything is, [`config`] how the nodes are set up, [`ready`] when the cluster counts as up.

mod admin;
mod config;
mod java;
mod layout;
mod leader;
mod maven;
mod metadata;
mod node;
pub(crate) mod process;
mod ready;
#[cfg(test)]
mod real;
pub(crate) mod security;
mod session;
mod up;
mod wire;

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use crate::error::{Context, Error, Result};
use crate::{exit_code, files, print};
use layout::{Cluster, Layout};
use node::Node;
use process::{Signal, State};
pub(crate) use session::{Session, known_ways, ways_in};

/// Tests find their cluster by it. Set before `up`, it names one that is not ours to run.
pub(crate) const BOOTSTRAP: &str = "KAFKA_BATCHER_BOOTSTRAP";
/// Kafka's own for topics.
const TOPIC_TOOL: &str = "org.apache.kafka.tools.TopicCommand";
/// The program that tests call to kill and restart nodes, as in `$KAFKA_BATCHER_BROKER_CTL broker kill 1`.
pub(crate) const CTL: &str = "KAFKA_BATCHER_BROKER_CTL";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster on 127.0.0.1, or what is missing of it, and wait until it works
    ///
    /// The last line of stdout is KAFKA_BATCHER_BOOTSTRAP=ADDRESSES, for tests. If that variable is set already, it
    /// names a cluster of your own, and nothing is started.
    Up(Up),
    /// End all nodes and remove their data (the jars stay)
    Down {
        /// Keep the data; the nodes are ended in an orderly way, and the next `up` goes on with it
        #[arg(long)]
        keep: bool,
    },
    /// Show the nodes; fails unless all are running
    Status {
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Kill a node (SIGKILL)
    Kill {
        /// 1 is the first
        node: u16,
    },
    /// Freeze a node (SIGSTOP): its connections stay open and nothing answers
    Stop {
        /// 1 is the first
        node: u16,
    },
    /// Let a stopped node go on (SIGCONT)
    Continue {
        /// 1 is the first
        node: u16,
    },
    /// Start a killed node again on its data, or end and start a running one, and wait until it is back in sync
    Restart {
        /// 1 is the first
        node: u16,
        #[command(flatten)]
        patience: Patience,
    },
    /// Wait until all running nodes are registered and in sync
    Wait {
        #[command(flatten)]
        patience: Patience,
    },
    /// Create a topic
    Topic(Topic),
    /// Print the node that leads a partition
    Leader(leader::Which),
    /// Have another node lead a partition, wait until all running nodes say so, and print it; without a pause for
    /// clients but what they make themselves
    MoveLeader(leader::Move),
    /// Run a class of Kafka's jars, such as org.apache.kafka.tools.consumer.ConsoleConsumer
    Tool {
        /// The class, with its package
        class: String,
        /// Passed on as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run kafka.tools.DumpLogSegments, which prints the batches in segment files
    DumpLog {
        /// Such as --print-data-log --files target/kafka/node-1/data/TOPIC-0/00000000000000000000.log
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// 1 or 3 [default: as it was, or 1]
    #[arg(long, value_parser = parse_nodes)]
    nodes: Option<u16>,
    /// Partitions of topics that are created without saying how many [default: as it was, or 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: Option<u32>,
    /// Clients' port of node 1; controllers listen 100 above [default: as it was, or 19092, or the
    /// next that is free]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1024..=i64::from(layout::MAX_BASE_PORT)))]
    base_port: Option<u16>,
    /// Also listen with TLS, mutual TLS and SASL over TLS, with certificates and users made for this cluster; the line
    /// KAFKA_BATCHER_SECURITY=FILE on stdout names the file that says how to get in
    #[arg(long)]
    secure: bool,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, Args)]
pub(crate) struct Patience {
    /// Seconds to wait for the cluster to be ready
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl Patience {
    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.timeout)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Topic {
    name: String,
    /// [default: as `up` was told]
    #[arg(long)]
    partitions: Option<u32>,
    /// Copies of each partition [default: one on every node]
    #[arg(long)]
    replication: Option<u16>,
    /// A setting of the topic, such as max.message.bytes=2000000; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// Succeed if there is a topic of that name, whatever it is like
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    patience: Patience,
}

pub(crate) fn parse_nodes(text: &str) -> std::result::Result<u16, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("a cluster has 1 node or 3".to_owned()),
    }
}

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    let layout = Layout::find()?;
    match command {
        Command::Up(options) => up::up(&layout, &options),
        Command::Down { keep } => down(&layout, keep),
        Command::Status { json } => status(&layout, json),
        Command::Kill { node } => signal(&layout, node, Signal::Kill),
        Command::Stop { node } => signal(&layout, node, Signal::Stop),
        Command::Continue { node } => signal(&layout, node, Signal::Cont),
        Command::Restart { node, patience } => restart(&layout, node, &patience),
        Command::Wait { patience } => {
            let (_, nodes) = local_cluster(&layout)?;
            ready::wait(&some_running(&nodes)?, patience.deadline())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Topic(topic) => create_topic(&layout, &topic),
        Command::Leader(which) => {
            let (_, nodes) = local_cluster(&layout)?;
            print_node(leader::find(&some_running(&nodes)?, &which)?)
        }
        Command::MoveLeader(options) => {
            let (_, nodes) = local_cluster(&layout)?;
            print_node(leader::move_to(&some_running(&nodes)?, &options, options.patience.deadline())?)
        }
        Command::Tool { class, arguments } => tool(&layout, &class, &arguments),
        Command::DumpLog { arguments } => tool(&layout, "kafka.tools.DumpLogSegments", &arguments),
    }
}

fn down(layout: &Layout, keep: bool) -> Result<ExitCode> {
    let _lock = layout.lock()?;
    let Some(cluster) = layout.load_cluster()? else {
        eprintln!("no cluster is there");
        return Ok(ExitCode::SUCCESS);
    };
    let nodes = nodes_of(layout, &cluster);
    if keep {
        // One after the other would have the last ones wait in vain for a quorum, to hand over to.
        let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
            let threads: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.shut_down())).collect();
            let panicked = || Err(Error::new("the thread that ends a node panicked"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        outcomes.into_iter().collect::<Result<()>>()?;
        eprintln!("down; the data is kept");
    } else {
        for node in nodes.iter().filter(|node| node.look().state != State::Dead) {
            node.signal(Signal::Kill)?;
        }
        layout.remove_cluster()?;
        eprintln!("down; the last logs are in {}", layout.logs().display());
    }
    Ok(ExitCode::SUCCESS)
}

fn status(layout: &Layout, json: bool) -> Result<ExitCode> {
    let Some(cluster) = layout.load_cluster()? else {
        if json {
            print("{\"bootstrap\":null,\"security\":null,\"nodes\":[]}\n")?;
        } else {
            eprintln!("no cluster is there; `cargo xtask broker up` starts one");
        }
        return Ok(ExitCode::FAILURE);
    };
    let sights: Vec<(Node, node::Sight)> = nodes_of(layout, &cluster)
        .into_iter()
        .map(|node| {
            let sight = node.look();
            (node, sight)
        })
        .collect();
    if json {
        let rows: Vec<String> = sights
            .iter()
            .map(|(node, sight)| {
                let pid = sight.pid.map_or_else(|| "null".to_owned(), |pid| pid.to_string());
                let (id, port, state, rss) = (node.id, node.port(), sight.state.name(), sight.rss_kib);
                format!(
                    "{{\"node\":{id},\"pid\":{pid},\"state\":\"{state}\",\"port\":{port},\"rss_kib\":{rss}}}"
                )
            })
            .collect();
        let bootstrap = cluster.bootstrap();
        let security = cluster.secure.then(|| layout.security_file());
        let security = serde_json::to_string(&security).context(|| "cannot write JSON")?;
        let nodes = rows.join(",");
        print(&format!("{{\"bootstrap\":\"{bootstrap}\",\"security\":{security},\"nodes\":[{nodes}]}}\n"))?;
    } else {
        let mut table = format!("{:<5} {:>8} {:<8} {:>6} {:>9}\n", "node", "pid", "state", "port", "rss");
        for (node, sight) in &sights {
            let pid = sight.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let rss = format!("{} MiB", sight.rss_kib / 1024);
            let (id, port, state) = (node.id, node.port(), sight.state.name());
            table.push_str(&format!("{id:<5} {pid:>8} {state:<8} {port:>6} {rss:>9}\n"));
        }
        if cluster.secure {
            table.push_str(&format!("{}={}\n", security::FILE, layout.security_file().display()));
        }
        table.push_str(&format!("{BOOTSTRAP}={}\n", cluster.bootstrap()));
        print(&table)?;
    }
    let all = sights.iter().all(|(_, sight)| sight.state == State::Running);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// Without the lock: a test may well want to kill a node while another command waits for the cluster.
fn signal(layout: &Layout, id: u16, signal: Signal) -> Result<ExitCode> {
    let (cluster, nodes) = local_cluster(layout)?;
    node_of(&cluster, &nodes, id)?.signal(signal)?;
    Ok(ExitCode::SUCCESS)
}

fn restart(layout: &Layout, id: u16, patience: &Patience) -> Result<ExitCode> {
    let began = Instant::now();
    let deadline = patience.deadline();
    let _lock = layout.lock()?;
    let (cluster, nodes) = local_cluster(layout)?;
    let node = node_of(&cluster, &nodes, id)?;
    node.shut_down()?;
    up::start(layout, &cluster, &[node], true)?;
    // Others may be down on purpose, but this one has to be back.
    let expected: Vec<&Node> =
        nodes.iter().filter(|other| other.id == id || other.look().state == State::Running).collect();
    ready::wait(&expected, deadline)?;
    eprintln!("node {id} is back after {:.1} s", began.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

fn print_node(id: i32) -> Result<ExitCode> {
    print(&format!("{id}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn create_topic(layout: &Layout, topic: &Topic) -> Result<ExitCode> {
    let (bootstrap, nodes) = match own_cluster() {
        Some(bootstrap) => (bootstrap, None),
        None => {
            let (cluster, nodes) = local_cluster(layout)?;
            some_running(&nodes)?;
            (cluster.bootstrap(), Some(nodes))
        }
    };
    let mut arguments: Vec<String> =
        ["--bootstrap-server", &bootstrap, "--create", "--topic", &topic.name].map(str::to_owned).to_vec();
    if let Some(partitions) = topic.partitions {
        arguments.extend(["--partitions".to_owned(), partitions.to_string()]);
    }
    if let Some(replication) = topic.replication {
        arguments.extend(["--replication-factor".to_owned(), replication.to_string()]);
    }
    for config in &topic.config {
        arguments.extend(["--config".to_owned(), config.clone()]);
    }
    if topic.if_not_exists {
        arguments.push("--if-not-exists".to_owned());
    }
    let deadline = topic.patience.deadline();
    let code = tool(layout, TOPIC_TOOL, &arguments)?;
    if code == ExitCode::SUCCESS
        && let Some(nodes) = &nodes
    {
        // The tool is content once the controller has recorded it; producers ask the brokers.
        ready::wait_for_topic(&some_running(nodes)?, &topic.name, deadline)?;
    }
    Ok(code)
}

/// Runs a class of the jars in the caller's folder and at the caller's terminal, and returns its exit code.
fn tool(layout: &Layout, class: &str, arguments: &[String]) -> Result<ExitCode> {
    let mut command = tool_command(layout, class)?;
    let status = command.args(arguments).stdin(Stdio::inherit()).status();
    Ok(exit_code(status.context(|| format!("cannot run `{}`", command.get_program().display()))?))
}

/// A class of Kafka's jars, to be given its arguments.
pub(crate) fn java_tool(class: &str) -> Result<std::process::Command> {
    tool_command(&Layout::find()?, class)
}

fn tool_command(layout: &Layout, class: &str) -> Result<std::process::Command> {
    let java = java::find()?;
    {
        let _lock = layout.lock()?;
        maven::ensure_jars(layout)?;
    }
    let log4j2 = layout.root().join("log4j2-tool.properties");
    files::write(&log4j2, config::TOOL_LOG4J2)?;
    let mut logging = std::ffi::OsString::from("-Dlog4j2.configurationFile=");
    logging.push(&log4j2);
    let mut command = std::process::Command::new(&java);
    command
        .args(["-Xmx512m", "-Djava.awt.headless=true"])
        .arg(logging)
        .arg("-cp")
        .arg(java::class_path(&layout.jars()))
        .arg(class);
    Ok(command)
}

/// The cluster that the user has named, which is not ours to start.
pub(crate) fn own_cluster() -> Option<String> {
    std::env::var(BOOTSTRAP).ok().filter(|bootstrap| !bootstrap.is_empty())
}

/// What the user has said of the security of that cluster.
pub(crate) fn own_security() -> Option<std::path::PathBuf> {
    std::env::var_os(security::FILE).filter(|file| !file.is_empty()).map(Into::into)
}

fn nodes_of(layout: &Layout, cluster: &Cluster) -> Vec<Node> {
    cluster.ids().into_iter().map(|id| Node::new(layout, cluster, id)).collect()
}

fn node_of<'a>(cluster: &Cluster, nodes: &'a [Node], id: u16) -> Result<&'a Node> {
    let count = cluster.nodes;
    let found = nodes.iter().find(|node| node.id == id);
    found.ok_or_else(|| Error::new(format!("there is no node {id}: nodes count from 1 to {count}")))
}

fn local_cluster(layout: &Layout) -> Result<(Cluster, Vec<Node>)> {
    let cluster = layout.load_cluster()?;
    let cluster =
        cluster.ok_or_else(|| Error::new("no cluster is there; `cargo xtask broker up` starts one"))?;
    let nodes = nodes_of(layout, &cluster);
    Ok((cluster, nodes))
}

/// The nodes that are running, of which there has to be one.
fn some_running(nodes: &[Node]) -> Result<Vec<&Node>> {
    let running: Vec<&Node> = nodes.iter().filter(|node| node.look().state == State::Running).collect();
    if running.is_empty() {
        return Err(Error::new("no node is running; `cargo xtask broker up` starts what is missing"));
    }
    Ok(running)
}
