//! What an operator asks of a running consumer: the broker puts the request to the client and brings back its answer.
//! Remarks are RocketMQ's, because tools print them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::Position;
use ringmq_net::{ConnId, Response};
use ringmq_protocol::body::ConsumerStatusBody;
use ringmq_protocol::code::{RequestCode, ResponseCode, version};
use ringmq_protocol::command::{Command, HeaderView};
use ringmq_protocol::header::{ClientCallback, ConsumerStatus};
use ringmq_protocol::id::decode_offset_msg_id;
use ringmq_rt::spawn;

use super::{Good, Outcome};
use crate::client_call::{ClientCall, NoAnswer, call};
use crate::control_shard::ControlShard;
use crate::member::Client;
use crate::query;
use crate::refusal::Refusal;

/// How long a client may take for what it is asked. The tools wait longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The same for one of several clients that one request asks.
const EACH_ANSWER_MAX: Duration = Duration::from_secs(5);

/// GET_CONSUMER_RUNNING_INFO.
pub(super) async fn running_info(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let header = ClientCallback::decode(view)?;
    let client_id = header.client_id.unwrap_or_default();
    relay(control, view, &header.consumer_group, &client_id, Vec::new(), Vec::new()).await
}

/// CONSUME_MESSAGE_DIRECTLY: the client consumes the stored message once more, as if it had just come.
pub(super) async fn consume_directly(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let header = ClientCallback::decode(view)?;
    let record = record(control, header.msg_id.as_deref().unwrap_or_default()).await?;
    let mut more = vec![("brokerName", control.node.settings.identity.broker_name.clone())];
    {
        let tables = control.tables.borrow();
        if let Some(topic) = header.topic.as_deref().and_then(|topic| tables.topics.get(topic)) {
            more.push(("topicSysFlag", topic.config.topic_sys_flag.to_string()));
        }
        if let Some(group) = tables.groups.get(&header.consumer_group) {
            more.push(("groupSysFlag", group.config.group_sys_flag.to_string()));
        }
    }
    let client_id = header.client_id.unwrap_or_default();
    relay(control, view, &header.consumer_group, &client_id, more, record).await
}

/// The stored message of an offset id.
async fn record(control: &Rc<ControlShard>, msg_id: &str) -> Result<Vec<u8>, Refusal> {
    let node = &control.node;
    let named = decode_offset_msg_id(msg_id).and_then(|(_, position)| Position::from_wire(position));
    let position = named.ok_or_else(|| Refusal::failed(format!("msgId[{msg_id}] is not an offset message id")))?;
    let record = query::record_at(node, position).await?;
    let record = record.ok_or_else(|| Refusal::failed(format!("no message is stored at msgId[{msg_id}]")))?;
    Ok(record.to_vec())
}

/// Sends the request's own fields, and `more` of them, to one member of the group.
async fn relay(
    control: &Rc<ControlShard>,
    view: &HeaderView<'_>,
    group: &str,
    client_id: &str,
    more: Vec<(&'static str, String)>,
    body: Vec<u8>,
) -> Outcome {
    let client = control.tables.borrow().members.consumer(group, client_id);
    let client = client.ok_or_else(|| Refusal::failed(format!("The Consumer <{group}> <{client_id}> not online")))?;
    if client.version < version::V3_1_8_SNAPSHOT {
        return Err(Refusal::failed(format!(
            "The Consumer <{client_id}> Version <{}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT",
            version::describe(client.version)
        )));
    }
    let mut command = Command::request(view.code, 0);
    command.ext = view.to_command().ext;
    for (key, value) in more {
        command.ext.retain(|(name, _)| name != key);
        command.ext.push((key.to_owned(), value));
    }
    let conn = ConnId(client.conn.0);
    let answer = call(&control.node, ClientCall { conn, command, body, within: ANSWER_MAX }).await;
    match answer {
        Ok(Response { command, body }) if command.code == ResponseCode::SUCCESS.0 => {
            let ext = command.ext.into_iter().map(|(key, value)| (Cow::Owned(key), value)).collect();
            Ok(Good { ext, body })
        }
        Ok(Response { command, .. }) => {
            Err(Refusal::new(ResponseCode(command.code), command.remark.unwrap_or_default()))
        }
        Err(why @ NoAnswer::TimedOut(_)) => Err(Refusal::new(
            ResponseCode::CONSUME_MSG_TIMEOUT,
            format!("consumer <{group}> <{client_id}> Timeout: {why}"),
        )),
        Err(why) => Err(Refusal::failed(format!("invoke consumer <{group}> <{client_id}> Exception: {why}"))),
    }
}

/// INVOKE_BROKER_TO_GET_CONSUMER_STATUS: how far the members say they are. One that does not answer is left out.
pub(super) async fn consumer_status(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let ConsumerStatus { topic, group, client_id } = ConsumerStatus::decode(view)?;
    let members = control.tables.borrow().members.consumers(&group);
    if members.is_empty() {
        return Err(Refusal::failed(format!("No Any Consumer online in the consumer group: [{group}]")));
    }
    if let Some(old) = members.iter().find(|member| member.version < version::V3_0_7_SNAPSHOT) {
        return Err(Refusal::client_too_old(old.version));
    }
    let wanted = client_id.filter(|id| !id.trim().is_empty());
    let asked = members.into_iter().filter(|member| wanted.as_deref().is_none_or(|id| *member.client_id == *id));
    let question = ConsumerStatus { topic, group, client_id: None };
    let ask_one = |Client { conn, client_id, .. }: Client| {
        let mut command = Command::request(RequestCode::GET_CONSUMER_STATUS_FROM_CLIENT.0, 0);
        command.ext = question.to_ext();
        let (node, conn) = (Rc::clone(&control.node), ConnId(conn.0));
        let one = ClientCall { conn, command, body: Vec::new(), within: EACH_ANSWER_MAX };
        spawn("ask a client for its status", async move { (client_id, call(&node, one).await) })
    };
    // All at once: one that is slow costs its own deadline only.
    let calls: Vec<_> = asked.map(ask_one).collect();
    let mut consumer_table = BTreeMap::new();
    for one in calls {
        let (client_id, answer) = one.await;
        match answer.map(|answer| ConsumerStatusBody::parse(&answer.body)) {
            Ok(Ok(status)) => drop(consumer_table.insert(client_id.to_string(), status.message_queue_table)),
            Ok(Err(error)) => tracing::warn!(%client_id, %error, "a client's status cannot be read"),
            Err(why) => tracing::warn!(%client_id, %why, "a client did not tell its status"),
        }
    }
    Ok(Good::body(ConsumerStatusBody { consumer_table, ..ConsumerStatusBody::default() }.to_vec()))
}
