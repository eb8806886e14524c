//! Error codes, Kafka's and librdkafka's own, and what the batcher is to make of them.

use kafka_batcher_core::ErrorKind;
use rdkafka::bindings::rd_kafka_resp_err_t as E;

/// An error code as the number it is in C: positive ones are Kafka's, negative ones librdkafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) i32);

impl Code {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const AUTHENTICATION: Self = Self(E::RD_KAFKA_RESP_ERR__AUTHENTICATION as i32);
    pub(crate) const FAIL: Self = Self(E::RD_KAFKA_RESP_ERR__FAIL as i32);
    pub(crate) const INVALID_ARG: Self = Self(E::RD_KAFKA_RESP_ERR__INVALID_ARG as i32);
    pub(crate) const PARTITION_EOF: Self = Self(E::RD_KAFKA_RESP_ERR__PARTITION_EOF as i32);
    pub(crate) const QUEUE_FULL: Self = Self(E::RD_KAFKA_RESP_ERR__QUEUE_FULL as i32);
    pub(crate) const RESOLVE: Self = Self(E::RD_KAFKA_RESP_ERR__RESOLVE as i32);
    pub(crate) const SSL: Self = Self(E::RD_KAFKA_RESP_ERR__SSL as i32);
    pub(crate) const TIMED_OUT: Self = Self(E::RD_KAFKA_RESP_ERR__TIMED_OUT as i32);
    pub(crate) const TOPIC_EXISTS: Self = Self(E::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS as i32);
    pub(crate) const TRANSPORT: Self = Self(E::RD_KAFKA_RESP_ERR__TRANSPORT as i32);
    pub(crate) const UNKNOWN_PARTITION: Self = Self(E::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION as i32);
    pub(crate) const UNSUPPORTED_MECHANISM: Self =
        Self(E::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM as i32);
    pub(crate) const UNKNOWN_TOPIC: Self = Self(E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART as i32);

    /// Says that we were not let in, not why.
    pub(crate) fn is_refusal(self) -> bool {
        self == Self::SSL || self == Self::AUTHENTICATION
    }

    /// A broker's answer to credentials.
    pub(crate) fn is_of_sasl(self) -> bool {
        [
            E::RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE,
            E::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
            E::RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_EXPIRED,
        ]
        .iter()
        .any(|code| *code as i32 == self.0)
    }

    /// Refused only because another record of the same request is at fault.
    pub(crate) fn is_bystander(self) -> bool {
        self.0 == E::RD_KAFKA_RESP_ERR__INVALID_DIFFERENT_RECORD as i32
    }

    /// Concerns a topic as such, and not one record.
    pub(crate) fn is_of_topic(self) -> bool {
        matches!(self.kind(), ErrorKind::Denied | ErrorKind::UnknownTopic)
    }

    /// Says that time ran out or nobody could be reached, not why.
    pub(crate) fn is_silence(self) -> bool {
        [
            E::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT,
            E::RD_KAFKA_RESP_ERR__TIMED_OUT,
            E::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE,
            E::RD_KAFKA_RESP_ERR__TRANSPORT,
            E::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
        ]
        .iter()
        .any(|code| *code as i32 == self.0)
    }

    /// What the batcher is to make of it. Whatever is not known here may work later.
    pub(crate) fn kind(self) -> ErrorKind {
        let is = |codes: &[E]| codes.iter().any(|code| *code as i32 == self.0);
        if is(TOO_LARGE) {
            ErrorKind::TooLarge
        } else if is(UNKNOWN) {
            ErrorKind::UnknownTopic
        } else if is(DENIED) {
            ErrorKind::Denied
        } else if is(PERMANENT) {
            ErrorKind::Permanent
        } else if is(FATAL) {
            ErrorKind::Fatal
        } else {
            ErrorKind::Transient
        }
    }
}

const TOO_LARGE: &[E] =
    &[E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, E::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE];

const UNKNOWN: &[E] = &[
    E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    E::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
    E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID,
    E::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
    E::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
];

const DENIED: &[E] = &[
    E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    E::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
    E::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    E::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM,
    E::RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE,
    E::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
    E::RD_KAFKA_RESP_ERR_SECURITY_DISABLED,
    E::RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_AUTHORIZATION_FAILED,
    E::RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_EXPIRED,
    E::RD_KAFKA_RESP_ERR__AUTHENTICATION,
    E::RD_KAFKA_RESP_ERR__SSL,
];

// Only what is wrong with a record itself: the record goes to the dead letters for it. Wrong settings, such as a
// compression the broker doesn't know, can be put right, and count as passing.
const PERMANENT: &[E] = &[
    E::RD_KAFKA_RESP_ERR_INVALID_MSG,
    E::RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE,
    E::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
    E::RD_KAFKA_RESP_ERR_INVALID_RECORD,
    E::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT,
    E::RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
    E::RD_KAFKA_RESP_ERR_INVALID_PARTITIONS,
    E::RD_KAFKA_RESP_ERR_INVALID_CONFIG,
    E::RD_KAFKA_RESP_ERR__BAD_MSG,
    E::RD_KAFKA_RESP_ERR__INVALID_ARG,
];

const FATAL: &[E] = &[
    E::RD_KAFKA_RESP_ERR__FATAL,
    E::RD_KAFKA_RESP_ERR__FENCED,
    E::RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
    E::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_kind() {
        for (code, kind) in [
            (E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, ErrorKind::TooLarge),
            (E::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, ErrorKind::UnknownTopic),
            (E::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, ErrorKind::Denied),
            (E::RD_KAFKA_RESP_ERR__SSL, ErrorKind::Denied),
            (E::RD_KAFKA_RESP_ERR_INVALID_RECORD, ErrorKind::Permanent),
            (E::RD_KAFKA_RESP_ERR__FATAL, ErrorKind::Fatal),
            (E::RD_KAFKA_RESP_ERR__QUEUE_FULL, ErrorKind::Transient),
            (E::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, ErrorKind::Transient),
            (E::RD_KAFKA_RESP_ERR__INVALID_DIFFERENT_RECORD, ErrorKind::Transient),
            (E::RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE, ErrorKind::Transient),
        ] {
            assert_eq!(Code(code as i32).kind(), kind, "{code:?}");
        }
    }

    #[test]
    fn a_code_nobody_knows_yet_may_pass() {
        for code in [98, 12_345, i32::MIN, i32::MAX] {
            assert_eq!(Code(code).kind(), ErrorKind::Transient);
            assert!(!crate::ffi::describe(Code(code)).is_empty());
        }
    }
}
