//! The producer. Without a bug it does all it has to.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kafka_batcher_core::config::{Compression, KafkaConfig, RequiredAcks};
use kafka_batcher_core::{
    Batch, BatchBuilder, Capabilities, Delivered, Denial, ErrorKind, Found, Headers, Persistence,
    ProduceError, ProduceFailure, ProduceRequest, Producer, Record, Search, TopicConfig,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::broker::{COUNT, CREATE, FETCH, HELLO, PRODUCE};

/// What can be wrong with a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    DropsARecord,
    Reorders,
    SendsTwice,
    NullBecomesEmpty,
    DropsHeaders,
    SortsHeaders,
    FoldsHeaders,
    NullHeaderBecomesEmpty,
    RefusesNullHeaders,
    TimestampIsNow,
    EpochIsNow,
    CutsLargeValues,
    WrongPartition,
    OffsetIsOffByOne,
    NoOffset,
    SwallowsErrors,
    UnknownIsTransient,
    UnknownIsMaybe,
    CreatesByAsking,
    TooLargeIsTransient,
    PermanentIsTransient,
    NamesTheWrongRecord,
    NamesTooFewRecords,
    IgnoresDeadlines,
    IsLate,
    RefusedIsMaybe,
    LostIsNot,
    WritesLate,
    BlocksTheExecutor,
    DoesNotRetry,
    RetriesBlindly,
    GivesUpAtOnce,
    NeverConnectsAgain,
    CachesCounts,
    FailsOnExistingTopics,
    CreatesOnePartition,
    CapabilitiesChange,
    ConnectBreaksWhatFlies,
    LeaksDelivered,
    LeaksFailed,
    LeaksDropped,
    WedgesWhenDropped,
    CloseForgets,
    CloseHangs,
    SendsAfterClose,
    DebugShowsSecrets,
    ErrorsShowSecrets,
    DenialHasNoReason,
    DenialIsTransient,
    IgnoresAcks,
    IgnoresCompressionRefusal,
    MixesUpTasks,
    CountsOneLess,
    SearchTellsTheLastPlace,
    SearchGoesByTheFirstHeader,
    SearchTakesNullForEmpty,
    SearchIgnoresOffsets,
    SearchIgnoresTimes,
    SearchFindsItsOwnOnly,
    SearchFailsWhereNothingIs,
    SearchStopsEarly,
    SearchRemembersTheEnd,
    SearchTakesUnknownForEmpty,
    SearchTellsAPart,
    SearchWedgesWhenDropped,
    SearchesAfterClose,
}

pub(crate) struct ToyProducer {
    endpoint: String,
    password: String,
    bug: Option<Bug>,
    closed: watch::Sender<bool>,
    flying: watch::Sender<usize>,
    generation: watch::Sender<u32>,
    connected: AtomicBool,
    failed_once: AtomicBool,
    /// For the bugs that keep what they should not.
    counts: Mutex<std::collections::BTreeMap<String, NonZeroU32>>,
    kept: Arc<Mutex<Vec<Batch>>>,
    /// What it wrote: partitions and offsets.
    written: Mutex<std::collections::BTreeSet<(u32, i64)>>,
    end: AtomicI64,
    last_partition: AtomicU32,
    permits: Semaphore,
}

impl std::fmt::Debug for ToyProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("ToyProducer");
        if self.bug == Some(Bug::DebugShowsSecrets) {
            f.field("password", &self.password);
        }
        f.field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// An error of Kafka's, a number, and records.
type Answer = (i16, i64, Vec<u8>);

/// Why a request was not answered, and whether it had left.
struct Lost {
    left: bool,
    error: ProduceError,
}

