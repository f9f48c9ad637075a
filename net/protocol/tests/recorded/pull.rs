//! Messages on their way out: pulls, look-ups, the records they bring, and offsets.

use ringmq_protocol::compress::decompress;
use ringmq_protocol::filter::{TAG, TagFilter};
use ringmq_protocol::header::{
    GetMaxOffset, GetMinOffset, Names, PullHeader, PullRequest, PullResponse, QueryConsumerOffset, QueryMessage,
    QueryMessageResponse, SearchOffset, UpdateConsumerOffset, ViewMessage,
};
use ringmq_protocol::message::{BODY_MAX_DEFAULT, Property, Record, RecordSpec, tags_code};
use ringmq_protocol::properties::{self, pull_flag, sys_flag};
use ringmq_protocol::value::Value;

use super::frame::{Golden, is_unique_key, store_host};

pub(crate) fn check_pull(golden: &Golden) {
    let header = typed!(golden, PullRequest);
    let kind = golden.name.as_str();
    let flag = header.sys_flag;
    assert_eq!(pull_flag::has_suspend(flag), kind.contains("suspend"));
    assert_eq!(pull_flag::has_subscription(flag), kind.contains("subscription"));
    assert_eq!(pull_flag::has_commit_offset(flag), kind.contains("commit"));
    assert_eq!(pull_flag::is_lite_pull(flag), kind.contains("lite"));
    let (group, count, hold) = match (kind.contains("lite"), kind.contains("subscription")) {
        (true, _) => ("golden_lite", 10, 20_000),
        (false, true) => ("driver_pull", 32, 20_000),
        (false, false) => ("golden_push", 32, 15_000),
    };
    assert_eq!((header.consumer_group.as_str(), header.max_msg_nums), (group, count));
    assert_eq!(header.suspend_timeout_millis, hold);
    assert!([golden.topic(), "%RETRY%golden_push"].contains(&header.topic.as_str()), "{}", header.topic);
    assert_eq!(header.subscription.as_deref(), kind.contains("subscription").then_some("*"));
    assert_eq!(header.expression_type.as_deref(), Some(TAG));
    assert_eq!(header.sub_version > 0, group == "golden_push");
    assert_eq!(header.commit_offset, if kind.contains("commit") { header.queue_offset } else { 0 });
    let bytes = match (golden.is_v5(), group) {
        (false, _) => None,
        (true, "golden_push") => Some(262_144),
        (true, _) => Some(i32::MAX),
    };
    assert_eq!((header.max_msg_bytes, header.request_source), (bytes, None));
    let places = PullHeader::parse(&golden.view(), Names::V1).unwrap();
    assert!(places.topic.get(golden.header()).eq_str(&header.topic));
    assert!(places.consumer_group.get(golden.header()).eq_str(&header.consumer_group));
    assert_eq!((places.queue_offset, places.sys_flag), (header.queue_offset, header.sys_flag));
}

pub(crate) fn pull_reply(golden: &Golden) -> PullResponse {
    let header = typed!(golden, PullResponse);
    assert_eq!((header.suggest_which_broker_id, header.min_offset), (0, 0));
    let flag = golden.is_v5().then_some(0);
    assert_eq!((header.topic_sys_flag, header.group_sys_flag), (flag, flag));
    header
}

pub(crate) fn check_pull_found(golden: &Golden) {
    let header = pull_reply(golden);
    assert_eq!(golden.command().remark.as_deref(), Some("FOUND"));
    let records = records(golden);
    assert!(records.len() >= 2);
    assert!(records.is_sorted_by_key(Record::queue_offset));
    assert!(records.is_sorted_by_key(Record::position));
    let last = records.last().unwrap().queue_offset();
    // A subscription by tags leaves out what does not match, at the end too.
    let filtered = golden.name == "11-pull-message-suspend-reply";
    assert_eq!(header.next_begin_offset, header.max_offset);
    assert!(header.max_offset == last + 1 || filtered && header.max_offset > last);
    let retried = golden.name.contains("commit");
    for record in records {
        assert_eq!(record.reconsume_times(), i32::from(retried));
        assert_eq!(record.topic(), if retried { "%RETRY%golden_push" } else { "golden_json" });
        assert_eq!(record.property(properties::RETRY_TOPIC), retried.then_some("golden_rocketmq"));
        let tag = record.property(properties::TAGS);
        if filtered {
            assert!(TagFilter::parse(Some("TagA || TagB")).unwrap().matches_code(record.tags_code()), "{tag:?}");
        }
        let code = tag.map_or(0, tags_code);
        assert_eq!(record.tags_code(), code);
        assert!(matches!((tag, code), (None, 0) | (Some("TagA"), 2_598_919) | (Some("TagB"), 2_598_920)));
    }
}

