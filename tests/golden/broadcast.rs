//! Broadcasting: every member gets everything and keeps its own offsets; what the broker tells about such a group.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::groups::{CONSUME_SPAN, CONSUMER_CONNECTIONS, CONSUMER_STATUS, QUERY_OFFSET, RESET_OFFSET};
use super::groups::{and, of, reset, stats};
use super::scenarios;
use super::scene::{Scene, Setup, with_plain_keys};
use super::support::server::lenient;
use super::support::wire;

scenarios! {
    broadcast_to_members
    broadcast_and_failed
    broadcast_as_tools_see_it
}

fn join(scene: &mut Scene, name: &str, more: &[(&str, &str)]) {
    let options = [("topic", "orders"), ("group", "billing"), ("broadcast", "true"), ("assigned", "2")];
    let lines = scene.act(name, "consume", &[&options[..], more].concat());
    assert!(lines.iter().all(|line| line["event"] != "refused"), "{lines:?}");
}

fn send(scene: &mut Scene, bodies: &[(&str, &str)]) {
    for (body, queue) in bodies {
        let lines = scene.act(body, "send", &[("topic", "orders"), ("body", body), ("queue", queue)]);
        assert_eq!(lines[0]["event"], "sent", "{lines:?}");
    }
}

/// Waits until the member called `name` has had `count` messages, and observes each queue's in their order.
fn got(scene: &mut Scene, what: &str, name: &str, count: usize) {
    let mut queues: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in scene.wait(name, "message", count) {
        queues.entry(line["queueId"].to_string()).or_default().push(line["name"].clone());
    }
    scene.observe(what, &json!(queues));
}

/// Observes the offsets that the client `name` has kept in its home.
fn kept(scene: &mut Scene, what: &str, name: &str) {
    let folder = scene.cluster.folder.path().join(".rocketmq_offsets");
    let mine = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| entry.file_name().to_string_lossy().ends_with(&format!("@{name}")));
    let file = mine.unwrap().path().join("billing/offsets.json");
    let text = fs::read_to_string(&file).unwrap();
    scene.observe(what, &lenient(with_plain_keys(&text).as_bytes()));
}

/// Observes what the broker tells of the group's offsets.
fn offsets(scene: &mut Scene, what: &str) {
    for queue in ["0", "1"] {
        scene.answer(&format!("{what}: queue {queue}"), QUERY_OFFSET, &of("billing", "orders", queue), &[]);
        let strict = and(of("billing", "orders", queue), &[("setZeroIfNotFound", "false")]);
        scene.answer(&format!("{what}: queue {queue}, strictly"), QUERY_OFFSET, &strict, &[]);
    }
    stats(scene, &format!("{what}: stats"), &[("consumerGroup", "billing")]);
    let one = [("consumerGroup", "billing"), ("topic", "orders")];
    stats(scene, &format!("{what}: stats of the topic"), &one);
}

fn broadcast_to_members(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.cluster.broker.create_topic("orders", 2);
    join(&mut scene, "one", &[]);
    join(&mut scene, "two", &[]);
    send(&mut scene, &[("m0", "0"), ("m1", "1"), ("m2", "0"), ("m3", "1"), ("m4", "0")]);
    got(&mut scene, "one got", "one", 5);
    got(&mut scene, "two got", "two", 5);
    offsets(&mut scene, "at the broker");
    scene.act("leave", "stop", &[("consumer", "one")]);
    kept(&mut scene, "kept by one", "one");
    send(&mut scene, &[("m5", "1")]);
    got(&mut scene, "two got more", "two", 6);
    // One that comes again goes on where it was; a new one begins where its policy says.
    join(&mut scene, "one", &[]);
    got(&mut scene, "one got after it came again", "one", 6);
    join(&mut scene, "late", &[("from", "CONSUME_FROM_LAST_OFFSET")]);
    send(&mut scene, &[("m6", "0")]);
    got(&mut scene, "the late one got", "late", 1);
    got(&mut scene, "two got at last", "two", 7);
    for name in ["one", "two", "late"] {
        scene.wait("one", "message", 7);
        scene.act(&format!("{name} leaves"), "stop", &[("consumer", name)]);
        kept(&mut scene, &format!("kept by {name} at last"), name);
    }
    offsets(&mut scene, "at the broker, when all have left");
    scene
}

/// What a member does not take is not handed back.
fn broadcast_and_failed(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.cluster.broker.create_topic("orders", 2);
    join(&mut scene, "one", &[("answers", "later")]);
    join(&mut scene, "two", &[]);
    send(&mut scene, &[("m0", "0"), ("m1", "0"), ("m2", "0")]);
    got(&mut scene, "one got", "one", 3);
    got(&mut scene, "two got", "two", 3);
    scene.act("leave", "stop", &[("consumer", "one")]);
    kept(&mut scene, "kept by one", "one");
    scene.until("the retry topic has a route", |scene| scene.cluster.broker.route("%RETRY%billing"));
    scene.route("the retry topic's route", "%RETRY%billing");
    scene.answer("nothing is in it", wire::GET_MAX_OFFSET, &[("topic", "%RETRY%billing"), ("queueId", "0")], &[]);
    scene
}

/// The members' own offsets, as the broker asks them for an operator.
fn kept_now(scene: &mut Scene) -> Vec<(String, Value)> {
    let frame = scene.ask(CONSUMER_STATUS, &[("topic", "orders"), ("group", "billing")], &[]);
    let body = lenient(with_plain_keys(&String::from_utf8_lossy(&frame.body)).as_bytes());
    let tables = body["consumerTable"].as_object().unwrap();
    let mut members: Vec<(String, Value)> =
        tables.iter().map(|(id, table)| (id.rsplit('@').next().unwrap().to_owned(), table.clone())).collect();
    members.sort_by(|one, other| one.0.cmp(&other.0));
    members
}

fn broadcast_as_tools_see_it(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.cluster.broker.create_topic("orders", 2);
    join(&mut scene, "one", &[]);
    join(&mut scene, "two", &[]);
    send(&mut scene, &[("m0", "0"), ("m1", "1")]);
    got(&mut scene, "one got", "one", 2);
    got(&mut scene, "two got", "two", 2);
    scene.answer("connections", CONSUMER_CONNECTIONS, &[("consumerGroup", "billing")], &[]);
    scene.answer("span", CONSUME_SPAN, &[("group", "billing"), ("topic", "orders")], &[]);
    // What a listener has had is counted a moment later.
    let members = scene.until("both have counted both", |scene| {
        let members = kept_now(scene);
        let counts = |(_, table): &(String, Value)| table.as_object().unwrap().values().filter(|at| **at == 1).count();
        (members.iter().map(counts).sum::<usize>() == 4).then_some(members)
    });
    scene.observe("status", &json!({ "members": members }));
    scene.answer("reset", RESET_OFFSET, &reset("billing", "orders", "0", "true"), &[]);
    offsets(&mut scene, "after the reset");
    scene
}
