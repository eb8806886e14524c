//! The thread that calls telemetry: a recorder that is slow, hangs or panics holds up nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kafka_batcher_core::{ErrorKind, FlushReason, LaneId, Report, StorageCall, Telemetry, What};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::contain::contained;
use crate::notify::Notify;

/// What may wait for a slow recorder; more is dropped and counted.
const WAITING: usize = 16 * 1024;
/// What is told waits up to so long, and those who tell need not wake the thread each time.
const GATHER: Duration = Duration::from_millis(20);

/// Passes what is told to the thread of the application's telemetry without ever waiting for it.
#[derive(Debug)]
pub(crate) struct Telemeter(Arc<Queue>);

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wakeup: Condvar,
}

#[derive(Debug, Default)]
struct State {
    told: Vec<Told>,
    /// Of each topic, by reason: there may be millions in a second.
    rejected: Rejected,
    /// Nothing is told: the thread waits without looking.
    idle: bool,
    /// The thread is not to wait for more.
    urgent: bool,
    closed: bool,
    dropped: u64,
}

type Rejected = HashMap<Box<str>, Vec<(&'static str, u64)>>;

#[derive(Debug)]
enum Told {
    Sealed {
        lane: LaneId,
        events: u32,
        bytes: usize,
        reason: FlushReason,
    },
    Delivered {
        lane: LaneId,
        events: u32,
        bytes: usize,
        took: Duration,
        queued: Option<Duration>,
    },
    Failed {
        lane: LaneId,
        events: u32,
        kind: ErrorKind,
        took: Duration,
    },
    Stored {
        lane: LaneId,
        events: u32,
        bytes: usize,
    },
    Called {
        call: StorageCall,
        took: Duration,
        ok: bool,
    },
    Dead {
        lane: LaneId,
        kind: ErrorKind,
    },
    /// All before it is recorded.
    Mark(oneshot::Sender<()>),
}

impl Telemeter {
    pub(crate) fn start(telemetry: Arc<dyn Telemetry>, notify: Notify) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let waiting = Arc::clone(&queue);
        // Ends by itself when it is closed; never joined, since user code may hang in it.
        std::thread::Builder::new()
            .name("kafka-batcher-telemetry".to_owned())
            .spawn(move || run(&waiting, &*telemetry, &notify))?;
        Ok(Self(queue))
    }

    /// Where to tell.
    pub(crate) fn queue(&self) -> &Queue {
        &self.0
    }

    /// For storage, which may outlive the batcher.
    pub(crate) fn for_storage(&self) -> Arc<dyn Telemetry> {
        Arc::new(ForStorage(Arc::downgrade(&self.0)))
    }

    /// How much was dropped because the recorder was too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.state.lock().dropped
    }

    /// Waits until what was told before is recorded, for so long at most.
    pub(crate) async fn catch_up(&self, timeout: Duration) {
        let (mark, marked) = oneshot::channel();
        {
            let mut state = self.0.state.lock();
            state.told.push(Told::Mark(mark));
            state.urgent = true;
        }
        self.0.wakeup.notify_one();
        // Whether it did is of no consequence.
        drop(tokio::time::timeout(timeout, marked).await);
    }
}

impl Drop for Telemeter {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.wakeup.notify_one();
    }
}

impl Queue {
    fn tell(&self, told: Told) {
        let mut state = self.state.lock();
        if state.told.len() >= WAITING {
            state.dropped += 1;
            return;
        }
        state.told.push(told);
        self.wake(state.told.len() == WAITING / 2, state);
    }

    /// Wakes the thread if it does not look by itself, or not soon enough.
    fn wake(&self, urgent: bool, mut state: parking_lot::MutexGuard<'_, State>) {
        state.urgent |= urgent;
        let wake = urgent | std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.wakeup.notify_one();
        }
    }

    /// Waits until something is told, and takes it; `false` at the end.
    fn take(&self, told: &mut Vec<Told>, rejected: &mut Rejected) -> bool {
        let mut state = self.state.lock();
        if !state.urgent && !state.closed {
            self.wakeup.wait_for(&mut state, GATHER);
        }
        while state.told.is_empty() && state.rejected.is_empty() {
            if state.closed {
                return false;
            }
            state.idle = true;
            self.wakeup.wait(&mut state);
        }
        (state.idle, state.urgent) = (false, false);
        std::mem::swap(&mut state.told, told);
        std::mem::swap(&mut state.rejected, rejected);
        true
    }
}

impl Telemetry for Queue {
    fn batch_sealed(&self, lane: &LaneId, events: u32, bytes: usize, reason: FlushReason) {
        self.tell(Told::Sealed { lane: lane.clone(), events, bytes, reason });
    }

