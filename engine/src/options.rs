//! What an operator may choose for a shard, with the defaults; checked once, when the shard is opened.

use std::time::Duration;

use ringmq_rt::CommitMethod;

use crate::limits;

/// When a message is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushPolicy {
    /// ASYNC_FLUSH: once written; the device's cache is flushed at most half a second later.
    Async,
    /// SYNC_FLUSH: once flushed, with each batch.
    Sync,
}

/// The choices for one shard.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    pub flush: FlushPolicy,
    /// How a batch is made durable; `None` asks the device below the store.
    pub commit_method: Option<CommitMethod>,
    /// `mappedFileSizeCommitLog`: length of new segments, a multiple of 4,096.
    pub segment_size: u64,
    /// Largest record.
    pub record_max: u64,
    /// Finished log buffers kept for tail readers.
    pub tail_cache_bytes: u64,
    /// Log bytes kept once read from disk.
    pub cold_cache_bytes: u64,
    /// Blocks of 256 KiB that are read ahead of whoever reads the disk in order; never more than a quarter of the cache.
    pub read_ahead: usize,
    /// Appended bytes that may wait for their write.
    pub unwritten_max: u64,
    /// How far zeros are written ahead.
    pub zero_lead: u64,
    /// Used share of the file system from which sends are refused.
    pub disk_full_ratio: f64,
    /// Most segments that are kept for later when they are dropped; a new one is made of them without writing it full of
    /// zeros.
    pub spare_segments: usize,
    /// Used share of the file system from which none is kept.
    pub spare_ratio: f64,
    /// `deleteCommitLogFilesInterval`: time between two dropped segments' files.
    pub drop_interval: Duration,
    /// Under ASYNC_FLUSH, the longest time between a write and the flush that covers it.
    pub flush_interval: Duration,
    /// Log bytes after which a snapshot is written; a large snapshot waits for more, `limits::SNAPSHOT_SHARE`.
    pub snapshot_bytes: u64,
    /// Time after which a snapshot is written if anything changed.
    pub snapshot_interval: Duration,
    /// `messageIndexEnable`: whether messages can be found by key.
    pub key_index: bool,
    /// Entries of the key index that gather in memory before they are written out.
    pub key_table: usize,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            flush: FlushPolicy::Async,
            commit_method: None,
            segment_size: limits::SEGMENT_SIZE,
            record_max: limits::RECORD_MAX,
            tail_cache_bytes: limits::TAIL_CACHE,
            cold_cache_bytes: limits::COLD_CACHE,
            read_ahead: limits::READ_AHEAD,
            unwritten_max: limits::UNWRITTEN_MAX,
            zero_lead: limits::ZERO_LEAD,
            disk_full_ratio: limits::DISK_FULL_RATIO,
            spare_segments: limits::SPARE_SEGMENTS,
            spare_ratio: limits::SPARE_RATIO,
            drop_interval: limits::DROP_INTERVAL,
            flush_interval: limits::FLUSH_INTERVAL,
            snapshot_bytes: limits::SNAPSHOT_BYTES,
            snapshot_interval: limits::SNAPSHOT_INTERVAL,
            key_index: true,
            key_table: limits::RUN_TABLE,
        }
    }
}

/// A choice that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum OptionError {
    /// The length of a segment is not a multiple of 4,096, or is too small.
    #[error("a segment of {0} bytes: it must be a multiple of 4096 and at least {min}", min = limits::SEGMENT_SIZE_MIN)]
    SegmentSize(u64),
    /// Records larger than any log of ours holds.
    #[error("records of {0} bytes: the most is {max}", max = limits::RECORD_LIMIT)]
    RecordMax(u64),
    /// The ratio is not between zero and one.
    #[error("a disk-full ratio of {0}: it must lie between 0 and 1")]
    DiskFullRatio(f64),
    /// The largest record could never be appended.
    #[error("{unwritten_max} unwritten bytes do not hold one record of {record_max}")]
    UnwrittenMax { unwritten_max: u64, record_max: u64 },
}

impl ShardOptions {
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        if !self.segment_size.is_multiple_of(limits::BLOCK) || self.segment_size < limits::SEGMENT_SIZE_MIN {
            return Err(OptionError::SegmentSize(self.segment_size));
        }
        if self.record_max > limits::RECORD_LIMIT || self.record_max < limits::RECORD_MIN {
            return Err(OptionError::RecordMax(self.record_max));
        }
        if !(self.disk_full_ratio > 0.0 && self.disk_full_ratio <= 1.0) {
            return Err(OptionError::DiskFullRatio(self.disk_full_ratio));
        }
        if self.unwritten_max < self.record_max {
            let (unwritten_max, record_max) = (self.unwritten_max, self.record_max);
            return Err(OptionError::UnwrittenMax { unwritten_max, record_max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_nonsense_does_not() {
        let good = ShardOptions::default();
        assert_eq!(good.check(), Ok(()));
        let odd = ShardOptions { segment_size: (1 << 30) + 1, ..good.clone() };
        assert_eq!(odd.check(), Err(OptionError::SegmentSize((1 << 30) + 1)));
        let huge = ShardOptions { record_max: 1 << 30, ..good.clone() };
        assert_eq!(huge.check(), Err(OptionError::RecordMax(1 << 30)));
        let never = ShardOptions { disk_full_ratio: f64::NAN, ..good };
        assert!(matches!(never.check(), Err(OptionError::DiskFullRatio(_))));
    }
}
