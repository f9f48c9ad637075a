//! A message that the broker itself stores: a delivery of one that was kept for later, a retry, a dead letter, a mark. It
//! owns what it holds, so it may wait and may travel to another shard; a body is a slice of the record it came from.

use ringmq_engine::{Draft, Keys};
use ringmq_protocol::host::Host;
use ringmq_protocol::message::{Property, Record, RecordError, RecordSpec, tags_code};
use ringmq_protocol::value::Value;
use ringmq_protocol::{names, properties};
use ringmq_rt::Slice;

/// What tells how a message came to be where it is, and is left out of one that has no room for it; at worst a timer that was
/// stored anew then comes twice.
const ASIDES: &[&str] = &[properties::TIMER_ENQUEUE_MS, properties::TIMER_DEQUEUE_MS, properties::TIMER_ROLL_TIMES];

/// A message on its way into a log.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: String,
    pub queue_id: i32,
    /// The application's flag.
    pub flag: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: Host,
    pub reconsume_times: i32,
    pub prepared_offset: i64,
    /// A record's property string.
    pub properties: String,
    pub body: Slice,
}

impl Message {
    /// A copy of what a record says; the body is not copied.
    ///
    /// # Errors
    /// When `record` is none, or is damaged: a copy would get a checksum of its own, which hides that.
    pub fn of_record(record: &Slice) -> Result<Self, RecordError> {
        let (view, _) = Record::parse(record)?;
        if !view.body_crc_matches() {
            return Err(RecordError::BodyCrc);
        }
        let body = view.body();
        let from = body.as_ptr().addr() - record.as_ptr().addr();
        Ok(Self {
            topic: view.topic().to_owned(),
            queue_id: view.queue_id(),
            flag: view.flag(),
            sys_flag: view.sys_flag(),
            born_timestamp: view.born_timestamp(),
            born_host: view.born_host(),
            reconsume_times: view.reconsume_times(),
            prepared_offset: view.prepared_offset(),
            properties: view.properties().to_owned(),
            body: record.cut(from..from + body.len()),
        })
    }

    /// A message of the broker's own, born now on this host.
    pub fn own(topic: &str, queue_id: i32, host: Host, now_ms: i64, body: Vec<u8>) -> Self {
        Self {
            topic: topic.to_owned(),
            queue_id,
            flag: 0,
            sys_flag: 0,
            born_timestamp: now_ms,
            born_host: host,
            reconsume_times: 0,
            prepared_offset: 0,
            properties: String::new(),
            body: body.into(),
        }
    }

    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&str> {
        properties::get(&self.properties, name)
    }

    /// The value of a property as a number; `None` if it is absent or no number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.property(name)?.parse().ok()
    }

    /// Sets a property, in place of one of this name. A value that no record can hold is left out.
    pub fn set(&mut self, name: &str, value: &str) {
        if self.property(name) == Some(value) {
            return;
        }
        self.unset(&[name]);
        if let Err(error) = properties::push(&mut self.properties, name, value) {
            tracing::warn!(name, value, %error, "a property was left out");
        }
    }

    /// Takes properties away.
    pub fn unset(&mut self, names: &[&str]) {
        if names.iter().any(|name| self.property(name).is_some()) {
            self.properties = properties::without(&self.properties, names);
        }
    }

    /// The message without what it can do without, if there is such.
    pub fn without_asides(&self) -> Option<Self> {
        let has_some = ASIDES.iter().any(|name| self.property(name).is_some());
        has_some.then(|| {
            let mut message = self.clone();
            message.unset(ASIDES);
            message
        })
    }

    /// Its bytes in memory, as far as it holds no others alive.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.topic.len() + self.properties.len() + self.body.len()
    }

    /// Gives its body memory of its own: a slice of a log's buffer holds the whole buffer.
    pub fn own_body(&mut self) {
        self.body = self.body.detached();
    }

    /// When a message of the timer topic is due, in milliseconds since 1970.
    pub fn due_ms(&self) -> Option<u64> {
        if self.topic == names::TIMER_TOPIC { self.number(properties::TIMER_OUT_MS) } else { None }
    }

    /// Hands the message over as the engine takes it.
    pub fn with_draft<R>(&self, store_host: Host, take: impl FnOnce(&Draft<'_>) -> R) -> R {
        let body: [&[u8]; 1] = [&self.body];
        let pairs = [Property::Encoded(Value::plain(&self.properties))];
        let spec = RecordSpec {
            topic: &self.topic,
            queue_id: self.queue_id,
            flag: self.flag,
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp,
            born_host: self.born_host,
            store_host,
            reconsume_times: self.reconsume_times,
            prepared_offset: self.prepared_offset,
            body: &body,
            // It was within the bounds of the day when its sender was answered.
            body_max: usize::MAX,
            properties: &pairs,
        };
        let tags = self.property(properties::TAGS);
        let due_ms = self.due_ms();
        let keys = Keys::of(&self.properties);
        take(&Draft { spec: &spec, tags_code: tags.map_or(0, tags_code), keys, due_ms, promised: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asides_go_and_nothing_else_does() {
        let host = Host::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10911);
        let mut message = Message::own("orders", 0, host, 0, Vec::new());
        message.set(properties::UNIQ_KEY, "7F");
        assert!(message.without_asides().is_none(), "there are none");
        let before = message.properties.clone();
        for name in ASIDES {
            message.set(name, "1700000000000");
        }
        assert_eq!(message.without_asides().unwrap().properties, before);
    }
}
