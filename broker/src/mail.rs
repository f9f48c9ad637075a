//! What shards say to each other. Every hop of the broker is one of these posts.

use std::net::SocketAddr;
use std::sync::Arc;

use ringmq_engine::{Found, KeyKind, Position, QueueOffset, ReadStatus, Ticket};
use ringmq_net::{ConnId, Frame, Response};
use ringmq_protocol::body::ConsumeQueueEntries;
use ringmq_protocol::command::{Command, HeaderView};
use ringmq_rt::Slice;
use ringmq_rt::net::Outbox;

use crate::client_call::{ClientCall, NoAnswer};
use crate::filter::PullFilter;
use crate::group_config::{Group, GroupChange};
use crate::look::{Question, Seen};
use crate::message::Message;
use crate::put::For;
use crate::refusal::Refusal;
use crate::requests::queue::EntryRange;
use crate::reset::{GroupQueue, ResetChange};
use crate::settings::Settings;
use crate::stats::Totals;
use crate::subscription::{GroupSubscriptions, SubscriptionChange};
use crate::topic::{Deletions, Topic, TopicChange};
use crate::traffic::{Count, Item};
use crate::transaction::{CheckJob, EndJob};

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
    /// As of when the topic was there.
    pub seen: Deletions,
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
    pub filter: Option<PullFilter>,
    /// What the filter was taken from, if that may change while the pull waits.
    pub subscriptions: Option<Arc<GroupSubscriptions>>,
    /// How long to wait for a message, in milliseconds; 0 answers at once.
    pub hold_ms: u64,
    pub group: Arc<Group>,
    /// `brokerId` from which the group should read on.
    pub suggest_broker: i64,
    /// Where the group is to read on, because an administrator said so.
    pub reset: Option<i64>,
    /// Read again for a peer that had not taken its earlier answers.
    pub deferred: bool,
    /// Messages in its answer, once there is one, and their bytes.
    pub found: usize,
    pub found_bytes: u64,
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

/// A question for the messages with a key.
#[derive(Debug)]
pub struct FindJob {
    pub topic: String,
    pub key: String,
    pub kind: KeyKind,
    pub max: usize,
    pub begin_ms: i64,
    pub end_ms: i64,
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
    /// To the control shard: make sure that a topic of the broker's own making exists.
    EnsureOwnTopic { topic: Box<str>, queues: i32, sys_flag: i32 },
    /// To the control shard: a connection of a producer group, another one each time.
    Producer { group: Box<str> },
    /// To a log's shard: store these messages, in this order. Their topics were there as of `seen`.
    Put { log: u16, messages: Vec<Message>, whose: For, seen: Deletions },
    /// To a log's shard: check a half again that was parked on it.
    BringBack { log: u16, half: Box<Message> },
    /// To every shard: drop the topic's messages.
    DropTopic { topic: Box<str> },
    /// To the shard of a client's connection: put a request to it.
    Call(Box<ClientCall>),
    /// To a log's shard: look at queues.
    Look { log: u16, questions: Vec<Question> },
    /// To a log's shard: entries of a queue.
    Entries(EntryRange),
    /// To every shard: what it has counted by topic and group since it was last asked.
    Traffic,
    /// To a log's shard: its messages with a key.
    Find { log: u16, what: Arc<FindJob> },
    /// To a log's shard: the message at a position.
    View { position: Position },
    /// To the queues' shard: where some queues of a topic begin, or `ahead` of retention where they will once what it drops next
    /// is gone. With each queue comes the lowest offset that anybody wonders about: the answer is exact above it.
    Firsts { log: u16, topic: Box<str>, queues: Box<[(i32, i64)]>, ahead: bool },
    /// To every shard: these settings are in force from now on.
    Configure(&'static Settings),
    /// To every shard: drop expired segments now, and for some rounds.
    DropExpired,
    /// To every shard: drop the messages of topics that are not in its copy of the topic table.
    DropUnused,
    /// To every shard: what it has counted, and if `deep` what may have to be read from the disk.
    Totals { deep: bool },
}

/// The ends of a queue.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueueEnds {
    pub min: i64,
    pub max: i64,
    /// Store time of the last message, 0 without one.
    pub last_ms: i64,
    /// Bytes of its log from its message with the offset 0 on; `None` if that is gone, or there is none yet.
    pub behind_origin: Option<u64>,
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
    /// Where the messages of an [`Ask::Put`] are.
    Put(Vec<Ticket>),
    Conn(Option<ConnId>),
    Called(Box<Result<Response, NoAnswer>>),
    Looked(Vec<Seen>),
    Traffic(Vec<(Item, Count)>),
    Entries(Option<ConsumeQueueEntries>),
    /// Messages, newest first, and the position and store time of the last one that the log's index has.
    Found(Vec<Found>, Option<(Position, i64)>),
    /// The message, if there is one.
    Viewed(Option<Slice>),
    Failed(String),
}

impl Told {
    /// The answer where only success counts.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn done(self) -> Result<(), Refusal> {
        if matches!(self, Self::Done) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// What stands in the place of the answer that was expected.
    pub fn unexpected(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Failed(why) => Refusal::failed(why),
            other => Refusal::failed(format!("a shard answered another question: {other:?}")),
        }
    }
}

/// A post.
#[derive(Debug)]
pub enum Mail {
    Send(Box<SendJob>),
    Pull(Box<PullJob>),
    Query(Box<QueryJob>),
    Control(Box<ControlJob>),
    /// To the shard of a half message.
    EndTransaction(Box<EndJob>),
    /// To the shard of a producer's connection: ask it about a transaction.
    Check(Box<CheckJob>),
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
    /// To the control shard: the progress of one of the broker's own readers in a queue.
    Progress {
        group: Box<str>,
        topic: Box<str>,
        queue_id: i32,
        offset: i64,
    },
    /// To the control shard: timers of a log shard are delivered up to here.
    TimersFinished {
        log: u16,
        finished_ms: u64,
    },
    /// To the control shard: a client is gone.
    Closed(ConnId),
    /// To the shard of the connection: its group changed.
    Notify {
        conn: ConnId,
        group: Arc<str>,
    },
    /// To the shard of the connection: tell the client something that it does not answer.
    Oneway {
        conn: ConnId,
        command: Box<Command>,
        body: Vec<u8>,
    },
    /// To the shard of the connection.
    Close(ConnId),
    /// To every shard: offsets that were reset.
    Reset(ResetChange),
    /// To the control shard: a pull was told of a reset.
    ResetTold(GroupQueue),
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
