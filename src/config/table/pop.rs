//! Keys of pop consumption.

use super::super::key::{
    Class::{NoOp, NotBuilt},
    Key,
    Kind::*,
};
use super::{INT, POP_MODE, ROCKSDB, keys};

keys! {
    /// RocketMQ's BrokerConfig, the part about pop consumption.
    POP;
    "defaultMessageRequestMode" Text, "PULL", NotBuilt(POP_MODE), "How consumers that ask the broker for their queues read them.";
    "defaultPopShareQueueNum" INT, "-1", NotBuilt(POP_MODE), "Queues that consumers of a group share; -1 means all.";
    "popPollingSize" INT, "1024", NotBuilt(POP_MODE), "Waiting pops of one queue.";
    "popPollingMapSize" INT, "100000", NotBuilt(POP_MODE), "Queues that pops wait at.";
    "popPollingMapExpireTimeSeconds" INT, "600", NotBuilt(POP_MODE), "Seconds after which an idle entry is forgotten.";
    "maxPopPollingSize" INT, "100000", NotBuilt(POP_MODE), "Waiting pops altogether.";
    "reviveQueueNum" INT, "8", NotBuilt(POP_MODE), "Queues that carry checkpoints and acknowledgements.";
    "reviveInterval" INT, "1000", NotBuilt(POP_MODE), "Milliseconds between two revivals.";
    "reviveMaxSlow" INT, "3", NotBuilt(POP_MODE), "How far revival may fall behind.";
    "reviveScanTime" INT, "10000", NotBuilt(POP_MODE), "Milliseconds of one revival.";
    "enableSkipLongAwaitingAck" Bool, "false", NotBuilt(POP_MODE), "Whether a checkpoint that waits long is skipped.";
    "reviveAckWaitMs" INT, "180000", NotBuilt(POP_MODE), "Milliseconds that a checkpoint may wait.";
    "enablePopLog" Bool, "false", NotBuilt(POP_MODE), "Whether pops are logged.";
    "enablePopBufferMerge" Bool, "false", NotBuilt(POP_MODE), "Whether acknowledgements meet their checkpoint in memory.";
    "popCkStayBufferTime" INT, "10000", NotBuilt(POP_MODE), "Milliseconds that a checkpoint stays in memory.";
    "popCkStayBufferTimeOut" INT, "3000", NotBuilt(POP_MODE), "Milliseconds before its time at which a checkpoint leaves memory.";
    "popCkMaxBufferSize" INT, "200000", NotBuilt(POP_MODE), "Checkpoints in memory.";
    "popCkOffsetMaxQueueSize" INT, "20000", NotBuilt(POP_MODE), "Checkpoints of one queue in memory.";
    "enablePopBatchAck" Bool, "false", NotBuilt(POP_MODE), "Whether acknowledgements are batched.";
    "popLongPollingForceNotifyInterval" INT, "800", NotBuilt(POP_MODE), "Milliseconds after which a waiting pop looks again.";
    "enableNotifyBeforePopCalculateLag" Bool, "true", NotBuilt(POP_MODE), "Whether waiting pops are woken before the lag is computed.";
    "enableNotifyAfterPopOrderLockRelease" Bool, "true", NotBuilt(POP_MODE), "Whether waiting ordered pops are woken when their lock is released.";
    "initPopOffsetByCheckMsgInMem" Bool, "true", NotBuilt(POP_MODE), "Whether a new group starts at the oldest message in memory.";
    "retrieveMessageFromPopRetryTopicV1" Bool, "true", NotBuilt(POP_MODE), "Whether the old form of retry topics is read.";
    "enableRetryTopicV2" Bool, "false", NotBuilt(POP_MODE), "Whether the new form of retry topics is written.";
    "useSeparateRetryQueue" Bool, "false", NotBuilt(POP_MODE), "Whether each queue has a retry queue.";
    "popFromRetryProbability" INT, "20", NotBuilt(POP_MODE), "Percent of pops that look at the retry topic first.";
    "popConsumerFSServiceInit" Bool, "true", NotBuilt(POP_MODE), "Whether the state of pops is kept in topics.";
    "popConsumerKVServiceLog" Bool, "false", NoOp(ROCKSDB), "Whether changes of the state of pops are logged.";
    "popConsumerKVServiceInit" Bool, "false", NoOp(ROCKSDB), "Whether the store of pops is opened.";
    "popConsumerKVServiceEnable" Bool, "false", NoOp(ROCKSDB), "Whether the state of pops is kept in RocksDB.";
    "popReviveMaxReturnSizePerRead" INT, "16384", NotBuilt(POP_MODE), "Bytes that a revival reads at a time.";
    "popReviveMaxAttemptTimes" INT, "16", NotBuilt(POP_MODE), "Revivals of one message.";
    "popInflightMessageThreshold" INT, "10000", NotBuilt(POP_MODE), "Messages of a queue that may wait for acknowledgement.";
    "enablePopMessageThreshold" Bool, "false", NotBuilt(POP_MODE), "Whether that number is held.";
    "popResponseReturnActualRetryTopic" Bool, "false", NotBuilt(POP_MODE), "Whether a pop from the retry topic names it.";
    "skipWhenCKRePutReachMaxTimes" Bool, "false", NotBuilt(POP_MODE), "Whether a checkpoint that was written too often is dropped.";
    "appendAckAsync" Bool, "false", NotBuilt(POP_MODE), "Whether acknowledgements are answered before they are written.";
    "appendCkAsync" Bool, "false", NotBuilt(POP_MODE), "Whether pops are answered before their checkpoint is written.";
    "serverLoadBalancerEnable" Bool, "true", NotBuilt("assignment of queues by the broker"), "Whether consumers may ask the broker for their queues.";
    "loadBalancePollNameServerInterval" INT, "30000", NotBuilt("assignment of queues by the broker"), "Milliseconds between looks at the routes.";
    "enableMixedMessageType" Bool, "false", NotBuilt("typed topics"), "Whether a topic may be of type MIXED.";
    "maxLiteSubscriptionCount" INT, "300000", NotBuilt("lite topics"), "Lite topics that a broker's consumers may subscribe.";
    "priorityOrderAsc" Bool, "true", NotBuilt("priority messages"), "Whether a low number is a high priority.";
}
