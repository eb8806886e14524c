//! What the batcher is measured against: the ways people send events to Kafka with librdkafka.
//!
//! Each peer sends the same load: `lanes` partitions, in each one batch at a time of `batch` events, the next when
//! the last is acknowledged. Used by this crate's `handover` example, and meant to be included by others with
//! `#[path]`.
#![allow(dead_code, reason = "included by several examples, each using a part")]

pub(crate) mod bare;
pub(crate) mod broker;
pub(crate) mod future_producer;

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    /// Partitions, each with one batch in flight.
    pub(crate) lanes: u32,
    /// Events a batch.
    pub(crate) batch: u32,
    /// Bytes of an event's value.
    pub(crate) size: usize,
    /// How long to send.
    pub(crate) time: Duration,
    /// librdkafka properties that differ from the peers' own.
    pub(crate) properties: Vec<(String, String)>,
}

impl Load {
    /// The settings of the peers: as favourable as the batcher's own.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("batch.num.messages", "1000000")
            .set("batch.size", "1065536")
            .set("message.max.bytes", "1065536")
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2147483647")
            .set("socket.nagle.disable", "true");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) events: u64,
    pub(crate) wall: Duration,
    /// User and system time of this process.
    pub(crate) cpu: Duration,
}

impl Figures {
    /// Million events a second.
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.wall.as_secs_f64() / 1e6
    }

    /// Microseconds of CPU an event.
    pub(crate) fn cpu_per_event(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.events as f64
    }
}

/// A running measurement.
#[derive(Debug)]
pub(crate) struct Meter {
    start: Instant,
    cpu: Duration,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu_time() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn stop(self, events: u64) -> Figures {
        Figures { events, wall: self.start.elapsed(), cpu: cpu_time().saturating_sub(self.cpu) }
    }
}

/// User and system time of this process so far, in steps of 10 ms; zero where there is no `/proc`.
pub(crate) fn cpu_time() -> Duration {
    const TICK: Duration = Duration::from_millis(10); // USER_HZ is 100 on every architecture of today
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, the name in parentheses, may contain spaces; utime and stime are fields 14 and 15.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u32>().ok()).sum();
    TICK * ticks
}
