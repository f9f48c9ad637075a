//! What a pull is answered, by where it begins and who asks.

use serde_json::{Value, json};

use super::scenarios;
use super::scene::{Scene, Setup, heartbeat};
use super::support::wire::{self, Frame};

scenarios! {
    pulls_at_offsets
    pulls_of_groups
    pulls_with_tags
    pulls_with_sql
    pulls_with_sql_turned_off
    tags_that_collide
    sql_of_a_client
    sql_and_retries
}

/// A pull of 32 messages by a group that brings its subscription along, with some fields changed.
fn pull(scene: &mut Scene, topic: &str, queue: i32, offset: i64, more: &[(&'static str, &str)]) -> Frame {
    let mut ext = wire::pull(topic, queue, offset, 32, 0);
    for (key, value) in more {
        ext.retain(|(known, _)| known != key);
        if *value != ABSENT {
            ext.push((key, (*value).to_owned()));
        }
    }
    let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, value.as_str())).collect();
    scene.ask(wire::PULL_MESSAGE, &ext, &[])
}

/// Stands for a field that is left out.
const ABSENT: &str = "\0";

/// Observes an answer, and of its messages only their bodies.
fn observe(scene: &mut Scene, what: &str, frame: &Frame) {
    let mut short = frame.clone();
    short.body.clear();
    let names: Vec<_> = match frame.header.code {
        0 => {
            wire::records(&frame.body).iter().map(|record| String::from_utf8_lossy(&record.body).into_owned()).collect()
        }
        _ => Vec::new(),
    };
    short.header.ext.insert("messages".to_owned(), names.join(" "));
    scene.observe_frame(what, &short);
}

fn ask(scene: &mut Scene, what: &str, topic: &str, queue: i32, offset: i64, more: &[(&'static str, &str)]) {
    let frame = pull(scene, topic, queue, offset, more);
    observe(scene, what, &frame);
}

/// Waits until all that was sent can be read: Apache's queues lag behind the answers of sends.
fn settled(scene: &mut Scene, topic: &str, count: usize) {
    scene.until("all can be read", |scene| (scene.pull(topic).len() >= count).then_some(()));
}

fn pulls_at_offsets(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.cluster.broker.create_topic("orders", 2);
    for body in ["a", "b", "c"] {
        scene.put("orders", body, "");
    }
    settled(&mut scene, "orders", 3);
    for (what, queue, offset) in [
        ("the beginning", 0, 0),
        ("the middle", 0, 1),
        ("the end", 0, 3),
        ("one beyond the end", 0, 4),
        ("far beyond the end", 0, 1000),
        ("below zero", 0, -1),
        ("an empty queue", 1, 0),
        ("an empty queue, beyond", 1, 5),
        ("an empty queue, below zero", 1, -1),
        ("no such queue", 2, 0),
        ("a negative queue", -1, 0),
    ] {
        ask(&mut scene, what, "orders", queue, offset, &[]);
    }
    ask(&mut scene, "two at most", "orders", 0, 0, &[("maxMsgNums", "2")]);
    ask(&mut scene, "none at most", "orders", 0, 0, &[("maxMsgNums", "0")]);
    ask(&mut scene, "fewer than none", "orders", 0, 0, &[("maxMsgNums", "-1")]);
    ask(&mut scene, "an unknown topic", "unknown", 0, 0, &[]);
    ask(&mut scene, "no topic", "", 0, 0, &[]);
    ask(&mut scene, "waited for, in vain", "orders", 0, 3, &[("sysFlag", "6"), ("suspendTimeoutMillis", "200")]);
    scene
}

fn pulls_of_groups(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("autoCreateSubscriptionGroup", "false")]);
    scene.topic("orders");
    scene.put("orders", "a", "");
    ask(&mut scene, "an unknown group", "orders", 0, 0, &[("consumerGroup", "nobody")]);
    ask(&mut scene, "no group", "orders", 0, 0, &[("consumerGroup", "")]);
    scene.configure_group("wire_consumer", &json!({}));
    settled(&mut scene, "orders", 1);
    ask(&mut scene, "a known group", "orders", 0, 0, &[]);
    ask(&mut scene, "without a subscription, no member", "orders", 0, 0, &[("sysFlag", "0")]);
    scene.configure_group("disabled", &json!({ "consumeEnable": false }));
    ask(&mut scene, "a disabled group", "orders", 0, 0, &[("consumerGroup", "disabled")]);
    scene.configure_group("quiet", &json!({ "consumeBroadcastEnable": false }));
    let mut member = scene.connect();
    let mut beat = |group: &str, topic: &str, model: &str| {
        let body = String::from_utf8(heartbeat("member", group, topic)).unwrap().replace("CLUSTERING", model);
        assert_eq!(member.call(wire::HEART_BEAT, &[], body.as_bytes()).unwrap().header.code, 0);
    };
    beat("wire_consumer", "orders", "CLUSTERING");
    beat("quiet", "orders", "BROADCASTING");
    let old = [("sysFlag", "0"), ("subVersion", "1")];
    ask(&mut scene, "by the heartbeat's subscription", "orders", 0, 0, &old);
    ask(&mut scene, "with a newer version", "orders", 0, 0, &[("sysFlag", "0"), ("subVersion", "2")]);
    scene.topic("other");
    ask(&mut scene, "a topic without a subscription", "other", 0, 0, &old);
    ask(
        &mut scene,
        "broadcasting where it is not allowed",
        "orders",
        0,
        0,
        &[&old[..], &[("consumerGroup", "quiet")]].concat(),
    );
    let write_only = [
        ("topic", "other"),
        ("defaultTopic", "TBW102"),
        ("readQueueNums", "1"),
        ("writeQueueNums", "1"),
        ("perm", "2"),
        ("topicFilterType", "SINGLE_TAG"),
        ("topicSysFlag", "0"),
        ("order", "false"),
    ];
    assert_eq!(scene.ask(wire::UPDATE_AND_CREATE_TOPIC, &write_only, &[]).header.code, 0);
    ask(&mut scene, "a write-only topic", "other", 0, 0, &[]);
    let ext =
        [("consumerGroup", "wire_consumer"), ("topic", "orders"), ("queueId", "0"), ("setZeroIfNotFound", "false")];
    scene.answer("nothing was committed", QUERY_CONSUMER_OFFSET, &ext, &[]);
    ask(&mut scene, "with an offset to commit", "orders", 0, 0, &[("sysFlag", "5"), ("commitOffset", "1")]);
    scene.answer("what was committed", QUERY_CONSUMER_OFFSET, &ext, &[]);
    scene
}

