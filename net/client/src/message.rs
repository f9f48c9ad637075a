//! Messages as applications see them: one to be sent, and one that was received.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use ringmq_protocol::compress;
use ringmq_protocol::header::PushReply;
use ringmq_protocol::id::offset_msg_id;
use ringmq_protocol::message::{BODY_MAX_DEFAULT, Record, RecordError};
use ringmq_protocol::properties;
use ringmq_protocol::{names, properties::PROPERTIES_MAX};

use crate::error::{Error, MessageFault, Result};

/// Most that a compressed body may grow to when it is unpacked.
const UNPACKED_MAX: usize = 64 * 1024 * 1024;

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// What it carries.
    pub body: Vec<u8>,
    /// At most one tag; it is never split.
    pub tag: Option<String>,
    /// What the message can be found by.
    pub keys: Vec<String>,
    /// A number of the application's own, not looked at by anybody else.
    pub flag: i32,
    /// 1 to 18 of the broker's delay levels; 0: at once.
    pub delay_level: u8,
    /// When consumers may see it, in ms since 1970. RocketMQ has it from 5.0 on; other brokers refuse or ignore it.
    pub deliver_at_ms: Option<i64>,
    /// Whether the reply waits for the flush and the slave that the broker is configured to wait for.
    pub wait_store: bool,
    /// The application's own properties, in the order in which they were set.
    pub properties: Vec<(String, String)>,
}

impl Message {
    /// A message without tag, keys and delay, whose sender wants to know that it is stored.
    pub fn new(topic: impl Into<String>, body: impl Into<Vec<u8>>) -> Message {
        Message { topic: topic.into(), body: body.into(), wait_store: true, ..Message::default() }
    }

    /// A message with more than a topic and a body: set the parts, then give the body.
    pub fn builder(topic: impl Into<String>) -> MessageBuilder {
        MessageBuilder { message: Message::new(topic, Vec::new()) }
    }

    pub(crate) fn fault(&self, fault: MessageFault) -> Error {
        Error::Message { topic: self.topic.clone(), fault }
    }

    /// Refuses what every broker would refuse.
    pub(crate) fn check(&self, body_max: usize) -> Result<()> {
        names::check_topic(&self.topic)
            .and_then(|()| names::check_send_allowed(&self.topic))
            .map_err(|e| self.fault(e.into()))?;
        if self.body.is_empty() {
            return Err(self.fault(MessageFault::EmptyBody));
        }
        if self.body.len() > body_max {
            return Err(self.fault(MessageFault::BodyTooLong { len: self.body.len(), max: body_max }));
        }
        Ok(())
    }

    /// Whether consumers see it later than the broker has it.
    pub(crate) fn is_delayed(&self) -> bool {
        self.delay_level > 0 || self.deliver_at_ms.is_some()
    }

    /// The property string, with the unique key, what RocketMQ's own fields become, and `extra`.
    pub(crate) fn property_string(&self, unique_key: &str, extra: &[(&str, &str)]) -> Result<String> {
        let delay = self.delay_level.to_string();
        let deliver_at = self.deliver_at_ms.map(|at| at.to_string());
        let keys = self.keys.join(" ");
        let own = [
            (properties::UNIQ_KEY, Some(unique_key)),
            (properties::WAIT, Some(if self.wait_store { "true" } else { "false" })),
            (properties::TAGS, self.tag.as_deref()),
            (properties::KEYS, Some(keys.as_str()).filter(|keys| !keys.is_empty())),
            (properties::DELAY, Some(delay.as_str()).filter(|_| self.delay_level > 0)),
            (properties::TIMER_DELIVER_MS, deliver_at.as_deref()),
        ];
        let extra = extra.iter().map(|(name, value)| (*name, Some(*value)));
        let refused = |name: &str, fault| self.fault(MessageFault::Property { name: name.to_owned(), fault });
        let mut text = String::new();
        for (name, value) in own.into_iter().chain(extra) {
            if let Some(value) = value {
                properties::push(&mut text, name, value).map_err(|e| refused(name, e))?;
            }
        }
        for (name, value) in &self.properties {
            properties::check_user(name, value).map_err(|e| refused(name, e))?;
            properties::push(&mut text, name, value).map_err(|e| refused(name, e))?;
        }
        if text.len() > PROPERTIES_MAX {
            return Err(self.fault(MessageFault::PropertiesTooLong { len: text.len(), max: PROPERTIES_MAX }));
        }
        Ok(text)
    }
}

