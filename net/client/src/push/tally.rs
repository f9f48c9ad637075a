//! What a consumer has pulled and consumed, by topic: rates of the last minute, failures of the last hour. Pure
//! bookkeeping; the minute is told by the caller.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ringmq_protocol::body::ConsumeStatus;

/// Minutes that are kept.
const MINUTES: i64 = 60;
const MINUTE_S: f64 = 60.0;

/// By topic; a consumer has few.
#[derive(Debug, Default)]
pub(super) struct Tally {
    topics: BTreeMap<String, VecDeque<(i64, Counts)>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    pulls: u32,
    pull_time: Duration,
    pulled: u32,
    done: u32,
    failed: u32,
    consume_time: Duration,
}

impl Tally {
    /// A pull that brought messages.
    pub(super) fn pulled(&mut self, topic: &str, messages: usize, took: Duration, now_ms: i64) {
        let counts = self.counts(topic, now_ms);
        counts.pulls += 1;
        counts.pull_time += took;
        counts.pulled = counts.pulled.saturating_add(u32::try_from(messages).unwrap_or(u32::MAX));
    }

    /// A call of the listener.
    pub(super) fn consumed(&mut self, topic: &str, is_done: bool, took: Duration, now_ms: i64) {
        let counts = self.counts(topic, now_ms);
        counts.consume_time += took;
        if is_done {
            counts.done += 1;
        } else {
            counts.failed += 1;
        }
    }

    fn counts(&mut self, topic: &str, now_ms: i64) -> &mut Counts {
        let minute = now_ms / 60_000;
        let minutes = self.topics.entry(topic.to_owned()).or_default();
        while minutes.front().is_some_and(|(old, _)| minute - old >= MINUTES) {
            minutes.pop_front();
        }
        if minutes.back().is_none_or(|(last, _)| *last != minute) {
            minutes.push_back((minute, Counts::default()));
        }
        let last = minutes.len() - 1;
        &mut minutes[last].1
    }

    /// Rates of the last whole minute.
    pub(super) fn status(&self, topic: &str, now_ms: i64) -> ConsumeStatus {
        let minute = now_ms / 60_000;
        let kept = || self.topics.get(topic).into_iter().flatten().filter(|(at, _)| minute - at < MINUTES);
        let last = kept().find(|(at, _)| minute - at == 1).map(|(_, counts)| *counts).unwrap_or_default();
        let a_second = |count: u32| f64::from(count) / MINUTE_S;
        let each_ms =
            |time: Duration, count: u32| if count == 0 { 0.0 } else { time.as_secs_f64() * 1e3 / f64::from(count) };
        ConsumeStatus {
            consume_failed_msgs: kept().map(|(_, counts)| i64::from(counts.failed)).sum(),
            consume_failed_tps: a_second(last.failed),
            consume_ok_tps: a_second(last.done),
            consume_rt: each_ms(last.consume_time, last.done + last.failed),
            pull_rt: each_ms(last.pull_time, last.pulls),
            pull_tps: a_second(last.pulled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_minute_and_failures_of_the_hour() {
        let ms = Duration::from_millis;
        let mut tally = Tally::default();
        for _ in 0..60 {
            tally.consumed("T", true, ms(2), 60_000);
            tally.consumed("T", false, ms(4), 60_000);
        }
        tally.pulled("T", 120, ms(10), 61_000);
        assert_eq!(tally.status("T", 90_000), ConsumeStatus { consume_failed_msgs: 60, ..ConsumeStatus::default() });
        let wanted = ConsumeStatus {
            consume_failed_msgs: 60,
            consume_failed_tps: 1.0,
            consume_ok_tps: 1.0,
            consume_rt: 3.0,
            pull_rt: 10.0,
            pull_tps: 2.0,
        };
        assert_eq!(tally.status("T", 120_000), wanted);
        assert_eq!(tally.status("T", 60_000 * 60).consume_failed_msgs, 60);
        assert_eq!(tally.status("T", 60_000 * 61), ConsumeStatus::default());
        assert_eq!(tally.status("other", 120_000), ConsumeStatus::default());
    }
}
