//! What librdkafka says of itself every so often, a JSON text, as figures.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::ClientStatistics;
use kafka_batcher_core::statistics::{BrokerStatistics, Times};
use parking_lot::Mutex;
use serde::Deserialize;

/// What is used of librdkafka's `STATISTICS.md`; the rest, which grows with the partitions, is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    msg_cnt: u64,
    msg_size: u64,
    brokers: HashMap<String, Broker>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Broker {
    nodeid: i32,
    state: String,
    outbuf_cnt: i64,
    waitresp_cnt: i64,
    txbytes: u64,
    txerrs: u64,
    txretries: u64,
    req_timeouts: u64,
    rxbytes: u64,
    rxerrs: u64,
    connects: u64,
    disconnects: u64,
    /// Microseconds.
    int_latency: Window,
    /// Microseconds.
    rtt: Window,
    /// Milliseconds.
    throttle: Window,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Window {
    avg: i64,
    p50: i64,
    p99: i64,
    max: i64,
}

impl Window {
    fn times(&self, unit: fn(u64) -> Duration) -> Times {
        let time = |value| unit(u64::try_from(value).unwrap_or(0));
        Times::new(time(self.avg), time(self.p50), time(self.p99), time(self.max))
    }
}

/// What one text says; `None` when it is none of librdkafka's.
pub(crate) fn parse(text: &str) -> Option<ClientStatistics> {
    let said: Said = serde_json::from_str(text).ok()?;
    let mut statistics = ClientStatistics::default();
    (statistics.queued_messages, statistics.queued_bytes) = (said.msg_cnt, said.msg_size);
    // Those below zero are the addresses that were configured, and have no number of their own yet.
    for broker in said.brokers.values().filter(|broker| broker.nodeid >= 0) {
        let mut figures = BrokerStatistics::new(broker.nodeid);
        figures.up = broker.state == "UP";
        figures.requests = u64::try_from(broker.outbuf_cnt + broker.waitresp_cnt).unwrap_or(0);
        (figures.sent_bytes, figures.received_bytes) = (broker.txbytes, broker.rxbytes);
        figures.errors = broker.txerrs + broker.rxerrs;
        (figures.timeouts, figures.retries) = (broker.req_timeouts, broker.txretries);
        (figures.connects, figures.disconnects) = (broker.connects, broker.disconnects);
        figures.round_trip = broker.rtt.times(Duration::from_micros);
        figures.queue = broker.int_latency.times(Duration::from_micros);
        figures.throttle = broker.throttle.times(Duration::from_millis);
        statistics.brokers.push(figures);
    }
    Some(statistics)
}

/// The figures of all clients of a producer: those that are there, and those that were.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    running: Vec<Slot>,
    /// What clients that have ended had counted.
    ended: BTreeMap<i32, BrokerStatistics>,
}

/// What a client said last; nothing yet, at first.
pub(crate) type Slot = Arc<Mutex<Option<ClientStatistics>>>;

impl Figures {
    /// For a client that starts.
    pub(crate) fn slot(&self) -> Slot {
        let slot = Slot::default();
        self.0.lock().running.push(Arc::clone(&slot));
        slot
    }

    /// All together; `None` as long as none has said anything.
    pub(crate) fn sum(&self) -> Option<ClientStatistics> {
        let all = &mut *self.0.lock();
        all.running.retain(|slot| {
            if Arc::strong_count(slot) > 1 {
                return true;
            }
            for broker in slot.lock().iter().flat_map(|said| &said.brokers) {
                count(&mut all.ended, broker);
            }
            false
        });
        let said: Vec<ClientStatistics> = all.running.iter().filter_map(|slot| slot.lock().clone()).collect();
        if said.is_empty() && all.ended.is_empty() {
            return None;
        }
        let mut brokers = all.ended.clone();
        let mut sum = ClientStatistics::default();
        for client in &said {
            sum.queued_messages += client.queued_messages;
            sum.queued_bytes += client.queued_bytes;
            for broker in &client.brokers {
                let total = count(&mut brokers, broker);
                total.up |= broker.up;
                total.requests += broker.requests;
                // They can't be added: those of the client that waits longest.
                if broker.round_trip.p99 >= total.round_trip.p99 {
                    total.round_trip = broker.round_trip;
                }
                if broker.throttle.p99 >= total.throttle.p99 {
                    total.throttle = broker.throttle;
                }
                if broker.queue.p99 >= total.queue.p99 {
                    total.queue = broker.queue;
                }
            }
        }
        sum.brokers = brokers.into_values().collect();
        Some(sum)
    }
}

