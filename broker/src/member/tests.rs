use super::*;
use proptest::prelude::*;
use ringmq_protocol::body::{ProducerData, SubscriptionData};

const ADMIT: Admission = Admission::Admit { notify: true };

fn sender(conn: u64) -> Sender {
    Sender {
        conn: ConnId(conn),
        peer: SocketAddr::from(([10, 0, 0, 1], 5000 + u16::try_from(conn).unwrap())),
        language: Language::JAVA,
        version: 409,
    }
}

fn subscription(topic: &str, version: i64) -> SubscriptionData {
    SubscriptionData {
        topic: topic.to_owned(),
        sub_string: "*".to_owned(),
        sub_version: version,
        ..SubscriptionData::default()
    }
}

fn consumer(group: &str, topics: &[&str]) -> ConsumerData {
    ConsumerData {
        group_name: group.to_owned(),
        consume_type: ConsumeType::Passively,
        message_model: MessageModel::Clustering,
        subscription_data_set: topics.iter().map(|topic| subscription(topic, 1)).collect(),
        ..ConsumerData::default()
    }
}

fn heartbeat(client: &str, consumers: Vec<ConsumerData>, producers: &[&str]) -> HeartbeatData {
    HeartbeatData {
        client_id: client.to_owned(),
        consumer_data_set: consumers,
        producer_data_set: producers.iter().map(|g| ProducerData { group_name: (*g).to_owned() }).collect(),
        ..HeartbeatData::default()
    }
}

fn beat(table: &mut MemberTable, conn: u64, data: &HeartbeatData, now_ms: i64) -> HeartbeatOutcome {
    table.heartbeat(&sender(conn), data, |_| ADMIT, now_ms).unwrap()
}

fn told(effects: &Effects) -> Vec<(String, Vec<u64>)> {
    let conns = |notice: &Notice| notice.conns.iter().map(|conn| conn.0).collect();
    effects.notices.iter().map(|notice| (notice.group.to_string(), conns(notice))).collect()
}

fn ids(table: &MemberTable, group: &str) -> Vec<String> {
    table.consumer_ids(group).unwrap_or_default()
}

#[test]
fn joining_and_leaving_are_told_to_the_whole_group() {
    let mut table = MemberTable::new(true);
    let first = beat(&mut table, 1, &heartbeat("a", vec![consumer("g", &["T"])], &[]), 0);
    assert_eq!(told(&first.effects), [("g".to_owned(), vec![1])]);
    let second = beat(&mut table, 2, &heartbeat("b", vec![consumer("g", &["T"])], &[]), 0);
    assert_eq!(told(&second.effects), [("g".to_owned(), vec![1, 2])]);
    let again = beat(&mut table, 2, &heartbeat("b", vec![consumer("g", &["T"])], &[]), 1);
    assert_eq!(again.effects, Effects::default());
    assert_eq!(ids(&table, "g"), ["a", "b"]);
    let left = table.unregister(ConnId(1), None, Some("g"));
    assert_eq!(told(&left), [("g".to_owned(), vec![2])]);
    let closed = table.closed(ConnId(2));
    assert_eq!(told(&closed), []);
    assert_eq!(closed.changes, [SubscriptionChange::Removed("g".into())]);
    assert!(table.is_empty());
}

#[test]
fn a_producer_is_found_by_the_client_id_of_its_last_heartbeat() {
    let mut table = MemberTable::new(true);
    beat(&mut table, 1, &heartbeat("a", vec![], &["p", "q"]), 0);
    beat(&mut table, 2, &heartbeat("b", vec![consumer("g", &["T"])], &[]), 0);
    assert_eq!(table.producer("a"), Some(ConnId(1)));
    assert_eq!(table.producer("b"), None, "a consumer alone waits for no reply");
    assert_eq!(table.consumer("g", "b").map(|client| (client.conn, client.version)), Some((ConnId(2), 409)));
    assert_eq!(table.consumer("g", "a"), None);
    beat(&mut table, 1, &heartbeat("c", vec![], &["p"]), 1);
    assert_eq!((table.producer("a"), table.producer("c")), (None, Some(ConnId(1))));
    table.unregister(ConnId(1), Some("p"), None);
    assert_eq!(table.producer("c"), Some(ConnId(1)), "it is in another group still");
    table.unregister(ConnId(1), Some("q"), None);
    assert_eq!(table.producer("c"), None);
    table.closed(ConnId(2));
    assert!(table.clients.is_empty());
}

