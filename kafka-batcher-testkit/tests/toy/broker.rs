//! The broker: frames as Kafka's, so that the fault proxy can follow, with requests of its own but for Produce's number.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kafka_batcher_core::{Batch, BatchBuilder, Record};

use super::PASSWORD;

pub(super) const PRODUCE: i16 = 0;
pub(super) const HELLO: i16 = 1000;
pub(super) const COUNT: i16 = 1001;
pub(super) const CREATE: i16 = 1002;
pub(super) const FETCH: i16 = 1003;

/// Most records in an answer to FETCH.
const FETCHED: usize = 1000;

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Vec<Vec<Record>>>,
    errors: VecDeque<i16>,
}

pub(crate) struct Broker {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(connection, &shared));
            }
        });
        Self { address, state }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Makes a topic, or gives it more partitions.
    pub(crate) fn create(&self, name: &str, partitions: u32) {
        let mut state = self.state.lock().unwrap();
        state.topics.entry(name.to_owned()).or_default().resize_with(partitions as usize, Vec::new);
    }

    pub(crate) fn read(&self, topic: &str, partition: u32) -> Vec<Record> {
        let state = self.state.lock().unwrap();
        state.topics.get(topic).and_then(|logs| logs.get(partition as usize)).cloned().unwrap_or_default()
    }

    pub(crate) fn answer_with(&self, errors: &[i16]) {
        self.state.lock().unwrap().errors.extend(errors);
    }
}

/// Answers until the connection ends. The first request has to be HELLO with the right password, or none.
fn serve(mut connection: TcpStream, state: &Mutex<State>) {
    let mut let_in = false;
    while let Some(frame) = read_frame(&mut connection) {
        let api = i16::from_be_bytes([frame[0], frame[1]]);
        let body = &frame[8..];
        let mut records = Vec::new();
        let (error, number) = match api {
            HELLO => {
                let_in = body.is_empty() || body == PASSWORD.as_bytes();
                (if let_in { 0 } else { 58 }, 0)
            }
            _ if !let_in => (58, 0),
            _ => state.lock().unwrap().answer(api, body, &mut records),
        };
        let mut answer = (14 + records.len() as u32).to_be_bytes().to_vec();
        answer.extend(&frame[4..8]);
        answer.extend(error.to_be_bytes());
        answer.extend(i64::to_be_bytes(number));
        answer.extend(records);
        if connection.write_all(&answer).is_err() {
            return;
        }
    }
}

fn read_frame(connection: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    connection.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    connection.read_exact(&mut frame).ok()?;
    Some(frame)
}

impl State {
    /// An error of Kafka's, and a number; to FETCH, that of all records, and some of them.
    fn answer(&mut self, api: i16, body: &[u8], records: &mut Vec<u8>) -> (i16, i64) {
        let (number, rest) = body.split_at(4);
        let number = u32::from_be_bytes(number.try_into().unwrap());
        let (name, rest) = rest.split_at(1 + usize::from(rest[0]));
        let name = String::from_utf8(name[1..].to_vec()).unwrap();
        let compacted = name.starts_with("compacted");
        let forbidden = name == "forbidden";
        if api == CREATE {
            if self.topics.contains_key(&name) {
                return (36, 0);
            }
            self.topics.insert(name, vec![Vec::new(); number as usize]);
            return (0, 0);
        }
        let Some(logs) = self.topics.get_mut(&name) else { return (3, 0) };
        if api == COUNT {
            return (0, logs.len() as i64);
        }
        let Some(log) = logs.get_mut(number as usize) else { return (3, 0) };
        if forbidden {
            return (29, 0);
        }
        if api == FETCH {
            let from = u64::from_be_bytes(rest.try_into().unwrap()) as usize;
            let mut batch = BatchBuilder::new();
            for record in log.iter().skip(from).take(FETCHED) {
                if !batch.push(&record.as_ref(), 0, None, 1_000_000) {
                    break;
                }
            }
            records.extend(batch.seal().map(|batch| batch.as_bytes().to_vec()).unwrap_or_default());
            return (0, log.len() as i64);
        }
        if let Some(error) = self.errors.pop_front() {
            return (error, 0);
        }
        if rest.len() > 1_200_000 {
            return (10, 0);
        }
        let batch = Batch::parse(Bytes::copy_from_slice(rest)).unwrap();
        if compacted && let Some(index) = batch.records().position(|record| record.key.is_none()) {
            return (87, index as i64);
        }
        let base = log.len() as i64;
        log.extend(batch.records().map(|record| record.to_owned()));
        (0, base)
    }
}
