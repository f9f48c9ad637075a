//! The writer: strict JSON, members in the order given, absent ones left out.

use std::collections::BTreeMap;

use super::Json;
use crate::command::{escape_json, write_decimal};

/// The JSON text of a body.
pub fn to_vec(value: &impl ToJson) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(&mut out);
    out
}

/// A type that can be written into a body.
pub trait ToJson {
    fn write(&self, out: &mut Vec<u8>);

    /// Whether a member of this value is left out.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A type that can be the key of a map.
pub trait JsonKey: Sized {
    fn from_key(key: &str) -> Option<Self>;
    /// Writes the key; keys that are numbers are quoted.
    fn write_key(&self, out: &mut Vec<u8>);
}

/// Writes the members of an object.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Members<'a> {
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> Members<'a> {
        out.push(b'{');
        Members { out, first: true }
    }

    pub(crate) fn member(&mut self, name: &str, value: &impl ToJson) {
        if value.is_absent() {
            return;
        }
        self.comma();
        write_string(name, self.out);
        self.out.push(b':');
        value.write(self.out);
    }

    pub(crate) fn entry(&mut self, key: &impl JsonKey, value: &impl ToJson) {
        self.comma();
        key.write_key(self.out);
        self.out.push(b':');
        value.write(self.out);
    }

    pub(crate) fn end(self) {
        self.out.push(b'}');
    }

    fn comma(&mut self) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape_json(text, out);
    out.push(b'"');
}

impl ToJson for str {
    fn write(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }
}

impl ToJson for String {
    fn write(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }
}

impl ToJson for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl ToJson for i32 {
    fn write(&self, out: &mut Vec<u8>) {
        write_decimal(i64::from(*self), out);
    }
}

impl ToJson for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        write_decimal(*self, out);
    }
}

impl ToJson for f64 {
    fn write(&self, out: &mut Vec<u8>) {
        // JSON has no infinities; Java's reader would refuse them. Debug keeps the point, as Java's doubles have one.
        let value = if self.is_finite() { *self } else { 0.0 };
        out.extend_from_slice(format!("{value:?}").as_bytes());
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_slice().write(out);
    }
}

impl<T: ToJson> ToJson for [T] {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, item) in self.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            item.write(out);
        }
        out.push(b']');
    }
}

impl<K: JsonKey, T: ToJson> ToJson for BTreeMap<K, T> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut members = Members::begin(out);
        for (key, value) in self {
            members.entry(key, value);
        }
        members.end();
    }
}

impl ToJson for Json {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Json::Null => out.extend_from_slice(b"null"),
            Json::Bool(value) => value.write(out),
            Json::Int(value) => value.write(out),
            Json::Float(value) => value.write(out),
            Json::Str(text) => text.write(out),
            Json::Array(items) => items.write(out),
            Json::Object(members) => {
                let mut writer = Members::begin(out);
                for (key, value) in members {
                    writer.entry(key, value);
                }
                writer.end();
            }
        }
    }
}

impl JsonKey for String {
    fn from_key(key: &str) -> Option<String> {
        Some(key.to_owned())
    }

    fn write_key(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }
}

impl JsonKey for i32 {
    fn from_key(key: &str) -> Option<i32> {
        key.trim().parse().ok()
    }

    fn write_key(&self, out: &mut Vec<u8>) {
        i64::from(*self).write_key(out);
    }
}

impl JsonKey for i64 {
    fn from_key(key: &str) -> Option<i64> {
        key.trim().parse().ok()
    }

    fn write_key(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        write_decimal(*self, out);
        out.push(b'"');
    }
}
