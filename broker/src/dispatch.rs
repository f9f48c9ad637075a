//! Request code to handler: the table of contents of the broker.

use std::rc::Rc;

use ringmq_net::{Conn, Frame, Service};
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::command::HeaderView;

use crate::mail::{Answer, ControlJob, Mail};
use crate::node::{CONTROL, Node};
use crate::refusal::Refusal;
use crate::{pull, query, send};

/// Where a request is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handler {
    Send,
    Pull,
    Query,
    /// The control shard. `admin` requests change the broker and are taken from the loopback address only.
    Control {
        admin: bool,
    },
}

/// Every code that is served. A code that is not here is refused.
fn handler(code: RequestCode) -> Option<Handler> {
    const MEMBER: Handler = Handler::Control { admin: false };
    const ADMIN: Handler = Handler::Control { admin: true };
    Some(match code {
        RequestCode::SEND_MESSAGE | RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE => Handler::Send,
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => Handler::Pull,
        RequestCode::GET_MAX_OFFSET
        | RequestCode::GET_MIN_OFFSET
        | RequestCode::SEARCH_OFFSET_BY_TIMESTAMP
        | RequestCode::GET_EARLIEST_MSG_STORETIME => Handler::Query,
        RequestCode::HEART_BEAT
        | RequestCode::UNREGISTER_CLIENT
        | RequestCode::CHECK_CLIENT_CONFIG
        | RequestCode::GET_CONSUMER_LIST_BY_GROUP
        | RequestCode::LOCK_BATCH_MQ
        | RequestCode::UNLOCK_BATCH_MQ
        | RequestCode::QUERY_CONSUMER_OFFSET
        | RequestCode::UPDATE_CONSUMER_OFFSET
        | RequestCode::GET_ALL_TOPIC_CONFIG
        | RequestCode::GET_TOPIC_CONFIG
        | RequestCode::GET_TOPIC_STATS_INFO
        | RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG
        | RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG
        | RequestCode::GET_ALL_CONSUMER_OFFSET
        | RequestCode::GET_CONSUMER_CONNECTION_LIST
        | RequestCode::GET_PRODUCER_CONNECTION_LIST
        | RequestCode::GET_BROKER_RUNTIME_INFO
        | RequestCode::GET_BROKER_CONFIG => MEMBER,
        RequestCode::UPDATE_AND_CREATE_TOPIC
        | RequestCode::DELETE_TOPIC_IN_BROKER
        | RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP
        | RequestCode::DELETE_SUBSCRIPTIONGROUP
        | RequestCode::CLEAN_EXPIRED_CONSUMEQUEUE
        | RequestCode::CLEAN_UNUSED_TOPIC
        | RequestCode::DELETE_EXPIRED_COMMITLOG => ADMIN,
        _ => return None,
    })
}

impl Service for Node {
    fn request(self: Rc<Self>, conn: &Rc<Conn>, view: &HeaderView<'_>, frame: &Frame) {
        let to = Answer::to(conn.id(), view);
        if !to.oneway {
            conn.will_answer();
        }
        let request = RequestCode(view.code);
        match handler(request) {
            Some(Handler::Send) => send::request(&self, conn, view, frame),
            Some(Handler::Pull) => pull::request(&self, conn, view, frame),
            Some(Handler::Query) => query::request(&self, conn, view, frame),
            Some(Handler::Control { admin }) if admin && !conn.peer().ip().to_canonical().is_loopback() => {
                tracing::warn!(peer = %conn.peer(), code = view.code, "refused a change from another host");
                self.refuse(to, &Refusal::not_an_administrator(view.code));
            }
            Some(Handler::Control { .. }) => {
                let job = ControlJob { to, peer: conn.peer(), frame: frame.clone() };
                self.forward(CONTROL, to, Mail::Control(Box::new(job)));
            }
            None => {
                let name = request.name().unwrap_or("unknown");
                tracing::info!(peer = %conn.peer(), code = view.code, name, "refused a request that is not supported");
                self.refuse(to, &Refusal::unsupported(format!("{} ({name})", view.code)));
            }
        }
    }

    fn closed(self: Rc<Self>, conn: &Conn) {
        self.tell(CONTROL, Mail::Closed(conn.id()));
    }
}
