//! Why the brokers won't let us in: read from codes, and from the texts of librdkafka, OpenSSL and Kafka.

use kafka_batcher_core::{Denial, ErrorKind};

use crate::code::Code;
use crate::ffi::X509_ERROR;

/// The reason, if it is one that more attempts with the same settings won't change.
///
/// `certificate` is what OpenSSL found wrong with the broker's, an `X509_V_ERR`, if the text is about that.
pub(crate) fn of(code: Code, text: &str, certificate: Option<i32>) -> Option<Denial> {
    let text = text.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    // Under TLS 1.3 a broker refuses a client's certificate when to the client the handshake is done already.
    if code == Code::SSL || code == Code::TRANSPORT {
        if says(CLIENT_CERTIFICATE) {
            return Some(Denial::ClientCertificate);
        }
        if code == Code::TRANSPORT {
            return says(&["alert handshake failure"]).then_some(Denial::Handshake);
        }
        if says(BROKEN) {
            return None;
        }
        return Some(certificate.and_then(of_certificate).unwrap_or(Denial::Handshake));
    }
    if code == Code::AUTHENTICATION {
        return if says(NO_TOKEN) {
            Some(Denial::NoToken)
        } else if says(&["mechanism handshake failed: local:"]) {
            None // the connection broke
        } else if says(&["mechanism handshake failed", "unsupported sasl mechanism"]) {
            Some(Denial::Mechanism)
        } else {
            Some(Denial::Credentials)
        };
    }
    (code.kind() == ErrorKind::Denied).then(|| {
        if code == Code::UNSUPPORTED_MECHANISM {
            Denial::Mechanism
        } else if code.is_of_sasl() {
            Denial::Credentials
        } else {
            Denial::NotAuthorized
        }
    })
}

/// What a broker's alert says when it does not like the certificate of the client, or misses one.
const CLIENT_CERTIFICATE: &[&str] = &[
    "alert bad certificate",
    "alert certificate expired",
    "alert certificate revoked",
    "alert certificate unknown",
    "alert no certificate",
    "alert unsupported certificate",
    "alert unknown ca",
    "alert access denied",
    "alert certificate required",
    "client ssl authentication might be required",
];

/// A connection that ended in the middle of a handshake.
const BROKEN: &[&str] = &["unexpected eof", "ssl transport error", "disconnected"];

const NO_TOKEN: &[&str] = &["failed to acquire sasl oauthbearer token", "there is no token available"];

/// OpenSSL's `x509_vfy.h` has the numbers.
fn of_certificate(error: i32) -> Option<Denial> {
    match error {
        9 | 10 => Some(Denial::CertificateExpired),
        2 | 18..=21 | 24 | 27 | 28 => Some(Denial::UnknownAuthority),
        62 | 64 => Some(Denial::HostName),
        _ => None,
    }
}

/// What is wrong with a broker's certificate, in words. librdkafka's own text guesses.
pub(crate) fn describe_certificate(error: i32) -> String {
    let words = match error {
        2 | 20 | 21 => "nobody who is trusted has signed the broker's certificate",
        9 => "the broker's certificate is not valid yet",
        10 => "the broker's certificate has expired",
        18 => "the broker's certificate is signed by itself, and not among those trusted",
        19 => "the authority of the broker's certificate is not among those trusted",
        23 => "the broker's certificate is revoked",
        62 => "the broker's certificate is for another host name",
        64 => "the broker's certificate is for another address",
        _ => return format!("the broker's certificate is not accepted: X.509 error {error}"),
    };
    words.to_owned()
}

/// Which broker's certificate a log line is about, and what is wrong with it.
pub(crate) fn certificate_line(text: &str) -> Option<(&str, i32)> {
    let (rest, error) = text.rsplit_once(X509_ERROR)?;
    let (broker, _) = rest.split_once(": Certificate (")?;
    let broker = broker.rsplit_once("]: ").map_or(broker, |(_thread, broker)| broker);
    Some((broker, error.trim().parse().ok()?))
}

