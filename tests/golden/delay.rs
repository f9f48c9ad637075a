//! Messages that are delivered later: by level, and by 5.x's timers.

use std::time::Duration;

use serde_json::json;

use super::scene::{Scene, Setup, told};
use super::support::wire::{self, Outgoing, Record};
use super::{scenarios, scenarios_of_5};

scenarios! {
    delay_levels
    delayed_and_filtered
    delayed_in_batches
    delayed_and_parked
}

scenarios_of_5! {
    timers
    timers_out_of_range
    timers_parked
    recalled
}

/// The levels of these scenarios: the last one is the longest.
const LEVELS: &str = "1s 4s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 8s";
/// How long the longest takes.
const LAST: Duration = Duration::from_secs(8);

/// How much later than `since` a record was stored, as a class: not before `least`, or before it.
fn lateness(record: &Record, since: i64, least: Duration) -> String {
    let late = record.stored - since;
    let sign = if late >= i64::try_from(least.as_millis()).unwrap() { ">=" } else { "<" };
    format!("{sign}{}s", least.as_secs())
}

fn by_name<'a>(records: &'a [Record], name: &str) -> &'a Record {
    records.iter().find(|record| record.body == name.as_bytes()).unwrap()
}

fn delay_levels(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("messageDelayLevel", LEVELS)]);
    scene.topic("orders");
    let seconds = |seconds| Duration::from_secs(seconds);
    // The longest first, so that the order of delivery is not that of the sends.
    let sends = [
        ("beyond", "19", LAST),
        ("two", "2", seconds(4)),
        ("one", "1", seconds(1)),
        ("zero", "0", seconds(0)),
        ("negative", "-1", seconds(0)),
    ];
    let first = scene.put("orders", "first", "");
    let since = scene.until("the first one is readable", |scene| {
        scene.pull("orders").iter().find(|record| record.position == first).map(|record| record.stored)
    });
    for (name, level, _) in sends {
        let options = [("topic", "orders"), ("body", name), ("tag", "paid"), ("keys", "k"), ("p.DELAY", level)];
        scene.send(&format!("sent {name}"), &options);
    }
    let no_number = Outgoing { topic: "orders", queue: 0, properties: "DELAY\u{1}soon\u{2}", body: b"soon" };
    let frame = scene.send_raw(&[], &no_number);
    scene.observe_frame("a level that is no number", &frame);
    scene.until("all are delivered", |scene| (scene.pull("orders").len() > sends.len()).then_some(()));
    let records = scene.stored("delivered", "orders", 1 + sends.len());
    for (name, _, least) in sends {
        let record = by_name(&records, name);
        let members = json!({
            "stored after the send": lateness(record, since, least),
            "stored after it was born": lateness(record, record.born, least),
        });
        scene.observe(&format!("times of {name}"), &members);
    }
    scene
}

fn delayed_and_filtered(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("messageDelayLevel", LEVELS)]);
    scene.cluster.broker.create_topic("orders", 4);
    scene.group("billing", "orders");
    scene.act("consumer", "consume", &[("topic", "orders"), ("group", "billing"), ("sub", "paid")]);
    // A queue each, and one after the other: what the client counts along does not hang on how fast it is.
    let sends = [
        ("other", "open", "1", "1"),
        ("now", "paid", "0", "0"),
        ("one", "paid", "2", "1"),
        ("last", "paid", "3", "18"),
    ];
    for (name, tag, queue, level) in sends {
        let options = [("topic", "orders"), ("body", name), ("tag", tag), ("queue", queue), ("p.DELAY", level)];
        scene.send(&format!("sent {name}"), &options);
        match name {
            "now" => drop(scene.wait("consumer", "message", 1)),
            "one" => drop(scene.wait("consumer", "message", 2)),
            _ => (),
        }
    }
    scene.deliveries("consumer", 3);
    scene
}

fn delayed_in_batches(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("messageDelayLevel", LEVELS)]);
    scene.topic("orders");
    scene.send("a batch of delayed messages", &[("topic", "orders"), ("batch", "a,b"), ("p.DELAY", "1")]);
    // What a client does not let through is tried on the broker itself.
    let batch = [batch_element(b"c", "DELAY\u{1}1\u{2}"), batch_element(b"d", "")].concat();
    let message = Outgoing { topic: "orders", queue: 0, properties: "", body: &batch };
    let frame = scene.send_raw(&[("m", "true")], &message);
    scene.observe_frame("raw, delayed elements", &frame);
    let batch = [batch_element(b"e", ""), batch_element(b"f", "")].concat();
    let message = Outgoing { topic: "orders", queue: 0, properties: "DELAY\u{1}1\u{2}", body: &batch };
    let frame = scene.send_raw(&[("m", "true")], &message);
    scene.observe_frame("raw, delayed as a whole", &frame);
    // One that comes after the longest level tells that nothing more will come.
    let end = Outgoing { topic: "orders", queue: 0, properties: "DELAY\u{1}18\u{2}", body: b"end" };
    scene.send_raw(&[], &end);
    scene
        .until("the end is delivered", |scene| scene.pull("orders").iter().any(|one| one.body == b"end").then_some(()));
    scene.stored("delivered", "orders", 1);
    scene
}

