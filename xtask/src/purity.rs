//! `cargo xtask purity`: the boundaries between the crates, checked rather than hoped for.
//!
//! * The core's dependencies hold nothing that runs tasks, opens sockets or files, reads a clock or speaks to Kafka.
//! * Each crate of the workspace depends on no more of the others than the design gives it.
//! * Clippy, with the list of forbidden methods beside the core's manifest, finds none of them called there.

use std::process::ExitCode;

use crate::error::{Context, Error, Result};
use crate::files;
use crate::workspace::{Package, Workspace};

const CORE: &str = "kafka-batcher-core";
const FACADE: &str = "kafka-batcher";
const TESTKIT: &str = "kafka-batcher-testkit";
const CLI: &str = "kafka-batcher-cli";
const EXAMPLES: &str = "kafka-batcher-examples";
const XTASK: &str = "xtask";

/// Crates the core must not depend on, directly or not, and why. A `*` stands for the rest of the name.
const FORBIDDEN: &[(&str, &str)] = &[
    ("tokio*", "runs tasks"),
    ("async-std", "runs tasks"),
    ("async-io", "waits for sockets"),
    ("async-global-executor", "runs tasks"),
    ("smol", "runs tasks"),
    ("futures-executor", "runs tasks"),
    ("rayon*", "runs threads"),
    ("threadpool", "runs threads"),
    ("crossbeam-channel", "passes messages between threads"),
    ("flume", "passes messages between threads"),
    ("async-channel", "passes messages between threads"),
    ("mio", "waits for sockets"),
    ("polling", "waits for sockets"),
    ("socket2", "opens sockets"),
    ("hyper*", "opens sockets"),
    ("reqwest", "opens sockets"),
    ("rustls*", "speaks TLS"),
    ("openssl*", "speaks TLS"),
    ("native-tls", "speaks TLS"),
    ("rdkafka*", "is a Kafka client"),
    ("rskafka", "is a Kafka client"),
    ("kafka", "is a Kafka client"),
    ("kafka-protocol", "is another encoder of Kafka's format; for tests only"),
    ("sled", "writes files"),
    ("redb", "writes files"),
    ("rocksdb", "writes files"),
    ("fjall", "writes files"),
    ("tempfile", "writes files"),
    ("memmap2", "maps files"),
    ("fs2", "locks files"),
    ("chrono", "reads the clock"),
    ("time", "reads the clock"),
    ("jiff", "reads the clock"),
    ("quanta", "reads the clock"),
    ("minstant", "reads the clock"),
    ("coarsetime", "reads the clock"),
    ("web-time", "reads the clock"),
    ("rand", "makes its own randomness; the core is given a seed"),
    ("fastrand", "makes its own randomness; the core is given a seed"),
    ("getrandom", "makes its own randomness; the core is given a seed"),
    ("tracing-subscriber", "writes logs"),
    ("env_logger", "writes logs"),
    ("metrics*", "reports by itself; the core has `Telemetry`"),
    ("prometheus*", "reports by itself; the core has `Telemetry`"),
];

/// Calls that the core's `clippy.toml` has to forbid, at the least, for clippy's silence to mean something.
const FORBIDDEN_CALLS: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::fs::File::open",
    "std::net::TcpStream::connect",
];

pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let tree = tree(&workspace)?;
    let mut complaints: Vec<String> = tree.iter().filter_map(|name| forbidden(name)).collect();
    eprintln!("{CORE} depends on {} crates: {}", tree.len(), tree.join(", "));
    complaints.extend(workspace.packages.iter().flat_map(|package| out_of_bounds(&workspace, package)));
    complaints.extend(clippy_complaints(&workspace)?);
    if complaints.is_empty() {
        eprintln!("pure");
        return Ok(ExitCode::SUCCESS);
    }
    for complaint in &complaints {
        eprintln!("impure: {complaint}");
    }
    Ok(ExitCode::FAILURE)
}

