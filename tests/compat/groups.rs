//! What groups may be and do: broadcasting, every way to share queues, order across a change of members, where a group
//! begins, namespaces, units, traces, and what its configuration forbids.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::support::java::{Driver, of};
use super::support::server::{Broker, Cluster, Make, NameServer, Settings};
use super::support::{eventually, java};
use super::{assert_same_messages, for_each_client, names, number, text};

for_each_client! {
    every_member_of_a_broadcasting_group_gets_everything
    three_members_share_seven_queues_in_every_way
    order_survives_a_member_that_leaves
    a_young_topic_is_read_from_its_start
    a_namespace_is_a_world_of_its_own
    a_unit_marks_its_topics
    sends_and_receipts_are_traced
    a_group_that_may_not_consume_is_told
}

fn every_member_of_a_broadcasting_group_gets_everything(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("broadcast_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "broadcast_topic")];
    let member = |instance| {
        let options = [("group", "broadcast_group"), ("broadcast", "true"), ("instance", instance)];
        let driver = client.start("push", &[&target[..], &options].concat());
        driver.wait_event("started");
        driver
    };
    let (one, two) = (member("one"), member("two"));
    let sent = client.run("send", &[&target[..], &[("count", "40")]].concat());
    for driver in [&one, &two] {
        assert_same_messages(&sent, &driver.wait_messages(40));
    }
    one.stop();
    two.stop();
    // Members keep their offsets to themselves: the broker knows of none.
    let stats = [("group", "broadcast_group"), ("do", "stats")];
    let stats = client.run("operator", &[&target[..], &stats].concat()).remove(0);
    let known = stats["queues"].as_object().map_or(0, serde_json::Map::len);
    assert!(known == 0, "{stats}");
}

fn three_members_share_seven_queues_in_every_way(version: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let make = Make::under_test();
    let namesrv = NameServer::start(make, folder.path());
    // The clients' way to share by machine room reads the room from the broker's name.
    let name = "room@broker-a";
    let broker = Broker::start(make, folder.path(), name, &namesrv.address, Settings::default());
    broker.create_topic("strategy_topic", 7);
    let client = java::Client::new(version, folder.path());
    let options = [("namesrv", &*namesrv.address), ("topic", "strategy_topic"), ("broker", name)];
    let shared = of(&client.run("strategies", &options), "shared");
    assert_eq!(shared.len(), 6, "{shared:?}");
    for line in shared {
        let members = line["members"].as_array().unwrap();
        let mut all: Vec<i64> =
            members.iter().flat_map(|m| m.as_array().unwrap()).map(|queue| queue.as_i64().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..7).collect::<Vec<i64>>(), "each queue once: {line}");
        let mut sizes: Vec<usize> = members.iter().map(|m| m.as_array().unwrap().len()).collect();
        sizes.sort_unstable();
        match text(&line, "strategy") {
            "hash" => {}
            "nearby" => assert_eq!(sizes, [0, 3, 4], "{line}"),
            _ => assert_eq!(sizes, [2, 2, 3], "{line}"),
        }
    }
}

fn order_survives_a_member_that_leaves(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("ordered_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "ordered_topic")];
    let member = |instance| {
        let options = [("group", "ordered_group"), ("orderly", "true"), ("instance", instance), ("persist", "500")];
        let driver = client.start("push", &[&target[..], &options].concat());
        driver.wait_event("started");
        driver
    };
    let (stays, leaves) = (member("stays"), member("leaves"));
    let send = |prefix: &str| client.run("send", &[&target[..], &[("count", "40"), ("prefix", prefix)]].concat());
    let both = |count: usize| {
        eventually("all is consumed", Duration::from_secs(60), || {
            let got = [stays.lines(), leaves.lines()].concat();
            (of(&got, "message").len() >= count).then_some(())
        });
    };
    let before = send("before");
    both(40);
    let of_leaver = leaves.stop();
    let after = send("after");
    // The locks are given back, so nobody waits a minute until they run out.
    let all = stays.wait_for("what was sent afterwards", Duration::from_secs(45), |lines| {
        let after: Vec<Value> =
            of(lines, "message").into_iter().filter(|line| text(line, "name").starts_with("after")).collect();
        (after.len() >= 40).then_some(of(lines, "message"))
    });
    let got = [of(&of_leaver, "message"), all.clone()].concat();
    assert_same_messages(&[before, after].concat(), &got);
    for queue in 0..4 {
        let offsets: Vec<i64> = all
            .iter()
            .filter(|line| number(line, "queueId") == queue)
            .map(|line| number(line, "queueOffset"))
            .collect();
        assert!(offsets.is_sorted(), "queue {queue}: {offsets:?}");
    }
    stays.stop();
}

/// While the first message of a queue is there a new group begins with it, whatever it would like.
fn a_young_topic_is_read_from_its_start(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("young_topic", 2);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "young_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "10")]].concat());
    let begin = |group: &'static str, from: &'static str| -> Driver {
        let options = [("group", group), ("from", from), ("since", "20380119031407"), ("count", "10")];
        client.start("push", &[&target[..], &options].concat())
    };
    let last = begin("last_group", "CONSUME_FROM_LAST_OFFSET");
    let time = begin("time_group", "CONSUME_FROM_TIMESTAMP");
    for driver in [last, time] {
        assert_same_messages(&sent, &of(&driver.end(), "message"));
    }
}

fn a_namespace_is_a_world_of_its_own(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("spaces%space_topic", 2);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "space_topic"), ("namespace", "spaces")];
    let sent = client.run("send", &[&target[..], &[("count", "10")]].concat());
    let options = [("group", "space_group"), ("count", "10")];
    let got = of(&client.run("push", &[&target[..], &options].concat()), "message");
    assert_same_messages(&sent, &got);
    assert!(got.iter().all(|line| line["topic"] == "space_topic"), "clients do not see the prefix: {got:?}");
    assert!(cluster.broker.route("%RETRY%spaces%space_group").is_some());
    assert!(cluster.broker.route("space_topic").is_none());
}

