//! Sends of every kind, and what comes back of them.

use super::support::java::of;
use super::support::server::{Cluster, Settings};
use super::support::wire;
use super::{assert_dense, assert_same_messages, for_each_client, identity, names, number, text};

for_each_client! {
    sync_sends_come_back_as_they_were
    async_sends_come_back_as_they_were
    oneway_sends_arrive
    a_batch_is_stored_in_order
    a_large_body_travels_compressed
    binary_headers_are_understood
    version_one_sends_are_understood
    a_topic_is_created_by_its_first_message
}

fn sync_sends_come_back_as_they_were(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("sync_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "sync_topic")];
    let options = [("count", "100"), ("tag", "TagA,TagB"), ("keys", "order"), ("user", "a=b")];
    let sent = client.run("send", &[&target[..], &options, &[("flag", "7")]].concat());
    assert_eq!(sent.len(), 100);
    for line in &sent {
        assert_eq!(line["status"], "SEND_OK", "{line}");
        assert_eq!(text(line, "offsetMsgId").len(), 32, "an IPv4 offset id: {line}");
        assert_eq!(line["region"], "DefaultRegion");
    }
    let received = client.run("push", &[&target[..], &[("count", "100")]].concat());
    let received = of(&received, "message");
    assert_same_messages(&sent, &received);
    assert_dense(&received);
    for line in &received {
        let index = text(line, "name").rsplit('-').next().unwrap();
        let was = sent.iter().find(|sent| sent["name"] == line["name"]).unwrap();
        assert_eq!(line["msgId"], was["msgId"], "the unique key is the id that the sender saw");
        assert_eq!(text(line, "keys"), format!("order-{index}"));
        assert_eq!(line["user"], "a=b");
        assert_eq!(line["flag"], 7);
        assert_eq!(line["reconsumeTimes"], 0);
        assert_eq!(line["topic"], "sync_topic");
        assert_eq!(line["broker"], "broker-a");
        assert_eq!(text(line, "storeHost").trim_start_matches('/'), cluster.broker.address);
        assert!(number(line, "storeTimestamp") + 60_000 > number(line, "bornTimestamp"));
    }
}

fn async_sends_come_back_as_they_were(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("async_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "async_topic")];
    let options = [("count", "300"), ("mode", "async"), ("size", "1024")];
    let sent = client.run("send", &[&target[..], &options].concat());
    assert_eq!(of(&sent, "sent").len(), 300, "{:?}", of(&sent, "refused"));
    let received = client.run("push", &[&target[..], &[("count", "300")]].concat());
    assert_same_messages(&sent, &of(&received, "message"));
}

fn oneway_sends_arrive(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("oneway_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "oneway_topic")];
    let consumer = client.start("push", &[&target[..], &[("count", "50")]].concat());
    consumer.wait_event("started");
    let sent = client.run("send", &[&target[..], &[("mode", "oneway"), ("count", "50")]].concat());
    let received = of(&consumer.end(), "message");
    assert_eq!(names(&received), names(&sent));
}

fn a_batch_is_stored_in_order(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("batch_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "batch_topic")];
    let options = [("mode", "batch"), ("count", "20"), ("tag", "TagA,TagB"), ("keys", "k")];
    let sent = client.run("send", &[&target[..], &options, &[("queue", "2")]].concat());
    assert_eq!(sent[0]["status"], "SEND_OK", "{sent:?}");
    let ids: Vec<_> = text(&sent[0], "offsetMsgId").split(',').collect();
    assert_eq!(ids.len(), 20, "an offset id for each message");
    assert_eq!(number(&sent[0], "queueOffset"), 0);
    let mut received = of(&client.run("push", &[&target[..], &[("count", "20")]].concat()), "message");
    received.sort_by_key(|line| number(line, "queueOffset"));
    for (i, line) in received.iter().enumerate() {
        let (name, _, queue, offset) = identity(line);
        assert_eq!((name, queue, offset), (format!("m-{i}"), 2, i as i64));
        assert_eq!(text(line, "tags"), if i % 2 == 0 { "TagA" } else { "TagB" });
        let id = ids[i];
        let position = i64::from_str_radix(&id[16..], 16).unwrap();
        assert_eq!(number(line, "position"), position, "the id names the record's position");
    }
}

fn a_large_body_travels_compressed(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("large_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "large_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "3"), ("size", "3000000")]].concat());
    let received = of(&client.run("push", &[&target[..], &[("count", "3")]].concat()), "message");
    assert_same_messages(&sent, &received);
    let pull = wire::pull("large_topic", 0, 0, 1, 0);
    let reply = cluster.broker.connect().call(wire::PULL_MESSAGE, &pull, &[]).unwrap();
    let stored = wire::records(&reply.body).remove(0);
    assert_eq!(stored.sys_flag & 1, 1, "the stored message says that it is compressed");
    assert!(stored.body.len() < 1_000_000, "and is stored as it came: {}", stored.body.len());
}

fn binary_headers_are_understood(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("binary_topic", 2);
    let client = cluster.client(version).with_headers("ROCKETMQ");
    let target = [("namesrv", cluster.namesrv()), ("topic", "binary_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "20"), ("tag", "TagA")]].concat());
    let received = client.run("push", &[&target[..], &[("count", "20"), ("sub", "TagA")]].concat());
    assert_same_messages(&sent, &of(&received, "message"));
}

fn version_one_sends_are_understood(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("plain_topic", 2);
    let mut client = cluster.client(version);
    client.properties.push("org.apache.rocketmq.client.sendSmartMsg=false".to_owned());
    let target = [("namesrv", cluster.namesrv()), ("topic", "plain_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "10"), ("tag", "TagA")]].concat());
    let received = client.run("push", &[&target[..], &[("count", "10")]].concat());
    assert_same_messages(&sent, &of(&received, "message"));
}

fn a_topic_is_created_by_its_first_message(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "nobody_made_this")];
    let sent = client.run("send", &[&target[..], &[("count", "8")]].concat());
    assert!(sent.iter().all(|line| line["status"] == "SEND_OK"), "{sent:?}");
    let route = cluster.broker.route("nobody_made_this").unwrap();
    assert_eq!(route["queueDatas"][0]["writeQueueNums"], 4, "the producer's number of queues");
    assert_eq!(route["queueDatas"][0]["perm"], 6, "read and write, without inheritance");
    let received = client.run("push", &[&target[..], &[("count", "8")]].concat());
    assert_same_messages(&sent, &of(&received, "message"));
}
