//! What a broker counts, and what it was a while ago. Each executor counts what it serves, in plain cells; the control shard
//! adds them up once a second and keeps the sums, so that rates and days can be told. What is told is in
//! [`runtime_info`](crate::runtime_info).

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

use ringmq_engine::{Counters, Position};
use ringmq_rt::time::now;

use crate::node::Node;
use crate::timer::{self, TimerCounts, TimersLeft};
use crate::transaction::TransactionCounts;

/// Time between two sums.
pub const SAMPLE_PERIOD: Duration = Duration::from_secs(1);

/// The windows of RocketMQ's rates, in samples.
pub const WINDOWS: [usize; 3] = [10, 60, 600];

/// Sums that are kept: the longest window has as many between its two ends.
const SAMPLES_MAX: usize = WINDOWS[2] + 1;

/// What one executor counts beside its log shards.
#[derive(Debug, Default)]
pub struct Served {
    refused_puts: Cell<u64>,
    pulls_found: Cell<u64>,
    pulls_missed: Cell<u64>,
    pulled: Cell<u64>,
    dropped_delayed: Cell<u64>,
}

impl Served {
    /// A message was not stored.
    pub fn put_refused(&self) {
        self.refused_puts.set(self.refused_puts.get() + 1);
    }

    /// So many messages that waited for their time were dropped before it.
    pub fn delayed_dropped(&self, messages: u64) {
        self.dropped_delayed.set(self.dropped_delayed.get() + messages);
    }

    /// A pull was answered with so many messages.
    pub fn pull_answered(&self, messages: usize) {
        let count = if messages == 0 { &self.pulls_missed } else { &self.pulls_found };
        count.set(count.get() + 1);
        self.pulled.set(self.pulled.get() + messages as u64);
    }
}

/// The state of one executor, or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Of the log shards.
    pub log: Counters,
    /// Sends that were refused where their queue lives, and requests that found a log, or what waits for it, too busy.
    pub refused_puts: u64,
    /// Pulls that were answered with messages.
    pub pulls_found: u64,
    /// Pulls that were answered without.
    pub pulls_missed: u64,
    /// Messages in the answers to pulls.
    pub pulled: u64,
    /// Messages that were dropped before the time for which they waited.
    pub dropped_delayed: u64,
    pub transactions: TransactionCounts,
    pub timers: TimerCounts,
    /// Where it was asked for.
    pub timers_left: TimersLeft,
    /// Bytes of log that a power cut could take back.
    pub unflushed: u64,
    /// Sends and other requests that wait until their log takes messages again, and how long the first of them has waited.
    pub parked: u64,
    pub parked_for: Duration,
    /// Bytes of log that retention drops next.
    pub goes_next: u64,
    /// Lowest and highest position of the log shards; `None` without any.
    pub positions: Option<(i64, i64)>,
    /// Store time of the oldest message, where it was asked for and there is one.
    pub oldest_ms: Option<i64>,
}

impl Totals {
    /// Adds another executor.
    pub fn merge(&mut self, other: &Self) {
        self.log.merge(&other.log);
        self.refused_puts += other.refused_puts;
        self.pulls_found += other.pulls_found;
        self.pulls_missed += other.pulls_missed;
        self.pulled += other.pulled;
        self.dropped_delayed += other.dropped_delayed;
        self.transactions.merge(other.transactions);
        self.timers.merge(other.timers);
        self.timers_left.merge(other.timers_left);
        self.unflushed += other.unflushed;
        self.goes_next += other.goes_next;
        self.parked += other.parked;
        self.parked_for = self.parked_for.max(other.parked_for);
        self.positions = match (self.positions, other.positions) {
            (Some(own), Some(more)) => Some((own.0.min(more.0), own.1.max(more.1))),
            (own, more) => own.or(more),
        };
        self.oldest_ms = match (self.oldest_ms, other.oldest_ms) {
            (Some(own), Some(more)) => Some(own.min(more)),
            (own, more) => own.or(more),
        };
    }
}

/// The state of this executor. The oldest message and what its timers have still to do may have to be read from the disk,
/// so they are looked for only if `deep`.
pub async fn totals(node: &Node, deep: bool) -> Totals {
    let served = &node.served;
    let mut totals = Totals {
        refused_puts: served.refused_puts.get() + node.underway.refused(),
        pulls_found: served.pulls_found.get(),
        pulls_missed: served.pulls_missed.get(),
        pulled: served.pulled.get(),
        dropped_delayed: served.dropped_delayed.get(),
        ..Totals::default()
    };
    for log in node.logs() {
        let stats = log.shard.stats();
        let end = stats.marks.appended.offset();
        let at = |offset| Position::new(log.shard.id(), offset).to_wire();
        let (parked, parked_for) = log.waits_in_line(now());
        let oldest_ms = if deep { oldest_in(&log).await } else { None };
        let timers_left = if deep { timers_left_in(&log).await } else { TimersLeft::default() };
        totals.merge(&Totals {
            log: stats.counters,
            unflushed: end - stats.marks.flushed.offset(),
            goes_next: log.goes_next.get().saturating_sub(stats.start),
            parked: parked as u64,
            parked_for,
            positions: Some((at(stats.start), at(end))),
            oldest_ms,
            transactions: log.transactions.counts(),
            timers: log.timers.counts(),
            timers_left,
            ..Totals::default()
        });
    }
    totals
}

