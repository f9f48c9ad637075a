//! Opens a shard's log after whatever happened: reads the snapshot, verifies batch by batch what was written behind it,
//! rebuilds the queues, and decides where the log ends. A torn tail is cut; damage to flushed data is not: then the
//! shard does not open, and says where and why.
//!
//! A batch is whole if its seal says it starts where the last one ended, in this store, this shard, an epoch not before
//! the last one's, and the checksum fits. The first place where that fails is the end, unless something proves that the
//! log was flushed beyond it: the snapshot, the store's checkpoint, or the seal of a later batch. To find the latter,
//! recovery looks on for [`limits::SEARCH_MAX`] bytes without such a seal. So damage that wipes every seal of more than
//! that at the very end of the log cannot be told from a torn tail by the log alone.
//!
//! Behind the end may lie anything: zeros, what a recycled segment held in its former places, what an earlier term wrote
//! behind a cut. The first two name other places than where they lie, the last names an earlier term; neither is taken for
//! a batch or for a proof.

use ringmq_rt::{AlignedBuf, yield_now};

use crate::checkpoint::Snapshot;
use crate::error::OpenError;
use crate::index_io::{IndexFiles, is_full};
use crate::index_log::IndexLog;
use crate::indexes::{Indexes, Terms};
use crate::limits::{self, BLOCK};
use crate::log::{Span, to_usize};
use crate::position::{Epoch, Position, QueueOffset, ShardId};
use crate::queue::{Entry, Queues};
use crate::record::{HEAD_BYTES, Head, place};
use crate::runs::Runs;
use crate::seal::{Item, TRAILER, Trailer, item};
use crate::segment::Segments;
use crate::start::LogStart;

/// The largest batch that is believed: a record of any configuration, or a full buffer, with its seal.
const BATCH_MAX: u64 = limits::RECORD_LIMIT + 2 * BLOCK;

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) queues: Queues,
    /// Where the log ends.
    pub(crate) end: u64,
    /// The segment in which the log goes on; `None` if it has to be created.
    pub(crate) segment: Option<Span>,
    pub(crate) index: IndexLog,
    /// From where the snapshot on disk has the log read; `None` if there is none that can be used.
    pub(crate) snapshot: Option<u64>,
    pub(crate) store_ms: i64,
    /// Latest epoch that anything on disk names.
    pub(crate) epoch: Epoch,
    /// Log offset from which the log was read.
    pub(crate) replayed_from: u64,
    pub(crate) records: u64,
    /// Bytes of a torn tail that were cut.
    pub(crate) cut: u64,
}

/// What is known before the log is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) shard: ShardId,
    pub(crate) store: u64,
    /// Flushed up to here, by the store's checkpoint.
    pub(crate) flushed: u64,
}

/// What a batch turned out to be.
enum Batch {
    Whole(Trailer, usize),
    /// It needs this many bytes to tell.
    Short(usize),
    Bad(&'static str),
}

/// A stretch of the log in memory.
struct Window<'a> {
    segments: &'a Segments,
    span: Span,
    buf: Option<AlignedBuf>,
    start: u64,
    len: usize,
}

impl<'a> Window<'a> {
    fn new(segments: &'a Segments, span: Span) -> Self {
        Self { segments, span, buf: None, start: 0, len: 0 }
    }

    /// At least `need` bytes from `at` on, or all that the segment has.
    async fn at(&mut self, at: u64, need: usize) -> Result<&[u8], OpenError> {
        let need = need.min(to_usize(self.span.end - at));
        let have = self.start <= at && at + need as u64 <= self.start + self.len as u64;
        if !have || self.buf.is_none() {
            let len = (need as u64).max(limits::SCAN_WINDOW).min(self.span.end - at).next_multiple_of(BLOCK);
            let path = self.segments.path(self.span.base);
            let file = self.segments.file(self.span.base).await.map_err(OpenError::io("open", &path))?;
            let buf = match self.buf.take().filter(|b| b.len() as u64 == len) {
                Some(buf) => buf,
                None => AlignedBuf::new(to_usize(len))?,
            };
            let read = file.read_at(buf, at - self.span.base).await;
            let (buf, got) = read.map_err(OpenError::io("read", &path))?;
            (self.start, self.len, self.buf) = (at, got, Some(buf));
        }
        let from = to_usize(at - self.start);
        Ok(self.buf.as_ref().map_or(&[], |buf| &buf[from.min(self.len)..self.len]))
    }
}

