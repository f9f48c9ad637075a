//! What Apache's Java clients and servers really put on the wire (the frames under `golden/`) is read, means what it says,
//! and is written back to the same meaning.
//!
//! Every file is claimed by a check in [`CHECKS`]; one that none claims fails. A check reads the typed header and body,
//! compares them with what the recording program did, and sends both through our own writers and back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use ringmq_protocol::body::{
    ConsumerIdList, LockBatchResponse, MessageQueue, TopicConfig, TopicConfigSerializeWrapper, TopicList,
};
use ringmq_protocol::code::{Language, RequestCode, version};
use ringmq_protocol::command::Command;
use ringmq_protocol::frame::Serialize;
use ringmq_protocol::header::{
    BrokerIdentity, ConsumerGroup, CreateTopic, GetRouteInfo, HeartbeatResponse, Names, OffsetResponse,
    TimestampResponse, Topic,
};
use ringmq_protocol::properties::perm;

use recorded::frame::{CLIENTS, Golden, all, check_bare, is_client_id, rewritten, server_addr};
use recorded::groups::{check_client_config, check_heartbeat, check_lock, check_unregister};
use recorded::operators::{
    check_clone, check_connections, check_consume_stats, check_consume_stats_told, check_reset, check_reset_offsets,
    check_running, check_running_told, check_status, check_status_told, check_time_span, check_time_span_told,
    check_who, check_who_told,
};
use recorded::pull::{
    check_one_record, check_pull, check_pull_empty, check_pull_found, check_query, check_query_offset,
    check_queue_bounds, check_update_offset, check_view_message,
};
use recorded::routes::{check_cluster, check_delete_topic_at_name_server, check_register, check_route};
use recorded::send::{
    check_batch, check_end_transaction, check_push_reply, check_send, check_send_back, check_send_reply,
    check_transaction_state,
};

#[macro_use]
#[path = "recorded/mod.rs"]
mod recorded;

type Check = fn(&Golden);