#[test]
fn an_unknown_group_has_no_consumers_in_rocketmq_words() {
    let table = MemberTable::new(true);
    let refusal = table.consumer_ids("g").unwrap_err();
    assert_eq!(refusal.to_string(), "SYSTEM_ERROR(1): no consumer for this group, g");
    let refusal = table.consumer_connection("g").unwrap_err();
    assert_eq!(refusal.to_string(), "CONSUMER_NOT_ONLINE(206): the consumer group[g] not online");
    let refusal = table.producer_connection("g").unwrap_err();
    assert_eq!(refusal.to_string(), "SYSTEM_ERROR(1): the producer group[g] not exist");
}

#[test]
fn a_client_on_two_connections_is_listed_once() {
    let mut table = MemberTable::new(true);
    for conn in [1, 2] {
        beat(&mut table, conn, &heartbeat("a", vec![consumer("g", &["T"])], &[]), 0);
    }
    assert_eq!(ids(&table, "g"), ["a"]);
    table.closed(ConnId(1));
    assert_eq!(ids(&table, "g"), ["a"]);
}

#[test]
fn broadcasting_groups_and_silenced_ones_are_not_told() {
    let mut table = MemberTable::new(true);
    let mut broadcasting = consumer("g", &["T"]);
    broadcasting.message_model = MessageModel::Broadcasting;
    assert_eq!(told(&beat(&mut table, 1, &heartbeat("a", vec![broadcasting], &[]), 0).effects), []);

    let silent = |_: &ConsumerData| Admission::Admit { notify: false };
    let data = heartbeat("a", vec![consumer("h", &["T"])], &[]);
    let outcome = table.heartbeat(&sender(2), &data, silent, 0).unwrap();
    assert_eq!(told(&outcome.effects), []);
    table.set_notify("h", true);
    beat(&mut table, 3, &heartbeat("b", vec![consumer("h", &["T"])], &[]), 0);
    assert_eq!(told(&table.closed(ConnId(3))), [("h".to_owned(), vec![2])]);

    let mut quiet = MemberTable::new(false);
    assert_eq!(told(&beat(&mut quiet, 1, &heartbeat("a", vec![consumer("g", &["T"])], &[]), 0).effects), []);
}

#[test]
fn a_silenced_group_is_told_of_members_that_are_lost() {
    let silent = |_: &ConsumerData| Admission::Admit { notify: false };
    let mut table = MemberTable::new(true);
    for (conn, client) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        let data = heartbeat(client, vec![consumer("g", &["T"])], &[]);
        let at_ms = if conn == 4 { -MEMBER_LIFE_MS } else { 0 };
        assert_eq!(told(&table.heartbeat(&sender(conn), &data, silent, at_ms).unwrap().effects), []);
    }
    assert_eq!(told(&table.unregister(ConnId(2), None, Some("g"))), [], "it said so");
    assert_eq!(told(&table.closed(ConnId(3))), [("g".to_owned(), vec![1, 4])]);
    assert_eq!(told(&table.expire(1)), [("g".to_owned(), vec![1])]);
}

#[test]
fn a_group_that_is_not_admitted_is_passed_over() {
    let mut table = MemberTable::new(true);
    let data = heartbeat("a", vec![consumer("no", &["T"]), consumer("yes", &["T"])], &["p"]);
    let admission = |c: &ConsumerData| if c.group_name == "no" { Admission::Skip } else { ADMIT };
    table.heartbeat(&sender(1), &data, admission, 0).unwrap();
    assert!(table.consumer_ids("no").is_err());
    assert_eq!(ids(&table, "yes"), ["a"]);
    assert_eq!(table.producer_connection("p").unwrap().connection_set.len(), 1);
}

