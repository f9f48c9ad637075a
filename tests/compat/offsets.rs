//! Offsets: what the broker says of a queue, and what a group finds after restarts of either side.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::eventually;
use super::support::java::{Client, of};
use super::support::server::{Cluster, Flush, Make, Settings, lenient};
use super::{assert_same_messages, for_each_client, identity, names, number};

for_each_client! {
    a_queue_tells_its_bounds_and_finds_times
    a_group_goes_on_where_it_was_after_its_own_restart
    a_group_goes_on_where_it_was_after_the_brokers_restart
    a_group_goes_on_where_its_saved_offsets_were_after_a_kill
    a_killed_broker_keeps_what_it_acknowledged
    a_new_group_of_an_old_topic_starts_where_it_says
}

fn offsets(client: &Client, cluster: &Cluster, topic: &str, more: &[(&str, &str)]) -> Vec<Value> {
    let target = [("namesrv", cluster.namesrv()), ("topic", topic)];
    of(&client.run("offsets", &[&target[..], more].concat()), "offsets")
}

fn a_queue_tells_its_bounds_and_finds_times(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("bounds_topic", 2);
    let client = cluster.client(version);
    let empty = offsets(&client, &cluster, "bounds_topic", &[("time", "0")]);
    assert_eq!(empty.len(), 2);
    for queue in &empty {
        assert_eq!((number(queue, "min"), number(queue, "max")), (0, 0), "{queue}");
        assert_eq!(number(queue, "earliest"), -1, "no message, no time: {queue}");
        assert_eq!(number(queue, "atTime"), 0, "{queue}");
    }
    let target = [("namesrv", cluster.namesrv()), ("topic", "bounds_topic"), ("queue", "1")];
    client.run("send", &[&target[..], &[("count", "5")]].concat());
    let later = client.run("send", &[&target[..], &[("count", "5"), ("prefix", "later")]].concat());
    let all = of(&client.run("pull", &target), "message");
    let sixth = all.iter().find(|line| identity(line) == identity(&later[0])).unwrap();
    let time = number(sixth, "storeTimestamp").to_string();
    let full = offsets(&client, &cluster, "bounds_topic", &[("time", &time)]);
    let queue = full.iter().find(|line| number(line, "queueId") == 1).unwrap();
    assert_eq!((number(queue, "min"), number(queue, "max")), (0, 10));
    assert_eq!(number(queue, "earliest"), number(&all[0], "storeTimestamp"));
    assert_eq!(number(queue, "atTime"), 5, "the first message at or after the time");
}

/// A consumer that has taken `count` messages and ended in good order.
fn consume(client: &Client, cluster: &Cluster, topic: &str, group: &str, count: usize) -> Vec<Value> {
    let count = count.to_string();
    let options = [("namesrv", cluster.namesrv()), ("topic", topic), ("group", group), ("count", &count)];
    of(&client.run("push", &options), "message")
}

