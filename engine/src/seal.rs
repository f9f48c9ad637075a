//! Fillers: records with RocketMQ's blank magic, which a plain reader skips. The *seal* ends every batch, fills its last
//! block and proves the batch whole; the *tombstone* notes in the log that a topic's queues were deleted. Pure bytes.

use std::ops::Range;

use crate::limits::BLOCK;
use crate::position::{Epoch, ShardId};

/// RocketMQ's blank magic, as it marks the unused end of a commit-log file.
pub(crate) const BLANK_MAGIC: u32 = 0xCBD4_3194;
/// Length, magic, kind.
const FILLER_HEAD: usize = 12;
const KIND_SEAL: u32 = u32::from_be_bytes(*b"SEAL");
const KIND_TOMBSTONE: u32 = u32::from_be_bytes(*b"GONE");

const TRAILER_MAGIC: u32 = u32::from_be_bytes(*b"RMqS");
const TRAILER_VERSION: u16 = 1;
/// The fixed end of a seal.
pub(crate) const TRAILER: usize = 64;
const TRAILER_CRC: Range<usize> = 60..64;

/// The smallest seal.
pub(crate) const SEAL_MIN: u64 = (FILLER_HEAD + TRAILER) as u64;

/// The log goes on in the next segment.
const FLAG_ROLL: u32 = 1;

/// Where a batch ends whose records end at `end`: the seal fills the block, and takes the next one too if the rest of
/// this one is too small for it.
pub(crate) fn seal_end(end: u64) -> u64 {
    (end + SEAL_MIN).next_multiple_of(BLOCK)
}

/// What a seal says about its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) shard: ShardId,
    pub(crate) epoch: Epoch,
    /// Number of the store, so that a block of another store is never taken for one of this.
    pub(crate) store: u64,
    /// Log offset of the batch.
    pub(crate) start: u64,
    /// Bytes of the batch with its seal.
    pub(crate) len: u32,
    pub(crate) records: u32,
    /// What was flushed when the seal was made.
    pub(crate) flushed: u64,
    /// Latest store time in the log so far.
    pub(crate) store_ms: i64,
    /// Whether the next batch starts a new segment.
    pub(crate) roll: bool,
    /// crc32c of the batch in front of the trailer.
    pub(crate) crc: u32,
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER] {
        let mut out = [0; TRAILER];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&TRAILER_MAGIC.to_be_bytes());
        put(&TRAILER_VERSION.to_be_bytes());
        put(&u16::from(self.shard.get()).to_be_bytes());
        put(&self.epoch.0.to_be_bytes());
        put(&self.records.to_be_bytes());
        put(&self.start.to_be_bytes());
        put(&self.len.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.flushed.to_be_bytes());
        put(&self.store.to_be_bytes());
        put(&self.store_ms.to_be_bytes());
        put(&(if self.roll { FLAG_ROLL } else { 0 }).to_be_bytes());
        let crc = crc32c::crc32c(&out[..TRAILER_CRC.start]);
        out[TRAILER_CRC].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// The trailer at the end of `block`, if one is there and whole. Whether it belongs here is the caller's question.
    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let bytes = block.last_chunk::<TRAILER>()?;
        let u32_at = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        if u32_at(0) != TRAILER_MAGIC || u32_at(TRAILER_CRC.start) != crc32c::crc32c(&bytes[..TRAILER_CRC.start]) {
            return None;
        }
        let version_shard = u32_at(4);
        if version_shard >> 16 != u32::from(TRAILER_VERSION) {
            return None;
        }
        Some(Self {
            shard: ShardId::new(u8::try_from(version_shard & 0xffff).ok()?)?,
            epoch: Epoch(u32_at(8)),
            records: u32_at(12),
            start: u64_at(16),
            len: u32_at(24),
            crc: u32_at(28),
            flushed: u64_at(32),
            store: u64_at(40),
            store_ms: u64_at(48).cast_signed(),
            roll: u32_at(56) & FLAG_ROLL != 0,
        })
    }
}

fn filler_head(out: &mut [u8], kind: u32) {
    let len = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&len.to_be_bytes());
    out[4..8].copy_from_slice(&BLANK_MAGIC.to_be_bytes());
    out[8..12].copy_from_slice(&kind.to_be_bytes());
}

