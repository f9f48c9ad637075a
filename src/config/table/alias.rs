//! Other spellings of keys, as they are met in files. Each is applied, with a warning that names the right one.
//! RocketMQ ignores them without a word, unless it is the one that misspells.

use super::super::key::Alias;

macro_rules! aliases {
    ($($wrong:literal => $right:literal;)*) => {
        pub(in crate::config) const ALIASES: &[Alias] = &[$(Alias { wrong: $wrong, right: $right }),*];
    };
}

aliases! {
    "flushDiskTyp" => "flushDiskType";
    "mapedFileSizeCommitLog" => "mappedFileSizeCommitLog";
    "mapedFileSizeConsumeQueue" => "mappedFileSizeConsumeQueue";
    "destroyMappedFileIntervalForcibly" => "destroyMapedFileIntervalForcibly";
    "warmMappedFileEnable" => "warmMapedFileEnable";
    "flushLeastPagesWhenWarmMappedFile" => "flushLeastPagesWhenWarmMapedFile";
    "enableDLedgerCommitLog" => "enableDLegerCommitLog";
    "dLedgerGroup" => "dLegerGroup";
    "dLedgerPeers" => "dLegerPeers";
    "dLedgerSelfId" => "dLegerSelfId";
    "mappedFileSizeBatchConsumeQueue" => "mapperFileSizeBatchConsumeQueue";
    "osPageCacheBusyTimeOutMillis" => "osPageCacheBusyTimeOutMills";
    "waitTimeMillisInSendQueue" => "waitTimeMillsInSendQueue";
    "waitTimeMillisInPullQueue" => "waitTimeMillsInPullQueue";
    "registerBrokerTimeoutMillis" => "registerBrokerTimeoutMills";
    "shortPollingTimeMillis" => "shortPollingTimeMills";
    "putMsgIndexHighWater" => "putMsgIndexHightWater";
    "compactionScheduleInterval" => "compactionScheduleInternal";
    "isEnableBatchPush" => "enableBatchPush";
    "brokerTimerWheelEnable" => "timerWheelEnable";
    "haSlaveFallbehindMax" => "haMaxGapNotInSync";
    "namesrvAddress" => "namesrvAddr";
    "namesrv.addr" => "namesrvAddr";
    "NAMESRV_ADDR" => "namesrvAddr";
    "rocketmq.namesrv.addr" => "namesrvAddr";
    "brokerIP" => "brokerIP1";
    "autoCreateTopic" => "autoCreateTopicEnable";
    "autoCreateTopicEnabled" => "autoCreateTopicEnable";
    "rocketmq.broker.diskSpaceWarningLevelRatio" => "diskSpaceWarningLevelRatio";
    "rocketmq.broker.diskSpaceCleanForciblyRatio" => "diskSpaceCleanForciblyRatio";
}
