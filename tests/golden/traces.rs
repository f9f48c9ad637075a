//! What clients write about messages when they trace them, and where it goes. The broker's part in it: what it tells them
//! about the message, the switch, and the topic.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::scenarios;
use super::scene::{Scene, Setup, properties, told};
use super::support::wire::{self, Record};

scenarios! {
    traces
    traces_in_a_topic_of_ones_own
    traces_of_transactions
    traces_that_are_turned_off
    traces_without_their_topic
    traces_where_the_broker_says
}

const USUAL: &str = "RMQ_SYS_TRACE_TOPIC";
const OWN: &str = "audit";
const QUERY_MESSAGE: i32 = 12;

/// One thing that a client says about a message: its kind, then what belongs to it.
type Line = Vec<String>;

fn lines(records: &[Record]) -> Vec<Line> {
    let mut lines = Vec::new();
    for record in records {
        let body = String::from_utf8_lossy(&record.body).into_owned();
        let parts = body.split('\u{2}').filter(|line| !line.is_empty());
        lines.extend(parts.map(|line| line.split('\u{1}').map(str::to_owned).collect()));
    }
    lines
}

fn of<'a>(lines: &'a [Line], kind: &str) -> Vec<&'a Line> {
    lines.iter().filter(|line| line[0] == kind).collect()
}

/// Waits until queue 0 of `topic` has so many lines of each kind, and gives the records and their lines.
fn traced(scene: &mut Scene, topic: &str, wanted: &[(&str, usize)]) -> (Vec<Record>, Vec<Line>) {
    scene.until(&format!("traces {wanted:?} in {topic}"), |scene| {
        let records = scene.pull(topic);
        let lines = lines(&records);
        wanted.iter().all(|(kind, count)| of(&lines, kind).len() >= *count).then_some((records, lines))
    })
}

/// The fields of a line but those that change from run to run.
fn settled(line: &Line) -> Value {
    let random: &[usize] = match &*line[0] {
        "Pub" => &[10],
        "SubBefore" => &[4],
        "SubAfter" => &[1, 3],
        _ => &[],
    };
    let mut fields = line.clone();
    for at in random {
        if let Some(field) = fields.get_mut(*at) {
            "{random}".clone_into(field);
        }
    }
    json!({ "fields": fields })
}

/// A record of traces as it is stored, its body apart.
fn stored(record: &Record) -> Value {
    let mut line = told(record);
    line["name"] = Value::from("a trace");
    // The client keeps them in a set.
    let mut keys: Vec<&str> = line["properties"]["KEYS"].as_str().unwrap().split(' ').collect();
    keys.sort_by_key(|key| (key.len(), *key));
    line["properties"]["KEYS"] = keys.join(" ").into();
    line.as_object_mut().unwrap().remove("queueOffset");
    line
}

/// Waits for one more record of `topic`, which has one line, and observes both.
fn one_more(scene: &mut Scene, what: &str, topic: &str, before: usize) {
    let records = scene.until(&format!("trace {what}"), |scene| {
        let records = scene.pull(topic);
        (records.len() > before).then_some(records)
    });
    let lines = lines(&records[before..]);
    assert_eq!((records.len(), lines.len()), (before + 1, 1), "{lines:?}");
    scene.observe(&format!("trace {what}"), &settled(&lines[0]));
    scene.observe(&format!("the record {what}"), &stored(&records[before]));
}

fn traces(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("traceTopicEnable", "true")]);
    scene.topic("orders");
    scene.group("billing", "orders");
    scene.act("consumer", "consume", &[("topic", "orders"), ("group", "billing"), ("trace", "true")]);
    let options = [("topic", "orders"), ("group", "shop"), ("trace", "true"), ("body", "m")];
    scene.send("sent", &[&options[..], &[("tag", "paid"), ("keys", "k1 k2")]].concat());
    scene.deliveries("consumer", 1);
    let kinds = ["Pub", "SubBefore", "SubAfter"];
    let (records, lines) = traced(&mut scene, USUAL, &kinds.map(|kind| (kind, 1)));
    for kind in kinds {
        scene.observe(&format!("trace {kind}"), &settled(of(&lines, kind)[0]));
    }
    let record = records.iter().find(|record| record.body.starts_with(b"Pub")).unwrap();
    scene.observe("the record of the first", &stored(record));
    scene.route("the trace topic's route", USUAL);
    scene
}

