//! `kill -9` under load, again and again on one store.
//!
//! Under SYNC_FLUSH every acknowledged message is there once, where the broker said, in order within its queue, and
//! none is there that nobody sent. Under ASYNC_FLUSH a kill may cost the newest acknowledgements of a queue, never one
//! that a consumer has seen: no offset that a consumer saw becomes another message.
//!
//! `RINGMQ_CRASH_ROUNDS` sets the number of rounds (20 in CI, 3 elsewhere), `RINGMQ_CRASH_SEED` repeats a run's times.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

#[path = "crash/load.rs"]
mod load;
#[path = "crash/oracle.rs"]
mod oracle;

use std::thread;
use std::time::Duration;

use load::Load;
use oracle::{Oracle, QUEUES, TOPIC};
use support::dice::Dice;
use support::server::{Cluster, Flush, Make, Settings, timed, wide_segments};
use support::turn;

fn rounds() -> u32 {
    let default = if support::in_ci() { 20 } else { 3 };
    std::env::var("RINGMQ_CRASH_ROUNDS").map_or(default, |text| text.parse().unwrap())
}

/// Segments of a MiB that are dropped as soon as they are full, and become the next ones.
fn dropping() -> Vec<(&'static str, String)> {
    let hours: Vec<String> = (0..24).map(|hour| hour.to_string()).collect();
    let keys = [
        ("mappedFileSizeCommitLog", "1048576"),
        ("maxMessageSize", "65536"),
        ("fileReservedTime", "0"),
        ("cleanResourceInterval", "100"),
        ("deleteCommitLogFilesInterval", "10"),
    ];
    let keys = keys.into_iter().map(|(key, value)| (key, value.to_owned()));
    keys.chain([("deleteWhen", hours.join(";"))]).collect()
}

fn run(flush: Flush, drops: bool) {
    if let Make::Apache(_) = Make::under_test()
        && let Some(reason) = support::java::missing()
    {
        return support::skip(&reason);
    }
    // Two runs would slow each other down, and a kill in the middle of nothing proves nothing.
    let _alone = turn::alone();
    let mut dice = Dice::from_variable("RINGMQ_CRASH_SEED");
    let properties = if drops { dropping() } else { vec![wide_segments()] };
    let mut cluster = Cluster::start(Settings { flush, properties, ..Settings::default() });
    cluster.broker.create_topic(TOPIC, u32::try_from(QUEUES).unwrap());
    let mut oracle = if drops { Oracle::of_drops() } else { Oracle::default() };
    let mut dropped = 0;
    let rounds = rounds();
    for round in 0..rounds {
        let load = Load::start(&cluster.broker.address, round, &oracle);
        load.wait_for_acknowledgements(if drops { 4_000 } else { 200 });
        thread::sleep(Duration::from_millis(dice.below(400)));
        cluster.broker.kill();
        oracle.learn(load.end());
        let ((), start) = timed(|| cluster.broker.restart());
        let whole = round % 10 == 9 || round + 1 == rounds;
        let mut connection = cluster.broker.connect();
        let kept = oracle.check(&mut connection, flush, whole);
        println!("round {round}: {kept}, started in {start:?}");
        dropped = kept.dropped;
    }
    assert_eq!(dropped > 0, drops, "{dropped} messages were dropped");
}

#[test]
fn sync_flush_keeps_every_acknowledged_message() {
    run(Flush::Sync, false);
}

#[test]
fn async_flush_keeps_everything_that_a_consumer_saw() {
    run(Flush::Async, false);
}

#[test]
fn sync_flush_keeps_what_retention_left() {
    run(Flush::Sync, true);
}

#[test]
fn async_flush_keeps_what_a_consumer_saw_and_retention_left() {
    run(Flush::Async, true);
}
