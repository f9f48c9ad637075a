//! Messages as applications see them: one to be sent, and one that was received.

use std::net::SocketAddr;

use ringmq_protocol::compress;
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
    pub topic: String,
    pub body: Vec<u8>,
    /// At most one tag; it is never split.
    pub tag: Option<String>,
    /// What the message can be found by.
    pub keys: Vec<String>,
    /// A number of the application's own, not looked at by anybody else.
    pub flag: i32,
    /// 1 to 18 of the broker's delay levels; 0: at once.
    pub delay_level: u8,
    /// Whether the reply waits for the flush and the slave that the broker is configured to wait for.
    pub wait_store: bool,
    /// The application's own properties, in the order in which they were set.
    pub properties: Vec<(String, String)>,
}

impl Message {
    pub fn new(topic: impl Into<String>, body: impl Into<Vec<u8>>) -> Message {
        Message { topic: topic.into(), body: body.into(), wait_store: true, ..Message::default() }
    }

    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<String>) -> Message {
        self.tag = Some(tag.into());
        self
    }

    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Message {
        self.keys.push(key.into());
        self
    }

    #[must_use]
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Message {
        self.properties.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn with_delay_level(mut self, level: u8) -> Message {
        self.delay_level = level;
        self
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

    /// The property string, with the unique key and what RocketMQ's own fields become.
    pub(crate) fn property_string(&self, unique_key: &str) -> Result<String> {
        let delay = self.delay_level.to_string();
        let keys = self.keys.join(" ");
        let own = [
            (properties::UNIQ_KEY, Some(unique_key)),
            (properties::WAIT, Some(if self.wait_store { "true" } else { "false" })),
            (properties::TAGS, self.tag.as_deref()),
            (properties::KEYS, Some(keys.as_str()).filter(|keys| !keys.is_empty())),
            (properties::DELAY, Some(delay.as_str()).filter(|_| self.delay_level > 0)),
        ];
        let refused = |name: &str, fault| self.fault(MessageFault::Property { name: name.to_owned(), fault });
        let mut text = String::new();
        for (name, value) in own {
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

/// The default limit of a body, for clients and brokers.
pub const BODY_MAX: usize = BODY_MAX_DEFAULT;

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMessage {
    pub topic: String,
    pub broker_name: String,
    pub queue_id: i32,
    pub queue_offset: i64,
    /// Byte address in the broker's commit log.
    pub position: i64,
    pub body: Vec<u8>,
    /// The body is as it was stored, because it is compressed in a way that this client cannot undo. One such message
    /// must not keep a reader from those behind it.
    pub packed: bool,
    pub flag: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_timestamp: i64,
    pub store_host: SocketAddr,
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

    /// A property; of several with the same name the last counts.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

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
        let message = Message::new("T", "x").with_tag("A").with_key("k1").with_key("k2").with_property("own", "1");
        let text = message.with_delay_level(3).property_string("ID").unwrap();
        let found: Vec<_> = properties::iter(&text).collect();
        let want =
            [("UNIQ_KEY", "ID"), ("WAIT", "true"), ("TAGS", "A"), ("KEYS", "k1 k2"), ("DELAY", "3"), ("own", "1")];
        assert_eq!(found, want);
    }

    #[test]
    fn what_a_broker_would_refuse_does_not_leave() {
        let refused = |message: Message| {
            let built = message.check(10).and_then(|()| message.property_string("ID"));
            assert!(matches!(built, Err(Error::Message { .. })), "{message:?}");
        };
        refused(Message::new("T", ""));
        refused(Message::new("T", vec![0; 11]));
        refused(Message::new("", "x"));
        refused(Message::new("with blank", "x"));
        refused(Message::new("SCHEDULE_TOPIC_XXXX", "x"));
        refused(Message::new("T", "x").with_property("TAGS", "mine"));
        refused(Message::new("T", "x").with_property("a\u{1}b", "1"));
        refused(Message::new("T", "x").with_property("a", "1\u{2}"));
        refused(Message::new("T", "x").with_property("a", "1".repeat(PROPERTIES_MAX)));
    }
}
