//! The stored record: what the log holds and what a pull sends are the same bytes.
//!
//! [`Record`] is a checked view of one, [`RecordSpec`] writes one straight into the log's buffer, and the setters fill in
//! what is known only when it is appended. Nothing here knows files or queues.

mod read;
mod write;

use thiserror::Error;

pub use self::read::{Peek, Record, peek, properties_of};
pub use self::write::{Property, RecordSpec, set_position, set_queue_offset, set_store_timestamp};

/// The magic of a record whose topic length takes one byte.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// The magic of a record whose topic length takes two bytes.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// The magic of a filler, which a reader of a log passes over.
pub const MAGIC_FILLER: u32 = 0xCBD4_3194;
/// The shortest filler: its length and its magic.
pub const FILLER_MIN: usize = 8;
/// The shortest record: version 1, IPv4 hosts, everything else empty.
pub const RECORD_MIN: usize = 91;
/// The longest body by default (`maxMessageSize`), for clients and brokers.
pub const BODY_MAX_DEFAULT: usize = 4 * 1024 * 1024;
/// The longest record: what a frame can carry.
pub const RECORD_MAX: usize = crate::frame::FRAME_MAX;
/// The longest topic a version 1 record can hold (its length byte is signed).
pub const TOPIC_V1_MAX: usize = 127;
/// The longest topic at all; only retry and dead-letter topics get there.
pub const TOPIC_MAX: usize = 255;

/// Why bytes are not a record, or a message cannot become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The bytes end before the record does.
    #[error("a record of {need} bytes is cut at {have}")]
    Short { need: usize, have: usize },
    /// The bytes are a filler of this length, to be passed over.
    #[error("a filler of {0} bytes")]
    Filler(usize),
    #[error("{0:#010x} is no record magic")]
    Magic(u32),
    /// A length inside the record contradicts the record's own.
    #[error("a record of {total} bytes has a bad {field}")]
    Length { total: usize, field: &'static str },
    #[error("the {0} of a record is not UTF-8")]
    Utf8(&'static str),
    #[error("the body of a record does not match its checksum")]
    BodyCrc,
    #[error("a body of {len} bytes is longer than {max}")]
    BodyTooLarge { len: usize, max: usize },
    #[error("properties of {0} bytes are longer than {max}", max = crate::properties::PROPERTIES_MAX)]
    PropertiesTooLong(usize),
    #[error("a topic of {0} bytes is longer than {TOPIC_MAX}")]
    TopicTooLong(usize),
    /// The buffer for an encoded record has not the length that was announced.
    #[error("a record of {need} bytes does not fit {have}")]
    Room { need: usize, have: usize },
}

/// The tag hash of the consume queue: Java's `String.hashCode` with its sign, 0 for no tags.
pub fn tags_code(tags: &str) -> i64 {
    i64::from(java_hash(tags))
}

/// Java's `String.hashCode`: over UTF-16 units, wrapping.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests;
