//! The device itself: files, names, the requests under way, and what a crash makes of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Waker;

use super::fault::{DiskModel, DiskStats, Failure, Faults, Request, eio};
use super::inode::{Blocks, Inode};
use super::names::Names;
use crate::BLOCK;
use crate::sim::rng::Rng;
use crate::sim::{Cache, CrashKind};

/// Where a request leaves its result for whoever waits.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) result: Option<io::Result<()>>,
    pub(super) waker: Option<Waker>,
}

pub(super) type Promise = Rc<RefCell<Outcome>>;

#[derive(Debug)]
enum Work {
    Write {
        blocks: Blocks,
        end: u64,
        flush: bool,
    },
    Sync,
    /// Keeps the requests of one `replace` together: bytes that become a file's whole content.
    Fill(Vec<u8>),
}

/// A request that the device has taken.
#[derive(Debug)]
struct Op {
    inode: u64,
    work: Work,
    failure: Option<Failure>,
    /// Writes and length that a flush issued with this request covers.
    covered: u64,
    len: u64,
    promise: Promise,
}

#[derive(Debug)]
pub(in crate::sim) struct State {
    pub(super) rng: Rng,
    pub(super) model: DiskModel,
    pub(super) stats: DiskStats,
    pub(super) faults: Faults,
    pub(in crate::sim) names: Names,
    pub(super) capacity: Option<u64>,
    pub(super) locks: BTreeMap<PathBuf, (u64, String)>,
    /// Nothing completes before this time.
    pub(super) stalled_until: u64,
    /// The virtual time when the device was last asked.
    pub(super) clock: u64,
    inodes: BTreeMap<u64, Inode>,
    ops: BTreeMap<u64, Op>,
    next_id: u64,
}