/// The broker whose certificate was not accepted, as an error text says: `ssl://host:9093/1: SSL handshake failed: …`
pub(crate) fn certificate_refused(text: &str) -> Option<&str> {
    let about = ["certificate verify failed", "Failed to verify broker certificate"];
    let (broker, rest) = text.split_once(": ")?;
    about.iter().any(|about| rest.contains(about)).then_some(broker)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As librdkafka 2.12 with OpenSSL 3.0 reports what Kafka 4.1 did.
    const REAL: &[(Code, &str, Option<i32>, Denial)] = &[
        (
            Code::AUTHENTICATION,
            "sasl_ssl://localhost:29095/bootstrap: SASL authentication error: Authentication failed: Invalid username \
             or password (after 301ms in state AUTH_REQ, 1 identical error(s) suppressed)",
            None,
            Denial::Credentials,
        ),
        (
            Code::AUTHENTICATION,
            "sasl_ssl://localhost:29095/bootstrap: SASL authentication error: Authentication failed during \
             authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512 (after 327ms in state AUTH_REQ)",
            None,
            Denial::Credentials,
        ),
        (
            Code::AUTHENTICATION,
            "sasl_ssl://localhost:29095/bootstrap: SASL authentication error: {\"status\":\"invalid_token\"} (after \
             304ms in state AUTH_REQ)",
            None,
            Denial::Credentials,
        ),
        (
            Code::AUTHENTICATION,
            "sasl_plaintext://localhost:29098/bootstrap: SASL SCRAM-SHA-256 mechanism handshake failed: Broker: \
             Unsupported SASL mechanism: broker's supported mechanisms: PLAIN (after 301ms in state AUTH_HANDSHAKE)",
            None,
            Denial::Mechanism,
        ),
        (
            Code::AUTHENTICATION,
            "Failed to acquire SASL OAUTHBEARER token: no token: the vault is sealed",
            None,
            Denial::NoToken,
        ),
        (
            Code::AUTHENTICATION,
            "sasl_ssl://localhost:29095/bootstrap: Failed to initialize SASL authentication: OAUTHBEARER cannot log in \
             because there is no token available; last error: (not available) (after 1ms in state AUTH_REQ)",
            None,
            Denial::NoToken,
        ),
        (Code::SSL, VERIFY_FAILED, Some(10), Denial::CertificateExpired),
        (Code::SSL, VERIFY_FAILED, Some(9), Denial::CertificateExpired),
        (Code::SSL, VERIFY_FAILED, Some(19), Denial::UnknownAuthority),
        (Code::SSL, VERIFY_FAILED, Some(20), Denial::UnknownAuthority),
        (Code::SSL, VERIFY_FAILED, Some(62), Denial::HostName),
        (Code::SSL, VERIFY_FAILED, Some(64), Denial::HostName),
        (Code::SSL, VERIFY_FAILED, Some(26), Denial::Handshake),
        (Code::SSL, VERIFY_FAILED, None, Denial::Handshake),
        (
            Code::TRANSPORT,
            "ssl://localhost:29094/bootstrap: Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: \
             SSL alert number 42 (after 0ms in state APIVERSION_QUERY, 1 identical error(s) suppressed)",
            None,
            Denial::ClientCertificate,
        ),
        (
            Code::TRANSPORT,
            "ssl://localhost:29094/bootstrap: Receive failed: error:0A000416:SSL routines::sslv3 alert certificate \
             unknown: SSL alert number 46 (after 0ms in state APIVERSION_QUERY)",
            None,
            Denial::ClientCertificate,
        ),
        (
            Code::SSL,
            "ssl://localhost:9093/bootstrap: SSL handshake failed: error:0A000410:SSL routines::sslv3 alert handshake \
             failure: SSL alert number 40 (after 3ms in state SSL_HANDSHAKE)",
            None,
            Denial::Handshake,
        ),
    ];

    const VERIFY_FAILED: &str = "ssl://localhost:29096/bootstrap: SSL handshake failed: error:0A000086:SSL routines::\
        certificate verify failed: broker certificate could not be verified, verify that ssl.ca.location is correctly \
        configured or root CA certificates are installed (install ca-certificates package) (after 7ms in state \
        SSL_HANDSHAKE)";

    #[test]
    fn real_texts_have_their_reason() {
        for (code, text, certificate, denial) in REAL {
            assert_eq!(of(*code, text, *certificate), Some(*denial), "{text}");
        }
    }

    #[test]
    fn a_broken_connection_is_no_denial() {
        for (code, text) in [
            (
                Code::TRANSPORT,
                "ssl://localhost:29092/bootstrap: SSL handshake failed: Disconnected: SSL connection closed by peer: \
                 connecting to a PLAINTEXT broker listener? (after 1ms in state SSL_HANDSHAKE)",
            ),
            (
                Code::TRANSPORT,
                "ssl://localhost:29093/1: Receive failed: error:0A000126:SSL routines::unexpected eof while reading",
            ),
            (
                Code::TRANSPORT,
                "localhost:29092/1: Connect to ipv4#127.0.0.1:29092 failed: Connection refused",
            ),
            (
                Code::AUTHENTICATION,
                "sasl_ssl://localhost:29095/1: SASL PLAIN mechanism handshake failed: Local: Broker transport failure: \
                 broker's supported mechanisms: (n/a)",
            ),
            (
                Code::SSL,
                "ssl://localhost:29093/1: SSL handshake failed: error:0A000126:SSL routines::unexpected eof while reading \
                 (after 3ms in state SSL_HANDSHAKE)",
            ),
            (Code::TIMED_OUT, "alert"),
        ] {
            assert_eq!(of(code, text, Some(10)), None, "{text}");
        }
    }

    #[test]
    fn codes_of_brokers_have_their_reason() {
        for (code, denial) in [
            (29, Some(Denial::NotAuthorized)), // topic
            (31, Some(Denial::NotAuthorized)), // cluster
            (53, Some(Denial::NotAuthorized)), // transactional id
            (33, Some(Denial::Mechanism)),
            (34, Some(Denial::Credentials)), // a client without SASL
            (58, Some(Denial::Credentials)),
            (3, None),
            (0, None),
            (i32::MAX, None),
        ] {
            assert_eq!(of(Code(code), "", None), denial, "{code}");
        }
    }

    #[test]
    fn the_log_tells_which_broker_s_certificate_is_bad_and_why() {
        let line = "[thrd:ssl://localhost:29096/bootstrap]: ssl://localhost:29096/bootstrap: Certificate \
                    (subject=/CN=expired, issuer=/CN=ca) verification callback failed: X.509 error 10";
        assert_eq!(certificate_line(line), Some(("ssl://localhost:29096/bootstrap", 10)));
        let liar = "[thrd:x]: ssl://[::1]:9093/1: Certificate (subject=/CN=: Certificate (verification callback failed: \
                    X.509 error 62, issuer=]: ) verification callback failed: X.509 error 10";
        assert_eq!(certificate_line(liar), Some(("ssl://[::1]:9093/1", 10)));
        assert_eq!(certificate_line("verification callback failed: X.509 error"), None);
        assert_eq!(certificate_refused(VERIFY_FAILED), Some("ssl://localhost:29096/bootstrap"));
        assert_eq!(certificate_refused("ssl://localhost:29096/bootstrap: SSL handshake failed: oops"), None);
    }
}
