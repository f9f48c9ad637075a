//! The entries that are in memory: pushed unsorted, in pieces of a few thousand, each sorted on its own when there is
//! time. Pieces are in the order of the log: every value in a piece is at least as great as those in earlier pieces.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::limits::{RUN_PENDING_MAX, RUN_PIECE, RUN_PIECES, RUN_PIECES_SPARE};

use super::format::Entry;
use super::sort::Sorter;

/// A closed piece.
#[derive(Debug)]
struct Piece {
    entries: Rc<Vec<Entry>>,
    sorted: bool,
    /// Everything that records in front of this log offset have is in this piece or an earlier one; where a batch begins.
    to: u64,
}

/// Pieces that are being written out.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) pieces: Vec<Rc<Vec<Entry>>>,
    pub(crate) entries: usize,
    pub(crate) covers: (u64, u64),
    /// Greatest value; `None` without entries.
    pub(crate) last: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Table {
    open: Vec<Entry>,
    closed: VecDeque<Piece>,
    /// Entries in closed pieces.
    pending: usize,
    spare: Vec<Vec<Entry>>,
    /// Written out up to here.
    from: u64,
    /// Closed pieces reach to here: what lies in front of it and is not in them is written out, or has no entries.
    to: u64,
    /// Somebody waits for everything in front of this offset to be written out.
    wanted: u64,
    /// Entries that make it worth writing out.
    worth: usize,
}

impl Table {
    /// An empty table behind a run that ends at the log offset `from`; nothing in front of `to` is missing. It is written
    /// out at about `worth` entries.
    pub(crate) fn new(from: u64, to: u64, worth: usize) -> Self {
        Self {
            open: Vec::new(),
            closed: VecDeque::new(),
            pending: 0,
            spare: Vec::new(),
            from,
            to: to.max(from),
            wanted: 0,
            worth,
        }
    }

