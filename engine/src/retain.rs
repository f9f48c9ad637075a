//! Drops the oldest part of a log, whole segments at a time. The decision is made in a call; the deed is this task's, off
//! the path of messages:
//!
//! 1. a snapshot that needs nothing of what goes,
//! 2. the new start, durably ([`crate::start`]): from here on a restart keeps to it, whatever files it finds,
//! 3. in one turn nobody finds the segments any more, and queues begin behind them,
//! 4. what is derived from them goes ([`follow`]),
//! 5. their files go one by one, with rests: two are kept for the next segments, the others are removed.
//!
//! A crash between two steps leaves a store that opens: before 2 with all messages, after it without those that were
//! dropped. A file that was kept holds old batches; `docs/decisions/0003-...` says why none of them is ever taken for a new one.

use std::rc::Rc;

use ringmq_rt::timeout;

use crate::checkpoint::{self, NotTaken};
use crate::error::ReadError;
use crate::log::Span;
use crate::position::Epoch;
use crate::start::{LogStart, Note};
use crate::state::{Core, State};
use crate::{limits, read};

/// A segment that is full, as retention decides about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Log offset of its first byte, and the one behind its last.
    pub base: u64,
    pub end: u64,
    /// Wall clock, in milliseconds, of the last message in it, or a little later.
    pub last_store_ms: i64,
}

/// Where the log would start if everything in front of `offset` went that may go: whole segments that are flushed, never
/// the one that is written.
fn start_for(core: &Core, state: &State, offset: u64) -> u64 {
    let limit = offset.min(state.marks.flushed.offset()).min(state.log.segment().base);
    let start = core.segments.holding(limit).map_or(0, |span| span.base);
    start.max(state.start_wanted)
}

/// Decides that what lies in front of `offset` goes; returns where the log will start.
pub(crate) fn drop_before(core: &Core, offset: u64) -> u64 {
    let (start, news) = core.with_mut(|s| {
        if s.is_ending() || s.is_closing() {
            return (core.segments.start(), false);
        }
        let start = start_for(core, s, offset);
        let news = start > s.start_wanted;
        s.start_wanted = start;
        (start, news)
    });
    if news {
        core.drop_work.notify();
    }
    start
}

/// The segments that are full. The times of those that an earlier run wrote are read once.
pub(crate) async fn segments(core: &Rc<Core>) -> Result<Vec<SegmentInfo>, ReadError> {
    let (current, mut later) = core.with(|s| (s.log.segment().base, s.log.store_ms()));
    let mut found = Vec::new();
    for (span, known) in core.segments.before(current).into_iter().rev() {
        let last_store_ms = match known {
            Some(known) => known,
            None => {
                // Times never go back: the next record is the bound, and without one what came later.
                let last_ms = match read::first_store_time(core, span.end).await {
                    Ok(time) => time.unwrap_or(later),
                    Err(ReadError::Gone { .. }) => break,
                    Err(e) => return Err(e),
                };
                core.segments.set_last_ms(span.base, last_ms);
                last_ms
            }
        };
        later = last_store_ms;
        found.push(SegmentInfo { base: span.base, end: span.end, last_store_ms });
    }
    found.reverse();
    Ok(found)
}

/// Drops what was decided about, until the shard closes.
pub(crate) async fn run(core: Rc<Core>) {
    loop {
        let (ending, wanted, no_spares) = core.with(|s| (s.is_ending(), s.start_wanted, s.keeps_no_spares));
        if ending {
            return;
        }
        if wanted > core.segments.start() {
            core.with_mut(|s| s.dropping = true);
            let done = cut(&core, wanted).await;
            core.with_mut(|s| {
                s.dropping = false;
                if !done {
                    // What was not to be is decided anew.
                    s.start_wanted = core.segments.start();
                }
            });
        } else if no_spares && core.segments.spares() > 0 {
            if let Err(e) = core.segments.discard_spare().await {
                tracing::warn!(shard = %core.shard, "cannot remove a spare segment: {e}");
            }
        } else {
            core.drop_work.wait().await;
        }
    }
}

/// Lets the log start at `start`; false if it stays as it was.
async fn cut(core: &Rc<Core>, start: u64) -> bool {
    if core.with(|s| s.snapshot_replay.is_some_and(|replay| replay < start)) {
        match checkpoint::take(core).await {
            Ok(()) => (),
            // Without a snapshot on disk the next start reads the whole log, from wherever that starts.
            Err(NotTaken::Unfit) if core.with(|s| s.snapshot_replay.is_none()) => (),
            Err(NotTaken::Unfit) => return false,
            Err(NotTaken::Io(e)) => {
                tracing::warn!(shard = %core.shard, "nothing is dropped, the queue snapshot was not written: {e}");
                return false;
            }
        }
    }
    let (epoch, index) = core.with(|s| (epoch_at(s, start), s.index.needed_from(start)));
    if let Err(e) = note(core, LogStart { offset: start, epoch, index, queues: Vec::new() }).await {
        tracing::warn!(shard = %core.shard, "nothing is dropped, the log's new start was not written: {e}");
        return false;
    }
    let gone = core.segments.cut(start);
    core.with_mut(|s| {
        s.start_epoch = epoch;
        s.index.forget_before(index);
        s.counts.dropped += gone.len() as u64;
        s.counts.dropped_bytes += gone.iter().map(|span| span.end - span.base).sum::<u64>();
    });
    core.indexes.drop_in_front_of(start);
    core.progress.wake_all();
    follow(core, index).await;
    discard(core, &gone).await;
    true
}

/// Batches from `start` on are at least of this term: those of the present one if they were begun in it.
fn epoch_at(state: &State, start: u64) -> Epoch {
    if start >= state.opened_at { state.epoch } else { state.start_epoch }
}

async fn note(core: &Rc<Core>, start: LogStart) -> std::io::Result<()> {
    let mut note = Note::new(core.shard, core.store, &start);
    let flushed = core.with(|s| s.marks.flushed.offset());
    checkpoint::each_queue(core, |queue, _| {
        if !queue.outlives(start.offset, flushed) {
            note.queue(queue);
        }
    })
    .await;
    note.save(&core.segments.start_path()).await
}

/// What is derived from the log gives up what lies in front of its new start: files of the queue index in front of the
/// block `index`. Queues forget when they are looked at.
async fn follow(core: &Core, index: u32) {
    if let Err(e) = core.index_files.remove_before(index).await {
        tracing::warn!(shard = %core.shard, "cannot remove old files of the queue index: {e}");
    }
}

/// Lets the files of dropped segments go. What is left when the shard closes goes at the next start.
async fn discard(core: &Core, gone: &[Span]) {
    for span in gone {
        let keep = core.with(|s| !s.keeps_no_spares);
        match core.segments.discard(*span, keep).await {
            Ok(kept) => {
                tracing::info!(shard = %core.shard, segment = span.base, kept, "dropped a segment");
                if kept {
                    // Only renamed: there is no work of the disk's to spread.
                    continue;
                }
            }
            Err(e) => tracing::warn!(shard = %core.shard, segment = span.base, "cannot remove a dropped segment: {e}"),
        }
        let ending = core.progress.until(|| core.with(State::is_ending).then_some(()));
        if timeout(core.options.drop_interval, ending).await.is_ok() {
            return;
        }
    }
}

const _: () = assert!(limits::SPARE_SEGMENTS < 16, "spare segments are room that nobody has");
