//! The background of a store of runs: one task sorts what was inserted and writes it out, another merges runs and drops
//! those that lead nowhere. Both give the core away after every small piece.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use ringmq_rt::{Slice, fs, sleep, timeout, yield_now};

use crate::error::ReadError;
use crate::index_io::is_full;
use crate::limits::{self, BLOCK, RUN_READ_BLOCKS, RUNS_MAX};
use crate::log::to_usize;
use crate::state::{Core, Room, State};

use super::file::{Run, Writer};
use super::format::{Block, Entry, Numbers};
use super::{Runs, list};

/// Sorts and writes out until the shard closes.
pub(crate) async fn write(core: Rc<Core>, runs: Rc<Runs>) {
    loop {
        // What is left then is built again from the log.
        if core.with(State::is_ending) {
            return;
        }
        if runs.sort_one() {
            yield_now().await;
            continue;
        }
        if !runs.table.borrow().is_due() {
            runs.work.wait().await;
            continue;
        }
        if !write_some(&core, &runs).await {
            return;
        }
    }
}

/// One run; false when the shard is out of service.
async fn write_some(core: &Rc<Core>, runs: &Rc<Runs>) -> bool {
    let Some(frozen) = runs.freeze() else { return true };
    // A run outlives a power cut, so what it leads to must too.
    let end = frozen.covers.1.max(frozen.last.map_or(0, |last| last + 1));
    if runs.table.borrow().is_urgent() {
        core.with_mut(|s| s.want_flush(end));
        core.progress.wake_all();
    }
    if core.flushed(end).await.is_err() {
        return false;
    }
    runs.changed.until(|| (!runs.are_too_many() || core.with(State::is_ending)).then_some(())).await;
    match runs.write_out(frozen).await {
        Ok(()) => {
            core.with_mut(|s| s.set_no_room(Room::Runs, false));
            core.progress.wake_all();
            true
        }
        Err(e) if is_full(&e) => {
            if core.with_mut(|s| s.set_no_room(Room::Runs, true)) {
                tracing::warn!(shard = %core.shard, "no room for an index: {e}");
                core.progress.wake_all();
            }
            rest(core).await;
            !core.with(State::is_poisoned)
        }
        Err(e) => {
            core.poison("writing an index", e);
            false
        }
    }
}

/// Waits for room on a full disk, or for the end.
async fn rest(core: &Core) {
    // Either the time is up or the shard ends; the caller finds out.
    let _ = timeout(limits::SPACE_INTERVAL, core.progress.until(|| core.with(State::is_ending).then_some(()))).await;
}

/// How a merge ended.
#[derive(Debug)]
pub(super) enum Ended {
    Merged,
    /// The shard ends.
    Stopped,
    /// A run cannot be read; it takes part in no further merge.
    Unreadable,
    Failed(io::Error),
}

/// Merges and drops until the shard closes.
pub(crate) async fn merge(core: Rc<Core>, runs: Rc<Runs>) {
    loop {
        if core.with(State::is_ending) {
            return;
        }
        runs.drop_in_front_of(core.segments.start());
        if let Err(e) = runs.drop_gone().await {
            // They are in nobody's way but the disk's; the next start removes them.
            tracing::warn!(shard = %core.shard, "cannot remove a part of an index that leads nowhere: {e}");
        }
        let Some(window) = runs.next_merge() else {
            runs.merge_work.wait().await;
            continue;
        };
        match runs.merge(&|| core.with(State::is_ending), window).await {
            Ended::Merged | Ended::Unreadable => runs.changed.wake_all(),
            Ended::Stopped => return,
            Ended::Failed(e) if is_full(&e) => rest(&core).await,
            Ended::Failed(e) => return core.poison("merging an index", e),
        }
    }
}

/// The entries of a run in order.
struct Stream {
    run: Rc<Run>,
    /// Next block to read.
    next: u32,
    blocks: Option<Slice>,
    /// Place in `blocks`: block and entry.
    at: (usize, usize),
}

impl Stream {
    fn new(run: Rc<Run>) -> Self {
        Self { run, next: 0, blocks: None, at: (0, 0) }
    }

    /// The next entry that was read already.
    fn at_hand(&mut self) -> Option<Entry> {
        let bytes = self.blocks.as_ref()?;
        loop {
            let from = self.at.0 * to_usize(BLOCK);
            let block = bytes.get(from..from + to_usize(BLOCK))?;
            if let Some(entry) = Block::trust(block).get(self.at.1) {
                self.at.1 += 1;
                return Some(entry);
            }
            self.at = (self.at.0 + 1, 0);
        }
    }

    /// Reads on; false at the end.
    async fn read(&mut self) -> Result<bool, ReadError> {
        let count = (self.run.head.blocks - self.next).min(RUN_READ_BLOCKS);
        if count == 0 {
            return Ok(false);
        }
        self.blocks = Some(self.run.read(self.next, count).await?);
        self.next += count;
        self.at = (0, 0);
        Ok(true)
    }