const QUERY_CONSUMER_OFFSET: i32 = 14;

fn pulls_with_tags(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    for (body, tag) in [("a", "A"), ("b", "B"), ("c", "C"), ("aa", "AaAa"), ("bb", "BBBB"), ("ab", "A || B")] {
        scene.put("orders", body, &format!("TAGS\u{1}{tag}\u{2}"));
    }
    scene.put("orders", "none", "");
    scene.put("orders", "z", "TAGS\u{1}C\u{2}");
    settled(&mut scene, "orders", 8);
    for (what, subscription) in [
        ("all", "*"),
        ("empty", ""),
        ("absent", ABSENT),
        ("one", "A"),
        ("two", "A || B"),
        ("two, narrow", "A||B"),
        ("blanks around", "  A  "),
        ("a single bar", "A|B"),
        ("a comma", "A,B"),
        ("bars only", "||"),
        ("an empty one between", "A || || B"),
        ("a star between", "A || *"),
        ("one that collides", "AaAa"),
        ("none of them", "D"),
        ("lower case", "a"),
    ] {
        ask(&mut scene, what, "orders", 0, 0, &[("subscription", subscription)]);
    }
    ask(&mut scene, "no type", "orders", 0, 0, &[("subscription", "A"), ("expressionType", ABSENT)]);
    ask(&mut scene, "an empty type", "orders", 0, 0, &[("subscription", "A"), ("expressionType", "")]);
    ask(&mut scene, "an unknown type", "orders", 0, 0, &[("subscription", "A"), ("expressionType", "REGEX")]);
    ask(&mut scene, "none match to the end", "orders", 0, 6, &[("subscription", "A")]);
    scene
}

fn pulls_with_sql(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("enablePropertyFilter", "true")]);
    scene.topic("orders");
    for (body, properties) in [
        ("small", "a\u{1}3\u{2}b\u{1}x\u{2}"),
        ("large", "a\u{1}30\u{2}b\u{1}y\u{2}TAGS\u{1}paid\u{2}"),
        ("text", "a\u{1}three\u{2}c\u{1}TRUE\u{2}"),
        ("none", ""),
    ] {
        scene.put("orders", body, properties);
    }
    settled(&mut scene, "orders", 4);
    for sql in [
        "a > 5",
        "a BETWEEN 1 AND 10",
        "a = '3'",
        "a = 3",
        "a <> 3",
        "a IS NULL",
        "a IS NOT NULL AND b IS NULL",
        "b IN ('x', 'z')",
        "b NOT IN ('x')",
        "NOT (a > 5)",
        "a > 5 OR b = 'x'",
        "TAGS = 'paid'",
        "c = TRUE",
        "c",
        "TRUE",
        "a > 5 extra words",
        "a >",
        "a = ",
        "",
        "*",
        "b LIKE 'x%'",
        "a + 1 > 5",
        "b CONTAINS 'x'",
        "a > 'x'",
        "a > 0.0",
        "a BETWEEN 10 AND 1",
        "a = 99999999999999999999",
    ] {
        ask(&mut scene, sql, "orders", 0, 0, &[("subscription", sql), ("expressionType", "SQL92")]);
    }
    ask(&mut scene, "a type in lower case", "orders", 0, 0, &[("subscription", "a > 5"), ("expressionType", "sql92")]);
    scene
}

