//! Looking for records in the log of a partition.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kafka_batcher_core::{ErrorKind, Found, ProduceError, Search};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout_at;

use crate::client::Client;
use crate::code::Code;
use crate::config::{Purpose, Settings};
use crate::ffi::{Client as Native, Read, describe};
use crate::statistics::Slot;

/// How many partitions are searched at once, each by a client of its own: a partition can't be read twice with one.
const AT_ONCE: u32 = 4;

/// How long a client is kept for the next search.
const KEPT: Duration = Duration::from_secs(10);

/// The clients that search.
#[derive(Debug)]
pub(crate) struct Searches {
    settings: Arc<Settings>,
    room: Arc<Semaphore>,
    /// Those that have nothing to do, and since when.
    idle: Mutex<Vec<(Instant, Arc<Client>)>>,
    closed: watch::Sender<bool>,
}

impl Searches {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            room: Arc::new(Semaphore::new(AT_ONCE as usize)),
            idle: Mutex::default(),
            closed: watch::Sender::new(false),
        }
    }

    /// Searches until the deadline, or until [`close`](Self::close).
    pub(crate) async fn search(
        self: &Arc<Self>,
        search: &Search,
        deadline: tokio::time::Instant,
    ) -> Result<Found, ProduceError> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => {
                Err(ProduceError::new(ErrorKind::Fatal, "the producer is closed"))
            }
            found = self.run(search, deadline) => found,
        }
    }

    async fn run(
        self: &Arc<Self>,
        search: &Search,
        deadline: tokio::time::Instant,
    ) -> Result<Found, ProduceError> {
        let late = |what| ProduceError::new(ErrorKind::Transient, what);
        let Ok(Ok(permit)) = timeout_at(deadline, Arc::clone(&self.room).acquire_owned()).await else {
            return Err(late("too many searches are under way"));
        };
        let idle = self.idle.lock().pop();
        let (client, fresh) = match idle {
            Some((_, client)) => (client, false),
            None => {
                let settings = Arc::clone(&self.settings);
                let making = tokio::task::spawn_blocking(move || {
                    Client::start(&settings, Purpose::Search, Slot::default())
                });
                let Ok(Ok(made)) = timeout_at(deadline, making).await else {
                    return Err(late("starting the client that searches took too long"));
                };
                let made =
                    made.map_err(|error| late("the client that searches does not start").with_source(error))?;
                (Arc::new(made), true)
            }
        };
        let left = || deadline.saturating_duration_since(tokio::time::Instant::now());
        // Whoever is turned away hears of it sooner than when time is up.
        if fresh || client.health().is_denied() {
            client.ping(left()).await.map_err(|error| undecided(&client, error))?;
        }
        let given_up = GivenUp::default();
        let look = Look {
            search: search.clone(),
            deadline: Instant::now() + left(),
            given_up: Arc::clone(&given_up.0),
        };
        let looked = client.blocking(left(), move |native| {
            let _room_until_the_last_call_returned = permit;
            look.run(native)
        });
        let looked = looked.await.unwrap_or_else(|| Err(Code::TIMED_OUT.into()));
        match looked {
            Ok(found) => {
                client.health().well();
                self.keep(client);
                Ok(found)
            }
            Err(Trouble(code, text)) => {
                let what = format!("searching topic `{}`, partition {}", search.topic, search.partition);
                Err(undecided(&client, client.error(&what, code, Some(&text)).await))
            }
        }
    }

    /// Keeps a client that has done its work for a while.
    fn keep(self: &Arc<Self>, client: Arc<Client>) {
        if *self.closed.borrow() {
            return;
        }
        self.idle.lock().push((Instant::now(), client));
        let searches = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            if let Some(searches) = searches.upgrade() {
                searches.idle.lock().retain(|(since, _)| since.elapsed() < KEPT);
            }
        });
    }

    /// Answers who waits, and lets the clients go; what is returned resolves when none is at work any more, those in use
    /// as soon as librdkafka lets them.
    pub(crate) fn close(&self) -> impl Future<Output = ()> {
        self.closed.send_replace(true);
        let ends: Vec<_> = self.idle.lock().drain(..).map(|(_, client)| client.ended()).collect();
        async {
            for ended in ends {
                ended.await;
            }
            let _all_are_done = self.room.acquire_many(AT_ONCE).await;
        }
    }
}

/// A token that has not come yet is no reason to give up searching, as a denial is.
fn undecided(client: &Client, error: ProduceError) -> ProduceError {
    if client.health().awaits_token() {
        return ProduceError::new(ErrorKind::Transient, error.to_string());
    }
    error
}

/// Nobody waits for the answer any more when it is dropped.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Look {
    search: Search,
    deadline: Instant,
    given_up: Arc<AtomicBool>,
}

struct Trouble(Code, String);

impl From<Code> for Trouble {
    fn from(code: Code) -> Self {
        Self(code, describe(code))
    }
}

impl Look {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Blocks.
    fn run(&self, native: &Native) -> Result<Found, Trouble> {
        /// Between two looks at whether somebody still waits.
        const PATIENCE: Duration = Duration::from_millis(100);
        let Search { topic: name, partition, wanted, .. } = &self.search;
        let topic = native.topic(name, || &[]).map_err(|text| Trouble(Code::UNKNOWN_TOPIC, text))?;
        let count = native.partitions(topic, self.left())?.map_or(0, |count| count.get());
        let number = i32::try_from(*partition).ok().filter(|_| *partition < count);
        let partition = number.ok_or(Code::UNKNOWN_PARTITION)?;
        let header = CString::new(self.search.header).map_err(|_| Code::INVALID_ARG)?;

        let (low, high) = native.ask_leader(name, partition, self.left())?;
        let mut next = self.search.from_offset.map_or(low, |from| from.max(low));
        let mut found = Found::new();
        // To Kafka, times before the epoch have meanings of their own.
        if next < high && self.search.from_timestamp > 0 {
            let at = native.offset_at(name, partition, self.search.from_timestamp, self.left())?;
            next = next.max(at.unwrap_or(high));
        }
        if next >= high || wanted.is_empty() {
            return Ok(found);
        }
        let mut reading = native.read(topic, partition, next)?;
        while next < high && found.len() < wanted.len() {
            let left = self.left();
            if left.is_zero() || self.given_up.load(Ordering::Acquire) {
                let text = format!("time was up at offset {next}; the log ends at {high}");
                return Err(Trouble(Code::TIMED_OUT, text));
            }
            let read = reading.next(left.min(PATIENCE), &header, |offset, value| {
                if let Some(value) = value.filter(|value| wanted.contains(*value)) {
                    found.entry(value.into()).or_insert(offset);
                }
            });
            match read {
                Read::Record(offset) => next = offset + 1,
                // The last offsets need not be records. A leader that is new may think that the log ends earlier.
                Read::End(offset) => next = next.max(offset),
                Read::Nothing => {}
                Read::Failed(code, text) => return Err(Trouble(code, text)),
            }
        }
        Ok(found)
    }
}
