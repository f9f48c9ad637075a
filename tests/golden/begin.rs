//! Where a group without an offset begins, and what its clients make of it.

use serde_json::{Value, json};

use super::delay::now;
use super::groups::{QUERY_OFFSET, and, filled, of};
use super::scenarios;
use super::scene::{Scene, Setup};
use super::support::wire;

scenarios! {
    consumers_that_begin
    consumers_that_begin_in_an_old_queue
    a_topic_that_grows
}

/// The groups, each with the policy that it is called after.
const POLICIES: [(&str, &str); 3] = [
    ("first", "CONSUME_FROM_FIRST_OFFSET"),
    ("last", "CONSUME_FROM_LAST_OFFSET"),
    ("timestamp", "CONSUME_FROM_TIMESTAMP"),
];

fn names(lines: &[Value]) -> Vec<&Value> {
    lines.iter().map(|line| &line["name"]).collect()
}

fn consumers_that_begin(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    filled(&mut scene, "orders", 3);
    for (name, from) in POLICIES {
        scene.group(name, "orders");
        let options = [("topic", "orders"), ("group", name), ("from", from), ("at", "1577836800000")];
        scene.act(name, "consume", &options);
        let lines = scene.wait(name, "message", 3);
        scene.observe(&format!("from {name}"), &json!({ "messages": names(&lines) }));
    }
    scene
}

/// A broker to which every message is old: clients begin where they were told to.
fn consumers_that_begin_in_an_old_queue(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("accessMessageInMemoryMaxRatio", "0")]);
    scene.cluster.broker.create_topic("orders", 2);
    filled(&mut scene, "orders", 2);
    // The policy knows whole seconds. Apache's 4.9.7 takes the nearest message, so the last one is sent at once.
    let at = (now() / 1000 + 2) * 1000;
    scene.until("the second message is older than a second", |_| (now() >= at).then_some(()));
    scene.put("orders", "m2", "");
    scene.until_maximum("orders", "0", 3);
    for (what, queue) in [("with messages", "0"), ("without any", "1")] {
        let asked = of("billing", "orders", queue);
        scene.answer(&format!("{what}: query"), QUERY_OFFSET, &asked, &[]);
        for zero in ["true", "false"] {
            let asked = and(asked.clone(), &[("setZeroIfNotFound", zero)]);
            scene.answer(&format!("{what}: query, zero {zero}"), QUERY_OFFSET, &asked, &[]);
        }
    }
    let at = at.to_string();
    for (name, from) in POLICIES {
        scene.group(name, "orders");
        let options = [("topic", "orders"), ("group", name), ("from", from), ("at", &*at), ("assigned", "2")];
        scene.act(name, "consume", &options);
    }
    scene.put("orders", "later", "");
    for (name, _) in POLICIES {
        let lines = scene.until("the last message", |scene| {
            let lines = scene.wait(name, "message", 1);
            lines.iter().any(|line| line["name"] == "later").then_some(lines)
        });
        scene.observe(&format!("from {name}"), &json!({ "messages": names(&lines) }));
    }
    scene
}

/// What comes to a new queue before its consumer knows of it is consumed, also by one that begins at the end.
fn a_topic_that_grows(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    scene.group("billing", "orders");
    let options = [
        ("topic", "orders"),
        ("group", "billing"),
        ("from", "CONSUME_FROM_LAST_OFFSET"),
        ("assigned", "1"),
        ("poll", "500"),
    ];
    scene.act("consumer", "consume", &options);
    scene.put("orders", "old queue", "");
    scene.wait("consumer", "message", 1);
    scene.cluster.broker.create_topic("orders", 3);
    for queue in [1, 2] {
        let body = format!("queue {queue}");
        let message = wire::Outgoing { topic: "orders", queue, properties: "", body: body.as_bytes() };
        assert_eq!(scene.send_raw(&[], &message).header.code, 0);
    }
    let lines = scene.wait("consumer", "message", 3);
    let mut known: Vec<_> = names(&lines).into_iter().filter_map(Value::as_str).collect();
    known.sort();
    scene.observe("consumed", &json!({ "messages": known }));
    scene
}
