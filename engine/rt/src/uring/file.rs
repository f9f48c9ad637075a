//! Files for direct I/O on the ring, and the commit of a batch by the method that suits the device.

use std::cell::{Cell, RefCell};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{opcode, types};
use smallvec::SmallVec;

use crate::BLOCK;
use crate::buf::{AlignedBuf, Slice};
use crate::file::CommitMethod;
use crate::hooks;
use crate::uring::blocking::{self, Lane};
use crate::uring::ring;

/// Slices in one write; a longer list is written in several.
const IOV_MAX: usize = 1024;

/// An open file. Clones share the descriptor.
#[derive(Debug, Clone)]
pub(crate) struct File {
    file: Arc<std::fs::File>,
    path: Arc<PathBuf>,
}

/// The error with the file's name in its text.
fn named(path: &Path, doing: &str, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{doing} {}: {e}", path.display()))
}

impl File {
    pub(crate) async fn open(path: &Path, create: bool) -> io::Result<Self> {
        let path = Arc::new(path.to_path_buf());
        let at = Arc::clone(&path);
        let file = blocking::run(Lane::Metadata, move || {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create_new(create)
                .mode(0o644)
                .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC);
            options.open(&*at)
        })
        .await?
        .map_err(|e| named(&path, if create { "create" } else { "open" }, &e))?;
        Ok(Self { file: Arc::new(file), path })
    }

    fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    fn named(&self, doing: &str, e: &io::Error) -> io::Error {
        named(&self.path, doing, e)
    }

    pub(crate) async fn len(&self) -> io::Result<u64> {
        let file = Arc::clone(&self.file);
        let len = blocking::run(Lane::Metadata, move || file.metadata().map(|m| m.len())).await?;
        len.map_err(|e| self.named("stat", &e))
    }

    pub(crate) async fn allocate(&self, len: u64) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        let len = libc::off_t::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let result = blocking::run(Lane::Metadata, move || {
            // SAFETY: no pointers; the descriptor is open.
            let rc = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) };
            if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
        result.await?.map_err(|e| self.named("allocate", &e))
    }

    pub(crate) async fn read_at(&self, mut buf: AlignedBuf, offset: u64) -> io::Result<(AlignedBuf, usize)> {
        let at = buf.as_mut_ptr();
        let len = buf.len();
        hooks::readable(&self.path, offset, len).map_err(|e| self.named("read", &e))?;
        // The descriptor stays open with the buffer: a queued entry names it by its number.
        let kept = Rc::new(Read { buf: Cell::new(Some(buf)), _file: Arc::clone(&self.file) });
        let mut done = 0;
        while done < len {
            // SAFETY: `done` is below the buffer's length.
            let to = unsafe { at.add(done) };
            let part = u32::try_from(len - done).unwrap_or(1 << 30);
            let entry = opcode::Read::new(types::Fd(self.fd()), to, part).offset(offset + done as u64).build();
            let keep: Rc<dyn std::any::Any> = Rc::<Read>::clone(&kept);
            let n = ring::once(entry, Some(keep)).await.map_err(|e| self.named("read", &e))?;
            if n == 0 {
                break;
            }
            done += usize::try_from(n).unwrap_or(0);
            if done % BLOCK != 0 {
                // A direct read ends inside a block only at the end of the file.
                break;
            }
        }
        match kept.buf.take() {
            Some(buf) => Ok((buf, done)),
            None => Err(io::Error::other("the read's buffer is gone")),
        }
    }

    pub(crate) async fn write_at(&self, parts: &[Slice], offset: u64) -> io::Result<()> {
        hooks::disk().await;
        self.ring_write(parts, offset, 0).await.map_err(|e| self.named("write", &e))
    }

    pub(crate) async fn sync(&self) -> io::Result<()> {
        hooks::disk().await;
        let entry = opcode::Fsync::new(types::Fd(self.fd())).flags(types::FsyncFlags::DATASYNC).build();
        let keep: Rc<dyn std::any::Any> = Rc::new(Arc::clone(&self.file));
        ring::once(entry, Some(keep)).await.map(drop).map_err(|e| self.named("sync", &e))
    }

    pub(crate) async fn commit(&self, parts: &[Slice], offset: u64, method: CommitMethod) -> io::Result<()> {
        hooks::disk().await;
        match method {
            CommitMethod::RingDsync => self.ring_write(parts, offset, libc::RWF_DSYNC).await,
            CommitMethod::RingWriteThenSync => {
                self.ring_write(parts, offset, 0).await?;
                return self.sync().await;
            }
            CommitMethod::Thread => {
                let file = Arc::clone(&self.file);
                let parts: SmallVec<[Slice; 4]> = parts.iter().cloned().collect();
                blocking::run(Lane::Commit, move || write_dsync(&file, &parts, offset)).await?
            }
        }
        .map_err(|e| self.named("commit", &e))
    }

    async fn ring_write(&self, parts: &[Slice], mut offset: u64, flags: i32) -> io::Result<()> {
        for parts in parts.chunks(IOV_MAX) {
            let write = Write::of(&self.file, parts);
            let mut done = 0;
            loop {
                let entry = {
                    let iov = write.iov.borrow();
                    let rest = &iov[done..];
                    if rest.is_empty() {
                        break;
                    }
                    let count = u32::try_from(rest.len()).unwrap_or(0);
                    opcode::Writev::new(types::Fd(self.fd()), rest.as_ptr(), count)
                        .offset(offset)
                        .rw_flags(flags)
                        .build()
                };
                let keep: Rc<dyn std::any::Any> = Rc::<Write>::clone(&write);
                let n = ring::once(entry, Some(keep)).await?;
                if n == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                let n = usize::try_from(n).unwrap_or(0);
                offset += n as u64;
                done = advance(&mut write.iov.borrow_mut(), done, n);
            }
            write.keep();
        }
        Ok(())
    }
}

