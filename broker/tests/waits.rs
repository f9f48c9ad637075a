//! Clients that ask and do not read, or that change their minds while they wait.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::io::Write as _;
use std::path::Path;

use ringmq_broker::settings::Settings;
use ringmq_engine::FlushPolicy;
use ringmq_protocol::command::Command;
use ringmq_protocol::frame::{FRAME_MAX, Serialize};

use support::{Client, number, run, settings};

const PULL: i32 = 11;
const QUERY: i32 = 12;
const GET_BROKER_CONFIG: i32 = 26;
const HEART_BEAT: i32 = 34;
const SYSTEM_ERROR: i32 = 1;
const RETRY_IMMEDIATELY: i32 = 20;
const FLOW_CONTROL: i32 = 215;

fn one_shard(store: &Path) -> Settings {
    Settings { log_shards: Some(1), ..settings(store, 1, FlushPolicy::Sync) }
}

/// Asks the same thing so often, all at once, and reads the answers only then: how many are there, and how many were put off.
fn ask_at_once(client: &mut Client, times: usize, code: i32, ext: &[(&str, &str)], len: usize) -> (usize, usize) {
    let mut command = Command::request(code, 7);
    command.ext = ext.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut out = Vec::new();
    command.encode_frame(Serialize::Json, &[], &mut out).unwrap();
    client.0.write_all(&out.repeat(times)).unwrap();
    let (mut whole, mut later) = (0, 0);
    for _ in 0..times {
        match client.answer() {
            (answer, body) if answer.code == 0 => {
                assert!(body.len() >= len, "{} bytes", body.len());
                whole += 1;
            }
            (answer, body) => {
                assert_eq!((answer.code, body.len()), (FLOW_CONTROL, 0), "{answer:?}");
                later += 1;
            }
        }
    }
    (whole, later)
}

#[test]
fn long_answers_that_nobody_reads_are_not_kept() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Four of them are as much as a connection may leave unread, and one receive buffer has many more requests.
    let running = run(Settings { properties: "x".repeat(8 << 20), ..one_shard(dir.path()) });
    let mut client = Client::new(running.addr);
    let (whole, later) = ask_at_once(&mut client, 100, GET_BROKER_CONFIG, &[], 8 << 20);
    assert!(whole > 0 && later > 25, "{whole} answers, {later} put off");
    // Whoever reads is served.
    assert_eq!(client.call(GET_BROKER_CONFIG, &[], &[]).0.code, 0);

    let body = vec![b'x'; 200 << 10];
    for _ in 0..16 {
        let answer = client.publish_with("orders", 0, 0, "KEYS\u{1}hot\u{2}WAIT\u{1}true\u{2}", &body);
        assert_eq!(answer.code, 0, "{answer:?}");
    }
    let ext = [
        ("topic", "orders"),
        ("key", "hot"),
        ("maxNum", "16"),
        ("beginTimestamp", "0"),
        ("endTimestamp", "9999999999999"),
    ];
    let (whole, later) = ask_at_once(&mut client, 200, QUERY, &ext, 16 * body.len());
    assert!(whole > 0 && later > 50, "{whole} answers, {later} put off");
    running.stop();
}

#[test]
fn an_answer_that_is_longer_than_a_frame_is_refused_in_words() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(Settings { properties: "x".repeat(FRAME_MAX), ..one_shard(dir.path()) });
    let mut client = Client::new(running.addr);
    let (answer, _) = client.call(GET_BROKER_CONFIG, &[], &[]);
    let remark = answer.remark.unwrap_or_default();
    assert!(answer.code == SYSTEM_ERROR && remark.contains("longer than the limit"), "{remark}");
    running.stop();
}

#[test]
fn a_retried_message_that_comes_after_a_change_is_not_measured_by_the_old_filter() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(Settings { filter_retried: true, notify_consumers: false, ..one_shard(dir.path()) });
    // On one connection requests are taken in order, and only the pull that waits is answered out of it.
    let mut client = Client::new(running.addr);
    let subscribe = |client: &mut Client, version: i32, expression: &str| {
        let body = format!(
            r#"{{"clientID":"a@1","producerDataSet":[],"consumerDataSet":[{{"groupName":"consumers","unitMode":false,
            "consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING",
            "subscriptionDataSet":[
            {{"topic":"orders","subString":"{expression}","expressionType":"SQL92","subVersion":{version}}},
            {{"topic":"%RETRY%consumers","subString":"*","subVersion":1}}]}}]}}"#
        );
        assert_eq!(client.call(HEART_BEAT, &[], body.as_bytes()).0.code, 0);
    };
    let retry = "%RETRY%consumers";
    let pull = |client: &mut Client, offset: i64, hold_ms: u64| {
        let mut ext = Client::pull_ext(retry, 0, offset, hold_ms, "*");
        // It relies on the heartbeat.
        ext.insert("sysFlag", if hold_ms > 0 { "2" } else { "0" }.to_owned());
        let ext: Vec<(&str, &str)> = ext.iter().map(|(k, v)| (*k, v.as_str())).collect();
        client.send(PULL, &ext, &[]);
    };
    let properties = |a: i32| format!("RETRY_TOPIC\u{1}orders\u{2}a\u{1}{a}\u{2}WAIT\u{1}true\u{2}");
    subscribe(&mut client, 1, "a = 1");
    pull(&mut client, 0, 15_000);
    let passed_over = client.publish_with(retry, 0, 0, &properties(3), b"passed over");
    assert!(passed_over.code == 0 && passed_over.ext("nextBeginOffset").is_none(), "{passed_over:?}");
    subscribe(&mut client, 2, "a = 2");
    let first = client.publish_with(retry, 0, 0, &properties(2), b"wanted");
    let second = client.answer().0;
    let pulled = [first, second].into_iter().find(|answer| answer.ext("nextBeginOffset").is_some()).unwrap();
    assert_eq!((pulled.code, number(&pulled, "nextBeginOffset")), (RETRY_IMMEDIATELY, 1), "{pulled:?}");
    pull(&mut client, 1, 0);
    let (answer, body) = client.answer();
    assert_eq!((answer.code, support::bodies(&body)), (0, vec![b"wanted".to_vec()]), "{answer:?}");
    running.stop();
}
