//! One shard's storage: commit log, group commit, queue index, recovery.
//!
//! # The map
//!
//! [`store`] is the directory that all shards share, [`Shard`] the door to one of them. Behind the door: `state` (what is
//! known, and the synchronous steps), `log` (which bytes come where), `seal` (how a batch is closed), `flush` (group
//! commit), `prepare` and `segment` (files, and zeros ahead of the writer), `queue`, `index_log` and `index_io` (queue
//! offset → position), `runs`, `indexes` and `keys` (key or due time → position), `read`, `near`, `ahead`, `select` and `cold` (the way back out), `checkpoint` and
//! `recover` (stopping and starting; `codec` frames their files), `retain` and `start` (dropping the oldest segments, and where the log
//! starts then), [`counters`] (how much of it).
//!
//! # What always holds
//!
//! 1. A stored record is byte for byte what a client decodes; nothing is re-encoded, and a body is copied once.
//! 2. flushed <= written <= appended, and readers see only what is confirmed: written under ASYNC_FLUSH, flushed under
//!    SYNC_FLUSH.
//! 3. A batch lies in one segment and ends with a seal that fills its last block. A block that holds a confirmed byte is
//!    never written again.
//! 4. One write is in flight per shard; a write or flush that failed is never tried again, the shard is out of service.
//! 5. Everything but the log is derived from it and can be rebuilt by position.
//! 6. Recovery cuts only what was never confirmed under SYNC_FLUSH; damage to flushed data is refused, with its place.
//! 7. The log's start is durable before anything in front of it goes. What is in front of it is a leftover, what is missing
//!    behind it is damage. A queue whose messages have all gone keeps its next offset.
//! 8. A segment's file may have been another segment: what lies behind the end of the log means nothing by itself.
//! 9. Nothing grows without a bound that stands in [`limits`].
//!
//! Everything of a shard belongs to the thread that opened it. Nothing here names an executor, a clock or a system call:
//! those come from `ringmq_rt`, so the same code runs in the simulated world.

mod ahead;
mod cache;
mod checkpoint;
mod codec;
mod cold;
pub mod counters;
mod dir;
pub mod error;
mod flush;
mod index_io;
mod index_log;
mod indexes;
mod keys;
pub mod limits;
mod log;
mod near;
pub mod options;
pub mod position;
mod prepare;
mod queue;
mod read;
mod record;
mod recover;
mod retain;
mod runs;
mod seal;
mod segment;
mod select;
mod shard;
mod start;
mod state;
pub mod store;
pub mod table;
pub mod watermark;

pub use counters::{Counters, Sizes, Tally};
pub use error::{AppendError, OpenError, Poisoned, ReadError};
pub use keys::{Found, KeyKind, KeyQuery, Keys};
pub use options::{FlushPolicy, ShardOptions};
pub use position::{Epoch, Position, QueueId, QueueOffset, ShardId};
pub use read::{ReadBatch, ReadPlan, ReadRequest, ReadStatus};
pub use retain::SegmentInfo;
pub use runs::RunStats;
pub use select::Select;
pub use shard::{Recovery, Shard, ShardStats, Timed};
pub use state::{Draft, Ticket};
pub use store::{Store, StoreMeta, StoreOptions};
pub use watermark::{Appended, Confirmed, Flushed, Watermarks, Written};
