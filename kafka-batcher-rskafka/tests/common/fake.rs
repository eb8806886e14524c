//! A broker that speaks just enough Kafka for one topic, `t` with one partition, and answers as it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the broker does with a produce request.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Error code (0 for success), throttle time in milliseconds.
    Code(i16, i32),
    /// Nothing, ever.
    Silence,
    /// The connection is closed.
    Hangup,
}

/// How the broker treats those who log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// Lets everybody in.
    Open,
    /// Offers PLAIN and takes no password.
    Denies,
    /// Offers nothing but GSSAPI.
    OffersOther,
    /// Takes any password. Topics other than `t` are not listed; asked to create one or about one by name, it answers
    /// with these codes.
    Takes(i16, i16),
}

struct State {
    address: String,
    login: Login,
    /// Answers of the next produce requests; the last one stays.
    answers: Mutex<Vec<Answer>>,
    produced: AtomicUsize,
    connections: AtomicUsize,
    lists: AtomicUsize,
    /// No byte is read while this holds.
    deaf: AtomicBool,
    /// Requests that stayed incomplete.
    torn: AtomicUsize,
    /// Partitions of topics it was asked to create.
    created: Mutex<Vec<i32>>,
}

pub struct FakeBroker(Arc<State>);

impl FakeBroker {
    pub fn start(login: Login, answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            address: listener.local_addr().unwrap().to_string(),
            login,
            answers: Mutex::new(answers.iter().rev().copied().collect()),
            produced: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
            torn: AtomicUsize::new(0),
            created: Mutex::default(),
        });
        let broker = Self(Arc::clone(&state));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (mut connection, state) = (connection.unwrap(), Arc::clone(&state));
                connection.set_nodelay(true).unwrap();
                std::thread::spawn(move || {
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    while state.serve(&mut connection).is_ok() {}
                    drop(connection.shutdown(Shutdown::Both));
                    state.connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        broker
    }

    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// Produce requests that arrived completely.
    pub fn produced(&self) -> usize {
        self.0.produced.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::SeqCst)
    }

    /// Times all topics were listed.
    pub fn lists(&self) -> usize {
        self.0.lists.load(Ordering::SeqCst)
    }

    /// Requests that began to arrive and never ended.
    pub fn torn(&self) -> usize {
        self.0.torn.load(Ordering::SeqCst)
    }

    /// How many partitions the topics should have had that it was asked to create.
    pub fn created(&self) -> Vec<i32> {
        self.0.created.lock().unwrap().clone()
    }

    /// Reads nothing any more, or reads again.
    pub fn set_deaf(&self, deaf: bool) {
        self.0.deaf.store(deaf, Ordering::SeqCst);
    }
}

