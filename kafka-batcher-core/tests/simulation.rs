//! The core in a simulated world: a virtual clock, a model of Kafka, of storage and of the driver, and
//! everything that can go wrong with them, all decided by one number.
//!
//! * `cargo test -p kafka-batcher-core --test simulation` runs a few seeds.
//! * `KAFKA_BATCHER_SIM_SEEDS=20000` runs so many, and `KAFKA_BATCHER_SIM_FROM=1000000` begins elsewhere.
//! * `KAFKA_BATCHER_SIM_SEED=42` replays one and prints the end of its trace.
//!
//! What holds in every run is in `simulation/checks.rs`; each is an assertion about one of the promises
//! of the library: nothing is lost in silence, duplicates only after unknown outcomes and endings, order,
//! true receipts, figures that add up, and nothing that waits without somebody to wake it.

#![expect(clippy::disallowed_methods, reason = "which seeds to run comes from the environment")]

mod simulation {
    mod application;
    mod calls;
    mod checks;
    mod dice;
    mod driver;
    mod kafka;
    mod ledger;
    mod plan;
    mod process;
    mod search;
    mod storage;
    pub(super) mod world;
}

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use simulation::world::{Trace, World};

/// A few seconds, also when not optimised.
const DEFAULT_SEEDS: u64 = 400;

/// How often things happened.
type Tally = BTreeMap<&'static str, u64>;

/// What the simulation is worth nothing without: each has to happen in the seeds that run by default.
const MUST_HAPPEN: &[&str] = &[
    "abandoned",
    "append failed",
    "burial failed",
    "buried",
    "client broken",
    "crash",
    "denied",
    "event rejected",
    "event rejected, storage full",
    "event too large",
    "failed",
    "failed in part",
    "found in the log",
    "growth",
    "handed back by a full journal",
    "lost",
    "memory full",
    "poisoned, culprit named",
    "poisoned, cut",
    "receipt: dead-lettered",
    "receipt: delivered",
    "receipt: lost",
    "receipt: open at the end of a process",
    "receipt: stored",
    "recovery failed",
    "refused for good",
    "replayed",
    "replayed at a pace",
    "routed",
    "search failed",
    "searched",
    "sent again although Kafka may have it",
    "sent again unseen",
    "sent from memory",
    "several in flight",
    "shutdown in time",
    "storage full",
    "stored",
    "too large, cut",
    "too old to be sent",
    "too old while Kafka was away",
    "written after the answer",
];

/// Runs one seed; gives what went wrong, the trace, and how often things happened.
fn run(seed: u64, trace: bool) -> (Result<(), String>, Trace, Tally) {
    let mut world = World::new(seed, trace);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let result = result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    });
    (result, world.trace, world.tally)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[test]
fn random_worlds() {
    let (from, seeds) = match number("KAFKA_BATCHER_SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (
            number("KAFKA_BATCHER_SIM_FROM").unwrap_or(0),
            number("KAFKA_BATCHER_SIM_SEEDS").unwrap_or(DEFAULT_SEEDS),
        ),
    };
    let next = AtomicU64::new(from);
    let failed = Mutex::new(Vec::new());
    let happened = Mutex::new(Tally::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    let enough = failed.lock().is_ok_and(|failed| failed.len() >= 20);
                    if seed >= from + seeds || enough {
                        return;
                    }
                    let (result, _, tally) = run(seed, false);
                    let mut happened = happened.lock().expect("nobody panics with the lock");
                    tally.into_iter().for_each(|(what, times)| *happened.entry(what).or_default() += times);
                    drop(happened);
                    if let Err(error) = result {
                        failed.lock().expect("nobody panics with the lock").push((seed, error));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("nobody panics with the lock");
    failed.sort();
    if let Some((seed, error)) = failed.first() {
        let (again, trace, _) = run(*seed, true);
        let shown = if seeds == 1 { usize::MAX } else { 150 };
        trace.lines.iter().skip(trace.lines.len().saturating_sub(shown)).for_each(|line| println!("{line}"));
        println!("\nfailed:");
        for (seed, error) in &failed {
            println!("  {seed}: {}", error.lines().next().unwrap_or_default());
        }
        assert_eq!(again.as_ref().err(), Some(error), "the replay of seed {seed} ends otherwise");
        panic!(
            "seed {seed}: {error}\nreplay: KAFKA_BATCHER_SIM_SEED={seed} cargo test -p kafka-batcher-core --test simulation"
        );
    }
    if seeds == 1 {
        let (_, trace, _) = run(from, true);
        trace.lines.iter().for_each(|line| println!("{line}"));
    } else if seeds >= DEFAULT_SEEDS {
        let happened = happened.into_inner().expect("nobody panics with the lock");
        println!("{happened:#?}");
        let missing: Vec<_> = MUST_HAPPEN.iter().filter(|what| !happened.contains_key(*what)).collect();
        assert!(missing.is_empty(), "in {seeds} seeds this never happened: {missing:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let (first, second) = (run(seed, true).1, run(seed, true).1);
        assert_eq!((first.count, first.hash), (second.count, second.hash), "seed {seed}");
        assert!(first.count > 50, "seed {seed}: a trace of {} lines", first.count);
    }
}
