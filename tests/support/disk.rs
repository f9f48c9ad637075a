//! A small disk that a test fills, a disk that is stuck, and one with bad sectors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own on a file, mounted where the broker will keep its store.
pub(crate) struct Disk {
    mounted: PathBuf,
}

/// The environment of a broker that goes by the room there is, unlike those that `server` starts otherwise.
pub(crate) fn filled() -> (&'static str, String) {
    ("RINGMQ_TEST_ROOM", "0".to_owned())
}

/// A broker's disk that is stuck for as long as the test says.
pub(crate) struct Stuck {
    file: PathBuf,
}

impl Stuck {
    /// A disk that is not stuck yet; `folder` is for the file by which the broker is told.
    pub(crate) fn not_yet(folder: &Path) -> Stuck {
        Stuck { file: folder.join("stuck") }
    }

    /// The environment of its broker.
    pub(crate) fn env(&self) -> (&'static str, String) {
        ("RINGMQ_TEST_DISK", self.file.display().to_string())
    }

    /// From here on no write of the store's files begins.
    pub(crate) fn hold(&self) {
        fs::write(&self.file, "").unwrap();
    }

    pub(crate) fn release(&self) {
        fs::remove_file(&self.file).unwrap();
    }
}

/// A broker's disk with sectors that it does not read.
pub(crate) struct BadSectors {
    file: PathBuf,
    /// Length of the log's segments.
    segment: i64,
}

impl BadSectors {
    /// A disk without any; `folder` is for the file by which the broker is told.
    pub(crate) fn none(folder: &Path, segment: i64) -> BadSectors {
        BadSectors { file: folder.join("bad sectors"), segment }
    }

    /// The environment of its broker.
    pub(crate) fn env(&self) -> (&'static str, String) {
        ("RINGMQ_TEST_UNREADABLE", self.file.display().to_string())
    }

    /// From here on the log's byte at this position is not read.
    pub(crate) fn hit(&self, position: i64) {
        let (shard, offset) = (position >> 56, position & ((1 << 56) - 1));
        let (base, at) = (offset / self.segment * self.segment, offset % self.segment);
        let written = self.file.with_extension("new");
        let earlier = fs::read_to_string(&self.file).unwrap_or_default();
        fs::write(&written, format!("{earlier}commitlog/{shard}/{base:020} {at} {}\n", at + 1)).unwrap();
        fs::rename(written, &self.file).unwrap();
    }

    /// The disk reads everything again.
    pub(crate) fn heal(&self) {
        fs::remove_file(&self.file).unwrap();
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let result = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&result.stderr).trim().to_owned();
    if result.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}

impl Disk {
    /// Makes one of `mib` MiB in the file `image` and mounts it at `at`, which only root may.
    pub(crate) fn mount(image: &Path, at: &Path, mib: u64) -> Result<Disk, String> {
        let file = fs::File::create(image).map_err(|e| e.to_string())?;
        file.set_len(mib << 20).map_err(|e| e.to_string())?;
        let (image, folder) = (image.display().to_string(), at.display().to_string());
        run("mkfs.ext4", &["-q", "-m", "0", &image])?;
        fs::create_dir_all(at).map_err(|e| e.to_string())?;
        run("mount", &["-o", "loop", &image, &folder])?;
        Ok(Disk { mounted: at.to_owned() })
    }

    fn ballast(&self) -> PathBuf {
        self.mounted.join("ballast")
    }

    /// Takes room that can be given back.
    pub(crate) fn take(&self, mib: u64) {
        let size = (mib << 20).to_string();
        run("fallocate", &["-l", &size, &self.ballast().display().to_string()]).unwrap();
    }

    pub(crate) fn give_back(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the broker that has its store here may not have been reaped yet.
        let _stays_until_reboot = run("umount", &["-l", &self.mounted.display().to_string()]);
    }
}
