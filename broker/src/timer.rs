//! Messages with a time of their own (`TIMER_DELAY_SEC`, `TIMER_DELAY_MS`, `TIMER_DELIVER_MS`): kept in a system topic on
//! the log shard of their queue, found by their time in the engine's index, and delivered to the millisecond.
//!
//! All that is remembered is the time up to which everything is delivered. It is saved every second; after a crash what was
//! delivered since is delivered again. A recall is a mark that comes due just before the message it takes back. One that the
//! disk does not read is set aside ([`crate::aside`]), and those behind it go on.

mod again;
pub mod ask;
mod clock;
mod counts;
pub mod finished;
pub mod recall;
mod roll;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::{Position, ReadError, ShardId, Timed};
use ringmq_protocol::{names, properties};
use ringmq_rt::sync::{Either, Event, first};
use ringmq_rt::{Slice, Task, now, sleep, spawn, step, wall_ms};

use self::clock::TimerClock;
pub use self::counts::{TimerCounts, TimersLeft, left};
pub use self::roll::{Rolling, roll};
use crate::aside::{Asides, TRIES, is_unread};
use crate::detour;
use crate::log::Log;
use crate::mail::Mail;
use crate::message::Message;
use crate::node::{CONTROL, Node};
use crate::put::{self, PutError};

/// Messages that are delivered and waited for together: so many, or fewer of more than so many bytes.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// Messages that are read at once, since those of old timers lie anywhere on the disk.
const READS: usize = 32;
/// Longest wait without a look at the clock.
const LOOK: Duration = Duration::from_secs(1);
/// Progress that is worth telling: it is saved once a second.
const NOTE_MS: u64 = 200;
/// Wait after an error.
const AGAIN: Duration = Duration::from_secs(1);

/// `timerMaxDelaySec`, unless it is configured: 40 days.
pub const DELAY_MAX: Duration = Duration::from_secs(40 * 24 * 3600);

/// How timers are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerSettings {
    /// `timerWheelEnable`
    pub enabled: bool,
    /// `timerMaxDelaySec`
    pub delay_max: Duration,
    /// `recallMessageEnable`
    pub recall: bool,
    /// `allowRecallWhenBrokerNotWriteable`
    pub recall_when_not_writable: bool,
}

impl Default for TimerSettings {
    fn default() -> Self {
        Self { enabled: true, delay_max: DELAY_MAX, recall: false, recall_when_not_writable: true }
    }
}

/// The timers of one log shard.
#[derive(Debug)]
pub struct Timers {
    clock: RefCell<TimerClock>,
    /// Everything up to here is delivered.
    done: Cell<Timed>,
    /// When the next look is planned.
    planned_ms: Cell<u64>,
    /// Something is due earlier than planned.
    earlier: Event,
    /// What is not to be delivered, by its time: topic and unique key.
    recalled: RefCell<BTreeMap<u64, HashSet<(String, String)>>>,
    rolled: RefCell<roll::Rolled>,
    /// Messages in front of what is delivered that are not.
    asides: RefCell<Asides<Timed>>,
    /// Messages that were stored to be released later, and those that were released, since the start.
    stored: Cell<u64>,
    released: Cell<u64>,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            clock: RefCell::new(TimerClock::new(0, now())),
            done: Cell::new(Timed { due_ms: 0, offset: u64::MAX }),
            planned_ms: Cell::new(u64::MAX),
            earlier: Event::new(),
            recalled: RefCell::default(),
            rolled: RefCell::default(),
            asides: RefCell::default(),
            stored: Cell::new(0),
            released: Cell::new(0),
        }
    }
}

impl Timers {
    /// The timers' time.
    pub fn now_ms(&self) -> u64 {
        self.clock.borrow_mut().now_ms(wall_ms(), now())
    }

    /// A message was appended that is due then.
    pub fn appended(&self, due_ms: u64) {
        self.stored.set(self.stored.get() + 1);
        if due_ms < self.planned_ms.get() {
            self.planned_ms.set(due_ms);
            self.earlier.notify();
        }
    }

    /// What a start need not deliver again.
    fn finished_ms(&self) -> u64 {
        let aside = self.asides.borrow().first().map(|timed| timed.due_ms.saturating_sub(1));
        aside.into_iter().fold(self.passed_ms(), u64::min)
    }

