//! Scrapes beside Prometheus' own, each of which has to add up by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{books, http};

const EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) scrapes: u64,
    pub(super) complaints: Vec<String>,
}

#[derive(Debug, Default)]
struct Shared {
    targets: BTreeMap<&'static str, String>,
    tally: Tally,
    is_over: bool,
}

/// A thread that scrapes.
#[derive(Debug)]
pub(super) struct Scrapes {
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

impl Scrapes {
    pub(super) fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while scrape(&theirs) {
                thread::sleep(EVERY);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    pub(super) fn target(&self, name: &'static str, address: Option<&str>) {
        let targets = &mut self.shared.lock().unwrap_or_else(PoisonError::into_inner).targets;
        match address {
            Some(address) => targets.insert(name, address.to_owned()),
            None => targets.remove(name),
        };
    }

    pub(super) fn finish(mut self) -> Tally {
        self.end();
        std::mem::take(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner).tally)
    }

    fn end(&mut self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_default();
        }
    }
}

impl Drop for Scrapes {
    fn drop(&mut self) {
        self.end();
    }
}

/// All targets once; whether to go on. A process that is just being killed may not answer.
fn scrape(shared: &Mutex<Shared>) -> bool {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let targets = lock().targets.clone();
    for (name, address) in targets {
        if let Ok(text) = http::get(&address, "/metrics") {
            let complaint = books::complaint(&text);
            let tally = &mut lock().tally;
            tally.scrapes += 1;
            tally.complaints.extend(
                complaint.map(|complaint| format!("a scrape of {name} does not add up: {complaint}")),
            );
        }
    }
    !lock().is_over
}
