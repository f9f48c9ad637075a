//! Which servers of this user run: one file a process in `run` below the data folder, locked for as long as the process
//! lives. The lock, not the file, says that it is alive, so that neither a crash nor a reused process id misleads.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::cli::Kind;

/// The mark of this process. Dropping it takes the mark away.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    /// Held for its lock.
    _file: File,
}

fn folder(home: &Path) -> PathBuf {
    home.join("run")
}

impl PidFile {
    pub(crate) fn create(home: &Path, kind: Kind) -> io::Result<PidFile> {
        let folder = folder(home);
        fs::create_dir_all(&folder)?;
        let pid = std::process::id();
        let path = folder.join(format!("{}-{pid}.pid", kind.name()));
        // Locked before it has its name, so that nobody takes it for the file of a dead process.
        let unnamed = folder.join(format!(".{pid}"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&unnamed)?;
        file.lock()?;
        writeln!(file, "{pid}")?;
        fs::rename(&unnamed, &path)?;
        Ok(PidFile { path, _file: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that stays has no lock and misleads nobody.
        let _ = fs::remove_file(&self.path);
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    path: PathBuf,
    file: File,
}

/// The running servers of a kind. Marks that dead ones left are taken away.
pub(crate) fn running(home: &Path, kind: Kind) -> io::Result<Vec<Running>> {
    let names = match fs::read_dir(folder(home)) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in names {
        let path = entry?.path();
        let Some(pid) = pid_of(&path, kind) else { continue };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => fs::remove_file(&path)?,
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                Read::by_ref(&mut file).take(16).read_to_string(&mut text)?;
                if text.trim() == pid.to_string() && holds(pid, &path) {
                    found.push(Running { pid, path, file });
                }
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    found.sort_by_key(|one| one.pid);
    Ok(found)
}

fn pid_of(path: &Path, kind: Kind) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix(kind.name())?.strip_prefix('-')?.strip_suffix(".pid")?.parse().ok()
}

/// Whether that process has the file open. In another container the same number is another process.
fn holds(pid: u32, path: &Path) -> bool {
    let Ok(wanted) = fs::canonicalize(path) else { return false };
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == wanted))
}

impl Running {
    /// Waits until the process is gone; says whether it is.
    pub(crate) fn wait_gone(self, within: Duration) -> bool {
        let (tell, gone) = mpsc::channel();
        let Running { path, file, .. } = self;
        std::thread::spawn(move || {
            // The lock is free once the process is gone, however it ended.
            if file.lock().is_ok() {
                let _ = fs::remove_file(&path);
                let _ = tell.send(());
            }
        });
        gone.recv_timeout(within).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_seen_while_its_process_lives() {
        let home = tempfile::tempdir().unwrap();
        assert!(running(home.path(), Kind::Broker).unwrap().is_empty());
        let mark = PidFile::create(home.path(), Kind::Broker).unwrap();
        let found = running(home.path(), Kind::Broker).unwrap();
        assert_eq!(found.iter().map(|one| one.pid).collect::<Vec<_>>(), [std::process::id()]);
        assert!(running(home.path(), Kind::Namesrv).unwrap().is_empty());
        let [one] = <[Running; 1]>::try_from(found).unwrap();
        assert!(!one.wait_gone(Duration::from_millis(10)));
        drop(mark);
        assert!(running(home.path(), Kind::Broker).unwrap().is_empty());
    }

    #[test]
    fn what_a_dead_process_left_is_taken_away() {
        let home = tempfile::tempdir().unwrap();
        let left = folder(home.path()).join("broker-1.pid");
        fs::create_dir_all(folder(home.path())).unwrap();
        fs::write(&left, "1\n").unwrap();
        assert!(running(home.path(), Kind::Broker).unwrap().is_empty());
        assert!(!left.exists());
        // Locked, but not by the process that it names.
        fs::write(&left, "1\n").unwrap();
        let lock = File::open(&left).unwrap();
        lock.lock().unwrap();
        assert!(running(home.path(), Kind::Broker).unwrap().is_empty());
        assert!(left.exists());
    }
}
