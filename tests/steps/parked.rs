//! Transactions that nobody ended in time: their halves are parked, once, and may still be ended, once, or brought back.

use std::collections::BTreeMap;

use super::halves::{COMMIT, Half, MESSAGES, ROLL_BACK, end, end_of, open, work};
use super::support::eventually;
use super::support::wire::{self, Connection, Record};
use super::victim::{At, PATIENCE, TOPIC, Victim, count, each};

const PARKED: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
const RESUME_CHECK_HALF_MESSAGE: i32 = 323;

/// Checks that park a half soon.
const PARKING: [(&str, &str); 3] =
    [("transactionTimeOut", "300"), ("transactionCheckInterval", "300"), ("transactionCheckMax", "1")];

const PARK_STEPS: &[At] = &[
    At("pair_appended:TRANS_CHECK_MAX_TIME_TOPIC", 1),
    At("pair_appended:TRANS_CHECK_MAX_TIME_TOPIC", 3),
    At("parked", 1),
    At("parked", 3),
];

#[test]
fn a_half_is_parked_once_at_whatever_step_a_kill_comes() {
    each(PARK_STEPS, |at| {
        let mut victim = Victim::start(at, 1, &PARKING);
        let halves = work(&mut victim.connect(), None);
        victim.bury();
        victim.restart();
        eventually("every transaction is parked", PATIENCE, || (open(&victim) == 0).then_some(()));
        let expected: BTreeMap<String, usize> = halves.iter().map(|half| (half.sent.name.clone(), 1)).collect();
        assert_eq!(count(&victim.all(PARKED)), expected);
        assert_eq!(count(&victim.all(TOPIC)), count([]));
    });
}

/// A step that no broker passes.
const NOWHERE: At = At("nothing", 1);

/// Sends halves and waits until they are parked; false if the broker is gone before.
fn park(connection: &mut Connection) -> (Vec<Half>, bool) {
    let halves = work(connection, None);
    let ext = [("topic", PARKED.to_owned()), ("queueId", "0".to_owned())];
    let lives =
        eventually("every half is parked", PATIENCE, || match connection.call(wire::GET_MAX_OFFSET, &ext, &[]) {
            Ok(reply) => (reply.header.ext["offset"] == halves.len().to_string()).then_some(true),
            Err(_) => Some(false),
        });
    (halves, lives)
}

/// Ends each half as a producer does that took too long, until the broker is gone.
fn end_each(connection: &mut Connection, halves: &mut [Half], how: i32) {
    for half in halves {
        half.asked = true;
        half.ended = half.place.is_some_and(|place| end(connection, place, how).is_ok());
        if !half.ended {
            break;
        }
    }
}

/// Has every parked record of these halves checked again, as a tool does; how many of them the broker brought back.
fn bring_back(victim: &Victim, halves: &[Half]) -> usize {
    let mut connection = victim.connect();
    let port: u16 = victim.cluster.broker.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut brought_back = |parked: &Record| {
        let id = format!("7F000001{port:08X}{:016X}", parked.position);
        let ext = [("topic", PARKED.to_owned()), ("msgId", id)];
        connection.call(RESUME_CHECK_HALF_MESSAGE, &ext, &[]).is_ok_and(|reply| reply.header.code == 0)
    };
    // One after the other, until the broker is gone.
    let parked = victim.all(PARKED);
    let known = parked.iter().filter(|parked| halves.iter().any(|half| half.sent.name.as_bytes() == parked.body));
    known.filter(|parked| brought_back(parked)).count()
}

/// Holds that every half is committed once, whatever producers and tools still ask for, and however often it starts.
fn each_is_committed_once(victim: &mut Victim, halves: &[Half]) {
    let expected: BTreeMap<String, usize> = halves.iter().map(|half| (half.sent.name.clone(), 1)).collect();
    for _ in 0..2 {
        for how in [COMMIT, ROLL_BACK] {
            let mut connection = victim.connect();
            for place in halves.iter().filter_map(|half| half.place) {
                end(&mut connection, place, how).unwrap();
            }
            assert_eq!(count(&victim.all(TOPIC)), expected);
            assert_eq!(bring_back(victim, halves), 0, "what is ended is not brought back");
            assert_eq!(open(victim), 0);
        }
        victim.cluster.broker.kill();
        victim.restart();
    }
}

const LATE_COMMIT_STEPS: &[At] = &[
    At("parked", 1),
    At("parked", MESSAGES),
    At("end_asked", 2),
    At("parked_found", 1),
    At("parked_found", 3),
    At("pair_appended:steps_topic", 1),
    At("pair_appended:steps_topic", 3),
    At("parked_ended", 1),
    At("parked_ended", 3),
    At("end_answered", 1),
    At("end_answered", 3),
];

