//! Running the rows: one cargo each, its output in a file of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::libtest::{self, Outcome, Skip};
use super::needs;
use super::rows::{Row, TESTKIT, What};
use crate::broker::{self, Session, security};
use crate::children::{self, End};
use crate::error::{Context, Result};
use crate::files;
use crate::workspace::Workspace;

/// How many lines of a failed row's log to show.
const TAIL: usize = 60;

#[derive(Debug)]
pub(crate) struct RowResult {
    pub(crate) row: Row,
    pub(crate) broker: String,
    pub(crate) outcome: Outcome,
    /// Why the row did not run at all.
    pub(crate) not_run: Option<String>,
    /// What is wrong with it beside tests that failed.
    pub(crate) trouble: Option<String>,
    pub(crate) time: Duration,
}

impl RowResult {
    pub(crate) fn is_good(&self) -> bool {
        self.trouble.is_none() && self.outcome.failed == 0
    }
}

pub(crate) struct Runner<'a> {
    workspace: &'a Workspace,
    session: Option<&'a Session>,
    broker: &'a str,
    vendored: bool,
    logs: PathBuf,
    timeout: Duration,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        workspace: &'a Workspace,
        session: Option<&'a Session>,
        broker: &'a str,
        vendored: bool,
    ) -> Result<Self> {
        let logs = workspace.target.join("test-matrix");
        files::create_dir_all(&logs)?;
        Ok(Self { workspace, session, broker, vendored, logs, timeout: Duration::MAX })
    }

    /// Longest time for a row.
    pub(crate) fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    pub(crate) fn run(&self, rows: Vec<Row>) -> Result<Vec<RowResult>> {
        let all = rows.len();
        let mut results = Vec::new();
        for (index, row) in rows.into_iter().enumerate() {
            if let Some(session) = self.session {
                session.mend()?;
            }
            eprint!("[{}/{all}] {} {} ... ", index + 1, row.what.name(), row.name());
            let log = self.log(&row);
            let result = self.run_row(row)?;
            eprintln!("{}", result.summary());
            if !result.is_good() {
                explain(&result, &log)?;
            }
            results.push(result);
        }
        Ok(results)
    }

    fn log(&self, row: &Row) -> PathBuf {
        let broker = if self.session.is_some() { format!("-{}", self.broker) } else { String::new() };
        self.logs.join(format!("{}{broker}.log", row.name()).replace([' ', ','], "-"))
    }

    fn run_row(&self, row: Row) -> Result<RowResult> {
        let broker = if row.wants_broker { self.broker.to_owned() } else { "-".to_owned() };
        let mut result = RowResult {
            broker,
            outcome: Outcome::default(),
            not_run: row.blocked.clone().or_else(|| needs::missing(&row.needs, self.vendored)),
            trouble: None,
            time: Duration::ZERO,
            row,
        };
        if let Some(reason) = &result.not_run {
            result.outcome.skips.push(Skip { test: "(the whole row)".to_owned(), reason: reason.clone() });
            return Ok(result);
        }
        let log = self.log(&result.row);
        let began = Instant::now();
        files::write(&log, "")?;
        let end = children::logged_for(&mut self.command(&result.row)?, &log, self.timeout)?;
        result.time = began.elapsed();
        if result.row.what == What::Test {
            let said = files::read_lossy(&log)?;
            result.outcome = libtest::parse(&said);
            result.trouble = trouble(&result.outcome, end == End::Success, &said);
        } else if end == End::Failure {
            result.trouble = Some("does not compile".to_owned());
        }
        if end == End::TimedOut {
            result.trouble = Some(format!("did not end within {} s", self.timeout.as_secs()));
        }
        // Whatever is wrong is counted.
        if result.trouble.is_some() && result.outcome.failed == 0 {
            result.outcome.failed = 1;
        }
        Ok(result)
    }

    fn command(&self, row: &Row) -> Result<Command> {
        let mut command = self.workspace.cargo();
        command.arg(row.what.name()).args(["--package", &row.package]).args(row.choice.arguments());
        if row.what == What::Test {
            command.args(row.tests.iter().flat_map(|test| ["--test", test]));
            // A test that passes says only there why it has skipped.
            command.args(["--no-fail-fast", "--", "--show-output"]);
        }
        // Tests that do little but wait for what is wrong on purpose, in the test kit hundreds of them.
        let is_testkit = row.package == TESTKIT;
        if (is_testkit || row.wants_broker) && std::env::var_os("RUST_TEST_THREADS").is_none() {
            command.env("RUST_TEST_THREADS", if is_testkit { "8" } else { "4" });
        }
        command.env("CARGO_TERM_COLOR", "never").env_remove(broker::CTL).env_remove(security::ROW);
        match self.session.map(Session::security) {
            Some(Some(file)) => command.env(security::FILE, file),
            // Without a session it may belong to the cluster that the user has named.
            None if broker::own_cluster().is_some() => &mut command,
            _ => command.env_remove(security::FILE),
        };
        if let Some(way) = &row.security {
            command.env(security::ROW, way);
        }
        if let Some(session) = self.session {
            command.env(broker::BOOTSTRAP, session.bootstrap());
            if session.nodes().is_some() {
                let this = std::env::current_exe().context(|| "cannot tell where this program is")?;
                command.env(broker::CTL, this);
            }
            if row.kills_brokers {
                // What one test kills, another may be using.
                command.arg("--test-threads=1");
            }
        }
        Ok(command)
    }
}

