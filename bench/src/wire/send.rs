//! A send: its header encoded once, its properties, and the places that are patched for each request. Each load
//! thread owns its templates.

use ringmq_client::identity::ms_of_month;

use super::{Head, HeaderKind, OPAQUE_BASE, OPAQUE_DIGITS, encode, json_string, put_decimal, put_hex};
use crate::shape::Body;

const SEND_MESSAGE_V2: u16 = 310;
const SEND_BATCH_MESSAGE: u16 = 320;
const ONE_WAY: u32 = 2;
/// A body that zlib has packed, as Java clients since 4.9.4 say it.
const ZLIB: &str = "769";
/// The first half of a transaction.
const PREPARED: &str = "4";

/// Behind the name, where there are several topics.
const TOPIC_DIGITS: usize = 5;
/// Of a time in milliseconds since 1970.
const WALL_MS_DIGITS: usize = 13;
const KEY_DIGITS: usize = 10;

/// The parts of a UNIQ_KEY: address and process, connection, milliseconds of the month, counter.
const UNIQ_KEY_FIXED: usize = 12;
const UNIQ_KEY_CONNECTION: usize = 8;
const UNIQ_KEY_TIME: usize = 8;
const UNIQ_KEY_COUNTER: usize = 4;

/// What a message's properties hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PropertiesShape<'a> {
    /// UNIQ_KEY, WAIT and TAGS, as Java's client sends them.
    pub(crate) java: bool,
    pub(crate) keys: bool,
    /// TIMER_DELIVER_MS: when consumers get the message.
    pub(crate) due: bool,
    pub(crate) more: &'a [(String, String)],
}

/// The text of a message's properties and where in it stands what changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    text: String,
    places: PropertyPlaces,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PropertyPlaces {
    uniq_key: Option<usize>,
    /// The tag's last letter.
    tag: Option<usize>,
    /// The key's digits.
    key: Option<usize>,
    /// The digits of the time at which it is due.
    due: Option<usize>,
}

impl Properties {
    pub(crate) fn new(shape: &PropertiesShape<'_>) -> Properties {
        let mut properties = Properties::default();
        if shape.java {
            let uniq_key = format!("7F000001{:04X}{:020X}", std::process::id() & 0xffff, 0);
            properties.places.uniq_key = Some(properties.push("UNIQ_KEY", &uniq_key));
            properties.push("WAIT", "true");
            properties.places.tag = Some(properties.push("TAGS", "TagA") + "Tag".len());
        }
        if shape.keys {
            let key = format!("key-{:0KEY_DIGITS$}", 0);
            properties.places.key = Some(properties.push("KEYS", &key) + "key-".len());
        }
        if shape.due {
            properties.places.due = Some(properties.push("TIMER_DELIVER_MS", &"0".repeat(WALL_MS_DIGITS)));
        }
        for (name, value) in shape.more {
            properties.push(name, value);
        }
        properties
    }

    /// Where the value begins.
    fn push(&mut self, name: &str, value: &str) -> usize {
        if !self.text.is_empty() {
            self.text.push('\u{2}');
        }
        self.text.push_str(name);
        self.text.push('\u{1}');
        let at = self.text.len();
        self.text.push_str(value);
        at
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The same places in the header, whose field with this text begins at `field`.
    fn places_in(&self, kind: HeaderKind, field: usize) -> PropertyPlaces {
        let there = |at: Option<usize>| {
            at.map(|at| {
                field
                    + match kind {
                        HeaderKind::Rocketmq => at,
                        HeaderKind::Json => {
                            let mut escaped = Vec::new();
                            json_string(&self.text[..at], &mut escaped);
                            escaped.len() - 2
                        }
                    }
            })
        };
        let PropertyPlaces { uniq_key, tag, key, due } = self.places;
        PropertyPlaces { uniq_key: there(uniq_key), tag: there(tag), key: there(key), due: there(due) }
    }
}

/// What a body begins with that is recognized where it is read: whose it is, which one, and since when it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// A number that no other run has.
    pub(crate) run: u64,
    /// When it was to be sent, in nanoseconds of the run's clock, or is to be delivered, in milliseconds since 1970.
    pub(crate) at: u64,
    /// No other message of the run has it.
    pub(crate) number: u64,
}

