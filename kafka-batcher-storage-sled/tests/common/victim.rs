//! A process that uses a spool until it is killed, and what it was promised until then.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use kafka_batcher_core::{DeadLetter, EntryId, StoredBatch, TempStorage};
use kafka_batcher_storage_sled::{Durability, SledOptions, SledStorage};

use super::{MIB, Rng, all, dead, dead_names, from_env, lane, name_of, named, runtime};

const LANES: u32 = 4;
const FOLDER: &str = "KAFKA_BATCHER_VICTIM_FOLDER";
const NAME: &str = "KAFKA_BATCHER_VICTIM_NAME";
const LEVEL: &str = "KAFKA_BATCHER_VICTIM_LEVEL";
const CLOSE_AFTER: &str = "KAFKA_BATCHER_VICTIM_CLOSE_AFTER";

/// Small generations, so that some are sealed, drained, merged and deleted meanwhile.
pub(crate) fn options(path: &Path, level: Durability) -> SledOptions {
    SledOptions::new(path).quota(256 * MIB).generation_bytes(1_500_000).durability(level)
}

fn level() -> Durability {
    if std::env::var(LEVEL).is_ok_and(|level| level == "Disk") { Durability::Disk } else { Durability::Os }
}

/// What ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Process,
    Power,
}

fn say(line: String) {
    // One write a line: it is in the pipe, or it is not.
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// What the process does that is killed: fills a spool with all its might and says what it was promised.
pub(crate) fn work() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let run = std::env::var(NAME).unwrap();
    let close_after = from_env(CLOSE_AFTER, u64::MAX);
    let runtime = runtime();
    say("\nOPENING\n".to_owned());
    let storage = Arc::new(SledStorage::open(options(Path::new(&folder), level())).unwrap());
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
                        storage.put(dead(&format!("{number}-{name}"))).await.unwrap();
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

/// When a process is ended: so many microseconds after it has said this.
pub(crate) struct Moment {
    said: &'static str,
    close_after: Option<u64>,
    pub(crate) delay: u64,
}

impl Moment {
    /// A third each: while it opens, while it works, about when it closes.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let (said, close_after, delay) = match rng.below(3) {
            0 => ("OPENING", None, rng.below(60_000)),
            1 => ("OPEN", None, rng.below(300_000)),
            _ => ("CLOSING", Some(rng.below(60)), rng.below(15_000)),
        };
        Self { said, close_after, delay }
    }
}

/// A process that works on a spool: this program again, running only the test `the_process_that_is_killed`.
pub(crate) struct Victim {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    pub(crate) fn start(folder: &Path, level: Durability, run: u64, moment: &Moment) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_process_that_is_killed", "--nocapture", "--test-threads=1"]);
        command.env(FOLDER, folder).env(NAME, run.to_string()).env(LEVEL, format!("{level:?}"));
        if let Some(close_after) = moment.close_after {
            command.env(CLOSE_AFTER, close_after.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Listens until the moment has come.
    pub(crate) fn wait_for(&mut self, moment: &Moment, ledger: &mut Ledger) {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            ledger.hear(&line);
            if line == moment.said {
                break;
            }
        }
        // No waiting for something: this is the random instant.
        std::thread::sleep(std::time::Duration::from_micros(moment.delay));
    }

    /// Kills it, and hears what it said until then.
    pub(crate) fn kill(mut self, ledger: &mut Ledger) {
        self.child.kill().unwrap();
        for line in self.lines {
            // The last may be cut off by the kill, but a line is written by one call.
            ledger.hear(&line.unwrap());
        }
        self.child.wait().unwrap();
    }
}

#[derive(Default)]
pub(crate) struct Lane {
    stored: BTreeMap<u64, String>,
    /// Begun and not confirmed: may be there.
    begun: Vec<String>,
    delivered: u64,
    acknowledged: u64,
}

#[derive(Default)]
pub(crate) struct Ledger {
    lanes: BTreeMap<u32, Lane>,
    dead: Vec<String>,
}

impl Ledger {
    fn lane(&mut self, number: &str) -> &mut Lane {
        self.lanes.entry(number.parse().unwrap()).or_default()
    }

    pub(crate) fn hear(&mut self, line: &str) {
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

    pub(crate) async fn check(&mut self, storage: &SledStorage, cut: Cut) {
        let recovery = storage.recovery();
        assert!(recovery.is_clean(), "{recovery:?}");
        for (number, expected) in &mut self.lanes {
            let found = all(storage, &lane(*number)).await;
            let usage = storage.lanes().await.unwrap();
            let usage = usage.iter().find(|usage| usage.id == lane(*number));
            assert_eq!(
                usage.map_or(0, |usage| usage.batches),
                found.len() as u64,
                "the count of lane {number}"
            );
            for (id, batch) in &found {
                let name = name_of(batch);
                if cut == Cut::Power {
                    // Acknowledgements are forced to the disk only with what is appended next.
                    expected.acknowledged = expected.acknowledged.min(id.0 - 1);
                }
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
        let dead = dead_names(storage).await;
        for name in &self.dead {
            assert!(dead.contains(name), "the dead letter {name} is lost");
        }
    }
}

impl Ledger {
    /// After a power cut at a level that does not survive it: what is there was put there, in this order; the rest is gone, and
    /// forgotten. How many batches.
    pub(crate) async fn check_what_is_left(&mut self, storage: &SledStorage) -> u64 {
        let mut lost = 0;
        for (number, expected) in &mut self.lanes {
            let mut left = BTreeMap::new();
            for (id, batch) in all(storage, &lane(*number)).await {
                let name = name_of(&batch);
                match expected.stored.get(&id.0) {
                    Some(stored) => assert_eq!(*stored, name, "entry {id:?} of lane {number}"),
                    None => {
                        assert!(expected.begun.contains(&name), "{name} of lane {number} was never appended")
                    }
                }
                left.insert(id.0, name);
            }
            lost += expected
                .stored
                .range(expected.delivered + 1..)
                .filter(|(id, _)| !left.contains_key(id))
                .count();
            *expected = Lane { stored: left, ..Lane::default() };
        }
        let dead = dead_names(storage).await;
        self.dead.retain(|name| dead.contains(name));
        lost as u64
    }

    /// How many batches it knows to be, or to have been, stored.
    pub(crate) fn stored(&self) -> usize {
        self.lanes.values().map(|lane| lane.stored.len()).sum()
    }
}