fn a_group_goes_on_where_it_was_after_its_own_restart(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("resumed_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "resumed_topic")];
    let first = client.run("send", &[&target[..], &[("count", "40")]].concat());
    assert_same_messages(&first, &consume(&client, &cluster, "resumed_topic", "resumed_group", 40));
    let second = client.run("send", &[&target[..], &[("count", "20"), ("prefix", "later")]].concat());
    assert_same_messages(&second, &consume(&client, &cluster, "resumed_topic", "resumed_group", 20));
}

fn send(client: &Client, cluster: &Cluster, topic: &str, prefix: &str, count: &str) -> Vec<Value> {
    let options = [("namesrv", cluster.namesrv()), ("topic", topic), ("count", count), ("prefix", prefix)];
    client.run("send", &options)
}

fn a_group_goes_on_where_it_was_after_the_brokers_restart(version: &'static str) {
    let mut cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("restarted_topic", 4);
    let client = cluster.client(version);
    let send = |cluster: &Cluster, prefix, count| send(&client, cluster, "restarted_topic", prefix, count);
    let before = send(&cluster, "before", "40");
    let got = consume(&client, &cluster, "restarted_topic", "restarted_group", 40);
    assert_same_messages(&before, &got);
    let unread = send(&cluster, "unread", "8");
    let status = cluster.broker.terminate();
    let expected = if Make::under_test() == Make::Ours { 0 } else { 143 };
    assert_eq!(status.code(), Some(expected), "SIGTERM ends a broker well (a JVM says so with 143)");
    cluster.broker.restart();
    let after = send(&cluster, "after", "12");
    let got = consume(&client, &cluster, "restarted_topic", "restarted_group", 20);
    assert_same_messages(&[unread, after].concat(), &got);
    let kept = offsets(&client, &cluster, "restarted_topic", &[("group", "restarted_group")]);
    assert_eq!(kept.iter().map(|line| number(line, "max")).sum::<i64>(), 60);
}

fn a_group_goes_on_where_its_saved_offsets_were_after_a_kill(version: &'static str) {
    let properties = vec![("flushConsumerOffsetInterval", "1000".to_owned())];
    let mut cluster = Cluster::start(Settings { flush: Flush::Sync, properties, ..Settings::default() });
    cluster.broker.create_topic("saved_topic", 4);
    let client = cluster.client(version);
    let send = |cluster: &Cluster, prefix, count| send(&client, cluster, "saved_topic", prefix, count);
    let before = send(&cluster, "before", "40");
    assert_same_messages(&before, &consume(&client, &cluster, "saved_topic", "saved_group", 40));
    // What is saved is what counts: until then a broker that is killed gives some messages again.
    let file = cluster.broker.store().join("config/consumerOffset.json");
    let wanted = json!({"0": 10, "1": 10, "2": 10, "3": 10});
    eventually("the offsets are saved", Duration::from_secs(40), || {
        let saved = lenient(&fs::read(&file).ok()?);
        (saved["offsetTable"]["saved_topic@saved_group"] == wanted).then_some(())
    });
    let unread = send(&cluster, "unread", "8");
    cluster.broker.kill();
    cluster.broker.restart();
    let after = send(&cluster, "after", "12");
    let got = consume(&client, &cluster, "saved_topic", "saved_group", 20);
    assert_same_messages(&[unread, after].concat(), &got);
}

fn a_killed_broker_keeps_what_it_acknowledged(version: &'static str) {
    let mut cluster = Cluster::start(Settings { flush: Flush::Sync, ..Settings::default() });
    cluster.broker.create_topic("killed_topic", 4);
    let client = cluster.client(version);
    let options = [
        ("namesrv", cluster.namesrv()),
        ("topic", "killed_topic"),
        ("count", "20000"),
        ("retries", "0"),
        ("timeout", "2000"),
    ];
    let sender = client.start("send", &options);
    let reached = |count: usize| {
        sender.wait_for("acknowledgements", Duration::from_secs(60), |lines| {
            (of(lines, "sent").len() >= count).then_some(())
        });
    };
    reached(300);
    cluster.broker.kill();
    cluster.broker.restart();
    let before = of(&sender.lines(), "sent").len();
    eventually("sends go through again", Duration::from_secs(60), || {
        (of(&sender.lines(), "sent").len() > before + 100).then_some(())
    });
    let mut sender = sender;
    sender.kill();
    let sent = of(&sender.lines(), "sent");
    let consumer =
        client.start("push", &[("namesrv", cluster.namesrv()), ("topic", "killed_topic"), ("group", "killed_group")]);
    let last = number(sent.last().unwrap(), "queueOffset");
    let received = consumer.wait_for("every acknowledged message", Duration::from_secs(60), |lines| {
        let messages = of(lines, "message");
        sent.iter().all(|sent| messages.iter().any(|got| identity(got) == identity(sent))).then_some(messages)
    });
    consumer.stop();
    let mut unique = names(&received);
    unique.dedup();
    assert_eq!(unique.len(), received.len(), "none twice");
    assert!(last > 0 && sent.len() >= 400);
}

fn a_new_group_of_an_old_topic_starts_where_it_says(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("old_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "old_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "10")]].concat());
    // The first pull makes the group known.
    client.run("pull", &[&target[..], &[("group", "told_group")]].concat());
    // An offset that is committed by hand decides, whatever the consumer would like.
    let commit = [("commit", "6"), ("group", "told_group")];
    let told = offsets(&client, &cluster, "old_topic", &commit);
    assert_eq!(number(&told[0], "consumed"), 6, "{told:?}");
    let got = consume(&client, &cluster, "old_topic", "told_group", 4);
    assert_same_messages(&sent[6..], &got);
    // A group without an offset begins with the first message while that is still there.
    let options = [("group", "fresh_group"), ("from", "CONSUME_FROM_LAST_OFFSET"), ("count", "10")];
    let got = of(&client.run("push", &[&target[..], &options].concat()), "message");
    assert_same_messages(&sent, &got);
}
