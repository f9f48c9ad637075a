//! `ringmq bench flush` and `bench compare` as a user runs them: the figures, the files, the page in a browser, and what
//! is left behind when a run does not end well.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

#[path = "flush/browser.rs"]
mod browser;
#[path = "flush/page.rs"]
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::process::Process;
// Each run takes all cores.
use support::turn::alone;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);
/// The exit code of a run whose generator was late.
const REJECTED: i32 = 5;
const LABELS: [&str; 2] = ["ASYNC_FLUSH", "SYNC_FLUSH"];
const SHORT: &str = "--seconds 0.6 --warmup 0.2 --rate 500 --wait sleep";
const WITH_THE_REST: &str = "--closed-seconds 0.3 --device-seconds 0.4";
const ROUNDS_ONLY: &str = "--closed-seconds 0 --device-seconds 0";

/// A folder for a run, on the disk that the build is on.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn out(&self, name: &str) -> PathBuf {
        self.0.path().join("out").join(name)
    }

    fn bench(&self, words: &str) -> Command {
        let mut command = bench(words);
        command.arg("--store").arg(self.store()).arg("--out").arg(self.0.path().join("out"));
        command
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out("flush.json")).unwrap()).unwrap()
    }

    /// Nothing of a run is left: neither a process nor a file.
    fn check_left_nothing(&self) {
        assert_eq!(processes(&self.store()), Vec::<(u32, String)>::new());
        assert!(!self.store().exists(), "{:?}", fs::read_dir(self.store()).unwrap().collect::<Vec<_>>());
    }
}

fn bench(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command.arg("bench").args(words.split_whitespace()).env_remove("NAMESRV_ADDR").env("RINGMQ_TEST_ROOM", "1");
    command
}

struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ask(mut command: Command) -> Answer {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Answer { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Processes whose command line names this path.
fn processes(path: &Path) -> Vec<(u32, String)> {
    let path = path.to_str().unwrap();
    let of = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (pid != std::process::id() && line.contains(path)).then_some((pid, line))
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

fn findings(report: &Value) -> Vec<String> {
    let list = report["findings"].as_array().unwrap();
    list.iter().map(|finding| finding.as_str().unwrap().to_owned()).collect()
}

/// On a busy machine the load generator may be late, and says so; nothing else may be wrong.
fn check_sound(answer: &Answer, report: &Value) {
    assert_eq!(findings(report), Vec::<String>::new(), "{}", answer.err);
    let code = if report["rejected"] == json!([]) { 0 } else { REJECTED };
    assert_eq!(answer.code, Some(code), "{}\n{}", answer.out, answer.err);
    assert_eq!(report["is_partial"], false);
}

#[test]
fn a_run_shows_what_durability_costs() {
    let _alone = alone();
    let folder = Folder::new();
    let answer = ask(folder.bench(&format!("flush {SHORT} {WITH_THE_REST} --rounds 2")));
    let report = folder.json();
    check_sound(&answer, &report);
    for word in ["p99.99", "messages a flush", "as fast as it goes", "one durable write of 4 KiB", LABELS[0], LABELS[1]]
    {
        assert!(answer.out.contains(word), "no {word} in\n{}", answer.out);
    }
    folder.check_left_nothing();
    check_json(&report);
    check_histograms(&folder);
    check_compare(&folder, report);
    match browser::Browser::start() {
        Some(mut browser) => page::check(&mut browser, &folder.out("flush.html"), LABELS),
        None => support::skip("there is no chromium to open the page with (apt install chromium)"),
    }
}

fn check_json(report: &Value) {
    assert_eq!(report["schema"], "ringmq-bench-flush/1");
    let rounds = report["rounds"].as_array().unwrap();
    let order = |kind: &str| -> Vec<u64> {
        let rounds = rounds.iter().filter(|round| round["kind"] == kind);
        rounds.map(|round| round["mode"].as_u64().unwrap()).collect()
    };
    assert_eq!(
        (order("open"), order("closed"), order("single")),
        (vec![0, 1, 1, 0], vec![0, 1, 1, 0], vec![0, 1, 1, 0])
    );
    for (mode, label) in report["modes"].as_array().unwrap().iter().zip(LABELS) {
        assert_eq!(mode["label"], label);
        let open = &mode["open"];
        // Two rounds of 0.6 s at 500 a second.
        assert_eq!(open["latency_us"]["count"], 600, "{open:#}");
        assert!(open["flush"]["flushes"].as_u64().unwrap() > 0, "{open:#}");
        assert!(mode["single"]["messages_per_second"].as_f64().unwrap() > 0.0);
    }
    // A sender that is told of the device is told of one flush at least.
    let per_second = |mode: usize| report["modes"][mode]["open"]["flush"]["flushes_per_second"].as_f64().unwrap();
    assert!(per_second(1) > 10.0 * per_second(0), "{} and {} flushes a second", per_second(0), per_second(1));
    assert!(report["device"]["durable_write_us"]["count"].as_u64().unwrap() > 0);
    assert!(report["host"]["kernel"].as_str().unwrap().starts_with("Linux "));
    assert!(rounds[0]["command"].as_str().unwrap().starts_with("ringmq bench send --broker 127.0.0.1:"));
}

fn check_histograms(folder: &Folder) {
    for key in ["async", "sync"] {
        let text = fs::read_to_string(folder.out(&format!("flush-{key}.hgrm"))).unwrap();
        let mut lines = text.lines();
        let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(head, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
        let rows: Vec<Vec<f64>> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().unwrap()).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]), "{text}");
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 600.0), "{text}");
        let log = fs::read_to_string(folder.out(&format!("flush-{key}.hlog"))).unwrap();
        let intervals: Vec<&str> = log.lines().filter(|line| line.starts_with("Tag=round-")).collect();
        assert_eq!(intervals.len(), 12, "{log}");
        assert!(intervals.iter().all(|line| line.contains(",HISTF")), "{log}");
    }
}

