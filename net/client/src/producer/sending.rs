//! One send as a synchronous call: choose a queue, ask its broker, and on a failure that another broker may not have,
//! choose again. Producers use it for their own messages, push consumers for messages that go to a retry topic.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringmq_protocol::body::MessageQueue;
use ringmq_protocol::code::ResponseCode;

use super::prepare::Prepared;
use super::{ProducerOptions, SendReceipt, SendStatus};
use crate::conn::Received;
use crate::driver::blocking::{lock, refused};
use crate::error::{Ability, BadReply, Error, Result};
use crate::message::Message;
use crate::route::{QueuePicker, Route};
use crate::session::Session;

/// The codes after which RocketMQ's producers try another broker (`retryResponseCodes`).
const RETRIED: [ResponseCode; 8] = [
    ResponseCode::SYSTEM_ERROR,
    ResponseCode::SYSTEM_BUSY,
    ResponseCode::SERVICE_NOT_AVAILABLE,
    ResponseCode::NO_PERMISSION,
    ResponseCode::TOPIC_NOT_EXIST,
    ResponseCode::NO_BUYER_ID,
    ResponseCode::NOT_IN_CURRENT_UNIT,
    ResponseCode::GO_AWAY,
];

/// Where one try goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) queue: MessageQueue,
    pub(crate) addr: String,
}

#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) options: ProducerOptions,
    pub(crate) session: Arc<Session>,
    picker: Mutex<QueuePicker>,
}

impl Sending {
    pub(crate) fn new(options: ProducerOptions, session: Arc<Session>) -> Sending {
        let picker = Mutex::new(QueuePicker::starting_at(session.identity.salt() as usize));
        Sending { options, session, picker }
    }

    pub(crate) fn prepare(&self, message: &Message, extra: &[(&str, &str)]) -> Result<Prepared> {
        Prepared::message(message, &self.options, &self.session.identity, extra)
    }

    /// Sends within the time that one send may take, all tries together.
    pub(crate) fn send(&self, prepared: &Prepared) -> Result<SendReceipt> {
        self.send_by(prepared, self.deadline(), |_| {})
    }

    /// When a send that begins now has taken as long as it may.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.options.send_timeout
    }

    /// `before_try` is called before each try, with where it goes.
    pub(crate) fn send_by(
        &self,
        prepared: &Prepared,
        deadline: Instant,
        before_try: impl Fn(&Target),
    ) -> Result<SendReceipt> {
        let mut failed: Option<(String, Error)> = None;
        for _ in 0..=self.options.retries {
            if failed.is_some() && left_until(deadline).is_zero() {
                break;
            }
            let just_failed = failed.as_ref().map(|(broker, _)| broker.as_str());
            let target = match self.target(&prepared.topic, just_failed, deadline) {
                Ok(target) => target,
                // What the broker said tells more than that there is no other one.
                Err(error) => return Err(failed.map_or(error, |(_, error)| error)),
            };
            before_try(&target);
            match self.send_once(prepared, &target, deadline) {
                Ok(receipt) => return Ok(receipt),
                Err(error) if is_retried(&error) => {
                    tracing::debug!(topic = prepared.topic, broker = target.queue.broker_name, %error, "a send failed");
                    self.failed(&prepared.topic, &target.queue.broker_name);
                    failed = Some((target.queue.broker_name, error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed.map_or_else(|| no_broker(&prepared.topic), |(_, error)| error))
    }

    /// Sends to this queue and no other; there is no second try.
    pub(crate) fn send_to(&self, prepared: &Prepared, queue: &MessageQueue, deadline: Instant) -> Result<SendReceipt> {
        let route = self.route_by(&prepared.topic, deadline)?;
        let addr = master(&route, queue)?.to_owned();
        self.send_once(prepared, &Target { queue: queue.clone(), addr }, deadline)
    }

    fn send_once(&self, prepared: &Prepared, target: &Target, deadline: Instant) -> Result<SendReceipt> {
        let request = prepared.request(&self.options, &target.queue);
        let received = self.session.remoting.ask(&target.addr, &request, left_until(deadline))?;
        self.session.heart.introduce_soon(&target.addr);
        let receipt = receipt(prepared, target, &received)?;
        self.succeeded(&target.queue.broker_name);
        Ok(receipt)
    }

    /// The queue whose turn it is, elsewhere than where the last try failed if there is another place.
    pub(crate) fn target(&self, topic: &str, just_failed: Option<&str>, deadline: Instant) -> Result<Target> {
        let route = self.route_by(topic, deadline)?;
        let queues = route.write_queues();
        let queue = lock(&self.picker).pick(&queues, just_failed, Instant::now()).cloned();
        let queue = queue.ok_or_else(|| no_broker(topic))?;
        let addr = master(&route, &queue)?.to_owned();
        Ok(Target { queue, addr })
    }

    /// The broker is passed over for a while, and the route may have changed.
    pub(crate) fn failed(&self, topic: &str, broker_name: &str) {
        lock(&self.picker).failed(broker_name, Instant::now());
        self.session.routes.doubt(topic);
    }

    pub(crate) fn succeeded(&self, broker_name: &str) {
        lock(&self.picker).succeeded(broker_name);
    }

    pub(crate) fn route(&self, topic: &str) -> Result<Arc<Route>> {
        self.route_by(topic, self.deadline())
    }

    pub(crate) fn route_by(&self, topic: &str, deadline: Instant) -> Result<Arc<Route>> {
        let route = self.session.routes.to_write(topic, self.options.new_topic_queues, left_until(deadline))?;
        route.ok_or_else(|| no_broker(topic))
    }
}

pub(crate) fn left_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Whether another broker may take what this one did not.
pub(crate) fn is_retried(error: &Error) -> bool {
    error.is_unreachable() || error.code().is_some_and(|code| RETRIED.contains(&code))
}

pub(crate) fn no_broker(topic: &str) -> Error {
    Error::NoBroker { topic: topic.to_owned(), can: Ability::Write }
}

fn master<'r>(route: &'r Route, queue: &MessageQueue) -> Result<&'r str> {
    let none = || Error::NoBroker { topic: queue.topic.clone(), can: Ability::Master };
    route.master(&queue.broker_name).ok_or_else(none)
}

pub(crate) fn receipt(prepared: &Prepared, target: &Target, received: &Received) -> Result<SendReceipt> {
    let code = ResponseCode(received.command.code);
    let status = SendStatus::of(code).ok_or_else(|| refused(&target.addr, prepared.code, code, received))?;
    let number = |name| {
        let what = BadReply::Field(name);
        received.number(name).ok_or(Error::Reply { addr: target.addr.clone(), request: prepared.code, what })
    };
    let queue_id = i32::try_from(number("queueId")?).unwrap_or(target.queue.queue_id);
    Ok(SendReceipt {
        status,
        msg_id: prepared.msg_id.clone(),
        offset_msg_id: received.command.ext("msgId").unwrap_or_default().to_owned(),
        queue: MessageQueue { queue_id, ..target.queue.clone() },
        queue_offset: number("queueOffset")?,
        transaction_id: received.command.ext("transactionId").map(str::to_owned),
    })
}
