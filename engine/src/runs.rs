//! A store of sorted entries, key → log offset, of one shard and one purpose: derived from the log, and built in the
//! turn that appends. What is new is a table in memory ([`table`]); it is written out as an immutable, sorted run
//! ([`file`], [`format`]), and neighbouring runs are merged in the background ([`work`], [`list`]), so that there are
//! never many. [`find`] reads both.
//!
//! Entries come in the order of the log. So each run has a stretch of the log, the runs follow one another without a
//! gap, and what lies behind the last run is read again from the log after a crash; an entry that is there twice counts
//! once. A run leads only to records that are flushed.

mod file;
mod find;
mod format;
mod list;
mod sort;
mod table;
pub(crate) mod work;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::vec::Drain;

use ringmq_rt::sync::{Event, Waiters};
use ringmq_rt::{Slice, fs, yield_now};

use crate::cache::Cache;
use crate::error::{OpenError, ReadError};
use crate::limits::{self, RUN_CACHE_BLOCKS, RUNS_MAX};
use crate::position::ShardId;

use file::{Ending, Run, Writer};
pub(crate) use format::Entry;
use format::{Head, Numbers, Owner};
use sort::{Sorter, take_lowest};
use table::{Frozen, Table};

/// What the entries of a store of runs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Hash of topic and key → record.
    Keys = 1,
    /// Due time → record.
    Timers = 2,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Timers => "timers",
        }
    }
}

/// Figures of a store of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunStats {
    /// Runs on disk.
    pub runs: usize,
    /// Entries in them; what a merge has not yet dropped is among them.
    pub entries: u64,
    /// Entries in memory.
    pub pending: usize,
    /// Blocks that look-ups read from disk since the start.
    pub blocks_read: u64,
    /// Merges since the start.
    pub merges: u64,
}

/// What a snapshot vouches for: it is written once this is durable, so that a run costs one flush and an empty stretch of the
/// log costs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Vouched {
    /// Runs with numbers in front of this are whole.
    pub(crate) next: u32,
    /// The last of them ends at this log offset.
    pub(crate) end: u64,
    /// Between there and this log offset there are no entries.
    pub(crate) covered: u64,
}

/// A store of runs.
#[derive(Debug)]
pub(crate) struct Runs {
    dir: PathBuf,
    shard: ShardId,
    owner: Owner,
    table: RefCell<Table>,
    sorter: RefCell<Sorter>,
    /// In the order of the log.
    runs: RefCell<Vec<Rc<Run>>>,
    /// Number of the next table that is written out.
    next: Cell<u32>,
    /// A snapshot may vouch for runs with numbers in front of this.
    vouched: Cell<u32>,
    /// Names in the folder are not durable yet.
    names: Cell<bool>,
    /// The values of all runs so far are below this.
    before: Cell<u64>,
    /// Values in front of it lead nowhere any more.
    floor: Cell<u64>,
    /// Entries with keys in front of it are over.
    over: Cell<u64>,
    blocks: RefCell<Cache<(Numbers, u32), Slice>>,
    blocks_read: Cell<u64>,
    merges: Cell<u64>,
    /// There is something to sort or to write out.
    pub(crate) work: Event,
    /// There may be something to merge or to drop.
    merge_work: Event,
    /// A run came or went.
    changed: Waiters,
}

