//! When the broker asks about half messages, and how often.

use serde_json::{Value, json};

use super::scenarios;
use super::scene::{Scene, Setup, told};
use super::support::wire;
use super::transaction::SOON;

scenarios! {
    halves_with_an_immunity_time
    halves_with_odd_immunity_times
    halves_that_are_immune_to_all_checks
    halves_asked_about_as_often_as_by_default
    halves_of_a_producer_that_is_gone
    halves_born_long_ago
}

const IMMUNITY: &str = "p.CHECK_IMMUNITY_TIME_IN_SECONDS";
const PARKED: &str = "TRANS_CHECK_MAX_TIME_TOPIC";

/// Sends a half that is not ended before the broker asks.
fn send(scene: &mut Scene, body: &str, checks: &str, more: &[(&str, &str)]) {
    let options = [("topic", "orders"), ("group", "payments"), ("body", body), ("local", "unknown")];
    scene.act(body, "transact", &[&options[..], more, &[("checks", checks), ("tag", "paid")]].concat());
}

/// Removes what depends on how often the broker has looked at this half and at others.
fn settled(line: &Value) -> Value {
    let mut line = line.clone();
    let members = line.as_object_mut().unwrap();
    for member in ["queueOffset", "position"] {
        members.remove(member);
    }
    members["properties"].as_object_mut().unwrap().remove("TRANSACTION_CHECK_TIMES");
    line
}

fn number(line: &Value, member: &str) -> i64 {
    line[member].as_i64().unwrap_or_else(|| panic!("no number {member} in {line}"))
}

/// Waits until the half `body` is parked, and gives its record.
fn parked(scene: &mut Scene, body: &str) -> Value {
    let record = scene.until("it is parked", |scene| {
        let records = scene.pull(PARKED);
        records.into_iter().find(|record| record.body == body.as_bytes())
    });
    let mut line = told(&record);
    // By which copy's place it is known depends on the broker's pace.
    line["properties"].as_object_mut().unwrap().remove("TRAN_PREPARED_QUEUE_OFFSET");
    line
}

/// One is asked about once it is older than `transactionTimeOut`, those with an immunity time when they are as old as that.
fn halves_with_an_immunity_time(setup: Setup) -> Scene {
    let mut scene = setup.start(&[&SOON[..], &[("transactionCheckMax", "1000")]].concat());
    scene.topic("orders");
    let halves = [("seven", Some("7")), ("four", Some("4")), ("none", None)];
    for (body, immunity) in halves {
        let immunity: Vec<_> = immunity.into_iter().map(|seconds| (IMMUNITY, seconds)).collect();
        send(&mut scene, body, "unknown,commit", &immunity);
    }
    let mut firsts = Vec::new();
    for (body, immunity) in halves {
        let questions = scene.wait(body, "checked", 2);
        let first = &questions[0];
        let age = number(first, "askedMs") - number(first, "bornTimestamp");
        let least = immunity.map_or(1, |seconds| seconds.parse::<i64>().unwrap()) * 1000;
        scene.observe_line(&format!("{body}: the first question"), &settled(first));
        scene.observe(&format!("{body}: its age then"), &json!({ "atLeastItsTime": age >= least }));
        firsts.push((number(first, "askedMs"), body));
    }
    firsts.sort_unstable();
    let order: Vec<_> = firsts.into_iter().map(|(_, body)| body).collect();
    scene.observe("the order of the first questions", &json!({ "asked": order }));
    let records = scene.until("all are delivered", |scene| {
        let records = scene.pull("orders");
        (records.len() >= 3).then_some(records)
    });
    for record in &records {
        let mut line = settled(&told(record));
        line.as_object_mut().unwrap().remove("prepared");
        scene.observe(&format!("in the queue: {}", line["name"]), &line);
    }
    scene
}

