//! The SDK and Apache's Java client in the same topics and groups.

use ringmq_client::{Consumed, Message, PushConsumer, ReceivedMessage};
use serde_json::Value;

use super::support::{java, skip};
use super::{Seen, alone, cluster, names, numbered, options, producer, set, text};

const VERSION: &str = "5.3.3";

/// The part of the body before the bar, as the Java driver names its messages.
fn name(message: &ReceivedMessage) -> String {
    text(message).split('|').next().unwrap().to_owned()
}

fn java_names(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_java_sends_is_pushed_here() {
    if let Some(reason) = java::missing() {
        return skip(&reason);
    }
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("from_java", 4);
    let client = cluster.client(VERSION);
    let target = [("namesrv", cluster.namesrv()), ("topic", "from_java")];
    let send = |options: &[(&str, &str)]| client.run("send", &[&target[..], options].concat());
    let plain = send(&[("count", "20"), ("prefix", "plain"), ("tag", "TagA"), ("keys", "k")]);
    // Above 4 KiB, so Java packs the body.
    send(&[("count", "20"), ("prefix", "large"), ("size", "20000")]);
    send(&[("count", "20"), ("prefix", "batch"), ("mode", "batch")]);
    let seen = Seen::default();
    let consumer = seen.consumer(&cluster, options("sdk_from_java", "from_java"));
    seen.wait(60);
    let all = seen.all();
    let wanted = ["plain", "large", "batch"].into_iter().flat_map(|prefix| numbered(prefix, 20)).collect();
    assert_eq!(set(all.iter().map(name)), wanted);
    for message in &all {
        let large = name(message).starts_with("large");
        assert_eq!((message.body.len() == 20000, message.packed), (large, false), "{}", name(message));
    }
    let first = all.iter().find(|message| name(message) == "plain-0").unwrap();
    assert_eq!((first.tag(), first.keys()), (Some("TagA"), Some("k-0")));
    assert_eq!(first.msg_id(), plain[0]["msgId"].as_str().unwrap());
    consumer.shutdown().unwrap();
}

#[test]
fn what_is_sent_here_is_pushed_to_java() {
    if let Some(reason) = java::missing() {
        return skip(&reason);
    }
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("to_java", 4);
    let producer = producer(&cluster);
    let large = "x".repeat(20000);
    let receipt =
        producer.send(&Message::builder("to_java").tag("TagA").key("k").body(format!("large-0|{large}"))).unwrap();
    let batch: Vec<Message> =
        (0..10).map(|i| Message::builder("to_java").tag("TagA").body(format!("batch-{i}|"))).collect();
    producer.send_batch(&batch).unwrap();
    producer.send_async(&Message::builder("to_java").tag("TagA").body("async-0|")).unwrap().wait().unwrap();
    producer.send_oneway(&Message::builder("to_java").tag("TagA").body("oneway-0|")).unwrap();
    producer.send(&Message::builder("to_java").tag("TagB").body("other-0|")).unwrap();
    let target = [("namesrv", cluster.namesrv()), ("topic", "to_java"), ("group", "sdk_to_java"), ("sub", "TagA")];
    let consumer = cluster.client(VERSION).start("push", &target);
    let lines = consumer.wait_messages(13);
    let wanted = ["large", "async", "oneway"].into_iter().flat_map(|prefix| numbered(prefix, 1));
    assert_eq!(set(java_names(&lines)), wanted.chain(numbered("batch", 10)).collect());
    let found = lines.iter().find(|line| line["name"] == "large-0").unwrap();
    assert_eq!((found["msgId"].as_str(), found["keys"].as_str()), (Some(receipt.msg_id.as_str()), Some("k")));
    consumer.stop();
}

#[test]
fn what_fails_here_comes_again_to_java_in_the_same_group() {
    if let Some(reason) = java::missing() {
        return skip(&reason);
    }
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("handed_on", 1);
    let producer = producer(&cluster);
    for i in 0..5 {
        producer.send(&Message::new("handed_on", format!("m-{i}|"))).unwrap();
    }
    let seen = Seen::default();
    let seeing = seen.clone();
    let listener = move |message: &ReceivedMessage| {
        seeing.add(message);
        // The highest level that the broker has, so that Java is the first to see it again.
        Consumed::LaterAt(6)
    };
    let consumer = PushConsumer::start(options("sdk_handed_on", "handed_on"), names(&cluster), listener).unwrap();
    seen.wait(5);
    consumer.shutdown().unwrap();
    let target = [("namesrv", cluster.namesrv()), ("topic", "handed_on"), ("group", "sdk_handed_on")];
    let java = cluster.client(VERSION).start("push", &target);
    let lines = java.wait_messages(5);
    assert_eq!(set(java_names(&lines)), numbered("m", 5));
    assert!(lines.iter().all(|line| line["reconsumeTimes"] == 1 && line["topic"] == "handed_on"), "{lines:?}");
    java.stop();
}
