//! The table of typed headers, and the macro that turns a row into a struct with its reader and writer.
//!
//! A row reads `field: type => "wireName", rule;` or, for the V2 send, `field: type => "wireName" / b'x', rule;`. Types
//! are `str`, `i32`, `i64` and `bool`; rules are `req` (the request fails without it), `opt` (`None` without it) and
//! `def` (the type's default without it, which clients omit freely).

use super::{Field, Names, WriteField, required};
use crate::command::{ExtSink, HeaderError, HeaderView};
use crate::value::Span;

macro_rules! field_type {
    (owned, str) => {
        String
    };
    (spans, str) => {
        Span
    };
    ($kind:ident, $type:ident) => {
        $type
    };
}

macro_rules! ruled_type {
    ($kind:ident, $type:ident, opt) => { Option<field_type!($kind, $type)> };
    ($kind:ident, $type:ident, $rule:ident) => { field_type!($kind, $type) };
}

macro_rules! finish_field {
    ($read:expr, $present:expr, $name:expr, req) => {
        required($read, $present, $name)?
    };
    ($read:expr, $present:expr, $name:expr, opt) => {
        $read
    };
    ($read:expr, $present:expr, $name:expr, def) => {
        $read.unwrap_or_default()
    };
}

macro_rules! wire_name {
    ($long:literal) => {
        $long
    };
    ($long:literal, $short:literal) => {
        const { short_name(&[$short]) }
    };
}

/// The name of a field without a short one serves in both versions.
macro_rules! long_only {
    ($key:ident == $long:literal => $read:expr) => {
        if $key == $long {
            $read;
        }
    };
    ($key:ident == $long:literal, $short:literal => $read:expr) => {};
}