/// A [`Message`] in the making: `Message::builder("orders").tag("new").key("order-7").body("a cup of tea")`.
#[derive(Debug, Clone)]
#[must_use = "a message is complete with its body"]
pub struct MessageBuilder {
    message: Message,
}

impl MessageBuilder {
    /// The tag that subscriptions choose by.
    pub fn tag(mut self, tag: impl Into<String>) -> MessageBuilder {
        self.message.tag = Some(tag.into());
        self
    }

    /// One more key that the message can be found by.
    pub fn key(mut self, key: impl Into<String>) -> MessageBuilder {
        self.message.keys.push(key.into());
        self
    }

    /// One more property of the application's own; SQL92 subscriptions see it.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> MessageBuilder {
        self.message.properties.push((name.into(), value.into()));
        self
    }

    /// A number of the application's own.
    pub fn flag(mut self, flag: i32) -> MessageBuilder {
        self.message.flag = flag;
        self
    }

    /// Consumers see it after the broker's delay of that level, 1 to 18; RocketMQ's levels are 1s 5s 10s 30s 1m 2m to
    /// 10m 20m 30m 1h 2h.
    pub fn delay_level(mut self, level: u8) -> MessageBuilder {
        self.message.delay_level = level;
        self
    }

    /// Consumers see it at that time, to the millisecond. RocketMQ's brokers do so from 5.0 on, to the second; those of 4.9
    /// let it be seen at once.
    pub fn deliver_at(mut self, at: SystemTime) -> MessageBuilder {
        let ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.message.deliver_at_ms = Some(i64::try_from(ms).unwrap_or(i64::MAX));
        self
    }

    /// The answer does not wait for the flush and the slave.
    pub fn without_waiting(mut self) -> MessageBuilder {
        self.message.wait_store = false;
        self
    }

    /// The message, complete.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Message {
        self.message.body = body.into();
        self.message
    }
}

/// The default limit of a body, for clients and brokers.
pub const BODY_MAX: usize = BODY_MAX_DEFAULT;

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// Its topic.
    pub topic: String,
    /// The broker that has it.
    pub broker_name: String,
    /// Its queue there.
    pub queue_id: i32,
    /// Its place in the queue, counted from 0.
    pub queue_offset: i64,
    /// Byte address in the broker's commit log.
    pub position: i64,
    /// What it carries.
    pub body: Vec<u8>,
    /// The body is as it was stored, because it is compressed in a way that this client cannot undo. One such message
    /// must not keep a reader from those behind it.
    pub packed: bool,
    /// A number of its sender's.
    pub flag: i32,
    /// RocketMQ's flags: how the body is packed, the kind of transaction, the form of the addresses.
    pub sys_flag: i32,
    /// When it was made, by its sender's clock, in ms since 1970.
    pub born_timestamp: i64,
    /// From where it came.
    pub born_host: SocketAddr,
    /// When it was stored, by the broker's clock, in ms since 1970.
    pub store_timestamp: i64,
    /// The broker's address.
    pub store_host: SocketAddr,
    /// How often it was handed back before.
    pub reconsume_times: i32,
    /// All properties, the system's included, as the record has them.
    pub properties: Vec<(String, String)>,
}

