//! Messages by key, by unique key, by offset id and by offset, as an operator looks for them with the tools.

use std::time::Duration;

use serde_json::Value;

use super::support::eventually;
use super::support::java::{Client, of};
use super::support::server::{Cluster, Make, Settings};
use super::{for_each_client, names, number, text};

for_each_client! {
    messages_are_found_by_their_keys
    a_message_is_shown_by_either_of_its_ids
    the_tools_print_what_they_find
    after_a_kill_the_same_is_found
    without_an_index_nothing_is_found_by_key
    the_trace_of_a_message_is_found_by_its_id
}

/// What a client makes of an answer without a message.
const NO_MESSAGE: i64 = 208;

/// Twenty messages in all queues, each with the keys `hot` and `k-<i>`.
fn sent(cluster: &Cluster, client: &Client) -> Vec<Value> {
    cluster.broker.create_topic("asked", 4);
    let options =
        [("namesrv", cluster.namesrv()), ("topic", "asked"), ("count", "20"), ("prefix", "q"), ("keys", "hot k")];
    let sent = of(&client.run("send", &options), "sent");
    assert_eq!(sent.len(), 20);
    sent
}

fn query(cluster: &Cluster, client: &Client, what: &[(&str, &str)]) -> Vec<Value> {
    client.run("query", &[&[("namesrv", cluster.namesrv()), ("topic", "asked")], what].concat())
}

fn by_key(cluster: &Cluster, client: &Client, key: &str, more: &[(&str, &str)]) -> Vec<Value> {
    of(&query(cluster, client, &[&[("do", "key"), ("key", key)], more].concat()), "message")
}

/// Apache's server builds its index a moment later.
fn wait_for_index(cluster: &Cluster, client: &Client) {
    eventually("everything is in the index", Duration::from_secs(30), || {
        (by_key(cluster, client, "hot", &[]).len() == 20).then_some(())
    });
}

/// Positions grow in the order of the answer where one log holds all, store times wherever they lie.
fn assert_in_order(found: &[Value]) {
    let times: Vec<i64> = found.iter().map(|line| number(line, "storeTimestamp")).collect();
    assert!(times.is_sorted(), "{times:?}");
}

fn messages_are_found_by_their_keys(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    let client = cluster.client(version);
    let sent = sent(&cluster, &client);
    wait_for_index(&cluster, &client);
    let all = by_key(&cluster, &client, "hot", &[]);
    assert_eq!(names(&all), names(&sent));
    assert_in_order(&all);
    assert!(all.iter().all(|line| text(line, "keys").starts_with("hot k-")), "{all:?}");
    assert_eq!(names(&by_key(&cluster, &client, "k-7", &[])), ["q-7"]);
    assert_eq!(by_key(&cluster, &client, "hot", &[("max", "3")]).len(), 3);
    let newest = by_key(&cluster, &client, "hot", &[("max", "1")]);
    let last = all.iter().map(|line| number(line, "storeTimestamp")).max().unwrap();
    assert_eq!(number(&newest[0], "storeTimestamp"), last, "the newest: {newest:?}");
    let none = query(&cluster, &client, &[("do", "key"), ("key", "nobody")]);
    assert_eq!((text(&none[0], "event"), number(&none[0], "code")), ("refused", NO_MESSAGE), "{none:?}");
    let early = query(&cluster, &client, &[("do", "key"), ("key", "hot"), ("end", "1000")]);
    assert_eq!((text(&early[0], "event"), number(&early[0], "code")), ("refused", NO_MESSAGE), "{early:?}");
    let lines = query(&cluster, &client, &[("do", "key"), ("key", "hot")]);
    assert!(number(&of(&lines, "index")[0], "timestamp") >= last, "{lines:?}");
}

fn a_message_is_shown_by_either_of_its_ids(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    let client = cluster.client(version);
    let sent = sent(&cluster, &client);
    wait_for_index(&cluster, &client);
    for line in [&sent[3], &sent[18]] {
        for id in ["msgId", "offsetMsgId"] {
            let shown = query(&cluster, &client, &[("do", "view"), ("id", text(line, id))]);
            let place = |line: &Value| (number(line, "queueId"), number(line, "queueOffset"));
            assert_eq!(place(&shown[0]), place(line), "{id}: {shown:?}");
            assert_eq!(text(&shown[0], "name"), text(line, "name"));
            assert_eq!(text(&shown[0], "msgId"), text(line, "msgId"));
        }
    }
    // A place where no message begins.
    let (place, offset) = text(&sent[0], "offsetMsgId").split_at(16);
    let beside = format!("{place}{:016X}", u64::from_str_radix(offset, 16).unwrap() + 1);
    let shown = query(&cluster, &client, &[("do", "view"), ("id", &beside)]);
    assert!(of(&shown, "message").is_empty(), "{shown:?}");
}

