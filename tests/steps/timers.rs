//! Timers: a message is kept until its own time, released, and the progress saved; a recall takes one back.

use std::time::Duration;

use super::support::disk::Stuck;
use super::support::eventually;
use super::support::server::{Flush, Settings};
use super::support::wire::{self, Connection, Outgoing, Record};
use super::victim::{At, PATIENCE, Released, TOPIC, Victim, count, due_at, each, names, send, until_gone, wall_ms};

const RECALL_MESSAGE: i32 = 370;
const MESSAGES: usize = 6;
/// Enough for all sends and recalls to be acknowledged before the first is due, on a machine that stands still for seconds too.
const FIRST_MS: i64 = 6000;
const APART_MS: i64 = 100;

/// The time up to which the store says that its timers are delivered.
fn saved_ms(victim: &Victim) -> i64 {
    victim.saved("timers.json", "finishedMs")["0"].as_i64().unwrap_or(0)
}

/// The time that the broker gave a message, to which it is held.
fn due_ms(found: &[Record], name: &str) -> i64 {
    let record = found.iter().find(|record| record.body == name.as_bytes());
    let properties = &record.unwrap_or_else(|| panic!("{name} is missing")).properties;
    let mut pairs = properties.split('\u{2}').filter_map(|pair| pair.split_once('\u{1}'));
    pairs.find(|(key, _)| *key == "TIMER_OUT_MS").unwrap().1.parse().unwrap()
}

/// Waits until everything that was due before has come.
fn behind_all(victim: &Victim, last_ms: i64) -> Vec<Record> {
    let due_ms = last_ms.max(wall_ms() + 300);
    send(&mut victim.connect(), "last", &due_at(due_ms)).unwrap();
    victim.wait_for(TOPIC, "last")
}

const STEPS: &[At] = &[
    At("send_appended:rmq_sys_wheel_timer", 1),
    At("send_appended:rmq_sys_wheel_timer", 4),
    At("send_written", 1),
    At("send_written", 4),
    At("send_answered", 1),
    At("send_answered", 4),
    At("timer_due", 1),
    At("timer_due", 2),
    At("put_appended:steps_topic", 1),
    At("put_appended:steps_topic", 4),
    At("put_written:steps_topic", 1),
    At("put_written:steps_topic", 4),
    At("timer_done", 1),
    At("timer_done", 2),
    At("timer_noted", 1),
    At("timer_noted", 2),
    At("file_written:timers.json", 1),
    At("file_written:timers.json", 2),
    At("file_bak_removed:timers.json", 1),
    At("file_bak_kept:timers.json", 1),
    At("file_renamed:timers.json", 1),
    At("file_renamed:timers.json", 2),
    At("file_flushed:timers.json", 1),
    At("file_flushed:timers.json", 2),
];

#[test]
fn a_timer_survives_a_kill_at_each_step() {
    each(STEPS, |at| {
        let mut victim = Victim::start(at, 1, &[]);
        let (first_ms, mut connection) = (wall_ms() + FIRST_MS, victim.connect());
        let mut asked_ms = first_ms;
        let sent = until_gone(&names("timer", MESSAGES), |name| {
            asked_ms += APART_MS;
            send(&mut connection, name, &due_at(asked_ms)).map(drop)
        });
        victim.bury();
        let saved_ms = saved_ms(&victim);
        victim.restart();
        let found = behind_all(&victim, asked_ms + 1);
        let released = Released::of(&found, victim.died_ms);
        for one in &sent {
            let is_kept = one.acknowledged || at.is(&["send_written", "send_answered"]);
            if is_kept {
                let due_ms = due_ms(&found, &one.name);
                released.holds(&one.name, due_ms <= saved_ms);
                let too_early = |record: &&Record| record.body == one.name.as_bytes() && record.stored < due_ms;
                assert!(!found.iter().any(|record| too_early(&record)), "{} came before {due_ms}", one.name);
            } else if at.is(&["send_appended:rmq_sys_wheel_timer"]) {
                released.never(&one.name);
            }
        }
        let early = released.early();
        match at {
            At("send_appended:rmq_sys_wheel_timer" | "send_written" | "send_answered", nth) => {
                assert_eq!(sent.len(), nth);
            }
            At("timer_due" | "put_appended:steps_topic", 1) => assert_eq!(early, 0),
            At("timer_due", _) => assert!((1..MESSAGES).contains(&early), "{early} were written"),
            At("put_appended:steps_topic", nth) => assert!(early < nth, "{early} were written"),
            At("put_written:steps_topic" | "timer_done", nth) => assert!(early >= nth, "only {early} were written"),
            // Progress is told and saved while timers wait as well.
            At(..) => assert!(early <= MESSAGES),
        }
    });
}

/// More than are delivered together, with room for some batches between the signal and the stop.
const OF_ONE_TIME: usize = 2560;
const STOP: &str = "RINGMQ_TEST_STOP";

