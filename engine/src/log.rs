//! The commit log's bookkeeping in memory: which bytes come where, when a batch is sealed, what the next write takes,
//! which finished buffers still serve tail readers. Pure: it does no I/O and knows no clock.
//!
//! A buffer holds a piece of the log exactly as it is, or will be, on disk; it starts on a block. A batch lies within
//! one buffer and one segment and ends with its seal, so a write is a few aligned slices and copies nothing.

use std::collections::VecDeque;
use std::mem;

use ringmq_rt::buf::{AppendBuf, OutOfMemory, Slice};
use smallvec::SmallVec;

use crate::limits;
use crate::position::{Epoch, QueueId, ShardId};
use crate::seal::{self, SEAL_MIN, Trailer, seal_end};

/// A stretch of the log that is one file: allocated, so that what is appended into it has its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) base: u64,
    pub(crate) end: u64,
}

/// Who writes this log, for its seals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer {
    pub(crate) shard: ShardId,
    pub(crate) epoch: Epoch,
    pub(crate) store: u64,
}

/// Why there is no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// It fits no segment.
    TooLarge { max: u64 },
    /// It belongs into the next segment, which is not allocated yet.
    Segment,
    /// No memory for a buffer.
    Memory(OutOfMemory),
}

/// Sealed batches that lie one behind the other in one segment: one write.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) start: u64,
    /// Where the log goes on: behind the last batch, or at the next segment if that batch rolls.
    pub(crate) end: u64,
    pub(crate) parts: SmallVec<[Slice; 6]>,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    /// Queues that have an entry in these batches, each once a batch.
    pub(crate) touched: Vec<QueueId>,
}

#[derive(Debug)]
struct Buffer {
    start: u64,
    buf: AppendBuf,
}

impl Buffer {
    fn end(&self) -> u64 {
        self.start + self.buf.len() as u64
    }
}

#[derive(Debug)]
struct Open {
    start: u64,
    records: u32,
    crc: u32,
    touched: Vec<QueueId>,
}

#[derive(Debug)]
struct Sealed {
    start: u64,
    len: u64,
    end: u64,
    segment: u64,
    records: u32,
    touched: Vec<QueueId>,
}

#[derive(Debug)]
pub(crate) struct Log {
    writer: Writer,
    buffers: VecDeque<Buffer>,
    buffered: u64,
    spare: Vec<AppendBuf>,
    spare_lists: Vec<Vec<QueueId>>,
    open: Option<Open>,
    sealed: VecDeque<Sealed>,
    /// Number of the open batch; grows by one with each seal.
    batch: u64,
    end: u64,
    segment: Span,
    next: Option<Span>,
    segment_size: u64,
    store_ms: i64,
}

