//! Bad input and bad neighbours: garbage, lies about lengths, forbidden sends, silent crowds, slow readers, a full disk.
//!
//! Each is answered by a clear refusal or a closed connection, costs bounded memory, and leaves a bystander who sends
//! and receives all the while undisturbed. Apache's servers do not keep all of that; a run against them shows what the
//! tests ask for, and only what both owe is held.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

#[path = "hostile/bystander.rs"]
mod bystander;
#[path = "hostile/crowds.rs"]
mod crowds;
#[path = "hostile/disk.rs"]
mod disk;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/halves.rs"]
mod halves;
#[path = "hostile/refusals.rs"]
mod refusals;

use support::server::{Cluster, Make, Settings};
// Memory is measured and delays are bounded, so the tests do not run side by side.
use support::turn::alone;

const MIB: u64 = 1 << 20;

/// Whether the server under test owes everything that is asked for here.
fn strict() -> bool {
    Make::under_test() == Make::Ours
}

/// A fresh server under test with the bystander's topic on it, or nothing where it cannot run here.
fn cluster(settings: Settings) -> Option<Cluster> {
    if let Make::Apache(_) = Make::under_test()
        && let Some(reason) = support::java::missing()
    {
        support::skip(&reason);
        return None;
    }
    let cluster = Cluster::start(settings);
    cluster.broker.create_topic(bystander::TOPIC, 1);
    Some(cluster)
}

/// Runs `attack` while a bystander goes about its business, and holds the server to what it owes both.
fn under(cluster: &Cluster, growth_max: u64, attack: impl FnOnce(&Cluster)) {
    let bystander = bystander::Bystander::start(&cluster.broker);
    bystander.has_done(50);
    let before = cluster.broker.process.resident();
    attack(cluster);
    let after = cluster.broker.process.resident();
    bystander.has_done(50);
    bystander.end();
    let growth = after.saturating_sub(before);
    println!("resident: {} MiB, grown by {} MiB", after / MIB, growth / MIB);
    if strict() {
        assert!(growth <= growth_max, "memory grew by {} MiB", growth / MIB);
    }
}
