//! The suite of [`ErrorNotifier`].

use std::time::{Duration, Instant};

use kafka_batcher_core::{ErrorKind, ErrorNotifier, Next, Report, Summary, What};

use super::Outcome;

/// One of each.
fn reports() -> Vec<Report> {
    let mut what: Vec<What> = vec![
        What::StoreFailed,
        What::RecoverFailed,
        What::AcknowledgeFailed,
        What::DeadLetterFailed,
        What::Panicked,
        What::Lost,
    ];
    for kind in ErrorKind::ALL {
        what.extend([
            What::ConnectFailed(kind),
            What::PartitionsUnknown(kind),
            What::ProduceFailed(kind),
            What::ReconcileFailed(kind),
            What::DeadLettered(kind),
            What::DeadLetterTopicFailed(kind),
        ]);
    }
    let troubles: Vec<What> = what.iter().map(|what| What::Recovered(what.trouble())).collect();
    what.extend(troubles);
    let full = |what| {
        let mut report = Report::new(what, "what went wrong, größer\nand on a second line");
        report.topic = Some("topic".to_owned());
        report.partition = Some(3);
        report.events = 17;
        report
    };
    let mut reports: Vec<Report> = what.iter().map(|what| Report::new(*what, "")).collect();
    reports.extend(what.iter().copied().map(full));
    reports.extend(what.into_iter().map(|what| {
        let mut summary = Summary::default();
        (summary.times, summary.period) = (u64::MAX, Duration::MAX);
        (summary.partitions, summary.topics) = (u32::MAX, u32::MAX);
        let mut report = full(what);
        report.summary = Some(summary);
        report
    }));
    for next in [Next::LeftInStorage, Next::ToFallback, Next::HandedBack] {
        let mut report = full(What::StoreFailed);
        report.next = next;
        reports.push(report);
    }
    let mut extreme = Report::new(What::Lost, "x".repeat(100_000));
    extreme.topic = Some("x".repeat(249));
    (extreme.partition, extreme.events) = (Some(u32::MAX), u64::MAX);
    reports.push(extreme);
    reports
}

/// Calls the notifier as the batcher does: from a thread of its own, without a runtime.
fn notify(notifier: &dyn ErrorNotifier, reports: &[Report]) -> Duration {
    let start = Instant::now();
    let passed = std::thread::scope(|scope| {
        let call = || {
            for report in reports {
                notifier.report(report);
                notifier.tick();
            }
        };
        scope.spawn(call).join()
    });
    if let Err(panic) = passed {
        std::panic::resume_unwind(panic);
    }
    start.elapsed()
}

/// Every report is passed on without a panic, from a thread that knows no runtime.
pub async fn every_report_is_passed_on(notifier: &dyn ErrorNotifier) -> Outcome {
    notify(notifier, &reports());
    Ok(())
}

/// It may block, but it comes back: one that never does leaves everybody untold from then on.
pub async fn reporting_comes_to_an_end(notifier: &dyn ErrorNotifier) -> Outcome {
    let mut few = reports();
    few.truncate(10);
    let took = notify(notifier, &few);
    assert!(took < Duration::from_secs(15), "{} reports took {took:?}", few.len());
    Ok(())
}

/// A tick is no call that may come too soon, too late, or again.
pub async fn ticks_come_whenever_they_come(notifier: &dyn ErrorNotifier) -> Outcome {
    for report in reports().iter().take(10) {
        notify(notifier, std::slice::from_ref(report));
        for _ in 0..10 {
            std::thread::scope(|scope| drop(scope.spawn(|| notifier.tick())));
        }
    }
    Ok(())
}

/// A burst of the same report.
pub async fn a_burst_is_survived(notifier: &dyn ErrorNotifier) -> Outcome {
    let one = Report::new(What::ProduceFailed(kafka_batcher_core::ErrorKind::Transient), "broker down");
    notify(notifier, &vec![one; 200]);
    Ok(())
}

/// Tests that an [`ErrorNotifier`] does what the trait's documentation promises: one test for each case.
///
/// Takes an expression that makes one, evaluated anew for each test; have it call a server of the test's own. The tests
/// are in a module `notifier_conformance`, or of the name given before the expression.
///
/// ```
/// # #[cfg(test)]
/// kafka_batcher_testkit::notifier_conformance!(kafka_batcher_core::NoNotifier);
/// ```
#[macro_export]
macro_rules! notifier_conformance {
    ($notifier:expr) => {
        $crate::notifier_conformance!(notifier_conformance, $notifier);
    };
    ($module:ident, $notifier:expr) => {
        $crate::__conformance_tests! { notifier, $module, $notifier;
            every_report_is_passed_on
            reporting_comes_to_an_end
            ticks_come_whenever_they_come
            a_burst_is_survived
        }
    };
}
