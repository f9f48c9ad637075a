//! QUERY_CONSUME_QUEUE: the entries of a queue as its index has them, for tools that look for what is wrong with one.

use std::rc::Rc;

use ringmq_engine::{QueueOffset, ReadError, ReadRequest};
use ringmq_protocol::body::{ConsumeQueueEntries, ConsumeQueueEntry};
use ringmq_protocol::command::HeaderView;
use ringmq_protocol::header::QueryConsumeQueue;
use ringmq_protocol::message::Record;

use super::{Good, Outcome};
use crate::control_shard::ControlShard;
use crate::limits::QUEUE_ENTRIES_MAX;
use crate::log::Log;
use crate::mail::{Ask, Told};
use crate::node::Node;
use crate::refusal::Refusal;

/// Bytes of messages that are looked through at a time for their places.
const STEP_BYTES: u64 = 1024 * 1024;

/// Which entries of a queue.
#[derive(Debug, Clone)]
pub struct EntryRange {
    pub log: u16,
    pub topic: Box<str>,
    pub queue_id: i32,
    pub from: u64,
    pub count: usize,
}

pub(super) async fn entries(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let QueryConsumeQueue { topic: name, queue_id, index, count, consumer_group } = QueryConsumeQueue::decode(view)?;
    let node = &control.node;
    let missing = || Refusal::failed(format!("{queue_id}@{name} is not exist!"));
    let topic = control.tables.borrow().topics.get(&name).cloned().filter(|_| queue_id >= 0).ok_or_else(missing)?;
    let log = topic.home(queue_id, node.log_shards());
    let range = EntryRange {
        log,
        topic: name.as_str().into(),
        queue_id,
        from: u64::try_from(index).unwrap_or(0),
        count: usize::try_from(count).unwrap_or(0).min(QUEUE_ENTRIES_MAX),
    };
    let mut body = match node.ask(node.executor_of(log), Ask::Entries(range)).await {
        Told::Entries(body) => body.ok_or_else(missing)?,
        other => return Err(other.unexpected()),
    };
    if let Some(group) = consumer_group {
        let tables = control.tables.borrow();
        body.subscription_data = tables.members.subscriptions(&group).and_then(|s| s.get(&name)).cloned();
        body.filter_data = Some(match body.subscription_data {
            Some(_) => "null".to_owned(),
            None => format!("{group}@{name} is not online!"),
        });
    }
    Ok(Good::body(body.to_vec()))
}

/// Answers on the queue's shard.
pub async fn look_through(node: &Rc<Node>, range: &EntryRange) -> Told {
    let Some(log) = node.log(range.log) else { return Told::Failed(format!("log shard {} is not open", range.log)) };
    match collect(&log, range).await {
        Ok(body) => Told::Entries(body),
        Err(error) => Told::Failed(error.to_string()),
    }
}

/// `None` for a queue that nobody has written to.
async fn collect(log: &Log, range: &EntryRange) -> Result<Option<ConsumeQueueEntries>, ReadError> {
    let EntryRange { topic, queue_id, count, .. } = range;
    let Some((min, max)) = log.shard.bounds(topic, *queue_id) else { return Ok(None) };
    let wire = |offset: QueueOffset| i64::try_from(offset.0).unwrap_or(i64::MAX);
    let mut body = ConsumeQueueEntries {
        min_queue_index: wire(min),
        max_queue_index: wire(max),
        ..ConsumeQueueEntries::default()
    };
    let mut next = QueueOffset(range.from.max(min.0));
    while body.queue_data.len() < *count && next.0 < max.0 {
        let request = ReadRequest {
            topic,
            queue_id: *queue_id,
            offset: next,
            max_messages: count - body.queue_data.len(),
            max_bytes: STEP_BYTES,
        };
        let mut tags = Vec::new();
        let mut note = |code| {
            tags.push(code);
            true
        };
        let batch = log.shard.read_cold(request, &mut note).await?;
        // Every entry passes, so records and hashes come in the same order.
        for (record, tags_code) in batch.records.iter().zip(tags) {
            let position = Record::parse(record).map_or(-1, |(record, _)| record.position());
            body.queue_data.push(ConsumeQueueEntry {
                physic_offset: position,
                physic_size: i32::try_from(record.len()).unwrap_or(i32::MAX),
                tags_code,
                ..ConsumeQueueEntry::default()
            });
        }
        if batch.next.0 <= next.0 {
            break;
        }
        next = batch.next;
    }
    Ok(Some(body))
}
