//! Requests as the Java client writes them, byte for byte, with the places of the values that change from one
//! message to the next. Not a general codec: the generator encodes a request once and patches it afterwards, so it
//! needs the positions that a codec hides. Each load thread owns its templates.

use std::fmt;

use ringmq_client::identity::ms_of_month;

/// Version ordinal of the Java client 4.9.8, which the requests imitate.
pub(crate) const CLIENT_VERSION: u16 = 409;

/// The largest frame that Java's decoder accepts, its length field included.
pub(crate) const FRAME_MAX: usize = 16 * 1024 * 1024;

/// An opaque is always ten digits, so that it can be patched in place: `OPAQUE_BASE + n`, `n < OPAQUE_SPAN`.
pub(crate) const OPAQUE_BASE: u32 = 1_000_000_000;
pub(crate) const OPAQUE_SPAN: u32 = 1_000_000_000;
const OPAQUE_DIGITS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HeaderKind {
    /// The text header that every client sends unless told otherwise.
    Json,
    /// The binary header (`rocketmq.serialize.type=ROCKETMQ`).
    Rocketmq,
}

impl fmt::Display for HeaderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeaderKind::Json => "json",
            HeaderKind::Rocketmq => "rocketmq",
        })
    }
}

/// Where the changeable parts of an encoded request begin, counted from the frame's first byte.
#[derive(Debug)]
pub(crate) struct Places {
    opaque: usize,
    fields: Vec<usize>,
}

/// Appends one whole frame to `out`. Fields keep their order; the Java client's order is alphabetical for the
/// one-letter names of a V2 send.
pub(crate) fn encode(
    kind: HeaderKind,
    code: u16,
    opaque: u32,
    fields: &[(&str, &str)],
    body: &[u8],
    out: &mut Vec<u8>,
) -> Places {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    let mut places = match kind {
        HeaderKind::Json => json_header(code, opaque, fields, out),
        HeaderKind::Rocketmq => binary_header(code, opaque, fields, out),
    };
    let header_len = out.len() - start - 8;
    out.extend_from_slice(body);
    let total = out.len() - start - 4;
    let kind_bits = match kind {
        HeaderKind::Json => 0,
        HeaderKind::Rocketmq => 1 << 24,
    };
    out[start..start + 4].copy_from_slice(&(total as u32).to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&(header_len as u32 | kind_bits).to_be_bytes());
    places.opaque -= start;
    for place in &mut places.fields {
        *place -= start;
    }
    places
}

fn json_header(code: u16, opaque: u32, fields: &[(&str, &str)], out: &mut Vec<u8>) -> Places {
    let mut places = Places { opaque: 0, fields: Vec::with_capacity(fields.len()) };
    out.extend_from_slice(format!("{{\"code\":{code},\"extFields\":{{").as_bytes());
    for (i, (name, value)) in fields.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json_string(name, out);
        out.push(b':');
        places.fields.push(out.len() + 1);
        json_string(value, out);
    }
    out.extend_from_slice(b"},\"flag\":0,\"language\":\"JAVA\",\"opaque\":");
    places.opaque = out.len();
    out.extend_from_slice(
        format!("{opaque},\"serializeTypeCurrentRPC\":\"JSON\",\"version\":{CLIENT_VERSION}}}").as_bytes(),
    );
    places
}

fn json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn binary_header(code: u16, opaque: u32, fields: &[(&str, &str)], out: &mut Vec<u8>) -> Places {
    let mut places = Places { opaque: 0, fields: Vec::with_capacity(fields.len()) };
    out.extend_from_slice(&code.to_be_bytes());
    out.push(0);
    out.extend_from_slice(&CLIENT_VERSION.to_be_bytes());
    places.opaque = out.len();
    out.extend_from_slice(&opaque.to_be_bytes());
    out.extend_from_slice(&0u32.to_be_bytes());
    out.extend_from_slice(&0u32.to_be_bytes());
    let map = out.len();
    out.extend_from_slice(&0u32.to_be_bytes());
    for (name, value) in fields {
        out.extend_from_slice(&(name.len() as u16).to_be_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&(value.len() as u32).to_be_bytes());
        places.fields.push(out.len());
        out.extend_from_slice(value.as_bytes());
    }
    let map_len = (out.len() - map - 4) as u32;
    out[map..map + 4].copy_from_slice(&map_len.to_be_bytes());
    places
}

