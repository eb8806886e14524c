//! The bugs, as the `planted.toml`s have them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::files;
use crate::workspace::Workspace;

const FILE_NAME: &str = "planted.toml";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bug {
    /// The crate whose list it is in.
    pub(crate) package: String,
    pub(crate) name: String,
    /// From the root of the workspace.
    pub(crate) file: String,
    pub(crate) find: String,
    pub(crate) replace: String,
    pub(crate) job: Job,
}

/// What has to fail with the bug in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    /// Arguments of `cargo test`.
    Test(Vec<String>),
    /// A whole cargo command, beginning with `run`.
    Run(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    bug: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    file: String,
    find: String,
    replace: String,
    test: Option<Vec<String>>,
    run: Option<Vec<String>>,
}

/// All bugs in the `planted.toml`s among these files of the workspace.
pub(crate) fn read_all(workspace: &Workspace, files: &[PathBuf]) -> Result<Vec<Bug>> {
    let mut bugs = Vec::new();
    for file in files.iter().filter(|file| file.ends_with(FILE_NAME)) {
        let path = workspace.root.join(file);
        let owner = workspace.packages.iter().filter(|package| path.starts_with(package.folder()));
        let owner = owner.max_by_key(|package| package.folder().as_os_str().len());
        let owner = owner.map_or("-", |package| &package.name);
        let list = parse(&files::read(&path)?, owner);
        bugs.append(&mut list.context(|| format!("cannot use {}", file.display()))?);
    }
    let mut names = BTreeSet::new();
    match bugs.iter().find(|bug| !names.insert(&bug.name)) {
        Some(twice) => Err(Error::new(format!("two planted bugs are called {}", twice.name))),
        None => Ok(bugs),
    }
}

fn parse(text: &str, package: &str) -> Result<Vec<Bug>> {
    let list: List = toml::from_str(text).context(|| "not the format of `cargo xtask planted`")?;
    list.bug.into_iter().map(|entry| entry.check(package)).collect()
}

impl Entry {
    fn check(self, package: &str) -> Result<Bug> {
        let Self { name, file, find, replace, test, run } = self;
        let wrong = |what: &str| Err(Error::new(format!("bug {name}: {what}")));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            return wrong("its name may have letters, digits, - and _ only, as its log is called after it");
        }
        if find.is_empty() || find == replace {
            return wrong("it changes nothing");
        }
        let job = match (test, run) {
            (Some(test), None) => Job::Test(test),
            (None, Some(run)) if run.first().is_some_and(|command| command == "run") => Job::Run(run),
            (None, Some(_)) => return wrong("`run` begins with \"run\", the command of cargo"),
            _ => return wrong("it needs either `test` or `run`"),
        };
        Ok(Bug { package: package.to_owned(), name, file, find, replace, job })
    }
}

impl Job {
    /// Arguments of the cargo that only builds it.
    pub(crate) fn build(&self) -> Vec<String> {
        let until_dashes = |arguments: &[String]| -> Vec<String> {
            arguments.iter().take_while(|argument| *argument != "--").cloned().collect()
        };
        match self {
            Self::Test(arguments) => {
                let mut all = vec!["test".to_owned(), "--no-run".to_owned()];
                all.extend(until_dashes(arguments));
                all
            }
            Self::Run(arguments) => {
                let mut all = vec!["build".to_owned()];
                all.extend(until_dashes(&arguments[1..]));
                all
            }
        }
    }

    /// Arguments of the cargo that runs it.
    pub(crate) fn run(&self) -> Vec<String> {
        match self {
            Self::Test(arguments) => {
                std::iter::once("test".to_owned()).chain(arguments.iter().cloned()).collect()
            }
            Self::Run(arguments) => arguments.clone(),
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo {}", self.run().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUG: &str = "[[bug]]\nname = \"a-b\"\nfile = \"c/d.rs\"\nfind = \"x\"\nreplace = \"y\"\n";

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn a_list_is_read() {
        let bugs =
            parse(&format!("{BUG}test = [\"-p\", \"c\", \"lane\", \"--\", \"--exact\"]\n"), "c").unwrap();
        assert_eq!((bugs[0].name.as_str(), bugs[0].package.as_str()), ("a-b", "c"));
        assert_eq!(bugs[0].job.build(), strings(&["test", "--no-run", "-p", "c", "lane"]));
        assert_eq!(bugs[0].job.run(), strings(&["test", "-p", "c", "lane", "--", "--exact"]));
        assert_eq!(parse("", "c").unwrap(), []);
    }

    #[test]
    fn a_command_is_built_before_it_is_run() {
        let bugs = parse(&format!("{BUG}run = [\"run\", \"-p\", \"cli\", \"--\", \"demo\"]\n"), "c").unwrap();
        assert_eq!(bugs[0].job.build(), strings(&["build", "-p", "cli"]));
        assert_eq!(bugs[0].job.to_string(), "cargo run -p cli -- demo");
    }

    #[test]
    fn a_bug_that_makes_no_sense_is_an_error_that_says_why() {
        let said = |text: &str| parse(text, "c").unwrap_err().to_string();
        assert!(said(BUG).contains("bug a-b: it needs either `test` or `run`"));
        assert!(said(&format!("{BUG}run = [\"demo\"]")).contains("begins with"));
        assert!(said(&format!("{BUG}test = []").replace("\"y\"", "\"x\"")).contains("changes nothing"));
        assert!(said(&format!("{BUG}test = []").replace("a-b", "a/b")).contains("name"));
        assert!(said(&format!("{BUG}tests = []")).contains("unknown field"));
    }
}
