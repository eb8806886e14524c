//! Reading a topic back with a program that is not ours.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::broker::{self, Session};
use crate::compilers::succeeds;
use crate::error::{Context, Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reader {
    /// librdkafka's command line
    Kcat,
    /// Kafka's console consumer
    Kafka,
}

/// A record as it is in Kafka.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
}

/// How long Kafka's consumer waits for a next record before it takes it that there is none.
const IDLE_MS: &str = "5000";
/// What it prints for a key that is null; no aircraft is called that.
const NULL: &str = "\u{1}null\u{1}";

impl Reader {
    /// kcat if there is one.
    pub(crate) fn find() -> Result<Self> {
        if succeeds("kcat", &["-V"]) {
            return Ok(Self::Kcat);
        }
        eprintln!("there is no kcat (Debian, Ubuntu, Fedora: package kcat): using Kafka's console consumer");
        Ok(Self::Kafka)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kcat => "kcat",
            Self::Kafka => "Kafka's console consumer",
        }
    }
}

/// All records of the topic; those of one partition in their order.
pub(crate) fn read(reader: Reader, session: &Session, topic: &str) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    each(reader, session, topic, |record| records.push(record))?;
    Ok(records)
}

/// The same, one by one.
pub(crate) fn each(reader: Reader, session: &Session, topic: &str, take: impl FnMut(Record)) -> Result<()> {
    eprintln!("reading the topic back with {}", reader.name());
    let bootstrap = session.bootstrap();
    match reader {
        Reader::Kcat => {
            let mut kcat = Command::new("kcat");
            // Lengths first, as keys and values may hold anything; that of a null key is -1.
            kcat.args(["-C", "-e", "-q", "-o", "beginning", "-f", "%p %o %K %S %k %s\\n"]);
            kcat.args(["-b", bootstrap, "-t", topic]);
            run(kcat, next_of_kcat, take)
        }
        Reader::Kafka => {
            eprintln!("(it ends with a TimeoutException, when {IDLE_MS} ms have brought nothing more)");
            let mut consumer = broker::java_tool("org.apache.kafka.tools.consumer.ConsoleConsumer")?;
            consumer.args(["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning"]);
            consumer.args(["--timeout-ms", IDLE_MS]);
            for property in ["print.partition=true", "print.offset=true", "print.key=true"] {
                consumer.args(["--property", property]);
            }
            consumer.args(["--property", &format!("null.literal={NULL}")]);
            run(consumer, next_of_kafka, take)
        }
    }
}

fn run(
    mut command: Command,
    next: fn(&mut BufReader<std::process::ChildStdout>) -> Result<Option<Record>>,
    mut take: impl FnMut(Record),
) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.context(|| format!("cannot run `{program}`"))?;
    let stdout = child.stdout.take().ok_or_else(|| Error::new("the child has no standard output"))?;
    let mut stdout = BufReader::with_capacity(1 << 20, stdout);
    let outcome = loop {
        match next(&mut stdout) {
            Ok(Some(record)) => take(record),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    // Or else it would wait for ever to be read.
    drop(stdout);
    let status = child.wait().context(|| format!("cannot wait for `{program}`"))?;
    outcome?;
    if !status.success() {
        return Err(Error::new(format!("`{program}` failed ({status})")));
    }
    Ok(())
}

/// `PARTITION OFFSET KEYLENGTH VALUELENGTH KEY VALUE`
fn next_of_kcat(from: &mut impl BufRead) -> Result<Option<Record>> {
    let mut numbers = [0_i64; 4];
    for (index, number) in numbers.iter_mut().enumerate() {
        let mut word = Vec::new();
        from.read_until(b' ', &mut word).context(|| "cannot read what kcat prints")?;
        if word.is_empty() && index == 0 {
            return Ok(None);
        }
        let word = String::from_utf8_lossy(&word);
        *number = word.trim_end().parse().context(|| format!("kcat printed `{word}`, and not a number"))?;
    }
    let [partition, offset, key, value] = numbers;
    Ok(Some(Record {
        partition: i32::try_from(partition).context(|| "kcat printed an odd partition")?,
        offset,
        key: sized(from, key, b' ')?,
        value: sized(from, value, b'\n')?.unwrap_or_default(),
    }))
}

/// So many bytes and the separator; none of them if the length is -1.
fn sized(from: &mut impl Read, length: i64, separator: u8) -> Result<Option<Vec<u8>>> {
    let count = usize::try_from(length.max(0)).context(|| "kcat printed an odd length")?;
    let mut bytes = vec![0; count + 1];
    from.read_exact(&mut bytes).context(|| "cannot read what kcat prints")?;
    if bytes.pop() != Some(separator) {
        return Err(Error::new("kcat printed something longer than it said"));
    }
    Ok((length >= 0).then_some(bytes))
}

/// `Partition:P<tab>Offset:O<tab>KEY<tab>VALUE`
fn next_of_kafka(from: &mut impl BufRead) -> Result<Option<Record>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).context(|| "cannot read what the console consumer prints")?;
    if line.is_empty() {
        return Ok(None);
    }
    let odd = || {
        Error::new(format!("the console consumer printed `{}`", String::from_utf8_lossy(&line).trim_end()))
    };
    let content = line.strip_suffix(b"\n").unwrap_or(&line);
    let mut parts = content.splitn(4, |byte| *byte == b'\t');
    let mut number = |name: &str| -> Option<i64> {
        std::str::from_utf8(parts.next()?).ok()?.strip_prefix(name)?.strip_prefix(':')?.parse().ok()
    };
    let partition = number("Partition").and_then(|number| i32::try_from(number).ok()).ok_or_else(odd)?;
    let offset = number("Offset").ok_or_else(odd)?;
    let (Some(key), Some(value)) = (parts.next(), parts.next()) else { return Err(odd()) };
    let key = (key != NULL.as_bytes()).then(|| key.to_vec());
    Ok(Some(Record { partition, offset, key, value: value.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64, key: Option<&str>, value: &str) -> Record {
        let (key, value) = (key.map(|key| key.as_bytes().to_vec()), value.as_bytes().to_vec());
        Record { partition, offset, key, value }
    }

    fn all(
        text: &str,
        next: impl Fn(&mut BufReader<&[u8]>) -> Result<Option<Record>>,
    ) -> Result<Vec<Record>> {
        let mut from = BufReader::new(text.as_bytes());
        let mut records = Vec::new();
        while let Some(record) = next(&mut from)? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn kcats_lines_are_read_by_their_lengths() {
        let records = all("3 17 2 5 N1 a b\nc\n0 1 -1 1  x\n0 2 0 0  \n", |from| next_of_kcat(from)).unwrap();
        assert_eq!(
            records,
            [record(3, 17, Some("N1"), "a b\nc"), record(0, 1, None, "x"), record(0, 2, Some(""), "")]
        );
        for odd in ["x 1 1 1 a b\n", "0 1 1 1 a bc\n", "0 1 1 9 a b\n", "0 1"] {
            assert!(all(odd, |from| next_of_kcat(from)).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_console_consumers_lines_are_read() {
        let text = format!("Partition:3\tOffset:17\tN1\ta\tb\nPartition:0\tOffset:1\t{NULL}\tx\n");
        let records = all(&text, |from| next_of_kafka(from)).unwrap();
        assert_eq!(records, [record(3, 17, Some("N1"), "a\tb"), record(0, 1, None, "x")]);
        assert!(all("Processed a total of 2 messages\n", |from| next_of_kafka(from)).is_err());
    }
}
