//! Every bound of the engine, in one place, each with what happens when it is reached. What an operator may change is
//! in [`crate::options`]; these are its defaults and its outer limits.

use std::time::Duration;

use crate::seal::SEAL_MIN;

/// The unit of direct I/O, of seals and of index blocks.
pub const BLOCK: u64 = ringmq_rt::BLOCK as u64;

/// A segment of the commit log. A record that does not fit in what is left of one goes to the next.
pub const SEGMENT_SIZE: u64 = 1 << 30;

/// The smallest segment that still makes sense; smaller is refused when the shard is opened.
pub const SEGMENT_SIZE_MIN: u64 = 16 * BLOCK;

/// A buffer of the log, and so the largest batch but for one larger record: at its end the batch is sealed.
pub const BUFFER: u64 = 1 << 20;

/// Sealed bytes that one write takes along. What is beyond goes with the next write.
pub const WRITE_MAX: u64 = 4 << 20;

/// The largest record that any configuration may allow: larger is refused at append, and not believed at recovery.
pub const RECORD_LIMIT: u64 = (16 << 20) + (64 << 10);

/// The largest record by default: RocketMQ's `maxMessageSize` of 4 MiB and room for the rest of the record.
pub const RECORD_MAX: u64 = (4 << 20) + (64 << 10);

/// The smallest record there is: no body, topic or properties, both hosts IPv4.
pub const RECORD_MIN: u64 = 91;

/// Bytes that are appended but not yet written; beyond, appends are refused as busy.
pub const UNWRITTEN_MAX: u64 = 64 << 20;

/// Finished log buffers that stay in memory for tail readers; the oldest is dropped, its bytes are read from disk then.
pub const TAIL_CACHE: u64 = 16 << 20;

/// Log buffers kept for the next use; one more is given back to the allocator.
pub const SPARE_BUFFERS: usize = 8;

/// How far zeros are written ahead of the writer. A writer that is faster writes into merely allocated room, only slower.
pub const ZERO_LEAD: u64 = 64 << 20;

/// Zeros written before a shard that opens takes its first message; the rest follows beside the traffic.
pub const ZERO_AT_START: u64 = 2 << 20;

/// Zeros written in one go; the log's writer waits for at most one such write when it runs into it.
pub const ZERO_CHUNK: u64 = 1 << 20;

/// Zeros after which they are flushed, so that no commit of the log has to carry their extents.
pub const ZERO_SYNC: u64 = 16 << 20;

/// Rest between two zero writes while the lead is comfortable.
pub const ZERO_PAUSE: Duration = Duration::from_millis(4);

/// Under ASYNC_FLUSH the device's cache is flushed at most this long after the oldest write that needs it.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// How often a shard without room tries to allocate again, and how often the free space is looked at.
pub const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Used share of the file system from which sends are refused.
pub const DISK_FULL_RATIO: f64 = 0.90;

/// Dropped segments that are kept for the next ones; a further one is removed. They count as used.
pub const SPARE_SEGMENTS: usize = 2;

/// Used share of the file system from which dropped segments are removed and those that were kept are given back.
pub const SPARE_RATIO: f64 = 0.85;

/// Rest between two files of dropped segments, so that their removal is no load.
pub const DROP_INTERVAL: Duration = Duration::from_millis(100);

/// Log bytes after which a snapshot of the queues is written: a start reads at most about this much of the log, or
/// [`SNAPSHOT_SHARE`] times the snapshot if that is more.
pub const SNAPSHOT_BYTES: u64 = 128 << 20;

/// Log bytes for each byte of the last snapshot before the next: it grows with what is stored, and may not become most of what
/// is written.
pub const SNAPSHOT_SHARE: u64 = 32;

/// Time after which a snapshot is written if anything changed.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(30);

/// The largest snapshot that is read; a larger one is not ours.
pub const SNAPSHOT_MAX: u64 = 4 << 30;

/// Queue entries in one index block.
pub const BLOCK_ENTRIES: usize = 200;

/// Blocks in one file of the index log (64 MiB).
pub const INDEX_FILE_BLOCKS: u32 = 16 * 1024;

/// Blocks by which a file of the index log grows (1 MiB).
pub const INDEX_GROW_BLOCKS: u32 = 256;

/// Index blocks that one write takes along.
pub const INDEX_WRITE_BLOCKS: usize = 64;

/// Index blocks that may wait for their write (8 MiB); beyond, appends are refused as busy.
pub const INDEX_PENDING_MAX: usize = 2048;

/// How long a few index blocks wait for company before they are written.
pub const INDEX_DELAY: Duration = Duration::from_millis(200);

/// Index blocks that are kept in memory once read; the least recently used goes first.
pub const INDEX_CACHE_BLOCKS: usize = 256;

/// The unit in which older parts of the log are read and cached.
pub const COLD_BLOCK: u64 = 256 << 10;

/// Log bytes kept once read from disk; the least recently used goes first.
pub const COLD_CACHE: u64 = 8 << 20;

