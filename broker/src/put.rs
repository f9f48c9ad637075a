//! Putting the broker's own messages into a log. What a client asks for waits in the line of a busy log, as a send does, and
//! is refused like one; what was promised to somebody waits as long as the log is busy. Either returns once the message is as
//! safe as the broker promises. A message whose topic was deleted meanwhile is not stored, or it would bring a queue of it back.

use std::rc::Rc;

use ringmq_engine::{AppendError, Poisoned, Ticket};
use ringmq_protocol::message::RecordError;
use ringmq_protocol::properties;
use ringmq_rt::{Slice, step, wall_ms};

use crate::log::Log;
use crate::mail::{Ask, Told};
use crate::message::Message;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::topic::{Deletions, Topic};

/// Why a message of the broker's own is not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It may be stored, or not.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// It is for a client, and the log was busy for as long as that may wait. It is not stored.
    #[error("{0}")]
    Busy(Refusal),
    /// It is for the timers, which are past its time.
    #[error("it is due already")]
    Late,
    /// Or it was deleted and made again with other homes.
    #[error("topic {0} was deleted")]
    TopicDeleted(String),
    /// Said by the message's shard.
    #[error("{0}")]
    Elsewhere(Refusal),
}

impl PutError {
    /// Whether this message is never taken, however often it is tried.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Append(error) if error.is_final())
    }

    /// Whether the log takes nothing right now.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Append(AppendError::Busy { .. }))
    }
}

/// For whom a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A client that asks for it now. It waits in the log's line, and is told what becomes of it.
    Client,
    /// Somebody to whom it was promised. It waits as long as the log is busy. One that no log ever takes is counted and told of
    /// in the log, and holds up no other: its sender was answered long ago.
    Promised,
}

impl From<PutError> for Refusal {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Append(error) => Self::append(&error),
            PutError::Poisoned(why) => Self::failed(format!("the message may not be stored: {why}")),
            // Only recalls are answered with it.
            PutError::Late => Self::recall_too_late(),
            PutError::TopicDeleted(topic) => Self::topic_missing(&topic),
            PutError::Busy(refusal) | PutError::Elsewhere(refusal) => refusal,
        }
    }
}

/// Stores a message in the log of its queue, wherever that is.
///
/// # Errors
/// Why it is not stored, or may not be.
pub async fn put(node: &Rc<Node>, topic: &Topic, message: Message, whose: For) -> Result<Ticket, PutError> {
    let log = topic.home(message.queue_id.max(0), node.log_shards());
    let mut tickets = put_all(node, log, vec![message], whose).await?;
    let lost = || PutError::Elsewhere(Refusal::failed("the message's shard did not say where it is"));
    tickets.pop().ok_or_else(lost)
}

/// Stores messages in one log, wherever that is, in this order. After an error those in front may be stored.
///
/// # Errors
/// Why one is not stored, or may not be.
pub async fn put_all(node: &Rc<Node>, log: u16, messages: Vec<Message>, whose: For) -> Result<Vec<Ticket>, PutError> {
    if let Some(log) = node.log(log) {
        return put_here(node, &log, messages, whose).await;
    }
    // The other shard may not know yet of a topic that is new, but knows of those that are deleted from here on.
    if let Some(gone) = messages.iter().find(|message| !node.is_home(log, &message.topic, message.queue_id)) {
        return Err(PutError::TopicDeleted(gone.topic.clone()));
    }
    let seen = node.topics.borrow().deletions();
    match node.ask(node.executor_of(log), Ask::Put { log, messages, whose, seen }).await {
        Told::Put(tickets) => Ok(tickets),
        other => Err(PutError::Elsewhere(other.unexpected())),
    }
}

/// The same with messages that were kept for later and are due.
///
/// How many are stored.
///
/// # Errors
/// Why one is not stored now, or may not be.
pub async fn release_all(node: &Rc<Node>, log: u16, messages: Vec<Message>) -> Result<u64, PutError> {
    put_all(node, log, messages, For::Promised).await.map(|tickets| tickets.len() as u64)
}

/// The same as [`put_all`] for a log of this executor.
///
/// # Errors
/// As [`put_all`].
pub async fn put_here(node: &Node, log: &Log, messages: Vec<Message>, whose: For) -> Result<Vec<Ticket>, PutError> {
    store_here(node, log, messages, whose, None).await
}

async fn store_here(
    node: &Node,
    log: &Log,
    mut messages: Vec<Message>,
    whose: For,
    seen: Option<Deletions>,
) -> Result<Vec<Ticket>, PutError> {
    let mut tickets = Vec::with_capacity(messages.len());
    for message in &mut messages {
        match append_one(node, log, message, whose, seen).await {
            Ok(ticket) => tickets.push(ticket),
            Err(PutError::TopicDeleted(topic)) if whose == For::Promised && !has_topic(node, &topic) => {
                tracing::warn!(topic, "a message that was kept for later is not delivered: its topic was deleted");
            }
            Err(error) if whose == For::Promised && error.is_final() => {
                node.served.delayed_dropped(1);
                let key = message.property(properties::UNIQ_KEY).unwrap_or_default();
                tracing::error!(topic = message.topic, key, %error, "a message that was kept for later is not delivered: no log takes it");
            }
            Err(error) => return Err(error),
        }
        // It is in the log; a flush may take long.
        message.body = Slice::empty();
    }
    if let Some(last) = tickets.last() {
        log.safe(last.end).await?;
    }
    for message in &messages {
        step!("put_written:{}", message.topic);
    }
    Ok(tickets)
}

