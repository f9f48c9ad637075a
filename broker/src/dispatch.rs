//! Request code to handler: the table of contents of the broker.

use std::rc::Rc;

use ringmq_net::{Conn, Frame, Service};
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::command::HeaderView;

use crate::mail::{Answer, ControlJob, Mail};
use crate::node::{CONTROL, Node};
use crate::refusal::Refusal;
use crate::timer::recall;
use crate::{find, pull, query, retry, send, transaction};

/// Where a request is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handler {
    Send,
    Pull,
    Query,
    EndTransaction,
    SendBack,
    Recall,
    Find,
    /// The control shard. `admin` requests change the broker and are taken from the loopback address only.
    Control {
        admin: bool,
    },
}

impl Handler {
    /// Whether there is nothing to do for a request that wants no answer.
    fn only_answers(self) -> bool {
        matches!(self, Self::Pull | Self::Query | Self::Find)
    }
}

/// Every code that is served. A code that is not here is refused.
fn handler(code: RequestCode) -> Option<Handler> {
    const MEMBER: Handler = Handler::Control { admin: false };
    const ADMIN: Handler = Handler::Control { admin: true };
    Some(match code {
        RequestCode::SEND_MESSAGE | RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE => Handler::Send,
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => Handler::Pull,
        RequestCode::RECALL_MESSAGE => Handler::Recall,
        RequestCode::END_TRANSACTION => Handler::EndTransaction,
        RequestCode::CONSUMER_SEND_MSG_BACK => Handler::SendBack,
        RequestCode::GET_MAX_OFFSET
        | RequestCode::GET_MIN_OFFSET
        | RequestCode::SEARCH_OFFSET_BY_TIMESTAMP
        | RequestCode::GET_EARLIEST_MSG_STORETIME => Handler::Query,
        RequestCode::QUERY_MESSAGE | RequestCode::VIEW_MESSAGE_BY_ID => Handler::Find,
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
        | RequestCode::GET_ALL_DELAY_OFFSET
        | RequestCode::GET_CONSUMER_CONNECTION_LIST
        | RequestCode::GET_PRODUCER_CONNECTION_LIST
        | RequestCode::GET_BROKER_RUNTIME_INFO
        | RequestCode::GET_BROKER_CONFIG
        | RequestCode::SEND_REPLY_MESSAGE
        | RequestCode::SEND_REPLY_MESSAGE_V2
        | RequestCode::GET_CONSUME_STATS
        | RequestCode::GET_BROKER_CONSUME_STATS
        | RequestCode::VIEW_BROKER_STATS_DATA
        | RequestCode::GET_CONSUMER_RUNNING_INFO
        | RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS
        | RequestCode::QUERY_CONSUME_TIME_SPAN
        | RequestCode::QUERY_TOPIC_CONSUME_BY_WHO
        | RequestCode::QUERY_TOPICS_BY_CONSUMER
        | RequestCode::QUERY_SUBSCRIPTION_BY_CONSUMER
        | RequestCode::QUERY_CORRECTION_OFFSET
        | RequestCode::QUERY_CONSUME_QUEUE
        | RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => MEMBER,
        RequestCode::UPDATE_AND_CREATE_TOPIC
        | RequestCode::DELETE_TOPIC_IN_BROKER
        | RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP
        | RequestCode::DELETE_SUBSCRIPTIONGROUP
        | RequestCode::INVOKE_BROKER_TO_RESET_OFFSET
        | RequestCode::CLONE_GROUP_OFFSET
        | RequestCode::CONSUME_MESSAGE_DIRECTLY
        | RequestCode::UPDATE_BROKER_CONFIG => ADMIN,
        RequestCode::RESUME_CHECK_HALF_MESSAGE
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
            // Nobody waits for it, so nothing would slow whoever asks again and again.
            Some(handler) if to.oneway && handler.only_answers() => {
                tracing::debug!(peer = %conn.peer(), code = view.code, "passed over a question that wants no answer");
            }
            Some(Handler::Send) => send::request(&self, conn, view, frame),
            Some(Handler::Pull) => pull::request(&self, conn, view, frame),
            Some(Handler::Query) => query::request(&self, conn, view, frame),
            Some(Handler::EndTransaction) => transaction::request(&self, conn, view, frame),
            Some(Handler::Recall) => recall::request(&self, conn, view, frame),
            Some(Handler::SendBack) => retry::request(&self, conn, view, frame),
            Some(Handler::Find) => find::request(&self, conn, view),
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
