//! Questions about queues: their ends, the offset of a time, the age of the first message. Asked on any connection,
//! answered on the queue's shard.

use std::rc::Rc;

use ringmq_engine::{AppendError, Position, QueueOffset, ReadError, Ticket};
use ringmq_net::{Conn, Frame};
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::command::{ExtWriter, HeaderError, HeaderView};
use ringmq_protocol::header::{GetMaxOffset, GetMinOffset, SearchOffset};
use ringmq_protocol::names;
use ringmq_rt::{Slice, spawn};

use crate::log::Log;
use crate::mail::{About, Answer, Ask, Mail, QueryJob, QueueEnds, Told};
use crate::node::Node;
use crate::refusal::Refusal;

/// A question arrived on a connection of this shard.
pub fn request(node: &Rc<Node>, conn: &Rc<Conn>, view: &HeaderView<'_>, _frame: &Frame) {
    let to = Answer::to(conn.id(), view);
    let (topic, queue_id, about) = match parse(view) {
        Ok(parsed) => parsed,
        Err(error) => return node.refuse(to, &Refusal::failed(error.to_string())),
    };
    let found = node.topics.borrow().get(&topic).cloned();
    let home = found.filter(|_| queue_id >= 0).map(|t| t.home(queue_id, node.log_shards()));
    // A queue that nobody has written to yet is an empty one.
    let Some(log) = home else { return answer(node, to, about, None) };
    let job = QueryJob { to, log, topic: topic.into(), queue_id, about };
    node.forward(node.executor_of(log), to, Mail::Query(Box::new(job)));
}

fn parse(view: &HeaderView<'_>) -> Result<(String, i32, About), HeaderError> {
    Ok(match view.code {
        code if code == RequestCode::GET_MAX_OFFSET.0 => {
            let header = GetMaxOffset::decode(view)?;
            (header.topic, header.queue_id, About::Max)
        }
        code if code == RequestCode::SEARCH_OFFSET_BY_TIMESTAMP.0 => {
            let header = SearchOffset::decode(view)?;
            let upper = header.boundary_type.is_some_and(|b| b.eq_ignore_ascii_case("upper"));
            (header.topic, header.queue_id, About::ByTime { timestamp: header.timestamp, upper })
        }
        code => {
            let header = GetMinOffset::decode(view)?;
            let min = code == RequestCode::GET_MIN_OFFSET.0;
            (header.topic, header.queue_id, if min { About::Min } else { About::EarliestStoreTime })
        }
    })
}

/// Runs a question on its queue's shard.
pub fn run(node: &Rc<Node>, job: QueryJob) {
    let Some(log) = node.log(job.log) else {
        return node.refuse(job.to, &Refusal::failed(format!("log shard {} is not open", job.log)));
    };
    let node = Rc::clone(node);
    spawn("queue query", async move {
        match find(&log, &job).await {
            Ok(found) => answer(&node, job.to, job.about, found),
            Err(error) => {
                tracing::error!(topic = %job.topic, queue = job.queue_id, %error, "a queue could not be looked at");
                node.refuse(job.to, &Refusal::failed(error.to_string()));
            }
        }
    })
    .detach();
}

async fn find(log: &Log, job: &QueryJob) -> Result<Option<i64>, ReadError> {
    let Some((_, max)) = log.shard.bounds(&job.topic, job.queue_id) else { return Ok(None) };
    let first = async || log.shard.first_offset(&job.topic, job.queue_id).await.map(Option::unwrap_or_default);
    Ok(match job.about {
        About::Min => Some(wire(first().await?)),
        About::Max => Some(wire(max)),
        About::EarliestStoreTime => log.shard.earliest_store_time(&job.topic, job.queue_id).await?,
        About::ByTime { timestamp, upper: false } => {
            let found = log.shard.offset_by_time(&job.topic, job.queue_id, timestamp).await?;
            Some(wire(found.unwrap_or(max)))
        }
        About::ByTime { timestamp, upper: true } => {
            // The last message at or before the time stands before the first one after it.
            let after = log.shard.offset_by_time(&job.topic, job.queue_id, timestamp.saturating_add(1)).await?;
            let before = after.unwrap_or(max).0.saturating_sub(1);
            Some(wire(QueueOffset(before).max(first().await?)))
        }
    })
}

fn wire(offset: QueueOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

fn answer(node: &Rc<Node>, to: Answer, about: About, found: Option<i64>) {
    let (key, value) = match about {
        About::EarliestStoreTime => ("timestamp", found.unwrap_or(-1)),
        About::Min | About::Max | About::ByTime { .. } => ("offset", found.unwrap_or(0)),
    };
    let write = |writer: &mut ExtWriter<'_>| {
        writer.i64(key, value);
    };
    node.succeed(to, write, &[]);
}

