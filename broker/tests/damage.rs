//! Bytes of the log that change on the disk: whoever would store such a message anew says that it is damaged, instead of
//! giving it a checksum that fits, and the messages beside it go their way.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ringmq_broker::settings::Settings;
use ringmq_engine::FlushPolicy;
use ringmq_protocol::command::Command;

use support::{Client, number, run, settings};

const END_TRANSACTION: i32 = 37;
const SEND_BACK: i32 = 36;
const UPDATE_CONSUMER_OFFSET: i32 = 15;
const GET_CONSUME_STATS: i32 = 208;
const RESET_OFFSET: i32 = 222;
const SYSTEM_ERROR: i32 = 1;
const PULL_OFFSET_MOVED: i32 = 21;
/// From a record's queue offset to its body, in the form with a topic of one length byte: the offset in the log, the flags,
/// the times and hosts, the tries, the prepared offset and the body's length.
const QUEUE_OFFSET_TO_BODY: u64 = 68;

fn one_shard(store: &Path) -> Settings {
    Settings { log_shards: Some(1), ..settings(store, 1, FlushPolicy::Sync) }
}

fn send(client: &mut Client, queue: i32, sys_flag: i32, more: &str, body: &str) -> Command {
    let properties = format!("UNIQ_KEY\u{1}{body}\u{2}{more}");
    let answer = client.publish_with("orders", queue, sys_flag, &properties, body.as_bytes());
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

/// Changes one byte of the log of a broker that is stopped, so many bytes in front of where these letters are a body.
fn damage(store: &Path, body: &str, in_front: u64) {
    let mut found = Vec::new();
    let mut folders = vec![store.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                // The body stands in front of the key of the same letters.
                let at = bytes.windows(body.len()).position(|window| window == body.as_bytes());
                found.extend(at.map(|at| (path, at)));
            }
        }
    }
    let [(path, at)] = &found[..] else { panic!("{body} is found in {found:?}") };
    let at = u64::try_from(*at).unwrap() - in_front;
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    file.sync_all().unwrap();
}

/// Where a message was stored, as its sender was told.
fn position(answer: &Command) -> String {
    i64::from_str_radix(&answer.ext("msgId").unwrap()[16..], 16).unwrap().to_string()
}

/// Commits the half that was stored with this answer.
fn commit(client: &mut Client, half: &Command) -> Command {
    let (offset, at) = (number(half, "queueOffset").to_string(), position(half));
    let end = [
        ("producerGroup", "producers"),
        ("tranStateTableOffset", offset.as_str()),
        ("commitLogOffset", at.as_str()),
        ("commitOrRollback", "8"),
        ("fromTransactionCheck", "false"),
        ("msgId", "half"),
        ("transactionId", "half"),
    ];
    client.call(END_TRANSACTION, &end, &[]).0
}

/// The next body of queue 0, which must be this one.
fn expect_next(client: &mut Client, at: &mut i64, body: &str) {
    loop {
        let (answer, bodies) = client.pull("orders", 0, *at, 5000, "*");
        let Some(first) = bodies.first() else {
            assert!([0, 19].contains(&answer.code), "{answer:?}");
            continue;
        };
        assert_eq!(String::from_utf8_lossy(first), body);
        *at += 1;
        return;
    }
}

#[test]
fn a_damaged_message_that_comes_later_is_counted_and_holds_up_no_other() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(one_shard(dir.path()));
    let mut client = Client::new(running.addr);
    for (name, delay) in [("timer-damaged", "TIMER_DELAY_MS\u{1}4000"), ("timer-sound", "TIMER_DELAY_MS\u{1}4100")] {
        send(&mut client, 0, 0, delay, name);
    }
    for name in ["level-before", "level-body", "level-between", "level-head", "level-behind"] {
        send(&mut client, 0, 0, "DELAY\u{1}2", name);
    }
    running.stop();
    damage(dir.path(), "timer-damaged", 0);
    damage(dir.path(), "level-body", 0);
    damage(dir.path(), "level-head", QUEUE_OFFSET_TO_BODY);
    let running = run(one_shard(dir.path()));
    let mut client = Client::new(running.addr);
    let mut at = 0;
    for name in ["timer-sound", "level-before", "level-between", "level-behind"] {
        expect_next(&mut client, &mut at, name);
    }
    assert_eq!(client.runtime_info()["ringmqDroppedDelayed"], "3");
    running.stop();
}