fn check_compare(folder: &Folder, mut report: Value) {
    // What a busy machine did to the generator is no subject here.
    report["rejected"] = json!([]);
    fs::write(folder.out("a.json"), report.to_string()).unwrap();
    report["modes"][0]["label"] = json!(LABELS[1]);
    report["modes"][1]["label"] = json!(LABELS[0]);
    fs::write(folder.out("turned.json"), report.to_string()).unwrap();
    report["setup"]["rate"] = json!(501.0);
    fs::write(folder.out("rate.json"), report.to_string()).unwrap();
    let compare = |a: &str, b: &str| {
        let mut command = bench("compare");
        command.arg(folder.out(a)).arg(folder.out(b));
        ask(command)
    };
    let same = compare("a.json", "a.json");
    assert_eq!(same.code, Some(0), "{}{}", same.out, same.err);
    assert!(same.out.contains("no worse"), "{}", same.out);
    // Under the other's name each is either worse or better by far.
    let turned = compare("a.json", "turned.json");
    assert_eq!(turned.code, Some(1), "{}{}", turned.out, turned.err);
    assert!(turned.out.contains("worse by more than 5%"), "{}", turned.out);
    let other = compare("a.json", "rate.json");
    assert_eq!(other.code, Some(2), "{}{}", other.out, other.err);
    assert!(other.err.contains("rate is 500.0 in A and 501.0 in B"), "{}", other.err);
    assert_eq!(compare("a.json", "flush.html").code, Some(2));
}

/// Starts a long run and waits until it loads the SYNC_FLUSH broker, having measured the other.
fn start_long(folder: &Folder) -> Process {
    let words = "flush --seconds 1 --warmup 0.1 --rate 500 --wait sleep --device-seconds 0 --rounds 100";
    let run = Process::spawn(&mut folder.bench(words));
    let begun = run.err.wait(PATIENCE, |lines| lines.iter().any(|line| line.starts_with("SYNC_FLUSH")).then_some(()));
    assert!(begun.is_some(), "{}", run.transcript());
    run
}

#[test]
fn a_broker_that_dies_leaves_a_partial_report() {
    let _alone = alone();
    let folder = Folder::new();
    let mut run = start_long(&folder);
    let servers = processes(&folder.store());
    let broker = servers.iter().find(|(_, line)| line.contains("--flush sync"));
    signal("KILL", broker.unwrap_or_else(|| panic!("no broker in {servers:?}")).0);
    assert_eq!(run.wait(PATIENCE).code(), Some(1), "{}", run.transcript());
    let report = folder.json();
    assert_eq!(report["is_partial"], true);
    let why = findings(&report).join("\n");
    assert!(why.contains("this run is partial: the SYNC_FLUSH broker ended by itself (signal 9)"), "{why}");
    assert!(run.out.all().iter().any(|line| line.contains("PARTIAL")), "{}", run.transcript());
    assert!(fs::read_to_string(folder.out("flush.html")).unwrap().contains("This run is partial."));
    folder.check_left_nothing();
}

