//! What is answered when something goes wrong, and when.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use kafka_batcher_core::{ErrorKind, Failed, Persistence, Producer, Record};
use kafka_batcher_testkit::embedded::RDKafkaRespErr as Code;

const SHORT: Duration = Duration::from_secs(3);
/// Longer than any test.
const HUNG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn broker_down_at_start() {
    let setup = Setup::new(SHORT);
    setup.broker.down().unwrap();
    let failure = setup.produce(&request("t", 0, numbered(0, 10))).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Transient, "{failure}");
    assert_eq!((failure.persistence, failure.failed), (Persistence::NotPersisted, Failed::All));
    setup.broker.up().unwrap();
    let delivered = setup.produce_within(&request("t", 0, numbered(0, 10)), LONG).await.unwrap();
    assert_eq!(delivered.base_offset, Some(0), "what failed as not persisted must not turn up");
    assert_eq!(setup.values(0).await.len(), 10);
}

#[tokio::test]
async fn broker_down_in_the_middle() {
    let setup = Setup::new(SHORT);
    setup.warm_up(0).await;
    setup.broker.down().unwrap();
    let failure = setup.produce(&request("t", 0, numbered(1, 5))).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Transient, "{failure}");
    assert_eq!((failure.persistence, failure.failed), (Persistence::NotPersisted, Failed::All));
    setup.broker.up().unwrap();
    let delivered = setup.produce_within(&request("t", 0, numbered(1, 5)), LONG).await.unwrap();
    assert_eq!(delivered.base_offset, Some(1));
    assert_eq!(setup.values(0).await, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_short_outage_within_the_deadline_is_not_noticed() {
    let setup = Setup::new(LONG);
    setup.warm_up(0).await;
    setup.broker.down().unwrap();
    let request = request("t", 0, numbered(1, 5));
    let (result, ()) = tokio::join!(setup.produce(&request), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        setup.broker.up().unwrap();
    });
    assert_eq!(result.unwrap().base_offset, Some(1));
    assert_eq!(setup.values(0).await, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_hung_broker_leaves_it_open_whether_it_was_written() {
    let setup = Setup::new(SHORT);
    setup.warm_up(0).await;
    setup.broker.set_round_trip_time(HUNG).unwrap();
    let failure = setup.produce(&request("t", 0, numbered(1, 10))).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Transient, "{failure}");
    assert_eq!((failure.persistence, failure.failed), (Persistence::MaybePersisted, Failed::All));
}

#[tokio::test]
async fn the_deadline_holds_when_it_is_shorter_than_librdkafka_s_own() {
    let setup = Setup::new(LONG);
    setup.warm_up(0).await;
    setup.broker.set_round_trip_time(HUNG).unwrap();
    // A millisecond may be over before anything is handed to the client.
    for (millis, persistence) in
        [(0, Some(Persistence::NotPersisted)), (1, None), (300, Some(Persistence::MaybePersisted))]
    {
        let timeout = Duration::from_millis(millis);
        let failure = setup.produce_within(&request("t", 0, numbered(1, 3000)), timeout).await.unwrap_err();
        assert_eq!(failure.error.kind(), ErrorKind::Transient, "{failure}");
        assert_eq!(failure.failed, Failed::All);
        assert!(
            persistence.is_none_or(|expected| failure.persistence == expected),
            "{timeout:?}: {failure:?}"
        );
    }
}

#[tokio::test]
async fn without_time_to_start_the_client_nothing_was_written() {
    let setup = Setup::new(LONG);
    let failure = setup.produce_within(&request("t", 0, numbered(0, 3)), Duration::ZERO).await.unwrap_err();
    assert_eq!((failure.persistence, failure.failed), (Persistence::NotPersisted, Failed::All));
}

#[tokio::test]
async fn late_reports_free_the_batch() {
    let setup = Setup::new(SHORT);
    setup.warm_up(0).await;
    setup.broker.set_round_trip_time(HUNG).unwrap();
    let batch = numbered(1, 1000);
    let bytes = batch.as_bytes().clone();
    setup.produce_within(&request("t", 0, batch), Duration::from_millis(100)).await.unwrap_err();
    assert!(!bytes.is_unique(), "librdkafka still reads from it");
    eventually("the reports came and the batch was let go", || bytes.is_unique()).await;
}

#[tokio::test]
async fn a_dropped_call_keeps_the_batch_alive_and_then_lets_it_go() {
    let setup = Setup::new(SHORT);
    setup.warm_up(0).await;
    setup.broker.set_round_trip_time(HUNG).unwrap();
    // Dropped while handing over, which yields every 1000 records, and while waiting.
    for (records, patience) in [(100_000, Duration::ZERO), (500, Duration::from_millis(50))] {
        let batch = numbered(1, records);
        let bytes = batch.as_bytes().clone();
        let request = request("t", 0, batch);
        tokio::select! {
            biased;
            result = setup.producer.produce(&request, SHORT) => panic!("answered: {result:?}"),
            () = tokio::time::sleep(patience) => {}
        }
        drop(request);
        assert!(!bytes.is_unique(), "librdkafka still reads from it");
        eventually("the batch was let go", || bytes.is_unique()).await;
    }
    // The client is none the worse for it.
    setup.broker.set_round_trip_time(Duration::ZERO).unwrap();
    setup.broker.down().unwrap();
    setup.broker.up().unwrap();
    setup.produce_within(&request("t", 1, numbered(0, 1)), LONG).await.unwrap();
}

#[tokio::test]
async fn a_dropped_producer_lets_go_of_everything() {
    let setup = Setup::new(LONG);
    setup.warm_up(0).await;
    setup.broker.set_round_trip_time(HUNG).unwrap();
    let batch = numbered(1, 1000);
    let bytes = batch.as_bytes().clone();
    setup.produce_within(&request("t", 0, batch), Duration::from_millis(100)).await.unwrap_err();
    let start = Instant::now();
    drop(setup.producer);
    assert!(start.elapsed() < Duration::from_secs(2), "dropping blocks");
    eventually("the batch was let go", || bytes.is_unique()).await;
}

#[tokio::test]
async fn errors_of_the_broker_have_their_kind() {
    let setup = Setup::new(LONG);
    setup.warm_up(0).await;
    for (code, kind) in [
        (Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, ErrorKind::TooLarge),
        (Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, ErrorKind::TooLarge),
        (Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, ErrorKind::Denied),
        (Code::RD_KAFKA_RESP_ERR_INVALID_RECORD, ErrorKind::Permanent),
        (Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, ErrorKind::Permanent),
        (Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, ErrorKind::Permanent),
        (Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT, ErrorKind::Permanent),
    ] {
        let setup = Setup::new(LONG);
        setup.warm_up(0).await;
        setup.broker.fail_produce(&[code]).unwrap();
        let failure = setup.produce(&request("t", 0, numbered(1, 1))).await.unwrap_err();
        assert_eq!(failure.error.kind(), kind, "{code:?}: {failure}");
        assert_eq!(
            (failure.persistence, failure.failed),
            (Persistence::NotPersisted, Failed::All),
            "{code:?}"
        );
        setup
            .produce(&request("t", 0, numbered(1, 1)))
            .await
            .unwrap_or_else(|f| panic!("after {code:?}: {f}"));
        assert_eq!(setup.values(0).await, ["0", "1"], "{code:?}");
    }
}

#[tokio::test]
async fn passing_errors_are_retried_inside() {
    // All of a batch in one request: the embedded broker doesn't check what else would be in flight for its order.
    let setup = Setup::with(LONG, |config| config.property("linger.ms", "1000"));
    setup.warm_up(0).await;
    let passing = [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    setup.broker.fail_produce(&passing).unwrap();
    setup.produce(&request("t", 0, numbered(1, 1000))).await.unwrap();
    let expected: Vec<_> = (0..=1000).map(|n| n.to_string()).collect();
    assert!(setup.values(0).await == expected);
}

#[tokio::test]
async fn the_first_request_to_a_leader_that_is_not_ready_is_not_overtaken() {
    let small = |config: kafka_batcher_core::KafkaConfig| config.property("batch.num.messages", "2");
    let setup = Setup::with(LONG, small);
    // Slow enough for several requests to be in flight, of which the first is refused. The embedded broker takes the
    // second, as real Kafka does from a producer it has not heard of; librdkafka concludes that the first was written.
    setup.broker.set_round_trip_time(Duration::from_millis(500)).unwrap();
    setup.broker.fail_produce(&[Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION]).unwrap();
    let delivered = setup.produce(&request("t", 0, numbered(0, 20))).await.unwrap();
    assert_eq!(delivered.base_offset, Some(0));
    let expected: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(setup.values(0).await, expected);
}

#[tokio::test]
async fn what_no_broker_answered_for_is_not_taken_for_delivered() {
    let small = |config: kafka_batcher_core::KafkaConfig| config.property("batch.num.messages", "2");
    let setup = Setup::with(LONG, small);
    setup.warm_up(0).await;
    // As above, but by a broker that has forgotten us.
    setup.broker.set_round_trip_time(Duration::from_millis(500)).unwrap();
    setup.broker.fail_produce(&[Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION]).unwrap();
    let failure = setup.produce(&request("t", 0, numbered(1, 20))).await.unwrap_err();
    assert_eq!(
        (failure.error.kind(), failure.persistence),
        (ErrorKind::Transient, Persistence::MaybePersisted)
    );
    let Failed::Some(failed) = &failure.failed else { panic!("{failure:?}") };
    let delivered: Vec<_> = setup.values(0).await.iter().map(|value| value.parse::<u32>().unwrap()).collect();
    let expected: Vec<_> = (0..=20).filter(|n| *n == 0 || !failed.contains(&(n - 1))).collect();
    assert_eq!(delivered, expected, "{failure}");
}

#[tokio::test]
async fn exactly_the_failed_records_are_named() {
    // Ten records a request, one request at a time: the second fails.
    let small = |config: kafka_batcher_core::KafkaConfig| {
        config
            .property("batch.num.messages", "10")
            .property("max.in.flight", "1")
            .property("linger.ms", "1000")
    };
    let setup = Setup::with(LONG, small);
    setup.warm_up(0).await;
    let (good, bad) = (Code::RD_KAFKA_RESP_ERR_NO_ERROR, Code::RD_KAFKA_RESP_ERR_INVALID_RECORD);
    setup.broker.fail_produce(&[good, bad, good]).unwrap();
    let failure = setup.produce(&request("t", 0, numbered(1, 30))).await.unwrap_err();
    assert_eq!(failure.failed, Failed::Some((10..20).collect()), "{failure}");
    assert_eq!(
        (failure.error.kind(), failure.persistence),
        (ErrorKind::Permanent, Persistence::NotPersisted)
    );
    let expected: Vec<_> = (0..=10).chain(21..=30).map(|n| n.to_string()).collect();
    assert_eq!(setup.values(0).await, expected);
}

#[tokio::test]
async fn a_record_that_is_refused_stops_those_behind_it() {
    let setup = Setup::with(LONG, |config| config.property("message.max.bytes", "2000"));
    setup.warm_up(0).await;
    let records = [Record::new("1"), Record::new("2"), Record::new(vec![b'x'; 3000]), Record::new("4")];
    let failure = setup.produce(&request("t", 0, batch(records))).await.unwrap_err();
    assert_eq!(failure.failed, Failed::Some(vec![2, 3]));
    assert_eq!((failure.error.kind(), failure.persistence), (ErrorKind::TooLarge, Persistence::NotPersisted));
    assert_eq!(setup.values(0).await, ["0", "1", "2"]);
}

#[tokio::test]
async fn an_unknown_topic_is_told_from_a_broker_that_is_down() {
    let setup = Setup::new(Duration::from_secs(5));
    setup.broker.set_topic_error("gone", Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let error = setup.producer.partition_count("gone", LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    let failure = setup.produce(&request("gone", 0, numbered(0, 10))).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::UnknownTopic, "{failure}");
    assert_eq!((failure.persistence, failure.failed), (Persistence::NotPersisted, Failed::All));
    // It comes into being, and whoever looks, sees it.
    setup.broker.set_topic_error("gone", Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    setup.producer.partition_count("gone", LONG).await.unwrap();
    setup.produce(&request("gone", 0, numbered(0, 10))).await.unwrap();
}

#[tokio::test]
async fn a_topic_nobody_asked_about_is_found_unknown_in_time() {
    let setup = Setup::new(Duration::from_secs(5));
    setup.broker.set_topic_error("gone", Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let failure = setup.produce(&request("gone", 0, numbered(0, 10))).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::UnknownTopic, "{failure}");
    assert_eq!((failure.persistence, failure.failed), (Persistence::NotPersisted, Failed::All));
}

#[tokio::test]
async fn an_unknown_partition_is_refused() {
    let setup = Setup::new(SHORT);
    setup.warm_up(0).await;
    for partition in [4, u32::MAX] {
        let failure = setup.produce(&request("t", partition, numbered(0, 2))).await.unwrap_err();
        assert_eq!(failure.error.kind(), ErrorKind::UnknownTopic, "{failure}");
        assert_eq!((failure.persistence, failure.failed), (Persistence::NotPersisted, Failed::All));
    }
}

#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let setup = Setup::with(LONG, |config| config.property("queue.buffering.max.messages", "100"));
    setup.warm_up(0).await;
    setup.produce(&request("t", 0, numbered(1, 5000))).await.unwrap();
    let expected: Vec<_> = (0..=5000).map(|n| n.to_string()).collect();
    assert!(setup.values(0).await == expected);
}

#[tokio::test]
async fn a_queue_that_stays_full_fails_the_rest() {
    let setup = Setup::with(SHORT, |config| config.property("queue.buffering.max.messages", "100"));
    setup.broker.down().unwrap();
    let failure = setup.produce(&request("t", 0, numbered(0, 5000))).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Transient, "{failure}");
    assert_eq!(failure.failed, Failed::All);
}

#[tokio::test]
async fn a_fatal_error_asks_for_a_new_client_and_connect_makes_one() {
    let setup = Setup::new(LONG);
    setup.warm_up(0).await;
    setup.producer.raise_fatal_error();
    let failure = setup.produce(&request("t", 0, numbered(1, 10))).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Fatal, "{failure}");
    assert_eq!((failure.persistence, failure.failed), (Persistence::NotPersisted, Failed::All));
    setup.producer.connect(LONG).await.unwrap();
    setup.produce(&request("t", 0, numbered(1, 10))).await.unwrap();
    assert_eq!(setup.values(0).await.len(), 11);
}

#[tokio::test]
async fn what_is_in_flight_at_a_fatal_error_is_answered() {
    let setup = Arc::new(Setup::new(LONG));
    setup.warm_up(0).await;
    setup.broker.set_round_trip_time(HUNG).unwrap();
    let flying = tokio::spawn({
        let setup = Arc::clone(&setup);
        async move { setup.produce(&request("t", 0, numbered(1, 10))).await }
    });
    // Time for it to be in flight, which nobody can see.
    tokio::time::sleep(Duration::from_secs(1)).await;
    setup.producer.raise_fatal_error();
    let start = Instant::now();
    // The broker is still hung: what counts is that the failed client is let go.
    setup.producer.connect(Duration::from_millis(100)).await.unwrap_err();
    let failure = flying.await.unwrap().unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "answered only at its deadline");
    assert_eq!(failure.error.kind(), ErrorKind::Fatal, "{failure}");
    assert_eq!((failure.persistence, failure.failed), (Persistence::MaybePersisted, Failed::All));
}