pub(crate) fn check_pull_empty(golden: &Golden) {
    let header = pull_reply(golden);
    assert_eq!(header.next_begin_offset, header.max_offset);
    let remark = if golden.name.ends_with("19") { "OFFSET_OVERFLOW_ONE" } else { "NO_MATCHED_MESSAGE" };
    assert_eq!((golden.command().remark.as_deref(), golden.body().len()), (Some(remark), 0));
}

/// The records of a body, each of which our writer makes again, byte for byte.
pub(crate) fn records(golden: &Golden) -> Vec<Record<'_>> {
    let mut rest = golden.body();
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (record, len) = Record::parse(rest).unwrap();
        assert!(record.body_crc_matches());
        assert_eq!(record.store_host(), store_host(golden));
        assert!(is_unique_key(record.property(properties::UNIQ_KEY)));
        assert_eq!(record.property(properties::CLUSTER), Some("DefaultCluster"));
        let plain = decompress(record.sys_flag(), record.body(), BODY_MAX_DEFAULT).unwrap();
        assert!(plain.as_deref().unwrap_or(record.body()).starts_with(b"m-"));
        assert!(sys_flag::is_consumable(record.sys_flag()));
        assert_eq!(sys_flag::transaction(record.sys_flag()) != 0, record.prepared_offset() > 0);
        assert_eq!(written(&record), record.bytes());
        records.push(record);
        rest = &rest[len..];
    }
    records
}

pub(crate) fn written(record: &Record<'_>) -> Vec<u8> {
    let spec = RecordSpec {
        topic: record.topic(),
        queue_id: record.queue_id(),
        flag: record.flag(),
        sys_flag: record.sys_flag(),
        born_timestamp: record.born_timestamp(),
        born_host: record.born_host(),
        store_host: record.store_host(),
        reconsume_times: record.reconsume_times(),
        prepared_offset: record.prepared_offset(),
        body: &[record.body()],
        body_max: BODY_MAX_DEFAULT,
        properties: &[Property::Encoded(Value::plain(record.properties()))],
    };
    let mut out = vec![0; spec.encoded_len().unwrap()];
    spec.encode_into(&mut out, record.queue_offset(), record.position(), record.store_timestamp()).unwrap();
    out
}

pub(crate) fn check_query(golden: &Golden) {
    let header = typed!(golden, QueryMessage);
    assert_eq!((header.topic.as_str(), header.key.as_str(), header.max_num), (golden.topic(), "lookup-0", 32));
    assert_eq!((header.begin_timestamp, header.end_timestamp), (0, i64::MAX));
    assert!(!header.unique_key_query);
}

pub(crate) fn check_one_record(golden: &Golden) {
    let records = records(golden);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].property(properties::KEYS), Some("lookup-0"));
    if golden.name.starts_with("12-") {
        let header = typed!(golden, QueryMessageResponse);
        assert_eq!(header.index_last_update_phyoffset, records[0].position());
        assert!(header.index_last_update_timestamp > 1_700_000_000_000);
    }
}

pub(crate) fn check_view_message(golden: &Golden) {
    let header = typed!(golden, ViewMessage);
    assert!(header.offset > 0);
    assert_eq!(header.topic.as_deref(), golden.is_v5().then_some(golden.topic()));
}

pub(crate) fn check_query_offset(golden: &Golden) {
    let header = typed!(golden, QueryConsumerOffset);
    assert_eq!((header.consumer_group.as_str(), header.set_zero_if_not_found), ("golden_push", None));
    assert!([golden.topic(), "%RETRY%golden_push"].contains(&header.topic.as_str()));
    assert!((0..2).contains(&header.queue_id));
}

pub(crate) fn check_update_offset(golden: &Golden) {
    let header = typed!(golden, UpdateConsumerOffset);
    let oneway = golden.name.ends_with("-oneway");
    assert_eq!(header.consumer_group, if oneway { "golden_push" } else { "driver_pull" });
    assert_eq!(header.topic, golden.topic());
    assert!(header.commit_offset.unwrap() >= 1 && (0..2).contains(&header.queue_id));
}

pub(crate) fn check_queue_bounds(golden: &Golden) {
    let (topic, queue) = match golden.name.split_once('-').unwrap().0 {
        "29" => {
            let header = typed!(golden, SearchOffset);
            assert_eq!((header.timestamp, header.boundary_type.as_deref()), (0, golden.is_v5().then_some("LOWER")));
            (header.topic, header.queue_id)
        }
        "30" => {
            let header = typed!(golden, GetMaxOffset);
            assert_eq!(header.committed, golden.is_v5().then_some(true));
            (header.topic, header.queue_id)
        }
        _ => {
            let header = typed!(golden, GetMinOffset);
            (header.topic, header.queue_id)
        }
    };
    assert!(topic == golden.topic() && (0..2).contains(&queue));
}
