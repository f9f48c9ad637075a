//! Older parts of the log, read from disk: aligned blocks in a small cache, the next ones read ahead when somebody
//! reads on in order, and a direct read for a record that no block holds whole, or whose block has a sector that the disk
//! does not read. Only written bytes are ever kept.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use ringmq_rt::sync::Waiters;
use ringmq_rt::{AlignedBuf, Slice, spawn};

use crate::cache::Cache;
use crate::error::ReadError;
use crate::limits::{BLOCK, COLD_BLOCK, UNREADABLE_BLOCKS};
use crate::log::{Span, to_usize};
use crate::position::Position;
use crate::state::Core;

#[derive(Debug)]
pub(crate) struct ColdReads {
    blocks: RefCell<Cache<u64, Slice>>,
    /// Blocks that are being read.
    loading: RefCell<HashSet<u64>>,
    loaded: Waiters,
    /// Blocks that the disk did not read whole.
    unreadable: RefCell<Cache<u64, ()>>,
    /// The block that was asked for last.
    last: Cell<u64>,
    /// Blocks to read ahead.
    ahead: usize,
}

impl ColdReads {
    /// A cache of so many blocks, and how many of them may be read ahead: a quarter at most, so that readers at
    /// different places do not drive out what the others are about to read.
    pub(crate) fn new(blocks: usize, ahead: usize) -> Self {
        Self {
            blocks: RefCell::new(Cache::new(blocks)),
            loading: RefCell::default(),
            loaded: Waiters::new(),
            unreadable: RefCell::new(Cache::new(UNREADABLE_BLOCKS)),
            last: Cell::new(u64::MAX),
            ahead: ahead.min(blocks / 4),
        }
    }
}

/// The cache block that holds `offset`: where it begins and ends in the log.
fn block_of(span: Span, offset: u64) -> (u64, u64) {
    let start = span.base + (offset - span.base) / COLD_BLOCK * COLD_BLOCK;
    (start, (start + COLD_BLOCK).min(span.end))
}

/// What the cache has of `len` bytes at `offset`.
pub(crate) fn cached(core: &Core, offset: u64, len: u64) -> Option<Slice> {
    let (start, end) = block_of(core.segments.holding(offset)?, offset);
    if offset + len > end {
        return None;
    }
    let block = core.cold.blocks.borrow_mut().get(start)?;
    let at = to_usize(offset - start);
    Some(block.cut(at..at + to_usize(len)))
}

/// `len` bytes of the log at `offset`, which are written and lie in one segment.
pub(crate) async fn read(core: &Rc<Core>, offset: u64, len: u64) -> Result<Slice, ReadError> {
    let damaged = || {
        gone(core, offset).unwrap_or(ReadError::Damaged {
            position: Position::new(core.shard, offset),
            expected: "a place inside a segment",
        })
    };
    let span = core.segments.holding(offset).filter(|s| offset + len <= s.end).ok_or_else(damaged)?;
    let (start, end) = block_of(span, offset);
    let written = core.with(|s| s.marks.written.offset());
    if offset + len > end || end > written {
        return direct(core, span, offset, len).await;
    }
    let sequential = core.cold.last.replace(start) == start.wrapping_sub(COLD_BLOCK);
    let Some(block) = load(core, span, start, end).await? else {
        return direct(core, span, offset, len).await;
    };
    if sequential {
        for block in (end..span.end).step_by(to_usize(COLD_BLOCK)).take(core.cold.ahead) {
            read_ahead(core, span, block);
        }
    }
    let at = to_usize(offset - start);
    Ok(block.cut(at..at + to_usize(len)))
}

/// What to say of an offset that was dropped.
fn gone(core: &Core, offset: u64) -> Option<ReadError> {
    let start = core.segments.start();
    (offset < start).then(|| ReadError::Gone { position: Position::new(core.shard, start) })
}

/// A block by way of the cache; two readers of the same block read it once. `None` for one that the disk does not read
/// whole: a bad sector takes along what lies on it, not all that lies in its block.
async fn load(core: &Rc<Core>, span: Span, start: u64, end: u64) -> Result<Option<Slice>, ReadError> {
    loop {
        if let Some(block) = core.cold.blocks.borrow_mut().get(start) {
            return Ok(Some(block));
        }
        if core.cold.unreadable.borrow().contains(start) {
            return Ok(None);
        }
        if core.cold.loading.borrow_mut().insert(start) {
            break;
        }
        core.cold.loaded.until(|| (!core.cold.loading.borrow().contains(&start)).then_some(())).await;
    }
    let guard = Loading { core, start };
    let block = match direct(core, span, start, end - start).await {
        Ok(block) => {
            core.cold.blocks.borrow_mut().insert(start, block.clone());
            Some(block)
        }
        Err(ReadError::Io { .. }) => {
            core.cold.unreadable.borrow_mut().insert(start, ());
            None
        }
        Err(error) => return Err(error),
    };
    drop(guard);
    Ok(block)
}

/// Whoever reads a block says so when done, be it because its reader went away.
struct Loading<'a> {
    core: &'a Core,
    start: u64,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.core.cold.loading.borrow_mut().remove(&self.start);
        self.core.cold.loaded.wake_all();
    }
}

fn read_ahead(core: &Rc<Core>, span: Span, start: u64) {
    let end = (start + COLD_BLOCK).min(span.end);
    let worth = start < span.end
        && core.with(|s| end <= s.marks.written.offset())
        && !core.cold.blocks.borrow().contains(start)
        && !core.cold.unreadable.borrow().contains(start)
        && !core.cold.loading.borrow().contains(&start);
    if worth {
        let core = Rc::clone(core);
        let ahead = async move {
            // A failure shows up again when the block is asked for.
            let _ = load(&core, span, start, end).await;
        };
        spawn("log-read-ahead", ahead).detach();
    }
}

/// Reads the aligned range around `len` bytes at `offset`.
async fn direct(core: &Core, span: Span, offset: u64, len: u64) -> Result<Slice, ReadError> {
    let from = offset / BLOCK * BLOCK;
    let to = (offset + len).next_multiple_of(BLOCK);
    let failed = |error| {
        let at = from - span.base;
        gone(core, span.base).unwrap_or_else(|| ReadError::Io { path: core.segments.path(span.base), at, error })
    };
    let file = core.segments.file(span.base).await.map_err(failed)?;
    let buf = AlignedBuf::new(to_usize(to - from))?;
    let (buf, got) = file.read_at(buf, from - span.base).await.map_err(failed)?;
    // Dropped while it was read: the file may be another segment by now.
    if let Some(gone) = gone(core, span.base) {
        return Err(gone);
    }
    if (got as u64) < offset + len - from {
        return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let at = to_usize(offset - from);
    Ok(buf.freeze().cut(at..at + to_usize(len)))
}
