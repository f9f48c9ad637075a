//! Names and marks that the broker keeps as it is given them: namespaces, units, and ordered topics.

use super::scenarios;
use super::scene::{Scene, Setup, heartbeat};
use super::support::wire::{self, Outgoing};

scenarios! {
    names_in_a_namespace
    names_of_a_unit
    topics_in_order
}

const PUT_KV: i32 = 100;
const DELETE_KV: i32 = 102;
const UPDATE_NAMESRV_CONFIG: i32 = 318;

fn names_in_a_namespace(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("messageDelayLevel", "1s 1s 1s 1s 1s")]);
    scene.topic("ns%orders");
    scene.group("ns%billing", "ns%orders");
    let options = [("topic", "orders"), ("group", "billing"), ("namespace", "ns"), ("answers", "later")];
    scene.act("consumer", "consume", &options);
    let options = [("topic", "orders"), ("group", "shop"), ("namespace", "ns"), ("body", "m")];
    scene.send("sent", &options);
    scene.deliveries("consumer", 2);
    scene.stored("in the topic", "ns%orders", 1);
    scene.stored("in the retry topic", "%RETRY%ns%billing", 1);
    scene
}

fn names_of_a_unit(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    let message = Outgoing { topic: "orders", queue: 0, properties: "", body: b"m" };
    let frame = scene.send_raw(&[("k", "true")], &message);
    scene.observe_frame("sent by a unit", &frame);
    scene.until("the topic has a route", |scene| scene.cluster.broker.route("orders"));
    scene.route("the new topic's route", "orders");
    let mut member = scene.connect();
    let beat = String::from_utf8(heartbeat("member@unit", "billing", "orders")).unwrap();
    let beat = beat.replace("\"unitMode\":false", "\"unitMode\":true");
    assert_eq!(member.call(wire::HEART_BEAT, &[], beat.as_bytes()).unwrap().header.code, 0);
    scene.until("the retry topic has a route", |scene| scene.cluster.broker.route("%RETRY%billing"));
    scene.route("the retry topic's route", "%RETRY%billing");
    scene
}

fn topics_in_order(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    let topic = [
        ("topic", "orders"),
        ("defaultTopic", "TBW102"),
        ("readQueueNums", "4"),
        ("writeQueueNums", "4"),
        ("perm", "6"),
        ("topicFilterType", "SINGLE_TAG"),
        ("topicSysFlag", "0"),
        ("order", "true"),
    ];
    assert_eq!(scene.ask(wire::UPDATE_AND_CREATE_TOPIC, &topic, &[]).header.code, 0);
    scene.until("the topic has a route", |scene| scene.cluster.broker.route("orders"));
    scene.route("before the name server knows an order", "orders");
    let order = [("namespace", "ORDER_TOPIC_CONFIG"), ("key", "orders"), ("value", "broker-a:2")];
    assert_eq!(scene.ask_namesrv(PUT_KV, &order, &[]).header.code, 0);
    scene.route("after it", "orders");
    scene.group("billing", "orders");
    scene.route("the retry topic of its consumers", "%RETRY%billing");
    // Clients ask the name server for the order; the broker takes sends to every queue.
    let beyond = Outgoing { topic: "orders", queue: 3, properties: "", body: b"m" };
    let frame = scene.send_raw(&[], &beyond);
    scene.observe_frame("sent beyond the ordered queues", &frame);
    // So far the name server has kept it to itself.
    let told = scene.ask_namesrv(UPDATE_NAMESRV_CONFIG, &[], b"orderMessageEnable=true\n");
    scene.observe_frame("the name server is to tell the order", &told);
    scene.route("with its order", "orders");
    scene.route("the retry topic, which has none", "%RETRY%billing");
    let order = [("namespace", "ORDER_TOPIC_CONFIG"), ("key", "orders"), ("value", "broker-a:3")];
    assert_eq!(scene.ask_namesrv(PUT_KV, &order, &[]).header.code, 0);
    scene.route("with another order", "orders");
    assert_eq!(scene.ask_namesrv(DELETE_KV, &order[..2], &[]).header.code, 0);
    scene.route("after the order is taken back", "orders");
    scene
}
