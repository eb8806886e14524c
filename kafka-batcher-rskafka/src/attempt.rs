//! Sending one batch: attempts until one works out or there is no more point, and what is known of the batch meanwhile.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use kafka_batcher_core::{Batch, ErrorKind, Persistence};
use rskafka::client::error::Error;
use rskafka::client::partition::{Compression, PartitionClient};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use crate::cluster::{Cluster, Lane, Pause};
use crate::contained::{Contained, Left};
use crate::records;
use crate::trouble::{Trouble, is_broken};

/// Longest time in which a topic that is said not to exist may still be on its way to all brokers.
pub(crate) const UNKNOWN: Duration = Duration::from_secs(2);

/// Whether the batch may be in the log, as far as is known by now. Survives the task that sends it.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicBool);

impl Progress {
    pub(crate) fn persistence(&self) -> Persistence {
        if self.0.load(Ordering::SeqCst) { Persistence::MaybePersisted } else { Persistence::NotPersisted }
    }

    fn set(&self, maybe: bool) {
        self.0.store(maybe, Ordering::SeqCst);
    }
}

/// A batch on its way.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) batch: Batch,
    pub(crate) compression: Compression,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stopped_clock: Handle,
    pub(crate) home: Handle,
}

impl Sending {
    /// Sends the batch; gives the first record's offset.
    pub(crate) async fn run(
        self,
        cluster: &Cluster,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<Option<i64>, Trouble> {
        let unknown_until = deadline.min(Instant::now() + UNKNOWN.min(timeout / 2));
        let Some(mut lane) = cluster.lane(&self.topic, self.partition, deadline).await else {
            return Err(Trouble::silence(format!("no answer within {timeout:?} for the batch before")));
        };
        let mut pause = Pause::new();
        let mut before: Option<Trouble> = None;
        loop {
            let trouble = match self.attempt(cluster, &mut lane, deadline).await {
                Ok(offset) => return Ok(offset),
                Err(trouble) => trouble,
            };
            let until = match trouble.kind {
                ErrorKind::Transient => deadline,
                ErrorKind::UnknownTopic => unknown_until,
                _ => return Err(trouble),
            };
            tracing::debug!(
                target: "kafka_batcher::rskafka",
                topic = &*self.topic, partition = self.partition, "not delivered yet: {}", trouble.text
            );
            let trouble = told(trouble, before.take(), timeout);
            if !pause.wait_before(until).await {
                return Err(trouble);
            }
            before = Some(trouble);
        }
    }

    /// One attempt. After a failure nothing of it goes on, and its connection is not used again.
    async fn attempt(
        &self,
        cluster: &Cluster,
        lane: &mut Lane,
        deadline: Instant,
    ) -> Result<Option<i64>, Trouble> {
        let connection = cluster.connection(&self.home, lane, &self.topic, self.partition, deadline).await?;
        let result = self.send(&connection, deadline).await;
        cluster.used(lane, connection, result.as_ref().err());
        result
    }

    async fn send(
        &self,
        connection: &Arc<PartitionClient>,
        deadline: Instant,
    ) -> Result<Option<i64>, Trouble> {
        let records = records::convert(&self.batch);
        let (connection, compression) = (Arc::clone(connection), self.compression);
        // A chance for the connection's reader to find that it is broken, before anything is sent.
        tokio::task::yield_now().await;
        if Instant::now() >= deadline {
            return Err(Trouble::silence("no time was left to send it"));
        }
        let call = async move { connection.produce(records, compression).await };
        let mut flight = Flight::new(call, &self.progress, self.stopped_clock.clone());
        let mut at_once = true;
        let first = poll_fn(|cx| Poll::Ready(flight.poll(cx))).await;
        let result = match first {
            Poll::Ready(result) => Ok(result),
            Poll::Pending => {
                at_once = false;
                timeout_at(deadline, poll_fn(|cx| flight.poll(cx))).await
            }
        };
        match result {
            Ok(Ok(offsets)) => {
                // Whoever has stopped waiting at this very moment must not take it for unwritten.
                flight.landed(Persistence::MaybePersisted);
                Ok(offsets.first().copied().filter(|offset| *offset >= 0))
            }
            Ok(Err(error)) => {
                let mut trouble = Trouble::while_sending(&error);
                // Nothing else ran meanwhile: the connection was broken before, and rskafka had seen it.
                if at_once && is_broken(&error) {
                    trouble.persistence = Persistence::NotPersisted;
                }
                flight.landed(trouble.persistence);
                Err(trouble)
            }
            Err(_) => {
                let persistence = flight.abandon();
                Err(Trouble { persistence, ..Trouble::silence("no answer in time") })
            }
        }
    }
}

/// What to tell at the end: silence is explained by what was said before it.
pub(crate) fn told(trouble: Trouble, before: Option<Trouble>, timeout: Duration) -> Trouble {
    if !trouble.is_silence {
        return trouble;
    }
    let text = format!("no answer within {timeout:?} ({})", trouble.text);
    match before {
        Some(before) if !before.is_silence => {
            Trouble { text: format!("{text}; before that: {}", before.text), ..before }
        }
        _ => Trouble { text, ..trouble },
    }
}

/// Records on their way through rskafka. Keeps track of whether they may be in the log, also when it is dropped.
struct Flight<'a, F: Future> {
    call: Contained<F>,
    progress: &'a Progress,
    /// What was known before this attempt.
    before: bool,
    has_landed: bool,
    stopped_clock: Handle,
}

impl<'a, T, F: Future<Output = Result<T, Error>>> Flight<'a, F> {
    fn new(call: F, progress: &'a Progress, stopped_clock: Handle) -> Self {
        let before = progress.persistence() == Persistence::MaybePersisted;
        Self { call: Contained::new(call), progress, before, has_landed: false, stopped_clock }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.progress.set(true);
        let _inside = self.stopped_clock.enter();
        Pin::new(&mut self.call).poll(cx)
    }

    fn landed(&mut self, persistence: Persistence) {
        self.has_landed = true;
        self.progress.set(self.before || persistence == Persistence::MaybePersisted);
    }

    fn abandon(&mut self) -> Persistence {
        let persistence = match self.call.abandon() {
            Left::Incomplete => Persistence::NotPersisted,
            Left::Unknown => Persistence::MaybePersisted,
        };
        self.landed(persistence);
        persistence
    }
}

impl<F: Future> Drop for Flight<'_, F> {
    fn drop(&mut self) {
        if !self.has_landed && self.call.abandon() == Left::Incomplete {
            self.progress.set(self.before);
        }
    }
}
