//! Writing a record straight into its place: the length is known before, the body is copied once and summed on the way.

use super::{MAGIC_V1, MAGIC_V2, RECORD_MAX, RECORD_MIN, RecordError, TOPIC_MAX, TOPIC_V1_MAX};
use crate::command::Digits;
use crate::host::Host;
use crate::properties::{NAME_VALUE_SEPARATOR, PROPERTIES_MAX, PROPERTY_SEPARATOR, sys_flag};
use crate::value::Value;

/// A part of a record's properties.
#[derive(Clone, Copy, Debug)]
pub enum Property<'a> {
    /// A whole property string as a client sent it, its escapes undone on the way into the record.
    Encoded(Value<'a>),
    /// One pair. The broker writes only names and values without separators.
    Pair(&'a str, &'a str),
    /// One pair with a decimal value.
    Number(&'a str, i64),
}

/// A message about to become a record. All of it is borrowed, nothing is copied before [`encode_into`](Self::encode_into).
#[derive(Clone, Copy, Debug)]
pub struct RecordSpec<'a> {
    pub topic: &'a str,
    pub queue_id: i32,
    /// The application's flag.
    pub flag: i32,
    /// The bits for IPv6 hosts are set by the writer.
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: Host,
    pub store_host: Host,
    pub reconsume_times: i32,
    pub prepared_offset: i64,
    /// The body in order, in as many slices as it arrived in.
    pub body: &'a [&'a [u8]],
    /// The longest body that is taken.
    pub body_max: usize,
    pub properties: &'a [Property<'a>],
}

/// The lengths of a record that is about to be written.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    total: usize,
    body: usize,
    properties: usize,
}

impl RecordSpec<'_> {
    /// The exact length of the record, or why there cannot be one.
    pub fn encoded_len(&self) -> Result<usize, RecordError> {
        self.lengths().map(|lengths| lengths.total)
    }

    /// Writes the record to `out`, which has to have exactly [`encoded_len`](Self::encoded_len) bytes.
    pub fn encode_into(
        &self,
        out: &mut [u8],
        queue_offset: i64,
        position: i64,
        store_timestamp: i64,
    ) -> Result<(), RecordError> {
        let lengths = self.lengths()?;
        if out.len() != lengths.total {
            return Err(RecordError::Room { need: lengths.total, have: out.len() });
        }
        let mut cursor = Cursor { out, at: 0 };
        cursor.put(&(lengths.total as u32).to_be_bytes());
        cursor.put(&self.magic().to_be_bytes());
        let crc_at = cursor.skip(4);
        cursor.put(&self.queue_id.to_be_bytes());
        cursor.put(&self.flag.to_be_bytes());
        cursor.put(&queue_offset.to_be_bytes());
        cursor.put(&position.to_be_bytes());
        cursor.put(&self.stored_sys_flag().to_be_bytes());
        cursor.put(&self.born_timestamp.to_be_bytes());
        cursor.put_host(self.born_host);
        cursor.put(&store_timestamp.to_be_bytes());
        cursor.put_host(self.store_host);
        cursor.put(&self.reconsume_times.to_be_bytes());
        cursor.put(&self.prepared_offset.to_be_bytes());
        cursor.put(&(lengths.body as u32).to_be_bytes());
        let mut crc = crc32fast::Hasher::new();
        for part in self.body {
            cursor.put(part);
            crc.update(part);
        }
        let topic_len = self.topic.len() as u16;
        if self.topic.len() > TOPIC_V1_MAX {
            cursor.put(&topic_len.to_be_bytes());
        } else {
            cursor.put(&[topic_len as u8]);
        }
        cursor.put(self.topic.as_bytes());
        cursor.put(&(lengths.properties as u16).to_be_bytes());
        self.put_properties(&mut cursor);
        let written = cursor.at;
        assert_eq!(written, lengths.total, "a record of {} bytes was written as {written}", lengths.total);
        let crc = crc.finalize() & 0x7FFF_FFFF;
        out[crc_at..crc_at + 4].copy_from_slice(&crc.to_be_bytes());
        Ok(())
    }

    const fn magic(&self) -> u32 {
        if self.topic.len() > TOPIC_V1_MAX { MAGIC_V2 } else { MAGIC_V1 }
    }

    fn stored_sys_flag(&self) -> i32 {
        let born = if self.born_host.is_v6() { sys_flag::BORN_HOST_V6 } else { 0 };
        let store = if self.store_host.is_v6() { sys_flag::STORE_HOST_V6 } else { 0 };
        self.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6) | born | store
    }

    fn lengths(&self) -> Result<Lengths, RecordError> {
        let body = self.body.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if body > self.body_max {
            return Err(RecordError::BodyTooLarge { len: body, max: self.body_max });
        }
        if self.topic.len() > TOPIC_MAX {
            return Err(RecordError::TopicTooLong(self.topic.len()));
        }
        let properties = self.properties_len();
        if properties > PROPERTIES_MAX {
            return Err(RecordError::PropertiesTooLong(properties));
        }
        let hosts = self.born_host.encoded_len() + self.store_host.encoded_len() - 16;
        let topic = self.topic.len() + usize::from(self.topic.len() > TOPIC_V1_MAX);
        let total = (RECORD_MIN + hosts + topic + properties).saturating_add(body);
        if total > RECORD_MAX {
            return Err(RecordError::BodyTooLarge { len: body, max: RECORD_MAX - (total - body) });
        }
        Ok(Lengths { total, body, properties })
    }

    /// Bytes of the properties, which may be too many.
    pub fn properties_len(&self) -> usize {
        let mut len = 0;
        let mut closed = true;
        for part in self.properties {
            len += usize::from(!closed);
            match part {
                Property::Encoded(value) => {
                    len += value.len_unescaped();
                    closed = value.is_empty() || value.ends_with_control(PROPERTY_SEPARATOR);
                }
                Property::Pair(name, value) => {
                    len += name.len() + value.len() + 2;
                    closed = true;
                }
                Property::Number(name, value) => {
                    len += name.len() + Digits::new().format(*value).len() + 2;
                    closed = true;
                }
            }
        }
        len
    }

    fn put_properties(&self, cursor: &mut Cursor<'_>) {
        let mut closed = true;
        for part in self.properties {
            if !closed {
                cursor.put(&[PROPERTY_SEPARATOR]);
            }
            match part {
                Property::Encoded(value) => {
                    cursor.put_value(*value);
                    closed = value.is_empty() || value.ends_with_control(PROPERTY_SEPARATOR);
                }
                Property::Pair(name, value) => {
                    cursor.put_pair(name, value);
                    closed = true;
                }
                Property::Number(name, value) => {
                    cursor.put_pair(name, Digits::new().format(*value));
                    closed = true;
                }
            }
        }
    }
}

