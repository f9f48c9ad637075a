//! A log shard as the broker uses it: the senders that wait for their flush, the pulls that wait for a message, and
//! ([`line`]) what waits until the log takes messages again. All are bounded, all belong to the executor that runs the shard.

mod line;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use ringmq_engine::{FlushPolicy, Poisoned, Position, QueueId, Shard};
use ringmq_protocol::code::ResponseCode;
use ringmq_rt::sync::Event;
use ringmq_rt::time::{Instant, now, sleep};
use ringmq_rt::{spawn, step};

use self::line::Line;
use crate::limits::HELD_PULLS_MAX;
use crate::mail::{PullJob, Sent};
use crate::message::Message;
use crate::node::{Node, log_frame_error};
use crate::put::PutError;
use crate::refusal::Refusal;
use crate::send::Parked;
use crate::timer::Timers;
use crate::transaction::Transactions;
use crate::{pull, retention, send};

/// Who is told once a message is flushed.
#[derive(Debug)]
pub enum Waiting {
    One(Sent),
    /// A timed message: with the handle by which it can be taken back.
    Timed(Sent, Box<str>),
    /// A batch: the first message's answer, and every position.
    Batch(Sent, Vec<i64>),
}

impl Waiting {
    /// Tells the sender.
    pub fn deliver(&self, node: &Rc<Node>) {
        match self {
            Self::One(sent) => node.sent(sent),
            Self::Timed(sent, handle) => node.write(sent.to, |out| {
                out.write(|bytes| log_frame_error(send::write_sent_timed(&node.settings, sent, handle, bytes)));
            }),
            Self::Batch(sent, positions) => node.write(sent.to, |out| {
                out.write(|bytes| log_frame_error(send::write_sent_batch(&node.settings, sent, positions, bytes)));
            }),
        }
    }

    fn sent(&self) -> &Sent {
        match self {
            Self::One(sent) | Self::Timed(sent, _) | Self::Batch(sent, _) => sent,
        }
    }

    fn with_code(self, code: ResponseCode) -> Self {
        match self {
            Self::One(sent) => Self::One(Sent { code: code.0, ..sent }),
            Self::Timed(sent, handle) => Self::Timed(Sent { code: code.0, ..sent }, handle),
            Self::Batch(sent, positions) => Self::Batch(Sent { code: code.0, ..sent }, positions),
        }
    }
}

#[derive(Debug)]
struct Pending {
    end: u64,
    since: Instant,
    waiting: Waiting,
}

#[derive(Debug)]
struct Held {
    job: PullJob,
    until: Instant,
}

/// Pulls that wait, by topic and queue.
#[derive(Debug, Default)]
struct Holds {
    topics: HashMap<Box<str>, HashMap<i32, Vec<Held>>>,
    count: usize,
}

type Watchers = HashMap<Box<str>, HashMap<i32, Rc<Event>>>;

/// One log shard.
#[derive(Debug)]
pub struct Log {
    pub shard: Shard,
    /// In the order of their ends, as the log grows.
    pending: RefCell<VecDeque<Pending>>,
    holds: RefCell<Holds>,
    line: Line,
    /// Something waits that has a deadline.
    waits: Event,
    /// Who is told of each message in a queue, by topic and queue: the broker's own readers.
    watchers: RefCell<Watchers>,
    pub transactions: Transactions,
    pub timers: Timers,
    /// Wakes retention.
    pub(crate) clean: Event,
    /// Log offset in front of which everything goes next, as far as retention can tell.
    pub(crate) goes_next: Cell<u64>,
    /// Rounds in which expired segments go at any hour.
    manual_rounds: Cell<u32>,
    floors: RefCell<Vec<Floor>>,
}

/// Says from which log offset on something still needs the log.
struct Floor(Box<Needs>);

type Needs = dyn Fn(&Shard) -> Option<u64>;

impl std::fmt::Debug for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Floor")
    }
}

/// How finely deadlines of waiting senders and pulls are looked at.
const TICK: Duration = Duration::from_millis(100);

impl Log {
    /// Takes an open shard into service.
    pub fn start(node: &Rc<Node>, shard: Shard) -> Rc<Self> {
        let log = Rc::new(Self {
            shard,
            pending: RefCell::default(),
            holds: RefCell::default(),
            line: Line::default(),
            waits: Event::new(),
            watchers: RefCell::default(),
            transactions: Transactions::default(),
            timers: Timers::default(),
            clean: Event::new(),
            goes_next: Cell::new(0),
            manual_rounds: Cell::new(0),
            floors: RefCell::default(),
        });
        spawn("settle", settle(Rc::clone(node), Rc::clone(&log))).detach();
        spawn("the line of a log", line::serve(Rc::clone(node), Rc::clone(&log))).detach();
        spawn("deadlines", watch_deadlines(Rc::clone(node), Rc::clone(&log))).detach();
        log
    }

