//! Consumer groups: their members, locks, offsets, and what an operator asks about them.

use serde_json::{Value, json};

use super::scenarios;
use super::scene::{Scene, Setup, heartbeat, with_plain_keys};
use super::support::server::lenient;
use super::support::wire;

scenarios! {
    offsets_committed
    offsets_copied
    offsets_reset
    offsets_reset_for_a_client
    members_and_locks
    groups_as_tools_see_them
    consumers_asked_by_an_operator
    operators_ask_in_vain
}

pub(crate) const QUERY_OFFSET: i32 = 14;
const UPDATE_OFFSET: i32 = 15;
pub(crate) const CONSUMER_LIST: i32 = 38;
pub(crate) const LOCK: i32 = 41;
const UNLOCK: i32 = 42;
const TOPIC_STATS: i32 = 202;
pub(crate) const CONSUMER_CONNECTIONS: i32 = 203;
const PRODUCER_CONNECTIONS: i32 = 204;
const CONSUME_STATS: i32 = 208;
pub(crate) const RESET_OFFSET: i32 = 222;
pub(crate) const CONSUMER_STATUS: i32 = 223;
const GROUPS_OF_TOPIC: i32 = 300;
pub(crate) const CONSUME_SPAN: i32 = 303;
const RUNNING_INFO: i32 = 307;
const CONSUME_DIRECTLY: i32 = 309;
const CLONE_OFFSET: i32 = 314;

pub(crate) type Ext<'a> = Vec<(&'static str, &'a str)>;

pub(crate) fn of<'a>(group: &'a str, topic: &'a str, queue: &'a str) -> Ext<'a> {
    vec![("consumerGroup", group), ("topic", topic), ("queueId", queue)]
}

pub(crate) fn and<'a>(mut ext: Ext<'a>, more: &[(&'static str, &'a str)]) -> Ext<'a> {
    ext.extend(more);
    ext
}

pub(crate) fn filled(scene: &mut Scene, topic: &str, count: usize) {
    for message in 0..count {
        scene.put(topic, &format!("m{message}"), "");
    }
    scene.until("all can be read", |scene| (scene.pull(topic).len() >= count).then_some(()));
}

fn offsets_committed(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.cluster.broker.create_topic("orders", 2);
    scene.configure_group("billing", &json!({}));
    let strict = [("setZeroIfNotFound", "false")];
    let lenient = [("setZeroIfNotFound", "true")];
    scene.answer("an empty queue", QUERY_OFFSET, &of("billing", "orders", "0"), &[]);
    filled(&mut scene, "orders", 3);
    for (what, group, topic, queue) in [
        ("a young queue", "billing", "orders", "0"),
        ("an empty queue beside it", "billing", "orders", "1"),
        ("no such queue", "billing", "orders", "9"),
        ("an unknown topic", "billing", "unknown", "0"),
        ("an unknown group", "nobody", "orders", "0"),
        ("a negative queue", "billing", "orders", "-1"),
    ] {
        scene.answer(&format!("{what}: query"), QUERY_OFFSET, &of(group, topic, queue), &[]);
        scene.answer(&format!("{what}: strict query"), QUERY_OFFSET, &and(of(group, topic, queue), &strict), &[]);
        scene.answer(&format!("{what}: lenient query"), QUERY_OFFSET, &and(of(group, topic, queue), &lenient), &[]);
        let commit = and(of(group, topic, queue), &[("commitOffset", "2")]);
        scene.answer(&format!("{what}: commit"), UPDATE_OFFSET, &commit, &[]);
        scene.answer(&format!("{what}: query after it"), QUERY_OFFSET, &of(group, topic, queue), &[]);
    }
    for (what, offset) in [("backwards", "1"), ("beyond the end", "1000"), ("negative", "-5"), ("no number", "two")] {
        let commit = and(of("billing", "orders", "0"), &[("commitOffset", offset)]);
        scene.answer(&format!("{what}: commit"), UPDATE_OFFSET, &commit, &[]);
        scene.answer(&format!("{what}: query after it"), QUERY_OFFSET, &of("billing", "orders", "0"), &[]);
    }
    scene.answer("without an offset: commit", UPDATE_OFFSET, &of("billing", "orders", "0"), &[]);
    scene
}

