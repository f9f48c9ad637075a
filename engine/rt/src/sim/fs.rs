//! Names and small files of the seam on a modelled device.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, Failure, Request, absolute};
use super::file::{File, disk, named};
use super::world::world;
use crate::file::CommitMethod;
use crate::fs::Space;

pub(crate) async fn create_dir_all(path: &Path) -> io::Result<()> {
    let at = absolute(path);
    let done = disk().metadata(|state| state.names.create_dir_all(&at)).await;
    done.map_err(|e| named("create directory", path, &e))
}

pub(crate) async fn read_dir(path: &Path) -> io::Result<Vec<PathBuf>> {
    let at = absolute(path);
    let names = disk().metadata(|state| state.names.list(&at)).await;
    names.map_err(|e| named("list", path, &e))
}

pub(crate) async fn read(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path, false).await {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let len = file.len().await?;
    if len > max {
        return Err(named("read", path, &io::ErrorKind::FileTooLarge.into()));
    }
    file.read_whole(len).await.map(Some)
}

/// A name that lies beside another and has something more at its end.
fn beside(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let mut name: OsString = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(suffix);
    Ok(path.with_file_name(name))
}

/// The same steps as the production backend takes, so that a crash can fall between any two of them.
pub(crate) async fn replace(path: &Path, bytes: Vec<u8>, keep_bak: bool) -> io::Result<()> {
    let at = absolute(path);
    replace_steps(&at, bytes, keep_bak).await.map_err(|e| named("replace", path, &e))
}

async fn replace_steps(path: &Path, bytes: Vec<u8>, keep_bak: bool) -> io::Result<()> {
    let (tmp, bak) = (beside(path, ".tmp")?, beside(path, ".bak")?);
    let disk = disk();
    let file = File::create_over(&tmp).await?;
    file.fill(bytes).await?;
    file.sync().await?;
    if keep_bak && disk.metadata(|state| state.names.file(path).is_ok()).await {
        // The production backend ignores a backup that is not there.
        let _ = disk.metadata(|state| state.remove(&bak)).await;
        disk.metadata(|state| state.names.file(path).and_then(|old| state.names.link(&bak, old))).await?;
    }
    disk.metadata(|state| state.names.rename(&tmp, path)).await?;
    sync_names(&disk, path.parent().unwrap_or(path)).await
}

pub(crate) async fn remove(path: &Path) -> io::Result<()> {
    let at = absolute(path);
    match disk().metadata(|state| state.remove(&at)).await {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(named("remove", path, &e)),
        _ => Ok(()),
    }
}

pub(crate) async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (at, target) = (absolute(from), absolute(to));
    let done = disk().metadata(|state| state.rename(&at, &target)).await;
    done.map_err(|e| named("rename", from, &e))
}

pub(crate) async fn sync_dir(path: &Path) -> io::Result<()> {
    sync_names(&disk(), &absolute(path)).await.map_err(|e| named("sync directory", path, &e))
}

async fn sync_names(disk: &Disk, dir: &Path) -> io::Result<()> {
    let synced = disk.metadata(|state| match state.fault(Request::Sync, dir) {
        None => state.names.sync(dir),
        Some(Failure::Lie) => Ok(()),
        Some(Failure::Once | Failure::Sticky) => Err(io::Error::from_raw_os_error(libc::EIO)),
    });
    synced.await
}

pub(crate) async fn space(_path: &Path) -> io::Result<Space> {
    let disk = disk();
    disk.metadata(|_| ()).await;
    Ok(disk.space())
}

pub(crate) async fn commit_method(_path: &Path) -> CommitMethod {
    if disk().model().fua { CommitMethod::RingDsync } else { CommitMethod::Thread }
}

/// Held until dropped or the process is gone.
#[derive(Debug)]
pub(crate) struct DirLock {
    disk: Disk,
    path: PathBuf,
    holder: u64,
}

impl Drop for DirLock {
    fn drop(&mut self) {
        self.disk.unlock(&self.path, self.holder);
    }
}

pub(crate) async fn lock_dir(dir: &Path) -> io::Result<Result<DirLock, String>> {
    let path = absolute(dir).join("lock");
    let (world, disk) = (world(), disk());
    let holder = world.next_id();
    let process = format!("{}", 1000 * world.process(world.node()) + world.node().index() as u64);
    let locked = disk.metadata(|state| {
        state.lock(&path, holder, &process)?;
        Ok(state.holder(&path, holder).map_or_else(
            || Ok(DirLock { disk: disk.clone(), path: path.clone(), holder }),
            |other| Err(other.to_owned()),
        ))
    });
    locked.await.map_err(|e: io::Error| named("lock", dir, &e))
}
