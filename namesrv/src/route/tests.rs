use std::collections::HashSet;

use super::*;

const RW: i32 = perm::READ_WRITE;

fn queues(perm: i32) -> Queues {
    Queues { read: 8, write: 8, perm, sys_flag: 0 }
}

fn version(counter: i64) -> DataVersion {
    DataVersion { counter, ..DataVersion::default() }
}

/// A broker with two topics of its own, so that its first registration is a whole table.
fn broker(name: &str, id: i64, address: &str) -> Registration {
    Registration {
        cluster: "c".into(),
        name: name.into(),
        address: address.into(),
        id,
        ha_address: format!("ha-{address}"),
        timeout_ms: None,
        acting_master: None,
        zone: None,
        version: version(1),
        topics: vec![("TBW102".into(), queues(7)), ("t".into(), queues(RW))],
    }
}

fn registered(brokers: &[Registration]) -> RouteTable {
    let mut table = RouteTable::default();
    for (i, broker) in brokers.iter().enumerate() {
        table.register(broker.clone(), PeerId(i as u64), 0).unwrap();
    }
    check(&table);
    table
}

/// The invariants of the table.
fn check(table: &RouteTable) {
    let mut addresses = 0;
    for (name, set) in &table.brokers {
        assert!(!set.addresses.is_empty(), "{name} has no address");
        for (id, address) in &set.addresses {
            let live = table.live.get(address).unwrap_or_else(|| panic!("nothing can expire {address}"));
            assert_eq!((live.name.as_str(), live.id), (name.as_str(), *id));
            addresses += 1;
        }
    }
    assert_eq!(addresses, table.live.len(), "a live broker is in no set");
    for (topic, at) in &table.topics {
        assert!(!at.is_empty(), "{topic} is nowhere");
        assert!(at.keys().all(|name| table.brokers.contains_key(name)), "{topic} names a broker that is gone");
        let route = table.route(topic).unwrap();
        assert_eq!(route.queues.len(), route.brokers.len());
        assert!(route.brokers.iter().all(|(_, set)| !set.addresses.is_empty()));
    }
    let clustered: usize = table.clusters().values().map(Vec::len).sum();
    assert_eq!(clustered, table.brokers.len());
}

fn perm_of(table: &RouteTable, topic: &str, name: &str) -> i32 {
    table.topics[topic][name].perm
}

fn addresses(table: &RouteTable, name: &str) -> Vec<(i64, String)> {
    let set = table.brokers.get(name);
    set.map(|set| set.addresses.clone().into_iter().collect()).unwrap_or_default()
}

#[test]
fn a_route_names_masters_and_slaves() {
    let table = registered(&[broker("a", 0, "a:1"), broker("a", 1, "a:2"), broker("b", 0, "b:1")]);
    let route = table.route("t").unwrap();
    assert_eq!(route.queues, [("a", queues(RW)), ("b", queues(RW))]);
    let brokers: Vec<_> = route.brokers.iter().map(|(name, set)| (*name, set.addresses.len())).collect();
    assert_eq!(brokers, [("a", 2), ("b", 1)]);
    assert_eq!(table.route("unknown"), None);
    assert_eq!(table.clusters(), BTreeMap::from([("c", vec!["a", "b"])]));
    assert_eq!(table.topics().collect::<Vec<_>>(), ["TBW102", "t"]);
}

#[test]
fn a_slave_is_told_its_master_and_brings_no_topics() {
    let mut table = RouteTable::default();
    let mut slave = broker("a", 1, "a:2");
    slave.topics.push(("only the slave's".into(), queues(RW)));
    assert_eq!(table.register(slave.clone(), PeerId(1), 0).unwrap().master_address, None);
    assert_eq!(table.route("t"), None);
    let master = table.register(broker("a", 0, "a:1"), PeerId(0), 0).unwrap();
    assert_eq!((master.master_address, master.is_new), (None, true));
    let slave = table.register(slave, PeerId(1), 0).unwrap();
    assert_eq!(slave.master_address.as_deref(), Some("a:1"));
    assert_eq!(slave.master_ha_address.as_deref(), Some("ha-a:1"));
    assert!(!slave.is_new && table.route("only the slave's").is_none());
    check(&table);
}

