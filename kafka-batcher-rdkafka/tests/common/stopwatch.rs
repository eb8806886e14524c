//! Measures time, but not that in which the machine was paused, as virtual machines are for seconds.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Milliseconds in which a thread of this process that wanted to run did not, since the first look at it.
fn paused() -> u64 {
    static PAUSED: OnceLock<&'static AtomicU64> = OnceLock::new();
    const TICK: Duration = Duration::from_millis(5);
    /// Busy machines are this late; that counts.
    const BUSY: Duration = Duration::from_millis(100);
    let paused = PAUSED.get_or_init(|| {
        let paused: &'static AtomicU64 = Box::leak(Box::default());
        thread::spawn(move || {
            loop {
                let start = Instant::now();
                thread::sleep(TICK);
                let late = start.elapsed().saturating_sub(TICK);
                if late > BUSY {
                    paused.fetch_add(late.as_millis() as u64, Ordering::Relaxed);
                }
            }
        });
        paused
    });
    paused.load(Ordering::Relaxed)
}

pub struct Stopwatch {
    pub start: Instant,
    paused: u64,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { paused: paused(), start: Instant::now() }
    }

    /// Time that has passed, without pauses.
    pub fn elapsed(&self) -> Duration {
        let elapsed = self.start.elapsed();
        thread::sleep(Duration::from_millis(20)); // whoever counts pauses may have been paused itself
        elapsed.saturating_sub(Duration::from_millis(paused() - self.paused))
    }

    #[track_caller]
    pub fn assert_within(&self, limit: Duration) {
        if self.start.elapsed() > limit {
            let took = self.elapsed();
            assert!(took <= limit, "took {took:?} of {limit:?}");
        }
    }
}
