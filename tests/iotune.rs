//! `ringmq iotune` as a person meets it: what it prints and writes, that it leaves nothing else behind, its refusals, and
//! the broker that reads what it wrote. Never how fast anything is.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use support::process::Process;
// Each run keeps every core busy, so they do not run side by side.
use support::turn::alone;
use support::{eventually, skip};

const PATIENCE: Duration = Duration::from_secs(120);
const METHODS: [&str; 3] = ["thread", "ringDsync", "ringWriteThenSync"];

/// A folder on the disk that holds the sources: the usual temporary folder may be memory.
fn folder() -> TempDir {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(parent).unwrap();
    tempfile::tempdir_in(parent).unwrap()
}

fn ringmq(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command.env("XDG_DATA_HOME", home).env_remove("RINGMQ_LOG").env_remove("RINGMQ_COMMIT_METHOD");
    command
}

fn iotune(dir: &Path, more: &[&str]) -> Output {
    ringmq(dir).arg("iotune").arg(dir).args(more).output().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A refusal is one line on standard error, an exit code of one, and nothing written.
fn refused(output: &Output, words: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(words) && said.trim_end().lines().count() == 1, "no {words} in {said}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
}

fn measured(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("iotune.json")).unwrap()).unwrap()
}

/// Starts a broker on `store`, ends it once it serves, and gives the lines of its banner and its log.
fn broker_says(store: &Path, more: &[&str]) -> (Vec<String>, Vec<String>) {
    let home = folder();
    let store = store.to_str().unwrap();
    let args = ["standalone", "--port", "0", "--namesrv-port", "0", "--flush", "sync", "--store", store];
    let mut broker = Process::spawn(ringmq(home.path()).args(args).args(more));
    let ready = broker.out.wait(PATIENCE, |lines| lines.iter().any(|line| line == "ready").then_some(()));
    assert!(ready.is_some(), "{}", broker.transcript());
    assert!(broker.terminate(PATIENCE).success(), "{}", broker.transcript());
    (broker.out.all(), broker.err.all())
}

fn line(lines: &[String], words: &str) -> String {
    let found: Vec<&String> = lines.iter().filter(|line| line.contains(words)).collect();
    assert_eq!(found.len(), 1, "`{words}` in {lines:#?}");
    found[0].clone()
}

#[test]
fn a_measurement_is_shown_written_and_used_by_the_broker() {
    let _alone = alone();
    let store = folder();
    let shown = iotune(store.path(), &["--seconds", "1"]);
    let page = text(&shown.stdout);
    assert_eq!(shown.status.code(), Some(0), "{page}{}", text(&shown.stderr));
    assert_eq!(text(&shown.stderr), "");
    assert_eq!(names(store.path()), ["iotune.json"]);
    for words in ["cores idle", "every core busy", "written in order", "read in order", "chosen", "iotune.json"] {
        assert!(page.contains(words), "no {words} in {page}");
    }

    let document = measured(store.path());
    assert_eq!(document["version"], 1);
    let commits = document["commit"].as_array().unwrap();
    assert_eq!(commits.len(), 4 * 2 * METHODS.len());
    for figure in commits {
        let at = |name: &str| figure["latency"][name].as_f64().unwrap();
        assert!(at("count") >= 5.0 && at("p50Us") > 0.0 && at("p99Us") >= at("p50Us") && at("maxUs") >= at("p999Us"));
        assert_eq!(figure["cpuUs"].is_number(), figure["cores"] == "idle", "{figure}");
    }
    assert_eq!(document["write"].as_array().unwrap().len(), 3 * 5);
    assert_eq!(document["read"].as_array().unwrap().len(), 5);
    for figure in document["write"].as_array().unwrap().iter().chain(document["read"].as_array().unwrap()) {
        assert!(figure["mbPerSecond"].as_f64().unwrap() > 0.0, "{figure}");
    }
    let chosen = document["chosen"]["commitMethod"].as_str().unwrap();
    assert!(METHODS.contains(&chosen) && page.contains(&format!("commit      {chosen}")), "{chosen}");

    let day = &document["measuredAt"].as_str().unwrap()[..10];
    let (banner, log) = broker_says(store.path(), &[]);
    let expected = format!("{chosen}   (iotune of {day})");
    assert!(line(&banner, "  commit ").ends_with(&expected), "{banner:#?}");
    assert!(line(&log, "makes a batch durable").contains(&format!("by {chosen} (iotune of {day})")), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("iotune.json")), "{log:#?}");
}

/// Also: measuring a store that is there disturbs nothing of it.
#[test]
fn json_is_what_is_written() {
    let _alone = alone();
    let store = folder();
    broker_says(store.path(), &[]);
    let before = names(store.path());
    let first_core = first_core();
    let shown = iotune(store.path(), &["--seconds", "1", "--json", "--cpus", &first_core]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    assert_eq!(text(&shown.stdout), fs::read_to_string(store.path().join("iotune.json")).unwrap());
    let document = measured(store.path());
    assert_eq!(document["cores"], serde_json::json!([first_core.parse::<u32>().unwrap()]));
    let after: Vec<String> = names(store.path()).into_iter().filter(|name| name != "iotune.json").collect();
    assert_eq!(after, before);
    // The same cores as were measured; the store keeps its shards.
    let (_, log) = broker_says(store.path(), &["--cpus", &first_core]);
    line(&log, "(iotune of ");
}

fn first_core() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    list.trim().split(['-', ',']).next().unwrap().to_owned()
}