fn pulls_with_sql_turned_off(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("enablePropertyFilter", "false")]);
    scene.topic("orders");
    scene.put("orders", "a", "");
    settled(&mut scene, "orders", 1);
    let sql = [("subscription", "a > 5"), ("expressionType", "SQL92")];
    ask(&mut scene, "a pull", "orders", 0, 0, &sql);
    let bad = [("subscription", "a >"), ("expressionType", "SQL92")];
    ask(&mut scene, "a pull with a bad expression", "orders", 0, 0, &bad);
    check_client(&mut scene, "checked", "SQL92", "a > 5");
    check_client(&mut scene, "checked with a tag", "TAG", "A");
    scene.act_once("a client", "consume", &[("topic", "orders"), ("group", "billing"), ("sql", "a > 5")]);
    scene
}

/// Asks whether the broker takes a subscription, as a consumer does when it starts.
fn check_client(scene: &mut Scene, what: &str, kind: &str, expression: &str) {
    let subscription = json!({
        "classFilterMode": false, "codeSet": [], "expressionType": kind, "subString": expression, "subVersion": 1,
        "tagsSet": [], "topic": "orders",
    });
    let body = json!({ "clientId": "c", "group": "billing", "namespace": "", "subscriptionData": subscription });
    scene.answer(what, CHECK_CLIENT_CONFIG, &[], body.to_string().as_bytes());
}

const CHECK_CLIENT_CONFIG: i32 = 46;

/// Two tags with one hash pass the broker; the client looks at the tag itself.
fn tags_that_collide(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    scene.group("billing", "orders");
    scene.act("consumer", "consume", &[("topic", "orders"), ("group", "billing"), ("sub", "AaAa || C")]);
    for (body, tag) in [("bb", "BBBB"), ("aa", "AaAa"), ("c", "C"), ("d", "D"), ("end", "C")] {
        scene.act(body, "send", &[("topic", "orders"), ("body", body), ("tag", tag)]);
    }
    let lines = scene.wait("consumer", "message", 3);
    let names: Vec<&Value> = lines.iter().map(|line| &line["name"]).collect();
    scene.observe("delivered", &json!({ "messages": names }));
    let offset = scene.until("all was passed", |scene| {
        let ext = [("consumerGroup", "billing"), ("topic", "orders"), ("queueId", "0")];
        let frame = scene.ask(QUERY_CONSUMER_OFFSET, &ext, &[]);
        frame.header.ext.get("offset").filter(|offset| *offset == "5").cloned()
    });
    scene.observe("committed", &json!({ "offset": offset }));
    scene
}

fn sql_of_a_client(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("enablePropertyFilter", "true")]);
    scene.topic("orders");
    scene.group("billing", "orders");
    check_client(&mut scene, "checked", "SQL92", "a > 5");
    check_client(&mut scene, "checked with a bad expression", "SQL92", "a >");
    check_client(&mut scene, "checked with an unknown type", "REGEX", "a");
    scene.act_once("a bad one", "consume", &[("topic", "orders"), ("group", "billing"), ("sql", "a >")]);
    let options = [("topic", "orders"), ("group", "billing"), ("sql", "a BETWEEN 5 AND 9 AND TAGS = 'paid'")];
    scene.act("consumer", "consume", &options);
    for (body, a, tag) in [("small", "1", "paid"), ("open", "7", "open"), ("good", "7", "paid"), ("end", "9", "paid")] {
        scene.act(body, "send", &[("topic", "orders"), ("body", body), ("tag", tag), ("p.a", a)]);
    }
    let lines = scene.wait("consumer", "message", 2);
    let names: Vec<&Value> = lines.iter().map(|line| &line["name"]).collect();
    scene.observe("delivered", &json!({ "messages": names }));
    scene
}

/// What was handed back comes again through the retry topic, where the same expression counts.
fn sql_and_retries(setup: Setup) -> Scene {
    let settings = [("enablePropertyFilter", "true"), ("filterSupportRetry", "true")];
    let mut scene = setup.start(&[&settings[..], &[("messageDelayLevel", "1s 1s 1s 1s 1s")]].concat());
    scene.topic("orders");
    scene.group("billing", "orders");
    let options = [("topic", "orders"), ("group", "billing"), ("sql", "a > 5"), ("answers", "later,later")];
    scene.act("consumer", "consume", &options);
    for (body, a) in [("small", "1"), ("large", "7")] {
        scene.act(body, "send", &[("topic", "orders"), ("body", body), ("tag", "paid"), ("p.a", a)]);
    }
    scene.deliveries("consumer", 3);
    scene.stored("in the retry topic", "%RETRY%billing", 2);
    scene
}
