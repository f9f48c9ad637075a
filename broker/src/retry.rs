//! Retries and dead letters: a consumer sends a message back (CONSUMER_SEND_MSG_BACK), or sends it to its group's retry
//! topic itself. Either way it goes to the retry topic, later each time, and to the dead-letter topic after the last try.

use std::rc::Rc;
use std::sync::Arc;

use ringmq_engine::Position;
use ringmq_net::{Conn, Frame};
use ringmq_protocol::code::{RequestCode, version};
use ringmq_protocol::command::HeaderView;
use ringmq_protocol::header::ConsumerSendMsgBack;
use ringmq_protocol::id::offset_msg_id;
use ringmq_protocol::message::Record;
use ringmq_protocol::names;
use ringmq_protocol::properties::{self, perm};
use ringmq_rt::{Slice, spawn, step};

use crate::detour::{self, Detour};
use crate::group_config::Group;
use crate::mail::{Answer, Ask, Told};
use crate::message::Message;
use crate::node::{CONTROL, Node};
use crate::put::{self, For};
use crate::query;
use crate::refusal::Refusal;
use crate::topic::{SYS_FLAG_UNIT_SUB, Topic};
use crate::underway::Admitted;

/// Clients from this version on (V3_4_9) say themselves how often their group tries.
const OWN_MAX_FROM: i32 = 121;
/// The delay level of the first retry.
const FIRST_LEVEL: i32 = 3;
/// Queues of a group's dead-letter topic.
const DEAD_LETTER_QUEUES: i32 = 1;

/// A message comes back on a connection of this shard.
pub fn request(node: &Rc<Node>, conn: &Rc<Conn>, view: &HeaderView<'_>, _frame: &Frame) {
    let to = Answer::to(conn.id(), view);
    let header = match ConsumerSendMsgBack::decode(view) {
        Ok(header) => header,
        Err(error) => return node.refuse(to, &Refusal::failed(error.to_string())),
    };
    let mut admitted = match node.admit(0) {
        Ok(admitted) => admitted,
        Err(refusal) => return node.refuse(to, &refusal),
    };
    let (node, version) = (Rc::clone(node), view.version);
    step!("send_back_asked");
    spawn("take a message back", async move {
        match take_back(&node, &header, version, &mut admitted).await {
            Ok(()) => {
                node.succeed(to, |_| (), &[]);
                step!("send_back_answered");
            }
            Err(refusal) => {
                let ConsumerSendMsgBack { group, offset, .. } = &header;
                // The consumer tries again, and a line for each would be many.
                if !refusal.is_busy() {
                    tracing::warn!(group, offset, %refusal, code = RequestCode::CONSUMER_SEND_MSG_BACK.0, "a message was not taken back");
                }
                node.refuse(to, &refusal);
            }
        }
    })
    .detach();
}

async fn take_back(
    node: &Rc<Node>,
    header: &ConsumerSendMsgBack,
    version: i32,
    admitted: &mut Admitted,
) -> Result<(), Refusal> {
    let group = group(node, &header.group).await?;
    if !perm::is_writeable(node.settings.topics.permission) {
        return Err(Refusal::broker_not_writable(&node.settings.store_host.ip().to_string()));
    }
    if group.config.retry_queue_nums <= 0 {
        tracing::warn!(group = header.group, "dropped a message that came back: its group has no retry queues");
        return Ok(());
    }
    let unit = if header.unit_mode { SYS_FLAG_UNIT_SUB } else { 0 };
    let retry = own_topic(node, names::retry_topic(&header.group), group.config.retry_queue_nums, unit).await?;
    if !retry.is_writable() {
        return Err(Refusal::topic_not_writable(&retry.config.topic_name));
    }
    let missing = || Refusal::failed(format!("look message by offset failed, {}", header.offset));
    let position = Position::from_wire(header.offset).ok_or_else(missing)?;
    let record = admitted.read(node.settings.send_wait_max, query::record_at(node, position)).await?;
    let record = record.ok_or_else(missing)?;
    let mut message = Message::of_record(&record).map_err(|error| Refusal::failed(error.to_string()))?;
    let origin = message.property(properties::ORIGIN_MESSAGE_ID).map(str::to_owned);
    let origin = origin.map_or_else(|| source_id(&record, header.offset), Ok)?;
    drop(record);
    if message.property(properties::RETRY_TOPIC).is_none() {
        let topic = message.topic.clone();
        message.set(properties::RETRY_TOPIC, &topic);
    }
    message.set(properties::WAIT, "false");
    message.set(properties::ORIGIN_MESSAGE_ID, &origin);
    let max = tries(&group, version, header.max_reconsume_times);
    let topic = if message.reconsume_times >= max || header.delay_level < 0 {
        let dead = own_topic(node, names::dlq_topic(&header.group), DEAD_LETTER_QUEUES, 0).await?;
        bury(&mut message);
        dead
    } else {
        let asked = if header.delay_level > 0 { header.delay_level } else { FIRST_LEVEL + message.reconsume_times };
        let level = node.settings.delay_levels.granted(asked).unwrap_or(FIRST_LEVEL);
        message.set(properties::DELAY, &level.to_string());
        retry
    };
    message.reconsume_times = message.reconsume_times.saturating_add(1);
    message.queue_id = any_queue(node, &topic)?;
    message.topic.clone_from(&topic.config.topic_name);
    let home = topic.home(message.queue_id, node.log_shards());
    let level = message.number(properties::DELAY).and_then(|level| node.settings.delay_levels.granted(level));
    if let Some(level) = level {
        let kept = Detour::Level(level).kept(node, home);
        let kept = kept.ok_or_else(Refusal::not_ready)?;
        detour::divert(&mut message, Detour::Level(level), kept);
    }
    put::put_all(node, home, vec![message], For::Client).await.map(drop).map_err(Refusal::from)
}

