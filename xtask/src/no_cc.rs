//! `cargo xtask no-cc`: the rskafka backend builds where there is no C compiler.
//!
//! Cargo runs with a PATH that is an empty folder, and with `CC` naming a program that is not there. Rust itself links with
//! `cc`, and build scripts and procedural macros are programs, so the linker goes by a name that only rustc is told.
//!
//! A check that can't fail would say nothing: the features that bring C code have to fail, for want of that very compiler.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::children::{self, End};
use crate::error::{Context, Error, Result};
use crate::table::Table;
use crate::workspace::{Package, Workspace, cargo_of};
use crate::{files, print};

const ADAPTER: &str = "kafka-batcher-rskafka";
const FACADE: &str = "kafka-batcher";
/// The facade's feature for the adapter.
const BACKEND: &str = "rskafka";
/// The adapter's features that compile C code along; all others have to do without.
const WITH_C: &[&str] = &["lz4", "zstd", "tls"];

/// What may be found on a PATH, none of it on ours.
const COMPILERS: &[&str] = &["cc", "gcc", "clang", "c++", "g++", "clang++", "cmake", "make", "pkg-config"];
/// Among them those that rustc can link with.
const LINKERS: &[&str] = &["cc", "gcc", "clang"];
/// Named in the errors of build scripts that wanted a compiler.
const MISSING: &str = "no-c-compiler-here";
const PATIENCE: Duration = Duration::from_secs(600);
/// Lines of a log to show.
const TAIL: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Builds,
    /// For want of a compiler.
    Fails,
}

#[derive(Debug, PartialEq, Eq)]
struct Build {
    package: String,
    /// Cargo's arguments for them.
    features: Vec<String>,
    expected: Expected,
}

pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let builds = builds(&workspace)?;
    let hidden = Hidden::prepare(&workspace)?;
    let mut table = Table::new(&["crate", "features", "without a C compiler", "time", "status"]);
    let mut good = true;
    for build in &builds {
        let log = hidden.folder.join(format!("{}.log", build.name().replace([' ', ',', '/'], "-")));
        let began = Instant::now();
        eprint!("{} ... ", build.name());
        let end = hidden.build(&workspace, build, &log)?;
        let verdict = judge(build.expected, end, &files::read_lossy(&log)?);
        let (said, status) = match &verdict {
            Ok(said) => (*said, "ok"),
            Err(problem) => (problem.as_str(), "FAILED"),
        };
        eprintln!("{said}");
        if verdict.is_err() {
            good = false;
            show_end(&log)?;
        }
        let time = format!("{:.1} s", began.elapsed().as_secs_f64());
        table.row(&[&build.package, &build.label(), said, &time, status]);
    }
    print(&table.render())?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn builds(workspace: &Workspace) -> Result<Vec<Build>> {
    let find = |name: &str| {
        workspace
            .package(name)
            .ok_or_else(|| Error::new(format!("there is no crate {name}, to build without C")))
    };
    let (adapter, facade) = (find(ADAPTER)?, find(FACADE)?);
    if !facade.features.contains_key(BACKEND) {
        return Err(Error::new(format!("{FACADE} has no feature {BACKEND}")));
    }
    if let Some(gone) = WITH_C.iter().find(|feature| !adapter.features.contains_key(**feature)) {
        return Err(Error::new(format!("{ADAPTER} has no feature {gone}, which is thought to need C")));
    }
    let build = |package: &Package, features: &[&str], expected| Build {
        package: package.name.clone(),
        features: features.iter().map(|&argument| argument.to_owned()).collect(),
        expected,
    };
    let mut builds = vec![
        build(adapter, &[], Expected::Builds),
        build(facade, &["--no-default-features", "--features", BACKEND], Expected::Builds),
    ];
    let default = adapter.features.get("default").map_or(&[][..], Vec::as_slice);
    for feature in adapter.features.keys().filter(|name| *name != "default" && !default.contains(name)) {
        let expected = if WITH_C.contains(&feature.as_str()) { Expected::Fails } else { Expected::Builds };
        builds.push(build(adapter, &["--features", feature], expected));
    }
    Ok(builds)
}

