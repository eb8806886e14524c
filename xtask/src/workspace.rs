//! This workspace, as `cargo metadata` describes it, and running cargo in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::{Context, Error, Result};

/// The packages of the workspace and where they are; nothing about what they depend on outside of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
    /// Sorted by name.
    pub(crate) packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    /// Those of optional dependencies included, as `name = ["dep:name"]`.
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) dependencies: Vec<Dependency>,
    /// Registries it may go to; an empty list is `publish = false`.
    publish: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    rename: Option<String>,
    /// None for a normal dependency.
    kind: Option<Kind>,
    pub(crate) optional: bool,
    pub(crate) uses_default_features: bool,
    pub(crate) features: Vec<String>,
}

#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Dev,
    Build,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        // Cargo has made xtask's folder, or that of a crate whose test calls this, the place to look from.
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let output = cargo(&here)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context(|| "cannot run cargo")?;
        if !output.status.success() {
            return Err(Error::new(format!("`cargo metadata` failed ({})", output.status)));
        }
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    pub(crate) fn parse(metadata: &str) -> Result<Self> {
        let mut workspace: Self =
            serde_json::from_str(metadata).context(|| "cannot read what `cargo metadata` says")?;
        workspace.packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(workspace)
    }

    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// Cargo in this workspace.
    pub(crate) fn cargo(&self) -> Command {
        cargo(&self.root)
    }

    /// Builds this example of the facade with these features, and tells where it is.
    pub(crate) fn build_example(&self, name: &str, features: &str, profile: &str) -> Result<PathBuf> {
        eprintln!("building the {name} (profile {profile})");
        let status = self
            .cargo()
            .args(["build", "--quiet", "--package", "kafka-batcher", "--example", name])
            .args(["--features", features, "--profile", profile])
            .status()
            .context(|| "cannot run cargo")?;
        if !status.success() {
            return Err(Error::new(format!("building the {name} failed ({status})")));
        }
        let folder = if profile == "dev" { "debug" } else { profile };
        Ok(self.target.join(folder).join("examples").join(name))
    }
}

impl Package {
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or_else(|| Path::new("."))
    }

    pub(crate) fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }
}

impl Dependency {
    /// What the package that has it calls it.
    pub(crate) fn key(&self) -> &str {
        self.rename.as_ref().unwrap_or(&self.name)
    }

    pub(crate) fn is_for_tests(&self) -> bool {
        self.kind == Some(Kind::Dev)
    }
}

/// Cargo in this folder, as if it had been called at the terminal and not from a program that cargo runs: some build
/// scripts look at what cargo tells that program, and everything would be built anew.
pub(crate) fn cargo(folder: &Path) -> Command {
    cargo_of(&std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), folder)
}

/// The same, with this cargo.
pub(crate) fn cargo_of(program: &OsStr, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    for (name, value) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
        // Tests run in their crates' folders, and may look there for what is in the target folder.
        if text == "CARGO_TARGET_DIR"
            && let Ok(absolute) = std::path::absolute(&value)
        {
            command.env(&name, absolute);
        }
    }
    command
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A workspace of a core, an adapter with pass-through features, a test kit and a facade.
    pub(crate) fn example() -> Workspace {
        Workspace::parse(
            r#"{"workspace_root": "/w", "target_directory": "/w/target", "packages": [
                {"name": "kafka-batcher-core", "manifest_path": "/w/core/Cargo.toml", "publish": null,
                 "features": {}, "dependencies": [
                    {"name": "bytes", "rename": null, "kind": null, "optional": false, "uses_default_features": true, "features": []}]},
                {"name": "kafka-batcher-rdkafka", "manifest_path": "/w/rdkafka/Cargo.toml", "publish": null,
                 "features": {"default": ["libz"], "libz": ["rdkafka/libz"], "ssl": ["rdkafka/ssl"], "zstd": ["rdkafka/zstd"]},
                 "dependencies": [
                    {"name": "kafka-batcher-core", "rename": null, "kind": null, "optional": false, "uses_default_features": true, "features": []},
                    {"name": "rdkafka", "rename": null, "kind": null, "optional": false, "uses_default_features": false, "features": []},
                    {"name": "kafka-batcher-testkit", "rename": null, "kind": "dev", "optional": false, "uses_default_features": true, "features": ["embedded"]}]},
                {"name": "kafka-batcher-testkit", "manifest_path": "/w/testkit/Cargo.toml", "publish": null,
                 "features": {"embedded": ["dep:rdkafka"]}, "dependencies": [
                    {"name": "kafka-batcher-core", "rename": null, "kind": null, "optional": false, "uses_default_features": true, "features": []},
                    {"name": "rdkafka", "rename": null, "kind": null, "optional": true, "uses_default_features": false, "features": ["libz"]}]},
                {"name": "kafka-batcher", "manifest_path": "/w/facade/Cargo.toml", "publish": null,
                 "features": {"default": ["rdkafka"], "rdkafka": ["dep:kafka-batcher-rdkafka", "kafka-batcher-rdkafka/libz"],
                              "ssl": ["kafka-batcher-rdkafka?/ssl"], "zstd": ["rdkafka", "kafka-batcher-rdkafka/zstd"]},
                 "dependencies": [
                    {"name": "kafka-batcher-core", "rename": null, "kind": null, "optional": false, "uses_default_features": true, "features": []},
                    {"name": "kafka-batcher-rdkafka", "rename": null, "kind": null, "optional": true, "uses_default_features": false, "features": []}]},
                {"name": "xtask", "manifest_path": "/w/xtask/Cargo.toml", "publish": [], "features": {}, "dependencies": []}
            ]}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_metadata_of_cargo_is_read() {
        let workspace = example();
        assert_eq!(workspace.packages[0].name, "kafka-batcher", "sorted");
        assert!(workspace.package("kafka-batcher-core").unwrap().is_published());
        assert!(!workspace.package("xtask").unwrap().is_published());
        assert_eq!(workspace.package("xtask").unwrap().folder(), Path::new("/w/xtask"));
        let rdkafka = workspace.package("kafka-batcher-rdkafka").unwrap();
        assert_eq!(rdkafka.dependencies[2].kind, Some(Kind::Dev));
    }

    #[test]
    fn this_workspace_is_found() {
        let workspace = Workspace::load().unwrap();
        assert!(workspace.package("xtask").is_some());
        assert!(workspace.root.join("xtask").is_dir());
    }
}
