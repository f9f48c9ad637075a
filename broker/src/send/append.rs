//! Appending a send to the log of its queue, and the sends that wait until that log takes messages again.

use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::{AppendError, Draft, Keys, Ticket};
use ringmq_net::Frame;
use ringmq_protocol::code::ResponseCode;
use ringmq_protocol::header::SendHeader;
use ringmq_protocol::id::IdText;
use ringmq_protocol::message::{Property, tags_code};
use ringmq_protocol::properties;
use ringmq_rt::time::{Instant, now};
use ringmq_rt::{step, wall_ms};

use super::asked::{Asked, detour_of, read_properties, with_level};
use super::batch::append_batch;
use super::record::{check_body, check_len, check_room_later, own_pairs, spec, unique_key};
use super::{Place, refuse, text};
use crate::detour::Detour;
use crate::log::{Log, Waiting};
use crate::mail::{Sent, ShortText};
use crate::node::Node;
use crate::refusal::Refusal;
use crate::timer::recall;

/// A send that waits until its log takes messages again.
#[derive(Debug)]
pub struct Parked {
    place: Place,
    header: SendHeader,
    frame: Frame,
    since: Instant,
}

impl Parked {
    /// Its bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.frame.header().len() + self.frame.body_len()
    }

    /// How long it has waited.
    pub fn waited(&self, at: Instant) -> Duration {
        at.since(self.since)
    }

    /// Tries again; gives itself back if the log is still busy.
    pub fn retry(self: Box<Self>, node: &Rc<Node>, log: &Rc<Log>) -> Option<Box<Self>> {
        try_append(node, log, &self.place, &self.header, &self.frame).err().map(|_| self)
    }

    /// It has waited long enough: the sender is told to slow down.
    pub fn refuse_overdue(&self, node: &Rc<Node>) {
        self.refuse(node, &Refusal::overdue(self.waited(now())));
    }

    fn refuse(&self, node: &Rc<Node>, refusal: &Refusal) {
        node.served.put_refused();
        refuse(node, self.place.to, refusal);
    }
}

/// The log takes nothing right now.
pub(super) struct Busy;

/// Appends on the queue's shard and answers, now or when the message is as safe as the broker promises. A log that is
/// busy for a moment makes the send wait, in its place.
pub(super) fn append(node: &Rc<Node>, place: &Place, header: &SendHeader, frame: &Frame) {
    let Some(log) = node.log(place.log) else {
        return refuse(node, place.to, &Refusal::failed(format!("log shard {} is not open", place.log)));
    };
    let waits = log.has_line() || try_append(node, &log, place, header, frame).is_err();
    if waits {
        let parked = Box::new(Parked { place: *place, header: *header, frame: frame.clone(), since: now() });
        if let Err((parked, waiting)) = log.park(parked) {
            parked.refuse(node, &Refusal::no_room_to_wait(waiting));
        }
    }
}

pub(super) fn try_append(
    node: &Rc<Node>,
    log: &Rc<Log>,
    place: &Place,
    header: &SendHeader,
    frame: &Frame,
) -> Result<(), Busy> {
    // No await between this look and the append.
    let result = match look_again(node, place, header, frame) {
        Err(refusal) => Err(refusal.into()),
        Ok(()) if header.batch => append_batch(node, log, place, header, frame),
        Ok(()) => append_one(node, log, place, header, frame),
    };
    match result {
        Ok(Stored { answer, end, wait }) => {
            if wait && log.waits_for_flush() {
                log.wait(end, answer);
            } else {
                answer.deliver(node);
            }
        }
        Err(Unstored::Busy) => return Err(Busy),
        Err(Unstored::Refused(refusal)) => {
            node.served.put_refused();
            refuse(node, place.to, &refusal);
        }
    }
    Ok(())
}

/// A send that came from another shard, or waited, may be for a topic that was deleted meanwhile. It does not bring its queue
/// back; where the topic was made again, it is one to the new topic if the queue is there.
fn look_again(node: &Rc<Node>, place: &Place, header: &SendHeader, frame: &Frame) -> Result<(), Refusal> {
    let topics = node.topics.borrow();
    if topics.deletions() <= place.seen {
        return Ok(());
    }
    let name = text(header.topic.get(frame.header()));
    let topic = topics.get(&name).ok_or_else(|| Refusal::topic_missing(&name))?;
    if !topic.is_writable() {
        return Err(Refusal::topic_not_writable(&name));
    }
    let queue_id = topic.queue_for_send(place.queue_id, 0, place.born_host)?;
    let is_here = topic.home(queue_id, node.log_shards()) == place.log;
    if is_here { Ok(()) } else { Err(Refusal::topic_missing(&name)) }
}