fn offsets_copied(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.cluster.broker.create_topic("orders", 2);
    filled(&mut scene, "orders", 3);
    for group in ["billing", "other"] {
        scene.configure_group(group, &json!({}));
    }
    let commit = and(of("billing", "orders", "0"), &[("commitOffset", "2")]);
    assert_eq!(scene.ask(UPDATE_OFFSET, &commit, &[]).header.code, 0);
    let copy = |from: &'static str, to: &'static str, topic: &'static str| {
        vec![("srcGroup", from), ("destGroup", to), ("topic", topic), ("offline", "true")]
    };
    for (what, ext, group) in [
        ("one topic", copy("billing", "other", "orders"), "other"),
        ("to a group that is not known", copy("billing", "nobody", "orders"), "nobody"),
        ("from a group that is not known", copy("unknown", "other", "orders"), "other"),
        ("a topic that is not known", copy("billing", "other", "unknown"), "other"),
    ] {
        scene.answer(what, CLONE_OFFSET, &ext, &[]);
        let strict = [("setZeroIfNotFound", "false")];
        scene.answer(&format!("{what}: what {group} has"), QUERY_OFFSET, &and(of(group, "orders", "0"), &strict), &[]);
    }
    let all = [("srcGroup", "billing"), ("destGroup", "third")];
    scene.answer("all topics", CLONE_OFFSET, &all, &[]);
    let third = and(of("third", "orders", "0"), &[("setZeroIfNotFound", "false")]);
    scene.answer("all topics: what third has", QUERY_OFFSET, &third, &[]);
    scene
}

pub(crate) fn reset<'a>(group: &'a str, topic: &'a str, time: &'a str, force: &'a str) -> Ext<'a> {
    vec![("topic", topic), ("group", group), ("timestamp", time), ("isForce", force)]
}