#[test]
fn the_lowest_slave_of_a_set_with_acting_masters_brings_topics_without_write() {
    let acting = |id, address| Registration { acting_master: Some(true), ..broker("a", id, address) };
    let mut table = registered(&[acting(1, "a:2"), acting(2, "a:3")]);
    assert_eq!((perm_of(&table, "t", "a"), perm_of(&table, "TBW102", "a")), (perm::READ, 5));
    table.register(acting(0, "a:1"), PeerId(0), 0).unwrap();
    assert_eq!(perm_of(&table, "t", "a"), RW);
    table.unregister("a", "a:1").unwrap();
    assert_eq!(perm_of(&table, "t", "a"), perm::READ, "slaves are left, and nobody writes");
    check(&table);

    let mut table = registered(&[broker("a", 0, "a:1"), broker("a", 1, "a:2")]);
    table.unregister("a", "a:1").unwrap();
    assert_eq!(perm_of(&table, "t", "a"), RW, "an ordinary set keeps its permissions");
}

#[test]
fn an_address_is_one_broker() {
    let mut table = registered(&[broker("a", 1, "a:1"), broker("b", 0, "b:1")]);
    table.register(broker("a", 0, "a:1"), PeerId(0), 0).unwrap();
    assert_eq!(addresses(&table, "a"), [(0, "a:1".to_owned())], "the old id is gone");
    check(&table);
    table.register(broker("renamed", 0, "b:1"), PeerId(9), 0).unwrap();
    assert_eq!((addresses(&table, "b"), addresses(&table, "renamed").len()), (vec![], 1));
    check(&table);
    table.register(broker("a", 0, "a:9"), PeerId(5), 0).unwrap();
    assert_eq!(addresses(&table, "a"), [(0, "a:9".to_owned())]);
    assert_eq!(table.on_connection_closed(PeerId(0)), [], "the replaced address has nothing left to lose");
    check(&table);
}

#[test]
fn the_younger_state_keeps_its_id() {
    let at = |state_version, address| {
        let version = DataVersion { state_version, ..DataVersion::default() };
        Registration { version, ..broker("a", 0, address) }
    };
    let mut table = registered(&[at(5, "a:1")]);
    let stale = table.register(at(4, "a:2"), PeerId(7), 0).unwrap();
    assert!(stale.is_stale && stale.master_address.is_none());
    assert_eq!(addresses(&table, "a"), [(0, "a:1".to_owned())]);
    check(&table);
    assert!(!table.register(at(5, "a:2"), PeerId(7), 0).unwrap().is_stale);
    assert_eq!(addresses(&table, "a"), [(0, "a:2".to_owned())]);
    check(&table);
}

#[test]
fn queues_change_with_the_version_only() {
    let mut table = registered(&[broker("a", 0, "a:1")]);
    assert_eq!(table.wipe_write_perm("a"), 2);
    assert_eq!((perm_of(&table, "t", "a"), perm_of(&table, "TBW102", "a")), (perm::READ, 5));
    let mut same = broker("a", 0, "a:1");
    same.topics.push(("new".into(), queues(RW)));
    table.register(same, PeerId(0), 0).unwrap();
    assert_eq!((perm_of(&table, "t", "a"), perm_of(&table, "new", "a")), (perm::READ, RW));
    let changed = Registration { version: version(2), ..broker("a", 0, "a:1") };
    table.register(changed, PeerId(0), 0).unwrap();
    assert_eq!(perm_of(&table, "t", "a"), RW);
    table.wipe_write_perm("a");
    assert_eq!((table.add_write_perm("a"), perm_of(&table, "TBW102", "a")), (3, RW));
    assert_eq!(table.wipe_write_perm("unknown"), 0);
    check(&table);
}

