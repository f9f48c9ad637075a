//! Sending: one message, a batch, or one without an answer; in turn over the queues of a topic, and to another broker
//! when one fails.
//!
//! A send that was not answered may have been stored all the same. It is tried again, as every RocketMQ producer does,
//! so a message can arrive twice, under the same unique key.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use ringmq_protocol::batch::{BatchMessage, push_message};
use ringmq_protocol::body::{HeartbeatData, MessageQueue, ProducerData};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::compress::deflate;
use ringmq_protocol::header::{Names, SendRequest, UnregisterClient};
use ringmq_protocol::names::{self, AUTO_CREATE_TOPIC_KEY, GROUP_NAME_MAX_V4};
use ringmq_protocol::properties::sys_flag;

use crate::conn::{Received, Request};
use crate::driver::blocking::{Options, Remoting, lock, refused};
use crate::error::{Ability, BadReply, Error, MessageFault, Result};
use crate::heartbeat::Heart;
use crate::identity::{Identity, now_ms};
use crate::message::{BODY_MAX, Message};
use crate::route::{NameServers, QueuePicker, Route, Routes};

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

/// How a producer sends. The defaults are those of RocketMQ's Java client.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    pub group: String,
    /// For one send, all tries together.
    pub send_timeout: Duration,
    /// Tries after the first.
    pub retries: u32,
    /// Bodies of this length and above are compressed with zlib; `None`: never.
    pub compress_above: Option<usize>,
    pub compress_level: u32,
    pub body_max: usize,
    /// Queues of a topic that the broker creates because of a message for it.
    pub new_topic_queues: i32,
    pub connection: Options,
}

impl ProducerOptions {
    pub fn new(group: impl Into<String>) -> ProducerOptions {
        ProducerOptions {
            group: group.into(),
            send_timeout: Duration::from_secs(3),
            retries: 2,
            compress_above: Some(4096),
            compress_level: 5,
            body_max: BODY_MAX,
            new_topic_queues: 4,
            connection: Options::default(),
        }
    }
}

/// What the broker did with a message it stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStatus {
    /// As durable as the broker is configured to make it.
    Stored,
    /// Stored; the flush was not over in time.
    FlushDiskTimeout,
    /// Stored; the slave did not have it in time.
    FlushSlaveTimeout,
    /// Stored; there is no slave to have it.
    SlaveNotAvailable,
}

impl SendStatus {
    fn of(code: ResponseCode) -> Option<SendStatus> {
        match code {
            ResponseCode::SUCCESS => Some(SendStatus::Stored),
            ResponseCode::FLUSH_DISK_TIMEOUT => Some(SendStatus::FlushDiskTimeout),
            ResponseCode::FLUSH_SLAVE_TIMEOUT => Some(SendStatus::FlushSlaveTimeout),
            ResponseCode::SLAVE_NOT_AVAILABLE => Some(SendStatus::SlaveNotAvailable),
            _ => None,
        }
    }
}

/// A message that the broker has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendReceipt {
    pub status: SendStatus,
    /// The unique key, which users call the message id.
    pub msg_id: String,
    /// The broker's id; of a batch, all of them, separated by commas.
    pub offset_msg_id: String,
    pub queue: MessageQueue,
    /// Of a batch, that of its first message.
    pub queue_offset: i64,
}

/// Sends messages; any number of threads may share it.
#[derive(Debug)]
pub struct Producer {
    options: ProducerOptions,
    remoting: Remoting,
    routes: Routes,
    identity: Identity,
    picker: Mutex<QueuePicker>,
    heart: Heart,
}

/// What goes over the wire for one message or one batch.
struct Prepared<'a> {
    code: RequestCode,
    topic: &'a str,
    msg_id: String,
    properties: String,
    body: Vec<u8>,
    sys_flag: i32,
    flag: i32,
}

impl Producer {
    pub fn new(options: ProducerOptions, name_servers: NameServers) -> Result<Producer> {
        names::check_group(&options.group, GROUP_NAME_MAX_V4)?;
        let remoting = Remoting::new(options.connection.clone());
        let identity = Identity::towards(name_servers.addrs().first().map(String::as_str));
        let (client_id, group_name) = (identity.client_id.clone(), options.group.clone());
        let content = move || HeartbeatData {
            client_id: client_id.clone(),
            producer_data_set: vec![ProducerData { group_name: group_name.clone() }],
            ..HeartbeatData::default()
        };
        let heart = Heart::start(remoting.clone(), Box::new(content))?;
        let routes = Routes::new(remoting.clone(), name_servers, options.send_timeout);
        let picker = Mutex::new(QueuePicker::starting_at(identity.salt() as usize));
        Ok(Producer { options, remoting, routes, identity, picker, heart })
    }

