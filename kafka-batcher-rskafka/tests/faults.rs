//! What is answered when something goes wrong, and when.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::fake::{Answer, FakeBroker, Login};
use common::*;
use kafka_batcher_core::config::KafkaConfig;
use kafka_batcher_core::{ErrorKind, Failed, Persistence, ProduceFailure, Producer, Record};
use kafka_batcher_rskafka::RskafkaProducer;
use kafka_batcher_testkit::embedded::RDKafkaRespErr as Code;
use tokio::task::JoinSet;

const SHORT: Duration = Duration::from_secs(2);
/// Longer than any test.
const HUNG: Duration = Duration::from_secs(600);

/// What a call that gets no answer says itself: on a busy machine the guard behind it may answer for it.
async fn unguarded(call: impl AsyncFn() -> ProduceFailure) -> ProduceFailure {
    for _ in 0..2 {
        let failure = call().await;
        if failure.to_string().contains("no answer within") {
            return failure;
        }
    }
    call().await
}

/// Nothing was delivered; whether anything may have been written all the same.
fn whole(failure: &ProduceFailure, kind: ErrorKind, persistence: Persistence) {
    assert_eq!(failure.error.kind(), kind, "{failure}");
    assert_eq!((failure.persistence, &failure.failed), (persistence, &Failed::All), "{failure}");
}

fn not_written(failure: &ProduceFailure) {
    whole(failure, ErrorKind::Transient, Persistence::NotPersisted);
}

fn maybe_written(failure: &ProduceFailure) {
    whole(failure, ErrorKind::Transient, Persistence::MaybePersisted);
}

#[tokio::test]
async fn broker_down_at_start() {
    let setup = Setup::new(SHORT);
    setup.broker.down().unwrap();
    let start = Instant::now();
    let failure = setup.produce(&request("t", 0, numbered(0, 10))).await.unwrap_err();
    not_written(&failure);
    assert!(failure.to_string().contains("refused"), "the reason is told: {failure}");
    assert!(start.elapsed() > SHORT / 2, "it tried again until its time was up: {:?}", start.elapsed());
    setup.broker.up().unwrap();
    let delivered = setup.produce_within(&request("t", 0, numbered(0, 10)), LONG).await.unwrap();
    assert_eq!(delivered.base_offset, Some(0), "what failed as not persisted must not turn up");
    assert_eq!(setup.values(0).await.len(), 10);
}

#[tokio::test]
async fn a_connection_that_broke_while_nothing_was_sent_leaves_no_doubt() {
    for _ in 0..5 {
        let setup = Setup::new(Duration::from_millis(700));
        setup.warm_up(0).await;
        setup.broker.down().unwrap();
        let failure = setup.produce(&request("t", 0, numbered(1, 5))).await.unwrap_err();
        not_written(&failure);
        setup.broker.up().unwrap();
        let delivered = setup.produce_within(&request("t", 0, numbered(1, 5)), LONG).await.unwrap();
        assert_eq!(delivered.base_offset, Some(1));
        assert_eq!(setup.values(0).await, ["0", "1", "2", "3", "4", "5"]);
    }
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
    let call = async || {
        let setup = Setup::new(SHORT);
        setup.warm_up(0).await;
        setup.broker.set_round_trip_time(HUNG).unwrap();
        let failure = setup.produce(&request("t", 0, numbered(1, 10))).await.unwrap_err();
        maybe_written(&failure);
        failure
    };
    let failure = unguarded(call).await;
    // Said by the attempt itself, which has closed the connection, and not by the guard behind it.
    assert!(failure.to_string().contains("no answer within 2s"), "{failure}");
}

#[tokio::test]
async fn without_time_nothing_is_written() {
    let setup = Setup::new(LONG);
    let batch = numbered(0, 3);
    let failure = setup.produce_within(&request("t", 0, batch.clone()), Duration::ZERO).await.unwrap_err();
    not_written(&failure);
    setup.warm_up(0).await;
    let failure = setup.produce_within(&request("t", 0, batch), Duration::ZERO).await.unwrap_err();
    not_written(&failure);
    assert_eq!(setup.values(0).await, ["0"]);
}

