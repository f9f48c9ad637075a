//! What an administrator's tool does with topics and routes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::support::java::{Client, of};
use super::support::server::{Cluster, Flush, Make, Settings};
use super::support::wire::{self, Outgoing};
use super::support::{eventually, skip};
use super::{for_each_client, number, text};

for_each_client! {
    a_topic_is_made_listed_and_deleted
    the_cluster_is_told
    the_cluster_list_shows_what_goes_through
    the_brokers_status_is_shown
    the_status_shows_how_far_delay_levels_are
    the_status_shows_how_far_timers_are
    a_send_without_a_topic_is_refused
    the_configuration_is_changed_while_the_broker_runs
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

fn send(cluster: &Cluster, client: &Client, messages: usize) {
    let count = messages.to_string();
    let sent = client.run("send", &[("namesrv", cluster.namesrv()), ("topic", "counted"), ("count", &*count)]);
    assert_eq!(of(&sent, "sent").len(), messages, "{sent:?}");
}

fn the_cluster_list_shows_what_goes_through(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("counted", 4);
    let client = cluster.client(version);
    let mut total = 0;
    // RocketMQ's own server tells a rate once it has one of ten seconds.
    let row = eventually("the list has a rate of sends", Duration::from_secs(90), || {
        send(&cluster, &client, 5);
        total += 5;
        let list = client.mqadmin(&["clusterList", "-n", cluster.namesrv()]);
        let row = list.lines().find(|line| line.contains(&cluster.broker.address)).map(str::to_owned);
        let row = row.unwrap_or_else(|| panic!("no broker in\n{list}"));
        // `12.34(0,0ms)`: the rate, and who waits.
        let rate = row.split_whitespace().find_map(|word| word.split_once('(')?.0.parse::<f64>().ok());
        (rate? > 0.0).then_some(row)
    });
    assert!(!row.contains("null"), "every column is filled: {row}");
    let more = client.mqadmin(&["clusterList", "-m", "-n", cluster.namesrv()]);
    let row = more.lines().find(|line| line.contains("broker-a")).unwrap();
    let totals: Vec<u64> = row.split_whitespace().skip(2).map(|total| total.parse().unwrap()).collect();
    assert_eq!(totals, [0, 0, total, 0], "in and out, yesterday and today: {more}");
}

fn the_brokers_status_is_shown(version: &'static str) {
    let cluster = Cluster::start(Settings { flush: Flush::Sync, ..Settings::default() });
    cluster.broker.create_topic("counted", 4);
    let client = cluster.client(version);
    send(&cluster, &client, 7);
    let shown = client.mqadmin(&["brokerStatus", "-n", cluster.namesrv(), "-b", &cluster.broker.address]);
    let table: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once(": ")).collect();
    let table: BTreeMap<&str, &str> = table.iter().map(|(key, value)| (key.trim(), value.trim())).collect();
    for key in ["bootTimestamp", "brokerVersionDesc", "runtime", "commitLogDirCapacity", "getTotalTps", "putTps"] {
        assert!(table.contains_key(key), "no {key} in\n{shown}");
    }
    assert_eq!(table["msgPutTotalTodayNow"], "7", "{shown}");
    if Make::under_test() == Make::Ours {
        let flushed: u64 = table["ringmqFlushSizes"].split(',').map(|count| count.parse::<u64>().unwrap()).sum();
        assert!((1..=7).contains(&flushed), "{shown}");
        assert_eq!(table["ringmqFlushes"], flushed.to_string(), "{shown}");
    }
}

fn the_status_shows_how_far_delay_levels_are(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("counted", 4);
    let client = cluster.client(version);
    // The first level's delay is a second, the last one's two hours.
    for level in ["1", "18", "18"] {
        client.run("send", &[("namesrv", cluster.namesrv()), ("topic", "counted"), ("delay-level", level)]);
    }
    eventually("the first level is delivered, and the last one waits", Duration::from_secs(60), || {
        let shown = client.mqadmin(&["brokerStatus", "-n", cluster.namesrv(), "-b", &cluster.broker.address]);
        let value = |key: &str| {
            let mut pairs = shown.lines().filter_map(|line| line.split_once(": "));
            pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
        };
        let first = value("scheduleMessageOffset_1")? == "1,1";
        // Apache's broker lists a level once it has delivered something of it.
        let is_listed = Make::under_test() == Make::Ours;
        let last = value("scheduleMessageOffset_18").map_or(!is_listed, |last| last == "0,2");
        (first && last && value("scheduleMessageOffset_2").is_none_or(|unused| unused == "0,0")).then_some(())
    });
}

