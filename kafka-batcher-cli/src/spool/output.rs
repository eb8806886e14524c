//! Standard output that may be a pipe to a program that has seen enough.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use crate::{Failure, report};

/// The reader has gone, or writing failed.
#[derive(Debug)]
pub(crate) struct Broken(io::Error);

impl<E: Into<io::Error>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// Lets `write` write the output. A reader that goes away, such as `head`, ends it quietly.
pub(crate) fn print(
    write: impl FnOnce(&mut BufWriter<StdoutLock<'static>>) -> Result<(), Broken>,
) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = write(&mut out).and_then(|()| Ok(out.flush()?));
    match written {
        Err(Broken(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(report::NOT_DELIVERED, format!("can't write the output: {error}")))
        }
        _ => Ok(()),
    }
}

/// One JSON object, or another text, and a newline.
pub(crate) fn print_one(
    json: bool,
    object: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    print(|out| if json { write_json(out, object) } else { Ok(writeln!(out, "{}", text())?) })
}

/// An object on a line of its own.
pub(crate) fn write_json(out: &mut impl Write, object: &impl Serialize) -> Result<(), Broken> {
    serde_json::to_writer(&mut *out, object)?;
    Ok(out.write_all(b"\n")?)
}