thread_local! {
    /// Writes that are over, for the next ones: a batch costs no allocation.
    static SPARE: Cell<Vec<Rc<Write>>> = const { Cell::new(Vec::new()) };
}

/// Spare writes of one shard: about as many as are under way at once.
const SPARES: usize = 4;

/// What a ring read fills.
struct Read {
    buf: Cell<Option<AlignedBuf>>,
    _file: Arc<std::fs::File>,
}

/// What a ring write reads: the vectors, and the slices they point into. The file is here so that its descriptor, which a
/// queued entry names by number, is not closed and given to another file before the entry is submitted.
#[derive(Clone, Default)]
struct Write {
    file: Option<Arc<std::fs::File>>,
    iov: RefCell<SmallVec<[libc::iovec; 8]>>,
    parts: SmallVec<[Slice; 8]>,
}

impl Write {
    fn of(file: &Arc<std::fs::File>, parts: &[Slice]) -> Rc<Self> {
        let mut spares = SPARE.take();
        let mut write = spares.pop().unwrap_or_default();
        SPARE.set(spares);
        let filled = Rc::make_mut(&mut write);
        filled.file = Some(Arc::clone(file));
        filled.iov.get_mut().extend(vectors(parts));
        filled.parts.extend(parts.iter().cloned());
        write
    }

    /// Lets the slices go and keeps the memory, unless the ring still holds it.
    fn keep(self: Rc<Self>) {
        let mut write = self;
        if let Some(empty) = Rc::get_mut(&mut write) {
            empty.file = None;
            empty.iov.get_mut().clear();
            empty.parts.clear();
            let mut spares = SPARE.take();
            if spares.len() < SPARES {
                spares.push(write);
            }
            SPARE.set(spares);
        }
    }
}

fn vectors(parts: &[Slice]) -> impl Iterator<Item = libc::iovec> {
    parts.iter().map(|p| libc::iovec { iov_base: p.as_ptr().cast_mut().cast(), iov_len: p.len() })
}

/// Accounts for `n` written bytes behind the first `done` vectors; returns how many are done now.
fn advance(iov: &mut [libc::iovec], mut done: usize, mut n: usize) -> usize {
    while let Some(v) = iov.get_mut(done) {
        if n < v.iov_len {
            v.iov_base = v.iov_base.cast::<u8>().wrapping_add(n).cast();
            v.iov_len -= n;
            break;
        }
        n -= v.iov_len;
        done += 1;
    }
    done
}

/// A durable write on the calling thread.
fn write_dsync(file: &std::fs::File, parts: &[Slice], mut offset: u64) -> io::Result<()> {
    let mut iov: SmallVec<[libc::iovec; 8]> = vectors(parts).collect();
    let mut done = 0;
    while done < iov.len() {
        let count = i32::try_from((iov.len() - done).min(IOV_MAX)).unwrap_or(0);
        let at = libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // SAFETY: `count` vectors from `done` on point into `parts`, which are alive and immutable.
        let n = unsafe { libc::pwritev2(file.as_raw_fd(), iov[done..].as_ptr(), count, at, libc::RWF_DSYNC) };
        if n < 0 {
            let e = io::Error::last_os_error();
            if e.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(e);
        }
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let n = usize::try_from(n).unwrap_or(0);
        offset += n as u64;
        done = advance(&mut iov, done, n);
    }
    Ok(())
}
