//! What the programs have in common that `cargo xtask` starts, watches and kills: settings as arguments, a line for all
//! that happens, and an exit code.

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Tells whoever watches. One write, so that what arrives of it before a kill is all or nothing.
pub(crate) fn say(line: &str) {
    // If nobody reads any more, nobody wants to know.
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).ok();
}

/// Arguments of the form `name=value`.
pub(crate) struct Settings(HashMap<String, String>);

impl Settings {
    pub(crate) fn get<T: FromStr>(&self, name: &str, default: Option<T>) -> Result<T, Error> {
        match (self.0.get(name), default) {
            (Some(text), _) => text.parse().map_err(|_| format!("{name}={text} can't be understood").into()),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(format!("{name}=... is missing").into()),
        }
    }
}

/// Runs `work` on a runtime; an error is told as the line `FAILED`.
pub(crate) fn run<F: Future<Output = Result<(), Error>>>(work: impl FnOnce(Settings) -> F) -> ExitCode {
    let pair = |argument: String| argument.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let settings = Settings(std::env::args().skip(1).filter_map(pair).collect());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(work(settings)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("FAILED {error}"));
            ExitCode::FAILURE
        }
    }
}