/// Appends messages that were promised to a log of this executor, and to `tickets` where each of them is; after an error those
/// in front.
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
        tickets.push(when_free(log, || try_append(node, log, message, None)).await?);
    }
    Ok(())
}

fn has_topic(node: &Node, topic: &str) -> bool {
    node.topics.borrow().get(topic).is_some()
}

/// Whether the queue of a message is one of this log's. Another shard's copy of the topic table that had it as of `seen` may be
/// ahead of this one's.
fn check_home(node: &Node, log: &Log, message: &Message, seen: Option<Deletions>) -> Result<(), PutError> {
    let number = u16::from(log.shard.id().get());
    let was_seen = seen.is_some_and(|seen| node.topics.borrow().deletions() <= seen);
    if was_seen || node.is_home(number, &message.topic, message.queue_id) {
        return Ok(());
    }
    Err(PutError::TopicDeleted(message.topic.clone()))
}

async fn append_one(
    node: &Node,
    log: &Log,
    message: &mut Message,
    whose: For,
    seen: Option<Deletions>,
) -> Result<Ticket, PutError> {
    let one = std::slice::from_mut(message);
    in_time(node, log, one, whose, |messages| match messages {
        [message] => try_append(node, log, message, seen),
        _ => Err(AppendError::Empty.into()),
    })
    .await
}

/// Has `append` append messages as soon as the log takes them and, for a client, it is their turn. Nothing waits between the
/// append and the return.
///
/// # Errors
/// What `append` says, or that a client's messages may not wait, or no longer.
async fn in_time<T>(
    node: &Node,
    log: &Log,
    messages: &mut [Message],
    whose: For,
    mut append: impl FnMut(&[Message]) -> Result<T, PutError>,
) -> Result<T, PutError> {
    match whose {
        For::Client => {
            let done = log.append_in_line(messages, append).await;
            if matches!(done, Err(PutError::Busy(_))) {
                node.served.put_refused();
            }
            done
        }
        For::Promised => when_free(log, || append(messages)).await,
    }
}

/// Has `append` try for somebody to whom it was promised, again whenever the log has moved, until the log is not busy.
///
/// # Errors
/// What else `append` says.
pub async fn when_free<T>(log: &Log, mut append: impl FnMut() -> Result<T, PutError>) -> Result<T, PutError> {
    loop {
        match append() {
            Err(error) if error.is_busy() => log.progress().await,
            done => return done,
        }
    }
}

/// Appends one message. It loses what it can do without before it is refused for the length of its properties.
fn try_append(node: &Node, log: &Log, message: &Message, seen: Option<Deletions>) -> Result<Ticket, PutError> {
    check_home(node, log, message, seen)?;
    if message.due_ms().is_some_and(|due_ms| due_ms <= log.timers.now_ms()) {
        return Err(PutError::Late);
    }
    match message.with_draft(node.settings.store_host, |draft| log.shard.append(draft, wall_ms())) {
        Ok(ticket) => {
            step!("put_appended:{}", message.topic);
            if let Some(due_ms) = message.due_ms() {
                log.timers.appended(due_ms);
            }
            Ok(ticket)
        }
        Err(error @ AppendError::Record(RecordError::PropertiesTooLong(_))) => match message.without_asides() {
            Some(less) => try_append(node, log, &less, seen),
            None => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Appends two messages to one log so that a crash leaves both or none.
///
/// # Errors
/// Why neither is appended.
pub fn append_pair(node: &Node, log: &Log, first: &Message, second: &Message) -> Result<(Ticket, Ticket), PutError> {
    check_home(node, log, first, None)?;
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
        _ => Err(AppendError::Empty.into()),
    }
}

/// The same for a client, as soon as the log takes them. Nothing waits between the append and the return.
///
/// # Errors
/// Why neither is appended.
pub async fn append_pair_in_line(
    node: &Node,
    log: &Log,
    pair: &mut [Message; 2],
) -> Result<(Ticket, Ticket), PutError> {
    in_time(node, log, pair, For::Client, |messages| match messages {
        [first, second] => append_pair(node, log, first, second),
        _ => Err(AppendError::Empty.into()),
    })
    .await
}

/// An [`Ask::Put`] from another shard.
pub async fn asked(node: &Rc<Node>, log: u16, messages: Vec<Message>, (whose, seen): (For, Deletions)) -> Told {
    let Some(log) = node.log(log) else { return Told::Failed(format!("log shard {log} is not open")) };
    match store_here(node, &log, messages, whose, Some(seen)).await {
        Ok(tickets) => Told::Put(tickets),
        Err(error) => Told::Refused(error.into()),
    }
}
