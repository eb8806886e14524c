//! Waiting until the cluster really works, as tests begin at once.

use std::thread;
use std::time::{Duration, Instant};

use super::metadata;
use super::node::Node;
use super::process::State;
use crate::error::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until every one of these nodes answers, and says that clients can use all of them. Fails if one dies.
pub(crate) fn wait(nodes: &[&Node], deadline: Instant) -> Result<()> {
    wait_for(nodes, deadline, |_| None)
}

/// The same, and until every node knows the topic.
pub(crate) fn wait_for_topic(nodes: &[&Node], topic: &str, deadline: Instant) -> Result<()> {
    wait_for(nodes, deadline, |metadata| {
        let known = metadata.partitions.iter().any(|partition| partition.topic == topic);
        (!known).then(|| format!("there is no topic {topic}"))
    })
}

fn wait_for(
    nodes: &[&Node],
    deadline: Instant,
    also_missing: impl Fn(&metadata::Metadata) -> Option<String>,
) -> Result<()> {
    let ids: Vec<u16> = nodes.iter().map(|node| node.id).collect();
    let missing = |node: &Node| -> Option<String> {
        match metadata::fetch(node.port()) {
            Ok(found) => found.missing(&ids).or_else(|| also_missing(&found)),
            Err(error) => Some(error.to_string()),
        }
    };
    loop {
        // A dead node first, or else it would only ever be the reason why the others miss it.
        if let Some(dead) = nodes.iter().find(|node| node.look().state == State::Dead) {
            return Err(Error::new(format!("node {} died{}", dead.id, dead.last_words())));
        }
        let Some((node, why)) = nodes.iter().find_map(|node| Some((node, missing(node)?))) else {
            return Ok(());
        };
        if Instant::now() > deadline {
            let (id, log) = (node.id, node.log().display());
            return Err(Error::new(format!(
                "the cluster is not ready: according to node {id}, {why}. See {log}"
            )));
        }
        thread::sleep(POLL_INTERVAL);
    }
}
