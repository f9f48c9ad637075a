//! The halves of transactions that nobody has ended yet, on one log shard. Pure: times come as arguments. Derived from
//! the shard's queues of halves and of marks, and rebuilt from them at a start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ringmq_engine::Position;

/// One half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    pub position: Position,
    /// The offset under which the producer was first told of it: each check moves it to another one.
    pub origin: u64,
    /// Where the queue of marks stood when the half came: what ends it lies behind.
    pub marks_from: u64,
    /// When the producer is asked about it next, in milliseconds since 1970.
    pub check_ms: i64,
    /// When something is to be done about it: then, or before, so that its segment may go.
    pub due_ms: i64,
    /// How often it was asked.
    pub checks: u32,
    pub stay: Stay,
}

/// Whether a half can be moved to the end of its queue, as its checks and its age want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    Moves,
    /// No log takes a copy of it.
    Stays,
    /// The same, and nobody is asked about it any more.
    Unasked,
    /// The same, for as long as a parked half is kept: its segment may go.
    Expendable,
}

/// When producers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// `transactionTimeOut`: age of a half at its first check.
    pub timeout: Duration,
    /// `transactionCheckInterval`: time between its checks.
    pub interval: Duration,
    /// `transactionCheckMax`: checks until it is parked.
    pub checks_max: u32,
}

impl Timing {
    /// When a half is checked that was born and stored then.
    pub fn check_ms(&self, born_ms: i64, stored_ms: i64, checks: u32, immunity: Option<Duration>) -> i64 {
        // A clock of the producer's that is ahead does not put the check off.
        let first = born_ms.min(stored_ms).saturating_add(millis(immunity.unwrap_or(self.timeout)));
        // One that is behind does not bring it forward: a half that is due before it comes has the time between two checks.
        if checks == 0 && first >= stored_ms { first } else { stored_ms.saturating_add(millis(self.interval)) }
    }
}

/// The shortest time after which a half is moved for its segment, whatever `fileReservedTime` says.
const STAYS_MIN: Duration = Duration::from_secs(60);

