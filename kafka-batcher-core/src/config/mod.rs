//! Configuration: every option of the Elixir library under its name, checked on construction.

mod error;
mod kafka;
mod topic;
mod value;

pub use error::ConfigError;
pub use kafka::{KafkaConfig, Limits, MetricOpts, Sasl, SaslMechanism, Timing, Tls};
pub use topic::{Compression, OnUnavailable, RequiredAcks, TopicConfig, TopicSettings};
