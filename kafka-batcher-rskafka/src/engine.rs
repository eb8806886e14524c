//! The thread on which everything of rskafka's runs.
//!
//! * Encoding and compressing, which take long for large batches, do not hold up the application's executor.
//! * One thread means that a connection's reader is not at work while a request is begun: when a request fails at
//!   once, its connection was broken before, and nothing was sent. `attempt.rs` relies on it.
//! * When the runtime ends, so does every task and connection of rskafka's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinHandle};

/// A runtime on a thread of its own; both end when it is dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    handle: Handle,
    /// A clock that stands still; see [`Engine::stopped_clock`].
    stopped_clock: Handle,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    ended: watch::Receiver<bool>,
}

impl Engine {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let stopped = Builder::new_current_thread().enable_time().build()?;
        let (handle, stopped_clock) = (runtime.handle().clone(), stopped.handle().clone());
        let (stop, stopping) = oneshot::channel();
        let (ending, ended) = watch::channel(false);
        std::thread::Builder::new().name("kafka-rskafka".to_owned()).spawn(move || {
            let _dropped_counts_too = runtime.block_on(stopping);
            drop(runtime);
            drop(stopped);
            ending.send_replace(true);
        })?;
        Ok(Self { handle, stopped_clock, stop: Mutex::new(Some(stop)), ended })
    }

    /// Runs a future on the thread.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        Task(self.handle.spawn(future))
    }

    /// A runtime whose timers never fire. rskafka 0.6 takes a throttled answer for none, waits, and sends the batch
    /// again and again; polled inside this, it waits for ever instead, until it is given up.
    pub(crate) fn stopped_clock(&self) -> Handle {
        self.stopped_clock.clone()
    }

    /// Takes everything down.
    pub(crate) fn stop(&self) {
        if let Some(stop) = self.stop.lock().take() {
            let _it_may_have_ended = stop.send(());
        }
    }

    /// Resolves when the thread has ended what was running on it.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ended = self.ended.clone();
        async move {
            // An error means that the thread is gone.
            let _either_way = ended.wait_for(|ended| *ended).await;
        }
    }
}

/// A task that is aborted when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T> Task<T> {
    pub(crate) fn spawned(handle: JoinHandle<T>) -> Self {
        Self(handle)
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_dropped_engine_ends_its_tasks() {
        let engine = Engine::start().expect("a thread");
        let held = Arc::new(());
        let task = engine.spawn({
            let held = Arc::clone(&held);
            async move {
                std::future::pending::<()>().await;
                drop(held);
            }
        });
        let ended = engine.ended();
        drop(engine);
        task.await.expect_err("cancelled");
        ended.await;
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_dropped_task_is_aborted() {
        let engine = Engine::start().expect("a thread");
        let (sender, receiver) = oneshot::channel::<()>();
        drop(engine.spawn(async move {
            std::future::pending::<()>().await;
            drop(sender);
        }));
        receiver.await.expect_err("its sender is gone");
    }

    #[tokio::test]
    async fn a_stopped_clock_fires_no_timer() {
        let engine = Engine::start().expect("a thread");
        let inside = engine.stopped_clock();
        let mut sleep = {
            let _guard = inside.enter();
            Box::pin(tokio::time::sleep(Duration::from_millis(1)))
        };
        let polled = tokio::time::timeout(Duration::from_millis(50), &mut sleep).await;
        polled.expect_err("it never fires");
        engine.stop();
        engine.ended().await;
    }
}
