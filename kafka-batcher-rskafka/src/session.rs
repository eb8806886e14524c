//! One client of rskafka's: how it is started, and what it knows of the cluster.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::ErrorKind;
use rskafka::BackoffConfig;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::config::Settings;
use crate::contained::Contained;
use crate::sasl;
use crate::trouble::Trouble;

/// Time an endpoint has before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// A client that has reached the cluster.
pub(crate) struct Session {
    client: Client,
    is_known: bool,
    /// The topics, and when they were asked for.
    listed: Mutex<Option<(Instant, Arc<Topics>)>>,
}

/// The topics of the cluster and their numbers of partitions.
pub(crate) type Topics = HashMap<String, u32>;

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Every call of rskafka's is one attempt, bounded by a deadline: retrying is up to us.
fn one_attempt() -> BackoffConfig {
    BackoffConfig {
        // Not zero: rskafka draws a number from 0..0 then, and panics.
        init_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(1),
        base: 3.0,
        deadline: Some(Duration::ZERO),
    }
}

/// Waits for a call of rskafka's until `deadline`; what is given up leaves nothing behind.
async fn within<T>(
    deadline: Instant,
    what: &str,
    call: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Trouble> {
    match timeout_at(deadline, Contained::new(call)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Trouble::before_sending(&error)),
        Err(_) => Err(Trouble::silence(format!("no answer in time ({what})"))),
    }
}

impl Session {
    /// Reaches the cluster through the endpoint that answers first.
    ///
    /// rskafka itself tries one address after the other, and never comes to the next if one is silent.
    pub(crate) async fn open(
        settings: &Arc<Settings>,
        home: &Handle,
        deadline: Instant,
    ) -> Result<Self, Trouble> {
        let mut troubles: Vec<(String, Trouble)> = Vec::new();
        let mut running = JoinSet::new();
        let mut untried = settings.endpoints.iter();
        let mut next_at = Instant::now();
        loop {
            if running.is_empty() || Instant::now() >= next_at {
                if let Some(endpoint) = untried.next() {
                    let (settings, home, endpoint) = (Arc::clone(settings), home.clone(), endpoint.clone());
                    running.spawn(async move {
                        let reached = reach(&settings, &home, &endpoint, deadline).await;
                        (endpoint, reached)
                    });
                    next_at = Instant::now() + HEAD_START;
                } else if running.is_empty() {
                    return Err(all_failed(settings, &troubles));
                }
            }
            let wake = if untried.len() > 0 { next_at.min(deadline) } else { deadline };
            match timeout_at(wake, running.join_next()).await {
                Ok(Some(Ok((endpoint, Ok(client))))) => {
                    tracing::debug!(target: "kafka_batcher::rskafka", endpoint, "connected");
                    return Ok(Self { client, is_known: settings.is_known, listed: Mutex::default() });
                }
                Ok(Some(Ok((endpoint, Err(trouble))))) => {
                    troubles.push((endpoint, trouble));
                    next_at = Instant::now();
                }
                Ok(Some(Err(panicked))) => {
                    troubles.push((String::new(), Trouble::passing(panicked.to_string())));
                }
                Ok(None) => {}
                Err(_) if Instant::now() >= deadline => {
                    let silent = settings.endpoints.iter().filter(|e| troubles.iter().all(|(t, _)| t != *e));
                    let silent: Vec<_> = silent
                        .map(|endpoint| (endpoint.clone(), Trouble::silence("no answer in time")))
                        .collect();
                    troubles.extend(silent);
                    return Err(all_failed(settings, &troubles));
                }
                Err(_) => {}
            }
        }
    }

    /// The topics as they are now, or as they were after `not_before`.
    pub(crate) async fn topics(
        &self,
        not_before: Instant,
        deadline: Instant,
    ) -> Result<Arc<Topics>, Trouble> {
        let Ok(mut listed) = timeout_at(deadline, self.listed.lock()).await else {
            return Err(Trouble::silence("no answer in time (listing topics)"));
        };
        if let Some((at, topics)) = &*listed
            && *at >= not_before
        {
            return Ok(Arc::clone(topics));
        }
        let now = Instant::now();
        let topics = within(deadline, "listing topics", self.client.list_topics()).await?;
        let count = |partitions: usize| u32::try_from(partitions).unwrap_or(u32::MAX);
        let topics: Topics = topics.into_iter().map(|t| (t.name, count(t.partitions.len()))).collect();
        let topics = Arc::new(topics);
        *listed = Some((now, Arc::clone(&topics)));
        Ok(topics)
    }

