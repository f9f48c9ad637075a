//! A topic that is deleted while sends to it, and a message that is due, wait for a busy disk: they do not bring it back, and
//! nothing of it is left.

use super::support::disk::Stuck;
use super::support::eventually;
use super::support::server::{Flush, Settings};
use super::support::wire::{self, Connection, Outgoing};
use super::victim::{At, PATIENCE, Victim, wall_ms};

const DELETE_TOPIC: i32 = 215;
const TOPIC_NOT_EXIST: i32 = 17;
const DOOMED: &str = "doomed_topic";
/// In the same logs.
const FILLING: &str = "filling_topic";
/// One for each shard at least.
const QUEUES: i32 = 2;
/// So many that each shard has one.
const CONNECTIONS: usize = 16;
/// What each shard has memory for.
const MEMORY: usize = 16 << 20;
/// Longer than it takes to fill that.
const LEVEL_MS: i64 = 10_000;

fn ask(connection: &mut Connection, topic: &str, queue: i32, properties: &str, body: &[u8]) -> i32 {
    let ext = Outgoing { topic, queue, properties, body }.ext();
    connection.ask(wire::SEND_MESSAGE_V2, &ext, body).unwrap()
}

/// Sends to a queue until the memory of its log is full.
fn fill(connection: &mut Connection, queue: i32) {
    let waiting = |connection: &mut Connection| wire::runtime_numbers(connection, ["sendThreadPoolQueueSize"]);
    let (before, body) = (waiting(connection), vec![b'.'; 1 << 20]);
    let ext = [("topic", FILLING.to_owned()), ("queueId", queue.to_string())];
    for _ in 0..2 * MEMORY / body.len() {
        ask(connection, FILLING, queue, "", &body);
        // Goes the same way to the same shard, behind it.
        assert_eq!(connection.call(wire::GET_MAX_OFFSET, &ext, &[]).unwrap().header.code, 0);
        if waiting(connection) > before {
            return;
        }
    }
    panic!("queue {queue} takes everything");
}

/// Has sends to a topic wait for the disk while the topic is deleted, and then lets the disk go on.
fn deleted_while_sends_wait(shards: u32) {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::not_yet(folder.path());
    let memory = MEMORY * usize::try_from(shards).unwrap();
    let properties = [
        ("bufferMemory", memory.to_string()),
        ("brokerFastFailureEnable", "false".to_owned()),
        ("messageDelayLevel", format!("{}s", LEVEL_MS / 1000)),
    ];
    let settings = Settings { flush: Flush::Sync, shards, properties: properties.into(), env: vec![stuck.env()] };
    let victim = Victim::in_folder(folder, At("nothing", 1), settings);
    for topic in [DOOMED, FILLING] {
        victim.cluster.broker.create_topic(topic, QUEUES.unsigned_abs());
    }
    let mut sender = victim.connect();
    // Too long for the room that the others leave.
    let long = vec![b'.'; 2 << 20];
    for (queue, properties, body) in [(0, "", &b"before"[..]), (1, "", b"before"), (0, "DELAY\u{1}1\u{2}", &long)] {
        ask(&mut sender, DOOMED, queue, properties, body);
        assert_eq!(sender.next().unwrap().header.code, 0);
    }
    let due_ms = wall_ms() + LEVEL_MS;
    stuck.hold();
    let mut filling = victim.connect();
    (0..i32::try_from(shards).unwrap()).for_each(|queue| fill(&mut filling, queue));
    assert!(wall_ms() < due_ms, "the delayed one was there before the memory was full");
    eventually("the delayed one waits, too", PATIENCE, || (wall_ms() > due_ms + 1000).then_some(()));
    // On one connection, so that the topic is there when they come.
    let late = [0, 1].map(|queue| ask(&mut sender, DOOMED, queue, "", b"late"));
    let deletion = sender.ask(DELETE_TOPIC, &[("topic", DOOMED.to_owned())], &[]).unwrap();
    // Until then a send that waited is one to the old topic.
    for mut connection in (0..CONNECTIONS).map(|_| victim.connect()) {
        eventually("the topic is gone from every shard", PATIENCE, || {
            let pull = wire::pull(DOOMED, 0, 0, 1, 0);
            let reply = connection.call(wire::PULL_MESSAGE, &pull, &[]).unwrap();
            (reply.header.code == TOPIC_NOT_EXIST).then_some(())
        });
    }
    stuck.release();
    for _ in 0..=late.len() {
        let reply = sender.next().unwrap().header;
        let remark = reply.remark.unwrap_or_default();
        if reply.opaque == deletion {
            assert_eq!(reply.code, 0, "{remark}");
        } else {
            assert!(late.contains(&reply.opaque) && reply.code == TOPIC_NOT_EXIST, "{}: {remark}", reply.code);
            assert!(remark.contains("topic[doomed_topic] not exist, apply first please!"), "{remark}");
        }
    }
    let told = "a message that was kept for later is not delivered: its topic was deleted";
    let process = &victim.cluster.broker.process;
    let is_told =
        || [process.out.all(), process.err.all()].concat().iter().any(|line| line.contains(told)).then_some(());
    eventually("the delayed one is given up", PATIENCE, is_told);
    // A new topic of that name begins empty.
    victim.cluster.broker.create_topic(DOOMED, QUEUES.unsigned_abs());
    for queue in 0..QUEUES {
        let ext = [("topic", DOOMED.to_owned()), ("queueId", queue.to_string())];
        let end = victim.connect().call(wire::GET_MAX_OFFSET, &ext, &[]).unwrap().header.number("offset");
        assert_eq!(end, 0, "something is left in queue {queue}");
    }
}

#[test]
fn a_send_that_waits_for_the_disk_does_not_bring_a_deleted_topic_back() {
    deleted_while_sends_wait(1);
}

#[test]
fn nor_does_one_that_waits_on_another_shard() {
    deleted_while_sends_wait(2);
}
