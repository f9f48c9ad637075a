//! Sends that are refused, and the edges of those that are not.

use super::delay::batch_element;
use super::scenarios;
use super::scene::{Scene, Setup};
use super::support::wire::{self, Outgoing};

scenarios! {
    sends_to_bad_names
    sends_to_other_topics
    sends_of_bad_messages
    sends_to_odd_queues
    sends_without_topics
    sends_in_batches
    sends_with_long_names
}

fn send(scene: &mut Scene, what: &str, more: &[(&'static str, &str)], message: &Outgoing<'_>) {
    let frame = scene.send_raw(more, message);
    scene.observe_frame(what, &frame);
}

fn to<'a>(topic: &'a str, body: &'a [u8]) -> Outgoing<'a> {
    Outgoing { topic, queue: 0, properties: "", body }
}

fn sends_to_bad_names(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    let longest = "t".repeat(127);
    let too_long = "t".repeat(128);
    let far_too_long = "t".repeat(256);
    for (what, topic) in [
        ("empty", ""),
        ("a space", "two words"),
        ("a dot", "orders.new"),
        ("a slash", "orders/new"),
        ("a letter beyond ASCII", "bestellungen_für"),
        ("the longest", &*longest),
        ("one too long", &too_long),
        ("far too long", &far_too_long),
        ("percent and bar", "%orders|new"),
    ] {
        send(&mut scene, what, &[], &to(topic, b"m"));
    }
    let retry = format!("%RETRY%{}", "g".repeat(248));
    send(&mut scene, "the longest retry topic", &[("j", "1")], &to(&retry, b"m"));
    let retry = format!("%RETRY%{}", "g".repeat(249));
    send(&mut scene, "a retry topic that is too long", &[("j", "1")], &to(&retry, b"m"));
    scene
}

fn sends_to_other_topics(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    for topic in [
        "SCHEDULE_TOPIC_XXXX",
        "RMQ_SYS_TRANS_HALF_TOPIC",
        "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        "TRANS_CHECK_MAX_TIME_TOPIC",
        "SELF_TEST_TOPIC",
        "OFFSET_MOVED_EVENT",
        "TBW102",
        "BenchmarkTest",
        "DefaultCluster",
        "broker-a",
        "DefaultCluster_REPLY_TOPIC",
        "RMQ_SYS_TRACE_TOPIC",
        "rmq_sys_other",
        "%DLQ%billing",
    ] {
        send(&mut scene, &format!("to {topic}"), &[], &to(topic, topic.as_bytes()));
    }
    for (what, perm) in [("a_read-only_topic", "4"), ("a_write-only_topic", "2"), ("a_topic_without_permissions", "0")]
    {
        let topic = [
            ("topic", what),
            ("defaultTopic", "TBW102"),
            ("readQueueNums", "1"),
            ("writeQueueNums", "1"),
            ("perm", perm),
            ("topicFilterType", "SINGLE_TAG"),
            ("topicSysFlag", "0"),
            ("order", "false"),
        ];
        assert_eq!(scene.ask(wire::UPDATE_AND_CREATE_TOPIC, &topic, &[]).header.code, 0);
        send(&mut scene, &what.replace('_', " "), &[], &to(what, what.as_bytes()));
    }
    scene
}

fn sends_of_bad_messages(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    send(&mut scene, "no body", &[], &to("orders", b""));
    let limit = 4 * 1024 * 1024;
    let body = vec![b'x'; limit];
    send(&mut scene, "the largest body", &[], &to("orders", &body));
    let body = vec![b'x'; limit + 1];
    send(&mut scene, "one byte too much", &[], &to("orders", &body));
    let long = |length: usize| format!("user\u{1}{}\u{2}", "x".repeat(length));
    for (what, length) in [("large properties", 30_000), ("too many properties", 32_768)] {
        let properties = long(length);
        send(&mut scene, what, &[], &Outgoing { properties: &properties, ..to("orders", b"m") });
    }
    for (what, properties) in [
        ("a property without a value", "user\u{1}\u{2}TAGS\u{1}paid\u{2}"),
        ("a property without a name", "\u{1}value\u{2}TAGS\u{1}paid\u{2}"),
        ("a word that is no property", "user\u{2}TAGS\u{1}paid\u{2}"),
        ("a property twice", "user\u{1}one\u{2}user\u{1}two\u{2}TAGS\u{1}paid\u{2}"),
        ("without the last separator", "TAGS\u{1}paid\u{2}user\u{1}kept"),
        ("said not to wait", "WAIT\u{1}false\u{2}"),
        ("a key twice", "KEYS\u{1}k1 k1  k2\u{2}"),
        ("an id of its own", "UNIQ_KEY\u{1}mine\u{2}"),
        ("the broker's properties", "MSG_REGION\u{1}mine\u{2}CLUSTER\u{1}mine\u{2}TRACE_ON\u{1}mine\u{2}"),
    ] {
        let frame = scene.send_raw(&[], &Outgoing { properties, ..to("orders", what.as_bytes()) });
        assert_eq!(frame.header.code, 0, "{what}");
    }
    let frame = scene.send_raw(&[("f", "2048"), ("h", "-7"), ("j", "3")], &to("orders", b"odd flags"));
    assert_eq!(frame.header.code, 0);
    let records = scene.until("they are readable", |scene| {
        let ext = wire::pull("orders", 0, 2, 32, 0);
        let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let records = wire::records(&scene.ask(wire::PULL_MESSAGE, &ext, &[]).body);
        (records.len() >= 10).then_some(records)
    });
    for record in &records {
        scene.observe(&format!("stored: {}", String::from_utf8_lossy(&record.body)), &super::scene::told(record));
    }
    scene
}

fn sends_to_odd_queues(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    let topic = [
        ("topic", "orders"),
        ("defaultTopic", "TBW102"),
        ("readQueueNums", "3"),
        ("writeQueueNums", "2"),
        ("perm", "6"),
        ("topicFilterType", "SINGLE_TAG"),
        ("topicSysFlag", "0"),
        ("order", "false"),
    ];
    assert_eq!(scene.ask(wire::UPDATE_AND_CREATE_TOPIC, &topic, &[]).header.code, 0);
    for queue in [0, 1, 2, 3, 99] {
        send(&mut scene, &format!("queue {queue}"), &[], &Outgoing { queue, ..to("orders", b"m") });
    }
    let any = scene.send_raw(&[], &Outgoing { queue: -1, ..to("orders", b"m") });
    let queue = any.header.number("queueId");
    scene.observe("queue -1", &serde_json::json!({ "code": any.header.code, "one that can be written": queue < 2 }));
    scene
}

fn sends_without_topics(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("autoCreateTopicEnable", "false")]);
    send(&mut scene, "an unknown topic", &[], &to("unknown", b"m"));
    send(&mut scene, "made after another that is unknown", &[("c", "unknown")], &to("new", b"m"));
    scene.topic("template");
    send(&mut scene, "made after one that does not pass it on", &[("c", "template")], &to("new", b"m"));
    send(&mut scene, "dead letters of nobody", &[], &to("%DLQ%nobody", b"m"));
    scene
}

