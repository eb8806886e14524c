//! What was heard of the brokers that no single record is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use kafka_batcher_core::Denial;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::code::Code;
use crate::denial;

/// Whether brokers let us in, and why not.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Whether we were turned away since a broker last answered; saves the lock on every batch.
    is_denied: AtomicBool,
    /// Why we were turned away last time.
    refusal: Mutex<Option<Refusal>>,
    /// Why no broker could be reached, last time.
    unreachable: Mutex<Option<String>>,
    /// What was wrong with the certificates of brokers, last time.
    certificates: Mutex<HashMap<String, i32>>,
    /// A token was asked for, and did not come yet.
    awaits_token: AtomicBool,
    denied: Notify,
}

/// Not let in.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) denial: Denial,
    pub(crate) text: String,
}

impl Health {
    /// An error of the client as a whole. `text` is clean of secrets.
    pub(crate) fn take_in(&self, code: Code, text: String) {
        let certificate = denial::certificate_refused(&text)
            .and_then(|broker| self.certificates.lock().get(broker).copied());
        match denial::of(code, &text, certificate) {
            Some(denial) => {
                let text = match certificate {
                    Some(error) => format!("{}: {text}", denial::describe_certificate(error)),
                    None => text,
                };
                self.deny(Refusal { denial, text });
            }
            None if code == Code::TRANSPORT || code == Code::RESOLVE || code.is_refusal() => {
                *self.unreachable.lock() = Some(text);
            }
            None => {}
        }
    }

    /// A line of librdkafka's log: notes what is wrong with a certificate, which its error does not tell.
    pub(crate) fn take_in_log(&self, text: &str) {
        if let Some((broker, error)) = denial::certificate_line(text) {
            self.certificates.lock().insert(broker.to_owned(), error);
        }
    }

    fn deny(&self, refusal: Refusal) {
        *self.unreachable.lock() = Some(refusal.text.clone());
        *self.refusal.lock() = Some(refusal);
        self.is_denied.store(true, Ordering::Release);
        self.denied.notify_waiters();
    }

    /// A broker answered.
    pub(crate) fn well(&self) {
        if self.is_denied.load(Ordering::Acquire) {
            self.is_denied.store(false, Ordering::Release);
        }
    }

    /// A token is being waited for.
    pub(crate) fn token_asked(&self) {
        self.awaits_token.store(true, Ordering::Release);
    }

    /// The token came.
    pub(crate) fn token_came(&self) {
        self.awaits_token.store(false, Ordering::Release);
        if self.lacks_token() {
            self.well();
        }
    }

    /// There is no token. `text` is clean of secrets.
    pub(crate) fn token_failed(&self, text: String) {
        self.awaits_token.store(false, Ordering::Release);
        self.deny(Refusal { denial: Denial::NoToken, text });
    }

    /// The last attempt to get a token failed.
    pub(crate) fn lacks_token(&self) -> bool {
        self.is_denied.load(Ordering::Acquire)
            && self.refusal.lock().as_ref().is_some_and(|refusal| refusal.denial == Denial::NoToken)
    }

    /// Why we are not let in, if that is so.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        if self.is_denied.load(Ordering::Acquire) {
            return self.refusal.lock().clone();
        }
        let text = "the token provider has not answered yet".to_owned();
        let awaits_token = self.awaits_token.load(Ordering::Acquire);
        awaits_token.then_some(Refusal { denial: Denial::NoToken, text })
    }

    /// Why we were turned away the last time, however long ago.
    pub(crate) fn last_refusal(&self) -> Option<Refusal> {
        self.refusal.lock().clone()
    }

    /// Nobody has turned us away: a token has not come yet.
    pub(crate) fn awaits_token(&self) -> bool {
        !self.is_denied() && self.awaits_token.load(Ordering::Acquire)
    }

    pub(crate) fn is_denied(&self) -> bool {
        self.is_denied.load(Ordering::Acquire)
    }

    /// Resolves when we are denied the next time, counted from this call.
    pub(crate) fn denied(&self) -> impl Future<Output = ()> {
        self.denied.notified()
    }

    /// Why no broker could be reached, last time.
    pub(crate) fn unreachable(&self) -> Option<String> {
        self.unreachable.lock().clone()
    }
}
