//! What clients ask for while the disk is stuck: that the broker takes a message back, ends a transaction, recalls a message,
//! keeps a dead letter. It is bounded as sends are, refused in RocketMQ's words, and what is refused is not half done.

use std::io::Write as _;

use super::halves::{COMMIT, HALF, UNASKED, end, end_of, place};
use super::support::disk::Stuck;
use super::support::eventually;
use super::support::server::{Flush, Settings};
use super::support::turn::alone;
use super::support::wire::{self, Connection, Frame, Outgoing};
use super::victim::{At, GROUP, PATIENCE, TOPIC, Victim, count, due_at, names, send, wall_ms};

/// In the same log.
const FILLING: &str = "filling_topic";
const RETRY: &str = "%RETRY%steps_group";
const DEAD: &str = "%DLQ%steps_group";
/// Where each that is sent back is kept for its level.
const KEPT: &str = "SCHEDULE_TOPIC_XXXX";
const RECALL_MESSAGE: i32 = 370;
const ONEWAY: i32 = 2;
const BUSY: i32 = 2;
const OVERDUE: &str = "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: ";
const FULL: &str = "[OVERLOAD]system busy, start flow control for a while, size of queue: ";
/// Sizes of what fills the broker to the brim.
const SIZES: [usize; 4] = [1 << 20, 64 << 10, 4 << 10, 16];
const BUFFER_MEMORY: usize = 16 << 20;
/// Requests under way on an executor, of these kinds.
const UNDER_WAY_MAX: usize = 65_536;
const UNDER_WAY_BYTES_MAX: usize = 64 << 20;

fn started(wait_ms: u64) -> (Victim, Stuck) {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::not_yet(folder.path());
    let (buffer_memory, wait_ms) = (BUFFER_MEMORY.to_string(), wait_ms.to_string());
    let properties = [
        ("bufferMemory", buffer_memory.as_str()),
        ("messageDelayLevel", "1s"),
        ("recallMessageEnable", "true"),
        ("waitTimeMillsInSendQueue", wait_ms.as_str()),
    ];
    let properties = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let settings = Settings { flush: Flush::Sync, shards: 1, properties, env: vec![stuck.env()] };
    let victim = Victim::in_folder(folder, At("nothing", 1), settings);
    victim.cluster.broker.create_topic(FILLING, 1);
    (victim, stuck)
}

fn filler(connection: &mut Connection, size: usize) -> Frame {
    let body = vec![b'.'; size];
    // It does not wait to be flushed.
    let ext = Outgoing { topic: FILLING, queue: 0, properties: "WAIT\u{1}false", body: &body }.ext();
    connection.call(wire::SEND_MESSAGE_V2, &ext, &body).unwrap()
}

/// Holds the disk, and sends until not even a small message finds room.
fn hold(victim: &Victim, stuck: &Stuck) {
    stuck.hold();
    let mut connection = victim.connect();
    for size in SIZES {
        assert!((0..64).any(|_| filler(&mut connection, size).header.code == BUSY), "it has room for ever");
    }
}

/// Holds the disk, and sends until more waits than the log's memory can take when the writes that have begun are done: what
/// comes then waits too. The sends wait for as long as their connection is open.
fn hold_in_line(victim: &Victim, stuck: &Stuck) -> Connection {
    stuck.hold();
    let mut connection = victim.connect();
    let body = vec![b'.'; BUFFER_MEMORY / 16];
    let ext = Outgoing { topic: FILLING, queue: 0, properties: "", body: &body }.ext();
    eventually("sends wait", PATIENCE, || {
        connection.ask(wire::SEND_MESSAGE_V2, &ext, &body).unwrap();
        let [waiting] = wire::runtime_numbers(&mut victim.connect(), ["sendThreadPoolQueueSize"]);
        (waiting > 16).then_some(())
    });
    connection
}

fn position(reply: &Frame) -> i64 {
    place(reply).1
}

fn back(position: i64) -> Vec<(&'static str, String)> {
    vec![("offset", position.to_string()), ("group", GROUP.to_owned()), ("delayLevel", "1".to_owned())]
}

fn assert_overdue(reply: &Frame) {
    let remark = reply.header.remark.as_deref().unwrap_or_default();
    assert!(reply.header.code == BUSY && remark.starts_with(OVERDUE), "{} {remark}", reply.header.code);
}

fn open(victim: &Victim) -> i64 {
    let [open] = wire::runtime_numbers(&mut victim.connect(), ["ringmqHalvesOpen"]);
    open
}

fn refused(connection: &mut Connection) -> i64 {
    let [refused] = wire::runtime_numbers(connection, ["putMessageFailedTimes"]);
    refused
}