    fn delivered(&self, lane: &LaneId, events: u32, bytes: usize, took: Duration, queued: Option<Duration>) {
        self.tell(Told::Delivered { lane: lane.clone(), events, bytes, took, queued });
    }

    fn produce_failed(&self, lane: &LaneId, events: u32, kind: ErrorKind, took: Duration) {
        self.tell(Told::Failed { lane: lane.clone(), events, kind, took });
    }

    fn stored(&self, lane: &LaneId, events: u32, bytes: usize) {
        self.tell(Told::Stored { lane: lane.clone(), events, bytes });
    }

    fn storage_called(&self, call: StorageCall, took: Duration, ok: bool) {
        self.tell(Told::Called { call, took, ok });
    }

    fn rejected(&self, topic: &str, reason: &'static str, events: u64) {
        let mut state = self.state.lock();
        let reasons = match state.rejected.get_mut(topic) {
            Some(reasons) => reasons,
            None => state.rejected.entry(topic.into()).or_default(),
        };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += events,
            None => reasons.push((reason, events)),
        }
        self.wake(false, state);
    }

    fn dead_lettered(&self, lane: &LaneId, kind: ErrorKind) {
        self.tell(Told::Dead { lane: lane.clone(), kind });
    }
}

fn run(queue: &Queue, telemetry: &dyn Telemetry, notify: &Notify) {
    let call = |tell: &dyn Fn()| {
        if let Err(panic) = contained(tell) {
            notify.send(Report::new(What::Panicked, format!("telemetry: {panic}")));
        }
    };
    let (mut told, mut rejected) = (Vec::new(), Rejected::new());
    while queue.take(&mut told, &mut rejected) {
        for (topic, reasons) in rejected.drain() {
            for (reason, events) in reasons {
                call(&|| telemetry.rejected(&topic, reason, events));
            }
        }
        for told in told.drain(..) {
            match told {
                Told::Sealed { lane, events, bytes, reason } => {
                    call(&|| telemetry.batch_sealed(&lane, events, bytes, reason));
                }
                Told::Delivered { lane, events, bytes, took, queued } => {
                    call(&|| telemetry.delivered(&lane, events, bytes, took, queued));
                }
                Told::Failed { lane, events, kind, took } => {
                    call(&|| telemetry.produce_failed(&lane, events, kind, took));
                }
                Told::Stored { lane, events, bytes } => call(&|| telemetry.stored(&lane, events, bytes)),
                Told::Called { call: which, took, ok } => call(&|| telemetry.storage_called(which, took, ok)),
                Told::Dead { lane, kind } => call(&|| telemetry.dead_lettered(&lane, kind)),
                // Who no longer waits need not hear it.
                Told::Mark(mark) => drop(mark.send(())),
            }
        }
    }
}

/// Does not keep the thread.
struct ForStorage(Weak<Queue>);

impl Telemetry for ForStorage {
    fn storage_called(&self, call: StorageCall, took: Duration, ok: bool) {
        if let Some(queue) = self.0.upgrade() {
            queue.storage_called(call, took, ok);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::sync::mpsc;

    use super::*;

    /// Says that it was called, then waits until it may go on.
    struct Held(Mutex<mpsc::Receiver<()>>, mpsc::Sender<()>, Arc<AtomicU64>);

    impl Telemetry for Held {
        fn stored(&self, _: &LaneId, events: u32, _: usize) {
            self.2.fetch_add(events.into(), Relaxed);
            self.1.send(()).ok();
            self.0.lock().recv().ok();
        }
    }

    #[tokio::test]
    async fn what_a_recorder_is_too_slow_for_is_dropped_and_counted_and_the_rest_arrives() {
        let (go, may_go) = mpsc::channel();
        let (calls, called) = mpsc::channel();
        let recorded = Arc::new(AtomicU64::new(0));
        let notify = Notify::start(Arc::new(kafka_batcher_core::NoNotifier)).unwrap();
        let held = Held(Mutex::new(may_go), calls, Arc::clone(&recorded));
        let telemeter = Telemeter::start(Arc::new(held), notify).unwrap();
        let lane = LaneId::partition("t", 0);
        telemeter.queue().stored(&lane, 1, 10);
        called.recv().unwrap();
        let more = WAITING as u64 + 100;
        (0..more).for_each(|_| telemeter.queue().stored(&lane, 1, 10));
        assert_eq!(telemeter.dropped(), 100);
        drop(go);
        telemeter.catch_up(Duration::from_secs(60)).await;
        assert_eq!(recorded.load(Relaxed), 1 + more - 100);
    }
}