#[test]
fn what_cannot_be_used_is_one_warning_and_the_key_stands_above_it() {
    let _alone = alone();
    let store = folder();
    let path = store.path().join("iotune.json");
    fs::write(&path, "{\"version\": 1, \"chosen\"").unwrap();
    let (banner, log) = broker_says(store.path(), &[]);
    assert!(line(&banner, "  commit ").contains("not measured"), "{banner:#?}");
    let warning = line(&log, "iotune.json is not used");
    assert!(warning.contains("WARN") && warning.contains("measure again: ringmq iotune --cpus "), "{warning}");

    let conf = store.path().join("broker.conf");
    fs::write(&conf, "brokerName=a\ncommitMethod=ringWriteThenSync\n").unwrap();
    let (banner, _) = broker_says(store.path(), &["-c", conf.to_str().unwrap()]);
    let expected = format!("ringWriteThenSync   (commitMethod, {}:2)", conf.display());
    assert!(line(&banner, "  commit ").ends_with(&expected), "{banner:#?}");
    let explained = ringmq(store.path()).args(["config", "explain", "commitMethod", "-c"]).arg(&conf).output().unwrap();
    assert!(text(&explained.stdout).starts_with("commitMethod = ringWriteThenSync\n"), "{explained:?}");

    fs::write(&conf, "commitMethod=magic\n").unwrap();
    let wrong = ringmq(store.path()).args(["standalone", "-c"]).arg(&conf).output().unwrap();
    assert_eq!(wrong.status.code(), Some(4), "{wrong:?}");
    assert!(text(&wrong.stderr).contains("auto or thread or ringDsync or ringWriteThenSync"), "{wrong:?}");
}

#[test]
fn an_interrupt_leaves_nothing() {
    let _alone = alone();
    for signal in ["INT", "TERM", "KILL"] {
        let dir = folder();
        let mut running = Process::spawn(ringmq(dir.path()).args(["iotune", "--seconds", "600"]).arg(dir.path()));
        // The last of its files is open and nameless; the others were so before.
        let links = format!("/proc/{}/fd", running.id());
        eventually("the files are prepared", PATIENCE, || {
            let mut open = fs::read_dir(&links).ok()?.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
            open.find(|path| path.starts_with(dir.path()) && path.to_string_lossy().ends_with("-stream.tmp (deleted)"))
        });
        let sent = Command::new("kill").args(["-s", signal, &running.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let status = running.wait(PATIENCE);
        assert_eq!(names(dir.path()), [""; 0], "after {signal}");
        if signal != "KILL" {
            assert_eq!(status.code(), Some(1));
            assert_eq!(running.err.all(), ["interrupted: nothing was written down"]);
        }
        assert_eq!(running.out.all(), [""; 0]);
    }
}

#[test]
fn what_cannot_be_measured_is_refused_in_a_sentence() {
    let _alone = alone();
    let dir = folder();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&iotune(&file, &[]), "it is not a folder");
    refused(&iotune(&dir.path().join("absent"), &[]), "mkdir -p ");
    let wrong = iotune(dir.path(), &["--cpus", "x"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert_eq!(iotune(dir.path(), &["--seconds", "0"]).status.code(), Some(2));
    assert_eq!(names(dir.path()), ["file"]);

    let memory = Path::new("/dev/shm");
    if fs::read_to_string("/proc/mounts").unwrap().contains(" /dev/shm tmpfs ") {
        let dir = tempfile::tempdir_in(memory).unwrap();
        refused(&iotune(dir.path(), &[]), "tmpfs is memory, not a disk");
        assert_eq!(names(dir.path()), [""; 0]);
    } else {
        skip("/dev/shm is no tmpfs");
    }
    if Path::new("/proc/self").is_dir() {
        refused(&iotune(Path::new("/proc"), &[]), "/proc: ");
    }
}

#[test]
fn a_store_in_use_is_left_alone() {
    let _alone = alone();
    let (home, store) = (folder(), folder());
    let args = ["standalone", "--port", "0", "--namesrv-port", "0", "--store", store.path().to_str().unwrap()];
    let mut broker = Process::spawn(ringmq(home.path()).args(args));
    let ready = broker.out.wait(PATIENCE, |lines| lines.iter().any(|line| line == "ready").then_some(()));
    assert!(ready.is_some(), "{}", broker.transcript());
    refused(&iotune(store.path(), &["--seconds", "1"]), "a broker is using this store");
    assert!(broker.is_running());
    assert!(!store.path().join("iotune.json").exists());
}

/// A small file system of its own, which is full or read-only; needs root.
#[test]
fn a_full_or_read_only_disk_is_refused_and_left_as_it_was() {
    let _alone = alone();
    let dir = folder();
    let (image, at) = (dir.path().join("image"), dir.path().join("mounted"));
    fs::create_dir_all(&at).unwrap();
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let run = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    let (image, mounted) = (image.to_str().unwrap(), at.to_str().unwrap());
    if !run("mkfs.ext4", &["-q", "-m", "0", image]) || !run("mount", &["-o", "loop", image, mounted]) {
        return skip("no file system can be made and mounted here");
    }
    let full = iotune(&at, &["--seconds", "1"]);
    let left = names(&at);
    let is_read_only = run("mount", &["-o", "remount,ro", mounted]);
    let read_only = iotune(&at, &["--seconds", "1"]);
    // Lazily: a process that failed the test may still be there.
    run("umount", &["-l", mounted]);
    refused(&full, "MiB have to be free while it is measured");
    assert_eq!(left, ["lost+found"]);
    assert!(is_read_only);
    refused(&read_only, "mounted read-only");
}