#[test]
fn a_commit_of_a_parked_half_survives_a_kill_at_each_step() {
    each(LATE_COMMIT_STEPS, |at| {
        let mut victim = Victim::start(at, 1, &PARKING);
        let mut connection = victim.connect();
        let (mut halves, _) = park(&mut connection);
        end_each(&mut connection, &mut halves, COMMIT);
        victim.bury();
        victim.restart();
        let is_written = at.is(&["parked_ended", "end_answered"]);
        let came = count(&victim.all(TOPIC));
        for half in &halves {
            // In the queue, or still parked.
            let expected = usize::from(half.ended || (half.asked && is_written));
            assert_eq!(came.get(&half.sent.name).copied().unwrap_or(0), expected, "{}", half.sent.name);
        }
        // Those that were not parked yet are now.
        eventually("every half is parked", PATIENCE, || (open(&victim) == 0).then_some(()));
        let halves: Vec<Half> = halves.into_iter().filter(|half| half.place.is_some()).collect();
        each_is_committed_once(&mut victim, &halves);
    });
}

const LATE_ROLL_BACK_STEPS: &[At] = &[
    At("parked_found", 2),
    At("put_appended:RMQ_SYS_TRANS_OP_HALF_TOPIC", 1),
    At("put_appended:RMQ_SYS_TRANS_OP_HALF_TOPIC", 3),
    At("put_written:RMQ_SYS_TRANS_OP_HALF_TOPIC", 1),
    At("put_written:RMQ_SYS_TRANS_OP_HALF_TOPIC", 3),
    At("end_answered", 2),
];

#[test]
fn a_roll_back_of_a_parked_half_survives_a_kill_at_each_step() {
    each(LATE_ROLL_BACK_STEPS, |at| {
        let mut victim = Victim::start(at, 1, &PARKING);
        let mut connection = victim.connect();
        let (mut halves, lives) = park(&mut connection);
        assert!(lives);
        end_each(&mut connection, &mut halves, ROLL_BACK);
        victim.bury();
        victim.restart();
        let is_written = at.is(&["put_written:RMQ_SYS_TRANS_OP_HALF_TOPIC", "end_answered"]);
        let gone = |half: &Half| half.ended || (half.asked && is_written);
        // A producer that changes its mind is too late for what is rolled back, and only for that.
        let mut connection = victim.connect();
        for half in &halves {
            end(&mut connection, half.place.unwrap(), COMMIT).unwrap();
        }
        let kept = halves.iter().filter(|half| !gone(half));
        let expected: BTreeMap<String, usize> = kept.map(|half| (half.sent.name.clone(), 1)).collect();
        assert_eq!(count(&victim.all(TOPIC)), expected);
        assert_eq!(bring_back(&victim, &halves), 0);
    });
}

const BRING_BACK_STEPS: &[At] = &[
    // Behind the first check of each.
    At("pair_appended:RMQ_SYS_TRANS_HALF_TOPIC", MESSAGES + 1),
    At("brought_back", 1),
    At("brought_back", 3),
];

#[test]
fn a_parked_half_that_is_brought_back_is_committed_once_at_whatever_step_a_kill_comes() {
    each(BRING_BACK_STEPS, |at| {
        let mut victim = Victim::start(at, 1, &PARKING);
        let (halves, lives) = park(&mut victim.connect());
        assert!(lives);
        bring_back(&victim, &halves);
        victim.bury();
        victim.restart();
        // By the place that its producer was told first, whether it is open again, parked again, or parked still.
        each_is_committed_once(&mut victim, &halves);
    });
}

#[test]
fn ends_of_a_parked_half_that_come_together_end_it_once() {
    let victim = Victim::start(NOWHERE, 1, &PARKING);
    let (halves, lives) = park(&mut victim.connect());
    assert!(lives);
    let places: Vec<_> = halves.iter().filter_map(|half| half.place).collect();
    let mut connections: Vec<_> = (0..8).map(|_| victim.connect()).collect();
    for place in &places {
        for connection in &mut connections {
            connection.ask(wire::END_TRANSACTION, &end_of(*place, COMMIT, false), &[]).unwrap();
        }
    }
    for connection in &mut connections {
        for _ in &places {
            assert_eq!(connection.next().unwrap().header.code, 0);
        }
    }
    let expected: BTreeMap<String, usize> = halves.iter().map(|half| (half.sent.name.clone(), 1)).collect();
    assert_eq!(count(&victim.all(TOPIC)), expected);
}

/// Whether a half is ended or parked is found by the key index, so without it the answer is no, and nothing is lost by that.
#[test]
fn without_a_key_index_the_end_of_a_parked_half_is_refused_until_there_is_one() {
    let without = [&PARKING[..], &[("messageIndexEnable", "false")]].concat();
    let mut victim = Victim::start(NOWHERE, 1, &without);
    let (halves, lives) = park(&mut victim.connect());
    assert!(lives);
    let place = halves[0].place.unwrap();
    let refused = victim.connect().call(wire::END_TRANSACTION, &end_of(place, COMMIT, false), &[]).unwrap().header;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.remark.as_ref().unwrap().contains("messageIndexEnable=true"), "{refused:?}");
    assert_eq!(bring_back(&victim, &halves), 0);
    assert_eq!(count(&victim.all(TOPIC)), count([]));
    assert!(victim.cluster.broker.terminate().success());
    victim.cluster.broker.settings().properties.retain(|(key, _)| *key != "messageIndexEnable");
    victim.restart();
    each_is_committed_once(&mut victim, &halves);
}
