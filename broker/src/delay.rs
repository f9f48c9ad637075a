//! Delivery of messages that were kept for the time of a delay level. Each log shard has a queue a level, in which
//! messages come due in the order of their arrival, so all that is to be remembered is how far each queue has been
//! delivered. That is a consumer offset like any other; after a crash what was delivered since it was saved is delivered
//! again.
//!
//! A message that the disk does not read is set aside ([`crate::aside`]), and those behind it go on.
//!
//! Due is the store time and the delay, by the wall clock, or the delay since the message was first seen, by the clock that
//! nobody sets: a wall clock that was set back makes nobody wait longer.

mod again;
pub mod levels;
mod seen;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::{Position, QueueOffset, ReadBatch, ReadError, ReadStatus};
use ringmq_protocol::message::Record;
use ringmq_protocol::names;
use ringmq_rt::time::{sleep, sleep_until};
use ringmq_rt::{Slice, now, spawn, step, wall_ms};

pub use self::levels::{Levels, LevelsError};
use self::seen::Seen;
use crate::aside::{Asides, TRIES, is_unread};
use crate::detour::{self, Detour};
use crate::log::Log;
use crate::mail::Mail;
use crate::message::Message;
use crate::node::{CONTROL, Node};
use crate::own_group;
use crate::put::{self, PutError};
use crate::walk::Walk;

/// Bytes of the messages that are read, delivered and waited for together.
const BATCH_BYTES: u64 = 4 << 20;
/// Longest wait without a look at the wall clock.
const LOOK: Duration = Duration::from_secs(1);
/// Wait after an error.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts the deliveries of one log shard. `progress` gives the queue offset from which a queue is to be delivered.
pub fn start(node: &Rc<Node>, number: u16, log: &Rc<Log>, progress: impl Fn(&str, i32) -> Option<i64>) {
    for level in 1..=node.settings.delay_levels.highest() {
        let Some(kept) = Detour::Level(level).kept(node, number) else { continue };
        let from = progress(names::SCHEDULE_TOPIC, kept.queue_id).and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
        let delay = node.settings.delay_levels.delay(level);
        let level = Rc::new(Level {
            node: Rc::clone(node),
            log: Rc::clone(log),
            queue_id: kept.queue_id,
            delay,
            at: Cell::new(from),
            open: Rc::default(),
        });
        let open = Rc::clone(&level.open);
        log.keep_from(move |_| open.floor());
        let log_start = log.shard.start();
        let walk = Walk::new(names::SCHEDULE_TOPIC, kept.queue_id, BATCH_BYTES);
        let queue = LevelQueue { level, walk, seen: Seen::new(delay), log_start, told: 0, vain: 0 };
        spawn("deliver a delay level", queue.run()).detach();
    }
}

fn log_offset(record: &Slice) -> Option<u64> {
    let (record, _) = Record::parse(record).ok()?;
    Position::from_wire(record.position()).map(Position::offset)
}

/// A message that is due, and what delivers it.
struct Due {
    log: u16,
    message: Message,
}

/// A message that is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Queue offset.
    at: u64,
    /// Log offset.
    offset: u64,
}

/// One level on one log shard.
struct Level {
    node: Rc<Node>,
    log: Rc<Log>,
    queue_id: i32,
    delay: Duration,
    /// The first message that is neither delivered nor set aside.
    at: Cell<u64>,
    open: Rc<Open>,
}

/// Messages of a level that are not delivered: retention leaves them alone.
#[derive(Default)]
struct Open {
    /// The log offset of the first that is not set aside, once it was read.
    needs: Cell<Option<u64>>,
    asides: RefCell<Asides<Place>>,
}

impl Open {
    /// The log offset from which on the log is still needed.
    fn floor(&self) -> Option<u64> {
        let aside = self.asides.borrow().first().map(|place| place.offset);
        aside.into_iter().chain(self.needs.get()).min()
    }
}

/// What delivers it in order.
struct LevelQueue {
    level: Rc<Level>,
    walk: Walk<'static>,
    seen: Seen,
    /// Where the log began when it was last looked for messages that were dropped.
    log_start: u64,
    /// Dropped messages in front of this one are told of.
    told: u64,
    /// Reads in vain since the last one that gave something.
    vain: u32,
}

