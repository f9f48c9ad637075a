//! What RocketMQ means: send, pull, groups, offsets, topics.
//!
//! The map of the control state, which the control shard owns and which is pure (no sockets, files or clocks):
//! [`topic`], [`group_config`], [`member`], [`lock`] and [`offset`] are its tables, [`control`] puts them together,
//! [`subscription`] is what pulls read of the members, [`table`] the files' start-up rule, [`register`] the announcement
//! to name servers. [`limits`] holds every bound, [`refusal`] every way to say no.

//!
//! The map of the runtime around it: [`dispatch`] is the table of contents, [`send`], [`pull`], [`query`] and [`find`] serve
//! the data plane on every executor, [`filter`] is what a pull wants of a queue, [`detour`] says where a message is kept that is not
//! to be seen yet, [`delay`] and [`timer`] deliver what is due, from where [`progress`] says ([`own_group`] names whose it is), [`transaction`] ends and checks halves, [`retry`] takes messages back,
//! [`put`] stores the broker's own [`message`]s, [`log`] keeps who waits on a log shard, [`deferred`] the pulls of slow
//! readers, [`underway`] admits the requests that nothing else bounds, [`retention`] drops what is old, [`moved`] tells of readers that come too late, [`reset`] the offsets that groups have not heard of yet, [`client_call`] asks clients, [`requests`] serves the
//! control plane, [`look`] looks at many queues for it, [`control_shard`] carries out what the tables decide, [`stats`] and
//! [`traffic`] count and [`runtime_info`] tells, [`announce`] talks to name servers, [`mail`] is all that shards say to each
//! other, [`node`] is one executor's part, and [`start`] boots and stops it all.

pub mod announce;
pub mod aside;
pub mod attribute;
pub mod client_call;
pub mod control;
pub mod control_shard;
pub mod deferred;
pub mod delay;
pub mod detour;
pub mod dispatch;
pub mod filter;
pub mod find;
pub mod group_config;
pub mod limits;
pub mod lock;
pub mod log;
pub mod look;
pub mod mail;
pub mod member;
pub mod message;
pub mod moved;
pub mod node;
pub mod offset;
pub mod own_group;
pub mod progress;
pub mod pull;
pub mod put;
pub mod query;
pub mod refusal;
pub mod register;
pub mod requests;
pub mod reset;
pub mod retention;
pub mod retry;
pub mod runtime_info;
pub mod send;
pub mod settings;
pub mod start;
pub mod stats;
pub mod subscription;
pub mod system_topic;
pub mod table;
pub mod timer;
pub mod topic;
pub mod traffic;
pub mod transaction;
pub mod underway;
pub mod walk;