/// Why a message is not in the log.
pub(super) enum Unstored {
    /// Not now.
    Busy,
    Refused(Refusal),
}

impl From<Refusal> for Unstored {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(super) struct Stored {
    pub(super) answer: Waiting,
    pub(super) end: u64,
    pub(super) wait: bool,
}

pub(super) fn append_one(
    node: &Rc<Node>,
    log: &Rc<Log>,
    place: &Place,
    header: &SendHeader,
    frame: &Frame,
) -> Result<Stored, Unstored> {
    let settings = &*node.settings;
    let mut scratch = node.scratch.borrow_mut();
    let scratch = &mut *scratch;
    let mut client = read_properties(header, frame, &mut scratch.properties)?;
    let mut asked = Asked::read(client);
    let detour = detour_of(node, log, header, &asked)?;
    let granted;
    if let Some(Detour::Level(level)) = detour
        && (level != asked.delay || asked.time.is_some())
    {
        granted = with_level(client, level);
        client = &granted;
        asked = Asked::read(client);
    } else if detour == Some(Detour::Half) && properties::get(client, properties::TRAN_PREPARED_QUEUE_OFFSET).is_some()
    {
        // It says which half a check's copy was; a client could name another's.
        granted = properties::without(client, &[properties::TRAN_PREPARED_QUEUE_OFFSET]);
        client = &granted;
        asked = Asked::read(client);
    }
    let own_key = asked.unique_key.is_none().then(|| unique_key(settings, &mut scratch.next_unique));
    let unique = asked.unique_key.or(own_key.as_ref().map(IdText::as_str));
    let parts = frame.body_parts();
    let name = text(header.topic.get(frame.header()));
    let mut pairs = own_pairs(settings, client, own_key.as_ref().map(IdText::as_str));
    let kept = match detour {
        Some(detour) => Some((detour, detour.kept(node, place.log).ok_or_else(Refusal::not_ready)?)),
        None => None,
    };
    if kept.is_some() {
        pairs.push(Property::Pair(properties::REAL_TOPIC, &name));
        pairs.push(Property::Number(properties::REAL_QID, i64::from(place.queue_id)));
    }
    if let Some(Detour::Timer(due_ms)) = detour {
        pairs.push(Property::Number(properties::TIMER_OUT_MS, due_ms.cast_signed()));
    }
    if let (Some(Detour::Half), Some(unique)) = (detour, unique) {
        pairs.push(Property::Pair(properties::TRANSACTION_ID, unique));
    }
    let mut spec = spec(settings, place, header, &name, &parts, &pairs);
    if let Some((detour, kept)) = kept {
        spec.topic = kept.topic;
        spec.queue_id = kept.queue_id;
        spec.sys_flag = detour.sys_flag(spec.sys_flag);
        check_room_later(&spec, settings)?;
    }
    check_body(&spec)?;
    check_len(&spec, settings)?;
    let keys = Keys { unique, business: asked.keys };
    let due_ms = if let Some(Detour::Timer(due_ms)) = detour { Some(due_ms) } else { None };
    let draft = Draft { spec: &spec, tags_code: asked.tags.map_or(0, tags_code), keys, due_ms, promised: false };
    let ticket = log.shard.append(&draft, wall_ms()).map_err(|error| unstored(&error))?;
    step!("send_appended:{}", spec.topic);
    if detour == Some(Detour::Half) {
        log.transactions.appended(settings, &ticket, header.born_timestamp, client, log);
    }
    node.traffic.put(&name, 1, spec.encoded_len().unwrap_or(0) as u64);
    let unique_key = unique.and_then(ShortText::new);
    let sent = sent(place, &ticket, unique_key);
    let answer = match (due_ms, unique) {
        (Some(due_ms), Some(unique)) => {
            log.timers.appended(due_ms);
            Waiting::Timed(sent, recall::handle(&name, &settings.identity.broker_name, due_ms, unique).into())
        }
        _ => Waiting::One(sent),
    };
    Ok(Stored { answer, end: ticket.end, wait: !asked.dont_wait })
}

pub(super) fn unstored(error: &AppendError) -> Unstored {
    if matches!(error, AppendError::Busy { .. }) { Unstored::Busy } else { Refusal::append(error).into() }
}

pub(super) fn sent(place: &Place, ticket: &Ticket, unique_key: Option<ShortText>) -> Sent {
    Sent {
        to: place.to,
        code: ResponseCode::SUCCESS.0,
        position: ticket.position.to_wire(),
        queue_id: place.queue_id,
        queue_offset: ticket.queue_offset,
        unique_key,
    }
}