impl Build {
    fn label(&self) -> String {
        match &self.features[..] {
            [] => "default".to_owned(),
            [only, _, features] if only == "--no-default-features" => features.clone(),
            features => format!("default,{}", features.last().map_or("", String::as_str)),
        }
    }

    fn name(&self) -> String {
        format!("{} {}", self.package, self.label())
    }
}

/// What to call how it went, or what is wrong with it.
fn judge(expected: Expected, end: End, log: &str) -> std::result::Result<&'static str, String> {
    match (expected, end) {
        (_, End::TimedOut) => Err(format!("did not end within {} s", PATIENCE.as_secs())),
        (Expected::Builds, End::Success) => Ok("builds"),
        (Expected::Builds, End::Failure) => Err("does not build".to_owned()),
        (Expected::Fails, End::Success) => Err(
            "builds, and should not: either C compilers are not hidden well, or it needs none any more and can \
             leave WITH_C in xtask/src/no_cc.rs"
                .to_owned(),
        ),
        (Expected::Fails, End::Failure) if misses_compiler(log) => Ok("asks for one, as it should"),
        (Expected::Fails, End::Failure) => Err("fails, but not for want of a C compiler".to_owned()),
    }
}

/// As build scripts say it; that they show their whole environment proves nothing.
fn misses_compiler(log: &str) -> bool {
    log.lines().any(|line| line.contains(MISSING) && line.contains("No such file"))
}

/// A place where no compiler can be found.
struct Hidden {
    folder: PathBuf,
    /// The only folder of the PATH.
    empty: PathBuf,
    linker: PathBuf,
    /// Where cargo and rustc are: themselves, not the `rustup` that goes by their names and looks at the PATH.
    toolchain: PathBuf,
}

impl Hidden {
    fn prepare(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.target.join("no-cc");
        let empty = folder.join("path");
        files::remove_dir_all(&empty)?;
        files::create_dir_all(&empty)?;
        let linker = folder.join("linker.sh");
        files::write(&linker, &linker_script()?)?;
        make_executable(&linker)?;
        let hidden = Self { folder, empty, linker, toolchain: toolchain(workspace)? };
        if let Some(found) = COMPILERS.iter().find(|program| hidden.finds(program)) {
            return Err(Error::new(format!("`{found}` is still found, although the PATH is empty")));
        }
        Ok(hidden)
    }

    fn finds(&self, program: &str) -> bool {
        let mut command = Command::new(program);
        command.arg("--version").env("PATH", &self.empty).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    }

    fn build(&self, workspace: &Workspace, build: &Build, log: &Path) -> Result<End> {
        let mut command = cargo_of(self.toolchain.join("cargo").as_os_str(), &workspace.root);
        command.args(["build", "--package", &build.package]).args(&build.features);
        // A compiler may be named in many ways: CC, TARGET_CC, CC_x86_64-unknown-linux-gnu, CXXFLAGS, CMAKE, …
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_uppercase();
            let names_one = ["CC", "CXX", "CMAKE", "PKG_CONFIG"].iter().any(|word| {
                text.split('_').next() == Some(word) || text.ends_with(&format!("_{word}")) || text == *word
            });
            if names_one || text.contains("RUSTFLAGS") || text.contains("RUSTC") {
                command.env_remove(&name);
            }
        }
        let missing = self.empty.join(MISSING);
        // The flavor, as rustc would guess it from the name.
        let mut linker = std::ffi::OsString::from("-Clinker-flavor=gcc\u{1f}-Clinker=");
        linker.push(&self.linker);
        command
            .env("PATH", &self.empty)
            .env("CC", &missing)
            .env("CXX", &missing)
            .env("RUSTC", self.toolchain.join("rustc"))
            .env_remove("CARGO")
            .env("CARGO_ENCODED_RUSTFLAGS", linker)
            .env("CARGO_TERM_COLOR", "never")
            // Nothing in it was ever built with a compiler at hand.
            .env("CARGO_TARGET_DIR", self.folder.join("target"));
        files::write(log, "")?;
        children::logged_for(&mut command, log, PATIENCE)
    }
}

