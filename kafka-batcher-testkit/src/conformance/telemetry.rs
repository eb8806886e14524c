//! The suite of [`Telemetry`].

use std::time::{Duration, Instant};

use kafka_batcher_core::{ErrorKind, FlushReason, LaneId, StorageCall, Telemetry};

use super::Outcome;

/// Everything that can be observed, of one lane.
fn observe_all(telemetry: &dyn Telemetry, lane: &LaneId, events: u32, bytes: usize, took: Duration) {
    for reason in FlushReason::ALL {
        telemetry.batch_sealed(lane, events, bytes, reason);
    }
    telemetry.delivered(lane, events, bytes, took, None);
    telemetry.delivered(lane, events, bytes, took, Some(took));
    telemetry.stored(lane, events, bytes);
    for call in StorageCall::ALL {
        telemetry.storage_called(call, took, true);
        telemetry.storage_called(call, took, false);
    }
    telemetry.rejected(&lane.topic, "memory_full", u64::from(events));
    for kind in ErrorKind::ALL {
        telemetry.produce_failed(lane, events, kind, took);
        telemetry.dead_lettered(lane, kind);
    }
}

/// The smallest and the largest values, and any lane: none of them panics.
pub async fn any_value_is_taken(telemetry: &dyn Telemetry) -> Outcome {
    let longest = "x".repeat(249);
    for topic in ["topic", "a.b-c_d", longest.as_str()] {
        for lane in
            [LaneId::unassigned(topic), LaneId::partition(topic, 0), LaneId::partition(topic, u32::MAX)]
        {
            observe_all(telemetry, &lane, 0, 0, Duration::ZERO);
            observe_all(telemetry, &lane, 1, 62, Duration::from_nanos(1));
            observe_all(telemetry, &lane, u32::MAX, usize::MAX, Duration::MAX);
        }
    }
    Ok(())
}

/// It is called for every batch by whoever sends it: a thousand batches take it less than a second.
pub async fn observing_is_quick(telemetry: &dyn Telemetry) -> Outcome {
    let lane = LaneId::partition("topic", 1);
    // Once for what is made at the first call.
    observe_all(telemetry, &lane, 1, 100, Duration::from_millis(1));
    let fastest = (0..5)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..1000 {
                observe_all(telemetry, &lane, 10, 1000, Duration::from_millis(3));
            }
            start.elapsed()
        })
        .min();
    assert!(fastest < Some(Duration::from_secs(1)), "a thousand batches took {fastest:?}");
    Ok(())
}

/// It is called by many threads at once, and by threads without a runtime.
pub async fn many_threads_observe_at_once(telemetry: &dyn Telemetry) -> Outcome {
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for partition in 0..50 {
                    let lane = LaneId::partition("topic", thread * 50 + partition);
                    observe_all(telemetry, &lane, 10, 1000, Duration::from_millis(3));
                }
            });
        }
    });
    Ok(())
}

/// Thousands of lanes are normal.
pub async fn thousands_of_lanes_are_observed(telemetry: &dyn Telemetry) -> Outcome {
    let start = Instant::now();
    for partition in 0..5000 {
        let lane = LaneId::partition("topic", partition);
        telemetry.delivered(&lane, 10, 1000, Duration::from_millis(3), None);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "5000 lanes took {:?}", start.elapsed());
    Ok(())
}

/// Tests that a [`Telemetry`] does what the trait's documentation promises: one test for each case.
///
/// Takes an expression that makes one, evaluated anew for each test. The tests are in a module `telemetry_conformance`,
/// or of the name given before the expression.
///
/// ```
/// # #[cfg(test)]
/// kafka_batcher_testkit::telemetry_conformance!(kafka_batcher_core::NoTelemetry);
/// ```
#[macro_export]
macro_rules! telemetry_conformance {
    ($telemetry:expr) => {
        $crate::telemetry_conformance!(telemetry_conformance, $telemetry);
    };
    ($module:ident, $telemetry:expr) => {
        $crate::__conformance_tests! { telemetry, $module, $telemetry;
            any_value_is_taken
            observing_is_quick
            many_threads_observe_at_once
            thousands_of_lanes_are_observed
        }
    };
}
