//! Which of what was measured is the best, as rules over the figures alone.
//!
//! **Commit method.** Only figures with every core busy count, since that is when a sender waits. A method's score is the
//! geometric mean of its 99th percentiles over the batch sizes, so that a batch of 4 KiB counts as much as one of
//! 256 KiB. Methods within 10% of the lowest score are level; the one of them that costs least CPU a commit on idle
//! cores wins. What remains level goes in the order of [`CommitMethod::ALL`]. A method that was not measured at every
//! size does not count.
//!
//! **Depths.** The least in flight with which the disk moves at least 95% of the most that was seen.

use std::collections::BTreeSet;

use ringmq_rt::CommitMethod;

use super::figures::{CommitFigure, Cores, StreamFigure};

/// Scores this close to the best are level: two runs on one machine differ by more.
const LEVEL: f64 = 1.10;
/// Share of the highest throughput that is as good as it.
const ENOUGH: f64 = 0.95;

/// The method that makes a batch durable soonest while every core is busy; `None` without complete figures.
pub(crate) fn commit_method(figures: &[CommitFigure]) -> Option<CommitMethod> {
    let sizes: BTreeSet<u32> = figures.iter().map(|figure| figure.bytes).collect();
    let mean = |method, cores, value: fn(&CommitFigure) -> Option<f64>| {
        let of_size = |&bytes: &u32| {
            let mut cells = figures.iter();
            let cell = cells.find(|f| f.method == method && f.cores == cores && f.bytes == bytes)?;
            // A logarithm of zero would win for ever.
            value(cell).filter(|value| value.is_finite() && *value > 0.0).map(f64::ln)
        };
        let logarithms: Option<Vec<f64>> = sizes.iter().map(of_size).collect();
        let logarithms = logarithms.filter(|all| !all.is_empty())?;
        Some((logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
    };
    let score = |method| mean(method, Cores::Busy, |figure| Some(figure.latency.p99_us));
    let scores: Vec<(CommitMethod, f64)> =
        CommitMethod::ALL.into_iter().filter_map(|method| Some((method, score(method)?))).collect();
    let best = scores.iter().map(|(_, score)| *score).reduce(f64::min)?;
    let level = scores.into_iter().filter(|(_, score)| *score <= best * LEVEL);
    let cost = |method| mean(method, Cores::Idle, |figure| figure.cpu_us).unwrap_or(f64::INFINITY);
    // The first of equals is kept.
    level.map(|(method, _)| (method, cost(method))).reduce(|a, b| if b.1 < a.1 { b } else { a }).map(|(m, _)| m)
}

/// Of the figures, the one with the least in flight that is fast enough; of equals the one with larger pieces.
pub(crate) fn stream(figures: &[StreamFigure]) -> Option<&StreamFigure> {
    let most = figures.iter().map(|figure| figure.mb_per_second).reduce(f64::max)?;
    let enough = figures.iter().filter(|figure| figure.mb_per_second >= most * ENOUGH);
    enough.min_by_key(|figure| (u64::from(figure.bytes) * u64::from(figure.depth), figure.depth))
}

#[cfg(test)]
mod tests {
    use super::super::figures::Latency;
    use super::*;

    const KIB: u32 = 1024;

    fn cell(method: CommitMethod, bytes: u32, cores: Cores, p99_us: f64, cpu_us: Option<f64>) -> CommitFigure {
        let latency =
            Latency { count: 1000, p50_us: p99_us / 2.0, p90_us: p99_us, p99_us, p999_us: p99_us, max_us: p99_us };
        CommitFigure { method, bytes, cores, latency, cpu_us }
    }

    /// Per size: busy p99 and idle CPU of each method.
    type Row = (u32, [(f64, f64); 3]);

    fn figures(methods: [CommitMethod; 3], rows: &[Row]) -> Vec<CommitFigure> {
        let mut all = Vec::new();
        for (bytes, values) in rows {
            for (method, (p99, cpu)) in methods.into_iter().zip(values) {
                all.push(cell(method, *bytes, Cores::Busy, *p99, None));
                all.push(cell(method, *bytes, Cores::Idle, 100.0, Some(*cpu)));
            }
        }
        all
    }

    const METHODS: [CommitMethod; 3] = [CommitMethod::RingDsync, CommitMethod::RingWriteThenSync, CommitMethod::Thread];

    /// Measured on a virtio disk with a write-back cache and without FUA, one core saturated: 20,000 and 100,000
    /// messages of 1 KiB a second, which made batches of some 8 and 60 KiB.
    #[test]
    fn a_disk_with_a_volatile_cache_and_no_fua_wants_the_thread() {
        let rows = [
            (8 * KIB, [(8100.0, 0.74), (730.0, 0.88), (460.0, 0.72)]),
            (60 * KIB, [(8200.0, 0.74), (5300.0, 0.88), (880.0, 0.72)]),
        ];
        assert_eq!(commit_method(&figures(METHODS, &rows)), Some(CommitMethod::Thread));
    }

    /// Not a recording: the shape to be expected where a durable overwrite needs no flush, so that the completion is
    /// the interrupt's and the thread only adds its two wake-ups.
    #[test]
    fn a_disk_with_fua_wants_the_ring() {
        let rows = [
            (4 * KIB, [(31.0, 4.0), (62.0, 9.0), (55.0, 8.5)]),
            (16 * KIB, [(36.0, 4.2), (70.0, 9.5), (58.0, 8.8)]),
            (64 * KIB, [(61.0, 5.0), (98.0, 11.0), (83.0, 9.6)]),
            (256 * KIB, [(170.0, 9.0), (205.0, 15.0), (190.0, 14.0)]),
        ];
        assert_eq!(commit_method(&figures(METHODS, &rows)), Some(CommitMethod::RingDsync));
    }

    #[test]
    fn level_methods_are_decided_by_cpu_and_then_by_order() {
        let level = [(4 * KIB, [(100.0, 9.0), (108.0, 5.0), (104.0, 7.0)])];
        assert_eq!(commit_method(&figures(METHODS, &level)), Some(CommitMethod::RingWriteThenSync));
        let behind = [(4 * KIB, [(100.0, 9.0), (111.0, 5.0), (112.0, 1.0)])];
        assert_eq!(commit_method(&figures(METHODS, &behind)), Some(CommitMethod::RingDsync));
        let same = [(4 * KIB, [(100.0, 5.0); 3])];
        assert_eq!(commit_method(&figures(METHODS, &same)), Some(CommitMethod::Thread));
        // One size does not decide: each counts by its ratio.
        let mixed = [
            (4 * KIB, [(100.0, 1.0), (200.0, 1.0), (300.0, 1.0)]),
            (256 * KIB, [(4000.0, 1.0), (1000.0, 1.0), (1400.0, 1.0)]),
        ];
        assert_eq!(commit_method(&figures(METHODS, &mixed)), Some(CommitMethod::RingWriteThenSync));
    }

    #[test]
    fn what_was_not_measured_does_not_win() {
        assert_eq!(commit_method(&[]), None);
        let idle = [cell(CommitMethod::Thread, 4 * KIB, Cores::Idle, 1.0, Some(1.0))];
        assert_eq!(commit_method(&idle), None);
        let rows =
            [(4 * KIB, [(10.0, 1.0), (20.0, 1.0), (30.0, 1.0)]), (16 * KIB, [(10.0, 1.0), (20.0, 1.0), (30.0, 1.0)])];
        let mut gap = figures(METHODS, &rows);
        gap.retain(|f| f.method != CommitMethod::RingDsync || f.bytes == 4 * KIB);
        assert_eq!(commit_method(&gap), Some(CommitMethod::RingWriteThenSync));
        let zero: Vec<_> = gap.into_iter().map(|f| cell(f.method, f.bytes, f.cores, 0.0, None)).collect();
        assert_eq!(commit_method(&zero), None);
    }

    #[test]
    fn the_least_in_flight_that_is_fast_enough() {
        let figure = |kib: u32, depth, mb_per_second| StreamFigure {
            bytes: kib * KIB,
            depth,
            mb_per_second,
            latency: Latency::default(),
        };
        let figures = [
            figure(64, 1, 300.0),
            figure(64, 4, 960.0),
            figure(256, 1, 955.0),
            figure(64, 16, 1000.0),
            figure(1024, 1, 990.0),
        ];
        let chosen = stream(&figures).unwrap();
        assert_eq!((chosen.bytes, chosen.depth), (256 * KIB, 1));
        assert_eq!(stream(&[]), None);
    }
}
