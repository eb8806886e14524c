//! The least of Kafka's protocol that tells whether a cluster is ready: one Metadata request, version 1.
//!
//! A log line says what a node thinks of itself. Metadata says what clients are going to be told: which brokers are
//! registered and unfenced, and which partitions have a leader. It is 60 lines, and xtask wants no Kafka client.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::{Context, Error, Result};

const TIMEOUT: Duration = Duration::from_secs(2);
const CORRELATION_ID: i32 = 7;
/// Far more than any test cluster's metadata: something else is listening on the port.
const LONGEST_ANSWER: usize = 64 << 20;

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
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let exchange = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(&request())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST_ANSWER {
            return Err(std::io::Error::other("the answer is not Kafka's"));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().context(|| format!("no answer from {address}"))?;
    parse(&answer).context(|| format!("bad answer from {address}"))
}

fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(3_i16.to_be_bytes()); // api key: Metadata
    body.extend(1_i16.to_be_bytes()); // version
    body.extend(CORRELATION_ID.to_be_bytes());
    body.extend(5_i16.to_be_bytes()); // client id
    body.extend(b"xtask");
    body.extend((-1_i32).to_be_bytes()); // topics: null stands for all
    let length = u32::try_from(body.len()).expect("a constant length");
    [&length.to_be_bytes()[..], &body].concat()
}

fn parse(answer: &[u8]) -> Result<Metadata> {
    let mut fields = Fields(answer);
    if fields.int32()? != CORRELATION_ID {
        return Err(Error::new("wrong correlation id"));
    }
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
        fields.take(1)?; // whether internal
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

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| Error::new("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().context(|| "wrong length")
    }

    fn int16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    fn int32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// A string, or nothing for null.
    fn string(&mut self) -> Result<String> {
        let length = usize::try_from(self.int16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn array<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        (0..self.int32()?).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let metadata = parse(&answer()).unwrap();
        assert_eq!(metadata, Metadata { brokers: vec![1, 2], partitions: vec![partition(2, &[1, 2], &[2])] });
    }

    #[test]
    fn a_cut_answer_is_an_error_wherever_it_is_cut() {
        let whole = answer();
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
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
