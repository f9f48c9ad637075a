//! The progress of the broker's own readers, the delay levels' and the transactions': no client moves it, and one that lies
//! beyond its queue passes over nothing that comes later.

use super::halves::{COMMIT, HALF, UNASKED, end, place};
use super::support::clock::Shifted;
use super::support::server::lenient;
use super::support::wire;
use super::victim::{At, NEVER, TOPIC, Victim, count, send};

const LEVELS: (&str, &str) = ("CID_RMQ_SYS_SCHEDULE", "SCHEDULE_TOPIC_XXXX");
const HALVES: (&str, &str) = ("CID_RMQ_SYS_TRANS", "RMQ_SYS_TRANS_HALF_TOPIC");
const MARKS: (&str, &str) = ("CID_RMQ_SYS_TRANS", "RMQ_SYS_TRANS_OP_HALF_TOPIC");
const OWN: [(&str, &str); 3] = [LEVELS, HALVES, MARKS];
const UPDATE_CONSUMER_OFFSET: i32 = 15;
const DELETE_GROUP: i32 = 207;
const RESET_OFFSET: i32 = 222;
const CLONE_GROUP_OFFSET: i32 = 314;
const NO_PERMISSION: i32 = 16;
/// Half an hour.
const LEVEL_1: &str = "DELAY\u{1}1\u{2}";
const LEVEL_1_MS: i64 = 1_800_000;
const PROPERTIES: [(&str, &str); 2] = [("messageDelayLevel", "30m"), ("flushConsumerOffsetInterval", NEVER)];

fn of((group, topic): (&str, &str)) -> Vec<(&'static str, String)> {
    vec![("consumerGroup", group.to_owned()), ("topic", topic.to_owned()), ("queueId", "0".to_owned())]
}

/// Everything by which a client can set a group's offset in a topic; the code and the remark of each answer.
fn move_to(victim: &Victim, own: (&str, &str), offset: i64) -> Vec<(i32, Option<String>)> {
    let mut connection = victim.connect();
    let (group, topic) = own;
    let mut call = |code, ext: &[(&'static str, String)]| {
        let reply = connection.call(code, ext, &[]).unwrap().header;
        (reply.code, reply.remark)
    };
    let mut pull = wire::pull(topic, 0, 0, 1, 0);
    for (name, value) in &mut pull {
        match *name {
            "consumerGroup" => *value = group.to_owned(),
            "commitOffset" => *value = offset.to_string(),
            // With a commit and a subscription.
            "sysFlag" => *value = "5".to_owned(),
            _ => {}
        }
    }
    let (code, _) = call(wire::PULL_MESSAGE, &pull);
    assert!([0, 19].contains(&code), "{code}: a pull is served, whatever it commits");
    let update = [of(own), vec![("commitOffset", offset.to_string())]].concat();
    let reset = [
        ("topic", topic.to_owned()),
        ("group", group.to_owned()),
        ("timestamp", "-1".to_owned()),
        ("isForce", "true".to_owned()),
    ];
    let clone = [
        ("srcGroup", "ahead".to_owned()),
        ("destGroup", group.to_owned()),
        ("topic", topic.to_owned()),
        ("offline", "true".to_owned()),
    ];
    vec![call(UPDATE_CONSUMER_OFFSET, &update), call(RESET_OFFSET, &reset), call(CLONE_GROUP_OFFSET, &clone)]
}

/// What is owed comes: a delayed message when its time has come, and a half once it is committed.
fn holds(victim: &Victim, half: (i64, i64)) {
    end(&mut victim.connect(), half, COMMIT).unwrap();
    let came = count(&victim.wait_for(TOPIC, "delayed"));
    assert_eq!(came, [("delayed".to_owned(), 1), ("half".to_owned(), 1)].into());
}

/// Sends a message that comes later, and a half.
fn owe(victim: &Victim) -> (i64, i64) {
    let mut connection = victim.connect();
    send(&mut connection, "delayed", LEVEL_1).unwrap();
    place(&send(&mut connection, "half", &format!("{UNASKED}{HALF}")).unwrap())
}

fn start(clock: &Shifted) -> Victim {
    Victim::start_shifted(At("nothing", 1), &PROPERTIES, clock)
}

#[test]
fn no_client_moves_the_progress_of_the_brokers_own_readers() {
    let clock = Shifted::default();
    let mut victim = start(&clock);
    let half = owe(&victim);
    // A group that is ahead of them, to be cloned, and theirs as any other.
    for group in ["ahead", LEVELS.0] {
        let group = serde_json::json!({ "groupName": group, "consumeEnable": true });
        let reply = victim.connect().call(wire::UPDATE_AND_CREATE_GROUP, &[], group.to_string().as_bytes()).unwrap();
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    }
    for own in OWN {
        let (_, topic) = own;
        let ahead = [of(("ahead", topic)), vec![("commitOffset", "7".to_owned())]].concat();
        assert_eq!(victim.connect().call(UPDATE_CONSUMER_OFFSET, &ahead, &[]).unwrap().header.code, 0);
        for (code, remark) in move_to(&victim, own, 7) {
            assert_eq!(code, NO_PERMISSION, "{remark:?}");
            assert!(remark.unwrap().contains("the broker's own progress"));
        }
    }
    // An orderly stop saves all offsets that there are.
    victim.again(At("nothing", 1));
    for own in OWN {
        let (group, topic) = own;
        assert!(victim.saved_offsets(topic, "ahead") == [(0, 7)].into(), "others commit there as before");
        assert!(victim.saved_offsets(topic, group).values().all(|offset| *offset < 2), "{topic}");
    }
    clock.by(LEVEL_1_MS);
    holds(&victim, half);
    // Deleting the group with its offsets would have all of it come again.
    for group in [LEVELS.0, HALVES.0] {
        let ext = [("groupName", group.to_owned()), ("cleanOffset", "true".to_owned())];
        assert_eq!(victim.connect().call(DELETE_GROUP, &ext, &[]).unwrap().header.code, 0);
    }
    victim.again(At("nothing", 1));
    send(&mut victim.connect(), "later", LEVEL_1).unwrap();
    clock.by(2 * LEVEL_1_MS);
    assert_eq!(count(&victim.wait_for(TOPIC, "later"))["delayed"], 1);
}

#[test]
fn progress_beyond_the_end_of_a_queue_passes_over_nothing() {
    let clock = Shifted::default();
    let mut victim = start(&clock);
    victim.again(At("nothing", 1));
    assert!(victim.cluster.broker.terminate().success());
    // Of another store.
    let path = victim.cluster.broker.store().join("config/consumerOffset.json");
    let mut table = std::fs::read(&path).map_or_else(|_| serde_json::json!({ "offsetTable": {} }), |old| lenient(&old));
    for (group, topic) in OWN {
        table["offsetTable"][format!("{topic}@{group}")] = serde_json::json!({ "0": 1000 });
    }
    std::fs::write(&path, table.to_string()).unwrap();
    victim.restart();
    let half = owe(&victim);
    // Nothing was saved since it began to serve.
    victim.cluster.broker.kill();
    victim.restart();
    clock.by(LEVEL_1_MS);
    holds(&victim, half);
}
