//! What RocketMQ means: send, pull, groups, offsets, topics.
//!
//! The map of the control state, which the control shard owns and which is pure (no sockets, files or clocks):
//! [`topic`], [`group_config`], [`member`], [`lock`] and [`offset`] are its tables, [`control`] puts them together,
//! [`subscription`] is what pulls read of the members, [`table`] the files' start-up rule, [`register`] the announcement
//! to name servers. [`limits`] holds every bound, [`refusal`] every way to say no.

pub mod attribute;
pub mod control;
pub mod group_config;
pub mod limits;
pub mod lock;
pub mod member;
pub mod offset;
pub mod refusal;
pub mod register;
pub mod subscription;
pub mod system_topic;
pub mod table;
pub mod topic;
