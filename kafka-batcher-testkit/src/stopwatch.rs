//! Measures time, but not that in which the machine was paused, as virtual machines are for seconds.
//!
//! ```
//! use std::time::Duration;
//!
//! use kafka_batcher_testkit::stopwatch::Stopwatch;
//!
//! let watch = Stopwatch::start();
//! // what has to be quick
//! watch.assert_within(Duration::from_secs(1));
//! ```

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Milliseconds in which a thread of this process that wanted to run did not, since the first look at it.
fn paused() -> u64 {
    static PAUSED: AtomicU64 = AtomicU64::new(0);
    static WATCHED: OnceLock<()> = OnceLock::new();
    const TICK: Duration = Duration::from_millis(5);
    /// Busy machines are this late; that counts.
    const BUSY: Duration = Duration::from_millis(100);
    WATCHED.get_or_init(|| {
        thread::spawn(|| {
            loop {
                let start = Instant::now();
                thread::sleep(TICK);
                let late = start.elapsed().saturating_sub(TICK);
                if late > BUSY {
                    let late = u64::try_from(late.as_millis()).unwrap_or_default();
                    PAUSED.fetch_add(late, Ordering::Relaxed);
                }
            }
        });
    });
    PAUSED.load(Ordering::Relaxed)
}

/// Runs from its start on. A thread that it starts once in a process looks out for pauses.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    start: Instant,
    paused: u64,
}

impl Stopwatch {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self { paused: paused(), start: Instant::now() }
    }

    /// Time that has passed, without pauses of more than 100 ms. Blocks for 20 ms.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let elapsed = self.start.elapsed();
        thread::sleep(Duration::from_millis(20)); // whoever counts pauses may have been paused itself
        elapsed.saturating_sub(Duration::from_millis(paused() - self.paused))
    }

    /// The time that has passed, without pauses, if it is more than `limit`. Blocks only if it is more with them.
    #[must_use]
    pub fn beyond(&self, limit: Duration) -> Option<Duration> {
        if self.start.elapsed() <= limit {
            return None;
        }
        Some(self.elapsed()).filter(|took| *took > limit)
    }

    /// Checks that nothing is [beyond](Self::beyond) the limit.
    ///
    /// # Panics
    /// When it is.
    #[track_caller]
    pub fn assert_within(&self, limit: Duration) {
        let took = self.beyond(limit);
        assert!(took.is_none(), "took {:?} of {limit:?}", took.unwrap_or_default());
    }
}
