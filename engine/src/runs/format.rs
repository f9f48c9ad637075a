//! How a run lies on disk: a head block, then blocks of sorted entries, then blocks of fences. Pure bytes.
//!
//! A file without a whole head is no run. Every block carries its checksum, the run it belongs to and its number there,
//! so that a stale, misplaced or missing block is told from the right one.

use std::ops::Range;

use crate::limits::RUN_FENCES;

/// One entry: ordered by key, then by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    pub(crate) key: u64,
    /// The log offset of the record that it leads to.
    pub(crate) value: u64,
}

impl Entry {
    /// One number that orders as the entry does: sorting by it has no branch to guess wrong.
    pub(crate) fn whole(&self) -> u128 {
        u128::from(self.key) << 64 | u128::from(self.value)
    }
}

/// Bytes of an entry.
const ENTRY: usize = 16;
const BLOCK: usize = ringmq_rt::BLOCK;
/// Checksum, run, number, count.
const BLOCK_HEAD: usize = 16;
/// Entries in a full block.
pub(crate) const BLOCK_ENTRIES: usize = (BLOCK - BLOCK_HEAD) / ENTRY;

const MAGIC: &[u8; 8] = b"RMqRUN1\n";
/// Numbers in the head.
const WORDS: usize = 14;
/// Bytes of the head that mean something, the checksum behind them not counted.
const HEAD: usize = MAGIC.len() + WORDS * 8;

const _: () = assert!(BLOCK_HEAD + BLOCK_ENTRIES * ENTRY == BLOCK && HEAD + 4 <= BLOCK);

/// Which store, shard and purpose runs belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) store: u64,
    pub(crate) shard: u8,
    /// What the entries are, so that one purpose's file is never read as another's.
    pub(crate) kind: u8,
}

/// The numbers of the memory tables that a run holds. A table that is written out takes the next number; a merge takes
/// neighbours together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Numbers {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl Numbers {
    pub(crate) fn file_name(self) -> String {
        format!("{:010}-{:010}.run", self.first, self.last)
    }

    /// The numbers that a file's name says, if it is a run's.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (first, last) = name.strip_suffix(".run")?.split_once('-')?;
        let number = |text: &str| text.parse().ok().filter(|_| text.len() == 10);
        let numbers = Self { first: number(first)?, last: number(last)? };
        (numbers.first <= numbers.last).then_some(numbers)
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

/// What the head of a run says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) owner: Owner,
    pub(crate) numbers: Numbers,
    /// The stretch of the log whose entries it has, all of them. Some of later records may be among them.
    pub(crate) covers: (u64, u64),
    /// The values of all earlier runs are below this.
    pub(crate) before: u64,
    pub(crate) entries: u64,
    pub(crate) blocks: u32,
    /// Blocks between two fences.
    pub(crate) stride: u32,
    pub(crate) first: Entry,
    pub(crate) last: Entry,
    /// Least and greatest value.
    pub(crate) values: (u64, u64),
}

impl Head {
    /// The mark of this run in each of its blocks.
    pub(crate) fn mark(&self) -> u32 {
        mark(self.owner, self.numbers)
    }

    pub(crate) fn fences(&self) -> u32 {
        self.blocks.div_ceil(self.stride.max(1))
    }

    /// Blocks of the whole file.
    pub(crate) fn file_blocks(&self) -> u64 {
        1 + u64::from(self.blocks) + u64::from(self.fences()).div_ceil(BLOCK_ENTRIES as u64)
    }

    pub(crate) fn encode(&self) -> [u8; BLOCK] {
        let mut out = [0; BLOCK];
        out[..8].copy_from_slice(MAGIC);
        let words: [u64; WORDS] = [
            self.owner.store,
            u64::from(self.owner.shard) << 8 | u64::from(self.owner.kind),
            u64::from(self.numbers.first) << 32 | u64::from(self.numbers.last),
            self.covers.0,
            self.covers.1,
            self.before,
            self.entries,
            u64::from(self.blocks) << 32 | u64::from(self.stride),
            self.first.key,
            self.first.value,
            self.last.key,
            self.last.value,
            self.values.0,
            self.values.1,
        ];
        for (room, word) in out[8..].chunks_exact_mut(8).zip(words) {
            room.copy_from_slice(&word.to_be_bytes());
        }
        let crc = crc32c::crc32c(&out[..HEAD]);
        out[HEAD..HEAD + 4].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// The head that `bytes` begin with, if it is whole and contradicts itself nowhere.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let sum = u32::from_be_bytes(*bytes.get(HEAD..)?.first_chunk()?);
        if bytes.get(..8)? != MAGIC || crc32c::crc32c(&bytes[..HEAD]) != sum {
            return None;
        }
        let mut words = [0; WORDS];
        for (word, from) in words.iter_mut().zip(bytes[8..HEAD].as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*from);
        }
        let high = |word: u64| u32::try_from(word >> 32).unwrap_or(0);
        let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
        let [
            store,
            place,
            numbers,
            from,
            to,
            before,
            entries,
            blocks,
            first_key,
            first_value,
            last_key,
            last_value,
            least,
            most,
        ] = words;
        let head = Self {
            owner: Owner { store, shard: (place >> 8) as u8, kind: place as u8 },
            numbers: Numbers { first: high(numbers), last: low(numbers) },
            covers: (from, to),
            before,
            entries,
            blocks: high(blocks),
            stride: low(blocks),
            first: Entry { key: first_key, value: first_value },
            last: Entry { key: last_key, value: last_value },
            values: (least, most),
        };
        let full = u64::from(head.blocks) * BLOCK_ENTRIES as u64;
        let fits = head.entries <= full && head.entries.div_ceil(BLOCK_ENTRIES as u64) == u64::from(head.blocks);
        let sound = fits && head.stride > 0 && head.fences() as usize <= RUN_FENCES && from <= to;
        sound.then_some(head)
    }
}

