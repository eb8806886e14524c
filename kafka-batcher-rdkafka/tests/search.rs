//! Searching Kafka's log: what is particular to librdkafka. What every producer has to do is in the conformance suite.

mod common;

use std::time::Duration;

use common::*;
use kafka_batcher_core::{Batch, ErrorKind, Persistence, Producer, Record, Search};

const MARK: &str = "mark";

fn marked(marks: impl IntoIterator<Item = usize>) -> Batch {
    batch(marks.into_iter().map(|n| Record::new("v").with_header(MARK, n.to_string())))
}

fn search(partition: u32, marks: impl IntoIterator<Item = usize>) -> Search {
    Search::new("t", partition, MARK, marks.into_iter().map(|n| n.to_string().into_bytes()))
}

/// What a call left in librdkafka that ended at its own deadline may be sent yet: its absence says nothing.
#[tokio::test]
async fn what_librdkafka_may_still_send_is_waited_for() {
    let setup = Setup::new(LONG);
    setup.warm_up(0).await;
    setup.warm_up(1).await;
    setup.broker.down().unwrap();
    let short = Duration::from_millis(300);
    let failure = setup.produce_within(&request("t", 0, marked(0..5)), short).await.unwrap_err();
    assert_eq!(failure.persistence, Persistence::MaybePersisted);
    let error = setup.producer.search(&search(0, 0..5), short).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().contains("may still send"), "{error}");
    setup.broker.up().unwrap();
    let others = setup.producer.search(&search(1, 0..5), LONG).await.unwrap();
    assert_eq!(others.len(), 0, "nothing is to be sent to this one");
    let found = setup.producer.search(&search(0, 0..5), LONG).await.unwrap();
    assert_eq!(found.into_values().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

/// The same when nobody waited for the end of the call.
#[tokio::test]
async fn what_a_dropped_call_may_still_send_is_waited_for() {
    let setup = Setup::new(LONG);
    setup.warm_up(0).await;
    setup.broker.down().unwrap();
    let request = request("t", 0, marked(0..5));
    let produce = setup.producer.produce(&request, LONG);
    assert!(tokio::time::timeout(Duration::from_millis(300), produce).await.is_err());
    setup.broker.up().unwrap();
    let found = setup.producer.search(&search(0, 0..5), LONG).await.unwrap();
    assert_eq!(found.len(), 5);
}

/// Searches at once use clients of their own, and take turns when there are many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_searched_by_many_at_once() {
    let setup = Setup::new(LONG);
    setup.produce(&request("t", 0, marked(0..3000))).await.unwrap();
    let searches = (10..22).map(|n| {
        let producer = &setup.producer;
        async move {
            let found = producer.search(&search(0, [n, 2999, 5000]), LONG).await.unwrap();
            found.into_values().collect()
        }
    });
    let mut found: Vec<Vec<i64>> = Vec::new();
    let mut searches: Vec<_> = searches.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        searches.retain_mut(|search| match search.as_mut().poll(cx) {
            std::task::Poll::Ready(offsets) => {
                found.push(offsets);
                false
            }
            std::task::Poll::Pending => true,
        });
        if searches.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    found.iter_mut().for_each(|offsets| offsets.sort_unstable());
    found.sort();
    assert_eq!(found, (10..22).map(|n| vec![n, 2999]).collect::<Vec<_>>());
}

/// Those for producing are nothing to a consumer, and those of a consumer are ours.
#[tokio::test]
async fn properties_of_producers_and_groups_do_not_reach_the_client_that_searches() {
    let setup = Setup::with(LONG, |config| {
        config
            .property("message.max.bytes", "200000000")
            .property("receive.message.max.bytes", "1000000")
            .property("group.id", "not-to-be-joined")
            .property("auto.offset.reset", "latest")
            .property("enable.partition.eof", "false")
    });
    setup.produce(&request("t", 0, marked(0..10))).await.unwrap();
    let found = setup.producer.search(&search(0, [0, 9, 10]), LONG).await.unwrap();
    assert_eq!(found.into_values().collect::<Vec<_>>(), [0, 9]);
}
