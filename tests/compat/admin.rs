//! What an administrator's tool does with topics and routes.

use std::time::Duration;

use serde_json::Value;

use super::support::eventually;
use super::support::java::of;
use super::support::server::{Cluster, Settings};
use super::{for_each_client, number, text};

for_each_client! {
    a_topic_is_made_listed_and_deleted
    the_cluster_is_told
    a_send_without_a_topic_is_refused
}

fn a_topic_is_made_listed_and_deleted(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    let client = cluster.client(version);
    let admin = |what: &str, more: &[(&str, &str)]| -> Value {
        let options = [
            ("namesrv", cluster.namesrv()),
            ("broker", &*cluster.broker.address),
            ("topic", "made_topic"),
            ("do", what),
        ];
        client.run("admin", &[&options[..], more].concat()).remove(0)
    };
    let has = |line: &Value, topic: &str| line["topics"].as_array().unwrap().iter().any(|one| one == topic);
    assert!(!has(&admin("topic-list", &[]), "made_topic"));
    let made = admin("create-topic", &[("queues", "6")]);
    assert_eq!(made["event"], "ok", "{made}");
    eventually("the topic has a route", Duration::from_secs(40), || cluster.broker.route("made_topic"));
    let list = admin("topic-list", &[]);
    assert!(has(&list, "made_topic"), "{list}");
    assert!(has(&list, "TBW102"), "the topic that others are made from is listed: {list}");
    let route = admin("route", &[]);
    assert_eq!(route["queues"][0], "broker-a/6/6/6");
    assert_eq!(route["brokers"][0], format!("broker-a/0/{}", cluster.broker.address));
    let config = admin("topic-config", &[]);
    if version == "5.3.3" {
        assert_eq!((number(&config, "read"), number(&config, "perm")), (6, 6), "{config}");
    }
    let changed = admin("create-topic", &[("queues", "6"), ("perm", "4")]);
    assert_eq!(changed["event"], "ok", "{changed}");
    eventually("the changed topic has a route", Duration::from_secs(40), || {
        let route = cluster.broker.route("made_topic")?;
        (route["queueDatas"][0]["perm"] == 4).then_some(())
    });
    let deleted = admin("delete-topic", &[]);
    assert_eq!(deleted["event"], "ok", "{deleted}");
    assert_eq!(number(&admin("route", &[]), "code"), 17, "a deleted topic has no route");
}

fn the_cluster_is_told(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    let client = cluster.client(version);
    let options = [("namesrv", cluster.namesrv()), ("do", "cluster")];
    let told = client.run("admin", &options).remove(0);
    let expected = format!("broker-a/0/{}", cluster.broker.address);
    assert_eq!(told["brokers"], Value::from(vec![expected]));
}

fn a_send_without_a_topic_is_refused(version: &'static str) {
    let properties = vec![("autoCreateTopicEnable", "false".to_owned())];
    let cluster = Cluster::start(Settings { properties, ..Settings::default() });
    let client = cluster.client(version);
    let sent = client.run("send", &[("namesrv", cluster.namesrv()), ("topic", "missing_topic")]);
    assert!(of(&sent, "sent").is_empty(), "{sent:?}");
    assert!(text(&sent[0], "message").contains("No route info of this topic"), "{sent:?}");
}
