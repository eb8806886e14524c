//! Searches files for chunks, whatever else is in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memmem;

use crate::record::{Assembly, CHUNK, Chunk, MAGIC, Place, Stored};

const WINDOW: usize = 1024 * 1024;

/// Calls `found` with each undamaged chunk of a file, from its beginning, and where it is.
fn scan_file(mut file: &File, mut found: impl FnMut(&Chunk<'_>, u64)) -> io::Result<()> {
    let finder = memmem::Finder::new(&MAGIC);
    let (mut window, mut base) = (Vec::new(), 0_u64);
    loop {
        let read = file.by_ref().take(WINDOW as u64).read_to_end(&mut window)?;
        let mut at = 0;
        while let Some(next) = finder.find(&window[at..]) {
            at += next;
            // One that the window cuts off is seen again, whole, in the next.
            match Chunk::parse(&window[at..]) {
                Some(chunk) => {
                    found(&chunk, base + at as u64);
                    at += chunk.len();
                }
                None if window.len() - at < CHUNK && read > 0 => break,
                None => at += 1,
            }
        }
        if read == 0 {
            return Ok(());
        }
        let keep = window.len()
            - window.len().min(CHUNK - 1).min(window.len().saturating_sub(at).max(MAGIC.len() - 1));
        base += keep as u64;
        window.drain(..keep);
    }
}

/// Where each chunk of the records is that somebody wants.
#[derive(Debug, Default)]
pub(crate) struct Index {
    files: Vec<File>,
    /// File, offset and length of each chunk, and how many there should be.
    records: BTreeMap<Place, Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    of: u32,
    at: BTreeMap<u32, (usize, u64, usize)>,
}

impl Index {
    /// Adds what is in all files of a folder.
    pub(crate) fn add_dir(&mut self, dir: &Path, wanted: impl Fn(Place) -> bool) -> io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            let number = self.files.len();
            let file = File::open(entry.path())?;
            scan_file(&file, |chunk, offset| {
                if wanted(chunk.place) {
                    let parts = self.records.entry(chunk.place).or_default();
                    parts.of = chunk.of;
                    parts.at.insert(chunk.index, (number, offset, chunk.len()));
                }
            })?;
            self.files.push(file);
        }
        Ok(())
    }

    /// Reads the records of which all chunks were found, in order. A file that changes meanwhile is noticed by the
    /// checksums, and the record left out.
    pub(crate) fn each<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(Stored) -> Result<(), E>,
    ) -> Result<(), E> {
        for (place, parts) in &self.records {
            if let Some(record) = parts.read(&self.files)?.filter(|record| record.place == *place) {
                each(record)?;
            }
        }
        Ok(())
    }

    /// The places of all records of which all chunks were found, in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.records.iter().filter(|(_, parts)| parts.at.len() == parts.of as usize).map(|(place, _)| *place)
    }

    pub(crate) fn read(&self, place: Place) -> io::Result<Option<Stored>> {
        self.records.get(&place).map_or(Ok(None), |parts| parts.read(&self.files))
    }

    /// The first record in a range of places of which all chunks are there.
    pub(crate) fn first(&self, places: std::ops::RangeInclusive<Place>) -> io::Result<Option<Stored>> {
        for (place, parts) in self.records.range(places) {
            if let Some(record) = parts.read(&self.files)?.filter(|record| record.place == *place) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

impl Parts {
    fn read(&self, files: &[File]) -> io::Result<Option<Stored>> {
        let mut assembly = Assembly::default();
        let mut buffer = vec![0; CHUNK];
        for (file, offset, len) in self.at.values() {
            let Some(buffer) = buffer.get_mut(..*len) else { return Ok(None) };
            match files[*file].read_exact_at(buffer, *offset) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
            let Some(chunk) = Chunk::parse(buffer) else { return Ok(None) };
            match assembly.push(&chunk) {
                Ok(None) => {}
                Ok(Some(record)) => return Ok(Some(record)),
                Err(()) => return Ok(None),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use kafka_batcher_core::LaneId;

    use super::*;
    use crate::record::{Count, Kind};

    fn record(seq: u64, len: usize) -> Stored {
        Stored {
            place: Place { kind: Kind::Batch, lane: 1, seq },
            maybe: false,
            before: Count::default(),
            acked: 0,
            stored_at: 1,
            events: 1,
            lane: LaneId::unassigned("t"),
            body: vec![u8::try_from(seq % 251).unwrap(); len].into(),
        }
    }

    #[test]
    fn records_are_found_among_other_bytes_and_over_windows() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = vec![0xf5; 1000];
        let mut seq = 0;
        while bytes.len() < 2 * WINDOW + 100_000 {
            seq += 1;
            for chunk in record(seq, (seq as usize * 37) % 9000).chunks() {
                bytes.extend_from_slice(&chunk);
                bytes.extend_from_slice(&MAGIC[..(seq % 4) as usize]);
            }
        }
        std::fs::write(dir.path().join("db"), &bytes).unwrap();
        let mut index = Index::default();
        index.add_dir(dir.path(), |place| place.seq != 5).unwrap();
        let mut found = Vec::new();
        index
            .each(|record| {
                found.push(record);
                Ok::<_, io::Error>(())
            })
            .unwrap();
        let expected: Vec<_> =
            (1..=seq).filter(|seq| *seq != 5).map(|seq| record(seq, (seq as usize * 37) % 9000)).collect();
        assert_eq!(found.len(), expected.len());
        assert!(found == expected);
        assert_eq!(index.places().count(), expected.len());
    }
}
