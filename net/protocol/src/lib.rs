//! The RocketMQ remoting protocol and stored record: bytes to meaning and back.
//!
//! The map: [`frame`] cuts a stream into frames, [`command`] reads and writes their headers, [`code`] names the codes,
//! [`header`] types the ext fields and [`body`] the JSON bodies (through [`json`]). [`message`] is the stored record,
//! [`batch`] the body of a batch send, [`properties`] the property string and the flag bits, [`host`] and [`id`]
//! addresses and message ids, [`value`] header text whose escapes are not yet undone, [`names`] the rules for topic and group names, [`filter`] the tag expression,
//! [`sql`] filters over properties and [`compress`] the body codecs.
//!
//! Deliberately absent: sockets, files, clocks, threads and any runtime. What needs the time or an address takes it as
//! an argument. Every length is checked before it is believed, and nothing a peer can send makes this crate panic.

#![forbid(unsafe_code)]

pub mod batch;
pub mod body;
pub mod code;
pub mod command;
pub mod compress;
pub mod filter;
pub mod frame;
pub mod header;
pub mod host;
pub mod id;
pub mod json;
pub mod message;
pub mod names;
pub mod properties;
pub mod sql;
pub mod value;

mod scan;
