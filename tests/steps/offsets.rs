//! Consumer offsets: a commit is acknowledged from memory and saved in a file at an interval. A kill takes back what was
//! not saved, so those messages come again; what was saved stays, at whatever step of the next save the kill comes.

use super::support::eventually;
use super::support::wire::{self, Connection};
use super::victim::{At, GROUP, NEVER, PATIENCE, TOPIC, Victim, each, names, send};

const UPDATE_CONSUMER_OFFSET: i32 = 15;
const MESSAGES: usize = 20;

fn ext(more: Option<i64>) -> Vec<(&'static str, String)> {
    let mut ext = vec![("consumerGroup", GROUP.to_owned()), ("topic", TOPIC.to_owned()), ("queueId", "0".to_owned())];
    ext.extend(more.map(|offset| ("commitOffset", offset.to_string())));
    ext
}

/// Whether the commit was acknowledged.
fn commit(connection: &mut Connection, offset: i64) -> bool {
    let Ok(reply) = connection.call(UPDATE_CONSUMER_OFFSET, &ext(Some(offset)), &[]) else { return false };
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    true
}

fn committed(victim: &Victim) -> i64 {
    let reply = victim.connect().call(wire::QUERY_CONSUMER_OFFSET, &ext(None), &[]).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    reply.header.number("offset")
}

/// A pull of everything from `from` on which says that the group has come so far: the offsets that it brings, if it is
/// answered.
fn pull(connection: &mut Connection, from: i64) -> Option<Vec<i64>> {
    let mut ext = wire::pull(TOPIC, 0, from, 32, 0);
    for (key, value) in &mut ext {
        match *key {
            "consumerGroup" => *value = GROUP.to_owned(),
            "commitOffset" => *value = from.to_string(),
            // With an offset to commit, and its own subscription.
            "sysFlag" => *value = "5".to_owned(),
            _ => {}
        }
    }
    let reply = connection.call(wire::PULL_MESSAGE, &ext, &[]).ok()?;
    assert!([0, 19].contains(&reply.header.code), "{:?}", reply.header);
    Some(wire::records(&reply.body).iter().map(|record| record.queue_offset).collect())
}

/// A broker with messages, and a group that has come to 5, which is saved by an orderly stop.
fn at_five(at: At, interval: &'static str) -> Victim {
    at_five_of(1, at, interval)
}

/// The same with so many log shards.
fn at_five_of(shards: u32, at: At, interval: &'static str) -> Victim {
    let mut victim = Victim::start(At("nothing", 1), shards, &[("flushConsumerOffsetInterval", interval)]);
    let mut connection = victim.connect();
    for name in names("read", MESSAGES) {
        send(&mut connection, &name, "").unwrap();
    }
    let group = serde_json::json!({ "groupName": GROUP, "consumeEnable": true });
    let reply = connection.call(wire::UPDATE_AND_CREATE_GROUP, &[], group.to_string().as_bytes()).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    assert!(commit(&mut connection, 5));
    victim.again(at);
    assert_eq!(committed(&victim), 5);
    victim
}

const FILE_STEPS: &[At] = &[
    At("file_written:consumerOffset.json", 1),
    At("file_written:consumerOffset.json", 2),
    At("file_bak_removed:consumerOffset.json", 1),
    At("file_bak_removed:consumerOffset.json", 2),
    At("file_bak_kept:consumerOffset.json", 1),
    At("file_bak_kept:consumerOffset.json", 2),
    At("file_renamed:consumerOffset.json", 1),
    At("file_renamed:consumerOffset.json", 2),
    At("file_flushed:consumerOffset.json", 1),
    At("file_flushed:consumerOffset.json", 2),
];

#[test]
fn a_saved_offset_survives_a_kill_at_each_step_of_the_next_save() {
    each(FILE_STEPS, |at| {
        let mut victim = at_five(at, "100");
        let mut connection = victim.connect();
        assert!(commit(&mut connection, 9));
        let mut expected = (5, 9);
        if at.1 == 2 {
            eventually("the first save", PATIENCE, || {
                (victim.saved_offsets(TOPIC, GROUP).get(&0) == Some(&9)).then_some(())
            });
            assert!(commit(&mut connection, 12));
            expected = (9, 12);
        }
        victim.bury();
        victim.restart();
        let (old, new) = expected;
        let is_new = at.0.starts_with("file_renamed") || at.0.starts_with("file_flushed");
        assert_eq!(committed(&victim), if is_new { new } else { old });
    });
}

const STEPS: &[At] = &[At("offset_updated", 1), At("offset_updated", 3), At("control_answered", 5)];

#[test]
fn a_kill_takes_back_no_more_commits_than_were_not_saved() {
    each(STEPS, |at| {
        let mut victim = at_five(at, NEVER);
        let mut connection = victim.connect();
        let acknowledged = (6..=20).take_while(|offset| commit(&mut connection, *offset)).count();
        assert!(acknowledged < 15, "it did not die of a commit");
        victim.bury();
        victim.restart();
        assert_eq!(committed(&victim), 5);
        // The store is whole: a group goes on, and is saved.
        assert!(commit(&mut victim.connect(), 7));
        victim.again(At("nothing", 1));
        assert_eq!(committed(&victim), 7);
    });
}

