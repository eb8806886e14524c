//! The connection: starting the client, and starting it again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::Timing;
use crate::lane::Link;
use crate::notifier::{Report, Trouble, What};
use crate::producer::{ErrorKind, ProduceError};
use crate::time::Moment;

/// What the driver is to do for the connection.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver must handle every action")]
pub enum ConnectionAction {
    /// Call [`Producer::connect`](crate::Producer::connect); answer with [`Connection::connected`].
    Connect,
    /// Tell all collectors.
    Link(Link),
    /// Tell the error notifier.
    Report(Report),
}

/// Connects, backs off with jitter, and connects anew when the client is no longer usable.
#[derive(Debug)]
pub struct Connection {
    state: State,
    backoff: Backoff,
    recheck_interval: Duration,
    /// A failure was reported, and not yet that it is over.
    reported: bool,
    say: VecDeque<ConnectionAction>,
}

#[derive(Debug)]
enum State {
    Waiting {
        until: Moment,
    },
    Connecting,
    /// `check` is when to look whether Kafka is still there, because a batch has failed; `checked` is
    /// when somebody last looked.
    Connected {
        since: Moment,
        checked: Moment,
        check: Option<Moment>,
    },
    /// Connected as far as anybody knows.
    Checking {
        since: Moment,
    },
    Closed,
}

impl Connection {
    /// A connection that wants to be made at once.
    #[must_use]
    pub const fn new(timing: Timing, seed: u64) -> Self {
        let backoff = Backoff::new(timing.retry_backoff, timing.recheck_interval, seed);
        Self {
            state: State::Waiting { until: Moment::ZERO },
            backoff,
            recheck_interval: timing.recheck_interval,
            reported: false,
            say: VecDeque::new(),
        }
    }

    /// The answer to [`ConnectionAction::Connect`].
    pub fn connected(&mut self, result: Result<(), ProduceError>, now: Moment) {
        let checking = match self.state {
            State::Connecting => None,
            State::Checking { since } => Some(since),
            _ => return,
        };
        match result {
            Ok(()) => {
                self.state = State::Connected { since: checking.unwrap_or(now), checked: now, check: None };
                if checking.is_none() {
                    self.say.push_back(ConnectionAction::Link(Link::Up));
                }
                if std::mem::take(&mut self.reported) {
                    let report = Report::new(What::Recovered(Trouble::Connect), "");
                    self.say.push_back(ConnectionAction::Report(report));
                }
            }
            Err(error) => {
                self.forgive(checking, now);
                self.state = State::Waiting { until: self.backoff.next(now) };
                self.say.push_back(ConnectionAction::Link(Link::Down));
                let what = What::ConnectFailed(error.kind());
                self.say.push_back(ConnectionAction::Report(Report::new(what, error.to_string())));
                self.reported = true;
            }
        }
    }

    /// A call of the producer failed with this kind of error.
    ///
    /// A fatal one starts the client anew. A transient one makes it look whether Kafka is still there,
    /// but no more often than every `recheck_interval`: if it is not, all lanes need not find out one
    /// by one, and when it is back, all hear of it at once.
    pub fn failed(&mut self, kind: ErrorKind, now: Moment) {
        match (kind, &mut self.state) {
            (ErrorKind::Fatal, State::Connected { since, .. } | State::Checking { since }) => {
                let since = Some(*since);
                self.forgive(since, now);
                self.state = State::Waiting { until: self.backoff.next(now) };
                self.say.push_back(ConnectionAction::Link(Link::Down));
            }
            (ErrorKind::Transient, State::Connected { checked, check, .. }) => {
                check.get_or_insert((*checked + self.recheck_interval).max(now));
            }
            _ => {}
        }
    }

    /// A connection that held for a while starts over with short waits; one that breaks at once does not.
    fn forgive(&mut self, since: Option<Moment>, now: Moment) {
        if since.is_some_and(|since| now.since(since) >= self.recheck_interval) {
            self.backoff.reset();
        }
    }

