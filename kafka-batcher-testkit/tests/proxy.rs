//! The fault proxy, between a real client and the embedded broker.
#![cfg(feature = "embedded")]

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use kafka_batcher_testkit::embedded::EmbeddedBroker;
use kafka_batcher_testkit::proxy::{Counts, FaultProxy, Side, Swallow};
use kafka_batcher_testkit::reader::read_topic;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const LONG: Duration = Duration::from_secs(20);

struct Setup {
    broker: EmbeddedBroker,
    proxy: FaultProxy,
    producer: BaseProducer,
}

impl Setup {
    /// Two brokers, a topic with a partition on each, and a client that knows of them through the proxy alone.
    fn new() -> Self {
        let broker = EmbeddedBroker::start(2).unwrap();
        broker.create_topic("t", 2).unwrap();
        let proxy = FaultProxy::start(&broker.bootstrap()).unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", proxy.bootstrap())
            .set("reconnect.backoff.max.ms", "100")
            .set("linger.ms", "0")
            .create()
            .unwrap();
        Self { broker, proxy, producer }
    }

    fn send(&self, partition: i32, value: &str) {
        let record = BaseRecord::<str, str>::to("t").partition(partition).payload(value);
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    fn delivered(&self) {
        self.producer.flush(LONG).unwrap();
    }

    fn written(&self) -> usize {
        read_topic(&self.broker.bootstrap(), "t", LONG).unwrap().len()
    }

    /// Waits, without help of the runtime the proxy runs in.
    fn until(&self, check: impl Fn(&Counts) -> bool) {
        let deadline = Instant::now() + LONG;
        while !check(&self.proxy.counts()) {
            assert!(Instant::now() < deadline, "never: {:?}", self.proxy.counts());
            self.producer.poll(Duration::from_millis(5));
        }
    }
}

#[test]
fn clients_reach_every_broker_through_the_proxy_and_not_around_it() {
    let setup = Setup::new();
    for partition in [0, 1] {
        setup.send(partition, "v");
    }
    setup.delivered();
    assert_eq!(setup.written(), 2);
    let counts = setup.proxy.counts();
    assert!(counts.produce_requests >= 2 && counts.connections >= 2, "{counts:?}");
    assert!(counts.requests > counts.produce_requests && counts.answers >= 4, "{counts:?}");
}

#[test]
fn a_request_that_is_cut_is_not_written_and_one_whose_answer_is_cut_is() {
    for (side, written) in [(Side::Requests, 0), (Side::Answers, 1)] {
        let setup = Setup::new();
        setup.send(0, "first");
        setup.delivered();
        // New connections are refused, so nothing is tried again before we have looked.
        setup.proxy.refuse();
        setup.proxy.cut_after(side, 9);
        setup.send(0, "second");
        setup.until(|counts| counts.cuts == 1);
        assert_eq!(setup.written(), 1 + written, "{side:?}");
        setup.proxy.heal();
        setup.delivered();
        assert!(setup.written() > 1);
    }
}

#[test]
fn swallowed_answers_were_written() {
    let setup = Setup::new();
    setup.send(0, "first");
    setup.delivered();
    setup.proxy.swallow(Swallow::Produce);
    setup.send(0, "second");
    setup.until(|counts| counts.swallowed == 1);
    assert_eq!(setup.written(), 2);
    assert!(setup.producer.flush(Duration::from_millis(200)).is_err(), "nobody hears of it");
}

#[test]
fn what_is_stalled_passes_later() {
    let setup = Setup::new();
    setup.send(0, "first");
    setup.delivered();
    setup.proxy.stall(Side::Requests);
    setup.send(0, "second");
    setup.until(|counts| counts.produce_requests == 2);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(setup.written(), 1);
    setup.proxy.resume(Side::Requests);
    setup.delivered();
    assert_eq!(setup.written(), 2);
}

#[test]
fn resets_and_refusals_are_seen_and_survived() {
    let setup = Setup::new();
    setup.send(0, "first");
    setup.delivered();
    let before = setup.proxy.counts();
    setup.proxy.down();
    setup.send(0, "second");
    setup.until(|counts| counts.resets >= before.resets + 3);
    assert_eq!(setup.written(), 1);
    setup.proxy.heal();
    setup.delivered();
    assert_eq!(setup.written(), 2);
    assert!(setup.proxy.counts().connections > before.connections);
}

#[test]
fn nothing_passes_on_a_connection_that_is_to_be_reset() {
    let setup = Setup::new();
    setup.send(0, "first");
    setup.delivered();
    for round in 0..10 {
        let before = setup.proxy.counts();
        setup.proxy.stall(Side::Requests);
        setup.send(0, "next");
        setup.until(|counts| counts.produce_requests > before.produce_requests);
        setup.proxy.reset();
        // It may pass as soon as the proxy's thread runs, which has yet to hear of both.
        setup.proxy.resume(Side::Requests);
        setup.delivered();
        assert_eq!(setup.written(), 2 + round, "passed on, and sent again as the answer was lost");
    }
}

#[test]
fn throttled_bytes_take_their_time() {
    let setup = Setup::new();
    setup.send(0, "first");
    setup.delivered();
    setup.proxy.throttle(NonZeroU32::new(20_000));
    let start = Instant::now();
    setup.send(0, &"x".repeat(10_000));
    setup.delivered();
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    assert_eq!(setup.written(), 2);
}

#[tokio::test]
async fn counts_can_be_waited_for() {
    let setup = Setup::new();
    let proxy = &setup.proxy;
    setup.send(0, "v");
    tokio::time::timeout(LONG, proxy.wait_for(|counts| counts.produce_requests == 1)).await.unwrap();
    tokio::time::timeout(LONG, proxy.wait_for(|counts| counts.answer_bytes > 100)).await.unwrap();
}
