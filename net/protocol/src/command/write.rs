//! Writing headers: JSON straight into an output buffer, and the binary codec for clients that choose it.
//!
//! The JSON is written by hand because a reply is written for every message: no map, no intermediate string.

use super::{Command, FLAG_RESPONSE, HeaderError};
use crate::code::{Language, version};
use crate::frame::{FrameError, FrameMark, Serialize, begin_frame, finish_frame};
use crate::scan::find_escapable;
use crate::value::Value;

/// The fixed members of a header, to be followed by ext fields.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub code: i32,
    pub flag: i32,
    pub opaque: i32,
    pub version: i32,
    pub language: Language,
    pub remark: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// A request of this implementation, which a server sends to a client or a client to a server.
    pub const fn request(code: i32, opaque: i32, flag: i32) -> Head<'a> {
        Head { code, flag, opaque, version: version::CURRENT, language: Language::JAVA, remark: None }
    }

    /// Begins a frame with this head at the end of `out`; ext fields follow, then one of the finishing calls.
    pub fn begin<'o>(&self, out: &'o mut Vec<u8>) -> ExtWriter<'o> {
        let mark = begin_frame(out);
        self.write(out);
        ExtWriter { out, mark: Some(mark), first: true }
    }

    /// Begins a header without a frame around it.
    pub(super) fn begin_header<'o>(&self, out: &'o mut Vec<u8>) -> ExtWriter<'o> {
        self.write(out);
        ExtWriter { out, mark: None, first: true }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"code\":");
        write_decimal(i64::from(self.code), out);
        out.extend_from_slice(b",\"flag\":");
        write_decimal(i64::from(self.flag), out);
        out.extend_from_slice(b",\"language\":\"");
        out.extend_from_slice(self.language.wire_name().as_bytes());
        out.extend_from_slice(b"\",\"opaque\":");
        write_decimal(i64::from(self.opaque), out);
        if let Some(remark) = self.remark {
            out.extend_from_slice(b",\"remark\":\"");
            escape_json(remark, out);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
        write_decimal(i64::from(self.version), out);
        out.extend_from_slice(b",\"extFields\":{");
    }
}

/// What varies in the head of a reply. Replies are JSON for every client: some do not look at the serialize byte.
#[derive(Clone, Copy, Debug)]
pub struct ReplyHead<'a> {
    pub code: i32,
    /// The request's.
    pub opaque: i32,
    pub remark: Option<&'a str>,
}

impl ReplyHead<'_> {
    /// Begins the frame of a reply at the end of `out`; ext fields follow, then one of the finishing calls.
    pub fn begin<'o>(&self, out: &'o mut Vec<u8>) -> ExtWriter<'o> {
        const BEFORE_OPAQUE: &[u8] = b",\"flag\":1,\"language\":\"JAVA\",\"opaque\":";
        const AFTER: &[u8] = b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":479,\"extFields\":{";
        // The members that never vary are written in one piece each; this is the version among them.
        const { assert!(version::CURRENT == 479 && FLAG_RESPONSE == 1) };
        let mark = begin_frame(out);
        out.extend_from_slice(b"{\"code\":");
        write_decimal(i64::from(self.code), out);
        out.extend_from_slice(BEFORE_OPAQUE);
        write_decimal(i64::from(self.opaque), out);
        if let Some(remark) = self.remark {
            out.extend_from_slice(b",\"remark\":\"");
            escape_json(remark, out);
            out.push(b'"');
        }
        out.extend_from_slice(AFTER);
        ExtWriter { out, mark: Some(mark), first: true }
    }
}

/// Takes the ext fields of a typed header. All values are strings on the wire: C++ clients accept nothing else.
pub trait ExtSink {
    fn str(&mut self, key: &str, value: &str);

    fn i64(&mut self, key: &str, value: i64) {
        let mut digits = Digits::new();
        self.str(key, digits.format(value));
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.str(key, if value { "true" } else { "false" });
    }
}

impl ExtSink for Vec<(String, String)> {
    fn str(&mut self, key: &str, value: &str) {
        self.push((key.to_owned(), value.to_owned()));
    }
}

/// Writes ext fields into a JSON header that was begun in an output buffer, without allocating.
#[derive(Debug)]
#[must_use = "a frame that was begun has no lengths until it is finished"]
pub struct ExtWriter<'o> {
    out: &'o mut Vec<u8>,
    mark: Option<FrameMark>,
    first: bool,
}

