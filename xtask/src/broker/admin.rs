//! Changes to a running cluster: rights, topics, and who leads a partition.

use std::time::Duration;

use super::wire::{Fields, Request};
use crate::error::{Error, Result};

const CREATE_TOPICS: i16 = 19;
const CREATE_ACLS: i16 = 30;
const ELECT_LEADERS: i16 = 43;
const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;

const TOPIC_ALREADY_EXISTS: i16 = 36;
/// The replica that should lead does already.
const ELECTION_NOT_NEEDED: i16 = 84;

/// How long the broker may take.
const TIMEOUT: Duration = Duration::from_secs(15);
const TIMEOUT_MS: i32 = 15_000;

/// What a rule about a topic does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule<'a> {
    AllowAllToEverybody,
    DenyWriteTo(&'a str),
}

pub(crate) fn create_acls(port: u16, topic: &str, rules: &[Rule<'_>]) -> Result<()> {
    // Kafka's numbers.
    const TOPIC: i8 = 2;
    const LITERAL: i8 = 3;
    const ALL: i8 = 2;
    const WRITE: i8 = 4;
    const DENY: i8 = 2;
    const ALLOW: i8 = 3;
    let mut request = Request::new(CREATE_ACLS, 1).timeout(TIMEOUT);
    request.int32(count(rules.len()));
    for rule in rules {
        let (principal, operation, permission) = match rule {
            Rule::AllowAllToEverybody => ("User:*".to_owned(), ALL, ALLOW),
            Rule::DenyWriteTo(user) => (format!("User:{user}"), WRITE, DENY),
        };
        request.int8(TOPIC).string(topic).int8(LITERAL);
        request.string(&principal).string("*").int8(operation).int8(permission);
    }
    let errors = request.send(port, |fields| {
        fields.int32()?; // throttle time
        fields.array(|fields| Ok((fields.int16()?, fields.string()?)))
    })?;
    first_error(errors, &[], "rules")
}

/// With as many partitions and replicas as the cluster is set up for; fine if the topic is there.
pub(crate) fn create_topic(port: u16, topic: &str) -> Result<()> {
    let mut request = Request::new(CREATE_TOPICS, 4).timeout(TIMEOUT);
    request.int32(1).string(topic).int32(-1).int16(-1).int32(0).int32(0);
    request.int32(TIMEOUT_MS).int8(0);
    let errors = request.send(port, |fields| {
        fields.int32()?; // throttle time
        fields.array(|fields| {
            fields.string()?;
            Ok((fields.int16()?, fields.string()?))
        })
    })?;
    first_error(errors, &[TOPIC_ALREADY_EXISTS], "a topic")
}

/// Sets the order of a partition's replicas, of which the first one should lead.
pub(crate) fn order_replicas(port: u16, topic: &str, partition: i32, replicas: &[i32]) -> Result<()> {
    let mut request = Request::flexible(ALTER_PARTITION_REASSIGNMENTS, 0).timeout(TIMEOUT);
    request.int32(TIMEOUT_MS).compact_length(1).compact_string(topic);
    request.compact_length(1).int32(partition).compact_length(replicas.len());
    for replica in replicas {
        request.int32(*replica);
    }
    // Of the partition, the topic and the request.
    request.no_tags().no_tags().no_tags();
    let errors = request.send(port, |fields| {
        fields.no_tags()?; // of the header
        fields.int32()?; // throttle time
        let mut errors = vec![(fields.int16()?, fields.compact_string()?)];
        let of_partitions = fields.compact_array(|fields| {
            fields.compact_string()?;
            let errors = fields.compact_array(|fields| {
                fields.int32()?;
                let error = (fields.int16()?, fields.compact_string()?);
                fields.no_tags()?;
                Ok(error)
            })?;
            fields.no_tags()?;
            Ok(errors)
        })?;
        errors.extend(of_partitions.into_iter().flatten());
        Ok(errors)
    })?;
    first_error(errors, &[], "an order of replicas")
}

/// Has the first of a partition's replicas lead it.
pub(crate) fn elect_preferred_leader(port: u16, topic: &str, partition: i32) -> Result<()> {
    const PREFERRED: i8 = 0;
    let mut request = Request::new(ELECT_LEADERS, 1).timeout(TIMEOUT);
    request.int8(PREFERRED).int32(1).string(topic).int32(1).int32(partition).int32(TIMEOUT_MS);
    let errors = request.send(port, |fields: &mut Fields<'_>| {
        fields.int32()?; // throttle time
        let mut errors = vec![(fields.int16()?, String::new())];
        let of_partitions = fields.array(|fields| {
            fields.string()?;
            fields.array(|fields| {
                fields.int32()?;
                Ok((fields.int16()?, fields.string()?))
            })
        })?;
        errors.extend(of_partitions.into_iter().flatten());
        Ok(errors)
    })?;
    first_error(errors, &[ELECTION_NOT_NEEDED], "a leader")
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn first_error(errors: Vec<(i16, String)>, harmless: &[i16], what: &str) -> Result<()> {
    let mut bad = errors.into_iter().filter(|(code, _)| *code != 0 && !harmless.contains(code));
    bad.next().map_or(Ok(()), |(code, message)| {
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        Err(Error::new(format!("Kafka refuses {what} (error {code}){message}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_real_error_counts() {
        let said = |errors: &[(i16, &str)]| {
            let errors = errors.iter().map(|&(code, text)| (code, text.to_owned())).collect();
            first_error(errors, &[36], "a topic").map_err(|error| error.to_string())
        };
        assert_eq!(said(&[(0, ""), (36, "is there")]), Ok(()));
        assert_eq!(said(&[(0, ""), (41, "")]).unwrap_err(), "Kafka refuses a topic (error 41)");
        assert_eq!(said(&[(17, "bad name")]).unwrap_err(), "Kafka refuses a topic (error 17): bad name");
    }
}
