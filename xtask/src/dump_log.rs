//! `cargo xtask dump-log-check`: has Kafka's own `DumpLogSegments` read batches that our encoder wrote.
//!
//! The core's example `write_segment` writes a segment of Kafka's log and prints what the reader has to print for it:
//! counts, sizes, sequences and `isvalid: true` (the checksum) of each batch; offset, timestamp, key, value and header
//! names of each record.

use std::process::{Command, ExitCode, Stdio};

use crate::broker;
use crate::error::{Context, Error, Result};
use crate::table::count;
use crate::workspace::Workspace;
use crate::{files, print};

const READER: &str = "kafka.tools.DumpLogSegments";
/// Differences to show; one wrong length changes all that follows.
const SHOWN: usize = 5;

pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let folder = workspace.target.join("dump-log-check");
    files::remove_dir_all(&folder)?;
    files::create_dir_all(&folder)?;
    let mut writer = workspace.cargo();
    writer.args(["run", "--quiet", "--package", "kafka-batcher-core", "--example", "write_segment", "--"]);
    let expected = output(writer.arg(&folder))?;

    let segment = folder.join("00000000000000000000.log");
    let mut reader = broker::java_tool(READER)?;
    reader.args(["--deep-iteration", "--print-data-log", "--files"]).arg(&segment);
    let found = output(&mut reader)?;

    let expected: Vec<&str> = expected.lines().collect();
    let found: Vec<&str> = found.lines().filter(|line| is_content(line)).collect();
    let batches = expected.iter().filter(|line| !is_record(line)).count() as u64;
    let records = expected.len() as u64 - batches;
    if batches == 0 || records == 0 {
        return Err(Error::new("`write_segment` wrote nothing"));
    }
    let differences = differences(&expected, &found);
    if differences.is_empty() {
        let records = count(records, "record");
        print(&format!(
            "dump-log-check: {READER} reads all {batches} batches with {records} as they were written\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    for difference in differences.iter().take(SHOWN) {
        eprintln!("{difference}");
    }
    eprintln!(
        "error: {READER} differs in {}; the segment is {}",
        count(differences.len() as u64, "line"),
        segment.display()
    );
    Ok(ExitCode::FAILURE)
}

/// What it prints, if it succeeds.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context(|| format!("cannot run `{program}`"))?;
    if !output.status.success() {
        return Err(Error::new(format!("`{program}` failed ({})", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The reader begins with the name of the file and the first offset.
fn is_content(line: &str) -> bool {
    !line.starts_with("Dumping ") && !line.starts_with("Log starting offset: ")
}

fn is_record(line: &str) -> bool {
    line.starts_with("| ")
}

fn differences(expected: &[&str], found: &[&str]) -> Vec<String> {
    let line = |lines: &[&str], index: usize| lines.get(index).map_or("(nothing)", |line| *line).to_owned();
    (0..expected.len().max(found.len()))
        .filter(|&index| expected.get(index) != found.get(index))
        .map(|index| format!("written: {}\nread:    {}", line(expected, index), line(found, index)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_to_be_the_same() {
        assert_eq!(differences(&["a", "b"], &["a", "b"]), Vec::<String>::new());
        assert_eq!(differences(&["a", "b"], &["a", "c"]), ["written: b\nread:    c"]);
        assert_eq!(differences(&["a"], &["a", "b"]), ["written: (nothing)\nread:    b"]);
        assert_eq!(differences(&["a"], &[]).len(), 1);
    }

    #[test]
    fn the_readers_heading_is_no_content() {
        assert!(!is_content("Dumping /w/0.log") && !is_content("Log starting offset: 0"));
        assert!(is_content("| offset: 0") && is_record("| offset: 0") && !is_record("baseOffset: 0"));
    }
}