fn the_status_shows_how_far_timers_are(version: &'static str) {
    if !matches!(Make::under_test(), Make::Ours | Make::Apache("5.3.3")) {
        return skip("a broker of 4.9 has no timers");
    }
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("counted", 4);
    let client = cluster.client(version);
    let mut connection = cluster.broker.connect();
    for (queue, delay) in
        [(0, "TIMER_DELAY_MS\u{1}1000"), (1, "TIMER_DELAY_SEC\u{1}3600"), (2, "TIMER_DELAY_SEC\u{1}3600")]
    {
        let properties = format!("{delay}\u{2}UNIQ_KEY\u{1}timer-{queue}");
        let ext = Outgoing { topic: "counted", queue, properties: &properties, body: b"later" }.ext();
        let reply = connection.call(wire::SEND_MESSAGE_V2, &ext, b"later").unwrap();
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    }
    eventually("the first timer is delivered, and the others wait", Duration::from_secs(60), || {
        let shown = client.mqadmin(&["brokerStatus", "-n", cluster.namesrv(), "-b", &cluster.broker.address]);
        let value = |key: &str| -> f64 {
            let mut pairs = shown.lines().filter_map(|line| line.split_once(": "));
            let found = pairs.find(|(name, _)| name.trim() == key);
            found.unwrap_or_else(|| panic!("no {key} in\n{shown}")).1.trim().parse().unwrap()
        };
        assert!(value("timerReadBehind") >= 0.0 && value("timerEnqueueTps") >= 0.0 && value("timerDequeueTps") >= 0.0);
        (value("timerCongestNum") == 2.0 && value("timerOffsetBehind") == 0.0).then_some(())
    });
}

fn a_send_without_a_topic_is_refused(version: &'static str) {
    let properties = vec![("autoCreateTopicEnable", "false".to_owned())];
    let cluster = Cluster::start(Settings { properties, ..Settings::default() });
    let client = cluster.client(version);
    let sent = client.run("send", &[("namesrv", cluster.namesrv()), ("topic", "missing_topic")]);
    assert!(of(&sent, "sent").is_empty(), "{sent:?}");
    assert!(text(&sent[0], "message").contains("No route info of this topic"), "{sent:?}");
}

/// What `mqadmin getBrokerConfig` shows of a key.
fn configured(client: &Client, cluster: &Cluster, key: &str) -> String {
    let shown = client.mqadmin(&["getBrokerConfig", "-n", cluster.namesrv(), "-b", &cluster.broker.address]);
    let mut pairs = shown.lines().filter_map(|line| line.split_once(" = "));
    let found = pairs.find(|(name, _)| name.trim() == key);
    found.unwrap_or_else(|| panic!("no {key} in\n{shown}")).1.trim().to_owned()
}

fn the_configuration_is_changed_while_the_broker_runs(version: &'static str) {
    let properties = vec![("configBlackList", "configBlackList;brokerConfigPath;maxMsgsNumBatch".to_owned())];
    let mut cluster = Cluster::start(Settings { properties, ..Settings::default() });
    cluster.broker.create_topic("counted", 4);
    let client = cluster.client(version);
    let namesrv = cluster.namesrv().to_owned();
    let address = cluster.broker.address.clone();
    let asked = |key, value| ["updateBrokerConfig", "-n", &*namesrv, "-b", &*address, "-k", key, "-v", value];
    let change = |key, value| {
        let said = client.mqadmin(&asked(key, value));
        assert!(said.contains("success"), "{key}={value}: {said}");
    };
    change("fileReservedTime", "24");
    assert_eq!(configured(&client, &cluster, "fileReservedTime"), "24");
    let permission = || cluster.broker.route("counted").map(|route| route["queueDatas"][0]["perm"].clone());
    for value in ["4", "6"] {
        change("brokerPermission", value);
        let wanted: i64 = value.parse().unwrap();
        let told = || (permission()? == wanted).then_some(());
        eventually("the name server is told what the broker permits", Duration::from_secs(40), told);
    }
    send(&cluster, &client, 3);
    change("autoCreateTopicEnable", "false");
    let sent = client.run("send", &[("namesrv", &*namesrv), ("topic", "missing_topic")]);
    assert!(of(&sent, "sent").is_empty(), "{sent:?}");
    if Make::under_test() == Make::Ours {
        for (key, value, why) in [
            ("flushDiskType", "SYNC_FLUSH", "is read when the broker starts"),
            ("fileReserveTime", "24", "did you mean fileReservedTime?"),
            ("fileReservedTime", "long", "it takes"),
            ("maxMsgsNumBatch", "8", "is on the configBlackList"),
            ("configBlackList", "", "is on the configBlackList"),
            ("sendThreadPoolQueueCapacity", "1", "changes nothing here"),
        ] {
            let refused = client.mqadmin_refused(&asked(key, value));
            assert!(refused.contains(why), "{key}={value}: {refused}");
        }
        let written = std::fs::read_to_string(cluster.broker.configuration()).unwrap();
        for line in ["brokerName=broker-a", "fileReservedTime=24", "brokerPermission=6", "autoCreateTopicEnable=false"]
        {
            assert_eq!(written.lines().filter(|there| *there == line).count(), 1, "{line}: {written}");
        }
    }
    cluster.broker.terminate();
    cluster.broker.restart();
    assert_eq!(configured(&client, &cluster, "fileReservedTime"), "24");
}