/// A broker to which every message is old, so that a client's policy would have it pass over what is in a new queue.
#[test]
fn a_group_begins_at_0_in_the_queues_that_its_topic_gets_even_after_a_kill() {
    const OLD: (&str, &str) = ("accessMessageInMemoryMaxRatio", "0");
    const NOT_FOUND: i32 = 22;
    let mut victim = Victim::start(At("nothing", 1), 2, &[("flushConsumerOffsetInterval", NEVER), OLD]);
    let mut connection = victim.connect();
    send(&mut connection, "read", "").unwrap();
    let group = serde_json::json!({ "groupName": GROUP, "consumeEnable": true });
    let reply = connection.call(wire::UPDATE_AND_CREATE_GROUP, &[], group.to_string().as_bytes()).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    assert!(commit(&mut connection, 1));
    let queues = |connection: &mut Connection, queues| {
        let reply = connection.call(wire::UPDATE_AND_CREATE_TOPIC, &wire::topic(TOPIC, queues), &[]).unwrap();
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    };
    let put = |connection: &mut Connection, queue| {
        let message = wire::Outgoing { topic: TOPIC, queue, properties: "", body: b"new" };
        let reply = connection.call(wire::SEND_MESSAGE_V2, &message.ext(), message.body).unwrap();
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    };
    queues(&mut connection, 3);
    put(&mut connection, 2);
    victim.cluster.broker.kill();
    victim.restart();
    let mut connection = victim.connect();
    let begins = |connection: &mut Connection, group: &str, queue: i32| {
        let of = [("consumerGroup", group.to_owned()), ("topic", TOPIC.to_owned()), ("queueId", queue.to_string())];
        let reply = connection.call(wire::QUERY_CONSUMER_OFFSET, &of, &[]).unwrap();
        (reply.header.code, (reply.header.code == 0).then(|| reply.header.number("offset")))
    };
    assert_eq!(begins(&mut connection, GROUP, 2), (0, Some(0)));
    assert_eq!(begins(&mut connection, "another", 2), (NOT_FOUND, None), "one that does not read the topic yet");
    // A queue that comes back with messages is not new to a group that has never been there.
    let other = serde_json::json!({ "groupName": "late", "consumeEnable": true });
    connection.call(wire::UPDATE_AND_CREATE_GROUP, &[], other.to_string().as_bytes()).unwrap();
    queues(&mut connection, 1);
    let at = [("consumerGroup", "late".to_owned()), ("topic", TOPIC.to_owned()), ("queueId", "0".to_owned())];
    let at: Vec<_> = at.into_iter().chain([("commitOffset", "1".to_owned())]).collect();
    connection.call(UPDATE_CONSUMER_OFFSET, &at, &[]).unwrap();
    queues(&mut connection, 4);
    assert_eq!(begins(&mut connection, "late", 1), (0, Some(0)));
    assert_eq!(begins(&mut connection, "late", 2), (NOT_FOUND, None));
    assert_eq!(begins(&mut connection, "late", 3), (0, Some(0)));
}

const RIDING: &[At] = &[
    At("offset_asked", 1),
    At("offset_asked", 3),
    At("offset_noted:steps_topic", 1),
    At("offset_noted:steps_topic", 3),
    At("pull_answered", 1),
    At("pull_answered", 5),
];

/// Commits that ride on pulls, with the queue, the connection and the tables on one core and on two.
#[test]
fn a_kill_takes_back_the_commits_that_rode_on_pulls_and_the_messages_come_again() {
    for shards in [1, 2] {
        each(RIDING, |at| {
            let mut victim = at_five_of(shards, at, NEVER);
            let mut connection = victim.connect();
            let end = i64::try_from(MESSAGES).unwrap();
            let answered = (6..=end).take_while(|offset| {
                let found = pull(&mut connection, *offset);
                found.is_some_and(|found| {
                    assert_eq!(found, (*offset..end).collect::<Vec<_>>());
                    true
                })
            });
            assert!(answered.count() < MESSAGES - 6, "it did not die of a pull");
            victim.bury();
            victim.restart();
            // What was saved is in force, and everything behind it comes again, once.
            assert_eq!(committed(&victim), 5);
            let mut connection = victim.connect();
            assert_eq!(pull(&mut connection, 5), Some((5..end).collect()));
            assert_eq!(pull(&mut connection, end), Some(Vec::new()));
            victim.again(At("nothing", 1));
            assert_eq!(committed(&victim), end, "what rode on a pull is saved");
        });
    }
}

/// The saves of what came with pulls: the file has the old offset or the new one, and no other.
const RIDING_SAVED: &[At] = &[
    At("file_written:consumerOffset.json", 1),
    At("file_bak_removed:consumerOffset.json", 1),
    At("file_bak_kept:consumerOffset.json", 1),
    At("file_renamed:consumerOffset.json", 1),
    At("file_flushed:consumerOffset.json", 1),
];

#[test]
fn a_commit_that_rode_on_a_pull_survives_a_kill_once_it_is_saved() {
    each(RIDING_SAVED, |at| {
        let mut victim = at_five(at, "100");
        // The kill may come before the answer.
        let found = pull(&mut victim.connect(), 9);
        assert!(found.is_none_or(|found| found.first() == Some(&9)));
        victim.bury();
        victim.restart();
        let is_new = at.0.starts_with("file_renamed") || at.0.starts_with("file_flushed");
        let saved = if is_new { 9 } else { 5 };
        assert_eq!(committed(&victim), saved);
        let end = i64::try_from(MESSAGES).unwrap();
        assert_eq!(pull(&mut victim.connect(), saved), Some((saved..end).collect()), "nothing behind it is lost");
    });
}