/// Sends, a batch, deliveries and one that is delivered again, traced by a producer and a consumer that name their topic.
fn traces_in_a_topic_of_ones_own(setup: Setup) -> Scene {
    // Levels of one second.
    let mut scene = setup.start(&[("messageDelayLevel", "1s 1s 1s 1s")]);
    for topic in ["orders", OWN] {
        scene.topic(topic);
    }
    scene.group("billing", "orders");
    let trace = [("trace", "true"), ("trace-topic", OWN), ("topic", "orders")];
    let shop = [&trace[..], &[("group", "shop")]].concat();
    let options = [("body", "m"), ("tag", "paid"), ("keys", "k1 k2")];
    scene.send("sent", &[&shop[..], &options].concat());
    one_more(&mut scene, "of a send", OWN, 0);
    scene.send("sent without keys", &[&shop[..], &[("body", "plain")]].concat());
    one_more(&mut scene, "of a send without keys", OWN, 1);
    scene.send("sent in a batch", &[&shop[..], &[("batch", "a,b"), ("keys", "k3")]].concat());
    one_more(&mut scene, "of a batch", OWN, 2);
    let options = [("group", "billing"), ("sub", "paid"), ("answers", "later:1,ok")];
    scene.act("consumer", "consume", &[&trace[..], &options].concat());
    scene.deliveries("consumer", 2);
    let (records, all) = traced(&mut scene, OWN, &[("SubBefore", 2), ("SubAfter", 2)]);
    // Several threads send them, which may overtake one another. What belongs together has the same request id.
    let mut before = of(&all, "SubBefore");
    before.sort_by_key(|line| line[6].clone());
    for (at, line) in before.iter().enumerate() {
        scene.observe(&format!("trace before delivery {}", at + 1), &settled(line));
        let after: Vec<&Line> = of(&all, "SubAfter").into_iter().filter(|after| after[1] == line[4]).collect();
        assert_eq!(after.len(), 1, "{all:?}");
        scene.observe(&format!("trace after delivery {}", at + 1), &settled(after[0]));
    }
    for record in &records[3..] {
        let properties = properties(record);
        let keys: BTreeSet<&str> = properties["KEYS"].as_str().unwrap().split(' ').collect();
        let known: BTreeSet<String> = lines(std::slice::from_ref(record)).iter().flat_map(told_of).collect();
        assert_eq!(keys, known.iter().map(String::as_str).collect::<BTreeSet<_>>());
    }
    // As a tool finds what became of a message.
    for (what, key) in [("the id", before[0][5].clone()), ("a key", "k1".to_owned())] {
        let query = [
            ("topic", OWN.to_owned()),
            ("key", key),
            ("maxNum", "32".to_owned()),
            ("beginTimestamp", "0".to_owned()),
            ("endTimestamp", i64::MAX.to_string()),
        ];
        let found = scene.call(QUERY_MESSAGE, &query);
        let found: BTreeSet<Line> = lines(&wire::records(&found.body)).into_iter().collect();
        let kinds: Vec<&String> = found.iter().map(|line| &line[0]).collect();
        scene.observe(&format!("found by {what}"), &json!({ "kinds": kinds }));
    }
    let frame = scene.ask_namesrv(wire::GET_ROUTE, &[("topic", USUAL)], &[]);
    scene.observe("the usual topic", &json!({ "code": frame.header.code }));
    scene
}

/// The id and the keys of the message that a line of a delivery is about.
fn told_of(line: &Line) -> Vec<String> {
    let (id, keys) = if line[0] == "SubBefore" { (&line[5], &line[7]) } else { (&line[2], &line[5]) };
    std::iter::once(id.clone()).chain(keys.split(' ').filter(|key| !key.is_empty()).map(str::to_owned)).collect()
}

fn traces_of_transactions(setup: Setup) -> Scene {
    // Nobody is asked who does not ask for it: 5.3.3 asks about halves, too, which have just ended.
    let mut scene = setup.start(&[("transactionTimeOut", "600000"), ("transactionCheckInterval", "500")]);
    for topic in ["orders", OWN] {
        scene.topic(topic);
    }
    let trace = [("trace", "true"), ("trace-topic", OWN), ("topic", "orders"), ("group", "payments")];
    let message = [("checks", "commit"), ("tag", "paid"), ("keys", "k1")];
    let soon = ("p.CHECK_IMMUNITY_TIME_IN_SECONDS", "1");
    for (body, local, more) in
        [("committed", "commit", &[][..]), ("rolled back", "rollback", &[]), ("asked about", "unknown", &[soon])]
    {
        let options = [&trace[..], &message, &[("body", body), ("local", local)], more].concat();
        let sent = scene.act_once(body, "transact", &options);
        let id = sent["msgId"].as_str().unwrap();
        let line = one_of(&mut scene, "Pub", id, &|_| true);
        scene.observe(&format!("trace of the half {body}"), &settled(&line));
        let line = one_of(&mut scene, "EndTransaction", id, &|line| line[12] == "false");
        scene.observe(&format!("trace of the end of {body}"), &settled(&line));
        if !more.is_empty() {
            let line = one_of(&mut scene, "EndTransaction", id, &|line| line[12] == "true" && line[11] != "UNKNOW");
            scene.observe(&format!("trace of the end of {body}, after a question"), &settled(&line));
        }
    }
    scene
}

