//! The folder of a run: found, checked, made, and removed again whatever happens. Each run has one of its own below
//! the chosen folder and holds a lock in it, so that the next run knows what a killed one left behind.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::host::Storage;

const PREFIX: &str = "ringmq-bench-flush-";
/// Share of the disk in use from which on a broker refuses messages (diskSpaceWarningLevelRatio).
const REFUSED_FROM: f64 = 0.9;
const LOCK: &str = "lock";

#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    /// Made by this run, to be removed if nothing else is in it.
    made: Option<PathBuf>,
    _lock: File,
}

/// Where a broker of this user has its store if nobody says otherwise: that is the disk in question.
fn usual() -> PathBuf {
    let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share")));
    data.unwrap_or_else(|| PathBuf::from("/var/lib")).join("ringmq/bench")
}

impl Place {
    /// `needs_bytes` is what the run writes at least.
    pub(crate) fn prepare(
        chosen: Option<&Path>,
        allow_tmpfs: bool,
        needs_bytes: u64,
    ) -> anyhow::Result<(Place, Storage)> {
        let base = chosen.map_or_else(usual, Path::to_path_buf);
        let is_new = !base.exists();
        fs::create_dir_all(&base)
            .with_context(|| format!("{} cannot be made: choose another folder with --store", base.display()))?;
        let storage = Storage::under(&base)?;
        let checked = check(&storage, allow_tmpfs, needs_bytes).and_then(|()| Self::make(&base, is_new));
        if checked.is_err() && is_new {
            let _not_empty = fs::remove_dir(&base);
        }
        Ok((checked?, storage))
    }

    fn make(base: &Path, is_new: bool) -> anyhow::Result<Place> {
        sweep(base);
        let folder = base.join(format!("{PREFIX}{}", std::process::id()));
        let make = || {
            fs::create_dir(&folder)?;
            let lock = File::create(folder.join(LOCK))?;
            lock.lock()?;
            Ok::<File, std::io::Error>(lock)
        };
        let lock = make()
            .with_context(|| format!("nothing can be written into {}: choose another with --store", base.display()))?;
        Ok(Place { folder, made: is_new.then(|| base.to_path_buf()), _lock: lock })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} could not be removed ({error}): remove it by hand", self.folder.display());
        }
        if let Some(made) = &self.made {
            let _not_empty = fs::remove_dir(made);
        }
    }
}

fn check(storage: &Storage, allow_tmpfs: bool, needs_bytes: u64) -> anyhow::Result<()> {
    let folder = storage.folder.display();
    ensure!(
        allow_tmpfs || !storage.is_memory(),
        "{folder} is on {}, which is memory: nothing is durable there. Choose a folder on a disk with --store, or try \
         the command itself with --allow-tmpfs",
        storage.file_system
    );
    let room = rustix::fs::statvfs(&storage.folder).with_context(|| format!("{folder}: its room is not known"))?;
    let free = room.f_bavail * room.f_frsize;
    // What a broker may fill of the disk before it refuses to take more, counted as `df` and the broker do.
    let total = (room.f_blocks.saturating_sub(room.f_bfree) + room.f_bavail) * room.f_frsize;
    let usable = free.saturating_sub((total as f64 * (1.0 - REFUSED_FROM)) as u64);
    ensure!(
        usable >= needs_bytes,
        "{folder} has {} MB free, of which a broker leaves the last {:.0}% of the disk alone, and this run writes about \
         {} MB: make room, choose another folder with --store, or run shorter (--rounds, --seconds, --closed-seconds, \
         --rate, --size)",
        free / 1_000_000,
        (1.0 - REFUSED_FROM) * 100.0,
        needs_bytes / 1_000_000
    );
    Ok(())
}

/// Removes what runs left behind that were killed: their lock is free.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let Some(lock) = is_ours.then(|| File::open(entry.path().join(LOCK)).ok()).flatten() else { continue };
        if lock.try_lock().is_ok() {
            let _next_time = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_with_its_run_and_takes_a_dead_ones_along() {
        let base = tempfile::tempdir().unwrap();
        let dead = base.path().join(format!("{PREFIX}0"));
        fs::create_dir(&dead).unwrap();
        File::create(dead.join(LOCK)).unwrap();
        let other = base.path().join("mine");
        fs::create_dir(&other).unwrap();
        let (place, _) = Place::prepare(Some(base.path()), true, 0).unwrap();
        let folder = place.folder().to_path_buf();
        assert!(folder.exists() && !dead.exists() && other.exists());
        drop(place);
        assert!(!folder.exists() && base.path().exists());
    }

    #[test]
    fn a_folder_that_cannot_serve_is_refused_with_the_next_step() {
        let memory = Storage::under(Path::new("/dev/shm"));
        if let Some(storage) = memory.ok().filter(Storage::is_memory) {
            let error = check(&storage, false, 1).unwrap_err().to_string();
            assert!(error.contains("is on tmpfs") && error.contains("--store"), "{error}");
            assert!(check(&storage, true, 0).is_ok());
        }
        let base = tempfile::tempdir().unwrap();
        let storage = Storage::under(base.path()).unwrap();
        let error = check(&storage, true, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("MB free"), "{error}");
        let file = base.path().join("file");
        File::create(&file).unwrap();
        let error = Place::prepare(Some(&file.join("below")), true, 0).unwrap_err();
        assert!(format!("{error:#}").contains("choose another folder"), "{error:#}");
    }
}
