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

#[test]
fn long_answers_that_nobody_reads_are_not_kept() {
    const TIMES: usize = 200;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(one_shard(dir.path()));
    let body = vec![b'x'; 200 << 10];
    let mut producer = Client::new(running.addr);
    for _ in 0..16 {
        let answer = producer.publish_with("orders", 0, 0, "KEYS\u{1}hot\u{2}WAIT\u{1}true\u{2}", &body);
        assert_eq!(answer.code, 0, "{answer:?}");
    }
    running.stop();
    // From here on they come from the disk, so that many are asked for before the first answer slows the connection.
    let running = run(one_shard(dir.path()));
    let mut command = Command::request(QUERY, 7);
    let ext = [
        ("topic", "orders"),
        ("key", "hot"),
        ("maxNum", "16"),
        ("beginTimestamp", "0"),
        ("endTimestamp", "9999999999999"),
    ];
    command.ext = ext.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut out = Vec::new();
    command.encode_frame(Serialize::Json, &[], &mut out).unwrap();
    let mut client = Client::new(running.addr);
    client.0.write_all(&out.repeat(TIMES)).unwrap();
    // Queries have their turns one after the other: what was read of the client's has had its turn behind these. Whoever reads
    // is served meanwhile.
    let mut other = Client::new(running.addr);
    for _ in 0..64 {
        let (answer, found) = other.call(QUERY, &ext, &[]);
        assert!(answer.code == 0 && found.len() >= 16 * body.len(), "{answer:?}, {} bytes", found.len());
    }
    let (mut whole, mut later) = (0, 0);
    for _ in 0..TIMES {
        match client.answer() {
            (answer, found) if answer.code == 0 => {
                assert!(found.len() >= 16 * body.len(), "{} bytes", found.len());
                whole += 1;
            }
            (answer, found) => {
                assert_eq!((answer.code, found.len()), (FLOW_CONTROL, 0), "{answer:?}");
                later += 1;
            }
        }
    }
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