/// The mark that the blocks of a run carry.
pub(crate) fn mark(owner: Owner, numbers: Numbers) -> u32 {
    let mut crc = crc32c::crc32c(&owner.store.to_be_bytes());
    crc = crc32c::crc32c_append(crc, &[owner.shard, owner.kind]);
    crc = crc32c::crc32c_append(crc, &numbers.first.to_be_bytes());
    crc32c::crc32c_append(crc, &numbers.last.to_be_bytes())
}

/// Encodes block `number` of the run with this mark.
pub(crate) fn encode_block(out: &mut [u8], mark: u32, number: u32, entries: &[Entry]) {
    out.fill(0);
    out[4..8].copy_from_slice(&mark.to_be_bytes());
    out[8..12].copy_from_slice(&number.to_be_bytes());
    out[12..16].copy_from_slice(&(entries.len() as u32).to_be_bytes());
    for (room, entry) in out[BLOCK_HEAD..].chunks_exact_mut(ENTRY).zip(entries) {
        room[..8].copy_from_slice(&entry.key.to_be_bytes());
        room[8..].copy_from_slice(&entry.value.to_be_bytes());
    }
    let crc = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&crc.to_be_bytes());
}

/// A checked block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a>(&'a [[u8; ENTRY]]);

impl<'a> Block<'a> {
    /// The block if its checksum matches and it is number `number` of the run with this mark.
    pub(crate) fn check(bytes: &'a [u8], mark: u32, number: u32) -> Option<Self> {
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b));
        let whole = bytes.len() == BLOCK && word(0)? == crc32c::crc32c(&bytes[4..]);
        let ours = whole && word(4)? == mark && word(8)? == number;
        let count = word(12)? as usize;
        (ours && count <= BLOCK_ENTRIES).then(|| Self::trust(bytes))
    }

    /// A block that was checked before.
    pub(crate) fn trust(bytes: &'a [u8]) -> Self {
        let count = bytes.get(12..16).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b) as usize);
        let entries = bytes.get(BLOCK_HEAD..).unwrap_or(&[]).as_chunks().0;
        Self(&entries[..count.min(entries.len())])
    }

    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(self, at: usize) -> Option<Entry> {
        let (key, value) = self.0.get(at)?.split_first_chunk::<8>()?;
        Some(Entry { key: u64::from_be_bytes(*key), value: u64::from_be_bytes(*value.first_chunk()?) })
    }

    /// How many entries are in front of `bound`.
    pub(crate) fn before(self, bound: Entry) -> usize {
        self.0.partition_point(|entry| u128::from_be_bytes(*entry) < bound.whole())
    }

    pub(crate) fn entries(self, range: Range<usize>) -> impl DoubleEndedIterator<Item = Entry> {
        range.filter_map(move |at| self.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { store: 0x0102_0304_0506_0708, shard: 3, kind: 1 };

    fn head() -> Head {
        Head {
            owner: OWNER,
            numbers: Numbers { first: 3, last: 9 },
            covers: (4096, 8192),
            before: 4000,
            entries: 300,
            blocks: 2,
            stride: 1,
            first: Entry { key: 1, value: 2 },
            last: Entry { key: 3, value: 4 },
            values: (2, 4),
        }
    }

    #[test]
    fn a_head_reads_back_and_any_flipped_bit_is_noticed() {
        let bytes = head().encode();
        assert_eq!(Head::decode(&bytes), Some(head()));
        for bit in 0..(HEAD + 4) * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bad), None, "bit {bit}");
        }
        assert_eq!(Head::decode(&[0; 4096]), None);
        assert_eq!(Head::decode(&[]), None);
        let lies = Head { entries: 600, ..head() }.encode();
        assert_eq!(Head::decode(&lies), None, "more entries than its blocks hold");
    }

    #[test]
    fn a_block_is_believed_in_its_place_only() {
        let entries: Vec<Entry> = (0..BLOCK_ENTRIES as u64).map(|n| Entry { key: n / 2, value: n }).collect();
        let mut bytes = vec![9; BLOCK];
        let mark = head().mark();
        encode_block(&mut bytes, mark, 5, &entries[..200]);
        let block = Block::check(&bytes, mark, 5).unwrap();
        assert_eq!(block.entries(0..block.len()).collect::<Vec<_>>(), entries[..200]);
        assert_eq!((block.before(Entry { key: 7, value: 15 }), block.get(200)), (15, None));
        assert!(Block::check(&bytes, mark, 6).is_none() && Block::check(&bytes, mark ^ 1, 5).is_none());
        for at in [0, 3, 5, 17, 4095] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Block::check(&bad, mark, 5).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_name_says_the_numbers() {
        let numbers = Numbers { first: 7, last: 12 };
        assert_eq!(Numbers::of_name(&numbers.file_name()), Some(numbers));
        for stranger in ["snapshot", "0000000001", "0000000009-0000000003.run", "1-2.run", "000000000x-0000000003.run"]
        {
            assert_eq!(Numbers::of_name(stranger), None, "{stranger}");
        }
    }
}
