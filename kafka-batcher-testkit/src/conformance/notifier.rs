//! The suite of [`ErrorNotifier`].

use std::time::{Duration, Instant};

use kafka_batcher_core::{ErrorNotifier, Report, What};

use super::Outcome;
use super::telemetry::KINDS;

/// One of each.
fn reports() -> Vec<Report> {
    let mut what: Vec<What> =
        vec![What::StoreFailed, What::RecoverFailed, What::DeadLetterFailed, What::Panicked, What::Lost];
    for kind in KINDS {
        what.extend([
            What::ConnectFailed(kind),
            What::PartitionsUnknown(kind),
            What::ProduceFailed(kind),
            What::DeadLettered(kind),
        ]);
    }
    let full = |what| {
        let mut report = Report::new(what, "what went wrong, größer\nand on a second line");
        report.topic = Some("topic".to_owned());
        report.partition = Some(3);
        report.events = 17;
        report
    };
    let mut reports: Vec<Report> = what.iter().map(|what| Report::new(*what, "")).collect();
    reports.extend(what.into_iter().map(full));
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
        scope.spawn(|| reports.iter().for_each(|report| notifier.report(report))).join()
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
            a_burst_is_survived
        }
    };
}
