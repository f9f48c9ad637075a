//! What is measured, in which order and for how long.
//!
//! Rounds go through every cell in turn, so that a machine that drifts hits all of them alike.

use std::time::Duration;

use ringmq_rt::CommitMethod;

use super::figures::Cores;

const KIB: u32 = 1024;

/// Batches: one small message; what gathers at tens of thousands of messages a second; the largest that are usual.
const COMMIT_BYTES: [u32; 4] = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB];
/// Writes of the log under ASYNC_FLUSH.
const WRITE_BYTES: [u32; 3] = [64 * KIB, 256 * KIB, 1024 * KIB];
/// Reads of consumers that catch up.
const READ_BYTES: u32 = 128 * KIB;
const DEPTHS: [u32; 5] = [1, 2, 4, 8, 16];

/// Shares of the time.
const COMMIT_SHARE: f64 = 0.62;
const WRITE_SHARE: f64 = 0.26;
const READ_SHARE: f64 = 0.12;

/// A round takes about so long, unless the whole is shorter.
const ROUND: Duration = Duration::from_secs(10);

/// One cell, for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Phase {
    pub(super) cell: Cell,
    pub(super) time: Duration,
}

/// What is measured in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// Batches made durable, one in flight on each core of the broker.
    Commit { method: CommitMethod, bytes: u32, cores: Cores },
    /// Writes in order on one core.
    Write { bytes: u32, depth: u32 },
    /// Reads in order on one core.
    Read { bytes: u32, depth: u32 },
}

/// The phases of a measurement that takes about `total`, preparation aside.
pub(super) fn phases(total: Duration) -> Vec<Phase> {
    let rounds = (total.as_secs() / ROUND.as_secs()).clamp(1, 6) as u32;
    let each = |share: f64, cells: usize| total.mul_f64(share / cells as f64) / rounds;
    let commits = COMMIT_BYTES.into_iter().flat_map(|bytes| {
        [Cores::Idle, Cores::Busy].into_iter().flat_map(move |cores| {
            CommitMethod::ALL.into_iter().map(move |method| Cell::Commit { method, bytes, cores })
        })
    });
    let writes =
        WRITE_BYTES.into_iter().flat_map(|bytes| DEPTHS.into_iter().map(move |depth| Cell::Write { bytes, depth }));
    let reads = DEPTHS.into_iter().map(|depth| Cell::Read { bytes: READ_BYTES, depth });
    let mut round = Vec::new();
    for (share, cells) in
        [(COMMIT_SHARE, commits.collect::<Vec<_>>()), (WRITE_SHARE, writes.collect()), (READ_SHARE, reads.collect())]
    {
        let time = each(share, cells.len());
        round.extend(cells.into_iter().map(|cell| Phase { cell, time }));
    }
    (0..rounds).flat_map(|_| round.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_takes_its_time_and_meets_every_cell_in_every_round() {
        for seconds in [1, 40, 3600] {
            let total = Duration::from_secs(seconds);
            let phases = phases(total);
            let sum: Duration = phases.iter().map(|phase| phase.time).sum();
            assert!(sum.abs_diff(total) < Duration::from_millis(1), "{sum:?} of {total:?}");
            let first: Vec<Cell> = phases.iter().take(44).map(|phase| phase.cell).collect();
            for round in phases.chunks(44) {
                assert!(round.iter().map(|phase| phase.cell).eq(first.iter().copied()));
            }
            let mut seen = Vec::new();
            for cell in first {
                assert!(!seen.contains(&cell), "{cell:?} twice in a round");
                seen.push(cell);
            }
        }
        assert_eq!(phases(Duration::from_secs(40)).len(), 4 * 44);
    }
}
