use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::*;
use crate::encoded;

/// A run of `bench send`: `rounds` of it would be several files.
fn run_file(rate: f64, base_us: u64, per_second: u64, jitter: u64) -> Value {
    let mut random = Random(base_us + per_second);
    let intervals: Vec<Value> = (0..40)
        .map(|i| {
            let mut latency: Histogram<u32> = Histogram::new(3).unwrap();
            for _ in 0..2_000 {
                let us = base_us + random.below(20 + jitter as usize) as u64;
                latency.record(us * 1_000).unwrap();
            }
            let messages = per_second / 10 + random.below(20) as u64;
            json!({ "from_seconds": f64::from(i) / 10.0, "messages": messages, "histogram": encoded::encode(&latency).unwrap() })
        })
        .collect();
    json!({
        "schema": "ringmq-bench/1",
        "command": "send",
        "setup": { "connections": 4, "in_flight": 8, "header": "json", "more": { "size": 1024, "queues": 8, "rate": rate } },
        "findings": [],
        "measured_seconds": 4.0,
        "generator_lateness_us": if rate > 0.0 { json!({ "p99": 1.0 }) } else { Value::Null },
        "interval_seconds": 0.1,
        "intervals": intervals,
    })
}

fn compared(before: &Value, after: &Value, force: bool) -> Result<Comparison, String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, value.to_string()).unwrap();
        path
    };
    let args = CompareArgs {
        before: write("a.json", before),
        after: write("b.json", after),
        tolerance: 5.0,
        force,
        json: None,
    };
    compare(&args).map_err(|error| format!("{error:#}"))
}

fn verdicts(comparison: &Comparison) -> Vec<(&'static str, Verdict)> {
    comparison.lines.iter().map(|line| (line.figure, line.verdict)).collect()
}

#[test]
fn equal_runs_are_the_same_and_a_slower_one_is_worse() {
    let (base, other) = (run_file(2e4, 100, 20_000, 0), run_file(2e4, 101, 20_000, 0));
    let same = compared(&base, &other, false).unwrap();
    let latencies = ["p50 us", "p90 us", "p99 us"];
    assert_eq!(verdicts(&same), latencies.map(|name| (name, Verdict::Same)));
    assert!(same.sentence.starts_with("no worse"), "{}", same.sentence);
    let slower = compared(&base, &run_file(2e4, 130, 20_000, 0), false).unwrap();
    assert_eq!(verdicts(&slower), latencies.map(|name| (name, Verdict::Worse)));
    assert!(slower.sentence.starts_with("worse by more than 5%: send p50 us (1."), "{}", slower.sentence);
    let faster = compared(&run_file(2e4, 130, 20_000, 0), &base, false).unwrap();
    assert_eq!(verdicts(&faster), latencies.map(|name| (name, Verdict::Better)));
    let line = &faster.lines[0];
    assert!(line.ratio_low <= line.ratio && line.ratio <= line.ratio_high, "{line:?}");
}

#[test]
fn a_closed_loop_is_judged_by_its_throughput() {
    let (fast, slow) = (run_file(0.0, 100, 50_000, 0), run_file(0.0, 100, 40_000, 0));
    let verdict = |before, after| verdicts(&compared(before, after, false).unwrap())[0];
    assert_eq!(verdict(&fast, &slow), ("messages/s", Verdict::Worse));
    assert_eq!(verdict(&slow, &fast), ("messages/s", Verdict::Better));
    assert_eq!(verdict(&fast, &fast), ("messages/s", Verdict::Same));
}

#[test]
fn what_measured_something_else_is_not_compared() {
    let base = run_file(2e4, 100, 20_000, 0);
    let other = run_file(1e4, 100, 10_000, 0);
    let refused = compared(&base, &other, false).unwrap_err();
    assert!(refused.contains("rate is 20000.0 in A and 10000.0 in B"), "{refused}");
    assert_eq!(compared(&base, &other, true).unwrap().differences.len(), 1);
    let mut failed = base.clone();
    failed["findings"] = json!(["3 requests were never answered"]);
    assert!(compared(&base, &failed, false).unwrap_err().contains("3 requests were never answered"));
    let mut newer = base.clone();
    newer["schema"] = json!("ringmq-bench/9");
    assert!(compared(&base, &newer, false).unwrap_err().contains("its schema is ringmq-bench/9"));
    assert!(compared(&base, &json!({}), false).unwrap_err().contains("it names no schema"));
    let mut broken = base.clone();
    broken["intervals"][3]["histogram"] = json!("AAAA");
    assert!(compared(&base, &broken, false).unwrap_err().contains("histogram"));
    assert!(Runs::read("/no/such/file".as_ref()).is_err());
}

#[test]
fn a_verdict_needs_the_whole_interval() {
    assert_eq!(verdict(false, 1.06, 1.2, 0.05), Verdict::Worse);
    assert_eq!(verdict(false, 0.9, 1.2, 0.05), Verdict::Open);
    assert_eq!(verdict(false, 0.96, 1.04, 0.05), Verdict::Same);
    assert_eq!(verdict(true, 0.7, 0.9, 0.05), Verdict::Worse);
    assert_eq!(verdict(true, 1.1, 1.3, 0.05), Verdict::Better);
}