/// The same of a broker that may be too busy to say it.
fn refused_if_told(connection: &mut Connection) -> Option<i64> {
    let [refused] = wire::runtime_numbers_told(connection, ["putMessageFailedTimes"])?;
    Some(refused)
}

fn once(prefix: &str, of: usize) -> std::collections::BTreeMap<String, usize> {
    names(prefix, of).into_iter().map(|name| (name, 1)).collect()
}

#[test]
fn what_a_busy_log_refuses_is_not_done_and_can_be_asked_for_again() {
    const MESSAGES: usize = 4;
    let (mut victim, stuck) = started(1000);
    let mut connection = victim.connect();
    let positions: Vec<_> =
        names("back", MESSAGES).iter().map(|name| position(&send(&mut connection, name, "").unwrap())).collect();
    let early = connection.call(wire::SEND_BACK, &back(positions[0]), &[]).unwrap();
    assert_eq!(early.header.code, 0, "{:?}", early.header.remark);
    victim.wait_for(RETRY, "back-0");
    let halves: Vec<_> = names("half", MESSAGES)
        .iter()
        .map(|name| place(&send(&mut connection, name, &format!("{UNASKED}{HALF}")).unwrap()))
        .collect();
    // Its mark is longer than what fills the log in the end.
    let timed = format!("timed-{}", "x".repeat(128));
    let timed = send(&mut connection, &timed, &due_at(wall_ms() + 3_600_000)).unwrap();
    let recall = [("topic", TOPIC.to_owned()), ("recallHandle", timed.header.field("recallHandle").to_owned())];
    let mut last_try = Outgoing { topic: RETRY, queue: 0, properties: "UNIQ_KEY\u{1}dead", body: b"dead-0" }.ext();
    last_try.extend([("l", "0".to_owned())]);
    last_try.iter_mut().filter(|(name, _)| *name == "j").for_each(|(_, times)| *times = "9".to_owned());

    hold(&victim, &stuck);
    for place in &halves[..2] {
        assert_overdue(&connection.call(wire::END_TRANSACTION, &end_of(*place, COMMIT, false), &[]).unwrap());
    }
    // One-way, as clients send it: nobody is told, but it is counted.
    let before = refused(&mut connection);
    for place in &halves[2..] {
        let end = wire::request(wire::END_TRANSACTION, 0, ONEWAY, &end_of(*place, COMMIT, false), &[]);
        connection.stream().write_all(&end).unwrap();
    }
    eventually("they are refused", PATIENCE, || (refused(&mut connection) >= before + 2).then_some(()));
    for position in &positions[1..] {
        assert_overdue(&connection.call(wire::SEND_BACK, &back(*position), &[]).unwrap());
    }
    assert_overdue(&connection.call(RECALL_MESSAGE, &recall, &[]).unwrap());
    assert_overdue(&connection.call(wire::SEND_MESSAGE_V2, &last_try, b"dead-0").unwrap());
    assert_eq!(open(&victim), i64::try_from(MESSAGES).unwrap(), "halves whose end was refused");
    assert_eq!(victim.all(DEAD), []);
    let committed = |victim: &Victim| count(victim.all(TOPIC).iter().filter(|record| record.body.starts_with(b"half")));
    assert_eq!(committed(&victim), once("half", 0));

    stuck.release();
    for position in &positions[1..] {
        let reply = connection.call(wire::SEND_BACK, &back(*position), &[]).unwrap();
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    }
    halves.iter().for_each(|place| end(&mut connection, *place, COMMIT).unwrap());
    for (code, ext, body) in [(RECALL_MESSAGE, &recall[..], &b""[..]), (wire::SEND_MESSAGE_V2, &last_try, b"dead-0")] {
        let reply = connection.call(code, ext, body).unwrap();
        assert_eq!(reply.header.code, 0, "{code}: {:?}", reply.header.remark);
    }
    let audit = |victim: &Victim| {
        for name in names("back", MESSAGES) {
            victim.wait_for(RETRY, &name);
        }
        assert_eq!(count(&victim.all(KEPT)), once("back", MESSAGES));
        assert_eq!(count(&victim.all(DEAD)), once("dead", 1));
        assert_eq!(committed(victim), once("half", MESSAGES));
        assert_eq!(open(victim), 0);
    };
    audit(&victim);
    assert_eq!(count(&victim.all(RETRY)), once("back", MESSAGES));
    victim.cluster.broker.kill();
    victim.restart();
    // A level whose progress was not saved delivers again after a kill.
    audit(&victim);
}

