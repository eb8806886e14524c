//! Which rows there are: worked out from the packages, features and sources of the workspace, so that a new crate or
//! feature has its rows without anybody thinking of it.
//!
//! For each package: its default features; for a published one also no features, each feature that adds something of
//! ours alone, and those that are only passed on to a C library, together.

use std::fs;
use std::path::Path;

use super::features::{Choice, Resolved, resolve};
use super::needs::{self, Need};
use crate::broker;
use crate::error::{Context, Result};
use crate::workspace::{Package, Workspace};

const CORE: &str = "kafka-batcher-core";
const TESTKIT: &str = "kafka-batcher-testkit";
/// The feature of the test kit that is an in-process broker.
const EMBEDDED: &str = "embedded";
/// Packages that are neither a client of Kafka nor a storage, hence no backend.
const NO_BACKENDS: &[&str] =
    &[CORE, TESTKIT, "kafka-batcher", "kafka-batcher-cli", "kafka-batcher-metrics", "xtask"];

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
    pub(crate) needs: Vec<Need>,
}

impl Row {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.package, self.choice.label())
    }
}

/// All rows, in the order in which the packages build on each other.
pub(crate) fn all(workspace: &Workspace) -> Result<Vec<Row>> {
    let mut packages: Vec<(&Package, usize)> = workspace
        .packages
        .iter()
        .map(|package| (package, resolve(workspace, package, &Choice::Default, true).packages().count()))
        .collect();
    packages.sort_by_key(|&(package, size)| (size, &package.name));
    let mut rows = Vec::new();
    for (package, _) in packages {
        let mut sources = String::new();
        read_sources(package.folder(), &mut sources)?;
        let mut some = of_package(workspace, package, &|feature| mentions(&sources, feature));
        for row in &mut some {
            row.kills_brokers = sources.contains(broker::CTL);
        }
        rows.append(&mut some);
    }
    Ok(rows)
}

fn of_package(workspace: &Workspace, package: &Package, mentioned: &dyn Fn(&str) -> bool) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut seen: Vec<Resolved> = Vec::new();
    let mut add = |choice: Choice, what: What| {
        let resolved = resolve(workspace, package, &choice, false);
        // `default` itself makes no difference.
        let same = |other: &Resolved| plain(other, package) == plain(&resolved, package);
        if !seen.iter().any(same) {
            rows.push(row(workspace, package, choice, what));
            seen.push(resolved);
        }
    };
    add(Choice::Default, What::Test);
    if !package.is_published() {
        return rows;
    }
    let features: Vec<&String> = package.features.keys().filter(|name| *name != "default").collect();
    let (passed_on, ours): (Vec<&String>, Vec<&String>) =
        features.iter().partition(|name| is_passed_on(workspace, package, name));

    if !features.is_empty() {
        // Dev-dependencies would bring back what is passed on.
        add(Choice::Only(Vec::new()), if ours.is_empty() { What::Check } else { What::Test });
    }
    for feature in ours {
        add(Choice::Only(vec![feature.clone()]), What::Test);
    }
    // Together with the default: without a backend they would do nothing. Apart by what they need, so that those that
    // need nothing are built everywhere.
    let default = resolve(workspace, package, &Choice::Default, false);
    let needs_of = |feature: &str| {
        needs::of(&resolve(workspace, package, &Choice::With(vec![feature.to_owned()]), false))
            .into_iter()
            .max()
    };
    let mut groups: Vec<(Option<Need>, Vec<String>)> = Vec::new();
    for feature in passed_on.into_iter().filter(|feature| !default.has_feature(&package.name, feature)) {
        let need = needs_of(feature);
        match groups.iter_mut().find(|(other, _)| *other == need) {
            Some((_, group)) => group.push(feature.clone()),
            None => groups.push((need, vec![feature.clone()])),
        }
    }
    groups.sort_by_key(|(need, _)| *need);
    for (_, group) in groups {
        let what = if group.iter().any(|feature| mentioned(feature)) { What::Test } else { What::Check };
        add(Choice::With(group), what);
    }
    rows
}

