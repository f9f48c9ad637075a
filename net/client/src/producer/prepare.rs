//! From messages to what goes over the wire for them. Nothing is sent here.

use ringmq_protocol::batch::{BatchMessage, push_message};
use ringmq_protocol::body::MessageQueue;
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::compress::deflate;
use ringmq_protocol::header::{Names, SendRequest};
use ringmq_protocol::names::{self, AUTO_CREATE_TOPIC_KEY};
use ringmq_protocol::properties::{self, sys_flag};

use super::ProducerOptions;
use crate::conn::Request;
use crate::error::{Error, MessageFault, Result};
use crate::identity::{Identity, now_ms};
use crate::message::Message;

/// The compression type ZLIB in the system flag.
const ZLIB: i32 = 3 << 8;

/// One message or one batch, ready to go to any queue of its topic.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) code: RequestCode,
    pub(crate) topic: String,
    pub(crate) msg_id: String,
    pub(crate) properties: String,
    pub(crate) body: Vec<u8>,
    pub(crate) sys_flag: i32,
    pub(crate) flag: i32,
    pub(crate) reconsume_times: i32,
    pub(crate) max_reconsume_times: Option<i32>,
}

impl Prepared {
    /// One message, with the properties that this way of sending adds.
    pub(crate) fn message(
        message: &Message,
        options: &ProducerOptions,
        identity: &Identity,
        extra: &[(&str, &str)],
    ) -> Result<Prepared> {
        message.check(options.body_max)?;
        let msg_id = identity.unique_key();
        let properties = message.property_string(&msg_id, extra)?;
        let packed = options.compress_above.filter(|limit| message.body.len() >= *limit);
        let packed = packed.and_then(|_| deflate(&message.body, options.compress_level).ok());
        let (body, sys_flag) = match packed {
            Some(packed) => (packed, sys_flag::COMPRESSED | ZLIB),
            None => (message.body.clone(), 0),
        };
        let is_reply = extra.contains(&(properties::MSG_TYPE, super::request::REPLY));
        let code = if is_reply { RequestCode::SEND_REPLY_MESSAGE_V2 } else { RequestCode::SEND_MESSAGE_V2 };
        Ok(Prepared {
            code,
            topic: message.topic.clone(),
            msg_id,
            properties,
            body,
            sys_flag,
            flag: message.flag,
            reconsume_times: 0,
            max_reconsume_times: None,
        })
    }

    /// Messages of one topic that are stored together. Batches are not compressed: the broker takes them apart.
    pub(crate) fn batch(messages: &[Message], options: &ProducerOptions, identity: &Identity) -> Result<Prepared> {
        let Some(first) = messages.first() else {
            return Err(Error::Message { topic: String::new(), fault: MessageFault::Batch });
        };
        let mut body = Vec::new();
        let mut ids = Vec::with_capacity(messages.len());
        for message in messages {
            message.check(options.body_max)?;
            if message.topic != first.topic || message.is_delayed() || names::is_retry(&message.topic) {
                return Err(message.fault(MessageFault::Batch));
            }
            let msg_id = identity.unique_key();
            let properties = message.property_string(&msg_id, &[])?;
            let element = BatchMessage { flag: message.flag, body: &message.body, properties: &properties };
            push_message(&mut body, &element).map_err(|e| message.fault(e.into()))?;
            if body.len() > options.body_max {
                let fault = MessageFault::BodyTooLong { len: body.len(), max: options.body_max };
                return Err(message.fault(fault));
            }
            ids.push(msg_id);
        }
        let wait_store = messages.iter().all(|message| message.wait_store);
        let batch = Message { wait_store, ..Message::default() };
        Ok(Prepared {
            code: RequestCode::SEND_BATCH_MESSAGE,
            topic: first.topic.clone(),
            msg_id: ids.join(","),
            properties: batch.property_string(&identity.unique_key(), &[])?,
            body,
            sys_flag: 0,
            flag: 0,
            reconsume_times: 0,
            max_reconsume_times: None,
        })
    }

    pub(crate) fn request(&self, options: &ProducerOptions, queue: &MessageQueue) -> Request {
        let header = SendRequest {
            producer_group: options.group.clone(),
            topic: self.topic.clone(),
            default_topic: AUTO_CREATE_TOPIC_KEY.to_owned(),
            default_topic_queue_nums: options.new_topic_queues,
            queue_id: queue.queue_id,
            sys_flag: self.sys_flag,
            born_timestamp: now_ms(),
            flag: self.flag,
            properties: Some(self.properties.clone()),
            reconsume_times: self.reconsume_times,
            max_reconsume_times: self.max_reconsume_times,
            batch: self.code == RequestCode::SEND_BATCH_MESSAGE,
            ..SendRequest::default()
        };
        let mut request = Request::new(self.code).with_body(self.body.clone());
        header.encode_names(Names::V2, &mut request.ext);
        request
    }
}
