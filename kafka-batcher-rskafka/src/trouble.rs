//! What went wrong, in the batcher's terms.
//!
//! rskafka hides the reasons of a failed connection behind types that can't be named, but shows them in `Debug`, with the
//! names of the enum variants of Kafka's, rustls's and its own errors. Those names are what is looked for here.
//! `tests/denials.rs` and `tests/security.rs` notice when they change.

use kafka_batcher_core::{Denial, ErrorKind, Persistence, ProduceError};
use rskafka::client::error::{Error, ProtocolError, RequestError};
use rskafka::{BackoffError, ConnectionError};

use crate::code;

/// Something that went wrong on the way to a broker, or that a broker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) kind: ErrorKind,
    pub(crate) denial: Option<Denial>,
    /// Of records that were being sent.
    pub(crate) persistence: Persistence,
    /// Time ran out, and nobody said why.
    pub(crate) is_silence: bool,
    /// Kafka answered, and the connection it came over can be used again.
    pub(crate) is_answer: bool,
    pub(crate) text: String,
}

impl Trouble {
    /// Something that may pass; nothing was sent.
    pub(crate) fn passing(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, text)
    }

    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        let persistence = Persistence::NotPersisted;
        Self { kind, denial: None, persistence, is_silence: false, is_answer: false, text: text.into() }
    }

    pub(crate) fn denied(denial: Denial, text: &str) -> Self {
        let text = format!("{}: {text}", reason(denial));
        Self { denial: Some(denial), ..Self::new(ErrorKind::Denied, text) }
    }

    /// Nobody answered in time; nothing was sent.
    pub(crate) fn silence(text: impl Into<String>) -> Self {
        Self { is_silence: true, ..Self::passing(text) }
    }

    /// What rskafka says, when it was not sending records.
    pub(crate) fn before_sending(error: &Error) -> Self {
        Self { persistence: Persistence::NotPersisted, ..Self::while_sending(error) }
    }

    /// What rskafka says, when it was sending records.
    pub(crate) fn while_sending(error: &Error) -> Self {
        let root = root(error);
        if let Error::ServerError { protocol_error, error_message, .. } = root {
            let message = error_message.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            let text = format!("Kafka answered {protocol_error}{message}");
            let trouble = match code::denial(*protocol_error) {
                Some(denial) => Self::denied(denial, &text),
                None => Self::new(code::kind(*protocol_error), text),
            };
            let persistence = code::persistence(*protocol_error);
            return Self { persistence, is_answer: code::is_of_leader(*protocol_error), ..trouble };
        }
        let text = plain(&root.to_string());
        let shown = format!("{root:?}");
        let trouble = match denial(&shown) {
            Some(denial) => Self::denied(denial, &text),
            // Records that can't be encoded can't be sent later either.
            None if matches!(root, Error::Request(RequestError::WriteError(_))) => {
                Self::new(ErrorKind::Permanent, text)
            }
            None => Self::passing(text),
        };
        let persistence =
            if is_certainly_unsent(root) { Persistence::NotPersisted } else { Persistence::MaybePersisted };
        Self { persistence, ..trouble }
    }

    /// What rskafka says, when it was reading records. What it can't read now it can't read later.
    pub(crate) fn while_reading(error: &Error) -> Self {
        let trouble = Self::before_sending(error);
        match root(error) {
            Error::InvalidResponse(_)
            | Error::Request(RequestError::ReadVersionedError(_) | RequestError::ReadError(_)) => {
                let text = format!("rskafka can't read what is in the log: {}", trouble.text);
                Self { kind: ErrorKind::Permanent, text, ..trouble }
            }
            _ => trouble,
        }
    }

    /// The error for the batcher; `what` was being done.
    pub(crate) fn error(&self, what: &str) -> ProduceError {
        let message = format!("{what}: {}", self.text);
        match self.denial {
            Some(denial) => ProduceError::denied(denial, message),
            None => ProduceError::new(self.kind, message),
        }
    }
}

/// Whether the connection had been broken, or broke while a request was written. In which of the two, and whether a
/// request was complete then, only the caller can know.
pub(crate) fn is_broken(error: &Error) -> bool {
    matches!(root(error), Error::Request(RequestError::Poisoned(_) | RequestError::IO(_)))
}

/// Whether the log has no such offset, or no more.
pub(crate) fn is_out_of_range(error: &Error) -> bool {
    matches!(root(error), Error::ServerError { protocol_error: ProtocolError::OffsetOutOfRange, .. })
}

/// Errors from before a request was with the operating system completely.
fn is_certainly_unsent(root: &Error) -> bool {
    match root {
        // Only a connection that is made fails like that, and records are sent on one that was made.
        Error::Connection(_) => true,
        Error::Request(RequestError::NoVersionMatch { .. } | RequestError::WriteError(_)) => true,
        Error::Request(RequestError::Poisoned(cause)) => {
            matches!(**cause, RequestError::WriteMessageError(_) | RequestError::IO(_))
        }
        _ => false,
    }
}

/// The error inside of those that only say that rskafka didn't try again.
fn root(error: &Error) -> &Error {
    let (Error::RetryFailed(backoff) | Error::Connection(ConnectionError::RetryFailed(backoff))) = error
    else {
        return error;
    };
    let BackoffError::DeadlineExceded { source, .. } = backoff;
    source.downcast_ref::<Error>().map_or(error, root)
}

