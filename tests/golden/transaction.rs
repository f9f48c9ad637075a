//! Half messages: what becomes of them, and what the broker answers to their ends.

use serde_json::{Value, json};

use super::delay::batch_element;
use super::scenarios;
use super::scene::{Scene, Setup, told};
use super::support::wire::{self, Frame, Outgoing};

scenarios! {
    transactions_that_end
    transactions_that_are_asked_about
    transactions_asked_about_too_often
    transactions_ended_after_they_were_parked
    transactions_ended_raw
    transactions_parked
    transactions_refused
    transactions_turned_off
}

/// Checks that come soon. 4.9 knows whole milliseconds as well.
pub(crate) const SOON: [(&str, &str); 2] = [("transactionTimeOut", "1000"), ("transactionCheckInterval", "500")];
/// No checks as long as a scenario runs.
const LATE: [(&str, &str); 2] = [("transactionTimeOut", "600000"), ("transactionCheckInterval", "600000")];

const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const OP_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";

fn transact(scene: &mut Scene, body: &str, more: &[(&str, &str)]) -> Value {
    let options = [("topic", "orders"), ("group", "payments"), ("body", body), ("tag", "paid"), ("keys", "k1")];
    scene.act_once(&format!("sent {body}"), "transact", &[&options[..], &[("p.user", "kept")], more].concat())
}

fn transactions_that_end(setup: Setup) -> Scene {
    let mut scene = setup.start(&LATE);
    scene.topic("orders");
    scene.group("billing", "orders");
    scene.act("consumer", "consume", &[("topic", "orders"), ("group", "billing")]);
    transact(&mut scene, "rolled back", &[("local", "rollback")]);
    transact(&mut scene, "unknown", &[("local", "unknown")]);
    transact(&mut scene, "failed", &[("local", "throw")]);
    scene.answer("nothing is in the queue", wire::GET_MAX_OFFSET, &[("topic", "orders"), ("queueId", "0")], &[]);
    transact(&mut scene, "committed", &[("local", "commit"), ("flag", "7")]);
    scene.deliveries("consumer", 1);
    scene.stored("in the queue", "orders", 1);
    scene.send("sent after it", &[("topic", "orders"), ("body", "plain")]);
    scene
}

fn transactions_that_are_asked_about(setup: Setup) -> Scene {
    let mut scene = setup.start(&[&SOON[..], &[("transactionCheckMax", "15")]].concat());
    scene.topic("orders");
    for (body, checks) in [("at the first", "commit"), ("at the second", "unknown,commit"), ("never", "rollback")] {
        // Where the half is depends on how often the others were asked about before.
        let options = [("topic", "orders"), ("group", "payments"), ("body", body), ("local", "unknown")];
        scene.act(body, "transact", &[&options[..], &[("checks", checks), ("tag", "paid")]].concat());
        let asked = checks.split(',').count();
        for (at, line) in scene.wait(body, "checked", asked).iter().take(asked).enumerate() {
            let mut line = line.clone();
            for member in ["queueOffset", "position"] {
                line.as_object_mut().unwrap().remove(member);
            }
            scene.observe_line(&format!("{body}: question {}", at + 1), &line);
        }
    }
    scene.stored("in the queue", "orders", 2);
    // One that is sent now and committed at the broker's question comes after everything that came before.
    let options = [("topic", "orders"), ("group", "payments"), ("body", "last"), ("local", "unknown")];
    scene.act("last", "transact", &[&options[..], &[("checks", "commit")]].concat());
    scene.wait("last", "checked", 1);
    let records = scene.until("the last one is delivered", |scene| {
        let records = scene.pull("orders");
        records.iter().any(|record| record.body == b"last").then_some(records)
    });
    scene.observe("in the end", &json!({ "messages": records.len() }));
    scene
}