#[tokio::test]
async fn close_delivers_what_it_can() {
    let setup = Arc::new(Setup::new(LONG));
    setup.warm_up(0).await;
    setup.broker.set_round_trip_time(Duration::from_millis(400)).unwrap();
    let flying = tokio::spawn({
        let setup = Arc::clone(&setup);
        async move { setup.produce(&request("t", 0, numbered(1, 10))).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    setup.producer.close(LONG).await;
    assert_eq!(flying.await.unwrap().unwrap().base_offset, Some(1));
}

#[tokio::test]
async fn close_knows_what_was_never_sent() {
    let setup = Arc::new(Setup::new(LONG));
    setup.broker.down().unwrap();
    let flying = tokio::spawn({
        let setup = Arc::clone(&setup);
        async move { setup.produce(&request("t", 0, numbered(0, 10))).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    setup.producer.close(SHORT).await;
    let failure = flying.await.unwrap().unwrap_err();
    assert_eq!((failure.persistence, failure.failed), (Persistence::NotPersisted, Failed::All));
}

#[tokio::test]
async fn close_answers_what_it_cannot_deliver() {
    let setup = Arc::new(Setup::new(LONG));
    setup.warm_up(0).await;
    setup.broker.set_round_trip_time(HUNG).unwrap();
    let flying = tokio::spawn({
        let setup = Arc::clone(&setup);
        async move { setup.produce(&request("t", 0, numbered(1, 10))).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let watch = Stopwatch::start();
    setup.producer.close(SHORT).await;
    watch.assert_within(SHORT + GRACE);
    let failure = flying.await.unwrap().unwrap_err();
    assert_eq!(failure.persistence, Persistence::MaybePersisted, "{failure}");
    setup.producer.close(SHORT).await;
}
