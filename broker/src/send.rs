//! SEND_MESSAGE, SEND_MESSAGE_V2, SEND_BATCH_MESSAGE: from the request to the record in the log, and the sender's answer.
//!
//! The connection's shard decides whether and where the message goes; the queue's shard puts it into its log. A body is
//! copied once, from the receive buffer into the log buffer.

mod answer;
mod append;
mod asked;
mod batch;
mod record;
mod to_retry;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use ringmq_net::{Conn, Frame};
use ringmq_protocol::body::TopicFilterType;
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::command::{ExtWriter, HeaderView};
use ringmq_protocol::header::{Names, SendHeader};
use ringmq_protocol::host::Host;
use ringmq_protocol::names;
use ringmq_protocol::properties::{self, perm};
use ringmq_protocol::value::Value;
use ringmq_rt::wall_ms;

pub use self::answer::{write_sent, write_sent_batch, write_sent_timed};
pub use self::append::Parked;
use self::append::append;
use self::to_retry::place_retry;
use crate::mail::{Answer, Ask, Mail, SendJob};
use crate::node::{CONTROL, Node};
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::topic::{Deletions, Topic};

/// Memory that sends reuse, so that a message costs no allocation.
#[derive(Debug, Default)]
pub struct Scratch {
    properties: Vec<u8>,
    next_unique: u16,
}

/// The header's names: short ones in the V2 requests.
fn names_of(code: i32) -> Names {
    if code == RequestCode::SEND_MESSAGE.0 { Names::V1 } else { Names::V2 }
}

/// A send arrived on a connection of this shard.
pub fn request(node: &Rc<Node>, conn: &Rc<Conn>, view: &HeaderView<'_>, frame: &Frame) {
    let to = Answer::to(conn.id(), view);
    let header = match SendHeader::parse(view, names_of(view.code)) {
        Ok(header) => header,
        Err(error) => return refuse(node, to, &Refusal::failed(error.to_string())),
    };
    let name = text(header.topic.get(frame.header()));
    if let Err(refusal) = may_send(&node.settings, &name) {
        return refuse(node, to, &refusal);
    }
    let topic = node.topics.borrow().get(&name).cloned();
    match topic {
        _ if names::is_retry(&name) => {
            place_retry(node, conn, to, view.version, name.into_owned(), header, frame.clone());
        }
        Some(topic) => place(node, conn, to, &topic, &header, frame),
        None => create_then_place(node, conn, to, name.into_owned(), header, frame.clone()),
    }
}

/// A header's text without a copy, unless it has escapes.
pub(crate) fn text(value: Value<'_>) -> Cow<'_, str> {
    value.as_plain().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed)
}

/// Whether clients may send to the topic now, as far as its name and the broker's settings decide.
pub(crate) fn may_send(settings: &Settings, topic: &str) -> Result<(), Refusal> {
    if wall_ms() < settings.accept_sends_from_ms {
        let from = settings.accept_sends_from_ms;
        return Err(Refusal::failed(format!("broker unable to service, until {from}")));
    }
    if !perm::is_writeable(settings.topics.permission) {
        return Err(Refusal::broker_not_writable(&settings.store_host.ip().to_string()));
    }
    names::check_topic(topic).map_err(|error| Refusal::invalid(error.to_string()))?;
    names::check_send_allowed(topic).map_err(|_| Refusal::sending_forbidden(topic))
}

/// The topic is not known here: the control shard creates it if the rules allow, and then the send goes on.
fn create_then_place(node: &Rc<Node>, conn: &Rc<Conn>, to: Answer, name: String, header: SendHeader, frame: Frame) {
    let admitted = match node.admit(frame.header().len() + frame.body_len()) {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(node, to, &refusal),
    };
    let (node, conn) = (Rc::clone(node), Rc::clone(conn));
    ringmq_rt::spawn("send to a new topic", async move {
        let _admitted = admitted;
        let ask = Ask::EnsureTopic {
            topic: name.as_str().into(),
            default_topic: header.default_topic.get(frame.header()).to_string().into(),
            default_queues: header.default_topic_queue_nums,
            unit_mode: header.unit_mode,
        };
        if let Err(refusal) = node.ask(CONTROL, ask).await.done() {
            return refuse(&node, to, &refusal);
        }
        let topic = node.topics.borrow().get(&name).cloned();
        match topic {
            Some(topic) => place(&node, &conn, to, &topic, &header, &frame),
            None => refuse(&node, to, &Refusal::topic_missing(&name)),
        }
    })
    .detach();
}

/// Chooses the queue of a topic that was just looked up, and takes the message to its shard.
fn place(node: &Rc<Node>, conn: &Rc<Conn>, to: Answer, topic: &Arc<Topic>, header: &SendHeader, frame: &Frame) {
    if !topic.is_writable() {
        return refuse(node, to, &Refusal::topic_not_writable(&topic.config.topic_name));
    }
    let queue_id = match topic.queue_for_send(header.queue_id, node.pick(), conn.peer()) {
        Ok(queue_id) => queue_id,
        Err(refusal) => return refuse(node, to, &refusal),
    };
    let log = topic.home(queue_id, node.log_shards());
    let place = Place {
        to,
        born_host: host_of(conn),
        log,
        queue_id,
        multi_tags: topic.config.topic_filter_type == TopicFilterType::MultiTag,
        seen: node.topics.borrow().deletions(),
    };
    let executor = node.executor_of(log);
    if executor == node.me() {
        append(node, &place, header, frame);
    } else {
        let Place { to, log, queue_id, multi_tags, seen, .. } = place;
        let job = SendJob { to, born_host: conn.peer(), log, queue_id, multi_tags, seen, frame: frame.clone() };
        node.forward(executor, to, Mail::Send(Box::new(job)));
    }
}

fn host_of(conn: &Conn) -> Host {
    Host::new(conn.peer().ip(), conn.peer().port())
}

/// A refused send is told the region and the trace switch as well.
fn refuse(node: &Rc<Node>, to: Answer, refusal: &Refusal) {
    let ext = |writer: &mut ExtWriter<'_>| {
        writer.str(properties::MSG_REGION, &node.settings.region);
        writer.bool(properties::TRACE_ON, node.settings.trace_on);
    };
    node.answer(to, refusal.code, Some(&refusal.remark), ext, &[]);
}

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
struct Place {
    to: Answer,
    born_host: Host,
    log: u16,
    queue_id: i32,
    multi_tags: bool,
    /// As of when the topic was there.
    seen: Deletions,
}

/// A send that another shard decided about.
pub fn run_forwarded(node: &Rc<Node>, job: &SendJob) {
    let frame = &job.frame;
    let parsed = HeaderView::parse(frame.head().serialize, frame.header())
        .and_then(|view| SendHeader::parse(&view, names_of(view.code)));
    let header = match parsed {
        Ok(header) => header,
        Err(error) => return refuse(node, job.to, &Refusal::failed(error.to_string())),
    };
    let place = Place {
        to: job.to,
        born_host: Host::new(job.born_host.ip(), job.born_host.port()),
        log: job.log,
        queue_id: job.queue_id,
        multi_tags: job.multi_tags,
        seen: job.seen,
    };
    append(node, &place, &header, frame);
}
