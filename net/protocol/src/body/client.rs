//! What clients say about themselves, and who is connected: heartbeats, client lists, connections, queue locks.

use std::collections::BTreeMap;

use super::MessageQueue;
use crate::code::Language;
use crate::filter::TAG;
use crate::json::{FromJson, Json, JsonError, ToJson};

enums! {
    /// Who moves messages: the application pulls, the client pushes, or the broker hands out by pop.
    ConsumeType {
        Actively => "CONSUME_ACTIVELY",
        Passively => "CONSUME_PASSIVELY",
        Pop => "CONSUME_POP",
    }

    MessageModel {
        Broadcasting => "BROADCASTING",
        Clustering => "CLUSTERING",
    }

    /// Where a group without offsets begins.
    ConsumeFromWhere {
        LastOffset => "CONSUME_FROM_LAST_OFFSET",
        LastOffsetAndFromMinWhenBootFirst => "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        MinOffset => "CONSUME_FROM_MIN_OFFSET",
        MaxOffset => "CONSUME_FROM_MAX_OFFSET",
        FirstOffset => "CONSUME_FROM_FIRST_OFFSET",
        Timestamp => "CONSUME_FROM_TIMESTAMP",
    }
}

bodies! {
    /// Code 34.
    #[derive(Eq)]
    HeartbeatData {
        client_id: String => "clientID";
        consumer_data_set: Vec<ConsumerData> => "consumerDataSet";
        /// Zero from clients that do not know heartbeat V2.
        heartbeat_fingerprint: i32 => "heartbeatFingerprint";
        producer_data_set: Vec<ProducerData> => "producerDataSet";
        /// The subscriptions are those of the last full heartbeat.
        without_sub: bool => "withoutSub";
    }

    #[derive(Eq)]
    ProducerData {
        group_name: String => "groupName";
    }

    #[derive(Eq)]
    ConsumerData {
        consume_from_where: ConsumeFromWhere => "consumeFromWhere" = ConsumeFromWhere::LastOffset;
        consume_type: ConsumeType => "consumeType" = ConsumeType::Passively;
        group_name: String => "groupName";
        message_model: MessageModel => "messageModel" = MessageModel::Clustering;
        subscription_data_set: Vec<SubscriptionData> => "subscriptionDataSet";
        unit_mode: bool => "unitMode";
    }

    #[derive(Eq)]
    SubscriptionData {
        class_filter_mode: bool => "classFilterMode";
        code_set: Vec<i32> => "codeSet";
        expression_type: String => "expressionType" = TAG.to_owned();
        sub_string: String => "subString";
        /// Milliseconds from Java, nanoseconds from Go.
        sub_version: i64 => "subVersion";
        tags_set: Vec<String> => "tagsSet";
        topic: String => "topic";
    }

    /// Code 46.
    CheckClientConfig {
        client_id: String => "clientId";
        group: String => "group";
        namespace: Option<String> => "namespace";
        subscription_data: SubscriptionData => "subscriptionData";
    }

    /// The answer to code 345.
    SubscriptionOfGroup {
        group: String => "group";
        subscription_data: Option<SubscriptionData> => "subscriptionData";
        topic: Option<String> => "topic";
    }

    /// The answer to code 38.
    ConsumerIdList {
        consumer_id_list: Vec<String> => "consumerIdList";
    }

    /// Codes 41 and 42.
    LockBatchRequest {
        client_id: String => "clientId";
        consumer_group: String => "consumerGroup";
        mq_set: Vec<MessageQueue> => "mqSet";
        only_this_broker: bool => "onlyThisBroker";
    }

    /// The answer to code 41.
    LockBatchResponse {
        lock_ok_mq_set: Vec<MessageQueue> => "lockOKMQSet";
    }

    #[derive(Eq)]
    Connection {
        client_addr: String => "clientAddr";
        client_id: String => "clientId";
        language: Language => "language" = Language::OTHER;
        version: i32 => "version";
    }

    /// The answer to code 203.
    ConsumerConnection {
        connection_set: Vec<Connection> => "connectionSet";
        consume_from_where: ConsumeFromWhere => "consumeFromWhere" = ConsumeFromWhere::LastOffset;
        consume_type: ConsumeType => "consumeType" = ConsumeType::Passively;
        message_model: MessageModel => "messageModel" = MessageModel::Clustering;
        subscription_table: BTreeMap<String, SubscriptionData> => "subscriptionTable";
    }

    /// The answer to code 204.
    ProducerConnection {
        connection_set: Vec<Connection> => "connectionSet";
    }

    /// The answer to code 328.
    ProducerTableInfo {
        data: BTreeMap<String, Vec<ProducerInfo>> => "data";
    }

    ProducerInfo {
        client_id: String => "clientId";
        language: Language => "language" = Language::OTHER;
        last_update_timestamp: i64 => "lastUpdateTimestamp";
        remote_ip: String => "remoteIP";
        version: i32 => "version";
    }
}

impl FromJson for Language {
    fn from_json(json: &Json, name: &'static str) -> Result<Language, JsonError> {
        match json {
            Json::Str(text) => Ok(Language::from_name(text)),
            other => i32::from_json(other, name).map(Language),
        }
    }
}

impl ToJson for Language {
    fn write(&self, out: &mut Vec<u8>) {
        self.wire_name().write(out);
    }
}