/// Verifies the batch that `bytes` begin with.
fn batch(bytes: &[u8], start: u64, known: &Known, epoch: Epoch) -> Batch {
    let max = to_usize(BATCH_MAX);
    let mut at = 0;
    let len = loop {
        if at > max {
            return Batch::Bad("the end of a batch");
        }
        match item(&bytes[at.min(bytes.len())..], max) {
            Item::Record(len) | Item::Tombstone(len, _) => at += len,
            Item::Seal(len) => break at + len,
            Item::Short(more) => return Batch::Short(at + more),
            Item::Garbage => return Batch::Bad("a record or a seal"),
        }
        if at > bytes.len() {
            return Batch::Short(at + TRAILER);
        }
    };
    if !(start + len as u64).is_multiple_of(BLOCK) || len > max {
        return Batch::Bad("a seal that ends its block");
    }
    let Some(whole) = bytes.get(..len) else { return Batch::Short(len) };
    let Some(trailer) = Trailer::decode(whole) else { return Batch::Bad("a whole seal") };
    let ours = trailer.store == known.store && trailer.shard == known.shard;
    if !ours || trailer.start != start || trailer.len as usize != len || trailer.epoch < epoch {
        return Batch::Bad("the seal of this batch");
    }
    if crc32c::crc32c(&whole[..len - TRAILER]) != trailer.crc {
        return Batch::Bad("a batch that matches its checksum");
    }
    Batch::Whole(trailer, len)
}

/// Reads the log behind the snapshot.
pub(crate) async fn recover(
    known: Known,
    segments: &Segments,
    index_files: &IndexFiles,
    start: &LogStart,
    snapshot: Option<Snapshot>,
    indexes: &Indexes,
) -> Result<Recovered, OpenError> {
    let first = segments.start();
    // What was dropped since the last run was written needs no entries any more.
    let covered = indexes.covered().max(first);
    // A run leads only to what is flushed.
    let claims = snapshot.as_ref().map_or(0, |s| s.flushed).max(known.flushed).max(indexes.claimed());
    // A snapshot that needs what was dropped is not there by the order of things, but by a power cut.
    let usable = snapshot.filter(|s| s.replay >= first);
    let mut found = match usable {
        Some(snapshot) => Recovered {
            end: snapshot.replay,
            queues: snapshot.queues,
            segment: None,
            index: IndexLog::resume(start.index, snapshot.index_next, &snapshot.index_files, snapshot.flushed),
            snapshot: Some(snapshot.replay),
            store_ms: snapshot.store_ms,
            epoch: snapshot.epoch.max(start.epoch),
            replayed_from: snapshot.replay,
            records: 0,
            cut: 0,
        },
        None => Recovered {
            queues: start.quiet_queues(),
            end: first,
            segment: None,
            index: IndexLog::new(start.index),
            snapshot: None,
            store_ms: 0,
            epoch: start.epoch,
            replayed_from: first,
            records: 0,
            cut: 0,
        },
    };
    // What the indexes lack is read again, be it that the snapshot has the queues from there on: a record that its
    // queue already has is passed over.
    if covered < found.end {
        (found.end, found.replayed_from, found.epoch) = (covered, covered, start.epoch);
    }
    let from = found.end;
    let reason = scan(&known, segments, index_files, indexes, &mut found).await?;
    let (flushed, later) = search(&known, segments, &mut found).await?;
    let flushed = flushed.max(claims);
    if flushed > found.end {
        let span = segments.holding(found.end);
        let base = span.map_or(found.end, |s| s.base);
        let position = Position::new(known.shard, found.end);
        let (path, at, expected) = (segments.path(base), found.end - base, reason);
        return Err(OpenError::Damaged { path, at, position, expected, flushed });
    }
    found.cut = later.saturating_sub(found.end);
    found.segment = segments.holding(found.end);
    sync_replayed(segments, from, found.end).await?;
    Ok(found)
}

