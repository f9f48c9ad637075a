//! Retries: a consumer sends a message back, its copy is kept for a delay level, comes again in the retry topic, and the
//! consumer commits behind the original. The last try is a dead letter, at once.
//!
//! A consumer that got no answer does it again, so what was written without an answer may come twice; here nobody asks
//! again, and it comes once.

use std::io;

use super::support::wire::{self, Connection};
use super::victim::{At, GROUP, NEVER, Released, TOPIC, Victim, count, each, names, send};

const KEPT: &str = "SCHEDULE_TOPIC_XXXX";
const KEEPER: &str = "CID_RMQ_SYS_SCHEDULE";
const RETRY: &str = "%RETRY%steps_group";
const DEAD: &str = "%DLQ%steps_group";
const UPDATE_CONSUMER_OFFSET: i32 = 15;
const MESSAGES: usize = 4;

/// A message on its way back, and what of it was acknowledged.
#[derive(Debug)]
struct Back {
    name: String,
    asked: bool,
    taken: bool,
    committed: bool,
}

/// Sends messages and gives their positions.
fn originals(connection: &mut Connection, names: &[String]) -> Vec<i64> {
    let position = |name: &String| {
        let reply = send(connection, name, "").unwrap();
        i64::from_str_radix(&reply.header.field("msgId")[16..], 16).unwrap()
    };
    names.iter().map(position).collect()
}

fn send_back(connection: &mut Connection, position: i64, level: i32) -> io::Result<()> {
    let ext = [("offset", position.to_string()), ("group", GROUP.to_owned()), ("delayLevel", level.to_string())];
    let reply = connection.call(wire::SEND_BACK, &ext, &[])?;
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    Ok(())
}

fn commit(connection: &mut Connection, offset: usize) -> io::Result<()> {
    let ext = [
        ("consumerGroup", GROUP.to_owned()),
        ("topic", TOPIC.to_owned()),
        ("queueId", "0".to_owned()),
        ("commitOffset", offset.to_string()),
    ];
    let reply = connection.call(UPDATE_CONSUMER_OFFSET, &ext, &[])?;
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    Ok(())
}

fn committed(connection: &mut Connection) -> i64 {
    let ext = [("consumerGroup", GROUP.to_owned()), ("topic", TOPIC.to_owned()), ("queueId", "0".to_owned())];
    let reply = connection.call(wire::QUERY_CONSUMER_OFFSET, &ext, &[]).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    reply.header.number("offset")
}

/// Sends one after the other back and commits behind it, until the broker is gone.
fn work(connection: &mut Connection, names: &[String], positions: &[i64], level: i32) -> Vec<Back> {
    let of = |name: &String| Back { name: name.clone(), asked: false, taken: false, committed: false };
    let mut all: Vec<Back> = names.iter().map(of).collect();
    for (at, (back, position)) in all.iter_mut().zip(positions).enumerate() {
        back.asked = true;
        back.taken = send_back(connection, *position, level).is_ok();
        back.committed = back.taken && commit(connection, at + 1).is_ok();
        if !back.committed {
            break;
        }
    }
    all
}

const STEPS: &[At] = &[
    At("send_back_asked", 1),
    At("send_back_asked", 3),
    At("put_appended:SCHEDULE_TOPIC_XXXX", 1),
    At("put_appended:SCHEDULE_TOPIC_XXXX", 3),
    At("put_written:SCHEDULE_TOPIC_XXXX", 1),
    At("put_written:SCHEDULE_TOPIC_XXXX", 3),
    At("send_back_answered", 1),
    At("send_back_answered", 3),
    At("offset_updated", 1),
    At("offset_updated", 3),
    At("level_due", 1),
    At("put_appended:%RETRY%steps_group", 1),
    At("put_appended:%RETRY%steps_group", 3),
    At("put_written:%RETRY%steps_group", 1),
    At("put_written:%RETRY%steps_group", 3),
    At("level_noted", 1),
    At("file_written:consumerOffset.json", 1),
    At("file_renamed:consumerOffset.json", 1),
    At("file_renamed:consumerOffset.json", 2),
];

