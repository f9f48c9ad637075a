//! The name server: which broker serves which topic.
//!
//! The map: [`route`] is the table of brokers and topics, [`kv`] the KV configuration, [`handler`] answers request
//! codes from both. All three are pure: they take the time and the peer as arguments, open no file and no socket, and
//! wait for nothing. [`serve`] is the shell around them: it listens, hands requests over, writes the KV configuration
//! when it changed, and asks from time to time which brokers fell silent.
//!
//! Name servers do not know each other: brokers register with each of them.

#![forbid(unsafe_code)]

pub mod handler;
pub mod kv;
pub mod limits;
pub mod route;
pub mod serve;

mod answer;