/// One message in the body of a batch.
pub(crate) fn batch_element(body: &[u8], properties: &str) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    let mut out = Vec::new();
    out.extend(length(22 + body.len() + properties.len()));
    out.extend([0; 12]);
    out.extend(length(body.len()));
    out.extend(body);
    out.extend(u16::try_from(properties.len()).unwrap().to_be_bytes());
    out.extend(properties.as_bytes());
    out
}

/// Where delayed messages wait, as a tool sees it.
fn delayed_and_parked(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("messageDelayLevel", LEVELS)]);
    scene.topic("orders");
    for (name, level) in [("one", "1"), ("two", "2"), ("two again", "2")] {
        let options = [("topic", "orders"), ("body", name), ("tag", "paid"), ("p.DELAY", level), ("p.user", "kept")];
        scene.send(&format!("sent {name}"), &options);
    }
    let mut pulled = 0;
    for (queue, count) in [("0", 1), ("1", 2), ("2", 0)] {
        scene.until_maximum("SCHEDULE_TOPIC_XXXX", queue, count);
        let ext = wire::pull("SCHEDULE_TOPIC_XXXX", queue.parse().unwrap(), 0, 32, 0);
        let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let frame = scene.answer(&format!("queue {queue}"), wire::PULL_MESSAGE, &ext, &[]);
        pulled += wire::records(&frame.body).len();
        let ext = [("topic", "SCHEDULE_TOPIC_XXXX"), ("queueId", queue)];
        scene.answer(&format!("maximum of queue {queue}"), wire::GET_MAX_OFFSET, &ext, &[]);
    }
    scene.observe("waiting", &json!({ "messages": pulled }));
    scene.stored("delivered", "orders", 3);
    scene.route("the route for tools", "SCHEDULE_TOPIC_XXXX");
    scene
}

/// What 5.x brokers need for timers and their recall, and how far ahead these look unless it is set.
const TIMERS: [(&str, &str); 4] = [
    ("messageDelayLevel", LEVELS),
    ("timerWheelEnable", "true"),
    ("recallMessageEnable", "true"),
    ("timerMaxDelaySec", "259200"),
];

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn timers(setup: Setup) -> Scene {
    let mut scene = setup.start(&TIMERS);
    scene.cluster.broker.create_topic("orders", 1);
    let since = now();
    let at = |milliseconds: i64| (since + milliseconds).to_string();
    let sends = [
        // Later than its name says: a slow machine sends it some time after the time was taken.
        ("at 4 s", vec![("p.TIMER_DELIVER_MS", at(8_000))], 3),
        ("in 2 s", vec![("p.TIMER_DELAY_SEC", "2".to_owned())], 1),
        ("in 2500 ms", vec![("p.TIMER_DELAY_MS", "2500".to_owned())], 1),
        ("in the past", vec![("p.TIMER_DELIVER_MS", at(-60_000))], 0),
        ("in 0 s", vec![("p.TIMER_DELAY_SEC", "0".to_owned())], 0),
        ("a level and a timer", vec![("p.DELAY", "1".to_owned()), ("p.TIMER_DELAY_SEC", "60".to_owned())], 1),
    ];
    for (name, more, _) in &sends {
        let mut options = vec![("topic", "orders"), ("body", name), ("tag", "paid"), ("p.user", "kept")];
        options.extend(more.iter().map(|(key, value)| (*key, value.as_str())));
        scene.send(&format!("sent {name}"), &options);
    }
    let records = scene.until("all are delivered", |scene| {
        let records = scene.pull("orders");
        (records.len() >= sends.len()).then_some(records)
    });
    for (name, _, least) in &sends {
        let record = by_name(&records, name);
        let mut line = told(record);
        // Those that are due within one second may come in any order.
        line.as_object_mut().unwrap().remove("queueOffset");
        line["stored after it was born"] = lateness(record, record.born, Duration::from_secs(*least)).into();
        scene.observe(&format!("delivered {name}"), &line);
    }
    scene
}

