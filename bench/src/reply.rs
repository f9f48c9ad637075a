//! The few fields of a reply that a load generator needs, taken from the header without decoding it. A reply that is
//! not a success is rare; its remark is then read with a real JSON parser.

use memchr::memmem::{self, Finder};

/// What one frame holds; borrowed from the read buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) binary: bool,
    pub(crate) header: &'a [u8],
    pub(crate) body: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: i32,
    pub(crate) opaque: u32,
    pub(crate) queue_id: Option<i64>,
    /// `queueOffset` of a send reply, `nextBeginOffset` of a pull reply.
    pub(crate) offset: Option<i64>,
    /// Where the log has the message, from `msgId`; only where it was asked for.
    pub(crate) position: Option<i64>,
}

/// A field's name with its quotes and colon, and where it was found last: a broker writes its replies alike, so the
/// next one is most often at the same place. Inside a JSON string the quotes would be escaped, so a remark or a value
/// cannot be mistaken for the field.
#[derive(Debug)]
struct Field {
    name: &'static str,
    finder: Finder<'static>,
    seen_at: usize,
}

impl Field {
    fn new(name: &'static str) -> Field {
        Field { name, finder: Finder::new(name), seen_at: 0 }
    }

    fn number(&mut self, header: &[u8]) -> Option<i64> {
        let at = match header.get(self.seen_at..) {
            Some(rest) if rest.starts_with(self.name.as_bytes()) => self.seen_at,
            _ => self.finder.find(header)?,
        };
        self.seen_at = at;
        decimal(self.value(header, at))
    }

    /// The value as text without an escape, such as an id.
    fn text<'h>(&self, header: &'h [u8]) -> Option<&'h [u8]> {
        let value = self.value(header, self.finder.find(header)?);
        value.split(|byte| *byte == b'"').next()
    }

    /// What follows the name that begins at `at`.
    fn value<'h>(&self, header: &'h [u8], at: usize) -> &'h [u8] {
        let value = &header[at + self.name.len()..];
        let skipped = value.iter().take_while(|b| **b == b' ' || **b == b'"').count();
        &value[skipped..]
    }
}

/// The position that a message's id ends with, behind the store's address: sixteen hexadecimal digits.
fn position(id: &[u8]) -> Option<i64> {
    let digits = std::str::from_utf8(id.get(id.len().checked_sub(16)?..)?).ok()?;
    i64::from_str_radix(digits, 16).ok()
}

fn decimal(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut value: i64 = 0;
    let mut count = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            break;
        }
        value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
        count += 1;
    }
    (count > 0).then_some(if negative { -value } else { value })
}

/// Reads replies of one kind of request.
#[derive(Debug)]
pub(crate) struct ReplyScanner {
    code: Field,
    opaque: Field,
    queue_id: Field,
    offset: Field,
    offset_name: &'static str,
    id: Option<Field>,
}

impl ReplyScanner {
    pub(crate) fn of_sends() -> ReplyScanner {
        ReplyScanner::new("\"queueOffset\":", "queueOffset")
    }

    /// The halves of transactions: their end has to say where they are.
    pub(crate) fn of_halves() -> ReplyScanner {
        ReplyScanner { id: Some(Field::new("\"msgId\":")), ..ReplyScanner::of_sends() }
    }

    pub(crate) fn of_pulls() -> ReplyScanner {
        ReplyScanner::new("\"nextBeginOffset\":", "nextBeginOffset")
    }

    fn new(quoted_offset: &'static str, offset_name: &'static str) -> ReplyScanner {
        ReplyScanner {
            code: Field::new("\"code\":"),
            opaque: Field::new("\"opaque\":"),
            queue_id: Field::new("\"queueId\":"),
            offset: Field::new(quoted_offset),
            offset_name,
            id: None,
        }
    }

    /// `None` when the header is not one of a reply.
    pub(crate) fn scan(&mut self, frame: &Frame<'_>) -> Option<Reply> {
        if frame.binary {
            return scan_binary(frame.header, self.offset_name);
        }
        Some(Reply {
            code: i32::try_from(self.code.number(frame.header)?).ok()?,
            opaque: u32::try_from(self.opaque.number(frame.header)?).ok()?,
            queue_id: self.queue_id.number(frame.header),
            offset: self.offset.number(frame.header),
            position: self.id.as_ref().and_then(|id| position(id.text(frame.header)?)),
        })
    }
}

fn scan_binary(header: &[u8], offset_name: &str) -> Option<Reply> {
    let code = i16::from_be_bytes(header.get(0..2)?.try_into().ok()?);
    let opaque = u32::from_be_bytes(header.get(5..9)?.try_into().ok()?);
    let mut reply = Reply { code: i32::from(code), opaque, queue_id: None, offset: None, position: None };
    let mut rest = binary_fields(header)?;
    while !rest.is_empty() {
        let (name, after_name) = split_prefixed::<2>(rest)?;
        let (value, after_value) = split_prefixed::<4>(after_name)?;
        if name == b"queueId" {
            reply.queue_id = decimal(value);
        } else if name == offset_name.as_bytes() {
            reply.offset = decimal(value);
        } else if name == b"msgId" {
            reply.position = position(value);
        }
        rest = after_value;
    }
    Some(reply)
}

fn binary_fields(header: &[u8]) -> Option<&[u8]> {
    let (_remark, rest) = split_prefixed::<4>(header.get(13..)?)?;
    Some(split_prefixed::<4>(rest)?.0)
}