/// Walks whole batches from the end found so far, building queues; returns what was expected where it stopped.
async fn scan(
    known: &Known,
    segments: &Segments,
    index_files: &IndexFiles,
    indexes: &Indexes,
    found: &mut Recovered,
) -> Result<&'static str, OpenError> {
    let mut synced = found.end;
    'segments: while let Some(span) = segments.holding(found.end) {
        let mut window = Window::new(segments, span);
        while found.end < span.end {
            let mut need = to_usize(BLOCK);
            let (trailer, len) = loop {
                let bytes = window.at(found.end, need).await?;
                match batch(bytes, found.end, known, found.epoch) {
                    Batch::Whole(trailer, len) => break (trailer, len),
                    Batch::Short(more) if more > bytes.len() && found.end + more as u64 <= span.end => need = more,
                    Batch::Short(_) => return Ok("a batch within its segment"),
                    Batch::Bad(expected) => return Ok(expected),
                }
            };
            let start = found.end;
            let bytes = window.at(start, len).await?;
            replay(known, &bytes[..len], start, indexes, found)?;
            write_index(index_files, &mut found.index).await?;
            found.epoch = trailer.epoch;
            found.store_ms = found.store_ms.max(trailer.store_ms);
            found.records += u64::from(trailer.records);
            found.end = if trailer.roll { span.end } else { start + len as u64 };
            for runs in indexes.all().filter(|runs| runs.is_due()) {
                sync_replayed(segments, synced, found.end).await?;
                synced = found.end;
                write_runs(runs).await?;
            }
            yield_now().await;
            if trailer.roll {
                continue 'segments;
            }
        }
    }
    Ok("the next segment")
}

/// Puts the records of a verified batch into their queues.
fn replay(known: &Known, bytes: &[u8], start: u64, indexes: &Indexes, found: &mut Recovered) -> Result<(), OpenError> {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let offset = start + at as u64;
        match item(rest, rest.len()) {
            Item::Tombstone(len, topic) => {
                found.queues.remove_topic(topic, offset);
                at += len;
            }
            Item::Record(len) => {
                match rest.get(..len).and_then(Head::parse) {
                    Some(head) => {
                        enqueue(known, &head, offset, len, found)?;
                        if head.is_consumable() {
                            indexes.insert_missing(&Terms::of(&head), offset, start);
                        }
                    }
                    None => {
                        tracing::error!(shard = %known.shard, offset, "a sealed record cannot be read; it is in no queue");
                    }
                }
                at += len;
            }
            _ => break,
        }
    }
    Ok(())
}

fn enqueue(known: &Known, head: &Head<'_>, offset: u64, len: usize, found: &mut Recovered) -> Result<(), OpenError> {
    if !head.is_consumable() {
        return Ok(());
    }
    let position = Position::new(known.shard, offset);
    let claimed = QueueOffset(head.queue_offset.cast_unsigned());
    if head.position != position.to_wire() {
        tracing::error!(shard = %known.shard, offset, "a sealed record names another position; it is in no queue");
        return Ok(());
    }
    let queues = &mut found.queues;
    let id = queues.find_or_create(head.topic, head.queue_id, offset, claimed.0);
    let Some(queue) = queues.get_mut(id) else { return Ok(()) };
    // What is known of a queue without a snapshot is only with what it goes on if the log has nothing of it.
    if found.snapshot.is_none() && queue.is_empty() && offset >= queue.born {
        queue.begin_at(claimed.0);
    }
    // What belongs to an earlier queue of this name, or is in the snapshot already.
    if offset < queue.born || claimed.0 < queue.next() {
        return Ok(());
    }
    if claimed.0 > queue.next() {
        return Err(OpenError::QueueGap { position, found: claimed, expected: QueueOffset(queue.next()) });
    }
    queue.push(&Entry { offset, size: u32::try_from(len).unwrap_or(0), tags_code: head.tags_code() });
    // A long log must not be replayed into memory.
    queue.spill(u64::MAX, &mut found.index);
    Ok(())
}

