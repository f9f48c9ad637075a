//! What timers have done and have still to do, for the broker's runtime info.

use std::time::Duration;

use ringmq_engine::ReadError;

use super::Timers;
use crate::log::Log;

/// What the timers of one log shard, or of several, have done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimerCounts {
    /// Messages stored to be released later: marks of recalls and messages that were stored anew are among them.
    pub stored: u64,
    /// Messages released.
    pub released: u64,
}

impl TimerCounts {
    /// Adds another log shard.
    pub fn merge(&mut self, other: Self) {
        self.stored += other.stored;
        self.released += other.released;
    }
}

/// What the timers of one log shard, or of several, have still to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimersLeft {
    /// Messages that are not released.
    pub waiting: u64,
    /// How long the first of them that is due has been so.
    pub behind: Duration,
    /// An index could not be read, so that there may be more.
    pub unread: bool,
}

impl TimersLeft {
    /// Adds another log shard.
    pub fn merge(&mut self, other: Self) {
        self.unread |= other.unread;
        self.waiting += other.waiting;
        self.behind = self.behind.max(other.behind);
    }
}

impl Timers {
    /// What they have done.
    pub fn counts(&self) -> TimerCounts {
        TimerCounts { stored: self.stored.get(), released: self.released.get() }
    }
}

/// What the timers of a log shard have still to do.
///
/// # Errors
/// Their index cannot be read.
pub async fn left(log: &Log) -> Result<TimersLeft, ReadError> {
    let (timers, now_ms) = (&log.timers, log.timers.now_ms());
    let done = timers.done.get();
    let waiting = log.shard.timers_behind(done).await?;
    let due = log.shard.due(done, now_ms, 1).await?;
    let (aside, set_aside) = (timers.asides.borrow().first(), timers.asides.borrow().len() as u64);
    let waiting = waiting + set_aside;
    let behind_ms = aside.or(due.first().copied()).map_or(0, |first| now_ms.saturating_sub(first.due_ms));
    Ok(TimersLeft { waiting, behind: Duration::from_millis(behind_ms), unread: false })
}
