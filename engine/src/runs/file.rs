//! One run on disk: opening, reading a block, writing a new one.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};

use ringmq_rt::{AlignedBuf, AppendBuf, File, Slice, fs};

use crate::error::ReadError;
use crate::limits::{BLOCK, RUN_FENCES, RUN_GROW_BLOCKS, RUN_READ_BLOCKS, RUN_WRITE_BLOCKS};
use crate::log::to_usize;

use super::format::{BLOCK_ENTRIES, Block, Entry, Head, Numbers, Owner, encode_block, mark};

/// A whole run that is open.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) head: Head,
    pub(crate) path: PathBuf,
    fences: Vec<Entry>,
    file: File,
    mark: u32,
    /// A block of it turned out not to be what was written. It takes part in no merge any more.
    damaged: Cell<bool>,
}

/// When the head of a run is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With all else, and one flush: after a crash what is behind a head has to be looked at.
    Together,
    /// Once all else is durable: what has a head is whole.
    HeadLast,
}

impl Run {
    /// Opens a file; `None` when it is not a whole run of this owner with these numbers. How its head came there says
    /// whether its entries have to be looked at.
    pub(crate) async fn open(path: &Path, owner: Owner, numbers: Numbers, ending: Ending) -> io::Result<Option<Self>> {
        let file = File::open(path).await?;
        let len = file.len().await?;
        let Some(bytes) = read(&file, 0, 1).await? else { return Ok(None) };
        let head = Head::decode(&bytes).filter(|head| head.owner == owner && head.numbers == numbers);
        let Some(head) = head.filter(|head| head.file_blocks() * BLOCK <= len) else { return Ok(None) };
        let mark = head.mark();
        let mut fences = Vec::with_capacity(head.fences() as usize);
        let first = 1 + head.blocks;
        let blocks = u32::try_from(head.file_blocks()).unwrap_or(u32::MAX) - first;
        if blocks > 0 {
            let Some(bytes) = read(&file, first, blocks).await? else { return Ok(None) };
            for (number, bytes) in (first..).zip(bytes.chunks(to_usize(BLOCK))) {
                let Some(block) = Block::check(bytes, mark, number) else { return Ok(None) };
                fences.extend(block.entries(0..block.len()));
            }
        }
        if fences.len() != head.fences() as usize || !fences.is_sorted() {
            return Ok(None);
        }
        let run = Self { head, path: path.to_path_buf(), fences, file, mark, damaged: Cell::new(false) };
        Ok((ending == Ending::HeadLast || run.is_whole().await?).then_some(run))
    }

    /// Whether every block is what was written.
    async fn is_whole(&self) -> io::Result<bool> {
        let mut first = 0;
        while first < self.head.blocks {
            let count = (self.head.blocks - first).min(RUN_READ_BLOCKS);
            match self.read(first, count).await {
                Ok(_) => first += count,
                Err(ReadError::Io { error, .. }) => return Err(error),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.get()
    }

    /// Notes damage; true the first time.
    pub(crate) fn set_damaged(&self) -> bool {
        !self.damaged.replace(true)
    }

    /// The blocks among which the one is that would hold `entry`: the last whose first entry is not behind it.
    pub(crate) fn group(&self, entry: Entry) -> std::ops::Range<u32> {
        let at = self.fences.partition_point(|fence| *fence <= entry).saturating_sub(1);
        let start = u32::try_from(at).unwrap_or(u32::MAX).saturating_mul(self.head.stride);
        start..start.saturating_add(self.head.stride).min(self.head.blocks)
    }

    /// Reads `count` blocks of entries from block `first` on and checks them.
    pub(crate) async fn read(&self, first: u32, count: u32) -> Result<Slice, ReadError> {
        let at = u64::from(1 + first) * BLOCK;
        let bytes = match read(&self.file, 1 + first, count).await {
            Ok(bytes) => bytes,
            Err(error) => return Err(ReadError::Io { path: self.path.clone(), at, error }),
        };
        let damaged = |at| ReadError::RunDamaged { path: self.path.clone(), at };
        let bytes = bytes.ok_or_else(|| damaged(at))?;
        for (number, block) in (1 + first..).zip(bytes.chunks(to_usize(BLOCK))) {
            if Block::check(block, self.mark, number).is_none() {
                return Err(damaged(u64::from(number) * BLOCK));
            }
        }
        Ok(bytes)
    }
}

/// Some blocks of a file; `None` when it ends before.
async fn read(file: &File, first: u32, count: u32) -> io::Result<Option<Slice>> {
    let buf = AlignedBuf::new(to_usize(u64::from(count) * BLOCK)).map_err(io::Error::other)?;
    let (buf, got) = file.read_at(buf, u64::from(first) * BLOCK).await?;
    Ok((got == buf.len()).then(|| buf.freeze()))
}

/// Writes a run, entry by entry in order.
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    file: File,
    allocated: u64,
    /// Blocks that the file has at most.
    most: u64,
    out: AppendBuf,
    /// Number in the file of the first block that is in `out`.
    at: u32,
    block: Vec<Entry>,
    fences: Vec<Entry>,
    head: Head,
    mark: u32,
}

impl Writer {
    /// Begins a run of at most `entries` entries.
    pub(crate) async fn create(
        dir: &Path,
        owner: Owner,
        numbers: Numbers,
        covers: (u64, u64),
        before: u64,
        entries: u64,
    ) -> io::Result<Self> {
        let path = dir.join(numbers.file_name());
        fs::remove(&path).await?;
        let blocks = entries.div_ceil(BLOCK_ENTRIES as u64);
        let stride = blocks.div_ceil(RUN_FENCES as u64).max(1);
        let stride = u32::try_from(stride).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let none = Entry { key: 0, value: 0 };
        let head = Head {
            owner,
            numbers,
            covers,
            before,
            entries: 0,
            blocks: 0,
            stride,
            first: none,
            last: none,
            values: (u64::MAX, 0),
        };
        let largest = Head { blocks: u32::try_from(blocks).map_err(|_| io::ErrorKind::FileTooLarge)?, ..head };
        Ok(Self {
            file: File::create(&path).await?,
            path,
            allocated: 0,
            most: largest.file_blocks(),
            out: AppendBuf::new(to_usize(BLOCK) * RUN_WRITE_BLOCKS).map_err(io::Error::other)?,
            at: 1,
            block: Vec::with_capacity(BLOCK_ENTRIES),
            fences: Vec::new(),
            head,
            mark: mark(owner, numbers),
        })
    }

