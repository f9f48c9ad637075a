//! The snapshot of a shard's queues: a start reads the snapshot and the log behind it, not the whole log. It names the
//! position from which the log is to be replayed; what it holds may be newer than that, because a record that a queue
//! already has is passed over. It is written only once all it refers to is durable.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringmq_rt::{fs, now, timeout, yield_now};

use crate::codec::{BadFile, Decoder, Encoder, Kind};
use crate::error::{OpenError, ReadError};
use crate::index_io::IndexFiles;
use crate::index_log::FileReach;
use crate::indexes::Vouchers;
use crate::limits;
use crate::position::{Epoch, ShardId};
use crate::queue::{Block, ENTRY, Kept, Queue, Queues};
use crate::runs::Vouched;
use crate::state::{Core, State};

const KIND: Kind = Kind { magic: b"RMqSNAP\n", version: 3 };
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
    /// Next block of the index log, and how far its files reach.
    pub(crate) index_next: u32,
    pub(crate) index_files: Vec<FileReach>,
    pub(crate) store_ms: i64,
    pub(crate) queues: Queues,
    pub(crate) runs: Vouchers,
}

/// What stands behind the queues: flushed, the next block of the index log, the number of queues, and what is vouched for.
const TAIL: usize = 8 + 4 + 4 + 2 * (4 + 8 + 8);

fn put_vouched(out: &mut Encoder, vouched: Vouched) {
    out.u32(vouched.next);
    out.u64(vouched.end);
    out.u64(vouched.covered);
}

fn take_vouched(input: &mut Decoder<'_>) -> Result<Vouched, BadFile> {
    Ok(Vouched { next: input.u32()?, end: input.u64()?, covered: input.u64()? })
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

fn put_queue(out: &mut Encoder, queue: &Queue) {
    out.text(&queue.topic);
    out.u32(queue.id.cast_unsigned());
    out.u64(queue.born);
    out.u64(queue.base);
    out.count(queue.blocks.len());
    for block in &queue.blocks {
        out.u32(block.number);
        out.u64(block.from());
    }
    out.count(queue.tail.len());
    out.out.extend_from_slice(queue.tail.as_flattened());
}

fn take_queue(input: &mut Decoder<'_>, queues: &mut Queues) -> Result<(), BadFile> {
    let topic = input.text()?;
    let id = input.u32()?.cast_signed();
    let (born, base) = (input.u64()?, input.u64()?);
    let blocks = input.many(Block::BYTES)?;
    let tail = input.many(ENTRY)?;
    if let Some(known) = queues.find(topic, id) {
        // The queue was deleted and made again while the snapshot went on: the later one counts.
        if queues.get(known).is_some_and(|known| known.born >= born) {
            return Ok(());
        }
        queues.remove_queue(known);
    }
    let at = queues.find_or_create(topic, id, born, base);
    let queue = queues.get_mut(at).ok_or(BadFile::Content)?;
    let mut blocks = Decoder(blocks);
    while !blocks.0.is_empty() {
        queue.blocks.push_back(Block::new(blocks.u32()?, blocks.u64()?));
    }
    queue.tail = tail.as_chunks::<ENTRY>().0.to_vec();
    Ok(())
}

async fn decode(bytes: &[u8], shard: ShardId, store: u64) -> Result<Snapshot, BadFile> {
    let mut input = Decoder::open(bytes, KIND, shard, store)?;
    let epoch = Epoch(input.u32()?);
    let (replay, store_ms) = (input.u64()?, input.u64()?.cast_signed());
    let mut files = Decoder(input.many(12)?);
    let mut index_files = Vec::new();
    while !files.0.is_empty() {
        index_files.push(FileReach { number: files.u32()?, last: files.u64()? });
    }
    // The queues lie in front of the numbers that were known last.
    let (mut queues_part, tail) =
        input.0.split_last_chunk::<TAIL>().map(|(q, t)| (Decoder(q), Decoder(t))).ok_or(BadFile::Content)?;
    let mut tail = tail;
    let (flushed, index_next, count) = (tail.u64()?, tail.u32()?, tail.u32()?);
    let runs = Vouchers { keys: take_vouched(&mut tail)?, timers: take_vouched(&mut tail)? };
    let mut queues = Queues::default();
    for n in 0..count as usize {
        take_queue(&mut queues_part, &mut queues)?;
        if n.is_multiple_of(STRIDE * 8) {
            yield_now().await;
        }
    }
    if !queues_part.0.is_empty() || flushed < replay {
        return Err(BadFile::Content);
    }
    Ok(Snapshot { epoch, replay, flushed, index_next, index_files, store_ms, queues, runs })
}

/// Why no snapshot was written.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// The shard is out of service, or its index must be rebuilt.
    Unfit,
    Io(io::Error),
}

/// One snapshot is taken at a time.
struct Turn<'a>(&'a Core);

impl<'a> Turn<'a> {
    async fn wait(core: &'a Core) -> Self {
        core.progress.until(|| (!core.snapshotting.replace(true)).then_some(())).await;
        Self(core)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.snapshotting.set(false);
        self.0.progress.wake_all();
    }
}

