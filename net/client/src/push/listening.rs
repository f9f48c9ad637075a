//! Calling the listener, and doing what it says: counting a message as done, handing it back to the broker, trying it
//! again here, or burying it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmq_protocol::code::RequestCode;
use ringmq_protocol::names;
use ringmq_protocol::properties::{self, sys_flag};

use super::assigned::{Assigned, Next};
use super::{Consumed, Shared, pulling};
use crate::driver::asked::Asked;
use crate::driver::blocking::lock;
use crate::error::{Error, MessageFault, Result};
use crate::identity::now_ms;
use crate::message::ReceivedMessage;
use crate::producer::prepare::Prepared;

/// A message that could be handed back nowhere is tried again here.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// So long one orderly queue may keep a thread to itself (`MAX_TIME_CONSUME_CONTINUOUSLY`).
const TURN_MAX: Duration = Duration::from_secs(60);

/// What a group is configured to if nobody says otherwise (`retryMaxTimes`).
const RECONSUME_MAX_DEFAULT: i32 = 16;

/// The delay level of a first retry; each one has the next.
const FIRST_RETRY_LEVEL: i32 = 3;

/// What a retried message is given anew, or must not take along.
const NOT_KEPT: [&str; 10] = [
    properties::DELAY,
    properties::REAL_TOPIC,
    properties::REAL_QID,
    properties::RETRY_TOPIC,
    properties::ORIGIN_MESSAGE_ID,
    properties::RECONSUME_TIME,
    properties::MAX_RECONSUME_TIMES,
    properties::TRAN_MSG,
    properties::MIN_OFFSET,
    properties::MAX_OFFSET,
];

pub(super) enum Work {
    /// With the epoch of the queue in which it was pulled.
    Message(Arc<Assigned>, Box<ReceivedMessage>, u64),
    /// An orderly queue that has messages.
    Queue(Arc<Assigned>),
    /// A message that an operator wants to be consumed now.
    Direct(Asked, Box<ReceivedMessage>),
}

impl Shared {
    /// One thread of the listener.
    pub(super) fn listen_all(&self) {
        while let Some(work) = self.pool.next() {
            match work {
                Work::Message(assigned, message, epoch) => self.listen_once(assigned, message, epoch),
                Work::Queue(assigned) => self.listen_in_order(assigned),
                Work::Direct(asked, message) => self.listen_directly(asked, &message),
            }
        }
    }

    fn ask_listener(&self, assigned: &Assigned, message: &ReceivedMessage) -> Consumed {
        let began = Instant::now();
        let consumed = self.try_listener(message).unwrap_or_else(|| {
            tracing::error!(msg_id = message.msg_id(), "the listener panicked, the message will come again");
            Consumed::Later
        });
        let is_done = consumed == Consumed::Done;
        lock(&self.tally).consumed(&assigned.queue.topic, is_done, began.elapsed(), now_ms());
        consumed
    }

    /// `None` when the listener panicked.
    pub(super) fn try_listener(&self, message: &ReceivedMessage) -> Option<Consumed> {
        catch_unwind(AssertUnwindSafe(|| (self.listener)(message))).ok()
    }

    fn listen_once(&self, assigned: Arc<Assigned>, mut message: Box<ReceivedMessage>, epoch: u64) {
        if !assigned.is_current(epoch) {
            return;
        }
        let consumed = self.ask_listener(&assigned, &message);
        // Whoever has the queue now gets the message as well.
        if !assigned.is_current(epoch) {
            return;
        }
        let delay_level = match consumed {
            Consumed::Done => return self.done(&assigned, &message, epoch),
            Consumed::Later => 0,
            Consumed::LaterAt(level) => i32::from(level),
            Consumed::DeadLetter => -1,
        };
        if !self.options.is_clustering() {
            tracing::warn!(msg_id = message.msg_id(), "a broadcast message was not consumed; it does not come again");
            return self.done(&assigned, &message, epoch);
        }
        match self.hand_back(&assigned, &message, delay_level) {
            Ok(()) => self.done(&assigned, &message, epoch),
            Err(error) => {
                tracing::warn!(msg_id = message.msg_id(), %error, "a message could not be handed back, it is tried again here");
                message.reconsume_times += 1;
                self.pool.push_later(Work::Message(assigned, message, epoch), TRY_AGAIN);
            }
        }
    }

    fn done(&self, assigned: &Assigned, message: &ReceivedMessage, epoch: u64) {
        if assigned.done(message.queue_offset, epoch, &self.options, self.is_orderly) {
            // A consumer that has ended pulls no more.
            let _ = self.pulls.send(pulling::Event::Look);
        }
    }

    /// To the broker that has the message; if that cannot be, to the retry topic at any.
    fn hand_back(&self, assigned: &Assigned, message: &ReceivedMessage, delay_level: i32) -> Result<()> {
        let max = self.options.reconsume_max;
        let Err(error) = self.member.send_back(message, &assigned.queue, delay_level, max) else { return Ok(()) };
        tracing::warn!(msg_id = message.msg_id(), %error, "a message was not taken back, it is sent to the retry topic");
        let times = if delay_level < 0 { None } else { Some(message.reconsume_times + 1) };
        let level = if delay_level > 0 { delay_level } else { FIRST_RETRY_LEVEL + message.reconsume_times };
        self.send_to_retry(message, times, level)
    }

