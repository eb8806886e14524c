//! The one error type of xtask: a message for the person at the terminal, and what caused it.

use std::fmt;

type Source = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in words that say what to do next where something can be done.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    source: Option<Source>,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| -> &(dyn std::error::Error + 'static) { source.as_ref() })
    }
}

/// Says what was being done when a lower-level error came up.
pub(crate) trait Context<T> {
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Into<Source>> Context<T> for std::result::Result<T, E> {
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|source| Error { message: message().into(), source: Some(source.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_joins_the_message_and_its_cause() {
        let inner: Result<()> = Err("no such file").context(|| "cannot read node-1.pid");
        let outer = inner.context(|| "cannot stop node 1").unwrap_err();
        assert_eq!(outer.to_string(), "cannot stop node 1: cannot read node-1.pid: no such file");
    }
}