    /// Adds the next entry. True when so many blocks wait that [`flush`](Self::flush) must come before the next.
    pub(crate) fn push(&mut self, entry: Entry) -> bool {
        if self.head.entries == 0 {
            self.head.first = entry;
        }
        self.head.last = entry;
        self.head.values = (self.head.values.0.min(entry.value), self.head.values.1.max(entry.value));
        self.head.entries += 1;
        self.block.push(entry);
        if self.block.len() == BLOCK_ENTRIES {
            self.end_block();
        }
        self.out.remaining() == 0
    }

    fn end_block(&mut self) {
        if self.head.blocks.is_multiple_of(self.head.stride) {
            self.fences.extend(self.block.first());
        }
        self.head.blocks += 1;
        put(&mut self.out, self.mark, self.head.blocks, &self.block);
        self.block.clear();
    }

    /// Writes the blocks that wait.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        let len = self.out.len();
        if len == 0 {
            return Ok(());
        }
        let offset = u64::from(self.at) * BLOCK;
        let end = offset + len as u64;
        if end > self.allocated {
            let grown = end.next_multiple_of(u64::from(RUN_GROW_BLOCKS) * BLOCK).min(self.most * BLOCK).max(end);
            self.file.allocate(grown).await?;
            self.allocated = grown;
        }
        self.file.write_at(&[self.out.slice(0..len)], offset).await?;
        self.at += u32::try_from(len as u64 / BLOCK).unwrap_or(0);
        if !self.out.recycle() {
            self.out = AppendBuf::new(to_usize(BLOCK) * RUN_WRITE_BLOCKS).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Ends the run with fences and head, and makes it durable, but for its name.
    pub(crate) async fn finish(mut self, ending: Ending) -> io::Result<Run> {
        if !self.block.is_empty() {
            self.end_block();
        }
        let fences = std::mem::take(&mut self.fences);
        for (number, chunk) in (1 + self.head.blocks..).zip(fences.chunks(BLOCK_ENTRIES)) {
            if self.out.remaining() == 0 {
                self.flush().await?;
            }
            put(&mut self.out, self.mark, number, chunk);
        }
        self.flush().await?;
        if self.allocated == 0 {
            self.file.allocate(BLOCK).await?;
        }
        if ending == Ending::HeadLast {
            self.file.sync().await?;
        }
        let mut head = AlignedBuf::new(to_usize(BLOCK)).map_err(io::Error::other)?;
        head.copy_from_slice(&self.head.encode());
        self.file.write_at(&[head.freeze()], 0).await?;
        self.file.sync().await?;
        let Self { path, file, head, mark, .. } = self;
        Ok(Run { head, path, fences, file, mark, damaged: Cell::new(false) })
    }

    /// Gives up: nothing is left behind.
    pub(crate) async fn abandon(self) -> io::Result<()> {
        let path = self.path.clone();
        drop(self);
        fs::remove(&path).await
    }
}

fn put(out: &mut AppendBuf, mark: u32, number: u32, entries: &[Entry]) {
    let done = out.append(to_usize(BLOCK), |room| encode_block(room, mark, number, entries));
    assert!(done.is_some(), "no room for block {number} of a run");
}