fn transactions_asked_about_too_often(setup: Setup) -> Scene {
    let mut scene = setup.start(&[&SOON[..], &[("transactionCheckMax", "2")]].concat());
    scene.topic("orders");
    transact(&mut scene, "m", &[("local", "unknown"), ("checks", "unknown,unknown,unknown")]);
    let records = scene.until("it is parked", |scene| {
        let records = scene.pull("TRANS_CHECK_MAX_TIME_TOPIC");
        (!records.is_empty()).then_some(records)
    });
    let mut line = told(&records[0]);
    // By which copy's place it is known depends on the broker's pace.
    line["properties"].as_object_mut().unwrap().remove("TRAN_PREPARED_QUEUE_OFFSET");
    scene.observe("parked", &line);
    let asked = scene.wait("m", "checked", 2).len();
    scene.observe("questions", &json!({ "count": asked }));
    scene.answer("nothing is in the queue", wire::GET_MAX_OFFSET, &[("topic", "orders"), ("queueId", "0")], &[]);
    scene.route("the route of where it is parked", "TRANS_CHECK_MAX_TIME_TOPIC");
    scene
}

const COMMIT: &str = "8";
const ROLLBACK: &str = "12";

struct Half {
    offset: String,
    position: String,
    id: String,
}

/// Sends a half message without a client.
fn half(scene: &mut Scene, name: &str, more: &str) -> Half {
    let (half, frame) = send_half(scene, name, more);
    scene.observe_frame(&format!("half {name}"), &frame);
    half
}

fn send_half(scene: &mut Scene, name: &str, more: &str) -> (Half, Frame) {
    let id = format!("7F0000010BADC0FFEE0000000000{:04X}", name.bytes().map(u32::from).sum::<u32>());
    let properties =
        format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}payments\u{2}UNIQ_KEY\u{1}{id}\u{2}TAGS\u{1}paid\u{2}{more}");
    let message = Outgoing { topic: "orders", queue: 0, properties: &properties, body: name.as_bytes() };
    let frame = scene.send_raw(&[("f", "4")], &message);
    let position = scene.position_of(frame.header.field("msgId"));
    (Half { offset: frame.header.field("queueOffset").to_owned(), position: position.to_string(), id }, frame)
}

fn end<'a>(half: &'a Half, outcome: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("producerGroup", "payments"),
        ("tranStateTableOffset", &half.offset),
        ("commitLogOffset", &half.position),
        ("commitOrRollback", outcome),
        ("fromTransactionCheck", "false"),
        ("msgId", &half.id),
        ("transactionId", &half.id),
    ]
}

/// The same with one field changed.
fn with<'a>(ext: &[(&'static str, &'a str)], field: &'static str, value: &'a str) -> Vec<(&'static str, &'a str)> {
    ext.iter().map(|(key, old)| (*key, if *key == field { value } else { *old })).collect()
}

fn without<'a>(ext: &[(&'static str, &'a str)], field: &str) -> Vec<(&'static str, &'a str)> {
    ext.iter().filter(|(key, _)| *key != field).copied().collect()
}