    /// The same, apart from messages that are set aside: whole milliseconds, since a batch ends anywhere in one. A recall counts
    /// until the message it takes back was due.
    fn passed_ms(&self) -> u64 {
        let done = self.done.get();
        let is_whole = done.offset == u64::MAX;
        let done = if is_whole { done.due_ms } else { done.due_ms.saturating_sub(1) };
        let recalled = self.recalled.borrow().keys().next().map(|due_ms| due_ms.saturating_sub(2));
        recalled.map_or(done, |before| done.min(before))
    }

    /// Forgets recalls of messages that were due in front of `due_ms`, unless some are still to be delivered.
    fn forget_recalls(&self, due_ms: u64) {
        let aside = self.asides.borrow().first().map(|timed| timed.due_ms);
        let from = aside.into_iter().fold(due_ms, u64::min);
        self.recalled.borrow_mut().retain(|due_ms, _| *due_ms >= from);
    }

    /// Whether the message at a log offset, due then, still has to be delivered.
    fn is_open(&self, message: Timed) -> bool {
        message.due_ms > self.passed_ms() || self.asides.borrow().contains(message)
    }
}

/// Starts the deliveries of one log shard, behind what was finished before.
pub fn start(node: &Rc<Node>, log: &Rc<Log>, finished_ms: u64) {
    let timers = &log.timers;
    *timers.clock.borrow_mut() = TimerClock::new(finished_ms, now());
    timers.done.set(Timed { due_ms: finished_ms, offset: u64::MAX });
    log.shard.end_timers_before(finished_ms);
    spawn("deliver timers", run(Rc::clone(node), Rc::clone(log))).detach();
}

async fn run(node: Rc<Node>, log: Rc<Log>) {
    let timers = &log.timers;
    let mut noted_ms = timers.done.get().due_ms;
    let mut vain = 0;
    while log.shard.poisoned().is_none() {
        let now_ms = timers.now_ms();
        let delivered = deliver_due(&node, &log, now_ms, vain + 1 >= TRIES).await;
        vain = match &delivered {
            Ok(_) => 0,
            Err(DeliverError::Read(error)) if is_unread(error) => vain.saturating_add(1),
            Err(_) => vain,
        };
        let finished_ms = timers.finished_ms();
        // One with many need not tell of each batch.
        if finished_ms > noted_ms + NOTE_MS {
            noted_ms = finished_ms;
            tell(&node, &log);
        }
        match delivered {
            Ok(true) => {}
            Ok(false) => wait(&log, now_ms).await,
            Err(error) => {
                tracing::error!(shard = %log.shard.id(), due_ms = timers.done.get().due_ms, %error, "timed messages are not delivered");
                sleep(AGAIN).await;
            }
        }
    }
}

/// Tells how far timers are delivered, to be saved. A broker without timers writes nothing.
pub fn tell(node: &Rc<Node>, log: &Log) {
    if has_timers(log) {
        let finished_ms = log.timers.finished_ms();
        node.tell(CONTROL, Mail::TimersFinished { log: u16::from(log.shard.id().get()), finished_ms });
        step!("timer_noted");
    }
}

fn has_timers(log: &Log) -> bool {
    let stats = log.shard.stats().timers;
    stats.entries > 0 || stats.pending > 0
}

/// Waits until the next timer is due, or an earlier one was added.
async fn wait(log: &Log, now_ms: u64) {
    let timers = &log.timers;
    // What is added from here on is seen by its notice, whatever the index says meanwhile.
    timers.planned_ms.set(u64::MAX);
    let look = u64::try_from(LOOK.as_millis()).unwrap_or(1000);
    let next = match log.shard.due(timers.done.get(), now_ms.saturating_add(look), 1).await {
        Ok(due) => due.first().map(|timed| timed.due_ms),
        // The next delivery tells of it.
        Err(_) => Some(now_ms.saturating_add(look)),
    };
    let idle = next.is_none() && !has_timers(log);
    let planned_ms = next.unwrap_or(now_ms.saturating_add(look)).min(timers.planned_ms.get());
    timers.planned_ms.set(if idle { u64::MAX } else { planned_ms });
    if idle {
        return timers.earlier.wait().await;
    }
    let left = planned_ms.saturating_sub(timers.now_ms());
    if left > 0 {
        let (Either::Left(()) | Either::Right(())) =
            first(sleep(Duration::from_millis(left)), timers.earlier.wait()).await;
    }
}

