//! The snapshot of a shard's queues: a start reads the snapshot and the log behind it, not the whole log. It names the
//! position from which the log is to be replayed; what it holds may be newer than that, because a record that a queue
//! already has is passed over. It is written only once all it refers to is durable.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringmq_rt::{fs, now, timeout, yield_now};

use crate::error::{OpenError, ReadError};
use crate::index_io::IndexFiles;
use crate::limits;
use crate::position::{Epoch, ShardId};
use crate::queue::{ENTRY, Queue, Queues};
use crate::state::{Core, State};

const MAGIC: &[u8; 8] = b"RMqSNAP\n";
const VERSION: u32 = 1;
/// Queues that are encoded between two looks at the clock.
const STRIDE: usize = 32;

/// A snapshot as it was read.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) epoch: Epoch,
    /// Log offset from which the log is replayed.
    pub(crate) replay: u64,
    /// What was flushed when it was written.
    pub(crate) flushed: u64,
    /// Next block of the index log.
    pub(crate) index_next: u32,
    pub(crate) store_ms: i64,
    pub(crate) queues: Queues,
}

/// Why a snapshot file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSnapshot {
    #[error("it is not a snapshot of this version")]
    Version,
    #[error("its checksum does not match")]
    Checksum,
    #[error("it belongs to another store or shard")]
    Stranger,
    #[error("its content contradicts itself")]
    Content,
}

pub(crate) fn path(root: &Path, shard: ShardId) -> PathBuf {
    IndexFiles::dir(root, shard).join("snapshot")
}

/// Reads the snapshot; `None` if there is none that can be used, which is said once.
pub(crate) async fn load(root: &Path, shard: ShardId, store: u64) -> Result<Option<Snapshot>, OpenError> {
    let path = path(root, shard);
    let bytes = fs::read(&path, limits::SNAPSHOT_MAX).await.map_err(OpenError::io("read", &path))?;
    let Some(bytes) = bytes else { return Ok(None) };
    match decode(&bytes, shard, store).await {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(why) => {
            tracing::warn!(shard = %shard, path = %path.display(), "the queue snapshot cannot be used ({why}): the whole log is read");
            Ok(None)
        }
    }
}

struct Encoder {
    out: Vec<u8>,
    summed: usize,
    crc: u32,
}

impl Encoder {
    fn new(shard: ShardId, store: u64) -> Self {
        let mut this = Self { out: Vec::with_capacity(64 * 1024), summed: 0, crc: 0 };
        this.out.extend_from_slice(MAGIC);
        this.u32(VERSION);
        this.u32(u32::from(shard.get()));
        this.u64(store);
        this
    }

    fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn queue(&mut self, queue: &Queue) {
        self.u32(u32::try_from(queue.topic.len()).unwrap_or(0));
        self.out.extend_from_slice(queue.topic.as_bytes());
        self.u32(queue.id.cast_unsigned());
        self.u64(queue.born);
        self.u64(queue.base);
        self.u32(u32::try_from(queue.blocks.len()).unwrap_or(0));
        for &block in &queue.blocks {
            self.u32(block);
        }
        self.u32(u32::try_from(queue.tail.len()).unwrap_or(0));
        self.out.extend_from_slice(queue.tail.as_flattened());
    }

    /// Brings the checksum up to date, so that no long sum is left for the end.
    fn sum(&mut self) {
        self.crc = crc32c::crc32c_append(self.crc, &self.out[self.summed..]);
        self.summed = self.out.len();
    }

    fn finish(mut self) -> Vec<u8> {
        self.sum();
        let crc = self.crc;
        self.u32(crc);
        self.out
    }
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], BadSnapshot> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BadSnapshot::Content)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, BadSnapshot> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BadSnapshot::Content)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*taken))
    }

    fn u64(&mut self) -> Result<u64, BadSnapshot> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    fn queue(&mut self, queues: &mut Queues) -> Result<(), BadSnapshot> {
        let len = self.u32()? as usize;
        let topic = std::str::from_utf8(self.take(len)?).map_err(|_| BadSnapshot::Content)?;
        let id = self.u32()?.cast_signed();
        let (born, base) = (self.u64()?, self.u64()?);
        let blocks = self.u32()? as usize;
        let blocks = self.take(blocks.checked_mul(4).ok_or(BadSnapshot::Content)?)?;
        let tail = self.u32()? as usize;
        let tail = self.take(tail.checked_mul(ENTRY).ok_or(BadSnapshot::Content)?)?;
        if let Some(known) = queues.find(topic, id) {
            // The queue was deleted and made again while the snapshot went on: the later one counts.
            if queues.get(known).is_some_and(|known| known.born >= born) {
                return Ok(());
            }
            queues.remove_queue(known);
        }
        let at = queues.find_or_create(topic, id, born, base);
        let queue = queues.get_mut(at).ok_or(BadSnapshot::Content)?;
        queue.blocks = blocks.as_chunks::<4>().0.iter().map(|b| u32::from_be_bytes(*b)).collect();
        queue.tail = tail.as_chunks::<ENTRY>().0.to_vec();
        Ok(())
    }
}

