//! Putting the broker's own messages into a log. Unlike a client's send, which is refused when the log is busy for long,
//! these wait: what they carry was promised to somebody. They return once the message is as safe as the broker promises.

use std::borrow::Cow;
use std::rc::Rc;

use ringmq_engine::{AppendError, Poisoned, Ticket};
use ringmq_protocol::message::RecordError;
use ringmq_protocol::properties;
use ringmq_rt::{step, wall_ms};

use crate::log::Log;
use crate::mail::{Ask, Told};
use crate::message::Message;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::topic::Topic;

/// Why a message of the broker's own is not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It may be stored, or not.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// It is for the timers, which are past its time.
    #[error("it is due already")]
    Late,
    /// Said by the message's shard.
    #[error("{0}")]
    Elsewhere(Refusal),
}

impl PutError {
    /// Whether this message is never taken, however often it is tried.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Append(error) if error.is_final())
    }
}

/// What becomes of a message that no log ever takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Whoever has it stored is told.
    Refused,
    /// It is counted and told of in the log, and holds up no other: its sender was answered long ago.
    GivenUp,
}

impl From<PutError> for Refusal {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Append(error) => Self::append(&error),
            PutError::Poisoned(why) => Self::failed(format!("the message may not be stored: {why}")),
            // Only recalls are answered with it.
            PutError::Late => Self::recall_too_late(),
            PutError::Elsewhere(refusal) => refusal,
        }
    }
}

/// Stores a message in the log of its queue, wherever that is.
///
/// # Errors
/// Why it is not stored, or may not be.
pub async fn put(node: &Rc<Node>, topic: &Topic, message: Message) -> Result<Ticket, PutError> {
    let log = topic.home(message.queue_id.max(0), node.log_shards());
    let mut tickets = put_all(node, log, vec![message]).await?;
    let lost = || PutError::Elsewhere(Refusal::failed("the message's shard did not say where it is"));
    tickets.pop().ok_or_else(lost)
}

/// Stores messages in one log, wherever that is, in this order. After an error those in front may be stored.
///
/// # Errors
/// Why one is not stored, or may not be.
pub async fn put_all(node: &Rc<Node>, log: u16, messages: Vec<Message>) -> Result<Vec<Ticket>, PutError> {
    put_on(node, log, messages, Unfit::Refused).await
}

/// The same with messages that were kept for later and are due: one that no log takes is given up.
///
/// How many are stored.
///
/// # Errors
/// Why one is not stored now, or may not be.
pub async fn release_all(node: &Rc<Node>, log: u16, messages: Vec<Message>) -> Result<u64, PutError> {
    put_on(node, log, messages, Unfit::GivenUp).await.map(|tickets| tickets.len() as u64)
}

async fn put_on(node: &Rc<Node>, log: u16, messages: Vec<Message>, unfit: Unfit) -> Result<Vec<Ticket>, PutError> {
    if let Some(log) = node.log(log) {
        return store_here(node, &log, &messages, unfit).await;
    }
    match node.ask(node.executor_of(log), Ask::Put { log, messages, unfit }).await {
        Told::Put(tickets) => Ok(tickets),
        other => Err(PutError::Elsewhere(other.unexpected())),
    }
}

/// The same for a log of this executor.
///
/// # Errors
/// As [`put_all`].
pub async fn put_here(node: &Node, log: &Log, messages: &[Message]) -> Result<Vec<Ticket>, PutError> {
    store_here(node, log, messages, Unfit::Refused).await
}

async fn store_here(node: &Node, log: &Log, messages: &[Message], unfit: Unfit) -> Result<Vec<Ticket>, PutError> {
    let mut tickets = Vec::with_capacity(messages.len());
    for message in messages {
        match append_one(node, log, message).await {
            Ok(ticket) => tickets.push(ticket),
            Err(error) if unfit == Unfit::GivenUp && error.is_final() => {
                node.served.delayed_dropped(1);
                let key = message.property(properties::UNIQ_KEY).unwrap_or_default();
                tracing::error!(topic = message.topic, key, %error, "a message that was kept for later is not delivered: no log takes it");
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(last) = tickets.last() {
        log.safe(last.end).await?;
    }
    for message in messages {
        step!("put_written:{}", message.topic);
    }
    Ok(tickets)
}

/// Appends messages to a log of this executor, and to `tickets` where each of them is; after an error those in front.
///
/// # Errors
/// Why one is not appended.
pub async fn append_here(
    node: &Node,
    log: &Log,
    messages: &[Message],
    tickets: &mut Vec<Ticket>,
) -> Result<(), PutError> {
    for message in messages {
        tickets.push(append_one(node, log, message).await?);
    }
    Ok(())
}

/// Appends one message. It loses what it can do without before it is refused for the length of its properties.
async fn append_one(node: &Node, log: &Log, message: &Message) -> Result<Ticket, PutError> {
    let host = node.settings.store_host;
    let mut message = Cow::Borrowed(message);
    loop {
        // No await between this look and the append.
        if message.due_ms().is_some_and(|due_ms| due_ms <= log.timers.now_ms()) {
            return Err(PutError::Late);
        }
        let appended = message.with_draft(host, |draft| log.shard.append(draft, wall_ms()));
        match appended {
            Ok(ticket) => {
                step!("put_appended:{}", message.topic);
                if let Some(due_ms) = message.due_ms() {
                    log.timers.appended(due_ms);
                }
                return Ok(ticket);
            }
            Err(AppendError::Busy { .. }) => log.progress().await,
            Err(error @ AppendError::Record(RecordError::PropertiesTooLong(_))) => match message.without_asides() {
                Some(less) => message = Cow::Owned(less),
                None => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
}

/// Appends two messages to one log so that a crash leaves both or none.
///
/// # Errors
/// Why neither is appended.
pub fn append_pair(node: &Node, log: &Log, first: &Message, second: &Message) -> Result<(Ticket, Ticket), AppendError> {
    let host = node.settings.store_host;
    let mut tickets = Vec::with_capacity(2);
    first.with_draft(host, |first| {
        second.with_draft(host, |second| log.shard.append_batch(&[*first, *second], wall_ms(), &mut tickets))
    })?;
    match tickets[..] {
        [first_ticket, second_ticket] => {
            step!("pair_appended:{}", first.topic);
            Ok((first_ticket, second_ticket))
        }
        _ => Err(AppendError::Empty),
    }
}

/// The same, as soon as the log takes them. Nothing waits between the append and the return.
///
/// # Errors
/// Why neither is appended.
pub async fn append_pair_in_time(
    node: &Node,
    log: &Log,
    first: &Message,
    second: &Message,
) -> Result<(Ticket, Ticket), AppendError> {
    loop {
        match append_pair(node, log, first, second) {
            Err(AppendError::Busy { .. }) => log.progress().await,
            done => return done,
        }
    }
}

/// An [`Ask::Put`] from another shard.
pub async fn asked(node: &Rc<Node>, log: u16, messages: &[Message], unfit: Unfit) -> Told {
    let Some(log) = node.log(log) else { return Told::Failed(format!("log shard {log} is not open")) };
    match store_here(node, &log, messages, unfit).await {
        Ok(tickets) => Told::Put(tickets),
        Err(error) => Told::Refused(error.into()),
    }
}
