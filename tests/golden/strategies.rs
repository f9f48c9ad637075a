//! How members of a group share queues: each of the clients' ways, by the list of members that the broker tells.

use serde_json::{Value, json};

use super::scenarios;
use super::scene::{Scene, Setup};
use super::support::wire;

scenarios! {
    queues_that_are_shared
    queues_that_are_fewer_than_members
}

/// The clients' ways to share by machine room read the room from the broker's name.
const BROKER: &str = "room@broker-a";

/// One group after the other, for each way to share: who has what, whom the client and who else asks is told of, and
/// what is told when all have left.
fn shared(scene: &mut Scene, topic: &str, queues: &str, members: &str) {
    for strategy in ["averagely", "circle", "hash", "config", "room", "elsewhere", "nearby"] {
        let group = format!("by_{strategy}");
        let options = [
            ("strategy", strategy),
            ("group", &*group),
            ("topic", topic),
            ("queues", queues),
            ("members", members),
            ("broker", BROKER),
        ];
        let what = format!("{strategy}, {members} for {queues} queues");
        scene.act_once(&what, "share", &options);
        listed(scene, &format!("{what}: the list"), &group);
        scene.act(&format!("{what}: stop"), "stop", &[("consumer", &*what)]);
        listed(scene, &format!("{what}: the list when all have left"), &group);
    }
}

/// Observes whom the broker names. Apache's list has the order of a hash table: clients sort it before they share.
fn listed(scene: &mut Scene, what: &str, group: &str) {
    let frame = scene.ask(wire::GET_CONSUMER_LIST_BY_GROUP, &[("consumerGroup", group)], &[]);
    let mut ids: Vec<String> = match frame.header.code {
        0 => {
            let body: Value = serde_json::from_slice(&frame.body).unwrap();
            serde_json::from_value(body["consumerIdList"].clone()).unwrap()
        }
        _ => Vec::new(),
    };
    ids.sort();
    scene.observe(what, &json!({ "code": frame.header.code, "remark": frame.header.remark, "members": ids }));
}

fn queues_that_are_shared(setup: Setup) -> Scene {
    let mut scene = setup.start_named(BROKER, &[]);
    scene.cluster.broker.create_topic("orders", 7);
    shared(&mut scene, "orders", "7", "3");
    shared(&mut scene, "orders", "7", "2");
    scene
}

fn queues_that_are_fewer_than_members(setup: Setup) -> Scene {
    let mut scene = setup.start_named(BROKER, &[]);
    scene.cluster.broker.create_topic("orders", 2);
    shared(&mut scene, "orders", "2", "3");
    shared(&mut scene, "orders", "2", "1");
    scene
}