/// Observes what the broker tells of a group's offsets, but not how far it has pulled: that hangs on when clients pull,
/// and RingMQ keeps no account of it.
pub(crate) fn stats(scene: &mut Scene, what: &str, ext: &[(&'static str, &str)]) {
    let mut frame = scene.ask(CONSUME_STATS, ext, &[]);
    let mut body = lenient(with_plain_keys(&String::from_utf8_lossy(&frame.body)).as_bytes());
    for queue in body["offsetTable"].as_object_mut().unwrap().values_mut() {
        queue.as_object_mut().unwrap().remove("pullOffset");
    }
    frame.body = body.to_string().into_bytes();
    scene.observe_frame(what, &frame);
}

/// Resets while nobody is there.
fn offsets_reset(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    filled(&mut scene, "orders", 5);
    scene.configure_group("billing", &json!({}));
    let future = (super::delay::now() + 600_000).to_string();
    scene.answer("nothing committed", RESET_OFFSET, &reset("billing", "orders", "0", "true"), &[]);
    let commit = and(of("billing", "orders", "0"), &[("commitOffset", "3")]);
    for (what, ext) in [
        ("to the beginning of time", reset("billing", "orders", "0", "true")),
        ("to the last", reset("billing", "orders", "-1", "true")),
        ("to the future", reset("billing", "orders", &future, "true")),
        ("to the future, not by force", reset("billing", "orders", &future, "false")),
        ("of an unknown group", reset("nobody", "orders", "0", "true")),
        ("of an unknown topic", reset("billing", "unknown", "0", "true")),
        (
            "of one queue, to an offset",
            and(reset("billing", "orders", "0", "true"), &[("queueId", "0"), ("offset", "1")]),
        ),
        ("of one queue, beyond", and(reset("billing", "orders", "0", "true"), &[("queueId", "0"), ("offset", "99")])),
        (
            "of one queue, below zero",
            and(reset("billing", "orders", "0", "true"), &[("queueId", "0"), ("offset", "-7")]),
        ),
    ] {
        assert_eq!(scene.ask(UPDATE_OFFSET, &commit, &[]).header.code, 0);
        scene.answer(what, RESET_OFFSET, &ext, &[]);
        scene.answer(&format!("{what}: query"), QUERY_OFFSET, &of("billing", "orders", "0"), &[]);
        // A pull is how a consumer takes note of a reset.
        let mut ext = wire::pull("orders", 0, 3, 32, 0);
        ext.retain(|(key, _)| *key != "consumerGroup");
        ext.push(("consumerGroup", "billing".to_owned()));
        let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let mut frame = scene.ask(wire::PULL_MESSAGE, &ext, &[]);
        frame.body.clear();
        scene.observe_frame(&format!("{what}: pull from 3"), &frame);
        scene.answer(&format!("{what}: query after the pull"), QUERY_OFFSET, &of("billing", "orders", "0"), &[]);
    }
    scene
}

/// A reset while a client consumes: it gets everything again.
fn offsets_reset_for_a_client(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    scene.group("billing", "orders");
    filled(&mut scene, "orders", 3);
    scene.act("consumer", "consume", &[("topic", "orders"), ("group", "billing")]);
    scene.wait("consumer", "message", 3);
    scene.until("all is committed", |scene| {
        let frame = scene.ask(QUERY_OFFSET, &of("billing", "orders", "0"), &[]);
        (frame.header.ext.get("offset").map(String::as_str) == Some("3")).then_some(())
    });
    scene.answer("reset to the beginning", RESET_OFFSET, &reset("billing", "orders", "0", "true"), &[]);
    let lines = scene.wait("consumer", "message", 6);
    let names: Vec<&Value> = lines.iter().map(|line| &line["name"]).collect();
    scene.observe("delivered", &json!({ "messages": names }));
    scene
}

pub(crate) fn queues(client: &str, group: &str, queues: &[i32]) -> Vec<u8> {
    let set: Vec<Value> =
        queues.iter().map(|queue| json!({ "brokerName": "broker-a", "queueId": queue, "topic": "orders" })).collect();
    json!({ "clientId": client, "consumerGroup": group, "mqSet": set, "onlyThisBroker": false })
        .to_string()
        .into_bytes()
}

/// Observes which queues were locked, whatever their order.
pub(crate) fn lock(scene: &mut Scene, what: &str, code: i32, body: &[u8]) {
    let frame = scene.ask(code, &[], body);
    let text = String::from_utf8_lossy(&frame.body).into_owned();
    let mut granted: Vec<i64> = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|body| body["lockOKMQSet"].as_array().cloned())
        .unwrap_or_default()
        .iter()
        .map(|queue| queue["queueId"].as_i64().unwrap())
        .collect();
    granted.sort_unstable();
    scene.observe(what, &json!({ "code": frame.header.code, "granted": granted }));
}

fn members_and_locks(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.cluster.broker.create_topic("orders", 4);
    scene.answer("members of an unknown group", CONSUMER_LIST, &[("consumerGroup", "nobody")], &[]);
    scene.answer("connections of an unknown group", CONSUMER_CONNECTIONS, &[("consumerGroup", "nobody")], &[]);
    scene.answer("producers of an unknown group", PRODUCER_CONNECTIONS, &[("producerGroup", "nobody")], &[]);
    let mut one = scene.connect();
    let mut other = scene.connect();
    let beat = one.call(wire::HEART_BEAT, &[], &heartbeat("one", "billing", "orders")).unwrap();
    scene.observe_frame("the first one's heartbeat", &beat);
    let beat = other.call(wire::HEART_BEAT, &[], &heartbeat("other", "billing", "orders")).unwrap();
    scene.observe_frame("the other one's heartbeat", &beat);
    let mut members = scene.ask(CONSUMER_LIST, &[("consumerGroup", "billing")], &[]);
    let body: Value = serde_json::from_slice(&members.body).unwrap();
    let mut ids: Vec<String> = serde_json::from_value(body["consumerIdList"].clone()).unwrap();
    ids.sort();
    members.body = json!({ "consumerIdList": ids }).to_string().into_bytes();
    scene.observe_frame("members", &members);
    scene.until("the retry topic has a route", |scene| scene.cluster.broker.route("%RETRY%billing"));
    scene.route("the retry topic's route", "%RETRY%billing");
    lock(&mut scene, "one locks two", LOCK, &queues("one", "billing", &[0, 1]));
    lock(&mut scene, "the other wants three", LOCK, &queues("other", "billing", &[1, 2, 3]));
    lock(&mut scene, "one locks again", LOCK, &queues("one", "billing", &[0, 1]));
    lock(&mut scene, "another group locks the same", LOCK, &queues("third", "other_group", &[0, 1]));
    lock(&mut scene, "the other unlocks what is not its own", UNLOCK, &queues("other", "billing", &[0]));
    lock(&mut scene, "and does not get it", LOCK, &queues("other", "billing", &[0]));
    lock(&mut scene, "one unlocks", UNLOCK, &queues("one", "billing", &[0]));
    lock(&mut scene, "and now the other gets it", LOCK, &queues("other", "billing", &[0]));
    lock(&mut scene, "no queues", LOCK, &queues("one", "billing", &[]));
    lock(&mut scene, "a queue that is not there", LOCK, &queues("one", "billing", &[99]));
    let leave = [("clientID", "nobody"), ("consumerGroup", "unknown")];
    scene.answer("a member of nothing leaves", wire::UNREGISTER_CLIENT, &leave, &[]);
    scene.answer("a lock without a body", LOCK, &[], &[]);
    let leave = [("clientID", "other".to_owned()), ("consumerGroup", "billing".to_owned())];
    let left = other.call(wire::UNREGISTER_CLIENT, &leave, &[]).unwrap();
    scene.observe_frame("the other leaves", &left);
    scene.answer("members after that", CONSUMER_LIST, &[("consumerGroup", "billing")], &[]);
    // A lock is kept until its time is over, whether its owner is there or not.
    lock(&mut scene, "one wants what the other had", LOCK, &queues("one", "billing", &[0]));
    scene
}

fn groups_as_tools_see_them(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.cluster.broker.create_topic("orders", 2);
    filled(&mut scene, "orders", 3);
    scene.configure_group("billing", &json!({}));
    let commit = and(of("billing", "orders", "0"), &[("commitOffset", "2")]);
    assert_eq!(scene.ask(UPDATE_OFFSET, &commit, &[]).header.code, 0);
    for (what, group) in [("a group", "billing"), ("an unknown group", "nobody")] {
        scene.answer(&format!("stats of {what}"), CONSUME_STATS, &[("consumerGroup", group)], &[]);
        let one = [("consumerGroup", group), ("topic", "orders")];
        scene.answer(&format!("stats of {what} and a topic"), CONSUME_STATS, &one, &[]);
        let span = [("group", group), ("topic", "orders")];
        scene.answer(&format!("span of {what}"), CONSUME_SPAN, &span, &[]);
    }
    scene.answer("span of an unknown topic", CONSUME_SPAN, &[("group", "billing"), ("topic", "unknown")], &[]);
    for topic in ["orders", "unknown"] {
        scene.answer(&format!("stats of {topic}"), TOPIC_STATS, &[("topic", topic)], &[]);
        scene.answer(&format!("groups of {topic}"), GROUPS_OF_TOPIC, &[("topic", topic)], &[]);
    }
    let unknown = [("consumerGroup", "billing"), ("topic", "unknown")];
    scene.answer("stats of a group and an unknown topic", CONSUME_STATS, &unknown, &[]);
    scene
}

/// What an operator asks of a running consumer, through the broker.
fn consumers_asked_by_an_operator(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    scene.group("billing", "orders");
    scene.act("consumer", "consume", &[("topic", "orders"), ("group", "billing"), ("instance", "one")]);
    let sent = scene.send("sent", &[("topic", "orders"), ("body", "m"), ("tag", "paid")]);
    scene.wait("consumer", "message", 1);
    let connections = scene.ask(CONSUMER_CONNECTIONS, &[("consumerGroup", "billing")], &[]);
    scene.observe_frame("connections", &connections);
    let body = lenient(&connections.body);
    let client = body["connectionSet"][0]["clientId"].as_str().unwrap().to_owned();
    let info = [("consumerGroup", "billing"), ("clientId", &*client), ("jstackEnable", "false")];
    let running = scene.ask(RUNNING_INFO, &info, &[]);
    let text = String::from_utf8_lossy(&running.body).into_owned();
    scene.observe(
        "running info",
        &json!({
            "code": running.header.code,
            "has the subscription": text.contains("\"subscriptionSet\""),
            "has the queues": text.contains("\"mqTable\""),
            "has the properties": text.contains("PROP_CONSUMEORDERLY"),
        }),
    );
    let id = sent["offsetMsgId"].as_str().unwrap().to_owned();
    let directly = [("consumerGroup", "billing"), ("clientId", &*client), ("msgId", &*id), ("brokerName", "broker-a")];
    scene.answer("consumed directly", CONSUME_DIRECTLY, &directly, &[]);
    let lines = scene.wait("consumer", "message", 2);
    scene.observe_line("delivered directly", &lines[1]);
    scene.until("it is committed", |scene| {
        let frame = scene.ask(QUERY_OFFSET, &of("billing", "orders", "0"), &[]);
        (frame.header.ext.get("offset").map(String::as_str) == Some("1")).then_some(())
    });
    let status = scene.ask(CONSUMER_STATUS, &[("topic", "orders"), ("group", "billing")], &[]);
    let text = String::from_utf8_lossy(&status.body).replace(&client, "a client");
    let members = json!({ "code": status.header.code, "names the client": text.contains("a client") });
    scene.observe("status", &members);
    scene
}

fn operators_ask_in_vain(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    let position = scene.put("orders", "m", "");
    let id = scene.offset_id(position);
    let nobody = [("consumerGroup", "nobody"), ("clientId", "nobody@1"), ("jstackEnable", "false")];
    scene.answer("running info of nobody", RUNNING_INFO, &nobody, &[]);
    let directly = |client: &'static str, id: &str| -> Vec<(&'static str, String)> {
        vec![
            ("consumerGroup", "nobody".to_owned()),
            ("clientId", client.to_owned()),
            ("msgId", id.to_owned()),
            ("brokerName", "broker-a".to_owned()),
        ]
    };
    let beyond = scene.offset_id(1_000_000_000);
    for (what, ext) in [
        ("consumed directly by nobody", directly("nobody@1", &id)),
        ("consumed directly, beyond the log", directly("nobody@1", &beyond)),
        ("consumed directly, without an id", directly("nobody@1", "")),
    ] {
        let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, value.as_str())).collect();
        scene.answer(what, CONSUME_DIRECTLY, &ext, &[]);
    }
    scene.answer("status of nobody", CONSUMER_STATUS, &[("topic", "orders"), ("group", "nobody")], &[]);
    let one = [("topic", "orders"), ("group", "nobody"), ("clientAddr", "nobody@1")];
    scene.answer("status of one that is not there", CONSUMER_STATUS, &one, &[]);
    scene
}
