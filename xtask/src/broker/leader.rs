//! Who leads a partition, and having another node lead it: what a client meets when brokers come and go, but at once.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::metadata::{self, Partition};
use super::node::Node;
use super::{Patience, admin};
use crate::error::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug, Args)]
pub(crate) struct Which {
    topic: String,
    #[arg(long, default_value_t = 0)]
    partition: i32,
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    #[command(flatten)]
    which: Which,
    /// The node that is to lead [default: the next one that is in sync]
    #[arg(long, value_name = "NODE")]
    to: Option<u16>,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[cfg(test)]
impl Which {
    pub(crate) fn new(topic: &str, partition: i32) -> Self {
        Self { topic: topic.to_owned(), partition }
    }
}

#[cfg(test)]
impl Move {
    pub(crate) fn new(which: Which, to: Option<u16>, patience: Patience) -> Self {
        Self { which, to, patience }
    }
}

/// The leader, according to one of these nodes.
pub(crate) fn find(nodes: &[&Node], which: &Which) -> Result<i32> {
    look(nodes, which).map(|(_, partition)| partition.leader)
}

/// Moves the leader, waits until all of these nodes say so, and returns the new one.
pub(crate) fn move_to(nodes: &[&Node], options: &Move, deadline: Instant) -> Result<i32> {
    let Which { topic, partition: index } = &options.which;
    let (port, partition) = look(nodes, &options.which)?;
    let target = choose(&partition, options.to.map(i32::from))?;
    let others = partition.replicas.iter().copied().filter(|replica| *replica != target);
    let order: Vec<i32> = std::iter::once(target).chain(others).collect();
    admin::order_replicas(port, topic, *index, &order)?;
    admin::elect_preferred_leader(port, topic, *index)?;
    for node in nodes {
        loop {
            let leader = find(&[node], &options.which);
            if leader.as_ref().is_ok_and(|leader| *leader == target) {
                break;
            }
            if Instant::now() > deadline {
                let said = leader.map_or_else(|error| error.to_string(), |leader| format!("it is {leader}"));
                return Err(Error::new(format!(
                    "node {} does not see that {target} leads {topic}-{index}: {said}",
                    node.id
                )));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
    Ok(target)
}

/// The partition, and the port of the node that told of it.
fn look(nodes: &[&Node], which: &Which) -> Result<(u16, Partition)> {
    let mut last = Error::new("no node is running");
    for node in nodes {
        match metadata::fetch(node.port()) {
            Ok(found) => {
                let mut partitions = found.partitions.into_iter();
                let is_it = |partition: &Partition| {
                    partition.topic == which.topic && partition.index == which.partition
                };
                if let Some(partition) = partitions.find(is_it) {
                    return Ok((node.port(), partition));
                }
                last = Error::new(format!("there is no partition {}-{}", which.topic, which.partition));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn choose(partition: &Partition, wanted: Option<i32>) -> Result<i32> {
    let Partition { topic, index, leader, replicas, in_sync } = partition;
    match wanted {
        Some(wanted) if !replicas.contains(&wanted) => {
            Err(Error::new(format!("node {wanted} has no copy of {topic}-{index}")))
        }
        Some(wanted) if !in_sync.contains(&wanted) => {
            Err(Error::new(format!("node {wanted} is not in sync for {topic}-{index}")))
        }
        Some(wanted) => Ok(wanted),
        None => {
            // In a circle, or else one node would never lead.
            let mut others: Vec<i32> = in_sync.iter().copied().filter(|replica| replica != leader).collect();
            others.sort_by_key(|replica| (replica < leader, *replica));
            let next = others.first().copied();
            next.ok_or_else(|| Error::new(format!("no other node could lead {topic}-{index}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(leader: i32, in_sync: &[i32]) -> Partition {
        Partition { topic: "t".into(), index: 0, leader, replicas: vec![1, 2, 3], in_sync: in_sync.into() }
    }

    #[test]
    fn leaders_go_round() {
        let next = |leader, in_sync: &[i32]| choose(&partition(leader, in_sync), None).ok();
        assert_eq!(
            [next(1, &[3, 2, 1]), next(2, &[1, 2, 3]), next(3, &[1, 2, 3])],
            [Some(2), Some(3), Some(1)]
        );
        assert_eq!((next(1, &[1, 3]), next(1, &[1])), (Some(3), None));
    }

    #[test]
    fn only_a_node_in_sync_can_lead() {
        let to = |node| choose(&partition(1, &[1, 2]), Some(node)).map_err(|error| error.to_string());
        assert_eq!(to(2), Ok(2));
        assert_eq!(to(1), Ok(1), "it leads already");
        assert_eq!(to(3).unwrap_err(), "node 3 is not in sync for t-0");
        assert_eq!(to(4).unwrap_err(), "node 4 has no copy of t-0");
    }
}