/// A one-letter name as text.
const fn short_name(letter: &'static [u8]) -> &'static str {
    match std::str::from_utf8(letter) {
        Ok(name) => name,
        Err(_) => "",
    }
}

/// The body of a reader: one pass over the ext fields, then the rules.
macro_rules! read_fields {
    ($view:expr, $names:expr, $kind:ident, $($field:ident: $type:ident => $long:literal $(/ $short:literal)?, $rule:ident;)*) => {{
        $(let mut $field: Option<field_type!($kind, $type)> = None;)*
        match $names {
            Names::V1 => for (key, value, span) in $view.fields() {
                match key {
                    $($long => $field = Field::read(value, span),)*
                    _ => {}
                }
            },
            Names::V2 => for (key, value, span) in $view.fields() {
                // Bytes, so that one-letter names become one jump.
                match key.as_bytes() {
                    $($([$short] => $field = Field::read(value, span),)?)*
                    _ => { $(long_only!(key == $long $(, $short)? => $field = Field::read(value, span));)* }
                }
            },
        }
        Ok(Self {
            $($field: finish_field!($field, $view.has_ext(), match $names {
                Names::V1 => $long,
                Names::V2 => wire_name!($long $(, $short)?),
            }, $rule),)*
        })
    }};
}

macro_rules! headers {
    ($($(#[$meta:meta])* $name:ident $(/ $spans:ident)? {
        $($(#[$field_meta:meta])* $field:ident: $type:ident => $long:literal $(/ $short:literal)?, $rule:ident;)*
    })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, Eq)]
            pub struct $name {
                $($(#[$field_meta])* pub $field: ruled_type!(owned, $type, $rule),)*
            }

            impl $name {
                /// Reads the header by its long names.
                pub fn decode(view: &HeaderView<'_>) -> Result<Self, HeaderError> {
                    Self::decode_names(view, Names::V1)
                }

                /// Reads the header by the names of that version.
                pub fn decode_names(view: &HeaderView<'_>, names: Names) -> Result<Self, HeaderError> {
                    read_fields!(view, names, owned, $($field: $type => $long $(/ $short)?, $rule;)*)
                }

                /// Writes the header by its long names; absent fields are left out.
                pub fn encode(&self, sink: &mut impl ExtSink) {
                    self.encode_names(Names::V1, sink);
                }

                /// Writes the header by the names of that version.
                pub fn encode_names(&self, names: Names, sink: &mut impl ExtSink) {
                    $(self.$field.write(match names {
                        Names::V1 => $long,
                        Names::V2 => wire_name!($long $(, $short)?),
                    }, sink);)*
                }

                /// The ext fields of a [`Command`](crate::command::Command).
                pub fn to_ext(&self) -> Vec<(String, String)> {
                    let mut ext = Vec::new();
                    self.encode(&mut ext);
                    ext
                }
            }

            headers!(@spans $(#[$meta])* $($spans)? { $($(#[$field_meta])* $field: $type => $long $(/ $short)?, $rule;)* });
        )*
    };
    (@spans $(#[$meta:meta])* { $($fields:tt)* }) => {};
    (@spans $(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ident => $long:literal $(/ $short:literal)?, $rule:ident;)*
    }) => {
        $(#[$meta])*
        ///
        /// Strings are places in the header that it was parsed from: `header.topic.get(header_bytes)`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: ruled_type!(spans, $type, $rule),)*
        }

        impl $name {
            /// Reads the header by the names of that version, without allocating.
            pub fn parse(view: &HeaderView<'_>, names: Names) -> Result<Self, HeaderError> {
                read_fields!(view, names, spans, $($field: $type => $long $(/ $short)?, $rule;)*)
            }
        }
    };
}

headers! {
    /// Codes 10 (long names), 310, 320 and 325 (short names).
    SendRequest / SendHeader {
        producer_group: str => "producerGroup" / b'a', req;
        topic: str => "topic" / b'b', req;
        default_topic: str => "defaultTopic" / b'c', req;
        default_topic_queue_nums: i32 => "defaultTopicQueueNums" / b'd', req;
        queue_id: i32 => "queueId" / b'e', req;
        sys_flag: i32 => "sysFlag" / b'f', req;
        born_timestamp: i64 => "bornTimestamp" / b'g', req;
        flag: i32 => "flag" / b'h', req;
        properties: str => "properties" / b'i', opt;
        reconsume_times: i32 => "reconsumeTimes" / b'j', def;
        unit_mode: bool => "unitMode" / b'k', def;
        max_reconsume_times: i32 => "maxReconsumeTimes" / b'l', opt;
        batch: bool => "batch" / b'm', def;
    }

    /// The answer to a send.
    SendResponse {
        msg_id: str => "msgId", req;
        queue_id: i32 => "queueId", req;
        queue_offset: i64 => "queueOffset", req;
        transaction_id: str => "transactionId", opt;
        batch_uniq_id: str => "batchUniqId", opt;
        recall_handle: str => "recallHandle", opt;
        msg_region: str => "MSG_REGION", opt;
        trace_on: bool => "TRACE_ON", opt;
    }

    /// Codes 11 and 361.
    PullRequest / PullHeader {
        consumer_group: str => "consumerGroup", req;
        topic: str => "topic", req;
        queue_id: i32 => "queueId", req;
        queue_offset: i64 => "queueOffset", req;
        max_msg_nums: i32 => "maxMsgNums", req;
        sys_flag: i32 => "sysFlag", req;
        commit_offset: i64 => "commitOffset", req;
        suspend_timeout_millis: i64 => "suspendTimeoutMillis", req;
        subscription: str => "subscription", opt;
        sub_version: i64 => "subVersion", req;
        expression_type: str => "expressionType", opt;
        max_msg_bytes: i32 => "maxMsgBytes", opt;
        request_source: i32 => "requestSource", opt;
    }

    /// The answer to a pull; clients need the first four with codes 0, 19, 20 and 21.
    PullResponse {
        suggest_which_broker_id: i64 => "suggestWhichBrokerId", req;
        next_begin_offset: i64 => "nextBeginOffset", req;
        min_offset: i64 => "minOffset", req;
        max_offset: i64 => "maxOffset", req;
        offset_delta: i64 => "offsetDelta", opt;
        topic_sys_flag: i32 => "topicSysFlag", opt;
        group_sys_flag: i32 => "groupSysFlag", opt;
        forbidden_type: i32 => "forbiddenType", opt;
    }

    /// Code 12. The field of the unique key is no member of RocketMQ's header class, but travels with it; the
    /// kind of index, `K` or `U`, is named by the latest clients only.
    QueryMessage {
        topic: str => "topic", req;
        key: str => "key", req;
        max_num: i32 => "maxNum", req;
        begin_timestamp: i64 => "beginTimestamp", req;
        end_timestamp: i64 => "endTimestamp", req;
        unique_key_query: bool => "_UNIQUE_KEY_QUERY", def;
        index_type: str => "indexType", opt;
    }

    /// The answer to code 12.
    QueryMessageResponse {
        index_last_update_timestamp: i64 => "indexLastUpdateTimestamp", req;
        index_last_update_phyoffset: i64 => "indexLastUpdatePhyoffset", req;
    }

    /// Code 33; the offset is a position in the commit log.
    ViewMessage {
        offset: i64 => "offset", req;
        topic: str => "topic", opt;
    }

    /// Code 14.
    QueryConsumerOffset {
        consumer_group: str => "consumerGroup", req;
        topic: str => "topic", req;
        queue_id: i32 => "queueId", req;
        set_zero_if_not_found: bool => "setZeroIfNotFound", opt;
    }

    /// The answer to codes 14, 29, 30 and 31.
    OffsetResponse {
        offset: i64 => "offset", req;
    }

    /// Code 15. Some clients send -1, which means nothing and is ignored by the broker.
    UpdateConsumerOffset {
        consumer_group: str => "consumerGroup", req;
        topic: str => "topic", req;
        queue_id: i32 => "queueId", req;
        commit_offset: i64 => "commitOffset", opt;
    }

    /// Code 29.
    SearchOffset {
        topic: str => "topic", req;
        queue_id: i32 => "queueId", req;
        timestamp: i64 => "timestamp", req;
        /// LOWER (the default) or UPPER, in any case.
        boundary_type: str => "boundaryType", opt;
    }

    /// Code 30.
    GetMaxOffset {
        topic: str => "topic", req;
        queue_id: i32 => "queueId", req;
        committed: bool => "committed", opt;
    }

    /// Codes 31 and 32.
    GetMinOffset {
        topic: str => "topic", req;
        queue_id: i32 => "queueId", req;
    }

    /// The answer to code 32.
    TimestampResponse {
        timestamp: i64 => "timestamp", req;
    }

    /// The ext fields of the answer to a heartbeat (5.x clients).
    HeartbeatResponse {
        is_support_heart_beat_v2: bool => "IS_SUPPORT_HEART_BEAT_V2", opt;
        is_sub_change: bool => "IS_SUB_CHANGE", opt;
    }

    /// Code 35.
    UnregisterClient {
        client_id: str => "clientID", req;
        producer_group: str => "producerGroup", opt;
        consumer_group: str => "consumerGroup", opt;
    }

    /// Code 36; the offset is a position in the commit log.
    ConsumerSendMsgBack {
        offset: i64 => "offset", req;
        group: str => "group", req;
        delay_level: i32 => "delayLevel", req;
        origin_msg_id: str => "originMsgId", opt;
        origin_topic: str => "originTopic", opt;
        unit_mode: bool => "unitMode", def;
        max_reconsume_times: i32 => "maxReconsumeTimes", opt;
    }

    /// Code 37.
    EndTransaction {
        producer_group: str => "producerGroup", def;
        tran_state_table_offset: i64 => "tranStateTableOffset", req;
        commit_log_offset: i64 => "commitLogOffset", req;
        commit_or_rollback: i32 => "commitOrRollback", req;
        from_transaction_check: bool => "fromTransactionCheck", def;
        msg_id: str => "msgId", opt;
        transaction_id: str => "transactionId", opt;
        topic: str => "topic", opt;
    }

    /// Code 323.
    ResumeCheckHalfMessage {
        topic: str => "topic", opt;
        msg_id: str => "msgId", req;
    }

    /// Code 370.
    RecallMessage {
        producer_group: str => "producerGroup", opt;
        topic: str => "topic", req;
        recall_handle: str => "recallHandle", def;
    }

    /// Codes 38, 40, 203 and others that name one consumer group.
    ConsumerGroup {
        consumer_group: str => "consumerGroup", req;
    }

    /// Code 204.
    ProducerGroup {
        producer_group: str => "producerGroup", req;
    }

    /// Code 39, broker to producer.
    CheckTransactionState {
        topic: str => "topic", opt;
        tran_state_table_offset: i64 => "tranStateTableOffset", req;
        commit_log_offset: i64 => "commitLogOffset", req;
        msg_id: str => "msgId", opt;
        transaction_id: str => "transactionId", opt;
        offset_msg_id: str => "offsetMsgId", opt;
        broker_name: str => "bname", opt;
    }

    /// Code 17.
    CreateTopic {
        topic: str => "topic", req;
        default_topic: str => "defaultTopic", req;
        read_queue_nums: i32 => "readQueueNums", req;
        write_queue_nums: i32 => "writeQueueNums", req;
        perm: i32 => "perm", req;
        topic_filter_type: str => "topicFilterType", req;
        topic_sys_flag: i32 => "topicSysFlag", opt;
        order: bool => "order", req;
        attributes: str => "attributes", opt;
        force: bool => "force", opt;
    }

    /// Codes 105, 202, 215, 300, 351 and others that name one topic.
    Topic {
        topic: str => "topic", req;
    }

    /// Code 105.
    GetRouteInfo {
        topic: str => "topic", req;
        accept_standard_json_only: bool => "acceptStandardJsonOnly", opt;
    }

    /// Code 217.
    RegisterTopic {
        topic: str => "topic", req;
    }

    /// Code 216.
    DeleteTopicFromNamesrv {
        topic: str => "topic", req;
        cluster_name: str => "clusterName", opt;
    }

    /// Code 352 and others that name a group by "group".
    Group {
        group: str => "group", req;
    }

    /// Code 207.
    DeleteSubscriptionGroup {
        group_name: str => "groupName", req;
        clean_offset: bool => "cleanOffset", def;
    }

    /// Code 208.
    GetConsumeStats {
        consumer_group: str => "consumerGroup", req;
        topic: str => "topic", opt;
        topic_list: str => "topicList", opt;
    }

    /// Code 21, from 5.3.4 on; older callers send nothing.
    GetAllTopicConfig {
        topic_seq: i32 => "topicSeq", opt;
        data_version: str => "dataVersion", opt;
        max_topic_num: i32 => "maxTopicNum", opt;
    }

    /// Code 201, from 5.3.4 on.
    GetAllSubscriptionGroup {
        group_seq: i32 => "groupSeq", opt;
        data_version: str => "dataVersion", opt;
        max_group_num: i32 => "maxGroupNum", opt;
    }

    /// The answer to code 26; the version is a DataVersion as JSON text.
    GetBrokerConfigResponse {
        version: str => "version", req;
    }

    /// Codes 103.
    RegisterBroker {
        broker_name: str => "brokerName", req;
        broker_addr: str => "brokerAddr", req;
        cluster_name: str => "clusterName", req;
        ha_server_addr: str => "haServerAddr", req;
        broker_id: i64 => "brokerId", req;
        heartbeat_timeout_millis: i64 => "heartbeatTimeoutMillis", opt;
        enable_acting_master: bool => "enableActingMaster", opt;
        compressed: bool => "compressed", def;
        body_crc32: i32 => "bodyCrc32", def;
        zone_name: str => "__ZONE_NAME", opt;
    }

    /// The answer to code 103.
    RegisterBrokerResponse {
        ha_server_addr: str => "haServerAddr", opt;
        master_addr: str => "masterAddr", opt;
    }

    /// Codes 104 and 322.
    BrokerIdentity {
        broker_name: str => "brokerName", req;
        broker_addr: str => "brokerAddr", req;
        cluster_name: str => "clusterName", req;
        broker_id: i64 => "brokerId", req;
    }

    /// The answer to code 322.
    QueryDataVersionResponse {
        changed: bool => "changed", req;
    }

    /// Code 904.
    BrokerHeartbeat {
        cluster_name: str => "clusterName", req;
        broker_addr: str => "brokerAddr", req;
        broker_name: str => "brokerName", req;
        broker_id: i64 => "brokerId", opt;
        epoch: i32 => "epoch", opt;
        max_offset: i64 => "maxOffset", opt;
        confirm_offset: i64 => "confirmOffset", opt;
        heartbeat_timeout_mills: i64 => "heartbeatTimeoutMills", opt;
        election_priority: i32 => "electionPriority", opt;
    }

    /// Code 901.
    GetBrokerMemberGroup {
        cluster_name: str => "clusterName", req;
        broker_name: str => "brokerName", req;
    }

    /// Code 100.
    PutKvConfig {
        namespace: str => "namespace", req;
        key: str => "key", req;
        value: str => "value", req;
    }

    /// Codes 101 and 102.
    KvConfigKey {
        namespace: str => "namespace", req;
        key: str => "key", req;
    }

    /// The answer to code 101.
    GetKvConfigResponse {
        value: str => "value", opt;
    }

    /// Code 219.
    KvNamespace {
        namespace: str => "namespace", req;
    }

    /// Codes 205 and 327.
    BrokerName {
        broker_name: str => "brokerName", req;
    }

    /// The answer to code 205.
    WipeWritePermResponse {
        wipe_topic_count: i32 => "wipeTopicCount", req;
    }

    /// The answer to code 327.
    AddWritePermResponse {
        add_topic_count: i32 => "addTopicCount", req;
    }

    /// Code 224.
    TopicsByCluster {
        cluster: str => "cluster", req;
    }

    /// Code 222, and 220 from broker to consumer.
    ResetOffset {
        topic: str => "topic", req;
        group: str => "group", req;
        timestamp: i64 => "timestamp", req;
        is_force: bool => "isForce", req;
        queue_id: i32 => "queueId", opt;
        offset: i64 => "offset", opt;
    }

    /// Codes 307 and 309, from admin to broker to consumer.
    ClientCallback {
        consumer_group: str => "consumerGroup", req;
        client_id: str => "clientId", opt;
        jstack_enable: bool => "jstackEnable", opt;
        msg_id: str => "msgId", opt;
        broker_name: str => "brokerName", opt;
        topic: str => "topic", opt;
    }

    /// Code 223, and 221 from broker to consumer.
    ConsumerStatus {
        topic: str => "topic", req;
        group: str => "group", req;
        /// The id of the one client that is asked; the field's name says otherwise.
        client_id: str => "clientAddr", opt;
    }

    /// Code 326, from broker to producer.
    PushReply {
        producer_group: str => "producerGroup", req;
        topic: str => "topic", req;
        default_topic: str => "defaultTopic", req;
        default_topic_queue_nums: i32 => "defaultTopicQueueNums", req;
        queue_id: i32 => "queueId", req;
        sys_flag: i32 => "sysFlag", req;
        born_timestamp: i64 => "bornTimestamp", req;
        flag: i32 => "flag", req;
        properties: str => "properties", opt;
        reconsume_times: i32 => "reconsumeTimes", opt;
        unit_mode: bool => "unitMode", def;
        /// `ip:port`, as is the next.
        born_host: str => "bornHost", req;
        store_host: str => "storeHost", req;
        store_timestamp: i64 => "storeTimestamp", req;
    }

    /// Code 303.
    ConsumeTimeSpanQuery {
        topic: str => "topic", req;
        group: str => "group", req;
    }

    /// Code 308.
    QueryCorrectionOffset {
        /// Groups that do not count, joined by commas.
        filter_groups: str => "filterGroups", opt;
        compare_group: str => "compareGroup", req;
        topic: str => "topic", req;
    }

    /// Code 314.
    CloneGroupOffset {
        src_group: str => "srcGroup", req;
        dest_group: str => "destGroup", req;
        topic: str => "topic", opt;
        offline: bool => "offline", def;
    }

    /// Code 315.
    BrokerStats {
        name: str => "statsName", req;
        key: str => "statsKey", req;
    }

    /// Code 317.
    BrokerConsumeStats {
        is_order: bool => "isOrder", req;
    }

    /// Code 321.
    QueryConsumeQueue {
        topic: str => "topic", def;
        queue_id: i32 => "queueId", def;
        index: i64 => "index", def;
        count: i32 => "count", def;
        consumer_group: str => "consumerGroup", opt;
    }

    /// Code 345.
    QuerySubscription {
        group: str => "group", req;
        topic: str => "topic", opt;
    }
}