    /// Whether senders are answered only when their message is flushed.
    pub fn waits_for_flush(&self) -> bool {
        self.shard.options().flush == FlushPolicy::Sync
    }

    /// Waits until everything in front of `end` is as safe as the broker promises: flushed under SYNC_FLUSH, written
    /// under ASYNC_FLUSH.
    ///
    /// # Errors
    /// The log went out of service before.
    pub async fn safe(&self, end: u64) -> Result<(), Poisoned> {
        if self.waits_for_flush() { self.shard.flushed(end).await } else { self.shard.confirmed(end).await }
    }

    /// Waits until a record that was appended can be read. Under ASYNC_FLUSH it is acknowledged, and may be asked for,
    /// before it is written. Nothing is waited for where no record is yet.
    ///
    /// # Errors
    /// The log went out of service before.
    pub async fn readable(&self, position: Position) -> Result<(), Poisoned> {
        // A batch becomes readable as a whole, so the record's first byte is enough.
        let behind = position.offset().saturating_add(1);
        if self.shard.watermarks().appended.covers(behind) { self.shard.confirmed(behind).await } else { Ok(()) }
    }

    /// Waits until something has changed in the log: what may have made room.
    pub async fn progress(&self) {
        let mut looked = false;
        self.shard.progress().until(|| std::mem::replace(&mut looked, true).then_some(())).await;
    }

    /// An event that is told whenever readers see something new in a queue. There is one a queue.
    pub fn watch(&self, topic: &str, queue_id: i32) -> Rc<Event> {
        let mut watchers = self.watchers.borrow_mut();
        Rc::clone(watchers.entry(topic.into()).or_default().entry(queue_id).or_default())
    }

    fn tell_watcher(&self, topic: &str, queue_id: i32) {
        if let Some(watcher) = self.watchers.borrow().get(topic).and_then(|queues| queues.get(&queue_id)) {
            watcher.notify();
        }
    }

    /// Has retention ask `floor` each time from which offset on the log is still needed, be it by a delayed message or a
    /// half one. Only a disk that is nearly full overrides it, with a warning.
    pub fn keep_from(&self, floor: impl Fn(&Shard) -> Option<u64> + 'static) {
        self.floors.borrow_mut().push(Floor(Box::new(floor)));
    }

    /// The lowest offset that something still needs.
    pub(crate) fn floor(&self) -> Option<u64> {
        self.floors.borrow().iter().filter_map(|floor| (floor.0)(&self.shard)).min()
    }

    /// Expired segments go now, whatever the hour, and for some more rounds.
    pub(crate) fn clean_by_hand(&self) {
        self.manual_rounds.set(retention::MANUAL_ROUNDS);
        self.clean.notify();
    }

    /// Whether this round was asked for.
    pub(crate) fn take_manual_round(&self) -> bool {
        let left = self.manual_rounds.get();
        self.manual_rounds.set(left.saturating_sub(1));
        left > 0
    }

    /// Answers once the log is flushed up to `end`.
    pub fn wait(&self, end: u64, waiting: Waiting) {
        let mut pending = self.pending.borrow_mut();
        if pending.is_empty() {
            self.waits.notify();
        }
        pending.push_back(Pending { end, since: now(), waiting });
    }

    /// Whether something waits in the log's line; what comes later waits behind it.
    pub fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// How many wait in the log's line, and how long the first of them has.
    pub fn waits_in_line(&self, at: Instant) -> (usize, Duration) {
        self.line.waits(at)
    }

    /// Keeps a send until the log takes messages again.
    ///
    /// # Errors
    /// The send itself, and how many wait already, when those are too many.
    pub fn park(&self, send: Box<Parked>) -> Result<(), (Box<Parked>, usize)> {
        self.line.park(send)?;
        self.waits.notify();
        Ok(())
    }

    /// Has `append` append the messages, now or when it is their turn. It may be called several times, and nothing waits
    /// between the call that is done and the return.
    ///
    /// # Errors
    /// What `append` says, or that the messages may not wait, or no longer.
    pub async fn append_in_line<T>(
        &self,
        messages: &mut [Message],
        append: impl FnMut(&[Message]) -> Result<T, PutError>,
    ) -> Result<T, PutError> {
        self.line.append(self, messages, append).await
    }