/// Splits a length-prefixed piece off; the prefix has `N` bytes, at most four.
fn split_prefixed<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = bytes.split_at_checked(N)?;
    let len = prefix.iter().fold(0usize, |len, b| len << 8 | usize::from(*b));
    rest.split_at_checked(len)
}

/// What a refusal's remark begins with, in brackets, as RocketMQ's flow control names its cause; empty without one.
pub(crate) fn cause<'h>(frame: &Frame<'h>) -> &'h [u8] {
    let text = if frame.binary {
        frame.header.get(13..).and_then(split_prefixed::<4>).map(|(remark, _)| remark)
    } else {
        memmem::find(frame.header, b"\"remark\":\"").map(|at| &frame.header[at + b"\"remark\":\"".len()..])
    };
    let Some([b'[', rest @ ..]) = text else { return &[] };
    rest.split(|byte| *byte == b']').next().unwrap_or_default()
}

/// The remark of a refusal, for the report.
pub(crate) fn remark(frame: &Frame<'_>) -> String {
    if frame.binary {
        let text = frame.header.get(13..).and_then(split_prefixed::<4>).map_or(&[][..], |(remark, _)| remark);
        return String::from_utf8_lossy(text).into_owned();
    }
    let header: serde_json::Value = serde_json::from_slice(frame.header).unwrap_or_default();
    header.get("remark").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(header: &str) -> Option<Reply> {
        ReplyScanner::of_sends().scan(&Frame { binary: false, header: header.as_bytes(), body: &[] })
    }

    #[test]
    fn fields_are_found_in_any_order_and_type() {
        let want = Some(Reply { code: 0, opaque: 1_000_000_007, queue_id: Some(3), offset: Some(42), position: None });
        assert_eq!(
            json(
                r#"{"code":0,"extFields":{"queueId":"3","msgId":"7F","queueOffset":"42"},"flag":1,"opaque":1000000007}"#
            ),
            want
        );
        assert_eq!(
            json(r#"{"opaque": 1000000007,"extFields":{"queueOffset":42,"queueId":3},"code": 0,"flag":1}"#),
            want
        );
    }

    #[test]
    fn a_place_remembered_from_one_reply_does_not_bend_the_next() {
        let mut scanner = ReplyScanner::of_sends();
        for (header, opaque, offset) in [
            (r#"{"code":0,"extFields":{"queueOffset":"9"},"opaque":1}"#, 1, 9),
            (r#"{"code":0,"extFields":{"queueOffset":"10"},"opaque":2}"#, 2, 10),
            (r#"{"opaque":3,"code":0,"extFields":{"queueOffset":"11"}}"#, 3, 11),
        ] {
            let reply = scanner.scan(&Frame { binary: false, header: header.as_bytes(), body: &[] }).unwrap();
            assert_eq!((reply.opaque, reply.offset), (opaque, Some(offset)));
        }
    }

    #[test]
    fn a_remark_cannot_pass_for_a_field() {
        let reply = json(r#"{"remark":"\"code\":0,\"opaque\":9","code":13,"opaque":5}"#).unwrap();
        assert_eq!((reply.code, reply.opaque), (13, 5));
    }

    #[test]
    fn a_half_says_where_it_is() {
        let header = br#"{"code":0,"extFields":{"msgId":"7F00000100002A9F0000000000000ABC","queueOffset":"4","queueId":"1"},"opaque":9}"#;
        let frame = Frame { binary: false, header, body: &[] };
        assert_eq!(ReplyScanner::of_halves().scan(&frame).unwrap().position, Some(0xABC));
        assert_eq!(ReplyScanner::of_sends().scan(&frame).unwrap().position, None);
        assert_eq!(position(b"short"), None);
        assert_eq!(position(b"7F00000100002A9F000000000000ZZZZ"), None);
    }

    #[test]
    fn a_cause_is_what_stands_in_brackets() {
        let of = |header: &str| {
            let frame = Frame { binary: false, header: header.as_bytes(), body: &[] };
            String::from_utf8(cause(&frame).to_vec()).unwrap()
        };
        assert_eq!(of(r#"{"code":2,"opaque":5,"remark":"[PCBUSY_CLEAN_QUEUE]broker busy"}"#), "PCBUSY_CLEAN_QUEUE");
        assert_eq!(of(r#"{"code":2,"opaque":5,"remark":"busy [x]"}"#), "");
        assert_eq!(of(r#"{"code":2,"opaque":5}"#), "");
    }

    #[test]
    fn garbage_is_no_reply() {
        assert_eq!(json("hello"), None);
        assert_eq!(json(r#"{"code":0,"opaque":"#), None);
        for len in 0..40 {
            assert_eq!(
                ReplyScanner::of_sends().scan(&Frame { binary: true, header: &vec![0xff; len], body: &[] }),
                None
            );
        }
    }

    #[test]
    fn a_binary_reply_is_read() {
        let mut header = vec![0, 13, 0, 1, 144, 0, 0, 0, 77, 0, 0, 0, 1, 0, 0, 0, 2, b'n', b'o'];
        let fields = b"\0\x07queueId\0\0\0\x012\0\x0bqueueOffset\0\0\0\x0250";
        header.extend_from_slice(&(fields.len() as u32).to_be_bytes());
        header.extend_from_slice(fields);
        let frame = Frame { binary: true, header: &header, body: &[] };
        let reply = ReplyScanner::of_sends().scan(&frame).unwrap();
        assert_eq!(reply, Reply { code: 13, opaque: 77, queue_id: Some(2), offset: Some(50), position: None });
        assert_eq!(remark(&frame), "no");
    }
}