#[test]
fn an_interrupted_run_reports_what_it_has_and_leaves_nothing() {
    let _alone = alone();
    let folder = Folder::new();
    let mut run = start_long(&folder);
    signal("INT", run.id());
    assert_eq!(run.wait(PATIENCE).code(), Some(130), "{}", run.transcript());
    assert!(findings(&folder.json())[0].contains("this run is partial: it was interrupted"));
    folder.check_left_nothing();
}

#[test]
fn the_servers_of_a_killed_run_end_and_the_next_run_cleans_up() {
    let _alone = alone();
    let folder = Folder::new();
    let mut run = start_long(&folder);
    run.kill();
    support::eventually("the servers end", PATIENCE, || processes(&folder.store()).is_empty().then_some(()));
    assert!(folder.store().exists(), "a killed run cannot clean up");
    let answer = ask(folder.bench(&format!("flush {SHORT} {ROUNDS_ONLY} --rounds 1")));
    check_sound(&answer, &folder.json());
    let left: Vec<_> = fs::read_dir(folder.store()).map(Iterator::collect).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn two_running_brokers_are_compared() {
    let _alone = alone();
    let folder = Folder::new();
    let start = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        let store = folder.0.path().join(name);
        command.args(["broker", "--listen", "127.0.0.1", "--port", "0", "--end-with-input", "--shards", "1"]);
        command.arg("--store").arg(&store).env("XDG_DATA_HOME", folder.0.path()).env("RINGMQ_TEST_ROOM", "1");
        let broker = Process::spawn(&mut command);
        let addr = broker.out.wait(PATIENCE, |lines| {
            lines
                .iter()
                .find_map(|line| Some(line.trim().strip_prefix("broker")?.split_whitespace().next()?.to_owned()))
        });
        let addr = addr.unwrap_or_else(|| panic!("{}", broker.transcript()));
        (broker, addr)
    };
    let ((_one, first), (_two, second)) = (start("one"), start("two"));
    let mut command = bench(&format!("flush {SHORT} {WITH_THE_REST} --rounds 1 --target {first} --target {second}"));
    command.arg("--out").arg(folder.0.path().join("out"));
    let answer = ask(command);
    let report = folder.json();
    check_sound(&answer, &report);
    assert_eq!((&report["modes"][0]["label"], &report["modes"][1]["label"]), (&json!(first), &json!(second)));
    assert_eq!((&report["device"], &report["storage"]), (&Value::Null, &Value::Null));
    assert!(answer.out.contains("their disks were not measured"), "{}", answer.out);
    let name = format!("flush-{}.hgrm", first.replace([':', '.'], "-"));
    assert!(folder.out(&name).exists(), "no {name}");
}

#[test]
fn what_cannot_be_run_says_why_and_what_to_do() {
    let _alone = alone();
    let folder = Folder::new();
    let refused = |words: &str| {
        let answer = ask(bench(words));
        assert_ne!(answer.code, Some(0), "{words}");
        answer.err
    };
    let out = folder.0.path().join("out");
    let out = out.to_str().unwrap();
    let memory = refused(&format!("flush --store /dev/shm/ringmq-test --out {out}"));
    assert!(memory.contains("is on tmpfs") && memory.contains("--allow-tmpfs"), "{memory}");
    let file = folder.0.path().join("file");
    fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    assert!(refused(&format!("flush --store {file}/below --out {out}")).contains("choose another folder with --store"));
    assert!(refused(&format!("flush --out {file}/below")).contains("choose another folder with --out"));
    assert!(refused("flush --rate 0").contains("--rate 0"));
    assert!(refused("flush --rounds 0").contains("--rounds"));
    assert!(refused("flush --target h:1").contains("give it twice"));
    assert!(refused(&format!("flush --broker-cpus 4000 --out {out}")).contains("may only run on"));
    let nobody = refused(&format!("flush --out {out} --target 127.0.0.1:1 --target 127.0.0.1:2"));
    assert!(nobody.contains("127.0.0.1:1") && nobody.contains("is the broker running"), "{nobody}");
    let full = refused(&format!("flush --out {out} --store {} --rate 1e9 --seconds 1e4", folder.store().display()));
    assert!(full.contains("MB free") && full.contains("make room"), "{full}");
    let config = refused(&format!("flush --out {out} --store {} --config /no/such/file", folder.store().display()));
    assert!(config.contains("--config /no/such/file"), "{config}");
    fs::write(file, "listenPort=x\n").unwrap();
    let config = refused(&format!(
        "flush {SHORT} {ROUNDS_ONLY} --out {out} --store {} --config {file}",
        folder.store().display()
    ));
    assert!(config.contains("could not start") && config.contains("listenPort = x"), "{config}");
    folder.check_left_nothing();
}