/// When something is to be done about a half that was stored then: its check, or, if that is far, a move to the end of its queue.
/// Segments are dropped by then, and it keeps none from it.
pub(super) fn due_ms(check_ms: i64, stored_ms: i64, reserved: Duration) -> i64 {
    check_ms.min(stored_ms.saturating_add(millis(reserved.max(STAYS_MIN))))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The halves of a log shard, by their offsets in its queue of halves.
#[derive(Debug, Default)]
pub struct HalfTable {
    halves: BTreeMap<u64, Half>,
    /// Those whose marks are on their way to the disk. Nobody ends or checks them, but until the marks are safe a crash
    /// leaves them open, and a start has to find them.
    leaving: BTreeMap<u64, Half>,
    /// Where each is now, by its origin.
    origins: HashMap<u64, u64>,
    /// By the time of their next check.
    due: BTreeSet<(i64, u64)>,
}

impl HalfTable {
    /// The half is open: it is new, or could not leave.
    pub fn insert(&mut self, offset: u64, half: Half) {
        self.remove(offset);
        self.leaving.remove(&offset);
        self.halves.insert(offset, half);
        self.origins.insert(half.origin, offset);
        self.due.insert((half.due_ms, offset));
    }

    /// Takes out a half of which nothing is left to be found; `None` if it was ended before, or never was.
    pub fn remove(&mut self, offset: u64) -> Option<Half> {
        let half = self.halves.remove(&offset)?;
        self.due.remove(&(half.due_ms, offset));
        if self.origins.get(&half.origin) == Some(&offset) {
            self.origins.remove(&half.origin);
        }
        Some(half)
    }

    /// Where the half is now that was first told of under this offset.
    pub fn current(&self, origin: u64) -> Option<u64> {
        self.origins.get(&origin).copied()
    }

    /// The half that was first told of under this offset is leaving; its offset now.
    pub fn take(&mut self, origin: u64) -> Option<(u64, Half)> {
        let offset = self.current(origin)?;
        self.leave(offset).map(|half| (offset, half))
    }

    /// The half is open no more, once its mark is safe: [`gone`](Self::gone) then forgets it.
    pub fn leave(&mut self, offset: u64) -> Option<Half> {
        let half = self.remove(offset)?;
        self.leaving.insert(offset, half);
        Some(half)
    }

    /// The mark of a half that was leaving is safe.
    pub fn gone(&mut self, offset: u64) {
        self.leaving.remove(&offset);
    }

    pub fn get(&self, offset: u64) -> Option<&Half> {
        self.halves.get(&offset)
    }

    /// When the next check is due.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// The half whose check is due, the longest overdue first.
    pub fn first_due(&self, now_ms: i64) -> Option<(u64, Half)> {
        let (due_ms, offset) = self.due.first()?;
        let half = self.halves.get(offset)?;
        (*due_ms <= now_ms).then_some((*offset, *half))
    }

    /// Puts the check of a half off.
    pub fn postpone(&mut self, offset: u64, due_ms: i64) {
        if let Some(half) = self.remove(offset) {
            self.insert(offset, Half { check_ms: half.check_ms.max(due_ms), due_ms, ..half });
        }
    }

    /// The oldest half that is open or leaving: a start has to read from it, and the marks from where they stood then.
    pub fn oldest(&self) -> Option<(u64, &Half)> {
        let firsts = [self.halves.first_key_value(), self.leaving.first_key_value()];
        firsts.into_iter().flatten().min_by_key(|(offset, _)| **offset).map(|(offset, half)| (*offset, half))
    }

    /// The oldest half whose segment is to stay.
    pub fn oldest_kept(&self) -> Option<&Half> {
        let open = self.halves.values().find(|half| half.stay != Stay::Expendable);
        let firsts = [open, self.leaving.values().next()];
        firsts.into_iter().flatten().min_by_key(|half| half.position)
    }

    /// Open halves.
    pub fn len(&self) -> usize {
        self.halves.len()
    }

    /// Those and the ones that are leaving.
    pub fn held(&self) -> usize {
        self.halves.len() + self.leaving.len()
    }

    pub fn is_empty(&self) -> bool {
        self.halves.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use ringmq_engine::ShardId;

    use super::*;

    fn half(offset: u64, due_ms: i64) -> Half {
        let shard = ShardId::new(0).unwrap();
        Half {
            position: Position::new(shard, offset * 1000),
            origin: offset,
            marks_from: offset / 2,
            check_ms: due_ms,
            due_ms,
            checks: 0,
            stay: Stay::Moves,
        }
    }

    #[test]
    fn checks_come_in_the_order_of_their_times() {
        let mut table = HalfTable::default();
        table.insert(0, half(0, 300));
        table.insert(1, half(1, 100));
        table.insert(2, half(2, 200));
        assert_eq!(table.next_due_ms(), Some(100));
        assert_eq!(table.first_due(99), None);
        assert_eq!(table.first_due(100).unwrap().0, 1);
        table.postpone(1, 400);
        assert_eq!(table.first_due(1000).unwrap().0, 2);
        assert!(table.remove(2).is_some());
        assert!(table.remove(2).is_none());
        assert_eq!(table.first_due(1000).unwrap().0, 0);
    }

    #[test]
    fn a_half_whose_check_is_far_is_moved_before() {
        const DAY_MS: i64 = 24 * 3_600_000;
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        assert_eq!(due_ms(DAY_MS, 5_000, days(3)), DAY_MS);
        assert_eq!(due_ms(i64::MAX, 5_000, days(3)), 5_000 + 3 * DAY_MS);
        assert_eq!(due_ms(i64::MAX, 5_000, Duration::ZERO), 65_000, "a move at once would go on for ever");
        assert_eq!(due_ms(i64::MAX, i64::MAX, days(3)), i64::MAX);
    }

    #[test]
    fn a_half_that_a_check_moved_is_found_by_its_origin() {
        let mut table = HalfTable::default();
        table.insert(3, half(3, 0));
        let moved = Half { origin: 3, checks: 1, ..half(8, 100) };
        table.leave(3);
        table.insert(8, moved);
        assert_eq!(table.current(3), Some(8));
        assert_eq!(table.current(8), None);
        assert_eq!(table.take(8), None);
        assert_eq!(table.take(3), Some((8, moved)));
        assert_eq!(table.current(3), None);
    }

    #[test]
    fn a_start_reads_from_the_oldest_half() {
        let mut table = HalfTable::default();
        for offset in [5, 3, 9] {
            table.insert(offset, half(offset, 0));
        }
        assert_eq!(table.oldest().unwrap().0, 3);
        table.remove(3);
        let (offset, oldest) = table.oldest().unwrap();
        assert_eq!((offset, oldest.marks_from), (5, 2));
    }

    #[test]
    fn a_half_that_is_kept_no_longer_is_still_open() {
        let mut table = HalfTable::default();
        table.insert(3, Half { stay: Stay::Expendable, ..half(3, 0) });
        assert_eq!(table.oldest_kept(), None);
        table.insert(5, Half { stay: Stay::Unasked, ..half(5, 0) });
        assert_eq!(table.oldest_kept().unwrap().origin, 5);
        assert_eq!(table.oldest().unwrap().0, 3, "a start has to find it");
        assert_eq!(table.take(3).unwrap().0, 3);
        assert_eq!(table.oldest_kept().unwrap().origin, 3, "a start has to end it again");
    }

    #[test]
    fn a_start_reads_from_a_half_until_its_mark_is_safe() {
        let mut table = HalfTable::default();
        for offset in [3, 5, 9] {
            table.insert(offset, half(offset, 0));
        }
        assert_eq!(table.take(3).unwrap().0, 3);
        assert_eq!(table.take(5).unwrap().0, 5);
        assert_eq!(table.take(3), None, "it is ended once");
        assert_eq!(table.first_due(1000).unwrap().0, 9, "nobody is asked about a half that is leaving");
        assert_eq!((table.len(), table.held()), (1, 3));
        table.gone(5);
        assert_eq!(table.oldest().unwrap().0, 3, "the end of a later half says nothing of an earlier one's");
        table.gone(3);
        assert_eq!(table.oldest().unwrap().0, 9);
        let could_not = table.leave(9).unwrap();
        table.insert(9, could_not);
        assert_eq!((table.len(), table.held()), (1, 1));
        assert_eq!(table.take(9), Some((9, could_not)));
        table.gone(9);
        assert_eq!(table.oldest(), None);
    }

    #[test]
    fn the_first_check_waits_for_the_half_to_be_old_and_the_next_for_the_interval() {
        let timing = Timing { timeout: Duration::from_secs(6), interval: Duration::from_secs(30), checks_max: 15 };
        assert_eq!(timing.check_ms(1_000, 1_050, 0, None), 7_000);
        assert_eq!(timing.check_ms(1_000, 1_050, 0, Some(Duration::from_secs(60))), 61_000);
        assert_eq!(timing.check_ms(900_000, 1_050, 0, None), 7_050, "born in the future");
        assert_eq!(timing.check_ms(1_000, 900_000, 0, None), 930_000, "due before it came");
        assert_eq!(timing.check_ms(1_000, 50_000, 1, Some(Duration::from_secs(60))), 80_000);
    }
}
