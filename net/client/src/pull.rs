//! What a pull asks and what it brings.

use std::time::Duration;

use ringmq_protocol::body::MessageQueue;

use crate::message::ReceivedMessage;

/// Why a pull brought what it brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStatus {
    /// There are messages.
    Found,
    /// Nothing behind this offset yet.
    NoNew,
    /// There were messages, but none that the filter lets through; go on at the next offset.
    NoMatched,
    /// The offset is outside of what the queue has; go on at the next offset.
    OffsetMoved,
}

/// What a pull brought, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOutcome {
    /// Whether there are messages, or why not.
    pub status: PullStatus,
    /// Those that match the subscription, in the order of the queue.
    pub messages: Vec<ReceivedMessage>,
    /// Where to go on.
    pub next_offset: i64,
    /// The queue's first message that there still is.
    pub min_offset: i64,
    /// Behind the queue's last message.
    pub max_offset: i64,
    /// The broker id to read from next: 0 is the master.
    pub suggested_broker_id: i64,
}

/// What to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// The queue to read.
    pub queue: MessageQueue,
    /// The first message that is wanted.
    pub offset: i64,
    /// How many messages at most; brokers give no more than their own limit, 32 unless configured.
    pub messages_max: i32,
    /// How long the broker may wait for a message when there is none; `None`: it answers at once.
    pub hold: Option<Duration>,
    /// Committed for the group on the way, if it goes to the master.
    pub commit: Option<i64>,
    /// The broker id to read from if it has an address: 0 is the master.
    pub broker_id: i64,
}

impl Pull {
    /// Up to 32 messages, without waiting.
    pub fn new(queue: MessageQueue, offset: i64) -> Pull {
        Pull { queue, offset, messages_max: 32, hold: None, commit: None, broker_id: 0 }
    }
}
