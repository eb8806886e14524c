//! Connections that break, and what is done about it.

use std::time::Duration;

use kafka_batcher_core::{Batch, ErrorKind, Failed, Persistence};

use super::ProducerFixture;
use super::deadlines::proxied;
use super::rig::{
    LATE, LONG, Rig, SHORT, eventually, failure, numbered, numbers, shown_failure, value, within,
};
use crate::conformance::{Outcome, Skip};
use crate::proxy::{Side, Swallow};

/// All connections are reset while nothing is under way; the next batch does not suffer.
pub async fn a_lost_connection_is_made_again(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, LONG).await?;
    for round in 1..4 {
        let before = proxy.counts().resets;
        proxy.reset();
        let reset = proxy.wait_for(|counts| counts.resets > before);
        // A producer that keeps none open between batches has none to lose.
        let _either_way = tokio::time::timeout(Duration::from_secs(2), reset).await;
        // Nothing passes on any of them, but what is sent while one is going may be said to be in doubt.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let delivered = rig.produce(0, numbered(round * 10, 10)).await;
        assert!(delivered.base_offset.is_some());
    }
    let values = rig.values(0).await;
    let expected: Vec<String> = std::iter::once(0).chain(10..40).map(|n| n.to_string()).collect();
    assert_eq!(values, expected);
    Ok(())
}

/// The brokers are gone and come back before the deadline: the batch is delivered.
pub async fn a_short_outage_within_the_deadline_is_survived(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, LONG).await?;
    proxy.down();
    let batch = numbered(1, 10);
    let (delivered, ()) = tokio::join!(rig.produce(0, batch), async {
        tokio::time::sleep(Duration::from_millis(1000)).await;
        proxy.heal();
    });
    assert_eq!(delivered.base_offset, Some(1));
    rig.assert_holds(0, &numbers(0, 11)).await;
    Ok(())
}

/// Connecting fails while the broker is away, and succeeds when it is there; then batches are delivered.
pub async fn connect_works_after_it_failed(fixture: &dyn ProducerFixture) -> Outcome {
    fixture.ready()?;
    let proxy = fixture.proxy()?;
    proxy.down();
    let rig = Rig::at(fixture, fixture.config_at(proxy.bootstrap())?, 1, SHORT, |topic| topic).await?;
    for _ in 0..2 {
        let connected = within(SHORT, "connect", rig.producer.connect(SHORT)).await;
        let refused = super::rig::error(connected, "to a broker that is away");
        assert_eq!(refused.kind(), ErrorKind::Transient, "{refused:?}");
    }
    let sent = failure(rig.try_produce(0, numbered(0, 3), SHORT).await, "to a broker that is away");
    let shown = shown_failure(&sent);
    assert_eq!(sent.error.kind(), ErrorKind::Transient, "{shown}");
    assert_eq!(sent.persistence, Persistence::NotPersisted, "{shown}");
    proxy.heal();
    rig.connect().await;
    rig.produce(0, numbered(0, 3)).await;
    tokio::time::sleep(LATE).await;
    rig.assert_holds(0, &numbers(0, 3)).await;
    Ok(())
}

/// Connections are cut in the middle of requests and answers. Sent again as the failures say, everything arrives, first
/// occurrences in order; what arrives twice was said to be open, or was a retry inside the client without idempotence.
pub async fn what_is_sent_through_cut_connections_arrives_in_order(fixture: &dyn ProducerFixture) -> Outcome {
    const BATCHES: usize = 16;
    const RECORDS: usize = 20;
    let (rig, proxy) = proxied(fixture, LONG).await?;
    let mut open = 0;
    for round in 0..BATCHES {
        let side = if round % 2 == 0 { Side::Requests } else { Side::Answers };
        // Anywhere in a request of some 300 bytes, or an answer of some 50.
        let byte = if side == Side::Requests { round * 97 % 290 } else { round * 13 % 50 };
        proxy.cut_after(side, byte as u64);
        let mut rest: Option<Batch> = Some(numbered(1 + round * RECORDS, RECORDS));
        let mut attempts = 0;
        while let Some(sending) = rest.take() {
            attempts += 1;
            assert!(attempts <= 10, "round {round} does not get through");
            if let Err(sent) = rig.try_produce(0, sending.clone(), LONG).await {
                assert_eq!(sent.error.kind(), ErrorKind::Transient, "{}", shown_failure(&sent));
                open += u32::from(sent.persistence == Persistence::MaybePersisted);
                rest = match &sent.failed {
                    Failed::All => Some(sending),
                    Failed::Some(failed) => sending.select(|index| failed.contains(&index)),
                };
            }
        }
    }
    let cuts = proxy.counts().cuts;
    assert!(cuts >= BATCHES as u64 / 2, "only {cuts} connections were cut");
    let values: Vec<usize> =
        rig.read(0).await.iter().filter_map(|record| value(record).parse().ok()).collect();
    let mut firsts = values.clone();
    let mut seen = std::collections::BTreeSet::new();
    firsts.retain(|value| seen.insert(*value));
    let expected: Vec<usize> = (0..=BATCHES * RECORDS).collect();
    assert!(firsts == expected, "lost or out of order: {firsts:?}");
    let twice = values.len() - firsts.len();
    let inside =
        if fixture.deduplicates() && rig.producer.capabilities().idempotence { 0 } else { cuts as usize };
    let allowed = (open as usize + inside) * RECORDS;
    assert!(twice <= allowed, "{twice} records twice, {open} outcomes were open, {cuts} connections cut");
    Ok(())
}

/// An idempotent producer whose answer is lost sends again without a duplicate.
pub async fn a_lost_answer_leaves_no_duplicate_with_idempotence(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, LONG).await?;
    if !rig.producer.capabilities().idempotence {
        return Err(Skip::new("the producer does not declare idempotence"));
    }
    if !fixture.deduplicates() {
        return Err(Skip::new("the broker does not drop duplicates"));
    }
    for round in 0..5 {
        let swallowed = proxy.counts().swallowed;
        proxy.swallow(Swallow::Produce);
        let batch = numbered(1 + round * 10, 10);
        let ((), _delivered) = tokio::join!(
            async {
                let lost = proxy.wait_for(|counts| counts.swallowed > swallowed);
                let lost = tokio::time::timeout(LONG, lost).await;
                assert!(lost.is_ok(), "no answer came");
                proxy.reset();
                proxy.heal();
            },
            rig.produce(0, batch)
        );
    }
    rig.assert_holds(0, &numbers(0, 51)).await;
    Ok(())
}

/// The leader moves to another broker; batches follow it.
pub async fn a_leader_that_moved_is_found(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    rig.produce(0, numbered(0, 10)).await;
    let mut sent = 10;
    for _ in 0..3 {
        fixture.move_leader(rig.name(), 0).await?;
        rig.produce(0, numbered(sent, 10)).await;
        sent += 10;
    }
    let rig = &rig;
    eventually("all is there", || async move { rig.read(0).await.len() >= sent }).await;
    rig.assert_holds(0, &numbers(0, sent)).await;
    Ok(())
}