/// Fills `out`, the rest of the batch's last block, with the seal. `trailer.crc` comes in as the checksum of the records
/// and goes out as that of the whole batch.
pub(crate) fn write_seal(out: &mut [u8], mut trailer: Trailer) {
    filler_head(out, KIND_SEAL);
    let trailer_at = out.len() - TRAILER;
    out[FILLER_HEAD..trailer_at].fill(0);
    trailer.crc = crc32c::crc32c_append(trailer.crc, &out[..trailer_at]);
    out[trailer_at..].copy_from_slice(&trailer.encode());
}

/// Length of the tombstone of `topic`.
pub(crate) fn tombstone_len(topic: &str) -> usize {
    FILLER_HEAD + topic.len()
}

/// Fills `out`, which is [`tombstone_len`] bytes, with the note that the queues of `topic` were deleted.
pub(crate) fn write_tombstone(out: &mut [u8], topic: &str) {
    filler_head(out, KIND_TOMBSTONE);
    out[FILLER_HEAD..].copy_from_slice(topic.as_bytes());
}

/// What lies at the start of some log bytes, by its own account; nothing is verified yet but its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A message of this many bytes.
    Record(usize),
    /// The end of a batch, of this many bytes.
    Seal(usize),
    /// The queues of a topic were deleted.
    Tombstone(usize, &'a str),
    /// More bytes are needed: at least as many as this.
    Short(usize),
    /// Nothing of ours.
    Garbage,
}

/// Names what lies at the start of `bytes`; no item is longer than `max`.
pub(crate) fn item(bytes: &[u8], max: usize) -> Item<'_> {
    let Some((head, _)) = bytes.split_first_chunk::<FILLER_HEAD>() else { return Item::Short(FILLER_HEAD) };
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let Ok(len) = usize::try_from(word(0)) else { return Item::Garbage };
    if len < FILLER_HEAD || len > max {
        return Item::Garbage;
    }
    match (word(4), word(8)) {
        (BLANK_MAGIC, KIND_SEAL) if len >= FILLER_HEAD + TRAILER => Item::Seal(len),
        (BLANK_MAGIC, KIND_TOMBSTONE) => match bytes.get(FILLER_HEAD..len) {
            None => Item::Short(len),
            Some(topic) => std::str::from_utf8(topic).map_or(Item::Garbage, |topic| Item::Tombstone(len, topic)),
        },
        (magic, _) if crate::record::is_record_magic(magic) => Item::Record(len),
        _ => Item::Garbage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer() -> Trailer {
        Trailer {
            shard: ShardId::new(3).unwrap(),
            epoch: Epoch(7),
            store: 0x1122_3344_5566_7788,
            start: 8192,
            len: 4096,
            records: 5,
            flushed: 4096,
            store_ms: -1,
            roll: true,
            crc: 0,
        }
    }

    #[test]
    fn a_seal_reads_back_and_any_flipped_bit_of_its_trailer_is_noticed() {
        let mut block = vec![0xee; 500];
        write_seal(&mut block, trailer());
        let crc = crc32c::crc32c(&block[..500 - TRAILER]);
        assert_eq!(Trailer::decode(&block), Some(Trailer { crc, ..trailer() }));
        assert_eq!(item(&block, 4096), Item::Seal(500));
        for bit in 0..TRAILER * 8 {
            let mut bad = block.clone();
            bad[500 - TRAILER + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Trailer::decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_tombstone_reads_back() {
        let mut bytes = vec![0; tombstone_len("orders")];
        write_tombstone(&mut bytes, "orders");
        assert_eq!(item(&bytes, 4096), Item::Tombstone(18, "orders"));
        assert_eq!(item(&bytes[..15], 4096), Item::Short(18));
        assert_eq!(item(&bytes[..3], 4096), Item::Short(12));
    }

    #[test]
    fn zeros_and_lies_about_the_length_are_garbage() {
        assert_eq!(item(&[0; 64], 4096), Item::Garbage);
        let mut bytes = [0; 64];
        filler_head(&mut bytes, KIND_SEAL);
        bytes[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(item(&bytes, 4096), Item::Garbage);
    }

    #[test]
    fn a_seal_always_fits_and_ends_on_a_block() {
        for end in 0..3 * BLOCK {
            let sealed = seal_end(end);
            assert!(sealed.is_multiple_of(BLOCK) && sealed - end >= SEAL_MIN && sealed - end < BLOCK + SEAL_MIN);
        }
    }
}
