//! Which runs there are, in the order of the log, and which of them are to be merged next. Pure.

use std::ops::Range;

use crate::limits::{RUN_FAN_IN, RUNS_MAX};

use super::format::Head;

/// Which of the runs that were found at a start stay. The rest is removed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Places in what was found.
    pub(crate) keep: Vec<usize>,
    /// What is missing, if something is: the log from here on has to be read again.
    pub(crate) gap: Option<u64>,
}

/// Looks through the runs of a store whose log begins at `start`. Those that lie in front of it, and those that a later
/// merge holds too, are left out. What remains must follow one another without a gap; at the first gap the rest is
/// left out, because everything behind it is read again from the log.
pub(crate) fn choose(found: &[Head], start: u64) -> Kept {
    let mut order: Vec<usize> = (0..found.len()).filter(|&at| !is_gone(&found[at], start)).collect();
    let held = |at: usize| {
        let own = found[at].numbers;
        found.iter().any(|other| other.numbers != own && other.numbers.contains(own))
    };
    order.retain(|&at| !held(at));
    order.sort_by_key(|&at| found[at].numbers.first);
    let mut kept = Kept { keep: Vec::new(), gap: None };
    let mut last: Option<&Head> = None;
    for at in order {
        let head = &found[at];
        let follows = match last {
            // What is missing in front of it would lead nowhere.
            None => head.covers.0 <= start && head.before <= start,
            Some(last) => head.numbers.first == last.numbers.last + 1 && head.covers.0 == last.covers.1,
        };
        if !follows {
            kept.gap = Some(last.map_or(start, |last| last.covers.1));
            break;
        }
        kept.keep.push(at);
        last = Some(head);
    }
    kept
}

/// Whether all that a run leads to lies in front of `start`.
pub(crate) fn is_gone(head: &Head, start: u64) -> bool {
    head.covers.1 <= start && (head.entries == 0 || head.values.1 < start)
}

/// Neighbours that are worth merging: as many as one merge takes, with as few entries as possible, and not one large
/// run rewritten for the sake of a few small ones. Only where there are more runs than there may be anything goes.
/// `barred` runs take part in no merge.
pub(crate) fn next_merge(runs: &[Head], barred: impl Fn(usize) -> bool) -> Option<Range<usize>> {
    let pressed = runs.len() >= RUNS_MAX;
    let mut best: Option<(u64, Range<usize>)> = None;
    for len in if pressed { 2..=RUN_FAN_IN } else { RUN_FAN_IN..=RUN_FAN_IN } {
        for start in 0..(runs.len() + 1).saturating_sub(len) {
            let window = start..start + len;
            if window.clone().any(&barred) {
                continue;
            }
            // An empty run weighs something too: its file.
            let sizes = || runs[window.clone()].iter().map(|run| u64::from(run.blocks) + 1);
            let (total, largest) = (sizes().sum::<u64>(), sizes().max().unwrap_or(0));
            if !pressed && total < largest * 2 {
                continue;
            }
            // Under pressure the cheapest way to have fewer runs.
            let cost = if pressed { total / (len as u64 - 1) } else { total };
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, window));
            }
        }
    }
    best.map(|(_, window)| window)
}

#[cfg(test)]
mod tests {
    use super::super::format::{BLOCK_ENTRIES, Entry, Numbers, Owner};
    use super::*;

    fn run(first: u32, last: u32, covers: (u64, u64), blocks: u32) -> Head {
        let none = Entry { key: 0, value: 0 };
        Head {
            owner: Owner { store: 1, shard: 0, kind: 0 },
            numbers: Numbers { first, last },
            covers,
            before: covers.0,
            entries: u64::from(blocks) * BLOCK_ENTRIES as u64,
            blocks,
            stride: 1,
            first: none,
            last: none,
            values: (covers.0, covers.1.saturating_sub(1)),
        }
    }

    fn kept(found: &[Head], start: u64) -> (Vec<u32>, Option<u64>) {
        let kept = choose(found, start);
        (kept.keep.iter().map(|&at| found[at].numbers.first).collect(), kept.gap)
    }