/// Which check reads which file. A reply's name is its request's with `-reply`.
const CHECKS: &[(&[&str], Check)] = &[
    (&["10-send-message"], |golden| check_send(golden, Names::V1)),
    (
        &[
            "310-send-message-v2",
            "310-send-message-v2-tags-keys",
            "310-send-message-v2-oneway",
            "310-send-message-v2-compressed",
            "310-send-message-v2-delay",
            "310-send-message-v2-half",
            "325-send-reply-message-v2",
        ],
        |golden| check_send(golden, Names::V2),
    ),
    (&["320-send-batch-message"], check_batch),
    (
        &[
            "10-send-message-reply",
            "310-send-message-v2-reply",
            "310-send-message-v2-tags-keys-reply",
            "310-send-message-v2-compressed-reply",
            "310-send-message-v2-delay-reply",
            "310-send-message-v2-half-reply",
            "320-send-batch-message-reply",
            "325-send-reply-message-v2-reply",
            "325-send-reply-message-v2-reply-code-1",
        ],
        check_send_reply,
    ),
    (
        &[
            "11-pull-message-subscription",
            "11-pull-message-suspend",
            "11-pull-message-commit-suspend",
            "11-pull-message-suspend-subscription-lite",
            "361-lite-pull-message-suspend-subscription-lite",
        ],
        check_pull,
    ),
    (
        &[
            "11-pull-message-subscription-reply",
            "11-pull-message-suspend-reply",
            "11-pull-message-commit-suspend-reply",
            "11-pull-message-suspend-subscription-lite-reply",
            "361-lite-pull-message-suspend-subscription-lite-reply",
        ],
        check_pull_found,
    ),
    (
        &[
            "11-pull-message-suspend-reply-code-19",
            "11-pull-message-suspend-reply-code-20",
            "11-pull-message-commit-suspend-reply-code-19",
        ],
        check_pull_empty,
    ),
    (&["12-query-message"], check_query),
    (&["12-query-message-reply", "33-view-message-by-id-reply"], check_one_record),
    (&["33-view-message-by-id"], check_view_message),
    (&["14-query-consumer-offset"], check_query_offset),
    (&["15-update-consumer-offset", "15-update-consumer-offset-oneway"], check_update_offset),
    (
        &["29-search-offset-by-timestamp", "30-get-max-offset", "31-get-min-offset", "32-get-earliest-msg-storetime"],
        |golden| {
            check_queue_bounds(golden);
        },
    ),
    (
        &[
            "14-query-consumer-offset-reply",
            "29-search-offset-by-timestamp-reply",
            "30-get-max-offset-reply",
            "31-get-min-offset-reply",
        ],
        |golden| assert!((0..=10).contains(&typed!(golden, OffsetResponse).offset)),
    ),
    (&["32-get-earliest-msg-storetime-reply"], |golden| {
        assert!(typed!(golden, TimestampResponse).timestamp > 1_700_000_000_000);
    }),
    (&["34-heart-beat-producer", "34-heart-beat-consumer-producer"], check_heartbeat),
    (&["34-heart-beat-producer-reply", "34-heart-beat-consumer-producer-reply"], |golden| {
        let expected = golden.is_v5().then_some(true);
        let header = typed!(golden, HeartbeatResponse);
        assert_eq!((header.is_support_heart_beat_v2, header.is_sub_change), (expected, expected));
    }),
    (&["35-unregister-client-consumer", "35-unregister-client-producer"], check_unregister),
    (&["36-consumer-send-msg-back"], check_send_back),
    (
        &[
            "37-end-transaction-commit-oneway",
            "37-end-transaction-rollback-oneway",
            "37-end-transaction-unknown-oneway",
        ],
        check_end_transaction,
    ),
    (&["38-get-consumer-list-by-group", "40-notify-consumer-ids-changed-oneway"], |golden| {
        assert_eq!(typed!(golden, ConsumerGroup).consumer_group, "golden_push");
    }),
    (&["38-get-consumer-list-by-group-reply"], |golden| {
        let list = body!(golden, ConsumerIdList).consumer_id_list;
        assert!(matches!(list.as_slice(), [id] if is_client_id(id)), "{list:?}");
    }),
    (&["39-check-transaction-state-oneway"], check_transaction_state),
    (&["41-lock-batch-mq", "42-unlock-batch-mq"], check_lock),
    (&["41-lock-batch-mq-reply"], |golden| {
        let locked = body!(golden, LockBatchResponse).lock_ok_mq_set;
        assert_eq!(locked, [MessageQueue::new("golden_json", "broker-a", locked[0].queue_id)]);
    }),
    (&["46-check-client-config"], check_client_config),
    (&["326-push-reply-message-to-client"], check_push_reply),
    (&["103-register-broker", "103-register-broker-oneway"], check_register),
    (&["104-unregister-broker"], |golden| {
        let header = typed!(golden, BrokerIdentity);
        assert_eq!((header.broker_name.as_str(), header.broker_id), ("broker-a", 0));
        assert_eq!((header.cluster_name.as_str(), header.broker_addr), ("DefaultCluster", server_addr(golden)));
    }),
    (&["105-get-routeinfo-by-topic"], |golden| {
        let topic = typed!(golden, GetRouteInfo).topic;
        assert!(topic == golden.topic() || topic == "TBW102", "{topic}");
    }),
    (&["105-get-routeinfo-by-topic-reply"], check_route),
    (&["105-get-routeinfo-by-topic-reply-code-17"], |golden| {
        let remark = golden.command().remark.unwrap();
        assert!(remark.starts_with("No topic route info in name server for the topic: %RETRY%golden_push\nSee http"));
    }),
    (&["106-get-broker-cluster-info-reply"], check_cluster),
    (&["206-get-all-topic-list-from-nameserver-reply"], |golden| {
        let list = body!(golden, TopicList).topic_list;
        assert!(list.iter().any(|topic| topic == "golden_json") && list.len() >= 10, "{list:?}");
    }),
    (&["17-update-and-create-topic"], |golden| {
        let header = typed!(golden, CreateTopic);
        assert_eq!((header.topic.as_str(), header.default_topic.as_str()), (golden.topic(), "TBW102"));
        assert_eq!((header.read_queue_nums, header.write_queue_nums, header.perm), (2, 2, perm::READ_WRITE));
        assert_eq!((header.topic_filter_type.as_str(), header.order), ("SINGLE_TAG", false));
    }),
    (&["21-get-all-topic-config-reply"], |golden| {
        let table = body!(golden, TopicConfigSerializeWrapper);
        assert!(table.data_version.counter >= 1);
        assert_eq!(table.topic_config_table["golden_json"], TopicConfig::new("golden_json", 2, 2, perm::READ_WRITE));
    }),
    (&["215-delete-topic-in-broker", "351-get-topic-config"], |golden| {
        assert_eq!(typed!(golden, Topic).topic, golden.topic());
    }),
    (&["216-delete-topic-in-namesrv"], check_delete_topic_at_name_server),
    (&["351-get-topic-config-reply"], |golden| {
        assert_eq!(body!(golden, TopicConfig), TopicConfig::new("golden_json", 2, 2, perm::READ_WRITE));
    }),
    (&["21-get-all-topic-config", "106-get-broker-cluster-info", "206-get-all-topic-list-from-nameserver"], check_bare),
    (
        &[
            "15-update-consumer-offset-reply",
            "17-update-and-create-topic-reply",
            "35-unregister-client-consumer-reply",
            "35-unregister-client-producer-reply",
            "36-consumer-send-msg-back-reply",
            "42-unlock-batch-mq-reply",
            "46-check-client-config-reply",
            "103-register-broker-reply",
            "104-unregister-broker-reply",
            "215-delete-topic-in-broker-reply",
            "314-clone-group-offset-reply",
            "216-delete-topic-in-namesrv-reply",
            "326-push-reply-message-to-client-reply",
        ],
        check_bare,
    ),
    (&["14-query-consumer-offset-reply-code-22"], |golden| {
        assert_eq!(golden.command().remark.unwrap(), "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first");
        check_bare(golden);
    }),
    (&["203-get-consumer-connection-list"], |golden| {
        assert_eq!(typed!(golden, ConsumerGroup).consumer_group, "golden_asked");
    }),
    (&["203-get-consumer-connection-list-reply"], check_connections),
    (&["208-get-consume-stats"], check_consume_stats),
    (&["208-get-consume-stats-reply"], check_consume_stats_told),
    (&["220-reset-consumer-client-offset-oneway", "222-invoke-broker-to-reset-offset"], check_reset),
    (&["222-invoke-broker-to-reset-offset-reply"], check_reset_offsets),
    (&["221-get-consumer-status-from-client", "223-invoke-broker-to-get-consumer-status"], check_status),
    (
        &["221-get-consumer-status-from-client-reply", "223-invoke-broker-to-get-consumer-status-reply"],
        check_status_told,
    ),
    (&["300-query-topic-consume-by-who"], check_who),
    (&["300-query-topic-consume-by-who-reply"], check_who_told),
    (&["303-query-consume-time-span"], check_time_span),
    (&["303-query-consume-time-span-reply"], check_time_span_told),
    (&["307-get-consumer-running-info"], check_running),
    (&["307-get-consumer-running-info-reply"], check_running_told),
    (&["314-clone-group-offset"], check_clone),
    (&["38-get-consumer-list-by-group-reply-code-1"], |golden| {
        assert_eq!(golden.command().remark.unwrap(), "no consumer for this group, golden_orderly");
        check_bare(golden);
    }),
];

