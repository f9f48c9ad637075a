//! One file on the modelled device: what it reads as, what a power cut cannot take, and the writes in between.

use std::collections::BTreeMap;

use super::pages::{Page, Pages, merge};
use crate::BLOCK;
use crate::sim::rng::Rng;

/// A completed write of one block that no flush has covered yet.
#[derive(Debug)]
struct Cached {
    /// The order in which writes completed.
    order: u64,
    number: u64,
    page: Page,
    /// The sectors of the block that were written.
    mask: u8,
    /// A flush that should have covered it failed: no later flush will.
    orphaned: bool,
}

/// Blocks of a write and their numbers.
pub(super) type Blocks = Vec<(u64, Page)>;

#[derive(Debug, Default)]
pub(in crate::sim) struct Inode {
    current: Pages,
    durable: Pages,
    len: u64,
    durable_len: u64,
    /// Bytes reserved on the device.
    pub(super) allocated: u64,
    cached: Vec<Cached>,
    completed: u64,
    /// Open handles.
    pub(super) handles: usize,
}

impl Inode {
    /// A file whose content is already durable.
    pub(super) fn durable(bytes: &[u8]) -> Self {
        let mut inode = Self::default();
        for (number, block) in (0..).zip(bytes.chunks(BLOCK)) {
            inode.current.put(number, super::pages::page(block));
        }
        inode.durable = inode.current.clone();
        inode.len = bytes.len() as u64;
        inode.durable_len = inode.len;
        inode.allocated = inode.len.next_multiple_of(BLOCK as u64);
        inode
    }

    pub(in crate::sim) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let len = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        self.current.read(offset, &mut buf[..len]);
        len
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.len = self.len.max(len);
        self.allocated = self.allocated.max(self.len.next_multiple_of(BLOCK as u64));
    }

    /// How many writes completed: what a flush that is issued now will cover.
    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    /// Whether a power cut could take anything back.
    pub(super) fn is_flushed(&self) -> bool {
        self.cached.is_empty() && self.len == self.durable_len
    }

    /// A write reaches the device's cache, `masks` telling for each block which sectors of it.
    pub(super) fn write(&mut self, blocks: &Blocks, mut masks: impl FnMut() -> u8) {
        for (number, page) in blocks {
            let mask = masks();
            if mask != 0 {
                self.current.put_masked(*number, page, mask);
                self.completed += 1;
                let order = self.completed;
                self.cached.push(Cached { order, number: *number, page: page.clone(), mask, orphaned: false });
            }
        }
    }

    /// A flush succeeded that was issued after `covered` writes and at length `len`.
    pub(super) fn flush(&mut self, covered: u64, len: u64) {
        self.persist(|c| c.order <= covered && !c.orphaned);
        self.durable_len = self.durable_len.max(len);
    }

    /// The last `blocks` writes reached the medium by themselves (`FUA`).
    pub(super) fn flush_last(&mut self, blocks: u64, len: u64) {
        let before = self.completed - blocks;
        self.persist(|c| c.order > before);
        self.durable_len = self.durable_len.max(len);
    }

    /// A flush failed: what it should have covered stays readable, and no later flush makes it durable.
    pub(super) fn orphan(&mut self, covered: u64) {
        self.cached.iter_mut().filter(|c| c.order <= covered).for_each(|c| c.orphaned = true);
    }

    fn persist(&mut self, covered: impl Fn(&Cached) -> bool) {
        let mut newest: BTreeMap<u64, Vec<(u64, u8)>> = BTreeMap::new();
        let mut rest = Vec::new();
        for cached in std::mem::take(&mut self.cached) {
            if covered(&cached) {
                self.durable.put_masked(cached.number, &cached.page, cached.mask);
                newest.entry(cached.number).or_default().push((cached.order, cached.mask));
            } else {
                rest.push(cached);
            }
        }
        // An older write of the same sectors can no longer come out on top.
        for cached in &mut rest {
            let over = newest.get(&cached.number).into_iter().flatten().filter(|(order, _)| *order > cached.order);
            cached.mask = over.fold(cached.mask, |left, (_, mask)| left & !mask);
        }
        rest.retain(|c| c.mask != 0);
        self.cached = rest;
    }

    /// The power goes: each sector of each unflushed write survives or not, whatever became of the others.
    pub(super) fn power_cut(&mut self, rng: &mut Rng, percent: u64) {
        for cached in std::mem::take(&mut self.cached) {
            self.durable.put_masked(cached.number, &cached.page, cached.mask & rng.mask(percent));
        }
        if !rng.chance(percent, 100) {
            self.len = self.durable_len;
        }
        self.durable.truncate(self.len);
        self.current = self.durable.clone();
        self.durable_len = self.len;
        self.allocated = self.len.next_multiple_of(BLOCK as u64);
    }

    /// Bytes decay on the medium.
    pub(super) fn corrupt(&mut self, offset: u64, len: usize) {
        let len = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(len);
        self.current.flip(offset, len);
        self.durable.flip(offset, len);
        let block = BLOCK as u64;
        for cached in &mut self.cached {
            let start = cached.number * block;
            if start < offset + len as u64 && offset < start + block {
                cached.page = merge(&cached.page, &self.current.get(cached.number), u8::MAX);
            }
        }
    }
}