impl ToyProducer {
    pub(crate) fn new(config: &KafkaConfig, bug: Option<Bug>) -> Result<Self, String> {
        let topics = config.topics().map_err(|error| error.to_string())?;
        if topics.iter().any(|topic| topic.required_acks != RequiredAcks::All)
            && bug != Some(Bug::IgnoresAcks)
        {
            return Err("acks other than all are not there".to_owned());
        }
        if topics.iter().any(|topic| topic.compression != Compression::None) {
            let silent = bug == Some(Bug::IgnoresCompressionRefusal);
            return Err(if silent { String::new() } else { "no compression is there".to_owned() });
        }
        use secrecy::ExposeSecret;
        let password = config.get_sasl().map(|sasl| sasl.password.expose_secret().to_owned());
        Ok(Self {
            endpoint: config.endpoints().map_err(|error| error.to_string())?.remove(0),
            password: password.unwrap_or_default(),
            bug,
            closed: watch::Sender::new(false),
            flying: watch::Sender::new(0),
            generation: watch::Sender::new(0),
            connected: AtomicBool::new(false),
            failed_once: AtomicBool::new(false),
            counts: Mutex::default(),
            kept: Arc::default(),
            written: Mutex::default(),
            end: AtomicI64::new(0),
            last_partition: AtomicU32::new(0),
            permits: Semaphore::new(3),
        })
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn transient(&self, message: impl Into<String>) -> ProduceError {
        let mut message = message.into();
        if self.has(Bug::ErrorsShowSecrets) {
            message.push_str(&self.password);
        }
        ProduceError::new(ErrorKind::Transient, message)
    }

    /// Asks until there is an answer: while connecting fails, it is tried again.
    async fn ask(&self, api: i16, body: &[u8], timeout: Duration) -> Result<Answer, Lost> {
        let timeout = if self.has(Bug::IsLate) { timeout + Duration::from_secs(1) } else { timeout };
        let timeout = if self.has(Bug::IgnoresDeadlines) { Duration::from_secs(3600) } else { timeout };
        let deadline = Instant::now() + timeout;
        let mut left = false;
        let mut closed = self.closed.subscribe();
        let asking = async {
            loop {
                match self.ask_once(api, body, &mut left).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) if left && !self.has(Bug::RetriesBlindly) => return Err(error),
                    Err(error) if self.has(Bug::GivesUpAtOnce) => return Err(error),
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let answer = tokio::select! {
            answer = timeout_at(deadline, asking) => answer,
            _ = closed.wait_for(|closed| *closed), if !self.has(Bug::CloseForgets) && !self.has(Bug::SendsAfterClose) => {
                return Err(Lost { left, error: self.transient("closed") });
            }
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Lost { left, error: self.transient(error.to_string()) }),
            Err(_) => Err(Lost { left, error: self.transient(format!("no answer within {timeout:?}")) }),
        }
    }

    /// `left` tells afterwards whether the request may have arrived: it leaves when the broker has said hello.
    async fn ask_once(&self, api: i16, body: &[u8], left: &mut bool) -> std::io::Result<Answer> {
        if self.has(Bug::BlocksTheExecutor) {
            std::thread::sleep(Duration::from_secs(2));
        }
        let mut stream = TcpStream::connect(&self.endpoint).await?;
        let (denied, ..) = exchange(&mut stream, HELLO, self.password.as_bytes()).await?;
        if denied != 0 {
            return Ok((denied, 0, Vec::new()));
        }
        *left = api == PRODUCE;
        exchange(&mut stream, api, body).await
    }

    fn error(&self, code: i16, what: &str) -> ProduceError {
        let text = format!("{what}: error {code}");
        match code {
            58 | 29 if self.has(Bug::DenialIsTransient) => self.transient(text),
            58 | 29 if self.has(Bug::DenialHasNoReason) => ProduceError::new(ErrorKind::Denied, text),
            58 => ProduceError::denied(Denial::Credentials, text),
            29 => ProduceError::denied(Denial::NotAuthorized, text),
            3 if !self.has(Bug::UnknownIsTransient) => ProduceError::new(ErrorKind::UnknownTopic, text),
            10 | 18 if !self.has(Bug::TooLargeIsTransient) => ProduceError::new(ErrorKind::TooLarge, text),
            87 | 32 | 43 | 44 if !self.has(Bug::PermanentIsTransient) => {
                ProduceError::new(ErrorKind::Permanent, text)
            }
            _ => self.transient(text),
        }
    }

    /// The batch as it is sent: with a bug, another one.
    fn changed(&self, batch: &Batch) -> Batch {
        let now = 1_790_000_000_000;
        let change = |mut record: Record| {
            match self.bug {
                Some(Bug::NullBecomesEmpty) => record.value = Some(record.value.unwrap_or_default()),
                Some(Bug::DropsHeaders) => record.headers = Headers::new(),
                Some(Bug::SortsHeaders | Bug::FoldsHeaders | Bug::NullHeaderBecomesEmpty) => {
                    let mut list: Vec<_> = record
                        .headers
                        .iter()
                        .map(|h| (h.name.to_owned(), h.value.map(<[u8]>::to_vec)))
                        .collect();
                    match self.bug {
                        Some(Bug::SortsHeaders) => list.sort(),
                        Some(Bug::FoldsHeaders) => list.dedup_by(|a, b| a.0 == b.0),
                        _ => list
                            .iter_mut()
                            .for_each(|header| header.1 = Some(header.1.take().unwrap_or_default())),
                    }
                    record.headers = list.into_iter().map(|(n, v)| (n, v.map(bytes::Bytes::from))).collect();
                }
                Some(Bug::TimestampIsNow) => record.timestamp = Some(now),
                Some(Bug::EpochIsNow) if record.timestamp == Some(0) => record.timestamp = Some(now),
                Some(Bug::CutsLargeValues) => {
                    record.value = record.value.map(|value| value.slice(..value.len().min(65_536)));
                }
                _ => {}
            }
            record
        };
        let mut records: Vec<Record> = batch.records().map(|record| change(record.to_owned())).collect();
        match self.bug {
            Some(Bug::DropsARecord) if records.len() > 5 => drop(records.remove(3)),
            Some(Bug::Reorders) => records.reverse(),
            _ => {}
        }
        let mut builder = BatchBuilder::new();
        for record in records {
            assert!(builder.push(&record.as_ref(), now, None, usize::MAX));
        }
        builder.seal().unwrap()
    }

    async fn send(&self, request: &ProduceRequest, timeout: Duration) -> Result<Delivered, ProduceFailure> {
        let deadline = Instant::now() + timeout;
        let not = |error| ProduceFailure::whole(error, Persistence::NotPersisted);
        if *self.closed.borrow() && !self.has(Bug::SendsAfterClose) {
            return Err(not(ProduceError::new(ErrorKind::Fatal, "closed")));
        }
        let null = request.batch.records().any(|r| r.headers.iter().any(|h| h.value.is_none()));
        if self.has(Bug::RefusesNullHeaders) && null {
            return Err(not(ProduceError::new(ErrorKind::Permanent, "null")));
        }
        let mut partition = request.partition;
        if self.has(Bug::WrongPartition) && partition == 3 {
            partition = 1;
        }
        if self.has(Bug::MixesUpTasks) {
            // Tells the partition to another task and takes that task's.
            let mine = self.last_partition.swap(partition, SeqCst);
            tokio::task::yield_now().await;
            partition = if partition > 0 && mine > 0 { mine } else { partition };
        }
        let body = body(partition, &request.topic.topic_name, self.changed(&request.batch).as_bytes());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.ask(PRODUCE, &body, left).await;
            if self.has(Bug::SendsTwice) && answer.is_ok() {
                drop(self.ask(PRODUCE, &body, left).await);
            }
            let lost = match answer {
                Ok((0, base, _)) => {
                    let written = (base..).take(request.batch.len() as usize);
                    self.written.lock().unwrap().extend(written.map(|offset| (partition, offset)));
                    let base = if self.has(Bug::OffsetIsOffByOne) { base + 1 } else { base };
                    return Ok(Delivered::at(Some(base).filter(|_| !self.has(Bug::NoOffset))));
                }
                Ok((5 | 6 | 7 | 19, ..)) if !self.has(Bug::DoesNotRetry) && Instant::now() < deadline => {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                }
                Ok(_) if self.has(Bug::SwallowsErrors) => return Ok(Delivered::at(Some(0))),
                Ok((code, index, _)) => {
                    let error = self.error(code, "producing");
                    let index = u32::try_from(index).unwrap_or_default();
                    return Err(match self.bug {
                        Some(Bug::NamesTheWrongRecord) => {
                            ProduceFailure::some(error, Persistence::NotPersisted, vec![0])
                        }
                        Some(Bug::NamesTooFewRecords) => {
                            ProduceFailure::some(error, Persistence::NotPersisted, vec![index])
                        }
                        Some(Bug::UnknownIsMaybe) if code == 3 => {
                            ProduceFailure::whole(error, Persistence::MaybePersisted)
                        }
                        _ => not(error),
                    });
                }
                Err(lost) => lost,
            };
            let maybe = (lost.left || self.has(Bug::RefusedIsMaybe)) && !self.has(Bug::LostIsNot);
            if self.has(Bug::LeaksFailed) {
                self.kept.lock().unwrap().push(request.batch.clone());
            }
            if self.has(Bug::WritesLate) && !lost.left {
                let (endpoint, body) = (self.endpoint.clone(), body.clone());
                tokio::spawn(async move {
                    for _ in 0..100 {
                        if let Ok(mut stream) = TcpStream::connect(&endpoint).await
                            && exchange(&mut stream, HELLO, b"").await.is_ok()
                            && exchange(&mut stream, PRODUCE, &body).await.is_ok()
                        {
                            return;
                        }
                        sleep(Duration::from_millis(20)).await;
                    }
                });
            }
            let persistence = if maybe { Persistence::MaybePersisted } else { Persistence::NotPersisted };
            return Err(ProduceFailure::whole(lost.error, persistence));
        }
    }
}