fn toolchain(workspace: &Workspace) -> Result<PathBuf> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(program);
    command.args(["--print", "sysroot"]).current_dir(&workspace.root).stdin(Stdio::null());
    let output = command.stderr(Stdio::inherit()).output().context(|| "cannot run rustc")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("bin");
    match ["cargo", "rustc"].iter().find(|program| !folder.join(program).is_file()) {
        Some(missing) => Err(Error::new(format!("there is no {missing} in {}", folder.display()))),
        None => Ok(folder),
    }
}

/// Links with what this machine has, which is given back the PATH that it needs.
fn linker_script() -> Result<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let candidates = LINKERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let linker = candidates.into_iter().find(|file| file.is_file());
    let linker = linker
        .ok_or_else(|| Error::new(format!("Rust links with one of {}: there is none", LINKERS.join(", "))))?;
    Ok(format!(
        "#!/bin/sh\nPATH={} exec {} \"$@\"\n",
        quoted(&path.to_string_lossy()),
        quoted(&linker.to_string_lossy())
    ))
}

/// For the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(unix)]
fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(file, mode).context(|| format!("cannot make {} a program", file.display()))
}

#[cfg(not(unix))]
fn make_executable(_file: &Path) -> Result<()> {
    Err(Error::new("this wants a shell script as the linker, hence Unix"))
}

fn show_end(log: &Path) -> Result<()> {
    let said = files::read_lossy(log)?;
    let lines: Vec<&str> = said.lines().collect();
    eprintln!("--- the end of {}", log.display());
    for line in &lines[lines.len().saturating_sub(TAIL)..] {
        eprintln!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_should_fail_has_to_fail_for_the_right_reason() {
        let log = format!("failed to find tool \"/w/{MISSING}\": No such file");
        assert!(judge(Expected::Builds, End::Success, "").is_ok());
        assert!(judge(Expected::Builds, End::Failure, &log).is_err());
        assert!(judge(Expected::Fails, End::Failure, &log).is_ok());
        assert!(judge(Expected::Fails, End::Failure, "error: no network").is_err());
        let environment = format!("CC = Some(/w/{MISSING})\nerror: no network");
        assert!(judge(Expected::Fails, End::Failure, &environment).is_err());
        assert!(judge(Expected::Fails, End::Success, &log).is_err());
        assert!(judge(Expected::Fails, End::TimedOut, &log).is_err());
    }

    #[test]
    fn features_that_bring_c_are_known_and_others_have_to_do_without() {
        let metadata = |features: &str| {
            format!(
                r#"{{"workspace_root": "/w", "target_directory": "/w/target", "packages": [
                {{"name": "kafka-batcher-rskafka", "manifest_path": "/w/r/Cargo.toml", "publish": null,
                  "features": {features}, "dependencies": []}},
                {{"name": "kafka-batcher", "manifest_path": "/w/f/Cargo.toml", "publish": null,
                  "features": {{"rskafka": []}}, "dependencies": []}}]}}"#
            )
        };
        let text =
            metadata(r#"{"default": ["gzip"], "gzip": [], "lz4": [], "new": [], "tls": [], "zstd": []}"#);
        let found = builds(&Workspace::parse(&text).unwrap()).unwrap();
        let found: Vec<(String, Expected)> =
            found.iter().map(|build| (build.name(), build.expected)).collect();
        let expected = [
            ("kafka-batcher-rskafka default", Expected::Builds),
            ("kafka-batcher rskafka", Expected::Builds),
            ("kafka-batcher-rskafka default,lz4", Expected::Fails),
            ("kafka-batcher-rskafka default,new", Expected::Builds),
            ("kafka-batcher-rskafka default,tls", Expected::Fails),
            ("kafka-batcher-rskafka default,zstd", Expected::Fails),
        ];
        assert_eq!(found, expected.map(|(name, expected)| (name.to_owned(), expected)));
        let gone = builds(&Workspace::parse(&metadata("{}")).unwrap()).unwrap_err().to_string();
        assert!(gone.contains("has no feature lz4"), "{gone}");
    }

    #[test]
    fn the_shell_gets_paths_as_they_are() {
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }
}
