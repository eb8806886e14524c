//! Programs that are run with their output in a file, and ended with all their descendants when they take too long.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::process::{Signal, signal};
use crate::error::{Context, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Failure,
    TimedOut,
}

/// Runs it to its end, its output appended to the log.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<End> {
    logged_for(command, log, Duration::MAX)
}

/// The same, for so long at most.
pub(crate) fn logged_for(command: &mut Command, log: &Path, patience: Duration) -> Result<End> {
    let cannot = || format!("cannot write {}", log.display());
    let output = OpenOptions::new().create(true).append(true).open(log).context(cannot)?;
    let again = output.try_clone().context(cannot)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(again)
        .spawn()
        .context(|| format!("cannot run `{program}`"))?;
    wait(&mut child, patience)
}

/// What the program says, line by line, as it says it.
pub(crate) fn lines<T: Send + 'static>(
    stdout: ChildStdout,
    heard: impl Fn(String) -> T + Send + 'static,
) -> mpsc::Receiver<T> {
    let (said, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
            if said.send(heard(line)).is_err() {
                return;
            }
        }
    });
    lines
}

/// Waits for the child so long at most, and then ends it.
pub(crate) fn wait(child: &mut Child, patience: Duration) -> Result<End> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context(|| "cannot wait for a child")? {
            return Ok(if status.success() { End::Success } else { End::Failure });
        }
        if began.elapsed() > patience {
            end(child)?;
            return Ok(End::TimedOut);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Kills the child and all that it has started; a group of their own would keep Ctrl-C from them.
fn end(child: &mut Child) -> Result<()> {
    let mut doomed = vec![child.id()];
    let parents = parents();
    let mut next = 0;
    while let Some(&parent) = doomed.get(next) {
        doomed.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    for pid in doomed {
        // It may have ended by itself meanwhile.
        signal(pid, Signal::Kill).unwrap_or_default();
    }
    child.wait().context(|| "cannot wait for a child")?;
    Ok(())
}

/// Every process with its parent; of `/proc` where there is one, of `ps` elsewhere.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc").map(|entries| entries.flatten().collect::<Vec<_>>()) else {
        let ps = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).stdin(Stdio::null()).output();
        return ps.map(|output| parse_ps(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default();
    };
    let numbers = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter_map(|pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Some((pid, parent.trim().parse().ok()?))
        })
        .collect()
}

fn parse_ps(output: &str) -> Vec<(u32, u32)> {
    let pair = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    output.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_well_or_not() {
        let run = |script: &str| {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            wait(&mut child, Duration::from_secs(60)).unwrap()
        };
        assert_eq!(run("exit 0"), End::Success);
        assert_eq!(run("exit 3"), End::Failure);
    }

    #[test]
    fn a_child_that_takes_too_long_is_ended_with_its_own_children() {
        let mut child = Command::new("sh").args(["-c", "sleep 77 & wait"]).spawn().unwrap();
        let id = child.id();
        let began = Instant::now();
        let grandchild = loop {
            if let Some((pid, _)) = parents().into_iter().find(|(_, parent)| *parent == id) {
                break pid;
            }
            assert!(began.elapsed() < Duration::from_secs(10));
        };
        assert_eq!(wait(&mut child, Duration::from_millis(50)).unwrap(), End::TimedOut);
        let deadline = Instant::now() + Duration::from_secs(10);
        use crate::broker::process::{State, find};
        while find(grandchild).is_some_and(|process| process.state != State::Dead) {
            assert!(Instant::now() < deadline, "the grandchild lives on");
        }
    }

    #[test]
    fn the_output_of_ps_is_read() {
        assert_eq!(parse_ps("    1     0\n   42     1\nodd\n"), [(1, 0), (42, 1)]);
    }
}
