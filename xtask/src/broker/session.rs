//! A cluster for as long as another task needs it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::layout::Layout;
use super::process::{Signal, State};
use super::security;
use super::{
    Patience, TOPIC_TOOL, Topic, Up, create_topic, down, local_cluster, own_cluster, own_security, ready,
    restart, signal, tool, up,
};
use crate::error::{Error, Result};

/// Long enough for three nodes on a machine that is busy with tests.
const PATIENCE: Patience = Patience { timeout: 120 };

/// The cluster that the user has named, or else a local one. Dropped, it ends what it had to start.
#[derive(Debug)]
pub(crate) struct Session {
    layout: Layout,
    /// None for the user's own cluster.
    nodes: Option<u16>,
    bootstrap: String,
    /// What is known of its security.
    security: Option<PathBuf>,
    started: bool,
}

impl Session {
    /// A cluster of so many nodes, if it is ours to choose.
    pub(crate) fn begin(nodes: u16) -> Result<Self> {
        Self::choose(nodes, false)
    }

    /// The same, and one that is secured.
    pub(crate) fn begin_secured(nodes: u16) -> Result<Self> {
        Self::choose(nodes, true)
    }

    fn choose(nodes: u16, secure: bool) -> Result<Self> {
        match own_cluster() {
            Some(bootstrap) => Ok(Self {
                layout: Layout::find()?,
                nodes: None,
                bootstrap,
                security: own_security(),
                started: false,
            }),
            None => Self::start(nodes, secure),
        }
    }

    /// A cluster whose nodes can be killed, whatever the user has named.
    pub(crate) fn local(nodes: u16) -> Result<Self> {
        Self::start(nodes, false)
    }

    fn start(nodes: u16, secure: bool) -> Result<Self> {
        let layout = Layout::find()?;
        let running = up::bring_up(&layout, &options(nodes, secure))?;
        let bootstrap = running.cluster.bootstrap();
        let security = running.cluster.secure.then(|| layout.security_file());
        Ok(Self { layout, nodes: Some(nodes), bootstrap, security, started: !running.was_alive })
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The file for tests, if the cluster is secured.
    pub(crate) fn security(&self) -> Option<&Path> {
        self.security.as_deref()
    }

    /// How many nodes there are, if they are ours.
    pub(crate) fn nodes(&self) -> Option<u16> {
        self.nodes
    }

    /// Brings back what tests may have killed.
    pub(crate) fn mend(&self) -> Result<()> {
        let Some(nodes) = self.nodes else { return Ok(()) };
        let (_, local) = local_cluster(&self.layout)?;
        if local.iter().all(|node| node.look().state == State::Running) {
            return ready::wait(&local.iter().collect::<Vec<_>>(), PATIENCE.deadline());
        }
        up::bring_up(&self.layout, &options(nodes, false)).map(|_| ())
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: u32) -> Result<()> {
        self.create(name, partitions, Vec::new())
    }

    /// With this setting of the topic, as in `max.message.bytes=2000`.
    pub(crate) fn create_topic_with(&self, name: &str, partitions: u32, config: &str) -> Result<()> {
        self.create(name, partitions, vec![config.to_owned()])
    }

    pub(crate) fn delete_topic(&self, name: &str) -> Result<()> {
        let arguments = ["--bootstrap-server", &self.bootstrap, "--delete", "--topic", name];
        let code = tool(&self.layout, TOPIC_TOOL, &arguments.map(str::to_owned))?;
        if code == ExitCode::SUCCESS {
            Ok(())
        } else {
            Err(Error::new(format!("cannot delete topic {name}")))
        }
    }

    fn create(&self, name: &str, partitions: u32, config: Vec<String>) -> Result<()> {
        let topic = Topic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication: None,
            config,
            if_not_exists: false,
            patience: PATIENCE,
        };
        let code = create_topic(&self.layout, &topic)?;
        if code == ExitCode::SUCCESS {
            Ok(())
        } else {
            Err(Error::new(format!("cannot create topic {name}")))
        }
    }

    pub(crate) fn kill(&self, node: u16) -> Result<()> {
        signal(&self.layout, node, Signal::Kill).map(|_| ())
    }

    /// Stops a node's process: its connections stay open and nothing answers.
    pub(crate) fn freeze(&self, node: u16) -> Result<()> {
        signal(&self.layout, node, Signal::Stop).map(|_| ())
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self, node: u16) -> Result<()> {
        signal(&self.layout, node, Signal::Cont).map(|_| ())
    }

    /// Starts a killed node and waits until it is back.
    pub(crate) fn restart(&self, node: u16) -> Result<()> {
        restart(&self.layout, node, &PATIENCE).map(|_| ())
    }
}

/// The ways into the secured cluster that a session would have, or why there are none.
pub(crate) fn ways_in() -> Result<std::result::Result<Vec<String>, String>> {
    if own_cluster().is_some() {
        return match own_security() {
            Some(file) => security::rows(&file).map(Ok),
            None => Ok(Err(format!("{} does not say how to get into your cluster", security::FILE))),
        };
    }
    let recorded = Layout::find()?.load_cluster()?;
    Ok(match recorded {
        Some(cluster) if !cluster.secure => {
            Err("the cluster that is there is not secured: `cargo xtask broker \
            down`, and `up --secure`"
                .to_owned())
        }
        _ => Ok(known_ways()),
    })
}

/// Those into a cluster of ours.
pub(crate) fn known_ways() -> Vec<String> {
    security::known_rows().map(str::to_owned).collect()
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.started
            && let Err(error) = down(&self.layout, false)
        {
            eprintln!("{error}");
        }
    }
}

fn options(nodes: u16, secure: bool) -> Up {
    Up { nodes: Some(nodes), partitions: None, base_port: None, secure, patience: PATIENCE }
}
