//! Snapshots: what came in is what went out and what is here, at every moment.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kafka_batcher::{Durability, LaneState, Observe, Snapshot, TempStorage, Trouble};
use kafka_batcher_core::lane::Link;
use kafka_batcher_testkit::scripted::{ScriptedProducer, ScriptedStorage, Step};
use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_figures_add_up_at_every_moment() {
    let mut looks = 0;
    for durability in [Durability::Memory, Durability::Journal] {
        let (kafka, disk) = (ScriptedProducer::new(TOPIC, 3), ScriptedStorage::durable());
        let settings = || topic().durability(durability).batch_size(7);
        kafka.set_up(false);
        for round in 0..3 {
            kafka.reopen();
            kafka.script([
                Step::Deliver,
                Step::LoseAnswer,
                Step::Refuse(kafka_batcher::ErrorKind::Transient),
            ]);
            let batcher = builder(&kafka, config(settings())).storage(disk.clone()).build().unwrap();
            let (observer, stop) = (batcher.observer(), Arc::new(AtomicBool::new(false)));
            let watching = tokio::spawn({
                let (observer, stop) = (observer.clone(), Arc::clone(&stop));
                async move {
                    let (mut before, mut looks) = ((0, 0, 0), 0_u64);
                    while !stop.load(Ordering::Relaxed) {
                        let snapshot = observer.snapshot().await.unwrap();
                        let totals = snapshot.topics[0].totals;
                        let went = totals.delivered + totals.dead_lettered + totals.lost;
                        let here = totals.stored + totals.in_memory;
                        assert_eq!(totals.accepted + totals.found, went + here, "{snapshot:?}");
                        let now = (totals.accepted, totals.delivered, totals.found);
                        assert!(
                            now.0 >= before.0 && now.1 >= before.1 && now.2 >= before.2,
                            "{now:?} after {before:?}"
                        );
                        (before, looks) = (now, looks + 1);
                        tokio::task::yield_now().await;
                    }
                    looks
                }
            });
            let collector = batcher.collector(TOPIC).unwrap();
            for number in 0..400 {
                collector.add(number.to_string()).await.unwrap();
                if number == 200 {
                    kafka.set_up(round > 0);
                }
            }
            if round == 2 {
                let observer = &observer;
                until_async("all is delivered", || async move {
                    let totals = observer.snapshot().await.unwrap().topics[0].totals;
                    totals.stored + totals.in_memory == 0
                })
                .await;
            }
            let report = batcher.shutdown(ms(30)).await;
            stop.store(true, Ordering::Relaxed);
            looks += within(watching).await.unwrap().unwrap();
            let last = observer.snapshot().await.unwrap();
            let totals = last.topics[0].totals;
            assert_eq!(
                (totals.accepted, totals.delivered, totals.in_memory, totals.lost),
                (400, report.delivered, 0, 0),
                "{totals:?}"
            );
            kafka.set_up(true);
        }
        assert!(disk.is_empty(TOPIC).await.unwrap());
    }
    assert!(looks > 20, "only {looks} snapshots were looked at");
}

#[tokio::test]
async fn a_snapshot_tells_what_is_going_on() {
    let (kafka, disk) = (ScriptedProducer::new(TOPIC, 2), ScriptedStorage::durable());
    let batcher = builder(&kafka, config(topic())).storage(disk).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    collector.add("0").await.unwrap();
    collector.flush().await;
    let snapshot = batcher.snapshot().await;
    assert_eq!((snapshot.link, snapshot.connects, snapshot.panics, snapshot.durable), (Link::Up, 1, 0, true));
    assert!(snapshot.health().is_ready() && snapshot.health().connected);
    assert!(snapshot.memory.max_bytes > 0 && snapshot.memory.events == 0, "{:?}", snapshot.memory);
    kafka.set_up(false);
    collector.add("1").await.unwrap();
    let observer = batcher.observer();
    until_async("it is stored", || {
        let observer = observer.clone();
        async move { observer.snapshot().await.unwrap().topics[0].totals.stored == 1 }
    })
    .await;
    let snapshot = batcher.snapshot().await;
    assert!(snapshot.topics[0].lanes.iter().any(|lane| lane.state == LaneState::Locked), "{snapshot:?}");
    assert!(snapshot.storage.as_ref().is_some_and(|usage| usage.used > 0), "{snapshot:?}");
    let health = batcher.health().await;
    assert_eq!(
        (health.topics[0].stored, health.storage.up, health.storage.events),
        (1, true, 1),
        "{health:?}"
    );
    let reported = |snapshot: &Snapshot, trouble| snapshot.reports.get(&trouble).copied();
    assert!(reported(&snapshot, Trouble::Produce) > Some(0), "{snapshot:?}");
    assert_eq!(reported(&snapshot, Trouble::Loss), Some(0), "{snapshot:?}");
    kafka.set_up(true);
    until_async("it is replayed", || {
        let observer = observer.clone();
        async move { observer.snapshot().await.unwrap().topics[0].totals.delivered == 2 }
    })
    .await;
    let snapshot = batcher.snapshot().await;
    let totals = snapshot.topics[0].totals;
    assert_eq!(totals.stored, 0);
    assert_eq!(reported(&snapshot, Trouble::Produce), Some(totals.failures), "that it is over is no failure");
    assert!(batcher.shutdown(ms(5000)).await.is_complete());
}

#[tokio::test]
async fn a_batcher_that_has_ended_is_neither_alive_nor_connected_whoever_holds_a_collector() {
    for is_dropped in [false, true] {
        let kafka = ScriptedProducer::new(TOPIC, 1);
        let batcher = start(&kafka, topic());
        let (collector, observer) = (batcher.collector(TOPIC).unwrap(), batcher.observer());
        collector.add("0").await.unwrap();
        collector.flush().await;
        assert!(observer.is_alive().await && batcher.is_connected());
        if is_dropped {
            drop(batcher);
            until_async("it has ended", || {
                let observer = observer.clone();
                async move { !observer.is_alive().await }
            })
            .await;
        } else {
            assert!(batcher.shutdown(ms(5000)).await.is_complete());
            assert!(!observer.is_alive().await);
        }
        let snapshot = observer.snapshot().await.expect("the last figures stay");
        let health = snapshot.health();
        assert_eq!((snapshot.link, health.connected, health.is_ready()), (Link::Down, false, false));
        assert_eq!(collector.stats().delivered, 1);
    }
}
