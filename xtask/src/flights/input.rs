//! The flights that are sent.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::unzipped;
use crate::error::{Context, Error, Result};

#[derive(Debug)]
pub(crate) struct Input {
    /// The lines as a plain file.
    pub(crate) path: PathBuf,
    text: Vec<u8>,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    line: Range<usize>,
    key: Option<String>,
}

#[derive(Deserialize)]
struct Flight {
    id: u64,
    tailnum: Option<String>,
}

impl Input {
    /// Reads the file, and writes as much of it as is wanted into the folder.
    pub(crate) fn load(file: &Path, count: Option<u64>, folder: &Path) -> Result<Self> {
        let input = Self::parse(unzipped(file)?, count, folder.join("flights.ndjson"))
            .context(|| format!("cannot use {}", file.display()))?;
        fs::write(&input.path, &input.text).context(|| format!("cannot write {}", input.path.display()))?;
        Ok(input)
    }

    pub(crate) fn parse(mut text: Vec<u8>, count: Option<u64>, path: PathBuf) -> Result<Self> {
        let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
        let mut events = Vec::new();
        let mut ids = BTreeSet::new();
        let mut start = 0;
        for (index, line) in text.split_inclusive(|byte| *byte == b'\n').take(count).enumerate() {
            let content = line.strip_suffix(b"\n").unwrap_or(line);
            let flight: Flight =
                serde_json::from_slice(content).context(|| format!("line {} is no flight", index + 1))?;
            if !ids.insert(flight.id) {
                return Err(Error::new(format!("line {}: there are two flights {}", index + 1, flight.id)));
            }
            events.push(Event { line: start..start + content.len(), key: flight.tailnum });
            start += line.len();
        }
        if events.is_empty() {
            return Err(Error::new("there is nothing in it"));
        }
        text.truncate(start);
        Ok(Self { path, text, events })
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn value(&self, index: usize) -> &[u8] {
        &self.text[self.events[index].line.clone()]
    }

    pub(crate) fn key(&self, index: usize) -> Option<&str> {
        self.events[index].key.as_deref()
    }

    /// These events as the lines they were.
    /// All lines, each with its key and a separator before it.
    pub(crate) fn keyed(&self, separator: &str) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.text.len() * 11 / 10);
        for index in 0..self.events.len() {
            text.extend_from_slice(self.key(index).unwrap_or_default().as_bytes());
            text.extend_from_slice(separator.as_bytes());
            text.extend_from_slice(self.value(index));
            text.push(b'\n');
        }
        text
    }

    pub(crate) fn lines(&self, events: Range<usize>) -> &[u8] {
        let end = self.events.get(events.end).map_or(self.text.len(), |event| event.line.start);
        &self.text[self.events.get(events.start).map_or(end, |event| event.line.start)..end]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const FLIGHTS: &str =
        "{\"id\":7,\"tailnum\":\"N1\"}\n{\"id\":8,\"tailnum\":null}\n{\"id\":9,\"tailnum\":\"N1\"}\n";

    pub(crate) fn input(text: &str) -> Input {
        Input::parse(text.as_bytes().to_vec(), None, PathBuf::new()).unwrap()
    }

    #[test]
    fn lines_become_events() {
        let input = input(FLIGHTS);
        assert_eq!((input.len(), input.key(0), input.key(1)), (3, Some("N1"), None));
        assert_eq!(input.value(1), b"{\"id\":8,\"tailnum\":null}");
        assert_eq!(input.lines(0..3), FLIGHTS.as_bytes());
        assert_eq!(input.lines(1..2), b"{\"id\":8,\"tailnum\":null}\n");
        assert_eq!(input.lines(3..3), b"");
    }

    #[test]
    fn only_so_many_are_taken() {
        let input = Input::parse(FLIGHTS.as_bytes().to_vec(), Some(2), PathBuf::new()).unwrap();
        assert_eq!((input.len(), input.text.len()), (2, input.lines(0..2).len()));
    }

    #[test]
    fn what_is_no_flight_is_an_error_with_its_line() {
        let said = |text: &str| {
            Input::parse(text.as_bytes().to_vec(), None, PathBuf::new()).unwrap_err().to_string()
        };
        assert!(said("{\"id\":1,\"tailnum\":null}\nx\n").starts_with("line 2 is no flight"));
        assert!(
            said("{\"id\":1,\"tailnum\":null}\n{\"id\":1,\"tailnum\":\"N2\"}\n").contains("two flights 1")
        );
        assert!(said("").contains("nothing"));
    }
}