/// The names of all that the core is built with, itself excepted, whatever its features and the platform.
fn tree(workspace: &Workspace) -> Result<Vec<String>> {
    let output = workspace
        .cargo()
        .args(["tree", "--package", CORE, "--edges", "normal", "--all-features", "--target", "all"])
        .args(["--prefix", "none", "--format", "{p}"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context(|| "cannot run cargo")?;
    if !output.status.success() {
        return Err(Error::new(format!("`cargo tree` failed ({})", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != CORE)
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err(Error::new(format!("`cargo tree` shows no dependency of {CORE}, which cannot be")));
    }
    Ok(names)
}

fn forbidden(name: &str) -> Option<String> {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name == start || name.strip_prefix(start).is_some_and(|rest| rest.starts_with('-')),
        None => name == pattern,
    };
    let (_, why) = FORBIDDEN.iter().find(|(pattern, _)| matches(pattern))?;
    Some(format!(
        "{CORE} depends on {name}, which {why} (`cargo tree -p {CORE} -e normal -i {name}` shows how)"
    ))
}

/// The packages of ours that this one may depend on.
fn allowed(package: &str) -> Allowed {
    match package {
        CORE | XTASK => Allowed::Nothing,
        FACADE => Allowed::Libraries,
        CLI => Allowed::Only(&[CORE, FACADE, TESTKIT]),
        // What a user sees, and that is the facade.
        EXAMPLES => Allowed::Only(&[FACADE]),
        // The test kit, and every adapter.
        _ => Allowed::Only(&[CORE]),
    }
}

enum Allowed {
    Nothing,
    Only(&'static [&'static str]),
    /// The core and every adapter.
    Libraries,
}

/// Dependencies among our own packages that the design does not have.
fn out_of_bounds(workspace: &Workspace, package: &Package) -> Vec<String> {
    let is_fine = |other: &str| match allowed(&package.name) {
        Allowed::Nothing => false,
        Allowed::Only(names) => names.contains(&other),
        Allowed::Libraries => ![CLI, TESTKIT, XTASK, FACADE, EXAMPLES].contains(&other),
    };
    package
        .dependencies
        .iter()
        .filter(|dependency| workspace.package(&dependency.name).is_some())
        // Tests may use the test kit, which is made of the core alone.
        .filter(|dependency| {
            !(dependency.is_for_tests() && dependency.name == TESTKIT && package.name != XTASK)
        })
        .filter(|dependency| !is_fine(&dependency.name))
        .map(|dependency| format!("{} depends on {}", package.name, dependency.name))
        .collect()
}

fn clippy_complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let core = workspace.package(CORE).ok_or_else(|| Error::new(format!("there is no {CORE}")))?;
    let list = core.folder().join("clippy.toml");
    if !list.is_file() {
        return Ok(vec![format!("there is no {}, so clippy forbids nothing there", list.display())]);
    }
    let mut complaints = missing_calls(&files::read(&list)?)?;
    eprintln!("clippy, with the methods that {} disallows", list.display());
    let status = workspace
        .cargo()
        .args(["clippy", "--quiet", "--package", CORE, "--lib", "--all-features", "--"])
        // Forbidden, not denied: an `allow` in the source does not help.
        .args(["--forbid", "clippy::disallowed_methods", "--forbid", "clippy::disallowed_types"])
        .status()
        .context(|| "cannot run cargo")?;
    if !status.success() {
        complaints.push(format!("clippy found fault with {CORE}"));
    }
    Ok(complaints)
}

/// What the core's list of disallowed methods should have and has not.
fn missing_calls(list: &str) -> Result<Vec<String>> {
    let list: toml::Table = list.parse().context(|| "cannot read the core's clippy.toml")?;
    let disallowed =
        list.get("disallowed-methods").and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
    let paths: Vec<&str> = disallowed
        .iter()
        .filter_map(|entry| entry.as_str().or_else(|| entry.get("path").and_then(toml::Value::as_str)))
        .collect();
    let missing = FORBIDDEN_CALLS.iter().filter(|call| !paths.contains(*call));
    Ok(missing.map(|call| format!("the core's clippy.toml does not disallow {call}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::tests::example;

    #[test]
    fn forbidden_crates_are_told_with_the_reason() {
        assert!(forbidden("tokio").unwrap().contains("which runs tasks"));
        assert!(forbidden("tokio-util").is_some() && forbidden("rdkafka-sys").is_some());
        assert_eq!(forbidden("tokiox"), None);
        assert_eq!(forbidden("timer"), None);
        assert_eq!(forbidden("bytes"), None);
    }

    #[test]
    fn the_design_holds_in_the_example() {
        let workspace = example();
        for package in &workspace.packages {
            assert_eq!(out_of_bounds(&workspace, package), Vec::<String>::new(), "{}", package.name);
        }
    }

    #[test]
    fn a_dependency_that_the_design_does_not_have_is_told() {
        let mut workspace = example();
        let borrow =
            |workspace: &mut Workspace, from: usize| workspace.packages[from].dependencies.pop().unwrap();
        // The facade's dependency on the adapter, given to the test kit, and then to xtask.
        let find = |workspace: &Workspace, name: &str| {
            workspace.packages.iter().position(|p| p.name == name).unwrap()
        };
        let (facade, testkit, xtask) =
            (find(&workspace, FACADE), find(&workspace, TESTKIT), find(&workspace, XTASK));
        let dependency = borrow(&mut workspace, facade);
        workspace.packages[testkit].dependencies.push(dependency);
        let said = out_of_bounds(&workspace, &workspace.packages[testkit]);
        assert_eq!(said, ["kafka-batcher-testkit depends on kafka-batcher-rdkafka"]);
        let dependency = borrow(&mut workspace, testkit);
        workspace.packages[xtask].dependencies.push(dependency);
        assert_eq!(out_of_bounds(&workspace, &workspace.packages[xtask]).len(), 1);
    }

    #[test]
    fn a_list_of_disallowed_methods_has_to_have_the_important_ones() {
        assert_eq!(missing_calls("").unwrap().len(), FORBIDDEN_CALLS.len());
        let entries: Vec<String> =
            FORBIDDEN_CALLS.iter().map(|call| format!("{{ path = \"{call}\" }}")).collect();
        let all = format!("disallowed-methods = [{}]", entries.join(", "));
        assert_eq!(missing_calls(&all).unwrap(), Vec::<String>::new());
        assert!(missing_calls("disallowed-methods = [").is_err());
    }
}
