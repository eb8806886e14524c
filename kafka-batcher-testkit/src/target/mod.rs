//! The broker that tests run against, as the environment says.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `KAFKA_BATCHER_BOOTSTRAP` | `host:port` of a real Kafka without security; without it, tests get an embedded broker |
//! | `KAFKA_BATCHER_SECURITY` | path of a file that tells how a secured Kafka is reached, see [`Target::from_env`] |
//! | `KAFKA_BATCHER_BROKER_CTL` | program that moves leaders of that Kafka: `PROGRAM broker move-leader TOPIC --partition N` |
//! | `KAFKA_BATCHER_SECURITY_ROW` | which way of that file to use, `tls` for example; by default `plaintext`, none of them |

mod file;
mod fixture;
mod topics;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher_core::config::{Token, TokenError, TokenProvider};
use kafka_batcher_core::{Denial, KafkaConfig};

use crate::embedded::{EmbeddedBroker, EmbeddedError};
use crate::reader::{ReadError, ReadRecord};
use file::SecurityFile;
pub use fixture::TargetFixture;

/// Always the same token, for SASL/OAUTHBEARER.
#[derive(Clone, Debug)]
pub struct StaticToken(Token);

impl StaticToken {
    /// Gives `value`, which names `principal` and expires at `expires_at`, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn new(value: impl Into<String>, principal: impl Into<String>, expires_at: i64) -> Self {
        Self(Token::new(value, principal, expires_at))
    }
}

#[async_trait]
impl TokenProvider for StaticToken {
    async fn token(&self) -> Result<Token, TokenError> {
        Ok(self.0.clone())
    }
}

/// What can't be set up or done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The environment, or the file it names, makes no sense.
    #[error("{0}")]
    Environment(String),
    /// The embedded broker failed, or can't do that.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// Kafka said no, or nothing in time.
    #[error("{what}: {reason}")]
    Kafka {
        /// What was tried.
        what: String,
        /// What came back.
        reason: String,
    },
    /// The topic can't be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A configuration with which a client must not be let in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefusedCase {
    /// Its name, `wrong_password` for example.
    pub name: String,
    /// How to connect.
    pub config: KafkaConfig,
    /// What the adapter has to say to it.
    pub expect: Denial,
    /// If set, connecting works and writing to this topic does not.
    pub topic: Option<String>,
}

/// A Kafka to test against: an embedded one, or a real one, reached in the way a row of the test matrix says.
///
/// Topics are made and read back over a plaintext listener of the same cluster, whatever the row.
pub struct Target {
    row: String,
    config: KafkaConfig,
    bootstrap: String,
    refused: Vec<RefusedCase>,
    secrets: Vec<String>,
    embedded: Option<EmbeddedBroker>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("row", &self.row)
            .field("bootstrap", &self.bootstrap)
            .field("embedded", &self.embedded.is_some())
            .finish_non_exhaustive()
    }
}

/// The row without security.
const PLAINTEXT: &str = "plaintext";

/// Nodes of the embedded cluster: enough for leaders to move.
const NODES: u32 = 2;