#[test]
fn every_recorded_frame_is_read_and_means_what_was_done() {
    let frames = all();
    assert!(frames.len() > 200, "only {} frames were found", frames.len());
    let mut used = BTreeSet::new();
    for golden in &frames {
        let Golden { folder, name, .. } = golden;
        let (_, check) = CHECKS
            .iter()
            .find(|(names, _)| names.contains(&name.as_str()))
            .unwrap_or_else(|| panic!("no check claims {folder}/{name}"));
        used.insert(name.as_str());
        // Shown only when the check fails.
        println!("{folder}/{name}");
        check_head(golden);
        check(golden);
    }
    let claimed = CHECKS.iter().flat_map(|(names, _)| names.iter().copied());
    assert_eq!(used, claimed.collect(), "a check claims a file that is not there");
}

#[test]
fn both_codecs_carry_the_same_command() {
    for golden in all() {
        let mut command = golden.command();
        // As Apache's, the reader of the binary codec takes an empty text for an absent one.
        command.remark = command.remark.filter(|remark| !remark.is_empty());
        command.ext.retain(|(_, value)| !value.is_empty());
        for (serialize, read) in rewritten(&command, golden.body()) {
            assert_eq!(read, command, "{}/{} in {serialize:?}", golden.folder, golden.name);
        }
    }
}

#[test]
fn a_cut_frame_is_never_taken_for_a_whole_one() {
    for golden in all() {
        for cut in 0..golden.header().len() {
            let read = Command::decode(golden.head.serialize, &golden.header()[..cut]);
            assert!(read.is_err(), "{}/{} cut at {cut} reads as {read:?}", golden.folder, golden.name);
        }
    }
}

/// What the name of the file says about the header.
fn check_head(golden: &Golden) {
    let command = golden.command();
    // The client 4.9.8 answers in the codec of the request, 5.3.3 in its own.
    let own = !golden.is_reply() || golden.is_v5();
    let binary = golden.folder.ends_with("rocketmq") && own;
    assert_eq!(golden.head.serialize, if binary { Serialize::RocketMq } else { Serialize::Json });
    assert_eq!(command.language, Language::JAVA);
    let by_client = CLIENTS.contains(&golden.folder)
        || matches!(&*golden.name, "105-get-routeinfo-by-topic" | "106-get-broker-cluster-info")
        // The broker hands on what the client has answered, its version included.
        || golden.name == "307-get-consumer-running-info-reply";
    let expected = match (by_client, golden.is_v5()) {
        (true, true) => [version::V5_3_3, version::V4_9_8],
        (true, false) => [version::V4_9_8; 2],
        (false, true) => [version::V5_3_3; 2],
        (false, false) => [407; 2],
    };
    assert!(expected.contains(&command.version), "version {}", command.version);
    let (number, _) = golden.name.split_once('-').unwrap();
    let code = golden.name.rsplit_once("-code-").map_or(0, |(_, code)| code.parse().unwrap());
    assert_eq!(command.is_response(), golden.is_reply());
    if golden.is_reply() {
        assert_eq!(command.code, code);
    } else {
        assert_eq!(command.code, number.parse().unwrap());
        assert!(RequestCode(command.code).name().is_some());
    }
    assert_eq!(command.is_oneway(), golden.name.ends_with("-oneway"));
}
