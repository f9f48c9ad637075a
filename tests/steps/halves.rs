//! Transactions: a half is stored and ended by its producer, or the broker asks about it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread::{self, JoinHandle};

use serde_json::json;

use super::support::clock::Shifted;
use super::support::eventually;
use super::support::wire::{self, Connection, Frame};
use super::victim::{At, PATIENCE, Sent, TOPIC, Victim, count, each, names, send};

const HALVES: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const MARKS: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
const CHECK_TRANSACTION_STATE: i32 = 39;
const HOUR_MS: i64 = 3_600_000;
pub(crate) const COMMIT: i32 = 8;
pub(crate) const ROLL_BACK: i32 = 12;
pub(crate) const HALF: &str = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}wire_producer\u{2}";
pub(crate) const MESSAGES: usize = 4;

/// No check comes by itself for a hundred years. Without it one would come after the interval: these requests were born long ago.
pub(crate) const UNASKED: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}3153600000\u{2}";

/// A transaction, and what of it was acknowledged.
pub(crate) struct Half {
    pub(crate) sent: Sent,
    /// Its place, as the acknowledgement tells it.
    pub(crate) place: Option<(i64, i64)>,
    pub(crate) asked: bool,
    pub(crate) ended: bool,
}

pub(crate) fn end_of((offset, position): (i64, i64), how: i32, checked: bool) -> Vec<(&'static str, String)> {
    vec![
        ("producerGroup", "wire_producer".to_owned()),
        ("tranStateTableOffset", offset.to_string()),
        ("commitLogOffset", position.to_string()),
        ("commitOrRollback", how.to_string()),
        ("fromTransactionCheck", checked.to_string()),
    ]
}

pub(crate) fn place(reply: &Frame) -> (i64, i64) {
    let position = i64::from_str_radix(&reply.header.field("msgId")[16..], 16).unwrap();
    (reply.header.number("queueOffset"), position)
}

pub(crate) fn end(connection: &mut Connection, place: (i64, i64), how: i32) -> io::Result<()> {
    let reply = connection.call(wire::END_TRANSACTION, &end_of(place, how, false), &[])?;
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    Ok(())
}

/// Sends halves and ends each, until the broker is gone.
pub(crate) fn work(connection: &mut Connection, how: Option<i32>) -> Vec<Half> {
    let mut all: Vec<Half> = Vec::new();
    for name in names("half", MESSAGES) {
        let unasked = if how.is_some() { UNASKED } else { "" };
        let reply = send(connection, &name, &format!("{unasked}{HALF}")).ok();
        let place = reply.as_ref().map(place);
        let sent = Sent { name, acknowledged: place.is_some() };
        let asked = place.is_some() && how.is_some();
        let ended = place.zip(how).is_some_and(|(place, how)| end(connection, place, how).is_ok());
        let gone = place.is_none() || (asked && !ended);
        all.push(Half { sent, place, asked, ended });
        if gone {
            break;
        }
    }
    all
}

/// A producer that answers every check in the same way as long as the broker lives; the names that it was asked about.
pub(crate) fn producer(victim: &Victim, how: Option<i32>) -> JoinHandle<BTreeSet<String>> {
    let mut connection = victim.connect();
    let body = json!({
        "clientID": "steps", "consumerDataSet": [], "producerDataSet": [{ "groupName": "wire_producer" }],
    });
    let reply = connection.call(wire::HEART_BEAT, &[], body.to_string().as_bytes()).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    thread::spawn(move || {
        let mut asked = BTreeSet::new();
        while let Ok(frame) = connection.next() {
            if frame.header.is_reply() || frame.header.code != CHECK_TRANSACTION_STATE {
                continue;
            }
            asked.insert(frame.header.field("msgId").to_owned());
            let place = (frame.header.number("tranStateTableOffset"), frame.header.number("commitLogOffset"));
            if let Some(how) = how
                && connection.ask(wire::END_TRANSACTION, &end_of(place, how, true), &[]).is_err()
            {
                break;
            }
        }
        asked
    })
}