impl ExtWriter<'_> {
    pub fn str(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        escape_json(value, self.out);
        self.out.push(b'"');
        self
    }

    pub fn i64(&mut self, key: &str, value: i64) -> &mut Self {
        self.key(key);
        write_decimal(value, self.out);
        self.out.push(b'"');
        self
    }

    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.str(key, if value { "true" } else { "false" })
    }

    /// A value of a received header, of either codec.
    pub fn value(&mut self, key: &str, value: Value<'_>) -> &mut Self {
        if let Some(plain) = value.as_plain() {
            return self.str(key, plain);
        }
        self.key(key);
        value.pieces(|piece| escape_json(std::str::from_utf8(piece).unwrap_or_default(), self.out));
        self.out.push(b'"');
        self
    }

    /// Ends the frame. The body is elsewhere and follows `out` with `extra_body_len` bytes (zero for none).
    pub fn finish(self, extra_body_len: usize) -> Result<(), FrameError> {
        self.finish_with(&[], extra_body_len)
    }

    /// Ends the frame with the body copied behind the header.
    pub fn finish_with_body(self, body: &[u8]) -> Result<(), FrameError> {
        self.finish_with(body, 0)
    }

    fn finish_with(self, body: &[u8], extra_body_len: usize) -> Result<(), FrameError> {
        self.out.extend_from_slice(b"}}");
        let header_end = self.out.len();
        self.out.extend_from_slice(body);
        match self.mark {
            Some(mark) => finish_frame(self.out, mark, header_end, Serialize::Json, extra_body_len),
            None => Ok(()),
        }
    }

    /// Ends a header that has no frame around it.
    pub(super) fn end_header(self) {
        self.out.extend_from_slice(b"}}");
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.first = false;
        escape_json(key, self.out);
        self.out.extend_from_slice(b"\":\"");
    }
}

impl ExtSink for ExtWriter<'_> {
    fn str(&mut self, key: &str, value: &str) {
        ExtWriter::str(self, key, value);
    }

    fn i64(&mut self, key: &str, value: i64) {
        ExtWriter::i64(self, key, value);
    }
}

/// Appends `text` with JSON's escapes, without the quotes around it.
pub fn escape_json(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(at) = find_escapable(bytes, from) {
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        let byte = bytes[at];
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digits[0], digits[1]]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.extend_from_slice(&bytes[from..]);
}

/// A decimal number on the stack.
#[derive(Debug)]
pub(crate) struct Digits {
    bytes: [u8; 20],
}

impl Digits {
    pub(crate) const fn new() -> Digits {
        Digits { bytes: [0; 20] }
    }

    pub(crate) fn format(&mut self, value: i64) -> &str {
        std::str::from_utf8(self.bytes(value)).unwrap_or_default()
    }

    fn bytes(&mut self, value: i64) -> &[u8] {
        let mut at = self.bytes.len();
        let mut rest = value.unsigned_abs();
        loop {
            at -= 1;
            self.bytes[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            at -= 1;
            self.bytes[at] = b'-';
        }
        &self.bytes[at..]
    }
}

pub(crate) fn write_decimal(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(Digits::new().bytes(value));
}

/// The binary codec; on an error `out` is as before.
pub(super) fn encode_binary(command: &Command, out: &mut Vec<u8>) -> Result<(), HeaderError> {
    let start = out.len();
    let result = try_encode_binary(command, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn try_encode_binary(command: &Command, out: &mut Vec<u8>) -> Result<(), HeaderError> {
    let code = i16::try_from(command.code).map_err(|_| HeaderError::Unencodable("code"))?;
    let version = i16::try_from(command.version).map_err(|_| HeaderError::Unencodable("version"))?;
    let language = u8::try_from(command.language.0).map_err(|_| HeaderError::Unencodable("language"))?;
    out.extend_from_slice(&code.to_be_bytes());
    out.push(language);
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&command.opaque.to_be_bytes());
    out.extend_from_slice(&command.flag.to_be_bytes());
    let remark = command.remark.as_deref().unwrap_or_default();
    write_long_text(remark, "remark", out)?;
    let ext_at = out.len();
    out.extend_from_slice(&[0; 4]);
    for (key, value) in &command.ext {
        let key_len = i16::try_from(key.len()).map_err(|_| HeaderError::Unencodable("ext key"))?;
        out.extend_from_slice(&key_len.to_be_bytes());
        out.extend_from_slice(key.as_bytes());
        write_long_text(value, "ext value", out)?;
    }
    let ext_len = i32::try_from(out.len() - ext_at - 4).map_err(|_| HeaderError::Unencodable("ext fields"))?;
    out[ext_at..ext_at + 4].copy_from_slice(&ext_len.to_be_bytes());
    Ok(())
}

fn write_long_text(text: &str, what: &'static str, out: &mut Vec<u8>) -> Result<(), HeaderError> {
    let len = i32::try_from(text.len()).map_err(|_| HeaderError::Unencodable(what))?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}
