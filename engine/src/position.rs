//! The numbers that name places: a shard, a byte of its log, an entry of a queue, a term of writing. Newtypes, so that
//! one is never passed for another. Nothing here knows what lies at a place.

use std::fmt;

/// Highest number of log shards of one store: a position spends seven bits on the shard.
pub const SHARDS_MAX: u8 = 128;

/// Bits of a position that hold the byte offset in the shard's log.
const OFFSET_BITS: u32 = 56;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// One log shard of a store, below [`SHARDS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u8);

impl ShardId {
    /// The shard with this number; `None` at [`SHARDS_MAX`] and above.
    pub const fn new(id: u8) -> Option<Self> {
        if id < SHARDS_MAX { Some(Self(id)) } else { None }
    }

    /// Its number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A byte address in the store: the shard above, the offset in that shard's log below. Clients see it as the physical
/// offset; it is never negative as an `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The byte `offset` of the log of `shard`.
    ///
    /// # Panics
    /// When the offset needs more than 56 bits: 64 PiB were written, or the number is no offset.
    pub const fn new(shard: ShardId, offset: u64) -> Self {
        assert!(offset <= OFFSET_MASK, "a log offset needs more than 56 bits");
        Self((shard.0 as u64) << OFFSET_BITS | offset)
    }

    /// The position that a client names; `None` if it is negative.
    pub fn from_wire(value: i64) -> Option<Self> {
        u64::try_from(value).ok().map(Self)
    }

    /// As clients see it.
    pub const fn to_wire(self) -> i64 {
        self.0.cast_signed()
    }

    /// The shard whose log it lies in.
    pub const fn shard(self) -> ShardId {
        ShardId((self.0 >> OFFSET_BITS) as u8)
    }

    /// The byte offset in that shard's log.
    pub const fn offset(self) -> u64 {
        self.0 & OFFSET_MASK
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shard(), self.offset())
    }
}

/// The index of a message within its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct QueueOffset(pub u64);

impl fmt::Display for QueueOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A term of writing: it grows with every opening of the store, so that what an earlier run left behind a cut is never
/// taken for what the later run wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u32);

/// A queue of this shard, as long as the shard is open. Cheaper to look up than its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub(crate) u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_keeps_shard_and_offset_apart() {
        let p = Position::new(ShardId::new(127).unwrap(), OFFSET_MASK);
        assert_eq!((p.shard().get(), p.offset()), (127, OFFSET_MASK));
        assert_eq!(Position::from_wire(p.to_wire()), Some(p));
        assert_eq!(p.to_wire(), i64::MAX);
        assert_eq!(Position::from_wire(-1), None);
        assert_eq!(ShardId::new(128), None);
    }
}
