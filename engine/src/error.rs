//! What can go wrong, as types. A *refusal* is an answer for the sender and leaves the shard as it was; a *fault* ends
//! the shard's service: nothing is retried on a device that once said no.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ringmq_rt::buf::OutOfMemory;

use crate::codec::BadFile;
use crate::options::OptionError;
use crate::position::{Position, QueueOffset, ShardId};

/// The shard is out of service for good: a write or a flush failed. Nobody knows what the device holds behind
/// `position`, so nothing is retried; a restart recovers what is really there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the shard is out of service since {what} failed at position {position}: {error}")]
pub struct Poisoned {
    /// What was tried.
    pub what: &'static str,
    /// Everything in front of it is safe.
    pub position: Position,
    /// What the operating system said.
    pub error: Arc<io::Error>,
}

/// Why a message was not appended. Nothing of it is in the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The record, or the batch of records, is larger than the log takes.
    #[error("a record of {len} bytes is larger than the {max} that are allowed")]
    TooLarge { len: u64, max: u64 },
    /// The disk does not keep up; try again when the watermarks moved.
    #[error("{unwritten} bytes wait for the disk")]
    Busy { unwritten: u64 },
    /// The disk is full; the shard takes messages again by itself once there is room.
    #[error("the disk is full: {used_percent}% used")]
    DiskFull { used_percent: u8 },
    /// A batch without records.
    #[error("nothing to append")]
    Empty,
    /// The record cannot be encoded.
    #[error("the record cannot be stored: {0}")]
    Record(#[from] ringmq_protocol::message::RecordError),
    /// No memory for a log buffer.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The shard is being closed.
    #[error("the shard is closing")]
    Closed,
    /// The shard is out of service.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

impl AppendError {
    /// Whether this message is never taken, however often it is tried.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Record(_) | Self::Empty)
    }
}

/// Why a read gave nothing. That there is no such message is not among these: see [`crate::ReadStatus`].
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The device refused to read.
    #[error("cannot read {path} at {at}: {error}")]
    Io { path: PathBuf, at: u64, error: io::Error },
    /// What is on disk is not what was written.
    #[error("damaged: expected {expected} at position {position}")]
    Damaged { position: Position, expected: &'static str },
    /// The messages were dropped while they were looked for; the log starts at `position` now.
    #[error("dropped: the log starts at position {position} now")]
    Gone { position: Position },
    /// A block of the queue index is not what was written. The next start rebuilds the index from the log.
    #[error("block {block} of the queue index of shard {shard} is damaged")]
    IndexDamaged { shard: ShardId, block: u32 },
    /// A block of a sorted run is not what was written. The next start builds what is missing again from the log.
    #[error("damaged: {path} at {at}: expected a block of this run; the next start builds it again from the log")]
    RunDamaged { path: PathBuf, at: u64 },
    /// No memory to read into.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// Why a store or a shard does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot {what} {path}: {error}")]
    Io { what: &'static str, path: PathBuf, error: io::Error },
    /// Another process has the store open.
    #[error("{path} is in use by another process ({holder})")]
    Locked { path: PathBuf, holder: String },
    /// The store has another number of shards than asked for.
    #[error("the store has {stored} shards, fixed when it was created; {asked} were asked for")]
    ShardCount { stored: u8, asked: u8 },
    /// A number of shards that no store can have.
    #[error("{0} shards: a store has 1 to 128")]
    BadShardCount(u8),
    /// A store of a later version, or not a store.
    #[error("{path} has format version {found}; this program knows {known}")]
    Version { path: PathBuf, found: u32, known: u32 },
    /// A small file is unreadable, and so is its copy.
    #[error("{path} and its .bak cannot be understood: {error}")]
    Table { path: PathBuf, error: serde_json::Error },
    /// There are logs but no description of the store.
    #[error("{path} holds logs but its store.json is missing; restore that file or move the logs away")]
    NoMeta { path: PathBuf },
    /// Flushed bytes are not what was written: nothing is cut, a person or a replica has to decide.
    #[error(
        "damaged: {path} at {at} (position {position}): expected {expected}; the log is known to be flushed up to {flushed}"
    )]
    Damaged { path: PathBuf, at: u64, position: Position, expected: &'static str, flushed: u64 },
    /// The note of where a log starts cannot be used.
    #[error("{path} cannot be used: {why}; moved away, the log starts at the oldest segment that is there")]
    Start { path: PathBuf, why: BadFile },
    /// A segment is missing, or is not the length that its neighbours leave for it.
    #[error("the log has a gap: {path} should start at position {position}")]
    Gap { path: PathBuf, position: Position },
    /// A whole, verified record does not continue its queue.
    #[error("record at {position} has queue offset {found}, expected {expected}")]
    QueueGap { position: Position, found: QueueOffset, expected: QueueOffset },
    /// An option cannot work.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// No memory to recover in.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

impl OpenError {
    /// Names what was tried on which file.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { what, path, error }
    }
}