/// Blocks of which it is remembered that the disk did not read them whole: what lies in them is read by itself, which is
/// slower for many small records. The least recently noticed is tried as a whole again.
pub const UNREADABLE_BLOCKS: usize = 64;

/// Blocks that are read ahead of whoever reads in order.
pub const READ_AHEAD: usize = 4;

/// Segment files kept open for reading; the least recently used is closed.
pub const OPEN_SEGMENTS: usize = 64;

/// Queue entries that one read examines, matching or not; the reader then goes on from there.
pub const SCAN_MAX: u64 = 800;

/// Bytes of records that one read looks at and does not want; the reader then goes on from there.
pub const REFUSED_BYTES_MAX: u64 = 4 << 20;

/// Bytes that recovery reads at once.
pub const SCAN_WINDOW: u64 = 4 << 20;

/// How far recovery looks past the end of the log for a seal that proves the log went on. It covers the largest write
/// that can have been in flight; each seal of this log that is found starts the distance anew. After a mere process kill
/// none is, whether zeros follow or what a recycled segment held, so that this is all that is read.
pub const SEARCH_MAX: u64 = 32 << 20;

/// A task gives the core away after this much bookkeeping in one go.
pub const SLICE_OF_WORK: Duration = Duration::from_millis(1);

/// Entries of a piece of the memory table in front of the sorted runs: sorted in one go.
pub const RUN_PIECE: usize = 2048;

/// Entries in memory after which they are written out as a run (2 MiB).
pub const RUN_TABLE: usize = 128 << 10;

/// Pieces that one run takes along when more wait.
pub const RUN_PIECES: usize = 128;

/// Entries that are taken of one piece at a time when pieces are written out together.
pub const RUN_LOWEST: usize = 64;

/// Entries that may wait to be written out (16 MiB); beyond, appends are refused as busy.
pub const RUN_PENDING_MAX: usize = 1 << 20;

/// Memory of pieces kept for the next use (1 MiB); more is given back to the allocator.
pub const RUN_PIECES_SPARE: usize = 32;

/// Fences of a run that are in memory (64 KiB): a longer run has them further apart, and a look-up reads a few more blocks.
pub const RUN_FENCES: usize = 4096;

/// Neighbouring runs that one merge makes into one.
pub const RUN_FAN_IN: usize = 8;

/// Runs of one purpose in a shard. At this number even merges that are not worth it are made, and a table waits for them.
pub const RUNS_MAX: usize = 64;

/// Blocks that a merge reads of one run at once (64 KiB).
pub const RUN_READ_BLOCKS: u32 = 16;

/// Blocks of a run that one write takes along (128 KiB): in between the core is given away.
pub const RUN_WRITE_BLOCKS: usize = 32;

/// Blocks by which the file of a long run grows (1 MiB).
pub const RUN_GROW_BLOCKS: u32 = 256;

/// Rest of a merge behind each write, so that it leaves the disk to the log; none where runs are about to be too many.
pub const RUN_PAUSE: Duration = Duration::from_millis(2);

/// Blocks of runs that are kept in memory once read; the least recently used goes first.
pub const RUN_CACHE_BLOCKS: usize = 256;

/// Log offsets that a query takes from the key index at once.
pub const QUERY_STEP: usize = 64;

/// Records that one query looks at in vain, because of their time or because another key has the same hash; what it
/// found by then is the answer.
pub const QUERY_MISSES_MAX: usize = 4096;

/// Queues of a topic that help a query to find where a time lies in the log.
pub const QUERY_TIME_QUEUES: usize = 4;

const _: () = assert!(BUFFER.is_multiple_of(BLOCK) && SEGMENT_SIZE.is_multiple_of(BLOCK));
const _: () = assert!(SEAL_MIN < BLOCK, "a seal takes at most one block more than the batch");
const _: () = assert!(RECORD_MAX <= RECORD_LIMIT && RECORD_LIMIT < SEGMENT_SIZE);
const _: () = assert!(SEARCH_MAX > WRITE_MAX + RECORD_LIMIT, "the search must cover a lost write");
const _: () = assert!(UNWRITTEN_MAX > RECORD_LIMIT, "the largest record must be appendable");
const _: () = assert!(COLD_BLOCK.is_multiple_of(BLOCK) && COLD_CACHE / COLD_BLOCK >= 4);
const _: () = assert!(ZERO_CHUNK <= ZERO_LEAD && ZERO_AT_START <= ZERO_LEAD);
const _: () = assert!(SCAN_WINDOW.is_multiple_of(BLOCK) && SCAN_WINDOW > BUFFER);
const _: () = assert!(INDEX_FILE_BLOCKS.is_multiple_of(INDEX_GROW_BLOCKS));
const _: () = assert!(RUN_PIECES * RUN_PIECE >= RUN_TABLE && RUN_PENDING_MAX >= 4 * RUN_TABLE);
const _: () = assert!(RUNS_MAX > 2 * RUN_FAN_IN);
