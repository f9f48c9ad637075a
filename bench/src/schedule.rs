//! When the requests of an open loop are due, whatever the broker does: at constant distances, or as independent
//! clients would send them (Poisson). The latency of a message counts from the time it was due, so a stall of the
//! broker is paid by every message that it delayed.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// At the same distance from each other.
    #[default]
    Constant,
    /// At random, as many independent senders make them: exponential distances, drawn from the seed.
    Poisson,
}

/// Which part of the load a thread has: this is thread `lane` of `lanes`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) lane: usize,
    pub(crate) lanes: usize,
}

/// The share of one load thread. Times are nanoseconds since the start of the run.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    gaps: Gaps,
    gap_ns: f64,
    first_ns: f64,
    next_ns: f64,
    sent: u64,
}

#[derive(Debug, Clone)]
enum Gaps {
    Constant,
    Poisson(Random),
}

impl Schedule {
    /// `rate` requests a second over all threads; with constant arrivals the threads take turns.
    pub(crate) fn new(arrivals: Arrivals, rate: f64, seed: u64, share: Share) -> Schedule {
        let all_gap_ns = 1e9 / rate;
        let gap_ns = all_gap_ns * share.lanes as f64;
        let mut schedule = Schedule {
            gaps: match arrivals {
                Arrivals::Constant => Gaps::Constant,
                Arrivals::Poisson => Gaps::Poisson(Random::new(seed, share.lane as u64)),
            },
            gap_ns,
            first_ns: all_gap_ns * share.lane as f64,
            next_ns: 0.0,
            sent: 0,
        };
        schedule.next_ns = match &mut schedule.gaps {
            Gaps::Constant => schedule.first_ns,
            Gaps::Poisson(random) => exponential(random, gap_ns),
        };
        schedule
    }

    /// When the next request is due.
    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    pub(crate) fn advance(&mut self) {
        self.sent += 1;
        match &mut self.gaps {
            // From the count, so that rounding does not add up.
            Gaps::Constant => self.next_ns = self.first_ns + self.gap_ns * self.sent as f64,
            Gaps::Poisson(random) => self.next_ns += exponential(random, self.gap_ns),
        }
    }

    /// Requests that are due before `end_ns` and were not sent.
    pub(crate) fn left_before(&self, end_ns: u64) -> u64 {
        match self.gaps {
            Gaps::Constant => {
                let due = ((end_ns as f64 - self.first_ns) / self.gap_ns).ceil().max(0.0) as u64;
                due.saturating_sub(self.sent)
            }
            Gaps::Poisson(_) => {
                let mut rest = self.clone();
                while rest.next_ns() < end_ns {
                    rest.advance();
                }
                rest.sent - self.sent
            }
        }
    }
}

fn exponential(random: &mut Random, mean_ns: f64) -> f64 {
    -random.unit().ln() * mean_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn take(schedule: &mut Schedule, count: usize) -> Vec<u64> {
        let next = |_| {
            let at = schedule.next_ns();
            schedule.advance();
            at
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn threads_share_a_rate_without_drift() {
        let share = |lane| Schedule::new(Arrivals::Constant, 3_000.0, 1, Share { lane, lanes: 3 });
        let mut due: Vec<u64> = (0..3).flat_map(|lane| take(&mut share(lane), 1000)).collect();
        let mut one = share(1);
        assert_eq!(one.left_before(SECOND), 1000);
        one.advance();
        assert_eq!((one.left_before(SECOND), one.left_before(0)), (999, 0));
        due.sort_unstable();
        assert_eq!(due.len(), 3000);
        assert!(due.iter().enumerate().all(|(i, at)| at.abs_diff(i as u64 * SECOND / 3000) <= 1));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_and_repeat_with_the_seed() {
        let new = |seed| Schedule::new(Arrivals::Poisson, 10_000.0, seed, Share { lane: 0, lanes: 2 });
        let due = take(&mut new(5), 20_000);
        let mean = due[due.len() - 1] as f64 / due.len() as f64;
        assert!((mean / 200_000.0 - 1.0).abs() < 0.03, "{mean} ns apart");
        // A share of 1/e of exponential distances is longer than the mean.
        let long = due.windows(2).filter(|pair| pair[1] - pair[0] > 200_000).count() as f64 / due.len() as f64;
        assert!((long - 0.368).abs() < 0.02, "{long}");
        assert_eq!(due, take(&mut new(5), 20_000));
        assert_ne!(due[..10], take(&mut new(6), 10)[..]);
        assert_eq!(new(5).left_before(due[99]), 99);
    }
}
