//! What a choice of features turns on: Cargo's resolution of features, as far as this workspace's own crates go.

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::{Dependency, Package, Workspace};

/// Features of one package, as given to cargo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    Default,
    /// `--no-default-features`, and these.
    Only(Vec<String>),
    /// The default, and these.
    With(Vec<String>),
    /// All there are that can be together.
    All(Vec<String>),
}

impl Choice {
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::Only(features) if features.is_empty() => "none".to_owned(),
            Self::Only(features) => features.join(","),
            Self::With(features) => format!("default,{}", features.join(",")),
            Self::All(_) => "all".to_owned(),
        }
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        match self {
            Self::Default => Vec::new(),
            Self::Only(features) if features.is_empty() => vec!["--no-default-features".to_owned()],
            Self::Only(features) | Self::All(features) => {
                ["--no-default-features", "--features", &features.join(",")].map(str::to_owned).to_vec()
            }
            Self::With(features) => vec!["--features".to_owned(), features.join(",")],
        }
    }
}

/// What is on, package by package.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Our packages, each with its features that are on.
    ours: BTreeMap<String, BTreeSet<String>>,
    /// Features of other people's crates, such as `("rdkafka", "ssl")`.
    others: BTreeSet<(String, String)>,
    /// Our packages' optional dependencies that are on.
    optional: BTreeSet<(String, String)>,
}

impl Resolved {
    pub(crate) fn has_feature(&self, package: &str, feature: &str) -> bool {
        self.features(package).is_some_and(|features| features.contains(feature))
    }

    pub(crate) fn features(&self, package: &str) -> Option<&BTreeSet<String>> {
        self.ours.get(package)
    }

    /// Whether a package has this optional dependency of its.
    pub(crate) fn has_optional(&self, package: &str, key: &str) -> bool {
        self.optional.contains(&(package.to_owned(), key.to_owned()))
    }

    /// Our packages with their optional dependencies that are on.
    pub(crate) fn optional(&self) -> impl Iterator<Item = (&str, &str)> {
        self.optional.iter().map(|(package, key)| (package.as_str(), key.as_str()))
    }

    pub(crate) fn packages(&self) -> impl Iterator<Item = &str> {
        self.ours.keys().map(String::as_str)
    }

    /// Features of crates from elsewhere.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = (&str, &str)> {
        self.others.iter().map(|(name, feature)| (name.as_str(), feature.as_str()))
    }

    fn size(&self) -> usize {
        self.ours.values().map(BTreeSet::len).sum::<usize>()
            + self.ours.len()
            + self.others.len()
            + self.optional.len()
    }
}

/// Resolves a choice for one package; with its dev-dependencies if `tests` are going to be built.
pub(crate) fn resolve(workspace: &Workspace, package: &Package, choice: &Choice, tests: bool) -> Resolved {
    let mut resolver = Resolver { workspace, resolved: Resolved::default() };
    resolver.resolved.ours.insert(package.name.clone(), BTreeSet::new());
    // A feature such as `x?/y` waits for `x`, whatever turns that on: again, until nothing changes any more.
    loop {
        let before = resolver.resolved.size();
        match choice {
            Choice::Default => resolver.turn_on(package, "default"),
            Choice::Only(features) | Choice::All(features) => resolver.turn_on_all(package, features),
            Choice::With(features) => {
                resolver.turn_on(package, "default");
                resolver.turn_on_all(package, features);
            }
        }
        let names: Vec<String> = resolver.resolved.packages().map(str::to_owned).collect();
        for name in names {
            let tests = tests && name == package.name;
            resolver.settle(&name, tests);
        }
        if resolver.resolved.size() == before {
            return resolver.resolved;
        }
    }
}

struct Resolver<'a> {
    workspace: &'a Workspace,
    resolved: Resolved,
}

