//! The few fields of a stored record that queues are built from, read without judging the rest: a record whose batch is
//! verified must be indexed even if a client put odd bytes into it. The full view is `ringmq_protocol::message::Record`.

use ringmq_protocol::message::{MAGIC_V1, MAGIC_V2, RECORD_MIN, tags_code};
use ringmq_protocol::properties::{self, NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR, sys_flag};

use crate::keys::Keys;

pub(crate) fn is_record_magic(magic: u32) -> bool {
    magic == MAGIC_V1 || magic == MAGIC_V2
}

/// Bytes from a record's start that surely hold its store time, whichever addresses it holds.
pub(crate) const HEAD_BYTES: usize = 76;

/// What is read of one record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) topic: &'a str,
    pub(crate) queue_id: i32,
    pub(crate) queue_offset: i64,
    pub(crate) position: i64,
    sys_flag: i32,
    properties: &'a [u8],
}

impl<'a> Head<'a> {
    /// The record that is exactly `bytes`; `None` when its lengths contradict each other or its topic is no text.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < RECORD_MIN || !is_record_magic(be_u32(bytes, 4)?) {
            return None;
        }
        let flags = be_u32(bytes, 36)?.cast_signed();
        let mut at = store_time_at(flags) + if flags & sys_flag::STORE_HOST_V6 != 0 { 28 } else { 16 } + 12;
        let body = usize::try_from(be_u32(bytes, at)?).ok()?;
        at = at.checked_add(4)?.checked_add(body)?;
        let topic_len = if be_u32(bytes, 4)? == MAGIC_V2 {
            let len = bytes.get(at..at.checked_add(2)?)?;
            at += 2;
            usize::from(len[0]) << 8 | usize::from(len[1])
        } else {
            let len = *bytes.get(at)?;
            at += 1;
            usize::from(len)
        };
        let topic = std::str::from_utf8(bytes.get(at..at + topic_len)?).ok()?;
        let properties = bytes.get(at + topic_len + 2..)?;
        Some(Self {
            topic,
            queue_id: be_u32(bytes, 12)?.cast_signed(),
            queue_offset: be_i64(bytes, 20)?,
            position: be_i64(bytes, 28)?,
            sys_flag: flags,
            properties,
        })
    }

    /// Whether consumers get it: prepared and rolled-back transaction records have no place in a queue.
    pub(crate) fn is_consumable(&self) -> bool {
        sys_flag::is_consumable(self.sys_flag)
    }

    /// What the record can be found by.
    pub(crate) fn keys(&self) -> Keys<'a> {
        std::str::from_utf8(self.properties).map_or(Keys::default(), Keys::of)
    }

    /// When a record of the timer topic is due, in milliseconds since 1970.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let properties = std::str::from_utf8(self.properties).ok()?;
        properties::get(properties, properties::TIMER_OUT_MS)?.parse().ok()
    }

    /// The hash of the tags, zero without tags.
    pub(crate) fn tags_code(&self) -> i64 {
        self.properties
            .split(|&b| b == PROPERTY_SEPARATOR)
            .find_map(|pair| {
                let value = pair.strip_prefix(properties::TAGS.as_bytes())?.strip_prefix(&[NAME_VALUE_SEPARATOR])?;
                Some(tags_code(&String::from_utf8_lossy(value)))
            })
            .unwrap_or(0)
    }
}

/// The store time of the record that `bytes` begin with.
pub(crate) fn store_time(bytes: &[u8]) -> Option<i64> {
    be_i64(bytes, store_time_at(be_u32(bytes, 36)?.cast_signed()))
}

/// The queue offset and the position that the record itself claims.
pub(crate) fn place(bytes: &[u8]) -> Option<(i64, i64)> {
    is_record_magic(be_u32(bytes, 4)?).then_some(())?;
    Some((be_i64(bytes, 20)?, be_i64(bytes, 28)?))
}

/// The length that the record claims.
pub(crate) fn total_len(bytes: &[u8]) -> Option<u64> {
    be_u32(bytes, 0).map(u64::from)
}

fn store_time_at(flags: i32) -> usize {
    if flags & sys_flag::BORN_HOST_V6 != 0 { 68 } else { 56 }
}

fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

fn be_i64(bytes: &[u8], at: usize) -> Option<i64> {
    bytes.get(at..)?.first_chunk().map(|b| i64::from_be_bytes(*b))
}