impl State {
    fn serve(&self, connection: &mut TcpStream) -> std::io::Result<()> {
        let mut size = [0; 4];
        self.listen();
        connection.read_exact(&mut size)?;
        let mut request = vec![0; u32::from_be_bytes(size) as usize];
        for part in request.chunks_mut(1 << 16) {
            self.listen();
            if let Err(error) = connection.read_exact(part) {
                self.torn.fetch_add(1, Ordering::SeqCst);
                return Err(error);
            }
        }
        let (key, version) = (request[1], request[3]);
        let mut answer = request[4..8].to_vec(); // the correlation id
        match key {
            // ApiVersions: first an answer of version 0 to the newer question (error 35), then the versions there are.
            18 => {
                let versions = [(0, 3, 3), (3, 1, 1), (17, 1, 1), (18, 0, 0), (19, 1, 1), (36, 0, 0)];
                answer.extend([0, if version > 0 { 35 } else { 0 }, 0, 0, 0, versions.len() as u8]);
                for (key, min, max) in versions {
                    answer.extend([0, key, 0, min, 0, max]);
                }
            }
            17 if self.login == Login::OffersOther => answer.extend(b"\0\x21\0\0\0\x01\0\x06GSSAPI"), // error 33
            17 => answer.extend(b"\0\0\0\0\0\x01\0\x05PLAIN"),
            36 if matches!(self.login, Login::Takes(..)) => answer.extend(b"\0\0\xff\xff\0\0\0\0"),
            36 => answer.extend(b"\0\x3a\0\x0ago away 42\0\0\0\0"), // SaslAuthenticate: error 58
            3 => {
                let after_client_id = 10 + usize::from(u16::from_be_bytes([request[8], request[9]]));
                let names = &request[after_client_id..];
                match self.login {
                    // One topic, with a name of less than 256 bytes.
                    Login::Takes(_, code)
                        if names.starts_with(b"\0\0\0\x01") && names[4..] != *b"\0\x01t" =>
                    {
                        answer.extend(self.brokers());
                        answer.extend(b"\0\0\0\x01");
                        answer.extend(code.to_be_bytes());
                        answer.extend(&names[4..]);
                        answer.extend(b"\0\0\0\0\0"); // not internal, no partitions
                    }
                    _ => {
                        let all = names.starts_with(b"\xff\xff\xff\xff");
                        self.lists.fetch_add(usize::from(all), Ordering::SeqCst);
                        answer.extend(self.metadata());
                    }
                }
            }
            // CreateTopics: the one topic's name follows the number of topics.
            19 => {
                let at = 14 + usize::from(u16::from_be_bytes([request[8], request[9]]));
                let end = at + 2 + usize::from(u16::from_be_bytes([request[at], request[at + 1]]));
                let code = if let Login::Takes(code, _) = self.login { code } else { 0 };
                answer.extend(b"\0\0\0\x01");
                answer.extend(&request[at..end]);
                answer.extend(code.to_be_bytes());
                answer.extend(b"\xff\xff"); // no message
                self.created
                    .lock()
                    .unwrap()
                    .push(i32::from_be_bytes(request[end..end + 4].try_into().unwrap()));
            }
            0 => {
                self.produced.fetch_add(1, Ordering::SeqCst);
                let mut answers = self.answers.lock().unwrap();
                let next = if answers.len() > 1 { answers.pop() } else { answers.last().copied() };
                drop(answers);
                match next.unwrap_or(Answer::Code(0, 0)) {
                    Answer::Code(code, throttle) => {
                        answer.extend(b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0");
                        answer.extend(code.to_be_bytes());
                        answer.extend(7_i64.to_be_bytes()); // the offset
                        answer.extend((-1_i64).to_be_bytes()); // log append time
                        answer.extend(throttle.to_be_bytes());
                    }
                    Answer::Silence => return Ok(()),
                    Answer::Hangup => return Err(std::io::ErrorKind::ConnectionAborted.into()),
                }
            }
            _ => return Err(std::io::ErrorKind::Unsupported.into()),
        }
        let size = (answer.len() as u32).to_be_bytes();
        connection.write_all(&[&size[..], &answer].concat())
    }

    /// Waits while it is deaf.
    fn listen(&self) {
        while self.deaf.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Metadata of version 1 begins so: this broker, which is the controller.
    fn brokers(&self) -> Vec<u8> {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let mut answer = b"\0\0\0\x01\0\0\0\x01".to_vec();
        answer.extend((host.len() as i16).to_be_bytes());
        answer.extend(host.as_bytes());
        answer.extend(port.parse::<i32>().unwrap().to_be_bytes());
        answer.extend(b"\xff\xff"); // no rack
        answer.extend(b"\0\0\0\x01"); // the controller
        answer
    }

    /// Metadata of version 1: this broker, and its topic.
    fn metadata(&self) -> Vec<u8> {
        let mut answer = self.brokers();
        answer.extend(b"\0\0\0\x01\0\0\0\x01t\0"); // one topic, not internal
        answer.extend(b"\0\0\0\x01\0\0\0\0\0\0\0\0\0\x01"); // its partition 0, led by 1
        answer.extend(b"\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01"); // replicas, and those in sync
        answer
    }
}
