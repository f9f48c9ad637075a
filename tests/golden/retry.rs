//! A message that is handed back: when it comes again, with which properties, and where it ends.

use serde_json::json;

use super::scenarios;
use super::scene::{Scene, Setup};
use super::support::wire::{self, Outgoing};

scenarios! {
    later_once
    later_with_levels
    later_too_often
    sent_back_raw
    sent_back_too_often
    sent_back_to_several_queues
    sent_back_for_nobody
    sent_back_where_it_cannot_go
    sent_to_the_retry_topic
    orderly_again
    orderly_too_often
}

/// The levels of these scenarios. The first retry has level 3.
const LEVELS: &str = "1s 2s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s";

fn start(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("messageDelayLevel", LEVELS)]);
    scene.topic("orders");
    scene.group("billing", "orders");
    scene
}

fn consume(scene: &mut Scene, more: &[(&str, &str)]) {
    scene.act("consumer", "consume", &[&[("topic", "orders"), ("group", "billing")], more].concat());
}

fn send(scene: &mut Scene, body: &str) {
    let options = [("topic", "orders"), ("body", body), ("tag", "paid"), ("keys", "k1 k2"), ("p.user", "kept")];
    scene.send(&format!("sent {body}"), &[&options[..], &[("flag", "7")]].concat());
}

fn later_once(setup: Setup) -> Scene {
    let mut scene = start(setup);
    consume(&mut scene, &[("answers", "later")]);
    send(&mut scene, "m");
    scene.deliveries("consumer", 2);
    scene.stored("in the retry topic", "%RETRY%billing", 1);
    scene
}

fn later_with_levels(setup: Setup) -> Scene {
    let mut scene = start(setup);
    // Each message is handed back as often as there are answers; only then the next one is sent.
    let answers = [("at_level_3", "later:3"), ("at_level_0", "later:0,later:0,later:0"), ("never", "later:-1")];
    for (name, answers) in answers {
        let group = &*format!("group_{name}");
        let topic = &*format!("topic_{name}");
        scene.topic(topic);
        scene.group(group, topic);
        scene.act(name, "consume", &[("topic", topic), ("group", group), ("answers", answers)]);
        scene.send(&format!("sent {name}"), &[("topic", topic), ("body", name)]);
        let again = if name == "never" { 0 } else { answers.split(',').count() };
        scene.deliveries(name, 1 + again);
        scene.stored(&format!("retry topic of {name}"), &format!("%RETRY%{group}"), again);
        if name == "never" {
            scene.stored("dead letters of never", &format!("%DLQ%{group}"), 1);
        }
    }
    scene
}

fn later_too_often(setup: Setup) -> Scene {
    let mut scene = start(setup);
    consume(&mut scene, &[("answers", "later,later"), ("max-reconsume", "1")]);
    send(&mut scene, "m");
    scene.deliveries("consumer", 2);
    scene.stored("in the retry topic", "%RETRY%billing", 1);
    scene.stored("in the dead letters", "%DLQ%billing", 1);
    scene.group("undertaker", "%DLQ%billing");
    scene.until("dead letters have a route", |scene| scene.cluster.broker.route("%DLQ%billing"));
    scene.act("undertaker", "consume", &[("topic", "%DLQ%billing"), ("group", "undertaker")]);
    scene.deliveries("undertaker", 1);
    scene
}

/// The header of a send-back.
fn back<'a>(group: &'a str, offset: &'a str, level: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("offset", offset),
        ("group", group),
        ("delayLevel", level),
        ("originMsgId", "7F00000100002A9F0000000000000000"),
        ("originTopic", "orders"),
        ("unitMode", "false"),
    ]
}

fn sent_back_raw(setup: Setup) -> Scene {
    let mut scene = start(setup);
    let position = scene.put("orders", "m", "KEYS\u{1}k1\u{2}user\u{1}kept\u{2}").to_string();
    let inside = (position.parse::<i64>().unwrap() + 7).to_string();
    for (what, offset, level) in [
        ("level 0", &*position, "0"),
        ("level 1", &*position, "1"),
        ("level beyond the last", &*position, "19"),
        ("level below 0", &*position, "-1"),
        ("beyond the log", "1000000000", "0"),
        ("inside a record", &*inside, "0"),
        ("negative", "-1", "0"),
    ] {
        scene.answer(what, wire::SEND_BACK, &back("billing", offset, level), &[]);
    }
    let limited = |times| [&back("billing", &position, "0")[..], &[("maxReconsumeTimes", times)]].concat();
    scene.answer("with a maximum of 0", wire::SEND_BACK, &limited("0"), &[]);
    scene.answer("with a maximum of -1", wire::SEND_BACK, &limited("-1"), &[]);
    let bare = [("offset", &*position), ("group", "billing"), ("delayLevel", "0")];
    scene.answer("without what is optional", wire::SEND_BACK, &bare, &[]);
    scene.answer("without a group", wire::SEND_BACK, &[("offset", &*position), ("delayLevel", "0")], &[]);
    scene.answer("for a group that it makes", wire::SEND_BACK, &back("nobody", &position, "0"), &[]);
    // Which of those of one level comes first is the broker's own affair, as they came at one moment.
    let records = scene.until("all come back", |scene| {
        let records = scene.pull("%RETRY%billing");
        (records.len() >= 4).then_some(records)
    });
    let mut told: Vec<_> = records.iter().map(super::scene::told).collect();
    told.sort_by_key(|line| line["properties"]["DELAY"].to_string());
    for (at, mut line) in told.into_iter().enumerate() {
        line.as_object_mut().unwrap().remove("queueOffset");
        line.as_object_mut().unwrap().remove("position");
        scene.observe(&format!("came back {}", at + 1), &line);
    }
    scene.stored("in the dead letters", "%DLQ%billing", 3);
    scene
}

