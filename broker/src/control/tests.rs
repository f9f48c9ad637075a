use super::*;
use crate::group_config::GroupSettings;
use crate::offset::Commit;
use crate::topic::TopicSettings;
use ringmq_protocol::body::{MessageModel, MessageQueue, SubscriptionData};
use ringmq_protocol::code::Language;
use std::net::SocketAddr;

fn control(auto_create_groups: bool) -> Control {
    Control {
        topics: TopicTable::open(TopicSettings::new("c", "b", 2), None, 0),
        groups: GroupTable::open(GroupSettings { auto_create: auto_create_groups, create_system: true }, None, 0),
        members: MemberTable::new(true),
        locks: LockTable::new(),
        offsets: OffsetTable::default(),
    }
}

fn sender(conn: u64) -> Sender {
    Sender { conn: ConnId(conn), peer: SocketAddr::from(([10, 0, 0, 1], 5000)), language: Language::GO, version: 317 }
}

fn heartbeat(client: &str, groups: &[&str], topic: &str) -> HeartbeatData {
    let subscription = SubscriptionData { topic: topic.to_owned(), sub_version: 1, ..SubscriptionData::default() };
    let consumer = |group: &&str| ConsumerData {
        group_name: (*group).to_owned(),
        subscription_data_set: vec![subscription.clone()],
        ..ConsumerData::default()
    };
    HeartbeatData {
        client_id: client.to_owned(),
        consumer_data_set: groups.iter().map(consumer).collect(),
        ..HeartbeatData::default()
    }
}

fn at(ms: i64) -> Moment {
    Moment { wall_ms: ms, clock_ms: ms }
}

fn create(control: &mut Control, topic: &str, order: bool) {
    let asked = CreateTopic {
        topic: topic.to_owned(),
        read_queue_nums: 4,
        write_queue_nums: 4,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        order,
        ..CreateTopic::default()
    };
    control.topics.create_or_update(&asked, 0).unwrap();
}

#[test]
fn a_first_heartbeat_creates_the_group_and_its_retry_topic() {
    let mut control = control(true);
    let (wanted, changes) = control.heartbeat(&sender(1), &heartbeat("a", &["g"], "T"), at(5)).unwrap();
    assert!(wanted);
    assert_eq!((changes.topics.len(), changes.groups.len(), changes.subscriptions.len()), (1, 1, 1));
    assert_eq!(changes.notices.len(), 1);
    let retry = control.topics.single("%RETRY%g").unwrap();
    assert_eq!((retry.read_queue_nums, retry.write_queue_nums, retry.perm, retry.order), (1, 1, 6, false));
    let (_, changes) = control.heartbeat(&sender(1), &heartbeat("a", &["g"], "T"), at(6)).unwrap();
    assert!(changes.is_empty());
}

#[test]
fn a_group_that_may_not_exist_has_no_members_and_no_retry_topic() {
    let mut control = control(false);
    let (_, changes) = control.heartbeat(&sender(1), &heartbeat("a", &["g"], "T"), at(5)).unwrap();
    assert!(changes.is_empty());
    assert!(control.members.is_empty() && !control.topics.contains("%RETRY%g"));
}

#[test]
fn a_refused_heartbeat_creates_nothing() {
    let mut control = control(true);
    let data = heartbeat("", &["g"], "T");
    assert!(control.heartbeat(&sender(1), &data, at(5)).is_err());
    assert!(!control.groups.contains("g") && !control.topics.contains("%RETRY%g"));
}

#[test]
fn the_retry_topic_of_an_ordered_subscription_is_ordered() {
    let mut control = control(true);
    create(&mut control, "Orders", true);
    let mut data = heartbeat("a", &["g"], "Orders");
    data.heartbeat_fingerprint = 3;
    control.heartbeat(&sender(1), &data, at(5)).unwrap();
    assert!(control.topics.is_ordered("%RETRY%g"));
    data.without_sub = true;
    data.consumer_data_set[0].subscription_data_set.clear();
    let (wanted, changes) = control.heartbeat(&sender(1), &data, at(6)).unwrap();
    assert!(!wanted && changes.is_empty());
    assert!(control.topics.is_ordered("%RETRY%g"));
}

