//! Names and small files, on the shard's blocking thread.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::file::CommitMethod;
use crate::fs::Space;
use crate::hooks;
use crate::step;
use crate::uring::blocking::{self, Lane};

async fn on_lane<T, F>(doing: &'static str, path: &Path, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Path) -> io::Result<T> + Send + 'static,
{
    let path = path.to_path_buf();
    blocking::run(Lane::Metadata, move || {
        work(&path).map_err(|e| io::Error::new(e.kind(), format!("{doing} {}: {e}", path.display())))
    })
    .await?
}

pub(crate) async fn create_dir_all(path: &Path) -> io::Result<()> {
    on_lane("create directory", path, |p| fs::create_dir_all(p)).await
}

pub(crate) async fn read_dir(path: &Path) -> io::Result<Vec<PathBuf>> {
    on_lane("list", path, |p| {
        let mut names =
            fs::read_dir(p)?.map(|e| e.map(|e| PathBuf::from(e.file_name()))).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    })
    .await
}

pub(crate) async fn read(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    on_lane("read", path, move |p| {
        let file = match fs::File::open(p) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut bytes = Vec::new();
        file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
    })
    .await
}

pub(crate) async fn replace(path: &Path, bytes: Vec<u8>, keep_bak: bool) -> io::Result<()> {
    on_lane("replace", path, move |p| {
        let name = p.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let beside = |suffix: &str| {
            let mut name = name.clone();
            name.push(suffix);
            p.with_file_name(name)
        };
        let (tmp, bak) = (beside(".tmp"), beside(".bak"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&tmp)?;
        if let Ok(old) = fs::metadata(p) {
            // Before anything is in it: who could not read the old one shall not read this one.
            file.set_permissions(old.permissions())?;
        }
        file.write_all(&bytes)?;
        file.sync_all()?;
        step!("file_written:{}", name.display());
        if keep_bak && p.exists() {
            // A second name for the old content, so that one of the two names always holds a whole table.
            let _ = fs::remove_file(&bak);
            step!("file_bak_removed:{}", name.display());
            fs::hard_link(p, &bak)?;
            step!("file_bak_kept:{}", name.display());
        }
        fs::rename(&tmp, p)?;
        step!("file_renamed:{}", name.display());
        sync_parent(p)?;
        step!("file_flushed:{}", name.display());
        Ok(())
    })
    .await
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}

pub(crate) async fn remove(path: &Path) -> io::Result<()> {
    on_lane("remove", path, |p| match fs::remove_file(p) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    })
    .await
}

pub(crate) async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let to = to.to_path_buf();
    on_lane("rename", from, move |p| fs::rename(p, to)).await
}

pub(crate) async fn sync_dir(path: &Path) -> io::Result<()> {
    on_lane("sync directory", path, |p| fs::File::open(p)?.sync_all()).await
}

pub(crate) async fn space(path: &Path) -> io::Result<Space> {
    on_lane("measure space of", path, |p| {
        let name = std::ffi::CString::new(p.as_os_str().as_encoded_bytes())?;
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: a terminated name and a writable structure.
        if unsafe { libc::statvfs(name.as_ptr(), &raw mut stat) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let unit = stat.f_frsize;
        // As `df` counts: what is kept back for root is neither used nor free.
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Ok(hooks::room(Space { total: (used + stat.f_bavail) * unit, free: stat.f_bavail * unit }))
    })
    .await
}

/// A volatile cache without FUA: the flush that follows a write is cheapest in the context of a blocking caller
/// (measured, see `docs/performance.md`). With FUA, or without a volatile cache, the ring's `RWF_DSYNC` needs no flush.
pub(crate) async fn commit_method(path: &Path) -> CommitMethod {
    let cached = on_lane("find the device of", path, |p| {
        let dev = fs::metadata(p)?.dev();
        let (major, minor) = (libc::major(dev), libc::minor(dev));
        let device = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))?;
        // A partition has its queue in the parent.
        let queue = [device.join("queue"), device.join("../queue")].into_iter().find(|q| q.exists());
        let queue = queue.ok_or(io::ErrorKind::NotFound)?;
        let read = |name: &str| fs::read_to_string(queue.join(name)).unwrap_or_default();
        Ok(read("write_cache").trim() == "write back" && read("fua").trim() != "1")
    })
    .await;
    // An unknown device (a network or overlay file system): the thread's behaviour is the same everywhere.
    if cached.unwrap_or(true) { CommitMethod::Thread } else { CommitMethod::RingDsync }
}

pub(crate) async fn lock_dir(dir: &Path) -> io::Result<Result<fs::File, String>> {
    on_lane("lock", dir, |dir| {
        let path = dir.join("lock");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())?;
                Ok(Ok(file))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                Read::by_ref(&mut file).take(64).read_to_string(&mut holder)?;
                Ok(Err(holder.trim().to_owned()))
            }
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    })
    .await
}
