//! Writes batches of ours as a segment file of Kafka's log, and prints what Kafka's own reader has to say of it:
//!
//! ```text
//! cargo run -p kafka-batcher-core --example write_segment FOLDER
//! cargo xtask broker dump-log --deep-iteration --print-data-log --files FOLDER/00000000000000000000.log
//! ```
//!
//! `cargo xtask dump-log-check` does both and compares. The events have everything that a record can have: no key, an
//! empty key, no value, headers that repeat or have no value, times that go backwards, values of one byte and of many.

#![expect(clippy::disallowed_methods, reason = "an example is no part of the core: it writes a file")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use kafka_batcher_core::batch::Identity;
use kafka_batcher_core::{Batch, BatchBuilder, Record};

/// Records a batch, in turn; enough records in all for lengths and deltas of one, two and three bytes.
const BATCHES: [usize; 7] = [1, 2, 100, 1, 257, 39, 3];
/// A batch takes what it gets here.
const LIMIT: usize = 1 << 20;
/// 2013-01-01T10:00:00Z, when the first of the flights left.
const START: i64 = 1_357_034_400_000;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: write_segment FOLDER");
        return ExitCode::from(2);
    };
    let (segment, expected) = segment();
    // Kafka calls a segment after the offset it begins with.
    let path = Path::new(&folder).join("00000000000000000000.log");
    if let Err(error) = std::fs::write(&path, segment) {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    print!("{expected}");
    ExitCode::SUCCESS
}

/// The bytes of the segment, and the lines that Kafka's reader prints for it.
fn segment() -> (Vec<u8>, String) {
    let (mut segment, mut expected) = (Vec::new(), String::new());
    let mut offset = 0;
    let mut builder = BatchBuilder::new();
    for (number, count) in BATCHES.into_iter().enumerate() {
        let records: Vec<Record> = (offset..offset + count).map(record).collect();
        for record in &records {
            assert!(builder.push(&record.as_ref(), START, None, LIMIT), "a batch is larger than expected");
        }
        let batch = builder.seal().expect("no batch is empty");
        // As a producer of exactly-once would stamp it.
        let identity = (number % 2 == 1).then_some(Identity {
            producer_id: 4711,
            producer_epoch: 3,
            base_sequence: offset as i32,
        });
        let batch = match identity {
            Some(identity) => batch.stamped(identity),
            None => batch,
        };
        describe(&mut expected, &batch, &records, offset, segment.len(), identity);
        // The broker's part: it gives a batch its offset, which the checksum does not cover.
        segment.extend_from_slice(&(offset as i64).to_be_bytes());
        segment.extend_from_slice(&batch.as_bytes()[8..]);
        offset += count;
    }
    (segment, expected)
}

fn record(index: usize) -> Record {
    // Plain text, as the reader prints text.
    let value = match index % 8 {
        0 => "v".to_owned(),
        1 => "long ".repeat(1 + index % 97 * 30).trim_end().to_owned(),
        _ => format!("{{\"id\":{index},\"tailnum\":\"N{}\"}}", 100 + index % 50),
    };
    let mut record = Record::new(value);
    match index % 5 {
        0 => {}
        1 => record.key = Some(bytes::Bytes::new()),
        _ => record.key = Some(format!("N{}", 100 + index % 50).into()),
    }
    if index % 7 == 3 {
        record.value = None;
    }
    for header in 0..index % 4 {
        let value = (header != 1).then(|| format!("value {index}").into());
        // The last one has the name of the first.
        record.headers.push(["trace", "source", "trace"][header], value);
    }
    // Now and then time goes backwards, or leaps a month.
    let leap = if index % 50 == 49 { 31 * 24 * 3600 * 1000 } else { 0 };
    record.with_timestamp(START + index as i64 * 10 - (index % 3) as i64 * 1000 + leap)
}

/// The lines of `kafka.tools.DumpLogSegments`, Kafka 4.1, for this batch.
fn describe(
    into: &mut String,
    batch: &Batch,
    records: &[Record],
    base_offset: usize,
    position: usize,
    identity: Option<Identity>,
) {
    let bytes = batch.as_bytes();
    let crc = u32::from_be_bytes([bytes[17], bytes[18], bytes[19], bytes[20]]);
    let last = base_offset + records.len() - 1;
    let (base_sequence, producer_id, epoch) =
        identity.map_or((-1, -1, -1), |id| (id.base_sequence, id.producer_id, id.producer_epoch));
    let last_sequence = if identity.is_some() { base_sequence + records.len() as i32 - 1 } else { -1 };
    let latest = records.iter().filter_map(|record| record.timestamp).max().unwrap_or_default();
    let mut line =
        |text: std::fmt::Arguments<'_>| writeln!(into, "{text}").expect("a String takes everything");
    line(format_args!(
        "baseOffset: {base_offset} lastOffset: {last} count: {} baseSequence: {base_sequence} lastSequence: \
         {last_sequence} producerId: {producer_id} producerEpoch: {epoch} partitionLeaderEpoch: -1 isTransactional: \
         false isControl: false deleteHorizonMs: OptionalLong.empty position: {position} CreateTime: {latest} size: {} \
         magic: 2 compresscodec: none crc: {crc} isvalid: true",
        records.len(),
        bytes.len(),
    ));
    for (index, record) in records.iter().enumerate() {
        let size = |part: Option<&bytes::Bytes>| part.map_or(-1, |part| part.len() as i64);
        let text = |name: &str, part: Option<&bytes::Bytes>| {
            part.map_or_else(String::new, |part| format!(" {name}: {}", String::from_utf8_lossy(part)))
        };
        let names: Vec<&str> = record.headers.iter().map(|header| header.name).collect();
        let sequence = if identity.is_some() { base_sequence + index as i32 } else { -1 };
        line(format_args!(
            "| offset: {} CreateTime: {} keySize: {} valueSize: {} sequence: {sequence} headerKeys: [{}]{}{}",
            base_offset + index,
            record.timestamp.unwrap_or_default(),
            size(record.key.as_ref()),
            size(record.value.as_ref()),
            names.join(","),
            text("key", record.key.as_ref()),
            text("payload", record.value.as_ref()),
        ));
    }
}