impl ReceivedMessage {
    pub(crate) fn of(record: &Record<'_>, broker_name: &str) -> ReceivedMessage {
        let unpacked = compress::decompress(record.sys_flag(), record.body(), UNPACKED_MAX);
        let packed = unpacked.is_err();
        let body = unpacked.ok().flatten().unwrap_or_else(|| record.body().to_vec());
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        ReceivedMessage {
            topic: record.topic().to_owned(),
            broker_name: broker_name.to_owned(),
            queue_id: record.queue_id(),
            queue_offset: record.queue_offset(),
            position: record.position(),
            body,
            packed,
            flag: record.flag(),
            sys_flag: record.sys_flag(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host().into(),
            store_timestamp: record.store_timestamp(),
            store_host: record.store_host().into(),
            reconsume_times: record.reconsume_times(),
            properties: properties::iter(record.properties()).map(owned).collect(),
        }
    }

    /// A reply as the broker pushes it to the client that waits for it.
    pub(crate) fn of_reply(header: &PushReply, body: &[u8]) -> ReceivedMessage {
        let unpacked = compress::decompress(header.sys_flag, body, UNPACKED_MAX);
        let packed = unpacked.is_err();
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        ReceivedMessage {
            topic: header.topic.clone(),
            broker_name: String::new(),
            queue_id: header.queue_id,
            queue_offset: 0,
            position: 0,
            body: unpacked.ok().flatten().unwrap_or_else(|| body.to_vec()),
            packed,
            flag: header.flag,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            born_host: host(&header.born_host).unwrap_or(nowhere),
            store_timestamp: header.store_timestamp,
            store_host: host(&header.store_host).unwrap_or(nowhere),
            reconsume_times: header.reconsume_times.unwrap_or(0),
            properties: properties::iter(header.properties.as_deref().unwrap_or_default()).map(owned).collect(),
        }
    }

    /// A message of a retry topic goes by the topic that it was first sent to.
    pub(crate) fn restore_topic(&mut self) {
        if names::is_retry(&self.topic)
            && let Some(topic) = self.property(properties::RETRY_TOPIC).map(str::to_owned)
        {
            self.topic = topic;
        }
    }

    /// A property; of several with the same name the last counts.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Its tag.
    pub fn tag(&self) -> Option<&str> {
        self.property(properties::TAGS)
    }

    /// The keys, separated by blanks.
    pub fn keys(&self) -> Option<&str> {
        self.property(properties::KEYS)
    }

    /// What users call the message id: the client's unique key, or the broker's id for a message without one.
    pub fn msg_id(&self) -> String {
        self.property(properties::UNIQ_KEY).map_or_else(|| self.offset_msg_id(), str::to_owned)
    }

    /// The broker's id: where it stored the message.
    pub fn offset_msg_id(&self) -> String {
        offset_msg_id(self.store_host.into(), self.position).as_str().to_owned()
    }
}

/// An address as Java prints it, with or without the slash.
fn host(text: &str) -> Option<SocketAddr> {
    text.trim_start_matches('/').parse().ok()
}

/// Every record of a reply's body.
pub(crate) fn decode_records(mut body: &[u8], broker_name: &str) -> Result<Vec<ReceivedMessage>, RecordError> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        let (record, len) = Record::parse(body)?;
        messages.push(ReceivedMessage::of(&record, broker_name));
        body = &body[len..];
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_property_string_holds_what_was_set() {
        let built = Message::builder("T").tag("A").key("k1").key("k2").property("own", "1").delay_level(3);
        let at = UNIX_EPOCH + std::time::Duration::from_millis(1500);
        let message = built.deliver_at(at).without_waiting().body("x");
        let text = message.property_string("ID", &[("TTL", "5")]).unwrap();
        let found: Vec<_> = properties::iter(&text).collect();
        let want = [
            ("UNIQ_KEY", "ID"),
            ("WAIT", "false"),
            ("TAGS", "A"),
            ("KEYS", "k1 k2"),
            ("DELAY", "3"),
            ("TIMER_DELIVER_MS", "1500"),
            ("TTL", "5"),
            ("own", "1"),
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn what_a_broker_would_refuse_does_not_leave() {
        let refused = |message: Message| {
            let built = message.check(10).and_then(|()| message.property_string("ID", &[]));
            assert!(matches!(built, Err(Error::Message { .. })), "{message:?}");
        };
        refused(Message::new("T", ""));
        refused(Message::new("T", vec![0; 11]));
        refused(Message::new("", "x"));
        refused(Message::new("with blank", "x"));
        refused(Message::new("SCHEDULE_TOPIC_XXXX", "x"));
        refused(Message::builder("T").property("TAGS", "mine").body("x"));
        refused(Message::builder("T").property("a\u{1}b", "1").body("x"));
        refused(Message::builder("T").property("a", "1\u{2}").body("x"));
        refused(Message::builder("T").property("a", "1".repeat(PROPERTIES_MAX)).body("x"));
    }
}
