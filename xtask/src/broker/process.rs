//! Looking at processes and signalling them, without unsafe code: `/proc` where there is one, `ps` elsewhere.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};

/// A process has no arguments for a moment while it starts (its parent is let go before they are in place) and while it
/// ends, and must be taken for neither another one nor a dead one then. Only kernel threads go without for longer.
const NAMELESS_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// By SIGSTOP: its sockets still accept, and nobody answers.
    Stopped,
    Dead,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
        }
    }

    /// From the letter that `/proc/PID/status` and `ps` agree on.
    fn from_letter(letter: char) -> Self {
        match letter {
            'T' | 't' => Self::Stopped,
            // Killed, but not yet reaped by whoever is its parent now.
            'Z' | 'X' | 'x' => Self::Dead,
            _ => Self::Running,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) state: State,
    pub(crate) rss_kib: u64,
    /// Arguments, separated by spaces.
    pub(crate) command: String,
}

/// The process of this id, if there is one.
pub(crate) fn find(pid: u32) -> Option<Process> {
    if !Path::new("/proc/self/status").exists() {
        return find_with_ps(pid);
    }
    let folder = Path::new("/proc").join(pid.to_string());
    let give_up = Instant::now() + NAMELESS_TIMEOUT;
    loop {
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let arguments = fs::read(folder.join("cmdline")).ok()?;
        let found = parse_proc(&status, &arguments)?;
        if !found.command.is_empty() || found.state == State::Dead || Instant::now() > give_up {
            return Some(found);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn find_with_ps(pid: u32) -> Option<Process> {
    let output = Command::new("ps")
        .args(["-ww", "-o", "stat=,rss=,command=", "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    parse_ps(&String::from_utf8_lossy(&output.stdout))
}

fn parse_proc(status: &str, arguments: &[u8]) -> Option<Process> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let state = State::from_letter(field("State:")?.chars().next()?);
    // A zombie has none.
    let rss = field("VmRSS:").and_then(|text| text.split_whitespace().next());
    let command = String::from_utf8_lossy(arguments).trim_end_matches('\0').replace('\0', " ");
    Some(Process { state, rss_kib: rss.and_then(|number| number.parse().ok()).unwrap_or(0), command })
}

fn parse_ps(output: &str) -> Option<Process> {
    let line = output.lines().next()?.trim_start();
    let (letters, rest) = line.split_once(char::is_whitespace)?;
    let (rss, command) = rest.trim_start().split_once(char::is_whitespace)?;
    Some(Process {
        state: State::from_letter(letters.chars().next()?),
        rss_kib: rss.parse().ok()?,
        command: command.trim().to_owned(),
    })
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    Term,
    Kill,
    Stop,
    Cont,
}

pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let name = match signal {
        Signal::Term => "TERM",
        Signal::Kill => "KILL",
        Signal::Stop => "STOP",
        Signal::Cont => "CONT",
    };
    // The shell's own `kill`: a program of that name is not on every slim image.
    let output = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()])
        .stdin(Stdio::null())
        .output()
        .context(|| "cannot run `sh`")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("cannot send SIG{name} to process {pid}: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let status =
            "Name:\tjava\nUmask:\t0022\nState:\tT (stopped)\nPid:\t42\nVmRSS:\t  350124 kB\nThreads:\t90\n";
        let process = parse_proc(status, b"java\0-Xmx384m\0kafka.Kafka\0server.properties\0").unwrap();
        assert_eq!(process.state, State::Stopped);
        assert_eq!(process.rss_kib, 350_124);
        assert_eq!(process.command, "java -Xmx384m kafka.Kafka server.properties");
    }

    #[test]
    fn a_zombie_is_dead() {
        let process = parse_proc("Name:\tjava\nState:\tZ (zombie)\n", b"").unwrap();
        assert_eq!(process, Process { state: State::Dead, rss_kib: 0, command: String::new() });
        assert_eq!(parse_ps("Z+       0 (java)\n").unwrap().state, State::Dead);
    }

    #[test]
    fn ps_output_is_read() {
        let process =
            parse_ps("  Ss   350124 /usr/bin/java -Xmx384m kafka.Kafka server.properties\n").unwrap();
        assert_eq!(process.state, State::Running);
        assert_eq!(process.rss_kib, 350_124);
        assert_eq!(process.command, "/usr/bin/java -Xmx384m kafka.Kafka server.properties");
        assert_eq!(parse_ps("T 1 java").unwrap().state, State::Stopped);
        assert_eq!(parse_ps(""), None);
        assert_eq!(parse_ps("error: no such option"), None);
    }

    #[test]
    fn this_process_is_found() {
        assert_eq!(find(std::process::id()).unwrap().state, State::Running);
    }

    #[test]
    fn a_process_is_known_by_its_arguments_from_its_first_moment_and_dead_once_killed() {
        for _ in 0..50 {
            let mut child = Command::new("sleep").arg("60").spawn().unwrap();
            let found = find(child.id());
            signal(child.id(), Signal::Kill).unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            // Not reaped before the end, so that its id stays its own.
            while find(child.id()).unwrap().state != State::Dead {
                assert!(Instant::now() < deadline);
            }
            child.wait().unwrap();
            assert!(found.unwrap().command.ends_with("sleep 60"));
        }
    }
}