#[test]
fn subscriptions_follow_the_latest_heartbeat() {
    let mut table = MemberTable::new(true);
    beat(&mut table, 1, &heartbeat("a", vec![consumer("g", &["T", "U"])], &[]), 0);
    let changed = beat(&mut table, 1, &heartbeat("a", vec![consumer("g", &["T", "V"])], &[]), 0);
    assert_eq!(told(&changed.effects), [("g".to_owned(), vec![1])]);
    let topics: Vec<_> = table.subscriptions("g").unwrap().iter().map(|s| s.topic.clone()).collect();
    assert_eq!(topics, ["T", "V"]);
    assert_eq!(table.groups_subscribed_to("V").collect::<Vec<_>>(), ["g"]);

    let mut newer = consumer("g", &["T", "V"]);
    newer.subscription_data_set[0].sub_string = "TagA".to_owned();
    let same_version = beat(&mut table, 1, &heartbeat("a", vec![newer.clone()], &[]), 0);
    assert_eq!(same_version.effects, Effects::default());
    newer.subscription_data_set[0].sub_version = 2;
    let outcome = beat(&mut table, 1, &heartbeat("a", vec![newer], &[]), 0);
    assert_eq!(told(&outcome.effects), []);
    assert_eq!(outcome.effects.changes.len(), 1);
    assert_eq!(table.subscriptions("g").unwrap().get("T").unwrap().sub_string, "TagA");
}

#[test]
fn a_client_that_says_who_it_is_anew_changes_the_list() {
    let mut table = MemberTable::new(true);
    beat(&mut table, 1, &heartbeat("a", vec![consumer("g", &["T"])], &[]), 0);
    let outcome = beat(&mut table, 1, &heartbeat("b", vec![consumer("g", &["T"])], &[]), 0);
    assert_eq!(told(&outcome.effects), [("g".to_owned(), vec![1])]);
    assert_eq!(ids(&table, "g"), ["b"]);
    assert_eq!(table.len(), 1);
}

#[test]
fn members_expire_two_minutes_after_their_last_heartbeat() {
    let mut table = MemberTable::new(true);
    beat(&mut table, 1, &heartbeat("a", vec![consumer("g", &["T"])], &["p"]), 0);
    beat(&mut table, 2, &heartbeat("b", vec![consumer("g", &["T"])], &[]), 0);
    beat(&mut table, 3, &heartbeat("c", vec![consumer("g", &["T"])], &[]), 100_000);
    assert_eq!(table.expire(120_000), Effects::default());
    let effects = table.expire(120_001);
    assert_eq!(told(&effects), [("g".to_owned(), vec![3])]);
    assert_eq!(effects.close, [ConnId(1), ConnId(2)]);
    assert_eq!(ids(&table, "g"), ["c"]);
    assert!(table.producer_connection("p").is_err());
}

#[test]
fn a_connection_with_a_living_membership_is_not_closed() {
    let mut table = MemberTable::new(true);
    beat(&mut table, 1, &heartbeat("a", vec![consumer("g", &["T"])], &["p"]), 0);
    beat(&mut table, 1, &heartbeat("a", vec![], &["p"]), 90_000);
    let effects = table.expire(130_000);
    assert_eq!(effects.close, []);
    assert!(table.consumer_ids("g").is_err());
    assert!(table.producer_connection("p").is_ok());
}

fn with_fingerprint(mut data: HeartbeatData, fingerprint: i32, without_sub: bool) -> HeartbeatData {
    data.heartbeat_fingerprint = fingerprint;
    data.without_sub = without_sub;
    if without_sub {
        data.consumer_data_set.iter_mut().for_each(|c| c.subscription_data_set.clear());
    }
    data
}

#[test]
fn a_short_heartbeat_keeps_the_subscriptions() {
    let mut table = MemberTable::new(true);
    let full = heartbeat("a", vec![consumer("g", &["T"])], &[]);
    assert!(!beat(&mut table, 1, &with_fingerprint(full.clone(), 7, false), 0).subscriptions_wanted);
    let short = beat(&mut table, 1, &with_fingerprint(full.clone(), 7, true), 0);
    assert!(!short.subscriptions_wanted);
    assert_eq!(short.effects, Effects::default());
    assert!(table.subscriptions("g").unwrap().get("T").is_some());
    assert!(beat(&mut table, 2, &with_fingerprint(full, 8, false), 0).subscriptions_wanted);
}

