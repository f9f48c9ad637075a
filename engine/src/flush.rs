//! Group commit without a timer: while one write is in flight everything appended gathers for the next. Under SYNC_FLUSH
//! a write is a commit; under ASYNC_FLUSH a second task flushes the device's cache beside the writes.

use std::rc::Rc;

use ringmq_rt::{File, timeout};

use crate::options::FlushPolicy;
use crate::state::Core;

/// Writes the log until the shard closes. One write is in flight at a time, so no batch overtakes an older one.
pub(crate) async fn write(core: Rc<Core>) {
    let mut current: Option<(u64, Rc<File>)> = None;
    loop {
        let (write, ending) = core.with_mut(|s| if s.is_ending() { (None, true) } else { (s.begin_write(), false) });
        let Some(write) = write else {
            if ending {
                return;
            }
            core.write_work.wait().await;
            continue;
        };
        let Some(span) = core.segments.holding(write.start) else {
            panic!("the batch at {} has no segment", write.start)
        };
        let file = match &current {
            Some((base, file)) if *base == span.base => Rc::clone(file),
            _ => match core.segments.file(span.base).await {
                Ok(file) => file,
                Err(e) => return core.poison("opening a segment", e),
            },
        };
        current = Some((span.base, Rc::clone(&file)));
        core.segments.clear_of_zeros(write.start, write.start + write.bytes).await;
        let at = write.start - span.base;
        let done = match core.options.flush {
            FlushPolicy::Sync => file.commit(&write.parts, at, core.method).await,
            FlushPolicy::Async => file.write_at(&write.parts, at).await,
        };
        match done {
            Ok(()) => {
                if write.end == span.end {
                    core.segments.set_last_ms(span.base, core.with(|s| s.log.store_ms()));
                }
                finish(&core, write);
            }
            Err(e) => return core.poison("writing the log", e),
        }
    }
}

/// Moves the watermarks and tells everybody who has to do with it.
fn finish(core: &Core, write: crate::log::Write) {
    let (index, snapshot, prepare) = core.with_mut(|s| {
        let idle = s.index.pending() == 0;
        s.end_write(write, core.options.flush, core.options.tail_cache_bytes);
        let pending = s.index.pending();
        let index = pending > 0 && (idle || pending >= crate::limits::INDEX_WRITE_BLOCKS / 4);
        let snapshot = s.snapshot_is_due(core.options.snapshot_bytes);
        (index, snapshot, crate::prepare::is_due(core, s))
    });
    core.progress.wake_all();
    if core.options.flush == FlushPolicy::Async {
        core.sync_work.notify();
    }
    for (due, event) in [(index, &core.index_work), (snapshot, &core.snapshot_work), (prepare, &core.prepare_work)] {
        if due {
            event.notify();
        }
    }
}

/// Under ASYNC_FLUSH: flushes the device's cache when the oldest write that needs it has waited long enough, or somebody
/// asks for it.
pub(crate) async fn sync(core: Rc<Core>) {
    loop {
        let (behind, ending) = core.with(|s| (s.marks.flushed.offset() < s.marks.written.offset(), s.is_ending()));
        if ending {
            return;
        }
        if !behind {
            core.sync_work.wait().await;
            continue;
        }
        pause(&core).await;
        let (from, to, written) = core.with(|s| (s.marks.flushed.offset(), s.marks.written.offset(), s.counts.writes));
        if core.with(crate::state::State::is_ending) {
            return;
        }
        for span in core.segments.between(from, to) {
            let synced = match core.segments.file(span.base).await {
                Ok(file) => file.sync().await,
                Err(e) => Err(e),
            };
            if let Err(e) = synced {
                return core.poison("flushing the log", e);
            }
        }
        core.with_mut(|s| {
            if !s.is_poisoned() {
                s.flushed_to(to, &written);
            }
        });
        core.progress.wake_all();
    }
}

/// Waits for the flush interval, cut short by an urgent wish.
async fn pause(core: &Core) {
    let urgent = core.progress.until(|| core.with(|s| s.flush_urgent() || s.is_ending()).then_some(()));
    // Whether the time was up or somebody was in a hurry, the flush is due.
    let _ = timeout(core.options.flush_interval, urgent).await;
}

/// On a disk that is nearly full no segment is kept for later.
fn give_back_spares(core: &Core, ratio: f64) {
    let full = ratio >= core.options.spare_ratio;
    if core.with_mut(|s| std::mem::replace(&mut s.keeps_no_spares, full)) != full {
        core.drop_work.notify();
    }
}

/// Watches the room on the file system, and refuses sends while there is too little.
pub(crate) async fn watch_space(core: Rc<Core>, dir: std::path::PathBuf) {
    loop {
        if core.with(crate::state::State::is_ending) {
            return;
        }
        match ringmq_rt::fs::space(&dir).await {
            Ok(space) if space.total > 0 => {
                let ratio = 1.0 - space.free as f64 / space.total as f64;
                let over = ratio >= core.options.disk_full_ratio;
                let percent = (ratio * 100.0).clamp(0.0, 100.0) as u8;
                give_back_spares(&core, ratio);
                if core.with_mut(|s| s.space(percent, over)) {
                    if over {
                        tracing::warn!(shard = %core.shard, used_percent = percent, "the disk is full: messages are refused");
                    } else {
                        tracing::info!(shard = %core.shard, used_percent = percent, "the disk has room: messages are taken");
                    }
                    core.progress.wake_all();
                }
            }
            Ok(_) => (),
            Err(e) => tracing::warn!(shard = %core.shard, "cannot measure the room on the disk: {e}"),
        }
        // A closing shard does not wait for the next look.
        let _ = timeout(crate::limits::SPACE_INTERVAL, core.watch_work.wait()).await;
    }
}
