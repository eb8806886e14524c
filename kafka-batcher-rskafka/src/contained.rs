//! Giving up on rskafka's futures for good.
//!
//! rskafka protects a request that is being written from being cut in the middle: dropped there, its future spawns a
//! task that goes on writing, for as long as the broker's socket takes. Such a task would keep the connection open and
//! could deliver a batch hours after it was given up. So what is given up is dropped inside a runtime of its own that
//! never runs and is taken down at once: the task never gets to do anything, the connection is closed, and the request
//! stays incomplete.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Builder;

/// A future of rskafka's that leaves nothing behind when it is dropped before its end.
#[derive(Debug)]
pub(crate) struct Contained<F: Future> {
    /// `None` once it has ended.
    inner: Option<Pin<Box<F>>>,
}

/// Whether something was still to be written when a future was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// A request was not yet with the operating system completely, and now never will be.
    Incomplete,
    /// Nothing was written, or everything: it can't be told which.
    Unknown,
}

impl<F: Future> Contained<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { inner: Some(Box::pin(future)) }
    }

    /// Drops the future, and says what is known of it.
    pub(crate) fn abandon(&mut self) -> Left {
        self.inner.take().map_or(Left::Unknown, bury)
    }
}

impl<F: Future> Future for Contained<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(inner) = &mut self.inner else { return Poll::Pending };
        let result = inner.as_mut().poll(cx);
        if result.is_ready() {
            self.inner = None;
        }
        result
    }
}

impl<F: Future> Drop for Contained<F> {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn bury<F>(future: Pin<Box<F>>) -> Left {
    let Ok(grave) = Builder::new_current_thread().build() else {
        // Not known to happen: this runtime needs nothing of the system. Dropping would not be safe everywhere.
        std::mem::forget(future);
        return Left::Unknown;
    };
    let inside = grave.enter();
    drop(future);
    drop(inside);
    let tasks = grave.metrics().num_alive_tasks();
    // Takes the tasks down without running them; dropping it plainly would panic inside another runtime.
    grave.shutdown_background();
    if tasks > 0 { Left::Incomplete } else { Left::Unknown }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Spawns a task when it is dropped, as rskafka's do.
    struct Spawns(Arc<AtomicBool>);

    impl Drop for Spawns {
        fn drop(&mut self) {
            let ran = Arc::clone(&self.0);
            drop(tokio::spawn(async move { ran.store(true, Ordering::SeqCst) }));
        }
    }

    fn spawning() -> (Contained<impl Future<Output = ()> + Send>, Arc<AtomicBool>) {
        let ran = Arc::new(AtomicBool::new(false));
        let spawns = Spawns(Arc::clone(&ran));
        let future = async move {
            std::future::pending::<()>().await;
            drop(spawns);
        };
        (Contained::new(future), ran)
    }

    #[tokio::test]
    async fn what_a_dropped_future_spawns_never_runs() {
        let (mut future, ran) = spawning();
        assert!(futures_poll(&mut future).is_pending());
        assert_eq!(future.abandon(), Left::Incomplete);
        let (future, ran_too) = spawning();
        drop(future);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!ran.load(Ordering::SeqCst) && !ran_too.load(Ordering::SeqCst));
        assert_eq!(Arc::strong_count(&ran), 1, "and is gone");
    }

    #[test]
    fn dropping_works_without_a_runtime() {
        drop(spawning());
    }

    #[tokio::test]
    async fn a_future_that_ends_is_left_alone() {
        let mut future = Contained::new(async { 7 });
        assert_eq!((&mut future).await, 7);
        assert_eq!(future.abandon(), Left::Unknown);
    }

    fn futures_poll(future: &mut (impl Future<Output = ()> + Unpin)) -> Poll<()> {
        Pin::new(future).poll(&mut Context::from_waker(std::task::Waker::noop()))
    }
}