    /// Keeps a pull until a message arrives or its time is up; false when too many wait already.
    pub fn hold(&self, job: PullJob) -> bool {
        let mut holds = self.holds.borrow_mut();
        if holds.count >= HELD_PULLS_MAX {
            return false;
        }
        let until = now().after(Duration::from_millis(job.hold_ms));
        let topic = job.topic.config.topic_name.as_str();
        if !holds.topics.contains_key(topic) {
            holds.topics.insert(topic.into(), HashMap::new());
        }
        if let Some(queues) = holds.topics.get_mut(topic) {
            queues.entry(job.queue_id).or_default().push(Held { job, until });
            holds.count += 1;
        }
        self.waits.notify();
        true
    }

    /// Takes out every pull that waits for this queue.
    fn take_held(&self, topic: &str, queue_id: i32) -> Vec<Held> {
        let mut holds = self.holds.borrow_mut();
        let Some(queues) = holds.topics.get_mut(topic) else { return Vec::new() };
        let taken = queues.remove(&queue_id).unwrap_or_default();
        if queues.is_empty() {
            holds.topics.remove(topic);
        }
        holds.count -= taken.len();
        taken
    }

    /// Lets the pulls that wait for this queue look again; those that find nothing wait on.
    pub fn wake_held(&self, node: &Rc<Node>, topic: &str, queue_id: i32) {
        for held in self.take_held(topic, queue_id) {
            pull::wake(node, held.job, held.until);
        }
    }

    fn take_due(&self, at: Instant) -> Vec<Held> {
        let mut holds = self.holds.borrow_mut();
        let mut due = Vec::new();
        holds.topics.retain(|_, queues| {
            queues.retain(|_, held| {
                due.extend(held.extract_if(.., |h| h.until <= at));
                !held.is_empty()
            });
            !queues.is_empty()
        });
        holds.count -= due.len();
        due
    }

    /// Answers the senders whose messages are flushed.
    fn settle_pending(&self, node: &Rc<Node>) {
        let flushed = self.shard.watermarks().flushed;
        while let Some(pending) = self.pop_pending(|p| flushed.covers(p.end)) {
            step!("send_written");
            pending.waiting.deliver(node);
            step!("send_answered");
        }
        if let Some(why) = self.shard.poisoned() {
            let refusal = Refusal::failed(format!("the message may not be stored: {why}"));
            while let Some(pending) = self.pop_pending(|_| true) {
                node.refuse(pending.waiting.sent().to, &refusal);
            }
        }
    }

    /// A flush that takes too long: the message is stored and will be delivered, but not yet safe.
    fn settle_late(&self, node: &Rc<Node>, at: Instant) {
        let timeout = node.settings.flush_timeout;
        while let Some(pending) = self.pop_pending(|p| at.since(p.since) >= timeout) {
            pending.waiting.with_code(ResponseCode::FLUSH_DISK_TIMEOUT).deliver(node);
        }
    }

    fn pop_pending(&self, ready: impl Fn(&Pending) -> bool) -> Option<Pending> {
        let mut pending = self.pending.borrow_mut();
        if pending.front().is_some_and(ready) { pending.pop_front() } else { None }
    }

    fn has_settled(&self) -> bool {
        if self.shard.has_arrivals() {
            return true;
        }
        let pending = self.pending.borrow();
        let Some(front) = pending.front() else { return false };
        self.shard.watermarks().flushed.covers(front.end) || self.shard.poisoned().is_some()
    }

    fn has_deadlines(&self) -> bool {
        self.holds.borrow().count > 0 || !self.pending.borrow().is_empty() || self.has_line()
    }
}

/// Answers senders and pulls as the watermarks move.
async fn settle(node: Rc<Node>, log: Rc<Log>) {
    let mut arrivals: Vec<QueueId> = Vec::new();
    loop {
        log.shard.progress().until(|| log.has_settled().then_some(())).await;
        log.settle_pending(&node);
        log.shard.take_arrivals(&mut arrivals);
        for queue in arrivals.drain(..) {
            let Some((topic, queue_id)) = log.shard.queue_name(queue) else { continue };
            log.tell_watcher(&topic, queue_id);
            if log.holds.borrow().count == 0 {
                continue;
            }
            for held in log.take_held(&topic, queue_id) {
                pull::wake(&node, held.job, held.until);
            }
        }
    }
}

async fn watch_deadlines(node: Rc<Node>, log: Rc<Log>) {
    loop {
        if !log.has_deadlines() {
            log.waits.wait().await;
        }
        sleep(TICK).await;
        let at = now();
        log.settle_late(&node, at);
        log.line.refuse_overdue(&node, at);
        for held in log.take_due(at) {
            pull::expire(&node, held.job);
        }
    }
}
