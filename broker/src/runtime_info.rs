//! GET_BROKER_RUNTIME_INFO: the table that `mqadmin clusterList` and `brokerStatus` show, with RocketMQ's keys in RocketMQ's
//! formats, and keys of our own. `docs/runtime-info.md` says what each means here; a value that has no meaning here is
//! left out, unless a tool of RocketMQ's prints its absence.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ringmq_engine::Sizes;
use ringmq_protocol::body::KvTable;
use ringmq_protocol::code::version;
use ringmq_rt::fs::{self, Space};
use ringmq_rt::time::{Instant, now, sleep};
use ringmq_rt::wall_ms;

use crate::control_shard::ControlShard;
use crate::detour::{Detour, Kept};
use crate::limits::PARKED_SENDS_MAX;
use crate::mail::{Ask, Told};
use crate::own_group;
use crate::refusal::Refusal;
use crate::stats::{Flow, History, SAMPLE_PERIOD, Totals, WINDOWS};

/// When the broker came up, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Boot {
    wall_ms: i64,
    /// The same on a clock that never goes back.
    pub at: Instant,
}

impl Boot {
    pub fn now() -> Self {
        Self { wall_ms: wall_ms(), at: now() }
    }
}

/// Takes sums until the control shard stops.
pub async fn watch(control: Rc<ControlShard>) {
    // The zone's file is read once, while the broker starts.
    let zone = TimeZone::system();
    while !control.is_stopping() {
        match totals(&control, false).await {
            Ok(totals) => {
                let (at, day) = (now().since(control.boot.at), day_of(wall_ms(), &zone));
                control.history.borrow_mut().sample(at, day, Flow::from(&totals));
            }
            Err(refusal) => tracing::warn!(%refusal, "the broker's counts could not be added up"),
        }
        sleep(SAMPLE_PERIOD).await;
    }
}

/// The number of the local day.
fn day_of(wall_ms: i64, zone: &TimeZone) -> i64 {
    let offset = Timestamp::from_millisecond(wall_ms).map_or(0, |at| zone.to_offset(at).seconds());
    (wall_ms.div_euclid(1000) + i64::from(offset)).div_euclid(86_400)
}

/// Asks every executor.
pub(crate) async fn totals(control: &ControlShard, deep: bool) -> Result<Totals, Refusal> {
    let node = &control.node;
    let mut all = Totals::default();
    for shard in 0..node.post.shards() {
        match node.ask(shard, Ask::Totals { deep }).await {
            Told::Totals(totals) => all.merge(&totals),
            other => return Err(other.unexpected()),
        }
    }
    Ok(all)
}

/// The answer to the request.
///
/// # Errors
/// An executor could not say.
pub async fn table(control: &ControlShard) -> Result<KvTable, Refusal> {
    let totals = totals(control, true).await?;
    let settings = &control.node.settings;
    let space = match fs::space(&settings.store).await {
        Ok(space) => Some(space),
        Err(error) => {
            tracing::warn!(store = %settings.store.display(), %error, "cannot measure the room on the disk");
            None
        }
    };
    let facts = Facts {
        boot_ms: control.boot.wall_ms,
        up: now().since(control.boot.at),
        accept_sends_from_ms: settings.accept_sends_from_ms,
        parked_max: PARKED_SENDS_MAX as u64 * u64::from(control.node.log_shards()),
        totals,
        unread: control.unread.borrow().lost(),
        space,
    };
    let mut table = facts.table(&control.history.borrow());
    {
        let ahead = control.ahead.borrow();
        put(&mut table, "ringmqNextDropUnread", ahead.messages());
        put(&mut table, "ringmqNextDropUnreadGroups", ahead.groups());
    }
    for (level, delivered, stored) in delay_levels(control).await? {
        put(&mut table, &format!("scheduleMessageOffset_{level}"), format!("{delivered},{stored}"));
    }
    Ok(KvTable { table })
}