/// A dead letter is not delayed, whatever delay it had before, and says so as RocketMQ's do.
fn bury(message: &mut Message) {
    message.set(properties::DELAY, "0");
}

/// The group's configuration, created if the rules allow.
async fn group(node: &Rc<Node>, name: &str) -> Result<Arc<Group>, Refusal> {
    let missing = || Refusal::group_missing_for_send_back(name);
    let known = node.groups.borrow().get(name).cloned();
    if let Some(group) = known {
        return Ok(group);
    }
    match node.ask(CONTROL, Ask::EnsureGroup { group: name.into() }).await {
        Told::Done => {}
        Told::Refused(_) => return Err(missing()),
        other => return Err(other.unexpected()),
    }
    let group = node.groups.borrow().get(name).cloned();
    group.ok_or_else(missing)
}

/// A topic that the broker makes for a group, made if it is not there.
async fn own_topic(node: &Rc<Node>, name: String, queues: i32, sys_flag: i32) -> Result<Arc<Topic>, Refusal> {
    let known = node.topics.borrow().get(&name).cloned();
    if let Some(topic) = known {
        return Ok(topic);
    }
    let ask = Ask::EnsureOwnTopic { topic: name.as_str().into(), queues, sys_flag };
    node.ask(CONTROL, ask).await.done()?;
    let topic = node.topics.borrow().get(&name).cloned();
    topic.ok_or_else(|| Refusal::failed(format!("topic[{name}] not exist")))
}

/// How often a group tries: what its consumer says, if it can, and what is configured otherwise.
fn tries(group: &Group, version: i32, asked: Option<i32>) -> i32 {
    asked.filter(|_| version >= OWN_MAX_FROM).unwrap_or(group.config.retry_max_times)
}

fn any_queue(node: &Node, topic: &Topic) -> Result<i32, Refusal> {
    topic.queue_for_send(-1, node.pick(), "the broker")
}

/// The id that tools know the record by.
fn source_id(record: &Slice, offset: i64) -> Result<String, Refusal> {
    let (record, _) = Record::parse(record).map_err(|error| Refusal::failed(error.to_string()))?;
    Ok(offset_msg_id(record.store_host(), offset).as_str().to_owned())
}

/// Whether a message that its consumer sends to the retry topic itself was tried often enough. Consumers of 5.x count the
/// try that just failed, which ordered ones of 4.9 leave to the broker.
fn is_last(version: i32, reconsume_times: i32, max: i32) -> bool {
    if version < version::V5_0_0 { reconsume_times >= max } else { reconsume_times > max }
}

/// Where a client's send to a retry topic goes: on to the group's dead letters once it was tried often enough.
///
/// # Errors
/// The group does not exist.
pub async fn redirect(
    node: &Rc<Node>,
    topic: &str,
    version: i32,
    reconsume_times: i32,
    max_asked: Option<i32>,
) -> Result<Option<Arc<Topic>>, Refusal> {
    let Some(name) = topic.strip_prefix(names::RETRY_PREFIX) else { return Ok(None) };
    let group = group(node, name).await?;
    if !is_last(version, reconsume_times, tries(&group, version, max_asked)) {
        return Ok(None);
    }
    own_topic(node, names::dlq_topic(name), DEAD_LETTER_QUEUES, 0).await.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_of_clients_counts_its_own_way() {
        let last = |version, max| [0, 1, 2, 3].map(|times| is_last(version, times, max));
        assert_eq!(last(version::V4_9_8, 2), [false, false, true, true]);
        assert_eq!(last(version::V5_3_3, 2), [false, false, false, true]);
        assert!(is_last(version::V4_9_8, 1, -1) && is_last(version::V5_3_3, 1, -1));
    }
}
