//! Prometheus' own judgement of metrics and rules.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

/// Says what is missing on this machine.
pub(super) fn find() -> Result<()> {
    for program in ["prometheus", "promtool"] {
        let found = Command::new(program).arg("--version").stdin(Stdio::null()).output();
        if !found.is_ok_and(|output| output.status.success()) {
            return Err(Error::new(format!(
                "`{program}` is needed and not there: Debian and Ubuntu have both in the package `prometheus` (`apt-get install \
                 prometheus`; the service it brings is not used), others in the archive from prometheus.io"
            )));
        }
    }
    Ok(())
}

/// `promtool test rules` or `check rules`.
pub(super) fn rules(what: &str, file: &Path) -> Result<()> {
    run(Command::new("promtool").args([what, "rules"]).arg(file).stdin(Stdio::null()), "")
}

/// `promtool check metrics`, which has to find nothing.
pub(super) fn metrics(scrape: &str) -> Result<()> {
    run(Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()), scrape)
}

fn run(command: &mut Command, input: &str) -> Result<()> {
    let cannot = || "cannot run `promtool`";
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context(cannot)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).context(cannot)?;
    }
    let output = child.wait_with_output().context(cannot)?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Err(Error::new(format!("promtool finds: {}\n{}", text(&output.stdout), text(&output.stderr))))
}