impl Runs {
    /// Opens the runs of a shard whose log begins at `start`. What is not whole, not needed or behind a gap is removed;
    /// [`covered`](Self::covered) says from where the log has to be read again. Runs that no snapshot vouches for are read
    /// whole. A table is written out at `worth` entries.
    pub(crate) async fn open(
        root: &Path,
        shard: ShardId,
        store: u64,
        kind: Kind,
        start: u64,
        vouched: Vouched,
        worth: usize,
    ) -> Result<Rc<Self>, OpenError> {
        let dir = root.join("index").join(shard.to_string()).join(kind.folder());
        crate::dir::make(&dir, root).await?;
        let owner = Owner { store, shard: shard.get(), kind: kind as u8 };
        let names = fs::read_dir(&dir).await.map_err(OpenError::io("list", &dir))?;
        let mut found = Vec::new();
        for name in names {
            let Some(numbers) = name.to_str().and_then(Numbers::of_name) else { continue };
            let path = dir.join(&name);
            // A merge ends in two steps, because it may be too long to be read whole at a start.
            let trusted = numbers.first < numbers.last || numbers.last < vouched.next;
            let ending = if trusted { Ending::HeadLast } else { Ending::Together };
            match Run::open(&path, owner, numbers, ending).await.map_err(OpenError::io("read", &path))? {
                Some(run) => found.push(run),
                None => fs::remove(&path).await.map_err(OpenError::io("remove", &path))?,
            }
        }
        let heads: Vec<_> = found.iter().map(|run| run.head).collect();
        let kept = list::choose(&heads, start);
        if let Some(gap) = kept.gap {
            tracing::warn!(shard = %shard, path = %dir.display(), "a part is missing: it is built again from the log, from {gap} on");
        }
        let mut runs = Vec::new();
        for (at, run) in found.into_iter().enumerate() {
            if kept.keep.contains(&at) {
                runs.push(Rc::new(run));
            } else {
                fs::remove(&run.path).await.map_err(OpenError::io("remove", &run.path))?;
            }
        }
        // A name that came back after a power cut would be taken for a run that is written from now on.
        fs::sync_dir(&dir).await.map_err(OpenError::io("flush", &dir))?;
        runs.sort_by_key(|run| run.head.numbers.first);
        let from = runs.last().map_or(start, |run| run.head.covers.1);
        // Nothing may be missing in front of the stretch that is known to be empty.
        let covered = if from >= vouched.end { vouched.covered } else { from };
        let next = runs.last().map_or(vouched.next, |run| run.head.numbers.last + 1);
        let before = runs.iter().map(|run| run.head.before.max(behind(&run.head))).max().unwrap_or(0);
        Ok(Rc::new(Self {
            dir,
            shard,
            owner,
            table: RefCell::new(Table::new(from, covered, worth)),
            sorter: RefCell::default(),
            runs: RefCell::new(runs),
            next: Cell::new(next),
            vouched: Cell::new(vouched.next),
            names: Cell::new(false),
            before: Cell::new(before),
            floor: Cell::new(start),
            over: Cell::new(0),
            blocks: RefCell::new(Cache::new(RUN_CACHE_BLOCKS)),
            blocks_read: Cell::new(0),
            merges: Cell::new(0),
            work: Event::new(),
            merge_work: Event::new(),
            changed: Waiters::new(),
        }))
    }

    /// Adds an entry; `value` is the log offset of its record, which is in the batch that begins at `batch`.
    pub(crate) fn insert(&self, key: u64, value: u64, batch: u64) {
        if self.table.borrow_mut().insert(Entry { key, value }, batch) {
            self.work.notify();
        }
    }

    /// Whether more may be inserted; otherwise [`work`] has to catch up.
    pub(crate) fn has_room(&self) -> bool {
        self.table.borrow().has_room()
    }

    /// Everything that records in front of this log offset have is in runs that are durable but for their names. A batch
    /// begins there.
    pub(crate) fn covered(&self) -> u64 {
        self.table.borrow().covered()
    }

    /// What a snapshot that is written from here on may vouch for.
    pub(crate) async fn vouch(&self) -> io::Result<Vouched> {
        let vouched = {
            let table = self.table.borrow();
            Vouched { next: self.next.get(), end: table.from(), covered: table.covered() }
        };
        if self.names.replace(false)
            && let Err(error) = fs::sync_dir(&self.dir).await
        {
            self.names.set(true);
            return Err(error);
        }
        self.vouched.set(vouched.next.max(self.vouched.get()));
        Ok(vouched)
    }

