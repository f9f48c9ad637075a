//! Reading entries: the newest of one key, and a stretch of keys. What is in memory is looked at in one turn, together
//! with the list of runs; then runs are read as far as they can still matter.

use std::rc::Rc;

use ringmq_rt::Slice;

use crate::error::ReadError;

use super::Runs;
use super::file::Run;
use super::format::{BLOCK_ENTRIES, Block, Entry};

impl Runs {
    /// The `count` greatest values of a key that are below `below`, greatest first; fewer where an entry is there twice.
    /// None means that there are none.
    ///
    /// # Errors
    /// A run cannot be read.
    pub(crate) async fn newest(&self, key: u64, below: u64, count: usize) -> Result<Vec<u64>, ReadError> {
        let (mut out, mut runs) = (Vec::new(), self.runs.borrow().clone());
        self.table.borrow().newest(key, below, count, &mut out);
        // Latest first: mostly they are disjoint, and the first ones have enough.
        runs.sort_by_key(|run| std::cmp::Reverse(run.head.values.1));
        for run in runs {
            let enough = out.len() >= count && out.last().is_some_and(|least| run.head.values.1 < *least);
            if enough {
                continue;
            }
            if let Err(error) = self.newest_in(&run, key, below, count, &mut out).await {
                self.noticed(&run, &error).await;
                return Err(error);
            }
            out.sort_unstable_by(|a, b| b.cmp(a));
            out.dedup();
            out.truncate(count);
        }
        let floor = self.floor.get();
        out.retain(|value| *value >= floor);
        Ok(out)
    }

    async fn newest_in(
        &self,
        run: &Rc<Run>,
        key: u64,
        below: u64,
        count: usize,
        out: &mut Vec<u64>,
    ) -> Result<(), ReadError> {
        let head = &run.head;
        let out_of_reach = head.entries == 0 || key < head.first.key || key > head.last.key || below <= head.values.0;
        if out_of_reach || head.values.1 < self.floor.get() {
            return Ok(());
        }
        let bound = Entry { key, value: below };
        let mut number = self.block_of(run, bound).await?;
        let mut found = 0;
        loop {
            let bytes = self.block(run, number).await?;
            let block = Block::trust(&bytes);
            for entry in block.entries(0..block.before(bound)).rev() {
                if entry.key != key || found == count {
                    return Ok(());
                }
                out.push(entry.value);
                found += 1;
            }
            match number.checked_sub(1) {
                Some(before) if found < count => number = before,
                _ => return Ok(()),
            }
        }
    }

    /// The first `count` entries from `from` on with keys up to `to`, in order.
    ///
    /// # Errors
    /// A run cannot be read.
    pub(crate) async fn range(&self, from: Entry, to: u64, count: usize) -> Result<Vec<Entry>, ReadError> {
        let (mut out, runs) = (Vec::new(), self.runs.borrow().clone());
        let floor = self.floor.get();
        self.table.borrow().range(from, to, floor, count, &mut out);
        let tidy = |out: &mut Vec<Entry>| {
            out.sort_unstable();
            out.dedup();
            out.truncate(count);
        };
        tidy(&mut out);
        for run in runs {
            if let Err(error) = self.range_in(&run, from, to, count, &mut out).await {
                self.noticed(&run, &error).await;
                return Err(error);
            }
            tidy(&mut out);
        }
        Ok(out)
    }

    async fn range_in(
        &self,
        run: &Rc<Run>,
        from: Entry,
        to: u64,
        count: usize,
        out: &mut Vec<Entry>,
    ) -> Result<(), ReadError> {
        let (head, floor) = (&run.head, self.floor.get());
        if head.entries == 0 || head.last < from || head.first.key > to || head.values.1 < floor {
            return Ok(());
        }
        // What comes behind the last of enough entries cannot matter.
        let bound = out.get(count.wrapping_sub(1)).copied();
        let mut number = self.block_of(run, from).await?;
        let mut found = 0;
        while number < head.blocks {
            let bytes = self.block(run, number).await?;
            let block = Block::trust(&bytes);
            for entry in block.entries(block.before(from)..block.len()) {
                if entry.key > to || found == count || bound.is_some_and(|bound| entry > bound) {
                    return Ok(());
                }
                if entry.value >= floor {
                    out.push(entry);
                    found += 1;
                }
            }
            number += 1;
        }
        Ok(())
    }

    /// How many entries there are from `from` on: without reading them, so what leads nowhere any more counts until a merge
    /// drops it, and an entry that is there twice counts twice.
    ///
    /// # Errors
    /// A run cannot be read.
    pub(crate) async fn count_from(&self, from: Entry) -> Result<u64, ReadError> {
        let (runs, floor) = (self.runs.borrow().clone(), self.floor.get());
        let mut count = self.table.borrow().count_from(from, floor);
        for run in runs {
            if run.head.entries == 0 || run.head.last < from || run.head.values.1 < floor {
                continue;
            }
            match self.count_in(&run, from).await {
                Ok(more) => count += more,
                Err(error) => {
                    self.noticed(&run, &error).await;
                    return Err(error);
                }
            }
        }
        Ok(count)
    }

    async fn count_in(&self, run: &Rc<Run>, from: Entry) -> Result<u64, ReadError> {
        let number = self.block_of(run, from).await?;
        let bytes = self.block(run, number).await?;
        // Every block but the last is full.
        let in_front = u64::from(number) * BLOCK_ENTRIES as u64 + Block::trust(&bytes).before(from) as u64;
        Ok(run.head.entries.saturating_sub(in_front))
    }

    /// The last block that begins with `entry` or in front of it; the first if all begin behind it.
    async fn block_of(&self, run: &Rc<Run>, entry: Entry) -> Result<u32, ReadError> {
        let group = run.group(entry);
        let (mut low, mut high) = (group.start, group.end);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let bytes = self.block(run, middle).await?;
            if Block::trust(&bytes).get(0).is_some_and(|first| first <= entry) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// A block by way of the cache.
    async fn block(&self, run: &Rc<Run>, number: u32) -> Result<Slice, ReadError> {
        let name = (run.head.numbers, number);
        if let Some(block) = self.blocks.borrow_mut().get(name) {
            return Ok(block);
        }
        let block = run.read(number, 1).await?;
        self.blocks_read.set(self.blocks_read.get() + 1);
        self.blocks.borrow_mut().insert(name, block.clone());
        Ok(block)
    }
}