/// Writes `value` as exactly `into.len()` decimal digits, leading zeros included.
fn put_decimal(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn put_hex(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(value & 15) as usize];
        value >>= 4;
    }
}

/// What the messages of one connection have in common.
#[derive(Debug, Clone)]
pub(crate) struct SendShape<'a> {
    pub(crate) kind: HeaderKind,
    pub(crate) java_properties: bool,
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) tag: &'a str,
    /// Eight hexadecimal digits that no other connection of this run uses.
    pub(crate) connection_id: u32,
    pub(crate) body: &'a [u8],
}

const BORN_DIGITS: usize = 13;
const UNIQ_KEY_DIGITS: usize = 32;

/// One encoded send for queue ids of one number of digits.
#[derive(Debug)]
struct SendTemplate {
    bytes: Vec<u8>,
    opaque: usize,
    queue: usize,
    queue_digits: usize,
    born: usize,
    uniq_key: Option<usize>,
}

impl SendTemplate {
    fn new(shape: &SendShape<'_>, queue_digits: usize) -> SendTemplate {
        let queue = "0".repeat(queue_digits);
        let born = "1".repeat(BORN_DIGITS);
        // Address 127.0.0.1, process id, connection, milliseconds of the month, counter: as in MessageClientIDSetter.
        let uniq_key = format!("7F000001{:04X}{:08X}{:012X}", std::process::id() & 0xffff, shape.connection_id, 0);
        let properties = if shape.java_properties {
            format!("UNIQ_KEY\u{1}{uniq_key}\u{2}WAIT\u{1}true\u{2}TAGS\u{1}{}", shape.tag)
        } else {
            String::new()
        };
        let fields = [
            ("a", shape.group),
            ("b", shape.topic),
            ("c", "TBW102"),
            ("d", "4"),
            ("e", queue.as_str()),
            ("f", "0"),
            ("g", born.as_str()),
            ("h", "0"),
            ("i", properties.as_str()),
            ("j", "0"),
            ("k", "false"),
            ("m", "false"),
        ];
        let mut bytes = Vec::new();
        let places = encode(shape.kind, 310, OPAQUE_BASE, &fields, shape.body, &mut bytes);
        let uniq_key = shape.java_properties.then(|| {
            let from = places.fields[8];
            let found = memchr::memmem::find(&bytes[from..], uniq_key.as_bytes());
            from + found.unwrap_or_default()
        });
        SendTemplate {
            opaque: places.opaque,
            queue: places.fields[4],
            born: places.fields[6],
            bytes,
            queue_digits,
            uniq_key,
        }
    }

    fn set_time(&mut self, wall_ms: u64) {
        put_decimal(&mut self.bytes[self.born..self.born + BORN_DIGITS], wall_ms);
        if let Some(at) = self.uniq_key {
            put_hex(&mut self.bytes[at + 20..at + 28], ms_of_month(wall_ms as i64) as u64);
        }
    }
}

/// The sends of one connection: a template for each number of digits that a queue id can have.
#[derive(Debug)]
pub(crate) struct SendTemplates {
    kind: HeaderKind,
    by_digits: Vec<SendTemplate>,
    wall_ms: u64,
    counter: u16,
}

impl SendTemplates {
    pub(crate) fn new(shape: &SendShape<'_>, queues: u32) -> SendTemplates {
        let widest = decimal_digits(queues.saturating_sub(1));
        let by_digits = (1..=widest).map(|digits| SendTemplate::new(shape, digits)).collect();
        SendTemplates { kind: shape.kind, by_digits, wall_ms: 0, counter: 0 }
    }

    /// Sets the born time of the requests that follow.
    pub(crate) fn set_time(&mut self, wall_ms: u64) {
        if self.wall_ms != wall_ms {
            self.wall_ms = wall_ms;
            self.by_digits.iter_mut().for_each(|t| t.set_time(wall_ms));
        }
    }

