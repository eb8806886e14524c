//! How long things live: batches, calls, and the producer itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_batcher_core::Persistence;

use super::ProducerFixture;
use super::deadlines::proxied;
use super::rig::{
    LONG, Rig, SHORT, batch, error, eventually, failure, numbered, numbers, shown_failure, within,
};
use crate::conformance::Outcome;
use crate::proxy::{Side, Swallow};

/// Nobody holds a batch any more that was delivered.
pub async fn a_delivered_batch_is_let_go(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    let batch = numbered(0, 1000);
    let bytes = batch.as_bytes().clone();
    rig.produce(0, batch).await;
    let_go(&bytes).await;
    Ok(())
}

/// Nobody holds a batch any more that failed, be it a while later.
pub async fn a_failed_batch_is_let_go(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, SHORT).await?;
    proxy.stall(Side::Answers);
    let batch = numbered(1, 1000);
    let bytes = batch.as_bytes().clone();
    failure(rig.try_produce(0, batch, SHORT).await, "and no answer came");
    let_go(&bytes).await;
    Ok(())
}

async fn let_go(bytes: &Bytes) {
    eventually("the batch is let go", || async { bytes.is_unique() }).await;
}

/// Calls are dropped at all stages. Nothing leaks, and the producer goes on as if nothing had been.
pub async fn dropped_calls_leak_nothing_and_wedge_nothing(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 2).await?;
    rig.produce(1, numbered(0, 1)).await;
    for micros in [0, 50, 200, 1000, 3000, 10_000] {
        let batch = numbered(1000, 5000);
        let bytes = batch.as_bytes().clone();
        let request = rig.request(0, batch);
        let patience = Duration::from_micros(micros);
        drop(tokio::time::timeout(patience, rig.producer.produce(&request, LONG)).await);
        drop(tokio::time::timeout(patience, rig.producer.connect(LONG)).await);
        drop(tokio::time::timeout(patience, rig.producer.partition_count(rig.name(), LONG)).await);
        drop(request);
        let_go(&bytes).await;
    }
    rig.connect().await;
    rig.produce(1, numbered(1, 10)).await;
    rig.assert_holds(1, &numbers(0, 11)).await;
    // What was dropped may be written, whole batches or parts of them, but nothing else.
    let dropped = rig.values(0).await;
    let known = |value: &String| value.parse::<usize>().is_ok_and(|n| (1000..6000).contains(&n));
    assert!(dropped.iter().all(known), "what is this? {:?}", dropped.iter().find(|value| !known(value)));
    let written = dropped.len() as i64;
    // The dropped calls' partition works, too.
    let delivered = rig.produce(0, numbered(0, 3)).await;
    assert!(delivered.base_offset >= Some(written), "{delivered:?} behind {written}");
    Ok(())
}

/// Closing answers every call in flight: with delivery, or with a failure that is true.
pub async fn close_answers_what_is_in_flight(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 4).await?;
    let mut flying = Vec::new();
    for partition in 0..4 {
        let (producer, request) = (Arc::clone(&rig.producer), rig.request(partition, numbered(0, 2000)));
        flying.push(tokio::spawn(async move { producer.produce(&request, LONG).await }));
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    within(LONG, "close", rig.producer.close(LONG)).await;
    for (partition, call) in (0..).zip(flying) {
        let answer = tokio::time::timeout(SHORT, call).await;
        assert!(answer.is_ok(), "close has returned, and a call is still not answered");
        match answer {
            Ok(Ok(Ok(_))) => rig.assert_holds(partition, &numbers(0, 2000)).await,
            Ok(Ok(Err(failed))) => rig.assert_true(partition, 0, &numbers(0, 2000), &failed).await,
            _ => assert!(answer.is_err(), "the call panicked"),
        }
    }
    Ok(())
}

/// Closing ends in time while an answer is outstanding that never comes, answers what is in flight, and may be called again.
pub async fn close_ends_in_time_without_an_answer(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, LONG).await?;
    proxy.swallow(Swallow::Produce);
    let (producer, request) = (Arc::clone(&rig.producer), rig.request(0, numbered(1, 10)));
    let flying = tokio::spawn(async move { producer.produce(&request, LONG).await });
    let lost = proxy.wait_for(|counts| counts.swallowed > 0);
    assert!(tokio::time::timeout(LONG, lost).await.is_ok(), "no answer came");
    within(SHORT, "close", rig.producer.close(SHORT)).await;
    let answer = tokio::time::timeout(SHORT, flying).await;
    assert!(answer.is_ok(), "close has returned, and a call is still not answered");
    if let Ok(Ok(Err(failed))) = answer {
        let shown = shown_failure(&failed);
        assert_eq!(failed.persistence, Persistence::MaybePersisted, "it is in the log: {shown}");
    }
    within(SHORT, "close", rig.producer.close(SHORT)).await;
    Ok(())
}

/// After close calls fail in time, and nothing is sent.
pub async fn nothing_is_sent_after_close(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    rig.produce(0, numbered(0, 1)).await;
    within(LONG, "close", rig.producer.close(LONG)).await;
    let records = numbers(1, 3);
    let sent = failure(rig.try_produce(0, batch(records.clone()), LONG).await, "after close");
    assert_eq!(sent.persistence, Persistence::NotPersisted, "{}", shown_failure(&sent));
    rig.assert_true(0, 1, &records, &sent).await;
    let counted = within(LONG, "partition_count", rig.producer.partition_count(rig.name(), LONG)).await;
    error(counted, "after close");
    within(LONG, "close", rig.producer.close(LONG)).await;
    Ok(())
}