fn timers_out_of_range(setup: Setup) -> Scene {
    let mut scene = setup.start(&TIMERS);
    scene.topic("orders");
    let day = 24 * 3600;
    for (what, key, value) in [
        ("in 2 days", "TIMER_DELAY_SEC", (2 * day).to_string()),
        ("in 4 days", "TIMER_DELAY_SEC", (4 * day).to_string()),
        ("in 41 days", "TIMER_DELAY_SEC", (41 * day).to_string()),
        ("in 41 days, in milliseconds", "TIMER_DELAY_MS", (41 * day * 1000_i64).to_string()),
        ("at a time in 41 days", "TIMER_DELIVER_MS", (now() + 41 * day * 1000).to_string()),
        ("in less than no time", "TIMER_DELAY_SEC", "-5".to_owned()),
        ("at a negative time", "TIMER_DELIVER_MS", "-5".to_owned()),
        ("no number", "TIMER_DELAY_SEC", "soon".to_owned()),
        ("no number of milliseconds", "TIMER_DELIVER_MS", "soon".to_owned()),
        ("a number too large", "TIMER_DELIVER_MS", "99999999999999999999".to_owned()),
    ] {
        let properties = format!("{key}\u{1}{value}\u{2}");
        let message = Outgoing { topic: "orders", queue: 0, properties: &properties, body: what.as_bytes() };
        let frame = scene.send_raw(&[], &message);
        scene.observe_frame(what, &frame);
    }
    let batch = batch_element(b"b", "TIMER_DELAY_SEC\u{1}1\u{2}");
    let message = Outgoing { topic: "orders", queue: 0, properties: "", body: &batch };
    let frame = scene.send_raw(&[("m", "true")], &message);
    scene.observe_frame("in a batch", &frame);
    scene
}

fn timers_parked(setup: Setup) -> Scene {
    let mut scene = setup.start(&TIMERS);
    scene.topic("orders");
    let properties = "TIMER_DELAY_SEC\u{1}3\u{2}TAGS\u{1}paid\u{2}UNIQ_KEY\u{1}7F0000010BADC0FFEE0000000000AAAA\u{2}";
    let message = Outgoing { topic: "orders", queue: 0, properties, body: b"m" };
    let frame = scene.send_raw(&[], &message);
    scene.observe_frame("sent", &frame);
    scene.whole_queue("waiting", "rmq_sys_wheel_timer", 1);
    scene.answer("maximum of the real queue", wire::GET_MAX_OFFSET, &[("topic", "orders"), ("queueId", "0")], &[]);
    scene.stored("delivered", "orders", 1);
    scene
}

fn recalled(setup: Setup) -> Scene {
    let mut scene = setup.start(&TIMERS);
    scene.topic("orders");
    let send = |scene: &mut Scene, name: &str, id: &str, seconds: &str| {
        let properties = format!("TIMER_DELAY_SEC\u{1}{seconds}\u{2}UNIQ_KEY\u{1}{id}\u{2}");
        let message = Outgoing { topic: "orders", queue: 0, properties: &properties, body: name.as_bytes() };
        let frame = scene.send_raw(&[], &message);
        scene.observe_frame(&format!("sent {name}"), &frame);
        frame.header.ext.get("recallHandle").cloned().unwrap_or_default()
    };
    let handle = send(&mut scene, "taken back", "7F0000010BADC0FFEE0000000000AAAA", "4");
    send(&mut scene, "left", "7F0000010BADC0FFEE0000000000AAAB", "6");
    let near = send(&mut scene, "too near", "7F0000010BADC0FFEE0000000000AAAC", "1");
    let recall = |handle: &str| -> Vec<(&'static str, String)> {
        vec![("producerGroup", "p".to_owned()), ("topic", "orders".to_owned()), ("recallHandle", handle.to_owned())]
    };
    let ask = |scene: &mut Scene, what: &str, handle: &str| {
        let ext = recall(handle);
        let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, value.as_str())).collect();
        scene.answer(what, RECALL_MESSAGE, &ext, &[]);
    };
    ask(&mut scene, "recalled", &handle);
    ask(&mut scene, "recalled again", &handle);
    ask(&mut scene, "no handle", "");
    ask(&mut scene, "not a handle", "bm90IGEgaGFuZGxl");
    ask(&mut scene, "not base64", "***");
    let elsewhere = [("producerGroup", "p"), ("topic", "other"), ("recallHandle", &*handle)];
    scene.answer("for another topic", RECALL_MESSAGE, &elsewhere, &[]);
    scene.until("the last one is delivered", |scene| {
        scene.pull("orders").iter().any(|record| record.body == b"left").then_some(())
    });
    ask(&mut scene, "recalled too late", &near);
    scene.stored("delivered", "orders", 2);
    scene
}

/// Takes a delayed message back.
const RECALL_MESSAGE: i32 = 370;
