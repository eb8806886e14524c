//! What the proxy is told to do, and what it has done.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Side {
    /// From the client to the broker.
    Requests,
    /// From the broker to the client.
    Answers,
}

/// Which answers are swallowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Swallow {
    /// None.
    None,
    /// Those to Produce requests: what was sent is written, and nobody hears of it.
    Produce,
    /// All.
    All,
}

/// What has passed, and what was done to it, since the proxy was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted, refused ones among them.
    pub connections: u64,
    /// Requests that were passed on, or begun to be.
    pub requests: u64,
    /// Produce requests among them.
    pub produce_requests: u64,
    /// Answers that came, swallowed ones among them.
    pub answers: u64,
    /// Answers swallowed.
    pub swallowed: u64,
    /// Connections cut at a byte.
    pub cuts: u64,
    /// Connections reset or refused.
    pub resets: u64,
    /// Bytes of requests passed on.
    pub request_bytes: u64,
    /// Bytes of answers passed on.
    pub answer_bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    cut: [Option<u64>; 2],
    stalled: [bool; 2],
    swallow: Option<Swallow>,
    bytes_per_second: Option<NonZeroU32>,
    refusing: bool,
    /// Connections made before are to be reset when this has changed.
    generation: u64,
    counts: Counts,
}

/// Shared by the proxy's handle and its connections.
#[derive(Debug, Default)]
pub(super) struct Faults {
    state: Mutex<State>,
    changed: Notify,
}

/// What happens to the next bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many may pass, and then nothing for this long.
    Pass(usize, Duration),
    /// The connection ends here.
    Cut,
    /// Nothing passes until something changes.
    Wait,
}

/// Pieces in which throttled bytes pass, a second.
const PIECES: u32 = 20;

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_waiters();
    }

    pub(super) fn cut_after(&self, side: Side, bytes: Option<u64>) {
        self.change(|state| state.cut[side as usize] = bytes);
    }

    pub(super) fn stall(&self, side: Side, on: bool) {
        self.change(|state| state.stalled[side as usize] = on);
    }

    pub(super) fn swallow(&self, which: Swallow) {
        self.change(|state| state.swallow = Some(which));
    }

    pub(super) fn throttle(&self, bytes_per_second: Option<NonZeroU32>) {
        self.change(|state| state.bytes_per_second = bytes_per_second);
    }

    pub(super) fn refuse(&self, on: bool) {
        self.change(|state| state.refusing = on);
    }

    pub(super) fn reset(&self) {
        self.change(|state| state.generation += 1);
    }

    pub(super) fn heal(&self) {
        self.change(|state| {
            *state = State { generation: state.generation, counts: state.counts, ..State::default() };
        });
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Waits until `check` gives something.
    pub(super) async fn until<T>(&self, mut check: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = check(self) {
                return found;
            }
            changed.await;
        }
    }

    /// A connection was accepted; gives its generation, or `None` when it is to be refused.
    pub(super) fn accepted(&self) -> Option<u64> {
        let mut accepted = None;
        self.change(|state| {
            state.counts.connections += 1;
            state.counts.resets += u64::from(state.refusing);
            accepted = (!state.refusing).then_some(state.generation);
        });
        accepted
    }

    /// Waits until connections of this generation are to be reset.
    pub(super) async fn outdated(&self, generation: u64) {
        self.until(|faults| (faults.state().generation != generation).then_some(())).await;
    }

    /// A connection is reset.
    pub(super) fn was_reset(&self) {
        self.change(|state| state.counts.resets += 1);
    }

    pub(super) fn saw_request(&self, produce: bool) {
        self.change(|state| {
            state.counts.requests += 1;
            state.counts.produce_requests += u64::from(produce);
        });
    }

    /// An answer came; says whether it is swallowed.
    pub(super) fn swallows(&self, produce: bool) -> bool {
        let mut swallowed = false;
        self.change(|state| {
            swallowed = match state.swallow {
                None | Some(Swallow::None) => false,
                Some(Swallow::Produce) => produce,
                Some(Swallow::All) => true,
            };
            state.counts.answers += 1;
            state.counts.swallowed += u64::from(swallowed);
        });
        swallowed
    }

    /// What is to happen to the next of `len` bytes on a connection of this generation. Counts a cut.
    pub(super) fn step(&self, generation: u64, side: Side, len: usize) -> Step {
        let mut state = self.state();
        // One that is to be reset has to be silent before its task comes to do it.
        if state.stalled[side as usize] || state.generation != generation {
            return Step::Wait;
        }
        let mut pass = (len, Duration::ZERO);
        if let Some(rate) = state.bytes_per_second {
            let piece = (rate.get() / PIECES).max(1);
            pass = (len.min(piece as usize), Duration::from_secs(1) * piece / rate.get());
        }
        if let Some(left) = &mut state.cut[side as usize] {
            if *left == 0 {
                state.cut[side as usize] = None;
                state.counts.cuts += 1;
                drop(state);
                self.changed.notify_waiters();
                return Step::Cut;
            }
            pass.0 = pass.0.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= pass.0 as u64;
        }
        Step::Pass(pass.0, pass.1)
    }

    /// So many bytes have passed.
    pub(super) fn passed(&self, side: Side, len: usize) {
        self.change(|state| match side {
            Side::Requests => state.counts.request_bytes += len as u64,
            Side::Answers => state.counts.answer_bytes += len as u64,
        });
    }

    /// Whether the bytes that passed were the last before a cut.
    pub(super) fn cut_is_due(&self, side: Side) -> bool {
        self.state().cut[side as usize] == Some(0)
    }
}
