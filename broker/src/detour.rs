//! Messages that consumers are not to see yet: delayed ones and the halves of transactions. Each is kept in a system
//! topic on the very log shard where its own queue lives, with a note of where it belongs, so that releasing it is an
//! append to the same log and needs no other core. When it is released is the business of [`crate::delay`],
//! [`crate::timer`] and [`crate::transaction`].

use ringmq_protocol::names;
use ringmq_protocol::properties::{self, sys_flag};

use crate::message::Message;
use crate::node::Node;

/// Bytes of properties that every kept message has room for: what is added before it is where it belongs, above all its times
/// as a timer, and the number of checks of a half and which one it was at first.
pub const ROOM_LATER: usize = 256;

/// A message on its way around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detour {
    /// Kept for the time of a delay level, counted from 1.
    Level(i32),
    /// Kept until its transaction ends.
    Half,
    /// Kept until a time, in milliseconds since 1970 by the timers' clock.
    Timer(u64),
}

/// Where a message is kept meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub topic: &'static str,
    pub queue_id: i32,
}

impl Detour {
    /// Where log shard `log` keeps such messages; `None` while the broker starts.
    pub fn kept(self, node: &Node, log: u16) -> Option<Kept> {
        let (topic, nth) = match self {
            Self::Level(level) => (names::SCHEDULE_TOPIC, level.saturating_sub(1)),
            Self::Half => (names::TRANS_HALF_TOPIC, 0),
            Self::Timer(_) => (names::TIMER_TOPIC, 0),
        };
        Some(Kept { topic, queue_id: own_queue(node, topic, log, nth)? })
    }

    /// What its sysFlag becomes while it is kept.
    pub fn sys_flag(self, flags: i32) -> i32 {
        match self {
            Self::Level(_) | Self::Timer(_) => flags,
            // Readable by its number like any other record, by whoever ends the transaction.
            Self::Half => sys_flag::with_transaction(flags, 0),
        }
    }
}

/// The `nth` queue that a log shard has of a system topic which gives each of them as many.
pub fn own_queue(node: &Node, topic: &str, log: u16, nth: i32) -> Option<i32> {
    let start = node.topics.borrow().get(topic)?.start;
    let shards = i32::from(node.log_shards());
    let first = (i32::from(log) - i32::from(start)).rem_euclid(shards);
    nth.checked_mul(shards)?.checked_add(first)
}

/// Sends a message around: it is kept on `log` and notes where it belongs.
pub fn divert(message: &mut Message, detour: Detour, kept: Kept) {
    let (topic, queue_id) = (std::mem::replace(&mut message.topic, kept.topic.to_owned()), message.queue_id);
    message.set(properties::REAL_TOPIC, &topic);
    message.set(properties::REAL_QID, &queue_id.to_string());
    if let Detour::Timer(due_ms) = detour {
        message.set(properties::TIMER_OUT_MS, &due_ms.to_string());
    }
    message.queue_id = kept.queue_id;
    message.sys_flag = detour.sys_flag(message.sys_flag);
}

/// Brings a kept message back to where it belongs; false if it does not say where.
pub fn restore(message: &mut Message) -> bool {
    let Some(queue_id) = message.number(properties::REAL_QID) else { return false };
    let Some(topic) = message.property(properties::REAL_TOPIC).map(str::to_owned) else { return false };
    message.topic = topic;
    message.queue_id = queue_id;
    queue_id >= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_later_has_room() {
        let added =
            |names: &[&str]| names.iter().map(|name| name.len() + i64::MIN.to_string().len() + 2).sum::<usize>();
        let timer = [properties::TIMER_ENQUEUE_MS, properties::TIMER_DEQUEUE_MS, properties::TIMER_ROLL_TIMES];
        let half = [properties::TRAN_PREPARED_QUEUE_OFFSET, properties::TRANSACTION_CHECK_TIMES, properties::WAIT];
        assert!(added(&timer) <= ROOM_LATER && added(&half) <= ROOM_LATER);
    }
}