/// How many halves no mark names: transactions that are open.
pub(crate) fn open(victim: &Victim) -> usize {
    let marks = victim.all(MARKS);
    let ended: BTreeSet<i64> = marks
        .iter()
        .flat_map(|mark| {
            String::from_utf8_lossy(&mark.body).split(',').filter_map(|o| o.parse().ok()).collect::<Vec<_>>()
        })
        .collect();
    victim.all(HALVES).iter().filter(|half| !ended.contains(&half.queue_offset)).count()
}

const COMMIT_STEPS: &[At] = &[
    At("send_appended:RMQ_SYS_TRANS_HALF_TOPIC", 1),
    At("send_appended:RMQ_SYS_TRANS_HALF_TOPIC", 3),
    At("send_written", 1),
    At("send_written", 3),
    At("send_answered", 1),
    At("send_answered", 3),
    At("end_asked", 1),
    At("end_asked", 3),
    At("end_taken", 1),
    At("end_taken", 3),
    At("pair_appended:steps_topic", 1),
    At("pair_appended:steps_topic", 3),
    At("end_written", 1),
    At("end_written", 3),
    At("end_answered", 1),
    At("end_answered", 3),
];

#[test]
fn a_commit_survives_a_kill_at_each_step() {
    each(COMMIT_STEPS, |at| {
        let mut victim = Victim::start(at, 1, &[]);
        let halves = work(&mut victim.connect(), Some(COMMIT));
        victim.bury();
        victim.restart();
        let came = count(&victim.all(TOPIC));
        let is_written = at.is(&["end_written", "end_answered"]);
        for half in &halves {
            // In the queue and marked as ended, or neither.
            let expected = usize::from(half.ended || (half.asked && is_written));
            assert_eq!(came.get(&half.sent.name).copied().unwrap_or(0), expected, "{}", half.sent.name);
        }
        let unknown = usize::from(at.is(&["send_written", "send_answered"]));
        let unended = halves.iter().filter(|half| half.asked && !half.ended && !is_written).count();
        assert_eq!(open(&victim), unknown + unended);
        assert_eq!(halves.iter().filter(|half| half.ended).count(), at.1 - 1);
        // Ended again, by a producer that got no answer or lost it: once in the queue, whatever was before.
        let mut connection = victim.connect();
        for place in halves.iter().filter_map(|half| half.place) {
            end(&mut connection, place, COMMIT).unwrap();
        }
        let came = count(&victim.all(TOPIC));
        let acknowledged = halves.iter().filter(|half| half.sent.acknowledged);
        let expected: BTreeMap<String, usize> = acknowledged.map(|half| (half.sent.name.clone(), 1)).collect();
        assert_eq!(came, expected);
        assert_eq!(open(&victim), unknown);
    });
}

const ROLL_BACK_STEPS: &[At] = &[
    At("end_asked", 2),
    At("end_taken", 2),
    At("put_appended:RMQ_SYS_TRANS_OP_HALF_TOPIC", 1),
    At("put_appended:RMQ_SYS_TRANS_OP_HALF_TOPIC", 3),
    At("put_written:RMQ_SYS_TRANS_OP_HALF_TOPIC", 1),
    At("put_written:RMQ_SYS_TRANS_OP_HALF_TOPIC", 3),
    At("end_answered", 1),
    At("end_answered", 3),
];

#[test]
fn a_roll_back_survives_a_kill_at_each_step() {
    each(ROLL_BACK_STEPS, |at| {
        let mut victim = Victim::start(at, 1, &[]);
        let halves = work(&mut victim.connect(), Some(ROLL_BACK));
        victim.bury();
        victim.restart();
        let is_written = at.is(&["put_written:RMQ_SYS_TRANS_OP_HALF_TOPIC", "end_answered"]);
        assert_eq!(halves.iter().filter(|half| half.ended).count(), at.1 - 1);
        assert_eq!(open(&victim), usize::from(!is_written));
        // What is rolled back stays so, even for a producer that changes its mind.
        let mut connection = victim.connect();
        for half in &halves {
            let how = if half.ended || is_written { COMMIT } else { ROLL_BACK };
            end(&mut connection, half.place.unwrap(), how).unwrap();
        }
        assert_eq!(open(&victim), 0);
        assert_eq!(count(&victim.all(TOPIC)), count([]));
    });
}

