//! `ringmq bench` as a user runs it: the real program against a real broker, what its report says, and how it ends when
//! something is wrong. That no dishonest broker passes is held by the bench's own tests, where brokers can lie.
//!
//! Nothing here asks for a speed. A machine that is busy can make the generator late, which the program says with an
//! exit code of its own; that is no failure here.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::disk::Stuck;
use support::eventually;
use support::process::Process;
use support::server::{Cluster, Make, Settings, wide_segments};
use support::wire;

const PATIENCE: Duration = Duration::from_secs(120);
const REJECTED: i32 = 5;

/// How a run of the program ended.
struct Ended {
    code: i32,
    said: String,
    report: Option<Value>,
}

fn bench(line: &str, folder: &Path) -> (Process, std::path::PathBuf) {
    let json = folder.join(format!("{}.json", line.split_whitespace().next().unwrap()));
    // What an earlier run has left is not this one's.
    let _none = std::fs::remove_file(&json);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command.arg("bench").args(line.split_whitespace()).arg("--json").arg(&json);
    (Process::spawn(&mut command), json)
}

fn end(mut process: Process, json: &Path) -> Ended {
    let code = process.wait(PATIENCE).code().unwrap();
    let report = std::fs::read(json).ok().map(|text| serde_json::from_slice(&text).unwrap());
    Ended { code, said: process.transcript(), report }
}

fn run(line: &str, folder: &Path) -> Ended {
    let (process, json) = bench(line, folder);
    end(process, &json)
}

/// Runs what must pass and returns its report.
fn clean(line: &str, folder: &Path) -> Value {
    passed(line, run(line, folder))
}

/// The report of a run that must have passed.
fn passed(line: &str, ended: Ended) -> Value {
    let report = ended.report.unwrap_or_else(|| panic!("{line}: no report\n{}", ended.said));
    let late = !report["rejected"].as_array().unwrap().is_empty();
    assert_eq!(ended.code, if late { REJECTED } else { 0 }, "{line}\n{}", ended.said);
    assert_eq!(report["findings"], serde_json::json!([]), "{line}");
    report
}

fn ours() -> Cluster {
    Cluster::of(Make::Ours, Settings { properties: vec![wide_segments()], ..Settings::default() })
}

fn part<'r>(report: &'r Value, name: &str) -> &'r Value {
    let parts = report["parts"].as_array().unwrap();
    &parts.iter().find(|part| part["name"] == name).unwrap()["report"]
}

#[test]
fn every_shape_of_message_arrives_and_is_read_again() {
    let cluster = ours();
    let folder = cluster.folder.path();
    let to = &cluster.broker.address;
    for (topic, shape) in [
        ("plain", "--rate 2000"),
        ("poisson", "--rate 2000 --arrivals poisson --size 10..3000 --keys 10 --tags 5 --property colour=red"),
        ("batch", "--closed 2 --batch 20 --size 100:9,5000:1 --header rocketmq"),
        ("packed", "--closed 2 --compress --size 8192"),
        ("ordered", "--closed 3 --ordered"),
        ("oneway", "--rate 1000 --one-way"),
        ("many", "--closed 2 --topics 5"),
    ] {
        let line = format!("send --broker {to} --topic {topic} {shape} -c 4 --queues 4 --seconds 0.5 --warmup 0.1");
        let sent = clean(&line, folder);
        let requests = sent["requests"].as_u64().unwrap();
        assert!(requests > 10, "{line}: {requests}");
        let topics = if topic == "many" { "--topics 5" } else { "" };
        let read = clean(&format!("consume --broker {to} --topic {topic} {topics} --verify-crc -c 4"), folder);
        let messages = read["setup"]["more"]["messages"].as_u64().unwrap();
        assert_eq!(messages, requests * if topic == "batch" { 20 } else { 1 }, "{line}");
    }
    let again = clean(
        &format!("consume -n {} --topic plain --last 20 --seconds 0.5 --subscriptions 2", cluster.namesrv()),
        folder,
    );
    assert_eq!(again["setup"]["more"]["messages"], 80);
    assert!(again["successes"].as_u64().unwrap() > 16);
}

