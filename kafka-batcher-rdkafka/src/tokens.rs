//! Asks the application for tokens.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use kafka_batcher_core::config::{Token, TokenError, TokenProvider};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// A provider, and where it can be asked: tokio's tasks, while the thread that serves the client is none.
#[derive(Debug)]
pub(crate) struct Tokens {
    provider: Arc<dyn TokenProvider>,
    runtime: Handle,
    timeout: Duration,
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    answer: Receiver<Result<Token, TokenError>>,
    task: AbortHandle,
}

impl Tokens {
    pub(crate) fn new(provider: Arc<dyn TokenProvider>, runtime: Handle, timeout: Duration) -> Self {
        Self { provider, runtime, timeout, asked: None }
    }

    /// Asks for a token, unless that is under way.
    pub(crate) fn ask(&mut self) {
        if self.asked.is_some() {
            return;
        }
        let (sender, answer) = sync_channel(1);
        let (provider, timeout) = (Arc::clone(&self.provider), self.timeout);
        let task = self.runtime.spawn(async move {
            let token = tokio::time::timeout(timeout, provider.token()).await;
            let late = |_| Err(TokenError(format!("the provider did not answer within {timeout:?}")));
            let _nobody_listens_when_the_client_has_ended = sender.send(token.unwrap_or_else(late));
        });
        self.asked = Some(Asked { answer, task: task.abort_handle() });
    }

    /// Whether an answer is being waited for.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// The answer, when it is there.
    pub(crate) fn answer(&mut self) -> Option<Result<Token, TokenError>> {
        let answer = match self.asked.as_ref()?.answer.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {
                Err(TokenError("the provider panicked, or its runtime has ended".to_owned()))
            }
        };
        self.asked = None;
        Some(answer)
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(asked) = &self.asked {
            asked.task.abort();
        }
    }
}
