//! The folder: its lock, its format, who may read it, and what half-done work left in it.
//!
//! ```text
//! LOCK             held with an advisory lock for as long as the spool is open
//! FORMAT           which release may read this
//! MARKS            how far each lane was written and acknowledged
//! RESERVE          nothing; given up to open and drain on a full disk
//! gen-0000000001/  a sled database; with READY in it once it is whole; SEALED once nothing is added any more:
//!                  what is in it; SUSPECT after writing to it failed
//! copy-…/          what the youngest of them was before sled opened it, until that is known to have gone well
//! quarantine-…/    damaged ones, after what was left in them was saved; never deleted here
//! deleting-…/      on its way out
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::TARGET;
use crate::error::{Context, SledError};
use crate::faults::{Faults, Step};

/// The newest format this release knows, and the one it writes.
const FORMAT: u32 = 1;
const FORMAT_NAME: &str = "kafka-batcher spool";

pub(crate) const READY: &str = "READY";
pub(crate) const SEALED: &str = "SEALED";
pub(crate) const SUSPECT: &str = "SUSPECT";
const RESERVE: &str = "RESERVE";

/// Makes an empty file that only its owner may read.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Makes a folder that only its owner may enter.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Forces the names in a folder to the disk.
pub(crate) fn sync_dir(path: &Path, disk: bool) -> io::Result<()> {
    if disk { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Takes from everybody else the right to read what is in a folder.
pub(crate) fn restrict(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            restrict(&entry.path())?;
        } else {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

/// Bytes that a folder's files take on the disk.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Bytes that are free on the folder's disk; `None` when that can't be told.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Held for as long as the spool is open.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing it is what unlocks")] File);

/// Makes the folder if need be and locks it.
pub(crate) fn lock(dir: &Path) -> Result<Lock, SledError> {
    create_dir(dir).context(|| format!("make the folder {}", dir.display()))?;
    let path = dir.join("LOCK");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(SledError::StorageLocked { path: dir.to_path_buf(), pid });
        }
        Err(TryLockError::Error(error)) => {
            return Err(SledError::io(format!("lock {}", path.display()), error));
        }
    }
    // Only a help for whoever meets the lock; on a full disk it goes without.
    drop(file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())));
    Ok(Lock(file))
}

/// Reads the format, or writes it into a new folder.
pub(crate) fn check_format(dir: &Path, disk: bool) -> Result<(), SledError> {
    let path = dir.join("FORMAT");
    match fs::read(&path) {
        Ok(bytes) => match parse_format(&bytes) {
            Some(found) if found > FORMAT => {
                return Err(SledError::NewerFormat { path: dir.to_path_buf(), found, known: FORMAT });
            }
            Some(_) => return Ok(()),
            // Damaged. Every record and frame says its version itself, so nothing is taken for what it is not.
            None => {
                tracing::warn!(target: TARGET, path = %path.display(), "the FORMAT file of the storage is damaged; written anew")
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => refuse_foreign(dir)?,
        Err(error) => return Err(SledError::io(format!("read {}", path.display()), error)),
    }
    write_format(dir, disk).context(|| format!("write {}", path.display()))
}

fn refuse_foreign(dir: &Path) -> Result<(), SledError> {
    let ours = ["LOCK", "FORMAT", "MARKS", RESERVE, "gen-", "copy-", "quarantine-", "deleting-"];
    for name in names(dir).context(|| format!("list {}", dir.display()))? {
        if !ours.iter().any(|ours| name.starts_with(ours)) && name != "lost+found" {
            let why = format!("it has no FORMAT, but there is {name} in it");
            return Err(SledError::NotASpool { path: dir.to_path_buf(), why });
        }
    }
    Ok(())
}

fn format_text(format: u32) -> String {
    let text = format!("{FORMAT_NAME} {format}");
    format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()))
}

fn parse_format(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?;
    let format = text.strip_prefix(FORMAT_NAME)?.split_whitespace().next()?.parse().ok()?;
    (text == format_text(format)).then_some(format)
}

fn write_format(dir: &Path, disk: bool) -> io::Result<()> {
    let new = dir.join("FORMAT.new");
    let mut file = create_file(&new)?;
    file.write_all(format_text(FORMAT).as_bytes())?;
    if disk {
        file.sync_all()?;
    }
    fs::rename(new, dir.join("FORMAT"))?;
    sync_dir(dir, disk)
}

pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

pub(crate) fn generation_dir(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("gen-{number:010}"))
}

pub(crate) fn copy_dir(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("copy-{number:010}"))
}

/// Writes a file into a folder, empty or with a text, and forces it and its name to the disk.
pub(crate) fn put_flag(dir: &Path, name: &str, text: &[u8], disk: bool, faults: &Faults) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let flag = create_file(&new)?;
    faults.write_all_at(Step::Flag, &flag, text, 0)?;
    if disk {
        flag.sync_all()?;
    }
    faults.at(Step::RenameFlag)?;
    fs::rename(new, dir.join(name))?;
    if disk {
        faults.at(Step::Flag)?;
        sync_dir(dir, true)?;
        if let Some(parent) = dir.parent() {
            sync_dir(parent, true)?;
        }
    }
    Ok(())
}

/// Renames a folder out of the way, then deletes it: half a deletion is not taken for a generation.
pub(crate) fn delete_dir(dir: &Path) -> io::Result<()> {
    let Some(name) = dir.file_name() else { return Ok(()) };
    let gone = dir.with_file_name(format!("deleting-{}", name.to_string_lossy()));
    if gone.exists() {
        fs::remove_dir_all(&gone)?;
    }
    fs::rename(dir, &gone)?;
    fs::remove_dir_all(gone)
}

