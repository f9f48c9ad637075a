//! A client's own sends to a retry topic: what its consumer could not send back. The last try is a dead letter.

use std::rc::Rc;

use ringmq_net::{Conn, Frame};
use ringmq_protocol::code::ResponseCode;
use ringmq_protocol::header::SendHeader;
use ringmq_protocol::properties;

use super::record::unique_key;
use super::{create_then_place, host_of, place, refuse};
use crate::mail::{Answer, Sent, ShortText};
use crate::message::Message;
use crate::node::Node;
use crate::put::{self, For};
use crate::refusal::Refusal;
use crate::retry;
use crate::topic::Topic;

/// A consumer sends to its group's retry topic what it could not send back; the last try is a dead letter.
pub(super) fn place_retry(
    node: &Rc<Node>,
    conn: &Rc<Conn>,
    to: Answer,
    version: i32,
    name: String,
    header: SendHeader,
    frame: Frame,
) {
    // A dead letter is a copy.
    let admitted = match node.admit(frame.header().len() + 2 * frame.body_len()) {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(node, to, &refusal),
    };
    let (node, conn) = (Rc::clone(node), Rc::clone(conn));
    ringmq_rt::spawn("send to a retry topic", async move {
        let _admitted = admitted;
        let asked = header.max_reconsume_times;
        match retry::redirect(&node, &name, version, header.reconsume_times, asked).await {
            Ok(Some(_)) if header.batch => refuse(&node, to, &Refusal::batch_to_retry(&name)),
            Ok(Some(dead_letters)) => store_dead_letter(&node, &conn, to, &dead_letters, &header, &frame).await,
            Ok(None) => {
                let topic = node.topics.borrow().get(&name).cloned();
                match topic {
                    Some(topic) => place(&node, &conn, to, &topic, &header, &frame),
                    None => create_then_place(&node, &conn, to, name, header, frame),
                }
            }
            Err(refusal) => refuse(&node, to, &refusal),
        }
    })
    .detach();
}

pub(super) async fn store_dead_letter(
    node: &Rc<Node>,
    conn: &Conn,
    to: Answer,
    topic: &Topic,
    header: &SendHeader,
    frame: &Frame,
) {
    let outcome = match topic.queue_for_send(-1, node.pick(), conn.peer()) {
        Ok(queue_id) => {
            let letter = dead_letter(node, conn, topic, queue_id, header, frame);
            let unique_key = letter.property(properties::UNIQ_KEY).and_then(ShortText::new);
            let stored = put::put(node, topic, letter, For::Client).await.map_err(Refusal::from);
            stored.map(|ticket| (queue_id, ticket, unique_key))
        }
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok((queue_id, ticket, unique_key)) => {
            let position = ticket.position.to_wire();
            let queue_offset = ticket.queue_offset;
            node.sent(&Sent { to, code: ResponseCode::SUCCESS.0, position, queue_id, queue_offset, unique_key });
        }
        Err(refusal) => refuse(node, to, &refusal),
    }
}

/// A client's message as a dead letter. It is not delayed, whatever it asks for.
pub(super) fn dead_letter(
    node: &Node,
    conn: &Conn,
    topic: &Topic,
    queue_id: i32,
    header: &SendHeader,
    frame: &Frame,
) -> Message {
    let settings = &*node.settings;
    let mut letter = Message {
        topic: topic.config.topic_name.clone(),
        queue_id,
        flag: header.flag,
        sys_flag: header.sys_flag,
        born_timestamp: header.born_timestamp,
        born_host: host_of(conn),
        reconsume_times: header.reconsume_times,
        prepared_offset: 0,
        properties: header.properties.map(|text| text.get(frame.header()).to_string()).unwrap_or_default(),
        body: frame.body().to_vec().into(),
    };
    letter.set(properties::DELAY, "-1");
    letter.set(properties::MSG_REGION, &settings.region);
    letter.set(properties::TRACE_ON, if settings.trace_on { "true" } else { "false" });
    letter.set(properties::CLUSTER, &settings.identity.cluster_name);
    if letter.property(properties::UNIQ_KEY).is_none() {
        let key = unique_key(settings, &mut node.scratch.borrow_mut().next_unique);
        letter.set(properties::UNIQ_KEY, key.as_str());
    }
    letter
}
