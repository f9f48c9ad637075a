//! Typed headers: the ext fields of each request and response, from one declarative table.
//!
//! Each field has its wire name, its short name where the V2 send header has one, and whether the request fails without
//! it. Send and pull headers also come as [`SendHeader`] and [`PullHeader`], which hold places instead of strings, so
//! that the hot path allocates nothing. What a field means is the broker's or name server's business.
//!
//! Rules common to all: unknown fields are ignored; a value that does not parse counts as absent; a missing required
//! field is an error, unless the command has no ext fields at all, which leaves every field at its default.

mod table;

pub use self::table::*;
use crate::command::{ExtSink, HeaderError};
use crate::value::{Span, Value};

/// Which names a send header's fields have on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Long names: code 10, and every header but the V2 send.
    V1,
    /// One-letter names: codes 310, 320 and 325.
    V2,
}

/// A type that an ext field can have.
trait Field: Sized + Default {
    /// The value, or `None` when it does not parse.
    fn read(value: Value<'_>, span: Span) -> Option<Self>;
}

/// A type that can be written as an ext field.
trait WriteField {
    fn write(&self, key: &str, sink: &mut impl ExtSink);
}

impl Field for Span {
    fn read(_: Value<'_>, span: Span) -> Option<Span> {
        Some(span)
    }
}

impl Field for String {
    fn read(value: Value<'_>, _: Span) -> Option<String> {
        Some(value.to_string())
    }
}

impl WriteField for String {
    fn write(&self, key: &str, sink: &mut impl ExtSink) {
        sink.str(key, self);
    }
}

impl Field for i32 {
    fn read(value: Value<'_>, _: Span) -> Option<i32> {
        value.parse_i32()
    }
}

impl WriteField for i32 {
    fn write(&self, key: &str, sink: &mut impl ExtSink) {
        sink.i64(key, i64::from(*self));
    }
}

impl Field for i64 {
    fn read(value: Value<'_>, _: Span) -> Option<i64> {
        value.parse_i64()
    }
}

impl WriteField for i64 {
    fn write(&self, key: &str, sink: &mut impl ExtSink) {
        sink.i64(key, *self);
    }
}

impl Field for bool {
    fn read(value: Value<'_>, _: Span) -> Option<bool> {
        Some(value.parse_bool())
    }
}

impl WriteField for bool {
    fn write(&self, key: &str, sink: &mut impl ExtSink) {
        sink.bool(key, *self);
    }
}

impl<T: WriteField> WriteField for Option<T> {
    fn write(&self, key: &str, sink: &mut impl ExtSink) {
        if let Some(value) = self {
            value.write(key, sink);
        }
    }
}

/// The end of reading a required field.
fn required<T: Default>(read: Option<T>, ext_present: bool, name: &'static str) -> Result<T, HeaderError> {
    match read {
        Some(value) => Ok(value),
        None if ext_present => Err(HeaderError::MissingField(name)),
        None => Ok(T::default()),
    }
}

#[cfg(test)]
mod tests;
