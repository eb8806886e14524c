//! `kill -9` at random instants: nothing that was promised is lost, nothing comes out of order, everything opens.
//!
//! The process that is killed is this program again, running only `the_process_that_is_killed`. It says on its
//! standard output what it was promised. `KAFKA_BATCHER_KILLS` sets the number of runs, `KAFKA_BATCHER_SEED` the first seed.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{Rng, from_env, lane, name_of, named};
use kafka_batcher_core::{DeadLetter, EntryId, StoredBatch, TempStorage};
use kafka_batcher_storage_sled::{Durability, SledOptions, SledStorage};

const LANES: u32 = 4;
const FOLDER: &str = "KAFKA_BATCHER_KILL_FOLDER";
const NAME: &str = "KAFKA_BATCHER_KILL_NAME";
const CLOSE_AFTER: &str = "KAFKA_BATCHER_KILL_CLOSE_AFTER";

fn options(path: &Path) -> SledOptions {
    // Small generations, so that some are sealed, drained, merged and deleted meanwhile. What the operating system was
    // given survives the process at this level, too, and there is more to interrupt when nothing waits for the disk.
    SledOptions::new(path).quota(256 * common::MIB).generation_bytes(1_500_000).durability(Durability::Os)
}

fn say(line: String) {
    // One write a line: it is in the pipe, or it is not.
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

#[test]
fn the_process_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let run = std::env::var(NAME).unwrap();
    let close_after = from_env(CLOSE_AFTER, u64::MAX);
    let runtime = common::runtime();
    say("\nOPENING\n".to_owned());
    let storage = Arc::new(SledStorage::open(options(Path::new(&folder))).unwrap());
    say("OPEN\n".to_owned());
    let tasks: Vec<_> = (0..LANES)
        .map(|number| {
            let (storage, run) = (Arc::clone(&storage), run.clone());
            runtime.spawn(async move {
                let mut rng = Rng::new(u64::from(number) + 77);
                for n in 0..close_after {
                    let name = format!("{run}-{n}");
                    let len = rng.below(if n % 7 == 0 { 12_000 } else { 300 }) as usize;
                    say(format!("BEGIN {number} {name}\n"));
                    let entry = StoredBatch::new(named(&name, 2, len), false);
                    let id = storage.append(&lane(number), entry).await.unwrap();
                    say(format!("STORED {number} {name} {}\n", id.0));
                    if n % 5 == 0 {
                        storage.put(common::dead(&format!("{number}-{name}"))).await.unwrap();
                        say(format!("DEAD {number}-{name}\n"));
                    }
                    // Now and then all but the last few are delivered.
                    if rng.below(20) == 0 {
                        let upto = id.0.saturating_sub(rng.below(12));
                        say(format!("DELIVERED {number} {upto}\n"));
                        storage.acknowledge(&lane(number), EntryId(upto)).await.unwrap();
                        say(format!("ACKNOWLEDGED {number} {upto}\n"));
                    }
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    say("CLOSING\n".to_owned());
    drop(storage);
    say("CLOSED\n".to_owned());
}

#[derive(Default)]
struct Lane {
    stored: BTreeMap<u64, String>,
    /// Begun and not confirmed: may be there.
    begun: Vec<String>,
    delivered: u64,
    acknowledged: u64,
}

#[derive(Default)]
struct Ledger {
    lanes: BTreeMap<u32, Lane>,
    dead: Vec<String>,
}

impl Ledger {
    fn lane(&mut self, number: &str) -> &mut Lane {
        self.lanes.entry(number.parse().unwrap()).or_default()
    }

    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["BEGIN", number, name] => self.lane(number).begun.push(name.to_owned()),
            ["STORED", number, name, id] => {
                drop(self.lane(number).stored.insert(id.parse().unwrap(), name.to_owned()))
            }
            ["DELIVERED", number, upto] => {
                let lane = self.lane(number);
                lane.delivered = lane.delivered.max(upto.parse().unwrap());
            }
            ["ACKNOWLEDGED", number, upto] => {
                let lane = self.lane(number);
                lane.acknowledged = lane.acknowledged.max(upto.parse().unwrap());
            }
            ["DEAD", name] => self.dead.push(name.to_owned()),
            _ => {}
        }
    }

    async fn check(&mut self, storage: &SledStorage) {
        let recovery = storage.recovery();
        assert!(recovery.is_clean(), "{recovery:?}");
        for (number, expected) in &mut self.lanes {
            let found = common::all(storage, &lane(*number)).await;
            let usage = storage.lanes().await.unwrap();
            let usage = usage.iter().find(|usage| usage.id == lane(*number));
            assert_eq!(
                usage.map_or(0, |usage| usage.batches),
                found.len() as u64,
                "the count of lane {number}"
            );
            for (id, batch) in &found {
                let name = name_of(batch);
                assert!(id.0 > expected.acknowledged, "{name} of lane {number} comes again");
                match expected.stored.get(&id.0) {
                    Some(stored) => assert_eq!(*stored, name, "entry {id:?} of lane {number}"),
                    None => {
                        assert!(expected.begun.contains(&name), "{name} of lane {number} was never appended");
                        expected.stored.insert(id.0, name);
                    }
                }
            }
            for (id, name) in expected.stored.range(expected.delivered + 1..) {
                assert!(
                    found.iter().any(|(found, _)| found.0 == *id),
                    "lost: {name}, entry {id} of lane {number}"
                );
            }
            // What came after it was confirmed came later, run by run.
            let order: Vec<(u64, u64)> = expected
                .stored
                .values()
                .map(|name| {
                    let (run, n) = name.split_once('-').unwrap();
                    (run.parse().unwrap(), n.parse().unwrap())
                })
                .collect();
            assert!(order.is_sorted_by(|a, b| a < b), "lane {number} is out of order");
            expected.begun.clear();
        }
        let dead = common::dead_names(storage).await;
        for name in &self.dead {
            assert!(dead.contains(name), "the dead letter {name} is lost");
        }
    }
}

fn start(folder: &Path, run: u64, close_after: Option<u64>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_process_that_is_killed", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env(NAME, run.to_string());
    if let Some(close_after) = close_after {
        command.env(CLOSE_AFTER, close_after.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

#[test]
fn nothing_promised_is_lost_when_the_process_is_killed() {
    let runs = from_env("KAFKA_BATCHER_KILLS", 60);
    let seed = from_env("KAFKA_BATCHER_SEED", u64::from(std::process::id()));
    println!("{runs} kills, KAFKA_BATCHER_SEED={seed}");
    let mut rng = Rng::new(seed);
    let runtime = common::runtime();
    let mut folder = tempfile::tempdir().unwrap();
    let (mut ledger, mut stored) = (Ledger::default(), 0);
    for run in 0..runs {
        // A new spool now and then: the first moments of one are special.
        if run % 20 == 0 {
            folder = tempfile::tempdir().unwrap();
            ledger = Ledger::default();
        }
        // A third each: while it opens, while it works, about when it closes.
        let (wait_for, close_after, delay) = match rng.below(3) {
            0 => ("OPENING", None, rng.below(60_000)),
            1 => ("OPEN", None, rng.below(300_000)),
            _ => ("CLOSING", Some(rng.below(60)), rng.below(15_000)),
        };
        let mut child = start(folder.path(), run, close_after);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref() {
            let line = line.unwrap();
            ledger.hear(&line);
            if line == wait_for {
                break;
            }
        }
        // No waiting for something: this is the random instant.
        std::thread::sleep(Duration::from_micros(delay));
        child.kill().unwrap();
        for line in lines {
            // The last may be cut off by the kill, but a line is written by one call.
            ledger.hear(&line.unwrap());
        }
        child.wait().unwrap();
        let storage =
            SledStorage::open(options(folder.path())).unwrap_or_else(|error| panic!("run {run}: {error}"));
        runtime.block_on(ledger.check(&storage));
        stored = stored.max(ledger.lanes.values().map(|lane| lane.stored.len()).sum());
        drop(storage);
    }
    assert!(stored > 100, "only {stored} batches were ever stored: that tests nothing");
}
