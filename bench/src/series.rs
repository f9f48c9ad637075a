//! How the figures of a run move in time: the measured time cut into intervals of one length, each with a histogram and
//! counts of its own. A latency belongs to the interval in which its request was due, so the intervals together are
//! exactly the run, and a stall is seen where it began; a reply is counted where it arrived. Like `tally` it belongs to
//! one thread while the run goes on.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The shortest interval, nanoseconds.
const INTERVAL_MIN_NS: u64 = 100_000_000;
/// Bounds the memory: a histogram that has seen a latency of one second takes 90 KiB.
const INTERVALS_MAX: u64 = 400;

/// A long run is cut into longer intervals of this many nanoseconds.
const STEPS_NS: [u64; 5] = [INTERVAL_MIN_NS, 250_000_000, 500_000_000, 1_000_000_000, 5_000_000_000];

/// Where the intervals lie, in nanoseconds of the run's clock; the same for all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    from_ns: u64,
    interval_ns: u64,
    count: usize,
}

impl Cut {
    pub(crate) fn new(from_ns: u64, until_ns: u64) -> Cut {
        let all = until_ns.saturating_sub(from_ns);
        let fits = |step: &u64| all.div_ceil(*step) <= INTERVALS_MAX;
        let interval_ns = STEPS_NS.into_iter().find(fits).unwrap_or_else(|| all.div_ceil(INTERVALS_MAX));
        Cut { from_ns, interval_ns, count: all.div_ceil(interval_ns) as usize }
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_ns)
    }

    fn place(&self, at_ns: u64) -> Option<usize> {
        Some((at_ns.checked_sub(self.from_ns)? / self.interval_ns) as usize)
    }
}

/// What happened in one interval.
#[derive(Debug, Clone)]
pub(crate) struct Interval {
    /// Of the requests that were due in it, nanoseconds.
    pub(crate) latency: Histogram<u32>,
    /// Messages that were acknowledged in it.
    pub(crate) messages: u64,
}

#[derive(Debug)]
pub(crate) struct Series {
    cut: Cut,
    intervals: Vec<Interval>,
}

impl Series {
    pub(crate) fn new(cut: Cut) -> anyhow::Result<Series> {
        // Grows with the largest value that it sees.
        let empty = Interval { latency: Histogram::new(3)?, messages: 0 };
        Ok(Series { cut, intervals: vec![empty; cut.count] })
    }

    pub(crate) fn interval(&self) -> Duration {
        self.cut.interval()
    }

    pub(crate) fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    pub(crate) fn latency(&mut self, due_ns: u64, latency_ns: u64) {
        let place = self.cut.place(due_ns).and_then(|place| self.intervals.get_mut(place));
        if let Some(interval) = place {
            // A histogram that grows refuses nothing that a clock can show.
            let _recorded = interval.latency.record(latency_ns);
        }
    }

    pub(crate) fn acknowledged(&mut self, at_ns: u64, messages: u64) {
        if let Some(interval) = self.cut.place(at_ns).and_then(|place| self.intervals.get_mut(place)) {
            interval.messages += messages;
        }
    }

    pub(crate) fn merge(&mut self, other: &Series) -> anyhow::Result<()> {
        anyhow::ensure!(self.cut == other.cut, "the threads of one run cut their time differently");
        for (ours, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            ours.latency.add(&theirs.latency)?;
            ours.messages += theirs.messages;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn intervals_cover_the_time_and_are_bounded() {
        let cut = |seconds: u64| {
            let cut = Cut::new(7, 7 + seconds * SECOND);
            assert!(cut.count as u64 <= INTERVALS_MAX);
            assert!(cut.count as u64 * cut.interval_ns >= seconds * SECOND, "{cut:?}");
            (cut.count, cut.interval())
        };
        assert_eq!(cut(1), (10, Duration::from_millis(100)));
        assert_eq!(cut(60), (240, Duration::from_millis(250)));
        assert_eq!(cut(7 * 86_400), (400, Duration::from_secs(1512)));
        assert_eq!(Cut::new(0, 1).count, 1);
    }

    #[test]
    fn a_latency_belongs_to_the_time_it_was_due_and_a_reply_to_its_arrival() {
        let mut series = Series::new(Cut::new(SECOND, 2 * SECOND)).unwrap();
        series.latency(SECOND, 350_000_000);
        series.acknowledged(SECOND + 350_000_000, 1);
        // Before and after the measured time.
        series.latency(SECOND - 1, 5);
        series.acknowledged(2 * SECOND, 1);
        let mut other = Series::new(Cut::new(SECOND, 2 * SECOND)).unwrap();
        other.latency(2 * SECOND - 1, 20 * SECOND);
        series.merge(&other).unwrap();
        let latencies: Vec<u64> = series.intervals().iter().map(|one| one.latency.len()).collect();
        let messages: Vec<u64> = series.intervals().iter().map(|one| one.messages).collect();
        assert_eq!(latencies, [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(messages, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert!(series.intervals()[9].latency.max() >= 20 * SECOND);
        assert!(series.merge(&Series::new(Cut::new(0, SECOND)).unwrap()).is_err());
    }
}
