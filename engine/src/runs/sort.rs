//! Sorting entries, and taking them together from several sorted sources. Most keys are hashes and so spread evenly: an
//! entry's place is known, but for a few, from its key alone, and counting sorts faster than comparing. Other keys are
//! recognised while they are counted.

use crate::log::to_usize;

use super::format::Entry;

/// Fewer entries than this are compared.
const FEW: usize = 64;

/// Pairs of entries that share a place, for each entry, beyond which they are compared. Hashes have about one.
const CROWD: u64 = 3;

/// What sorting needs of memory, kept for the next time.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    /// For each place first how many entries belong there, then where the next of them goes.
    places: Vec<u32>,
    placed: Vec<Entry>,
}

impl Sorter {
    pub(crate) fn sort(&mut self, entries: &mut [Entry]) {
        if entries.len() < FEW || !self.sort_spread(entries) {
            entries.sort_unstable_by_key(Entry::whole);
        }
    }

    /// Sorts keys that are spread evenly; false when they are not, and the entries are as they were.
    fn sort_spread(&mut self, entries: &mut [Entry]) -> bool {
        let ends = |(least, most): (u64, u64), entry: &Entry| (least.min(entry.key), most.max(entry.key));
        let (least, most) = entries.iter().fold((u64::MAX, 0), ends);
        let bits = entries.len().ilog2();
        let unused = (u64::BITS - (most - least).leading_zeros()).saturating_sub(bits);
        let place = |entry: &Entry| to_usize((entry.key - least) >> unused);
        self.places.clear();
        self.places.resize(1 << bits, 0);
        for entry in &*entries {
            self.places[place(entry)] += 1;
        }
        let (mut start, mut pairs) = (0, 0);
        for count in &mut self.places {
            let here = std::mem::replace(count, start);
            start += here;
            pairs += u64::from(here) * u64::from(here);
        }
        if pairs > (CROWD + 1) * entries.len() as u64 {
            return false;
        }
        self.placed.resize(entries.len(), Entry { key: 0, value: 0 });
        for entry in &*entries {
            let next = &mut self.places[place(entry)];
            self.placed[*next as usize] = *entry;
            *next += 1;
        }
        // Now nothing is further from its place than its neighbours there.
        for (at, entry) in self.placed.iter().enumerate() {
            let mut to = at;
            while to > 0 && entries[to - 1].whole() > entry.whole() {
                entries[to] = entries[to - 1];
                to -= 1;
            }
            entries[to] = *entry;
        }
        true
    }
}

/// Moves the lowest entries of sorted windows to `out`, unsorted: all up to the end of the window that ends first. What
/// is behind each window has no lower ones, so once `out` is sorted they come next; nothing when all windows are empty.
///
/// Sorting what lies below a common bound costs half as much as a heap of the sources.
pub(crate) fn take_lowest(windows: &mut [&[Entry]], out: &mut Vec<Entry>) {
    let Some(bound) = windows.iter().filter_map(|window| window.last()).min().copied() else { return };
    for window in windows {
        let (taken, left) = window.split_at(window.partition_point(|entry| *entry <= bound));
        out.extend_from_slice(taken);
        *window = left;
    }
}

#[cfg(test)]
mod tests {
    use ringmq_rt::sim::Sim;
    use twox_hash::XxHash64;

    use super::*;

    fn hash(n: u64) -> u64 {
        XxHash64::oneshot(0, &n.to_be_bytes())
    }

    #[test]
    fn entries_end_in_order_whatever_their_keys_are() {
        type KeyOf = fn(u64) -> u64;
        let mut sorter = Sorter::default();
        let kinds: [(&str, KeyOf); 7] = [
            ("hashes", hash),
            ("few hashes", |n| hash(n % 7)),
            ("one key", |_| 9),
            ("times", |n| 1_700_000_000_000 + hash(n) % 3000),
            ("rising", |n| n),
            ("both ends", |n| if n % 2 == 0 { u64::MAX } else { 0 }),
            ("a crowd and a stranger", |n| if n == 5 { u64::MAX } else { hash(n) >> 40 }),
        ];
        for (name, key) in kinds {
            for len in [0, 1, 2, 63, 64, 65, 255, 2048, 5000] {
                let mut entries: Vec<_> = (0..len).map(|n| Entry { key: key(n), value: hash(n + 1) % 1000 }).collect();
                let mut expected = entries.clone();
                expected.sort();
                sorter.sort(&mut entries);
                assert_eq!(entries, expected, "{len} of {name}");
            }
        }
    }

    #[test]
    fn sorted_sources_of_any_lengths_and_keys_come_out_in_order() {
        let mut rng = Sim::new(7).fork_rng();
        for round in 0..200 {
            let mut model = Vec::new();
            let mut sources = Vec::new();
            for _ in 0..rng.below(9) {
                // Some sources lie close together, some anywhere, some have what others have.
                let (from, width) = (rng.below(1000), 1 + rng.below(if round % 2 == 0 { 5 } else { 100_000 }));
                let mut source: Vec<Entry> =
                    (0..rng.below(700)).map(|_| Entry { key: from + rng.below(width), value: rng.below(50) }).collect();
                source.sort_unstable();
                model.extend_from_slice(&source);
                sources.push(source);
            }
            model.sort_unstable();
            let mut rest: Vec<&[Entry]> = sources.iter().map(Vec::as_slice).collect();
            let (mut all, mut lowest) = (Vec::new(), Vec::new());
            loop {
                let mut windows: Vec<_> = rest.iter().map(|source| &source[..source.len().min(50)]).collect();
                take_lowest(&mut windows, &mut lowest);
                if lowest.is_empty() {
                    break;
                }
                for (source, left) in rest.iter_mut().zip(windows) {
                    *source = &source[source.len().min(50) - left.len()..];
                }
                lowest.sort_unstable();
                all.append(&mut lowest);
            }
            assert_eq!(all, model, "round {round}");
        }
    }

    #[test]
    fn hashes_are_counted_and_a_crowd_is_compared() {
        let mut hashes: Vec<_> = (0..3000).map(|n| Entry { key: hash(n), value: n }).collect();
        assert!(Sorter::default().sort_spread(&mut hashes) && hashes.is_sorted());
        let crowd: Vec<_> = (0..3000).map(|n| Entry { key: n % 7, value: n }).collect();
        let mut same = crowd.clone();
        assert!(!Sorter::default().sort_spread(&mut same));
        assert_eq!(same, crowd);
    }
}