/// Why timers are not delivered.
#[derive(Debug, thiserror::Error)]
enum DeliverError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Put(#[from] PutError),
    #[error(transparent)]
    Poisoned(#[from] ringmq_engine::Poisoned),
}

/// Delivers a batch of what is due; false when that was all. What the disk does not read holds up what is behind it, unless
/// this is the last try.
async fn deliver_due(node: &Rc<Node>, log: &Rc<Log>, now_ms: u64, is_last: bool) -> Result<bool, DeliverError> {
    let timers = &log.timers;
    let due = log.shard.due(timers.done.get(), now_ms, BATCH).await?;
    if due.is_empty() {
        timers.done.set(timers.done.get().max(Timed { due_ms: now_ms, offset: u64::MAX }));
        timers.forget_recalls(now_ms.saturating_add(1));
        return Ok(false);
    }
    step!("timer_due");
    if let Some(latest) = due.iter().map(|timed| timed.offset).max() {
        // A timer of a millisecond may be due before it is written.
        log.shard.confirmed(latest.saturating_add(1)).await?;
    }
    let mut messages = Vec::with_capacity(due.len());
    let (mut bytes, mut gone) = (0_usize, 0_u64);
    let (mut last, mut unread) = (None, None);
    'batch: for some in due.chunks(READS) {
        if bytes > BATCH_BYTES {
            break;
        }
        for (timed, record) in some.iter().zip(read(log, some).await) {
            match record {
                // An earlier try of this batch did so.
                _ if timers.asides.borrow().contains(*timed) => (),
                Ok(Some(record)) => {
                    bytes += record.len();
                    messages.extend(released(node, log, timed, &record));
                }
                Ok(None) if timed.offset < log.shard.start() => gone += 1,
                Ok(None) => damaged(node, log, timed.offset, &"there is no record"),
                Err(error @ ReadError::Damaged { .. }) => damaged(node, log, timed.offset, &error),
                Err(error) if is_last && is_unread(&error) && again::add(node, log, *timed) => {
                    let (shard, Timed { due_ms, offset }) = (log.shard.id(), timed);
                    tracing::error!(%shard, offset, due_ms, %error, "a timed message cannot be read and is set aside, those behind it go on");
                }
                Err(error) => {
                    unread = Some(error);
                    break 'batch;
                }
            }
            last = Some(*timed);
        }
    }
    if gone > 0 {
        // Retention has counted them.
        tracing::warn!(shard = %log.shard.id(), messages = gone, "timed messages were dropped as they came due");
    }
    dedup(&mut messages);
    release(node, log, messages).await?;
    if let Some(last) = last {
        timers.done.set(last);
        step!("timer_done");
        timers.forget_recalls(last.due_ms);
        // The mark of a recall is asked for again, too.
        log.shard.end_timers_before(timers.finished_ms());
    }
    unread.map_or(Ok(true), |error| Err(error.into()))
}

/// Stores messages where they belong.
async fn release(node: &Rc<Node>, log: &Log, mut messages: Vec<Released>) -> Result<(), PutError> {
    let released = &log.timers.released;
    while let Some(home) = messages.first().map(|one| one.log) {
        let (own, others): (Vec<_>, Vec<_>) = messages.into_iter().partition(|one| one.log == home);
        let count = put::release_all(node, home, own.into_iter().map(|one| one.message).collect()).await?;
        released.set(released.get() + count);
        messages = others;
    }
    Ok(())
}

/// Reads records, all at once.
async fn read(log: &Rc<Log>, due: &[Timed]) -> Vec<Result<Option<Slice>, ReadError>> {
    let shard: ShardId = log.shard.id();
    let task = |timed: &Timed| -> Task<Result<Option<Slice>, ReadError>> {
        let (log, position) = (Rc::clone(log), Position::new(shard, timed.offset));
        spawn("read a timed message", async move { log.shard.record_at(position).await })
    };
    let tasks: Vec<_> = due.iter().map(task).collect();
    let mut records = Vec::with_capacity(tasks.len());
    for task in tasks {
        records.push(task.await);
    }
    records
}

/// A message that cannot be delivered any more.
fn damaged(node: &Node, log: &Log, offset: u64, error: &dyn fmt::Display) {
    node.served.delayed_dropped(1);
    tracing::error!(shard = %log.shard.id(), offset, %error, "a timed message is damaged and is not delivered");
}

