//! Which choices of features there are for a package, and whether each is worth a run of the tests.
//!
//! The product is none, each, pairs and all, of which nobody wants to wait for all: every choice that touches
//! librdkafka's own features compiles that C library anew, for most of a minute. So [`Extent::Usual`] tests what adds
//! another crate of ours, and all features together; compiles what only adds a `cfg` or is passed on to a library; and
//! leaves pairs to [`Extent::Full`].

use std::collections::BTreeSet;

use super::features::{Choice, Resolved, resolve};
use super::needs::{self, Need};
use super::rows::What;
use crate::workspace::{Dependency, Package, Workspace};

/// How many choices to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The default features.
    Quick,
    /// What makes a difference, and what costs little.
    Usual,
    /// None, each, pairs and all.
    Full,
}

/// The choices for a package, without two that are the same in other words.
pub(crate) fn of_package(
    workspace: &Workspace,
    package: &Package,
    mentioned: &dyn Fn(&str) -> bool,
    extent: Extent,
) -> Vec<(Choice, What)> {
    let mut sets = Sets { workspace, package, mentioned, seen: Vec::new(), choices: Vec::new() };
    sets.add(Choice::Default, What::Test);
    if package.is_published() && package.features.keys().any(|name| name != "default") {
        match extent {
            Extent::Quick => {}
            Extent::Usual => sets.usual(),
            Extent::Full => sets.full(),
        }
    }
    sets.choices
}

struct Sets<'a> {
    workspace: &'a Workspace,
    package: &'a Package,
    /// Whether some `cfg` of the package asks for the feature.
    mentioned: &'a dyn Fn(&str) -> bool,
    seen: Vec<Resolved>,
    choices: Vec<(Choice, What)>,
}

impl Sets<'_> {
    fn resolve(&self, choice: &Choice) -> Resolved {
        resolve(self.workspace, self.package, choice, false)
    }

    fn add(&mut self, choice: Choice, what: What) {
        let resolved = self.resolve(&choice);
        // `default` itself makes no difference.
        let same = |other: &Resolved| plain(other, self.package) == plain(&resolved, self.package);
        if !self.seen.iter().any(same) {
            self.choices.push((choice, what));
            self.seen.push(resolved);
        }
    }

    fn usual(&mut self) {
        let (workspace, package) = (self.workspace, self.package);
        let default = self.resolve(&Choice::Default);
        let nothing = Resolved::default();
        let (passed_on, ours): (Vec<&String>, Vec<&String>) = features(package).partition(|name| {
            // What the default has is judged by itself.
            let base = if default.has_feature(&package.name, name) { &nothing } else { &default };
            is_passed_on(workspace, package, name, base)
        });
        // Dev-dependencies would bring back what is passed on.
        let none = Choice::Only(Vec::new());
        let what = if ours.is_empty() { What::Check } else { self.unless_tested(&none) };
        self.add(none, what);
        // All together have the code that a feature adds, and the first rows have what is there without it.
        let matters = !ours.is_empty() || features(package).any(|feature| (self.mentioned)(feature));
        self.add(self.all(), if matters { What::Test } else { What::Check });
        for feature in &ours {
            let choice = Choice::Only(vec![(*feature).clone()]);
            let what = self.unless_tested(&choice);
            self.add(choice, what);
        }
        // Together with the default: without a backend they would do nothing. Apart by what they need, so that those
        // that need nothing are built everywhere.
        let mut groups: Vec<(Option<Need>, Vec<String>)> = Vec::new();
        let has_row = |feature: &str| {
            // Cargo itself sees to it that the crate of ours that it goes to has such a feature.
            let useful = (self.mentioned)(feature) || is_direct(workspace, package, feature);
            useful && !default.has_feature(&package.name, feature)
        };
        for feature in passed_on.into_iter().filter(|feature| has_row(feature)) {
            let need = self.need(&Choice::With(vec![feature.clone()]));
            match groups.iter_mut().find(|(other, _)| *other == need) {
                Some((_, group)) => group.push(feature.clone()),
                None => groups.push((need, vec![feature.clone()])),
            }
        }
        groups.sort_by_key(|(need, _)| *need);
        for (_, group) in groups {
            self.add(Choice::With(group), What::Check);
        }
    }

    /// Whether to test a choice: only compiles it where the same crates of ours are tested together already. What a `cfg`
    /// adds is tested with all features.
    fn unless_tested(&self, choice: &Choice) -> What {
        let crates = |resolved: &Resolved| resolved.packages().map(str::to_owned).collect::<BTreeSet<_>>();
        let these = crates(&self.resolve(choice));
        let tested = self.choices.iter().filter(|(_, what)| *what == What::Test);
        let same = tested.map(|(choice, _)| crates(&self.resolve(choice))).any(|other| other == these);
        if same { What::Check } else { What::Test }
    }

    fn full(&mut self) {
        let mut choices = vec![Choice::Only(Vec::new())];
        choices.extend(self.singles_and_pairs());
        choices.push(self.all());
        let mut tested = vec![self.code(&Choice::Default)];
        for choice in choices {
            // Over the same code the tests would be the same ones.
            let code = self.code(&choice);
            let what = if tested.contains(&code) { What::Check } else { What::Test };
            tested.push(code);
            self.add(choice, what);
        }
    }

    /// All features but those that build a library from source, of which another one uses the system's.
    fn all(&self) -> Choice {
        let need = |feature: &String| self.need(&Choice::Only(vec![feature.clone()]));
        Choice::All(
            features(self.package).filter(|feature| need(feature) != Some(Need::Vendored)).cloned().collect(),
        )
    }

    fn singles_and_pairs(&self) -> Vec<Choice> {
        let features: Vec<&String> = features(self.package).collect();
        let singles = features.iter().map(|&feature| vec![feature.clone()]);
        let pairs = features.iter().enumerate().flat_map(|(index, &one)| {
            features[index + 1..].iter().map(move |&other| vec![one.clone(), other.clone()])
        });
        singles.chain(pairs).map(Choice::Only).collect()
    }

    /// The hardest thing to come by that it needs.
    fn need(&self, choice: &Choice) -> Option<Need> {
        needs::of(&self.resolve(choice)).into_iter().max()
    }

    /// What of our own code is compiled, and with what.
    fn code(&self, choice: &Choice) -> BTreeSet<(String, String)> {
        let resolved = self.resolve(choice);
        let owned = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
        let packages = resolved.packages().map(|name| owned((name, "")));
        // `rdkafka/libz` names a dependency that may well be no optional one.
        let is_optional = |&(name, key): &(&str, &str)| {
            let mut dependencies =
                self.workspace.package(name).into_iter().flat_map(|package| &package.dependencies);
            dependencies.any(|dependency| dependency.key() == key && dependency.optional)
        };
        let optional = resolved.optional().filter(is_optional).map(owned);
        let features = resolved.features(&self.package.name).into_iter().flatten();
        let mentioned = features.filter(|feature| (self.mentioned)(feature));
        packages.chain(optional).chain(mentioned.map(|feature| owned(("", feature)))).collect()
    }
}

