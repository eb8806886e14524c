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
use crate::workspace::{Dependency, Package, Workspace};

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
    let default = resolve(workspace, package, &Choice::Default, false);
    let nothing = Resolved::default();
    let (passed_on, ours): (Vec<&String>, Vec<&String>) = features.iter().partition(|name| {
        // What the default has is judged by itself.
        let base = if default.has_feature(&package.name, name) { &nothing } else { &default };
        is_passed_on(workspace, package, name, base)
    });

    if !features.is_empty() {
        // Dev-dependencies would bring back what is passed on.
        add(Choice::Only(Vec::new()), if ours.is_empty() { What::Check } else { What::Test });
    }
    for feature in ours {
        add(Choice::Only(vec![feature.clone()]), What::Test);
    }
    // Together with the default: without a backend they would do nothing. Apart by what they need, so that those that
    // need nothing are built everywhere.
    let needs_of = |feature: &str| {
        needs::of(&resolve(workspace, package, &Choice::With(vec![feature.to_owned()]), false))
            .into_iter()
            .max()
    };
    let mut groups: Vec<(Option<Need>, Vec<String>)> = Vec::new();
    let has_row = |feature: &str| {
        // Cargo itself sees to it that the crate of ours that it goes to has such a feature.
        let useful = mentioned(feature) || is_direct(workspace, package, feature);
        useful && !default.has_feature(&package.name, feature)
    };
    for feature in passed_on.into_iter().filter(|feature| has_row(feature)) {
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

/// Whether a feature, added to these, does no more than turn on features of dependencies that are there without it, in
/// the end those of a library that is not ours.
fn is_passed_on(workspace: &Workspace, package: &Package, feature: &str, base: &Resolved) -> bool {
    let implied = package.features.get(feature).map_or(&[][..], Vec::as_slice);
    let is_passed_on = |what: &String| {
        if let Some(key) = what.strip_prefix("dep:") {
            return base.has_optional(&package.name, key);
        }
        let Some((name, inner)) = what.split_once('/') else {
            return base.has_feature(&package.name, what) || is_passed_on(workspace, package, what, base);
        };
        let key = name.strip_suffix('?').unwrap_or(name);
        let dependency = package.dependencies.iter().find(|dependency| dependency.key() == key);
        let is_there = |dependency: &Dependency| {
            !dependency.optional || key != name || base.has_optional(&package.name, key)
        };
        dependency.is_some_and(|dependency| match workspace.package(&dependency.name) {
            Some(ours) => is_there(dependency) && is_passed_on(workspace, ours, inner, base),
            None => is_there(dependency),
        })
    };
    // One that turns nothing on is there for a `cfg` of ours.
    !implied.is_empty() && implied.iter().all(is_passed_on)
}

/// Whether a feature turns on one of a crate that is not ours itself, and not by way of another crate of ours.
fn is_direct(workspace: &Workspace, package: &Package, feature: &str) -> bool {
    let implied = package.features.get(feature).map_or(&[][..], Vec::as_slice);
    let keys = implied.iter().filter_map(|what| what.split_once('/'));
    let keys = keys.map(|(name, _)| name.strip_suffix('?').unwrap_or(name));
    keys.into_iter().any(|key| {
        let dependency = package.dependencies.iter().find(|dependency| dependency.key() == key);
        dependency.is_some_and(|dependency| workspace.package(&dependency.name).is_none())
    })
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
            // `rdkafka` alone is the default, and `ssl` and `zstd` have their rows with the adapter.
            expected(&[("default", "test"), ("none", "test")])
        );
        assert_eq!(rows("kafka-batcher", &["ssl"]).len(), 3, "unless a source asks for it");
        assert_eq!(
            rows("kafka-batcher-testkit", &[]),
            expected(&[("default", "test"), ("embedded", "test")])
        );
    }

    #[test]
    fn a_feature_is_passed_on_if_it_only_turns_on_features_of_what_is_there() {
        let workspace = example();
        let is = |package: &str, feature: &str, on_top_of: Choice| {
            let package = workspace.package(package).unwrap();
            let base = resolve(&workspace, package, &on_top_of, false);
            is_passed_on(&workspace, package, feature, &base)
        };
        let none = || Choice::Only(Vec::new());
        assert!(is("kafka-batcher-rdkafka", "ssl", none()) && is("kafka-batcher-rdkafka", "default", none()));
        assert!(is("kafka-batcher", "ssl", none()), "through the adapter, if there is one");
        assert!(is("kafka-batcher", "zstd", Choice::Default));
        assert!(!is("kafka-batcher", "zstd", none()), "it brings the adapter");
        assert!(!is("kafka-batcher", "rdkafka", none()) && !is("kafka-batcher-testkit", "embedded", none()));
        assert!(!is("kafka-batcher", "no-such-feature", none()));
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
