//! What brokers ask of a running consumer, for an operator or of their own accord: which queues it has and how far it is,
//! to read a queue from elsewhere, to consume one message again now.

use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use ringmq_protocol::body::{
    ConsumeMessageDirectlyResult, ConsumeType, ConsumerRunningInfo, ConsumerStatusBody, ResetOffsetBody, direct_result,
    running_property,
};
use ringmq_protocol::code::{RequestCode, ResponseCode, version};
use ringmq_protocol::header::{ClientCallback, ConsumerStatus};

use super::Shared;
use super::keeping::Notice;
use super::listening::Work;
use crate::conn::Reply;
use crate::driver::asked::Asked;
use crate::driver::blocking::lock;
use crate::identity::now_ms;
use crate::message::{ReceivedMessage, decode_records};

/// The consumer, once it is made; brokers may ask before.
pub(super) type Whom = Arc<OnceLock<Weak<Shared>>>;

/// Answers at once what can be answered at once. The keeper and the listener's threads do the rest; a consumer that has
/// ended has nothing to do.
pub(super) fn take(asked: Asked, notices: &Sender<Notice>, whom: &Whom) {
    let code = RequestCode(asked.received().command.code);
    let shared = || whom.get().and_then(Weak::upgrade);
    let reply = match code {
        RequestCode::NOTIFY_CONSUMER_IDS_CHANGED => {
            let _ = notices.send(Notice::Rebalance);
            Reply::ok()
        }
        RequestCode::RESET_CONSUMER_CLIENT_OFFSET => match ResetOffsetBody::parse(&asked.received().body) {
            Ok(body) => {
                let _ = notices.send(Notice::Reset(body.offset_table));
                Reply::ok()
            }
            Err(error) => failed(error.to_string()),
        },
        RequestCode::GET_CONSUMER_STATUS_FROM_CLIENT
        | RequestCode::GET_CONSUMER_RUNNING_INFO
        | RequestCode::CONSUME_MESSAGE_DIRECTLY => {
            let Some(shared) = shared() else { return asked.answer(&failed("the consumer is starting or ending")) };
            match code {
                RequestCode::GET_CONSUMER_STATUS_FROM_CLIENT => shared.status(&asked),
                RequestCode::GET_CONSUMER_RUNNING_INFO => shared.running(&asked),
                _ => return shared.consume_directly(asked),
            }
        }
        _ => return,
    };
    asked.answer(&reply);
}

fn failed(remark: impl Into<String>) -> Reply {
    Reply::refusal(ResponseCode::SYSTEM_ERROR, remark)
}

fn good(body: Vec<u8>) -> Reply {
    Reply { body, ..Reply::ok() }
}

impl Shared {
    /// Code 221: how far this member is in the queues that it has.
    fn status(&self, asked: &Asked) -> Reply {
        let header = match asked.received().header(ConsumerStatus::decode) {
            Ok(header) => header,
            Err(error) => return failed(error.to_string()),
        };
        if header.group != self.options.group {
            return good(ConsumerStatusBody::default().to_vec());
        }
        let assigned = lock(&self.assigned);
        let of_topic = assigned.iter().filter(|(queue, _)| queue.topic == header.topic);
        let message_queue_table = of_topic.map(|(queue, assigned)| (queue.clone(), assigned.progress())).collect();
        good(ConsumerStatusBody { message_queue_table, ..ConsumerStatusBody::default() }.to_vec())
    }

    /// Code 307. A Rust program has no stacks to show (`jstackEnable`).
    fn running(&self, asked: &Asked) -> Reply {
        match asked.received().header(ClientCallback::decode) {
            Ok(header) if header.consumer_group == self.options.group => {}
            Ok(header) => return failed(not_a_member(&header.consumer_group)),
            Err(error) => return failed(error.to_string()),
        }
        let now = now_ms();
        let text = |name: &str, value: String| (name.to_owned(), value);
        let properties = [
            text(running_property::NAME_SERVERS, self.member.session.routes.names().addrs().join(";")),
            text(running_property::THREADS, self.options.threads.to_string()),
            text(running_property::ORDERLY, self.is_orderly.to_string()),
            text(running_property::CONSUME_TYPE, ConsumeType::Passively.name().to_owned()),
            text(running_property::CLIENT_VERSION, version::describe(version::CURRENT)),
            text(running_property::STARTED_AT, self.started_ms.to_string()),
        ];
        let subscriptions = lock(&self.member.subscriptions).clone();
        let tally = lock(&self.tally);
        let info = ConsumerRunningInfo {
            jstack: Some("no stacks: this consumer is a Rust program\n".to_owned()),
            mq_table: lock(&self.assigned).iter().map(|(queue, assigned)| (queue.clone(), assigned.info())).collect(),
            properties: properties.into(),
            status_table: subscriptions.keys().map(|topic| (topic.clone(), tally.status(topic, now))).collect(),
            subscription_set: subscriptions.iter().map(|(topic, one)| one.data(topic)).collect(),
        };
        good(info.to_vec())
    }

    /// Code 309: the listener has the message next, whatever becomes of it; nothing is committed and nothing comes again.
    fn consume_directly(&self, asked: Asked) {
        let received = asked.received();
        let header = match received.header(ClientCallback::decode) {
            Ok(header) if header.consumer_group == self.options.group => header,
            Ok(header) => return asked.answer(&failed(not_a_member(&header.consumer_group))),
            Err(error) => return asked.answer(&failed(error.to_string())),
        };
        let messages = decode_records(&received.body, header.broker_name.as_deref().unwrap_or_default());
        match messages.map(|mut messages| messages.pop()) {
            Ok(Some(mut message)) => {
                message.restore_topic();
                self.pool.push_first(Work::Direct(asked, Box::new(message)));
            }
            Ok(None) => asked.answer(&failed("the request brings no message")),
            Err(error) => asked.answer(&failed(error.to_string())),
        }
    }

    /// On a thread of the listener.
    pub(super) fn listen_directly(&self, asked: Asked, message: &ReceivedMessage) {
        let began = Instant::now();
        let consumed = self.try_listener(message);
        let consume_result = match consumed {
            Some(super::Consumed::Done) => direct_result::SUCCESS,
            Some(_) => direct_result::LATER,
            None => direct_result::THREW,
        };
        let result = ConsumeMessageDirectlyResult {
            auto_commit: true,
            consume_result: consume_result.to_owned(),
            order: self.is_orderly,
            remark: consumed.is_none().then(|| "the listener panicked".to_owned()),
            spent_time_millis: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
        };
        asked.answer(&good(result.to_vec()));
    }
}

fn not_a_member(group: &str) -> String {
    format!("The Consumer Group <{group}> not exist in this consumer")
}