/// Writes full blocks of replayed entries, many at a time. On a full disk they stay in memory.
async fn write_index(files: &IndexFiles, index: &mut IndexLog) -> Result<(), OpenError> {
    while index.pending() >= limits::INDEX_WRITE_BLOCKS {
        let Some((first, parts)) = index.next_write() else { break };
        match files.write(first, &parts).await {
            Ok(()) => index.wrote(parts.iter().map(|p| (p.len() / ringmq_rt::BLOCK) as u32).sum()),
            Err(e) if is_full(&e) => break,
            Err(e) => return Err(OpenError::io("write the queue index in", files.path_of(""))(e)),
        }
    }
    Ok(())
}

/// Writes out what was found for an index. On a full disk it stays in memory.
async fn write_runs(runs: &Runs) -> Result<(), OpenError> {
    match runs.write_due().await {
        Err(e) if !is_full(&e) => Err(OpenError::io("write an index in", runs.dir())(e)),
        _ => Ok(()),
    }
}

/// Looks behind the end for seals of a log that went on: what they say was flushed, and the end of the last one.
async fn search(known: &Known, segments: &Segments, found: &mut Recovered) -> Result<(u64, u64), OpenError> {
    let (mut flushed, mut later) = (0, unfinished(known, segments, found.end).await?);
    let (mut at, mut quiet_since) = (found.end, found.end);
    let last_good = found.epoch;
    while let Some(span) = segments.holding(at) {
        let mut window = Window::new(segments, span);
        while at < span.end {
            if at - quiet_since >= limits::SEARCH_MAX {
                return Ok((flushed, later));
            }
            let bytes = window.at(at, to_usize(BLOCK)).await?;
            let Some(block) = bytes.get(..to_usize(BLOCK)) else { return Ok((flushed, later)) };
            // In a recycled segment lie seals that name their former places.
            let seal = Trailer::decode(block).filter(|t| {
                let ours = t.store == known.store && t.shard == known.shard;
                ours && t.start >= found.end && t.start + u64::from(t.len) == at + BLOCK
            });
            if let Some(seal) = seal {
                found.epoch = found.epoch.max(seal.epoch);
                // What an earlier term left behind a cut says nothing about this log.
                if seal.epoch >= last_good {
                    flushed = flushed.max(seal.flushed);
                    (quiet_since, later) = (at, later.max(at + BLOCK));
                }
            }
            at += BLOCK;
            if at.is_multiple_of(limits::SCAN_WINDOW / 4) {
                yield_now().await;
            }
        }
    }
    Ok((flushed, later))
}

/// Up to where an unfinished batch at `end` reaches that has no seal: by its records, which name their places.
async fn unfinished(known: &Known, segments: &Segments, end: u64) -> Result<u64, OpenError> {
    let Some(span) = segments.holding(end) else { return Ok(end) };
    let mut window = Window::new(segments, span);
    let mut at = end;
    while at + HEAD_BYTES as u64 <= span.end && at - end < BATCH_MAX {
        let bytes = window.at(at, HEAD_BYTES).await?;
        let own = Position::new(known.shard, at).to_wire();
        let Item::Record(len) = item(bytes, to_usize(BATCH_MAX)) else { break };
        if place(bytes).is_none_or(|(_, position)| position != own) {
            break;
        }
        at += len as u64;
    }
    Ok(at.next_multiple_of(BLOCK).min(span.end))
}

/// What readers are about to see must not be taken back by the next power cut: it may only be in the device's cache.
async fn sync_replayed(segments: &Segments, from: u64, to: u64) -> Result<(), OpenError> {
    for span in segments.between(from, to) {
        let path = segments.path(span.base);
        let file = segments.file(span.base).await.map_err(OpenError::io("open", &path))?;
        file.sync().await.map_err(OpenError::io("flush", &path))?;
    }
    Ok(())
}