fn transactions_ended_raw(setup: Setup) -> Scene {
    let mut scene = setup.start(&LATE);
    scene.topic("orders");
    let plain = scene.put("orders", "plain", "").to_string();
    let one = half(&mut scene, "one", "");
    let two = half(&mut scene, "two", "");
    let good = end(&one, COMMIT);
    let inside = (one.position.parse::<i64>().unwrap() + 7).to_string();
    for (what, ext) in [
        ("of another group", with(&good, "producerGroup", "others")),
        ("without a group", without(&good, "producerGroup")),
        ("with another queue offset", with(&good, "tranStateTableOffset", "77")),
        ("with another's queue offset", with(&good, "tranStateTableOffset", &two.offset)),
        ("with another's position", with(&good, "commitLogOffset", &two.position)),
        ("of a plain message", with(&good, "commitLogOffset", &plain)),
        ("beyond the log", with(&good, "commitLogOffset", "1000000000")),
        ("inside a record", with(&good, "commitLogOffset", &inside)),
        ("negative", with(&good, "commitLogOffset", "-1")),
        ("rolled back by another group", with(&end(&two, ROLLBACK), "producerGroup", "others")),
        ("rolled back beyond the log", with(&end(&two, ROLLBACK), "commitLogOffset", "1000000000")),
    ] {
        scene.answer(what, wire::END_TRANSACTION, &ext, &[]);
    }
    scene.stored("before any good end", "orders", 1);
    let nameless = without(&without(&good, "msgId"), "transactionId");
    scene.answer("committed without an id", wire::END_TRANSACTION, &nameless, &[]);
    scene.answer("rolled back", wire::END_TRANSACTION, &end(&two, ROLLBACK), &[]);
    scene.answer("committed after that", wire::END_TRANSACTION, &end(&two, COMMIT), &[]);
    let three = half(&mut scene, "three", "");
    scene.answer("committed", wire::END_TRANSACTION, &end(&three, COMMIT), &[]);
    scene.answer("committed again", wire::END_TRANSACTION, &end(&three, COMMIT), &[]);
    scene.answer("rolled back after that", wire::END_TRANSACTION, &end(&three, ROLLBACK), &[]);
    let four = half(&mut scene, "four", "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}60\u{2}");
    scene.answer("with an immunity time", wire::END_TRANSACTION, &end(&four, COMMIT), &[]);
    let five = half(&mut scene, "five", "");
    let checked = with(&end(&five, COMMIT), "fromTransactionCheck", "true");
    scene.answer("as an answer to a question", wire::END_TRANSACTION, &checked, &[]);
    let records = scene.until("what was committed is in the queue", |scene| {
        let records = scene.pull("orders");
        records.iter().any(|record| record.body == b"five").then_some(records)
    });
    for (at, record) in records.iter().enumerate() {
        scene.observe(&format!("in the queue {}", at + 1), &told(record));
    }
    scene
}

/// A producer whose own work took longer than all checks.
fn transactions_ended_after_they_were_parked(setup: Setup) -> Scene {
    let mut scene = setup.start(&[&SOON[..], &[("transactionCheckMax", "1")]].concat());
    scene.topic("orders");
    // Nobody is there to be asked. Where the second one is depends on how far the checks of the first are.
    let [one, two, three] = ["one", "two", "three"].map(|name| send_half(&mut scene, name, "").0);
    scene.until("all are parked", |scene| {
        let parked = scene.pull("TRANS_CHECK_MAX_TIME_TOPIC");
        [&b"one"[..], b"two", b"three"]
            .iter()
            .all(|name| parked.iter().any(|record| record.body == *name))
            .then_some(())
    });
    scene.answer("rolled back after it was parked", wire::END_TRANSACTION, &end(&two, ROLLBACK), &[]);
    scene.answer("committed after it was parked", wire::END_TRANSACTION, &end(&one, COMMIT), &[]);
    let checked = with(&end(&three, COMMIT), "fromTransactionCheck", "true");
    scene.answer("committed as an answer, after it was parked", wire::END_TRANSACTION, &checked, &[]);
    let records = scene.until("what was committed is in the queue", |scene| {
        let records = scene.pull("orders");
        (records.len() >= 2).then_some(records)
    });
    for (at, record) in records.iter().enumerate() {
        scene.observe(&format!("in the queue {}", at + 1), &told(record));
    }
    scene
}