fn the_tools_print_what_they_find(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    let client = cluster.client(version);
    let sent = sent(&cluster, &client);
    wait_for_index(&cluster, &client);
    let line = &sent[5];
    let (unique, offset_id) = (text(line, "msgId"), text(line, "offsetMsgId"));
    let (queue, offset) = (number(line, "queueId").to_string(), number(line, "queueOffset").to_string());
    let list = client.mqadmin(&["queryMsgByKey", "-n", cluster.namesrv(), "-t", "asked", "-k", "k-5"]);
    let row: Vec<&str> = list.lines().find(|row| row.starts_with(unique)).unwrap().split_whitespace().collect();
    assert_eq!(row, [unique, &*queue, &*offset], "{list}");
    let by_unique =
        client.mqadmin_aside(&["queryMsgByUniqueKey", "-n", cluster.namesrv(), "-t", "asked", "-i", unique]);
    let mut by_id = vec!["queryMsgById", "-n", cluster.namesrv(), "-i", offset_id];
    if version == "5.3.3" {
        by_id.extend(["-t", "asked"]);
    }
    let by_id = client.mqadmin_aside(&by_id);
    let by_offset = client.mqadmin_aside(&[
        "queryMsgByOffset",
        "-n",
        cluster.namesrv(),
        "-t",
        "asked",
        "-b",
        "broker-a",
        "-i",
        &queue,
        "-o",
        &offset,
    ]);
    for shown in [by_unique, by_id, by_offset] {
        let table: Vec<(&str, &str)> =
            shown.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k.trim(), v.trim())).collect();
        let value =
            |key: &str| table.iter().find(|(k, _)| *k == key).unwrap_or_else(|| panic!("no {key} in\n{shown}")).1;
        assert_eq!(value("Topic"), "asked", "{shown}");
        assert_eq!(value("Keys"), "[hot k-5]", "{shown}");
        assert_eq!((value("Queue ID"), value("Queue Offset")), (&*queue, &*offset), "{shown}");
        assert!(value("Properties").contains(unique), "{shown}");
    }
}

fn after_a_kill_the_same_is_found(version: &'static str) {
    let mut cluster = Cluster::start(Settings::default());
    let client = cluster.client(version);
    let sent = sent(&cluster, &client);
    wait_for_index(&cluster, &client);
    let before = by_key(&cluster, &client, "hot", &[]);
    cluster.broker.kill();
    cluster.broker.restart();
    wait_for_index(&cluster, &client);
    assert_eq!(by_key(&cluster, &client, "hot", &[]), before);
    let shown = query(&cluster, &client, &[("do", "view"), ("id", text(&sent[9], "msgId"))]);
    assert_eq!(text(&shown[0], "name"), text(&sent[9], "name"));
}

fn without_an_index_nothing_is_found_by_key(version: &'static str) {
    let properties = vec![("messageIndexEnable", "false".to_owned())];
    let cluster = Cluster::start(Settings { properties, ..Settings::default() });
    let client = cluster.client(version);
    let sent = sent(&cluster, &client);
    let none = query(&cluster, &client, &[("do", "key"), ("key", "hot")]);
    assert_eq!((text(&none[0], "event"), number(&none[0], "code")), ("refused", NO_MESSAGE), "{none:?}");
    let shown = query(&cluster, &client, &[("do", "view"), ("id", text(&sent[3], "offsetMsgId"))]);
    assert_eq!(text(&shown[0], "name"), text(&sent[3], "name"), "by position it is");
    if Make::under_test() == Make::Ours {
        let index = cluster.broker.store().join("index/0/keys");
        assert!(!index.exists(), "{}", index.display());
    }
}

fn the_trace_of_a_message_is_found_by_its_id(version: &'static str) {
    let properties = vec![("traceTopicEnable", "true".to_owned())];
    let cluster = Cluster::start(Settings { properties, ..Settings::default() });
    cluster.broker.create_topic("traced", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "traced"), ("trace", "true")];
    // Clients send their traces some time after what they trace, and one that ends gives that half a second.
    let sender = client.start("send", &[&target[..], &[("stay", "true")]].concat());
    let id = text(&sender.wait_event("sent"), "msgId").to_owned();
    let receiver = client.start("push", &[&target[..], &[("group", "tracing_group")]].concat());
    eventually("the tool shows both ends of the message", Duration::from_secs(90), || {
        let shown = client.mqadmin_aside(&["queryMsgTraceById", "-n", cluster.namesrv(), "-i", &id]);
        let row = |word: &str| shown.lines().any(|line| line.split_whitespace().next() == Some(word));
        (row("Pub") && row("Sub") && shown.contains("tracing_group")).then_some(())
    });
    sender.stop();
    receiver.stop();
}