#[test]
fn topics_that_are_not_named_any_more_stay_unless_asked_otherwise() {
    let less = || Registration { topics: vec![("t".into(), queues(RW))], version: version(2), ..broker("a", 0, "a:1") };
    let mut table = registered(&[broker("a", 0, "a:1"), broker("b", 0, "b:1")]);
    table.register(less(), PeerId(0), 0).unwrap();
    assert!(table.topics["TBW102"].contains_key("a"));
    table.set_delete_unnamed_topics(true);
    table.register(less(), PeerId(0), 0).unwrap();
    assert!(!table.topics["TBW102"].contains_key("a") && table.topics["TBW102"].contains_key("b"));
    table.register(Registration { topics: vec![], ..broker("b", 0, "b:1") }, PeerId(1), 0).unwrap();
    assert_eq!(table.topics().collect::<Vec<_>>(), ["t"]);
    check(&table);
}

#[test]
fn a_first_registration_has_to_be_whole() {
    let one =
        |name: &str| Registration { topics: vec![("t".into(), queues(RW))], ..broker(name, 0, &format!("{name}:1")) };
    let mut table = RouteTable::default();
    assert_eq!(table.register(one("a"), PeerId(0), 0), Err(NotRegistered::SingleTopic));
    assert_eq!(table.brokers().count(), 0, "nothing of it is kept");
    table.register(Registration { topics: vec![], ..broker("a", 0, "a:1") }, PeerId(0), 0).unwrap();
    table.register(one("a"), PeerId(0), 0).unwrap();
    assert!(table.route("t").is_some());
    check(&table);
}

#[test]
fn silence_lasts_120_s_or_what_the_broker_asked_for() {
    let asks = |ms| Registration { timeout_ms: Some(ms), ..broker("b", 0, "b:1") };
    let mut table = registered(&[broker("a", 0, "a:1"), asks(10_000)]);
    assert_eq!(table.expire(10_000), []);
    let gone = table.expire(10_001);
    assert_eq!(gone, [Gone { cluster: "c".into(), name: "b".into(), id: 0, address: "b:1".into() }]);
    assert_eq!(table.expire(120_000), []);
    assert_eq!(table.expire(120_001).len(), 1);
    assert_eq!((table.brokers().count(), table.topics().count()), (0, 0));
    for (asked, kept) in [(-1, TIMEOUT_MS), (0, TIMEOUT_MS), (i64::MAX, TIMEOUT_MS_MAX)] {
        let mut table = registered(&[asks(asked)]);
        assert_eq!((table.expire(kept).len(), table.expire(kept + 1).len()), (0, 1), "{asked}");
    }
}

#[test]
fn signs_of_life() {
    let mut table = registered(&[broker("a", 0, "a:1")]);
    assert_eq!(table.query_version("a", "a:1", version(1), 100_000), (false, Some(version(1))));
    assert_eq!(table.query_version("a", "a:1", version(2), 150_000), (true, Some(version(1))), "no sign of life");
    assert_eq!(table.query_version("b", "a:1", version(1), 150_000), (true, None));
    assert_eq!(table.query_version("b", "b:1", version(1), 150_000), (true, None));
    assert_eq!(table.expire(220_000), []);
    assert!(table.heartbeat("a", "a:1", 220_000));
    assert!(!table.heartbeat("b", "a:1", 999_000) && !table.heartbeat("a", "b:1", 999_000));
    assert_eq!(table.expire(340_000), []);
    assert!(table.heartbeat("a", "a:1", 1), "time that runs back takes nothing away");
    assert_eq!((table.expire(340_000).len(), table.expire(340_001).len()), (0, 1));
}

#[test]
fn a_closed_connection_takes_its_brokers_along_at_once() {
    let mut table = RouteTable::default();
    table.register(broker("a", 0, "a:1"), PeerId(1), 0).unwrap();
    table.register(broker("b", 0, "b:1"), PeerId(1), 0).unwrap();
    table.register(broker("d", 0, "d:1"), PeerId(2), 0).unwrap();
    table.register(broker("a", 0, "a:1"), PeerId(3), 0).unwrap();
    let gone: Vec<_> = table.on_connection_closed(PeerId(1)).into_iter().map(|gone| gone.name).collect();
    assert_eq!(gone, ["b"], "a registered anew over another connection");
    assert_eq!(table.on_connection_closed(PeerId(1)), []);
    check(&table);
    assert_eq!(table.on_connection_closed(PeerId(3)).len(), 1);
    assert_eq!(table.topics["t"].len(), 1);
    check(&table);
}