impl Stamp {
    pub(crate) const LEN: usize = 24;

    fn put(&self, into: &mut [u8]) {
        into[..8].copy_from_slice(&self.run.to_be_bytes());
        into[8..16].copy_from_slice(&self.at.to_be_bytes());
        into[16..Stamp::LEN].copy_from_slice(&self.number.to_be_bytes());
    }

    pub(crate) fn read(body: &[u8]) -> Option<Stamp> {
        let (run, rest) = body.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let number = rest.first_chunk::<8>()?;
        let [run, at, number] = [run, at, number].map(|bytes| u64::from_be_bytes(*bytes));
        Some(Stamp { run, at, number })
    }
}

/// What all sends of a run have in common.
#[derive(Debug, Clone)]
pub(crate) struct SendShape<'a> {
    pub(crate) kind: HeaderKind,
    pub(crate) group: &'a str,
    /// The name, or with several topics what comes before the number.
    pub(crate) topic: &'a str,
    pub(crate) topics: u32,
    /// Queues of each topic.
    pub(crate) queues: u32,
    pub(crate) batch: bool,
    pub(crate) compressed: bool,
    pub(crate) one_way: bool,
    /// The first half of a transaction.
    pub(crate) half: bool,
    pub(crate) properties: &'a Properties,
    pub(crate) tags: u8,
}

impl SendShape<'_> {
    /// The name of one of the run's topics.
    pub(crate) fn topic_name(prefix: &str, topics: u32, number: u32) -> String {
        if topics == 1 { prefix.to_owned() } else { format!("{prefix}-{number:0TOPIC_DIGITS$}") }
    }
}

/// One request of many.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SendRequest {
    pub(crate) opaque: u32,
    pub(crate) topic: u32,
    pub(crate) queue: u32,
    /// A number that no other connection of this run has.
    pub(crate) connection: u32,
    pub(crate) key: u64,
    /// When consumers are to get it, in milliseconds since 1970, where it says so.
    pub(crate) due_ms: u64,
    pub(crate) stamp: Option<Stamp>,
}

/// The header of sends to queue ids of one number of digits.
#[derive(Debug)]
struct SendHead {
    bytes: Vec<u8>,
    opaque: usize,
    topic: Option<usize>,
    queue: usize,
    queue_digits: usize,
    born: usize,
    properties: PropertyPlaces,
}

impl SendHead {
    fn new(shape: &SendShape<'_>, queue_digits: usize) -> SendHead {
        let queue = "0".repeat(queue_digits);
        let born = "1".repeat(WALL_MS_DIGITS);
        let topic = SendShape::topic_name(shape.topic, shape.topics, 0);
        // The header of a batch has properties of its own; those of the messages are in the body.
        let java = shape.properties.places.uniq_key.is_some();
        let of_batch = Properties::new(&PropertiesShape { java, keys: false, due: false, more: &[] });
        let properties = if shape.batch { &of_batch } else { shape.properties };
        let sys_flag = match (shape.compressed, shape.half) {
            (true, _) => ZLIB,
            (false, true) => PREPARED,
            (false, false) => "0",
        };
        let fields = [
            ("a", shape.group),
            ("b", &topic),
            ("c", "TBW102"),
            ("d", "4"),
            ("e", &queue),
            ("f", sys_flag),
            ("g", &born),
            ("h", "0"),
            ("i", properties.text()),
            ("j", "0"),
            ("k", "false"),
            ("m", if shape.batch { "true" } else { "false" }),
        ];
        let head = Head {
            code: if shape.batch { SEND_BATCH_MESSAGE } else { SEND_MESSAGE_V2 },
            flag: if shape.one_way { ONE_WAY } else { 0 },
            opaque: OPAQUE_BASE,
        };
        let mut bytes = Vec::new();
        let places = encode(shape.kind, head, &fields, &mut bytes);
        SendHead {
            bytes,
            opaque: places.opaque,
            topic: (shape.topics > 1).then(|| places.fields[1] + topic.len() - TOPIC_DIGITS),
            queue: places.fields[4],
            queue_digits,
            born: places.fields[6],
            properties: properties.places_in(shape.kind, places.fields[8]),
        }
    }
}

