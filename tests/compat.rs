//! Apache's unmodified Java clients, 4.9.8 and 5.3.3, against a running server.
//!
//! Every scenario runs once for each client version. They need `java` and `mvn`; without them a test says so and
//! passes, but fails where `CI` is set. `RINGMQ_TEST_SERVER=apache-5.3.3` holds the scenarios themselves against
//! Apache's server.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

#[path = "compat/admin.rs"]
mod admin;
#[path = "compat/busy.rs"]
mod busy;
#[path = "compat/calls.rs"]
mod calls;
#[path = "compat/consume.rs"]
mod consume;
#[path = "compat/filter.rs"]
mod filter;
#[path = "compat/groups.rs"]
mod groups;
#[path = "compat/later.rs"]
mod later;
#[path = "compat/locks.rs"]
mod locks;
#[path = "compat/mixed.rs"]
mod mixed;
#[path = "compat/offsets.rs"]
mod offsets;
#[path = "compat/produce.rs"]
mod produce;
#[path = "compat/query.rs"]
mod query;
#[path = "compat/retention.rs"]
mod retention;

use std::collections::BTreeMap;

use serde_json::Value;
use support::turn::Turn;

/// Runs a scenario as one test for each client version, together with others unless it is listed behind `; alone`.
macro_rules! for_each_client {
    ($($name:ident)* $(; alone $($single:ident)*)?) => {
        mod client_4_9_8 {
            crate::tests_with! { "4.9.8" together $($name)* }
            $(crate::tests_with! { "4.9.8" alone $($single)* })?
        }
        mod client_5_3_3 {
            crate::tests_with! { "5.3.3" together $($name)* }
            $(crate::tests_with! { "5.3.3" alone $($single)* })?
        }
    };
}
pub(crate) use for_each_client;

macro_rules! tests_with {
    ($version:literal $turn:ident $($name:ident)*) => {
        $(#[test]
        fn $name() {
            crate::with_client($version, crate::support::turn::$turn, super::$name);
        })*
    };
}
pub(crate) use tests_with;

fn with_client(version: &'static str, turn: fn() -> Turn, scenario: fn(&'static str)) {
    if let Some(reason) = support::java::missing() {
        return support::skip(&reason);
    }
    let _turn = turn();
    scenario(version);
}

/// The members of a driver's line that a test compares.
fn text<'a>(line: &'a Value, member: &str) -> &'a str {
    line[member].as_str().unwrap_or_else(|| panic!("no {member} in {line}"))
}

fn number(line: &Value, member: &str) -> i64 {
    line[member].as_i64().unwrap_or_else(|| panic!("no {member} in {line}"))
}

/// What a message is known by on both sides: its name, its whole body, where it is.
fn identity(line: &Value) -> (String, String, i64, i64) {
    (
        text(line, "name").to_owned(),
        text(line, "sha256").to_owned(),
        number(line, "queueId"),
        number(line, "queueOffset"),
    )
}

/// Holds what was received against what was sent: the same messages, each once, where the broker said they are.
fn assert_same_messages(sent: &[Value], received: &[Value]) {
    let mut expected: Vec<_> = sent.iter().map(identity).collect();
    let mut found: Vec<_> = received.iter().map(identity).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

/// Those of the sent messages that are safe, most of them. One for which the disk took longer than `syncFlushTimeout` is answered
/// FLUSH_DISK_TIMEOUT, and a kill may take it back.
fn acknowledged(sent: Vec<Value>) -> Vec<Value> {
    let all = sent.len();
    let safe: Vec<Value> = sent.into_iter().filter(|line| line["status"] == "SEND_OK").collect();
    assert!(safe.len() * 2 > all, "{} of {all} are acknowledged", safe.len());
    safe
}

/// The names of the messages, sorted; doubles stay.
fn names(lines: &[Value]) -> Vec<String> {
    let mut names: Vec<_> = lines.iter().map(|line| text(line, "name").to_owned()).collect();
    names.sort();
    names
}

/// Queue offsets run from zero without a gap in each queue, whatever the order of arrival.
fn assert_dense(received: &[Value]) {
    let mut queues: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for line in received {
        queues.entry(number(line, "queueId")).or_default().push(number(line, "queueOffset"));
    }
    for (queue, mut offsets) in queues {
        offsets.sort_unstable();
        let dense: Vec<i64> = (0..).take(offsets.len()).collect();
        assert_eq!(offsets, dense, "queue {queue}");
    }
}
