//! Which queue offsets the broker gave out, one bit each, so that an offset given twice or never is found. Each load
//! thread keeps its own; they are merged after the run. It does not look at what the broker stored.

/// A queue of one of the brokers under load: (broker's place in the plan, queue id).
pub(crate) type QueueKey = (u16, u32);

#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// By broker, then by queue id; both are small numbers of the plan.
    brokers: Vec<Vec<OffsetSet>>,
    duplicates: u64,
}

#[derive(Debug, Default)]
struct OffsetSet {
    /// Offset of bit 0, a multiple of 64.
    base: u64,
    words: Vec<u64>,
    count: u64,
}

/// Offsets further than this from the first one seen cannot come from one run; they are counted as strays instead of
/// being given memory (one bit each).
const SPAN_MAX: u64 = 1 << 32;

impl OffsetSet {
    /// False when the offset was there already, or is out of all proportion.
    fn insert(&mut self, offset: u64) -> bool {
        if self.words.is_empty() {
            self.base = offset & !63;
        }
        if offset < self.base {
            let missing = (self.base - (offset & !63)) / 64;
            if missing > SPAN_MAX / 64 {
                return false;
            }
            self.words.splice(0..0, std::iter::repeat_n(0, missing as usize));
            self.base = offset & !63;
        }
        let place = offset - self.base;
        if place >= SPAN_MAX {
            return false;
        }
        let word = (place / 64) as usize;
        if word >= self.words.len() {
            self.words.resize((word + 1).max(self.words.len() * 2), 0);
        }
        let bit = 1 << (place % 64);
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(fresh);
        fresh
    }

    fn holds(&self, offset: u64) -> bool {
        let Some(place) = offset.checked_sub(self.base) else { return false };
        self.words.get((place / 64) as usize).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// How many there are from `from` to before `to`.
    fn count_between(&self, from: u64, to: u64) -> u64 {
        let end = self.base + self.words.len() as u64 * 64;
        let (from, to) = (from.clamp(self.base, end) - self.base, to.clamp(self.base, end) - self.base);
        let below = |place: u64| {
            let (whole, rest) = ((place / 64) as usize, place % 64);
            let part = self.words.get(whole).map_or(0, |word| (word & ((1 << rest) - 1)).count_ones());
            (whole, u64::from(part))
        };
        let ((first, before), (last, within)) = (below(from), below(to));
        let whole: u64 =
            self.words.get(first..last).unwrap_or_default().iter().map(|w| u64::from(w.count_ones())).sum();
        (whole + within).saturating_sub(before)
    }

    fn first(&self) -> Option<u64> {
        let word = self.words.iter().position(|w| *w != 0)?;
        Some(self.base + word as u64 * 64 + u64::from(self.words[word].trailing_zeros()))
    }

    fn last(&self) -> Option<u64> {
        let word = self.words.iter().rposition(|w| *w != 0)?;
        Some(self.base + word as u64 * 64 + 63 - u64::from(self.words[word].leading_zeros()))
    }

    fn offsets(&self) -> impl Iterator<Item = u64> {
        self.words.iter().enumerate().flat_map(|(i, word)| {
            let base = self.base + i as u64 * 64;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| base + bit)
        })
    }
}

/// What the offsets of one queue say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFindings {
    pub(crate) key: QueueKey,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) count: u64,
}

impl QueueFindings {
    /// Offsets between the first and the last that nobody was given.
    pub(crate) fn gaps(&self) -> u64 {
        self.last - self.first + 1 - self.count
    }
}

/// How the numbers of two audits lie to each other.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) common: u64,
    pub(crate) only_here: u64,
}

/// What a load was told of its messages.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By offset, or where that is not known yet by the message's number: what is to be there for consumers.
    pub(crate) kept: Audit,
    /// By number: what was rolled back.
    pub(crate) withdrawn: Audit,
}

impl Ledger {
    pub(crate) fn merge(&mut self, other: &Ledger) {
        self.kept.merge(&other.kept);
        self.withdrawn.merge(&other.withdrawn);
    }
}

impl Audit {
    pub(crate) fn record(&mut self, key: QueueKey, offset: u64) {
        if !self.queue(key).insert(offset) {
            self.duplicates += 1;
        }
    }

    fn queue(&mut self, (broker, queue): QueueKey) -> &mut OffsetSet {
        let (broker, queue) = (usize::from(broker), queue as usize);
        if self.brokers.len() <= broker {
            self.brokers.resize_with(broker + 1, Vec::new);
        }
        let queues = &mut self.brokers[broker];
        if queues.len() <= queue {
            queues.resize_with(queue + 1, OffsetSet::default);
        }
        &mut queues[queue]
    }

