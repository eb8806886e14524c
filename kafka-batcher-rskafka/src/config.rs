//! What the batcher's configuration means for rskafka, and what rskafka can't do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::config::{Compression, KafkaConfig, RequiredAcks, Sasl, TopicConfig};
use rskafka::client::partition::Compression as Codec;
use secrecy::ExposeSecret;

use crate::error::SetupError;

/// The one property there is.
pub(crate) const SORT_HEADERS: &str = "rskafka.sort.headers";

/// What rskafka's protocol code can write as the length of a text; it panics beyond.
const LONGEST_TEXT: usize = i16::MAX as usize;

/// The settings of a client, checked.
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) client_id: Arc<str>,
    /// Longest time for one step towards a broker, where there is something else to try.
    pub(crate) connect_timeout: Duration,
    pub(crate) sasl: Option<Sasl>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    /// Headers may be sent in another order than they have.
    pub(crate) may_sort_headers: bool,
    /// The brokers know who we are, and may have rules about what we may do.
    pub(crate) is_known: bool,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoints", &self.endpoints)
            .field("client_id", &self.client_id)
            .field("sasl", &self.sasl.as_ref().map(|sasl| sasl.mechanism))
            .finish_non_exhaustive()
    }
}

impl Settings {
    pub(crate) fn new(config: &KafkaConfig) -> Result<Self, SetupError> {
        config.validate()?;
        let mut may_sort_headers = false;
        for (name, value) in config.properties() {
            match (name.as_str(), value.as_str()) {
                (SORT_HEADERS, "true") => may_sort_headers = true,
                (SORT_HEADERS, "false") => {}
                (SORT_HEADERS, _) => return Err(SetupError::InvalidProperty { name: name.clone() }),
                _ => return Err(SetupError::UnknownProperty { name: name.clone() }),
            }
        }
        for topic in config.topics()? {
            check_topic(&topic)?;
        }
        let client_id = config.get_client_id();
        if client_id.len() > LONGEST_TEXT {
            return Err(SetupError::Unsupported {
                what: format!("a client_id of {} bytes", client_id.len()),
                instead: "32767 at most",
            });
        }
        let endpoints = config.endpoints()?;
        if let Some(endpoint) = endpoints.iter().find(|e| config.get_ssl().is_some() && e.starts_with('[')) {
            return Err(SetupError::Unsupported {
                what: format!("TLS with {endpoint}"),
                instead: "give the broker's name, or an IPv4 address",
            });
        }
        let has_certificate = config.get_ssl().is_some_and(|tls| tls.cert_file.is_some());
        Ok(Self {
            endpoints,
            client_id: client_id.into(),
            connect_timeout: config.timing().connect_timeout,
            sasl: config.get_sasl().cloned(),
            #[cfg(feature = "tls")]
            tls: config.get_ssl().map(crate::tls::client_config).transpose()?,
            may_sort_headers,
            is_known: config.get_sasl().is_some() || has_certificate,
        })
        .and_then(|settings| settings.check_tls(config))
    }

    #[cfg(feature = "tls")]
    #[expect(clippy::unnecessary_wraps, reason = "as without the feature")]
    fn check_tls(self, _: &KafkaConfig) -> Result<Self, SetupError> {
        Ok(self)
    }

    #[cfg(not(feature = "tls"))]
    fn check_tls(self, config: &KafkaConfig) -> Result<Self, SetupError> {
        if config.get_ssl().is_some() {
            return Err(SetupError::MissingFeature {
                needed_for: "setting `ssl`".to_owned(),
                feature: "tls",
            });
        }
        Ok(self)
    }

    /// `text` without the password.
    pub(crate) fn clean(&self, text: &str) -> String {
        match self.sasl.as_ref().map(|sasl| sasl.password.expose_secret()) {
            Some(secret) if !secret.is_empty() => text.replace(secret, "***"),
            _ => text.to_owned(),
        }
    }
}

/// Whether what the topic asks for can be done.
pub(crate) fn check_topic(topic: &TopicConfig) -> Result<Codec, SetupError> {
    if topic.required_acks != RequiredAcks::All {
        return Err(SetupError::Unsupported {
            what: format!("required_acks = {} (topic `{}`)", topic.required_acks.as_i16(), topic.topic_name),
            instead: "it always waits for all, -1",
        });
    }
    codec(topic.compression).map_err(|feature| SetupError::MissingFeature {
        needed_for: format!("compression `{}` of topic `{}`", topic.compression.as_str(), topic.topic_name),
        feature,
    })
}

/// rskafka's name of a compression, or the feature that is missing.
fn codec(compression: Compression) -> Result<Codec, &'static str> {
    match compression {
        Compression::None => Ok(Codec::NoCompression),
        #[cfg(feature = "gzip")]
        Compression::Gzip => Ok(Codec::Gzip),
        #[cfg(not(feature = "gzip"))]
        Compression::Gzip => Err("gzip"),
        #[cfg(feature = "snappy")]
        Compression::Snappy => Ok(Codec::Snappy),
        #[cfg(not(feature = "snappy"))]
        Compression::Snappy => Err("snappy"),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => Ok(Codec::Lz4),
        #[cfg(not(feature = "lz4"))]
        Compression::Lz4 => Err("lz4"),
        #[cfg(feature = "zstd")]
        Compression::Zstd => Ok(Codec::Zstd),
        #[cfg(not(feature = "zstd"))]
        Compression::Zstd => Err("zstd"),
        _ => Err("unknown to this version"),
    }
}
