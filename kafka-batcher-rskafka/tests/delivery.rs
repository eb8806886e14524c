//! What is sent is what is read.

mod common;

use std::time::Duration;

use common::*;
use kafka_batcher_core::Producer;

#[tokio::test]
async fn keys_nulls_headers_and_timestamps_arrive_as_they_are() {
    let setup = Setup::new(LONG);
    let records = every_kind();
    let delivered = setup.produce(&request("t", 2, batch(records.clone()))).await.unwrap();
    assert_eq!(delivered.base_offset, Some(0));
    let read = setup.read().await;
    assert_same(&read, &records, 2);
}

#[tokio::test]
async fn batches_arrive_in_order_and_whole() {
    let setup = Setup::new(LONG);
    let mut sent = 0;
    for count in [1, 3000, 1, 999, 1000, 1001, 20_000] {
        let delivered = setup.produce(&request("t", 1, numbered(sent, count))).await.unwrap();
        assert_eq!(delivered.base_offset, Some(sent as i64));
        sent += count;
    }
    let expected: Vec<_> = (0..sent).map(|n| n.to_string()).collect();
    assert!(setup.values(1).await == expected, "lost, doubled or reordered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_do_not_disturb_each_other() {
    let setup = Setup::new(LONG);
    let lane = |partition| {
        let setup = &setup;
        async move {
            for round in 0..20 {
                let batch = numbered(round * 500, 500);
                let delivered = setup.produce(&request("t", partition, batch)).await.unwrap();
                assert_eq!(delivered.base_offset, Some(round as i64 * 500));
            }
        }
    };
    tokio::join!(lane(0), lane(1), lane(2), lane(3));
    let expected: Vec<_> = (0..10_000).map(|n| n.to_string()).collect();
    for partition in 0..4 {
        assert!(setup.values(partition).await == expected);
    }
}

#[tokio::test]
async fn partitions_are_counted_and_the_topic_s_absence_is_known() {
    let setup = Setup::new(LONG);
    setup.producer.connect(LONG).await.unwrap();
    assert_eq!(setup.producer.partition_count("t", LONG).await.unwrap().get(), 4);
}

#[tokio::test]
async fn the_batch_is_let_go_when_it_is_delivered() {
    let setup = Setup::new(LONG);
    let batch = numbered(0, 5000);
    let request = request("t", 0, batch.clone());
    setup.produce(&request).await.unwrap();
    drop(request);
    let bytes = batch.as_bytes().clone();
    drop(batch);
    // The engine's thread may be a step behind.
    eventually("nobody holds the buffer any more", || bytes.is_unique()).await;
}

#[tokio::test]
async fn a_second_producer_and_a_close_in_between() {
    let setup = Setup::new(LONG);
    setup.warm_up(0).await;
    setup.producer.close(Duration::from_secs(5)).await;
    let failure = setup.produce(&request("t", 0, numbered(0, 1))).await.unwrap_err();
    assert_eq!(failure.error.kind(), kafka_batcher_core::ErrorKind::Fatal);
}
