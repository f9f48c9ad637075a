//! Messages on their way in: sends of every kind and their answers, replies, send-backs and the ends of transactions.

use ringmq_protocol::batch::{BatchMessage, BatchReader, push_message};
use ringmq_protocol::compress::decompress;
use ringmq_protocol::header::{
    CheckTransactionState, ConsumerSendMsgBack, EndTransaction, Names, PushReply, SendHeader, SendRequest, SendResponse,
};
use ringmq_protocol::id::{decode_offset_msg_id, offset_msg_id};
use ringmq_protocol::message::{BODY_MAX_DEFAULT, Record};
use ringmq_protocol::properties::{self, sys_flag};

use super::frame::{Golden, is_client_id, is_unique_key, server_addr, store_host};
use super::pull::written;

pub(crate) fn check_send(golden: &Golden, names: Names) {
    let header = typed!(golden, SendRequest, names, &[]);
    let text = header.properties.as_deref().unwrap();
    let property = |name| properties::get(text, name);
    assert_eq!((header.default_topic.as_str(), header.default_topic_queue_nums), ("TBW102", 4));
    assert_eq!((header.flag, header.reconsume_times, header.max_reconsume_times), (0, 0, None));
    assert!(!header.unit_mode && !header.batch && (0..2).contains(&header.queue_id));
    assert!(header.born_timestamp > 1_700_000_000_000 && is_unique_key(property(properties::UNIQ_KEY)));
    let kind = golden.name.rsplit('-').next().unwrap();
    let (group, flag) = match kind {
        "half" => ("driver_transaction", sys_flag::TRANSACTION_PREPARED),
        "compressed" => ("driver_producer", sys_flag::COMPRESSED | 0x300),
        _ => ("driver_producer", 0),
    };
    assert_eq!((header.producer_group.as_str(), header.sys_flag), (group, flag));
    if golden.name.starts_with("325") {
        assert_eq!((header.topic.as_str(), golden.body()), ("DefaultCluster_REPLY_TOPIC", &b"answer|"[..]));
        assert_eq!(property(properties::MSG_TYPE), Some("reply"));
    } else {
        assert_eq!((header.topic.as_str(), property(properties::WAIT)), (golden.topic(), Some("true")));
        check_send_kind(golden, kind, text);
    }
    check_send_places(golden, names, &header);
}

pub(crate) fn check_send_kind(golden: &Golden, kind: &str, text: &str) {
    let property = |name| properties::get(text, name);
    let tag = (kind == "keys" || golden.name.starts_with("10-")).then_some("TagA");
    assert_eq!(property(properties::TAGS), tag);
    assert_eq!(property(properties::KEYS), (kind == "keys").then_some("order-0"));
    assert_eq!(property("user"), (kind == "keys").then_some("value"));
    assert_eq!(property(properties::DELAY), (kind == "delay").then_some("1"));
    assert_eq!(property(properties::TRAN_MSG), (kind == "half").then_some("true"));
    assert_eq!(property(properties::PGROUP), (kind == "half").then_some("driver_transaction"));
    if kind == "compressed" {
        let body = decompress(sys_flag::COMPRESSED | 0x300, golden.body(), BODY_MAX_DEFAULT).unwrap().unwrap();
        assert!(body.len() > 4096 && body.starts_with(b"m-0|"), "{} bytes", body.len());
    } else {
        assert_eq!(golden.body(), b"m-0|");
    }
}

/// The header that the hot path reads says the same as the one that owns its strings.
pub(crate) fn check_send_places(golden: &Golden, names: Names, header: &SendRequest) {
    let places = SendHeader::parse(&golden.view(), names).unwrap();
    let text = |span: ringmq_protocol::value::Span| span.get(golden.header()).to_string();
    assert_eq!(text(places.topic), header.topic);
    assert_eq!(text(places.producer_group), header.producer_group);
    assert_eq!(places.properties.map(text), header.properties);
    assert_eq!((places.queue_id, places.sys_flag, places.batch), (header.queue_id, header.sys_flag, header.batch));
    assert_eq!((places.born_timestamp, places.flag), (header.born_timestamp, header.flag));
}

