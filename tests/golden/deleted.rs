//! What is answered about messages whose files are gone.

use super::scenarios;
use super::scene::{Scene, Setup};
use super::support::wire;

scenarios! {
    messages_that_are_deleted
}

const QUERY_MESSAGE: i32 = 12;
const SEARCH_OFFSET: i32 = 29;
const EARLIEST_TIME: i32 = 32;
const VIEW_MESSAGE: i32 = 33;
const DELETE_EXPIRED: i32 = 329;

/// Observes an answer whose remark may tell the position.
fn without_position(scene: &mut Scene, what: &str, code: i32, ext: &[(&'static str, &str)], position: &str) {
    let frame = scene.ask(code, ext, &[]);
    let remark = frame.header.remark.unwrap_or_default().replace(position, "{its position}");
    scene.observe(what, &serde_json::json!({ "code": frame.header.code, "remark": remark }));
}

/// Small files that are old at once. RingMQ's have to hold two of the largest messages.
const SHORT_LIVED: [(&str, &str); 5] = [
    ("maxMessageSize", "65536"),
    ("mappedFileSizeCommitLog", "1048576"),
    ("mappedFileSizeConsumeQueue", "2000"),
    ("fileReservedTime", "0"),
    ("deleteCommitLogFilesInterval", "1"),
];

fn messages_that_are_deleted(setup: Setup) -> Scene {
    let mut scene = setup.start(&SHORT_LIVED);
    scene.topic("orders");
    scene.group("billing", "orders");
    let position = scene.put("orders", "gone", "KEYS\u{1}k1\u{2}").to_string();
    let half = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}payments\u{2}";
    let message = wire::Outgoing { topic: "orders", queue: 0, properties: half, body: b"half" };
    let half = scene.send_raw(&[("f", "4")], &message);
    let half_position = scene.position_of(half.header.field("msgId")).to_string();
    let body = vec![b'x'; 32 * 1024];
    let filler = wire::Outgoing { topic: "orders", queue: 0, properties: "", body: &body };
    for _ in 0..150 {
        let mut ext = filler.ext();
        ext.push(("n", "broker-a".to_owned()));
        let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, value.as_str())).collect();
        assert_eq!(scene.ask(wire::SEND_MESSAGE_V2, &ext, &body).header.code, 0);
    }
    scene.answer("asked to delete", DELETE_EXPIRED, &[], &[]);
    let minimum = scene.until("the beginning is deleted", |scene| {
        let frame = scene.ask(wire::GET_MIN_OFFSET, &[("topic", "orders"), ("queueId", "0")], &[]);
        let offset: i64 = frame.header.ext.get("offset")?.parse().ok()?;
        (offset > 0).then_some(offset)
    });
    assert!(minimum > 1, "the first messages are gone");
    let back = [
        ("offset", &*position),
        ("group", "billing"),
        ("delayLevel", "0"),
        ("originMsgId", ""),
        ("originTopic", "orders"),
        ("unitMode", "false"),
    ];
    without_position(&mut scene, "sent back", wire::SEND_BACK, &back, &position);
    let end = [
        ("producerGroup", "payments"),
        ("tranStateTableOffset", half.header.field("queueOffset")),
        ("commitLogOffset", &*half_position),
        ("commitOrRollback", "8"),
        ("fromTransactionCheck", "false"),
        ("msgId", ""),
    ];
    scene.answer("half committed", wire::END_TRANSACTION, &end, &[]);
    without_position(&mut scene, "viewed", VIEW_MESSAGE, &[("offset", &position)], &position);
    let key = [
        ("topic", "orders"),
        ("key", "k1"),
        ("maxNum", "32"),
        ("beginTimestamp", "0"),
        ("endTimestamp", "9223372036854775807"),
    ];
    let frame = scene.ask(QUERY_MESSAGE, &key, &[]);
    scene.observe("queried", &serde_json::json!({ "code": frame.header.code }));
    let mut frame = scene.ask(
        wire::PULL_MESSAGE,
        &[
            ("consumerGroup", "billing"),
            ("topic", "orders"),
            ("queueId", "0"),
            ("queueOffset", "0"),
            ("maxMsgNums", "1"),
            ("sysFlag", "4"),
            ("commitOffset", "0"),
            ("suspendTimeoutMillis", "0"),
            ("subscription", "*"),
            ("subVersion", "0"),
        ],
        &[],
    );
    let mut found = frame.header.ext.remove("nextBeginOffset").unwrap_or_default();
    let least = frame.header.ext.remove("minOffset").unwrap_or_default();
    if found == least {
        "the minimum".clone_into(&mut found);
    }
    let members = serde_json::json!({ "code": frame.header.code, "remark": frame.header.remark, "next": found });
    scene.observe("pulled from the beginning", &members);
    let ext = [("topic", "orders"), ("queueId", "0"), ("timestamp", "1000")];
    let frame = scene.ask(SEARCH_OFFSET, &ext, &[]);
    let at_minimum = frame.header.ext.get("offset").map(String::as_str) == Some(&*least);
    scene.observe("searched before the log", &serde_json::json!({ "code": frame.header.code, "minimum": at_minimum }));
    scene.answer("earliest time", EARLIEST_TIME, &[("topic", "orders"), ("queueId", "0")], &[]);
    let strict = [("consumerGroup", "billing"), ("topic", "orders"), ("queueId", "0"), ("setZeroIfNotFound", "false")];
    scene.answer("offset of a new group", QUERY_CONSUMER_OFFSET, &strict, &[]);
    scene.answer("offset of a new group, asked as clients do", QUERY_CONSUMER_OFFSET, &strict[..3], &[]);
    reset_before_the_log(&mut scene);
    scene
}