/// Whether a feature does no more than turn on features of dependencies that are there without it, in the end those of
/// a library that is not ours.
fn is_passed_on(workspace: &Workspace, package: &Package, feature: &str) -> bool {
    let implied = package.features.get(feature).map_or(&[][..], Vec::as_slice);
    let is_passed_on = |what: &String| match what.split_once('/') {
        _ if what.starts_with("dep:") => false,
        None => is_passed_on(workspace, package, what),
        Some((name, inner)) => {
            let key = name.strip_suffix('?').unwrap_or(name);
            let dependency = package.dependencies.iter().find(|dependency| dependency.key() == key);
            let there = dependency.is_some_and(|dependency| !dependency.optional || key != name);
            let ours = dependency.and_then(|dependency| workspace.package(&dependency.name));
            there && ours.is_none_or(|ours| is_passed_on(workspace, ours, inner))
        }
    };
    // One that turns nothing on is there for a `cfg` of ours.
    !implied.is_empty() && implied.iter().all(is_passed_on)
}

/// The features of all packages that are on, but for this package's `default`.
fn plain<'a>(resolved: &'a Resolved, package: &Package) -> Vec<(&'a str, &'a str)> {
    let ours = resolved.packages().flat_map(|name| {
        let features = resolved.features(name).into_iter().flatten().map(String::as_str);
        std::iter::once((name, "")).chain(features.map(move |feature| (name, feature)))
    });
    ours.filter(|(name, feature)| *name != package.name || *feature != "default")
        .chain(resolved.foreign())
        .collect()
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
        needs: needs::of(&built),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::tests::example;

    fn rows(package: &str, mentioned: &[&str]) -> Vec<(String, &'static str)> {
        let workspace = example();
        let package = workspace.package(package).unwrap();
        of_package(&workspace, package, &|feature| mentioned.contains(&feature))
            .iter()
            .map(|row| (row.choice.label(), row.what.name()))
            .collect()
    }

    fn expected(rows: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
        rows.iter().map(|&(label, what)| (label.to_owned(), what)).collect()
    }

    #[test]
    fn a_package_without_features_has_one_row() {
        assert_eq!(rows("kafka-batcher-core", &[]), expected(&[("default", "test")]));
        assert_eq!(rows("xtask", &[]), expected(&[("default", "test")]));
    }

    #[test]
    fn features_that_are_passed_on_go_together_by_what_they_need() {
        assert_eq!(
            rows("kafka-batcher-rdkafka", &[]),
            expected(&[
                ("default", "test"),
                ("none", "check"),
                ("default,zstd", "check"),
                ("default,ssl", "check")
            ])
        );
        // Sources that ask for the feature may do something else with it.
        assert_eq!(rows("kafka-batcher-rdkafka", &["ssl"])[3], ("default,ssl".to_owned(), "test"));
    }

    #[test]
    fn features_that_add_something_of_ours_are_tested_alone() {
        assert_eq!(
            rows("kafka-batcher", &[]),
            // `rdkafka` alone is the default.
            expected(&[("default", "test"), ("none", "test"), ("default,ssl", "check")])
        );
        assert_eq!(
            rows("kafka-batcher-testkit", &[]),
            expected(&[("default", "test"), ("embedded", "test")])
        );
    }

    #[test]
    fn a_feature_is_passed_on_if_it_only_turns_on_features_of_what_is_there() {
        let workspace = example();
        let is = |package: &str, feature: &str| {
            is_passed_on(&workspace, workspace.package(package).unwrap(), feature)
        };
        assert!(is("kafka-batcher-rdkafka", "ssl") && is("kafka-batcher-rdkafka", "default"));
        assert!(is("kafka-batcher", "ssl"), "through the adapter");
        assert!(!is("kafka-batcher", "rdkafka") && !is("kafka-batcher-testkit", "embedded"));
        assert!(!is("kafka-batcher", "no-such-feature"));
    }

    #[test]
    fn backend_and_broker_follow_from_what_is_on() {
        let workspace = example();
        let find =
            |package: &str, choice| row(&workspace, workspace.package(package).unwrap(), choice, What::Test);
        let adapter = find("kafka-batcher-rdkafka", Choice::Default);
        assert_eq!((adapter.backend.as_str(), adapter.wants_broker), ("rdkafka", true));
        let facade = find("kafka-batcher", Choice::Default);
        assert_eq!((facade.backend.as_str(), facade.wants_broker), ("rdkafka", false));
        let bare = find("kafka-batcher", Choice::Only(vec![]));
        assert_eq!((bare.backend.as_str(), bare.wants_broker), ("-", false));
        assert_eq!(bare.name(), "kafka-batcher none");
    }

    #[test]
    fn a_feature_is_mentioned_by_a_cfg() {
        assert!(mentions("#[cfg(feature = \"ssl\")]", "ssl"));
        assert!(!mentions("#[cfg(feature = \"ssl-vendored\")]", "ssl"));
    }
}
