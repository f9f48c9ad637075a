//! The one table of keys: every key of RocketMQ 4.9 and 5.x that a broker's or name server's file may hold, the
//! keys that only tutorials hold, and ours. A key is added here and nowhere else.
//!
//! Rows read `"name" kind, default, class, "meaning";`, with `=> durable` where a misread value loses messages.
//! Ranges and defaults are RocketMQ's unless the meaning says otherwise.

mod alias;
mod broker;
mod namesrv;
mod net;
mod ours;
mod pop;
mod store;
mod store_ignored;

pub(super) use alias::ALIASES;
pub(super) use broker::BROKER;
pub(super) use namesrv::NAMESRV;
pub(super) use net::NET;
pub(super) use ours::OURS;
pub(super) use pop::POP;
pub(super) use store::STORE;
pub(super) use store_ignored::STORE_IGNORED;

use super::key::Kind;

/// A whole number of a key that is not in force, so that no range is held against it.
const INT: Kind = Kind::Int { min: i64::MIN, max: i64::MAX };

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const GIB: i64 = 1024 * MIB;

/// What fits into one frame of 16 MiB beside its header.
const FRAME_BODY_MAX: i64 = 16 * MIB - 64 * KIB;

/// Why a key that sizes a thread pool, or the queue before it, has nothing to act on.
const POOLS: &str = "there are no thread pools: each core runs one shard, and `shards` says how many";
/// Why a key about mapped memory, locks or the writers of files has nothing to act on.
const MMAP: &str = "the log is written by direct I/O from its own buffers, by one writer a shard";
const QUEUE_INDEX: &str = "the queue index is built by the shard that appends, in the same turn";
const KEY_INDEX: &str = "the key index is sorted runs that grow with the log, and is always safe";
const ROCKSDB: &str = "there is one queue index, and it is not RocksDB";
const NETTY: &str = "sockets are served by io_uring on the shard's core, not by Netty";
const REMOVED: &str = "RocketMQ removed it";
const NEVER: &str = "no version of RocketMQ reads it: the path derives from storePathRootDir";
const BITMAP: &str = "a filter is asked when a message is pulled, and no bitmap is kept";
const OLD_LOGS: &str = "what is logged is chosen by the log filter";

const REPLICATION: &str = "replication";
const FAILOVER: &str = "automatic fail-over";
const DELAY: &str = "delayed messages";
const POP_MODE: &str = "pop consumption";
const METRICS: &str = "metrics";
const ACL: &str = "access control";
const ADMISSION: &str = "admission by time waited";
const COLD: &str = "flow control of cold reads";
const COMPACTION: &str = "compacted topics";
const STATS: &str = "statistics";
const LMQ: &str = "light message queues";
const DISCOVERY: &str = "looking name servers up by DNS or by an address server";

macro_rules! keys {
    ($(#[$doc:meta])* $table:ident; $($name:literal $kind:expr, $default:literal, $class:expr, $meaning:literal $(=> $mark:ident)?;)*) => {
        $(#[$doc])*
        pub(in crate::config) const $table: &[Key] =
            &[$(Key::new($name, $kind, $default, $class, $meaning)$(.$mark())?),*];
    };
}
use keys;
