//! What Apache's own brokers answer, and RingMQ held to it.
//!
//! A scenario drives a broker of its own with one version of the Java client and with raw requests, and yields an
//! ordered list of observations. `RINGMQ_GOLDEN=record RINGMQ_TEST_SERVER=apache-4.9.7` writes what Apache's broker
//! shows to `tests/fixtures/golden`; without `record` that broker must show the same again. RingMQ must show it too,
//! apart from what `differences.toml` names there.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

#[path = "golden/begin.rs"]
mod begin;
#[path = "golden/broadcast.rs"]
mod broadcast;
#[path = "golden/busy.rs"]
mod busy;
#[path = "golden/checks.rs"]
mod checks;
#[path = "golden/compare.rs"]
mod compare;
#[path = "golden/delay.rs"]
mod delay;
#[path = "golden/deleted.rs"]
mod deleted;
#[path = "golden/groups.rs"]
mod groups;
#[path = "golden/members.rs"]
mod members;
#[path = "golden/moved.rs"]
mod moved;
#[path = "golden/names.rs"]
mod names;
#[path = "golden/pullers.rs"]
mod pullers;
#[path = "golden/pulls.rs"]
mod pulls;
#[path = "golden/queries.rs"]
mod queries;
#[path = "golden/requests.rs"]
mod requests;
#[path = "golden/retention.rs"]
mod retention;
#[path = "golden/retry.rs"]
mod retry;
#[path = "golden/scene.rs"]
mod scene;
#[path = "golden/sends.rs"]
mod sends;
#[path = "golden/strategies.rs"]
mod strategies;
#[path = "golden/tokens.rs"]
mod tokens;
#[path = "golden/traces.rs"]
mod traces;
#[path = "golden/transaction.rs"]
mod transaction;

use std::collections::BTreeSet;

use scene::{Scene, Setup};
use support::server::Make;
use support::turn;

/// A client's version, and the version of Apache's broker that it is recorded with.
const PAIRS: [(&str, &str); 2] = [("4.9.8", "4.9.7"), ("5.3.3", "5.3.3")];

/// Scenarios at a time: what was recorded holds for a client that sends several messages within a second.
const AT_A_TIME: usize = 2;

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

/// A scenario gives a scene, or none if it says what is missing to play it here.
fn play<S: Into<Option<Scene>>>(name: &str, client: &'static str, scenario: fn(Setup) -> S) {
    if let Some(reason) = support::java::missing() {
        return support::skip(&reason);
    }
    let (_, server) = PAIRS.into_iter().find(|(one, _)| *one == client).unwrap();
    let make = Make::under_test();
    if matches!(make, Make::Apache(version) if version != server) {
        eprintln!("skipped: {name} with {client} is recorded with Apache's {server}");
        return;
    }
    let _turn = turn::among(AT_A_TIME);
    let golden = compare::Golden { server, client, scenario: name };
    let Some(scene) = scenario(Setup { client }).into() else { return };
    let seen = scene.end();
    match make {
        Make::Apache(_) if compare::recording() => golden.record(&seen),
        Make::Apache(_) => golden.hold(&seen, &[]),
        Make::Ours => golden.hold(&seen, &compare::differences()),
    }
}

#[test]
fn what_is_named_exists() {
    let recorded = compare::scenarios();
    for difference in compare::differences() {
        let scenario = &difference.scenario;
        assert!(
            scenario == "*" || recorded.contains(scenario),
            "differences.toml names {scenario}, which is not recorded"
        );
        assert!(difference.is_named(), "differences.toml does not say where: {}", difference.what);
    }
}

#[test]
fn the_differences_are_documented() {
    let known: BTreeSet<(String, String)> =
        compare::differences().into_iter().map(|known| (known.what, known.why)).collect();
    assert_eq!(compare::documented(), known, "docs/COMPATIBILITY.md and differences.toml say the same");
}
