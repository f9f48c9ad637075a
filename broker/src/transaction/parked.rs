//! Halves that nobody ended after all checks. Each is parked in a topic of its own, where nobody consumes it and tools find
//! it. Its producer may still end it, and a tool may have it checked again. What became of it is on the disk alone: that it was
//! parked, ended late or brought back is a mark with the half's origin as its key, and the newest of them counts. The key index
//! finds it, so parked halves take no memory, however many they are.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::HashMap;
use ringmq_engine::{KeyKind, KeyQuery, Position};
use ringmq_protocol::message::Record;
use ringmq_protocol::{names, properties};
use ringmq_rt::step;
use ringmq_rt::sync::{Permit, Semaphore};

use super::check::{self, Failed};
use super::{Half, MARK_TAG, end, marks_end, note};
use crate::detour;
use crate::limits::HALVES_MAX;
use crate::log::Log;
use crate::mail::{Ask, Told};
use crate::message::Message;
use crate::node::{CONTROL, Node};
use crate::put::{self, For, PutError};
use crate::refusal::Refusal;
use crate::topic::Topic;

/// What became of a half that was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Parked,
    /// By its producer, after it was parked.
    Ended,
    /// By a tool. It is open, or was ended or parked again since.
    BroughtBack,
}

impl Fate {
    const ALL: [Self; 3] = [Self::Parked, Self::Ended, Self::BroughtBack];

    /// The tag of its mark.
    fn tag(self) -> &'static str {
        match self {
            Self::Parked => "p",
            Self::Ended => MARK_TAG,
            Self::BroughtBack => "b",
        }
    }
}

/// Halves that are being ended or brought back, by their origins: each by one at a time, until what it did is safe, and in the
/// order in which they came.
#[derive(Debug, Default)]
pub(super) struct Turns(RefCell<HashMap<u64, Rc<Semaphore>>>);

/// The right to decide about one half, until it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    origin: u64,
    right: Option<Permit>,
}

impl Turns {
    fn of(&self, origin: u64) -> Rc<Semaphore> {
        Rc::clone(self.0.borrow_mut().entry(origin).or_insert_with(|| Semaphore::new(1)))
    }

    /// Takes the right to decide about a half if nobody has it.
    pub(super) fn try_take(&self, origin: u64) -> Option<Turn<'_>> {
        let right = self.of(origin).try_acquire()?;
        Some(Turn { turns: self, origin, right: Some(right) })
    }

    /// Waits for the right to decide about a half.
    pub(super) async fn take(&self, origin: u64) -> Turn<'_> {
        let right = self.of(origin).acquire().await;
        Turn { turns: self, origin, right: Some(right) }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.right = None;
        // Whoever waits for it has it in hand as well.
        let mut turns = self.turns.0.borrow_mut();
        if turns.get(&self.origin).is_some_and(|turn| Rc::strong_count(turn) == 1) {
            turns.remove(&self.origin);
        }
    }
}

/// The mark that says so. It ends the half at `offset`.
fn mark(node: &Node, log: &Log, offset: u64, origin: u64, fate: Fate) -> Message {
    let mut mark = super::mark(node, log, offset);
    mark.set(properties::TAGS, fate.tag());
    mark.set(properties::KEYS, &origin.to_string());
    mark
}

/// What its newest mark says of a half; `None` if it was never parked.
async fn fate(log: &Log, origin: u64) -> Result<Option<Fate>, Refusal> {
    // Mostly nothing ever was, and a repeated end costs no look-up.
    if log.shard.queues_of(names::TRANS_CHECK_MAX_TIME_TOPIC).is_empty() {
        return Ok(None);
    }
    if !log.shard.options().key_index {
        let remark =
            "without messageIndexEnable=true the broker cannot tell whether this half message is ended or parked";
        return Err(Refusal::failed(remark));
    }
    // A mark that was just appended counts, and is found only when it is confirmed.
    log.shard.confirmed(log.shard.watermarks().appended.offset()).await.map_err(PutError::from)?;
    let query = KeyQuery {
        topic: names::TRANS_OP_HALF_TOPIC,
        key: &origin.to_string(),
        kind: KeyKind::Business,
        max: 1,
        max_bytes: u64::MAX,
        begin_ms: 0,
        end_ms: i64::MAX,
    };
    let found = log.shard.query(&query).await.map_err(|error| Refusal::failed(error.to_string()))?;
    let Some(newest) = found.first() else { return Ok(None) };
    let (newest, _) = Record::parse(&newest.record).map_err(|error| Refusal::failed(error.to_string()))?;
    let tag = newest.property(properties::TAGS);
    let fate = Fate::ALL.into_iter().find(|fate| tag == Some(fate.tag()));
    fate.map(Some).ok_or_else(|| Refusal::failed(format!("the mark of a parked half message has the tag {tag:?}")))
}

