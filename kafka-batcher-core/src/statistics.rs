//! What a client tells about itself.

use std::time::Duration;

/// Figures of a Kafka client, as far as it has them: those that a [`Producer`](crate::Producer) keeps for itself.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ClientStatistics {
    /// Records that were handed over and are not answered yet.
    pub queued_messages: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// The brokers it knows, each once.
    pub brokers: Vec<BrokerStatistics>,
}

/// A broker, as a client sees it. What is counted is counted since the client was started.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BrokerStatistics {
    /// Its number in the cluster.
    pub id: i32,
    /// Whether there is a connection to it.
    pub up: bool,
    /// Requests that wait to be sent or answered.
    pub requests: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
    /// Requests that could not be sent, and answers that could not be read.
    pub errors: u64,
    /// Requests it did not answer in time.
    pub timeouts: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Connections that were established.
    pub connects: u64,
    /// Connections that ended.
    pub disconnects: u64,
    /// From a request to its answer.
    pub round_trip: Times,
    /// How long the broker made us wait, for using more than our quota.
    pub throttle: Times,
    /// How long records waited in the client before they were sent.
    pub queue: Times,
}

impl BrokerStatistics {
    /// A broker of which nothing is known yet.
    #[must_use]
    pub fn new(id: i32) -> Self {
        Self { id, ..Self::default() }
    }
}

/// Durations within some time before, as the client sums them up; zero when there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// Their mean.
    pub mean: Duration,
    /// Half of them are no longer.
    pub p50: Duration,
    /// 99 of 100 are no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Times {
    /// All of it.
    #[must_use]
    pub const fn new(mean: Duration, p50: Duration, p99: Duration, max: Duration) -> Self {
        Self { mean, p50, p99, max }
    }

    /// Each with a word that labels it.
    #[must_use]
    pub const fn labelled(&self) -> [(&'static str, Duration); 4] {
        [("mean", self.mean), ("p50", self.p50), ("p99", self.p99), ("max", self.max)]
    }
}
