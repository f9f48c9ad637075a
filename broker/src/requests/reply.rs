//! SEND_REPLY_MESSAGE, SEND_REPLY_MESSAGE_V2: a consumer's answer to a request, pushed to the client that waits for it. The
//! requester is found by the client id that it put into its request, among the producers that heartbeats announced.

use std::rc::Rc;
use std::time::Duration;

use ringmq_net::ConnId;
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{Command, ExtWriter, HeaderView};
use ringmq_protocol::header::{Names, PushReply, SendRequest};
use ringmq_protocol::host::Host;
use ringmq_protocol::id::offset_msg_id;
use ringmq_protocol::properties;
use ringmq_rt::wall_ms;

use crate::client_call::{ClientCall, call};
use crate::control_shard::ControlShard;
use crate::mail::ControlJob;
use crate::message::Message;
use crate::put::{For, put};
use crate::refusal::Refusal;
use crate::send::may_send;

/// How long the requester may take to say that it has the reply.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Serves the request and answers it: a refusal, too, tells where the reply is stored.
pub(super) async fn push(control: &Rc<ControlShard>, job: &ControlJob, view: &HeaderView<'_>) {
    // It is held as it came, as it is pushed, and as it is stored.
    let (outcome, stored) = match control.node.admit(job.frame.header().len() + 3 * job.frame.body_len()) {
        Ok(_admitted) => match accept(control, job, view).await {
            Ok((header, queue_id)) => deliver(control, job, header, queue_id).await,
            Err(refusal) => (Err(refusal), None),
        },
        Err(refusal) => (Err(refusal), None),
    };
    let settings = &control.node.settings;
    let (code, remark) = match &outcome {
        Ok(()) => (ResponseCode::SUCCESS, None),
        Err(refusal) => (refusal.code, Some(refusal.remark.as_str())),
    };
    let ext = |writer: &mut ExtWriter<'_>| {
        if let Some(Kept { msg_id, queue_id, queue_offset }) = &stored {
            writer.str("msgId", msg_id);
            writer.i64("queueId", i64::from(*queue_id));
            writer.i64("queueOffset", i64::try_from(*queue_offset).unwrap_or(i64::MAX));
        }
        writer.str(properties::MSG_REGION, &settings.region);
        writer.bool(properties::TRACE_ON, settings.trace_on);
    };
    control.node.answer(job.to, code, remark, ext, &[]);
}

/// Where a reply is kept.
struct Kept {
    msg_id: String,
    queue_id: i32,
    queue_offset: u64,
}

/// The request and the queue of the reply, where a send could go as well.
async fn accept(
    control: &Rc<ControlShard>,
    job: &ControlJob,
    view: &HeaderView<'_>,
) -> Result<(SendRequest, i32), Refusal> {
    let names = if view.code == RequestCode::SEND_REPLY_MESSAGE.0 { Names::V1 } else { Names::V2 };
    let header = SendRequest::decode_names(view, names)?;
    may_send(&control.node.settings, &header.topic)?;
    let queues = header.default_topic_queue_nums;
    control.ensure_topic(&header.topic, &header.default_topic, queues, header.unit_mode).await.done()?;
    let topic = control.tables.borrow().topics.get(&header.topic).cloned();
    let topic = topic.ok_or_else(|| Refusal::topic_missing(&header.topic))?;
    if !topic.is_writable() {
        return Err(Refusal::topic_not_writable(&header.topic));
    }
    let queue_id = topic.queue_for_send(header.queue_id, control.node.pick(), job.peer)?;
    Ok((header, queue_id))
}

/// Pushes the reply to its requester, and keeps it for those who look for it later, whether or not it arrived.
async fn deliver(
    control: &Rc<ControlShard>,
    job: &ControlJob,
    mut header: SendRequest,
    queue_id: i32,
) -> (Result<(), Refusal>, Option<Kept>) {
    let settings = &control.node.settings;
    let mut kept = message(job, &header, queue_id);
    kept.set(properties::MSG_REGION, &settings.region);
    kept.set(properties::TRACE_ON, if settings.trace_on { "true" } else { "false" });
    header.properties = Some(kept.properties.clone());
    let pushed = push_to_requester(control, job, header).await;
    let stored = if settings.store_replies { store(control, kept).await } else { None };
    // Clients insist on ids, of a message that is not stored too.
    let none = || pushed.is_ok().then(|| Kept { msg_id: "0".to_owned(), queue_id, queue_offset: 0 });
    let stored = stored.or_else(none);
    (pushed, stored)
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

/// The requester has its reply, so that it is not stored is worth a warning only.
async fn store(control: &ControlShard, message: Message) -> Option<Kept> {
    let topic = control.tables.borrow().topics.get(&message.topic).cloned()?;
    let queue_id = message.queue_id;
    let (size, max) = (message.body.len(), control.node.settings.message_max);
    if size > max {
        tracing::warn!(topic = %topic.config.topic_name, size, max, "a reply is not stored: it is larger than maxMessageSize");
        return None;
    }
    match put(&control.node, &topic, message, For::Client).await {
        Ok(ticket) => {
            let id = offset_msg_id(control.node.settings.store_host, ticket.position.to_wire());
            Some(Kept { msg_id: id.as_str().to_owned(), queue_id, queue_offset: ticket.queue_offset.0 })
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
