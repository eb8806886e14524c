//! Error notifiers: those that come with the batcher, and those that do what they should not.

mod support;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_batcher::{
    ErrorKind, ErrorNotifier, FanOut, LogNotifier, Next, NoNotifier, RateLimited, Report, Trouble, What,
};
use kafka_batcher_testkit::lines::Lines;
use kafka_batcher_testkit::notifier_conformance;
use kafka_batcher_testkit::scripted::{Call, ScriptedProducer, ScriptedStorage, StorageStep};
use support::*;

const MINUTE: Duration = Duration::from_secs(60);

notifier_conformance!(log, LogNotifier);
notifier_conformance!(nobody, NoNotifier);
notifier_conformance!(a_closure, |report: &Report| assert!(!report.to_string().is_empty()));
notifier_conformance!(rate_limited, RateLimited::new(LogNotifier, MINUTE));
notifier_conformance!(rate_limited_without_a_limit, RateLimited::new(LogNotifier, Duration::ZERO));
notifier_conformance!(fan_out, {
    FanOut::new().and(LogNotifier).and_then(|two| two.and(NoNotifier)).expect("threads")
});

fn failed(partition: u32) -> Report {
    let mut report = Report::new(What::ProduceFailed(ErrorKind::Transient), "broker down");
    report.topic = Some(TOPIC.to_owned());
    (report.partition, report.events) = (Some(partition), 7);
    report
}

/// Delivers events through an outage, in order, whatever the notifier does.
async fn delivers_with(notifier: impl ErrorNotifier + 'static) {
    let producer = ScriptedProducer::new(TOPIC, 1);
    let batcher = builder(&producer, config(topic().batch_size(2))).notifier(notifier).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    for (is_up, events) in [(true, 0..100), (false, 100..200), (true, 200..300)] {
        producer.set_up(is_up);
        collector.add_events(numbers(events)).await.unwrap();
        until("events are stored", || is_up || batcher.stats().stored > 0).await;
    }
    let report = batcher.shutdown(Duration::from_secs(10)).await;
    assert_eq!((report.accepted, report.delivered, report.lost), (300, 300, 0));
    assert_eq!(producer.values(TOPIC, 0), numbers(0..300));
}

#[tokio::test]
async fn a_notifier_that_panics_does_no_harm() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    delivers_with(move |_: &Report| {
        counted.fetch_add(1, SeqCst);
        panic!("a notifier that panics");
    })
    .await;
    until("it is called again", || calls.load(SeqCst) > 1).await;
}

#[tokio::test]
async fn a_notifier_that_never_comes_back_does_no_harm() {
    let (release, blocked) = channel::<()>();
    let blocked = Mutex::new(blocked);
    delivers_with(move |_: &Report| {
        // Until the test is over.
        blocked.lock().unwrap().recv().ok();
    })
    .await;
    drop(release);
}

/// A notifier that hands reports to the test and waits for a sign to go on with each.
fn slow() -> (impl ErrorNotifier + 'static, Sender<()>, Receiver<Report>) {
    let (go, gone) = channel();
    let (tell, told) = channel();
    let both = Mutex::new((tell, gone));
    let notifier = move |report: &Report| {
        let both = both.lock().unwrap();
        both.0.send(report.clone()).ok();
        both.1.recv().ok();
    };
    (notifier, go, told)
}

fn next(told: &Receiver<Report>) -> Report {
    told.recv_timeout(Duration::from_secs(10)).expect("another report within ten seconds")
}

/// Of far more reports than there is room for some are dropped, which is said; that it is over is not.
#[test]
fn what_a_slow_notifier_misses_is_said_and_the_end_of_trouble_is_not_among_it() {
    let lines = Lines::keep().expect("the only test here that keeps them");
    let (notifier, go, told) = slow();
    let fan_out = FanOut::new().and(notifier).unwrap();
    for partition in 0..2000 {
        fan_out.report(&failed(partition));
    }
    for partition in 0..2000 {
        let mut over = failed(partition);
        over.what = What::Recovered(Trouble::Produce);
        fan_out.report(&over);
    }
    // One that failed again since is not told to be well.
    fan_out.report(&failed(1999));
    drop(fan_out);
    let mut over = 0;
    let mut failures = 0;
    loop {
        go.send(()).ok();
        let Ok(report) = told.recv_timeout(Duration::from_secs(10)) else { break };
        match report.what {
            What::Recovered(Trouble::Produce) => {
                over += 1;
                assert_ne!(report.partition, Some(1999));
            }
            _ => failures += 1,
        }
    }
    assert_eq!(over, 1999);
    assert!((1024..=1026).contains(&failures), "{failures} found room");
    assert!(
        lines.text().contains("the error notifier is too slow: reports were dropped"),
        "{}",
        lines.text()
    );
    assert_eq!(lines.text().matches("too slow").count(), 1, "not each time");
}

