//! Prepares the log ahead of its writer: allocates the next segment in time, and writes real zeros in front of the
//! writer, so that a commit meets written extents and costs no journal entry. A writer that is faster than this task
//! goes on in merely allocated room; that is slower, never wrong.

use std::rc::Rc;

use ringmq_rt::{AlignedBuf, Slice, sleep, timeout};

use crate::index_io::is_full;
use crate::limits;
use crate::log::{Span, to_usize};
use crate::state::{Core, Room, State};

/// What is to be done next.
enum Job {
    Allocate(u64),
    Zero(u64, u64),
    Wait,
    End,
}

/// Whether there is something to do, so that the writer wakes the task only then.
pub(crate) fn is_due(core: &Core, state: &State) -> bool {
    !matches!(next_job(core, state), Job::Wait)
}

fn next_job(core: &Core, state: &State) -> Job {
    if state.is_ending() {
        return Job::End;
    }
    let end = state.log.reserved_end();
    let segment = state.log.segment();
    let half = (segment.end - segment.base) / 2;
    if let Some(base) = state.log.wants_next()
        && segment.end.saturating_sub(end) <= half
    {
        return Job::Allocate(base);
    }
    let mut from = core.segments.zeroed.get().max(end);
    // What a recycled segment holds is as good as zeros.
    while let Some(behind) = core.segments.recycled_to(from) {
        from = behind;
    }
    let allocated = state.log.next_segment().map_or(segment.end, |next| next.end);
    let to = (end + core.options.zero_lead).min(allocated);
    let Some(span) = core.segments.holding(from) else { return Job::Wait };
    // Whole chunks, unless the segment ends before.
    let chunk_end = (from + limits::ZERO_CHUNK).min(span.end);
    if chunk_end <= to && chunk_end > from { Job::Zero(from, chunk_end) } else { Job::Wait }
}

/// Keeps the lead until the shard closes.
pub(crate) async fn run(core: Rc<Core>, zeros: Slice) {
    let mut unsynced = 0;
    loop {
        match core.with(|s| next_job(&core, s)) {
            Job::End => return,
            Job::Wait => core.prepare_work.wait().await,
            Job::Allocate(base) => {
                if !allocate(&core, base).await {
                    return;
                }
            }
            Job::Zero(from, to) => {
                if !write_zeros(&core, &zeros, from, to, &mut unsynced).await {
                    return;
                }
                let behind = core.with(|s| s.log.reserved_end()) + core.options.zero_lead / 4;
                if core.segments.zeroed.get() >= behind {
                    sleep(limits::ZERO_PAUSE).await;
                }
            }
        }
    }
}

/// Allocates the segment at `base`; waits for room if there is none. False when the shard is out of service.
async fn allocate(core: &Core, base: u64) -> bool {
    match core.segments.create(base, core.options.segment_size).await {
        Ok(span) => {
            let news = core.with_mut(|s| {
                s.log.set_next(span);
                s.counts.made += 1;
                s.counts.recycled += u64::from(core.segments.recycled_to(span.base).is_some());
                s.set_no_room(Room::Log, false)
            });
            if news {
                tracing::info!(shard = %core.shard, "the disk has room for the next segment again");
            }
            core.progress.wake_all();
            true
        }
        Err(e) if is_full(&e) => {
            if core.with_mut(|s| s.set_no_room(Room::Log, true)) {
                tracing::warn!(shard = %core.shard, "no room for the next segment of the log: {e}");
                core.progress.wake_all();
            }
            // Either the time is up or the shard closes; the loop finds out.
            let _ = timeout(limits::SPACE_INTERVAL, core.progress.until(|| core.with(State::is_ending).then_some(())))
                .await;
            true
        }
        Err(e) => {
            core.poison("creating a segment", e);
            false
        }
    }
}

async fn write_zeros(core: &Core, zeros: &Slice, from: u64, to: u64, unsynced: &mut u64) -> bool {
    // The log's end was looked at in this same turn, so nothing in flight reaches behind `from`; what comes later waits.
    core.segments.begin_zeros(from, to);
    let done = zero(core, zeros, from, to).await;
    core.segments.zeroed.set(core.segments.zeroed.get().max(to));
    core.segments.end_zeros();
    *unsynced += to - from;
    let due = *unsynced >= limits::ZERO_SYNC || core.segments.holding(to).is_none_or(|s| s.base == to);
    let done = match done {
        Ok(()) if due => {
            *unsynced = 0;
            sync_zeros(core, from).await
        }
        other => other,
    };
    if let Err(e) = done {
        core.poison("preparing the log", e);
        return false;
    }
    true
}

async fn zero(core: &Core, zeros: &Slice, from: u64, to: u64) -> std::io::Result<()> {
    let Some(span) = core.segments.holding(from) else { return Ok(()) };
    let file = core.segments.file(span.base).await?;
    file.write_at(&[zeros.cut(0..to_usize(to - from))], from - span.base).await
}

async fn sync_zeros(core: &Core, at: u64) -> std::io::Result<()> {
    let Some(span) = core.segments.holding(at) else { return Ok(()) };
    core.segments.file(span.base).await?.sync().await
}

/// The zeros that are written, one chunk.
pub(crate) fn zeros() -> Result<Slice, ringmq_rt::buf::OutOfMemory> {
    AlignedBuf::new(to_usize(limits::ZERO_CHUNK)).map(AlignedBuf::freeze)
}

/// Writes and flushes the first zeros behind `end`, before the shard takes its first message. What a crash left behind
/// the end of the log goes with them.
pub(crate) async fn first_zeros(
    segments: &crate::segment::Segments,
    span: Span,
    end: u64,
    len: u64,
    zeros: &Slice,
) -> std::io::Result<()> {
    let to = (end + len).min(span.end);
    segments.zeroed.set(to);
    if end >= to {
        return Ok(());
    }
    let file = segments.file(span.base).await?;
    let mut at = end;
    while at < to {
        let chunk = (to - at).min(limits::ZERO_CHUNK);
        file.write_at(&[zeros.cut(0..to_usize(chunk))], at - span.base).await?;
        at += chunk;
    }
    file.sync().await
}
