//! Waits for Kafka and the topic before anything is read, and says what it waits for.

use std::time::{Duration, Instant};

use kafka_batcher::{Collector, CollectorState, ErrorKind, Report, What};

use crate::console::Console;
use crate::format::seconds;
use crate::signals::Stop;
use crate::troubles::Troubles;
use crate::{Failure, report};

/// Time after which it says what it waits for.
const SILENCE: Duration = Duration::from_secs(2);
/// Longest wait for a topic that Kafka says does not exist. Not none: a topic just created takes a moment to be known everywhere.
const UNKNOWN_TOPIC: Duration = Duration::from_secs(5);

/// What is waited for.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    pub(crate) brokers: &'a str,
    pub(crate) topic: &'a str,
    /// The topic is created when it does not exist.
    pub(crate) creates: bool,
    pub(crate) timeout: Duration,
    /// There is a spool for the events until Kafka is there.
    pub(crate) stores: bool,
}

impl Wait<'_> {
    /// Returns when events for the topic can be sent, or at least be stored until then.
    ///
    /// # Errors
    /// When that is not so in time, or the program is asked to stop.
    pub(crate) async fn until_ready(
        &self,
        collector: &Collector,
        troubles: &Troubles,
        console: &Console,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        let mut said = None;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            if matches!(collector.state(), CollectorState::Ready | CollectorState::Growing) {
                return Ok(());
            }
            tokio::select! {
                _ = ticks.tick() => {}
                signal = stop.asked() => {
                    let message = format!("stopped by {signal} before Kafka could be reached; nothing was sent");
                    return Err(Failure::new(signal.exit_code(), message));
                }
            }
            let waited = start.elapsed();
            let problem = troubles.latest();
            if waited >= self.patience(problem.as_ref()) {
                return Err(Failure::new(report::NO_KAFKA, self.gives_up(problem.as_ref(), waited)));
            }
            if self.stores && waited >= SILENCE && !problem.as_ref().is_some_and(says_no_topic) {
                return Ok(());
            }
            if waited >= SILENCE {
                let text = self.waits_for(problem.as_ref());
                if said.as_ref() != Some(&text) {
                    console.note(&text);
                    said = Some(text);
                }
            }
        }
    }

    fn patience(&self, problem: Option<&Report>) -> Duration {
        if problem.is_some_and(says_no_topic) { self.timeout.min(UNKNOWN_TOPIC) } else { self.timeout }
    }

    fn waits_for(&self, problem: Option<&Report>) -> String {
        let Self { brokers, topic, .. } = self;
        match problem {
            Some(report) if says_no_topic(report) => {
                format!("waiting for topic {topic} at {brokers}, which does not exist")
            }
            Some(report) => format!("waiting for Kafka at {brokers}: {}", report.message),
            None => format!("waiting for Kafka at {brokers}"),
        }
    }

    fn gives_up(&self, problem: Option<&Report>, waited: Duration) -> String {
        let Self { brokers, topic, .. } = self;
        let how_long = seconds(waited);
        match problem {
            Some(report) if says_no_topic(report) && !self.creates => format!(
                "topic {topic} does not exist at {brokers}; nothing was sent. Create it, or give --create-topic"
            ),
            Some(report) if matches!(report.what, What::PartitionsUnknown(_)) => format!(
                "topic {topic} at {brokers} could not be used within {how_long}; nothing was sent: {}",
                report.message
            ),
            Some(report) => {
                format!("no Kafka at {brokers} within {how_long}; nothing was sent: {}", report.message)
            }
            None => format!("no Kafka at {brokers} within {how_long}; nothing was sent"),
        }
    }
}

/// Whether Kafka answered that there is no such topic.
fn says_no_topic(report: &Report) -> bool {
    report.what == What::PartitionsUnknown(ErrorKind::UnknownTopic)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Wait<'static> = Wait {
        brokers: "k:9092",
        topic: "flights",
        creates: false,
        timeout: Duration::from_secs(30),
        stores: false,
    };

    #[test]
    fn an_unknown_topic_is_told_from_an_unreachable_broker() {
        let unknown =
            Report::new(What::PartitionsUnknown(ErrorKind::UnknownTopic), "topic `flights` does not exist");
        assert_eq!(WAIT.patience(Some(&unknown)), UNKNOWN_TOPIC);
        assert_eq!(
            WAIT.gives_up(Some(&unknown), UNKNOWN_TOPIC),
            "topic flights does not exist at k:9092; nothing was sent. Create it, or give --create-topic"
        );
        let creating = Wait { creates: true, ..WAIT };
        assert!(!creating.gives_up(Some(&unknown), UNKNOWN_TOPIC).contains("--create-topic"));

        let down = Report::new(What::ConnectFailed(ErrorKind::Transient), "connection refused");
        assert_eq!(WAIT.patience(Some(&down)), WAIT.timeout);
        assert_eq!(WAIT.waits_for(Some(&down)), "waiting for Kafka at k:9092: connection refused");
        assert_eq!(
            WAIT.gives_up(Some(&down), WAIT.timeout),
            "no Kafka at k:9092 within 30.0 s; nothing was sent: connection refused"
        );
        assert_eq!(WAIT.waits_for(None), "waiting for Kafka at k:9092");
    }

    #[test]
    fn a_short_timeout_also_holds_for_an_unknown_topic() {
        let unknown =
            Report::new(What::PartitionsUnknown(ErrorKind::UnknownTopic), "Unknown topic or partition");
        assert_eq!(
            Wait { timeout: Duration::from_secs(1), ..WAIT }.patience(Some(&unknown)),
            Duration::from_secs(1)
        );
    }
}
