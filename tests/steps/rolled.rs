//! Timers that outlive their segment: retention stores them anew before the segment goes, and they come once. The clock is
//! moved, so that nobody waits for them.

use super::support::clock::Shifted;
use super::support::disk::BadSectors;
use super::support::eventually;
use super::support::server::{Flush, Settings};
use super::support::wire::{self, Connection};
use super::unread::position;
use super::victim::{At, PATIENCE, TOPIC, Victim, count, due_at, each, names, send, wall_ms};

const KEPT: &str = "rmq_sys_wheel_timer";
const TIMERS: usize = 20;
/// Far enough not to be awaited in its segment.
const FAR_MS: i64 = 600_000;
/// So near that its segment waits for it.
const NEAR_MS: i64 = 30_000;
const DELETE_EXPIRED_COMMITLOG: i32 = 329;

const SEGMENT: i64 = 1 << 20;

/// Segments of a MiB that are dropped as soon as they are full.
const DROPPING: [(&str, &str); 6] = [
    ("mappedFileSizeCommitLog", "1048576"),
    ("maxMessageSize", "65536"),
    ("fileReservedTime", "0"),
    ("cleanResourceInterval", "100"),
    ("deleteCommitLogFilesInterval", "10"),
    ("deleteWhen", "*"),
];

fn end_of_queue(connection: &mut Connection, code: i32) -> i64 {
    let ext = [("topic", KEPT.to_owned()), ("queueId", "0".to_owned())];
    let reply = connection.call(code, &ext, &[]).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header);
    reply.header.number("offset")
}

/// Stores timers and fills their segment, until the broker is gone or the segment is full. Where the far ones are.
fn fill(connection: &mut Connection, near: bool) -> Vec<i64> {
    let now_ms = wall_ms();
    let far = |(apart, name): (i64, String)| send(connection, &name, &due_at(now_ms + FAR_MS + apart)).unwrap();
    let places = (0..).zip(names("far", TIMERS)).map(far).map(|reply| position(&reply)).collect();
    if near {
        send(connection, "near", &due_at(now_ms + NEAR_MS)).unwrap();
    }
    let body = vec![b'.'; 4000];
    let ext = wire::Outgoing { topic: TOPIC, queue: 0, properties: "", body: &body }.ext();
    while let Ok(reply) = connection.call(wire::SEND_MESSAGE_V2, &ext, &body) {
        if position(&reply) > SEGMENT {
            break;
        }
    }
    places
}

const STEPS: &[At] = &[
    At("put_appended:rmq_sys_wheel_timer", 1),
    At("put_appended:rmq_sys_wheel_timer", 7),
    // All that are stored anew together are written.
    At("put_written:rmq_sys_wheel_timer", 1),
];

#[test]
fn timers_that_outlive_their_segment_survive_a_kill_at_each_step() {
    each(STEPS, |at| {
        let shifted = Shifted::default();
        let mut victim = Victim::start_shifted(at, &DROPPING, &shifted);
        fill(&mut victim.connect(), false);
        victim.bury();
        victim.restart();
        come_once_later(&victim, &shifted);
    });
}

/// Waits until the first segment is gone, then for the time of the timers.
fn come_once_later(victim: &Victim, shifted: &Shifted) {
    let mut connection = victim.connect();
    eventually("the timers' segment is dropped", PATIENCE, || {
        (end_of_queue(&mut connection, wire::GET_MIN_OFFSET) >= i64::try_from(TIMERS).unwrap()).then_some(())
    });
    let names = names("far", TIMERS);
    let before = count(&victim.all_left(TOPIC));
    assert!(names.iter().all(|name| !before.contains_key(name)), "one came before its time");
    shifted.by(FAR_MS + 10_000);
    send(&mut connection, "last", "TIMER_DELAY_MS\u{1}500\u{2}").unwrap();
    let found = count(&victim.wait_for_left(TOPIC, "last"));
    for name in &names {
        assert_eq!(found.get(name), Some(&1), "{name}");
    }
}

#[test]
fn timers_are_stored_anew_once_while_their_segment_waits_for_another() {
    let shifted = Shifted::default();
    let victim = Victim::start_shifted(At("nothing", 1), &DROPPING, &shifted);
    fill(&mut victim.connect(), true);
    let mut connection = victim.connect();
    let held = i64::try_from(TIMERS).unwrap() + 1;
    eventually("the far timers are stored anew", PATIENCE, || {
        (end_of_queue(&mut connection, wire::GET_MAX_OFFSET) > held).then_some(())
    });
    assert_eq!(end_of_queue(&mut connection, wire::GET_MIN_OFFSET), 0, "the segment waits for the near one");
    // Each has retention look at the waiting segment again.
    for _ in 0..20 {
        assert_eq!(connection.call(DELETE_EXPIRED_COMMITLOG, &[], &[]).unwrap().header.code, 0);
    }
    shifted.by(NEAR_MS + 1000);
    victim.wait_for_left(TOPIC, "near");
    come_once_later(&victim, &shifted);
    let last = 1;
    assert_eq!(end_of_queue(&mut connection, wire::GET_MAX_OFFSET), held + i64::try_from(TIMERS).unwrap() + last);
    assert_eq!(count(&victim.all_left(TOPIC)).get("near"), Some(&1));
}

#[test]
fn a_timer_that_is_not_read_keeps_its_segment_and_no_other_waits_for_it() {
    let (folder, shifted) = (tempfile::tempdir().unwrap(), Shifted::default());
    let bad = BadSectors::none(folder.path(), SEGMENT);
    let properties = |reserved: &str| {
        let of = |(key, value): &(&'static str, &str)| {
            (*key, if *key == "fileReservedTime" { reserved } else { value }.to_owned())
        };
        DROPPING.iter().map(of).collect()
    };
    let settings =
        Settings { flush: Flush::Sync, shards: 1, properties: properties("72"), env: vec![shifted.env(), bad.env()] };
    let mut victim = Victim::in_folder(folder, At("nothing", 1), settings);
    let places = fill(&mut victim.connect(), false);
    // Nothing of it is in the memory of the next one.
    assert!(victim.cluster.broker.terminate().success());
    bad.hit(places[TIMERS / 2]);
    victim.cluster.broker.settings().properties = properties("0");
    victim.restart();
    let mut connection = victim.connect();
    let all = i64::try_from(TIMERS).unwrap();
    eventually("the others are stored anew", PATIENCE, || {
        (end_of_queue(&mut connection, wire::GET_MAX_OFFSET) == 2 * all - 1).then_some(())
    });
    // Each has retention look at the waiting segment again.
    for _ in 0..20 {
        assert_eq!(connection.call(DELETE_EXPIRED_COMMITLOG, &[], &[]).unwrap().header.code, 0);
    }
    assert_eq!(end_of_queue(&mut connection, wire::GET_MIN_OFFSET), 0, "the segment waits for it");
    assert_eq!(end_of_queue(&mut connection, wire::GET_MAX_OFFSET), 2 * all - 1, "the others are stored anew once");
    bad.heal();
    come_once_later(&victim, &shifted);
}
