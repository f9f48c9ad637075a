//! The content of a file as blocks that are shared instead of copied; what was never written reads as zeros.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::BLOCK;

/// The unit that a crash keeps or loses as a whole.
pub(super) const SECTOR: usize = 512;

/// One block; `None` is all zeros.
pub(super) type Page = Option<Rc<[u8; BLOCK]>>;

/// A block's bytes as a page, zero-filled where fewer are given.
pub(super) fn page(bytes: &[u8]) -> Page {
    if bytes.iter().all(|&b| b == 0) {
        return None;
    }
    let mut page = Rc::new([0; BLOCK]);
    let len = bytes.len().min(BLOCK);
    if let Some(room) = Rc::get_mut(&mut page) {
        room[..len].copy_from_slice(&bytes[..len]);
    }
    Some(page)
}

/// `old` with those sectors taken from `new` whose bit is set in `mask`.
pub(super) fn merge(old: &Page, new: &Page, mask: u8) -> Page {
    match mask {
        0 => return old.clone(),
        u8::MAX => return new.clone(),
        _ => {}
    }
    let mut bytes = old.as_ref().map_or([0; BLOCK], |page| **page);
    for sector in (0..8).filter(|sector| mask & (1 << sector) != 0) {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        match new {
            Some(new) => bytes[range.clone()].copy_from_slice(&new[range]),
            None => bytes[range].fill(0),
        }
    }
    page(&bytes)
}

/// Blocks by their number.
#[derive(Debug, Clone, Default)]
pub(super) struct Pages(BTreeMap<u64, Rc<[u8; BLOCK]>>);

impl Pages {
    pub(super) fn get(&self, number: u64) -> Page {
        self.0.get(&number).cloned()
    }

    pub(super) fn put(&mut self, number: u64, page: Page) {
        match page {
            Some(page) => self.0.insert(number, page),
            None => self.0.remove(&number),
        };
    }

    pub(super) fn put_masked(&mut self, number: u64, new: &Page, mask: u8) {
        let merged = merge(&self.get(number), new, mask);
        self.put(number, merged);
    }

    /// Forgets what lies at or behind `len`.
    pub(super) fn truncate(&mut self, len: u64) {
        let block = BLOCK as u64;
        drop(self.0.split_off(&len.div_ceil(block)));
        let tail = usize::try_from(len % block).unwrap_or(0);
        if tail > 0
            && let Some(last) = self.get(len / block)
        {
            self.put(len / block, page(&last[..tail]));
        }
    }

    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) {
        self.each(offset, buf.len(), |page, within, range| match page {
            Some(page) => buf[range].copy_from_slice(&page[within]),
            None => buf[range].fill(0),
        });
    }

    /// Changes bytes in place, as decay does.
    pub(super) fn flip(&mut self, offset: u64, len: usize) {
        let mut changed = Vec::new();
        self.each(offset, len, |old, within, _| {
            let mut bytes = old.as_ref().map_or([0; BLOCK], |page| **page);
            bytes[within].iter_mut().for_each(|b| *b = !*b);
            changed.push(page(&bytes));
        });
        for (number, page) in (offset / BLOCK as u64..).zip(changed) {
            self.put(number, page);
        }
    }

    /// Calls `f` with each block of a range of bytes: the block, the range in it, the range in the whole.
    fn each(&self, offset: u64, len: usize, mut f: impl FnMut(Page, std::ops::Range<usize>, std::ops::Range<usize>)) {
        let block = BLOCK as u64;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let start = usize::try_from(at % block).unwrap_or(0);
            let part = (BLOCK - start).min(len - done);
            f(self.get(at / block), start..start + part, done..done + part);
            done += part;
        }
    }
}
