//! Waiting until an event is in the journal ([`Durability::Journal`](crate::config::Durability::Journal)).
//!
//! All events that go to storage together share one allocation and hear at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::storage::StorageError;

/// A future of whether an event is in the journal.
///
/// # Errors
/// Resolves to the [`StorageError`] with which storage refused it when the batcher was ending, or when storage was full
/// and events are to be [refused](crate::config::OnStorageFull::Reject) then: nobody has the event.
///
/// **Cancellation:** dropping it has no effect on the event, which may be accepted all the same.
#[derive(Debug)]
#[must_use = "the event is safe only once this has resolved"]
pub struct Journaled {
    group: Arc<Group>,
    /// Place of its waker.
    place: Option<usize>,
}

#[derive(Debug, Default)]
struct Group(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    result: Option<Result<(), StorageError>>,
    wakers: Vec<Waker>,
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Journaled {
    type Output = Result<(), StorageError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let group = Arc::clone(&self.group);
        let mut state = group.state();
        if let Some(result) = &state.result {
            return Poll::Ready(result.clone());
        }
        if let Some(waker) = self.place.and_then(|place| state.wakers.get_mut(place)) {
            waker.clone_from(cx.waker());
        } else {
            self.place = Some(state.wakers.len());
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Tells those who wait what became of their events. Dropped without a word, they hear that the batcher is gone.
#[derive(Debug, Default)]
pub(crate) struct Pledge(Arc<Group>);

impl Pledge {
    pub(crate) fn journaled(&self) -> Journaled {
        Journaled { group: Arc::clone(&self.0), place: None }
    }

    /// The first answer stays.
    pub(crate) fn resolve(&self, result: Result<(), StorageError>) {
        let mut state = self.0.state();
        state.result.get_or_insert(result);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Pledge {
    fn drop(&mut self) {
        self.resolve(Err(StorageError::Failed("the batcher is gone".to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(journaled: &mut Journaled) -> Poll<Result<(), StorageError>> {
        Pin::new(journaled).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn all_hear_once_it_is_said() {
        let pledge = Pledge::default();
        let (mut one, mut other) = (pledge.journaled(), pledge.journaled());
        assert!(poll(&mut one).is_pending() && poll(&mut one).is_pending() && poll(&mut other).is_pending());
        assert_eq!(pledge.0.state().wakers.len(), 2, "one waker each");
        pledge.resolve(Ok(()));
        drop(pledge);
        assert!(matches!((poll(&mut one), poll(&mut other)), (Poll::Ready(Ok(())), Poll::Ready(Ok(())))));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let pledge = Pledge::default();
        let mut journaled = pledge.journaled();
        drop(pledge);
        assert!(matches!(poll(&mut journaled), Poll::Ready(Err(_))));
    }
}
