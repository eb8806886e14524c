//! A librdkafka client and the thread that serves it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka_batcher_core::{ErrorKind, ProduceError};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::code::Code;
use crate::config::{Purpose, Settings};
use crate::denial;
use crate::error::SetupError;
use crate::ffi::{self, Reports, Said};
use crate::health::Health;
use crate::statistics::{self, Slot};
use crate::tokens::Tokens;

/// A running client.
///
/// Dropping it returns at once: the thread fails what is left, and is the one to hold the last reference to the
/// native client, whose end blocks.
#[derive(Debug)]
pub(crate) struct Client {
    native: Arc<ffi::Client>,
    stop: Arc<Stop>,
    ended: watch::Receiver<()>,
    health: Arc<Health>,
    settings: Arc<Settings>,
    answered: bool,
    /// When somebody last finished asking whether we are still turned away; held meanwhile.
    asked: tokio::sync::Mutex<Option<Instant>>,
    /// When each partition was last heard to have taken a batch of ours; see [`Client::is_known_to`].
    known: Option<Mutex<Known>>,
}

/// By topic and partition.
type Known = HashMap<Arc<str>, HashMap<i32, Instant>>;

#[derive(Debug, Default)]
struct Stop {
    asked: AtomicBool,
    /// A token is wanted, now.
    token: AtomicBool,
    /// Until when what is in flight may still be delivered; `None` is not at all.
    flush_until: Mutex<Option<Instant>>,
}

impl Client {
    /// Makes the client and starts its thread. Blocks for milliseconds, but waits for no broker.
    ///
    /// Needs the context of a tokio runtime, and remembers it: tokens are asked for there.
    ///
    /// Its statistics go to the slot.
    pub(crate) fn start(
        settings: &Arc<Settings>,
        purpose: Purpose,
        statistics: Slot,
    ) -> Result<Self, SetupError> {
        let tokens = match &settings.tokens {
            Some(provider) => {
                let runtime = Handle::try_current()
                    .map_err(|error| SetupError::Refused { reason: format!("tokens: {error}") })?;
                Some(Tokens::new(Arc::clone(provider), runtime, settings.token_timeout))
            }
            None => None,
        };
        let native = Arc::new(match purpose {
            Purpose::Produce(acks) => settings.producer(acks, true)?,
            Purpose::Search => settings.consumer()?,
        });
        let stop = Arc::new(Stop::default());
        let health = Arc::new(Health::default());
        let (ending, ended) = watch::channel(());
        let thread = Thread {
            native: Arc::clone(&native),
            stop: Arc::clone(&stop),
            health: Arc::clone(&health),
            settings: Arc::clone(settings),
            statistics,
            tokens,
            _ending: ending,
        };
        thread::Builder::new()
            .name("kafka-batcher-rdkafka".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| SetupError::Refused { reason: format!("no thread: {error}") })?;
        let (known, answered) = match purpose {
            Purpose::Produce(acks) => {
                (settings.is_idempotent(acks).then(Mutex::default), settings.is_answered(acks))
            }
            Purpose::Search => (None, true),
        };
        Ok(Self {
            native,
            stop,
            ended,
            health,
            settings: Arc::clone(settings),
            answered,
            asked: Default::default(),
            known,
        })
    }

    pub(crate) fn native(&self) -> &Arc<ffi::Client> {
        &self.native
    }

    /// Whether brokers answer this client's produce requests.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// Whether the leader of a partition knows this client, so that it will not take its requests out of order.
    ///
    /// Kafka checks the sequence numbers of a producer it knows; one it doesn't know may begin with any. If of several
    /// requests in flight the first is refused for a passing reason, as by a leader that is not quite ready, and the
    /// second is taken, then it stands before the first for ever. A producer is forgotten when a partition has not
    /// heard of it for `producer.id.expiration.ms`, a day by default.
    pub(crate) fn is_known_to(&self, topic: &str, partition: i32) -> bool {
        const FORGOTTEN: Duration = Duration::from_secs(600);
        let Some(known) = &self.known else { return true };
        let known = known.lock();
        let last = known.get(topic).and_then(|partitions| partitions.get(&partition));
        last.is_some_and(|last| last.elapsed() < FORGOTTEN)
    }

    /// Notes whether a batch was taken.
    pub(crate) fn heard_of(&self, topic: &Arc<str>, partition: i32, taken: bool) {
        let Some(known) = &self.known else { return };
        let mut known = known.lock();
        if taken {
            if let Some(last) = known.get_mut(topic).and_then(|partitions| partitions.get_mut(&partition)) {
                *last = Instant::now();
            } else {
                known.entry(Arc::clone(topic)).or_default().insert(partition, Instant::now());
            }
        } else if let Some(partitions) = known.get_mut(topic) {
            partitions.remove(&partition);
        }
    }

