//! What can be wrong with the settings of a client.

use std::path::PathBuf;

use kafka_batcher_core::ConfigError;

/// The settings can't be used. Never contains a secret, nor the value of any property.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The batcher's own configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no property of this name; those of librdkafka mean nothing here.
    #[error("the rskafka backend has no property `{name}`, only `rskafka.sort.headers`")]
    UnknownProperty {
        /// The name.
        name: String,
    },
    /// The property does not take the value given.
    #[error("`{name}` takes `true` or `false`")]
    InvalidProperty {
        /// The name.
        name: String,
    },
    /// rskafka can't do this.
    #[error("the rskafka backend can't do {what}: {instead}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What there is instead.
        instead: &'static str,
    },
    /// This crate was built without something the settings ask for.
    #[error("{needed_for} needs Cargo feature `{feature}` of kafka-batcher-rskafka, which is not enabled")]
    MissingFeature {
        /// What asks for it.
        needed_for: String,
        /// The Cargo feature that brings it.
        feature: &'static str,
    },
    /// A file with certificates or a key can't be used.
    #[error("`{key}`, {}: {reason}", path.display())]
    File {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificates and the key can't be used together, or the system has none to trust.
    #[error("TLS can't be set up: {reason}")]
    Tls {
        /// What is wrong.
        reason: String,
    },
}
