//! Keys of the store about mapped files, threads, locks and engines that this store does not have, and about
//! features of the store that are not built.

use super::super::key::{
    Class::{NoOp, NotBuilt},
    Key,
    Kind::*,
};
use super::{COLD, COMPACTION, INT, MMAP, OLD_LOGS, QUEUE_INDEX, ROCKSDB, keys};

const CHECKED: &str = "every batch in the log carries a checksum, and recovery checks it";
const RECOVERY: &str = "recovery reads from the checkpoint on";

keys! {
    /// RocketMQ's MessageStoreConfig, second part.
    STORE_IGNORED;
    "mappedFileSizeConsumeQueue" INT, "6000000", NoOp(QUEUE_INDEX), "Size of a consume queue file, in bytes.";
    "mapperFileSizeBatchConsumeQueue" INT, "13800000", NoOp(QUEUE_INDEX), "Size of a batch consume queue file, in bytes.";
    "mappedFileSizeConsumeQueueExt" INT, "50331648", NoOp(QUEUE_INDEX), "Size of a file of queue extensions, in bytes.";
    "enableConsumeQueueExt" Bool, "false", NoOp(QUEUE_INDEX), "Whether queue entries have extensions.";
    "bitMapLengthConsumeQueueExt" INT, "64", NoOp(QUEUE_INDEX), "Bits of a filter in an extension.";
    "flushIntervalConsumeQueue" INT, "1000", NoOp(QUEUE_INDEX), "Milliseconds between flushes of consume queues.";
    "flushConsumeQueueLeastPages" INT, "2", NoOp(QUEUE_INDEX), "Pages that a flush of a consume queue waits for.";
    "flushConsumeQueueThoroughInterval" INT, "60000", NoOp(QUEUE_INDEX), "Milliseconds after which a consume queue is flushed whatever the page count.";
    "dispatchCqThreads" INT, "10", NoOp(QUEUE_INDEX), "Threads that build consume queues.";
    "dispatchCqCacheNum" INT, "4096", NoOp(QUEUE_INDEX), "Messages that wait for those threads.";
    "enableAsyncReput" Bool, "true", NoOp(QUEUE_INDEX), "Whether those threads run on their own.";
    "enableBuildConsumeQueueConcurrently" Bool, "false", NoOp(QUEUE_INDEX), "Whether consume queues are built in parallel.";
    "batchDispatchRequestThreadPoolNums" INT, "16", NoOp(QUEUE_INDEX), "Threads of that.";
    "dispatchFromSenderThread" Bool, "false", NoOp(QUEUE_INDEX), "Whether the sender's thread builds the queue.";
    "recheckReputOffsetFromCq" Bool, "false", NoOp(QUEUE_INDEX), "Whether the start of that is checked against the queues.";
    "correctLogicMinOffsetSleepInterval" INT, "1", NoOp(QUEUE_INDEX), "Milliseconds between corrections of two queues.";
    "correctLogicMinOffsetForceInterval" INT, "300000", NoOp(QUEUE_INDEX), "Milliseconds between corrections of a queue.";
    "searchBcqByCacheEnable" Bool, "true", NoOp(QUEUE_INDEX), "Whether batch queues are searched in memory.";
    "putConsumeQueueDataByFileChannel" Bool, "true", NoOp(QUEUE_INDEX), "Whether consume queues are written without mapping.";
    "enableCleanExpiredOffset" Bool, "false", NoOp(QUEUE_INDEX), "Whether offsets of deleted messages are moved.";
    "transientStorePoolEnable" Bool, "false", NoOp(MMAP), "Whether messages pass through a pool of buffers.";
    "transientStorePoolSize" INT, "5", NoOp(MMAP), "Segments in that pool.";
    "fastFailIfNoBufferInStorePool" Bool, "false", NoOp(MMAP), "Whether a send is refused when that pool is empty.";
    "commitIntervalCommitLog" INT, "200", NoOp(MMAP), "Milliseconds between copies from that pool.";
    "commitCommitLogLeastPages" INT, "4", NoOp(MMAP), "Pages that such a copy waits for.";
    "commitCommitLogThoroughInterval" INT, "200", NoOp(MMAP), "Milliseconds after which such a copy takes place whatever the page count.";
    "wakeCommitWhenPutMessage" Bool, "true", NoOp(MMAP), "Whether a send starts such a copy.";
    "wakeFlushWhenPutMessage" Bool, "false", NoOp(MMAP), "Whether a send starts a flush.";
    "warmMapedFileEnable" Bool, "false", NoOp("segments are filled with zeros ahead of the writer"), "Whether the pages of a new segment are touched.";
    "flushLeastPagesWhenWarmMapedFile" INT, "4096", NoOp("segments are filled with zeros ahead of the writer"), "Pages flushed at a time while they are touched.";
    "useReentrantLockWhenPutMessage" Bool, "true", NoOp(MMAP), "Which lock an append takes.";
    "useABSLock" Bool, "false", NoOp(MMAP), "Whether that lock adapts.";
    "spinLockCollisionRetreatOptimalDegree" INT, "1000", NoOp(MMAP), "How it adapts.";
    "topicQueueLockNum" INT, "32", NoOp(MMAP), "Locks of queues.";
    "writeWithoutMmap" Bool, "false", NoOp(MMAP), "Whether segments are written without mapping.";
    "mappedFileSwapEnable" Bool, "true", NoOp(MMAP), "Whether mappings of old segments are dropped.";
    "commitLogForceSwapMapInterval" INT, "43200000", NoOp(MMAP), "Milliseconds after which a segment's mapping is dropped in any case.";
    "commitLogSwapMapInterval" INT, "3600000", NoOp(MMAP), "Milliseconds after which a segment's mapping is dropped.";
    "commitLogSwapMapReserveFileNum" INT, "100", NoOp(MMAP), "Segments whose mapping stays.";
    "logicQueueForceSwapMapInterval" INT, "43200000", NoOp(MMAP), "Milliseconds after which a queue file's mapping is dropped in any case.";
    "logicQueueSwapMapInterval" INT, "3600000", NoOp(MMAP), "Milliseconds after which a queue file's mapping is dropped.";
    "logicQueueSwapMapReserveFileNum" INT, "20", NoOp(MMAP), "Queue files whose mapping stays.";
    "cleanSwapedMapInterval" INT, "300000", NoOp(MMAP), "Milliseconds between looks for dropped mappings.";
    "diskFallRecorded" Bool, "true", NoOp(OLD_LOGS), "Whether reads far behind are logged.";
    "debugLockEnable" Bool, "false", NoOp(OLD_LOGS), "Whether a long append logs all threads.";
    "duplicationEnable" Bool, "false", NoOp("no version acts on it beyond its own tests"), "Whether the confirmed position is kept apart.";
    "enableRunningFlagsInFlush" Bool, "false", NoOp("a failed write stops its shard for good"), "Whether a failed flush refuses sends.";
    "checkCRCOnRecover" Bool, "true", NoOp(CHECKED), "Whether recovery checks message bodies.";
    "enabledAppendPropCRC" Bool, "false", NoOp(CHECKED), "Whether a message's properties carry a checksum.";
    "forceVerifyPropCRC" Bool, "false", NoOp(CHECKED), "Whether that checksum has to be there.";
    "maxChecksumRange" INT, "1073741824", NoOp(CHECKED), "Bytes that a returning replica compares.";
    "maxRecoveryCommitlogFiles" INT, "30", NoOp(RECOVERY), "Segments that recovery reads.";
    "enableAcceleratedRecovery" Bool, "false", NoOp(RECOVERY), "Whether recovery starts at the flushed queues.";
    "enableLogConsumeQueueRepeatedlyBuildWhenRecover" Bool, "false", NoOp(RECOVERY), "Whether queue entries that recovery meets twice are logged.";
    "readUnCommitted" Bool, "false", NoOp("consumers never see a message that a crash could take back"), "Whether consumers see unconfirmed messages.";
    "dataReadAheadEnable" Bool, "true", NoOp("old messages are read by direct I/O with its own read-ahead"), "Whether the kernel reads ahead.";
    "coldDataFlowControlEnable" Bool, "false", NotBuilt(COLD), "Whether reads of old messages are limited.";
    "coldDataScanEnable" Bool, "false", NotBuilt(COLD), "Whether the page cache is looked at to find old messages.";
    "enableCompaction" Bool, "true", NotBuilt(COMPACTION), "Whether topics can be compacted.";
    "compactionMappedFileSize" INT, "104857600", NotBuilt(COMPACTION), "Size of a file of a compacted topic, in bytes.";
    "compactionCqMappedFileSize" INT, "10485760", NotBuilt(COMPACTION), "Size of a queue file of a compacted topic, in bytes.";
    "compactionScheduleInternal" INT, "900000", NotBuilt(COMPACTION), "Milliseconds between compactions.";
    "compactionThreadNum" INT, "6", NotBuilt(COMPACTION), "Threads that compact.";
    "maxOffsetMapSize" INT, "104857600", NotBuilt(COMPACTION), "Memory of one compaction, in bytes.";
    "storeType" Text, "default", NoOp(ROCKSDB), "Engine of the consume queues.";
    "cleanRocksDBDirtyCQIntervalMin" INT, "60", NoOp(ROCKSDB), "Minutes between cleanings of RocksDB queues.";
    "statRocksDBCQIntervalSec" INT, "10", NoOp(ROCKSDB), "Seconds between their statistics.";
    "memTableFlushIntervalMs" INT, "3600000", NoOp(ROCKSDB), "Milliseconds between flushes of RocksDB.";
    "realTimePersistRocksDBConfig" Bool, "true", NoOp(ROCKSDB), "Whether tables in RocksDB are written at once.";
    "enableRocksDBLog" Bool, "false", NoOp(ROCKSDB), "Whether RocksDB logs.";
    "rocksdbCQDoubleWriteEnable" Bool, "false", NoOp(ROCKSDB), "Whether consume queues are written in both forms.";
    "combineCQLoadingCQTypes" Text, "default;defaultRocksDB", NoOp(ROCKSDB), "Forms of consume queues that are opened.";
    "combineCQPreferCQType" Text, "default", NoOp(ROCKSDB), "Form that is read.";
    "combineAssignOffsetCQType" Text, "default", NoOp(ROCKSDB), "Form that assigns offsets.";
    "combineCQEnableCheckSelf" Bool, "false", NoOp(ROCKSDB), "Whether the forms are compared.";
    "combineCQMaxExtraSearchCommitLogFiles" INT, "3", NoOp(ROCKSDB), "Segments searched when the forms differ.";
    "bottomMostCompressionTypeForConsumeQueueStore" Text, "zstd", NoOp(ROCKSDB), "Compression of old queue entries.";
    "rocksdbCompressionType" Text, "lz4", NoOp(ROCKSDB), "Compression of tables.";
    "rocksdbFlushWalFrequency" INT, "1024", NoOp(ROCKSDB), "Writes between flushes of RocksDB's log.";
    "rocksdbWalFileRollingThreshold" INT, "1073741824", NoOp(ROCKSDB), "Size of RocksDB's log, in bytes.";
    "transRocksDBEnable" Bool, "false", NoOp(ROCKSDB), "Whether half messages are kept in RocksDB.";
    "indexRocksDBEnable" Bool, "false", NoOp(ROCKSDB), "Whether the key index lies in RocksDB.";
}
