use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::code::{Language, version};
use crate::compress::deflate;

fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).unwrap()
}

#[test]
fn a_java_heartbeat_is_understood() {
    let body = br#"{"clientID":"10.0.0.1@77#123","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_TIMESTAMP",
        "consumeType":"CONSUME_PASSIVELY","groupName":"CG","messageModel":"BROADCASTING","subscriptionDataSet":[
        {"classFilterMode":false,"codeSet":[2598919],"expressionType":"TAG","subString":"TagA","subVersion":1700000000000,
        "tagsSet":["TagA"],"topic":"T"}],"unitMode":false}],"heartbeatFingerprint":-5,
        "producerDataSet":[{"groupName":"PG"}],"withoutSub":true}"#;
    let heartbeat = HeartbeatData::parse(body).unwrap();
    assert_eq!((heartbeat.client_id.as_str(), heartbeat.heartbeat_fingerprint), ("10.0.0.1@77#123", -5));
    assert!(heartbeat.without_sub);
    let consumer = &heartbeat.consumer_data_set[0];
    assert_eq!(
        (consumer.consume_from_where, consumer.message_model),
        (ConsumeFromWhere::Timestamp, MessageModel::Broadcasting)
    );
    let subscription = &consumer.subscription_data_set[0];
    assert_eq!(
        (subscription.code_set.as_slice(), subscription.sub_version),
        ([2_598_919].as_slice(), 1_700_000_000_000)
    );
    assert_eq!(HeartbeatData::parse(&heartbeat.to_vec()).unwrap(), heartbeat);
}

#[test]
fn a_cpp_heartbeat_is_understood() {
    let body = br#"{"clientID":"c","consumerDataSet":[{"consumeFromWhere":0,"consumeType":1,"groupName":"CG",
        "messageModel":1,"subscriptionDataSet":[{"codeSet":["-3"],"subString":"*","subVersion":"1700000000000",
        "tagsSet":null,"topic":"T"}]}],"producerDataSet":null}"#;
    let heartbeat = HeartbeatData::parse(body).unwrap();
    let consumer = &heartbeat.consumer_data_set[0];
    assert_eq!(
        (consumer.consume_type, consumer.message_model, consumer.unit_mode),
        (ConsumeType::Passively, MessageModel::Clustering, false)
    );
    let subscription = &consumer.subscription_data_set[0];
    assert_eq!((subscription.sub_version, subscription.expression_type.as_str()), (1_700_000_000_000, "TAG"));
    assert_eq!((subscription.code_set.as_slice(), subscription.tags_set.len()), ([-3].as_slice(), 0));
}

#[test]
fn wrong_types_are_named() {
    let error = HeartbeatData::parse(br#"{"clientID":[1]}"#).unwrap_err();
    assert_eq!(error.to_string(), "the body's clientID has the wrong type");
    for body in [&b""[..], b"[]", b"null", b"7"] {
        assert!(HeartbeatData::parse(body).is_err());
    }
    assert!(HeartbeatData::parse(br#"{"consumerDataSet":[{"consumeType":9}]}"#).is_err());
}

#[test]
fn a_route_has_what_strict_clients_need() {
    let route = TopicRouteData {
        broker_datas: vec![BrokerData {
            broker_addrs: [(0, "10.0.0.1:10911".to_owned()), (1, "10.0.0.2:10911".to_owned())].into(),
            broker_name: "broker-a".to_owned(),
            cluster: "DefaultCluster".to_owned(),
            ..BrokerData::default()
        }],
        queue_datas: vec![QueueData {
            broker_name: "broker-a".to_owned(),
            perm: 6,
            read_queue_nums: 8,
            topic_sys_flag: 0,
            write_queue_nums: 8,
        }],
        ..TopicRouteData::default()
    };
    let expected = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}]}"#;
    assert_eq!(text(route.to_vec()), expected);
    let unquoted = expected.replace("\"0\":", "0:").replace("\"1\":", "1:");
    assert_eq!(TopicRouteData::parse(unquoted.as_bytes()).unwrap(), route);
}

