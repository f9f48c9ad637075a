//! A due message on a bad sector: it holds up no other, comes when the disk reads it again, and a broker that dies meanwhile
//! finds it again. A half or a mark on one keeps no broker from starting.

use super::halves::{COMMIT, HALF, ROLL_BACK, UNASKED, end, end_of, place};
use super::support::disk::BadSectors;
use super::support::eventually;
use super::support::server::{Flush, Settings};
use super::support::wire::{END_TRANSACTION, runtime_numbers};
use super::victim::{At, PATIENCE, TOPIC, Victim, count, due_at, names, send, wall_ms};

const MESSAGES: usize = 6;
/// Which of them is on a bad sector.
const BAD: usize = 2;
/// Until they come due: long enough for a stop and a start.
const LATER_MS: i64 = 12_000;
const SEGMENT: i64 = 64 << 20;

/// Where a message was stored, as its sender was told.
pub(crate) fn position(reply: &super::support::wire::Frame) -> i64 {
    i64::from_str_radix(&reply.header.field("msgId")[16..], 16).unwrap()
}

fn names_are(victim: &Victim, times: impl Fn(usize) -> usize) -> bool {
    let found = count(&victim.all(TOPIC));
    names("due", MESSAGES).iter().enumerate().all(|(nth, name)| found.get(name).copied().unwrap_or(0) == times(nth))
}

/// How many lines of the broker's log have this text.
fn lines(victim: &Victim, text: &str) -> usize {
    let process = &victim.cluster.broker.process;
    [process.out.all(), process.err.all()].concat().iter().filter(|line| line.contains(text)).count()
}

/// Sends messages that come later, one of which the disk does not read until the end. `asked` is what the n-th asks for, and
/// `is_saved` whether the progress on the disk is behind the n-th message and not behind the next.
fn one_is_not_read(asked: impl Fn(usize) -> String, is_saved: impl Fn(&Victim, usize) -> bool) {
    let folder = tempfile::tempdir().unwrap();
    let bad = BadSectors::none(folder.path(), SEGMENT);
    let levels = format!("{}s", LATER_MS / 1000);
    let properties = vec![("messageDelayLevel", levels), ("flushConsumerOffsetInterval", "100".to_owned())];
    let settings = Settings { flush: Flush::Sync, shards: 1, properties, env: vec![bad.env()] };
    let mut victim = Victim::in_folder(folder, At("nothing", 1), settings);
    let mut connection = victim.connect();
    let sent = names("due", MESSAGES).into_iter().enumerate();
    let positions: Vec<_> =
        sent.map(|(nth, name)| position(&send(&mut connection, &name, &asked(nth)).unwrap())).collect();
    // What is sent last may be read by the start itself.
    send(&mut connection, "not due", "").unwrap();
    assert!(victim.cluster.broker.terminate().success());
    bad.hit(positions[BAD]);
    victim.restart();

    let others = |nth| usize::from(nth != BAD);
    eventually("the others come", PATIENCE, || names_are(&victim, others).then_some(()));
    assert_eq!(lines(&victim, "cannot be read and is set aside"), 1);
    eventually("the progress in front of it is saved", PATIENCE, || is_saved(&victim, BAD).then_some(()));
    victim.cluster.broker.kill();
    victim.restart();
    // What lies behind the saved progress comes again.
    let again = |nth| if nth > BAD { 2 } else { others(nth) };
    eventually("the others come again", PATIENCE, || names_are(&victim, again).then_some(()));
    bad.heal();
    eventually("it comes", PATIENCE, || names_are(&victim, |nth| again(nth).max(1)).then_some(()));
    eventually("that is saved", PATIENCE, || is_saved(&victim, MESSAGES).then_some(()));
    assert_eq!(lines(&victim, "that was set aside was read and is done"), 1);
    assert_eq!(runtime_numbers(&mut victim.connect(), ["ringmqDroppedDelayed", "timerReadBehind"]), [0, 0]);
    victim.again(At("nothing", 1));
    send(&mut victim.connect(), "last", &asked(MESSAGES)).unwrap();
    victim.wait_for(TOPIC, "last");
    assert!(names_are(&victim, |nth| again(nth).max(1)), "nothing comes a third time");
}

