//! The results of a run as a table, and as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::libtest::Skip;
use super::rows::What;
use super::run::RowResult;
use super::stages::Stage;
use crate::error::{Context, Result};
use crate::files;
use crate::table::{Table, count};

/// The status of a row that did not run at all.
const SKIPPED: &str = "skipped";

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    rows: Vec<Line>,
    passed: u64,
    failed: u64,
    skipped: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Line {
    package: String,
    features: String,
    backend: String,
    broker: String,
    /// The way into the broker.
    security: String,
    what: &'static str,
    status: &'static str,
    passed: u64,
    failed: u64,
    skipped: u64,
    seconds: f64,
    failures: Vec<String>,
    skips: Vec<Skip>,
    trouble: Option<String>,
}

impl Report {
    pub(crate) fn new(results: &[RowResult]) -> Self {
        let rows: Vec<Line> = results.iter().map(Line::new).collect();
        let sum = |of: fn(&Line) -> u64| rows.iter().map(of).sum();
        Self {
            passed: sum(|line| line.passed),
            failed: sum(|line| line.failed),
            skipped: sum(|line| line.skipped),
            seconds: rows.iter().map(|line| line.seconds).sum(),
            rows,
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0
    }

    pub(crate) fn write_json(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context(|| "cannot write JSON")?;
        files::write(file, &(text + "\n"))
    }

    pub(crate) fn render(&self) -> String {
        let mut table = Table::new(&[
            "crate", "features", "backend", "broker", "security", "what", "pass", "fail", "skip", "time",
            "status",
        ]);
        for line in &self.rows {
            let number = |number: u64| if number == 0 { "-".to_owned() } else { number.to_string() };
            table.row(&[
                &line.package,
                &line.features,
                &line.backend,
                &line.broker,
                &line.security,
                line.what,
                &number(line.passed),
                &number(line.failed),
                &number(line.skipped),
                &format!("{:.1} s", line.seconds),
                line.status,
            ]);
        }
        table.line();
        let status = if self.is_good() { "ok" } else { "FAILED" };
        let (passed, failed, skipped) = (self.passed, self.failed, self.skipped);
        let time = format!("{:.1} s", self.seconds);
        let rows = count(self.rows.len() as u64, "row");
        table.row(&[
            "total",
            &rows,
            "",
            "",
            "",
            "",
            &passed.to_string(),
            &failed.to_string(),
            &skipped.to_string(),
            &time,
            status,
        ]);

        let mut text = table.render();
        if self.rows.iter().any(|line| line.what == What::Check.name()) {
            text.push_str(
                "\ncheck: only compiled. The tests would be the same ones, over code that other rows test.\n",
            );
        }
        self.render_skips(&mut text);
        self.render_failures(&mut text);
        text.push_str(&format!("\n{passed} passed, {failed} failed, {skipped} skipped\n"));
        text
    }

    /// By reason, as most tests that skip do it for the same one, and in several rows.
    fn render_skips(&self, text: &mut String) {
        let mut reasons: Vec<(&str, BTreeMap<String, u64>)> = Vec::new();
        for line in &self.rows {
            for skip in &line.skips {
                // A row that was skipped as a whole is told from others by its features.
                let whole = line.status == SKIPPED;
                let test = if whole { &line.features } else { &skip.test };
                let test = format!("{} {test}", line.package);
                let known = reasons.iter().position(|(reason, _)| *reason == skip.reason);
                let known = known.unwrap_or_else(|| {
                    reasons.push((&skip.reason, BTreeMap::new()));
                    reasons.len() - 1
                });
                *reasons[known].1.entry(test).or_default() += 1;
            }
        }
        if !reasons.is_empty() {
            text.push_str("\nskipped:\n");
        }
        for (reason, tests) in reasons {
            text.push_str(&format!("  {reason}\n"));
            for (test, rows) in tests {
                let rows = if rows == 1 { String::new() } else { format!(" ({rows} rows)") };
                text.push_str(&format!("    {test}{rows}\n"));
            }
        }
    }

    fn render_failures(&self, text: &mut String) {
        let mut heading = "\nfailed:\n";
        for line in &self.rows {
            for failure in line.failures.iter().chain(&line.trouble) {
                text.push_str(heading);
                heading = "";
                let Line { package, features, broker, security, .. } = line;
                let way = if broker == "-" { String::new() } else { format!(" ({broker}, {security})") };
                text.push_str(&format!("  {package} {features}{way}: {failure}\n"));
            }
        }
    }
}

impl Line {
    fn new(result: &RowResult) -> Self {
        let outcome = &result.outcome;
        let status = match (&result.not_run, result.is_good()) {
            (Some(_), _) => SKIPPED,
            (None, true) => "ok",
            (None, false) => "FAILED",
        };
        Self {
            package: result.row.package.clone(),
            features: result.row.choice.label(),
            backend: result.row.backend.clone(),
            broker: result.broker.clone(),
            security: way_in(&result.broker, result.row.security.as_deref()),
            what: result.row.what.name(),
            status,
            passed: outcome.passed,
            failed: outcome.failed,
            skipped: outcome.skips.len() as u64,
            seconds: result.time.as_secs_f64(),
            failures: outcome.failures.clone(),
            skips: outcome.skips.clone(),
            trouble: result.trouble.clone(),
        }
    }
}

fn way_in(broker: &str, security: Option<&str>) -> String {
    if broker == "-" { "-" } else { security.unwrap_or("plaintext") }.to_owned()
}

/// The rows without results.
pub(crate) fn list(stages: &[Stage]) -> String {
    let mut table = Table::new(&["crate", "features", "backend", "broker", "security", "what"]);
    for Stage { label, rows, .. } in stages {
        for row in rows {
            let broker = if row.wants_broker { label } else { "-" };
            let way = way_in(broker, row.security.as_deref());
            table.row(&[&row.package, &row.choice.label(), &row.backend, broker, &way, row.what.name()]);
        }
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::matrix::features::Choice;
    use crate::matrix::libtest::Outcome;
    use crate::matrix::rows::Row;

    fn result(what: What, outcome: Outcome, not_run: Option<&str>) -> RowResult {
        RowResult {
            row: Row {
                package: "a".into(),
                choice: Choice::Default,
                what,
                backend: "-".into(),
                wants_broker: false,
                kills_brokers: false,
                security: None,
                tests: vec![],
                blocked: None,
                needs: vec![],
            },
            broker: "-".into(),
            outcome,
            not_run: not_run.map(str::to_owned),
            trouble: None,
            time: Duration::from_millis(1500),
        }
    }

    #[test]
    fn the_table_adds_up_and_the_last_line_is_plain() {
        let skip = Skip { test: "t".into(), reason: "no broker".into() };
        let report = Report::new(&[
            result(What::Test, Outcome { passed: 3, skips: vec![skip.clone()], ..Outcome::default() }, None),
            result(What::Test, Outcome { skips: vec![skip.clone()], ..Outcome::default() }, None),
            result(What::Check, Outcome::default(), None),
            result(What::Check, Outcome { skips: vec![skip], ..Outcome::default() }, Some("no broker")),
        ]);
        assert!(report.is_good());
        let text = report.render();
        assert!(text.contains("skipped:\n  no broker\n    a default\n    a t (2 rows)\n"), "{text}");
        assert!(text.contains("total  4 rows"), "{text}");
        assert!(text.ends_with("\n3 passed, 0 failed, 3 skipped\n"), "{text}");
    }

    #[test]
    fn a_failure_is_named_and_makes_the_report_bad() {
        let outcome = Outcome { passed: 3, failed: 1, failures: vec!["b::c".into()], ..Outcome::default() };
        let report = Report::new(&[result(What::Test, outcome, None)]);
        assert!(!report.is_good());
        assert!(report.render().contains("failed:\n  a default: b::c\n"), "{}", report.render());
    }

    #[test]
    fn a_failure_on_a_secured_broker_says_which_way_in_it_was() {
        let outcome = Outcome { passed: 3, failed: 1, failures: vec!["c".into()], ..Outcome::default() };
        let mut result = result(What::Test, outcome, None);
        result.broker = "kafka x3".into();
        result.row.security = Some("scram_sha_512".into());
        let text = Report::new(&[result]).render();
        assert!(text.contains("failed:\n  a default (kafka x3, scram_sha_512): c\n"), "{text}");
    }
}