/// Adds what is counted.
fn count<'a>(
    brokers: &'a mut BTreeMap<i32, BrokerStatistics>,
    more: &BrokerStatistics,
) -> &'a mut BrokerStatistics {
    let total = brokers.entry(more.id).or_insert_with(|| BrokerStatistics::new(more.id));
    total.sent_bytes += more.sent_bytes;
    total.received_bytes += more.received_bytes;
    total.errors += more.errors;
    total.timeouts += more.timeouts;
    total.retries += more.retries;
    total.connects += more.connects;
    total.disconnects += more.disconnects;
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shortened from what librdkafka 2.12 said.
    const TEXT: &str = r#"{ "name": "rdkafka#producer-1", "msg_cnt": 7, "msg_size": 700, "brokers": {
        "127.0.0.1:9092/bootstrap": { "nodeid": -1, "state": "UP", "tx": 3, "txbytes": 99 },
        "127.0.0.1:9092/1": { "nodeid": 1, "state": "UP", "outbuf_cnt": 1, "waitresp_cnt": 2, "txbytes": 1000,
            "txerrs": 1, "txretries": 2, "req_timeouts": 3, "rxbytes": 400, "rxerrs": 4, "connects": 5, "disconnects": 6,
            "int_latency": { "min": 1, "max": 4000, "avg": 2000, "p50": 1500, "p99": 3900, "outofrange": 0 },
            "rtt": { "max": 90, "avg": 50, "p50": 40, "p99": 80 },
            "throttle": { "max": 9, "avg": 5, "p50": 4, "p99": 8 }, "toppars": { "t-0": {} } } },
        "topics": { "t": { "partitions": { "0": { "partition": 0 } } } } }"#;

    #[test]
    fn queue_round_trips_and_throttling_are_read_with_their_units() {
        let said = parse(TEXT).unwrap();
        assert_eq!((said.queued_messages, said.queued_bytes), (7, 700));
        let [broker] = &said.brokers[..] else { panic!("one broker has a number: {said:?}") };
        assert_eq!((broker.id, broker.up, broker.requests), (1, true, 3));
        assert_eq!((broker.sent_bytes, broker.received_bytes, broker.errors), (1000, 400, 5));
        assert_eq!((broker.timeouts, broker.retries, broker.connects, broker.disconnects), (3, 2, 5, 6));
        assert_eq!(broker.round_trip.mean, Duration::from_micros(50));
        assert_eq!(broker.queue.p99, Duration::from_micros(3900));
        assert_eq!(
            (broker.throttle.p50, broker.throttle.max),
            (Duration::from_millis(4), Duration::from_millis(9))
        );
        assert_eq!(parse("{\"brokers\": 3}"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn clients_are_summed_and_what_one_that_ended_had_counted_stays() {
        let figures = Figures::default();
        let (first, second) = (figures.slot(), figures.slot());
        assert_eq!(figures.sum(), None);
        *first.lock() = parse(TEXT);
        *second.lock() = parse(TEXT);
        let both = figures.sum().unwrap();
        assert_eq!((both.queued_messages, both.brokers.len()), (14, 1));
        assert_eq!((both.brokers[0].sent_bytes, both.brokers[0].requests), (2000, 6));
        drop(first);
        let one = figures.sum().unwrap();
        assert_eq!((one.queued_messages, one.brokers[0].sent_bytes, one.brokers[0].requests), (7, 2000, 3));
        drop(second);
        let none = figures.sum().unwrap();
        assert_eq!((none.brokers[0].sent_bytes, none.brokers[0].up), (2000, false));
    }
}
