//! Reading a record: every length is checked once, so that the accessors cannot fail.

use std::borrow::Cow;

use super::{
    FILLER_MIN, MAGIC_FILLER, MAGIC_V1, MAGIC_V2, RECORD_MAX, RECORD_MIN, RecordError, TOPIC_MAX, TOPIC_V1_MAX,
};
use crate::host::Host;
use crate::properties::{self, sys_flag};

/// What begins at a place of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// A record of that many bytes, its inside not looked at.
    Record(usize),
    /// A filler of that many bytes.
    Filler(usize),
}

/// Looks at the length and magic that `bytes` begin with; the rest need not be there.
pub fn peek(bytes: &[u8]) -> Result<Peek, RecordError> {
    let short = RecordError::Short { need: FILLER_MIN, have: bytes.len() };
    let head = bytes.first_chunk::<FILLER_MIN>().ok_or(short)?;
    let [t0, t1, t2, t3, m0, m1, m2, m3] = *head;
    let magic = u32::from_be_bytes([m0, m1, m2, m3]);
    // A negative length becomes one far beyond every limit.
    let total = u32::from_be_bytes([t0, t1, t2, t3]) as usize;
    match magic {
        MAGIC_FILLER if (FILLER_MIN..=i32::MAX as usize).contains(&total) => Ok(Peek::Filler(total)),
        MAGIC_V1 | MAGIC_V2 if (RECORD_MIN..=RECORD_MAX).contains(&total) => Ok(Peek::Record(total)),
        MAGIC_FILLER | MAGIC_V1 | MAGIC_V2 => Err(RecordError::Length { total, field: "length" }),
        other => Err(RecordError::Magic(other)),
    }
}

/// Where the parts of a record are; every length is checked, no text is.
struct Parts<'a> {
    bytes: &'a [u8],
    store_at: usize,
    tail_at: usize,
    body: &'a [u8],
    topic: &'a [u8],
    properties: &'a [u8],
}

impl<'a> Parts<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Parts<'a>, RecordError> {
        let total = match peek(bytes)? {
            Peek::Record(total) => total,
            Peek::Filler(total) => return Err(RecordError::Filler(total)),
        };
        let bytes = bytes.get(..total).ok_or(RecordError::Short { need: total, have: bytes.len() })?;
        let length = |field| RecordError::Length { total, field };
        let flags = be_i32(bytes, 36);
        let store_at = if flags & sys_flag::BORN_HOST_V6 != 0 { 68 } else { 56 };
        let tail_at = store_at + if flags & sys_flag::STORE_HOST_V6 != 0 { 28 } else { 16 };
        let mut rest = bytes.get(tail_at + 12..).ok_or(length("host"))?;
        let body_len = take(&mut rest, 4).map(|len| be_i32(len, 0)).ok_or(length("body length"))?;
        let body_len = usize::try_from(body_len).map_err(|_| length("body length"))?;
        let body = take(&mut rest, body_len).ok_or(length("body length"))?;
        let (topic_len, topic_max) = if be_i32(bytes, 4) as u32 == MAGIC_V2 {
            (take(&mut rest, 2).map(|len| usize::from(u16::from_be_bytes([len[0], len[1]]))), TOPIC_MAX)
        } else {
            (take(&mut rest, 1).map(|len| usize::from(len[0])), TOPIC_V1_MAX)
        };
        let topic_len = topic_len.filter(|len| *len <= topic_max).ok_or(length("topic length"))?;
        let topic = take(&mut rest, topic_len).ok_or(length("topic length"))?;
        let properties_len = take(&mut rest, 2).ok_or(length("properties length"))?;
        let properties_len = i16::from_be_bytes([properties_len[0], properties_len[1]]);
        if usize::try_from(properties_len) != Ok(rest.len()) {
            return Err(length("properties length"));
        }
        Ok(Parts { bytes, store_at, tail_at, body, topic, properties: rest })
    }
}

