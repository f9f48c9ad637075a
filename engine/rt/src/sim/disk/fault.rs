//! What a test may ask a modelled device to do wrong, and how fast the device is.

use std::io;
use std::path::PathBuf;

/// Which request is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `write_at`, the write of a `commit`, and the write of a `replace`.
    Write,
    /// `sync`, the flush of a `commit`, of a `replace` and of a directory.
    Sync,
    Read,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// `EIO` this time; the next request goes through.
    Once,
    /// `EIO` from now on.
    Sticky,
    /// The device says yes and puts the blocks elsewhere in the file, or reads from elsewhere. Of a sync: it says yes and
    /// flushes nothing.
    Lie,
}

/// One planned failure.
#[derive(Debug, Clone)]
pub struct Fault {
    pub request: Request,
    pub failure: Failure,
    /// Only for names below this one; all without.
    pub path: Option<PathBuf>,
    /// Requests that go through first.
    pub skip: u64,
}

/// How long the device takes, in nanoseconds, and what it promises. Times vary by chance up to twofold; one request in
/// 256 takes twenty times as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskModel {
    pub write_ns: u64,
    pub read_ns: u64,
    pub sync_ns: u64,
    /// Work on names and lengths.
    pub metadata_ns: u64,
    /// For each block of a read or a write.
    pub block_ns: u64,
    /// A commit makes only its own write durable, as on a device with FUA. Without, it flushes the device's cache and
    /// with it every write to the file that had completed before.
    pub fua: bool,
}

impl Default for DiskModel {
    fn default() -> Self {
        Self { write_ns: 40_000, read_ns: 60_000, sync_ns: 90_000, metadata_ns: 50_000, block_ns: 1_700, fua: false }
    }
}

/// What the device did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStats {
    pub writes: u64,
    pub commits: u64,
    /// Syncs of files; those within commits are not counted here.
    pub syncs: u64,
    pub reads: u64,
    pub bytes_written: u64,
    /// Requests that a planned failure hit.
    pub faults: u64,
}

/// The planned failures, in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: Vec<Fault>,
}

impl Faults {
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    /// What happens to this request.
    pub(super) fn next(&mut self, request: Request, path: &std::path::Path) -> Option<Failure> {
        let index = self.planned.iter_mut().position(|fault| {
            let meant = fault.request == request && fault.path.as_ref().is_none_or(|p| path.starts_with(p));
            let due = meant && fault.skip == 0;
            if meant && !due {
                fault.skip -= 1;
            }
            due
        })?;
        let failure = self.planned[index].failure;
        if failure != Failure::Sticky {
            self.planned.remove(index);
        }
        Some(failure)
    }
}

/// The device's own error.
pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}
