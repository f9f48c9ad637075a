//! RECALL_MESSAGE: a sender takes a timed message back, by the handle that it was given. Which shard has the message the
//! handle does not say, so each log shard gets a mark that comes due just before the message.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use ringmq_net::{Conn, Frame};
use ringmq_protocol::code::ResponseCode;
use ringmq_protocol::command::{ExtWriter, HeaderView};
use ringmq_protocol::header::RecallMessage;
use ringmq_protocol::names;
use ringmq_protocol::properties::{self, perm};
use ringmq_rt::{spawn, step, wall_ms};

use crate::detour::own_queue;
use crate::mail::Answer;
use crate::message::Message;
use crate::node::Node;
use crate::put::{self, For};
use crate::refusal::Refusal;

const VERSION: &str = "v1";

/// The handle of a timed message: 5.x clients read the broker's name from it.
pub fn handle(topic: &str, broker_name: &str, due_ms: u64, unique_key: &str) -> String {
    URL_SAFE.encode(format!("{VERSION} {topic} {broker_name} {due_ms} {unique_key}"))
}

/// What a handle says.
#[derive(Debug, PartialEq, Eq)]
struct Handle {
    topic: String,
    broker_name: String,
    due_ms: u64,
    unique_key: String,
}

impl Handle {
    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut parts = text.split(' ');
        let (version, topic, broker_name) = (parts.next()?, parts.next()?, parts.next()?);
        let (due_ms, unique_key) = (parts.next()?.parse().ok()?, parts.next()?);
        let known = version == VERSION && !unique_key.is_empty();
        known.then(|| Self {
            topic: topic.to_owned(),
            broker_name: broker_name.to_owned(),
            due_ms,
            unique_key: unique_key.to_owned(),
        })
    }
}

/// A RECALL_MESSAGE arrived on a connection of this shard.
pub fn request(node: &Rc<Node>, conn: &Rc<Conn>, view: &HeaderView<'_>, _frame: &Frame) {
    let to = Answer::to(conn.id(), view);
    let header = match RecallMessage::decode(view) {
        Ok(header) => header,
        Err(error) => return refuse(node, to, &Refusal::failed(error.to_string())),
    };
    let handle = match check(node, &header) {
        Ok(handle) => handle,
        Err(refusal) => return refuse(node, to, &refusal),
    };
    let admitted = match node.admit(0) {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(node, to, &refusal),
    };
    step!("recall_asked");
    let node = Rc::clone(node);
    spawn("recall a message", async move {
        let _admitted = admitted;
        match recall(&node, &handle).await {
            Ok(()) => {
                let ext = |writer: &mut ExtWriter<'_>| {
                    writer.str("msgId", &handle.unique_key);
                    region(&node, writer);
                };
                node.succeed(to, ext, &[]);
                step!("recall_answered");
            }
            Err(refusal) => refuse(&node, to, &refusal),
        }
    })
    .detach();
}

fn region(node: &Node, writer: &mut ExtWriter<'_>) {
    writer.str(properties::MSG_REGION, &node.settings.region);
}

fn refuse(node: &Rc<Node>, to: Answer, refusal: &Refusal) {
    node.answer(to, refusal.code, Some(&refusal.remark), |writer| region(node, writer), &[]);
}

fn check(node: &Node, header: &RecallMessage) -> Result<Handle, Refusal> {
    let settings = &*node.settings;
    let illegal = |remark: &str| Refusal::new(ResponseCode::ILLEGAL_OPERATION, remark);
    if !settings.timers.recall {
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, "recall failed, operation is forbidden"));
    }
    if !perm::is_writeable(settings.topics.permission) && !settings.timers.recall_when_not_writable {
        let ip = settings.store_host.ip();
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("recall failed, the broker[{ip}] sending message is forbidden"),
        ));
    }
    if node.topics.borrow().get(&header.topic).is_none() {
        let remark = format!("recall failed, the topic[{}] not exist", header.topic);
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    }
    let handle = Handle::parse(&header.recall_handle).ok_or_else(|| illegal("recall handle is invalid"))?;
    if handle.topic != header.topic {
        return Err(illegal("recall failed, topic not match"));
    }
    if handle.broker_name != settings.identity.broker_name {
        return Err(illegal("recall failed, broker service not available"));
    }
    let now_ms = u64::try_from(wall_ms()).unwrap_or(0);
    let left = handle.due_ms.saturating_sub(now_ms);
    if left == 0 || u128::from(left) > settings.timers.delay_max.as_millis() {
        return Err(Refusal::recall_too_late());
    }
    Ok(handle)
}

/// Stores the mark on each log shard. One that comes too late on one of them is refused, though the message may be taken back.
/// Once the first is stored, the others wait as long as it takes: a refusal for a busy log says that nothing was done.
async fn recall(node: &Rc<Node>, handle: &Handle) -> Result<(), Refusal> {
    let now_ms = wall_ms();
    for log in 0..node.log_shards() {
        let whose = if log == 0 { For::Client } else { For::Promised };
        let queue_id = own_queue(node, names::TIMER_TOPIC, log, 0).ok_or_else(Refusal::not_ready)?;
        let mut mark = Message::own(names::TIMER_TOPIC, queue_id, node.settings.store_host, now_ms, vec![b'0']);
        mark.set(properties::REAL_TOPIC, &handle.topic);
        mark.set(properties::REAL_QID, "0");
        mark.set(properties::TIMER_DEL_UNIQKEY, &handle.unique_key);
        mark.set(properties::TIMER_OUT_MS, &handle.due_ms.saturating_sub(1).to_string());
        put::put_all(node, log, vec![mark], whose).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_what_it_was_made_of() {
        let text = handle("orders", "broker-a", 1_700_000_000_123, "7F000001");
        assert_eq!(text, "djEgb3JkZXJzIGJyb2tlci1hIDE3MDAwMDAwMDAxMjMgN0YwMDAwMDE=");
        let parsed = Handle::parse(&text).unwrap();
        assert_eq!((parsed.topic.as_str(), parsed.broker_name.as_str()), ("orders", "broker-a"));
        assert_eq!((parsed.due_ms, parsed.unique_key.as_str()), (1_700_000_000_123, "7F000001"));
        assert_eq!(Handle::parse(text.trim_end_matches('=')), Some(parsed), "some clients drop the padding");
    }

    #[test]
    fn what_is_no_handle_is_none() {
        for text in ["", "djE", "!!!", "djIgYSBiIDEgYw==", "djEgYSBiIHggYw=="] {
            assert_eq!(Handle::parse(text), None, "{text}");
        }
    }
}