fn sends_in_batches(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    let good = [batch_element(b"a", "TAGS\u{1}paid\u{2}"), batch_element(b"b", "KEYS\u{1}k\u{2}")].concat();
    let sent = |properties| Outgoing { topic: "orders", queue: 0, properties, body: &good };
    send(&mut scene, "a good one", &[("m", "true")], &sent(""));
    send(&mut scene, "with properties of its own", &[("m", "true")], &sent("user\u{1}kept\u{2}UNIQ_KEY\u{1}u1\u{2}"));
    send(&mut scene, "not called a batch", &[], &sent(""));
    let cut = Outgoing { body: &good[..good.len() - 3], ..sent("") };
    send(&mut scene, "one that is cut off", &[("m", "true")], &cut);
    send(&mut scene, "one that is none", &[("m", "true")], &Outgoing { body: b"no batch at all", ..sent("") });
    send(&mut scene, "an empty one", &[("m", "true")], &Outgoing { body: b"", ..sent("") });
    let blank = [batch_element(b"", ""), batch_element(b"c", "")].concat();
    let doubtful = Outgoing { topic: "doubtful", body: &blank, ..sent("") };
    send(&mut scene, "with an empty message", &[("m", "true")], &doubtful);
    scene.whole_queue("the empty message as it is stored", "doubtful", 2);
    let retries = Outgoing { topic: "%RETRY%billing", ..sent("") };
    send(&mut scene, "to a retry topic", &[("m", "true"), ("j", "1")], &retries);
    scene.send("by a client", &[("topic", "orders"), ("batch", "c,d,e"), ("tag", "paid"), ("p.user", "kept")]);
    let records = scene.until("they are readable", |scene| {
        let records = scene.pull("orders");
        records.iter().any(|record| record.body == b"e").then_some(records)
    });
    for (at, record) in records.iter().enumerate() {
        scene.observe(&format!("stored {}", at + 1), &super::scene::told(record));
    }
    scene
}