impl Resolver<'_> {
    fn turn_on_all(&mut self, package: &Package, features: &[String]) {
        for feature in features {
            self.turn_on(package, feature);
        }
    }

    fn turn_on(&mut self, package: &Package, feature: &str) {
        // A package without a feature `default` has nothing to turn on, and that is no error.
        let Some(implied) = package.features.get(feature) else { return };
        self.resolved.ours.entry(package.name.clone()).or_default().insert(feature.to_owned());
        for what in implied {
            if let Some(name) = what.strip_prefix("dep:") {
                self.resolved.optional.insert((package.name.clone(), name.to_owned()));
            } else if let Some((name, inner)) = what.split_once('/') {
                let (name, weak) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
                self.pass_on(package, name, inner, weak);
            } else {
                self.turn_on(package, what);
            }
        }
    }

    /// Turns on the feature of a dependency.
    fn pass_on(&mut self, package: &Package, key: &str, feature: &str, weak: bool) {
        if !weak {
            self.resolved.optional.insert((package.name.clone(), key.to_owned()));
        }
        let Some(dependency) = package.dependencies.iter().find(|dependency| dependency.key() == key) else {
            return;
        };
        if self.is_on(package, dependency) {
            self.enable(dependency, feature);
        }
    }

    fn is_on(&self, package: &Package, dependency: &Dependency) -> bool {
        !dependency.optional || self.resolved.has_optional(&package.name, dependency.key())
    }

    fn enable(&mut self, dependency: &Dependency, feature: &str) {
        match self.workspace.package(&dependency.name) {
            Some(ours) => self.turn_on(ours, feature),
            None => {
                self.resolved.others.insert((dependency.name.clone(), feature.to_owned()));
            }
        }
    }

    /// Turns on what a package's dependencies say they want.
    fn settle(&mut self, name: &str, tests: bool) {
        let Some(package) = self.workspace.package(name) else { return };
        let features: Vec<String> = self.resolved.ours[name].iter().cloned().collect();
        for feature in features {
            self.turn_on(package, &feature);
        }
        for dependency in &package.dependencies {
            if (dependency.is_for_tests() && !tests) || !self.is_on(package, dependency) {
                continue;
            }
            if let Some(ours) = self.workspace.package(&dependency.name) {
                self.resolved.ours.entry(ours.name.clone()).or_default();
            }
            if dependency.uses_default_features {
                self.enable(dependency, "default");
            }
            for feature in &dependency.features {
                self.enable(dependency, feature);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::tests::example;

    impl Resolved {
        fn is_on(&self, package: &str) -> bool {
            self.ours.contains_key(package)
        }
    }

    fn resolved(package: &str, choice: &Choice, tests: bool) -> Resolved {
        let workspace = example();
        resolve(&workspace, workspace.package(package).unwrap(), choice, tests)
    }

    fn only(features: &[&str]) -> Choice {
        Choice::Only(features.iter().map(|&feature| feature.to_owned()).collect())
    }

    #[test]
    fn the_default_of_the_facade_brings_the_adapter_and_its_compression() {
        let on = resolved("kafka-batcher", &Choice::Default, false);
        assert!(on.is_on("kafka-batcher-rdkafka") && on.is_on("kafka-batcher-core"));
        assert!(on.has_feature("kafka-batcher-rdkafka", "libz"));
        assert!(on.foreign().any(|found| found == ("rdkafka", "libz")));
        assert!(!on.foreign().any(|found| found == ("rdkafka", "ssl")));
        assert!(!on.is_on("kafka-batcher-testkit"));
    }

    #[test]
    fn nothing_is_on_that_was_not_asked_for() {
        let on = resolved("kafka-batcher", &only(&[]), false);
        assert_eq!(on.packages().collect::<Vec<_>>(), ["kafka-batcher", "kafka-batcher-core"]);
    }

    #[test]
    fn a_weak_feature_waits_for_its_dependency() {
        let alone = resolved("kafka-batcher", &only(&["ssl"]), false);
        assert!(!alone.is_on("kafka-batcher-rdkafka") && !alone.foreign().any(|found| found.1 == "ssl"));
        // In this order, when `ssl` is looked at there is no adapter yet.
        let both = resolved("kafka-batcher", &only(&["ssl", "rdkafka"]), false);
        assert!(both.foreign().any(|found| found == ("rdkafka", "ssl")));
    }

    #[test]
    fn dev_dependencies_count_for_tests_only() {
        let tests = resolved("kafka-batcher-rdkafka", &only(&[]), true);
        assert!(tests.has_feature("kafka-batcher-testkit", "embedded"));
        assert!(!resolved("kafka-batcher-rdkafka", &only(&[]), false).is_on("kafka-batcher-testkit"));
        // The adapter's dev-dependencies are not the facade's.
        assert!(!resolved("kafka-batcher", &Choice::Default, true).is_on("kafka-batcher-testkit"));
    }

    #[test]
    fn choices_become_labels_and_arguments() {
        assert_eq!((only(&[]).label(), only(&["a", "b"]).label()), ("none".into(), "a,b".into()));
        assert!(Choice::Default.arguments().is_empty());
        assert_eq!(only(&["a", "b"]).arguments(), ["--no-default-features", "--features", "a,b"]);
    }
}
