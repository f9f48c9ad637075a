//! Since when the messages of a level's queue have been there, by the clock that nobody sets. The wall clock says when they
//! are due, but one that was set back would let each of them wait for the difference as well.

use std::collections::VecDeque;
use std::time::Duration;

use ringmq_rt::Instant;

/// Looks that are remembered within one delay, so that a long delay takes no more memory than a short one.
const LOOKS: u32 = 1024;

/// What looks at the queue have found.
#[derive(Debug)]
pub(super) struct Seen {
    delay: Duration,
    /// The end of the queue, and when it was there; both grow.
    looks: VecDeque<(u64, Instant)>,
}

impl Seen {
    /// Of a queue whose messages wait for `delay`.
    pub(super) fn new(delay: Duration) -> Self {
        Self { delay, looks: VecDeque::new() }
    }

    /// Everything in front of the queue offset `end` is there at `at`, and nothing in front of `first` is asked for any more.
    /// A look soon after another is not worth its place: the next one counts.
    pub(super) fn look(&mut self, first: u64, end: u64, at: Instant) {
        while self.looks.front().is_some_and(|(end, _)| *end <= first) {
            self.looks.pop_front();
        }
        let is_news =
            self.looks.back().is_none_or(|(last, looked)| *last < end && at.since(*looked) >= self.delay / LOOKS);
        if is_news && first < end {
            self.looks.push_back((end, at));
        }
    }

    /// How long the message of a queue offset has to wait at most, whatever the wall clock says.
    pub(super) fn left(&self, offset: u64, at: Instant) -> Duration {
        let found = self.looks.partition_point(|(end, _)| *end <= offset);
        self.looks.get(found).map_or(self.delay, |(_, since)| since.after(self.delay).since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(1024);

    #[test]
    fn a_message_waits_from_the_first_look_that_found_it() {
        let (mut seen, start) = (Seen::new(DELAY), ringmq_rt::now());
        let at = |seconds| start.after(Duration::from_secs(seconds));
        assert_eq!(seen.left(0, start), DELAY, "nobody has looked");
        seen.look(0, 10, start);
        seen.look(0, 10, at(5));
        seen.look(0, 20, at(6));
        let left = |seen: &Seen, offset, now| seen.left(offset, at(now)).as_secs();
        assert_eq!((left(&seen, 9, 10), left(&seen, 10, 10), left(&seen, 20, 10)), (1014, 1020, 1024));
        assert_eq!((left(&seen, 9, 1024), left(&seen, 19, 1029), left(&seen, 19, 2000)), (0, 1, 0));
    }

    #[test]
    fn looks_are_forgotten_behind_the_delivery_and_never_many() {
        let (mut seen, start) = (Seen::new(DELAY), ringmq_rt::now());
        for ms in 0..2 * 1024 * 1000_u64 {
            // All that is older than the delay is delivered.
            seen.look(ms.saturating_sub(1024 * 1000), ms, start.after(Duration::from_millis(ms)));
        }
        assert!((1000..=1026).contains(&seen.looks.len()), "{}", seen.looks.len());
        seen.look(5_000_000, 5_000_000, start);
        assert!(seen.looks.is_empty());
    }
}
