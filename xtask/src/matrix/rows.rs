//! The rows of the matrix: worked out from the packages, features and sources of the workspace, so that a new crate or
//! feature has its rows without anybody thinking of it.
//!
//! [`sets`] has the choices of features of each package. On real Kafka the packages whose tests want a broker have one
//! row for each backend, and those with a conformance suite one more for each way to get into a secured cluster.

use std::fs;
use std::path::Path;

use super::features::{Choice, resolve};
use super::needs::{self, Need};
use super::sets::{self, Extent};
use crate::broker;
use crate::error::{Context, Result};
use crate::workspace::{Package, Workspace};

const CORE: &str = "kafka-batcher-core";
pub(crate) const TESTKIT: &str = "kafka-batcher-testkit";
/// The feature of the test kit that is an in-process broker.
const EMBEDDED: &str = "embedded";
/// Packages that are neither a client of Kafka nor a storage, hence no backend.
const NO_BACKENDS: &[&str] =
    &[CORE, TESTKIT, "kafka-batcher", "kafka-batcher-cli", "kafka-batcher-metrics", "xtask"];
/// What an adapter may call the feature that a secured cluster needs.
const SECURITY_FEATURES: &[&str] = &["tls", "ssl"];
/// The test programs that a secured cluster is for; an adapter is what has the first one.
const SECURITY_TESTS: &[&str] = &["conformance", "security", "secrets"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Test,
    /// Only whether it compiles: the tests would be the same ones, over the same code.
    Check,
}

impl What {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Check => "check",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) package: String,
    pub(crate) choice: Choice,
    pub(crate) what: What,
    /// Adapters that are on, such as `rdkafka`.
    pub(crate) backend: String,
    /// Whether its tests are given a broker.
    pub(crate) wants_broker: bool,
    /// Whether they may kill it, and so can't run side by side.
    pub(crate) kills_brokers: bool,
    /// The way into the broker, if it is not the plain one.
    pub(crate) security: Option<String>,
    /// The only test programs to run; none stands for all.
    pub(crate) tests: Vec<&'static str>,
    pub(crate) needs: Vec<Need>,
    /// Why it can't run with these brokers.
    pub(crate) blocked: Option<String>,
}

impl Row {
    pub(crate) fn name(&self) -> String {
        let security = self.security.as_ref().map_or_else(String::new, |name| format!(" {name}"));
        format!("{} {}{security}", self.package, self.choice.label())
    }
}

