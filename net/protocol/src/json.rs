//! The fastjson dialect of bodies: a lenient reader into a tree, and a writer of strict JSON.
//!
//! The reader takes what RocketMQ clients of all languages send: unquoted keys, objects as keys, single quotes, numbers
//! in strings, trailing commas. The writer emits JSON proper, with one exception that Java clients insist on: maps keyed
//! by a MessageQueue have their keys as inline objects. Depth, nodes and memory are bounded. Types are in [`crate::body`].

mod read;
mod write;

use thiserror::Error;

pub use self::read::parse;
pub(crate) use self::write::Members;
pub use self::write::{JsonKey, ToJson, to_vec};

/// How deep arrays and objects may nest.
pub const DEPTH_MAX: usize = 64;
/// How many values a text may hold; a topic table of a hundred thousand topics has a million.
pub const NODES_MAX: usize = 2_000_000;

/// Why a body is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JsonError {
    #[error("the body is not UTF-8")]
    Utf8,
    #[error("the body is malformed at byte {0}")]
    Malformed(usize),
    #[error("the body nests deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("the body holds more than {NODES_MAX} values")]
    TooMany,
    /// The member has another type than it should.
    #[error("the body's {0} has the wrong type")]
    Type(&'static str),
    #[error("the body lacks {0}")]
    Missing(&'static str),
}

/// A value of a body. Members that are null are left out, as fastjson makes no difference between null and absent.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Array(Vec<Json>),
    /// In the order of the text. A key that is an object or array stands as its text.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// A member of an object; of members with the same name the last counts.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// A type that can be read from a body, with fastjson's leniency.
pub trait FromJson: Sized {
    /// Reads the value; `name` is what an error calls it.
    fn from_json(json: &Json, name: &'static str) -> Result<Self, JsonError>;
}

impl FromJson for Json {
    fn from_json(json: &Json, _: &'static str) -> Result<Json, JsonError> {
        Ok(json.clone())
    }
}

impl FromJson for bool {
    fn from_json(json: &Json, name: &'static str) -> Result<bool, JsonError> {
        match json {
            Json::Bool(value) => Ok(*value),
            Json::Int(value) => Ok(*value != 0),
            Json::Str(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Json::Str(text) if text.eq_ignore_ascii_case("false") || text.is_empty() => Ok(false),
            _ => Err(JsonError::Type(name)),
        }
    }
}

impl FromJson for i64 {
    fn from_json(json: &Json, name: &'static str) -> Result<i64, JsonError> {
        match json {
            Json::Int(value) => Ok(*value),
            Json::Float(value) => Ok(*value as i64),
            Json::Bool(value) => Ok(i64::from(*value)),
            Json::Str(text) if text.is_empty() => Ok(0),
            Json::Str(text) => text.trim().parse().map_err(|_| JsonError::Type(name)),
            _ => Err(JsonError::Type(name)),
        }
    }
}

impl FromJson for i32 {
    fn from_json(json: &Json, name: &'static str) -> Result<i32, JsonError> {
        i32::try_from(i64::from_json(json, name)?).map_err(|_| JsonError::Type(name))
    }
}

impl FromJson for f64 {
    fn from_json(json: &Json, name: &'static str) -> Result<f64, JsonError> {
        match json {
            Json::Int(value) => Ok(*value as f64),
            Json::Float(value) => Ok(*value),
            Json::Str(text) => text.trim().parse().map_err(|_| JsonError::Type(name)),
            _ => Err(JsonError::Type(name)),
        }
    }
}

impl FromJson for String {
    fn from_json(json: &Json, name: &'static str) -> Result<String, JsonError> {
        match json {
            Json::Str(text) => Ok(text.clone()),
            Json::Int(value) => Ok(value.to_string()),
            Json::Float(value) => Ok(value.to_string()),
            Json::Bool(value) => Ok(value.to_string()),
            _ => Err(JsonError::Type(name)),
        }
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(json: &Json, name: &'static str) -> Result<Option<T>, JsonError> {
        match json {
            Json::Null => Ok(None),
            value => T::from_json(value, name).map(Some),
        }
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(json: &Json, name: &'static str) -> Result<Vec<T>, JsonError> {
        match json {
            Json::Array(items) => items.iter().map(|item| T::from_json(item, name)).collect(),
            Json::Null => Ok(Vec::new()),
            _ => Err(JsonError::Type(name)),
        }
    }
}

impl<K: JsonKey + Ord, T: FromJson> FromJson for std::collections::BTreeMap<K, T> {
    fn from_json(json: &Json, name: &'static str) -> Result<Self, JsonError> {
        let members = match json {
            Json::Object(members) => members,
            Json::Null => return Ok(Self::new()),
            _ => return Err(JsonError::Type(name)),
        };
        let entry = |(key, value): &(String, Json)| {
            Ok((K::from_key(key).ok_or(JsonError::Type(name))?, T::from_json(value, name)?))
        };
        members.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests;
