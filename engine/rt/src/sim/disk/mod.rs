//! A modelled device: what completes is in its volatile cache, what is flushed is on its medium, and a power cut decides
//! about the difference sector by sector. A [`Disk`] outlives the worlds that run on it.
//!
//! Guarantees are the weakest that a POSIX file system on an honest device gives, so that code which passes here does
//! not live on the kindness of one file system: a new name, also that of a directory, can vanish until its directory is
//! synced; requests complete in any order; a flush covers what had completed when it was issued, in that file alone.

mod fault;
mod inode;
mod names;
mod pages;
mod state;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;

pub use fault::{DiskModel, DiskStats, Failure, Fault, Request};
use state::{Promise, State};

use super::world::{is_active, world};
use super::{Cache, CrashKind};
use crate::BLOCK;
use crate::buf::Slice;
use crate::fs::Space;

/// A modelled device. Clones are the same device.
#[derive(Debug, Clone)]
pub struct Disk(Rc<RefCell<State>>);

impl Disk {
    /// An empty device with a chance of its own.
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(State::new(seed))))
    }

    /// The power goes while no world runs on the device. A world's own end is [`Sim::crash`](super::Sim::crash).
    pub fn power_cut(&self, cache: Cache) {
        self.crash(CrashKind::PowerCut(cache));
    }

    /// The process dies while no world runs on the device: what completed stays, what was under way is torn.
    pub fn process_kill(&self) {
        self.crash(CrashKind::ProcessKill);
    }

    pub(super) fn crash(&self, kind: CrashKind) {
        self.0.borrow_mut().crash(kind);
    }

    /// Plans a failure.
    pub fn inject(&self, mut fault: Fault) {
        fault.path = fault.path.map(|path| names::absolute(&path));
        self.0.borrow_mut().faults.plan(fault);
    }

    /// The next write fails.
    pub fn fail_next_write(&self, failure: Failure) {
        self.inject(Fault { request: Request::Write, failure, path: None, skip: 0 });
    }

    /// The next sync, or flush of a commit, fails.
    pub fn fail_next_sync(&self, failure: Failure) {
        self.inject(Fault { request: Request::Sync, failure, path: None, skip: 0 });
    }

    /// The next read fails.
    pub fn fail_next_read(&self, failure: Failure) {
        self.inject(Fault { request: Request::Read, failure, path: None, skip: 0 });
    }

    /// Takes all planned failures back, sticky ones too.
    pub fn heal(&self) {
        self.0.borrow_mut().faults.clear();
    }

    /// How much the device holds; endless without.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.borrow_mut().capacity = bytes;
    }

    /// Nothing that is asked from now on completes within `time`.
    pub fn stall(&self, time: std::time::Duration) {
        let mut state = self.0.borrow_mut();
        let now = if is_active() { world().now() } else { state.clock };
        state.stalled_until = now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How fast the device is and what it promises.
    pub fn model(&self) -> DiskModel {
        self.0.borrow().model
    }

    /// Changes how fast the device is and what it promises.
    pub fn set_model(&self, model: DiskModel) {
        self.0.borrow_mut().model = model;
    }

    /// What the device did so far.
    pub fn stats(&self) -> DiskStats {
        self.0.borrow().stats
    }

    /// Inverts bytes of a file, on the medium and in the cache.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64, len: usize) -> io::Result<()> {
        self.0.borrow_mut().corrupt(&names::absolute(path.as_ref()), offset, len)
    }

    /// What a process would read: completed writes, flushed or not.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn read_all(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = self.0.borrow();
        let file = state.at_path(&names::absolute(path.as_ref()))?;
        let mut bytes = vec![0; usize::try_from(file.len()).unwrap_or(0)];
        file.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Puts a whole, durable file in place, with the directories above it.
    ///
    /// # Errors
    /// When a directory has the name.
    pub fn write_all(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().put(&names::absolute(path.as_ref()), bytes)
    }

    /// Every file, by its whole path, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.borrow().names.files()
    }

    /// Whether a power cut could take nothing of this file's content back.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn is_flushed(&self, path: impl AsRef<Path>) -> io::Result<bool> {
        self.0.borrow().is_flushed(&names::absolute(path.as_ref()))
    }

    /// The virtual time when the device was last asked.
    pub(super) fn clock(&self) -> u64 {
        self.0.borrow().clock
    }
}

