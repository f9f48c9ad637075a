//! What shards say to each other. Every hop of the broker is one of these posts.

use std::net::SocketAddr;
use std::sync::Arc;

use ringmq_engine::{QueueOffset, ReadStatus};
use ringmq_net::{ConnId, Frame};
use ringmq_protocol::command::HeaderView;
use ringmq_protocol::filter::TagFilter;
use ringmq_rt::net::Outbox;

use crate::group_config::GroupChange;
use crate::refusal::Refusal;
use crate::stats::Totals;
use crate::subscription::SubscriptionChange;
use crate::topic::{Topic, TopicChange};

/// Where an answer goes.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub conn: ConnId,
    pub opaque: i32,
    /// The requester wants none, not even an error.
    pub oneway: bool,
}

impl Answer {
    pub fn to(conn: ConnId, view: &HeaderView<'_>) -> Self {
        Self { conn, opaque: view.opaque, oneway: view.is_oneway() }
    }
}

/// A short text without an allocation, for the unique key that a send's answer repeats.
#[derive(Debug, Clone, Copy)]
pub struct ShortText {
    len: u8,
    bytes: [u8; 63],
}

impl ShortText {
    /// `None` if it does not fit; a unique key has 32 or 56 characters.
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; 63];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { len: u8::try_from(text.len()).ok()?, bytes })
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// A message that is stored: what its sender is told.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub to: Answer,
    /// SUCCESS, or why it is less safe than asked.
    pub code: i32,
    pub position: i64,
    pub queue_id: i32,
    pub queue_offset: QueueOffset,
    pub unique_key: Option<ShortText>,
}

/// A send whose topic and queue are decided, on its way to the queue's log.
#[derive(Debug)]
pub struct SendJob {
    pub to: Answer,
    pub born_host: SocketAddr,
    pub log: u16,
    pub queue_id: i32,
    /// The topic's messages carry several tags each.
    pub multi_tags: bool,
    pub frame: Frame,
}

/// A pull whose group, topic and filter are checked.
#[derive(Debug, Clone)]
pub struct PullJob {
    pub to: Answer,
    pub log: u16,
    pub topic: Arc<Topic>,
    pub queue_id: i32,
    pub offset: i64,
    pub max_messages: usize,
    pub max_bytes: u64,
    /// `None` passes everything.
    pub filter: Option<Arc<TagFilter>>,
    /// How long to wait for a message, in milliseconds; 0 answers at once.
    pub hold_ms: u64,
    /// Group's `groupSysFlag`.
    pub group_sys_flag: i32,
    /// `brokerId` from which the group should read on.
    pub suggest_broker: i64,
    /// Read again for a peer that had not taken its earlier answers.
    pub deferred: bool,
    /// Messages in its answer, once there is one.
    pub found: usize,
}

/// A question about one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Min,
    Max,
    /// The first message stored at or after this time, or the last at or before it.
    ByTime {
        timestamp: i64,
        upper: bool,
    },
    EarliestStoreTime,
}

/// A question about one queue, from a client.
#[derive(Debug)]
pub struct QueryJob {
    pub to: Answer,
    pub log: u16,
    pub topic: Box<str>,
    pub queue_id: i32,
    pub about: About,
}

/// A request that the control shard serves.
#[derive(Debug)]
pub struct ControlJob {
    pub to: Answer,
    pub peer: SocketAddr,
    pub frame: Frame,
}

/// A question from shard to shard.
#[derive(Debug)]
pub enum Ask {
    /// To the control shard: create the topic of a send, if the rules allow.
    EnsureTopic { topic: Box<str>, default_topic: Box<str>, default_queues: i32, unit_mode: bool },
    /// To the control shard: create the group of a pull, if the rules allow.
    EnsureGroup { group: Box<str> },
    /// To a queue's shard: its ends.
    Queue { log: u16, topic: Box<str>, queue_id: i32 },
    /// To every shard: drop the topic's messages.
    DropTopic { topic: Box<str> },
    /// To the queues' shard: where some queues of a topic begin.
    Firsts { log: u16, topic: Box<str>, queues: Box<[i32]> },
    /// To every shard: drop expired segments now, and for some rounds.
    DropExpired,
    /// To every shard: drop the messages of topics that are not in its copy of the topic table.
    DropUnused,
    /// To every shard: what it has counted, and the time of its oldest message if that is wanted.
    Totals { oldest: bool },
}

/// The ends of a queue.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueueEnds {
    pub min: i64,
    pub max: i64,
    /// Store time of the last message, 0 without one.
    pub last_ms: i64,
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Told {
    Done,
    Refused(Refusal),
    Queue(QueueEnds),
    /// In the order in which they were asked for.
    Firsts(Vec<i64>),
    Totals(Box<Totals>),
    Failed(String),
}

/// A post.
#[derive(Debug)]
pub enum Mail {
    Send(Box<SendJob>),
    Pull(Box<PullJob>),
    Query(Box<QueryJob>),
    Control(Box<ControlJob>),
    /// To the shard of the connection: an answer to write.
    Sent(Sent),
    /// To the shard of the connection: what a pull found.
    Pulled(Box<PullJob>, Box<Outbox>),
    /// To the shard of the connection: a whole answer.
    Out(Answer, Box<Outbox>),
    Ask {
        from: usize,
        token: usize,
        ask: Box<Ask>,
    },
    Told {
        token: usize,
        told: Box<Told>,
    },
    /// To the control shard: a group's progress in a queue, committed with a pull.
    Commit {
        group: Box<str>,
        topic: Box<str>,
        queue_id: i32,
        offset: i64,
    },
    /// To the control shard: a client is gone.
    Closed(ConnId),
    /// To the shard of the connection: its group changed.
    Notify {
        conn: ConnId,
        group: Arc<str>,
    },
    /// To the shard of the connection.
    Close(ConnId),
    Topic(TopicChange),
    Group(GroupChange),
    Subscription(SubscriptionChange),
    /// Start-up and stop, see [`crate::start`].
    Life(Box<crate::start::Life>),
}

/// What a pull's status is called in a reply's remark.
pub fn status_name(status: ReadStatus) -> &'static str {
    match status {
        ReadStatus::Found => "FOUND",
        ReadStatus::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
        ReadStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
        ReadStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
        ReadStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
        ReadStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
        ReadStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
    }
}