/// A message that is due, and where it goes.
struct Released {
    log: u16,
    due_ms: u64,
    message: Message,
}

/// The message as it is delivered; `None` for a recall, for what was recalled, and for what has no place any more.
fn released(node: &Node, log: &Log, timed: &Timed, record: &Slice) -> Option<Released> {
    let shard = log.shard.id();
    let mut message = match Message::of_record(record) {
        Ok(message) => message,
        Err(error) => {
            damaged(node, log, timed.offset, &error);
            return None;
        }
    };
    if !detour::restore(&mut message) {
        tracing::warn!(%shard, offset = timed.offset, "a timed message does not say where it belongs and is not delivered");
        return None;
    }
    if names::check_send_allowed(&message.topic).is_err() {
        tracing::warn!(topic = message.topic, "a timed message is not delivered: nobody may send to its topic");
        return None;
    }
    let name = |message: &Message, key| (message.topic.clone(), message.property(key).unwrap_or_default().to_owned());
    if message.property(properties::TIMER_DEL_UNIQKEY).is_some() {
        let recalled = name(&message, properties::TIMER_DEL_UNIQKEY);
        log.timers.recalled.borrow_mut().entry(timed.due_ms + 1).or_default().insert(recalled);
        return None;
    }
    let unique = name(&message, properties::UNIQ_KEY);
    if log.timers.recalled.borrow().get(&timed.due_ms).is_some_and(|recalled| recalled.contains(&unique)) {
        return None;
    }
    let Some(topic) = node.topics.borrow().get(&message.topic).cloned() else {
        tracing::warn!(topic = message.topic, "a timed message is not delivered: its topic was deleted");
        return None;
    };
    let stored_ms = ringmq_protocol::message::Record::parse(record).map_or(0, |(record, _)| record.store_timestamp());
    message.set(properties::TIMER_ENQUEUE_MS, &stored_ms.to_string());
    message.set(properties::TIMER_DEQUEUE_MS, &wall_ms().to_string());
    Some(Released { log: topic.home(message.queue_id, node.log_shards()), due_ms: timed.due_ms, message })
}

/// A message that was stored anew to outlive its segment is there twice until that segment is gone.
fn dedup(messages: &mut Vec<Released>) {
    if !messages.iter().any(|one| one.message.property(properties::TIMER_ROLL_TIMES).is_some()) {
        return;
    }
    let mut seen = HashSet::new();
    messages.retain(|one| {
        let key = one.message.property(properties::UNIQ_KEY).unwrap_or_default();
        key.is_empty() || seen.insert((one.due_ms, one.message.topic.clone(), key.to_owned()))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_millisecond_is_finished_when_all_its_timers_are() {
        let timers = Timers::default();
        timers.done.set(Timed { due_ms: 700, offset: 4096 });
        assert_eq!(timers.finished_ms(), 699, "others may be due then");
        timers.done.set(Timed { due_ms: 700, offset: u64::MAX });
        assert_eq!(timers.finished_ms(), 700);
        timers.recalled.borrow_mut().insert(600, HashSet::new());
        assert_eq!(timers.finished_ms(), 598, "the mark of a recall is read again");
    }

    #[test]
    fn what_is_set_aside_holds_the_progress_and_the_recalls_behind_it() {
        let (timers, aside) = (Timers::default(), Timed { due_ms: 500, offset: 8192 });
        timers.done.set(Timed { due_ms: 700, offset: u64::MAX });
        assert!(timers.asides.borrow_mut().add(aside, now(), now()));
        assert_eq!((timers.finished_ms(), timers.passed_ms()), (499, 700));
        assert!(timers.is_open(aside) && timers.is_open(Timed { due_ms: 701, offset: 0 }));
        assert!(!timers.is_open(Timed { due_ms: 500, offset: 4096 }));
        for due_ms in [499, 500, 701] {
            timers.recalled.borrow_mut().insert(due_ms, HashSet::new());
        }
        timers.forget_recalls(700);
        assert_eq!(timers.recalled.borrow().keys().copied().collect::<Vec<_>>(), [500, 701]);
        timers.asides.borrow_mut().remove(aside, now());
        timers.forget_recalls(701);
        assert_eq!(timers.finished_ms(), 699);
    }
}
