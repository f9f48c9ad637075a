//! Pulls at offsets that their queue does not have, and the event that tells of them.

use serde_json::{Value, json};

use super::groups::filled;
use super::scenarios;
use super::scene::{Scene, Setup, told};
use super::support::server::Make;
use super::support::wire;

scenarios! {
    offsets_that_moved
}

const EVENTS: &str = "OFFSET_MOVED_EVENT";
/// PULL_OFFSET_MOVED
const MOVED: i32 = 21;

fn offsets_that_moved(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.cluster.broker.create_topic("orders", 2);
    filled(&mut scene, "orders", 3);
    let mut moved = 0;
    for (what, queue, offset) in [
        ("in front of the first", 0, -1),
        ("at the end", 0, 3),
        ("behind the end", 0, 4),
        ("far behind the end", 0, 1000),
        ("at the beginning of an empty queue", 1, 0),
        ("in front of an empty queue", 1, -7),
        ("behind an empty queue", 1, 5),
        ("in a queue that is not there", 9, 5),
    ] {
        // RingMQ tells of one in a tenth of a second.
        let at = super::delay::now() + 150;
        scene.until("the last event is long ago", |_| (super::delay::now() >= at).then_some(()));
        let group = format!("group_{}", what.replace(' ', "_"));
        let mut ext = wire::pull("orders", queue, offset, 32, 0);
        ext.retain(|(key, _)| *key != "consumerGroup");
        ext.push(("consumerGroup", group));
        let frame = scene.call(wire::PULL_MESSAGE, &ext);
        moved += i64::from(frame.header.code == MOVED);
        scene.observe(what, &json!({ "code": frame.header.code, "ext": frame.header.ext }));
    }
    // Apache's broker stores an event before it answers, so a message that comes later can be read later.
    scene.put("orders", "the last", "");
    scene.until("the last one can be read", |scene| (scene.pull("orders").len() == 4).then_some(()));
    // 5.3.3 stores none.
    if Make::under_test() != Make::Apache("5.3.3") {
        scene.until_maximum(EVENTS, "0", moved);
    }
    let records = scene.pull(EVENTS);
    scene.observe("events", &json!({ "count": records.len() }));
    for record in &records {
        let mut line = told(record);
        let body: Value = serde_json::from_slice(&record.body).unwrap();
        line["name"] = format!("event of {}", body["consumerGroup"].as_str().unwrap()).into();
        line["body"] = body;
        scene.observe(&format!("event {}", record.queue_offset + 1), &line);
    }
    scene
}