const SEND_BATCH: i32 = 320;
const SEND_REPLY: i32 = 324;

/// The same fields as older clients, and those of other languages, call them.
fn long(message: &Outgoing<'_>) -> Vec<(&'static str, String)> {
    let names = [
        ("a", "producerGroup"),
        ("b", "topic"),
        ("c", "defaultTopic"),
        ("d", "defaultTopicQueueNums"),
        ("e", "queueId"),
        ("f", "sysFlag"),
        ("g", "bornTimestamp"),
        ("h", "flag"),
        ("i", "properties"),
        ("j", "reconsumeTimes"),
        ("k", "unitMode"),
        ("m", "batch"),
    ];
    let name = |letter| names.into_iter().find(|(short, _)| *short == letter).unwrap().1;
    message.ext().into_iter().map(|(letter, value)| (name(letter), value)).collect()
}

/// Sends by the codes 10 and 320 and a reply by 324.
fn sends_with_long_names(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    let tag = "TAGS\u{1}paid\u{2}";
    let batch = [batch_element(b"a", ""), batch_element(b"b", tag)].concat();
    let is_batch = ("batch", Some("true"));
    let nobody = "CORRELATION_ID\u{1}c1\u{2}MSG_TYPE\u{1}reply\u{2}REPLY_TO_CLIENT\u{1}nobody@1\u{2}";
    let replies = "DefaultCluster_REPLY_TOPIC";
    let (m, batch): (&[u8], &[u8]) = (b"m", &batch);
    for (what, code, topic, properties, body, change) in [
        ("plain", wire::SEND_MESSAGE, "orders", tag, m, None),
        ("without a topic", wire::SEND_MESSAGE, "orders", "", m, Some(("topic", None))),
        ("without a queue", wire::SEND_MESSAGE, "orders", "", m, Some(("queueId", None))),
        ("without properties", wire::SEND_MESSAGE, "orders", "", m, Some(("properties", None))),
        ("a queue that is a word", wire::SEND_MESSAGE, "orders", "", m, Some(("queueId", Some("first")))),
        ("to a topic that nobody may write to", wire::SEND_MESSAGE, "SCHEDULE_TOPIC_XXXX", "", m, None),
        ("a batch", wire::SEND_MESSAGE, "orders", "", batch, Some(is_batch)),
        ("a batch by its own code", SEND_BATCH, "orders", "", batch, Some(is_batch)),
        ("a reply to nobody", SEND_REPLY, replies, nobody, m, None),
    ] {
        let mut ext = long(&Outgoing { topic, queue: 0, properties, body });
        if let Some((field, value)) = change {
            ext.retain(|(name, _)| *name != field);
            ext.extend(value.map(|value: &str| (field, value.to_owned())));
        }
        let ext: Vec<_> = ext.iter().map(|(name, value)| (*name, value.as_str())).collect();
        scene.answer(what, code, &ext, body);
    }
    let short = Outgoing { topic: "orders", queue: 0, properties: "", body: batch }.ext();
    let short: Vec<_> = short.iter().map(|(name, value)| (*name, if *name == "m" { "true" } else { value })).collect();
    scene.answer("a batch by its own code, with letters", SEND_BATCH, &short, batch);
    scene.put("orders", "the last", "");
    let records = scene.until("all can be read", |scene| {
        let records = scene.pull("orders");
        records.iter().any(|record| record.body == b"the last").then_some(records)
    });
    for (at, record) in records.iter().enumerate() {
        scene.observe(&format!("stored {}", at + 1), &super::scene::told(record));
    }
    scene
}
