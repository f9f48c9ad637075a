//! Messages looked up by key, id and time.

use serde_json::json;

use super::scenarios;
use super::scene::{Scene, Setup};
use super::support::wire;

scenarios! {
    looked_up_by_key
    looked_up_by_position
    looked_up_by_time
    looked_up_by_tools
}

const QUERY_MESSAGE: i32 = 12;
const SEARCH_OFFSET: i32 = 29;
const EARLIEST_TIME: i32 = 32;
const VIEW_MESSAGE: i32 = 33;
/// The end of time for a broker.
const FOREVER: &str = "9223372036854775807";

const ID_A: &str = "7F0000010BADC0FFEE00000000000A0A";
const ID_B: &str = "7F0000010BADC0FFEE00000000000B0B";

fn key<'a>(topic: &'a str, key: &'a str, unique: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("topic", topic),
        ("key", key),
        ("maxNum", "32"),
        ("beginTimestamp", "0"),
        ("endTimestamp", FOREVER),
        ("_UNIQUE_KEY_QUERY", unique),
    ]
}

fn with<'a>(ext: &[(&'static str, &'a str)], field: &str, value: &'a str) -> Vec<(&'static str, &'a str)> {
    ext.iter().map(|(key, old)| (*key, if *key == field { value } else { *old })).collect()
}

fn looked_up_by_key(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    for (body, properties) in [
        ("a", format!("KEYS\u{1}k1 k2\u{2}UNIQ_KEY\u{1}{ID_A}\u{2}")),
        ("b", format!("KEYS\u{1}k2\u{2}UNIQ_KEY\u{1}{ID_B}\u{2}")),
        ("c", "KEYS\u{1}k3\u{2}".to_owned()),
    ] {
        scene.put("orders", body, &properties);
    }
    // Apache's index is written after the answer.
    scene.until("the last one is indexed", |scene| {
        (scene.ask(QUERY_MESSAGE, &key("orders", "k3", "false"), &[]).header.code == 0).then_some(())
    });
    let k2 = key("orders", "k2", "false");
    for (what, ext) in [
        ("a key of two messages", k2.clone()),
        ("a key of one", key("orders", "k1", "false")),
        ("an unknown key", key("orders", "k9", "false")),
        ("an unknown topic", key("unknown", "k2", "false")),
        ("part of a key", key("orders", "k", "false")),
        ("the whole list of keys", key("orders", "k1 k2", "false")),
        ("an empty key", key("orders", "", "false")),
        ("one at most", with(&k2, "maxNum", "1")),
        ("none at most", with(&k2, "maxNum", "0")),
        ("fewer than none", with(&k2, "maxNum", "-1")),
        ("before all", with(&k2, "endTimestamp", "1000")),
        ("after all", with(&k2, "beginTimestamp", "9000000000000")),
        ("a unique key", key("orders", ID_A, "true")),
        ("a unique key as a key", key("orders", ID_A, "false")),
        ("an unknown unique key", key("orders", "7F0000010BADC0FFEE00000000000C0C", "true")),
        ("a key as a unique key", key("orders", "k2", "true")),
    ] {
        scene.answer(what, QUERY_MESSAGE, &ext, &[]);
    }
    scene
}

fn looked_up_by_position(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    let position = scene.put("orders", "a", &format!("UNIQ_KEY\u{1}{ID_A}\u{2}"));
    let inside = (position + 7).to_string();
    scene.answer("a message", VIEW_MESSAGE, &[("offset", &position.to_string())], &[]);
    for (what, offset) in [("beyond the log", "1000000000"), ("inside a record", &*inside), ("negative", "-1")] {
        scene.answer(what, VIEW_MESSAGE, &[("offset", offset)], &[]);
    }
    scene.answer("no position", VIEW_MESSAGE, &[], &[]);
    scene.answer("a word", VIEW_MESSAGE, &[("offset", "first")], &[]);
    scene
}