const CHECK_STEPS: &[At] = &[
    At("pair_appended:RMQ_SYS_TRANS_HALF_TOPIC", 1),
    At("pair_appended:RMQ_SYS_TRANS_HALF_TOPIC", 3),
    At("check_written", 1),
    At("check_written", 3),
    At("check_sent", 1),
    At("check_sent", 3),
    // The answers to checks, of halves that the checks have moved.
    At("end_asked", 2),
    At("end_taken", 2),
    At("pair_appended:steps_topic", 1),
    At("pair_appended:steps_topic", 2),
    At("end_written", 1),
    At("end_written", 2),
];

#[test]
fn a_check_survives_a_kill_at_each_step() {
    each(CHECK_STEPS, |at| {
        let timing = [("transactionTimeOut", "300"), ("transactionCheckInterval", "300")];
        let mut victim = Victim::start(at, 1, &timing);
        let answers = at.0.starts_with("end_") || at.is(&["pair_appended:steps_topic"]);
        let asker = producer(&victim, answers.then_some(COMMIT));
        let halves = work(&mut victim.connect(), None);
        victim.bury();
        asker.join().unwrap();
        victim.restart();
        let asker = producer(&victim, Some(COMMIT));
        eventually("every transaction is ended", PATIENCE, || (open(&victim) == 0).then_some(()));
        let came = count(&victim.all(TOPIC));
        let expected = halves.iter().filter(|half| half.sent.acknowledged);
        for half in expected {
            assert_eq!(came.get(&half.sent.name), Some(&1), "{}", half.sent.name);
        }
        victim.cluster.broker.kill();
        let asked = asker.join().unwrap();
        let known = |only_acknowledged: bool| -> BTreeSet<String> {
            let halves = halves.iter().filter(|half| half.sent.acknowledged || !only_acknowledged);
            halves.map(|half| half.sent.name.clone()).collect()
        };
        assert!(asked.is_subset(&known(false)), "{asked:?}");
        assert!(answers || asked.is_superset(&known(true)), "asked again about every one: {asked:?}");
    });
}

#[test]
fn a_half_whose_check_is_far_moves_on_when_its_segment_is_to_go() {
    let clock = Shifted::default();
    let mut victim = Victim::start_shifted(At("nothing", 1), &[("fileReservedTime", "2")], &clock);
    let first = place(&send(&mut victim.connect(), "half", &format!("{UNASKED}{HALF}")).unwrap());
    for moves in 1..=2 {
        // It moves once for each time that what lies beside it expires, also when a start finds it.
        clock.by(moves * 3 * HOUR_MS);
        let copies = 1 + usize::try_from(moves).unwrap();
        eventually("it moves", PATIENCE, || (victim.all(HALVES).len() == copies).then_some(()));
        assert_eq!(open(&victim), 1);
        victim.cluster.broker.kill();
        victim.restart();
        assert_eq!(victim.all(HALVES).len(), copies);
    }
    let properties = &victim.all(HALVES)[2].properties;
    assert!(properties.contains(&format!("TRAN_PREPARED_QUEUE_OFFSET\u{1}{}", first.0)), "{properties}");
    assert!(!properties.contains("TRANSACTION_CHECK_TIMES"), "nobody was asked: {properties}");
    end(&mut victim.connect(), first, COMMIT).unwrap();
    assert_eq!(count(&victim.all(TOPIC)), [("half".to_owned(), 1)].into());
    assert_eq!(open(&victim), 0);
}
