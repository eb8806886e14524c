//! Kafka's jars, resolved by Maven for `xtask/kafka/pom.xml`.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use super::java;
use super::layout::Layout;
use crate::error::{Context, Error, Result};
use crate::files;

/// Makes sure that the jars of this pom are there; does nothing if they are.
pub(crate) fn ensure_jars(layout: &Layout) -> Result<()> {
    let pom =
        fs::read_to_string(layout.pom()).context(|| format!("cannot read {}", layout.pom().display()))?;
    // The stamp is the pom itself: it tells which pom the jars are of, and is written only once all are there.
    if fs::read_to_string(layout.jars_stamp()).is_ok_and(|stamp| stamp == pom) {
        return Ok(());
    }
    eprintln!("resolving Kafka's jars with Maven, into {}", layout.jars().display());
    // Jars of another pom must not stay on the class path.
    files::remove_dir_all(&layout.jars())?;
    let mut directory = std::ffi::OsString::from("-DoutputDirectory=");
    directory.push(layout.jars());
    let status = Command::new("mvn")
        .args(["-B", "-q", "-f"])
        .arg(layout.pom())
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(directory)
        .stdin(Stdio::null())
        // Maven reports errors on stdout, which is kept for results here.
        .stdout(io::stderr())
        .status();
    match status {
        Ok(status) if status.success() => files::write(&layout.jars_stamp(), &pom),
        Ok(status) => Err(Error::new(format!("Maven could not resolve Kafka's jars ({status})"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::new(format!("there is no `mvn`.\n{}", java::advice())))
        }
        Err(error) => Err(error).context(|| "cannot run `mvn`"),
    }
}
