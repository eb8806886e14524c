//! For testing adapters to `kafka-batcher`, and applications that use it.
//!
//! Whoever writes an adapter (a producer, storage, telemetry, …) finds in [`conformance`] suites of named tests that say
//! whether it keeps the promises of its trait, in five lines. The guide `docs/write-your-own-adapter.md` walks through it.
//!
//! | module | feature | what it is |
//! | --- | --- | --- |
//! | [`conformance`] | | a suite of tests for every trait |
//! | [`proxy`] | | a TCP proxy that cuts, swallows, stalls, throttles and resets |
//! | [`scripted`] | | a producer and a storage that fail, hang and lose answers as scripted |
//! | [`lines`] | | log lines, and whether a secret is in one |
//! | [`clock`] | | a clock for the core's state machines that is moved by hand |
//! | [`stopwatch`] | | time that has passed, without pauses of the machine |
//! | [`embedded`] | `embedded` | a Kafka broker inside the test's own process, with faults on demand |
//! | [`reader`] | `embedded` | reads a whole topic back, from that broker or from a real one |
//! | [`target`] | `embedded` | the broker to test against, embedded or real, secured or not, as the environment says |
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use kafka_batcher_testkit::embedded::EmbeddedBroker;
//!
//! let broker = EmbeddedBroker::start(1)?;
//! broker.create_topic("flights", 4)?;
//! println!("connect to {}", broker.bootstrap());
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```

pub mod clock;
pub mod conformance;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod lines;
pub mod proxy;
#[cfg(feature = "embedded")]
pub mod reader;
pub mod scripted;
pub mod stopwatch;
#[cfg(feature = "embedded")]
pub mod target;

// The code in the guide.
#[cfg(doctest)]
#[doc = include_str!("../../docs/write-your-own-adapter.md")]
struct Guide;
