//! Suites that say whether an adapter does what its trait's documentation promises.
//!
//! Each suite is a set of async functions, one a case, over a *fixture* that its author writes: how to make the adapter,
//! and how to look behind it. A macro makes a named test of each case, so a file of some five lines is enough:
//!
//! ```
//! use kafka_batcher_core::MemoryStorage;
//! use kafka_batcher_testkit::conformance::storage::Storage;
//!
//! # #[cfg(test)]
//! kafka_batcher_testkit::storage_conformance!(Storage::new(MemoryStorage::new));
//! ```
//!
//! | trait | macro | fixture |
//! | --- | --- | --- |
//! | [`Producer`](kafka_batcher_core::Producer) | [`producer_conformance!`](crate::producer_conformance) | [`ProducerFixture`](producer::ProducerFixture); ready made for Kafka: `TargetFixture` |
//! | [`TempStorage`](kafka_batcher_core::TempStorage) | [`storage_conformance!`](crate::storage_conformance) | [`StorageFixture`](storage::StorageFixture), [`Storage`](storage::Storage) |
//! | [`DeadLetter`](kafka_batcher_core::DeadLetter) | [`dead_letter_conformance!`](crate::dead_letter_conformance) | [`DeadLetterFixture`](dead_letter::DeadLetterFixture), [`DeadLetters`](dead_letter::DeadLetters) |
//! | [`Telemetry`](kafka_batcher_core::Telemetry) | [`telemetry_conformance!`](crate::telemetry_conformance) | the thing itself |
//! | [`ErrorNotifier`](kafka_batcher_core::ErrorNotifier) | [`notifier_conformance!`](crate::notifier_conformance) | the thing itself |
//! | [`Partitioner`](kafka_batcher_core::Partitioner) | [`partitioner_conformance!`](crate::partitioner_conformance) | the thing itself |
//!
//! A case that fails panics. One that can't be run, since the adapter declares that it can't do that or the fixture
//! can't provoke it, gives [`Skip`] with the reason, which is printed as `SKIPPED name: reason`: a skip is never silent.
//!
//! Without the macros, call the cases from any tokio runtime with I/O and time enabled.

pub mod dead_letter;
pub mod notifier;
pub mod partitioner;
pub mod producer;
pub mod storage;
pub mod telemetry;

use std::fmt;
use std::future::Future;
use std::time::Duration;

/// Why a case was not run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a text")]
pub struct Skip(pub String);

impl Skip {
    /// Not run for this reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a case ended, unless it panicked.
pub type Outcome = Result<(), Skip>;

/// Longest time a case may take: one that hangs fails.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs a case as a test of this name; the macros call it.
///
/// # Panics
/// When the case fails, or takes longer than three minutes.
#[expect(clippy::panic, reason = "that is how a test fails")]
pub fn run<F: Future<Output = Outcome>>(name: &str, case: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    let outcome = runtime.block_on(async { tokio::time::timeout(LIMIT, case()).await });
    // What an adapter left behind must not hold up the other tests.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(skip)) => println!("SKIPPED {name}: {skip}"),
        Err(_) => panic!("{name} was still running after {LIMIT:?}"),
    }
}

/// Makes a test of each case. Not for direct use.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($suite:ident, $module:ident, $fixture:expr; $($case:ident)*) => {
        mod $module {
            #[allow(unused_imports, reason = "the fixture may need none")]
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::conformance::run(stringify!($case), || async {
                        let fixture = $fixture;
                        $crate::conformance::$suite::$case(&fixture).await
                    });
                }
            )*
        }
    };
}