#[test]
fn a_message_of_a_level_that_is_not_read_holds_up_no_other_and_comes_once_it_is() {
    let is_saved = |victim: &Victim, nth: usize| {
        let saved = victim.saved_offsets("SCHEDULE_TOPIC_XXXX", "CID_RMQ_SYS_SCHEDULE");
        saved.get(&0).copied() == Some(i64::try_from(nth).unwrap())
    };
    one_is_not_read(|_| "DELAY\u{1}1\u{2}".to_owned(), is_saved);
}

#[test]
fn a_timer_that_is_not_read_holds_up_no_other_and_comes_once_it_is() {
    const APART_MS: i64 = 1000;
    let first_ms = wall_ms() + LATER_MS;
    let due_ms = |nth: usize| first_ms + APART_MS * i64::try_from(nth).unwrap();
    let is_saved = |victim: &Victim, nth: usize| {
        let saved = victim.saved("timers.json", "finishedMs")["0"].as_i64().unwrap_or(0);
        saved >= due_ms(nth - 1) && (nth == MESSAGES || saved < due_ms(nth))
    };
    one_is_not_read(|nth| due_at(if nth < MESSAGES { due_ms(nth) } else { wall_ms() + 500 }), is_saved);
}

#[test]
fn a_start_goes_on_past_a_half_and_a_mark_that_are_not_read() {
    const ENDED: [usize; 2] = [1, 2];
    const UNREAD: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    let bad = BadSectors::none(folder.path(), SEGMENT);
    let settings = Settings { flush: Flush::Sync, shards: 1, properties: vec![], env: vec![bad.env()] };
    let mut victim = Victim::in_folder(folder, At("nothing", 1), settings);
    let open = |victim: &Victim| runtime_numbers(&mut victim.connect(), ["ringmqHalvesOpen"]);
    let mut connection = victim.connect();
    // The first is open, so that a start looks at all that follows.
    let halves: Vec<_> = names("half", 4)
        .iter()
        .map(|name| place(&send(&mut connection, name, &format!("{UNASKED}{HALF}")).unwrap()))
        .collect();
    ENDED.iter().for_each(|nth| end(&mut connection, halves[*nth], COMMIT).unwrap());
    let mark = victim.all("RMQ_SYS_TRANS_OP_HALF_TOPIC").pop().unwrap();
    // What is sent last may be read by the start itself.
    send(&mut connection, "last", "").unwrap();
    assert!(victim.cluster.broker.terminate().success());
    bad.hit(halves[UNREAD].1);
    bad.hit(mark.position);
    victim.restart();

    assert_eq!(open(&victim), [3], "with the one whose mark is not read");
    assert_eq!(lines(&victim, "a half message cannot be read: it stays open"), 1);
    assert_eq!(lines(&victim, "the mark of ended transactions cannot be read: they are open again"), 1);
    let mut connection = victim.connect();
    end(&mut connection, halves[0], COMMIT).unwrap();
    let refused = connection.call(END_TRANSACTION, &end_of(halves[UNREAD], COMMIT, false), &[]).unwrap();
    assert_ne!(refused.header.code, 0);
    assert_eq!(open(&victim), [2]);

    bad.heal();
    end(&mut connection, halves[UNREAD], COMMIT).unwrap();
    end(&mut connection, halves[ENDED[1]], ROLL_BACK).unwrap();
    assert_eq!(open(&victim), [0]);
    victim.again(At("nothing", 1));
    assert_eq!(open(&victim), [0]);
    let found = count(victim.all(TOPIC).iter().filter(|record| record.body.starts_with(b"half")));
    assert!(names("half", 4).iter().all(|name| found[name] == 1), "{found:?}");
}