    /// Whether it is time to write out.
    pub(crate) fn is_due(&self) -> bool {
        self.table.borrow().is_due()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Asks for everything in front of `batch`, where the open batch begins, to be written out.
    pub(crate) fn want(&self, batch: u64) {
        self.table.borrow_mut().want(batch);
        self.work.notify();
    }

    /// Values in front of `start` lead nowhere: readers pass them over, and their entries go in the background.
    pub(crate) fn drop_in_front_of(&self, start: u64) {
        if start > self.floor.get() {
            self.floor.set(start);
            self.merge_work.notify();
        }
    }

    /// Entries with keys in front of `key` are over: they go with the next write or merge that they are in.
    pub(crate) fn end_in_front_of(&self, key: u64) {
        self.over.set(self.over.get().max(key));
    }

    /// Whether nobody asks for an entry any more.
    fn is_over(&self, entry: Entry) -> bool {
        entry.value < self.floor.get() || entry.key < self.over.get()
    }

    /// The greatest value there is.
    pub(crate) fn last(&self) -> Option<u64> {
        let runs = self.runs.borrow();
        let written = runs.iter().filter(|run| run.head.entries > 0).map(|run| run.head.values.1).max();
        self.table.borrow().last().max(written)
    }

    pub(crate) fn stats(&self) -> RunStats {
        let runs = self.runs.borrow();
        RunStats {
            runs: runs.len(),
            entries: runs.iter().map(|run| run.head.entries).sum(),
            pending: self.table.borrow().len(),
            blocks_read: self.blocks_read.get(),
            merges: self.merges.get(),
        }
    }

    /// Every task looks again.
    pub(crate) fn wake_everyone(&self) {
        self.work.notify();
        self.merge_work.notify();
        self.changed.wake_all();
    }

    /// Sorts and writes out what is due, without the help of a task: while a log is replayed.
    pub(crate) async fn write_due(&self) -> io::Result<()> {
        while self.table.borrow().is_due() {
            while self.sort_one() {
                yield_now().await;
            }
            let Some(frozen) = self.freeze() else { return Ok(()) };
            self.write_out(frozen).await?;
        }
        Ok(())
    }

    fn sort_one(&self) -> bool {
        self.table.borrow_mut().sort_one(&mut self.sorter.borrow_mut())
    }

    fn freeze(&self) -> Option<Frozen> {
        self.table.borrow().freeze()
    }

    /// Writes a new run, which takes the place of what was frozen.
    async fn write_out(&self, frozen: Frozen) -> io::Result<()> {
        let number = self.next.get();
        let numbers = Numbers { first: number, last: number };
        let entries = frozen.entries as u64;
        let before = self.before.get();
        let mut writer = Writer::create(&self.dir, self.owner, numbers, frozen.covers, before, entries).await?;
        if let Err(error) = self.fill(&mut writer, &frozen).await {
            writer.abandon().await?;
            return Err(error);
        }
        // One that takes the number of a run that was damaged would be trusted in its place.
        let ending = if number < self.vouched.get() { Ending::HeadLast } else { Ending::Together };
        let run = writer.finish(ending).await?;
        self.names.set(true);
        self.next.set(number + 1);
        self.before.set(before.max(behind(&run.head)));
        self.runs.borrow_mut().push(Rc::new(run));
        self.table.borrow_mut().wrote(frozen);
        self.merge_work.notify();
        Ok(())
    }

    /// Merges sorted pieces of memory into a run.
    async fn fill(&self, writer: &mut Writer, frozen: &Frozen) -> io::Result<()> {
        let mut pieces: Vec<&[Entry]> = frozen.pieces.iter().map(|piece| piece.as_slice()).collect();
        let (mut lowest, mut last) = (Vec::new(), None);
        loop {
            let mut windows: Vec<_> =
                pieces.iter().map(|piece| &piece[..piece.len().min(limits::RUN_LOWEST)]).collect();
            take_lowest(&mut windows, &mut lowest);
            if lowest.is_empty() {
                return Ok(());
            }
            for (piece, left) in pieces.iter_mut().zip(windows) {
                let taken = piece.len().min(limits::RUN_LOWEST) - left.len();
                *piece = &piece[taken..];
            }
            self.sorter.borrow_mut().sort(&mut lowest);
            let mut sorted = lowest.drain(..);
            while self.pass_on(&mut sorted, writer, &mut last) {
                writer.flush().await?;
                yield_now().await;
            }
        }
    }

    /// Gives sorted entries to a writer, without those that are over or there twice, until it has to write (true) or all
    /// are there. `last` is the last one that it has.
    fn pass_on(&self, sorted: &mut Drain<'_, Entry>, writer: &mut Writer, last: &mut Option<Entry>) -> bool {
        sorted.by_ref().any(|entry| {
            let passed_over = self.is_over(entry) || last.replace(entry) == Some(entry);
            !passed_over && writer.push(entry)
        })
    }

    /// Runs are as many as they may be, and a merge can change that.
    fn are_too_many(&self) -> bool {
        self.runs.borrow().len() >= RUNS_MAX && self.next_merge().is_some()
    }

    fn next_merge(&self) -> Option<std::ops::Range<usize>> {
        let runs = self.runs.borrow();
        let heads: Vec<_> = runs.iter().map(|run| run.head).collect();
        list::next_merge(&heads, |at| runs[at].is_damaged())
    }

    /// Something of a run is not what was written. Its file goes, so that the next start builds again what it held; until
    /// then what is whole of it still serves.
    async fn noticed(&self, run: &Run, error: &ReadError) {
        if !run.set_damaged() {
            return;
        }
        tracing::error!(shard = %self.shard, "{error}");
        let removed = match fs::remove(&run.path).await {
            Ok(()) => fs::sync_dir(&self.dir).await,
            refused => refused,
        };
        if let Err(e) = removed {
            tracing::error!(shard = %self.shard, path = %run.path.display(), "cannot remove the damaged file: {e}");
        }
    }
}

/// Above all values of a run.
fn behind(head: &Head) -> u64 {
    if head.entries > 0 { head.values.1 + 1 } else { 0 }
}

const _: () = assert!(limits::RUN_PIECE <= 4096, "a piece is sorted in one turn");
const _: () = assert!(
    limits::RUN_PIECES * limits::RUN_LOWEST <= 8192 && limits::RUN_FAN_IN * format::BLOCK_ENTRIES <= 8192,
    "what is taken of all pieces or runs is sorted in one turn"
);

#[cfg(test)]
mod tests;