    /// Nothing is to be connected any more.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Whether the client has reached Kafka.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. } | State::Checking { .. })
    }

    /// The next thing to do; `None` when there is nothing now.
    pub fn poll_action(&mut self, now: Moment) -> Option<ConnectionAction> {
        if let Some(action) = self.say.pop_front() {
            return Some(action);
        }
        match self.state {
            State::Waiting { until } if now >= until => {
                self.state = State::Connecting;
                Some(ConnectionAction::Connect)
            }
            State::Connected { since, check: Some(at), .. } if now >= at => {
                self.state = State::Checking { since };
                Some(ConnectionAction::Connect)
            }
            _ => None,
        }
    }

    /// When to poll again although nothing happened.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Moment> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Connected { check, .. } => check,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::KafkaConfig;

    fn connection() -> Connection {
        Connection::new(KafkaConfig::new("localhost:9092").timing(), 1)
    }

    fn down() -> ProduceError {
        ProduceError::new(ErrorKind::Transient, "refused")
    }

    #[test]
    fn backs_off_until_it_connects() {
        let mut connection = connection();
        let mut now = Moment::ZERO;
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert!(matches!(connection.poll_action(now), Some(ConnectionAction::Connect)));
            assert!(connection.poll_action(now).is_none(), "one attempt at a time");
            connection.connected(Err(down()), now);
            assert!(matches!(connection.poll_action(now), Some(ConnectionAction::Link(Link::Down))));
            assert!(matches!(connection.poll_action(now), Some(ConnectionAction::Report(_))));
            let until = connection.poll_timeout().unwrap();
            waits.push(until.since(now));
            now = until;
        }
        assert!(
            waits[0] <= Duration::from_millis(100) && waits[7] >= Duration::from_millis(2500),
            "{waits:?}"
        );
        assert!(matches!(connection.poll_action(now), Some(ConnectionAction::Connect)));
        connection.connected(Ok(()), now);
        assert!(matches!(connection.poll_action(now), Some(ConnectionAction::Link(Link::Up))));
        let Some(ConnectionAction::Report(report)) = connection.poll_action(now) else { panic!("untold") };
        assert_eq!(report.what, What::Recovered(Trouble::Connect));
        assert!(connection.is_connected() && connection.poll_timeout().is_none());
    }

    #[test]
    fn a_fatal_error_connects_anew_and_others_do_not() {
        let mut connection = connection();
        connection.poll_action(Moment::ZERO);
        connection.connected(Ok(()), Moment::ZERO);
        connection.poll_action(Moment::ZERO);
        connection.failed(ErrorKind::Denied, Moment::ZERO);
        assert!(connection.poll_action(Moment::ZERO).is_none() && connection.poll_timeout().is_none());
        connection.failed(ErrorKind::Fatal, Moment::ZERO);
        connection.failed(ErrorKind::Fatal, Moment::ZERO);
        assert!(matches!(connection.poll_action(Moment::ZERO), Some(ConnectionAction::Link(Link::Down))));
        let at = connection.poll_timeout().unwrap();
        assert!(at <= Moment::from_millis(100));
        assert!(matches!(connection.poll_action(at), Some(ConnectionAction::Connect)));
    }

    #[test]
    fn a_client_that_fails_as_soon_as_it_is_connected_is_not_started_all_the_time() {
        let mut connection = connection();
        let (mut now, mut connects) = (Moment::ZERO, 0);
        while now < Moment::from_millis(60_000) {
            match connection.poll_action(now) {
                Some(ConnectionAction::Connect) => {
                    connects += 1;
                    connection.connected(Ok(()), now);
                    connection.failed(ErrorKind::Fatal, now);
                }
                Some(_) => {}
                None => now = connection.poll_timeout().unwrap(),
            }
        }
        assert!(connects < 40, "{connects} times in a minute");
    }

    #[test]
    fn a_transient_error_makes_it_look_but_not_all_the_time() {
        let mut connection = connection();
        connection.poll_action(Moment::ZERO);
        connection.connected(Ok(()), Moment::ZERO);
        connection.poll_action(Moment::ZERO);
        for millis in [100, 200, 4000] {
            connection.failed(ErrorKind::Transient, Moment::from_millis(millis));
        }
        let at = connection.poll_timeout().unwrap();
        assert_eq!(at, Moment::from_millis(5000));
        assert!(matches!(connection.poll_action(at), Some(ConnectionAction::Connect)));
        assert!(connection.is_connected());
        connection.connected(Ok(()), at);
        assert!(connection.poll_action(at).is_none(), "all is well: nobody needs to know");
        let later = at + Duration::from_secs(60);
        connection.failed(ErrorKind::Transient, later);
        assert!(matches!(connection.poll_action(later), Some(ConnectionAction::Connect)));
        connection.connected(Err(down()), later);
        assert!(matches!(connection.poll_action(later), Some(ConnectionAction::Link(Link::Down))));
        assert!(!connection.is_connected());
    }
}