    /// Asks the client to end: until `flush_until` what is in flight may still be delivered, then it fails.
    pub(crate) fn stop(&self, flush_until: Option<Instant>) {
        *self.stop.flush_until.lock() = flush_until;
        self.stop.asked.store(true, Ordering::Release);
        self.native.nudge();
    }

    /// Resolves when the thread has ended; see [`stop`](Self::stop). The caller's reference has to be gone for that.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended = self.ended.clone();
        async move {
            // Nothing is ever sent: the only news is that the sender is gone.
            while ended.changed().await.is_ok() {}
        }
    }

    /// Runs `call` where it may block, until `timeout`.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        timeout: Duration,
        call: impl FnOnce(&ffi::Client) -> T + Send + 'static,
    ) -> Option<T> {
        let client = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || call(&client.native));
        tokio::time::timeout(timeout, work).await.ok()?.ok()
    }

    /// Checks that a broker answers.
    pub(crate) async fn ping(self: &Arc<Self>, timeout: Duration) -> Result<(), ProduceError> {
        /// A broker that is slower than the one that turned us away still gets this long.
        const SECOND_CHANCE: Duration = Duration::from_millis(500);
        /// librdkafka does not say the same twice within some time, but tries again at least once a second.
        const STILL_DENIED: Duration = Duration::from_millis(2500);
        let timeout = if self.health.is_denied() { timeout.min(STILL_DENIED) } else { timeout };
        let denied = self.health.denied();
        if self.health.lacks_token() {
            self.stop.token.store(true, Ordering::Release);
            self.native.nudge();
        }
        let ping = self.blocking(timeout, move |native| native.ping(timeout));
        let mut ping = std::pin::pin!(ping);
        let result = tokio::select! {
            result = &mut ping => result,
            () = denied => tokio::time::timeout(SECOND_CHANCE, ping).await.ok().flatten(),
        };
        let code = match result {
            Some(Ok(())) => {
                self.health.well();
                return Ok(());
            }
            Some(Err(code)) => code,
            None => Code::TIMED_OUT,
        };
        Err(self.unanswered(code).await)
    }

    async fn unanswered(&self, code: Code) -> ProduceError {
        self.error(&format!("no broker of {} answered", self.settings.endpoints), code, None).await
    }

    /// Asks whether we are still turned away, and how. Of several who want to know at once, one asks.
    pub(crate) async fn still_denied(self: &Arc<Self>, timeout: Duration) -> Option<ProduceError> {
        let came = Instant::now();
        let asking = tokio::time::timeout(timeout, self.asked.lock()).await;
        let error = match asking {
            Ok(_) if !self.health.is_denied() => return None,
            Ok(mut last) if last.is_none_or(|last| last < came) => {
                let error = self.ping(timeout.saturating_sub(came.elapsed())).await.err()?;
                *last = Some(Instant::now());
                error
            }
            _ => self.unanswered(Code::TIMED_OUT).await,
        };
        (error.kind() == ErrorKind::Denied).then_some(error)
    }

    /// An error in words, with what is known beyond the code.
    pub(crate) async fn error(&self, what: &str, code: Code, text: Option<&str>) -> ProduceError {
        /// The reason of a refusal can come shortly after the refusal itself.
        const REASON: Duration = Duration::from_millis(100);
        let denied = self.health.denied();
        if code.is_refusal() && !self.health.is_denied() {
            let _told_or_not = tokio::time::timeout(REASON, denied).await;
        }
        if let Some((fatal, text)) = self.native.fatal() {
            let message = self.settings.clean(&format!("{what}: the client failed: {text}"));
            // Without the right to be idempotent a new client will be refused too.
            return match denial::of(fatal, &text, None) {
                Some(denial) => ProduceError::denied(denial, message),
                None => ProduceError::new(ErrorKind::Fatal, message),
            };
        }
        let refusal = match self.health.refusal() {
            Some(refusal) if code.is_silence() || code.is_refusal() => Some(refusal),
            // librdkafka says the same once in 30 seconds.
            _ if code.is_refusal() => self.health.last_refusal(),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return ProduceError::denied(refusal.denial, format!("{what}: access denied: {}", refusal.text));
        }
        let mut message = format!("{what}: ");
        message.push_str(text.unwrap_or(&ffi::describe(code)));
        if (code.is_silence() || code.is_refusal())
            && let Some(text) = self.health.unreachable()
        {
            message.push_str("; last heard: ");
            message.push_str(&text);
        }
        let message = self.settings.clean(&message);
        if code.is_refusal() {
            // Nobody turned us away: the connection broke in the middle of a handshake.
            return ProduceError::new(ErrorKind::Transient, message);
        }
        match denial::of(code, "", None) {
            Some(denial) => ProduceError::denied(denial, message),
            None => ProduceError::new(code.kind(), message),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Our reference to the native client is still there, so the thread's will be the last.
        self.stop.asked.store(true, Ordering::Release);
        self.native.nudge();
    }
}

