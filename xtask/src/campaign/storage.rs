//! Tests of kafka-batcher-storage-sled, told how often by the environment.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use super::{End, Name};
use crate::error::{Context, Error, Result};
use crate::workspace::Workspace;

const PACKAGE: &str = "kafka-batcher-storage-sled";

/// What to run, and how to tell it how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suite {
    /// The file of the tests.
    test: &'static str,
    /// What the tests' names contain.
    filter: &'static str,
    /// How many they are.
    tests: usize,
    variable: &'static str,
    /// How often, unless one is told.
    pub(super) runs: u64,
}

/// `None` for what is no test.
pub(super) const fn suite(name: Name) -> Option<Suite> {
    let (test, filter, tests, variable, runs) = match name {
        Name::Kills => ("kill", "nothing_promised_is_lost", 1, "KAFKA_BATCHER_KILLS", 1000),
        Name::PowerCuts => ("power_cut", "nothing_promised_is_lost", 1, "KAFKA_BATCHER_POWER_CUTS", 200),
        Name::Fills => ("full_disk", "costs_nothing_that_was_accepted", 2, "KAFKA_BATCHER_FILLS", 100),
        Name::Faults => ("faults", "whatever_fails_at_random", 1, "KAFKA_BATCHER_FAULTS", 2000),
        Name::Corruptions => {
            ("corruption", "damaged_files_are_survived", 1, "KAFKA_BATCHER_CORRUPTIONS", 10_000)
        }
        Name::Outage => return None,
    };
    Some(Suite { test, filter, tests, variable, runs })
}

impl Suite {
    pub(super) fn run(&self, workspace: &Workspace, profile: &str, runs: u64, seed: u64) -> Result<End> {
        let cargo = || {
            let mut cargo = workspace.cargo();
            cargo.args(["test", "--package", PACKAGE, "--test", self.test, "--profile", profile]);
            cargo
        };
        eprintln!("building the tests (profile {profile})");
        let status = cargo().arg("--no-run").status().context(|| "cannot run cargo")?;
        if !status.success() {
            return Err(Error::new(format!("building the tests failed ({status})")));
        }
        let began = Instant::now();
        let mut child = cargo()
            .args([self.filter, "--", "--nocapture", "--test-threads=1"])
            .env(self.variable, runs.to_string())
            .env("KAFKA_BATCHER_SEED", seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .context(|| "cannot run cargo")?;
        let stdout = child.stdout.take().ok_or_else(|| Error::new("cargo has no standard output"))?;
        let mut said = Vec::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.context(|| "cannot read what the tests print")?;
            eprintln!("{line}");
            said.push(line);
        }
        let status = child.wait().context(|| "cannot wait for cargo")?;
        let mut end = self.judge(runs, &said);
        if !status.success() {
            end.complaints.push(format!("the tests failed ({status})"));
        }
        end.seconds = began.elapsed().as_secs_f64();
        Ok(end)
    }

    /// A campaign that did not take place is no success, whatever the tests of it think.
    fn judge(&self, runs: u64, said: &[String]) -> End {
        let mut end = End::default();
        for line in said {
            // libtest begins the line, and the first that a test prints ends it.
            let text = line.rsplit(" ... ").next().unwrap_or(line);
            let number = format!("{runs} ");
            if text.starts_with("SKIPPED ") {
                end.complaints.push(text.to_owned());
            } else if text.starts_with(&number) && text.contains(": ") {
                end.sums.push(text.to_owned());
            }
        }
        if end.complaints.is_empty() && end.sums.len() != self.tests {
            end.complaints.push(format!("{} of {} tests came to an end", end.sums.len(), self.tests));
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(name: Name, said: &str) -> End {
        suite(name).unwrap().judge(5, &said.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_sums_are_what_the_tests_say_in_the_end() {
        let said = "\
running 1 test
test nothing ... 5 kills, KAFKA_BATCHER_SEED=3
5 kills: 1200 batches stored, 0 lost
ok
";
        let sums = vec!["5 kills: 1200 batches stored, 0 lost".to_owned()];
        assert_eq!(judge(Name::Kills, said), End { sums, ..End::default() });
        let fills =
            "test a ... 5 fills: 30 accepted, 0 lost\nok\ntest b ... 5 fills, failing: 3 accepted\nok\n";
        assert_eq!(judge(Name::Fills, fills).sums.len(), 2);
        assert_eq!(judge(Name::Fills, fills).complaints, [""; 0]);
    }

    #[test]
    fn what_was_skipped_or_did_not_end_is_no_success() {
        let skipped = judge(Name::PowerCuts, "test nothing ... SKIPPED nothing: no disk\nok\n");
        assert_eq!(skipped.complaints, ["SKIPPED nothing: no disk"]);
        assert_eq!(judge(Name::Kills, "running 0 tests\n").complaints, ["0 of 1 tests came to an end"]);
        let half = judge(Name::Fills, "test a ... 5 fills: 30 accepted, 0 lost\nok\n");
        assert_eq!(half.complaints, ["1 of 2 tests came to an end"]);
    }
}
