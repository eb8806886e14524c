//! What can be wrong with the settings of a client.

use kafka_batcher_core::ConfigError;

/// The settings can't be used. Never contains a secret, nor the value of any property.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The batcher's own configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// librdkafka has no property of this name.
    #[error("librdkafka has no property `{name}`")]
    UnknownProperty {
        /// The name.
        name: String,
    },
    /// librdkafka does not take the value given for this property.
    #[error("librdkafka does not accept the value given for `{name}`")]
    InvalidProperty {
        /// The name.
        name: String,
    },
    /// librdkafka was built without something the settings ask for.
    #[error("{needed_for} needs Cargo feature `{feature}` of kafka-batcher-rdkafka, which is not enabled")]
    MissingFeature {
        /// What asks for it.
        needed_for: String,
        /// The Cargo feature that brings it.
        feature: &'static str,
    },
    /// librdkafka refuses the settings as a whole, or can't start.
    #[error("librdkafka refuses the settings: {reason}")]
    Refused {
        /// In its own words.
        reason: String,
    },
}