/// A group that has read all is sent back to a time before all that is left: it begins with the first message there is.
fn reset_before_the_log(scene: &mut Scene) {
    let end = |scene: &mut Scene, code| {
        let frame = scene.ask(code, &[("topic", "orders"), ("queueId", "0")], &[]);
        frame.header.number("offset")
    };
    let position = |scene: &mut Scene, offset: i64| {
        let frame = scene.call(wire::PULL_MESSAGE, &wire::pull("orders", 0, offset, 1, 0));
        wire::records(&frame.body).first().map(|record| record.position)
    };
    let maximum = end(scene, wire::GET_MAX_OFFSET);
    let written = position(scene, maximum - 1).unwrap() / FILE;
    let minimum = scene.until("only the file is left that is written", |scene| {
        let minimum = end(scene, wire::GET_MIN_OFFSET);
        position(scene, minimum).filter(|position| position / FILE == written).map(|_| minimum)
    });
    let group = [("consumerGroup", "billing"), ("topic", "orders"), ("queueId", "0")];
    let all = maximum.to_string();
    let commit = [&group[..], &[("commitOffset", &*all)]].concat();
    assert_eq!(scene.ask(UPDATE_CONSUMER_OFFSET, &commit, &[]).header.code, 0);
    scene.act("consumer", "consume", &[("topic", "orders"), ("group", "billing"), ("assigned", "1")]);
    scene.put("orders", "last", "");
    scene.wait("consumer", "message", 1);
    scene.until("all is committed", |scene| {
        let frame = scene.ask(QUERY_CONSUMER_OFFSET, &group, &[]);
        (frame.header.number("offset") == maximum + 1).then_some(())
    });
    let reset = [("topic", "orders"), ("group", "billing"), ("timestamp", "1000"), ("isForce", "true")];
    let code = scene.ask(RESET_OFFSET, &reset, &[]).header.code;
    let count = usize::try_from(maximum - minimum + 1).unwrap();
    let lines = scene.wait("consumer", "message", 1 + count);
    let again: Vec<i64> = lines[1..].iter().map(|line| line["queueOffset"].as_i64().unwrap()).collect();
    let is_all = again.iter().copied().eq(minimum..=maximum);
    let members = serde_json::json!({ "code": code, "all that is left comes again": is_all });
    scene.observe("reset to a time before the log", &members);
}

/// Bytes of a file of the log.
const FILE: i64 = 1 << 20;
const QUERY_CONSUMER_OFFSET: i32 = 14;
const UPDATE_CONSUMER_OFFSET: i32 = 15;
const RESET_OFFSET: i32 = 222;
