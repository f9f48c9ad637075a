//! The index log of a shard: full blocks of queue entries of all its queues, one behind the other in few files. Blocks
//! are derived data: a block is trusted only with its checksum and its queue, and a lost one is rebuilt from the log.
//!
//! [`IndexLog`] is the bookkeeping in memory; [`crate::index_io`] moves blocks to and from the files.

use std::collections::VecDeque;

use ringmq_rt::buf::{AppendBuf, Slice};

use crate::limits::{self, BLOCK_ENTRIES, INDEX_FILE_BLOCKS};
use crate::log::to_usize;
use crate::queue::{ENTRY, Entry};

const MAGIC: u32 = u32::from_be_bytes(*b"RMqI");
/// Magic, count, queue, (free), first queue offset, checksum; then unused up to the entries.
const HEAD: usize = 96;
const CRC_AT: usize = 24;
const BLOCK: usize = ringmq_rt::BLOCK;

const _: () = assert!(HEAD + BLOCK_ENTRIES * ENTRY == BLOCK);

/// Blocks whose memory is allocated together.
const CHUNK: usize = 32 * BLOCK;

/// Whose entries a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockHead {
    /// Sum over the queue's name.
    pub(crate) queue: u32,
    /// Queue offset of the first entry.
    pub(crate) first: u64,
}

impl BlockHead {
    pub(crate) fn new(topic: &str, queue_id: i32, first: u64) -> Self {
        let queue = crc32c::crc32c_append(crc32c::crc32c(topic.as_bytes()), &queue_id.to_be_bytes());
        Self { queue, first }
    }
}

/// A block of queue entries.
#[derive(Debug, Clone)]
pub(crate) struct IndexBlock(Slice);

impl IndexBlock {
    /// Takes a block that was read; `None` when it is not whole, or not the one that `head` names.
    pub(crate) fn check(bytes: Slice, head: BlockHead) -> Option<Self> {
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b));
        let found = u64::from(word(16)?) << 32 | u64::from(word(20)?);
        let whole = bytes.len() == BLOCK
            && word(0)? == MAGIC
            && word(4)? as usize == BLOCK_ENTRIES
            && found == head.first
            && word(8)? == head.queue
            && word(CRC_AT)? == checksum(&bytes);
        whole.then_some(Self(bytes))
    }

    /// How many of the entries name a place in front of a log offset.
    pub(crate) fn in_front_of(&self, start: u64) -> usize {
        let (entries, _) = self.0.get(HEAD..).unwrap_or_default().as_chunks::<ENTRY>();
        entries.partition_point(|e| Entry::decode(e).offset < start)
    }

    pub(crate) fn entry(&self, at: usize) -> Option<Entry> {
        self.0.get(HEAD + at * ENTRY..)?.first_chunk().map(Entry::decode)
    }
}

fn checksum(block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block[..CRC_AT]), &block[CRC_AT + 4..])
}

fn encode(out: &mut [u8], head: BlockHead, entries: &[[u8; ENTRY]]) {
    out[..HEAD].fill(0);
    out[..4].copy_from_slice(&MAGIC.to_be_bytes());
    out[4..8].copy_from_slice(&(BLOCK_ENTRIES as u32).to_be_bytes());
    out[8..12].copy_from_slice(&head.queue.to_be_bytes());
    out[16..24].copy_from_slice(&head.first.to_be_bytes());
    out[HEAD..].copy_from_slice(entries.as_flattened());
    let crc = checksum(out);
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

/// Which file a block is in, and where.
pub(crate) fn file_of(block: u32) -> (u32, u64) {
    (block / INDEX_FILE_BLOCKS, u64::from(block % INDEX_FILE_BLOCKS) * limits::BLOCK)
}

/// A file of the index log: its number, and the log offset that no entry in it lies behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileReach {
    pub(crate) number: u32,
    pub(crate) last: u64,
}

/// The blocks that are not yet on disk, and how far the files reach.
#[derive(Debug)]
pub(crate) struct IndexLog {
    /// Blocks in front of it are gone.
    first: u32,
    /// In order, without gaps.
    files: VecDeque<FileReach>,
    /// Blocks in front of it are written.
    written: u32,
    pending: VecDeque<Slice>,
    chunk: Option<AppendBuf>,
}