impl ToyProducer {
    /// Reads the log to its end, and looks at each record.
    async fn look(&self, search: &Search, timeout: Duration) -> Result<Found, ProduceError> {
        let deadline = Instant::now() + timeout;
        let mut found = Found::new();
        let mut next =
            search.from_offset.filter(|_| !self.has(Bug::SearchIgnoresOffsets)).unwrap_or_default();
        let mut end =
            Some(self.end.load(SeqCst)).filter(|end| self.has(Bug::SearchRemembersTheEnd) && *end > 0);
        while end.is_none_or(|end| next < end) {
            let body = body(search.partition, &search.topic, &next.to_be_bytes());
            let left = deadline.saturating_duration_since(Instant::now());
            let (high, records) = match self.ask(FETCH, &body, left).await {
                Ok((0, high, records)) => (high, records),
                Ok((3, ..)) if self.has(Bug::SearchTakesUnknownForEmpty) => return Ok(found),
                Ok((code, ..)) => return Err(self.error(code, "searching")),
                Err(_) if self.has(Bug::SearchTellsAPart) => return Ok(found),
                Err(lost) => return Err(lost.error),
            };
            let end = *end.get_or_insert(high);
            self.end.store(end, SeqCst);
            if end == 0 && self.has(Bug::SearchFailsWhereNothingIs) {
                return Err(self.transient("nothing is there"));
            }
            let Ok(batch) = Batch::parse(records.into()) else { continue };
            let (from, from_time) = (next, search.from_timestamp);
            for (offset, record) in (from..end).zip(batch.records()) {
                next = offset + 1;
                let mut values = record.headers.iter().filter(|h| h.name == search.header).map(|h| h.value);
                let value = match self.bug {
                    Some(Bug::SearchGoesByTheFirstHeader) => values.next().flatten(),
                    Some(Bug::SearchTakesNullForEmpty) => values.last().map(Option::unwrap_or_default),
                    _ => values.last().flatten(),
                };
                let early = record.timestamp.is_some_and(|time| time < from_time);
                let Some(value) = value.filter(|value| search.wanted.contains(*value)) else { continue };
                if early && !self.has(Bug::SearchIgnoresTimes) {
                    continue;
                }
                let mine = self.written.lock().unwrap().contains(&(search.partition, offset));
                if self.has(Bug::SearchFindsItsOwnOnly) && !mine {
                    continue;
                }
                let place = found.entry(value.into()).or_insert(offset);
                if self.has(Bug::SearchTellsTheLastPlace) {
                    *place = offset;
                }
            }
            if self.has(Bug::SearchStopsEarly) {
                break;
            }
        }
        Ok(found)
    }
}

