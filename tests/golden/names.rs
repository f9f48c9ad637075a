//! Names and marks that the broker keeps as it is given them: namespaces, units, ordered topics, and traces.

use serde_json::{Value, json};

use super::scenarios;
use super::scene::{Scene, Setup, heartbeat};
use super::support::wire::{self, Outgoing};

scenarios! {
    names_in_a_namespace
    names_of_a_unit
    topics_in_order
    traces
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

/// Which fields of a trace's record change from run to run, by its first field.
fn trace(record: &str) -> Vec<String> {
    let mut fields: Vec<String> = record.split('\u{1}').map(str::to_owned).collect();
    let random: &[usize] = match &*fields[0] {
        "Pub" => &[10],
        "SubBefore" => &[4],
        "SubAfter" => &[1, 3],
        _ => &[],
    };
    for at in random {
        if let Some(field) = fields.get_mut(*at) {
            "{random}".clone_into(field);
        }
    }
    fields
}

fn traces(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("traceTopicEnable", "true")]);
    scene.topic("orders");
    scene.group("billing", "orders");
    scene.act("consumer", "consume", &[("topic", "orders"), ("group", "billing"), ("trace", "true")]);
    let options = [("topic", "orders"), ("group", "shop"), ("trace", "true"), ("body", "m")];
    scene.send("sent", &[&options[..], &[("tag", "paid"), ("keys", "k1 k2")]].concat());
    scene.deliveries("consumer", 1);
    let (records, lines) = scene.until("everything is traced", |scene| {
        let records = scene.pull("RMQ_SYS_TRACE_TOPIC");
        let bodies: Vec<String> =
            records.iter().map(|record| String::from_utf8_lossy(&record.body).into_owned()).collect();
        let lines: Vec<String> = bodies
            .iter()
            .flat_map(|body| body.split('\u{2}'))
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        let all = ["Pub", "SubBefore", "SubAfter"];
        all.iter().all(|kind| lines.iter().any(|line| line.starts_with(kind))).then_some((records, lines))
    });
    for kind in ["Pub", "SubBefore", "SubAfter"] {
        let line = lines.iter().find(|line| line.split('\u{1}').next() == Some(kind)).unwrap();
        scene.observe(&format!("trace {kind}"), &json!({ "fields": trace(line) }));
    }
    let record = records.iter().find(|record| record.body.starts_with(b"Pub")).unwrap();
    let mut line = super::scene::told(record);
    line["name"] = Value::from("a trace");
    // The client keeps them in a set.
    let mut keys: Vec<&str> = line["properties"]["KEYS"].as_str().unwrap().split(' ').collect();
    keys.sort_by_key(|key| (key.len(), *key));
    line["properties"]["KEYS"] = keys.join(" ").into();
    line.as_object_mut().unwrap().remove("queueOffset");
    scene.observe("the record of the first", &line);
    scene.route("the trace topic's route", "RMQ_SYS_TRACE_TOPIC");
    scene
}