/// All rows of choices of features, in the order in which the packages build on each other.
pub(crate) fn all(workspace: &Workspace, extent: Extent) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for package in in_order(workspace) {
        let mut sources = String::new();
        read_sources(package.folder(), &mut sources)?;
        let mentioned = |feature: &str| mentions(&sources, feature);
        for (choice, what) in sets::of_package(workspace, package, &mentioned, extent) {
            let mut row = row(workspace, package, choice, what);
            row.kills_brokers = sources.contains(broker::CTL);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Of these rows those that make a difference on real Kafka.
pub(crate) fn on_kafka(rows: Vec<Row>, extent: Extent) -> Vec<Row> {
    let mut kept: Vec<Row> = Vec::new();
    for mut row in rows {
        row.wants_broker |= row.kills_brokers;
        // With them it is the same client that talks to Kafka, compiled another way.
        let is_same = matches!(row.choice, Choice::With(_) | Choice::All(_))
            || kept.iter().any(|other| other.package == row.package && other.backend == row.backend);
        if row.what == What::Test && row.wants_broker && (extent == Extent::Full || !is_same) {
            kept.push(row);
        }
    }
    kept
}

/// The adapters' rows for these ways into a secured cluster.
pub(crate) fn secured(workspace: &Workspace, ways: &[String]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for package in in_order(workspace) {
        let folder = package.folder().join("tests");
        let tests: Vec<&'static str> = SECURITY_TESTS
            .iter()
            .copied()
            .filter(|test| {
                folder.join(format!("{test}.rs")).is_file() || folder.join(test).join("main.rs").is_file()
            })
            .collect();
        let has_suite = tests.first() == SECURITY_TESTS.first();
        for way in ways {
            let mut row = row(workspace, package, security_features(package), What::Test);
            if !has_suite || !row.wants_broker {
                break;
            }
            let mut sources = String::new();
            for test in &tests {
                read_sources_of_test(&folder, test, &mut sources)?;
            }
            row.kills_brokers = sources.contains(broker::CTL);
            row.security = Some(way.clone());
            row.tests.clone_from(&tests);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn security_features(package: &Package) -> Choice {
    let feature = SECURITY_FEATURES.iter().find(|feature| package.features.contains_key(**feature));
    feature.map_or(Choice::Default, |&feature| Choice::With(vec![feature.to_owned()]))
}

fn in_order(workspace: &Workspace) -> Vec<&Package> {
    let mut packages: Vec<(&Package, usize)> = workspace
        .packages
        .iter()
        .map(|package| (package, resolve(workspace, package, &Choice::Default, true).packages().count()))
        .collect();
    packages.sort_by_key(|&(package, size)| (size, &package.name));
    packages.into_iter().map(|(package, _)| package).collect()
}

fn row(workspace: &Workspace, package: &Package, choice: Choice, what: What) -> Row {
    let built = resolve(workspace, package, &choice, what == What::Test);
    let own = resolve(workspace, package, &choice, false);
    let backends: Vec<&str> = own
        .packages()
        .filter(|name| !NO_BACKENDS.contains(name))
        .map(|name| name.strip_prefix("kafka-batcher-").unwrap_or(name))
        .collect();
    Row {
        package: package.name.clone(),
        what,
        backend: if backends.is_empty() { "-".to_owned() } else { backends.join("+") },
        wants_broker: what == What::Test && built.has_feature(TESTKIT, EMBEDDED),
        kills_brokers: false,
        security: None,
        tests: Vec::new(),
        needs: needs::of(&built),
        blocked: None,
        choice,
    }
}

/// Whether some `cfg` asks for the feature.
fn mentions(sources: &str, feature: &str) -> bool {
    sources.contains(&format!("feature = \"{feature}\""))
}

/// All Rust sources of a package.
fn read_sources(folder: &Path, into: &mut String) -> Result<()> {
    let cannot = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).context(cannot)? {
        let entry = entry.context(cannot)?;
        let path = entry.path();
        if entry.file_type().context(cannot)?.is_dir() {
            if entry.file_name() != "target" {
                read_sources(&path, into)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?);
        }
    }
    Ok(())
}

fn read_sources_of_test(folder: &Path, test: &str, into: &mut String) -> Result<()> {
    let file = folder.join(format!("{test}.rs"));
    if file.is_file() {
        into.push_str(&crate::files::read(&file)?);
        return Ok(());
    }
    read_sources(&folder.join(test), into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::tests::example;

    fn find(package: &str, choice: Choice) -> Row {
        let workspace = example();
        row(&workspace, workspace.package(package).unwrap(), choice, What::Test)
    }

    #[test]
    fn backend_and_broker_follow_from_what_is_on() {
        let adapter = find("kafka-batcher-rdkafka", Choice::Default);
        assert_eq!((adapter.backend.as_str(), adapter.wants_broker), ("rdkafka", true));
        let facade = find("kafka-batcher", Choice::Default);
        assert_eq!((facade.backend.as_str(), facade.wants_broker), ("rdkafka", false));
        let bare = find("kafka-batcher", Choice::Only(vec![]));
        assert_eq!((bare.backend.as_str(), bare.wants_broker), ("-", false));
        assert_eq!(bare.name(), "kafka-batcher none");
    }

    #[test]
    fn on_kafka_each_backend_of_a_package_runs_once() {
        let rows = || {
            let one = |choice| find("kafka-batcher-rdkafka", choice);
            let ssl = || vec!["ssl".to_owned()];
            vec![
                one(Choice::Default),
                one(Choice::Only(ssl())),
                one(Choice::With(ssl())),
                find("xtask", Choice::Default),
            ]
        };
        let names = |extent| on_kafka(rows(), extent).iter().map(Row::name).collect::<Vec<_>>();
        assert_eq!(names(Extent::Usual), ["kafka-batcher-rdkafka default"]);
        assert_eq!(names(Extent::Full).len(), 3, "xtask wants no broker");
        let killer = Row { kills_brokers: true, ..find("xtask", Choice::Default) };
        assert_eq!(on_kafka(vec![killer], Extent::Usual).len(), 1, "what kills brokers wants one");
    }

    #[test]
    fn a_secured_row_says_so_and_has_the_feature_it_needs() {
        let workspace = example();
        let choice = security_features(workspace.package("kafka-batcher-rdkafka").unwrap());
        assert_eq!(choice, Choice::With(vec!["ssl".to_owned()]));
        assert_eq!(security_features(workspace.package("kafka-batcher-core").unwrap()), Choice::Default);
        let row = Row { security: Some("tls".to_owned()), ..find("kafka-batcher-rdkafka", choice) };
        assert_eq!(row.name(), "kafka-batcher-rdkafka default,ssl tls");
    }

    #[test]
    fn the_adapters_of_this_workspace_have_secured_rows() {
        let workspace = Workspace::load().unwrap();
        let ways = ["tls".to_owned(), "sasl_plain".to_owned()];
        let rows = secured(&workspace, &ways).unwrap();
        let ours: Vec<&Row> = rows.iter().filter(|row| row.package == "kafka-batcher-rdkafka").collect();
        assert_eq!(ours.len(), 2);
        assert!(ours.iter().all(|row| row.tests.contains(&"conformance")));
        assert!(rows.iter().all(|row| row.package != CORE && row.package != "xtask"));
    }

    #[test]
    fn a_feature_is_mentioned_by_a_cfg() {
        assert!(mentions("#[cfg(feature = \"ssl\")]", "ssl"));
        assert!(!mentions("#[cfg(feature = \"ssl-vendored\")]", "ssl"));
    }
}