#[test]
fn unregistering_needs_the_right_name() {
    let mut table = registered(&[broker("a", 0, "a:1"), broker("a", 1, "a:2")]);
    assert_eq!(table.unregister("b", "a:1"), None);
    assert_eq!(table.unregister("a", "a:9"), None);
    assert_eq!(table.unregister("a", "a:1").unwrap().id, 0);
    assert!(table.route("t").is_some(), "a slave still serves it");
    table.unregister("a", "a:2").unwrap();
    assert_eq!((table.route("t"), table.clusters().len()), (None, 0));
}

#[test]
fn topics_are_deleted_in_one_cluster_or_in_all() {
    let other = Registration { cluster: "d".into(), ..broker("b", 0, "b:1") };
    let mut table = registered(&[broker("a", 0, "a:1"), other]);
    table.delete_topic("t", Some("c"));
    assert_eq!(table.topics["t"].keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(table.topics_of_cluster("c").collect::<Vec<_>>(), ["TBW102"]);
    assert_eq!(table.topics_of_cluster("d").collect::<Vec<_>>(), ["TBW102", "t"]);
    table.delete_topic("t", Some("d"));
    table.delete_topic("TBW102", None);
    table.delete_topic("TBW102", Some("c"));
    assert_eq!(table.topics().count(), 0);
    check(&table);
    assert!(table.members("d", "b").is_some() && table.members("c", "b").is_none());
}

#[test]
fn the_master_says_which_cluster_it_is() {
    let mut table =
        registered(&[broker("a", 0, "a:1"), Registration { cluster: "slave's".into(), ..broker("a", 1, "a:2") }]);
    assert_eq!(table.clusters().into_keys().collect::<Vec<_>>(), ["c"]);
    table.register(Registration { cluster: "moved".into(), ..broker("a", 0, "a:1") }, PeerId(0), 0).unwrap();
    assert_eq!(table.clusters().into_keys().collect::<Vec<_>>(), ["moved"]);
}

#[test]
fn unit_topics_go_by_their_flag() {
    let flagged = |flag| Queues { sys_flag: flag, ..queues(RW) };
    let topics = (0..4).map(|flag| (format!("t{flag}"), flagged(flag))).collect();
    let table = registered(&[Registration { topics, ..broker("a", 0, "a:1") }]);
    let list = |wanted| table.unit_topics(wanted).collect::<Vec<_>>();
    assert_eq!(list(UnitTopics::Unit), ["t1", "t3"]);
    assert_eq!(list(UnitTopics::UnitSub), ["t2", "t3"]);
    assert_eq!(list(UnitTopics::UnitSubNotUnit), ["t2"]);
}

#[test]
fn the_table_is_bounded() {
    let mut table = RouteTable::default();
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    let refused = |table: &mut RouteTable, broker| table.register(broker, PeerId(0), 0).unwrap_err();
    assert_eq!(refused(&mut table, broker("", 0, "a:1")), NotRegistered::Empty("brokerName"));
    assert_eq!(refused(&mut table, broker("a", 0, "")), NotRegistered::Empty("brokerAddr"));
    assert_eq!(refused(&mut table, broker(&long, 0, "a:1")), NotRegistered::Long("brokerName"));
    let zoned = Registration { zone: Some(long.clone()), ..broker("a", 0, "a:1") };
    assert_eq!(refused(&mut table, zoned), NotRegistered::Long("__ZONE_NAME"));
    let topics = |names: Vec<String>| names.into_iter().map(|name| (name, queues(RW))).collect::<Vec<_>>();
    let with = |topics| Registration { topics, ..broker("a", 0, "a:1") };
    assert_eq!(refused(&mut table, with(topics(vec!["t".into(), long]))), NotRegistered::Long("a topic's name"));
    let many = |from: usize, count: usize| topics((from..from + count).map(|i| i.to_string()).collect());
    let too_many = TOPICS_PER_BROKER_MAX + 1;
    assert_eq!(refused(&mut table, with(many(0, too_many))), NotRegistered::TooManyTopics(too_many));

    let at = |i: usize| Registration { topics: vec![], ..broker(&format!("b{i}"), 0, &format!("b:{i}")) };
    for i in 0..BROKERS_MAX {
        table.register(at(i), PeerId(0), 0).unwrap();
    }
    assert_eq!(refused(&mut table, at(BROKERS_MAX)), NotRegistered::BrokersFull);
    table.register(at(0), PeerId(0), 0).unwrap();
    for i in 0..TOPICS_MAX / TOPICS_PER_BROKER_MAX {
        let topics = many(i * TOPICS_PER_BROKER_MAX, TOPICS_PER_BROKER_MAX);
        table.register(Registration { topics, version: version(9), ..at(i) }, PeerId(0), 0).unwrap();
    }
    let left = TOPICS_MAX - table.topics.len();
    let beyond = Registration { topics: many(TOPICS_MAX, left + 1), version: version(9), ..at(7) };
    assert_eq!(refused(&mut table, beyond), NotRegistered::TopicsFull);
    let known = Registration { topics: many(0, TOPICS_PER_BROKER_MAX), version: version(9), ..at(8) };
    table.register(known, PeerId(0), 0).unwrap();
}

/// Random sequences against the invariants, and against a model that knows only who is alive and until when.
#[test]
fn random_sequences_keep_the_invariants() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut table = RouteTable::new(seed % 2 == 0);
        let mut alive: HashMap<String, (String, u64, PeerId)> = HashMap::new();
        let mut now = 0;
        for _ in 0..300 {
            now += random.below(20_000);
            step(&mut table, &mut alive, &mut random, now);
            check(&table);
            let known: HashSet<&String> = table.live.keys().collect();
            assert_eq!(known, alive.keys().collect(), "seed {seed}");
        }
    }
}

