//! INVOKE_BROKER_TO_RESET_OFFSET: a group is to read a topic from another place. Either the broker decides at once and
//! tells the group's next pulls (`useServerSideResetOffset`), which works for groups without members too, or it tells the
//! members, which decide about their own offsets, as in RocketMQ 4.9.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ringmq_net::ConnId;
use ringmq_protocol::body::{MessageQueue, QueueOffset, ResetOffsetBody, ResetOffsetBodyForC};
use ringmq_protocol::code::{Language, RequestCode, ResponseCode, version};
use ringmq_protocol::command::{Command, HeaderView};
use ringmq_protocol::header::ResetOffset;

use super::{Good, Outcome};
use crate::client_call::tell;
use crate::control_shard::ControlShard;
use crate::look::{Question, Seen, look};
use crate::mail::Mail;
use crate::refusal::Refusal;
use crate::reset::{GroupQueue, ResetChange};
use crate::topic::Topic;

pub(super) async fn reset(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let asked = ResetOffset::decode(view)?;
    let ResetOffset { topic, group, timestamp, is_force, queue_id, offset } = &asked;
    tracing::info!(topic, group, timestamp, is_force, ?queue_id, ?offset, "a consumer group's offsets are to be reset");
    if control.node.settings.server_side_reset {
        at_broker(control, &asked).await
    } else {
        at_clients(control, &asked).await
    }
}

fn answer(control: &ControlShard, topic: &str, queues: &BTreeMap<i32, i64>) -> ResetOffsetBody {
    let broker = &control.node.settings.identity.broker_name;
    let queue = |(queue_id, offset): (&i32, &i64)| (MessageQueue::new(topic, broker, *queue_id), *offset);
    ResetOffsetBody { offset_table: queues.iter().map(queue).collect() }
}

/// What is seen of the queues, with the place of a time; a negative one stands for the end.
async fn places(
    control: &ControlShard,
    topic: &Arc<Topic>,
    queues: impl Iterator<Item = i32>,
    timestamp: i64,
) -> Result<Vec<(i32, Seen)>, Refusal> {
    let queues: Vec<i32> = queues.collect();
    let by_time = (timestamp >= 0).then_some(timestamp);
    let questions = queues.iter().map(|id| Question { by_time, ..Question::ends(topic, *id) }).collect();
    let mut seen = look(control, questions).await?;
    if by_time.is_none() {
        for one in &mut seen {
            one.by_time = one.max;
        }
    }
    Ok(queues.into_iter().zip(seen).collect())
}

async fn at_broker(control: &Rc<ControlShard>, asked: &ResetOffset) -> Outcome {
    let ResetOffset { topic: name, group, timestamp, is_force, queue_id, offset } = asked;
    let topic = {
        let tables = control.tables.borrow();
        let topic = tables.topics.get(name).cloned();
        let missing = || Refusal::new(ResponseCode::TOPIC_NOT_EXIST, format!("Topic {name} does not exist"));
        let topic = topic.ok_or_else(missing)?;
        if !tables.groups.contains(group) {
            let remark = format!("Group {group} does not exist");
            return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        }
        topic
    };
    let one = queue_id.filter(|id| *id >= 0);
    let read_queues = topic.config.read_queue_nums;
    if let Some(id) = one
        && id >= read_queues
    {
        return Err(Refusal::pull_queue(id, name, read_queues, group));
    }
    let range = one.map_or(0..read_queues, |id| id..id + 1);
    let mut queues = BTreeMap::new();
    for (id, seen) in places(control, &topic, range, *timestamp).await? {
        let given = offset.filter(|offset| one.is_some() && *offset != -1);
        if let Some(given) = given
            && !(seen.min..=seen.max + 1).contains(&given)
        {
            let remark = format!("Target offset {given} not in consume queue range [{}-{}]", seen.min, seen.max);
            return Err(Refusal::failed(remark));
        }
        let stored = control.tables.borrow().offsets.stored(group, name, id);
        let place = match (given, stored) {
            (Some(given), _) => given,
            // Without force a group only goes back.
            (None, Some(stored)) if !is_force => stored.min(seen.by_time),
            (None, _) => seen.by_time,
        };
        queues.insert(id, place);
    }
    if queues.is_empty() {
        return Err(Refusal::failed("No queues to reset."));
    }
    control.tables.borrow_mut().offsets.reset(group, name, &queues)?;
    let node = &control.node;
    let (group, name): (Arc<str>, Arc<str>) = (group.as_str().into(), name.as_str().into());
    for (&queue_id, &offset) in &queues {
        let queue = GroupQueue { group: Arc::clone(&group), topic: Arc::clone(&name), queue_id };
        let home = node.executor_of(topic.home(queue_id, node.log_shards()));
        node.tell(home, Mail::Reset(ResetChange::Put(queue, offset)));
    }
    Ok(Good::body(answer(control, &name, &queues).to_vec()))
}

async fn at_clients(control: &Rc<ControlShard>, asked: &ResetOffset) -> Outcome {
    let ResetOffset { topic: name, group, timestamp, is_force, .. } = asked;
    let topic = control.tables.borrow().topics.get(name).cloned().ok_or_else(|| {
        let remark = format!("[reset-offset] reset offset failed, no topic in this broker. topic={name}");
        Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark)
    })?;
    let mut queues = BTreeMap::new();
    for (id, seen) in places(control, &topic, 0..topic.config.write_queue_nums, *timestamp).await? {
        let stored = control.tables.borrow().offsets.stored(group, name, id);
        let stored = stored.ok_or_else(|| Refusal::failed(format!("THe consumer group <{group}> not exist")))?;
        queues.insert(id, if *is_force { seen.by_time } else { stored.min(seen.by_time) });
    }
    let members = control.tables.borrow().members.consumers(group);
    if members.is_empty() {
        return Err(Refusal::new(
            ResponseCode::CONSUMER_NOT_ONLINE,
            format!(
                "Consumer not online, so can not reset offset, Group: {group} Topic: {name} Timestamp: {timestamp}"
            ),
        ));
    }
    if let Some(old) = members.iter().find(|member| member.version < version::V3_0_7_SNAPSHOT) {
        return Err(Refusal::client_too_old(old.version));
    }
    let body = answer(control, name, &queues);
    let for_c = body.offset_table.iter().map(|(queue, offset)| QueueOffset {
        broker_name: queue.broker_name.clone(),
        offset: *offset,
        queue_id: queue.queue_id,
        topic: queue.topic.clone(),
    });
    let (for_c, body) = (ResetOffsetBodyForC { offset_table: for_c.collect() }.to_vec(), body.to_vec());
    let header = ResetOffset { queue_id: None, offset: None, ..asked.clone() };
    for member in members {
        let mut command = Command::request(RequestCode::RESET_CONSUMER_CLIENT_OFFSET.0, 0);
        command.ext = header.to_ext();
        let body = if member.language == Language::CPP { &for_c } else { &body };
        tell(&control.node, ConnId(member.conn.0), command, body.clone());
    }
    Ok(Good::body(body))
}