async fn oldest_in(log: &crate::log::Log) -> Option<i64> {
    log.shard.oldest_store_time().await.unwrap_or_else(|error| {
        tracing::warn!(shard = %log.shard.id(), %error, "the oldest message could not be looked at");
        None
    })
}

async fn timers_left_in(log: &crate::log::Log) -> TimersLeft {
    timer::left(log).await.unwrap_or_else(|error| {
        tracing::warn!(shard = %log.shard.id(), %error, "the timers that are left could not be counted");
        TimersLeft { unread: true, ..TimersLeft::default() }
    })
}

/// What rates are told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Messages that were stored.
    pub put: u64,
    pub pulls_found: u64,
    pub pulls_missed: u64,
    /// Messages in the answers to pulls.
    pub pulled: u64,
    pub timers: TimerCounts,
}

impl From<&Totals> for Flow {
    fn from(totals: &Totals) -> Self {
        let Totals { log, pulls_found, pulls_missed, pulled, timers, .. } = *totals;
        Self { put: log.appends, pulls_found, pulls_missed, pulled, timers }
    }
}

/// The sums of the last ten minutes, and those of the last two midnights. It knows no clock.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<(Duration, Flow)>,
    day: Option<i64>,
    today_morning: Flow,
    yesterday_morning: Flow,
}

impl History {
    /// Takes a sum in: `at` on a clock that never goes back, `day` the number of the local day.
    pub fn sample(&mut self, at: Duration, day: i64, flow: Flow) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((at, flow));
        if self.day.replace(day).is_some_and(|before| before != day) {
            self.yesterday_morning = self.today_morning;
            self.today_morning = flow;
        }
    }

    /// How many a second, over the last `window` samples, or over those there are while they are fewer.
    pub fn rate(&self, window: usize, of: impl Fn(&Flow) -> u64) -> f64 {
        let Some(last) = self.samples.len().checked_sub(1) else { return 0.0 };
        let (from, before) = &self.samples[last.saturating_sub(window)];
        let (to, now) = &self.samples[last];
        let seconds = to.saturating_sub(*from).as_secs_f64();
        if seconds > 0.0 { of(now).saturating_sub(of(before)) as f64 / seconds } else { 0.0 }
    }

    /// The sums when the local day began; zero if the broker was started since.
    pub fn today_morning(&self) -> Flow {
        self.today_morning
    }

    /// The sums when the day before began; zero if the broker was started since.
    pub fn yesterday_morning(&self) -> Flow {
        self.yesterday_morning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(put: u64) -> Flow {
        Flow { put, ..Flow::default() }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_rate_is_of_its_window_or_of_what_there_is_so_far() {
        let mut history = History::default();
        assert_eq!(history.rate(10, |f| f.put), 0.0);
        history.sample(seconds(0), 1, flow(0));
        assert_eq!(history.rate(10, |f| f.put), 0.0, "one sample is no rate");
        history.sample(seconds(2), 1, flow(100));
        assert_eq!(history.rate(10, |f| f.put), 50.0);
        for n in 1..=20 {
            history.sample(seconds(2 + n), 1, flow(100 + n * 10));
        }
        assert_eq!(history.rate(10, |f| f.put), 10.0, "what came before the window does not count");
        assert_eq!(history.rate(600, |f| f.put), 300.0 / 22.0);
    }

    #[test]
    fn only_the_longest_window_is_kept() {
        let mut history = History::default();
        for n in 0..2000 {
            history.sample(seconds(n), 1, flow(n * n));
        }
        assert_eq!(history.samples.len(), 601);
        assert_eq!(history.rate(600, |f| f.put), (1999.0 * 1999.0 - 1399.0 * 1399.0) / 600.0);
    }

    #[test]
    fn mornings_move_on_with_the_day() {
        let mut history = History::default();
        history.sample(seconds(0), 7, flow(0));
        history.sample(seconds(1), 7, flow(50));
        assert_eq!((history.yesterday_morning(), history.today_morning()), (flow(0), flow(0)));
        history.sample(seconds(2), 8, flow(60));
        assert_eq!((history.yesterday_morning(), history.today_morning()), (flow(0), flow(60)));
        history.sample(seconds(3), 8, flow(70));
        history.sample(seconds(4), 9, flow(90));
        assert_eq!((history.yesterday_morning(), history.today_morning()), (flow(60), flow(90)));
    }

    #[test]
    fn executors_add_up() {
        let served = Served::default();
        served.pull_answered(3);
        served.pull_answered(0);
        served.pull_answered(2);
        let counts = (served.pulls_found.get(), served.pulls_missed.get(), served.pulled.get());
        assert_eq!(counts, (2, 1, 5));
        let one = Totals {
            pulled: 5,
            parked: 1,
            parked_for: seconds(2),
            positions: Some((10, 20)),
            oldest_ms: Some(1000),
            ..Totals::default()
        };
        let mut all = Totals::default();
        all.merge(&one);
        assert_eq!(all, one);
        let other = Totals { parked: 2, positions: Some((5, 15)), oldest_ms: Some(900), ..Totals::default() };
        all.merge(&other);
        assert_eq!((all.pulled, all.parked, all.parked_for), (5, 3, seconds(2)));
        assert_eq!((all.positions, all.oldest_ms), (Some((5, 20)), Some(900)));
    }
}