fn step(table: &mut RouteTable, alive: &mut HashMap<String, (String, u64, PeerId)>, random: &mut Random, now: u64) {
    let name = format!("b{}", random.below(4));
    let address = format!("h:{}", random.below(8));
    let peer = PeerId(random.below(5));
    match random.below(10) {
        0 => {
            let gone: HashSet<String> = table.expire(now).into_iter().map(|gone| gone.address).collect();
            let expected = alive.iter().filter(|(_, (_, until, _))| *until < now).map(|(address, _)| address.clone());
            assert_eq!(gone, expected.collect());
            alive.retain(|address, _| !gone.contains(address));
        }
        1 => {
            table.on_connection_closed(peer);
            alive.retain(|_, (_, _, over)| *over != peer);
        }
        2 => {
            let is_there = alive.get(&address).is_some_and(|(holder, _, _)| *holder == name);
            assert_eq!(table.unregister(&name, &address).is_some(), is_there);
            if is_there {
                alive.remove(&address);
            }
        }
        3 => {
            let is_there = alive.get_mut(&address).filter(|(holder, _, _)| *holder == name);
            assert_eq!(table.heartbeat(&name, &address, now), is_there.is_some());
            if let Some((_, until, _)) = is_there {
                *until = now + TIMEOUT_MS;
            }
        }
        4 => {
            table.delete_topic("t", [None, Some("c"), Some("d")][random.below(3) as usize]);
        }
        _ => {
            let id = random.below(3) as i64;
            let topics = (0..random.below(4)).map(|_| (format!("t{}", random.below(6)), queues(RW))).collect();
            let registration = Registration {
                cluster: ["c", "d"][random.below(2) as usize].into(),
                acting_master: [None, Some(false), Some(true)][random.below(3) as usize],
                version: DataVersion { state_version: random.below(2) as i64, ..version(random.below(3) as i64) },
                topics,
                ..broker(&name, id, &address)
            };
            let holder = table.brokers.get(&name).and_then(|set| set.addresses.get(&id)).cloned();
            match table.register(registration, peer, now) {
                Ok(registered) if registered.is_stale => drop(alive.remove(&address)),
                Ok(_) => {
                    if let Some(replaced) = holder.filter(|holder| *holder != address) {
                        alive.remove(&replaced);
                    }
                    alive.insert(address, (name, now + TIMEOUT_MS, peer));
                }
                Err(error) => assert_eq!(error, NotRegistered::SingleTopic),
            }
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
