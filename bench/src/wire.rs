//! Requests as the Java client writes them, byte for byte, with the places of the values that change from one
//! message to the next. Not a general codec: the generator encodes a request once and patches it afterwards, so it
//! needs the positions that a codec hides. What a send looks like is in `wire/send.rs`.

mod send;
mod steps;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use self::send::{Properties, PropertiesShape, SendRequest, SendShape, SendTemplates, Stamp};
pub(crate) use self::steps::{Commits, End, append_end};

/// Version ordinal of the Java client 4.9.8, which the requests imitate.
pub(crate) const CLIENT_VERSION: u16 = 409;

/// The largest frame that Java's decoder accepts, its length field included.
pub(crate) const FRAME_MAX: usize = 16 * 1024 * 1024;

/// An opaque is always ten digits, so that it can be patched in place: `OPAQUE_BASE + n`, `n < OPAQUE_SPAN`.
pub(crate) const OPAQUE_BASE: u32 = 1_000_000_000;
pub(crate) const OPAQUE_SPAN: u32 = 1_000_000_000;
pub(crate) const OPAQUE_DIGITS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// The numbers of a request's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) code: u16,
    /// 2 asks for no answer.
    pub(crate) flag: u32,
    pub(crate) opaque: u32,
}

/// Appends the frame of a request without a body to `out`. Fields keep their order; the Java client's order is
/// alphabetical for the one-letter names of a V2 send.
pub(crate) fn encode(kind: HeaderKind, head: Head, fields: &[(&str, &str)], out: &mut Vec<u8>) -> Places {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    let mut places = match kind {
        HeaderKind::Json => json_header(head, fields, out),
        HeaderKind::Rocketmq => binary_header(head, fields, out),
    };
    let header_len = out.len() - start - 8;
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

fn json_header(head: Head, fields: &[(&str, &str)], out: &mut Vec<u8>) -> Places {
    let Head { code, flag, opaque } = head;
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
    out.extend_from_slice(format!("}},\"flag\":{flag},\"language\":\"JAVA\",\"opaque\":").as_bytes());
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

fn binary_header(head: Head, fields: &[(&str, &str)], out: &mut Vec<u8>) -> Places {
    let Head { code, flag, opaque } = head;
    let mut places = Places { opaque: 0, fields: Vec::with_capacity(fields.len()) };
    out.extend_from_slice(&code.to_be_bytes());
    out.push(0);
    out.extend_from_slice(&CLIENT_VERSION.to_be_bytes());
    places.opaque = out.len();
    out.extend_from_slice(&opaque.to_be_bytes());
    out.extend_from_slice(&flag.to_be_bytes());
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

/// Writes `value` as exactly `into.len()` capital hexadecimal digits.
fn put_hex(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(value & 15) as usize];
        value >>= 4;
    }
}
