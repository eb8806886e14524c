//! What a build needs beside Rust, since librdkafka is compiled along: looking for it, and saying how to get it.

use std::process::{Command, Stdio};

use crate::error::{Error, Result};

const ADVICE: &str = "\
librdkafka, the C library under this, is compiled along and needs a C and a C++ compiler, make and bash:
  Debian, Ubuntu:  apt-get install build-essential
  Fedora:          dnf install gcc gcc-c++ make
  macOS:           xcode-select --install";

/// Fails unless there are compilers and make.
pub(crate) fn check() -> Result<()> {
    let missing: Vec<&str> = [
        ("C compiler", "CC", &["cc", "gcc", "clang"][..]),
        ("C++ compiler", "CXX", &["c++", "g++", "clang++"][..]),
        ("make", "MAKE", &["make"][..]),
        ("bash", "", &["bash"][..]),
    ]
    .into_iter()
    .filter(|(_, variable, programs)| !is_there(variable, programs))
    .map(|(what, _, _)| what)
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("there is no {}.\n{ADVICE}", missing.join(" and no "))))
}

/// Whether the program that the variable names, or one of these if it names none, runs.
fn is_there(variable: &str, programs: &[&str]) -> bool {
    match std::env::var(variable).ok().filter(|value| !value.trim().is_empty()) {
        // It may be a command with arguments, such as `ccache cc`.
        Some(command) => command.split_whitespace().next().is_some_and(runs),
        None => programs.iter().any(|program| runs(program)),
    }
}

/// Whether `PROGRAM --version` succeeds; macOS has a `cc` and a `make` that only say where to get one.
pub(crate) fn runs(program: &str) -> bool {
    succeeds(program, &["--version"])
}

pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_there_or_not() {
        assert!(runs("cargo"));
        assert!(!runs("no-such-program-anywhere"));
        assert!(is_there("", &["no-such-program-anywhere", "cargo"]));
        assert!(!is_there("", &["no-such-program-anywhere"]));
    }
}