#[test]
fn a_flood_at_a_stuck_disk_is_bounded_by_bytes_and_by_number() {
    const HUGE: usize = 1 << 20;
    const BACKS: usize = 512;
    const HALVES: usize = 4;
    const ENDS: usize = UNDER_WAY_MAX + 5000;
    const PORTION: usize = 1000;
    const MEMORY: u64 = 512 << 20;
    let _turn = alone();
    // Nothing is refused for its time until the bounds are reached.
    let (victim, stuck) = started(600_000);
    let mut connection = victim.connect();
    let body = vec![b'h'; HUGE];
    let ext = Outgoing { topic: TOPIC, queue: 0, properties: "", body: &body }.ext();
    let huge = position(&connection.call(wire::SEND_MESSAGE_V2, &ext, &body).unwrap());
    let halves: Vec<_> = names("half", HALVES)
        .iter()
        .map(|name| place(&send(&mut connection, name, &format!("{UNASKED}{HALF}")).unwrap()))
        .collect();
    let _in_line = hold_in_line(&victim, &stuck);

    let mut backs = victim.connect();
    for _ in 0..BACKS {
        backs.ask(wire::SEND_BACK, &back(huge), &[]).unwrap();
    }
    // All but what may be held are answered while the disk is stuck.
    let held = UNDER_WAY_BYTES_MAX / HUGE;
    for _ in held..BACKS {
        let reply = backs.next().unwrap();
        let remark = reply.header.remark.as_deref().unwrap_or_default();
        assert!(reply.header.code == BUSY && remark.starts_with(FULL), "{} {remark}", reply.header.code);
    }
    let before = refused(&mut connection);
    let end = |nth: usize| {
        let ext = end_of(halves[nth % HALVES], COMMIT, false);
        wire::request(wire::END_TRANSACTION, i32::try_from(nth).unwrap(), ONEWAY, &ext, &[])
    };
    // Some of these are refused because too many are on their way to the log's core.
    let mut producer = victim.connect();
    producer.stream().write_all(&(0..ENDS).flat_map(end).collect::<Vec<u8>>()).unwrap();
    // None of these is: the answer comes behind them.
    for from in (0..ENDS).step_by(PORTION) {
        let ends: Vec<u8> = (from..(from + PORTION).min(ENDS)).flat_map(end).collect();
        producer.stream().write_all(&ends).unwrap();
        eventually("they are there", PATIENCE, || refused_if_told(&mut producer));
    }
    let dropped = i64::try_from(2 * ENDS - UNDER_WAY_MAX).unwrap();
    eventually("what there is no room for is refused", PATIENCE, || {
        (refused_if_told(&mut connection)? >= before + dropped).then_some(())
    });
    let resident = victim.cluster.broker.process.resident();
    assert!(resident < MEMORY, "{} MiB are resident", resident >> 20);

    stuck.release();
    // Those that were taken in are answered with what became of them.
    let mut taken = 0;
    for _ in 0..held.min(BACKS) {
        match backs.next() {
            Ok(reply) if reply.header.code == 0 => taken += 1,
            Ok(reply) => assert_eq!(reply.header.code, BUSY, "{:?}", reply.header.remark),
            Err(error) => panic!("{error}"),
        }
    }
    eventually("all halves are ended", PATIENCE, || (open(&victim) == 0).then_some(()));
    let copies = eventually("the copies come", PATIENCE, || {
        let copies = victim.all(RETRY).len();
        (copies >= taken).then_some(copies)
    });
    assert_eq!(copies, taken, "each that was acknowledged is there once");
    let half = |name: &String| count(&victim.all(TOPIC)).get(name).copied();
    assert_eq!(names("half", HALVES).iter().map(half).collect::<Vec<_>>(), [Some(1); HALVES]);
}

#[test]
fn the_bodies_of_requests_that_wait_are_bounded_by_bytes() {
    const DELETE_TOPIC: i32 = 215;
    const NOT_EXIST: i32 = 17;
    const BODY: usize = 15 << 20;
    let _turn = alone();
    let (victim, stuck) = started(600_000);
    let _in_line = hold_in_line(&victim, &stuck);
    let mut connection = victim.connect();
    let (topic, body) = ([("topic", FILLING.to_owned())], vec![b'.'; BODY]);
    // The first waits for the log, the others for the first.
    let held = UNDER_WAY_BYTES_MAX / BODY;
    for _ in 0..held {
        connection.ask(DELETE_TOPIC, &topic, &body).unwrap();
    }
    let reply = connection.call(DELETE_TOPIC, &topic, &body).unwrap();
    let remark = reply.header.remark.unwrap_or_default();
    assert!(reply.header.code == BUSY && remark.starts_with(FULL), "{} {remark}", reply.header.code);
    // What has no body is served.
    refused(&mut connection);
    stuck.release();
    let codes: Vec<_> = (0..held).map(|_| connection.next().unwrap().header.code).collect();
    assert!(codes[0] == 0 && codes[1..].iter().all(|code| [0, NOT_EXIST].contains(code)), "{codes:?}");
}
