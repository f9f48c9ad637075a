//! How long messages are kept: RocketMQ's rules about the age of segments and the fullness of the disk, as a pure function,
//! and the task of each log that keeps to it. A segment goes as a whole, and what somebody still has to read counts for
//! nothing; [`ahead`] tells of what is about to be lost that way, and [`unread`] of what was.

pub mod ahead;
pub mod unread;

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ringmq_engine::{Position, SegmentInfo};
use ringmq_rt::fs::{self, Space};
use ringmq_rt::{timeout, wall_ms};

use crate::log::Log;
use crate::node::Node;
use crate::timer;

/// Hours of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours(u32);

impl Hours {
    /// `04`, `04;16`, or `*` for every hour; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self((1 << 24) - 1));
        }
        let mut hours = 0;
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let hour: u32 = part.parse().ok().filter(|hour| *hour < 24)?;
            hours |= 1 << hour;
        }
        (hours != 0).then_some(Self(hours))
    }

    fn contains(self, hour: u32) -> bool {
        self.0 & (1 << hour) != 0
    }
}

/// What the configuration says about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// `fileReservedTime`
    pub reserved: Duration,
    /// `deleteWhen`
    pub when: Hours,
    /// `diskMaxUsedSpaceRatio`, a share: above it expired segments go at any hour.
    pub max_used: f64,
    /// `diskSpaceCleanForciblyRatio`, a share: above it the oldest segments go whatever their age,
    pub forced_from: f64,
    /// `cleanFileForciblyEnable`: if this allows.
    pub may_force: bool,
    /// `deleteFileBatchMax`: segments dropped at a time.
    pub batch: usize,
    /// `cleanResourceInterval`
    pub interval: Duration,
}

impl Default for Policy {
    /// RocketMQ's.
    fn default() -> Self {
        Self {
            reserved: Duration::from_secs(72 * 3600),
            when: Hours(1 << 4),
            max_used: 0.75,
            forced_from: 0.85,
            may_force: true,
            batch: 10,
            interval: Duration::from_secs(10),
        }
    }
}

/// The rounds that DELETE_EXPIRED_COMMITLOG asks for.
pub const MANUAL_ROUNDS: u32 = 20;

/// What the rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// Wall clock, in milliseconds, and the hour of the local day.
    pub now_ms: i64,
    pub hour: u32,
    /// `None` when it could not be measured.
    pub space: Option<Space>,
    /// An administrator asked for it.
    pub manual: bool,
    /// Logs that share the disk.
    pub logs: u64,
    /// Somebody needs the log from this offset on.
    pub floor: Option<u64>,
}

/// Why segments go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is the hour for it.
    Hour,
    /// The disk is fuller than `diskMaxUsedSpaceRatio`.
    Full,
    Manual,
    /// The disk is fuller than `diskSpaceCleanForciblyRatio`.
    Forced,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hour => "older than fileReservedTime, and it is the hour of deleteWhen",
            Self::Full => "older than fileReservedTime, and the disk is fuller than diskMaxUsedSpaceRatio",
            Self::Manual => "older than fileReservedTime, and an administrator asked for it",
            Self::Forced => "the disk is fuller than diskSpaceCleanForciblyRatio",
        })
    }
}

/// What is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Log offset in front of which everything goes.
    pub before: u64,
    pub why: Why,
    /// Somebody needs some of it.
    pub below_floor: bool,
}

fn used(space: Space) -> f64 {
    if space.total == 0 { 0.0 } else { 1.0 - space.free as f64 / space.total as f64 }
}

/// What is to go of `segments`, oldest first: those that are old enough if it is time for that, and on a disk that is
/// nearly full as many of the oldest as bring it below that level, each log its share.
pub fn decide(policy: &Policy, at: &Situation, segments: &[SegmentInfo]) -> Option<Decision> {
    let used = at.space.map_or(0.0, used);
    let forced = policy.may_force && used > policy.forced_from;
    let why = match () {
        () if forced => Why::Forced,
        () if policy.when.contains(at.hour) => Why::Hour,
        () if used > policy.max_used => Why::Full,
        () if at.manual => Why::Manual,
        () => return None,
    };
    let reserved = i64::try_from(policy.reserved.as_millis()).unwrap_or(i64::MAX);
    let too_much = at.space.filter(|_| forced).map_or(0, |space| {
        let above = (used - policy.forced_from) * space.total as f64;
        (above as u64).div_ceil(at.logs.max(1))
    });
    let mut freed = 0;
    let (mut decision, mut below_floor) = (None, false);
    for segment in segments.iter().take(policy.batch) {
        let expired = segment.last_store_ms.saturating_add(reserved) <= at.now_ms;
        // One goes in any case: the disk is too full with what there is.
        let needed = forced && (freed < too_much || decision.is_none());
        let floor = at.floor.is_some_and(|floor| segment.end > floor);
        if !needed && (!expired || floor) {
            break;
        }
        below_floor |= floor;
        freed += segment.end - segment.base;
        decision = Some(Decision { before: segment.end, why, below_floor });
    }
    decision
}

/// The part of `fileReservedTime` before whose end a segment is among those that go next: six hours of RocketMQ's three days.
const SOON: u32 = 12;

/// How far below `diskSpaceCleanForciblyRatio` the oldest segment is the next to go.
const NEARLY: f64 = 0.05;