fn features(package: &Package) -> impl Iterator<Item = &String> {
    package.features.keys().filter(|name| *name != "default")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::tests::example;

    fn choices(package: &str, mentioned: &[&str], extent: Extent) -> Vec<(String, &'static str)> {
        let workspace = example();
        let package = workspace.package(package).unwrap();
        of_package(&workspace, package, &|feature| mentioned.contains(&feature), extent)
            .iter()
            .map(|(choice, what)| (choice.label(), what.name()))
            .collect()
    }

    fn usual(package: &str, mentioned: &[&str]) -> Vec<(String, &'static str)> {
        choices(package, mentioned, Extent::Usual)
    }

    fn expected(rows: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
        rows.iter().map(|&(label, what)| (label.to_owned(), what)).collect()
    }

    #[test]
    fn a_package_without_features_has_one_row() {
        assert_eq!(usual("kafka-batcher-core", &[]), expected(&[("default", "test")]));
        assert_eq!(usual("xtask", &[]), expected(&[("default", "test")]));
    }

    #[test]
    fn features_that_are_passed_on_go_together_by_what_they_need() {
        let passed_on = [
            ("default", "test"),
            ("none", "check"),
            ("all", "check"),
            ("default,zstd", "check"),
            ("default,ssl", "check"),
        ];
        assert_eq!(usual("kafka-batcher-rdkafka", &[]), expected(&passed_on));
        // Sources that ask for the feature may do something else with it.
        assert_eq!(usual("kafka-batcher-rdkafka", &["ssl"])[2], ("all".to_owned(), "test"));
    }

    #[test]
    fn features_that_add_a_crate_of_ours_are_tested_alone_and_all_together() {
        assert_eq!(
            usual("kafka-batcher", &[]),
            // `rdkafka` alone is the default, and `ssl` and `zstd` have their rows with the adapter.
            expected(&[("default", "test"), ("none", "test"), ("all", "test")])
        );
        let mentioned = usual("kafka-batcher", &["ssl"]);
        assert!(mentioned.contains(&("default,ssl".into(), "check")), "a source asks for it: {mentioned:?}");
        assert_eq!(usual("kafka-batcher-testkit", &[]), expected(&[("default", "test"), ("all", "test")]));
    }

    #[test]
    fn pairs_wait_for_the_full_matrix() {
        assert!(!usual("kafka-batcher-rdkafka", &[]).contains(&("ssl,zstd".into(), "check")));
        let full = [
            ("default", "test"),
            ("none", "check"),
            ("ssl", "check"),
            ("zstd", "check"),
            ("libz,ssl", "check"),
            ("libz,zstd", "check"),
            ("ssl,zstd", "check"),
            ("all", "check"),
        ];
        assert_eq!(choices("kafka-batcher-rdkafka", &[], Extent::Full), expected(&full));
    }

    #[test]
    fn the_full_matrix_tests_each_code_once() {
        let full = choices("kafka-batcher-rdkafka", &["ssl"], Extent::Full);
        let tested: Vec<&str> =
            full.iter().filter(|(_, what)| *what == "test").map(|(label, _)| label.as_str()).collect();
        assert_eq!(tested, ["default", "ssl"]);
    }

    #[test]
    fn quick_is_the_default_alone() {
        assert_eq!(choices("kafka-batcher", &[], Extent::Quick), expected(&[("default", "test")]));
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
}