/// Names of variants in rskafka's `Debug`, and what they mean; the first that is found counts.
const DENIALS: &[(&str, Denial)] = &[
    ("SaslFailed(Callback(", Denial::NoToken),
    ("UnsupportedSaslMechanism", Denial::Mechanism),
    ("InvalidSaslMechanism", Denial::Mechanism),
    ("SaslAuthenticationFailed", Denial::Credentials),
    ("IllegalSaslState", Denial::Credentials),
    ("SaslSessionError(", Denial::Credentials),
    ("SaslFailed(InvalidConfig(", Denial::Credentials),
    ("InvalidCertificate(Expired", Denial::CertificateExpired),
    ("InvalidCertificate(NotValidYet", Denial::CertificateExpired),
    ("InvalidCertificate(UnknownIssuer", Denial::UnknownAuthority),
    ("InvalidCertificate(BadSignature", Denial::UnknownAuthority),
    ("InvalidCertificate(NotValidForName", Denial::HostName),
    ("BadHostname(", Denial::HostName),
    ("AlertReceived(CertificateRequired", Denial::ClientCertificate),
    ("AlertReceived(BadCertificate", Denial::ClientCertificate),
    ("AlertReceived(UnsupportedCertificate", Denial::ClientCertificate),
    ("AlertReceived(CertificateRevoked", Denial::ClientCertificate),
    ("AlertReceived(CertificateExpired", Denial::ClientCertificate),
    ("AlertReceived(CertificateUnknown", Denial::ClientCertificate),
    ("AlertReceived(UnknownCA", Denial::ClientCertificate),
    ("AlertReceived(UnknownCa", Denial::ClientCertificate),
    ("AlertReceived(AccessDenied", Denial::ClientCertificate),
    ("AlertReceived(", Denial::Handshake),
    ("InvalidCertificate(", Denial::Handshake),
    ("error: InvalidMessage(", Denial::Handshake),
    ("PeerIncompatible(", Denial::Handshake),
    ("PeerMisbehaved(", Denial::Handshake),
    ("NoCertificatesPresented", Denial::Handshake),
];

fn denial(shown: &str) -> Option<Denial> {
    DENIALS.iter().find(|(name, _)| shown.contains(name)).map(|(_, denial)| *denial)
}

const fn reason(denial: Denial) -> &'static str {
    match denial {
        Denial::Credentials => "the broker does not accept the credentials",
        Denial::NoToken => "there is no token to log in with",
        Denial::Mechanism => "the broker does not offer this SASL mechanism",
        Denial::CertificateExpired => "the broker's certificate has expired, or is not valid yet",
        Denial::UnknownAuthority => "nobody trusted has signed the broker's certificate",
        Denial::HostName => "the broker's certificate is for another host name",
        Denial::ClientCertificate => {
            "the broker does not accept the client's certificate, or its lack of one"
        }
        Denial::NotAuthorized => "the client is not allowed to do this",
        _ => "the TLS handshake failed",
    }
}

/// The text without what rskafka puts around every error.
fn plain(text: &str) -> String {
    const AROUND: [&str; 7] = [
        "Connection error: ",
        "Request error: ",
        "All retries failed: ",
        "all retries failed: ",
        "Retry exceeded deadline. Source: ",
        "error getting cluster metadata: ",
        "Connection is poisoned: ",
    ];
    let mut text = text;
    while let Some(rest) = AROUND.iter().find_map(|around| text.strip_prefix(around)) {
        text = rest;
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use rskafka::client::error::RequestContext;

    use super::*;

    fn poisoned(cause: RequestError) -> Error {
        Error::Request(RequestError::Poisoned(Arc::new(cause)))
    }

    fn gave_up(error: Error) -> Error {
        Error::RetryFailed(BackoffError::DeadlineExceded {
            deadline: std::time::Duration::ZERO,
            source: Box::new(error),
        })
    }

    #[test]
    fn a_cut_while_writing_is_told_from_one_while_waiting() {
        let written = Trouble::while_sending(&gave_up(poisoned(io::Error::other("reset").into())));
        assert_eq!((written.kind, written.persistence), (ErrorKind::Transient, Persistence::NotPersisted));
        let error = gave_up(Error::InvalidResponse("odd".to_owned()));
        assert_eq!(Trouble::while_sending(&error).persistence, Persistence::MaybePersisted);
        assert_eq!(Trouble::before_sending(&error).persistence, Persistence::NotPersisted);
    }

    #[test]
    fn kafka_s_codes_are_found_inside() {
        let error = gave_up(Error::ServerError {
            protocol_error: ProtocolError::TopicAuthorizationFailed,
            error_message: None,
            request: RequestContext::Topic("t".to_owned()),
            response: None,
            is_virtual: false,
        });
        let trouble = Trouble::while_sending(&error);
        assert_eq!((trouble.kind, trouble.denial), (ErrorKind::Denied, Some(Denial::NotAuthorized)));
        assert_eq!(trouble.error("x").denial(), Some(Denial::NotAuthorized));
    }

    #[test]
    fn texts_are_without_wrapping() {
        let error = gave_up(poisoned(io::Error::other("reset").into()));
        assert_eq!(Trouble::while_sending(&error).text, "Cannot read/write data: reset");
    }
}