/// Where halves wait and how their end is kept, as a tool sees it.
fn transactions_parked(setup: Setup) -> Scene {
    let mut scene = setup.start(&LATE);
    scene.cluster.broker.create_topic("orders", 4);
    let id = "7F0000010BADC0FFEE0000000000AAAA";
    let properties = format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}payments\u{2}UNIQ_KEY\u{1}{id}\u{2}");
    let message = Outgoing { topic: "orders", queue: 2, properties: &properties, body: b"m" };
    let frame = scene.send_raw(&[("f", "4"), ("h", "7")], &message);
    scene.observe_frame("sent", &frame);
    let position = scene.position_of(frame.header.field("msgId")).to_string();
    let half = Half { offset: frame.header.field("queueOffset").to_owned(), position, id: id.to_owned() };
    scene.whole_queue("half", HALF_TOPIC, 1);
    scene.answer("rolled back", wire::END_TRANSACTION, &end(&half, ROLLBACK), &[]);
    scene.whole_queue("end", OP_TOPIC, 1);
    scene.whole_queue("half after its end", HALF_TOPIC, 1);
    scene.route("the half topic's route", HALF_TOPIC);
    scene
}

fn transactions_refused(setup: Setup) -> Scene {
    let mut scene = setup.start(&[&LATE[..], &[("messageDelayLevel", "1s 3s")]].concat());
    scene.topic("orders");
    transact(&mut scene, "delayed", &[("p.DELAY", "1")]);
    transact(&mut scene, "timed", &[("p.TIMER_DELAY_SEC", "1")]);
    let nobody = Outgoing { topic: "orders", queue: 0, properties: "TRAN_MSG\u{1}true\u{2}", body: b"nobody" };
    let frame = scene.send_raw(&[("f", "4")], &nobody);
    scene.observe_frame("half without a group", &frame);
    let delayed = half(&mut scene, "half with a level", "DELAY\u{1}1\u{2}");
    scene.answer("half with a level, committed", wire::END_TRANSACTION, &end(&delayed, COMMIT), &[]);
    let batch = [batch_element(b"a", ""), batch_element(b"b", "")].concat();
    let properties = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}payments\u{2}";
    let batch = Outgoing { topic: "orders", queue: 0, properties, body: &batch };
    let frame = scene.send_raw(&[("m", "true"), ("f", "4")], &batch);
    scene.observe_frame("a batch of halves", &frame);
    let flagged = Outgoing { topic: "orders", queue: 0, properties: "", body: b"flag only" };
    let frame = scene.send_raw(&[("f", "4")], &flagged);
    scene.observe_frame("the flag without the property", &frame);
    let unflagged = Outgoing { topic: "orders", queue: 0, properties, body: b"property only" };
    let frame = scene.send_raw(&[], &unflagged);
    scene.observe_frame("the property without the flag", &frame);
    let said_no = properties.replace("true", "false");
    let frame = scene.send_raw(&[], &Outgoing { properties: &said_no, body: b"property is false", ..unflagged });
    scene.observe_frame("the property is false", &frame);
    // One that comes after the longest level tells that nothing more will come.
    scene.put("orders", "the end", "DELAY\u{1}2\u{2}");
    let records = scene.until("the end is delivered", |scene| {
        let records = scene.pull("orders");
        records.iter().any(|record| record.body == b"the end").then_some(records)
    });
    let mut lines: Vec<_> = records.iter().map(told).collect();
    lines.sort_by_key(|line| line["name"].to_string());
    for mut line in lines {
        // The delayed ones come when they come.
        line.as_object_mut().unwrap().remove("queueOffset");
        scene.observe(&format!("in the queue: {}", line["name"]), &line);
    }
    scene
}

fn transactions_turned_off(setup: Setup) -> Scene {
    let mut scene = setup.start(&[("rejectTransactionMessage", "true")]);
    scene.topic("orders");
    transact(&mut scene, "m", &[]);
    let properties = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}payments\u{2}";
    let frame = scene.send_raw(&[("f", "4")], &Outgoing { topic: "orders", queue: 0, properties, body: b"raw" });
    scene.observe_frame("half raw", &frame);
    scene.answer("maximum of the half topic", wire::GET_MAX_OFFSET, &[("topic", HALF_TOPIC), ("queueId", "0")], &[]);
    scene
}
