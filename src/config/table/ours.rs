//! Keys that RocketMQ does not have.

use super::super::key::{Class::Honoured, Key, Kind::*};
use super::{GIB, MIB, keys};

keys! {
    /// Keys of ours: what takes the place of thread pools, heap and page cache.
    OURS;
    "shards" Int { min: 1, max: 128 }, "<one for each usable core>", Honoured, "Log shards of a new store; a store keeps the number that it was created with.";
    "cpus" Cpus, "<all usable cores>", Honoured, "Cores that shards are pinned to, as a list of numbers and ranges: 0-3,8.";
    "commitMethod" Choice(&["auto", "thread", "ringDsync", "ringWriteThenSync"]), "auto", Honoured, "How a batch is made durable under SYNC_FLUSH: auto takes what `ringmq iotune` wrote into the store, or else what the disk's cache suggests; thread is a blocking durable write beside the shard, ringDsync one durable write of io_uring, ringWriteThenSync a write and then a flush of io_uring.";
    "bufferMemory" Size { min: 16 * MIB, max: 1024 * GIB }, "<a share of the host's memory>", Honoured, "Memory for log buffers of all shards together, in bytes.";
}