#[test]
fn a_restarted_broker_asks_for_the_subscriptions_it_forgot() {
    let mut table = MemberTable::new(true);
    let full = heartbeat("a", vec![consumer("g", &["T"])], &[]);
    assert!(beat(&mut table, 1, &with_fingerprint(full.clone(), 7, true), 0).subscriptions_wanted);
    assert!(!beat(&mut table, 1, &with_fingerprint(full, 7, false), 0).subscriptions_wanted);
    assert!(table.subscriptions("g").unwrap().get("T").is_some());
}

#[test]
fn clients_without_fingerprint_always_send_everything() {
    let mut table = MemberTable::new(true);
    assert!(beat(&mut table, 1, &heartbeat("a", vec![consumer("g", &["T"])], &[]), 0).subscriptions_wanted);
}

#[test]
fn a_heartbeat_out_of_bounds_changes_nothing() {
    let mut table = MemberTable::new(true);
    let many: Vec<String> = (0..=SUBSCRIPTIONS_PER_GROUP_MAX).map(|i| format!("T{i}")).collect();
    let topics: Vec<&str> = many.iter().map(String::as_str).collect();
    let groups: Vec<String> = (0..=GROUPS_PER_CONNECTION_MAX).map(|i| format!("g{i}")).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let long = "x".repeat(CLIENT_ID_LENGTH_MAX + 1);
    let mut wide = consumer("g", &["T"]);
    wide.subscription_data_set[0].sub_string = "x".repeat(SUBSCRIPTION_LENGTH_MAX);
    for data in [
        heartbeat("a", vec![consumer("g", &topics)], &["p"]),
        heartbeat("a", vec![consumer("g", &["T"])], &groups),
        heartbeat("a", vec![wide], &["p"]),
        heartbeat("a", vec![consumer("", &["T"])], &["p"]),
        heartbeat("", vec![consumer("g", &["T"])], &[]),
        heartbeat(&long, vec![consumer("g", &["T"])], &[]),
    ] {
        let refused = table.heartbeat(&sender(1), &data, |_| panic!("asked before the bounds"), 0);
        assert!(refused.is_err());
        assert!(table.is_empty());
    }
}

#[test]
fn groups_of_one_connection_are_bounded_over_several_heartbeats() {
    let mut table = MemberTable::new(true);
    let half: Vec<String> = (0..GROUPS_PER_CONNECTION_MAX).map(|i| format!("p{i}")).collect();
    let half: Vec<&str> = half.iter().map(String::as_str).collect();
    beat(&mut table, 1, &heartbeat("a", vec![], &half), 0);
    assert!(table.heartbeat(&sender(1), &heartbeat("a", vec![], &["one more"]), |_| ADMIT, 0).is_err());
    assert!(table.heartbeat(&sender(1), &heartbeat("a", vec![], &["p0"]), |_| ADMIT, 0).is_ok());
}

#[test]
fn the_bytes_of_all_subscriptions_are_bounded() {
    let mut table = MemberTable::new(true);
    let heavy = |group: &str| {
        let mut data = consumer(group, &[]);
        data.subscription_data_set = (0..SUBSCRIPTION_BYTES_MAX / 8 / SUBSCRIPTION_LENGTH_MAX)
            .map(|n| SubscriptionData {
                sub_string: "x".repeat(SUBSCRIPTION_LENGTH_MAX - 1000),
                ..subscription(&format!("T{n}"), 1)
            })
            .collect();
        heartbeat("a", vec![data], &[])
    };
    let groups = ["g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7"];
    for group in groups {
        beat(&mut table, 1, &heavy(group), 0);
    }
    let refused = table.heartbeat(&sender(1), &heavy("g8"), |_| panic!("asked before the bounds"), 0).unwrap_err();
    assert!(refused.remark.starts_with("too many bytes in the subscriptions"), "{refused:?}");
    // Those that are there go on, and who leaves makes room.
    beat(&mut table, 1, &heavy("g3"), 0);
    beat(&mut table, 2, &heavy("g3"), 0);
    table.unregister(ConnId(1), None, Some("g0"));
    beat(&mut table, 1, &heavy("g8"), 0);
    table.closed(ConnId(1));
    assert!(table.subscription_bytes > 0, "another connection is in one of the groups");
    table.closed(ConnId(2));
    assert_eq!(table.subscription_bytes, 0);
}

