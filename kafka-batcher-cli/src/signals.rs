//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends the program at once.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C, SIGINT.
    Interrupt,
    /// SIGTERM, or SIGHUP: the terminal is gone.
    Terminate,
}

impl Signal {
    /// What a shell makes of a program that this signal ended: 128 and the signal's number.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// Whether and by what the program was asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<Option<(Signal, Instant)>>);

impl Stop {
    /// Listens from now on. The second signal calls `at_once`, which should not return.
    ///
    /// # Errors
    /// When the operating system lets nobody listen.
    pub(crate) fn listen(at_once: impl Fn(Signal) + Send + Sync + 'static) -> io::Result<Self> {
        let mut signals = Signals::new()?;
        let (asked, stop) = watch::channel(None);
        tokio::spawn(async move {
            asked.send_replace(Some((signals.next().await, Instant::now())));
            loop {
                at_once(signals.next().await);
            }
        });
        Ok(Self(stop))
    }

    /// Resolves when the program is asked to stop; at once if it was already.
    pub(crate) async fn asked(&self) -> Signal {
        self.request().await.0
    }

    /// Resolves so long after the program was asked to stop.
    pub(crate) async fn overdue(&self, deadline: Duration) {
        let (_, at) = self.request().await;
        tokio::time::sleep_until(at + deadline).await;
    }

    async fn request(&self) -> (Signal, Instant) {
        let mut stop = self.0.clone();
        let request = stop.wait_for(Option::is_some).await.ok().and_then(|request| *request);
        match request {
            Some(request) => request,
            // Nobody can ask any more.
            None => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hangup.recv() => Signal::Terminate,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_late_still_hears_of_it() {
        let (send, receive) = watch::channel(None);
        let stop = Stop(receive);
        send.send_replace(Some((Signal::Terminate, Instant::now())));
        drop(send);
        assert_eq!(stop.asked().await, Signal::Terminate);
        assert_eq!(stop.asked().await.exit_code(), 143);
        stop.overdue(Duration::from_millis(1)).await;
    }
}