/// Fills a slice from the front. The lengths were computed before, so running over is a bug of this file.
struct Cursor<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn skip(&mut self, len: usize) -> usize {
        let at = self.at;
        self.at += len;
        at
    }

    fn put_host(&mut self, host: Host) {
        let len = host.encode_into(&mut self.out[self.at..]).unwrap_or_default();
        self.at += len;
    }

    /// A span laid over other bytes than it was scanned from may come out longer or shorter than announced: the rest is
    /// filled with separators, which readers pass over.
    fn put_value(&mut self, value: Value<'_>) {
        let end = self.at + value.len_unescaped();
        let written = value.unescape_into(&mut self.out[self.at..end]);
        self.out[self.at + written..end].fill(PROPERTY_SEPARATOR);
        self.at = end;
    }

    fn put_pair(&mut self, name: &str, value: &str) {
        self.put(name.as_bytes());
        self.put(&[NAME_VALUE_SEPARATOR]);
        self.put(value.as_bytes());
        self.put(&[PROPERTY_SEPARATOR]);
    }
}

/// Writes the queue offset into an encoded record.
pub fn set_queue_offset(record: &mut [u8], queue_offset: i64) -> Result<(), RecordError> {
    patch(record, 20, queue_offset)
}

/// Writes the position into an encoded record.
pub fn set_position(record: &mut [u8], position: i64) -> Result<(), RecordError> {
    patch(record, 28, position)
}

/// Writes the store timestamp into an encoded record; where it lies depends on the born host.
pub fn set_store_timestamp(record: &mut [u8], store_timestamp: i64) -> Result<(), RecordError> {
    // The low byte of the sysFlag, which holds the bit of the born host.
    let flags = record.get(39).copied().ok_or(RecordError::Short { need: RECORD_MIN, have: record.len() })?;
    let at = if i32::from(flags) & sys_flag::BORN_HOST_V6 != 0 { 68 } else { 56 };
    patch(record, at, store_timestamp)
}

fn patch(record: &mut [u8], at: usize, value: i64) -> Result<(), RecordError> {
    let have = record.len();
    let place = record.get_mut(at..at + 8).ok_or(RecordError::Short { need: RECORD_MIN, have })?;
    place.copy_from_slice(&value.to_be_bytes());
    Ok(())
}