#[test]
fn connections_are_described_as_tools_expect() {
    let mut table = MemberTable::new(true);
    let mut from = sender(1);
    from.peer = "[::ffff:10.0.0.9]:4711".parse().unwrap();
    let data = heartbeat("a", vec![consumer("g", &["T"])], &["p"]);
    table.heartbeat(&from, &data, |_| ADMIT, 0).unwrap();
    let body = table.consumer_connection("g").unwrap();
    assert_eq!(body.connection_set[0].client_addr, "10.0.0.9:4711");
    assert_eq!(body.connection_set[0].client_id, "a");
    assert_eq!(body.consume_type, ConsumeType::Passively);
    assert!(body.subscription_table.contains_key("T"));
}

#[derive(Debug, Clone)]
enum Step {
    Beat { conn: u64, groups: Vec<u8>, producers: Vec<u8> },
    Leave { conn: u64, group: u8 },
    Close { conn: u64 },
    Sleep(i64),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let groups = || prop::collection::vec(0..3u8, 0..3);
    prop_oneof![
        5 => (0..4u64, groups(), groups()).prop_map(|(conn, groups, producers)| Step::Beat { conn, groups, producers }),
        2 => (0..4u64, 0..3u8).prop_map(|(conn, group)| Step::Leave { conn, group }),
        1 => (0..4u64).prop_map(|conn| Step::Close { conn }),
        2 => (0..80_000i64).prop_map(Step::Sleep),
        2 => Just(Step::Expire),
    ]
}

proptest! {
    /// Membership is a set of (connection, group, side) with a time each; whoever remains in a group whose set changed
    /// is told, and the copies follow.
    #[test]
    fn members_follow_the_model(steps in prop::collection::vec(step(), 0..50)) {
        let mut table = MemberTable::new(true);
        let mut copy = crate::subscription::SubscriptionCopy::default();
        let mut model: BTreeMap<(bool, u8, u64), i64> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            let before = model.clone();
            let effects = match step {
                Step::Sleep(ms) => { now += ms; Effects::default() }
                Step::Beat { conn, groups, producers } => {
                    let consumers = groups.iter().map(|g| consumer(&g.to_string(), &["T"])).collect();
                    let names: Vec<String> = producers.iter().map(ToString::to_string).collect();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    groups.iter().for_each(|g| { model.insert((true, *g, conn), now); });
                    producers.iter().for_each(|g| { model.insert((false, *g, conn), now); });
                    beat(&mut table, conn, &heartbeat(&conn.to_string(), consumers, &names), now).effects
                }
                Step::Leave { conn, group } => {
                    model.remove(&(true, group, conn));
                    model.remove(&(false, group, conn));
                    table.unregister(ConnId(conn), Some(&group.to_string()), Some(&group.to_string()))
                }
                Step::Close { conn } => {
                    model.retain(|(_, _, c), _| *c != conn);
                    table.closed(ConnId(conn))
                }
                Step::Expire => {
                    model.retain(|_, at| now - *at <= MEMBER_LIFE_MS);
                    let effects = table.expire(now);
                    for conn in &effects.close {
                        prop_assert!(!model.keys().any(|(_, _, c)| *c == conn.0));
                    }
                    effects
                }
            };
            effects.changes.iter().cloned().for_each(|change| copy.apply(change));
            prop_assert_eq!(table.len(), model.len());
            for group in 0..3u8 {
                let name = group.to_string();
                let of = |m: &BTreeMap<(bool, u8, u64), i64>| -> Vec<u64> {
                    m.keys().filter(|(consumes, g, _)| *consumes && *g == group).map(|(_, _, c)| *c).collect()
                };
                let (was, is) = (of(&before), of(&model));
                prop_assert_eq!(ids(&table, &name), is.iter().map(ToString::to_string).collect::<Vec<_>>());
                prop_assert_eq!(copy.group(&name).is_ok(), !is.is_empty());
                let notices: Vec<_> = told(&effects).into_iter().filter(|(g, _)| *g == name).collect();
                if was != is && !is.is_empty() {
                    prop_assert_eq!(&notices.last().unwrap().1, &is);
                } else {
                    prop_assert!(notices.is_empty());
                }
            }
        }
    }
}