/// Tries are counted where a message is sent back: from its record, against what the consumer says, or else the group.
fn sent_back_too_often(setup: Setup) -> Scene {
    let mut scene = start(setup);
    for (group, tries) in [("two_tries", 2), ("below_none", -1)] {
        scene.configure_group(group, &json!({ "retryMaxTimes": tries }));
        scene.group(group, "orders");
    }
    let tries = [
        ("the 15th time", "billing", "14", None),
        ("the 16th time", "billing", "15", None),
        ("the 17th time", "billing", "16", None),
        ("the 16th of 16", "billing", "15", Some("16")),
        ("the 17th of 16", "billing", "16", Some("16")),
        ("the 17th of 17", "billing", "16", Some("17")),
        ("the 16th of -1", "billing", "15", Some("-1")),
        ("the 2nd of the group's two", "two_tries", "1", None),
        ("the 3rd of the group's two", "two_tries", "2", None),
        ("the 3rd of the consumer's 16", "two_tries", "2", Some("16")),
        ("the 1st of the group's -1", "below_none", "0", None),
    ];
    for (what, group, times, max) in tries {
        let retry = format!("%RETRY%{group}");
        let properties = "RETRY_TOPIC\u{1}orders\u{2}";
        let message = Outgoing { topic: &retry, queue: 0, properties, body: what.as_bytes() };
        // As one that was sent back so often: the consumer's own maximum leaves it here.
        let frame = scene.send_raw(&[("a", "CLIENT_INNER_PRODUCER"), ("j", times), ("l", "99")], &message);
        assert_eq!(frame.header.code, 0, "{:?}", frame.header.remark);
        let position = scene.position_of(frame.header.field("msgId")).to_string();
        let mut ext = back(group, &position, "0");
        ext.extend(max.map(|max| ("maxReconsumeTimes", max)));
        scene.answer(what, wire::SEND_BACK, &ext, &[]);
        // Its next record is in the retry topic after a second, or among the dead letters.
        let mut record = scene.until(&format!("{what}: it is somewhere"), |scene| {
            let records = [scene.pull(&retry), scene.pull(&format!("%DLQ%{group}"))].concat();
            let again = times.parse::<i32>().unwrap() + 1;
            let mut next = records.iter().filter(|r| r.body == what.as_bytes() && r.reconsume_times == again);
            next.next().map(super::scene::told)
        });
        record.as_object_mut().unwrap().remove("queueOffset");
        scene.observe(&format!("{what}: it is then"), &record);
    }
    scene
}

/// A group whose retry topic has several queues: a message comes back to any of them.
fn sent_back_to_several_queues(setup: Setup) -> Scene {
    let mut scene = start(setup);
    let position = scene.put("orders", "m", "").to_string();
    scene.configure_group("wide", &json!({ "retryQueueNums": 3 }));
    for time in 1..=4 {
        scene.answer(&format!("sent back {time}"), wire::SEND_BACK, &back("wide", &position, "0"), &[]);
    }
    scene.answer("sent back, dead", wire::SEND_BACK, &back("wide", &position, "-1"), &[]);
    for (topic, queues) in [("%RETRY%wide", 3), ("%DLQ%wide", 1)] {
        scene.until("the topic has a route", |scene| scene.cluster.broker.route(topic));
        scene.route(&format!("the route of {topic}"), topic);
        let wanted = if queues == 3 { 4 } else { 1 };
        scene.until("all are there", |scene| {
            let ends = (0..queues).map(|queue: i32| {
                let ext = [("topic", topic), ("queueId", &*queue.to_string())];
                scene.ask(wire::GET_MAX_OFFSET, &ext, &[]).header.number("offset")
            });
            (ends.sum::<i64>() == wanted).then_some(())
        });
    }
    scene
}