/// What is wrong with a run of tests beside those that failed.
fn trouble(outcome: &Outcome, success: bool, said: &str) -> Option<String> {
    if said.contains("\nerror: could not compile") {
        return Some("does not compile".to_owned());
    }
    if !success && outcome.failed == 0 {
        return Some("cargo failed without a test that did: a test program crashed, perhaps".to_owned());
    }
    if outcome.passed + outcome.failed == 0 && outcome.skips.is_empty() {
        return Some("ran no test".to_owned());
    }
    None
}

impl RowResult {
    fn summary(&self) -> String {
        let Outcome { passed, failed, skips, .. } = &self.outcome;
        let seconds = self.time.as_secs_f64();
        match (&self.not_run, self.row.what) {
            (Some(reason), _) => format!("skipped: {reason}"),
            (None, What::Check) => {
                format!("{} in {seconds:.1} s", if self.is_good() { "ok" } else { "FAILED" })
            }
            (None, What::Test) => {
                format!("{passed} passed, {failed} failed, {} skipped in {seconds:.1} s", skips.len())
            }
        }
    }
}

/// Shows what failed and the end of the log.
fn explain(result: &RowResult, log: &Path) -> Result<()> {
    let said = files::read_lossy(log)?;
    let lines: Vec<&str> = said.lines().collect();
    eprintln!("--- the end of {}", log.display());
    for line in &lines[lines.len().saturating_sub(TAIL)..] {
        eprintln!("{line}");
    }
    eprintln!("--- {} FAILED", result.row.name());
    if let Some(trouble) = &result.trouble {
        eprintln!("  {trouble}");
    }
    for name in &result.outcome.failures {
        eprintln!("  {name}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: u64, failed: u64) -> Outcome {
        Outcome { passed, failed, ..Outcome::default() }
    }

    #[test]
    fn a_run_is_good_only_if_tests_ran_and_cargo_agrees() {
        assert_eq!(trouble(&outcome(1, 0), true, ""), None);
        assert_eq!(trouble(&outcome(0, 0), true, "").as_deref(), Some("ran no test"));
        assert!(trouble(&outcome(3, 0), false, "").unwrap().contains("crashed"));
        // The count tells.
        assert_eq!(trouble(&outcome(3, 1), false, ""), None);
        let said = "   Compiling a\nerror: could not compile `a` (lib) due to 1 previous error\n";
        assert_eq!(trouble(&outcome(0, 0), false, said).as_deref(), Some("does not compile"));
    }
}
