//! The background of a store of runs: one task sorts what was inserted and writes it out, another merges runs and drops
//! those that lead nowhere. Both give the core away after every small piece.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use ringmq_rt::{Slice, fs, sleep, timeout, yield_now};

use crate::error::ReadError;
use crate::index_io::is_full;
use crate::limits::{self, BLOCK, RUN_READ_BLOCKS, RUNS_MAX};
use crate::log::to_usize;
use crate::state::{Core, Room, State};

use super::file::{Ending, Run, Writer};
use super::format::{BLOCK_ENTRIES, Block, Entry, Numbers};
use super::sort::take_lowest;
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
    /// What was read, and how much of it was taken out.
    blocks: Option<Slice>,
    taken: usize,
    /// Entries of one block.
    at_hand: Vec<Entry>,
    /// Those of them in front of this are gone.
    from: usize,
}

impl Stream {
    fn new(run: Rc<Run>) -> Self {
        let at_hand = Vec::with_capacity(BLOCK_ENTRIES);
        Self { run, next: 0, blocks: None, taken: 0, at_hand, from: 0 }
    }

    fn at_hand(&self) -> &[Entry] {
        &self.at_hand[self.from..]
    }

    /// All that was at hand but the last `left` entries is gone.
    fn leave(&mut self, left: usize) {
        self.from = self.at_hand.len() - left;
    }

    /// Has entries at hand, unless the run is at its end.
    async fn advance(&mut self) -> Result<(), ReadError> {
        while self.at_hand().is_empty() {
            let at = self.taken * to_usize(BLOCK);
            let block = self.blocks.as_ref().and_then(|bytes| bytes.get(at..at + to_usize(BLOCK)));
            if let Some(block) = block.map(Block::trust) {
                self.at_hand.clear();
                self.at_hand.extend(block.entries(0..block.len()));
                self.from = 0;
                self.taken += 1;
                continue;
            }
            let count = (self.run.head.blocks - self.next).min(RUN_READ_BLOCKS);
            if count == 0 {
                return Ok(());
            }
            self.blocks = Some(self.run.read(self.next, count).await?);
            self.next += count;
            self.taken = 0;
        }
        Ok(())
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
        let run = match writer.finish(Ending::HeadLast).await {
            Ok(run) => run,
            Err(e) => return Ended::Failed(e),
        };
        // In front of the names that go.
        if let Err(e) = fs::sync_dir(&self.dir).await {
            return Ended::Failed(e);
        }
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
        let (mut lowest, mut last) = (Vec::new(), None);
        loop {
            for stream in &mut *streams {
                if let Err(error) = stream.advance().await {
                    return Err(self.unreadable(stream, &error).await);
                }
            }
            let mut windows: Vec<_> = streams.iter().map(Stream::at_hand).collect();
            take_lowest(&mut windows, &mut lowest);
            if lowest.is_empty() {
                return Ok(());
            }
            let left: Vec<_> = windows.iter().map(|window| window.len()).collect();
            for (stream, left) in streams.iter_mut().zip(left) {
                stream.leave(left);
            }
            self.sorter.borrow_mut().sort(&mut lowest);
            let mut sorted = lowest.drain(..);
            while self.pass_on(&mut sorted, writer, &mut last) {
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
