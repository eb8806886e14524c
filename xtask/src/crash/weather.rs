//! What Kafka is like during a run: up, not to be reached, frozen, or dying.

use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use super::rng::Rng;
use crate::broker::Session;
use crate::error::{Error, Result};

/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:9";
/// Runs between two deaths of the broker: it takes seconds to come back.
const BETWEEN_DEATHS: u64 = 25;

/// Most runs without it. More wait until it is there, since it is the others that have something to tell.
const DEAD_FOR: u64 = 7;

/// What happens to Kafka in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Up,
    /// The process is told of an address where nothing is.
    Nowhere,
    /// Stopped in the middle of the run (SIGSTOP): connections stay open and nothing answers.
    Freezes,
    /// Killed in the middle of the run (SIGKILL).
    Dies,
    /// Dead, or starting again.
    Down,
}

/// The broker, and what has been done to it.
pub(crate) struct Broker<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    session: &'env Session,
    frozen: bool,
    restarting: Option<ScopedJoinHandle<'scope, Result<()>>>,
    since_death: u64,
}

impl<'scope, 'env> Broker<'scope, 'env> {
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>, session: &'env Session) -> Self {
        // The first death is not long in coming, as there are few in a short run.
        Self { scope, session, frozen: false, restarting: None, since_death: BETWEEN_DEATHS - 5 }
    }

    /// Decides about the next run.
    pub(crate) fn forecast(&mut self, rng: &mut Rng) -> Result<Weather> {
        self.since_death += 1;
        let chance = rng.below(100);
        // It may stay frozen for some runs, and what was sent to it is read when it goes on.
        if self.frozen && chance < 60 {
            self.thaw()?;
        }
        let overdue = self.since_death >= DEAD_FOR;
        if self.restarting.as_ref().is_some_and(|restarting| overdue || restarting.is_finished()) {
            self.is_back()?;
        }
        let chance = rng.below(100);
        Ok(if chance < 15 {
            Weather::Nowhere
        } else if self.restarting.is_some() {
            Weather::Down
        } else if self.frozen || chance < 30 {
            Weather::Freezes
        } else if self.since_death >= BETWEEN_DEATHS {
            Weather::Dies
        } else {
            Weather::Up
        })
    }

    pub(crate) fn address(&self, weather: Weather) -> &str {
        if weather == Weather::Nowhere { NOWHERE } else { self.session.bootstrap() }
    }

    /// What the weather brings, once the process is in the middle of it.
    pub(crate) fn strike(&mut self, weather: Weather) -> Result<()> {
        match weather {
            Weather::Freezes if !self.frozen => {
                self.session.freeze(1)?;
                self.frozen = true;
            }
            Weather::Dies => {
                self.session.kill(1)?;
                self.since_death = 0;
                let session = self.session;
                self.restarting = Some(self.scope.spawn(move || {
                    thread::sleep(Duration::from_millis(500));
                    session.restart(1)
                }));
            }
            _ => {}
        }
        Ok(())
    }

    /// Has Kafka up again, and waits for it.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.thaw()?;
        self.is_back()
    }

    fn thaw(&mut self) -> Result<()> {
        if std::mem::take(&mut self.frozen) {
            self.session.thaw(1)?;
        }
        Ok(())
    }

    fn is_back(&mut self) -> Result<()> {
        match self.restarting.take().map(ScopedJoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::new("the thread that restarts Kafka panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Broker<'_, '_> {
    fn drop(&mut self) {
        // It is killed anyway if it was started for this.
        if let Err(error) = self.clear() {
            eprintln!("{error}");
        }
    }
}
