//! The client in use and its connections to partitions; what is broken is replaced.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::ErrorKind;
use parking_lot::Mutex;
use rskafka::client::partition::PartitionClient;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::config::Settings;
use crate::session::{Created, Session, Topics};
use crate::trouble::Trouble;

/// Shortest time for a step, however little is left.
const SHORTEST_STEP: Duration = Duration::from_millis(100);

/// Time between two looks at whether a new topic is there.
const VISIBLE: Duration = Duration::from_millis(20);

/// Everything that lives on the engine's thread.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) settings: Arc<Settings>,
    session: Mutex<Option<Arc<Session>>>,
    /// Held while a session is opened.
    opening: AsyncMutex<()>,
    lanes: Mutex<Lanes>,
}

/// By topic and partition.
type Lanes = HashMap<(Arc<str>, u32), Arc<AsyncMutex<Lane>>>;

/// The connection to the leader of one partition. Locked while a batch is on its way, or the log is
/// searched: there is one at a time.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) connection: Option<Arc<PartitionClient>>,
    /// When the last connection turned out to be of no use: what was known of leaders then is not to be trusted.
    pub(crate) distrusted: Option<Instant>,
}

impl Cluster {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, session: Mutex::default(), opening: AsyncMutex::default(), lanes: Mutex::default() }
    }

    /// The end of a step after which there is something else to try: half of what is left.
    pub(crate) fn step(&self, deadline: Instant) -> Instant {
        let now = Instant::now();
        let half = deadline.saturating_duration_since(now) / 2;
        deadline.min(now + half.min(self.settings.connect_timeout).max(SHORTEST_STEP))
    }

    /// Reaches the cluster anew, and lets go of the client that was in use.
    pub(crate) async fn connect(&self, home: &Handle, deadline: Instant) -> Result<(), Trouble> {
        let session = Arc::new(Session::open(&self.settings, home, deadline).await?);
        *self.session.lock() = Some(session);
        Ok(())
    }

    /// The client in use, or a new one.
    async fn session(&self, home: &Handle, deadline: Instant) -> Result<Arc<Session>, Trouble> {
        if let Some(session) = &*self.session.lock() {
            return Ok(Arc::clone(session));
        }
        let Ok(_one_at_a_time) = timeout_at(deadline, self.opening.lock()).await else {
            return Err(Trouble::silence("no answer in time (connecting)"));
        };
        if let Some(session) = &*self.session.lock() {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(Session::open(&self.settings, home, deadline).await?);
        *self.session.lock() = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Lets go of a client that is of no use any more, unless that has happened already.
    fn discard(&self, session: &Arc<Session>) {
        let mut current = self.session.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *current = None;
        }
    }

    /// Lets go of the client in use.
    fn discard_current(&self) {
        *self.session.lock() = None;
    }

    /// The topics, asked for after `not_before`, and the client that told. A client that can't is replaced, once.
    async fn topics(
        &self,
        home: &Handle,
        not_before: Instant,
        deadline: Instant,
    ) -> Result<(Arc<Session>, Arc<Topics>), Trouble> {
        let mut replaced = false;
        loop {
            let session = self.session(home, deadline).await?;
            let step = if replaced { deadline } else { self.step(deadline) };
            match session.topics(not_before, step).await {
                Ok(topics) => return Ok((session, topics)),
                Err(trouble) => {
                    self.discard(&session);
                    if replaced || Instant::now() >= deadline {
                        return Err(trouble);
                    }
                    replaced = true;
                }
            }
        }
    }

    /// How many partitions a topic has now.
    pub(crate) async fn count(&self, home: &Handle, topic: &str, deadline: Instant) -> Result<u32, Trouble> {
        let (session, topics) = self.topics(home, Instant::now(), deadline).await?;
        match topics.get(topic) {
            Some(count) if *count > 0 => Ok(*count),
            _ => Err(session.why_unlisted(topic, deadline).await),
        }
    }

    /// Creates a topic and waits until it can be used.
    pub(crate) async fn create(
        &self,
        home: &Handle,
        topic: &str,
        partitions: i32,
        replicas: i16,
        deadline: Instant,
    ) -> Result<(), Trouble> {
        let mut pause = Pause::new();
        loop {
            let session = self.session(home, deadline).await?;
            let trouble = match session.create(topic, partitions, replicas, deadline).await {
                Ok(Created::Before) => return Ok(()),
                Ok(Created::Now) => {
                    self.wait_for(home, topic, partitions, deadline).await;
                    return Ok(());
                }
                Err(trouble) => trouble,
            };
            self.discard(&session);
            if trouble.kind != ErrorKind::Transient || !pause.wait_before(deadline).await {
                return Err(trouble);
            }
        }
    }

    /// Waits until a topic that was just created is listed: brokers hear of it one after the other.
    async fn wait_for(&self, home: &Handle, topic: &str, partitions: i32, deadline: Instant) {
        let wanted = u32::try_from(partitions).unwrap_or(1);
        while Instant::now() + VISIBLE < deadline {
            match self.topics(home, Instant::now(), deadline).await {
                Ok((_, topics)) if topics.get(topic).is_none_or(|count| *count < wanted) => {}
                _ => return,
            }
            tokio::time::sleep(VISIBLE).await;
        }
    }

    /// The partition's lane, when no other batch is on its way there; `None` when that was not so in time.
    pub(crate) async fn lane(
        &self,
        topic: &Arc<str>,
        partition: u32,
        deadline: Instant,
    ) -> Option<OwnedMutexGuard<Lane>> {
        let lane = {
            let mut lanes = self.lanes.lock();
            Arc::clone(lanes.entry((Arc::clone(topic), partition)).or_default())
        };
        timeout_at(deadline, lane.lock_owned()).await.ok()
    }

    /// The lane's connection, or a new one. It is the caller's until it is [`used`](Self::used), and gone if it never is.
    pub(crate) async fn connection(
        &self,
        home: &Handle,
        lane: &mut Lane,
        topic: &str,
        partition: u32,
        deadline: Instant,
    ) -> Result<Arc<PartitionClient>, Trouble> {
        if let Some(connection) = lane.connection.take() {
            return Ok(connection);
        }
        let leader = self.leader(home, lane, topic, partition, deadline).await;
        leader.inspect_err(|_| lane.distrusted = Some(Instant::now()))
    }

    /// Keeps a connection for the next call, unless this trouble with it speaks against that.
    pub(crate) fn used(&self, lane: &mut Lane, connection: Arc<PartitionClient>, trouble: Option<&Trouble>) {
        match trouble {
            None => {
                lane.connection = Some(connection);
                lane.distrusted = None;
            }
            Some(trouble) if trouble.is_answer => lane.connection = Some(connection),
            Some(trouble) => {
                lane.distrusted = Some(Instant::now());
                if trouble.is_silence {
                    self.discard_current();
                }
            }
        }
    }

    /// A connection to the partition's leader, of which nothing is known yet that speaks against it.
    async fn leader(
        &self,
        home: &Handle,
        lane: &Lane,
        topic: &str,
        partition: u32,
        deadline: Instant,
    ) -> Result<Arc<PartitionClient>, Trouble> {
        // Without a list that is newer, rskafka goes by old metadata, and asks for the leader in vain for ever.
        let now = Instant::now();
        let recent = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let not_before = lane.distrusted.map_or(recent, |distrusted| distrusted.max(recent));
        let (session, topics) = self.topics(home, not_before, deadline).await?;
        let unknown = || Trouble::new(ErrorKind::UnknownTopic, format!("there is no partition {partition}"));
        match topics.get(topic) {
            Some(count) if *count > 0 => {
                let number = i32::try_from(partition).ok().filter(|_| partition < *count);
                let number = number.ok_or_else(unknown)?;
                let reached = session.partition(topic, number, self.step(deadline)).await;
                reached.map(Arc::new).inspect_err(|trouble| {
                    if trouble.is_silence || trouble.kind == ErrorKind::Denied {
                        self.discard(&session);
                    }
                })
            }
            _ => Err(session.why_unlisted(topic, deadline).await),
        }
    }
}

/// Growing pauses between attempts.
#[derive(Debug)]
pub(crate) struct Pause(Duration);

impl Pause {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_millis(500);

    pub(crate) const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// Waits; `false` at once when the deadline would come first.
    pub(crate) async fn wait_before(&mut self, deadline: Instant) -> bool {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        if Instant::now() + pause >= deadline {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}