    /// A connection to the leader of a partition of a topic that is listed.
    pub(crate) async fn partition(
        &self,
        topic: &str,
        partition: i32,
        deadline: Instant,
    ) -> Result<PartitionClient, Trouble> {
        let client = self.client.partition_client(topic, partition, UnknownTopicHandling::Error);
        within(deadline, "reaching the partition's leader", client).await
    }

    /// Creates a topic; -1 stands for the broker's default.
    pub(crate) async fn create(
        &self,
        topic: &str,
        partitions: i32,
        replicas: i16,
        deadline: Instant,
    ) -> Result<Created, Trouble> {
        let controller = self.client.controller_client().map_err(|error| Trouble::before_sending(&error))?;
        let millis = deadline.saturating_duration_since(Instant::now()).as_millis();
        let timeout = i32::try_from(millis).unwrap_or(i32::MAX);
        let create = async {
            match controller.create_topic(topic, partitions, replicas, timeout).await {
                Ok(()) => Ok(Created::Now),
                Err(Error::ServerError { protocol_error: ProtocolError::TopicAlreadyExists, .. }) => {
                    Ok(Created::Before)
                }
                Err(error) => Err(error),
            }
        };
        within(deadline, "creating the topic", create).await
    }

    /// Why a topic is not listed: it does not exist, or we may not see it.
    ///
    /// rskafka's way of asking for a topic by name makes brokers create it, if they are set up so and the client has the
    /// right. So it is asked for only where we have not: whoever may create topics is told so when creating one without
    /// partitions, which is always refused.
    pub(crate) async fn why_unlisted(&self, topic: &str, deadline: Instant) -> Trouble {
        let unknown = || Trouble::new(ErrorKind::UnknownTopic, format!("topic `{topic}` does not exist"));
        if !self.is_known {
            return unknown();
        }
        match self.create(topic, 0, -1, deadline).await {
            Ok(Created::Before) => {
                let text = format!("topic `{topic}` exists, but may not be seen (ACL: Describe)");
                Trouble::denied(kafka_batcher_core::Denial::NotAuthorized, &text)
            }
            Err(trouble) if trouble.kind == ErrorKind::Denied => {
                match self.partition(topic, 0, deadline).await {
                    Err(trouble) if trouble.kind == ErrorKind::Denied => trouble,
                    _ => unknown(),
                }
            }
            _ => unknown(),
        }
    }
}

/// Who created a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    Now,
    Before,
}

async fn reach(
    settings: &Settings,
    home: &Handle,
    endpoint: &str,
    deadline: Instant,
) -> Result<Client, Trouble> {
    let builder = ClientBuilder::new(vec![endpoint.to_owned()])
        .client_id(Arc::clone(&settings.client_id))
        .backoff_config(one_attempt());
    let builder = match &settings.sasl {
        Some(sasl) => builder.sasl_config(sasl::config(sasl, home)?),
        None => builder,
    };
    #[cfg(feature = "tls")]
    let builder = match &settings.tls {
        Some(tls) => builder.tls_config(Arc::clone(tls)),
        None => builder,
    };
    within(deadline, "connecting", builder.build()).await
}

/// All endpoints' troubles in one. A broker that denies tells more than others that are silent.
fn all_failed(settings: &Settings, troubles: &[(String, Trouble)]) -> Trouble {
    let text = |(endpoint, trouble): &(String, Trouble)| {
        let around = format!("error connecting to broker \"{endpoint}\": ");
        format!("{endpoint}: {}", settings.clean(&trouble.text.replace(&around, "")))
    };
    let texts: Vec<_> = troubles.iter().map(text).collect();
    let telling = troubles
        .iter()
        .find(|(_, trouble)| trouble.kind != ErrorKind::Transient)
        .or_else(|| troubles.iter().find(|(_, trouble)| !trouble.is_silence))
        .or_else(|| troubles.first());
    let trouble = telling.map_or_else(|| Trouble::passing(""), |(_, trouble)| trouble.clone());
    Trouble { text: texts.join("; "), ..trouble }
}