fn body(number: u32, name: &str, rest: &[u8]) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    body.push(name.len() as u8);
    body.extend(name.as_bytes());
    body.extend(rest);
    body
}

async fn exchange(stream: &mut TcpStream, api: i16, body: &[u8]) -> std::io::Result<Answer> {
    let mut frame = (8 + body.len() as u32).to_be_bytes().to_vec();
    frame.extend(api.to_be_bytes());
    frame.extend([0, 0, 0, 0, 0, 1]);
    frame.extend(body);
    stream.write_all(&frame).await?;
    let mut answer = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut answer).await?;
    let (error, rest) = answer[4..].split_at(2);
    let (number, records) = rest.split_at(8);
    let error = i16::from_be_bytes(error.try_into().unwrap());
    Ok((error, i64::from_be_bytes(number.try_into().unwrap()), records.to_vec()))
}

/// Counts a call as long as it is not answered or dropped.
struct Flying<'a>(&'a watch::Sender<usize>);

impl<'a> Flying<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl Producer for ToyProducer {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        (capabilities.repeated_headers, capabilities.null_headers, capabilities.search) = (true, true, true);
        capabilities.idempotence = self.has(Bug::RetriesBlindly);
        if self.has(Bug::CapabilitiesChange) && self.connected.load(SeqCst) {
            capabilities.window = 5;
        }
        capabilities
    }

    async fn connect(&self, timeout: Duration) -> Result<(), ProduceError> {
        if self.has(Bug::NeverConnectsAgain) && self.failed_once.load(SeqCst) {
            return Err(self.transient("it failed before"));
        }
        self.generation.send_modify(|generation| *generation += 1);
        let answer = self.ask(HELLO, self.password.as_bytes(), timeout).await;
        self.failed_once.store(answer.is_err(), SeqCst);
        self.connected.store(true, SeqCst);
        match answer.map_err(|lost| lost.error)? {
            (0, ..) => Ok(()),
            (code, ..) => Err(self.error(code, "connecting")),
        }
    }

    async fn partition_count(&self, topic: &str, timeout: Duration) -> Result<NonZeroU32, ProduceError> {
        if self.has(Bug::CreatesByAsking) {
            drop(self.ask(CREATE, &body(1, topic, b""), timeout).await);
        }
        if let Some(count) = self.counts.lock().unwrap().get(topic).filter(|_| self.has(Bug::CachesCounts)) {
            return Ok(*count);
        }
        match self.ask(COUNT, &body(0, topic, b""), timeout).await.map_err(|lost| lost.error)? {
            (0, count, _) => {
                let less = u32::from(self.has(Bug::CountsOneLess) && count > 1);
                let count = NonZeroU32::new(count as u32 - less).unwrap();
                self.counts.lock().unwrap().insert(topic.to_owned(), count);
                Ok(count)
            }
            (code, ..) => Err(self.error(code, "counting")),
        }
    }

    async fn create_topic(&self, topic: &TopicConfig, timeout: Duration) -> Result<(), ProduceError> {
        let partitions = topic.new_topic_partitions.map_or(1, NonZeroU32::get);
        let partitions = if self.has(Bug::CreatesOnePartition) { 1 } else { partitions };
        match self
            .ask(CREATE, &body(partitions, &topic.topic_name, b""), timeout)
            .await
            .map_err(|lost| lost.error)?
        {
            (0, ..) => Ok(()),
            (36, ..) if !self.has(Bug::FailsOnExistingTopics) => Ok(()),
            (code, ..) => Err(self.error(code, "creating")),
        }
    }

    async fn produce(
        &self,
        request: &ProduceRequest,
        timeout: Duration,
    ) -> Result<Delivered, ProduceFailure> {
        let _flying = Flying::new(&self.flying);
        if self.has(Bug::LeaksDelivered) {
            self.kept.lock().unwrap().push(request.batch.clone());
        }
        if self.has(Bug::LeaksDropped) {
            // A task that nobody ends when the call is dropped.
            let batch = request.batch.clone();
            tokio::spawn(async move {
                sleep(Duration::from_secs(60)).await;
                drop(batch);
            });
        }
        if self.has(Bug::WedgesWhenDropped) {
            // Given back at the end, which a dropped call does not reach.
            self.permits.acquire().await.unwrap().forget();
            let result = self.send(request, timeout).await;
            self.permits.add_permits(1);
            return result;
        }
        if self.has(Bug::ConnectBreaksWhatFlies) {
            let mut generation = self.generation.subscribe();
            generation.mark_unchanged();
            return tokio::select! {
                result = self.send(request, timeout) => result,
                _ = generation.changed() => std::future::pending().await,
            };
        }
        self.send(request, timeout).await
    }

    async fn search(&self, search: &Search, timeout: Duration) -> Result<Found, ProduceError> {
        if *self.closed.borrow() && !self.has(Bug::SearchesAfterClose) {
            return Err(ProduceError::new(ErrorKind::Fatal, "closed"));
        }
        if self.has(Bug::SearchWedgesWhenDropped) {
            self.permits.acquire().await.unwrap().forget();
            let result = self.look(search, timeout).await;
            self.permits.add_permits(1);
            return result;
        }
        self.look(search, timeout).await
    }

    async fn close(&self, timeout: Duration) {
        self.closed.send_replace(true);
        if self.has(Bug::CloseForgets) {
            return;
        }
        if self.has(Bug::CloseHangs) {
            std::future::pending::<()>().await;
        }
        let mut flying = self.flying.subscribe();
        drop(tokio::time::timeout(timeout, flying.wait_for(|count| *count == 0)).await);
    }
}