impl Log {
    /// A log that goes on at `end`, which lies in `segment` on a block; new segments have `segment_size`.
    pub(crate) fn new(writer: Writer, end: u64, segment: Span, segment_size: u64, store_ms: i64) -> Self {
        assert!(
            end.is_multiple_of(limits::BLOCK) && segment.base <= end && end <= segment.end,
            "a log that goes on at {end} in {segment:?}"
        );
        Self {
            writer,
            buffers: VecDeque::new(),
            buffered: 0,
            spare: Vec::new(),
            spare_lists: Vec::new(),
            open: None,
            sealed: VecDeque::new(),
            batch: 1,
            end,
            segment,
            next: None,
            segment_size,
            store_ms,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// First byte that no batch begun so far can touch.
    pub(crate) fn reserved_end(&self) -> u64 {
        if self.open.is_some() { seal_end(self.end) } else { self.end }
    }

    pub(crate) fn segment(&self) -> Span {
        self.segment
    }

    /// Where the next segment has to begin, if it is not there yet.
    pub(crate) fn wants_next(&self) -> Option<u64> {
        self.next.is_none().then_some(self.segment.end)
    }

    pub(crate) fn next_segment(&self) -> Option<Span> {
        self.next
    }

    pub(crate) fn set_next(&mut self, span: Span) {
        assert!(self.next.is_none() && span.base == self.segment.end, "{span:?} does not follow {:?}", self.segment);
        self.next = Some(span);
    }

    /// Number of the batch that is appended to now.
    pub(crate) fn batch(&self) -> u64 {
        self.batch
    }

    /// Where the open batch begins; where the next one will, if none is open.
    pub(crate) fn batch_start(&self) -> u64 {
        self.open.as_ref().map_or(self.end, |open| open.start)
    }

    /// Latest store time in the log.
    pub(crate) fn store_ms(&self) -> i64 {
        self.store_ms
    }

    /// Bytes of log buffers in memory.
    pub(crate) fn buffered(&self) -> u64 {
        self.buffered
    }

    /// Makes room for `len` bytes that lie together in one batch. It may seal, roll and take a new buffer; after it
    /// returned `Ok` the next appends of together `len` bytes cannot fail. `flushed` goes into a seal.
    pub(crate) fn make_room(&mut self, len: u64, flushed: u64) -> Result<(), NoRoom> {
        let max = self.segment_size.min(limits::RECORD_LIMIT + limits::BLOCK) - SEAL_MIN;
        if len > max {
            return Err(NoRoom::TooLarge { max });
        }
        if self.fits_buffer(len) && self.fits_segment(len) {
            return Ok(());
        }
        if self.fits_segment(len) {
            self.seal_open(flushed, false);
        }
        if !self.fits_segment(len) {
            let next = self.next.ok_or(NoRoom::Segment)?;
            self.roll(next, flushed)?;
        }
        if !self.fits_buffer(len) {
            self.add_buffer(seal_end(len)).map_err(NoRoom::Memory)?;
        }
        Ok(())
    }

    /// Appends `len` bytes, for which [`make_room`](Self::make_room) made room, and gives where they begin.
    pub(crate) fn append<R>(&mut self, len: u64, store_ms: i64, fill: impl FnOnce(&mut [u8], u64) -> R) -> (u64, R) {
        let start = self.end;
        let buffer = self.buffers.back_mut().filter(|b| b.end() == start);
        let crc = self.open.as_ref().map_or(0, |open| open.crc);
        let filled = buffer.and_then(|buffer| {
            buffer.buf.append(to_usize(len), |room| {
                let result = fill(room, start);
                (crc32c::crc32c_append(crc, room), result)
            })
        });
        let Some((crc, result)) = filled else { panic!("no room was made for {len} bytes at {start}") };
        let lists = &mut self.spare_lists;
        let open = self.open.get_or_insert_with(|| Open {
            start,
            records: 0,
            crc: 0,
            touched: lists.pop().unwrap_or_default(),
        });
        open.crc = crc;
        open.records += 1;
        self.store_ms = self.store_ms.max(store_ms);
        self.end = start + len;
        (start, result)
    }

    /// Notes that the open batch holds an entry of `queue`.
    pub(crate) fn touch(&mut self, queue: QueueId) {
        if let Some(open) = &mut self.open {
            open.touched.push(queue);
        }
    }

    /// Seals what is open and hands out the next write: at least one batch, more while they lie together and stay
    /// within [`limits::WRITE_MAX`].
    pub(crate) fn next_write(&mut self, flushed: u64) -> Option<Write> {
        if self.sealed.iter().map(|s| s.len).sum::<u64>() < limits::WRITE_MAX {
            self.seal_open(flushed, false);
        }
        let first = self.sealed.pop_front()?;
        let mut write = Write {
            start: first.start,
            end: first.end,
            parts: SmallVec::new(),
            bytes: 0,
            records: 0,
            touched: Vec::new(),
        };
        let segment = first.segment;
        self.take(&mut write, first);
        while let Some(next) = self.sealed.front() {
            let together = next.segment == segment && next.start == write.start + write.bytes;
            if !together || write.bytes + next.len > limits::WRITE_MAX {
                break;
            }
            if let Some(next) = self.sealed.pop_front() {
                self.take(&mut write, next);
            }
        }
        Some(write)
    }

    fn take(&mut self, write: &mut Write, sealed: Sealed) {
        let Some(slice) = self.slice(sealed.start, sealed.len) else {
            panic!("the batch at {} is not in memory", sealed.start)
        };
        if !write.parts.last_mut().is_some_and(|last| last.try_join(&slice)) {
            write.parts.push(slice);
        }
        write.end = sealed.end;
        write.bytes += sealed.len;
        write.records += u64::from(sealed.records);
        if write.touched.is_empty() {
            write.touched = sealed.touched;
        } else {
            write.touched.extend_from_slice(&sealed.touched);
            self.give_back(sealed.touched);
        }
    }

    /// Takes a list of touched queues back for the next batch.
    pub(crate) fn give_back(&mut self, mut list: Vec<QueueId>) {
        if list.capacity() > 0 && self.spare_lists.len() < 8 {
            list.clear();
            self.spare_lists.push(list);
        }
    }

    /// Drops the oldest buffers until at most `keep` bytes are left; what is not in front of `written` stays.
    pub(crate) fn trim(&mut self, keep: u64, written: u64) {
        while self.buffered > keep && self.buffers.len() > 1 && self.buffers[0].end() <= written {
            let Some(Buffer { mut buf, .. }) = self.buffers.pop_front() else { return };
            let capacity = buf.len() + buf.remaining();
            self.buffered -= capacity as u64;
            if capacity as u64 == limits::BUFFER && self.spare.len() < limits::SPARE_BUFFERS && buf.recycle() {
                self.spare.push(buf);
            }
        }
    }

    /// Bytes of the log that are still in memory.
    pub(crate) fn slice(&self, offset: u64, len: u64) -> Option<Slice> {
        let at = self.buffers.partition_point(|b| b.start <= offset).checked_sub(1)?;
        let buffer = &self.buffers[at];
        let from = offset - buffer.start;
        (from + len <= buffer.buf.len() as u64).then(|| buffer.buf.slice(to_usize(from)..to_usize(from + len)))
    }

    fn fits_segment(&self, len: u64) -> bool {
        seal_end(self.end + len) <= self.segment.end
    }

    fn fits_buffer(&self, len: u64) -> bool {
        self.buffers.back().is_some_and(|b| {
            let capacity = (b.buf.len() + b.buf.remaining()) as u64;
            b.end() == self.end && seal_end(self.end + len) - b.start <= capacity
        })
    }

    fn add_buffer(&mut self, len: u64) -> Result<(), OutOfMemory> {
        let buf = match self.spare.pop().filter(|_| len <= limits::BUFFER) {
            Some(buf) => buf,
            None => AppendBuf::new(to_usize(len.max(limits::BUFFER.min(self.segment_size))))?,
        };
        self.buffered += (buf.len() + buf.remaining()) as u64;
        self.buffers.push_back(Buffer { start: self.end, buf });
        Ok(())
    }

    fn seal_open(&mut self, flushed: u64, roll: bool) {
        if let Some(open) = self.open.take() {
            self.seal(open, flushed, roll);
        }
    }

    fn seal(&mut self, open: Open, flushed: u64, roll: bool) {
        let end = seal_end(self.end);
        let len = end - open.start;
        let trailer = Trailer {
            shard: self.writer.shard,
            epoch: self.writer.epoch,
            store: self.writer.store,
            start: open.start,
            len: u32::try_from(len).unwrap_or_else(|_| panic!("a batch of {len} bytes")),
            records: open.records,
            flushed,
            store_ms: self.store_ms,
            roll,
            crc: open.crc,
        };
        let room = to_usize(end - self.end);
        let sealed = self.buffers.back_mut().and_then(|b| b.buf.append(room, |out| seal::write_seal(out, trailer)));
        assert!(sealed.is_some(), "no room was left for the seal at {}", self.end);
        self.end = if roll { self.segment.end } else { end };
        self.sealed.push_back(Sealed {
            start: open.start,
            len,
            end: self.end,
            segment: self.segment.base,
            records: open.records,
            touched: open.touched,
        });
        self.batch += 1;
    }

    /// Goes on in the next segment. What is left of this one is announced by a last seal, if need be an empty one.
    fn roll(&mut self, next: Span, flushed: u64) -> Result<(), NoRoom> {
        if self.open.is_some() {
            self.seal_open(flushed, true);
        } else if self.end < self.segment.end {
            if !self.fits_buffer(0) {
                self.add_buffer(limits::BLOCK).map_err(NoRoom::Memory)?;
            }
            let empty = Open { start: self.end, records: 0, crc: 0, touched: Vec::new() };
            self.seal(empty, flushed, true);
        }
        self.segment = next;
        self.next = None;
        Ok(())
    }
}

/// Gives the log its lists back, keeping what is left to drop.
impl Write {
    pub(crate) fn take_touched(&mut self) -> Vec<QueueId> {
        mem::take(&mut self.touched)
    }
}

/// Lengths in memory fit a `usize`: they are bounded by the limits, far below 4 GiB.
pub(crate) fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or_else(|_| panic!("{len} bytes do not fit the address space"))
}

#[cfg(test)]
mod tests;
