//! Finding a Java that can run Kafka 4, and the advice for those who have none.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

/// Kafka 4 brokers are compiled for it.
const OLDEST_JAVA: u32 = 17;

/// How to get the two programs, and how to do without.
pub(crate) fn advice() -> &'static str {
    "\
Kafka needs Java 17 or later, and its jars are fetched by Maven:
  Debian, Ubuntu:  apt-get install openjdk-17-jre-headless maven
  Fedora:          dnf install java-21-openjdk-headless maven
  macOS:           brew install openjdk maven
Or test against a Kafka of your own, with neither of them (compose.yaml has one for Docker):
  export KAFKA_BATCHER_BOOTSTRAP=host:port"
}

/// `$JAVA_HOME/bin/java`, or else the `java` of the PATH. Fails if there is none, or it is too old.
pub(crate) fn find() -> Result<PathBuf> {
    let java = match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => Path::new(&home).join("bin").join("java"),
        None => PathBuf::from("java"),
    };
    let output = match Command::new(&java).arg("-version").stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(format!("there is no `{}`.\n{}", java.display(), advice())));
        }
        Err(error) => return Err(error).context(|| format!("cannot run `{}`", java.display())),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // macOS has a `java` that only says where to get one.
    if !output.status.success() {
        return Err(Error::new(format!("`{}` does not work: {}\n{}", java.display(), said.trim(), advice())));
    }
    match major_version(&said) {
        Some(found) if found < OLDEST_JAVA => {
            Err(Error::new(format!("`{}` is Java {found}.\n{}", java.display(), advice())))
        }
        // An unknown vendor's way of saying it is no reason to refuse; the node's output will tell.
        _ => Ok(java),
    }
}

/// The major version in the output of `java -version`, where Java 8 calls itself 1.8.
fn major_version(said: &str) -> Option<u32> {
    let version = said.lines().find(|line| line.contains(" version \""))?.split('"').nth(1)?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match numbers.next()?.ok()? {
        1 => numbers.next()?.ok(),
        major => Some(major),
    }
}

/// A class path of all the jars in a folder; Java, not a shell, expands the star.
pub(crate) fn class_path(jars: &Path) -> OsString {
    jars.join("*").into_os_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_found() {
        assert_eq!(major_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(
            major_version("Picked up JAVA_TOOL_OPTIONS: -Da=b\nopenjdk version \"25-ea\" 2025"),
            Some(25)
        );
        assert_eq!(major_version("java version \"1.8.0_452\""), Some(8));
        assert_eq!(major_version("java 21 of some vendor"), None);
        assert_eq!(major_version(""), None);
    }
}
