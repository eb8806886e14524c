//! Configuration: every option of the Elixir library under its name, checked on construction.

mod error;
mod kafka;
mod security;
mod topic;
mod value;

pub use error::ConfigError;
pub use kafka::{KafkaConfig, Limits, MetricOpts, Timing};
pub use security::{Sasl, SaslMechanism, Tls, Token, TokenError, TokenProvider};
pub use topic::{
    Compression, Durability, OnStorageFull, OnUnavailable, RequiredAcks, TopicConfig, TopicSettings,
};
