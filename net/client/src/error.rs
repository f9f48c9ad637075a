//! What can go wrong with a call, as one type. A refusal carries the server's code and remark unchanged, because
//! callers decide by the code and people read the remark.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ringmq_protocol::batch::BatchError;
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{EncodeError, HeaderError};
use ringmq_protocol::frame::FrameError;
use ringmq_protocol::json::JsonError;
use ringmq_protocol::message::RecordError;
use ringmq_protocol::names::NameError;
use ringmq_protocol::properties::PropertyError;
use thiserror::Error;

/// The result of every call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call has no result. The text says all of it: there is no source below it to be printed once more.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the text of each says what it is, and names its fields")]
pub enum Error {
    /// The address is not `host:port`, or its host has no address.
    #[error("{addr} is not an address that can be reached: {reason}")]
    Address { addr: String, reason: io::Error },
    /// Nobody listens there, or the network does not lead there.
    #[error("cannot connect to {addr}: {reason}")]
    Connect { addr: String, reason: io::Error },
    /// The connection broke while the call was under way; whether the server acted on it is not known.
    #[error("the connection to {addr} broke during {request}: {reason}")]
    Disconnected { addr: String, request: RequestCode, reason: Disconnect },
    /// No reply came in time; whether the server acted on the request is not known.
    #[error("{addr} did not answer {request} within {after:?}")]
    Timeout { addr: String, request: RequestCode, after: Duration },
    /// The server said no.
    #[error("{addr} refused {request}: {code}{}", remark_suffix(.remark))]
    Refused { addr: String, request: RequestCode, code: ResponseCode, remark: String },
    /// The server answered something that RocketMQ's protocol does not allow.
    #[error("{addr} answered {request} with something unreadable: {what}")]
    Reply { addr: String, request: RequestCode, what: BadReply },
    /// The request does not fit the protocol.
    #[error("{request} cannot be encoded: {reason}")]
    Encode { request: RequestCode, reason: EncodeError },
    /// No name server was given.
    #[error("no name server address is set")]
    NoNameServer,
    /// No cluster of that name has registered with the name server.
    #[error("the name server knows no cluster {cluster}, it knows: {}", .known.join(", "))]
    UnknownCluster { cluster: String, known: Vec<String> },
    /// No broker of the topic's route can do what is wanted.
    #[error("the route of topic {topic} has no broker that can {can}")]
    NoBroker { topic: String, can: Ability },
    /// The message cannot be sent, whatever the broker.
    #[error("the message for topic {topic} is not valid: {fault}")]
    Message { topic: String, fault: MessageFault },
    /// A topic or group name that no broker accepts.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The tag expression of a subscription has no tag.
    #[error("{expression:?} is not a tag expression")]
    Filter { expression: String },
    /// As many sends are under way as there may be, and none of them ended while this one waited.
    #[error("{places} sends are under way already, and none of them ended in time; send slower or raise async_max")]
    Full { places: usize },
    /// A send under way was waited for in vain, because a function that takes results of sends holds up the results: it waits
    /// itself, or takes long. Whether the message is stored is not known here.
    #[error("the result of a send that may take {after:?} was not told: a function that takes results holds them up")]
    NoResult { after: Duration },
    /// Nobody replied to a request in time; whether somebody has it is not known.
    #[error("nobody replied to request {correlation_id} on topic {topic} within {after:?}")]
    NoReply { topic: String, correlation_id: String, after: Duration },
    /// A message that is no request, or has lost what a reply needs.
    #[error("the message {msg_id} cannot be replied to: it has no property {missing}")]
    NotARequest { msg_id: String, missing: &'static str },
    /// A half message was stored, but where is not known, so the transaction cannot be ended from here. The broker asks.
    #[error("the broker's answer does not say where half message {msg_id} is; the broker will ask what became of it")]
    HalfNotFound { msg_id: String },
    /// The offsets of a broadcasting consumer cannot be read or written.
    #[error("the offsets in {}: {reason}", .path.display())]
    OffsetFile { path: PathBuf, reason: io::Error },
    /// A line of that file is not what this client writes.
    #[error("the offsets in {}: line {line} is not a topic, a broker, a queue and an offset", .path.display())]
    OffsetLine { path: PathBuf, line: usize },
    /// A consumer cannot start like this.
    #[error("the consumer of group {group} cannot start: {fault}")]
    Consumer { group: String, fault: ConsumerFault },
    /// The queue is not one that this consumer reads.
    #[error("queue {queue_id} of topic {topic} at {broker_name} has no position; seek first")]
    NoPosition { topic: String, broker_name: String, queue_id: i32 },
    /// Not an id that a broker gives.
    #[error("{id:?} is not a broker's message id: 32 or 56 hexadecimal digits that name its address and a position")]
    MessageId { id: String },
    /// The operating system gives no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// What a route was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the text of each says what it is, and names its fields")]
pub enum Ability {
    #[error("take messages")]
    Write,
    #[error("be read from")]
    Read,
    #[error("be its master")]
    Master,
}

/// Why a message is refused before it leaves.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the text of each says what it is, and names its fields")]
pub enum MessageFault {
    #[error("its body is empty")]
    EmptyBody,
    #[error("its body has {len} bytes, more than {max}")]
    BodyTooLong { len: usize, max: usize },
    #[error("its properties have {len} bytes, more than {max}")]
    PropertiesTooLong { len: usize, max: usize },
    #[error("of its properties, {name}: {fault}")]
    Property { name: String, fault: PropertyError },
    #[error(transparent)]
    Topic(#[from] NameError),
    #[error("a batch holds at least one message, all of one topic, none delayed and none for a retry topic")]
    Batch,
    #[error("a message of a transaction cannot be delayed")]
    DelayedHalf,
    #[error(transparent)]
    BatchBody(#[from] BatchError),
}

/// Why a consumer's options make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the text of each says what it is, and names its fields")]
pub enum ConsumerFault {
    #[error("it subscribes to no topic")]
    NoSubscription,
    #[error("it needs at least one thread")]
    NoThread,
    #[error("its limits leave no room for a message")]
    NoRoom,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the text of each says what it is, and names its fields")]
pub enum Disconnect {
    #[error("the server closed it")]
    Closed,
    #[error("nothing came from the server any more")]
    Silent,
    #[error("{0}")]
    Io(io::ErrorKind),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Header(#[from] HeaderError),
}

/// What a reply lacks.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the text of each says what it is, and names its fields")]
pub enum BadReply {
    #[error("the field {0} is missing or not a number")]
    Field(&'static str),
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("a record in the body cannot be read: {0}")]
    Record(#[from] RecordError),
}

fn remark_suffix(remark: &str) -> String {
    if remark.is_empty() { String::new() } else { format!(", {remark}") }
}

impl Error {
    /// The code of a refusal.
    pub fn code(&self) -> Option<ResponseCode> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the server was not reached at all, or was lost.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Error::Address { .. } | Error::Connect { .. } | Error::Disconnected { .. } | Error::Timeout { .. }
        )
    }
}
