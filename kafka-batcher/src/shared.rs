//! What all parts of one batcher share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use kafka_batcher_core::budget::Budget;
use kafka_batcher_core::config::{Timing, TopicConfig};
use kafka_batcher_core::lane::Pace;
use kafka_batcher_core::{
    DeadLetter, ErrorKind, HeaderSource, ProduceError, Producer, StorageError, Telemetry, TempStorage,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify as Wakeup, mpsc};

use crate::clock::Clock;
use crate::contain::contained_async;
use crate::notify::Notify;
use crate::telemeter::Telemeter;
use crate::topic::Topic;

/// A producer that has not answered so long after its deadline is given up on.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Shared {
    pub(crate) timing: Timing,
    pub(crate) clock: Clock,
    pub(crate) budget: Budget,
    /// What was stored is sent at this pace, if there is one.
    pub(crate) pace: Option<Arc<Pace>>,
    /// Memory has become free.
    pub(crate) room: Wakeup,
    pub(crate) producer: Arc<dyn Producer>,
    pub(crate) storage: Arc<dyn TempStorage>,
    pub(crate) dead_letter: Arc<dyn DeadLetter>,
    /// None: nobody counts.
    pub(crate) telemetry: Option<Telemeter>,
    pub(crate) header_source: Option<Arc<dyn HeaderSource>>,
    pub(crate) notify: Notify,
    pub(crate) runtime: Handle,
    /// To the connection manager: a call of the producer failed with this kind of error.
    pub(crate) failures: mpsc::UnboundedSender<ErrorKind>,
    /// Held by the batcher and the collectors: when those are gone, so is all of this, the storage included.
    pub(crate) topics: OnceLock<Vec<Weak<Topic>>>,
    /// How often the client reached Kafka after it had not.
    pub(crate) connects: AtomicU64,
    /// How often it could not.
    pub(crate) connect_failures: AtomicU64,
    /// The shutdown is over, or was cut off by the end of the runtime.
    pub(crate) ended: AtomicBool,
    /// Random for each batcher: names it in sequence headers.
    pub(crate) instance: [u8; 16],
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Shared {
    /// Those that are still there.
    pub(crate) fn topics(&self) -> impl Iterator<Item = Arc<Topic>> {
        self.topics.get().into_iter().flatten().filter_map(Weak::upgrade)
    }

    /// Tells telemetry, unless the topic has it switched off.
    pub(crate) fn telemetry(&self, topic: &TopicConfig, tell: impl FnOnce(&dyn Telemetry)) {
        if let Some(telemeter) = self.telemetry.as_ref().filter(|_| topic.telemetry) {
            tell(telemeter.queue());
        }
    }

    /// Tells the connection manager of a failed call, which may mean that the client has to be started anew.
    pub(crate) fn heed<T>(&self, result: &Result<T, ProduceError>) {
        if let Err(error) = result {
            // The manager is gone only when the batcher is.
            self.failures.send(error.kind()).ok();
        }
    }

    /// Calls storage; a panic in it is an error like others.
    pub(crate) async fn storage_call<T>(
        &self,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        contained_async(call).await.unwrap_or_else(|panic| {
            self.notify.panicked();
            Err(StorageError::Failed(format!("it panicked: {panic}")))
        })
    }

    /// Calls the producer; a panic in it, or no answer long after its time, is an error.
    pub(crate) async fn producer_call<T>(
        &self,
        timeout: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T, ProduceError> {
        let error = |message: String| ProduceError::new(ErrorKind::Transient, message);
        match tokio::time::timeout(timeout + GRACE, contained_async(call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(panic)) => {
                self.notify.panicked();
                Err(error(format!("the producer panicked: {panic}")))
            }
            Err(_) => Err(error(format!("the producer did not answer within {:?}", timeout + GRACE))),
        }
    }

    /// Gives memory back and wakes whoever waits for some.
    pub(crate) fn release(&self, (bytes, events): (usize, usize)) {
        if events > 0 {
            self.budget.give_back(bytes, events);
            self.room.notify_waiters();
        }
    }
}