async fn decode(bytes: &[u8], shard: ShardId, store: u64) -> Result<Snapshot, BadSnapshot> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(BadSnapshot::Content)?;
    let mut input = Decoder(body);
    if input.take(MAGIC.len())? != MAGIC || input.u32()? != VERSION {
        return Err(BadSnapshot::Version);
    }
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return Err(BadSnapshot::Checksum);
    }
    if input.u32()? != u32::from(shard.get()) || input.u64()? != store {
        return Err(BadSnapshot::Stranger);
    }
    let epoch = Epoch(input.u32()?);
    let (replay, store_ms) = (input.u64()?, input.u64()?.cast_signed());
    // The queues lie in front of the numbers that were known last.
    let (mut queues_part, tail) =
        input.0.split_last_chunk::<16>().map(|(q, t)| (Decoder(q), Decoder(t))).ok_or(BadSnapshot::Content)?;
    let mut tail = tail;
    let (flushed, index_next, count) = (tail.u64()?, tail.u32()?, tail.u32()?);
    let mut queues = Queues::default();
    for n in 0..count as usize {
        queues_part.queue(&mut queues)?;
        if n.is_multiple_of(STRIDE * 8) {
            yield_now().await;
        }
    }
    if !queues_part.0.is_empty() || flushed < replay {
        return Err(BadSnapshot::Content);
    }
    Ok(Snapshot { epoch, replay, flushed, index_next, store_ms, queues })
}

/// Why no snapshot was written.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// The shard is out of service, or its index must be rebuilt.
    Unfit,
    Io(io::Error),
}

/// Takes a snapshot and makes it durable. It never keeps the core for long, and messages go on meanwhile.
pub(crate) async fn take(core: &Rc<Core>) -> Result<(), NotTaken> {
    if core.with(|s| s.index_damaged || s.is_poisoned()) {
        return Err(NotTaken::Unfit);
    }
    let (replay, written) = core.with(|s| (s.confirmed(), s.marks.written.offset()));
    let mut encoder = Encoder::new(core.shard, core.store);
    core.with(|s| {
        encoder.u32(s.epoch.0);
        encoder.u64(replay);
        encoder.u64(s.log.store_ms().cast_unsigned());
    });
    let count = encode_queues(core, &mut encoder).await;
    let (end, index_next) = core.with_mut(|s| {
        let (end, next) = (s.log.end(), s.index.next());
        s.want_flush(end);
        s.want_index(next);
        if let Some(keys) = &s.keys {
            keys.want(s.log.batch_start());
        }
        (end, next)
    });
    core.index_work.notify();
    core.progress.wake_all();
    core.flushed(end).await.map_err(|_| NotTaken::Unfit)?;
    // On a full disk the index cannot follow; the next try may find room.
    let stuck = |s: &State| s.is_poisoned() || s.index_has_no_room();
    // The log that the key index lacks is replayed too, so a snapshot without the keys would not make a start shorter.
    let keys_there = || core.keys.as_ref().is_none_or(|keys| keys.covered() >= replay);
    let done = || core.with(|s| (stuck(s) || (s.index.written() >= index_next && keys_there())).then(|| stuck(s)));
    if core.progress.until(done).await {
        return Err(NotTaken::Unfit);
    }
    if let Err(e) = core.index_files.sync().await {
        core.poison("flushing the queue index", e);
        return Err(NotTaken::Unfit);
    }
    encoder.u64(core.with(|s| s.marks.flushed.offset()));
    encoder.u32(index_next);
    encoder.u32(count);
    if core.with(|s| s.index_damaged) {
        return Err(NotTaken::Unfit);
    }
    let file = path_of(core);
    fs::replace(&file, encoder.finish(), false).await.map_err(NotTaken::Io)?;
    core.with_mut(|s| {
        s.snapshot_at = s.snapshot_at.max(written);
        s.counts.snapshots += 1;
    });
    Ok(())
}

async fn encode_queues(core: &Core, encoder: &mut Encoder) -> u32 {
    let (mut at, mut count) = (0, 0);
    let mut since = now();
    while at < core.with(|s| s.queues.slots()) {
        core.with(|s| {
            for slot in at..(at + STRIDE).min(s.queues.slots()) {
                if let Some(queue) = s.queues.slot(slot) {
                    encoder.queue(queue);
                    count += 1;
                }
            }
        });
        encoder.sum();
        at += STRIDE;
        if now().since(since) >= limits::SLICE_OF_WORK {
            yield_now().await;
            since = now();
        }
    }
    count
}

fn path_of(core: &Core) -> PathBuf {
    core.index_files.path_of("snapshot")
}

/// A block of the index is damaged: the snapshot that leads to it is removed, so that the next start rebuilds the index.
pub(crate) async fn forget(core: &Core, why: &ReadError) {
    if core.with_mut(|s| std::mem::replace(&mut s.index_damaged, true)) {
        return;
    }
    tracing::error!(shard = %core.shard, "{why}: the next start rebuilds the queue index from the log");
    if let Err(e) = fs::remove(&path_of(core)).await {
        tracing::error!(shard = %core.shard, "cannot remove the queue snapshot: {e}");
    }
}

/// Takes snapshots, by log bytes and by time, until the shard closes.
pub(crate) async fn run(core: Rc<Core>) {
    loop {
        let woken = timeout(core.options.snapshot_interval, core.snapshot_work.wait()).await.is_ok();
        let (ending, behind) =
            core.with(|s| (s.is_ending() || s.is_closing(), s.marks.written.offset().saturating_sub(s.snapshot_at)));
        if ending {
            return;
        }
        if behind == 0 || (woken && behind < core.options.snapshot_bytes) {
            continue;
        }
        match take(&core).await {
            Ok(()) => (),
            Err(NotTaken::Unfit) => {
                if core.with(|s| s.is_poisoned() || s.index_damaged) {
                    return;
                }
            }
            Err(NotTaken::Io(e)) => {
                tracing::warn!(shard = %core.shard, "the queue snapshot was not written, a start takes longer: {e}");
                // The next is tried after as much log again, not at once.
                core.with_mut(|s| s.snapshot_at = s.marks.written.offset());
            }
        }
    }
}

#[cfg(test)]
mod tests;
