//! File systems of a test's own: in memory, and on an image whose state at any time can be kept. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file system in memory of so many bytes, gone with the value.
pub(crate) struct Memory {
    folder: tempfile::TempDir,
}

impl Memory {
    pub(crate) fn new(bytes: u64) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={bytes},mode=0700");
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", text(folder.path())])?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn resize(&self, bytes: u64) {
        run("mount", &["-o", &format!("remount,size={bytes}"), text(self.path())]).unwrap();
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        run("umount", &["-l", text(self.folder.path())]).unwrap();
    }
}

/// An ext4 on an image, mounted as long as the value lives.
pub(crate) struct Disk {
    image: PathBuf,
    device: String,
    folder: tempfile::TempDir,
}

impl Disk {
    /// Makes an image with an empty ext4 of so many bytes.
    pub(crate) fn format(image: &Path, bytes: u64) -> Result<(), String> {
        std::fs::File::create(image).and_then(|file| file.set_len(bytes)).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-J", "size=4", text(image)]).map(drop)
    }

    /// Mounts an image, as it is after a start: what the journal of the file system holds is carried out.
    pub(crate) fn mount(image: &Path) -> Result<Self, String> {
        let device = run("losetup", &["--find", "--show", text(image)])?;
        let folder = tempfile::tempdir().unwrap();
        let mounted = run("mount", &[&device, text(folder.path())]);
        // From here on, dropping it tidies up.
        let disk = Self { image: image.to_path_buf(), device, folder };
        mounted.map(|_| disk)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes that the device has finished, and those that it is about.
    fn activity(&self) -> (u64, u64) {
        let name = self.device.rsplit('/').next().unwrap();
        let stat = std::fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        let numbers: Vec<u64> = stat.split_whitespace().map(|number| number.parse().unwrap()).collect();
        (numbers[4], numbers[8])
    }

    /// What is on the disk now, without what has only been written to memory: what a power cut leaves.
    ///
    /// `None` when the device was written to while it was copied, by the file system itself, each time that it was
    /// tried: such a mixture is no state that the disk was ever in.
    pub(crate) fn cut(&self, to: &Path) -> Option<()> {
        for _ in 0..50 {
            let before = self.activity();
            std::fs::copy(&self.image, to).unwrap();
            if before.1 == 0 && self.activity() == before {
                return Some(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Not mounted, if that was what failed.
        drop(run("umount", &["-l", text(self.folder.path())]));
        drop(run("losetup", &["--detach", &self.device]));
    }
}