    pub(crate) fn append(&mut self, opaque: u32, queue: u32, out: &mut Vec<u8>) {
        let template = &self.by_digits[decimal_digits(queue) - 1];
        let start = out.len();
        out.extend_from_slice(&template.bytes);
        let frame = &mut out[start..];
        match self.kind {
            HeaderKind::Json => {
                put_decimal(&mut frame[template.opaque..template.opaque + OPAQUE_DIGITS], u64::from(opaque));
            }
            HeaderKind::Rocketmq => {
                frame[template.opaque..template.opaque + 4].copy_from_slice(&opaque.to_be_bytes());
            }
        }
        put_decimal(&mut frame[template.queue..template.queue + template.queue_digits], u64::from(queue));
        if let Some(at) = template.uniq_key {
            self.counter = self.counter.wrapping_add(1);
            put_hex(&mut frame[at + 28..at + UNIQ_KEY_DIGITS], u64::from(self.counter));
        }
    }
}

fn decimal_digits(value: u32) -> usize {
    value.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(kind: HeaderKind) -> SendShape<'static> {
        SendShape { kind, java_properties: true, group: "PG", topic: "T", tag: "TagA", connection_id: 7, body: b"body" }
    }

    #[test]
    fn a_json_send_is_what_the_java_client_writes() {
        let mut templates = SendTemplates::new(&shape(HeaderKind::Json), 12);
        templates.set_time(1_700_000_000_123);
        let mut out = Vec::new();
        templates.append(OPAQUE_BASE + 5, 11, &mut out);
        let header_len = u32::from_be_bytes(out[4..8].try_into().unwrap()) as usize;
        assert_eq!(u32::from_be_bytes(out[..4].try_into().unwrap()) as usize, out.len() - 4);
        // 2023-11-14T22:13:20.123Z, from the beginning of November on.
        let of_month = ((13 * 24 + 22) * 60 + 13) * 60_000 + 20_123;
        let uniq = format!("7F000001{:04X}00000007{of_month:08X}0001", std::process::id() & 0xffff);
        let want = format!(
            "{{\"code\":310,\"extFields\":{{\"a\":\"PG\",\"b\":\"T\",\"c\":\"TBW102\",\"d\":\"4\",\"e\":\"11\",\"f\":\"0\",\
             \"g\":\"1700000000123\",\"h\":\"0\",\"i\":\"UNIQ_KEY\\u0001{uniq}\\u0002WAIT\\u0001true\\u0002TAGS\\u0001TagA\",\
             \"j\":\"0\",\"k\":\"false\",\"m\":\"false\"}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":1000000005,\
             \"serializeTypeCurrentRPC\":\"JSON\",\"version\":409}}"
        );
        assert_eq!(std::str::from_utf8(&out[8..8 + header_len]).unwrap(), want);
        assert_eq!(&out[8 + header_len..], b"body");
    }

    #[test]
    fn a_binary_send_carries_the_same_values() {
        let mut templates = SendTemplates::new(&shape(HeaderKind::Rocketmq), 1000);
        templates.set_time(1_700_000_000_123);
        let mut out = Vec::new();
        templates.append(OPAQUE_BASE + 5, 0, &mut out);
        templates.append(OPAQUE_BASE + 6, 999, &mut out);
        let first = u32::from_be_bytes(out[..4].try_into().unwrap()) as usize + 4;
        assert_eq!(out[4], 1);
        assert_eq!(out[8..10], 310u16.to_be_bytes());
        assert_eq!(out[13..17], (OPAQUE_BASE + 5).to_be_bytes());
        let second = &out[first..];
        assert_eq!(second[13..17], (OPAQUE_BASE + 6).to_be_bytes());
        let at = memchr::memmem::find(second, b"\0\x01e\0\0\0\x03999").expect("the queue id");
        assert!(at > 0);
        assert!(memchr::memmem::find(second, b"\0\x01g\0\0\0\x0d1700000000123").is_some());
    }
}
