//! Queues, offsets and what tools compute from them.

use std::collections::BTreeMap;

use super::{DataVersion, SubscriptionData};
use crate::json::{FromJson, JsonKey, ToJson, parse};

bodies! {
    /// One queue of a topic at one broker.
    #[derive(Eq, PartialOrd, Ord, Hash)]
    MessageQueue {
        broker_name: String => "brokerName";
        queue_id: i32 => "queueId";
        topic: String => "topic";
    }

    /// The answer to code 208.
    ConsumeStats {
        consume_tps: f64 => "consumeTps";
        offset_table: BTreeMap<MessageQueue, OffsetWrapper> => "offsetTable";
    }

    OffsetWrapper {
        broker_offset: i64 => "brokerOffset";
        consumer_offset: i64 => "consumerOffset";
        last_timestamp: i64 => "lastTimestamp";
        pull_offset: i64 => "pullOffset";
    }

    /// The answer to code 317.
    ConsumeStatsList {
        broker_addr: String => "brokerAddr";
        consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>> => "consumeStatsList";
        total_diff: i64 => "totalDiff";
        total_inflight_diff: i64 => "totalInflightDiff";
    }

    /// The answer to code 202.
    TopicStatsTable {
        offset_table: BTreeMap<MessageQueue, TopicOffset> => "offsetTable";
        topic_put_tps: f64 => "topicPutTps";
    }

    TopicOffset {
        last_update_timestamp: i64 => "lastUpdateTimestamp";
        max_offset: i64 => "maxOffset";
        min_offset: i64 => "minOffset";
    }

    /// The answer to code 43, and the file `consumerOffset.json`: `topic@group` to queue id to consume offset.
    ConsumerOffsetSerializeWrapper {
        data_version: DataVersion => "dataVersion";
        offset_table: BTreeMap<String, BTreeMap<i32, i64>> => "offsetTable";
    }

    /// The answer to code 45, and the file `delayOffset.json`: delay level to offset.
    DelayOffsetSerializeWrapper {
        data_version: DataVersion => "dataVersion";
        offset_table: BTreeMap<i32, i64> => "offsetTable";
    }

    /// The body of code 220, the answer to code 222.
    ResetOffsetBody {
        offset_table: BTreeMap<MessageQueue, i64> => "offsetTable";
    }

    /// The body of code 220 for C++ clients.
    ResetOffsetBodyForC {
        offset_table: Vec<QueueOffset> => "offsetTable";
    }

    /// The answer to code 221 (what one client has consumed), and to code 223 (the same of all, by client id).
    ConsumerStatusBody {
        consumer_table: BTreeMap<String, BTreeMap<MessageQueue, i64>> => "consumerTable";
        message_queue_table: BTreeMap<MessageQueue, i64> => "messageQueueTable";
    }

    /// The answer to code 308.
    CorrectionOffsets {
        correction_offsets: BTreeMap<i32, i64> => "correctionOffsets";
    }

    /// The answer to code 321.
    ConsumeQueueEntries {
        filter_data: Option<String> => "filterData";
        max_queue_index: i64 => "maxQueueIndex";
        min_queue_index: i64 => "minQueueIndex";
        queue_data: Vec<ConsumeQueueEntry> => "queueData";
        subscription_data: Option<SubscriptionData> => "subscriptionData";
    }

    ConsumeQueueEntry {
        bit_map: Option<String> => "bitMap";
        eval: bool => "eval";
        extend_data_json: Option<String> => "extendDataJson";
        msg: Option<String> => "msg";
        physic_offset: i64 => "physicOffset";
        physic_size: i32 => "physicSize";
        tags_code: i64 => "tagsCode";
    }

    QueueOffset {
        broker_name: String => "brokerName";
        offset: i64 => "offset";
        queue_id: i32 => "queueId";
        topic: String => "topic";
    }

    /// The answer to code 303.
    ConsumeTimeSpans {
        consume_time_span_set: Vec<ConsumeTimeSpan> => "consumeTimeSpanSet";
    }

    ConsumeTimeSpan {
        consume_time_stamp: i64 => "consumeTimeStamp";
        delay_time: i64 => "delayTime";
        max_time_stamp: i64 => "maxTimeStamp";
        message_queue: MessageQueue => "messageQueue";
        min_time_stamp: i64 => "minTimeStamp";
    }

    /// The answer to code 315.
    BrokerStatsData {
        stats_day: BrokerStatsItem => "statsDay";
        stats_hour: BrokerStatsItem => "statsHour";
        stats_minute: BrokerStatsItem => "statsMinute";
    }

    BrokerStatsItem {
        avgpt: f64 => "avgpt";
        sum: i64 => "sum";
        tps: f64 => "tps";
    }
}

impl MessageQueue {
    pub fn new(topic: &str, broker_name: &str, queue_id: i32) -> MessageQueue {
        MessageQueue { broker_name: broker_name.to_owned(), queue_id, topic: topic.to_owned() }
    }
}

/// A queue as a key stands inline, as an object: what fastjson writes, and the only form it reads.
impl JsonKey for MessageQueue {
    fn from_key(key: &str) -> Option<MessageQueue> {
        MessageQueue::from_json(&parse(key.as_bytes()).ok()?, "MessageQueue").ok()
    }

    fn write_key(&self, out: &mut Vec<u8>) {
        self.write(out);
    }
}