/// A group that nobody made.
fn sent_back_for_nobody(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("messageDelayLevel", LEVELS), ("autoCreateSubscriptionGroup", "false")]);
    scene.topic("orders");
    let position = scene.put("orders", "m", "").to_string();
    scene.answer("sent back", wire::SEND_BACK, &back("nobody", &position, "0"), &[]);
    scene.answer("sent back, dead", wire::SEND_BACK, &back("nobody", &position, "-1"), &[]);
    let message = Outgoing { topic: "%RETRY%nobody", queue: 0, properties: "RETRY_TOPIC\u{1}orders\u{2}", body: b"m" };
    let frame = scene.send_raw(&[("j", "1")], &message);
    scene.observe_frame("sent to its retry topic", &frame);
    scene
}

fn sent_back_where_it_cannot_go(setup: Setup) -> Scene {
    let mut scene = start(setup);
    let position = scene.put("orders", "m", "").to_string();
    scene.configure_group("no_queues", &json!({ "retryQueueNums": 0 }));
    scene.answer("no retry queues", wire::SEND_BACK, &back("no_queues", &position, "0"), &[]);
    scene.configure_group("no_tries", &json!({ "retryMaxTimes": 0 }));
    scene.answer("no tries", wire::SEND_BACK, &back("no_tries", &position, "0"), &[]);
    scene.stored("dead letters of no tries", "%DLQ%no_tries", 1);
    scene.configure_group("disabled", &json!({ "consumeEnable": false }));
    scene.answer("consuming is disabled", wire::SEND_BACK, &back("disabled", &position, "0"), &[]);
    scene.stored("retries of disabled", "%RETRY%disabled", 1);
    let read_only = [
        ("topic", "%RETRY%billing"),
        ("defaultTopic", "TBW102"),
        ("readQueueNums", "1"),
        ("writeQueueNums", "1"),
        ("perm", "4"),
        ("topicFilterType", "SINGLE_TAG"),
        ("topicSysFlag", "0"),
        ("order", "false"),
    ];
    assert_eq!(scene.ask(wire::UPDATE_AND_CREATE_TOPIC, &read_only, &[]).header.code, 0);
    scene.answer("retry topic is read-only", wire::SEND_BACK, &back("billing", &position, "0"), &[]);
    scene.answer("retry topic is read-only, dead", wire::SEND_BACK, &back("billing", &position, "-1"), &[]);
    scene
}

/// What a consumer does that cannot hand back: it sends to the retry topic itself.
fn sent_to_the_retry_topic(setup: Setup) -> Scene {
    let mut scene = start(setup);
    let properties = "RETRY_TOPIC\u{1}orders\u{2}UNIQ_KEY\u{1}7F0000010BADC0FFEE0000000000AAAA\u{2}";
    let delayed = format!("{properties}DELAY\u{1}3\u{2}");
    for (what, times, maximum) in [
        ("the 15th time", "15", None),
        ("the 16th time", "16", None),
        ("the 17th time", "17", None),
        ("the 1st of 2", "1", Some("2")),
        ("the 2nd of 2", "2", Some("2")),
        ("the 3rd of 2", "3", Some("2")),
        ("the 1st of none", "1", Some("-1")),
        ("with a level", "1", None),
        ("too often, with a level", "99", None),
    ] {
        let properties = if what.contains("level") { &delayed } else { properties };
        let message = Outgoing { topic: "%RETRY%billing", queue: 0, properties, body: what.as_bytes() };
        let mut more = vec![("a", "CLIENT_INNER_PRODUCER"), ("j", times)];
        more.extend(maximum.map(|maximum| ("l", maximum)));
        let frame = scene.send_raw(&more, &message);
        scene.observe_frame(what, &frame);
    }
    let dead = scene.until("every message is somewhere", |scene| {
        let (retries, dead) = (scene.pull("%RETRY%billing").len(), scene.pull("%DLQ%billing").len());
        (retries + dead >= 9).then_some(dead)
    });
    scene.stored("in the retry topic", "%RETRY%billing", 9 - dead);
    scene.stored("in the dead letters", "%DLQ%billing", dead);
    scene
}

fn orderly_again(setup: Setup) -> Scene {
    let mut scene = start(setup);
    send(&mut scene, "first");
    send(&mut scene, "second");
    consume(&mut scene, &[("orderly", "true"), ("answers", "suspend,suspend")]);
    scene.deliveries("consumer", 6);
    scene.answer(
        "the retry topic stays empty",
        wire::GET_MAX_OFFSET,
        &[("topic", "%RETRY%billing"), ("queueId", "0")],
        &[],
    );
    scene
}

fn orderly_too_often(setup: Setup) -> Scene {
    let mut scene = start(setup);
    send(&mut scene, "first");
    send(&mut scene, "second");
    consume(&mut scene, &[("orderly", "true"), ("answers", "suspend,suspend"), ("max-reconsume", "1")]);
    scene.deliveries("consumer", 4);
    scene.stored("in the dead letters", "%DLQ%billing", 2);
    scene.answer("in the retry topic", wire::GET_MAX_OFFSET, &[("topic", "%RETRY%billing"), ("queueId", "0")], &[]);
    scene
}
