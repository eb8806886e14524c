//! Runs the real program and reads back what it sent.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kafka_batcher_testkit::embedded::EmbeddedBroker;
use kafka_batcher_testkit::reader::{ReadRecord, read_topic};
use tokio::net::TcpSocket;

/// The committed sample of real flights.
pub(crate) const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights-sample.ndjson");
/// Longest time anything here may take; far more than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Name of the topic.
pub(crate) const TOPIC: &str = "flights";

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The number behind `what` in the final report, or in the demo's table.
    pub(crate) fn reported(&self, what: &str) -> u64 {
        let line = self
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("  ")?.strip_prefix(what)?.strip_prefix(' '));
        let number = line.and_then(|line| line.split_whitespace().next());
        let number = number.unwrap_or_else(|| panic!("no `{what}` in the report: {self:?}"));
        number.replace(',', "").parse().unwrap_or_else(|_| panic!("`{what}` is no number: {self:?}"))
    }
}

/// The program, running.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    /// What it has written to its standard error so far.
    messages: Arc<Mutex<Vec<u8>>>,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_and_read(args, u64::MAX)
    }

    /// Reads no more than so many bytes of its standard output, and closes it.
    pub(crate) fn start_and_read(args: &[&str], bytes: u64) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kafka-batcher"))
            .args(args)
            .env_remove("KAFKA_BATCHER_BOOTSTRAP")
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(|stream| read_some(stream, bytes));
        let messages = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().map(|stream| keep_all(stream, Arc::clone(&messages)));
        Self { child, stdin, stdout, stderr, messages }
    }

    /// The first line of its standard error with this in it, once there is one.
    pub(crate) fn says(&self, what: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let messages = String::from_utf8_lossy(&self.messages.lock().unwrap()).into_owned();
            let mut lines = messages.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(line) = lines.find(|line| line.contains(what)) {
                return line.trim_end().to_owned();
            }
            assert!(Instant::now() < deadline, "it does not say `{what}`: {messages}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where it says it listens.
    pub(crate) fn address(&self) -> String {
        self.says("http://").split_once("http://").unwrap().1.to_owned()
    }

    /// Writes to its standard input.
    pub(crate) fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                panic!("it did not end within {PATIENCE:?}: {}", self.stderr.take().unwrap().join().unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = |stream: &mut Option<JoinHandle<String>>| stream.take().unwrap().join().unwrap();
        let stdout = text(&mut self.stdout);
        let stderr = text(&mut self.stderr);
        Ended { code: status.code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only if a test failed before it ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn keep_all(mut stream: impl Read + Send + 'static, to: Arc<Mutex<Vec<u8>>>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        loop {
            let read = stream.read(&mut piece).unwrap();
            let mut kept = to.lock().unwrap();
            if read == 0 {
                return String::from_utf8_lossy(&kept).into_owned();
            }
            kept.extend_from_slice(&piece[..read]);
        }
    })
}

fn read_some(stream: impl Read + Send + 'static, most: u64) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.take(most).read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs the program to its end with this on its standard input.
pub(crate) fn run(args: &[&str], stdin: &str) -> Ended {
    let mut running = Running::start(args);
    // It may well end without reading.
    running.stdin.as_mut().unwrap().write_all(stdin.as_bytes()).ok();
    running.close_stdin();
    running.end()
}

/// An embedded broker with an empty topic.
pub(crate) fn broker(partitions: u32) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start(1).unwrap();
    broker.create_topic(TOPIC, partitions).unwrap();
    broker
}

/// Everything in the topic.
pub(crate) fn read(bootstrap: &str, topic: &str) -> Vec<ReadRecord> {
    read_topic(bootstrap, topic, PATIENCE).unwrap()
}

/// Everything in the topic, once there are so many.
pub(crate) fn read_when(bootstrap: &str, count: usize) -> Vec<ReadRecord> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let records = read(bootstrap, TOPIC);
        if records.len() >= count {
            return records;
        }
        assert!(Instant::now() < deadline, "only {} of {count} records arrived", records.len());
    }
}

pub(crate) fn values(records: &[ReadRecord]) -> Vec<String> {
    let mut values: Vec<_> = records.iter().map(|r| text(&r.value).unwrap_or_default()).collect();
    values.sort();
    values
}

pub(crate) fn text(bytes: &Option<Vec<u8>>) -> Option<String> {
    bytes.as_ref().map(|bytes| String::from_utf8(bytes.clone()).unwrap())
}

/// A file with this content.
pub(crate) fn file(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_ref()).unwrap();
    file
}

/// What a path is answered with: status and body.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The value of a series of the topic; `None` when there is none.
pub(crate) fn value(address: &str, series: &str) -> Option<f64> {
    let (status, body) = get(address, "/metrics");
    assert_eq!(status, 200);
    let line = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// An address where nobody listens, nor will as long as the socket is there, which is bound to it.
pub(crate) fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// Waits for it.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