fn a_unit_marks_its_topics(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "unit_topic"), ("unit", "north")];
    let sent = client.run("send", &[&target[..], &[("count", "4")]].concat());
    assert_eq!(of(&sent, "sent").len(), 4, "{sent:?}");
    let options = [("group", "unit_group"), ("count", "4")];
    let lines = client.run("push", &[&target[..], &options].concat());
    let id = of(&lines, "started");
    assert!(text(&id[0], "clientId").ends_with("@north") || text(&id[0], "clientId").contains("@north"), "{id:?}");
    assert_same_messages(&sent, &of(&lines, "message"));
    let flag = |topic: &str| cluster.broker.route(topic).unwrap()["queueDatas"][0]["topicSysFlag"].clone();
    assert_eq!((flag("unit_topic"), flag("%RETRY%unit_group")), (1.into(), 2.into()));
}

fn sends_and_receipts_are_traced(version: &'static str) {
    let properties = vec![("traceTopicEnable", "true".to_owned())];
    let cluster = Cluster::start(Settings { properties, ..Settings::default() });
    cluster.broker.create_topic("traced_topic", 2);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "traced_topic"), ("trace", "true")];
    // Clients send their traces some time after what they trace, and one that ends gives that half a second.
    let sender = client.start("send", &[&target[..], &[("count", "3"), ("stay", "true")]].concat());
    let receiver = client.start("push", &[&target[..], &[("group", "traced_group")]].concat());
    receiver.wait_messages(3);
    // A message may be received before its sender has said that it was sent.
    let sent = sender.wait_for("three messages are sent", Duration::from_secs(40), |lines| {
        let sent = of(lines, "sent");
        (sent.len() >= 3).then_some(sent)
    });
    assert_eq!(sent.len(), 3, "{sent:?}");
    let wanted: BTreeSet<String> = sent.iter().map(|line| text(line, "msgId").to_owned()).collect();
    let trace = [("namesrv", cluster.namesrv()), ("topic", "RMQ_SYS_TRACE_TOPIC"), ("queue", "0"), ("max", "32")];
    eventually("every message has its traces", Duration::from_secs(40), || {
        let records = of(&client.run("pull", &trace), "message");
        let keys: BTreeSet<String> = records
            .iter()
            .flat_map(|line| text(line, "keys").split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        // The name of a record is its beginning: what kind it is.
        let kinds = names(&records);
        let has = |kind: &str| kinds.iter().any(|name| name.starts_with(kind));
        (wanted.is_subset(&keys) && has("Pub") && has("SubBefore")).then_some(())
    });
    sender.stop();
    receiver.stop();
}

fn a_group_that_may_not_consume_is_told(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("closed_topic", 1);
    let client = cluster.client(version);
    let address = &*cluster.broker.address;
    let target = [("namesrv", cluster.namesrv()), ("topic", "closed_topic"), ("group", "closed_group")];
    client.run("send", &target[..2]);
    let allow = |allowed: &str| {
        let namesrv = cluster.namesrv();
        let shown =
            client.mqadmin(&["updateSubGroup", "-n", namesrv, "-b", address, "-g", "closed_group", "-s", allowed]);
        assert!(shown.contains("success"), "{shown}");
    };
    allow("false");
    let mut connection = cluster.broker.connect();
    let ext = [
        ("consumerGroup", "closed_group".to_owned()),
        ("topic", "closed_topic".to_owned()),
        ("queueId", "0".to_owned()),
        ("queueOffset", "0".to_owned()),
        ("maxMsgNums", "32".to_owned()),
        ("sysFlag", "4".to_owned()),
        ("commitOffset", "0".to_owned()),
        ("suspendTimeoutMillis", "0".to_owned()),
        ("subscription", "*".to_owned()),
        ("subVersion", "0".to_owned()),
    ];
    let refused = connection.call(11, &ext, &[]).unwrap().header;
    assert_eq!(refused.code, 16, "{refused:?}");
    assert!(refused.remark.unwrap_or_default().contains("subscription group no permission, closed_group"));
    allow("true");
    let got = of(&client.run("push", &[&target[..], &[("count", "1")]].concat()), "message");
    assert_eq!(got.len(), 1);
}
