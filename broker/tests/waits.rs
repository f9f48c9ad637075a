//! Clients that ask for too much.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::path::Path;

use ringmq_broker::settings::Settings;
use ringmq_engine::FlushPolicy;
use ringmq_protocol::frame::FRAME_MAX;

use support::{Client, run, settings};

const GET_BROKER_CONFIG: i32 = 26;
const SYSTEM_ERROR: i32 = 1;

fn one_shard(store: &Path) -> Settings {
    Settings { log_shards: Some(1), ..settings(store, 1, FlushPolicy::Sync) }
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
