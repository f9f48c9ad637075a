//! Sends for which the broker has no room: they come faster than it takes them, or its disk is full.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use super::scenarios;
use super::scene::{Scene, Setup};
use super::support::disk::Stuck;
use super::support::wire::{self, Connection, Frame, Outgoing};

scenarios! {
    sends_to_a_busy_broker
    sends_to_a_full_disk
}

/// SYSTEM_BUSY
const BUSY: i32 = 2;
/// Of a message's body.
const SIZE: usize = 64 << 10;
/// More than anybody takes at once.
const MOST: i32 = 4000;

/// Sends without waiting for answers until one is a refusal, and gives the answers up to that one, and how many are still
/// to come.
fn flood(connection: &mut Connection) -> (Vec<Frame>, usize) {
    let body = vec![b'.'; SIZE];
    let ext = Outgoing { topic: "orders", queue: 0, properties: "", body: &body }.ext();
    let mut writing = connection.stream().try_clone().unwrap();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let sent = (1..=MOST).take_while(|opaque| {
                writing.write_all(&wire::request(wire::SEND_MESSAGE_V2, *opaque, 0, &ext, &body)).unwrap();
                !enough.load(Ordering::Relaxed)
            });
            // One was sent before it was looked at whether that is enough.
            (sent.count() + 1).min(MOST as usize)
        });
        let mut answers = Vec::new();
        while answers.last().is_none_or(|answer: &Frame| answer.header.code != BUSY) {
            answers.push(connection.next().unwrap());
        }
        enough.store(true, Ordering::Relaxed);
        let sent = writer.join().unwrap();
        let left = sent - answers.len();
        (answers, left)
    })
}

/// The numbers in it depend on the moment.
fn without_numbers(remark: &str) -> String {
    let mut out = String::new();
    for c in remark.chars() {
        match (c.is_ascii_digit(), out.ends_with('#')) {
            (true, true) => {}
            (true, false) => out.push('#'),
            (false, _) => out.push(c),
        }
    }
    out
}

/// Apache's broker has one thread for all sends, RingMQ's a disk that is stuck.
fn sends_to_a_busy_broker(setup: Setup) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::not_yet(folder.path());
    let settings =
        [("waitTimeMillsInSendQueue", "1"), ("sendMessageThreadPoolNums", "1"), ("bufferMemory", "16777216")];
    let mut scene = setup.start_with(&settings, vec![stuck.env()]);
    scene.topic("orders");
    let mut connection = scene.connect();
    stuck.hold();
    let (mut answers, left) = flood(&mut connection);
    stuck.release();
    let mut refused = answers.last().unwrap().clone();
    answers.extend((0..left).map(|_| connection.next().unwrap()));
    refused.header.remark = refused.header.remark.as_deref().map(without_numbers);
    scene.observe_frame("the first that is refused", &refused);
    let codes: BTreeSet<i32> = answers.iter().map(|answer| answer.header.code).collect();
    scene.observe("all answers", &json!({ "codes": codes }));
    let stored = answers.iter().filter(|answer| answer.header.code != BUSY).count();
    let stored = i64::try_from(stored).unwrap();
    scene.until_maximum("orders", "0", stored);
    let frame = scene.ask(wire::GET_MAX_OFFSET, &[("topic", "orders"), ("queueId", "0")], &[]);
    let is_all = frame.header.number("offset") == stored;
    scene.observe("stored", &json!({ "only what was not refused": is_all }));
    scene
}

/// A disk that is full long before it is: this one is at least half full, and RingMQ's is in tests.
const FULL: [(&str, &str); 2] = [("diskSpaceWarningLevelRatio", "36"), ("diskSpaceCleanForciblyRatio", "35")];

fn sends_to_a_full_disk(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    scene.restart_with(&FULL);
    // Apache's broker looks at its disk a minute after its start.
    scene.until("the broker takes no more", |scene| {
        let message = Outgoing { topic: "orders", queue: 0, properties: "", body: b"m" };
        (scene.send_raw(&[], &message).header.code != 0).then_some(())
    });
    let half = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}payments\u{2}";
    for (what, properties, flags) in [("plain", "", "0"), ("delayed", "DELAY\u{1}1\u{2}", "0"), ("half", half, "4")] {
        let message = Outgoing { topic: "orders", queue: 0, properties, body: what.as_bytes() };
        let mut frame = scene.send_raw(&[("f", flags)], &message);
        frame.header.remark = frame.header.remark.as_deref().map(without_numbers);
        scene.observe_frame(what, &frame);
    }
    // What a client is told; it may try another broker first.
    let lines = scene.act("a client's", "send", &[("topic", "orders"), ("body", "m")]);
    let line = lines.iter().find(|line| line["event"] != "end").unwrap();
    let members = json!({ "event": line["event"], "type": line["type"], "code": line["code"] });
    scene.observe("a client's", &members);
    scene.configure_group("billing", &json!({}));
    let commit = [("consumerGroup", "billing"), ("topic", "orders"), ("queueId", "0"), ("commitOffset", "0")];
    scene.answer("an offset is committed all the same", UPDATE_OFFSET, &commit, &[]);
    let heartbeat = super::scene::heartbeat("member", "billing", "orders");
    scene.answer("and a heartbeat is taken", wire::HEART_BEAT, &[], &heartbeat);
    scene
}

const UPDATE_OFFSET: i32 = 15;
