//! SEND_REPLY_MESSAGE, SEND_REPLY_MESSAGE_V2: a consumer's answer to a request, pushed to the client that waits for it. The
//! requester is found by the client id that it put into its request, among the producers that heartbeats announced.

use std::rc::Rc;
use std::time::Duration;

use ringmq_net::ConnId;
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{Command, HeaderView};
use ringmq_protocol::header::{Names, PushReply, SendRequest};
use ringmq_protocol::host::Host;
use ringmq_protocol::id::offset_msg_id;
use ringmq_protocol::properties;
use ringmq_rt::wall_ms;

use super::{Good, Outcome};
use crate::client_call::{ClientCall, call};
use crate::control_shard::ControlShard;
use crate::mail::ControlJob;
use crate::message::Message;
use crate::put::put;
use crate::refusal::Refusal;
use crate::send::may_send;

/// How long the requester may take to say that it has the reply.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(super) async fn push(control: &Rc<ControlShard>, job: &ControlJob, view: &HeaderView<'_>) -> Outcome {
    let names = if view.code == RequestCode::SEND_REPLY_MESSAGE.0 { Names::V1 } else { Names::V2 };
    let header = SendRequest::decode_names(view, names)?;
    let settings = &control.node.settings;
    may_send(settings, &header.topic)?;
    let queues = header.default_topic_queue_nums;
    control.ensure_topic(&header.topic, &header.default_topic, queues, header.unit_mode).await.done()?;
    let queue_id = header.queue_id.max(0);
    let kept = message(job, &header, queue_id);
    let pushed = push_to_requester(control, job, header).await;
    // Kept for those who look for it later, whether or not it arrived.
    let stored = if settings.store_replies { store(control, kept).await } else { None };
    pushed?;
    // Clients insist on ids, of a message that is not stored too.
    let (msg_id, queue_offset) = stored.unwrap_or_else(|| ("0".to_owned(), 0));
    let ext = vec![
        ("msgId".into(), msg_id),
        ("queueId".into(), queue_id.to_string()),
        ("queueOffset".into(), queue_offset.to_string()),
        (properties::MSG_REGION.into(), settings.region.clone()),
        (properties::TRACE_ON.into(), settings.trace_on.to_string()),
    ];
    Ok(Good { ext, body: Vec::new() })
}

/// The reply as it is stored.
fn message(job: &ControlJob, header: &SendRequest, queue_id: i32) -> Message {
    Message {
        topic: header.topic.clone(),
        queue_id,
        flag: header.flag,
        sys_flag: header.sys_flag,
        born_timestamp: header.born_timestamp,
        born_host: Host::new(job.peer.ip(), job.peer.port()),
        reconsume_times: header.reconsume_times,
        prepared_offset: 0,
        properties: header.properties.clone().unwrap_or_default(),
        body: job.frame.body().into_owned().into(),
    }
}

/// Its offset id and its place in the queue. The requester has its reply, so that it is not stored is worth a warning only.
async fn store(control: &ControlShard, message: Message) -> Option<(String, u64)> {
    let topic = control.tables.borrow().topics.get(&message.topic).cloned()?;
    match put(&control.node, &topic, message).await {
        Ok(ticket) => {
            let id = offset_msg_id(control.node.settings.store_host, ticket.position.to_wire());
            Some((id.as_str().to_owned(), ticket.queue_offset.0))
        }
        Err(error) => {
            tracing::warn!(topic = %topic.config.topic_name, %error, "a reply is not stored");
            None
        }
    }
}

async fn push_to_requester(control: &ControlShard, job: &ControlJob, sent: SendRequest) -> Result<(), Refusal> {
    let settings = &control.node.settings;
    let mut text = sent.properties.unwrap_or_default();
    let requester = properties::get(&text, properties::REPLY_TO_CLIENT).map(str::to_owned);
    let Some(requester) = requester else {
        let name = properties::REPLY_TO_CLIENT;
        return Err(Refusal::failed(format!("reply message properties[{name}] is null")));
    };
    let conn = control.tables.borrow().members.producer(&requester);
    let conn =
        conn.ok_or_else(|| Refusal::failed(format!("push reply message fail, channel of <{requester}> not found.")))?;
    let now_ms = wall_ms();
    let failed = || Refusal::failed(format!("push reply message to {requester}fail."));
    properties::push(&mut text, properties::PUSH_REPLY_TIME, &now_ms.to_string()).map_err(|_| failed())?;
    let host = |ip: std::net::IpAddr, port: u16| std::net::SocketAddr::new(ip.to_canonical(), port).to_string();
    let header = PushReply {
        producer_group: sent.producer_group,
        topic: sent.topic,
        default_topic: sent.default_topic,
        default_topic_queue_nums: sent.default_topic_queue_nums,
        queue_id: sent.queue_id,
        sys_flag: sent.sys_flag,
        born_timestamp: sent.born_timestamp,
        flag: sent.flag,
        properties: Some(text),
        reconsume_times: Some(sent.reconsume_times),
        unit_mode: sent.unit_mode,
        born_host: host(job.peer.ip(), job.peer.port()),
        store_host: host(settings.store_host.ip(), settings.store_host.port()),
        store_timestamp: now_ms,
    };
    let mut command = Command::request(RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT.0, 0);
    command.ext = header.to_ext();
    let body = job.frame.body().into_owned();
    let asked = ClientCall { conn: ConnId(conn.0), command, body, within: ANSWER_MAX };
    match call(&control.node, asked).await {
        Ok(answer) if answer.command.code == ResponseCode::SUCCESS.0 => Ok(()),
        Ok(answer) => {
            tracing::warn!(requester, remark = ?answer.command.remark, "a requester refused the reply to its request");
            Err(failed())
        }
        Err(why) => {
            tracing::warn!(requester, %why, "a reply did not reach its requester");
            Err(failed())
        }
    }
}