/// The requests of the seam. Each takes its virtual time.
impl Disk {
    /// Does something to names or lengths, at some point of the time that it takes.
    pub(super) async fn metadata<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let base = self.model().metadata_ns;
        let delay = self.0.borrow_mut().latency(world().now(), base / 2, 0);
        super::clock::sleep_ns(delay).await;
        let result = work(&mut self.0.borrow_mut());
        let delay = self.0.borrow_mut().latency(world().now(), base / 2, 0);
        super::clock::sleep_ns(delay).await;
        result
    }

    pub(super) async fn read_at(&self, file: (u64, &Path), buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let blocks = (buf.len() / BLOCK) as u64;
        let (failure, delay) = {
            let mut state = self.0.borrow_mut();
            state.stats.reads += 1;
            let base = state.model.read_ns;
            (state.fault(Request::Read, file.1), state.latency(world().now(), base, blocks))
        };
        super::clock::sleep_ns(delay).await;
        let mut state = self.0.borrow_mut();
        let len = state.inode(file.0)?.len();
        match failure {
            None => Ok(state.inode(file.0)?.read(offset, buf)),
            Some(Failure::Lie) => {
                let elsewhere = state.rng.below(len / BLOCK as u64) * BLOCK as u64;
                Ok(state.inode(file.0)?.read(elsewhere, buf))
            }
            Some(Failure::Once | Failure::Sticky) => Err(fault::eio()),
        }
    }

    /// Writes `parts` at `offset`; with `flush`, durably.
    pub(super) async fn write(&self, file: (u64, &Path), parts: &[Slice], offset: u64, flush: bool) -> io::Result<()> {
        let mut blocks = inode::Blocks::new();
        for part in parts {
            aligned(part.len() as u64)?;
            aligned(part.as_ptr() as u64)?;
            blocks.extend(part.chunks(BLOCK).map(|block| (0, pages::page(block))));
        }
        aligned(offset)?;
        for (number, block) in (offset / BLOCK as u64..).zip(&mut blocks) {
            block.0 = number;
        }
        let count = blocks.len() as u64;
        let end = offset.checked_add(count * BLOCK as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        let (id, promise) = self.0.borrow_mut().begin_write(file, blocks, end, flush)?;
        let model = self.model();
        let base = model.write_ns + if flush { model.sync_ns } else { 0 };
        self.finish(id, promise, base, count).await
    }

    pub(super) async fn sync(&self, file: (u64, &Path)) -> io::Result<()> {
        let (id, promise) = self.0.borrow_mut().begin_sync(file.0, file.1);
        self.finish(id, promise, self.model().sync_ns, 0).await
    }

    /// Gives a small file its content.
    pub(super) async fn fill(&self, file: (u64, &Path), bytes: Vec<u8>) -> io::Result<()> {
        let blocks = bytes.len().div_ceil(BLOCK) as u64;
        let (id, promise) = self.0.borrow_mut().begin_fill(file.0, file.1, bytes)?;
        self.finish(id, promise, self.model().write_ns, blocks).await
    }

    /// The request goes on at the device whether or not anybody still waits for it.
    fn finish(
        &self,
        id: u64,
        promise: Promise,
        base: u64,
        blocks: u64,
    ) -> impl Future<Output = io::Result<()>> + use<> {
        let world = world();
        let delay = self.0.borrow_mut().latency(world.now(), base, blocks);
        let disk = self.clone();
        world.note(id ^ (blocks << 32));
        world.at(world.now().saturating_add(delay), move |_| {
            let waker = disk.0.borrow_mut().complete(id);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        std::future::poll_fn(move |cx| {
            let mut outcome = promise.borrow_mut();
            match outcome.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    outcome.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    pub(super) fn unlock(&self, path: &Path, holder: u64) {
        self.0.borrow_mut().unlock(path, holder);
    }

    pub(super) fn close(&self, inode: u64) {
        self.0.borrow_mut().close(inode);
    }

    pub(super) fn reopen(&self, inode: u64) {
        self.0.borrow_mut().reopen(inode);
    }

    pub(super) fn space(&self) -> Space {
        let state = self.0.borrow();
        let total = state.capacity.unwrap_or(state::ENDLESS);
        Space { total, free: total.saturating_sub(state.used()) }
    }
}

fn aligned(number: u64) -> io::Result<()> {
    if number.is_multiple_of(BLOCK as u64) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}

pub(super) use names::absolute;
