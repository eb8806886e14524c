//! Searching the log of one partition, from where the records can be first up to its end when the search began.

use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::{ErrorKind, Found, Search};
use rskafka::chrono::DateTime;
use rskafka::client::error::Error;
use rskafka::client::partition::{OffsetAt, PartitionClient};
use rskafka::record::RecordAndOffset;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use crate::attempt::{UNKNOWN, told};
use crate::cluster::{Cluster, Pause};
use crate::contained::Contained;
use crate::trouble::{Trouble, is_out_of_range};

/// How much is asked for at a time, in bytes. Kafka gives a larger batch whole.
const FETCH: i32 = 1 << 20;
/// How much is asked for where that brought nothing: behind a batch whose end was compacted away, the next one was cut off.
const LARGE_FETCH: i32 = 1 << 24;

/// A search under way. What was looked through is not looked through again after a failed attempt.
#[derive(Debug)]
pub(crate) struct Looking {
    search: Search,
    /// `None` until the log's end is known.
    span: Option<Span>,
    found: Found,
}

/// What is left to look through.
#[derive(Clone, Copy, Debug)]
struct Span {
    next: i64,
    end: i64,
}

impl Looking {
    pub(crate) const fn new(search: Search) -> Self {
        Self { search, span: None, found: Found::new() }
    }

    pub(crate) async fn run(
        mut self,
        cluster: &Cluster,
        home: &Handle,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<Found, Trouble> {
        let unknown_until = deadline.min(Instant::now() + UNKNOWN.min(timeout / 2));
        let (topic, partition) = (Arc::clone(&self.search.topic), self.search.partition);
        let Some(mut lane) = cluster.lane(&topic, partition, deadline).await else {
            return Err(Trouble::silence(format!("no answer within {timeout:?} for the batch before")));
        };
        let mut pause = Pause::new();
        let mut before: Option<Trouble> = None;
        loop {
            let trouble = match cluster.connection(home, &mut lane, &topic, partition, deadline).await {
                Ok(connection) => {
                    let looked = self.attempt(&connection, deadline).await;
                    cluster.used(&mut lane, connection, looked.as_ref().err());
                    match looked {
                        Ok(()) => return Ok(self.found),
                        Err(trouble) => trouble,
                    }
                }
                Err(trouble) => trouble,
            };
            let until = match trouble.kind {
                ErrorKind::Transient => deadline,
                ErrorKind::UnknownTopic => unknown_until,
                _ => return Err(trouble),
            };
            let trouble = told(trouble, before.take(), timeout);
            if !pause.wait_before(until).await {
                return Err(trouble);
            }
            before = Some(trouble);
        }
    }

    /// Looks through what is left.
    async fn attempt(&mut self, connection: &Arc<PartitionClient>, deadline: Instant) -> Result<(), Trouble> {
        let mut bytes = FETCH;
        while self.found.len() < self.search.wanted.len() {
            let Span { next, end } = match self.span {
                Some(span) => span,
                None => self.begin(connection, deadline).await?,
            };
            let fetch = connection.fetch_records(next, 1..bytes.saturating_add(1), 0);
            let (records, high) = match within(deadline, fetch).await? {
                Ok(fetched) => fetched,
                Err(error) if is_out_of_range(&error) => {
                    // The log was truncated, or has been deleted up to behind it: what was known of it is void.
                    (self.search.from_offset, self.span) = (None, None);
                    self.found.clear();
                    continue;
                }
                Err(error) => return Err(Trouble::while_reading(&error)),
            };
            // What consumers may read at the end, if not all of them.
            let end = if self.span.is_none() { end.max(high) } else { end };
            self.look_at(&records, end);
            let last = records.last().map(|last| last.offset + 1).filter(|behind| *behind > next);
            self.span = Some(Span { next: last.unwrap_or(next), end });
            match last {
                Some(behind) if behind >= end => return Ok(()),
                Some(_) => bytes = FETCH,
                None if next >= end => return Ok(()),
                None if bytes < LARGE_FETCH => bytes = LARGE_FETCH,
                // rskafka does not tell how far an answer without records reaches.
                None => {
                    let text = format!("nothing can be read between offset {next} and the log's end, {end}");
                    return Err(Trouble::passing(format!("{text}: a transaction may be open")));
                }
            }
        }
        Ok(())
    }

    /// Where to begin, and the end as the leader knows it; a leader that is new and does not yet says so.
    async fn begin(&self, connection: &Arc<PartitionClient>, deadline: Instant) -> Result<Span, Trouble> {
        let end = offset(connection, OffsetAt::Latest, deadline).await?;
        let next =
            match (self.search.from_offset, DateTime::from_timestamp_millis(self.search.from_timestamp)) {
                (Some(offset), _) => offset,
                (None, Some(time)) if self.search.from_timestamp >= 0 => {
                    // -1: nothing is as young.
                    match offset(connection, OffsetAt::Timestamp(time), deadline).await? {
                        -1 => end,
                        offset => offset,
                    }
                }
                _ => offset(connection, OffsetAt::Earliest, deadline).await?,
            };
        Ok(Span { next, end })
    }

    fn look_at(&mut self, records: &[RecordAndOffset], end: i64) {
        let Search { wanted, header, from_timestamp, .. } = &self.search;
        for RecordAndOffset { record, offset } in records.iter().take_while(|record| record.offset < end) {
            // rskafka keeps the last of those that have the same name.
            if let Some(value) = record.headers.get(*header).filter(|value| wanted.contains(value.as_slice()))
                && record.timestamp.timestamp_millis() >= *from_timestamp
            {
                self.found.entry(value.as_slice().into()).or_insert(*offset);
            }
        }
    }
}

async fn offset(connection: &Arc<PartitionClient>, at: OffsetAt, deadline: Instant) -> Result<i64, Trouble> {
    let offset = within(deadline, connection.get_offset(at)).await?;
    offset.map_err(|error| Trouble::while_reading(&error))
}

/// Waits for a call of rskafka's until `deadline`; what is given up leaves nothing behind.
async fn within<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<Result<T, Error>, Trouble> {
    let answer = timeout_at(deadline, Contained::new(call)).await;
    answer.map_err(|_| Trouble::silence("no answer in time (searching)"))
}
