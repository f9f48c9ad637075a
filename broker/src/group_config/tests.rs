use super::*;
use ringmq_protocol::code::ResponseCode;

const AUTO: GroupSettings = GroupSettings { auto_create: true, create_system: true };

fn table() -> GroupTable {
    GroupTable::open(AUTO, None, 1_000)
}

fn config(name: &str) -> SubscriptionGroupConfig {
    SubscriptionGroupConfig::new(name)
}

#[test]
fn the_system_groups_are_there_from_the_start() {
    let table = table();
    for name in ["TOOLS_CONSUMER", "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "CID_ONS-HTTP-PROXY", "CID_RMQ_SYS_TRANS"]
    {
        assert!(table.get(name).is_some_and(|group| group.config.consume_broadcast_enable), "{name}");
    }
    assert_eq!(table.len(), 8);
}

#[test]
fn an_unknown_group_appears_with_default_settings() {
    let mut table = table();
    let (group, changes) = table.find_or_create("g", 7).unwrap();
    assert_eq!(changes, [GroupChange::Put(Arc::clone(&group))]);
    assert_eq!(
        (group.config.retry_queue_nums, group.config.retry_max_times, group.config.consume_enable),
        (1, 16, true)
    );
    assert_eq!(table.version().counter, 1);
    let (again, changes) = table.find_or_create("g", 8).unwrap();
    assert_eq!((again, changes), (group, vec![]));
    for bad in ["", "a b", &"g".repeat(121)] {
        assert_eq!(table.find_or_create(bad, 9), None);
    }
}

#[test]
fn without_auto_creation_only_system_groups_appear() {
    let mut table = GroupTable::open(GroupSettings { auto_create: false, create_system: true }, None, 0);
    assert_eq!(table.find_or_create("g", 0), None);
    assert!(table.find_or_create("CID_RMQ_SYS_OURS", 0).is_some());
    let mut strict = GroupTable::open(GroupSettings { auto_create: false, create_system: false }, None, 0);
    assert_eq!(strict.find_or_create("CID_RMQ_SYS_OURS", 0), None);
}

#[test]
fn an_administrator_creates_changes_and_deletes_a_group() {
    let mut table = table();
    assert_eq!(table.create_or_update(config("g"), 5).unwrap().len(), 1);
    assert_eq!(table.create_or_update(config("g"), 6), Ok(vec![]));
    let off = SubscriptionGroupConfig { consume_enable: false, ..config("g") };
    assert_eq!(table.create_or_update(off.clone(), 7).unwrap().len(), 1);
    assert_eq!(table.single("g"), Ok(&off));
    assert_eq!(table.version().timestamp, 7);
    assert!(matches!(&table.delete("g", 8)[..], [GroupChange::Removed(group)] if group.config == off));
    assert_eq!(table.delete("g", 9), []);
    assert_eq!(table.version().timestamp, 8);
    let refusal = table.single("g").unwrap_err();
    assert_eq!(
        (refusal.code, refusal.remark.as_str()),
        (ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, "No group in this broker")
    );
}

#[test]
fn a_group_that_may_not_be_is_refused() {
    let mut table = table();
    for bad in [config(""), config("a b"), config(&"g".repeat(121))] {
        assert_eq!(table.create_or_update(bad, 0).unwrap_err().code, ResponseCode::INVALID_PARAMETER);
    }
    let wide = SubscriptionGroupConfig { retry_queue_nums: TOPIC_QUEUES_MAX + 1, ..config("g") };
    assert_eq!(table.create_or_update(wide, 0).unwrap_err().code, ResponseCode::INVALID_PARAMETER);
    let attributes = [("+color".to_owned(), "red".to_owned())].into();
    let colored = SubscriptionGroupConfig { attributes, ..config("g") };
    assert_eq!(table.create_or_update(colored, 0), Err(Refusal::failed("unsupported key: color")));
    assert!(!table.contains("g"));
}

#[test]
fn reading_a_topic_is_taken_away_and_given_back() {
    let mut table = table();
    assert!(table.set_readable("g", "T", false, 0).is_err());
    table.find_or_create("g", 0).unwrap();
    assert_eq!(table.set_readable("g", "T", true, 0), Ok(vec![]));
    assert_eq!(table.set_readable("g", "T", false, 0).unwrap().len(), 1);
    assert_eq!(table.set_readable("g", "T", false, 0), Ok(vec![]));
    assert!(table.get("g").unwrap().is_forbidden("T"));
    assert!(!table.get("g").unwrap().is_forbidden("U"));
    table.create_or_update(SubscriptionGroupConfig { retry_max_times: 3, ..config("g") }, 0).unwrap();
    assert!(table.get("g").unwrap().is_forbidden("T"));
    table.set_readable("g", "T", true, 0).unwrap();
    assert!(table.get("g").unwrap().forbidden.is_empty());
}

#[test]
fn the_table_outlives_a_restart() {
    let mut table = table();
    table.create_or_update(SubscriptionGroupConfig { retry_max_times: 3, ..config("g") }, 5).unwrap();
    table.set_readable("g", "T", false, 6).unwrap();
    let file = GroupFile::parse(&table.to_file()).unwrap();
    let again = GroupTable::open(AUTO, Some(file), 99);
    assert!(table.iter().eq(again.iter()));
    assert_eq!(again.version(), table.version());
    assert!(!again.revision().is_dirty());
}

/// As 4.9 writes it, without the members that came with 5.0; then 5.x, with retry policies.
const FILE_4_9: &str = r#"{
	"dataVersion":{"counter":1,"timestamp":1700000000000},
	"subscriptionGroupTable":{
		"g":{"brokerId":0,"consumeBroadcastEnable":false,"consumeEnable":true,"consumeFromMinEnable":true,"groupName":"g","notifyConsumerIdsChangedEnable":false,"retryMaxTimes":5,"retryQueueNums":2,"whichBrokerWhenConsumeSlowly":1}
	}
}"#;
const FILE_5: &str = r#"{
	"dataVersion":{"counter":2,"stateVersion":1,"timestamp":1700000000000},
	"forbiddenTable":{"g":{"T":4}},
	"subscriptionGroupTable":{
		"g":{"attributes":{},"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"consumeMessageOrderly":true,"consumeTimeoutMinute":15,"groupName":"g","groupRetryPolicy":{"type":"CUSTOMIZED"},"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":16,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}
	}
}"#;

