//! How a producer sends, and what it is told about a message that was stored.

use std::time::Duration;

use ringmq_protocol::body::MessageQueue;
use ringmq_protocol::code::ResponseCode;

use crate::driver::blocking::Options;
use crate::message::BODY_MAX;

/// How a producer sends. The defaults are those of RocketMQ's Java client.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// The producer group: whom brokers ask about transactions, and what operators see.
    pub group: String,
    /// For one send, all tries together: for the route of a topic that is not known yet, for connections, for writing and for
    /// the answers.
    pub send_timeout: Duration,
    /// Tries after the first, each on another broker if there is one, on another queue at least.
    pub retries: u32,
    /// Sends by [`Producer::send_async`](super::Producer::send_async) that may be under way; one more waits for its turn.
    pub async_max: usize,
    /// Bodies of this length and above are compressed with zlib; `None`: never.
    pub compress_above: Option<usize>,
    /// zlib's level, 1 (fast) to 9 (small).
    pub compress_level: u32,
    /// Longer bodies are refused here, in bytes; brokers have their own `maxMessageSize`.
    pub body_max: usize,
    /// Queues of a topic that the broker creates because of a message for it.
    pub new_topic_queues: i32,
    /// Whose brokers know a [`TransactionProducer`](super::TransactionProducer) before it sends, so that they can ask it
    /// about the transactions of an earlier run. Needed where brokers do not create topics by themselves.
    pub topics: Vec<String>,
    /// How connections are made.
    pub connection: Options,
}

impl ProducerOptions {
    /// 3 s for a send and two more tries within them, 10,000 under way, bodies of 4,096 bytes and above compressed.
    pub fn new(group: impl Into<String>) -> ProducerOptions {
        ProducerOptions {
            group: group.into(),
            send_timeout: Duration::from_secs(3),
            retries: 2,
            async_max: 10_000,
            compress_above: Some(4096),
            compress_level: 5,
            body_max: BODY_MAX,
            new_topic_queues: 4,
            topics: Vec::new(),
            connection: Options::default(),
        }
    }
}

/// What the broker did with a message it stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStatus {
    /// As durable as the broker is configured to make it.
    Stored,
    /// Stored; the flush was not over in time.
    FlushDiskTimeout,
    /// Stored; the slave did not have it in time.
    FlushSlaveTimeout,
    /// Stored; there is no slave to have it.
    SlaveNotAvailable,
}

impl SendStatus {
    pub(crate) fn of(code: ResponseCode) -> Option<SendStatus> {
        match code {
            ResponseCode::SUCCESS => Some(SendStatus::Stored),
            ResponseCode::FLUSH_DISK_TIMEOUT => Some(SendStatus::FlushDiskTimeout),
            ResponseCode::FLUSH_SLAVE_TIMEOUT => Some(SendStatus::FlushSlaveTimeout),
            ResponseCode::SLAVE_NOT_AVAILABLE => Some(SendStatus::SlaveNotAvailable),
            _ => None,
        }
    }
}

/// A message that the broker has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendReceipt {
    /// How safe it is.
    pub status: SendStatus,
    /// The unique key, which users call the message id.
    pub msg_id: String,
    /// The broker's id; of a batch, all of them, separated by commas.
    pub offset_msg_id: String,
    /// Where it is.
    pub queue: MessageQueue,
    /// Of a batch, that of its first message.
    pub queue_offset: i64,
    /// Of a half message, the transaction's id.
    pub transaction_id: Option<String>,
}