/// Renames a damaged folder, so that it is kept but not read any more. Gives its new name.
pub(crate) fn quarantine(dir: &Path) -> io::Result<PathBuf> {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let to = (0_u32..)
        .map(|n| dir.with_file_name(format!("quarantine-{name}-{n}")))
        .find(|to| !to.exists())
        .unwrap_or_else(|| dir.with_file_name(format!("quarantine-{name}")));
    fs::rename(dir, &to)?;
    Ok(to)
}

/// Removes what half-done work left. Gives the numbers of the generations there are, and how many leftovers were removed.
pub(crate) fn clean_up(dir: &Path) -> io::Result<(Vec<u64>, u64)> {
    let (mut generations, mut removed) = (Vec::new(), 0);
    let all = names(dir)?;
    let number = |name: &str, prefix: &str| name.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
    for name in &all {
        let path = dir.join(name);
        if name.starts_with("deleting-") {
            fs::remove_dir_all(&path)?;
            removed += 1;
        } else if let Some(number) = number(name, "copy-") {
            if path.join(READY).exists() {
                // sled may have been stopped halfway through changing the original.
                let original = generation_dir(dir, number);
                if original.exists() {
                    delete_dir(&original)?;
                }
                fs::rename(&path, &original)?;
            } else {
                fs::remove_dir_all(&path)?;
            }
            removed += 1;
        } else if name == "MARKS.new" || name == "FORMAT.new" {
            fs::remove_file(&path)?;
        }
    }
    for name in names(dir)? {
        let Some(number) = number(&name, "gen-") else { continue };
        let path = generation_dir(dir, number);
        if !path.join(READY).exists() {
            delete_dir(&path)?;
            removed += 1;
            continue;
        }
        for name in names(&path)? {
            // sled takes a half-written one for a whole one, and does not open.
            if name.ends_with(".generating") {
                fs::remove_file(path.join(name))?;
                removed += 1;
            }
        }
        generations.push(number);
    }
    Ok((generations, removed))
}

/// Copies a generation; [`clean_up`] puts a complete copy back.
pub(crate) fn copy_generation(dir: &Path, number: u64) -> io::Result<()> {
    let (from, to) = (generation_dir(dir, number), copy_dir(dir, number));
    create_dir(&to)?;
    for name in names(&from)? {
        let source = from.join(&name);
        if source.is_file() && name != READY {
            fs::copy(&source, to.join(&name))?;
        }
    }
    for name in names(&to)? {
        File::open(to.join(name))?.sync_all()?;
    }
    drop(create_file(&to.join(READY))?);
    Ok(())
}

/// Gives the reserve up.
pub(crate) fn release_reserve(dir: &Path) {
    drop(fs::remove_file(dir.join(RESERVE)));
}

/// Takes the reserve, unless it is there. Whether it is there then.
pub(crate) fn take_reserve(dir: &Path, bytes: u64) -> bool {
    let path = dir.join(RESERVE);
    if fs::metadata(&path).is_ok_and(|metadata| metadata.blocks() * 512 >= bytes) {
        return true;
    }
    let take = || -> io::Result<()> {
        let mut file = create_file(&path)?;
        let block = [0x55; 64 * 1024];
        for _ in 0..bytes.div_ceil(block.len() as u64) {
            file.write_all(&block)?;
        }
        file.sync_all()
    };
    let taken = take().is_ok();
    if !taken {
        release_reserve(dir);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_and_a_damaged_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        check_format(dir.path(), true).unwrap();
        check_format(dir.path(), true).unwrap();
        fs::write(dir.path().join("FORMAT"), format_text(7)).unwrap();
        let error = check_format(dir.path(), true).unwrap_err();
        assert!(matches!(error, SledError::NewerFormat { found: 7, known: FORMAT, .. }), "{error}");
        fs::write(dir.path().join("FORMAT"), "kafka-batcher spool 3 00000000\n").unwrap();
        check_format(dir.path(), true).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("FORMAT")).unwrap(), format_text(FORMAT));
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "").unwrap();
        let error = check_format(dir.path(), true).unwrap_err();
        assert!(error.to_string().contains("thesis.txt"), "{error}");
        assert!(!dir.path().join("FORMAT").exists());
    }

    #[test]
    fn a_copy_is_put_back_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let gen1 = generation_dir(dir.path(), 1);
        create_dir(&gen1).unwrap();
        fs::write(gen1.join("db"), "whole").unwrap();
        put_flag(&gen1, READY, b"", true, &Faults::default()).unwrap();
        copy_generation(dir.path(), 1).unwrap();
        fs::write(gen1.join("db"), "half").unwrap();
        assert_eq!(clean_up(dir.path()).unwrap().0, [1]);
        assert_eq!(fs::read_to_string(gen1.join("db")).unwrap(), "whole");

        copy_generation(dir.path(), 1).unwrap();
        fs::remove_file(copy_dir(dir.path(), 1).join(READY)).unwrap();
        fs::write(gen1.join("db"), "newer").unwrap();
        assert_eq!(clean_up(dir.path()).unwrap().0, [1]);
        assert_eq!(fs::read_to_string(gen1.join("db")).unwrap(), "newer");
        assert!(!copy_dir(dir.path(), 1).exists());
    }
}
