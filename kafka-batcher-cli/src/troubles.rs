//! What the batcher reports, shown without flooding the terminal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_batcher::core::{Digest, Moment};
use kafka_batcher::{ErrorNotifier, Report, What};

use crate::console::Console;

/// A trouble that lasts is shown at most this often.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps the latest report, and shows them once that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Troubles {
    console: Console,
    start: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    latest: Option<Report>,
    shows: bool,
    digest: Digest,
}

impl Troubles {
    pub(crate) fn new(console: Console) -> Self {
        let state = State { latest: None, shows: false, digest: Digest::new(EVERY) };
        Self { console, start: Instant::now(), state: Arc::new(Mutex::new(state)) }
    }

    /// The latest report of something that is not over.
    pub(crate) fn latest(&self) -> Option<Report> {
        self.state().latest.clone()
    }

    /// From now on reports are shown.
    pub(crate) fn show(&self) {
        self.state().shows = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment::ZERO + self.start.elapsed()
    }

    /// What to show of a report, if it is to be shown now.
    fn take(&self, report: &Report, now: Moment) -> Option<Report> {
        let mut state = self.state();
        match report.what {
            What::Recovered(over) => drop(state.latest.take_if(|latest| latest.what.trouble() == over)),
            _ => state.latest = Some(report.clone()),
        }
        if state.shows { state.digest.report(report, now) } else { None }
    }

    fn say(&self, report: &Report) {
        match report.what {
            What::DeadLettered(_) | What::Lost | What::Panicked => self.console.error(report.to_string()),
            _ => self.console.note(report.to_string()),
        }
    }
}

impl ErrorNotifier for Troubles {
    fn report(&self, report: &Report) {
        if let Some(report) = self.take(report, self.now()) {
            self.say(&report);
        }
    }

    fn tick(&self) -> Option<Duration> {
        loop {
            let (now, mut state) = (self.now(), self.state());
            let Some(report) = state.digest.poll(now) else {
                return state.digest.poll_timeout().map(|at| at.since(now));
            };
            drop(state);
            self.say(&report);
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_batcher::{ErrorKind, Trouble};

    use super::*;

    #[test]
    fn reports_are_shown_once_that_is_wanted_and_not_all_the_time() {
        let troubles = Troubles::new(Console::new(true));
        let start = Moment::ZERO;
        let failed = Report::new(What::ProduceFailed(ErrorKind::Transient), "broker down");
        assert_eq!(troubles.take(&failed, start), None, "not before it is asked to show any");
        assert_eq!(troubles.latest().unwrap().message, "broker down");
        troubles.show();
        let text = troubles.take(&failed, start).unwrap().to_string();
        assert_eq!(text, "produce failed (transient): broker down; the events are kept and sent again");
        assert_eq!(troubles.take(&failed, start + EVERY / 2), None);
        let over = troubles.take(&Report::new(What::Recovered(Trouble::Produce), ""), start + EVERY).unwrap();
        assert_eq!(over.to_string(), "Kafka takes events again after 10 s (2 reports)");
        assert_eq!(troubles.latest(), None);
    }
}