impl LevelQueue {
    async fn run(mut self) {
        let arrived = self.level.log.watch(names::SCHEDULE_TOPIC, self.level.queue_id);
        while self.level.log.shard.poisoned().is_none() {
            match self.read().await {
                None => {
                    self.level.open.needs.set(None);
                    arrived.wait().await;
                }
                Some(batch) => {
                    step!("level_read");
                    if let Err(error) = self.deliver(&batch.records).await {
                        let Level { queue_id, at, .. } = &*self.level;
                        tracing::error!(queue = queue_id, at = at.get(), %error, "delayed messages are not delivered");
                        sleep(AGAIN).await;
                    }
                }
            }
        }
    }

    /// The next messages; `None` if there are none yet.
    async fn read(&mut self) -> Option<ReadBatch> {
        let level = Rc::clone(&self.level);
        let (queue, shard) = (level.queue_id, level.log.shard.id());
        loop {
            self.look();
            let at = level.at.get();
            let read = self.walk.read(&level.log.shard, QueueOffset(at)).await;
            self.vain = if read.is_ok() { 0 } else { self.vain.saturating_add(1) };
            match read {
                Ok(batch) => match batch.status {
                    ReadStatus::Found => return Some(batch),
                    ReadStatus::OffsetTooSmall => {
                        self.tell_dropped(at, batch.next.0);
                        level.at.set(batch.next.0);
                        level.note();
                    }
                    ReadStatus::OffsetOverflowBadly => {
                        let (from, to) = (at, batch.next.0);
                        tracing::warn!(
                            queue,
                            from,
                            to,
                            "the log ends in front of the delivered messages of a delay level, delivery goes on there"
                        );
                        level.at.set(to);
                    }
                    _ => return None,
                },
                Err(error @ ReadError::Damaged { .. }) => {
                    level.node.served.delayed_dropped(1);
                    tracing::error!(%shard, queue, at, %error, "a delayed message is damaged and is not delivered");
                    level.at.set(at + 1);
                    level.note();
                }
                Err(error) if is_unread(&error) && self.vain >= TRIES && self.set_aside().await => (),
                Err(error) => {
                    tracing::error!(%shard, queue, at, %error, "delayed messages cannot be read");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Sets the next message aside; false if too many are, or if it is not the message that the disk does not read: a block of the
    /// queue's index holds up what it leads to.
    async fn set_aside(&mut self) -> bool {
        let level = &self.level;
        let at = level.at.get();
        let found = level.log.shard.position_of(names::SCHEDULE_TOPIC, level.queue_id, QueueOffset(at)).await;
        let Ok(Some(position)) = found else { return false };
        let Err(error) = level.log.shard.record_at(position).await else { return false };
        if !is_unread(&error) {
            return false;
        }
        let due = now().after(self.seen.left(at, now()));
        if !again::add(level, Place { at, offset: position.offset() }, due) {
            return false;
        }
        let queue = level.queue_id;
        tracing::error!(%position, queue, at, %error, "a delayed message cannot be read and is set aside, those behind it go on");
        level.at.set(at + 1);
        level.note();
        true
    }

    /// Delivers messages as they come due; those that come due together are stored together.
    async fn deliver(&mut self, records: &[Slice]) -> Result<(), PutError> {
        let level = Rc::clone(&self.level);
        let mut done = 0;
        while let Some(next) = records.get(done) {
            level.open.needs.set(log_offset(next));
            let first = level.at.get();
            self.wait_for(next, first + (records.len() - done) as u64).await;
            step!("level_due");
            let due = (first..).zip(&records[done..]).take_while(|(at, record)| self.left(*at, record).is_zero());
            // A clock that is set back just now makes it none.
            let together = done..done + due.count().max(1);
            level.store(&records[together.clone()]).await?;
            done = together.end;
            level.at.set(first + together.len() as u64);
            level.note();
            step!("level_noted");
        }
        // What was needed last is, until it is known whether there is more.
        Ok(())
    }

    /// Time until the record of a queue offset is due.
    fn left(&self, at: u64, record: &Slice) -> Duration {
        self.level.left(record).min(self.seen.left(at, now()))
    }

    /// Remembers that what is in the queue is there now.
    fn look(&mut self) {
        let Level { log, queue_id, at, .. } = &*self.level;
        let end = log.shard.max_offset(names::SCHEDULE_TOPIC, *queue_id).0;
        self.seen.look(at.get(), end, now());
    }

    /// Waits until the next record is due. Those up to the queue offset `held` are in memory, whatever becomes of their segment.
    async fn wait_for(&mut self, record: &Slice, held: u64) {
        loop {
            self.look();
            self.look_for_dropped(held).await;
            let left = self.left(self.level.at.get(), record);
            if left.is_zero() {
                return;
            }
            sleep_until(now().after(left.min(LOOK))).await;
        }
    }

    /// A full disk drops messages before their time: that is told when it happens, not when they would have come.
    async fn look_for_dropped(&mut self, held: u64) {
        let shard = &self.level.log.shard;
        let start = shard.start();
        if start == self.log_start {
            return;
        }
        // What cannot be read now is looked at again, and told of by the read that comes to it.
        if let Ok(first) = shard.first_offset(names::SCHEDULE_TOPIC, self.level.queue_id).await {
            self.log_start = start;
            self.tell_dropped(held, first.map_or(held, |first| first.0));
        }
    }

    /// Messages of these queue offsets were dropped undelivered.
    fn tell_dropped(&mut self, from: u64, to: u64) {
        let messages = to.saturating_sub(from.max(self.told));
        if messages > 0 {
            self.told = to;
            let Level { node, log, queue_id: queue, .. } = &*self.level;
            node.served.delayed_dropped(messages);
            let shard = log.shard.id();
            tracing::warn!(%shard, queue, messages, to, "messages of a delay level were dropped before their time, with the segments that they lay in");
        }
    }
}

impl Level {
    /// Time until a record is due by the wall clock.
    fn left(&self, record: &Slice) -> Duration {
        let stored = Record::parse(record).map_or(0, |(view, _)| view.store_timestamp());
        let delay = i64::try_from(self.delay.as_millis()).unwrap_or(i64::MAX);
        let left = stored.saturating_add(delay).saturating_sub(wall_ms());
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    /// Stores messages where they belong; most belong to this log.
    async fn store(&self, records: &[Slice]) -> Result<(), PutError> {
        let mut due: Vec<Due> = records.iter().filter_map(|record| self.restored(record)).collect();
        while let Some(log) = due.first().map(|first| first.log) {
            let (own, others): (Vec<_>, Vec<_>) = due.into_iter().partition(|one| one.log == log);
            put::release_all(&self.node, log, own.into_iter().map(|one| one.message).collect()).await?;
            due = others;
        }
        Ok(())
    }

    /// The message as it is delivered; `None` if it has no place any more.
    fn restored(&self, record: &Slice) -> Option<Due> {
        let mut message = match Message::of_record(record) {
            Ok(message) => message,
            Err(error) => {
                self.node.served.delayed_dropped(1);
                let (shard, offset) = (self.log.shard.id(), log_offset(record));
                tracing::error!(%shard, queue = self.queue_id, offset, %error, "a delayed message is damaged and is not delivered");
                return None;
            }
        };
        if !detour::restore(&mut message) {
            tracing::warn!(
                queue = self.queue_id,
                "a delayed message does not say where it belongs and is not delivered"
            );
            return None;
        }
        let Some(topic) = self.node.topics.borrow().get(&message.topic).cloned() else {
            tracing::warn!(topic = message.topic, "a delayed message is not delivered: its topic was deleted");
            return None;
        };
        Some(Due { log: topic.home(message.queue_id, self.node.log_shards()), message })
    }

    /// Tells how far the queue is delivered, to be saved.
    fn note(&self) {
        let at = self.open.asides.borrow().first().map_or(self.at.get(), |place| place.at);
        let commit = Mail::Progress {
            group: own_group::LEVELS.into(),
            topic: names::SCHEDULE_TOPIC.into(),
            queue_id: self.queue_id,
            offset: i64::try_from(at).unwrap_or(i64::MAX),
        };
        self.node.tell(CONTROL, commit);
    }
}
