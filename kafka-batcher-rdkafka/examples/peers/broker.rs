//! The embedded broker in a process of its own, so that its CPU time is not the client's.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Ends when dropped.
#[derive(Debug)]
pub(crate) struct BrokerProcess {
    child: Child,
    pub(crate) bootstrap: String,
}

impl BrokerProcess {
    /// Starts `mock_broker`, the testkit's example, which is expected beside this program or where the environment
    /// variable `MOCK_BROKER` says.
    pub(crate) fn start(topic: &str, partitions: u32) -> Result<Self, Box<dyn Error>> {
        let program = match std::env::var_os("MOCK_BROKER") {
            Some(path) => PathBuf::from(path),
            None => std::env::current_exe()?.with_file_name("mock_broker"),
        };
        let mut child = Command::new(&program)
            .args(["--partitions", &partitions.to_string(), topic])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}; build it with `cargo build --release --package kafka-batcher-testkit --features embedded --example mock_broker`", program.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { child, bootstrap: line.trim().to_owned() })
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // the end of its input ends it
        drop(self.child.wait());
    }
}