    pub fn client_id(&self) -> &str {
        &self.identity.client_id
    }

    /// Sends one message and waits until the broker has stored it.
    pub fn send(&self, message: &Message) -> Result<SendReceipt> {
        self.send_prepared(&self.prepare(message)?)
    }

    /// Sends to this queue and no other; there is no second try.
    pub fn send_to(&self, message: &Message, queue: &MessageQueue) -> Result<SendReceipt> {
        let prepared = self.prepare(message)?;
        let route = self.route(prepared.topic)?;
        self.send_once(&prepared, queue, master(&route, queue)?, self.options.send_timeout)
    }

    /// Sends messages of one topic as one, to one queue; all are stored or none.
    pub fn send_batch(&self, messages: &[Message]) -> Result<SendReceipt> {
        self.send_prepared(&self.prepare_batch(messages)?)
    }

    /// Sends and does not ask what became of it.
    pub fn send_oneway(&self, message: &Message) -> Result<()> {
        let prepared = self.prepare(message)?;
        let route = self.route(prepared.topic)?;
        let queues = route.write_queues();
        let queue = lock(&self.picker).pick(&queues, None, Instant::now()).cloned();
        let queue = queue.ok_or_else(|| no_broker(prepared.topic))?;
        let addr = master(&route, &queue)?;
        self.heart.introduce_soon(addr);
        self.remoting.oneway(addr, &self.request(&prepared, &queue))
    }

    fn send_prepared(&self, prepared: &Prepared<'_>) -> Result<SendReceipt> {
        let deadline = Instant::now() + self.options.send_timeout;
        let mut failed: Option<(String, Error)> = None;
        for _ in 0..=self.options.retries {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                break;
            }
            match self.try_once(prepared, failed.as_ref().map(|(broker, _)| broker.as_str()), left) {
                Ok(receipt) => return Ok(receipt),
                Err((Some(broker), error)) if is_retried(&error) => {
                    tracing::debug!(topic = prepared.topic, broker, %error, "a send failed");
                    lock(&self.picker).failed(&broker, Instant::now());
                    self.routes.forget(prepared.topic);
                    failed = Some((broker, error));
                }
                Err((_, error)) => return Err(error),
            }
        }
        Err(failed.map_or_else(|| no_broker(prepared.topic), |(_, error)| error))
    }

    /// One try; an error comes with the broker that it is about, if it got so far.
    fn try_once(
        &self,
        prepared: &Prepared<'_>,
        just_failed: Option<&str>,
        left: Duration,
    ) -> Result<SendReceipt, (Option<String>, Error)> {
        let route = self.route(prepared.topic).map_err(|e| (None, e))?;
        let queues = route.write_queues();
        let queue = lock(&self.picker).pick(&queues, just_failed, Instant::now()).cloned();
        let queue = queue.ok_or_else(|| (None, no_broker(prepared.topic)))?;
        let addr = master(&route, &queue).map_err(|e| (None, e))?;
        let receipt = self.send_once(prepared, &queue, addr, left);
        let receipt = receipt.map_err(|e| (Some(queue.broker_name.clone()), e))?;
        lock(&self.picker).succeeded(&queue.broker_name);
        Ok(receipt)
    }

    fn send_once(
        &self,
        prepared: &Prepared<'_>,
        queue: &MessageQueue,
        addr: &str,
        timeout: Duration,
    ) -> Result<SendReceipt> {
        let received = self.remoting.ask(addr, &self.request(prepared, queue), timeout)?;
        self.heart.introduce_soon(addr);
        receipt(prepared, queue, addr, &received)
    }

    fn route(&self, topic: &str) -> Result<std::sync::Arc<Route>> {
        self.routes.to_write(topic, self.options.new_topic_queues)?.ok_or_else(|| no_broker(topic))
    }

    fn prepare<'a>(&self, message: &'a Message) -> Result<Prepared<'a>> {
        message.check(self.options.body_max)?;
        let msg_id = self.identity.unique_key();
        let properties = message.property_string(&msg_id)?;
        let packed = self.options.compress_above.filter(|limit| message.body.len() >= *limit);
        let packed = packed.and_then(|_| deflate(&message.body, self.options.compress_level).ok());
        let (body, sys_flag) = match packed {
            Some(packed) => (packed, sys_flag::COMPRESSED | ZLIB),
            None => (message.body.clone(), 0),
        };
        let code = RequestCode::SEND_MESSAGE_V2;
        Ok(Prepared { code, topic: &message.topic, msg_id, properties, body, sys_flag, flag: message.flag })
    }

    fn prepare_batch<'a>(&self, messages: &'a [Message]) -> Result<Prepared<'a>> {
        let Some(first) = messages.first() else {
            return Err(Error::Message { topic: String::new(), fault: MessageFault::Batch });
        };
        let mut body = Vec::new();
        let mut ids = Vec::with_capacity(messages.len());
        for message in messages {
            message.check(self.options.body_max)?;
            if message.topic != first.topic || message.delay_level > 0 || names::is_retry(&message.topic) {
                return Err(message.fault(MessageFault::Batch));
            }
            let msg_id = self.identity.unique_key();
            let properties = message.property_string(&msg_id)?;
            let element = BatchMessage { flag: message.flag, body: &message.body, properties: &properties };
            push_message(&mut body, &element).map_err(|e| message.fault(e.into()))?;
            if body.len() > self.options.body_max {
                let fault = MessageFault::BodyTooLong { len: body.len(), max: self.options.body_max };
                return Err(message.fault(fault));
            }
            ids.push(msg_id);
        }
        let batch =
            Message { topic: String::new(), wait_store: messages.iter().all(|m| m.wait_store), ..Message::default() };
        let properties = batch.property_string(&self.identity.unique_key())?;
        let code = RequestCode::SEND_BATCH_MESSAGE;
        Ok(Prepared { code, topic: &first.topic, msg_id: ids.join(","), properties, body, sys_flag: 0, flag: 0 })
    }

    fn request(&self, prepared: &Prepared<'_>, queue: &MessageQueue) -> Request {
        let header = SendRequest {
            producer_group: self.options.group.clone(),
            topic: prepared.topic.to_owned(),
            default_topic: AUTO_CREATE_TOPIC_KEY.to_owned(),
            default_topic_queue_nums: self.options.new_topic_queues,
            queue_id: queue.queue_id,
            sys_flag: prepared.sys_flag,
            born_timestamp: now_ms(),
            flag: prepared.flag,
            properties: Some(prepared.properties.clone()),
            batch: prepared.code == RequestCode::SEND_BATCH_MESSAGE,
            ..SendRequest::default()
        };
        let mut request = Request::new(prepared.code).with_body(prepared.body.clone());
        header.encode_names(Names::V2, &mut request.ext);
        request
    }
}

