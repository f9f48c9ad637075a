//! What a running consumer says of itself when an operator asks.

use std::collections::BTreeMap;

use super::{MessageQueue, SubscriptionData};

bodies! {
    /// The answer to code 307.
    ConsumerRunningInfo {
        jstack: Option<String> => "jstack";
        mq_table: BTreeMap<MessageQueue, ProcessQueueInfo> => "mqTable";
        /// By the names in [`running_property`].
        properties: BTreeMap<String, String> => "properties";
        /// By topic.
        status_table: BTreeMap<String, ConsumeStatus> => "statusTable";
        subscription_set: Vec<SubscriptionData> => "subscriptionSet";
    }

    /// One queue that the consumer has. Times are milliseconds since 1970.
    ProcessQueueInfo {
        cached_msg_count: i32 => "cachedMsgCount";
        cached_msg_max_offset: i64 => "cachedMsgMaxOffset";
        cached_msg_min_offset: i64 => "cachedMsgMinOffset";
        cached_msg_size_in_mib: i32 => "cachedMsgSizeInMiB";
        commit_offset: i64 => "commitOffset";
        /// RocketMQ's spelling.
        dropped: bool => "droped";
        last_consume_timestamp: i64 => "lastConsumeTimestamp";
        last_lock_timestamp: i64 => "lastLockTimestamp";
        last_pull_timestamp: i64 => "lastPullTimestamp";
        locked: bool => "locked";
        transaction_msg_count: i32 => "transactionMsgCount";
        transaction_msg_max_offset: i64 => "transactionMsgMaxOffset";
        transaction_msg_min_offset: i64 => "transactionMsgMinOffset";
        try_unlock_times: i64 => "tryUnlockTimes";
    }

    /// One topic: milliseconds a message or pull, messages a second, and failures within an hour.
    ConsumeStatus {
        consume_failed_msgs: i64 => "consumeFailedMsgs";
        consume_failed_tps: f64 => "consumeFailedTPS";
        consume_ok_tps: f64 => "consumeOKTPS";
        consume_rt: f64 => "consumeRT";
        pull_rt: f64 => "pullRT";
        pull_tps: f64 => "pullTPS";
    }

    /// The answer to code 309.
    ConsumeMessageDirectlyResult {
        auto_commit: bool => "autoCommit";
        /// One of the words in [`direct_result`].
        consume_result: String => "consumeResult";
        order: bool => "order";
        remark: Option<String> => "remark";
        spent_time_millis: i64 => "spentTimeMills";
    }
}

/// The names of [`ConsumerRunningInfo::properties`].
pub mod running_property {
    pub const NAME_SERVERS: &str = "PROP_NAMESERVER_ADDR";
    pub const THREADS: &str = "PROP_THREADPOOL_CORE_SIZE";
    pub const ORDERLY: &str = "PROP_CONSUMEORDERLY";
    pub const CONSUME_TYPE: &str = "PROP_CONSUME_TYPE";
    pub const CLIENT_VERSION: &str = "PROP_CLIENT_VERSION";
    pub const STARTED_AT: &str = "PROP_CONSUMER_START_TIMESTAMP";
}

/// The words of [`ConsumeMessageDirectlyResult::consume_result`].
pub mod direct_result {
    pub const SUCCESS: &str = "CR_SUCCESS";
    pub const LATER: &str = "CR_LATER";
    pub const THREW: &str = "CR_THROW_EXCEPTION";
}
