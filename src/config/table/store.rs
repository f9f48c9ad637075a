//! Keys of the store that say where messages lie, how safe they are, for how long they stay and how they are read.

use super::super::key::{
    Class::{Honoured, NoOp, NotBuilt, UnderRoot},
    Key,
    Kind::*,
};
use super::{
    DELAY, FAILOVER, FRAME_BODY_MAX, GIB, INT, KEY_INDEX, KIB, LMQ, MIB, MMAP, NEVER, QUEUE_INDEX, REPLICATION, keys,
};

const GROUP_COMMIT: &str = "group commit needs no page count: the write in flight is the window for the next";
const WHEEL: &str = "timers lie in sorted runs by their millisecond; nothing has slots, threads or a log of its own";
/// Brokers on one disk that each keep to a share of it.
const SHARED_DISK: &str = "shares of one disk for several brokers";
const TIERED: &str = "tiered storage";

keys! {
    /// RocketMQ's MessageStoreConfig, first part.
    STORE;
    "storePathRootDir" Path, "<home>/store", Honoured, "Folder of the store.";
    "storePathCommitLog" Path, "<storePathRootDir>/commitlog", UnderRoot("commitlog"), "Folder of the commit log.";
    "storePathConsumeQueue" Path, "<storePathRootDir>/consumequeue", NoOp(NEVER), "Folder of the consume queues.";
    "storePathIndex" Path, "<storePathRootDir>/index", NoOp(NEVER), "Folder of the key index.";
    "storeCheckpoint" Path, "<storePathRootDir>/checkpoint", NoOp(NEVER), "File of the checkpoint.";
    "abortFile" Path, "<storePathRootDir>/abort", NoOp(NEVER), "File that marks a running broker.";
    "readOnlyCommitLogStorePaths" Text, "<none>", NotBuilt("a log on several disks"), "Folders of old segments that are only read.";
    "storePathDLedgerCommitLog" Path, "<storePathRootDir>/dledger-<self>", NotBuilt(FAILOVER), "Folder of the DLedger log.";
    "storePathEpochFile" Path, "<storePathRootDir>/epochFileCheckpoint", NotBuilt(FAILOVER), "File of the epochs.";
    "storePathBrokerIdentity" Path, "<storePathRootDir>/brokerIdentity", NotBuilt(FAILOVER), "File of the broker id that a controller gave.";
    "mappedFileSizeCommitLog" Size { min: MIB, max: 64 * GIB }, "1073741824", Honoured, "Size of a commit log segment, in bytes.";
    "flushDiskType" Choice(&["ASYNC_FLUSH", "SYNC_FLUSH"]), "ASYNC_FLUSH", Honoured, "Whether a sender is answered when its message is appended (ASYNC_FLUSH) or flushed to the device (SYNC_FLUSH)." => durable;
    "flushIntervalCommitLog" Clamped { min: 1, max: 500 }, "500", Honoured, "Longest time between flushes of the device under ASYNC_FLUSH, in milliseconds; never above 500.";
    "syncFlushTimeout" Int { min: 1, max: 600_000 }, "5000", Honoured, "Milliseconds after which a SYNC_FLUSH sender is answered FLUSH_DISK_TIMEOUT.";
    "flushCommitLogTimed" Bool, "true", NoOp(GROUP_COMMIT), "Whether the flush waits for its interval.";
    "flushCommitLogLeastPages" INT, "4", NoOp(GROUP_COMMIT), "Pages of 4 KiB that a flush waits for.";
    "flushCommitLogThoroughInterval" INT, "10000", NoOp(GROUP_COMMIT), "Milliseconds after which a flush takes place whatever the page count.";
    "putMessageTimeout" INT, "8000", NotBuilt("a time limit for the whole of a send"), "Milliseconds after which a send is given up.";
    "diskSpaceWarningLevelRatio" Percent { min: 35, max: 90 }, "90", Honoured, "Percent of the disk in use from which on sends are refused.";
    "diskSpaceCleanForciblyRatio" Percent { min: 30, max: 85 }, "85", Honoured, "Percent of the disk in use from which on the oldest segments go whatever their age.";
    "diskMaxUsedSpaceRatio" Percent { min: 10, max: 95 }, "75", Honoured, "Percent of the disk in use from which on expired segments are deleted at any hour.";
    "fileReservedTime" Int { min: 0, max: 876_000 }, "72", Honoured, "Hours that messages are kept at least, unless the disk is nearly full; 0 is until their segment is full." => durable;
    "deleteWhen" Hours, "04", Honoured, "Hours of the day at which expired segments are deleted: 04;16, or * for all.";
    "cleanFileForciblyEnable" Bool, "true", Honoured, "Whether a full disk deletes unexpired segments.";
    "cleanResourceInterval" Int { min: 100, max: 3_600_000 }, "10000", Honoured, "Milliseconds between looks for expired segments.";
    "deleteCommitLogFilesInterval" Int { min: 0, max: 60_000 }, "100", Honoured, "Milliseconds between two deletions of segments.";
    "deleteConsumeQueueFilesInterval" INT, "100", NoOp(QUEUE_INDEX), "Milliseconds between two deletions of queue files.";
    "deleteFileBatchMax" Int { min: 1, max: 10_000 }, "10", Honoured, "Segments deleted at a time.";
    "maxBatchDeleteFilesNum" INT, "50", NoOp("a disk that is nearly full loses as many segments as bring it below the level, up to deleteFileBatchMax at a time"), "Segments deleted at a time when the disk is full.";
    "replicasPerDiskPartition" INT, "1", NotBuilt(SHARED_DISK), "Brokers that share the disk.";
    "logicalDiskSpaceCleanForciblyThreshold" Text, "0.8", NotBuilt(SHARED_DISK), "Share of a shared disk from which on segments go whatever their age.";
    "destroyMapedFileIntervalForcibly" INT, "120000", NoOp("a segment is closed when its last reader is done"), "Milliseconds after which a segment in use is closed.";
    "redeleteHangedFileInterval" INT, "120000", NoOp("a segment is closed when its last reader is done"), "Milliseconds between attempts to delete a segment.";
    "maxTransferBytesOnMessageInMemory" Size { min: KIB, max: FRAME_BODY_MAX }, "262144", Honoured, "Most bytes of messages in one pull reply.";
    "maxTransferCountOnMessageInMemory" Int { min: 1, max: 1024 }, "32", Honoured, "Most messages in one pull reply.";
    "maxTransferBytesOnMessageInDisk" INT, "65536", NoOp("a reply is as large for old messages as for new ones"), "Bytes of old messages in one pull reply.";
    "maxTransferCountOnMessageInDisk" INT, "8", NoOp("a reply is as large for old messages as for new ones"), "Old messages in one pull reply.";
    "pullBatchMaxMessageCount" INT, "160", NoOp("the client's number counts, up to maxTransferCountOnMessageInMemory"), "Messages that a pull may ask for.";
    "accessMessageInMemoryMaxRatio" Int { min: 0, max: 2_147_483_647 }, "40", Honoured, "Percent of the memory that the host or the container has: where more of the log lies behind a queue's first message, a new group begins where its clients say, not there.";
    "accessMessageInMemoryHotRatio" INT, "26", NotBuilt(REPLICATION), "Percent of memory that is taken to be read often.";
    "maxFilterMessageSize" INT, "16000", NotBuilt("a limit of its own for what a filter scans"), "Bytes of queue entries that one pull scans.";
    "travelCqFileNumWhenGetMessage" INT, "1", NoOp(QUEUE_INDEX), "Queue files that one pull looks at.";
    "maxConsumeQueueScan" INT, "20000", NoOp(QUEUE_INDEX), "Queue entries scanned to estimate a lag.";
    "sampleCountThreshold" INT, "5000", NoOp(QUEUE_INDEX), "Queue entries from which on a lag is estimated.";
    "sampleSteps" INT, "32", NoOp(QUEUE_INDEX), "Samples of such an estimate.";
    "messageDelayLevel" Text, "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h", Honoured, "The delay levels: numbers with s, m, h or d, at most 128 of at most 40 days.";
    "flushDelayOffsetInterval" INT, "10000", NoOp("the progress of delayed messages is kept with the consumer offsets"), "Milliseconds between writes of the delay offsets.";
    "messageIndexEnable" Bool, "true", Honoured, "Whether messages can be found by key, and parked halves by those who end them late.";
    "messageIndexSafe" Bool, "false", NoOp(KEY_INDEX), "Whether the key index is checked at each start.";
    "maxHashSlotNum" INT, "5000000", NoOp(KEY_INDEX), "Slots of a key index file.";
    "maxIndexNum" INT, "20000000", NoOp(KEY_INDEX), "Entries of a key index file.";
    "maxMsgsNumBatch" Int { min: 1, max: 1024 }, "64", Honoured, "Messages that one query returns.";
    "defaultQueryMaxNum" Int { min: 1, max: 1024 }, "32", Honoured, "Messages that one query by unique key returns, whatever number it names.";
    "putMsgIndexHightWater" INT, "600000", NoOp(KEY_INDEX), "Messages that may wait for the key index.";
    "enableScheduleMessageStats" Bool, "true", NotBuilt(DELAY), "Whether delayed messages are counted.";
    "enableScheduleAsyncDeliver" Bool, "false", NoOp("what is due together is delivered together"), "Whether delayed messages are delivered without waiting for each.";
    "scheduleAsyncDeliverMaxPendingLimit" INT, "2000", NoOp("what is due together is delivered together"), "Such deliveries in flight.";
    "scheduleAsyncDeliverMaxResendNum2Blocked" INT, "3", NoOp("what is due together is delivered together"), "Attempts until such a delivery waits.";
    "timerWheelEnable" Bool, "true", Honoured, "Whether messages can be delayed to any millisecond.";
    "timerPrecisionMs" INT, "1000", NoOp(WHEEL), "Precision of such a delay, in milliseconds.";
    "timerRollWindowSlot" INT, "172800", NoOp(WHEEL), "Slots after which a delay is stored anew.";
    "timerMaxDelaySec" Int { min: 1, max: 315_360_000 }, "3456000", Honoured, "Longest such delay, in seconds: 40 days. RocketMQ's is 3 days.";
    "timerFlushIntervalMs" INT, "1000", NoOp(WHEEL), "Milliseconds between writes of the wheel.";
    "timerGetMessageThreadNum" INT, "3", NoOp(WHEEL), "Threads that read delayed messages.";
    "timerPutMessageThreadNum" INT, "3", NoOp(WHEEL), "Threads that deliver delayed messages.";
    "timerEnableDisruptor" Bool, "false", NoOp(WHEEL), "Whether those threads share a ring.";
    "timerEnableCheckMetrics" Bool, "true", NoOp(WHEEL), "Whether the wheel's counters are checked.";
    "timerCheckMetricsWhen" Text, "05", NoOp(WHEEL), "Hour of that check.";
    "timerInterceptDelayLevel" Bool, "false", NotBuilt(DELAY), "Whether the wheel serves the delay levels.";
    "timerStopEnqueue" Bool, "false", NotBuilt(DELAY), "Whether nothing enters the wheel.";
    "timerStopDequeue" Bool, "false", NotBuilt(DELAY), "Whether nothing leaves the wheel.";
    "timerSkipUnknownError" Bool, "false", NoOp(WHEEL), "Whether a delayed message that cannot be read is skipped.";
    "timerWarmEnable" Bool, "false", NoOp(WHEEL), "Whether the wheel's pages are touched at the start.";
    "timerEnableRetryUntilSuccess" Bool, "false", NoOp(WHEEL), "Whether a delivery is tried for ever.";
    "timerCongestNumEachSlot" INT, "2147483647", NoOp(WHEEL), "Messages of one slot.";
    "timerMetricSmallThreshold" INT, "1000000", NoOp(WHEEL), "Count below which a topic's counters are checked one by one.";
    "timerProgressLogIntervalMs" INT, "10000", NoOp(WHEEL), "Milliseconds between reports in the log.";
    "timerColdDataCheckIntervalMs" INT, "60000", NoOp(WHEEL), "Milliseconds between looks for old messages.";
    "timerRocksDBEnable" Bool, "false", NoOp(WHEEL), "Whether the wheel lies in RocksDB.";
    "mappedFileSizeTimerLog" INT, "104857600", NoOp(WHEEL), "Size of a file of the wheel, in bytes.";
    "disappearTimeAfterStart" INT, "-1", NotBuilt(DELAY), "Milliseconds after the start for which nothing leaves the wheel.";
    "brokerRole" Choice(&["ASYNC_MASTER", "SYNC_MASTER", "SLAVE"]), "ASYNC_MASTER", Honoured, "Whether the broker is a master, a master that waits for its slave, or a slave." => durable;
    "haListenPort" INT, "10912", NotBuilt(REPLICATION), "Port that slaves connect to.";
    "haMasterAddress" Text, "<none>", NotBuilt(REPLICATION), "Address of a slave's master.";
    "haSendHeartbeatInterval" INT, "5000", NotBuilt(REPLICATION), "Milliseconds between heartbeats of replication.";
    "haHousekeepingInterval" INT, "20000", NotBuilt(REPLICATION), "Milliseconds of silence after which replication reconnects.";
    "haTransferBatchSize" INT, "32768", NotBuilt(REPLICATION), "Bytes of one batch of replication.";
    "haMaxGapNotInSync" INT, "268435456", NotBuilt(REPLICATION), "Bytes behind which a slave does not count.";
    "haFlowControlEnable" Bool, "false", NotBuilt(REPLICATION), "Whether replication is limited.";
    "maxHaTransferByteInSecond" INT, "104857600", NotBuilt(REPLICATION), "Bytes a second of that limit.";
    "haMaxTimeSlaveNotCatchup" INT, "15000", NotBuilt(REPLICATION), "Milliseconds behind which a slave leaves the in-sync set.";
    "slaveTimeout" INT, "3000", NotBuilt(REPLICATION), "Milliseconds to wait for a slave.";
    "totalReplicas" INT, "1", NotBuilt(REPLICATION), "Copies of a message, the master's included." => durable;
    "inSyncReplicas" INT, "1", NotBuilt(REPLICATION), "Copies that a SYNC_MASTER waits for, its own included." => durable;
    "minInSyncReplicas" INT, "1", NotBuilt(REPLICATION), "Copies below which sends are refused." => durable;
    "allAckInSyncStateSet" Bool, "false", NotBuilt(REPLICATION), "Whether the whole in-sync set has to acknowledge." => durable;
    "enableAutoInSyncReplicas" Bool, "false", NotBuilt(REPLICATION), "Whether fewer copies are enough while slaves are away." => durable;
    "syncMasterFlushOffsetWhenStartup" Bool, "false", NotBuilt(REPLICATION), "Whether a slave starts with the master's flushed position.";
    "maxSlaveResendLength" INT, "268435456", NotBuilt(REPLICATION), "Bytes that a returning slave is sent again.";
    "syncFromLastFile" Bool, "false", NotBuilt(REPLICATION), "Whether a new slave starts with the last segment.";
    "asyncLearner" Bool, "false", NotBuilt(REPLICATION), "Whether the slave never counts.";
    "offsetCheckInSlave" Bool, "false", NotBuilt(REPLICATION), "Whether a slave moves a consumer that is out of range.";
    "enableDLegerCommitLog" Bool, "false", NotBuilt(FAILOVER), "Whether the log is a Raft log that chooses its master." => durable;
    "dLegerGroup" Text, "<none>", NotBuilt(FAILOVER), "Name of the Raft group.";
    "dLegerPeers" Text, "<none>", NotBuilt(FAILOVER), "Members of the Raft group: n0-host:port;n1-host:port.";
    "dLegerSelfId" Text, "<none>", NotBuilt(FAILOVER), "This member of the Raft group.";
    "preferredLeaderId" Text, "<none>", NotBuilt(FAILOVER), "Member that leadership is handed to.";
    "enableBatchPush" Bool, "false", NotBuilt(FAILOVER), "Whether entries are sent to members in batches.";
    "enableLmq" Bool, "false", NotBuilt(LMQ), "Whether light queues exist.";
    "enableMultiDispatch" Bool, "false", NotBuilt(LMQ), "Whether a message enters several queues.";
    "maxLmqConsumeQueueNum" INT, "20000", NotBuilt(LMQ), "Light queues.";
    "maxTopicLength" INT, "127", NotBuilt("topic names above 127 bytes"), "Longest topic name, in bytes.";
    "autoMessageVersionOnTopicLen" Bool, "true", NotBuilt("topic names above 127 bytes"), "Whether a long topic name is stored in the second record version.";
    "osPageCacheBusyTimeOutMills" INT, "1000", NoOp(MMAP), "Milliseconds of one append from which on the broker counts as busy.";
    "maxAsyncPutMessageRequests" INT, "5000", NoOp("bytes in flight are bounded by the log buffers"), "Sends that wait for disk or slave.";
    "tieredStorageLevel" Text, "NOT_IN_DISK", NotBuilt(TIERED), "When messages are read from the second tier.";
    "tieredBackendServiceProvider" Text, "<none>", NotBuilt(TIERED), "Where the second tier lies.";
    "tieredStoreFileReservedTime" INT, "72", NotBuilt(TIERED), "Hours that the second tier keeps messages.";
    "tieredStoreFilePath" Path, "<none>", NotBuilt(TIERED), "Folder of the second tier.";
}
