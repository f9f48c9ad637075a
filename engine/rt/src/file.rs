//! A file read and written with direct I/O: aligned buffers, no page cache, completions on the shard that asked.
//!
//! Two promises are kept apart. A write that completed is *written*: the device has it, a killed process cannot take it
//! back. Only [`File::sync`] or [`File::commit`] make it *flushed*: a power cut cannot take it back either.

use std::io;
use std::path::Path;

use crate::buf::{AlignedBuf, Slice};
use crate::{Backend, backend};

/// How [`File::commit`] makes a batch durable. Which is fastest depends on the device and is decided by measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitMethod {
    /// One ring write with `RWF_DSYNC`. Best where the device has FUA or no volatile cache.
    RingDsync,
    /// A ring write, then a ring `fdatasync`.
    RingWriteThenSync,
    /// `pwritev2(RWF_DSYNC)` on a blocking thread of the same core. Best on devices with a volatile cache without FUA.
    Thread,
}

impl CommitMethod {
    /// Every method there is.
    pub const ALL: [Self; 3] = [Self::Thread, Self::RingDsync, Self::RingWriteThenSync];

    /// The word that configuration, reports and logs have for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingDsync => "ringDsync",
            Self::RingWriteThenSync => "ringWriteThenSync",
            Self::Thread => "thread",
        }
    }

    /// The method that is called so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

impl std::fmt::Display for CommitMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Debug)]
enum Inner {
    Uring(crate::uring::file::File),
    Sim(crate::sim::File),
}

/// A file for direct I/O. Offsets, lengths and buffers are multiples of [`BLOCK`](crate::BLOCK). Clones share the file.
#[derive(Debug)]
pub struct File(Inner);

impl File {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn open(path: &Path) -> io::Result<Self> {
        match backend() {
            Backend::Uring => crate::uring::file::File::open(path, false).await.map(|f| Self(Inner::Uring(f))),
            Backend::Sim => crate::sim::File::open(path, false).await.map(|f| Self(Inner::Sim(f))),
        }
    }

    /// Creates a file, which must not exist. Its name is durable only after [`fs::sync_dir`](crate::fs::sync_dir).
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn create(path: &Path) -> io::Result<Self> {
        match backend() {
            Backend::Uring => crate::uring::file::File::open(path, true).await.map(|f| Self(Inner::Uring(f))),
            Backend::Sim => crate::sim::File::open(path, true).await.map(|f| Self(Inner::Sim(f))),
        }
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn len(&self) -> io::Result<u64> {
        match &self.0 {
            Inner::Uring(f) => f.len().await,
            Inner::Sim(f) => f.len().await,
        }
    }

    /// Reserves `0..len` on the device and sets the length; the new part reads as zeros.
    ///
    /// # Errors
    /// `StorageFull` when the device has no room, otherwise what the operating system says.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        match &self.0 {
            Inner::Uring(f) => f.allocate(len).await,
            Inner::Sim(f) => f.allocate(len).await,
        }
    }

    /// Reads at `offset` into `buf`, as much as fits; gives the buffer back with the bytes read, fewer only at the end of
    /// the file.
    ///
    /// # Errors
    /// What the operating system says; the buffer is lost then.
    pub async fn read_at(&self, buf: AlignedBuf, offset: u64) -> io::Result<(AlignedBuf, usize)> {
        match &self.0 {
            Inner::Uring(f) => f.read_at(buf, offset).await,
            Inner::Sim(f) => f.read_at(buf, offset).await,
        }
    }

    /// Writes all `parts` one behind the other at `offset`. Complete = written, not flushed.
    ///
    /// # Errors
    /// What the operating system says. Part of the bytes may have been written.
    pub async fn write_at(&self, parts: &[Slice], offset: u64) -> io::Result<()> {
        match &self.0 {
            Inner::Uring(f) => f.write_at(parts, offset).await,
            Inner::Sim(f) => f.write_at(parts, offset).await,
        }
    }

    /// Writes all `parts` at `offset` and makes them durable. Complete = flushed.
    ///
    /// # Errors
    /// What the operating system says. After an error nobody knows what is on the device: do not retry.
    pub async fn commit(&self, parts: &[Slice], offset: u64, method: CommitMethod) -> io::Result<()> {
        match &self.0 {
            Inner::Uring(f) => f.commit(parts, offset, method).await,
            Inner::Sim(f) => f.commit(parts, offset).await,
        }
    }

    /// Makes every completed write durable (`fdatasync`).
    ///
    /// # Errors
    /// What the operating system says. After an error nobody knows what is on the device: do not retry.
    pub async fn sync(&self) -> io::Result<()> {
        match &self.0 {
            Inner::Uring(f) => f.sync().await,
            Inner::Sim(f) => f.sync().await,
        }
    }
}