/// The property string of the record that `bytes` begin with. What is no UTF-8 in it is replaced, as Java does; only then
/// is it copied.
///
/// # Errors
/// The bytes are no whole record.
pub fn properties_of(bytes: &[u8]) -> Result<Cow<'_, str>, RecordError> {
    Parts::parse(bytes).map(|parts| String::from_utf8_lossy(parts.properties))
}

/// One record, borrowed and checked.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    bytes: &'a [u8],
    /// Where the store timestamp begins: behind the born host.
    store_at: usize,
    /// Where the reconsume times begin: behind the store host.
    tail_at: usize,
    body: &'a [u8],
    topic: &'a str,
    properties: &'a str,
}

impl<'a> Record<'a> {
    /// Reads the record that `bytes` begin with, and its length.
    pub fn parse(bytes: &'a [u8]) -> Result<(Record<'a>, usize), RecordError> {
        let Parts { bytes, store_at, tail_at, body, topic, properties } = Parts::parse(bytes)?;
        let topic = std::str::from_utf8(topic).map_err(|_| RecordError::Utf8("topic"))?;
        let properties = std::str::from_utf8(properties).map_err(|_| RecordError::Utf8("properties"))?;
        Ok((Record { bytes, store_at, tail_at, body, topic, properties }, bytes.len()))
    }

    /// The record itself, as it is stored and sent.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn magic(&self) -> u32 {
        be_i32(self.bytes, 4) as u32
    }

    /// The checksum of the stored body that the record claims.
    pub fn body_crc(&self) -> u32 {
        be_i32(self.bytes, 8) as u32
    }

    /// Whether the body has the checksum that the record claims.
    pub fn body_crc_matches(&self) -> bool {
        crc32fast::hash(self.body) & 0x7FFF_FFFF == self.body_crc()
    }

    pub fn queue_id(&self) -> i32 {
        be_i32(self.bytes, 12)
    }

    /// The application's flag.
    pub fn flag(&self) -> i32 {
        be_i32(self.bytes, 16)
    }

    pub fn queue_offset(&self) -> i64 {
        be_i64(self.bytes, 20)
    }

    pub fn position(&self) -> i64 {
        be_i64(self.bytes, 28)
    }

    pub fn sys_flag(&self) -> i32 {
        be_i32(self.bytes, 36)
    }

    pub fn born_timestamp(&self) -> i64 {
        be_i64(self.bytes, 40)
    }

    pub fn born_host(&self) -> Host {
        host(&self.bytes[48..self.store_at])
    }

    pub fn store_timestamp(&self) -> i64 {
        be_i64(self.bytes, self.store_at)
    }

    pub fn store_host(&self) -> Host {
        host(&self.bytes[self.store_at + 8..self.tail_at])
    }

    pub fn reconsume_times(&self) -> i32 {
        be_i32(self.bytes, self.tail_at)
    }

    pub fn prepared_offset(&self) -> i64 {
        be_i64(self.bytes, self.tail_at + 4)
    }

    /// The body as stored: compressed if [`sys_flag`](Self::sys_flag) says so.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    pub const fn topic(&self) -> &'a str {
        self.topic
    }

    /// The property string; [`crate::properties`] reads it.
    pub const fn properties(&self) -> &'a str {
        self.properties
    }

    pub fn property(&self, name: &str) -> Option<&'a str> {
        properties::get(self.properties, name)
    }

    /// The hash of the tags for the consume queue.
    pub fn tags_code(&self) -> i64 {
        self.property(properties::TAGS).map_or(0, super::tags_code)
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(taken)
}

/// Offsets below [`RECORD_MIN`] exist in every record that was checked; the host offsets were checked by `parse`.
fn be_i32(bytes: &[u8], at: usize) -> i32 {
    let mut array = [0; 4];
    array.copy_from_slice(&bytes[at..at + 4]);
    i32::from_be_bytes(array)
}

fn be_i64(bytes: &[u8], at: usize) -> i64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(array)
}

fn host(bytes: &[u8]) -> Host {
    Host::decode(bytes).unwrap_or(Host::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0))
}