    /// Adds an entry of a record in the batch that begins at `batch`. True when that closed a piece.
    pub(crate) fn insert(&mut self, entry: Entry, batch: u64) -> bool {
        let full = self.open.len() == RUN_PIECE.min(self.worth);
        if full {
            self.close(batch);
        }
        if self.open.capacity() == 0 {
            self.open = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(RUN_PIECE.min(self.worth)));
        }
        self.open.push(entry);
        full
    }

    /// Closes the open piece. What records in front of `batch` have is in it or before it.
    fn close(&mut self, batch: u64) {
        let entries = std::mem::take(&mut self.open);
        self.pending += entries.len();
        self.to = self.to.max(batch);
        self.closed.push_back(Piece { sorted: entries.len() < 2, entries: Rc::new(entries), to: self.to });
    }

    /// Asks for everything in front of `batch`, where the open batch begins, to be written out.
    pub(crate) fn want(&mut self, batch: u64) {
        self.wanted = self.wanted.max(batch);
        if !self.open.is_empty() {
            self.close(batch);
            return;
        }
        // A stretch without entries goes with what is in front of it, and is no reason to write.
        self.to = self.to.max(batch);
        if let Some(last) = self.closed.back_mut() {
            last.to = self.to;
        }
    }

    /// Entries in memory.
    pub(crate) fn len(&self) -> usize {
        self.pending + self.open.len()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.pending < RUN_PENDING_MAX
    }

    /// More than half of what may wait waits.
    pub(crate) fn is_urgent(&self) -> bool {
        self.pending > RUN_PENDING_MAX / 2
    }

    /// Sorts one piece; false when there is none left to sort.
    pub(crate) fn sort_one(&mut self, sorter: &mut Sorter) -> bool {
        let Some(piece) = self.closed.iter_mut().find(|piece| !piece.sorted) else { return false };
        if let Some(entries) = Rc::get_mut(&mut piece.entries) {
            sorter.sort(entries);
            piece.sorted = true;
        }
        true
    }

    /// Whether it is time to write out.
    pub(crate) fn is_due(&self) -> bool {
        self.pending >= self.worth || (self.from < self.wanted && !self.closed.is_empty())
    }

    /// The oldest pieces, to be written out. They stay readable here until [`wrote`](Self::wrote).
    pub(crate) fn freeze(&self) -> Option<Frozen> {
        let pieces = self.closed.iter().take_while(|piece| piece.sorted).take(RUN_PIECES);
        let taken: Vec<Rc<Vec<Entry>>> = pieces.map(|piece| Rc::clone(&piece.entries)).collect();
        let to = self.closed.get(taken.len().checked_sub(1)?)?.to;
        let entries = taken.iter().map(|piece| piece.len()).sum();
        // Pieces follow the log: the greatest value is in the last that has any.
        let last = taken.iter().flat_map(|piece| piece.iter()).map(|entry| entry.value).max();
        Some(Frozen { pieces: taken, entries, covers: (self.from, to), last })
    }

    /// What was frozen is in a durable run.
    pub(crate) fn wrote(&mut self, frozen: Frozen) {
        let Frozen { pieces, entries, covers, .. } = frozen;
        let count = pieces.len();
        drop(pieces);
        for piece in self.closed.drain(..count) {
            if self.spare.len() < RUN_PIECES_SPARE
                && let Ok(mut entries) = Rc::try_unwrap(piece.entries)
                && entries.capacity() > 0
            {
                entries.clear();
                self.spare.push(entries);
            }
        }
        self.pending -= entries;
        self.from = covers.1;
    }

    /// Where the last run ends.
    pub(crate) fn from(&self) -> u64 {
        self.from
    }

    /// Nothing that records in front of this log offset have is left here.
    pub(crate) fn covered(&self) -> u64 {
        if self.closed.is_empty() { self.to } else { self.from }
    }

    /// Greatest value in memory.
    pub(crate) fn last(&self) -> Option<u64> {
        // Values only grow from record to record, so the last pushed is the greatest; a sorted piece has lost that.
        self.open.last().map(|entry| entry.value).or_else(|| {
            let piece = self.closed.iter().rev().find(|piece| !piece.entries.is_empty())?;
            piece.entries.iter().map(|entry| entry.value).max()
        })
    }

    /// Adds to `out` the greatest values of a key below `below`, greatest first, as long as it has fewer than `count`.
    pub(crate) fn newest(&self, key: u64, below: u64, count: usize, out: &mut Vec<u64>) {
        newest_unsorted(&self.open, key, below, count, out);
        for piece in self.closed.iter().rev() {
            if out.len() >= count {
                return;
            }
            if piece.sorted {
                let (from, to) = (Entry { key, value: 0 }, Entry { key, value: below });
                let from = piece.entries.partition_point(|entry| *entry < from);
                let to = piece.entries.partition_point(|entry| *entry < to);
                let found = piece.entries[from..to].iter().rev().map(|entry| entry.value);
                out.extend(found.take(count - out.len()));
            } else {
                newest_unsorted(&piece.entries, key, below, count, out);
            }
        }
    }

    /// The first `count` entries from `from` on, and perhaps more, in no order; those of keys beyond `to` and with values in
    /// front of `floor` are left out.
    pub(crate) fn range(&self, from: Entry, to: u64, floor: u64, count: usize, out: &mut Vec<Entry>) {
        let wanted = |entry: &&Entry| **entry >= from && entry.key <= to && entry.value >= floor;
        out.extend(self.open.iter().filter(wanted));
        for piece in &self.closed {
            if piece.sorted {
                let start = piece.entries.partition_point(|entry| *entry < from);
                let inside = piece.entries[start..].iter().take_while(|entry| entry.key <= to);
                out.extend(inside.filter(wanted).take(count));
            } else {
                out.extend(piece.entries.iter().filter(wanted));
            }
        }
    }

    /// How many entries there are from `from` on with values from `floor` on.
    pub(crate) fn count_from(&self, from: Entry, floor: u64) -> u64 {
        let wanted = |entry: &&Entry| **entry >= from && entry.value >= floor;
        let closed = self.closed.iter().map(|piece| {
            let start = if piece.sorted { piece.entries.partition_point(|entry| *entry < from) } else { 0 };
            piece.entries[start..].iter().filter(wanted).count()
        });
        (closed.sum::<usize>() + self.open.iter().filter(wanted).count()) as u64
    }
}