/// In front of which log offset everything goes next: what is old enough or soon will be, whether it is the hour for it or not,
/// and where the disk is about to force it the oldest segment. 0 if there is nothing.
pub fn next(policy: &Policy, at: &Situation, segments: &[SegmentInfo]) -> u64 {
    let reserved = i64::try_from((policy.reserved - policy.reserved / SOON).as_millis()).unwrap_or(i64::MAX);
    let nearly = policy.may_force && at.space.map_or(0.0, used) > policy.forced_from - NEARLY;
    let is_next = |(nth, segment): &(usize, &SegmentInfo)| {
        let expires = segment.last_store_ms.saturating_add(reserved) <= at.now_ms;
        let floor = at.floor.is_some_and(|floor| segment.end > floor);
        (expires && !floor) || (nearly && *nth == 0)
    };
    segments.iter().enumerate().take_while(is_next).last().map_or(0, |(_, segment)| segment.end)
}

/// Keeps to the policy as long as the log is open.
pub async fn run(node: Rc<Node>, log: Rc<Log>) {
    let zone = TimeZone::system();
    let mut level = Level::Fine;
    loop {
        let policy = node.settings.retention;
        // Whoever asks for it by hand need not wait.
        let _ = timeout(policy.interval, log.clean.wait()).await;
        if log.shard.is_closed() {
            return;
        }
        if log.shard.is_dropping() {
            // The disk is fuller than it is about to be.
            continue;
        }
        let space = measure(&node.settings.store).await;
        if log.shard.id().get() == 0 {
            level.tell(&policy, space);
        }
        let now_ms = wall_ms();
        let situation = Situation {
            now_ms,
            hour: hour_of(now_ms, &zone),
            space,
            manual: log.take_manual_round(),
            logs: u64::from(node.log_shards()),
            floor: log.floor(),
        };
        match log.shard.segments().await {
            Ok(segments) => {
                log.goes_next.set(next(&policy, &situation, &segments));
                drop_some(&node, &log, &situation, &segments).await;
            }
            Err(error) => {
                tracing::warn!(shard = %log.shard.id(), %error, "nothing is dropped: the age of a segment is not known");
            }
        }
    }
}

async fn drop_some(node: &Rc<Node>, log: &Rc<Log>, situation: &Situation, segments: &[SegmentInfo]) {
    let shard = &log.shard;
    let Some(decision) = decide(&node.settings.retention, situation, segments) else { return };
    // Timers may outlive any segment.
    let rolling = timer::roll(node, log, decision.before, segments).await;
    let may_wait = !decision.below_floor && decision.why != Why::Forced;
    if let Some(error) = rolling.failed.as_ref().filter(|_| may_wait) {
        tracing::warn!(shard = %shard.id(), error, "nothing is dropped: timed messages could not be stored anew");
        return;
    }
    let before = if may_wait { rolling.free } else { decision.before };
    let (from, to) = (shard.start(), shard.drop_before(before));
    if log.goes_next.get() <= to {
        // It goes now.
        log.goes_next.set(0);
    }
    if to <= from {
        return;
    }
    let (shard, why) = (shard.id(), decision.why);
    let dropped = segments.iter().filter(|segment| segment.end <= to).count();
    tracing::info!(%shard, segments = dropped, from, to, "dropping old segments: {why}");
    if decision.below_floor {
        let position = Position::new(shard, situation.floor.unwrap_or(0));
        tracing::warn!(%shard, %position, "messages that delayed or transactional ones still need are dropped: {why}");
    }
    let messages = rolling.lost(to);
    node.served.delayed_dropped(messages);
    match &rolling.failed {
        Some(error) => {
            tracing::warn!(%shard, messages, error, "timed messages that could not be stored anew are dropped before their time: {why}");
        }
        None if messages > 0 => {
            tracing::warn!(%shard, messages, "timed messages that are due within a minute are dropped before their time: {why}");
        }
        None => (),
    }
}

async fn measure(store: &Path) -> Option<Space> {
    match fs::space(store).await {
        Ok(space) => Some(space),
        Err(error) => {
            tracing::warn!(store = %store.display(), %error, "cannot measure the room on the disk");
            None
        }
    }
}

fn hour_of(now_ms: i64, zone: &TimeZone) -> u32 {
    let offset = Timestamp::from_millisecond(now_ms).map_or(0, |at| zone.to_offset(at).seconds());
    let second = (now_ms.div_euclid(1000) + i64::from(offset)).rem_euclid(86_400);
    u32::try_from(second / 3600).unwrap_or(0)
}

/// How full the disk is, as far as retention cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Fine,
    Full,
    Forced,
}

impl Level {
    /// One line when it changes.
    fn tell(&mut self, policy: &Policy, space: Option<Space>) {
        let Some(space) = space else { return };
        let used = used(space);
        let level = match used {
            used if used > policy.forced_from => Self::Forced,
            used if used > policy.max_used => Self::Full,
            _ => Self::Fine,
        };
        if std::mem::replace(self, level) == level {
            return;
        }
        let percent = (used * 100.0) as u8;
        match level {
            Self::Fine => tracing::info!("the disk is {percent}% used: segments go by age at the hours of deleteWhen"),
            Self::Full => {
                tracing::warn!("the disk is {percent}% used: segments older than fileReservedTime go at any hour");
            }
            Self::Forced if policy.may_force => {
                tracing::warn!("the disk is {percent}% used: the oldest segments go whatever their age");
            }
            Self::Forced => {
                tracing::warn!(
                    "the disk is {percent}% used; cleanFileForciblyEnable is off, so only expired segments go"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