#[tokio::test]
async fn doubt_stays_when_the_next_attempt_fails_without() {
    // The first answer is lost; then nobody is there any more.
    let broker = FakeBroker::start(Login::Open, &[Answer::Hangup, Answer::Code(19, 0)]);
    let producer = RskafkaProducer::new(&KafkaConfig::new(broker.address())).unwrap();
    let failure = producer.produce(&request("t", 0, numbered(0, 3)), SHORT).await.unwrap_err();
    maybe_written(&failure);
    assert!(failure.to_string().contains("NotEnoughReplicas"), "{failure}");
    // And a batch that never was in doubt is not in doubt.
    not_written(&producer.produce(&request("t", 0, numbered(0, 3)), SHORT).await.unwrap_err());
}

#[tokio::test]
async fn codes_that_leave_doubt_leave_doubt() {
    let mut checks = JoinSet::new();
    for (code, doubt) in [(7, true), (20, true), (6, true), (-1, true), (56, true), (19, false), (5, false)] {
        checks.spawn(async move {
            let broker = FakeBroker::start(Login::Open, &[Answer::Code(code, 0)]);
            let producer = RskafkaProducer::new(&KafkaConfig::new(broker.address())).unwrap();
            let timeout = Duration::from_secs(3);
            let failure = producer.produce(&request("t", 0, numbered(0, 3)), timeout).await.unwrap_err();
            let expected = if doubt { Persistence::MaybePersisted } else { Persistence::NotPersisted };
            assert!(broker.produced() > 1, "{code} passes, and is tried again");
            assert_eq!(failure.persistence, expected, "{code}: {failure}");
            whole(&failure, ErrorKind::Transient, expected);
        });
    }
    while let Some(checked) = checks.join_next().await {
        checked.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_throttles_does_not_send_the_batch_again() {
    let broker = FakeBroker::start(Login::Open, &[Answer::Code(0, 10)]);
    let producer = RskafkaProducer::new(&KafkaConfig::new(broker.address())).unwrap();
    let failure = producer.produce(&request("t", 0, numbered(0, 3)), SHORT).await.unwrap_err();
    maybe_written(&failure);
    assert_eq!(broker.produced(), 1, "it was written by the first");
}

#[tokio::test]
async fn what_was_not_written_completely_is_never_completed() {
    let call = async || {
        let broker = FakeBroker::start(Login::Open, &[]);
        let producer = RskafkaProducer::new(&KafkaConfig::new(broker.address())).unwrap();
        producer.produce(&request("t", 0, numbered(0, 1)), LONG).await.unwrap();
        broker.set_deaf(true);
        // More than all buffers on the way take, and time to encode it.
        let large = request("t", 0, batch([Record::new(vec![b'x'; 30_000_000])]));
        let failure = producer.produce(&large, SHORT * 3).await.unwrap_err();
        // The same for a call that is dropped.
        let dropped = tokio::time::timeout(Duration::from_millis(500), producer.produce(&large, LONG));
        dropped.await.unwrap_err();
        broker.set_deaf(false);
        eventually("the connections are closed", || broker.torn() >= 1 && broker.connections() <= 1).await;
        assert_eq!(broker.produced(), 1, "neither request may ever be complete");
        producer.produce(&request("t", 0, numbered(0, 1)), LONG).await.unwrap();
        failure
    };
    not_written(&unguarded(call).await);
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let broker = FakeBroker::start(Login::Open, &[Answer::Code(0, 0), Answer::Silence]);
    let producer = RskafkaProducer::new(&KafkaConfig::new(broker.address())).unwrap();
    producer.produce(&request("t", 0, numbered(0, 1)), LONG).await.unwrap();
    for _ in 0..3 {
        maybe_written(&producer.produce(&request("t", 0, numbered(0, 1)), SHORT).await.unwrap_err());
    }
    eventually("what was given up is closed", || broker.connections() <= 2).await;
    drop(producer);
    eventually("and with the producer the rest", || broker.connections() == 0).await;
}

#[tokio::test]
async fn a_dropped_call_lets_the_batch_go_and_the_next_one_works() {
    let setup = Setup::new(LONG);
    setup.warm_up(0).await;
    setup.broker.set_round_trip_time(HUNG).unwrap();
    for patience in [Duration::ZERO, Duration::from_millis(50)] {
        let batch = numbered(1, 5000);
        let bytes = batch.as_bytes().clone();
        let request = request("t", 0, batch);
        tokio::select! {
            biased;
            result = setup.producer.produce(&request, SHORT) => panic!("answered: {result:?}"),
            () = tokio::time::sleep(patience) => {}
        }
        drop(request);
        eventually("the batch was let go", || bytes.is_unique()).await;
    }
    setup.broker.set_round_trip_time(Duration::ZERO).unwrap();
    setup.broker.down().unwrap();
    setup.broker.up().unwrap();
    setup.produce_within(&request("t", 0, numbered(0, 1)), LONG).await.unwrap();
}

#[tokio::test]
async fn one_batch_of_a_partition_is_on_its_way_at_a_time() {
    let setup = Arc::new(Setup::new(LONG));
    setup.warm_up(0).await;
    setup.broker.set_round_trip_time(Duration::from_millis(30)).unwrap();
    // Passing errors, so that an attempt could be overtaken.
    setup.broker.fail_produce(&[Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3]).unwrap();
    let mut calls = Vec::new();
    for n in 1..=10 {
        let setup = Arc::clone(&setup);
        calls.push(tokio::spawn(async move { setup.produce(&request("t", 0, numbered(n, 1))).await }));
        tokio::task::yield_now().await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let expected: Vec<_> = (0..=10).map(|n| n.to_string()).collect();
    assert_eq!(setup.values(0).await, expected);
}

#[tokio::test]
async fn waiting_for_the_batch_before_ends_in_time() {
    let call = async || {
        let setup = Arc::new(Setup::new(LONG));
        setup.warm_up(0).await;
        setup.broker.set_round_trip_time(HUNG).unwrap();
        let first = tokio::spawn({
            let setup = Arc::clone(&setup);
            async move { setup.produce_within(&request("t", 0, numbered(1, 1)), SHORT * 2).await }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let second = setup.produce_within(&request("t", 0, numbered(2, 1)), SHORT / 2).await.unwrap_err();
        not_written(&second);
        maybe_written(&first.await.unwrap().unwrap_err());
        second
    };
    let second = unguarded(call).await;
    assert!(second.to_string().contains("for the batch before"), "{second}");
}

#[tokio::test]
async fn errors_of_the_broker_have_their_kind() {
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
        whole(&failure, kind, Persistence::NotPersisted);
        let after = setup.produce(&request("t", 0, numbered(1, 1))).await;
        after.unwrap_or_else(|f| panic!("after {code:?}: {f}"));
        assert_eq!(setup.values(0).await, ["0", "1"], "{code:?}");
    }
}

#[tokio::test]
async fn passing_errors_are_retried_inside() {
    let setup = Setup::new(LONG);
    setup.warm_up(0).await;
    let passing = [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    setup.broker.fail_produce(&passing).unwrap();
    setup.produce(&request("t", 0, numbered(1, 1000))).await.unwrap();
    let expected: Vec<_> = (0..=1000).map(|n| n.to_string()).collect();
    assert!(setup.values(0).await == expected);
}

#[tokio::test]
async fn a_leader_is_kept_for_errors_that_are_not_about_it_and_looked_up_for_others() {
    let lists = |answers: &'static [Answer]| async move {
        let broker = FakeBroker::start(Login::Open, answers);
        let producer = RskafkaProducer::new(&KafkaConfig::new(broker.address())).unwrap();
        producer.produce(&request("t", 0, numbered(0, 1)), LONG).await.unwrap();
        broker.lists()
    };
    let usual = lists(&[Answer::Code(0, 0)]).await;
    assert_eq!(lists(&[Answer::Code(19, 0), Answer::Code(19, 0), Answer::Code(0, 0)]).await, usual);
    assert!(lists(&[Answer::Code(6, 0), Answer::Code(0, 0)]).await > usual);
}

#[tokio::test]
async fn a_partition_without_a_leader_is_waited_for() {
    let setup = Setup::new(LONG);
    setup.broker.set_leader("t", 1, None).unwrap();
    let request = request("t", 1, numbered(0, 5));
    let (result, ()) = tokio::join!(setup.produce(&request), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        setup.broker.set_leader("t", 1, Some(1)).unwrap();
    });
    assert_eq!(result.unwrap().base_offset, Some(0));
    setup.broker.set_leader("t", 2, None).unwrap();
    let failure = setup.produce_within(&common::request("t", 2, numbered(0, 5)), SHORT).await.unwrap_err();
    not_written(&failure);
    assert!(failure.to_string().contains("LeaderNotAvailable"), "{failure}");
}

#[tokio::test]
async fn records_that_can_t_be_sent_are_named_and_the_others_delivered() {
    let setup = Setup::new(LONG);
    let bad = |n: &str| Record::new(n.to_owned()).with_header("a", "1").with_header("a", "2");
    let records = [Record::new("0"), bad("1"), Record::new("2"), Record::new("3"), bad("4")];
    let failure = setup.produce(&request("t", 0, batch(records))).await.unwrap_err();
    assert_eq!(failure.failed, Failed::Some(vec![1, 4]), "{failure}");
    assert_eq!(
        (failure.error.kind(), failure.persistence),
        (ErrorKind::Permanent, Persistence::NotPersisted)
    );
    assert!(failure.to_string().contains("same name"), "{failure}");
    assert_eq!(setup.values(0).await, ["0", "2", "3"]);
    // By themselves they need no broker to be refused.
    setup.broker.down().unwrap();
    let failure = setup.produce(&request("t", 0, batch([bad("5")]))).await.unwrap_err();
    whole(&failure, ErrorKind::Permanent, Persistence::NotPersisted);
}

#[tokio::test]
async fn records_that_can_t_be_sent_do_not_hide_that_the_others_failed() {
    let setup = Setup::new(SHORT);
    setup.broker.down().unwrap();
    let mut null = Record::new("1");
    null.headers.push("a", None);
    let failure = setup.produce(&request("t", 0, batch([Record::new("0"), null]))).await.unwrap_err();
    not_written(&failure);
}

#[tokio::test]
async fn headers_are_sorted_if_the_property_says_so() {
    let setup = Setup::with(LONG, |config| config.property("rskafka.sort.headers", "true"));
    let unsorted = Record::new("v").with_header("b", "1").with_header("a", "2");
    setup.produce(&request("t", 0, batch([unsorted.clone()]))).await.unwrap();
    let sorted = Record::new("v").with_header("a", "2").with_header("b", "1");
    assert_same(&setup.read().await, &[sorted], 0);

    let setup = Setup::new(LONG);
    let failure = setup.produce(&request("t", 0, batch([unsorted]))).await.unwrap_err();
    whole(&failure, ErrorKind::Permanent, Persistence::NotPersisted);
    assert!(failure.to_string().contains("rskafka.sort.headers"), "{failure}");
}

#[tokio::test]
async fn an_unknown_partition_is_refused() {
    let setup = Setup::new(SHORT);
    setup.warm_up(0).await;
    for partition in [4, u32::MAX] {
        let failure = setup.produce(&request("t", partition, numbered(0, 2))).await.unwrap_err();
        whole(&failure, ErrorKind::UnknownTopic, Persistence::NotPersisted);
    }
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
async fn close_answers_what_it_cannot_deliver_and_knows_what_was_never_sent() {
    for is_sent in [true, false] {
        let setup = Arc::new(Setup::new(LONG));
        setup.warm_up(0).await;
        if is_sent {
            setup.broker.set_round_trip_time(HUNG).unwrap();
        } else {
            setup.broker.down().unwrap();
        }
        let flying = tokio::spawn({
            let setup = Arc::clone(&setup);
            async move { setup.produce(&request("t", 0, numbered(1, 10))).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let watch = Stopwatch::start();
        setup.producer.close(SHORT).await;
        watch.assert_within(SHORT + GRACE);
        let failure = flying.await.unwrap().unwrap_err();
        let expected = if is_sent { Persistence::MaybePersisted } else { Persistence::NotPersisted };
        whole(&failure, ErrorKind::Fatal, expected);
        watch.assert_within(SHORT + GRACE); // answered with the close
        setup.producer.close(SHORT).await;
    }
}

#[tokio::test]
async fn a_dropped_producer_ends_its_thread_and_connections() {
    let broker = FakeBroker::start(Login::Open, &[]);
    let producer = RskafkaProducer::new(&KafkaConfig::new(broker.address())).unwrap();
    producer.produce(&request("t", 0, numbered(0, 1)), LONG).await.unwrap();
    assert_eq!(broker.connections(), 2, "one for metadata, one for the partition");
    producer.close(LONG).await;
    eventually("closed", || broker.connections() == 0).await;
}
