//! The task that connects the client, and connects it again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use kafka_batcher_core::ErrorKind;
use kafka_batcher_core::connection::{Connection, ConnectionAction};
use kafka_batcher_core::lane::Link;
use kafka_batcher_core::{ProduceError, Report, What};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use crate::contain::contained_async;
use crate::reactor::{Signal, millis};
use crate::shared::Shared;

const CONNECT: &str = "kafka_batcher::connect";

/// How an attempt to connect ended.
type Connected = Result<(), ProduceError>;

pub(crate) struct Manager {
    shared: Arc<Shared>,
    machine: Connection,
    failures: mpsc::UnboundedReceiver<ErrorKind>,
    answer: mpsc::UnboundedSender<Connected>,
    answers: mpsc::UnboundedReceiver<Connected>,
    link: watch::Sender<Link>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.link.send_replace(Link::Down);
    }
}

impl Manager {
    pub(crate) fn new(
        shared: Arc<Shared>,
        failures: mpsc::UnboundedReceiver<ErrorKind>,
        link: watch::Sender<Link>,
        seed: u64,
    ) -> Self {
        let machine = Connection::new(shared.timing, seed);
        let (answer, answers) = mpsc::unbounded_channel();
        Self { shared, machine, failures, answer, answers, link }
    }

    /// Runs until the task is aborted; a panic in here is contained and reported.
    pub(crate) async fn supervise(mut self) {
        loop {
            if let Err(panic) = contained_async(self.run()).await {
                let report = Report::new(What::Panicked, format!("the connection's task: {panic}"));
                self.shared.notify.send(report);
            }
        }
    }

    async fn run(&mut self) {
        loop {
            let now = self.shared.clock.now();
            while let Some(action) = self.machine.poll_action(now) {
                self.perform(action);
            }
            let next = self.machine.poll_timeout();
            tokio::select! {
                Some(kind) = self.failures.recv() => self.machine.failed(kind, self.shared.clock.now()),
                Some(result) = self.answers.recv() => {
                    self.shared.connect_failures.fetch_add(u64::from(result.is_err()), Relaxed);
                    self.machine.connected(result, self.shared.clock.now());
                }
                () = self.shared.clock.sleep_until(next) => {}
            }
        }
    }

    fn perform(&self, action: ConnectionAction) {
        match action {
            ConnectionAction::Connect => {
                let (shared, answer) = (Arc::clone(&self.shared), self.answer.clone());
                self.shared.runtime.spawn(async move {
                    let timeout = shared.timing.connect_timeout;
                    let start = shared.clock.now();
                    let call = shared.producer_call(timeout, shared.producer.connect(timeout));
                    let span = tracing::debug_span!(target: CONNECT, "connect");
                    let result = call.instrument(span).await.and_then(|result| result);
                    let took_ms = millis(shared.clock.now().since(start));
                    match &result {
                        Ok(()) if shared.connects.load(Relaxed) == 0 => {
                            tracing::info!(target: CONNECT, took_ms, "connected");
                        }
                        Ok(()) => tracing::debug!(target: CONNECT, took_ms, "connected"),
                        Err(error) => tracing::debug!(
                            target: CONNECT, kind = error.kind().as_str(), %error, took_ms, "not connected"
                        ),
                    }
                    // The manager is gone only when the batcher is.
                    answer.send(result).ok();
                });
            }
            ConnectionAction::Link(link) => {
                if link == Link::Up {
                    self.shared.connects.fetch_add(1, Relaxed);
                }
                self.link.send_replace(link);
                self.shared.topics().for_each(|topic| topic.signal(Signal::Link(link)));
            }
            ConnectionAction::Report(report) => self.shared.notify.send(report),
        }
    }
}
