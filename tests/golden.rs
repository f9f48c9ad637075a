//! What Apache's own brokers answer, and RingMQ held to it.
//!
//! A scenario drives a broker of its own with one version of the Java client and with raw requests, and yields an
//! ordered list of observations. `RINGMQ_GOLDEN=record RINGMQ_TEST_SERVER=apache-4.9.7` writes what Apache's broker
//! shows to `tests/fixtures/golden`; without `record` that broker must show the same again. RingMQ must show it too,
//! apart from what `differences.toml` names there.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

#[path = "golden/compare.rs"]
mod compare;
#[path = "golden/delay.rs"]
mod delay;
#[path = "golden/retry.rs"]
mod retry;
#[path = "golden/scene.rs"]
mod scene;
#[path = "golden/tokens.rs"]
mod tokens;
#[path = "golden/transaction.rs"]
mod transaction;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use scene::{Scene, Setup};
use support::server::Make;

/// Scenarios that RingMQ does not pass yet, each for both versions. One that passes must leave this list.
const NOT_YET: &[&str] = &[];

/// A client's version, and the version of Apache's broker that it is recorded with.
const PAIRS: [(&str, &str); 2] = [("4.9.8", "4.9.7"), ("5.3.3", "5.3.3")];

/// How long a scenario waits for what has to happen: minutes for a cold JVM on a busy machine, and not long for what
/// is not expected to come.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_NOT_YET: Duration = Duration::from_secs(8);

/// Makes each scenario one test for each client version.
macro_rules! scenarios {
    ($($name:ident)*) => {
        mod client_4_9_8 {
            $(#[test]
            fn $name() {
                crate::play(stringify!($name), "4.9.8", super::$name);
            })*
        }
        mod client_5_3_3 {
            $(#[test]
            fn $name() {
                crate::play(stringify!($name), "5.3.3", super::$name);
            })*
        }
    };
}
pub(crate) use scenarios;

/// The same for what only 5.x knows.
macro_rules! scenarios_of_5 {
    ($($name:ident)*) => {
        mod only_client_5_3_3 {
            $(#[test]
            fn $name() {
                crate::play(stringify!($name), "5.3.3", super::$name);
            })*
        }
    };
}
pub(crate) use scenarios_of_5;

/// A scenario's JVMs and servers have the machine to themselves: what they wait for is bounded in seconds.
static ALONE: Mutex<()> = Mutex::new(());

fn play(name: &str, client: &'static str, scenario: fn(Setup) -> Scene) {
    if let Some(reason) = support::java::missing() {
        return support::skip(&reason);
    }
    let (_, server) = PAIRS.into_iter().find(|(one, _)| *one == client).unwrap();
    let make = Make::under_test();
    if matches!(make, Make::Apache(version) if version != server) {
        eprintln!("skipped: {name} with {client} is recorded with Apache's {server}");
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let golden = compare::Golden { server, client, scenario: name };
    let waits = make == Make::Ours && NOT_YET.contains(&name);
    let patience = if waits { PATIENCE_NOT_YET } else { PATIENCE };
    let run = || scenario(Setup { client, patience }).end();
    match make {
        Make::Apache(_) if compare::recording() => golden.record(&run()),
        Make::Apache(_) => golden.hold(&run(), &[]),
        Make::Ours if waits => {
            let passed = catch_unwind(AssertUnwindSafe(|| golden.hold(&run(), &compare::differences())));
            assert!(passed.is_err(), "{name} passes now: take it out of NOT_YET");
            eprintln!("skipped: RingMQ does not pass {name} yet");
        }
        Make::Ours => golden.hold(&run(), &compare::differences()),
    }
}
