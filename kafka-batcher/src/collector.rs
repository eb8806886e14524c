//! The handle by which an application adds events to a topic.

use std::sync::Arc;

use kafka_batcher_core::collector::CollectorState;
use kafka_batcher_core::config::{Durability, OnStorageFull, TopicConfig};
use kafka_batcher_core::receipt::Receipt;
use kafka_batcher_core::{Event, FlushReason, StorageError};

use crate::error::{AddError, AddErrorKind, AddEventsError};
use crate::reactor::Signal;
use crate::stats::Stats;
use crate::topic::{Accepted, Refusal, Topic};

/// Takes events for one topic. Cheap to clone; all clones feed the same topic.
///
/// An event is *accepted* when the call returns `Ok`. From then on it is the batcher's to deliver,
/// store or dead-letter, whatever happens to Kafka; only the end of the process can take what is in
/// memory. Events of one partition are sent in the order in which they were accepted.
#[derive(Clone, Debug)]
pub struct Collector {
    topic: Arc<Topic>,
}

impl Collector {
    pub(crate) const fn new(topic: Arc<Topic>) -> Self {
        Self { topic }
    }

    /// Adds an event. Waits while memory is full, and with `durability = "journal"` until the event is in the journal.
    ///
    /// **Cancellation:** a dropped future has not added the event; one that waited for the journal may have.
    ///
    /// # Errors
    /// [`AddError`] hands the event back with the reason; nothing else is affected.
    pub async fn add<E: Event>(&self, event: E) -> Result<(), AddError<E>> {
        match self.add_waiting(&event, false).await {
            Ok(accepted) => self.journaled(accepted, event).await.map(|_| ()),
            Err(kind) => Err(self.refused(event, *kind)),
        }
    }

    /// Adds an event if that is possible at once. May be called outside of a runtime.
    ///
    /// # Errors
    /// As [`add`](Self::add), and [`AddErrorKind::Full`], [`AddErrorKind::NotReady`] and [`AddErrorKind::NeedsJournal`]
    /// instead of waiting.
    pub fn try_add<E: Event>(&self, event: E) -> Result<(), AddError<E>> {
        if self.topic.config.durability == Durability::Journal {
            return Err(self.refused(event, AddErrorKind::NeedsJournal));
        }
        match self.topic.push(&event, false) {
            Ok(_) => Ok(()),
            Err(kind) => Err(self.refused(event, *kind)),
        }
    }

    /// Adds a list of events one by one, in order. Waits while memory is full, and with `durability = "journal"` until
    /// all of them are in the journal.
    ///
    /// An event that can't be accepted stops none of the others. Gives the number of events.
    ///
    /// **Cancellation:** a dropped future has added some of the events.
    ///
    /// # Errors
    /// [`AddEventsError`] hands back the events that were not accepted, each with its reason.
    pub async fn add_events<E: Event>(
        &self,
        events: impl IntoIterator<Item = E>,
    ) -> Result<usize, AddEventsError<E>> {
        let mut accepted = 0;
        let mut refused = Vec::new();
        let mut waiting = Vec::new();
        for (place, event) in events.into_iter().enumerate() {
            match self.add_waiting(&event, false).await {
                Ok(Accepted { journaled: None, .. }) => accepted += 1,
                // They go to the journal together.
                Ok(taken) => waiting.push((place, event, taken)),
                Err(kind) => refused.push((place, self.refused(event, *kind))),
            }
        }
        for (place, event, taken) in waiting {
            match self.journaled(taken, event).await {
                Ok(_) => accepted += 1,
                Err(error) => refused.push((place, error)),
            }
        }
        refused.sort_by_key(|(place, _)| *place);
        if refused.is_empty() { Ok(accepted) } else { Err(AddEventsError { accepted, refused }) }
    }

