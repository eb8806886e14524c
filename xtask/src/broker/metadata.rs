//! What clients are going to be told of the cluster: a Metadata request, version 1.
//!
//! A log line says what a node thinks of itself. Metadata says which brokers are registered and unfenced, and which
//! partitions have a leader.

use super::wire::{Fields, Request};
use crate::error::Result;

const METADATA: i16 = 3;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) brokers: Vec<i32>,
    pub(crate) partitions: Vec<Partition>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) topic: String,
    pub(crate) index: i32,
    /// -1 if there is none.
    pub(crate) leader: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
}

impl Metadata {
    /// What is missing until clients can use all of these nodes: each is known, and leads or follows, in sync, every
    /// partition it has a replica of. Partitions on other nodes do not matter; those may be down on purpose.
    pub(crate) fn missing(&self, nodes: &[u16]) -> Option<String> {
        for id in nodes {
            let id = i32::from(*id);
            if !self.brokers.contains(&id) {
                return Some(format!("node {id} is not registered"));
            }
            for Partition { topic, index, leader, replicas, in_sync } in &self.partitions {
                if !replicas.contains(&id) {
                    continue;
                }
                if *leader < 0 {
                    return Some(format!("partition {topic}-{index} has no leader"));
                }
                if !in_sync.contains(&id) {
                    return Some(format!("node {id} is not in sync for partition {topic}-{index}"));
                }
            }
        }
        None
    }
}

/// Asks the node on this port of loopback for the metadata of all topics.
pub(crate) fn fetch(port: u16) -> Result<Metadata> {
    let mut request = Request::new(METADATA, 1);
    request.int32(-1); // topics: null stands for all
    request.send(port, read)
}

fn read(fields: &mut Fields<'_>) -> Result<Metadata> {
    let brokers = fields.array(|fields| {
        let id = fields.int32()?;
        fields.string()?; // host
        fields.int32()?; // port
        fields.string()?; // rack
        Ok(id)
    })?;
    fields.int32()?; // controller
    let topics = fields.array(|fields| {
        fields.int16()?; // error code
        let topic = fields.string()?;
        fields.skip(1)?; // whether internal
        fields.array(|fields| {
            fields.int16()?; // error code: tells nothing the fields below do not
            Ok(Partition {
                topic: topic.clone(),
                index: fields.int32()?,
                leader: fields.int32()?,
                replicas: fields.array(Fields::int32)?,
                in_sync: fields.array(Fields::int32)?,
            })
        })
    })?;
    Ok(Metadata { brokers, partitions: topics.into_iter().flatten().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::wire::{CORRELATION_ID, parse};

    fn partition(leader: i32, replicas: &[i32], in_sync: &[i32]) -> Partition {
        Partition { topic: "t".into(), index: 0, leader, replicas: replicas.into(), in_sync: in_sync.into() }
    }

    /// An answer with brokers 1 and 2, and one topic `t` of one partition on both.
    fn answer() -> Vec<u8> {
        let mut bytes = CORRELATION_ID.to_be_bytes().to_vec();
        bytes.extend(2_i32.to_be_bytes());
        for id in [1_i32, 2] {
            bytes.extend(id.to_be_bytes());
            bytes.extend(*b"\0\x01h");
            bytes.extend(19092_i32.to_be_bytes());
            bytes.extend((-1_i16).to_be_bytes());
        }
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(*b"\0\0\0\x01t\0");
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(0_i16.to_be_bytes());
        for number in [0_i32, 2, 2, 1, 2, 1, 2] {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn an_answer_is_read() {
        let metadata = parse(&answer(), read).unwrap();
        assert_eq!(metadata, Metadata { brokers: vec![1, 2], partitions: vec![partition(2, &[1, 2], &[2])] });
    }

    #[test]
    fn a_cut_answer_is_an_error_wherever_it_is_cut() {
        let whole = answer();
        for length in 0..whole.len() {
            assert!(parse(&whole[..length], read).is_err(), "{length}");
        }
    }

    #[test]
    fn what_is_missing_depends_on_which_nodes_are_asked_for() {
        let metadata = Metadata { brokers: vec![1, 2], partitions: vec![partition(2, &[1, 2], &[2])] };
        assert_eq!(metadata.missing(&[2]), None);
        assert_eq!(metadata.missing(&[2, 1]).unwrap(), "node 1 is not in sync for partition t-0");
        assert_eq!(metadata.missing(&[2, 3]).unwrap(), "node 3 is not registered");
        let leaderless = Metadata { brokers: vec![1, 2], partitions: vec![partition(-1, &[1], &[1])] };
        assert_eq!(leaderless.missing(&[1]).unwrap(), "partition t-0 has no leader");
        assert_eq!(leaderless.missing(&[2]), None);
    }
}