#[test]
fn the_files_of_rocketmq_are_taken_over() {
    let table = GroupTable::open(AUTO, Some(GroupFile::parse(FILE_4_9.as_bytes()).unwrap()), 0);
    let group = &table.get("g").unwrap().config;
    assert_eq!(
        (group.retry_max_times, group.retry_queue_nums, group.notify_consumer_ids_changed_enable),
        (5, 2, false)
    );
    assert_eq!((group.consume_timeout_minute, group.consume_message_orderly), (15, false));

    let table = GroupTable::open(AUTO, Some(GroupFile::parse(FILE_5.as_bytes()).unwrap()), 0);
    assert!(table.get("g").unwrap().config.consume_message_orderly);
    assert!(table.get("g").unwrap().is_forbidden("T"));
    assert_eq!(table.version().state_version, 1);
}

#[test]
fn a_damaged_file_is_not_taken_for_an_empty_one() {
    for text in [
        "{}",
        "{\"subscriptionGroupTable\":3}",
        "{\"subscriptionGroupTable\":{\"g\":[]}}",
        "{\"subscriptionGroupTable\":{\"g\":{\"retryQueueNums\":100000}}}",
        "{\"subscriptionGroupTable\":{\"g\":{}}",
    ] {
        assert!(GroupFile::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn copies_follow_the_table() {
    let mut table = table();
    let mut copy = GroupCopy::default();
    table.snapshot().iter().for_each(|change| copy.apply(change));
    let mut changes = table.find_or_create("g", 0).unwrap().1;
    changes.extend(table.find_or_create("h", 0).unwrap().1);
    changes.extend(table.set_readable("g", "T", false, 0).unwrap());
    changes.extend(table.delete("h", 0));
    changes.iter().for_each(|change| copy.apply(change));
    assert!(table.iter().all(|group| copy.get(&group.config.group_name) == Some(group)));
    assert_eq!(copy.get("h"), None);
}