#[test]
fn a_message_is_timed_from_its_intended_send_to_its_receipt() {
    let cluster = ours();
    let folder = cluster.folder.path();
    let to = &cluster.broker.address;
    let line = format!("e2e --broker {to} --rate 1000 -c 3 --seconds 1 --warmup 0.2 --batch 2 --subscriptions 2");
    let report = clean(&line, folder);
    let (sent, received) = (part(&report, "send"), part(&report, "receive"));
    assert_eq!(sent["requests"], 600);
    // The measured second, by two groups.
    assert_eq!(received["latency_us"]["count"], 2000);
    // A message is received after it was acknowledged or at the same time, but never before it was sent.
    assert!(received["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    let line = format!("mixed --broker {to} --rate 500 --read-rate 2000 -c 3 --seconds 0.5 --warmup 0.1");
    let report = clean(&line, folder);
    assert!(part(&report, "receive")["measured_seconds"].as_f64().unwrap() <= 0.5);
    assert!(part(&report, "receive")["latency_us"]["count"].as_u64().unwrap() > 10);
}

#[test]
fn a_backlog_is_built_and_drained_beside_the_producer() {
    let cluster = ours();
    let folder = cluster.folder.path();
    let line = format!(
        "backlog --broker {} --backlog 3000 --rate 300 -c 4 --consumers 2 --seconds 0.5 --warmup 0.1",
        cluster.broker.address
    );
    let report = clean(&line, folder);
    let figures = &report["figures"];
    assert_eq!((&figures["backlog_messages"], part(&report, "build")["requests"].as_u64()), (&3000.into(), Some(3000)));
    // What the producer sent alone is not part of it, but has been read by nobody either.
    assert_eq!(figures["read_messages"], 3000);
    assert!(figures["drain_messages_per_second"].as_f64().unwrap() > 0.0);
    assert!(figures["producer_p99_us_during"].as_f64().unwrap() > 0.0);
}

#[test]
fn steps_are_walked_and_the_highest_rate_is_found() {
    let cluster = ours();
    let folder = cluster.folder.path();
    let to = &cluster.broker.address;
    let report = clean(
        &format!("topics --broker {to} --steps 8,100 --rounds 1 --closed 2 -c 4 --seconds 0.3 --warmup 0.1"),
        folder,
    );
    let queues: Vec<_> = report["figures"]["steps"].as_array().unwrap().iter().map(|step| &step["queues"]).collect();
    assert_eq!(queues, [8, 104]);
    // Any broker holds a second; what ends the search is the generator, or one request under way at a time.
    let report = run(
        &format!(
            "find-max --broker {to} --rate 1000 --p99 1000000 --precision 0.5 -c 1 -i 1 --seconds 0.2 --warmup 0 --patience 1"
        ),
        folder,
    );
    let report = report.report.unwrap_or_else(|| panic!("{}", report.said));
    let steps = report["figures"]["steps"].as_array().unwrap();
    assert!(steps.len() > 1 && report["figures"]["max_rate"].as_f64().unwrap() >= 1000.0, "{report:#}");
}

#[test]
fn a_filter_brings_what_matches_and_nothing_else() {
    let properties = vec![wide_segments(), ("enablePropertyFilter", "true".to_owned())];
    let cluster = Cluster::of(Make::Ours, Settings { properties, ..Settings::default() });
    let folder = cluster.folder.path();
    let to = &cluster.broker.address;
    // Three queues, so that each has both tags.
    let sent = clean(
        &format!("send --broker {to} --rate 2000 --tags 2 --queues 3 --size 100 -c 3 --seconds 0.5 --warmup 0"),
        folder,
    );
    for more in ["", "--seconds 0.5"] {
        // Arguments are split at blanks, so the expression has none.
        let read = clean(&format!("consume --broker {to} --filter TAGS='TagA' -c 3 {more}"), folder);
        let count = |name: &str| read["setup"]["more"][name].as_u64().unwrap();
        assert_eq!(count("messages"), sent["requests"].as_u64().unwrap());
        assert_eq!(count("matching"), count("messages").div_ceil(2));
        assert!(read["messages_per_second"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn transactions_are_ended_as_they_were_told() {
    let cluster = ours();
    let folder = cluster.folder.path();
    let to = &cluster.broker.address;
    for shape in ["--closed 2 --roll-back 0.25", "--rate 400 --arrivals poisson --header rocketmq --roll-back 1"] {
        let topic = if shape.starts_with("--closed") { "some" } else { "none" };
        let line = format!(
            "transactions --broker {to} --topic {topic} {shape} -c 4 --queues 4 --size 100 --seconds 0.5 --warmup 0.1"
        );
        let report = clean(&line, folder);
        let figures = &report["figures"];
        let count = |name: &str| figures[name].as_u64().unwrap();
        assert_eq!(count("seen"), count("committed"), "{line}");
        assert_eq!(count("committed") + count("rolled_back"), part(&report, "send")["successes"].as_u64().unwrap());
        assert_eq!(count("committed") > 0, topic == "some", "{line}");
        assert!(count("rolled_back") > 0 && figures["end_us"]["count"].as_u64().unwrap() > 0, "{line}");
    }
}

#[test]
fn timed_messages_come_once_and_not_before_their_time() {
    let cluster = ours();
    let folder = cluster.folder.path();
    let to = &cluster.broker.address;
    for (shape, count) in [
        ("--due-rate 500 --ahead 1 --closed 4 --seconds 1 --warmup 0.2", 600),
        ("--due-rate 300 --ahead 1 --rate 300 --seconds 1 --warmup 0", 300),
        ("--level 1 --rate 200 --seconds 1 --warmup 0.5", 300),
    ] {
        // A machine that is busy can be late in sending what is due soon: the exit code says that too.
        let report = clean(&format!("timers --broker {to} {shape} -c 4 --size 100"), folder);
        assert_eq!((&report["figures"]["timed"], &report["figures"]["delivered"]), (&count.into(), &count.into()));
        assert!(report["figures"]["lateness_us"]["count"].as_u64().unwrap() > 150, "{shape}");
    }
}

#[test]
fn every_group_has_the_offset_that_it_committed_last() {
    let cluster = ours();
    let folder = cluster.folder.path();
    let to = &cluster.broker.address;
    for shape in ["--rate 600", "--rate 500 --one-way"] {
        let report =
            clean(&format!("offsets --broker {to} --groups 60 -c 7 {shape} --seconds 0.5 --warmup 0.1"), folder);
        // All have committed at least four times.
        assert!(report["requests"].as_u64().unwrap() >= 240, "{shape}");
    }
}

#[test]
fn an_overloaded_broker_refuses_with_a_cause_and_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::not_yet(folder.path());
    // Longer than the run: what is refused finds no room to wait.
    let properties = vec![("waitTimeMillsInSendQueue", "60000".to_owned())];
    let settings = Settings { env: vec![stuck.env()], properties, ..Settings::default() };
    let cluster = Cluster::in_folder(folder, Make::Ours, settings);
    let folder = cluster.folder.path();
    let to = &cluster.broker.address;
    let pid = cluster.broker.process.id();
    // The clients' windows hold a gigabyte, more than the broker may keep: for each of its two log shards 64 MiB that is
    // not written and as much that waits, and what it has of buffers. On a disk that takes nothing, whatever the machine
    // is like, it has to refuse.
    let line = format!(
        "send --broker {to} --overload --rate 100000 --size 65536 -c 32 -i 512 --seconds 3 --warmup 0 --watch-pid {pid}"
    );
    stuck.hold();
    let (process, json) = bench(&line, folder);
    let mut connection = cluster.broker.connect();
    eventually("sends are refused", PATIENCE, || {
        let [refused] = wire::runtime_numbers(&mut connection, ["putMessageFailedTimes"]);
        (refused > 0).then_some(())
    });
    stuck.release();
    let report = passed(&line, end(process, &json));
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(count("successes") > 0 && count("unsent") > 0, "{report:#}");
    assert_eq!(count("unanswered"), 0);
    let refused = report["refused"].as_object().unwrap();
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["2"], "{report:#}");
    assert_eq!(refused["2"]["causes"].as_object().unwrap().keys().collect::<Vec<_>>(), ["OVERLOAD"]);
    let resident =
        report["watched"]["moments"].as_array().unwrap().iter().map(|one| one["rss_bytes"].as_u64().unwrap());
    let most = resident.max().unwrap();
    assert!(most < 768 << 20, "{most} bytes resident");
    let read = clean(&format!("consume --broker {to} --verify-crc -c 4"), folder);
    assert_eq!(read["setup"]["more"]["messages"].as_u64().unwrap(), count("successes"));
}

#[test]
fn a_run_is_repeated_from_its_report() {
    let cluster = ours();
    let folder = cluster.folder.path();
    let workload = folder.join("w.toml");
    std::fs::write(&workload, "partitionsPerTopic = 3\nmessageSize = 77\nproducersPerTopic = 2\nproducerRate = 900\n")
        .unwrap();
    let line = format!(
        "send --broker {} --workload {} --arrivals poisson --seed 5 --size 50..60 --seconds 0.5 --warmup 0.1",
        cluster.broker.address,
        workload.display()
    );
    let first = clean(&line, folder);
    // The report alone is enough.
    std::fs::remove_file(&workload).unwrap();
    let kept = folder.join("kept.json");
    std::fs::write(&kept, first.to_string()).unwrap();
    let second = clean(&format!("repeat {}", kept.display()), folder);
    assert_eq!(first["setup"], second["setup"]);
    assert_eq!(first["run"], second["run"]);
    assert_eq!(first["setup"]["more"]["size"], "50..60");
    assert_eq!(first["setup"]["connections"], 2);
    // The seed decides how many arrivals fall into the time.
    assert_eq!(first["requests"], second["requests"]);
    assert_ne!(first["requests"], 540);
}

#[test]
fn a_broker_that_dies_leaves_a_partial_report_and_the_next_step() {
    let mut cluster = ours();
    let folder = cluster.folder.path().to_owned();
    let line = format!(
        "e2e --broker {} --topic doomed --rate 500 -c 2 --seconds 60 --warmup 0 --patience 1",
        cluster.broker.address
    );
    let (process, json) = bench(&line, &folder);
    let address = cluster.broker.address.clone();
    eventually("the load has begun", PATIENCE, || {
        let ext = [("topic", "doomed".to_owned()), ("queueId", "0".to_owned())];
        let reply = wire::Connection::open(&*address).ok()?.call(wire::GET_MAX_OFFSET, &ext, &[]).ok()?;
        let offset = (reply.header.code == 0).then(|| reply.header.number("offset"))?;
        (offset > 10).then_some(())
    });
    cluster.broker.kill();
    let ended = end(process, &json);
    assert_eq!(ended.code, 1, "{}", ended.said);
    assert!(ended.said.contains("PARTIAL RUN") && ended.said.contains("see the broker's log"), "{}", ended.said);
    let report = ended.report.unwrap();
    let sent = part(&report, "send");
    assert_eq!(sent["partial"], true);
    assert!(sent["successes"].as_u64().unwrap() > 40);
    assert!(sent["measured_seconds"].as_f64().unwrap() < 60.0);
}

#[test]
fn what_cannot_begin_says_why_and_what_to_do() {
    let cluster = ours();
    let folder = cluster.folder.path();
    let to = &cluster.broker.address;
    let bad = folder.join("bad.toml");
    std::fs::write(&bad, "topics = 1\nrandomBytesRatio = 0.5\n").unwrap();
    let closed = support::ports::free();
    for (line, code, words) in [
        (format!("send --broker 127.0.0.1:{closed} --seconds 1"), 3, "is the broker running"),
        (format!("send -n 127.0.0.1:{closed} --seconds 1"), 3, "is the name server running"),
        (format!("send --broker {to} --seconds 0"), 2, "seconds above zero"),
        (format!("send --broker {to} --rate 5 --closed 5"), 2, "cannot be used with"),
        (format!("send --broker {to} --size 9..5"), 2, "sizes go from"),
        (format!("transactions --broker {to} --batch 2"), 1, "--batch has no meaning here"),
        (format!("timers --broker {to} --level 1 --closed 2"), 1, "--level"),
        (format!("offsets --broker {to} --groups 3"), 1, "--connections 32"),
        (format!("consume --broker {to} --filter a=1 --parts 2"), 1, "--filter"),
        (format!("consume --broker {to} --topic nothing-there"), 1, "does not exist"),
        (format!("send --broker {to} --workload {}", bad.display()), 1, "unknown field `randomBytesRatio`"),
        (format!("send --broker {to} --workload /nowhere.toml"), 1, "cannot read /nowhere.toml"),
        (format!("repeat {}", bad.display()), 1, "no report"),
    ] {
        let ended = run(&line, folder);
        assert_eq!(ended.code, code, "{line}\n{}", ended.said);
        assert!(ended.said.contains(words), "{line}\n{}", ended.said);
        assert!(ended.report.is_none());
    }
}