impl IndexLog {
    /// An empty index log that begins with block `first`.
    pub(crate) fn new(first: u32) -> Self {
        Self { first, files: VecDeque::new(), written: first, pending: VecDeque::new(), chunk: None }
    }

    /// An index log that goes on with block `next`. What is not known of its last files reaches up to `reach`.
    pub(crate) fn resume(first: u32, next: u32, files: &[FileReach], reach: u64) -> Self {
        let mut this = Self::new(first);
        this.written = next.max(first);
        let kept = first / INDEX_FILE_BLOCKS;
        this.files = files.iter().copied().filter(|file| file.number >= kept).collect();
        if this.written > first {
            let last = (this.written - 1) / INDEX_FILE_BLOCKS;
            for number in this.files.back().map_or(kept, |file| file.number)..=last {
                this.reach(number, reach);
            }
        }
        this
    }

    fn reach(&mut self, number: u32, last: u64) {
        match self.files.back_mut().filter(|file| file.number == number) {
            Some(file) => file.last = file.last.max(last),
            None => self.files.push_back(FileReach { number, last }),
        }
    }

    /// First block that is kept.
    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    pub(crate) fn files(&self) -> &VecDeque<FileReach> {
        &self.files
    }

    /// First block that is still needed when the log starts at `start`: whole files go, never the one that is written.
    pub(crate) fn needed_from(&self, start: u64) -> u32 {
        let current = self.written / INDEX_FILE_BLOCKS;
        let gone = self.files.iter().take_while(|file| file.last < start && file.number < current).last();
        gone.map_or(self.first, |file| (file.number + 1) * INDEX_FILE_BLOCKS)
    }

    /// Forgets the files in front of `block`.
    pub(crate) fn forget_before(&mut self, block: u32) {
        self.first = self.first.max(block);
        while self.files.front().is_some_and(|file| file.number < self.first / INDEX_FILE_BLOCKS) {
            self.files.pop_front();
        }
    }

    /// Number of the next block.
    pub(crate) fn next(&self) -> u32 {
        self.written + u32::try_from(self.pending.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn written(&self) -> u32 {
        self.written
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < limits::INDEX_PENDING_MAX
    }

    /// Appends a full block and gives its number; `None` when too many wait already, or memory is short.
    pub(crate) fn append(&mut self, head: BlockHead, entries: &[[u8; ENTRY]]) -> Option<u32> {
        assert_eq!(entries.len(), BLOCK_ENTRIES, "a block of the index log is full");
        if !self.has_room() {
            return None;
        }
        let number = self.next();
        if self.chunk.as_ref().is_none_or(|chunk| chunk.remaining() < BLOCK) {
            self.chunk = AppendBuf::new(CHUNK).ok();
        }
        let chunk = self.chunk.as_mut()?;
        let at = chunk.len();
        chunk.append(BLOCK, |out| encode(out, head, entries))?;
        self.pending.push_back(chunk.slice(at..at + BLOCK));
        self.reach(number / INDEX_FILE_BLOCKS, entries.last().map_or(0, |last| Entry::decode(last).offset));
        Some(number)
    }

    /// A block that still waits for its write.
    pub(crate) fn get(&self, block: u32) -> Option<IndexBlock> {
        self.pending.get(to_usize(u64::from(block.checked_sub(self.written)?))).cloned().map(IndexBlock)
    }

    /// The next blocks to write, all into one file: the number of the first, and their bytes.
    pub(crate) fn next_write(&self) -> Option<(u32, Vec<Slice>)> {
        let room = INDEX_FILE_BLOCKS - self.written % INDEX_FILE_BLOCKS;
        let count = self.pending.len().min(limits::INDEX_WRITE_BLOCKS).min(room as usize);
        let mut parts: Vec<Slice> = Vec::new();
        for block in self.pending.iter().take(count) {
            if !parts.last_mut().is_some_and(|last| last.try_join(block)) {
                parts.push(block.clone());
            }
        }
        (count > 0).then_some((self.written, parts))
    }

    /// `count` blocks are written.
    pub(crate) fn wrote(&mut self, count: u32) {
        self.pending.drain(..count as usize);
        self.written += count;
        if self.pending.is_empty() {
            self.chunk = None;
        }
    }
}