/// The delay levels that were ever used: how many messages were delivered and stored, on all log shards together.
async fn delay_levels(control: &ControlShard) -> Result<Vec<(i32, i64, i64)>, Refusal> {
    let node = &control.node;
    let mut levels = Vec::new();
    for level in 1..=node.settings.delay_levels.highest() {
        let (mut delivered, mut stored) = (0, 0);
        for log in 0..node.log_shards() {
            let Some(Kept { topic, queue_id }) = Detour::Level(level).kept(node, log) else { continue };
            let ask = Ask::Queue { log, topic: topic.into(), queue_id };
            match node.ask(node.executor_of(log), ask).await {
                Told::Queue(ends) => stored += ends.max,
                other => return Err(other.unexpected()),
            }
            delivered += control.tables.borrow().offsets.stored(own_group::LEVELS, topic, queue_id).unwrap_or(0);
        }
        if stored > 0 {
            levels.push((level, delivered, stored));
        }
    }
    Ok(levels)
}

/// What the table is made of.
#[derive(Debug, Clone, Copy)]
struct Facts {
    boot_ms: i64,
    up: Duration,
    accept_sends_from_ms: i64,
    parked_max: u64,
    totals: Totals,
    /// Messages that were dropped before a group had read them.
    unread: u64,
    space: Option<Space>,
}

type Table = BTreeMap<String, String>;

fn put(table: &mut Table, key: &str, value: impl Display) {
    table.insert(key.to_owned(), value.to_string());
}

impl Facts {
    fn table(&self, history: &History) -> Table {
        let mut table = Table::new();
        self.broker(&mut table);
        self.messages(&mut table, history);
        self.waiting(&mut table);
        self.store(&mut table);
        self.timers(&mut table, history);
        self.own(&mut table);
        table
    }

    fn broker(&self, table: &mut Table) {
        put(table, "brokerVersion", version::CURRENT);
        put(table, "brokerVersionDesc", concat!("RingMQ-", env!("CARGO_PKG_VERSION")));
        put(table, "brokerActive", true);
        put(table, "bootTimestamp", self.boot_ms);
        put(table, "runtime", days_and_hours(self.up));
        put(table, "startAcceptSendRequestTimeStamp", self.accept_sends_from_ms);
    }

    fn messages(&self, table: &mut Table, history: &History) {
        let Totals { log, refused_puts, .. } = &self.totals;
        put(table, "putMessageTimesTotal", log.appends);
        put(table, "putMessageFailedTimes", refused_puts);
        put(table, "putMessageSizeTotal", log.append_bytes);
        let average = if log.appends == 0 { 0.0 } else { log.append_bytes as f64 / log.appends as f64 };
        put(table, "putMessageAverageSize", double(average));
        put(table, "putTps", rates(history, |f| f.put));
        put(table, "getFoundTps", rates(history, |f| f.pulls_found));
        put(table, "getMissTps", rates(history, |f| f.pulls_missed));
        put(table, "getTotalTps", rates(history, |f| f.pulls_found + f.pulls_missed));
        // RocketMQ 5 spells it right; 4.9's tools read the other one.
        for key in ["getTransferredTps", "getTransferedTps"] {
            put(table, key, rates(history, |f| f.pulled));
        }
        let days = [
            ("YesterdayMorning", history.yesterday_morning()),
            ("TodayMorning", history.today_morning()),
            ("TodayNow", Flow::from(&self.totals)),
        ];
        for (when, flow) in days {
            put(table, &format!("msgPutTotal{when}"), flow.put);
            put(table, &format!("msgGetTotal{when}"), flow.pulled);
        }
    }

    fn waiting(&self, table: &mut Table) {
        put(table, "sendThreadPoolQueueSize", self.totals.parked);
        put(table, "sendThreadPoolQueueCapacity", self.parked_max);
        put(table, "sendThreadPoolQueueHeadWaitTimeMills", self.totals.parked_for.as_millis());
        // A pull is served in the turn in which it is read, and nobody waits for a lock; clusterList has columns for both.
        put(table, "pullThreadPoolQueueSize", 0);
        put(table, "pullThreadPoolQueueHeadWaitTimeMills", 0);
        put(table, "pageCacheLockTimeMills", 0);
    }