/// The half was checked often enough: it is kept where nobody consumes it.
pub(super) async fn park(
    node: &Rc<Node>,
    log: &Rc<Log>,
    offset: u64,
    half: Half,
    mut message: Message,
) -> Result<(), Failed> {
    let topic = names::TRANS_CHECK_MAX_TIME_TOPIC;
    let ensured = Ask::EnsureOwnTopic { topic: topic.into(), queues: i32::from(node.log_shards()), sys_flag: 0 };
    node.ask(CONTROL, ensured).await.done().map_err(|why| format!("there is no topic for parked halves: {why}"))?;
    let number = u16::from(log.shard.id().get());
    message.queue_id =
        detour::own_queue(node, topic, number, 0).ok_or_else(|| "there is no queue for parked halves".to_owned())?;
    message.topic = topic.to_owned();
    message.set(properties::TRAN_PREPARED_QUEUE_OFFSET, &half.origin.to_string());
    let group = message.property(properties::PGROUP).unwrap_or_default().to_owned();
    let key = message.property(properties::UNIQ_KEY).unwrap_or_default().to_owned();
    let mark = mark(node, log, offset, half.origin, Fate::Parked);
    let Some(ticket) = check::replace(node, log, offset, &message, &mark).await? else { return Ok(()) };
    log.transactions.table.borrow_mut().leave(offset);
    log.transactions.counted(|counts| counts.parked += 1);
    log.safe(ticket.end).await?;
    step!("parked");
    log.transactions.gone(offset);
    note(node, log);
    tracing::warn!(group, key, topic, position = %ticket.position,
        "parked a half message that no producer ended after all checks; `resumeCheckHalfMessage` brings it back");
    Ok(())
}

/// Ends a half that is not open: a parked one as its producer says, any other was ended before and stays as it is. The caller
/// has the turn of its origin. `position` is where the producer knows it to be.
pub(super) async fn end(
    node: &Rc<Node>,
    log: &Rc<Log>,
    origin: u64,
    position: Position,
    released: Option<(Message, Arc<Topic>)>,
) -> Result<(), Refusal> {
    match fate(log, origin).await? {
        Some(Fate::Parked) => (),
        // Its mark may have been dropped since the half was read.
        None if position.offset() < log.shard.start() => return Err(end::not_found()),
        None | Some(Fate::Ended | Fate::BroughtBack) => return Ok(()),
    }
    step!("parked_found");
    let committed = released.is_some();
    let mark = mark(node, log, origin, origin, Fate::Ended);
    match released {
        None => put::put_here(node, log, vec![mark], For::Client).await.map(drop)?,
        Some((message, topic)) => end::release(node, log, message, &topic, mark).await?,
    }
    step!("parked_ended");
    log.transactions.counted(|counts| counts.ended_late += 1);
    tracing::info!(%position, committed, "a half message was ended by its producer after it was parked");
    Ok(())
}

/// An [`Ask::BringBack`]: a parked half is open again and checked from the first check on. `message` is as it was parked.
pub async fn bring_back(node: &Rc<Node>, log: u16, message: Message) -> Told {
    let Some(log) = node.log(log) else { return Told::Failed(format!("log shard {log} is not open")) };
    match opened_again(node, &log, message).await {
        Ok(()) => Told::Done,
        Err(refusal) => Told::Refused(refusal),
    }
}

async fn opened_again(node: &Rc<Node>, log: &Rc<Log>, mut message: Message) -> Result<(), Refusal> {
    let origin = message.number(properties::TRAN_PREPARED_QUEUE_OFFSET);
    let origin = origin.ok_or_else(|| Refusal::failed("the parked half message does not say which one it was"))?;
    let _turn = log.transactions.turns.take(origin).await;
    let was = match fate(log, origin).await? {
        Some(Fate::Parked) => None,
        Some(Fate::Ended) => Some("its producer ended it after it was parked"),
        Some(Fate::BroughtBack) => Some("it was brought back before"),
        None => Some("it was dropped meanwhile, for its age"),
    };
    if let Some(why) = was {
        return Err(Refusal::failed(format!("the half message is not checked again: {why}")));
    }
    if !log.transactions.has_room() {
        return Err(Refusal::too_many("open transactions on a log shard", HALVES_MAX));
    }
    message.topic = names::TRANS_HALF_TOPIC.to_owned();
    message.queue_id = log.transactions.queue_id.get().halves;
    message.set(properties::TRANSACTION_CHECK_TIMES, "0");
    let mark = mark(node, log, origin, origin, Fate::BroughtBack);
    let marks_from = marks_end(log);
    let mut pair = [message, mark];
    // No await from the append to where it is opened: an end finds the half either parked or open.
    let (ticket, mark) = put::append_pair_in_line(node, log, &mut pair).await?;
    let [message, _] = pair;
    let place = (ticket.position, origin, marks_from);
    let half = super::half(&node.settings, place, message.born_timestamp, ticket.store_ms, &message.properties);
    log.transactions.opened(ticket.queue_offset, half);
    log.safe(mark.end).await.map_err(PutError::from)?;
    step!("brought_back");
    note(node, log);
    Ok(())
}