/// The compression type ZLIB in the system flag.
const ZLIB: i32 = 3 << 8;

impl Drop for Producer {
    fn drop(&mut self) {
        self.heart.unregister(&UnregisterClient {
            client_id: self.identity.client_id.clone(),
            producer_group: Some(self.options.group.clone()),
            consumer_group: None,
        });
    }
}

fn is_retried(error: &Error) -> bool {
    error.is_unreachable() || error.code().is_some_and(|code| RETRIED.contains(&code))
}

fn no_broker(topic: &str) -> Error {
    Error::NoBroker { topic: topic.to_owned(), can: Ability::Write }
}

fn master<'r>(route: &'r Route, queue: &MessageQueue) -> Result<&'r str> {
    let none = || Error::NoBroker { topic: queue.topic.clone(), can: Ability::Master };
    route.master(&queue.broker_name).ok_or_else(none)
}

fn receipt(prepared: &Prepared<'_>, queue: &MessageQueue, addr: &str, received: &Received) -> Result<SendReceipt> {
    let code = ResponseCode(received.command.code);
    let status = SendStatus::of(code).ok_or_else(|| refused(addr, prepared.code, code, received))?;
    let number = |name| {
        let missing = || Error::Reply { addr: addr.to_owned(), request: prepared.code, what: BadReply::Field(name) };
        received.number(name).ok_or_else(missing)
    };
    let queue_id = i32::try_from(number("queueId")?).unwrap_or(queue.queue_id);
    Ok(SendReceipt {
        status,
        msg_id: prepared.msg_id.clone(),
        offset_msg_id: received.command.ext("msgId").unwrap_or_default().to_owned(),
        queue: MessageQueue { queue_id, ..queue.clone() },
        queue_offset: number("queueOffset")?,
    })
}