    fn store(&self, table: &mut Table) {
        // A message is in its queue in the turn in which it is in the log.
        put(table, "dispatchBehindBytes", 0);
        put(table, "remainHowManyDataToFlush", human_bytes(self.totals.unflushed));
        if let Some((min, max)) = self.totals.positions {
            put(table, "commitLogMinOffset", min);
            put(table, "commitLogMaxOffset", max);
        }
        if let Some(oldest) = self.totals.oldest_ms {
            put(table, "earliestMessageTimeStamp", oldest);
        }
        if let Some(Space { total, free }) = self.space.filter(|space| space.total > 0) {
            // Whole hundredths, rounded up, as RocketMQ tells it.
            let percent = (u128::from(total.saturating_sub(free)) * 100).div_ceil(u128::from(total));
            let ratio = double(percent as f64 / 100.0);
            put(table, "commitLogDiskRatio", &ratio);
            put(table, "consumeQueueDiskRatio", &ratio);
            let capacity = format!("Total : {}, Free : {}.", human_bytes(total), human_bytes(free));
            put(table, "commitLogDirCapacity", capacity);
        }
    }

    fn timers(&self, table: &mut Table, history: &History) {
        let left = &self.totals.timers_left;
        // What could not be counted is left out rather than told too low.
        if !left.unread {
            put(table, "timerReadBehind", left.behind.as_secs());
            put(table, "timerCongestNum", left.waiting);
        }
        // A timer is in its index in the turn in which it is in the log.
        put(table, "timerOffsetBehind", 0);
        let rate = |of: fn(&Flow) -> u64| double(history.rate(WINDOWS[0], of));
        put(table, "timerEnqueueTps", rate(|f| f.timers.stored));
        put(table, "timerDequeueTps", rate(|f| f.timers.released));
    }

    fn own(&self, table: &mut Table) {
        let log = &self.totals.log;
        put(table, "ringmqWrites", log.writes.operations);
        put(table, "ringmqWriteSizes", sizes(&log.writes.sizes));
        put(table, "ringmqFlushes", log.flushes.operations);
        put(table, "ringmqFlushSizes", sizes(&log.flushes.sizes));
        put(table, "ringmqFlushedBytes", log.flushes.bytes);
        put(table, "ringmqSegmentsMade", log.made);
        put(table, "ringmqSegmentsRecycled", log.recycled);
        put(table, "ringmqSegmentsDropped", log.dropped);
        put(table, "ringmqDroppedBytes", log.dropped_bytes);
        put(table, "ringmqDroppedUnread", self.unread);
        put(table, "ringmqDroppedDelayed", self.totals.dropped_delayed);
        let halves = &self.totals.transactions;
        put(table, "ringmqHalvesOpen", halves.open);
        put(table, "ringmqHalvesParked", halves.parked);
        put(table, "ringmqHalvesEndedLate", halves.ended_late);
        put(table, "ringmqHalvesDropped", halves.dropped);
        put(table, "ringmqHalvesUnfit", halves.unfit);
    }
}

/// The rates of the three windows, blanks between them: tools split there and read the first.
fn rates(history: &History, of: impl Fn(&Flow) -> u64) -> String {
    WINDOWS.map(|window| double(history.rate(window, &of))).join(" ")
}

/// A number with at least one digit behind the point, as Java writes its doubles.
fn double(value: f64) -> String {
    format!("{value:?}")
}

fn sizes(sizes: &Sizes) -> String {
    sizes.counts().map(|count| count.to_string()).join(",")
}

fn days_and_hours(up: Duration) -> String {
    let seconds = up.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    format!("[ {days} days, {hours} hours, {} minutes, {} seconds ]", seconds / 60 % 60, seconds % 60)
}