    #[test]
    fn runs_that_follow_one_another_stay() {
        let runs = [run(3, 3, (200, 300), 1), run(1, 1, (0, 100), 1), run(2, 2, (100, 200), 1)];
        assert_eq!(kept(&runs, 0), (vec![1, 2, 3], None));
        assert_eq!(kept(&runs, 150), (vec![2, 3], None), "the first lies in front of the log");
        assert_eq!(kept(&runs, 300), (vec![], None));
        assert_eq!(kept(&[], 7), (vec![], None));
    }

    #[test]
    fn what_a_merge_took_over_goes() {
        let runs = [run(1, 1, (0, 100), 1), run(2, 2, (100, 200), 1), run(1, 2, (0, 200), 2), run(3, 3, (200, 300), 1)];
        assert_eq!(kept(&runs, 0), (vec![1, 3], None));
    }

    #[test]
    fn behind_a_gap_everything_is_built_again() {
        let runs = [run(1, 1, (0, 100), 1), run(3, 3, (200, 300), 1), run(4, 4, (300, 400), 1)];
        assert_eq!(kept(&runs, 0), (vec![1], Some(100)));
        assert_eq!(kept(&runs[1..], 0), (vec![], Some(0)), "the beginning is missing");
        let shared = Head { before: 50, ..run(2, 2, (0, 100), 1) };
        assert_eq!(kept(&[shared], 0), (vec![], Some(0)), "an earlier run had records of the same batch");
        let jump = [run(1, 1, (0, 100), 1), run(2, 2, (150, 300), 1)];
        assert_eq!(kept(&jump, 0), (vec![1], Some(100)));
    }

    /// Runs of these sizes one behind the other.
    fn runs(sizes: &[u32]) -> Vec<Head> {
        (0..).zip(sizes).map(|(n, &blocks)| run(n, n, (u64::from(n), u64::from(n) + 1), blocks)).collect()
    }

    #[test]
    fn small_neighbours_are_merged_and_large_ones_left_alone() {
        assert_eq!(next_merge(&runs(&[1; RUN_FAN_IN - 1]), |_| false), None);
        let mut sizes = vec![1000];
        sizes.extend([1; RUN_FAN_IN - 1]);
        assert_eq!(next_merge(&runs(&sizes), |_| false), None, "the large one would be rewritten for little");
        sizes.push(1);
        assert_eq!(next_merge(&runs(&sizes), |_| false), Some(1..1 + RUN_FAN_IN));
        assert_eq!(next_merge(&runs(&sizes), |at| at == 3), None, "a damaged run takes part in none");
    }

    #[test]
    fn the_number_of_runs_stays_bounded_and_few_are_written_often() {
        type BlocksOf = fn(u32) -> u32;
        // Full tables only, any sizes, and those of a shard that is busy now and then; how often each may be written again.
        let kinds: [(&str, BlocksOf, u64); 3] = [
            ("full", |_| 500, 10),
            ("any", |n| 1 + n.wrapping_mul(2_654_435_769) % 500, 9),
            ("now and then", |n| if n % 97 == 0 { 500 } else { 1 + n % 3 }, 6),
        ];
        for (name, blocks_of, times) in kinds {
            let mut all: Vec<Head> = Vec::new();
            let (mut written, mut merged, mut most) = (0, 0, 0);
            for n in 0..20_000_u32 {
                let blocks = blocks_of(n);
                written += u64::from(blocks);
                all.push(run(n, n, (u64::from(n), u64::from(n) + 1), blocks));
                while let Some(window) = next_merge(&all, |_| false) {
                    let blocks = all[window.clone()].iter().map(|run| run.blocks).sum();
                    let (first, last) = (all[window.start].numbers.first, all[window.end - 1].numbers.last);
                    merged += u64::from(blocks);
                    all.splice(window, [run(first, last, (u64::from(first), u64::from(last) + 1), blocks)]);
                }
                most = most.max(all.len());
            }
            assert!(most <= RUNS_MAX, "{name}: {most} runs");
            assert!(merged < written * times, "{name}: {merged} blocks merged of {written} written");
        }
    }

    #[test]
    fn under_pressure_neighbours_are_merged_whatever_their_size() {
        // Each as large as all behind it together: no merge is worth it, but there are too many.
        let sizes: Vec<u32> = (0..RUNS_MAX).map(|n| 1 << (RUNS_MAX - 1 - n).min(30)).collect();
        let window = next_merge(&runs(&sizes), |_| false).unwrap();
        assert_eq!(window.end, RUNS_MAX, "the smallest first");
    }
}
