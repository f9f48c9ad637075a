//! The header of a frame: code, flag, opaque, version, language, remark and the ext fields.
//!
//! [`HeaderView`] borrows a received header of either codec; [`Command`] owns one; [`ExtWriter`] writes one straight
//! into an output buffer. Bodies are not here, and what ext fields mean is [`crate::header`]'s business.

mod view;
mod write;

use thiserror::Error;

pub use self::view::{EXT_FIELDS_MAX, HeaderView};
pub(crate) use self::write::{Digits, write_decimal};
pub use self::write::{ExtSink, ExtWriter, Head, ReplyHead, escape_json};
use crate::code::{Language, version};
use crate::frame::{FrameError, Serialize, begin_frame, finish_frame};

/// Bit 0 of a command's flag: it is a response.
pub const FLAG_RESPONSE: i32 = 1;
/// Bit 1 of a command's flag: the requester wants no answer, not even an error.
pub const FLAG_ONEWAY: i32 = 2;

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// The bytes are not UTF-8 where text belongs.
    #[error("the header is not UTF-8")]
    Utf8,
    /// The JSON text is broken at this byte.
    #[error("the header is malformed at byte {0}")]
    Malformed(usize),
    /// A member of the header itself is missing, or is not the number it has to be.
    #[error("the header has no valid {0}")]
    Member(&'static str),
    /// A length in a binary header points outside of it.
    #[error("the header is cut short")]
    Truncated,
    /// More ext fields than any client sends.
    #[error("the header has more than {EXT_FIELDS_MAX} ext fields")]
    TooManyExtFields,
    /// A field that the request cannot do without is absent or unreadable. The text is RocketMQ's.
    #[error("the custom field <{0}> is null")]
    MissingField(&'static str),
    /// A string is too long for the binary codec, or a code does not fit its 16 bits.
    #[error("the header does not fit the binary codec: {0}")]
    Unencodable(&'static str),
}

/// A command that owns its parts: what clients and tests handle, and what leaves the hot path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub code: i32,
    pub flag: i32,
    pub opaque: i32,
    pub version: i32,
    pub language: Language,
    pub remark: Option<String>,
    /// In the order written; of fields with the same name the last counts.
    pub ext: Vec<(String, String)>,
}

impl Command {
    /// A request of this implementation's language and version, without ext fields.
    pub fn request(code: i32, opaque: i32) -> Command {
        Command {
            code,
            flag: 0,
            opaque,
            version: version::CURRENT,
            language: Language::JAVA,
            remark: None,
            ext: Vec::new(),
        }
    }

    pub const fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    pub const fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// The value of an ext field.
    pub fn ext(&self, key: &str) -> Option<&str> {
        self.ext.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Reads a header.
    pub fn decode(serialize: Serialize, header: &[u8]) -> Result<Command, HeaderError> {
        HeaderView::parse(serialize, header).map(|view| view.to_command())
    }

    /// Appends the header in that codec, without the frame around it. On an error `out` is as before.
    pub fn encode(&self, serialize: Serialize, out: &mut Vec<u8>) -> Result<(), HeaderError> {
        match serialize {
            Serialize::Json => {
                let mut writer = self.head().begin_header(out);
                for (key, value) in &self.ext {
                    writer.str(key, value);
                }
                writer.end_header();
                Ok(())
            }
            Serialize::RocketMq => write::encode_binary(self, out),
        }
    }

    /// Appends a whole frame: header, then `body`. On an error `out` is as before.
    pub fn encode_frame(&self, serialize: Serialize, body: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mark = begin_frame(out);
        if let Err(error) = self.encode(serialize, out) {
            out.truncate(mark.start());
            return Err(error.into());
        }
        let header_end = out.len();
        out.extend_from_slice(body);
        finish_frame(out, mark, header_end, serialize, 0)?;
        Ok(())
    }

    fn head(&self) -> Head<'_> {
        Head {
            code: self.code,
            flag: self.flag,
            opaque: self.opaque,
            version: self.version,
            language: self.language,
            remark: self.remark.as_deref(),
        }
    }
}

/// Why a command cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

#[cfg(test)]
mod tests;