#[test]
fn a_damaged_message_is_neither_committed_nor_sent_back() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(one_shard(dir.path()));
    let mut client = Client::new(running.addr);
    let half = send(&mut client, 0, 4, "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}producers", "half");
    let plain = send(&mut client, 1, 0, "", "plain");
    running.stop();
    damage(dir.path(), "half", 0);
    damage(dir.path(), "plain", 0);
    let running = run(one_shard(dir.path()));
    let mut client = Client::new(running.addr);
    let answer = commit(&mut client, &half);
    assert_eq!(answer.code, SYSTEM_ERROR, "{answer:?}");
    assert_eq!(answer.remark.as_deref(), Some("the body of a record does not match its checksum"));
    let at = position(&plain);
    let back = [
        ("offset", at.as_str()),
        ("group", "consumers"),
        ("delayLevel", "0"),
        ("originMsgId", ""),
        ("originTopic", "orders"),
        ("unitMode", "false"),
        ("maxReconsumeTimes", "16"),
    ];
    let (answer, _) = client.call(SEND_BACK, &back, &[]);
    assert_eq!(answer.code, SYSTEM_ERROR, "{answer:?}");
    assert_eq!(answer.remark.as_deref(), Some("the body of a record does not match its checksum"));
    let (_, bodies) = client.pull("orders", 0, 0, 0, "*");
    assert_eq!(bodies, Vec::<Vec<u8>>::new());
    running.stop();
}

#[test]
fn a_start_goes_on_past_a_damaged_half() {
    const HALF: &str = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}producers";
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(one_shard(dir.path()));
    let mut client = Client::new(running.addr);
    let sent = ["half-before", "half-damaged", "half-behind"].map(|name| send(&mut client, 0, 4, HALF, name));
    running.stop();
    damage(dir.path(), "half-damaged", QUEUE_OFFSET_TO_BODY);
    let running = run(one_shard(dir.path()));
    let mut client = Client::new(running.addr);
    assert_eq!(client.runtime_info()["ringmqHalvesOpen"], "3", "what cannot be read is open");
    let codes = sent.each_ref().map(|half| commit(&mut client, half).code);
    assert_eq!(codes, [0, SYSTEM_ERROR, 0]);
    let mut at = 0;
    for name in ["half-before", "half-behind"] {
        expect_next(&mut client, &mut at, name);
    }
    assert_eq!(client.runtime_info()["ringmqHalvesOpen"], "1");
    running.stop();
}

#[test]
fn a_group_is_moved_past_a_damaged_message() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(one_shard(dir.path()));
    let mut client = Client::new(running.addr);
    for name in ["in front", "unreadable", "behind"] {
        send(&mut client, 0, 0, "", name);
    }
    running.stop();
    damage(dir.path(), "unreadable", QUEUE_OFFSET_TO_BODY);
    let running = run(one_shard(dir.path()));
    let mut client = Client::new(running.addr);
    assert_eq!(client.pull("orders", 0, 0, 0, "*").1, [b"in front"]);
    assert_eq!(client.pull("orders", 0, 1, 0, "*").0.code, SYSTEM_ERROR);
    // Tools are not kept from the queue: this asks for the time of the damaged message, a search begins at it.
    let of_group = [("consumerGroup", "consumers"), ("topic", "orders")];
    let commit = [&of_group[..], &[("queueId", "0"), ("commitOffset", "2")]].concat();
    assert_eq!(client.call(UPDATE_CONSUMER_OFFSET, &commit, &[]).0.code, 0);
    let (answer, _) = client.call(GET_CONSUME_STATS, &of_group, &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let reset = [("group", "consumers"), ("topic", "orders"), ("isForce", "true"), ("timestamp", "0")];
    let (answer, _) = client.call(RESET_OFFSET, &reset, &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let (answer, _) = client.call(RESET_OFFSET, &[&reset[..], &[("queueId", "0"), ("offset", "2")]].concat(), &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let (answer, _) = client.pull("orders", 0, 1, 0, "*");
    assert_eq!((answer.code, number(&answer, "nextBeginOffset")), (PULL_OFFSET_MOVED, 2), "{answer:?}");
    assert_eq!(client.pull("orders", 0, 2, 0, "*").1, [b"behind"]);
    running.stop();
}
