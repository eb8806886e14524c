//! A cluster for as long as another task needs it.

use std::process::ExitCode;

use super::layout::Layout;
use super::process::{Signal, State};
use super::{
    Patience, Topic, Up, create_topic, down, local_cluster, own_cluster, ready, restart, signal, up,
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
    started: bool,
}

impl Session {
    /// A cluster of so many nodes, if it is ours to choose.
    pub(crate) fn begin(nodes: u16) -> Result<Self> {
        match own_cluster() {
            Some(bootstrap) => Ok(Self { layout: Layout::find()?, nodes: None, bootstrap, started: false }),
            None => Self::local(nodes),
        }
    }

    /// A cluster whose nodes can be killed, whatever the user has named.
    pub(crate) fn local(nodes: u16) -> Result<Self> {
        let layout = Layout::find()?;
        let running = up::bring_up(&layout, &options(nodes))?;
        let bootstrap = running.cluster.bootstrap();
        Ok(Self { layout, nodes: Some(nodes), bootstrap, started: !running.was_alive })
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
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
        up::bring_up(&self.layout, &options(nodes)).map(|_| ())
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: u32) -> Result<()> {
        let topic = Topic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication: None,
            config: Vec::new(),
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

    /// Starts a killed node and waits until it is back.
    pub(crate) fn restart(&self, node: u16) -> Result<()> {
        restart(&self.layout, node, &PATIENCE).map(|_| ())
    }
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

fn options(nodes: u16) -> Up {
    Up { nodes: Some(nodes), partitions: None, base_port: None, secure: false, patience: PATIENCE }
}