    fn queues(&self) -> impl Iterator<Item = (QueueKey, &OffsetSet)> {
        self.brokers.iter().enumerate().flat_map(|(broker, queues)| {
            queues.iter().enumerate().map(move |(queue, set)| ((broker as u16, queue as u32), set))
        })
    }

    pub(crate) fn merge(&mut self, other: &Audit) {
        self.duplicates += other.duplicates;
        for (key, theirs) in other.queues() {
            let ours = self.queue(key);
            let twice = theirs.offsets().map(|offset| u64::from(!ours.insert(offset))).sum::<u64>();
            self.duplicates += twice;
        }
    }

    /// Numbers of this that the other has not, or has as well.
    pub(crate) fn compare(&self, other: &Audit) -> Compared {
        let mut compared = Compared::default();
        let none = OffsetSet::default();
        for ((broker, queue), ours) in self.queues() {
            let theirs = other.set((broker, queue)).unwrap_or(&none);
            let common = ours.offsets().filter(|number| theirs.holds(*number)).count() as u64;
            compared.common += common;
            compared.only_here += ours.count - common;
        }
        compared
    }

    pub(crate) fn holds(&self, key: QueueKey, offset: u64) -> bool {
        self.set(key).is_some_and(|set| set.holds(offset))
    }

    /// How many of a queue's there are from `from` to before `to`.
    pub(crate) fn count_between(&self, key: QueueKey, from: u64, to: u64) -> u64 {
        self.set(key).map_or(0, |set| set.count_between(from, to))
    }

    fn set(&self, (broker, queue): QueueKey) -> Option<&OffsetSet> {
        self.brokers.get(usize::from(broker))?.get(queue as usize)
    }

    /// Numbers that were recorded, each once.
    pub(crate) fn count(&self) -> u64 {
        self.queues().map(|(_, set)| set.count).sum()
    }

    /// Offsets that were given out more than once.
    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    pub(crate) fn findings(&self) -> Vec<QueueFindings> {
        let of_queue = |(key, set): (QueueKey, &OffsetSet)| {
            let (first, last) = (set.first()?, set.last()?);
            Some(QueueFindings { key, first, last, count: set.count })
        };
        self.queues().filter_map(of_queue).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(offsets: &[u64]) -> Audit {
        let mut audit = Audit::default();
        offsets.iter().for_each(|o| audit.record((0, 0), *o));
        audit
    }

    #[test]
    fn dense_offsets_in_any_order_are_clean() {
        let audit = audit(&[1000, 1002, 999, 1001, 130, 1003].map(|o| o + 5)[..4]);
        assert_eq!(audit.duplicates(), 0);
        assert_eq!(audit.findings(), [QueueFindings { key: (0, 0), first: 1004, last: 1007, count: 4 }]);
        assert_eq!(audit.findings()[0].gaps(), 0);
    }

    #[test]
    fn a_gap_and_a_duplicate_are_found() {
        let audit = audit(&[70, 3, 71, 70]);
        assert_eq!(audit.duplicates(), 1);
        assert_eq!(audit.findings()[0].gaps(), 71 - 3 + 1 - 3);
    }

    #[test]
    fn what_two_threads_were_given_twice_is_found_when_merged() {
        let mut one = audit(&[0, 2, 4]);
        one.merge(&audit(&[1, 3, 4]));
        assert_eq!(one.duplicates(), 1);
        assert_eq!(one.findings()[0].gaps(), 0);
    }

    #[test]
    fn what_one_has_and_the_other_has_not_is_counted() {
        let mut one = audit(&[100, 101, 300]);
        one.record((1, 2), 7);
        let mut two = audit(&[99, 101, 5_000]);
        two.record((1, 0), 7);
        assert_eq!(one.compare(&two), Compared { common: 1, only_here: 3 });
        assert_eq!(two.compare(&one), Compared { common: 1, only_here: 3 });
        assert_eq!((one.count(), one.compare(&Audit::default()).only_here), (4, 4));
    }

    #[test]
    fn a_stretch_is_counted() {
        let audit = audit(&[64, 70, 127, 128, 300]);
        let count = |from, to| audit.count_between((0, 0), from, to);
        assert_eq!(count(0, 1_000), 5);
        assert_eq!((count(64, 128), count(65, 128), count(64, 129), count(71, 127)), (3, 2, 4, 0));
        assert_eq!((count(129, 300), count(129, 301), count(0, 64), count(400, 500)), (0, 1, 0, 0));
        assert_eq!(audit.count_between((3, 9), 0, 9), 0);
    }

    #[test]
    fn an_absurd_offset_takes_no_memory() {
        let audit = audit(&[5, u64::MAX]);
        assert_eq!(audit.duplicates(), 1);
        assert_eq!(audit.findings()[0].count, 1);
    }
}