#[test]
fn one_of_several_that_is_slow_or_panics_takes_nothing_from_the_others() {
    let (hangs, go, first) = slow();
    let (tell, told) = channel();
    let fan_out = FanOut::new()
        .and(hangs)
        .unwrap()
        .and(|_: &Report| panic!("it panics"))
        .unwrap()
        .and(move |report: &Report| tell.send(report.clone()).unwrap())
        .unwrap();
    for partition in 0..10 {
        fan_out.report(&failed(partition));
    }
    for partition in 0..10 {
        assert_eq!(next(&told).partition, Some(partition));
    }
    assert_eq!(next(&first).partition, Some(0));
    drop(go);
}

#[test]
fn what_is_limited_is_summed_up_by_itself_and_told_at_the_end() {
    let (tell, told) = channel();
    let limited = RateLimited::new(
        move |report: &Report| tell.send(report.clone()).unwrap(),
        Duration::from_millis(50),
    );
    // On a thread that ticks.
    let fan_out = FanOut::new().and(limited).unwrap();
    fan_out.report(&failed(0));
    assert_eq!(next(&told), failed(0));
    for partition in 1..4 {
        fan_out.report(&failed(partition));
    }
    let mut times = 0;
    while times < 3 {
        let report = next(&told);
        assert_eq!(report.next, Next::SentAgain);
        times += report.summary.expect("a summary").times;
    }
    let mut over = failed(0);
    (over.what, over.partition) = (What::Recovered(Trouble::Produce), None);
    fan_out.report(&over);
    let report = next(&told);
    assert_eq!((report.what, report.summary.unwrap().times), (What::Recovered(Trouble::Produce), 4));

    let (tell, told) = channel();
    let limited = RateLimited::new(move |report: &Report| tell.send(report.clone()).unwrap(), MINUTE);
    let fan_out = FanOut::new().and(limited).unwrap();
    (0..5).for_each(|partition| fan_out.report(&failed(partition)));
    drop(fan_out);
    assert_eq!((next(&told), next(&told).summary.unwrap().times), (failed(0), 4));

    // At the end of a batcher it has caught up, and others may use it still.
    let (tell, told) = channel();
    let limited = RateLimited::new(move |report: &Report| tell.send(report.clone()).unwrap(), MINUTE);
    let fan_out = FanOut::new().and(limited).unwrap();
    for times in [4, 5] {
        (0..5).for_each(|partition| fan_out.report(&failed(partition)));
        fan_out.catch_up(MINUTE);
        let told: Vec<Report> = told.try_iter().collect();
        assert_eq!(told.last().unwrap().summary.unwrap().times, times);
        assert_eq!(told.len() as u64 - 1, 5 - times, "{told:?}");
    }
}

/// The default log, with an outage through the batcher.
#[tokio::test]
async fn what_the_lanes_and_the_connection_report_ends_with_a_report_that_it_is_over() {
    let producer = ScriptedProducer::new(TOPIC, 3);
    let reports = Reports::default();
    let batcher =
        builder(&producer, config(topic().batch_size(1))).notifier(reports.notifier()).build().unwrap();
    let collector = batcher.collector(TOPIC).unwrap();
    until("ready", || collector.state() == kafka_batcher::CollectorState::Ready).await;
    producer.set_up(false);
    for event in numbers(0..30) {
        collector.add((event.clone(), event)).await.unwrap();
    }
    until("it is noticed", || !batcher.is_connected()).await;
    until("it can't connect", || {
        reports.all().iter().any(|report| report.what.trouble() == Trouble::Connect)
    })
    .await;
    producer.set_up(true);
    let report = batcher.shutdown(Duration::from_secs(10)).await;
    assert_eq!(report.delivered, 30);
    let open = || {
        let mut open = std::collections::BTreeSet::new();
        for report in reports.all() {
            let place = (report.what.trouble(), report.partition);
            match report.what {
                What::Recovered(_) => assert!(open.remove(&place), "{report}: there was no trouble"),
                _ => drop(open.insert(place)),
            }
        }
        open
    };
    until("all of it is over", || open().is_empty()).await;
}

/// Whoever ends the process behind a shutdown ends it with the notifier's work done.
#[tokio::test]
async fn the_end_waits_until_the_notifier_knows_what_is_lost() {
    for passes_on in [false, true] {
        let (producer, disk) = (ScriptedProducer::new(TOPIC, 1), ScriptedStorage::durable());
        producer.set_up(false);
        disk.always(Call::Append, StorageStep::Fail);
        let lost = Arc::new(AtomicU64::new(0));
        let hears = Arc::clone(&lost);
        let slow = move |report: &Report| {
            if report.what == What::Lost {
                std::thread::sleep(ms(200));
                hears.fetch_add(report.events, SeqCst);
            }
        };
        let builder = builder(&producer, config(topic().batch_size(1))).storage(disk);
        let builder = if passes_on {
            builder.notifier(FanOut::new().and(RateLimited::new(slow, MINUTE)).unwrap())
        } else {
            builder.notifier(slow)
        };
        let batcher = builder.build().unwrap();
        batcher.collector(TOPIC).unwrap().add_events(numbers(0..3)).await.unwrap();
        assert_eq!(batcher.shutdown(ms(50)).await.lost, 3);
        assert_eq!(lost.load(SeqCst), 3, "{passes_on}");
    }
}
