//! The fixtures themselves.
#![cfg(feature = "embedded")]

use std::time::{Duration, Instant};

use kafka_batcher_testkit::embedded::{EmbeddedBroker, RDKafkaRespErr};
use kafka_batcher_testkit::reader::{ReadError, read_topic};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const LONG: Duration = Duration::from_secs(20);

fn usable<T: Send + Sync + 'static>(_: &T) {}

fn producer(broker: &EmbeddedBroker, timeout: &str) -> BaseProducer {
    let bootstrap = broker.bootstrap();
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("message.timeout.ms", timeout)
        .create()
        .expect("a producer")
}

#[test]
fn what_is_written_is_read_from_every_partition() {
    let broker = EmbeddedBroker::start(2).unwrap();
    usable(&broker);
    assert_eq!(broker.bootstrap().split(',').count(), 2);
    broker.create_topic("t", 3).unwrap();
    let producer = producer(&broker, "20000");
    let headers = OwnedHeaders::new()
        .insert(Header { key: "a", value: Some("1") })
        .insert(Header::<&str> { key: "a", value: None });
    for partition in [2, 0] {
        let record = BaseRecord::to("t").partition(partition).key("k").timestamp(7).headers(headers.clone());
        producer.send::<str, str>(record.payload("v")).map_err(|(error, _)| error).unwrap();
        let tombstone = BaseRecord::<str, str>::to("t").partition(partition).key("");
        producer.send(tombstone).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(LONG).unwrap();
    let read = read_topic(&broker.bootstrap(), "t", LONG).unwrap();
    let at: Vec<_> = read.iter().map(|r| (r.partition, r.offset)).collect();
    assert_eq!(at, [(0, 0), (0, 1), (2, 0), (2, 1)]);
    assert_eq!((read[0].key.as_deref(), read[0].value.as_deref()), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert_eq!(read[0].timestamp, Some(7));
    assert_eq!(read[0].headers, [("a".to_owned(), Some(b"1".to_vec())), ("a".to_owned(), None)]);
    assert_eq!((read[1].key.as_deref(), read[1].value.as_deref()), (Some(&b""[..]), None));
}

#[test]
fn an_empty_topic_reads_as_empty() {
    let broker = EmbeddedBroker::start(1).unwrap();
    broker.create_topic("t", 3).unwrap();
    assert_eq!(read_topic(&broker.bootstrap(), "t", LONG).unwrap(), []);
}

#[test]
fn a_topic_that_is_not_there_is_an_error() {
    let broker = EmbeddedBroker::start(1).unwrap();
    broker.set_topic_error("gone", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let error = read_topic(&broker.bootstrap(), "gone", LONG).unwrap_err();
    assert!(matches!(error, ReadError::NoTopic(_)), "{error}");
}

#[test]
fn a_broker_that_is_down_ends_reading_in_time() {
    let broker = EmbeddedBroker::start(1).unwrap();
    broker.create_topic("t", 1).unwrap();
    broker.down().unwrap();
    let start = Instant::now();
    read_topic(&broker.bootstrap(), "t", Duration::from_secs(1)).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    broker.up().unwrap();
    assert_eq!(read_topic(&broker.bootstrap(), "t", LONG).unwrap(), []);
}

#[test]
fn faults_do_what_they_say() {
    let broker = EmbeddedBroker::start(1).unwrap();
    broker.create_topic("t", 1).unwrap();
    assert!(broker.create_topic("t", 1).is_err(), "it exists");
    assert!(EmbeddedBroker::start(0).is_err());
    let producer = producer(&broker, "20000");
    let send = || {
        let record = BaseRecord::<str, str>::to("t").payload("v");
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(LONG).unwrap();
    };
    send();
    broker.fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD]).unwrap();
    send();
    assert_eq!(read_topic(&broker.bootstrap(), "t", LONG).unwrap().len(), 1, "the second was refused");
    broker.fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD; 9]).unwrap();
    broker.stop_failing_produce().unwrap();
    send();
    assert_eq!(read_topic(&broker.bootstrap(), "t", LONG).unwrap().len(), 2);
    broker.set_round_trip_time(Duration::from_millis(300)).unwrap();
    let start = Instant::now();
    send();
    assert!(start.elapsed() >= Duration::from_millis(300), "took {:?}", start.elapsed());
    assert!(broker.set_leader("t", 9, None).is_err(), "no such partition");
    broker.set_leader("t", 0, Some(1)).unwrap();
}