/// The ends of a queue, for the control shard.
pub async fn ends(node: &Rc<Node>, log: u16, topic: &str, queue_id: i32) -> Told {
    let Some(log) = node.log(log) else { return Told::Failed(format!("log shard {log} is not open")) };
    // Before the queue's first offset, which tells if that message goes meanwhile.
    let behind_origin = log.shard.behind_origin(topic, queue_id);
    let min = match log.shard.first_offset(topic, queue_id).await {
        Ok(min) => min,
        Err(error) => return Told::Failed(error.to_string()),
    };
    let Some((min, (_, max))) = min.zip(log.shard.bounds(topic, queue_id)) else {
        return Told::Queue(QueueEnds::default());
    };
    let last = match max.0.checked_sub(1) {
        Some(last) if last >= min.0 => log.shard.store_time(topic, queue_id, QueueOffset(last)).await,
        _ => Ok(None),
    };
    match last {
        Ok(last) => {
            Told::Queue(QueueEnds { min: wire(min), max: wire(max), last_ms: last.unwrap_or(0), behind_origin })
        }
        Err(error) => Told::Failed(error.to_string()),
    }
}

/// Drops a deleted topic's messages from every log of this executor, durably, as soon as each takes the note of it.
pub async fn drop_topic(node: &Rc<Node>, topic: &str) -> Told {
    for log in node.logs() {
        match delete_queues(node, &log, topic).await {
            Ok(None) => (),
            Ok(Some(ticket)) => {
                if let Err(why) = log.shard.flushed(ticket.end).await {
                    return Told::Failed(why.to_string());
                }
            }
            Err(error) => return Told::Failed(error.to_string()),
        }
    }
    Told::Done
}

/// Drops what a log has of a topic. One that was made again meanwhile may have messages that are acknowledged, and stays as it is.
async fn delete_queues(node: &Node, log: &Log, topic: &str) -> Result<Option<Ticket>, AppendError> {
    loop {
        // No await between this look and the deletion.
        if log.shard.queues_of(topic).is_empty() || node.topics.borrow().get(topic).is_some() {
            return Ok(None);
        }
        match log.shard.delete_queues(topic) {
            Err(AppendError::Busy { .. }) => log.progress().await,
            deleted => return deleted.map(Some),
        }
    }
}

/// The record that begins at a position, on whichever shard, or the one that a client means which cannot hold all bits of a
/// position; `None` if there is none.
///
/// # Errors
/// It could not be looked up.
pub async fn record_at(node: &Rc<Node>, position: Position) -> Result<Option<Slice>, Refusal> {
    let log = u16::from(position.shard().get());
    if log >= node.log_shards() {
        return Ok(None);
    }
    match node.ask(node.executor_of(log), Ask::View { position }).await {
        Told::Viewed(record) => Ok(record),
        other => Err(other.unexpected()),
    }
}

/// Where queues begin, or will once what goes next is gone.
pub async fn firsts(node: &Node, log: u16, topic: &str, queues: &[(i32, i64)], ahead: bool) -> Told {
    let Some(log) = node.log(log) else { return Told::Failed(format!("log shard {log} is not open")) };
    let start = log.shard.start();
    let start = if ahead { start.max(log.goes_next.get()) } else { start };
    let mut firsts = Vec::with_capacity(queues.len());
    for &(queue, from) in queues {
        let from = QueueOffset(u64::try_from(from).unwrap_or(0));
        match log.shard.first_from(topic, queue, start, from).await {
            Ok(first) => firsts.push(first.map_or(0, wire)),
            Err(error) => return Told::Failed(error.to_string()),
        }
    }
    Told::Firsts(firsts)
}

/// Drops the messages of topics that do not exist any more. RocketMQ spares two topics of its own, which may not be in the
/// table of an old store.
pub async fn drop_unused(node: &Rc<Node>) -> Told {
    let mut unused: Vec<Rc<str>> = node.logs().iter().flat_map(|log| log.shard.topics()).collect();
    unused.retain(|topic| {
        let spared = [names::SCHEDULE_TOPIC, names::TRANS_OP_HALF_TOPIC].contains(&&**topic);
        !spared && node.topics.borrow().get(topic).is_none()
    });
    unused.sort_unstable();
    unused.dedup();
    for topic in unused {
        match drop_topic(node, &topic).await {
            Told::Done => tracing::info!(%topic, "dropped the messages of a topic that does not exist"),
            failed => return failed,
        }
    }
    Told::Done
}