/// What changes in a message's properties; the counter makes every UNIQ_KEY a new one.
#[derive(Debug)]
struct Patcher {
    time: [u8; UNIQ_KEY_TIME],
    counter: u16,
    tags: u8,
    tag: u8,
}

impl Patcher {
    fn patch(&mut self, bytes: &mut [u8], places: &PropertyPlaces, request: &SendRequest) {
        if let Some(at) = places.uniq_key {
            self.counter = self.counter.wrapping_add(1);
            let changing = &mut bytes[at + UNIQ_KEY_FIXED..];
            let (of_connection, rest) = changing.split_at_mut(UNIQ_KEY_CONNECTION);
            put_hex(of_connection, u64::from(request.connection));
            rest[..UNIQ_KEY_TIME].copy_from_slice(&self.time);
            put_hex(&mut rest[UNIQ_KEY_TIME..UNIQ_KEY_TIME + UNIQ_KEY_COUNTER], u64::from(self.counter));
        }
        if let Some(at) = places.tag
            && self.tags > 1
        {
            bytes[at] = b'A' + self.tag;
            self.tag = (self.tag + 1) % self.tags;
        }
        if let Some(at) = places.key {
            put_decimal(&mut bytes[at..at + KEY_DIGITS], request.key);
        }
        if let Some(at) = places.due {
            put_decimal(&mut bytes[at..at + WALL_MS_DIGITS], request.due_ms);
        }
    }
}

/// The sends of one load thread: a header for each number of digits that a queue id can have.
#[derive(Debug)]
pub(crate) struct SendTemplates {
    kind: HeaderKind,
    by_digits: Vec<SendHead>,
    in_body: PropertyPlaces,
    patcher: Patcher,
    wall_ms: u64,
}

impl SendTemplates {
    pub(crate) fn new(shape: &SendShape<'_>) -> SendTemplates {
        let widest = decimal_digits(shape.queues.saturating_sub(1));
        SendTemplates {
            kind: shape.kind,
            by_digits: (1..=widest).map(|digits| SendHead::new(shape, digits)).collect(),
            in_body: shape.properties.places,
            patcher: Patcher { time: [b'0'; UNIQ_KEY_TIME], counter: 0, tags: shape.tags, tag: 0 },
            wall_ms: 0,
        }
    }

    /// Sets the born time of the requests that follow.
    pub(crate) fn set_time(&mut self, wall_ms: u64) {
        if self.wall_ms == wall_ms {
            return;
        }
        self.wall_ms = wall_ms;
        put_hex(&mut self.patcher.time, ms_of_month(wall_ms as i64) as u64);
        for head in &mut self.by_digits {
            put_decimal(&mut head.bytes[head.born..head.born + WALL_MS_DIGITS], wall_ms);
        }
    }

    pub(crate) fn append(&mut self, request: &SendRequest, body: &Body, out: &mut Vec<u8>) {
        let head = &self.by_digits[decimal_digits(request.queue) - 1];
        let start = out.len();
        out.reserve(head.bytes.len() + body.bytes.len());
        out.extend_from_slice(&head.bytes);
        out.extend_from_slice(&body.bytes);
        let total = out.len() - start - 4;
        let (header, content) = out[start..].split_at_mut(head.bytes.len());
        header[..4].copy_from_slice(&(total as u32).to_be_bytes());
        match self.kind {
            HeaderKind::Json => {
                put_decimal(&mut header[head.opaque..head.opaque + OPAQUE_DIGITS], u64::from(request.opaque));
            }
            HeaderKind::Rocketmq => {
                header[head.opaque..head.opaque + 4].copy_from_slice(&request.opaque.to_be_bytes());
            }
        }
        if let Some(at) = head.topic {
            put_decimal(&mut header[at..at + TOPIC_DIGITS], u64::from(request.topic));
        }
        put_decimal(&mut header[head.queue..head.queue + head.queue_digits], u64::from(request.queue));
        self.patcher.patch(header, &head.properties, request);
        for places in &body.places {
            if let Some(at) = places.properties {
                self.patcher.patch(&mut content[at..], &self.in_body, request);
            }
            if let (Some(at), Some(stamp)) = (places.stamp, &request.stamp) {
                stamp.put(&mut content[at..]);
            }
        }
    }
}

fn decimal_digits(value: u32) -> usize {
    value.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests;