#[test]
fn queue_keyed_tables_are_inline() {
    let offset = OffsetWrapper { broker_offset: 9, consumer_offset: 7, last_timestamp: 1, pull_offset: 8 };
    let stats = ConsumeStats { consume_tps: 0.0, offset_table: [(MessageQueue::new("t", "b", 0), offset)].into() };
    assert_eq!(
        text(stats.to_vec()),
        r#"{"consumeTps":0.0,"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:{"brokerOffset":9,"consumerOffset":7,"lastTimestamp":1,"pullOffset":8}}}"#
    );
    assert_eq!(ConsumeStats::parse(&stats.to_vec()).unwrap(), stats);
}

#[test]
fn names_that_do_not_follow_their_members_are_right() {
    let lock = LockBatchRequest { mq_set: vec![MessageQueue::new("t", "b", 1)], ..LockBatchRequest::default() };
    assert_eq!(
        text(lock.to_vec()),
        r#"{"clientId":"","consumerGroup":"","mqSet":[{"brokerName":"b","queueId":1,"topic":"t"}],"onlyThisBroker":false}"#
    );
    assert_eq!(text(LockBatchResponse::default().to_vec()), r#"{"lockOKMQSet":[]}"#);
    assert_eq!(text(ConsumerIdList { consumer_id_list: vec!["a".to_owned()] }.to_vec()), r#"{"consumerIdList":["a"]}"#);
    assert_eq!(text(TopicList::default().to_vec()), r#"{"topicList":[]}"#);
    let connection = Connection { language: Language::GO, version: 317, ..Connection::default() };
    assert_eq!(text(connection.to_vec()), r#"{"clientAddr":"","clientId":"","language":"GO","version":317}"#);
}

#[test]
fn a_group_has_rocketmqs_defaults() {
    let group = SubscriptionGroupConfig::parse(br#"{"groupName":"G","retryMaxTimes":3,"brokerId":0}"#).unwrap();
    let expected = SubscriptionGroupConfig { retry_max_times: 3, ..SubscriptionGroupConfig::new("G") };
    assert_eq!(group, expected);
    assert!(group.consume_enable && group.consume_broadcast_enable && !group.consume_message_orderly);
    let round = SubscriptionGroupConfig::parse(&group.to_vec()).unwrap();
    assert_eq!(round, group);
}

#[test]
fn offsets_are_read_from_a_stores_file() {
    let body = br#"{"dataVersion":{"counter":2,"timestamp":5},"groupTopicMap":{},"offsetTable":{"t@g":{0:1,1:"2"}}}"#;
    let offsets = ConsumerOffsetSerializeWrapper::parse(body).unwrap();
    assert_eq!(offsets.offset_table["t@g"], BTreeMap::from([(0, 1), (1, 2)]));
    assert_eq!(
        text(offsets.to_vec()),
        r#"{"dataVersion":{"counter":2,"stateVersion":0,"timestamp":5},"offsetTable":{"t@g":{"0":1,"1":2}}}"#
    );
}

fn registration() -> RegisterBrokerBody {
    let mut config = TopicConfig::new("T", 8, 4, 6);
    config.attributes.insert("queue.type".to_owned(), "BatchCQ".to_owned());
    let mut wrapper = TopicConfigSerializeWrapper {
        data_version: DataVersion { counter: 3, state_version: 0, timestamp: 1_700_000_000_000 },
        ..TopicConfigSerializeWrapper::default()
    };
    for config in [config, TopicConfig::new("%RETRY%g", 1, 1, 6)] {
        wrapper.topic_config_table.insert(config.topic_name.clone(), config);
    }
    RegisterBrokerBody { filter_server_list: vec!["f:1".to_owned()], topic_config_serialize_wrapper: wrapper }
}

#[test]
fn a_registration_survives_every_form() {
    let body = registration();
    let plain = body.to_vec();
    let decoded = RegisterBrokerBody::decode(&plain, false, body_crc32(&plain), version::V4_9_8).unwrap();
    assert_eq!(decoded, body);
    for mapping_part in [false, true] {
        let packed = body.pack(mapping_part).unwrap();
        assert_eq!(RegisterBrokerBody::decode(&packed, true, body_crc32(&packed), version::V5_3_3).unwrap(), body);
    }
    let old = body.topic_config_serialize_wrapper.to_vec();
    let decoded = RegisterBrokerBody::decode(&old, false, 0, version::V3_0_7_SNAPSHOT).unwrap();
    assert_eq!(decoded.topic_config_serialize_wrapper, body.topic_config_serialize_wrapper);
    assert_eq!(RegisterBrokerBody::decode(b"", true, 0, version::V5_3_3).unwrap(), RegisterBrokerBody::default());
}

#[test]
fn a_damaged_registration_is_refused() {
    let packed = registration().pack(false).unwrap();
    let checked = RegisterBrokerBody::decode(&packed, true, body_crc32(&packed) ^ 1, version::V5_3_3);
    assert_eq!(checked, Err(RegisterBodyError::Checksum));
    assert!(RegisterBrokerBody::decode(b"not zlib", true, 0, version::V5_3_3).is_err());
    for unpacked in [&[0x7F, 0xFF, 0xFF, 0xFF][..], &[0, 0, 0, 2, b'{', b'}', 0x7F, 0xFF, 0xFF, 0xFF]] {
        let packed = deflate(unpacked, 5).unwrap();
        let error = RegisterBrokerBody::decode(&packed, true, 0, version::V5_3_3).unwrap_err();
        assert!(matches!(error, RegisterBodyError::Layout(_)), "{error}");
    }
}

#[test]
fn the_text_form_of_a_topic_is_javas() {
    let mut config = TopicConfig::new("T", 8, 4, 6);
    assert_eq!(config.to_text(), "T 8 4 6 SINGLE_TAG");
    config.attributes.insert("a".to_owned(), "b c".to_owned());
    assert_eq!(config.to_text(), r#"T 8 4 6 SINGLE_TAG {"a":"b c"}"#);
    assert_eq!(TopicConfig::from_text(&config.to_text()), Some(config));
    for bad in ["", "T", "T 8 4", "T 8 4 x SINGLE_TAG", "T 8 4 6 NO_TAG", " 8 4 6 SINGLE_TAG", "T 8 4 6 SINGLE_TAG {"] {
        assert_eq!(TopicConfig::from_text(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn every_topic_comes_back(name in "[a-zA-Z0-9_%|-]{1,40}", read: i32, write: i32, perm: i32, order: bool, attributes in prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4)) {
        let config = TopicConfig { order, attributes, ..TopicConfig::new(&name, read, write, perm) };
        prop_assert_eq!(&TopicConfig::parse(&config.to_vec()).unwrap(), &config);
        let unordered = TopicConfig { order: false, ..config };
        prop_assert_eq!(TopicConfig::from_text(&unordered.to_text()), Some(unordered));
    }

    #[test]
    fn every_queue_table_comes_back(table in prop::collection::btree_map((".{0,8}", ".{0,8}", any::<i32>()), any::<i64>(), 0..6)) {
        let offset_table = table.iter().map(|((topic, broker, id), offset)| (MessageQueue::new(topic, broker, *id), *offset)).collect();
        let body = ResetOffsetBody { offset_table };
        prop_assert_eq!(ResetOffsetBody::parse(&body.to_vec()).unwrap(), body);
    }

    #[test]
    fn any_packed_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let packed = deflate(&bytes, 1).unwrap();
        let _ = RegisterBrokerBody::decode(&packed, true, 0, version::V5_3_3);
    }
}
