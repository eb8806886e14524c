//! What the batcher reports, shown without flooding the terminal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_batcher::{ErrorNotifier, Report, What};

use crate::console::Console;
use crate::format::count;

/// Reports of the same kind are shown at most this often.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps the latest report, and shows them once that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Troubles {
    console: Console,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<Report>,
    shows: bool,
    /// When a report of each kind was last shown, and how many were not since.
    shown: HashMap<What, (Instant, u64)>,
}

impl Troubles {
    pub(crate) fn new(console: Console) -> Self {
        Self { console, state: Arc::default() }
    }

    /// The latest report.
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

    /// The text to show for a report, if it is to be shown now.
    fn text(&self, report: &Report, now: Instant) -> Option<String> {
        let mut state = self.state();
        state.latest = Some(report.clone());
        if !state.shows {
            return None;
        }
        let mut unshown = 0;
        if let Some((at, withheld)) = state.shown.get_mut(&report.what) {
            if now.duration_since(*at) < EVERY {
                *withheld += 1;
                return None;
            }
            unshown = *withheld;
        }
        state.shown.insert(report.what, (now, 0));
        drop(state);
        let more = if unshown > 0 { format!(" ({} more like it)", count(unshown)) } else { String::new() };
        Some(format!("{report}{more}{}", consequence(report.what)))
    }
}

impl ErrorNotifier for Troubles {
    fn report(&self, report: &Report) {
        if let Some(text) = self.text(report, Instant::now()) {
            match report.what {
                What::DeadLettered(_) | What::Lost | What::Panicked => self.console.error(text),
                _ => self.console.note(text),
            }
        }
    }
}

/// What happens next, for whoever reads only this line.
const fn consequence(what: What) -> &'static str {
    match what {
        What::ConnectFailed(_) | What::PartitionsUnknown(_) => "; events are kept, it tries again",
        What::ProduceFailed(_) => "; the events are kept and sent again",
        What::DeadLettered(_) => "; Kafka will never take it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use kafka_batcher::ErrorKind;

    use super::*;

    #[test]
    fn the_same_trouble_is_not_told_all_the_time() {
        let troubles = Troubles::new(Console::new(true));
        let start = Instant::now();
        let failed = Report::new(What::ProduceFailed(ErrorKind::Transient), "broker down");
        let lost = Report::new(What::Lost, "gone");
        assert_eq!(troubles.text(&failed, start), None, "not before it is asked to show any");
        assert_eq!(troubles.latest().unwrap().message, "broker down");
        troubles.show();
        let text = troubles.text(&failed, start).unwrap();
        assert_eq!(text, "produce failed (transient): broker down; the events are kept and sent again");
        assert_eq!(troubles.text(&failed, start + EVERY / 2), None);
        assert_eq!(troubles.text(&lost, start + EVERY / 2).unwrap(), "events lost: gone");
        let text = troubles.text(&failed, start + EVERY).unwrap();
        assert!(text.contains("(1 more like it)"), "{text}");
    }
}