#[test]
fn a_stop_among_the_timers_of_one_millisecond_loses_none() {
    let env = vec![(STOP, "timer_done@1".to_owned())];
    let settings = Settings { flush: Flush::Sync, shards: 1, properties: Vec::new(), env };
    let mut victim = Victim::in_folder(tempfile::tempdir().unwrap(), At("nothing", 1), settings);
    let mut connection = victim.connect();
    // All are acknowledged long before they are due.
    let due_ms = wall_ms() + 15_000;
    let names = names("timer", OF_ONE_TIME);
    for some in names.chunks(128) {
        for name in some {
            let properties = format!("{}UNIQ_KEY\u{1}{name}", due_at(due_ms));
            let ext = Outgoing { topic: TOPIC, queue: 0, properties: &properties, body: name.as_bytes() }.ext();
            connection.ask(wire::SEND_MESSAGE_V2, &ext, name.as_bytes()).unwrap();
        }
        for name in some {
            let reply = connection.next().unwrap();
            assert_eq!(reply.header.code, 0, "{name}: {:?}", reply.header.remark);
        }
    }
    let status = victim.cluster.broker.process.wait(PATIENCE);
    assert!(status.success(), "{status}");
    let lines = victim.cluster.broker.process.err.all();
    assert!(lines.iter().any(|line| line == "stopped at timer_done@1"), "not at its step");
    victim.cluster.broker.settings().env.retain(|(name, _)| *name != STOP);
    victim.restart();
    let found = count(&behind_all(&victim, due_ms + 1));
    let lost = names.iter().filter(|name| !found.contains_key(*name)).count();
    assert_eq!(lost, 0, "of {OF_ONE_TIME}");
}

fn recall(connection: &mut Connection, handle: &str) -> std::io::Result<()> {
    let ext = [("topic", TOPIC.to_owned()), ("recallHandle", handle.to_owned())];
    let reply = connection.call(RECALL_MESSAGE, &ext, &[])?;
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    Ok(())
}

#[test]
fn a_recall_that_comes_too_late_on_a_shard_is_refused() {
    const ILLEGAL_OPERATION: i32 = 604;
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::not_yet(folder.path());
    let properties = vec![("recallMessageEnable", "true".to_owned())];
    let settings = Settings { flush: Flush::Sync, shards: 2, properties, env: vec![stuck.env()] };
    let victim = Victim::in_folder(folder, At("nothing", 1), settings);
    let (mut connection, due_ms) = (victim.connect(), wall_ms() + 3000);
    let reply = send(&mut connection, "recalled", &due_at(due_ms)).unwrap();
    let ext = [("topic", TOPIC.to_owned()), ("recallHandle", reply.header.field("recallHandle").to_owned())];
    // The mark of the first shard waits for the disk, and the one of the second shard for that.
    stuck.hold();
    connection.ask(RECALL_MESSAGE, &ext, &[]).unwrap();
    eventually("the message is due", Duration::from_secs(40), || (wall_ms() > due_ms).then_some(()));
    stuck.release();
    let reply = connection.next().unwrap();
    assert_eq!(reply.header.code, ILLEGAL_OPERATION, "{:?}", reply.header.remark);
}

const RECALL_STEPS: &[At] = &[
    At("recall_asked", 1),
    At("recall_asked", 2),
    At("put_appended:rmq_sys_wheel_timer", 1),
    At("put_appended:rmq_sys_wheel_timer", 2),
    At("put_written:rmq_sys_wheel_timer", 1),
    At("put_written:rmq_sys_wheel_timer", 2),
    At("recall_answered", 1),
    At("recall_answered", 2),
    // Between the marks and the messages they take back, and behind them.
    At("timer_due", 1),
    At("timer_due", 2),
    At("put_written:steps_topic", 1),
    At("timer_done", 1),
    At("timer_done", 2),
    At("file_renamed:timers.json", 1),
    At("file_renamed:timers.json", 2),
];

#[test]
fn progress_passes_a_recall_that_nothing_follows() {
    let victim = Victim::start(At("not_killed", 1), 1, &[("recallMessageEnable", "true")]);
    let (mut connection, asked_ms) = (victim.connect(), wall_ms() + 500);
    let reply = send(&mut connection, "recalled", &due_at(asked_ms)).unwrap();
    recall(&mut connection, reply.header.field("recallHandle")).unwrap();
    let what = "timers are delivered up to a time behind the recalled message";
    eventually(what, Duration::from_secs(40), || (saved_ms(&victim) > asked_ms).then_some(()));
}

#[test]
fn a_recall_survives_a_kill_at_each_step() {
    each(RECALL_STEPS, |at| {
        let mut victim = Victim::start(at, 1, &[("recallMessageEnable", "true")]);
        let (mut asked_ms, mut connection) = (wall_ms() + FIRST_MS, victim.connect());
        let names = names("recalled", 4);
        let mut handles = Vec::new();
        for name in &names {
            asked_ms += APART_MS;
            let reply = send(&mut connection, name, &due_at(asked_ms)).unwrap();
            handles.push(reply.header.field("recallHandle").to_owned());
        }
        // The first and the third are taken back.
        let taken: Vec<String> = names.iter().step_by(2).cloned().collect();
        let recalls = until_gone(&taken, |name| {
            let at = names.iter().position(|one| one == name).unwrap();
            recall(&mut connection, &handles[at])
        });
        victim.bury();
        let saved_ms = saved_ms(&victim);
        victim.restart();
        let found = behind_all(&victim, asked_ms + 1);
        let released = Released::of(&found, victim.died_ms);
        for name in &names {
            let recall = recalls.iter().find(|one| one.name == *name);
            // What was not acknowledged counts if its mark was written.
            let written = at.is(&["put_written:rmq_sys_wheel_timer", "recall_answered"]);
            if recall.is_some_and(|one| one.acknowledged || written) {
                released.never(name);
            } else {
                released.holds(name, due_ms(&found, name) <= saved_ms);
            }
        }
    });
}