/// Takes a snapshot and makes it durable. It never keeps the core for long, and messages go on meanwhile.
pub(crate) async fn take(core: &Rc<Core>) -> Result<(), NotTaken> {
    let _turn = Turn::wait(core).await;
    if core.with(|s| s.index_damaged || s.is_poisoned()) {
        return Err(NotTaken::Unfit);
    }
    let (replay, written) = core.with(|s| (s.confirmed(), s.marks.written.offset()));
    let mut encoder = Encoder::new(KIND, core.shard, core.store);
    core.with(|s| {
        encoder.u32(s.epoch.0);
        encoder.u64(replay);
        encoder.u64(s.log.store_ms().cast_unsigned());
        encoder.count(s.index.files().len());
        for file in s.index.files() {
            encoder.u32(file.number);
            encoder.u64(file.last);
        }
    });
    let count = encode_queues(core, &mut encoder).await;
    let (end, index_next) = core.with_mut(|s| {
        let (end, next) = (s.log.end(), s.index.next());
        s.want_flush(end);
        s.want_index(next);
        s.indexes.want(s.log.batch_start());
        (end, next)
    });
    core.index_work.notify();
    core.progress.wake_all();
    core.flushed(end).await.map_err(|_| NotTaken::Unfit)?;
    // On a full disk the index cannot follow; the next try may find room.
    let stuck = |s: &State| s.is_poisoned() || s.index_has_no_room();
    // The log that the key index lacks is replayed too, so a snapshot without the keys would not make a start shorter.
    let keys_there = || core.indexes.covered() >= replay;
    let done = || core.with(|s| (stuck(s) || (s.index.written() >= index_next && keys_there())).then(|| stuck(s)));
    if core.progress.until(done).await {
        return Err(NotTaken::Unfit);
    }
    if let Err(e) = core.index_files.sync().await {
        core.poison("flushing the queue index", e);
        return Err(NotTaken::Unfit);
    }
    let runs = match core.indexes.vouch().await {
        Ok(runs) => runs,
        Err(e) => {
            core.poison("flushing the names of an index", e);
            return Err(NotTaken::Unfit);
        }
    };
    encoder.u64(core.with(|s| s.marks.flushed.offset()));
    encoder.u32(index_next);
    encoder.u32(count);
    put_vouched(&mut encoder, runs.keys);
    put_vouched(&mut encoder, runs.timers);
    // The log behind the snapshot must be there: from here on none of it is dropped, and none was meanwhile.
    let before = core.with_mut(|s| {
        let fit = !s.index_damaged && s.start_wanted.max(core.segments.start()) <= replay;
        let before = s.snapshot_replay;
        if fit {
            s.snapshot_replay = before.or(Some(replay));
        }
        fit.then_some(before)
    });
    let Some(before) = before else { return Err(NotTaken::Unfit) };
    let file = path_of(core);
    let bytes = encoder.finish();
    let len = bytes.len() as u64;
    if let Err(e) = fs::replace(&file, bytes, false).await {
        core.with_mut(|s| s.snapshot_replay = before);
        return Err(NotTaken::Io(e));
    }
    core.with_mut(|s| {
        s.snapshot_at = s.snapshot_at.max(written);
        s.snapshot_len = len;
        s.snapshot_replay = Some(replay);
        s.counts.snapshots += 1;
    });
    Ok(())
}

async fn encode_queues(core: &Core, encoder: &mut Encoder) -> u32 {
    let mut count = 0;
    each_queue(core, |queue, kept| {
        // Quiet queues are looked at by nobody else.
        queue.first(kept);
        put_queue(encoder, queue);
        encoder.sum();
        count += 1;
    })
    .await;
    count
}

/// Shows every queue, a few at a time, so that many of them do not keep the core.
pub(crate) async fn each_queue(core: &Core, mut look: impl FnMut(&mut Queue, Kept)) {
    let mut at = 0;
    let mut since = now();
    while at < core.with(|s| s.queues.slots()) {
        core.with_mut(|s| {
            let kept = s.kept(core);
            for slot in at..(at + STRIDE).min(s.queues.slots()) {
                if let Some(queue) = s.queues.slot_mut(slot) {
                    look(queue, kept);
                }
            }
        });
        at += STRIDE;
        if now().since(since) >= limits::SLICE_OF_WORK {
            yield_now().await;
            since = now();
        }
    }
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
        return;
    }
    core.with_mut(|s| s.snapshot_replay = None);
}

/// Takes snapshots, by log bytes and by time, until the shard closes.
pub(crate) async fn run(core: Rc<Core>) {
    loop {
        let woken = timeout(core.options.snapshot_interval, core.snapshot_work.wait()).await.is_ok();
        if core.with(|s| s.is_ending() || s.is_closing()) {
            return;
        }
        let due = |s: &State| match woken {
            true => s.snapshot_is_due(core.options.snapshot_bytes),
            false => s.snapshot_at < s.marks.written.offset(),
        };
        if !core.with(due) {
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