    /// Adds an event and gives a receipt that resolves when it is known what became of it. Waits as [`add`](Self::add) does.
    ///
    /// **Cancellation:** as with [`add`](Self::add).
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn add_with_receipt<E: Event>(&self, event: E) -> Result<Receipt, AddError<E>> {
        let (receipt, event) = match self.add_waiting(&event, true).await {
            Ok(accepted) => self.journaled(accepted, event).await?,
            Err(kind) => return Err(self.refused(event, *kind)),
        };
        // A receipt that was asked for is always given.
        receipt.ok_or(AddError { event, kind: AddErrorKind::Closed })
    }

    /// Waits until an event is in the journal, if there is one; gives its receipt.
    async fn journaled<E>(&self, accepted: Accepted, event: E) -> Result<(Option<Receipt>, E), AddError<E>> {
        let Some(journaled) = accepted.journaled else { return Ok((accepted.receipt, event)) };
        let rejects = self.topic.config.on_storage_full == OnStorageFull::Reject;
        let kind = match journaled.await {
            Ok(()) => return Ok((accepted.receipt, event)),
            Err(StorageError::Full { used, quota }) if rejects => AddErrorKind::StorageFull { used, quota },
            Err(error) => AddErrorKind::Journal(error),
        };
        Err(self.refused(event, kind))
    }

    fn refused<E>(&self, event: E, kind: AddErrorKind) -> AddError<E> {
        self.topic.refuse(&kind);
        AddError { event, kind }
    }

    async fn add_waiting(&self, event: &impl Event, receipt: bool) -> Result<Accepted, Refusal> {
        // The common case costs no more than `try_add`.
        let waits = |kind: &AddErrorKind| matches!(kind, AddErrorKind::Full | AddErrorKind::NotReady);
        match self.topic.push(event, receipt) {
            Err(kind) if waits(&kind) => {}
            result => return result,
        }
        loop {
            let room = self.topic.shared.room.notified();
            let ready = self.topic.ready.notified();
            tokio::pin!(room, ready);
            // Registered before the next try, so that nothing freed in between is missed.
            room.as_mut().enable();
            ready.as_mut().enable();
            match self.topic.push(event, receipt) {
                Err(kind) if matches!(*kind, AddErrorKind::Full) => {
                    self.topic.shared.topics().for_each(|topic| topic.press());
                    tokio::select! {
                        () = room => {}
                        () = ready => {}
                    }
                }
                Err(kind) if waits(&kind) => ready.await,
                result => return result,
            }
        }
    }

    /// Sends what is gathered now and waits until everything accepted before is delivered, stored or dead-lettered, or
    /// the batcher has ended: the report of its end says what became of the rest.
    ///
    /// **Cancellation:** a dropped future only stops waiting.
    pub async fn flush(&self) {
        let targets: Vec<_> = self
            .topic
            .cells()
            .into_iter()
            .map(|cell| {
                let accepted =
                    cell.shard.lock().lanes().iter().map(|lane| lane.stats().accepted).collect::<Vec<_>>();
                (cell, accepted)
            })
            .collect();
        self.topic.signal(Signal::Flush(FlushReason::Manual));
        loop {
            let progress = self.topic.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let settled = targets.iter().all(|(cell, accepted)| {
                cell.shard
                    .lock()
                    .lanes()
                    .iter()
                    .zip(accepted)
                    .all(|(lane, target)| lane.settled_through() >= *target)
            });
            if settled {
                return;
            }
            tokio::select! {
                () = progress => {}
                () = self.topic.ended() => return,
            }
        }
    }

    /// How far the collector is.
    #[must_use]
    pub fn state(&self) -> CollectorState {
        self.topic.state()
    }

    /// The settings in force for the topic (`get_collector_config`).
    #[must_use]
    pub fn config(&self) -> &TopicConfig {
        &self.topic.config
    }

    /// What the topic has done so far, and what it holds now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (bytes, events) = self.topic.shared.budget.used();
        Stats { in_memory: events as u64, in_memory_bytes: bytes as u64, ..self.topic.stats() }
    }
}
