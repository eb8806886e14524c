//! One node: starting its process, finding it again, signalling it, waiting for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::layout::{Cluster, Layout};
use super::process::{self, Process, Signal, State};
use super::security::Users;
use super::{config, java};
use crate::error::{Context, Error, Result};
use crate::files;

/// How long a signal may take to have its effect; long enough for a machine busy with tests.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to flush and hand its partitions over before it is killed.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u16,
    /// All it listens on, that for clients first.
    ports: Vec<u16>,
    dir: PathBuf,
    log: PathBuf,
    output: PathBuf,
}

/// What a look at a node found. Without a pid it is dead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) pid: Option<u32>,
    pub(crate) state: State,
    pub(crate) rss_kib: u64,
}

impl Node {
    pub(crate) fn new(layout: &Layout, cluster: &Cluster, id: u16) -> Self {
        Self {
            id,
            ports: cluster.ports(id),
            dir: layout.node_dir(id),
            log: layout.node_log(id),
            output: layout.node_output(id),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports.first().copied().unwrap_or_default()
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("kafka.pid")
    }

    /// Marks the process as this node of this checkout, for [`is_node`]; nothing reads the property.
    fn mark(&self) -> String {
        format!("-Dkafka-batcher.node={}", self.dir.display())
    }

    pub(crate) fn look(&self) -> Sight {
        let dead = Sight { pid: None, state: State::Dead, rss_kib: 0 };
        let Ok(text) = fs::read_to_string(self.pid_file()) else { return dead };
        let Some(pid) = text.trim().parse().ok() else { return dead };
        match process::find(pid) {
            Some(found) if is_node(&found, &self.mark()) => {
                Sight { pid: Some(pid), state: found.state, rss_kib: found.rss_kib }
            }
            _ => dead,
        }
    }

    pub(crate) fn is_formatted(&self) -> bool {
        self.dir.join("data").join("meta.properties").exists()
    }

    /// With passwords in it, if there are users.
    pub(crate) fn write_config(&self, cluster: &Cluster, users: Option<&Users>) -> Result<()> {
        files::create_dir_all(&self.dir)?;
        let text = config::server_properties(cluster, self.id, users);
        files::write_private(&self.dir.join("server.properties"), &text)
    }

    /// Starts to write the empty log of a new cluster's node. Wait for the child.
    pub(crate) fn format(
        &self,
        java: &Path,
        cluster: &Cluster,
        users: Option<&Users>,
    ) -> Result<std::process::Child> {
        let mut command = self.java(java, "128m")?;
        // It ends before a better compiler or collector could pay off.
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        command.args(["kafka.tools.StorageTool", "format", "-t", &cluster.id, "-c", "server.properties"]);
        command.args(users.map(Users::scram_arguments).unwrap_or_default());
        command.spawn().context(|| format!("cannot run `{}`", java.display()))
    }

    /// Starts the node's process, to outlive this one; init will reap it.
    pub(crate) fn start(&self, java: &Path, heap: &str) -> Result<()> {
        let mut command = self.java(java, heap)?;
        command.arg(self.mark()).args(["kafka.Kafka", "server.properties"]);
        // Ctrl-C at the terminal is for xtask alone.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().context(|| format!("cannot run `{}`", java.display()))?;
        files::write(&self.pid_file(), &format!("{}\n", child.id()))
    }

    /// Java in the node's folder, with paths relative to it (see [`config`] for why), holding none of our handles.
    fn java(&self, java: &Path, heap: &str) -> Result<Command> {
        let output = OpenOptions::new().create(true).append(true).open(&self.output);
        let output = output.context(|| format!("cannot write {}", self.output.display()))?;
        let again = output.try_clone().context(|| format!("cannot write {}", self.output.display()))?;
        let mut command = Command::new(java);
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(again)
            .arg(format!("-Xmx{heap}"))
            // A node that ran out of memory is better dead, and seen to be, than half alive.
            .args(["-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"])
            .arg("-Dlog4j2.configurationFile=../log4j2-node.properties")
            .arg(format!("-Dkafka-batcher.log=../logs/node-{}.log", self.id))
            .arg("-cp")
            .arg(java::class_path(Path::new("../jars")));
        Ok(command)
    }

    /// Sends the signal and waits until the node is seen in the state that follows from it.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let (goal, patience) = match signal {
            Signal::Kill => (State::Dead, SIGNAL_TIMEOUT),
            Signal::Term => (State::Dead, SHUTDOWN_TIMEOUT),
            Signal::Stop => (State::Stopped, SIGNAL_TIMEOUT),
            Signal::Cont => (State::Running, SIGNAL_TIMEOUT),
        };
        let Some(pid) = self.look().pid else {
            return Err(Error::new(format!("node {} is not running", self.id)));
        };
        process::signal(pid, signal)?;
        let deadline = Instant::now() + patience;
        loop {
            let state = self.look().state;
            // The first thread of a killed process is gone before the last one, and the sockets and the lock on the data
            // go with that; whoever restarts the node needs them gone.
            if state == goal && (goal != State::Dead || self.check_ports().is_ok()) {
                return Ok(());
            }
            let died = state == State::Dead && goal != State::Dead;
            if died || Instant::now() > deadline {
                let (id, state, goal) = (self.id, state.name(), goal.name());
                return Err(Error::new(format!(
                    "node {id} (process {pid}) is {state}, and should be {goal}"
                )));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Ends the process in an orderly way, or any way if it takes too long. Fine if it is dead already.
    pub(crate) fn shut_down(&self) -> Result<()> {
        match self.look().state {
            State::Dead => return Ok(()),
            State::Stopped => self.signal(Signal::Cont)?,
            State::Running => {}
        }
        match self.signal(Signal::Term) {
            Err(error) if self.look().state != State::Dead => {
                eprintln!("{error}; killing it");
                self.signal(Signal::Kill)
            }
            // Whether it got the signal or died just before is all the same.
            _ => Ok(()),
        }
    }

    /// Fails if something listens on one of the node's ports.
    pub(crate) fn check_ports(&self) -> Result<()> {
        for port in &self.ports {
            if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)) {
                return Err(Error::new(format!(
                    "cannot have port {port} for node {}: {error}. It belongs to a process that is not of this \
                     cluster; end that one, or choose other ports with `cargo xtask broker up --base-port PORT`",
                    self.id
                )));
            }
        }
        Ok(())
    }

