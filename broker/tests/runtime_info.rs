//! What a broker says of itself is what was done to it, over all of its shards.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::collections::BTreeMap;

use ringmq_engine::FlushPolicy;

use support::{Client, run, settings};

fn number(table: &BTreeMap<String, String>, key: &str) -> u64 {
    table.get(key).unwrap_or_else(|| panic!("no {key} in {table:?}")).parse().unwrap()
}

/// The messages that a histogram of sizes stands for, at least and at most.
fn span(table: &BTreeMap<String, String>, key: &str) -> (u64, u64) {
    let counts: Vec<u64> = table[key].split(',').map(|count| count.parse().unwrap()).collect();
    let sum = |size: fn(u32) -> u64| counts.iter().zip(0..).map(|(count, power)| count * size(power)).sum();
    (sum(|power| 1 << power), sum(|power| (2 << power) - 1))
}

#[test]
fn counts_are_those_of_what_was_done() {
    for executors in [1, 2] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let running = run(settings(dir.path(), executors, FlushPolicy::Sync));
        let mut client = Client::new(running.addr);
        let before = client.runtime_info();
        assert_eq!(number(&before, "putMessageTimesTotal"), 0);
        assert!(!before.contains_key("earliestMessageTimeStamp"), "{before:?}");
        for i in 0..40 {
            assert_eq!(client.publish("counted", i % 4, "a", &[7; 100]).code, 0);
        }
        assert_eq!(client.publish("counted", 0, "a", &[]).code, 13, "a message needs a body");
        for queue in 0..4 {
            let (answer, bodies) = client.pull("counted", queue, 0, 0, "*");
            assert_eq!((answer.code, bodies.len()), (0, 10), "{answer:?}");
        }
        assert_eq!(client.pull("counted", 0, 10, 0, "*").0.code, 19, "there is no more");

        let after = client.runtime_info();
        let expected = [
            ("putMessageTimesTotal", 40),
            ("msgPutTotalTodayNow", 40),
            ("msgGetTotalTodayNow", 40),
            ("putMessageFailedTimes", 1),
            ("sendThreadPoolQueueSize", 0),
            ("ringmqWrites", 40),
            ("ringmqFlushes", 40),
        ];
        for (key, value) in expected {
            assert_eq!(number(&after, key), value, "{key}, {executors} executors");
        }
        // Each was sent once the one before was safe.
        assert_eq!(span(&after, "ringmqFlushSizes"), (40, 40), "{}", after["ringmqFlushSizes"]);
        assert_eq!(after["ringmqWriteSizes"], after["ringmqFlushSizes"]);
        assert_eq!(number(&after, "ringmqFlushedBytes"), 40 * 4096, "a batch fills its block");
        let each = number(&after, "putMessageSizeTotal") as f64 / 40.0;
        assert_eq!(after["putMessageAverageSize"], format!("{each:?}"));
        assert!(number(&after, "earliestMessageTimeStamp") >= number(&after, "bootTimestamp"), "{after:?}");
        assert_eq!(after["remainHowManyDataToFlush"], "0 B");
        assert!(number(&after, "commitLogMaxOffset") > number(&after, "commitLogMinOffset"));
        running.stop();
    }
}
