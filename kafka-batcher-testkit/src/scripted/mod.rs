//! Fakes that follow a script of outcomes and delays.
//!
//! Delays are tokio's: with `#[tokio::test(start_paused = true)]` they take no time.

mod producer;
mod storage;

pub use producer::{ScriptedProducer, Step};
pub use storage::{Call, ScriptedStorage, StorageStep};