    /// `None` times: more than it may have, which makes it a dead letter.
    fn send_to_retry(&self, message: &ReceivedMessage, times: Option<i32>, delay_level: i32) -> Result<()> {
        let max = self.options.reconsume_max.unwrap_or(RECONSUME_MAX_DEFAULT);
        let times = times.unwrap_or(max.saturating_add(1));
        self.sending.send(&retry_message(&self.options.group, message, times, max, delay_level)?).map(|_| ())
    }

    fn listen_in_order(&self, assigned: Arc<Assigned>) {
        let began = Instant::now();
        while !self.pool.is_closed() {
            if began.elapsed() > TURN_MAX {
                return self.pool.push(Work::Queue(assigned));
            }
            match assigned.next_in_line(self.options.is_clustering()) {
                Next::Nothing => return,
                Next::GivenUp => return self.let_go(&assigned),
                Next::Unlocked => {
                    if !self.lock_again(&assigned) {
                        return self.pool.push_later(Work::Queue(assigned), self.options.suspend);
                    }
                }
                Next::Message(message, epoch) => {
                    if !self.consume_in_order(&assigned, *message, epoch) {
                        return self.pool.push_later(Work::Queue(assigned), self.options.suspend);
                    }
                }
            }
        }
    }

    fn lock_again(&self, assigned: &Assigned) -> bool {
        let locked = self.member.lock_queues(slice::from_ref(&assigned.queue)).unwrap_or_else(|error| {
            tracing::warn!(queue = ?assigned.queue, %error, "a queue cannot be locked, it waits");
            Vec::new()
        });
        self.take_lock(assigned, locked.contains(&assigned.queue))
    }

    /// False when the queue is to be left alone for a while, with this message the next one.
    fn consume_in_order(&self, assigned: &Assigned, mut message: ReceivedMessage, epoch: u64) -> bool {
        let consumed = self.ask_listener(assigned, &message);
        let is_last = self.options.reconsume_max.is_some_and(|max| message.reconsume_times >= max);
        let is_dead = match consumed {
            Consumed::Done => {
                self.done(assigned, &message, epoch);
                return true;
            }
            Consumed::DeadLetter => true,
            Consumed::Later | Consumed::LaterAt(_) => is_last,
        };
        if is_dead && self.bury(&message) {
            self.done(assigned, &message, epoch);
            return true;
        }
        message.reconsume_times = message.reconsume_times.saturating_add(1);
        assigned.put_back(message, epoch);
        false
    }

    /// Sends a message to the dead letters; false when that failed.
    fn bury(&self, message: &ReceivedMessage) -> bool {
        if !self.options.is_clustering() {
            tracing::warn!(msg_id = message.msg_id(), "a broadcast message was not consumed; it does not come again");
            return true;
        }
        let sent = self.send_to_retry(message, None, FIRST_RETRY_LEVEL);
        if let Err(error) = &sent {
            tracing::warn!(msg_id = message.msg_id(), %error, "a message could not be sent to the dead letters, it is tried again");
        }
        sent.is_ok()
    }

    /// The last that a thread does with an orderly queue that was given up.
    fn let_go(&self, assigned: &Arc<Assigned>) {
        self.hand_over(slice::from_ref(assigned)).unwrap_or_else(|error| {
            tracing::warn!(queue = ?assigned.queue, %error, "a queue was not handed over in order; some messages will come again");
        });
        self.leaving.left(&assigned.queue);
    }
}

/// A copy of a message for the group's retry topic, as Java's consumers make it.
fn retry_message(
    group: &str,
    message: &ReceivedMessage,
    reconsume_times: i32,
    max_reconsume_times: i32,
    delay_level: i32,
) -> Result<Prepared> {
    let topic = names::retry_topic(group);
    let msg_id = message.msg_id();
    let origin = message.property(properties::ORIGIN_MESSAGE_ID).unwrap_or(&msg_id);
    let level = delay_level.to_string();
    let own = [
        (properties::RETRY_TOPIC, message.topic.as_str()),
        (properties::ORIGIN_MESSAGE_ID, origin),
        (properties::DELAY, level.as_str()),
    ];
    let kept = message.properties.iter().filter(|(name, _)| !NOT_KEPT.contains(&name.as_str()));
    let mut text = String::new();
    for (name, value) in kept.map(|(name, value)| (name.as_str(), value.as_str())).chain(own) {
        properties::push(&mut text, name, value).map_err(|fault| Error::Message {
            topic: topic.clone(),
            fault: MessageFault::Property { name: name.to_owned(), fault },
        })?;
    }
    // The body was unpacked, unless it could not be.
    let packing = sys_flag::COMPRESSED | sys_flag::COMPRESSION_MASK;
    Ok(Prepared {
        code: RequestCode::SEND_MESSAGE_V2,
        topic,
        msg_id,
        properties: text,
        body: message.body.clone(),
        sys_flag: if message.packed { message.sys_flag & packing } else { 0 },
        flag: message.flag,
        reconsume_times,
        max_reconsume_times: Some(max_reconsume_times),
    })
}
