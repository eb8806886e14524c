//! The copy of the workspace that bugs are planted in.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::bug::Bug;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::workspace::{self, Workspace};

/// `target/planted`: the copy in `tree`, what is built of it in `target`, and a log for each bug in `logs`.
#[derive(Debug)]
pub(crate) struct Scratch {
    root: PathBuf,
}

/// The workspace's files, tracked or not, but for those that are ignored; from its root.
pub(crate) fn files(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .current_dir(&workspace.root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context(|| "cannot run `git`, which tells what belongs to the workspace")?;
    if !output.status.success() {
        return Err(Error::new(format!("`git ls-files` failed ({})", output.status)));
    }
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names = names.map(|name| PathBuf::from(OsStr::new(&*String::from_utf8_lossy(name))));
    // Deleted but not yet committed.
    Ok(names.filter(|name| workspace.root.join(name).is_file()).collect())
}

/// Whether each bug can be planted in the code as it is now; says of all that can't why.
pub(crate) fn check(root: &Path, bugs: &[Bug]) -> Result<()> {
    let planted = |bug: &Bug| plant(&files::read(&root.join(&bug.file))?, bug);
    let complaints: Vec<String> =
        bugs.iter().filter_map(|bug| planted(bug).err()).map(|error| error.to_string()).collect();
    if complaints.is_empty() { Ok(()) } else { Err(Error::new(complaints.join("\n"))) }
}

impl Scratch {
    /// Makes the copy like the workspace. A file that is so already is not touched, so that cargo need not build it anew.
    pub(crate) fn create(workspace: &Workspace, names: &[PathBuf]) -> Result<Self> {
        let scratch = Self { root: workspace.target.join("planted") };
        let tree = scratch.tree();
        for name in names {
            let (from, to) = (workspace.root.join(name), tree.join(name));
            let content = fs::read(&from).context(|| format!("cannot read {}", from.display()))?;
            if fs::read(&to).is_ok_and(|there| there == content) {
                continue;
            }
            if let Some(folder) = to.parent() {
                files::create_dir_all(folder)?;
            }
            fs::write(&to, content).context(|| format!("cannot write {}", to.display()))?;
        }
        remove_others(&tree, &tree, names)?;
        files::remove_dir_all(&scratch.root.join("logs"))?;
        files::create_dir_all(&scratch.root.join("logs"))?;
        Ok(scratch)
    }

    fn tree(&self) -> PathBuf {
        self.root.join("tree")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    pub(crate) fn cargo(&self) -> Command {
        let mut command = workspace::cargo(&self.tree());
        command.env("CARGO_TARGET_DIR", self.root.join("target")).env("CARGO_TERM_COLOR", "never");
        command
    }

    pub(crate) fn apply(&self, bug: &Bug) -> Result<Broken> {
        let path = self.tree().join(&bug.file);
        let original = files::read(&path)?;
        files::write(&path, &plant(&original, bug)?)?;
        Ok(Broken { path, original })
    }
}

/// A file with a bug in it.
#[derive(Debug)]
pub(crate) struct Broken {
    path: PathBuf,
    original: String,
}

impl Broken {
    pub(crate) fn restore(self) -> Result<()> {
        files::write(&self.path, &self.original)
    }
}

fn plant(source: &str, bug: &Bug) -> Result<String> {
    match source.matches(&bug.find).count() {
        1 => Ok(source.replacen(&bug.find, &bug.replace, 1)),
        found => {
            let Bug { name, file, .. } = bug;
            Err(Error::new(format!(
                "bug {name}: what it looks for is in {file} {found} times, and should be there once"
            )))
        }
    }
}

/// Removes from the copy what is no longer in the workspace.
fn remove_others(folder: &Path, tree: &Path, names: &[PathBuf]) -> Result<()> {
    let cannot = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).context(cannot)? {
        let path = entry.context(cannot)?.path();
        if path.is_dir() {
            remove_others(&path, tree, names)?;
        } else if path.strip_prefix(tree).is_ok_and(|name| !names.iter().any(|kept| kept == name)) {
            fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::bug::{self, Job};
    use super::*;

    #[test]
    fn what_a_bug_looks_for_must_be_there_once() {
        let bug = Bug {
            package: "c".into(),
            name: "b".into(),
            file: "f.rs".into(),
            find: "a + b".into(),
            replace: "a - b".into(),
            job: Job::Test(vec![]),
        };
        assert_eq!(plant("let c = a + b;", &bug).unwrap(), "let c = a - b;");
        for source in ["", "a + b; a + b"] {
            assert!(plant(source, &bug).unwrap_err().to_string().contains("f.rs"));
        }
    }

    /// Who changes the code that a bug is planted in changes the bug as well.
    #[test]
    fn all_bugs_can_be_planted() {
        let workspace = Workspace::load().unwrap();
        let bugs = bug::read_all(&workspace, &files(&workspace).unwrap()).unwrap();
        check(&workspace.root, &bugs).unwrap_or_else(|error| panic!("{error}"));
        let mut gone = bugs[0].clone();
        gone.find = "what is nowhere".to_owned();
        let error = check(&workspace.root, &[gone.clone(), gone]).unwrap_err().to_string();
        assert_eq!(error.matches(&bugs[0].file).count(), 2, "{error}");
    }

    #[test]
    fn this_file_belongs_to_the_workspace() {
        let files = files(&Workspace::load().unwrap()).unwrap();
        assert!(files.iter().any(|name| name.ends_with("planted/scratch.rs")));
        assert!(!files.iter().any(|name| name.starts_with("target")));
    }
}
