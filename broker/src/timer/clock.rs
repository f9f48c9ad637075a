//! The time that timers go by: the wall clock, but never backwards. A wall clock that was set back would let timers that
//! were given out before wait for the difference, and new ones come due in front of those that are done; instead the
//! timers' clock runs on from where it was until the wall clock has caught up.

use std::time::Duration;

use ringmq_rt::Instant;

/// A wall clock this far behind was set back; less is its correction, for which the timers' clock waits.
const STEP_MS: u64 = 1000;

/// One log shard's clock, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimerClock {
    now_ms: u64,
    /// When that was looked at.
    at: Instant,
}

impl TimerClock {
    /// A clock that is at `now_ms` at least: timers up to there are done.
    pub(super) fn new(now_ms: u64, at: Instant) -> Self {
        Self { now_ms, at }
    }

    /// The time, given what the clocks of the host say.
    pub(super) fn now_ms(&mut self, wall_ms: i64, at: Instant) -> u64 {
        let wall_ms = u64::try_from(wall_ms).unwrap_or(0);
        if wall_ms >= self.now_ms {
            (self.now_ms, self.at) = (wall_ms, at);
        } else if self.now_ms - wall_ms > STEP_MS {
            let passed = whole_ms(at.since(self.at));
            self.now_ms += passed;
            self.at = self.at.after(Duration::from_millis(passed));
        } else {
            self.at = at;
        }
        self.now_ms
    }
}

fn whole_ms(passed: Duration) -> u64 {
    u64::try_from(passed.as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> (TimerClock, Instant) {
        let start = ringmq_rt::now();
        (TimerClock::new(0, start), start)
    }

    #[test]
    fn it_follows_the_wall_clock() {
        let (mut clock, start) = clock();
        assert_eq!(clock.now_ms(10_000, start), 10_000);
        assert_eq!(clock.now_ms(15_000, start.after(Duration::from_secs(5))), 15_000);
        // Set forward.
        assert_eq!(clock.now_ms(99_000, start.after(Duration::from_secs(6))), 99_000);
    }

    #[test]
    fn it_runs_on_where_the_wall_clock_was_set_back() {
        let (mut clock, start) = clock();
        assert_eq!(clock.now_ms(100_000, start), 100_000);
        let later = |seconds| start.after(Duration::from_secs(seconds));
        assert_eq!(clock.now_ms(41_000, later(1)), 101_000);
        assert_eq!(clock.now_ms(42_000, later(2)), 102_000);
        assert_eq!(clock.now_ms(102_500, later(3)), 102_500);
    }

    #[test]
    fn it_waits_for_a_small_correction() {
        let (mut clock, start) = clock();
        assert_eq!(clock.now_ms(100_000, start), 100_000);
        assert_eq!(clock.now_ms(99_900, start.after(Duration::from_millis(10))), 100_000);
        assert_eq!(clock.now_ms(100_001, start.after(Duration::from_millis(111))), 100_001);
    }
}