#[test]
fn a_message_that_is_sent_back_survives_a_kill_at_each_step() {
    each(STEPS, |at| {
        let saves = if at.0.starts_with("file_") { "300" } else { NEVER };
        let properties = [("messageDelayLevel", "1s 2s"), ("flushConsumerOffsetInterval", saves)];
        let mut victim = Victim::start(at, 2, &properties);
        let mut connection = victim.connect();
        let names = names("back", MESSAGES);
        let positions = originals(&mut connection, &names);
        let last = originals(&mut connection, &["last".to_owned()]);
        let backs = work(&mut connection, &names, &positions, 1);
        victim.bury();
        let progress: i64 = victim.saved_offsets(KEPT, KEEPER).values().sum();
        let saved = victim.saved_offsets(TOPIC, GROUP).get(&0).copied().unwrap_or(0);
        victim.restart();
        let mut connection = victim.connect();
        // Commits since the last save are taken back: their messages come again, as RocketMQ's do.
        assert_eq!(committed(&mut connection), saved);
        assert!(saved <= i64::try_from(backs.iter().filter(|back| back.taken).count()).unwrap());
        send_back(&mut connection, last[0], 1).unwrap();
        let found = victim.wait_for(RETRY, "last");
        assert!(found.iter().all(|record| record.reconsume_times == 1));
        let released = Released::of(&found, victim.died_ms);
        let written = at.is(&["put_written:SCHEDULE_TOPIC_XXXX", "send_back_answered"]);
        for (offset, back) in (0..).zip(&backs) {
            if back.taken || (back.asked && written) {
                released.holds(&back.name, offset < progress);
            } else {
                released.never(&back.name);
            }
        }
        match at {
            At("send_back_asked" | "put_appended:SCHEDULE_TOPIC_XXXX" | "send_back_answered", nth)
            | At("put_written:SCHEDULE_TOPIC_XXXX", nth) => {
                assert_eq!(backs.iter().filter(|back| back.taken).count(), nth - 1);
            }
            At("offset_updated", nth) => assert_eq!(backs.iter().filter(|back| back.committed).count(), nth - 1),
            At("level_due" | "put_appended:%RETRY%steps_group", 1) => assert_eq!(released.early(), 0),
            At("put_appended:%RETRY%steps_group", nth) => assert!(released.early() < nth),
            At("put_written:%RETRY%steps_group" | "level_noted", nth) => assert!(released.early() >= nth),
            At("file_renamed:consumerOffset.json", 1) => assert!(saved > 0, "the commits are what is saved first"),
            At(..) => {}
        }
        // The originals are where they were.
        let originals = count(&victim.all(TOPIC));
        assert!(names.iter().all(|name| originals[name] == 1), "{originals:?}");
    });
}

const DEAD_STEPS: &[At] = &[
    At("send_back_asked", 2),
    At("put_appended:%DLQ%steps_group", 1),
    At("put_appended:%DLQ%steps_group", 3),
    At("put_written:%DLQ%steps_group", 1),
    At("put_written:%DLQ%steps_group", 3),
    At("send_back_answered", 2),
];

#[test]
fn a_dead_letter_survives_a_kill_at_each_step() {
    each(DEAD_STEPS, |at| {
        let mut victim = Victim::start(at, 2, &[("flushConsumerOffsetInterval", NEVER)]);
        let mut connection = victim.connect();
        let names = names("dead", MESSAGES);
        let positions = originals(&mut connection, &names);
        let backs = work(&mut connection, &names, &positions, -1);
        victim.bury();
        victim.restart();
        let letters = count(&victim.all(DEAD));
        let written = at.is(&["put_written:%DLQ%steps_group", "send_back_answered"]);
        for back in &backs {
            let expected = usize::from(back.taken || (back.asked && written));
            assert_eq!(letters.get(&back.name).copied().unwrap_or(0), expected, "{back:?}");
        }
        assert_eq!(backs.iter().filter(|back| back.taken).count(), at.1 - 1);
    });
}
