//! `bench/peers/run`, which measures RingMQ beside other brokers: that its flags are those of `ringmq bench`, that it
//! goes on where it stopped, and that it says in a sentence what it cannot do. The peers themselves need a quiet machine
//! and are not started here.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use support::{root, skip};

/// Says what is missing, if something is.
fn missing() -> Option<String> {
    let absent = |program: &&str| {
        let probe = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        !probe.is_ok_and(|status| status.success())
    };
    if let Some(program) = ["python3", "taskset"].iter().find(|program| absent(program)) {
        return Some(format!("`{program}` is not installed"));
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    (cpus < 2).then(|| "broker and load need a CPU each".to_owned())
}

fn peers(out: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(root().join("bench/peers/run"));
    command.args(["--ringmq", env!("CARGO_BIN_EXE_ringmq"), "--peers", "ringmq", "--rounds", "1"]);
    command.args(["--seconds", "1", "--warmup", "1", "--out"]).arg(out).args(args).output().unwrap()
}

fn words(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[test]
fn its_parts_do_what_they_say() {
    if let Some(reason) = missing() {
        return skip(&reason);
    }
    let tests = ["-B", "-m", "unittest", "discover", "bench/peers"];
    let done = Command::new("python3").args(tests).current_dir(root()).output().unwrap();
    assert!(done.status.success(), "{}", words(&done.stderr));
}

#[test]
fn a_run_is_measured_once_and_then_gone_on_with() {
    if let Some(reason) = missing() {
        return skip(&reason);
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let first = peers(folder.path(), &["--modes", "async", "--workloads", "1x1"]);
    assert!(first.status.success(), "{}{}", words(&first.stdout), words(&first.stderr));
    let runs = || fs::read_to_string(folder.path().join("runs.jsonl")).unwrap();
    let done = runs();
    let run: Value = serde_json::from_str(&done).unwrap();
    assert_eq!((&run["workload"], &run["findings"]), (&Value::from("1x1"), &Value::Array(Vec::new())));
    assert!(run["messages_per_second"].as_f64().unwrap() > 0.0 && run["cpu_us_per_message"].as_f64().unwrap() > 0.0);

    let more = peers(folder.path(), &["--modes", "async", "--workloads", "1x1,tail"]);
    assert!(more.status.success(), "{}{}", words(&more.stdout), words(&more.stderr));
    assert!(runs().starts_with(&done), "what is done stays");
    let names: Vec<Value> =
        runs().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["workload"].take()).collect();
    assert_eq!(names, ["1x1", "tail"]);
    let text = fs::read_to_string(folder.path().join("peers.md")).unwrap();
    assert!(text.contains("| | RingMQ |"), "{text}");
    assert!(!folder.path().join("store").read_dir().unwrap().any(|_| true), "the stores are given back");

    let other = peers(folder.path(), &["--seconds", "2"]);
    assert!(!other.status.success());
    assert!(words(&other.stderr).contains("another seconds (1.0, now 2.0)"), "{}", words(&other.stderr));
}

#[test]
fn a_disk_that_is_none_is_refused() {
    if let Some(reason) = missing() {
        return skip(&reason);
    }
    if !Path::new("/dev/shm").is_dir() {
        return skip("/dev/shm is not there");
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let refused = peers(folder.path(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = words(&refused.stderr);
    assert!(said.starts_with("error: ") && said.contains("tmpfs") && said.lines().count() == 1, "{said}");
}