/// Bytes in the largest binary unit that leaves at least one.
fn human_bytes(bytes: u64) -> String {
    let steps = bytes.checked_ilog2().map_or(0, |bits| bits / 10);
    match usize::try_from(steps).ok().and_then(|steps| "KMGTPE".chars().nth(steps.checked_sub(1)?)) {
        Some(unit) => format!("{:.1} {unit}iB", bytes as f64 / 1024_f64.powf(f64::from(steps))),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timer::{TimerCounts, TimersLeft};

    fn facts() -> Facts {
        Facts {
            boot_ms: 1_700_000_000_000,
            up: Duration::from_secs(90_061),
            accept_sends_from_ms: 0,
            parked_max: 4096,
            totals: Totals::default(),
            unread: 0,
            space: Some(Space { total: 1000 << 30, free: 495 << 30 }),
        }
    }

    #[test]
    fn values_have_rocketmqs_formats() {
        let mut facts = facts();
        facts.totals.log.appends = 4;
        facts.totals.log.append_bytes = 4402;
        facts.totals.positions = Some((0, 1 << 56));
        let mut history = History::default();
        history.sample(Duration::ZERO, 1, Flow::default());
        let timers = TimerCounts { stored: 6, released: 1 };
        history.sample(Duration::from_secs(4), 1, Flow { put: 10, pulled: 3, pulls_found: 1, pulls_missed: 1, timers });
        facts.totals.timers_left = TimersLeft { waiting: 5, behind: Duration::from_millis(2999), unread: false };
        let table = facts.table(&history);
        let expected = [
            ("putTps", "2.5 2.5 2.5"),
            ("getTransferedTps", "0.75 0.75 0.75"),
            ("getTransferredTps", "0.75 0.75 0.75"),
            ("getTotalTps", "0.5 0.5 0.5"),
            ("putMessageAverageSize", "1100.5"),
            ("runtime", "[ 1 days, 1 hours, 1 minutes, 1 seconds ]"),
            ("commitLogDiskRatio", "0.51"),
            ("commitLogDirCapacity", "Total : 1000.0 GiB, Free : 495.0 GiB."),
            ("commitLogMaxOffset", "72057594037927936"),
            ("timerReadBehind", "2"),
            ("timerOffsetBehind", "0"),
            ("timerCongestNum", "5"),
            ("timerEnqueueTps", "1.5"),
            ("timerDequeueTps", "0.25"),
            ("remainHowManyDataToFlush", "0 B"),
            ("ringmqFlushSizes", "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"),
        ];
        for (key, value) in expected {
            assert_eq!(table.get(key).map(String::as_str), Some(value), "{key}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut facts = Facts { space: None, ..facts() };
        facts.totals.timers_left.merge(TimersLeft { unread: true, ..TimersLeft::default() });
        let table = facts.table(&History::default());
        let of_the_log =
            ["commitLogDiskRatio", "commitLogDirCapacity", "earliestMessageTimeStamp", "commitLogMinOffset"];
        for key in of_the_log.into_iter().chain(["timerReadBehind", "timerCongestNum"]) {
            assert!(!table.contains_key(key), "{key}");
        }
        assert_eq!(table["putMessageAverageSize"], "0.0", "no messages are no average");
        assert_eq!(table["putTps"], "0.0 0.0 0.0");
    }

    #[test]
    fn bytes_are_told_in_binary_units() {
        let told = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")];
        for (bytes, text) in told {
            assert_eq!(human_bytes(bytes), text);
        }
        assert_eq!(human_bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn a_day_begins_at_local_midnight() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let midnight_there = 1_700_064_000_000;
        let day = |ms| day_of(ms, &zone);
        assert_eq!(day(midnight_there), day(midnight_there - 1) + 1);
        assert_eq!(day(midnight_there + 86_399_999), day(midnight_there));
        assert_eq!(day_of(midnight_there, &TimeZone::UTC), day_of(midnight_there - 1, &TimeZone::UTC));
    }
}