pub(crate) fn check_batch(golden: &Golden) {
    let header = typed!(golden, SendRequest, Names::V2, &[]);
    assert!(header.batch);
    assert_eq!((header.topic.as_str(), header.sys_flag, header.queue_id), (golden.topic(), 0, 1));
    check_send_places(golden, Names::V2, &header);
    assert_eq!(BatchReader::new(golden.body(), 3).check(), Ok(3));
    let messages: Vec<BatchMessage<'_>> = BatchReader::new(golden.body(), 3).map(Result::unwrap).collect();
    let mut ours = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        assert_eq!((message.flag, message.body), (0, format!("m-{i}|").as_bytes()));
        let property = |name| properties::get(message.properties, name);
        assert_eq!(property(properties::KEYS), Some(format!("batch-{i}").as_str()));
        assert_eq!(property(properties::TAGS), Some(["TagA", "TagB", "TagA"][i]));
        assert!(is_unique_key(property(properties::UNIQ_KEY)));
        push_message(&mut ours, message).unwrap();
    }
    assert_eq!(ours, golden.body(), "our batch is Java's, byte for byte");
}

pub(crate) fn check_send_reply(golden: &Golden) {
    let header = typed!(golden, SendResponse);
    assert_eq!((header.msg_region.as_deref(), header.trace_on), (Some("DefaultRegion"), Some(true)));
    assert!((0..2).contains(&header.queue_id) && (0..=8).contains(&header.queue_offset));
    let ids: Vec<&str> = header.msg_id.split(',').collect();
    assert_eq!(ids.len(), if golden.name.starts_with("320") { 3 } else { 1 });
    let mut last = -1;
    for id in ids {
        let (host, position) = decode_offset_msg_id(id).unwrap();
        assert_eq!(host, store_host(golden));
        assert_eq!(offset_msg_id(host, position).as_str(), id);
        assert!(position > last, "{id}");
        last = position;
    }
    let id = header.transaction_id.as_deref();
    assert_eq!(is_unique_key(id), golden.is_v5() && !golden.name.starts_with("325"), "{id:?}");
}

pub(crate) fn check_push_reply(golden: &Golden) {
    let header = typed!(golden, PushReply);
    assert_eq!((header.topic.as_str(), golden.body()), ("DefaultCluster_REPLY_TOPIC", &b"answer|"[..]));
    assert_eq!(header.store_host, server_addr(golden));
    let text = header.properties.unwrap();
    let pushed = properties::get(&text, properties::PUSH_REPLY_TIME);
    assert_eq!(pushed, Some(header.store_timestamp.to_string().as_str()));
    assert!(properties::get(&text, properties::REPLY_TO_CLIENT).is_some_and(is_client_id));
}

pub(crate) fn check_send_back(golden: &Golden) {
    let header = typed!(golden, ConsumerSendMsgBack);
    assert!(header.offset > 0 && !header.unit_mode && is_unique_key(header.origin_msg_id.as_deref()));
    assert_eq!((header.group.as_str(), header.origin_topic.as_deref()), ("golden_push", Some(golden.topic())));
    assert_eq!((header.delay_level, header.max_reconsume_times), (0, Some(16)));
}

pub(crate) fn check_end_transaction(golden: &Golden) {
    let header = typed!(golden, EndTransaction);
    let (group, end) = match golden.name.as_str() {
        "37-end-transaction-commit-oneway" => ("driver_transaction", sys_flag::TRANSACTION_COMMIT),
        "37-end-transaction-rollback-oneway" => ("driver_transaction", sys_flag::TRANSACTION_ROLLBACK),
        _ => ("golden_check", 0),
    };
    assert_eq!((header.producer_group.as_str(), header.commit_or_rollback), (group, end));
    assert!(!header.from_transaction_check && header.commit_log_offset > 0 && header.tran_state_table_offset >= 0);
    assert!(is_unique_key(header.msg_id.as_deref()));
    assert_eq!(header.topic.as_deref(), golden.is_v5().then_some(golden.topic()));
    assert_eq!(header.transaction_id, header.msg_id.filter(|_| golden.is_v5()));
}

pub(crate) fn check_transaction_state(golden: &Golden) {
    let header = typed!(golden, CheckTransactionState);
    let (record, len) = Record::parse(golden.body()).unwrap();
    assert!(len == golden.body().len() && record.body_crc_matches());
    assert_eq!(written(&record), golden.body());
    assert_eq!(header.commit_log_offset, record.position());
    assert_eq!(header.tran_state_table_offset, record.queue_offset());
    assert_eq!(header.offset_msg_id.as_deref(), Some(offset_msg_id(record.store_host(), record.position()).as_str()));
    assert_eq!(header.msg_id.as_deref(), record.property(properties::UNIQ_KEY));
    assert_eq!(record.property(properties::REAL_TOPIC), Some("golden_json"));
    assert_eq!(header.broker_name.as_deref(), golden.is_v5().then_some("broker-a"));
}
