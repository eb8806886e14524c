//! Kafka's error codes, and what the batcher is to make of them.

use kafka_batcher_core::{Denial, ErrorKind, Persistence};
use rskafka::client::error::ProtocolError as E;

/// What the batcher is to make of it. Whatever is not known here may work later.
pub(crate) const fn kind(code: E) -> ErrorKind {
    match code {
        E::MessageTooLarge | E::RecordListTooLarge => ErrorKind::TooLarge,
        E::UnknownTopicOrPartition | E::InvalidTopicException | E::UnknownTopicId => ErrorKind::UnknownTopic,
        // Only what is wrong with a record itself: the record goes to the dead letters for it. Wrong settings, such as
        // a compression the broker doesn't know, can be put right, and count as passing.
        E::CorruptMessage
        | E::InvalidFetchSize
        | E::InvalidTimestamp
        | E::InvalidRecord
        | E::UnsupportedForMessageFormat
        | E::PolicyViolation
        | E::InvalidPartitions
        | E::InvalidConfig => ErrorKind::Permanent,
        _ if denial(code).is_some() => ErrorKind::Denied,
        _ => ErrorKind::Transient,
    }
}

/// Why the client was not let in, if that is what the code says.
pub(crate) const fn denial(code: E) -> Option<Denial> {
    match code {
        E::TopicAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::TransactionalIdAuthorizationFailed
        | E::DelegationTokenAuthorizationFailed => Some(Denial::NotAuthorized),
        E::SaslAuthenticationFailed
        | E::IllegalSaslState
        | E::SecurityDisabled
        | E::DelegationTokenExpired => Some(Denial::Credentials),
        E::UnsupportedSaslMechanism => Some(Denial::Mechanism),
        _ => None,
    }
}

/// Whether records that were answered with this code may be in the log all the same.
pub(crate) const fn persistence(code: E) -> Persistence {
    match code {
        // The leader has appended them, and then: was not told in time that the others have them, ..
        E::RequestTimedOut
        | E::NotEnoughReplicasAfterAppend
        // .. stopped being the leader, maybe with a successor that has them, ..
        | E::NotLeaderOrFollower
        | E::FencedLeaderEpoch
        // .. or has run into something nobody foresaw.
        | E::KafkaStorageError
        | E::NetworkException
        | E::UnknownServerError
        | E::Unknown(_) => Persistence::MaybePersisted,
        _ => Persistence::NotPersisted,
    }
}

/// Whether only the partition's leader can have said so: it is still the one to talk to.
pub(crate) const fn is_of_leader(code: E) -> bool {
    matches!(
        code,
        E::RequestTimedOut
            | E::NotEnoughReplicas
            | E::NotEnoughReplicasAfterAppend
            | E::UnsupportedCompressionType
            | E::ThrottlingQuotaExceeded
    ) || matches!(kind(code), ErrorKind::TooLarge | ErrorKind::Permanent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_kind() {
        for (code, expected) in [
            (E::MessageTooLarge, ErrorKind::TooLarge),
            (E::RecordListTooLarge, ErrorKind::TooLarge),
            (E::UnknownTopicOrPartition, ErrorKind::UnknownTopic),
            (E::TopicAuthorizationFailed, ErrorKind::Denied),
            (E::SaslAuthenticationFailed, ErrorKind::Denied),
            (E::InvalidRecord, ErrorKind::Permanent),
            (E::InvalidTimestamp, ErrorKind::Permanent),
            (E::NotLeaderOrFollower, ErrorKind::Transient),
            (E::NotEnoughReplicasAfterAppend, ErrorKind::Transient),
            (E::UnsupportedCompressionType, ErrorKind::Transient),
            (E::Unknown(12_345), ErrorKind::Transient),
        ] {
            assert_eq!(kind(code), expected, "{code:?}");
            assert_eq!(denial(code).is_some(), expected == ErrorKind::Denied, "{code:?}");
        }
    }

    #[test]
    fn what_a_leader_may_have_appended_may_be_there() {
        for code in
            [E::RequestTimedOut, E::NotEnoughReplicasAfterAppend, E::NotLeaderOrFollower, E::Unknown(-7)]
        {
            assert_eq!(persistence(code), Persistence::MaybePersisted, "{code:?}");
        }
        for code in [E::NotEnoughReplicas, E::InvalidRecord, E::MessageTooLarge, E::TopicAuthorizationFailed]
        {
            assert_eq!(persistence(code), Persistence::NotPersisted, "{code:?}");
        }
    }
}
