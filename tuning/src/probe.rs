//! What no file says: the kernel is asked, without leaving a trace.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Room of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes, without what is kept back for root.
    pub total: u64,
    /// Bytes that this user may still take.
    pub free: u64,
}

/// The room of the file system that a folder is on.
///
/// # Errors
/// What the operating system says.
pub fn space(folder: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    Ok(Space { total: bytes(used.saturating_add(found.f_bavail)), free: bytes(found.f_bavail) })
}

/// Whether a file of this folder can be opened for direct I/O. The file never has a name.
///
/// # Errors
/// What the operating system says; `InvalidInput` is the answer of a file system without direct I/O.
pub fn direct_io(folder: &Path) -> io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::DIRECT;
    // The bits of open(2)'s flags fit an i32.
    OpenOptions::new().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(folder).map(drop)
}