    /// The last lines of what the node wrote, for an error message.
    pub(crate) fn last_words(&self) -> String {
        let mut words = String::new();
        for path in [&self.output, &self.log] {
            words.push_str(&format!("\n--- end of {}\n{}", path.display(), tail(path).unwrap_or_default()));
        }
        words
    }
}

/// Whether this is the node's process, and not one that got its pid later.
fn is_node(process: &Process, mark: &str) -> bool {
    // The mark ends where the next argument begins, lest node 1 be seen in node 12.
    process.state != State::Dead
        && process.command.contains(" kafka.Kafka ")
        && process.command.contains(&format!(" {mark} "))
}

fn tail(path: &Path) -> io::Result<String> {
    const BYTES: u64 = 4096;
    const LINES: usize = 12;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(state: State, command: &str) -> Process {
        Process { state, rss_kib: 1, command: command.into() }
    }

    #[test]
    fn a_pid_that_was_reused_is_not_the_node() {
        let mark = "-Dkafka-batcher.node=/w/target/kafka/node-1";
        let node = "java -Xmx384m -Dkafka-batcher.node=/w/target/kafka/node-1 kafka.Kafka server.properties";
        assert!(is_node(&process(State::Running, node), mark));
        assert!(is_node(&process(State::Stopped, node), mark));
        assert!(!is_node(&process(State::Dead, node), mark));
        for other in [
            "vim kafka.Kafka notes",
            "java -Dkafka-batcher.node=/w/target/kafka/node-12 kafka.Kafka server.properties",
            "java -Dkafka-batcher.node=/elsewhere/target/kafka/node-1 kafka.Kafka server.properties",
            "",
        ] {
            assert!(!is_node(&process(State::Running, other), mark), "{other}");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let nowhere = PathBuf::new();
        let (dir, log, output) = (nowhere.clone(), nowhere.clone(), nowhere);
        let node = Node { id: 1, ports: vec![port], dir, log, output };
        let error = node.check_ports().unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot have port {port} for node 1: ")), "{error}");
    }
}