struct Thread {
    // Dropped in this order: whoever waits for the end waits for the native client's too.
    native: Arc<ffi::Client>,
    stop: Arc<Stop>,
    health: Arc<Health>,
    settings: Arc<Settings>,
    statistics: Slot,
    tokens: Option<Tokens>,
    _ending: watch::Sender<()>,
}

impl Thread {
    fn run(mut self) {
        /// How long the reports of what was purged may take.
        const PURGE: Duration = Duration::from_secs(1);
        const IDLE: Duration = Duration::from_secs(1);
        /// Between two looks at whether a token is there.
        const TOKEN: Duration = Duration::from_millis(10);
        const ENDING: Duration = Duration::from_millis(10);
        let mut room = Reports::new();
        while !self.stop.asked.load(Ordering::Acquire) {
            let awaited = self.tokens.as_ref().is_some_and(Tokens::is_asked);
            self.serve(if awaited { TOKEN } else { IDLE }, &mut room);
            self.see_to_tokens();
        }
        self.tokens = None;
        loop {
            let until = *self.stop.flush_until.lock();
            if self.native.outstanding() == 0 || until.is_none_or(|until| Instant::now() >= until) {
                break;
            }
            self.serve(ENDING, &mut room);
        }
        self.native.purge();
        let until = Instant::now() + PURGE;
        while self.native.outstanding() > 0 && Instant::now() < until {
            self.serve(ENDING, &mut room);
        }
        self.native.abandon();
        while Arc::strong_count(&self.native) > 1 {
            self.serve(ENDING, &mut room);
        }
    }

    fn serve(&self, timeout: Duration, room: &mut Reports) {
        let said = &mut |said| match said {
            Said::Log { level, facility, text } => {
                let text = self.settings.clean(&text);
                self.health.take_in_log(&text);
                // What it says is in the error that follows, which is not repeated with each attempt.
                let level = if facility == "SSLCERTVRFY" { DEBUG } else { level };
                let passes =
                    if level < DEBUG { self.settings.lines.pass(&facility, Instant::now()) } else { None };
                log(passes.map_or(DEBUG, |_| level), &facility, &text, passes.unwrap_or_default());
            }
            Said::Statistics(text) => *self.statistics.lock() = statistics::parse(&text),
            Said::TokenWanted => self.stop.token.store(true, Ordering::Release),
            Said::Error { code, text } => {
                let text = self.settings.clean(&text);
                match self.settings.lines.pass(&code.0.to_string(), Instant::now()) {
                    Some(left_out) => tracing::warn!(target: TARGET, code = code.0, left_out, "{text}"),
                    None => tracing::debug!(target: TARGET, code = code.0, "{text}"),
                }
                self.health.take_in(code, text);
            }
        };
        self.native.serve(timeout, room, said);
    }

    /// Asks for a token when one is wanted, and passes it on when it is there.
    fn see_to_tokens(&mut self) {
        let Some(tokens) = &mut self.tokens else { return };
        if self.stop.token.swap(false, Ordering::AcqRel) {
            tokens.ask();
            self.health.token_asked();
        }
        let Some(answer) = tokens.answer() else { return };
        let set = answer.map_err(|error| error.to_string()).and_then(|token| {
            self.settings.keep_secret(&token);
            self.native.set_token(&token).map_err(|reason| format!("no token: {reason}"))
        });
        match set {
            Ok(()) => self.health.token_came(),
            Err(reason) => {
                let reason = self.settings.clean(&reason);
                match self.settings.lines.pass("token", Instant::now()) {
                    Some(left_out) => tracing::warn!(target: TARGET, left_out, "{reason}"),
                    None => tracing::debug!(target: TARGET, "{reason}"),
                }
                self.native.set_no_token(&reason);
                self.health.token_failed(reason);
            }
        }
    }
}

const TARGET: &str = "kafka_batcher::rdkafka";

/// Syslog's level for it.
const DEBUG: i32 = 7;

/// `level` is syslog's; so many lines of this facility were `left_out` before it.
fn log(level: i32, facility: &str, text: &str, left_out: u64) {
    match level {
        ..=3 => tracing::error!(target: TARGET, facility, left_out, "{text}"),
        4 => tracing::warn!(target: TARGET, facility, left_out, "{text}"),
        5 | 6 => tracing::info!(target: TARGET, facility, left_out, "{text}"),
        _ => tracing::debug!(target: TARGET, facility, "{text}"),
    }
}
