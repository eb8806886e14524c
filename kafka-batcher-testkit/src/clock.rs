//! Time that moves when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use kafka_batcher_core::Moment;

/// A clock for the core's state machines, which take time as an argument: hours of back-off pass in microseconds.
///
/// A clone shows the same time. Code that sleeps on tokio's timers, as the scripted fakes here do, has its own virtual
/// time: `#[tokio::test(start_paused = true)]`.
///
/// ```
/// use kafka_batcher_core::connection::{Connection, ConnectionAction};
/// use kafka_batcher_core::{ErrorKind, KafkaConfig, ProduceError};
/// use kafka_batcher_testkit::clock::VirtualClock;
///
/// let clock = VirtualClock::new();
/// let mut connection = Connection::new(KafkaConfig::new("localhost:9092").timing(), 1);
/// let mut attempts = 0;
/// while attempts < 100 {
///     match connection.poll_action(clock.now()) {
///         Some(ConnectionAction::Connect) => {
///             attempts += 1;
///             let refused = ProduceError::new(ErrorKind::Transient, "refused");
///             connection.connected(Err(refused), clock.now());
///         }
///         Some(_) => {}
///         None => assert!(clock.jump(connection.poll_timeout()), "it tries for ever"),
///     }
/// }
/// assert!(clock.elapsed().as_secs() > 60, "with waits between the attempts");
/// ```
#[derive(Clone, Debug, Default)]
pub struct VirtualClock {
    micros: Arc<AtomicU64>,
}

impl VirtualClock {
    /// A clock at [`Moment::ZERO`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time it shows.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::from_micros(self.micros.load(SeqCst))
    }

    /// How long it has run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now().since(Moment::ZERO)
    }

    /// Lets so much time pass, to the microsecond; gives the new time.
    pub fn advance(&self, by: Duration) -> Moment {
        let set = |micros| Some((Moment::from_micros(micros) + by).as_micros());
        self.micros.fetch_update(SeqCst, SeqCst, set).unwrap_or_default();
        self.now()
    }

    /// Goes on to `wake_up`, what a machine's `poll_timeout` gave; never back. `false` when there is none.
    pub fn jump(&self, wake_up: Option<Moment>) -> bool {
        let Some(at) = wake_up else { return false };
        self.micros.fetch_max(at.as_micros(), SeqCst);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_for_all_clones_and_never_back() {
        let clock = VirtualClock::new();
        let other = clock.clone();
        assert_eq!(clock.advance(Duration::from_millis(5)), Moment::from_millis(5));
        assert!(other.jump(Some(Moment::from_millis(9))));
        assert!(clock.jump(Some(Moment::from_millis(2))));
        assert_eq!((clock.now(), other.elapsed()), (Moment::from_millis(9), Duration::from_millis(9)));
        assert!(!clock.jump(None));
        assert_eq!(clock.advance(Duration::MAX), Moment::from_micros(u64::MAX));
    }
}
