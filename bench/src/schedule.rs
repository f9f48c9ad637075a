//! When the messages of an open loop are due: at constant distances, whatever the broker does. The latency of a
//! message counts from the time it was due, so a stall of the broker is paid by every message that it delayed.

/// The share of one load thread. Times are nanoseconds since the start of the run.
#[derive(Debug)]
pub(crate) struct Schedule {
    first_ns: f64,
    gap_ns: f64,
    sent: u64,
}

impl Schedule {
    /// `rate` messages a second over `lanes` threads, this being thread `lane`; the threads take turns.
    pub(crate) fn constant(rate: f64, lane: usize, lanes: usize) -> Schedule {
        let all_gap_ns = 1e9 / rate;
        Schedule { first_ns: all_gap_ns * lane as f64, gap_ns: all_gap_ns * lanes as f64, sent: 0 }
    }

    /// When the next message is due.
    pub(crate) fn next_ns(&self) -> u64 {
        (self.first_ns + self.gap_ns * self.sent as f64) as u64
    }

    pub(crate) fn advance(&mut self) {
        self.sent += 1;
    }

    /// Messages that are due before `end_ns` and were not sent.
    pub(crate) fn left_before(&self, end_ns: u64) -> u64 {
        let due = ((end_ns as f64 - self.first_ns) / self.gap_ns).ceil().max(0.0) as u64;
        due.saturating_sub(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_a_rate_without_drift() {
        let mut due: Vec<u64> = (0..3)
            .flat_map(|lane| {
                let mut schedule = Schedule::constant(3_000.0, lane, 3);
                (0..1000).map(move |_| {
                    let at = schedule.next_ns();
                    schedule.advance();
                    at
                })
            })
            .collect();
        let mut one = Schedule::constant(3_000.0, 1, 3);
        assert_eq!(one.left_before(1_000_000_000), 1000);
        one.advance();
        assert_eq!((one.left_before(1_000_000_000), one.left_before(0)), (999, 0));
        due.sort_unstable();
        assert_eq!(due.len(), 3000);
        assert!(due.iter().enumerate().all(|(i, at)| at.abs_diff(i as u64 * 1_000_000_000 / 3000) <= 1));
    }
}