impl Target {
    /// The target the environment names; an embedded broker if it names none.
    ///
    /// The file that `KAFKA_BATCHER_SECURITY` names holds JSON: `plaintext` (a bootstrap address), `rows` and `refused`
    /// (by name, each a [`KafkaConfig`] in its own file format, and beside its keys `token` with `value`, `principal`
    /// and `expires_at`, `expect` with [`Denial::as_str`], and `topic`), and `secrets` (a list of texts).
    ///
    /// # Errors
    /// When variables or file make no sense, or the embedded broker does not start.
    pub fn from_env() -> Result<Self, TargetError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let row = variable("KAFKA_BATCHER_SECURITY_ROW").unwrap_or_else(|| PLAINTEXT.to_owned());
        let file = variable("KAFKA_BATCHER_SECURITY");
        Self::new(&row, variable("KAFKA_BATCHER_BOOTSTRAP"), file.as_deref().map(Path::new))
    }

    /// The target these values name; see [`from_env`](Self::from_env).
    ///
    /// # Errors
    /// As there.
    pub fn new(row: &str, bootstrap: Option<String>, file: Option<&Path>) -> Result<Self, TargetError> {
        let file = file.map(SecurityFile::read).transpose()?;
        if row != PLAINTEXT {
            let missing = || {
                TargetError::Environment(format!("row `{row}` needs KAFKA_BATCHER_SECURITY to name a file"))
            };
            return file.ok_or_else(missing)?.target(row);
        }
        let bootstrap = bootstrap.or_else(|| file.as_ref().map(|file| file.plaintext.clone()));
        let embedded = if bootstrap.is_some() { None } else { Some(EmbeddedBroker::start(NODES)?) };
        let bootstrap =
            bootstrap.or_else(|| embedded.as_ref().map(EmbeddedBroker::bootstrap)).unwrap_or_default();
        let config = KafkaConfig::new(bootstrap.as_str());
        let (refused, secrets) = file.map(|file| (file.refused, file.secrets)).unwrap_or_default();
        Ok(Self { row: row.to_owned(), config, bootstrap, refused, secrets, embedded })
    }

    /// An embedded broker of its own, whatever the environment says.
    ///
    /// # Errors
    /// When it does not start.
    pub fn embedded_broker() -> Result<Self, TargetError> {
        Self::new(PLAINTEXT, None, None)
    }

    /// The row's name, `plaintext` without security.
    #[must_use]
    pub fn row(&self) -> &str {
        &self.row
    }

    /// Whether the row asks for TLS or SASL.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.row != PLAINTEXT
    }

    /// Where Kafka is and how to get in; everything else at its default, no topics.
    pub fn config(&self) -> KafkaConfig {
        self.config.clone()
    }

    /// The same way to get in, at other addresses.
    pub fn config_at(&self, endpoints: &str) -> KafkaConfig {
        let mut config = KafkaConfig::new(endpoints);
        if let Some(sasl) = self.config.get_sasl() {
            config = config.sasl(sasl.clone());
        }
        if let Some(tls) = self.config.get_ssl() {
            config = config.ssl(tls.clone());
        }
        config
    }

    /// The plaintext listener: `host:port`, several separated by commas.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The embedded broker, unless it is a real one.
    #[must_use]
    pub const fn embedded(&self) -> Option<&EmbeddedBroker> {
        self.embedded.as_ref()
    }

    /// Configurations that must not be let in. Empty where the cluster has no security.
    #[must_use]
    pub fn refused(&self) -> &[RefusedCase] {
        &self.refused
    }

    /// Every secret in use: none of them may turn up in a log, an error or `Debug`.
    #[must_use]
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// Creates a topic, from which nothing is deleted for its age, and waits until all of it can be used.
    ///
    /// # Errors
    /// When that fails, or takes more than 20 seconds.
    pub async fn create_topic(&self, name: &str, partitions: u32) -> Result<(), TargetError> {
        self.create_topic_with(name, partitions, &[]).await
    }

    /// Creates a topic with these settings of Kafka's (`cleanup.policy` for example) and waits until it can be used.
    ///
    /// # Errors
    /// As [`create_topic`](Self::create_topic); the embedded broker knows no settings.
    pub async fn create_topic_with(
        &self,
        name: &str,
        partitions: u32,
        settings: &[(&str, &str)],
    ) -> Result<(), TargetError> {
        match &self.embedded {
            Some(broker) if settings.is_empty() => Ok(broker.create_topic(name, partitions)?),
            Some(_) => Err(cannot("topics with settings")),
            None => {
                // Records of tests may be as old as they like; Kafka would delete them by their timestamps.
                let settings = [&[("retention.ms", "-1")], settings].concat();
                topics::create(&self.bootstrap, name, partitions, &settings).await
            }
        }
    }

    /// Gives a topic more partitions and waits until they can be used.
    ///
    /// # Errors
    /// As [`create_topic`](Self::create_topic); the embedded broker's topics don't grow.
    pub async fn grow_topic(&self, name: &str, partitions: u32) -> Result<(), TargetError> {
        match &self.embedded {
            Some(_) => Err(cannot("growing topics")),
            None => topics::grow(&self.bootstrap, name, partitions).await,
        }
    }

    /// Everything in the topic, ordered by partition and offset.
    ///
    /// # Errors
    /// When it can't be read within `timeout`.
    pub async fn read(&self, topic: &str, timeout: Duration) -> Result<Vec<ReadRecord>, TargetError> {
        Ok(topics::read(&self.bootstrap, topic, timeout).await?)
    }
}

fn cannot(what: &str) -> TargetError {
    TargetError::Kafka { what: what.to_owned(), reason: "the embedded broker has none".to_owned() }
}