/// An immunity time may be shorter than `transactionTimeOut`; what is no time counts as none.
fn halves_with_odd_immunity_times(setup: Setup) -> Scene {
    let settings = [("transactionTimeOut", "600000"), ("transactionCheckInterval", "500")];
    let mut scene = setup.start(&[&settings[..], &[("transactionCheckMax", "1000")]].concat());
    scene.topic("orders");
    let halves = [("a word", "soon"), ("minus one", "-1"), ("minus five", "-5"), ("none at all", "0"), ("short", "1")];
    for (body, immunity) in halves {
        send(&mut scene, body, "unknown", &[(IMMUNITY, immunity)]);
    }
    scene.wait("none at all", "checked", 3);
    scene.wait("short", "checked", 3);
    let asked: Vec<_> = halves
        .into_iter()
        .map(|(body, _)| (body.to_owned(), Value::from(!scene.wait(body, "checked", 0).is_empty())))
        .collect();
    scene.observe("asked about", &asked.into_iter().collect());
    scene
}

/// The immunity time is longer than `transactionCheckMax` rounds take.
fn halves_that_are_immune_to_all_checks(setup: Setup) -> Scene {
    let mut scene = setup.start(&[&SOON[..], &[("transactionCheckMax", "2")]].concat());
    scene.topic("orders");
    send(&mut scene, "m", "unknown", &[(IMMUNITY, "8")]);
    let line = parked(&mut scene, "m");
    scene.observe("parked", &line);
    let asked = scene.wait("m", "checked", 0).len();
    scene.observe("questions", &json!({ "count": asked }));
    scene
}

/// Without `transactionCheckMax`.
fn halves_asked_about_as_often_as_by_default(setup: Setup) -> Scene {
    let mut scene = setup.start(&SOON);
    scene.topic("orders");
    send(&mut scene, "m", "unknown", &[]);
    let line = parked(&mut scene, "m");
    scene.observe("parked", &line);
    scene.answer("how many are parked", wire::GET_MAX_OFFSET, &[("topic", PARKED), ("queueId", "0")], &[]);
    // Another one is asked about: by then the parked one would have been, too.
    send(&mut scene, "another", "unknown,commit", &[]);
    scene.wait("another", "checked", 2);
    let questions = scene.wait("m", "checked", 15);
    let counts: Vec<_> = questions.iter().map(|line| line["properties"]["TRANSACTION_CHECK_TIMES"].clone()).collect();
    scene.observe("questions", &json!({ "count": questions.len(), "counted": counts }));
    scene.whole_queue("committed is only the other one", "orders", 1);
    scene
}

/// Sends a half whose producer is not there, born at a time in milliseconds since 1970.
fn left_behind(scene: &mut Scene, born: i64) -> wire::Frame {
    let id = "7F0000010BADC0FFEE0000000000AAAA";
    let properties = format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}payments\u{2}UNIQ_KEY\u{1}{id}\u{2}TAGS\u{1}paid\u{2}");
    let message = wire::Outgoing { topic: "orders", queue: 0, properties: &properties, body: b"left behind" };
    scene.send_raw(&[("f", "4"), ("g", &born.to_string())], &message)
}

/// Any producer of the group is asked that is there.
fn halves_of_a_producer_that_is_gone(setup: Setup) -> Scene {
    let mut scene = setup.start(&[&SOON[..], &[("transactionCheckMax", "1000")]].concat());
    scene.topic("orders");
    let frame = left_behind(&mut scene, super::delay::now());
    scene.observe_frame("half", &frame);
    send(&mut scene, "of the same group", "commit", &[]);
    let questions = scene.wait("left behind", "checked", 1);
    scene.observe_line("the question", &settled(&questions[0]));
    scene
}

/// A half that its producer says was born before what `fileReservedTime` keeps.
fn halves_born_long_ago(setup: Setup) -> Scene {
    let mut scene = setup.start(&[&SOON[..], &[("transactionCheckMax", "1000")]].concat());
    scene.topic("orders");
    // Somebody who could be asked.
    let options = [("topic", "orders"), ("group", "payments"), ("body", "of the same group"), ("local", "commit")];
    scene.act("of the same group", "transact", &options);
    let frame = left_behind(&mut scene, wire::BORN_MS);
    scene.observe_frame("half", &frame);
    let (asked, parked) = scene.until("it is asked about or parked", |scene| {
        let asked = !scene.wait("left behind", "checked", 0).is_empty();
        let parked = scene.pull(PARKED).iter().any(|record| record.body == b"left behind");
        (asked || parked).then_some((asked, parked))
    });
    scene.observe("what becomes of it", &json!({ "asked about": asked, "parked": parked }));
    scene
}