/// Waits for the line of this kind about a message, and gives it.
fn one_of(scene: &mut Scene, kind: &str, id: &str, is_it: &dyn Fn(&Line) -> bool) -> Line {
    scene.until(&format!("{kind} of {id}"), |scene| {
        let lines = lines(&scene.pull(OWN));
        let found: Vec<&Line> = of(&lines, kind).into_iter().filter(|line| line[5] == id && is_it(line)).collect();
        assert!(found.len() < 2, "{found:?}");
        found.first().copied().cloned()
    })
}

/// A broker may tell its clients not to trace; what came in meanwhile is never traced.
fn traces_that_are_turned_off(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("traceTopicEnable", "true"), ("traceOn", "false")]);
    scene.topic("orders");
    scene.group("billing", "orders");
    let trace = [("trace", "true"), ("topic", "orders")];
    scene.act("consumer", "consume", &[&trace[..], &[("group", "billing")]].concat());
    let shop = [&trace[..], &[("group", "shop")]].concat();
    let first = scene.send("sent", &[&shop[..], &[("body", "m")]].concat());
    scene.deliveries("consumer", 1);
    let raw = scene.send_raw(&[], &wire::Outgoing { topic: "orders", queue: 0, properties: "", body: b"raw" });
    scene.observe_frame("sent without a client", &raw);
    scene.wait("consumer", "message", 2);
    scene.configure_broker("traceOn", "true");
    let last = scene.send("sent after it was turned on", &[&shop[..], &[("body", "last")]].concat());
    let [first, last] = [&first, &last].map(|line| line["msgId"].as_str().unwrap());
    // Where each kind of line names its message.
    let kinds = [("Pub", 5), ("SubBefore", 5), ("SubAfter", 2)];
    let names = |lines: &[Line], (kind, at): (&str, usize), id: &str| of(lines, kind).iter().any(|line| line[at] == id);
    let lines = scene.until("the last one is traced", |scene| {
        let lines = lines(&scene.pull(USUAL));
        kinds.into_iter().all(|kind| names(&lines, kind, last)).then_some(lines)
    });
    for kind in kinds {
        let [first, raw, last] = [first, raw.header.field("msgId"), last].map(|id| names(&lines, kind, id));
        scene.observe(&format!("traced {}", kind.0), &json!({ "m": first, "raw": raw, "last": last }));
    }
    scene
}

/// Nobody made the topics: the first trace does, where any send may.
fn traces_without_their_topic(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    for (group, topic) in [("usual", USUAL), ("own", OWN)] {
        scene.route(&format!("before the first trace: {topic}"), topic);
        let options = [("topic", "orders"), ("group", group), ("trace", "true"), ("trace-topic", topic)];
        scene.send(group, &[&options[..], &[("body", group)]].concat());
        let route = scene.until("the topic is made", |scene| scene.cluster.broker.route(topic));
        scene.route(&format!("after the first trace: {topic}"), topic);
        let queues = route["queueDatas"][0]["writeQueueNums"].as_i64().unwrap();
        scene.until("the trace is stored", |scene| {
            let stored: i64 = (0..queues)
                .map(|queue| {
                    let ext = [("topic", topic), ("queueId", &*queue.to_string())];
                    scene.ask(wire::GET_MAX_OFFSET, &ext, &[]).header.number("offset")
                })
                .sum();
            (stored == 1).then_some(())
        });
    }
    scene
}

/// The broker makes the topic that its configuration names.
fn traces_where_the_broker_says(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("traceTopicEnable", "true"), ("msgTraceTopicName", OWN)]);
    scene.route("the route of what it names", OWN);
    scene.route("the usual topic's", USUAL);
    scene
}