/// What a disk without a capacity says it has.
pub(super) const ENDLESS: u64 = 1 << 40;

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            model: DiskModel::default(),
            stats: DiskStats::default(),
            faults: Faults::default(),
            names: Names::default(),
            capacity: None,
            locks: BTreeMap::new(),
            stalled_until: 0,
            clock: 0,
            inodes: BTreeMap::new(),
            ops: BTreeMap::new(),
            next_id: 1,
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// How long a request takes that is issued at `now`.
    pub(super) fn latency(&mut self, now: u64, base_ns: u64, blocks: u64) -> u64 {
        self.clock = now;
        let base = base_ns.saturating_add(self.model.block_ns.saturating_mul(blocks));
        let slow = if self.rng.chance(1, 256) { 20 } else { 1 };
        let jittered = self.rng.between(base / 2, base).saturating_mul(2 * slow);
        jittered.max(1).max(self.stalled_until.saturating_sub(now))
    }

    pub(in crate::sim) fn inode(&self, inode: u64) -> io::Result<&Inode> {
        self.inodes.get(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn inode_mut(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn at_path(&self, path: &Path) -> io::Result<&Inode> {
        self.inode(self.names.file(path)?)
    }

    /// Adds a file without a name; the caller names or opens it.
    pub(super) fn add(&mut self, inode: Inode) -> u64 {
        let id = self.next_id();
        self.inodes.insert(id, inode);
        id
    }

    pub(in crate::sim) fn open(&mut self, path: &Path, create_new: bool) -> io::Result<u64> {
        let inode = match (self.names.get(path), create_new) {
            (Some(_), true) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, true) => {
                let inode = self.add(Inode::default());
                self.names.link(path, inode)?;
                inode
            }
            (_, false) => self.names.file(path)?,
        };
        self.inode_mut(inode)?.handles += 1;
        Ok(inode)
    }

    /// Opens a new, empty file in place of what had the name.
    pub(in crate::sim) fn create_over(&mut self, path: &Path) -> io::Result<u64> {
        let inode = self.add(Inode::default());
        self.names.link(path, inode)?;
        self.inode_mut(inode)?.handles += 1;
        self.collect();
        Ok(inode)
    }

    /// Takes the lock that a file stands for, if it is free, and writes the holder's text into the file.
    pub(in crate::sim) fn lock(&mut self, path: &Path, holder: u64, text: &str) -> io::Result<()> {
        if self.locks.contains_key(path) {
            return Ok(());
        }
        let inode = self.add(Inode::durable(format!("{text}\n").as_bytes()));
        self.names.link(path, inode)?;
        self.locks.insert(path.to_path_buf(), (holder, text.to_owned()));
        self.collect();
        Ok(())
    }

    /// The text of whoever else holds a lock.
    pub(in crate::sim) fn holder(&self, path: &Path, not: u64) -> Option<&str> {
        self.locks.get(path).filter(|(holder, _)| *holder != not).map(|(_, text)| text.as_str())
    }

    pub(super) fn unlock(&mut self, path: &Path, holder: u64) {
        if self.locks.get(path).is_some_and(|(by, _)| *by == holder) {
            self.locks.remove(path);
        }
    }

    pub(super) fn reopen(&mut self, inode: u64) {
        if let Ok(inode) = self.inode_mut(inode) {
            inode.handles += 1;
        }
    }

    pub(super) fn close(&mut self, inode: u64) {
        if let Ok(file) = self.inode_mut(inode) {
            file.handles = file.handles.saturating_sub(1);
            self.collect();
        }
    }

    /// Gives up files that nothing leads to any more.
    pub(super) fn collect(&mut self) {
        let busy: Vec<u64> = self.ops.values().map(|op| op.inode).collect();
        let names = &self.names;
        self.inodes.retain(|id, file| file.handles > 0 || busy.contains(id) || names.reaches(*id));
    }

    pub(super) fn used(&self) -> u64 {
        let named: std::collections::BTreeSet<u64> = self.names.inodes().collect();
        let held = self.inodes.iter().filter(|(id, file)| file.handles > 0 || named.contains(id));
        held.map(|(_, file)| file.allocated).sum()
    }

    fn reserve(&mut self, inode: u64, len: u64) -> io::Result<()> {
        let want = len.next_multiple_of(BLOCK as u64);
        let grows = want.saturating_sub(self.inode(inode)?.allocated);
        if grows > 0 && self.capacity.is_some_and(|capacity| self.used().saturating_add(grows) > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.inode_mut(inode)?;
        file.allocated = file.allocated.max(want);
        Ok(())
    }

    pub(in crate::sim) fn allocate(&mut self, inode: u64, len: u64) -> io::Result<()> {
        self.reserve(inode, len)?;
        self.inode_mut(inode)?.set_len(len);
        Ok(())
    }

    /// Takes a write. Returns its id, and where its result will be.
    pub(super) fn begin_write(
        &mut self,
        file: (u64, &Path),
        mut blocks: Blocks,
        end: u64,
        flush: bool,
    ) -> io::Result<(u64, Promise)> {
        let (inode, path) = file;
        self.reserve(inode, end)?;
        let bytes = (blocks.len() * BLOCK) as u64;
        self.stats.bytes_written += bytes;
        *(if flush { &mut self.stats.commits } else { &mut self.stats.writes }) += 1;
        let mut failure = self.fault(Request::Write, path);
        if failure == Some(Failure::Lie) {
            let number = self.rng.below(end.max(1) / BLOCK as u64);
            blocks = (number..).zip(blocks).map(|(number, (_, page))| (number, page)).collect();
            failure = None;
        } else if failure.is_none() && flush {
            failure = self.fault(Request::Sync, path);
        }
        Ok(self.begin(inode, Work::Write { blocks, end, flush }, failure))
    }

    pub(super) fn begin_sync(&mut self, inode: u64, path: &Path) -> (u64, Promise) {
        self.stats.syncs += 1;
        let failure = self.fault(Request::Sync, path);
        self.begin(inode, Work::Sync, failure)
    }

    /// Takes the content of a small file.
    pub(super) fn begin_fill(&mut self, inode: u64, path: &Path, bytes: Vec<u8>) -> io::Result<(u64, Promise)> {
        self.reserve(inode, bytes.len() as u64)?;
        self.stats.writes += 1;
        self.stats.bytes_written += bytes.len() as u64;
        let failure = self.fault(Request::Write, path).map(|_| Failure::Once);
        Ok(self.begin(inode, Work::Fill(bytes), failure))
    }

    pub(in crate::sim) fn fault(&mut self, request: Request, path: &Path) -> Option<Failure> {
        let failure = self.faults.next(request, path);
        self.stats.faults += u64::from(failure.is_some());
        failure
    }

    fn begin(&mut self, inode: u64, work: Work, failure: Option<Failure>) -> (u64, Promise) {
        let (covered, len) = self.inode(inode).map(|f| (f.completed(), f.len())).unwrap_or_default();
        let (id, promise) = (self.next_id(), Promise::default());
        self.ops.insert(id, Op { inode, work, failure, covered, len, promise: Rc::clone(&promise) });
        (id, promise)
    }

    /// A request is done; one that a crash ended in the meantime is passed over.
    pub(super) fn complete(&mut self, id: u64) -> Option<Waker> {
        let op = self.ops.remove(&id)?;
        let result = self.carry_out(&op);
        let mut outcome = op.promise.borrow_mut();
        outcome.result = Some(result);
        outcome.waker.take()
    }

    fn carry_out(&mut self, op: &Op) -> io::Result<()> {
        let fua = self.model.fua;
        let mut rng = self.rng.fork();
        let file = self.inode_mut(op.inode)?;
        let failed = matches!(op.failure, Some(Failure::Once | Failure::Sticky));
        match &op.work {
            Work::Write { blocks, end, flush } => {
                // Nobody knows how much of a failed write arrived.
                file.write(blocks, || if failed { rng.mask(50) } else { u8::MAX });
                if failed {
                    file.orphan(u64::MAX);
                    return Err(eio());
                }
                file.set_len(*end);
                if *flush && op.failure.is_none() {
                    let len = op.len.max(*end);
                    file.flush_last(blocks.len() as u64, len);
                    if !fua {
                        file.flush(op.covered, len);
                    }
                }
            }
            Work::Sync if failed => {
                file.orphan(op.covered);
                return Err(eio());
            }
            Work::Sync if op.failure.is_some() => {}
            Work::Sync => file.flush(op.covered, op.len),
            Work::Fill(bytes) => {
                let blocks = fill_blocks(bytes);
                file.write(&blocks, || if failed { rng.mask(50) } else { u8::MAX });
                file.set_len(bytes.len() as u64);
                if failed {
                    return Err(eio());
                }
            }
        }
        Ok(())
    }

    pub(in crate::sim) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.names.unlink(path)?;
        self.collect();
        Ok(())
    }

    pub(in crate::sim) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.names.rename(from, to)?;
        self.collect();
        Ok(())
    }

    pub(super) fn corrupt(&mut self, path: &Path, offset: u64, len: usize) -> io::Result<()> {
        let inode = self.names.file(path)?;
        self.inode_mut(inode)?.corrupt(offset, len);
        Ok(())
    }

    /// Puts a whole, durable file in place.
    pub(super) fn put(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            self.names.create_dir_all(parent)?;
        }
        let inode = self.add(Inode::durable(bytes));
        self.names.link(path, inode)?;
        self.names.sync_all();
        self.collect();
        Ok(())
    }

    /// The process is gone: its handles, its locks, and its requests, which arrived in part.
    pub(super) fn crash(&mut self, kind: CrashKind) {
        let mut rng = self.rng.fork();
        for (_, op) in std::mem::take(&mut self.ops) {
            let percent = [0, 50, 90, 100][rng.index(4)];
            let Ok(file) = self.inode_mut(op.inode) else { continue };
            match op.work {
                Work::Write { blocks, end, .. } => {
                    file.write(&blocks, || rng.mask(percent));
                    if percent > 0 {
                        file.set_len(end);
                    }
                }
                Work::Fill(bytes) => {
                    file.write(&fill_blocks(&bytes), || rng.mask(percent));
                    file.set_len(rng.below(bytes.len() as u64 + 1));
                }
                Work::Sync if op.failure.is_none() && percent == 100 => file.flush(op.covered, op.len),
                Work::Sync => {}
            }
        }
        self.locks.clear();
        self.inodes.values_mut().for_each(|file| file.handles = 0);
        if let CrashKind::PowerCut(cache) = kind {
            self.power_cut(cache, &mut rng);
        }
        self.collect();
    }

    fn power_cut(&mut self, cache: Cache, rng: &mut Rng) {
        let mut percent = || match cache {
            Cache::Lost => 0,
            Cache::Kept => 100,
            Cache::Random => [0, 10, 50, 90, 100][rng.index(5)],
        };
        let shares: Vec<u64> = (0..=self.inodes.len()).map(|_| percent()).collect();
        for (file, share) in self.inodes.values_mut().zip(&shares[1..]) {
            file.power_cut(rng, *share);
        }
        self.names.power_cut(rng, shares[0]);
        self.stalled_until = 0;
    }

    /// Whether a power cut could take back anything in this file.
    pub(super) fn is_flushed(&self, path: &Path) -> io::Result<bool> {
        Ok(self.at_path(path)?.is_flushed())
    }
}

fn fill_blocks(bytes: &[u8]) -> Blocks {
    (0..).zip(bytes.chunks(BLOCK)).map(|(number, block)| (number, super::pages::page(block))).collect()
}