fn newest_unsorted(entries: &[Entry], key: u64, below: u64, count: usize, out: &mut Vec<u64>) {
    let found = entries.iter().rev().filter(|entry| entry.key == key && entry.value < below);
    out.extend(found.map(|entry| entry.value).take(count.saturating_sub(out.len())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: u64, value: u64) -> Entry {
        Entry { key, value }
    }

    fn newest(table: &Table, key: u64, below: u64, count: usize) -> Vec<u64> {
        let mut out = Vec::new();
        table.newest(key, below, count, &mut out);
        out
    }

    #[test]
    fn entries_are_found_whether_their_piece_is_open_closed_or_sorted() {
        let mut table = Table::new(0, 0, RUN_PIECE * 4);
        let mut closed = 0;
        for n in 0..RUN_PIECE as u64 * 2 + 10 {
            closed += usize::from(table.insert(entry(n % 3, n), n / 100 * 100));
        }
        assert_eq!((closed, table.len()), (2, RUN_PIECE * 2 + 10));
        let expect = |below: u64, count: usize| -> Vec<u64> {
            (0..below.min(table.len() as u64)).rev().filter(|n| n % 3 == 1).take(count).collect()
        };
        let cases = [(u64::MAX, 5), (u64::MAX, 5000), (3000, 7), (100, 1000), (1, 3)];
        for (below, count) in cases {
            assert_eq!(newest(&table, 1, below, count), expect(below, count), "unsorted, below {below}");
        }
        let expected: Vec<_> = cases.iter().map(|&(below, count)| expect(below, count)).collect();
        assert!(
            table.sort_one(&mut Sorter::default())
                && table.sort_one(&mut Sorter::default())
                && !table.sort_one(&mut Sorter::default())
        );
        for ((below, count), expect) in cases.iter().zip(expected) {
            assert_eq!(newest(&table, 1, *below, *count), expect, "sorted, below {below}");
        }
        assert_eq!(table.last(), Some(RUN_PIECE as u64 * 2 + 9));
    }

    #[test]
    fn what_is_written_out_covers_whole_batches_and_nothing_in_front_is_left() {
        let mut table = Table::new(4096, 0, RUN_PIECE);
        for n in 0..RUN_PIECE as u64 + 1 {
            table.insert(entry(9, 5000 + n), 4096);
        }
        assert!(table.is_due() && table.freeze().is_none(), "an unsorted piece is not written");
        table.sort_one(&mut Sorter::default());
        let frozen = table.freeze().unwrap();
        // All of these belong to a batch that is not over: nothing is covered yet.
        assert_eq!((frozen.covers, frozen.entries), ((4096, 4096), RUN_PIECE));
        table.wrote(frozen);
        assert_eq!((table.len(), table.covered(), table.is_due()), (1, 4096, false));
        table.want(8192);
        assert!(table.is_due());
        let frozen = table.freeze().unwrap();
        assert_eq!((frozen.covers, frozen.entries), ((4096, 8192), 1));
        table.wrote(frozen);
        assert_eq!((table.len(), table.covered(), table.last()), (0, 8192, None));
        table.want(8192);
        assert!(!table.is_due(), "there is nothing left to write");
        table.want(12288);
        assert!(!table.is_due() && table.freeze().is_none(), "a stretch without entries is no reason to write");
        assert_eq!((table.from(), table.covered()), (8192, 12288));
        table.insert(entry(9, 16384), 16384);
        assert_eq!(table.covered(), 12288, "the open batch has it");
        table.want(20480);
        assert_eq!(table.covered(), 8192);
        table.want(24576);
        assert_eq!(table.freeze().unwrap().covers, (8192, 24576), "what is empty around it is covered too");
    }
}