    async fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            if let Some(entry) = self.at_hand() {
                return Ok(Some(entry));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }
}

impl Runs {
    /// Removes the runs that lead nowhere any more.
    pub(super) async fn drop_gone(&self) -> io::Result<()> {
        let floor = self.floor.get();
        let gone: Vec<Rc<Run>> = {
            let mut runs = self.runs.borrow_mut();
            // From the front only: the runs must go on to follow one another.
            let count = runs.iter().take_while(|run| list::is_gone(&run.head, floor)).count();
            runs.drain(..count).collect()
        };
        if gone.is_empty() {
            return Ok(());
        }
        self.changed.wake_all();
        for run in &gone {
            fs::remove(&run.path).await?;
        }
        fs::sync_dir(&self.dir).await
    }

    /// Merges neighbours into one run that takes their place.
    pub(super) async fn merge(&self, ends: &dyn Fn() -> bool, window: Range<usize>) -> Ended {
        let inputs: Vec<Rc<Run>> = self.runs.borrow()[window].to_vec();
        let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else { return Ended::Merged };
        let numbers = Numbers { first: first.head.numbers.first, last: last.head.numbers.last };
        let covers = (first.head.covers.0, last.head.covers.1);
        let entries = inputs.iter().map(|run| run.head.entries).sum();
        let mut writer = match Writer::create(&self.dir, self.owner, numbers, covers, first.head.before, entries).await
        {
            Ok(writer) => writer,
            Err(e) => return Ended::Failed(e),
        };
        let mut streams: Vec<Stream> = inputs.iter().cloned().map(Stream::new).collect();
        if let Err(ended) = self.merge_into(ends, &mut streams, &mut writer).await {
            // A file without a head is removed at the next start in any case.
            let left = writer.abandon().await;
            return match left {
                Err(e) if !matches!(ended, Ended::Failed(_)) => Ended::Failed(e),
                _ => ended,
            };
        }
        let run = match writer.finish(&self.dir).await {
            Ok(run) => run,
            Err(e) => return Ended::Failed(e),
        };
        self.replace(&inputs, run);
        for run in &inputs {
            if let Err(e) = fs::remove(&run.path).await {
                return Ended::Failed(e);
            }
        }
        self.merges.set(self.merges.get() + 1);
        Ended::Merged
    }

    /// Puts a merged run in the place of those that it holds. The list may have changed at both ends meanwhile.
    fn replace(&self, inputs: &[Rc<Run>], run: Run) {
        let mut runs = self.runs.borrow_mut();
        let at = runs.iter().position(|known| run.head.numbers.contains(known.head.numbers));
        let held = runs.iter().filter(|known| run.head.numbers.contains(known.head.numbers)).count();
        assert!(held == inputs.len(), "{held} of {} merged runs are still there", inputs.len());
        if let Some(at) = at {
            runs.splice(at..at + held, [Rc::new(run)]);
        }
    }

    /// Until everything is in the writer.
    async fn merge_into(
        &self,
        ends: &dyn Fn() -> bool,
        streams: &mut [Stream],
        writer: &mut Writer,
    ) -> Result<(), Ended> {
        let mut heads = BinaryHeap::with_capacity(streams.len());
        for (at, stream) in streams.iter_mut().enumerate() {
            match stream.next().await {
                Ok(Some(entry)) => heads.push(Reverse((entry, at))),
                Ok(None) => {}
                Err(error) => return Err(self.unreadable(stream, &error).await),
            }
        }
        let mut last = None;
        loop {
            let Some(&Reverse((entry, at))) = heads.peek() else { return Ok(()) };
            let stream = &mut streams[at];
            let next = match stream.at_hand() {
                Some(next) => Some(next),
                None => match stream.next().await {
                    Ok(next) => next,
                    Err(error) => return Err(self.unreadable(stream, &error).await),
                },
            };
            if let Some(mut head) = heads.peek_mut() {
                match next {
                    Some(next) => *head = Reverse((next, at)),
                    None => drop(PeekMut::pop(head)),
                }
            }
            if self.is_over(entry) || last.replace(entry) == Some(entry) {
                continue;
            }
            if writer.push(entry) {
                if ends() {
                    return Err(Ended::Stopped);
                }
                if let Err(e) = writer.flush().await {
                    return Err(Ended::Failed(e));
                }
                self.pause().await;
            }
        }
    }

    async fn unreadable(&self, stream: &Stream, error: &ReadError) -> Ended {
        self.noticed(&stream.run, error).await;
        Ended::Unreadable
    }

    /// Between two pieces of a merge.
    async fn pause(&self) {
        if self.runs.borrow().len() < RUNS_MAX / 2 {
            sleep(limits::RUN_PAUSE).await;
        } else {
            yield_now().await;
        }
    }
}
