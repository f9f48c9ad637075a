//! What a shard counts as it goes: plain numbers that belong to the shard's thread, so that counting costs an addition.

/// Sizes that are told apart, see [`Sizes`].
pub const SIZES: usize = 24;

/// A histogram by powers of two: how many operations had 1 message, 2 to 3, 4 to 7, and so on; the last place holds all
/// that were larger. An operation without a message (a seal that only closes a segment) is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes([u64; SIZES]);

impl Sizes {
    fn add(&mut self, messages: u64) {
        if let Some(place) = messages.checked_ilog2() {
            self.0[(place as usize).min(SIZES - 1)] += 1;
        }
    }

    /// The counts: the `i`-th is of operations with `2^i` to `2^(i+1) - 1` messages.
    pub fn counts(&self) -> &[u64; SIZES] {
        &self.0
    }
}

/// One kind of operation on the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub operations: u64,
    /// Bytes of those, seals included.
    pub bytes: u64,
    /// Messages in those. The note of a deleted topic counts as one.
    pub messages: u64,
    /// Operations by their messages.
    pub sizes: Sizes,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: u64, messages: u64) {
        self.operations += 1;
        self.bytes += bytes;
        self.messages += messages;
        self.sizes.add(messages);
    }

    /// Counts an operation that brings this tally to where `ahead` is.
    pub(crate) fn catch_up(&mut self, ahead: &Tally) {
        self.add(ahead.bytes - self.bytes, ahead.messages - self.messages);
    }

    /// Adds what another shard counted.
    pub fn merge(&mut self, other: &Tally) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.messages += other.messages;
        for (own, more) in self.sizes.0.iter_mut().zip(other.sizes.0) {
            *own += more;
        }
    }
}

/// Counts since the shard was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages that were appended.
    pub appends: u64,
    /// Bytes of their records.
    pub append_bytes: u64,
    /// Writes of the log.
    pub writes: Tally,
    /// Operations that made more of the log durable: under SYNC_FLUSH each write, under ASYNC_FLUSH each flush of the device's
    /// cache. Their bytes and messages are those that were newly made durable.
    pub flushes: Tally,
    /// Snapshots of the queues.
    pub snapshots: u64,
    /// Segments that were dropped, and their bytes.
    pub dropped: u64,
    pub dropped_bytes: u64,
    /// Segments that were made, and those of them that were another segment before.
    pub made: u64,
    pub recycled: u64,
}

impl Counters {
    /// Adds what another shard counted.
    pub fn merge(&mut self, other: &Counters) {
        self.appends += other.appends;
        self.append_bytes += other.append_bytes;
        self.writes.merge(&other.writes);
        self.flushes.merge(&other.flushes);
        self.snapshots += other.snapshots;
        self.dropped += other.dropped;
        self.dropped_bytes += other.dropped_bytes;
        self.made += other.made;
        self.recycled += other.recycled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_counted_at_its_power_of_two() {
        let mut tally = Tally::default();
        for messages in [1, 2, 3, 4, 7, 8, u64::MAX >> 32] {
            tally.add(10, messages);
        }
        assert_eq!(tally.sizes.counts()[..5], [1, 2, 2, 1, 0]);
        assert_eq!(tally.sizes.counts()[SIZES - 1], 1, "what is larger than all places is in the last");
        assert_eq!((tally.operations, tally.bytes), (7, 70));
    }

    #[test]
    fn an_empty_operation_has_no_size() {
        let mut tally = Tally::default();
        tally.add(4096, 0);
        assert_eq!((tally.operations, tally.bytes, tally.messages), (1, 4096, 0));
        assert_eq!(tally.sizes, Sizes::default());
    }

    #[test]
    fn a_flush_is_as_large_as_what_was_written_since_the_last() {
        let (mut writes, mut flushes) = (Tally::default(), Tally::default());
        writes.add(100, 5);
        flushes.catch_up(&writes);
        writes.add(50, 2);
        writes.add(50, 2);
        flushes.catch_up(&writes);
        assert_eq!((flushes.operations, flushes.bytes, flushes.messages), (2, 200, 9));
        assert_eq!(flushes.sizes.counts()[..3], [0, 0, 2]);
    }

    #[test]
    fn counts_of_shards_add_up() {
        let mut one = Counters { appends: 1, append_bytes: 100, snapshots: 2, ..Counters::default() };
        one.writes.add(100, 1);
        one.flushes.catch_up(&one.writes.clone());
        let mut all = one;
        all.merge(&one);
        assert_eq!((all.appends, all.append_bytes, all.snapshots), (2, 200, 4));
        for tally in [all.writes, all.flushes] {
            assert_eq!((tally.operations, tally.bytes, tally.messages, tally.sizes.counts()[0]), (2, 200, 2, 2));
        }
    }
}