#[test]
fn a_group_begins_at_0_in_the_queues_of_a_topic_that_a_send_creates() {
    let mut control = control(true);
    control.heartbeat(&sender(1), &heartbeat("a", &["g"], "T"), at(0)).unwrap();
    let mut broadcast = heartbeat("b", &["all"], "T");
    broadcast.consumer_data_set[0].message_model = MessageModel::Broadcasting;
    control.heartbeat(&sender(2), &broadcast, at(0)).unwrap();
    let wanted = Wanted { topic: "T", default_topic: "TBW102", default_queues: 2, unit_mode: false };
    let changes = control.create_topic_of_send(wanted, 1).unwrap();
    assert!(changes.offsets && changes.topics.len() == 1);
    assert_eq!([0, 1, 2].map(|queue| control.offsets.stored("g", "T", queue)), [Some(0), Some(0), None]);
    assert_eq!(control.offsets.stored("all", "T", 0), None, "its members keep their own offsets");
    assert!(control.create_topic_of_send(wanted, 2).unwrap().is_empty());
}

#[test]
fn a_group_keeps_its_offset_in_a_queue_that_comes_back() {
    let mut control = control(true);
    create(&mut control, "T", false);
    control.offsets.commit(Commit { group: "g", topic: "T", queue_id: 4, offset: 3 }).unwrap();
    let asked = CreateTopic {
        read_queue_nums: 6,
        write_queue_nums: 6,
        perm: 6,
        topic: "T".to_owned(),
        topic_filter_type: "SINGLE_TAG".to_owned(),
        ..CreateTopic::default()
    };
    assert!(control.create_topic(&asked, &[4, 5], 1).unwrap().offsets);
    assert_eq!([3, 4, 5].map(|queue| control.offsets.stored("g", "T", queue)), [None, Some(3), Some(0)]);
    assert!(control.create_topic(&asked, &[], 2).unwrap().is_empty());
}

#[test]
fn deleting_a_topic_forgets_what_was_consumed_of_it() {
    let mut control = control(true);
    create(&mut control, "T", false);
    control.offsets.commit(Commit { group: "g", topic: "T", queue_id: 0, offset: 3 }).unwrap();
    assert!(control.delete_topic("TBW102", 1).is_err());
    assert_eq!(control.delete_topic("T", 1).unwrap().topics.len(), 1);
    assert!(control.offsets.is_empty());
}

#[test]
fn deleting_a_group_releases_its_locks_and_keeps_offsets_unless_told_otherwise() {
    let mut control = control(true);
    control.groups.find_or_create("g", 0).unwrap();
    control.locks.lock("g", "a", &[MessageQueue::new("T", "b", 0)], 0).unwrap();
    control.offsets.commit(Commit { group: "g", topic: "T", queue_id: 0, offset: 3 }).unwrap();
    assert_eq!(control.delete_group("g", false, 1).groups.len(), 1);
    assert!(control.locks.is_empty());
    assert_eq!(control.offsets.stored("g", "T", 0), Some(3));
    assert!(control.delete_group("g", true, 1).is_empty());
    assert!(control.offsets.is_empty());
}

#[test]
fn a_group_that_is_silenced_is_no_longer_told() {
    let mut control = control(true);
    control.heartbeat(&sender(1), &heartbeat("a", &["g"], "T"), at(0)).unwrap();
    control.heartbeat(&sender(2), &heartbeat("b", &["g"], "T"), at(0)).unwrap();
    let mut config = SubscriptionGroupConfig::new("g");
    config.notify_consumer_ids_changed_enable = false;
    assert_eq!(control.update_group(config, 1).unwrap().groups.len(), 1);
    assert_eq!(control.members.unregister(ConnId(2), None, Some("g")).notices, []);
}

#[test]
fn the_sweep_takes_out_silent_members_and_old_locks() {
    let mut control = control(true);
    control.heartbeat(&sender(1), &heartbeat("a", &["g"], "T"), at(0)).unwrap();
    control.locks.lock("g", "a", &[MessageQueue::new("T", "b", 0)], 0).unwrap();
    assert!(control.expire(60_000).is_empty());
    assert!(!control.locks.is_empty());
    let changes = control.expire(120_001);
    assert_eq!(changes.close, [ConnId(1)]);
    assert_eq!(changes.subscriptions.len(), 1);
    assert!(control.locks.is_empty() && control.members.is_empty());
}
