//! Order when the owner of queue locks is killed, and when the broker that has them is.

use std::time::Duration;

use serde_json::{Value, json};

use super::consume::wait_assigned;
use super::support::eventually;
use super::support::java::{Client, of};
use super::support::server::{Cluster, Flush, Settings, lenient};
use super::support::wire;
use super::{for_each_client, names, number};

for_each_client! {
    the_queues_of_a_killed_member_go_on_in_order
    a_member_locks_again_at_a_broker_that_was_killed
}

const PATIENCE: Duration = Duration::from_secs(60);
/// A lock lives for a minute after its owner's last word.
const TAKEN_OVER: Duration = Duration::from_secs(150);

/// One that tries for locks, and refreshes its own, every second instead of every 20.
fn impatient(cluster: &Cluster, version: &'static str) -> Client {
    let mut client = cluster.client(version);
    for interval in ["waitInterval", "lockInterval"] {
        client.properties.push(format!("rocketmq.client.rebalance.{interval}=1000"));
    }
    client
}

/// No queue goes back, and none repeats what this member has had.
fn assert_in_order(messages: &[Value], queues: i64) {
    for queue in 0..queues {
        let of_queue = messages.iter().filter(|line| number(line, "queueId") == queue);
        let offsets: Vec<i64> = of_queue.map(|line| number(line, "queueOffset")).collect();
        assert!(offsets.is_sorted_by(|one, next| one < next), "queue {queue}: {offsets:?}");
    }
}

fn the_queues_of_a_killed_member_go_on_in_order(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("inherited_topic", 4);
    let client = impatient(&cluster, version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "inherited_topic")];
    let member = [&target[..], &[("group", "inherited_group"), ("orderly", "true"), ("persist", "500")]].concat();
    let (stays, mut dies) = (client.start("push", &member), client.start("push", &member));
    let of_killed = wait_assigned(&dies, 2, PATIENCE);
    wait_assigned(&stays, 2, PATIENCE);
    let send = |prefix| client.run("send", &[&target[..], &[("count", "40"), ("prefix", prefix)]].concat());
    let before = send("before");
    eventually("all is consumed", PATIENCE, || {
        let got = [stays.lines(), dies.lines()].concat();
        (of(&got, "message").len() == 40).then_some(())
    });
    dies.kill();
    let after = send("after");
    let inherited = after.iter().filter(|line| of_killed.contains(&number(line, "queueId"))).count();
    assert_eq!(inherited, 20, "half of the queues");
    // What the other one had and did not commit may come again, before what is new.
    let got = stays.wait_for("what was sent after the kill", TAKEN_OVER, |lines| {
        let got = of(lines, "message");
        let found = names(&got);
        names(&after).iter().all(|name| found.contains(name)).then_some(got)
    });
    assert_in_order(&got, 4);
    let mut all = names(&[got, of(&dies.lines(), "message")].concat());
    all.dedup();
    assert_eq!(all, names(&[before, after].concat()));
    stays.stop();
}

fn a_member_locks_again_at_a_broker_that_was_killed(version: &'static str) {
    let mut cluster = Cluster::start(Settings { flush: Flush::Sync, ..Settings::default() });
    cluster.broker.create_topic("relocked_topic", 4);
    let client = impatient(&cluster, version);
    let namesrv = cluster.namesrv().to_owned();
    let target = [("namesrv", &*namesrv), ("topic", "relocked_topic")];
    let options = [("group", "relocked_group"), ("orderly", "true"), ("told", "true")];
    let member = client.start("push", &[&target[..], &options].concat());
    let send = |prefix| client.run("send", &[&target[..], &[("count", "20"), ("prefix", prefix)]].concat());
    let before = send("before");
    member.wait_messages(20);
    cluster.broker.kill();
    cluster.broker.restart();
    // Locks are in the broker's memory alone. It asks for them every second.
    let until = member.lines().len();
    member.wait_for("all locks are granted again", PATIENCE, |lines| {
        of(&lines[until..], "locked").iter().any(|line| line["queues"] == 4).then_some(())
    });
    assert_eq!(lock(&cluster, "relocked_topic", "relocked_group"), 0, "they have an owner");
    let after = send("after");
    let got = member.wait_messages(40);
    assert_in_order(&got, 4);
    assert_eq!(names(&got), names(&[before, after].concat()));
    member.stop();
}

/// How many of four queues a stranger to the group is granted.
fn lock(cluster: &Cluster, topic: &str, group: &str) -> usize {
    let queues: Vec<Value> =
        (0..4).map(|queue| json!({ "topic": topic, "brokerName": cluster.broker.name, "queueId": queue })).collect();
    let body = json!({ "consumerGroup": group, "clientId": "stranger@1", "mqSet": queues, "onlyThisBroker": false });
    let reply = cluster.broker.connect().call(wire::LOCK_BATCH_MQ, &[], body.to_string().as_bytes()).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header);
    lenient(&reply.body)["lockOKMQSet"].as_array().unwrap().len()
}