fn looked_up_by_time(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.cluster.broker.create_topic("orders", 2);
    let stored = |scene: &mut Scene, body: &str| {
        let position = scene.put("orders", body, "");
        scene.until("it can be read", |scene| {
            scene.pull("orders").iter().find(|record| record.position == position).map(|record| record.stored)
        })
    };
    let mut times = vec![stored(&mut scene, "a")];
    while times.len() < 3 {
        // Each message has a time of its own.
        scene.until("time passes", |_| (super::delay::now() > times[times.len() - 1] + 20).then_some(()));
        times.push(stored(&mut scene, ["a", "b", "c"][times.len()]));
    }
    for boundary in ["", "LOWER", "UPPER", "lower", "sideways"] {
        for (what, time) in [
            ("the beginning of time", 0),
            ("before the log", times[0] - 60_000),
            ("just before the first", times[0] - 1),
            ("the first", times[0]),
            ("between two", times[0] + 5),
            ("the second", times[1]),
            ("the last", times[2]),
            ("after the last", times[2] + 1),
            ("far in the future", times[2] + 600_000),
            ("negative", -1),
        ] {
            let time = time.to_string();
            let mut ext = vec![("topic", "orders"), ("queueId", "0"), ("timestamp", &*time)];
            if !boundary.is_empty() {
                ext.push(("boundaryType", boundary));
            }
            scene.answer(format!("{boundary} {what}").trim(), SEARCH_OFFSET, &ext, &[]);
        }
    }
    for (what, topic, queue) in
        [("an empty queue", "orders", "1"), ("no such queue", "orders", "9"), ("an unknown topic", "unknown", "0")]
    {
        let ext = [("topic", topic), ("queueId", queue)];
        scene.answer(&format!("time in {what}"), SEARCH_OFFSET, &[&ext[..], &[("timestamp", "1000")]].concat(), &[]);
        scene.answer(&format!("maximum of {what}"), wire::GET_MAX_OFFSET, &ext, &[]);
        scene.answer(&format!("minimum of {what}"), wire::GET_MIN_OFFSET, &ext, &[]);
        scene.answer(&format!("earliest of {what}"), EARLIEST_TIME, &ext, &[]);
    }
    let ext = [("topic", "orders"), ("queueId", "0")];
    scene.answer("maximum", wire::GET_MAX_OFFSET, &ext, &[]);
    scene.answer("minimum", wire::GET_MIN_OFFSET, &ext, &[]);
    scene.answer("earliest", EARLIEST_TIME, &ext, &[]);
    scene
}

/// What mqadmin prints; the lines with times and sizes of the moment are left out.
fn looked_up_by_tools(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    let sent = scene.send("sent", &[("topic", "orders"), ("body", "m"), ("tag", "paid"), ("keys", "k1")]);
    scene.until("it is indexed", |scene| {
        (scene.ask(QUERY_MESSAGE, &key("orders", "k1", "false"), &[]).header.code == 0).then_some(())
    });
    let namesrv = scene.cluster.namesrv().to_owned();
    let unique = sent["msgId"].as_str().unwrap().to_owned();
    for (what, command) in [
        ("by key", "queryMsgByKey -t orders -k k1".to_owned()),
        ("by an unknown key", "queryMsgByKey -t orders -k k9".to_owned()),
        ("by unique key", format!("queryMsgByUniqueKey -t orders -i {unique}")),
        ("by offset", "queryMsgByOffset -t orders -b broker-a -i 0 -o 0".to_owned()),
    ] {
        let lines = scene.act(what, "tool", &[("args", &format!("{command} -n {namesrv}"))]);
        let lines = lines[0]["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
        let moment = ["Time", "Size", "CommitLog", "Host", "Body Path", "at ", "WARN", "log4j", "SLF4J"];
        let kept: Vec<_> = lines
            .filter(|line| !moment.iter().any(|word| line.contains(word)))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert!(!kept.is_empty() || what.contains("unknown"), "the tool says nothing");
        scene.observe(what, &json!({ "lines": kept }));
    }
    scene
}
