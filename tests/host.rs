//! `tune` and `doctor` as a person and a script meet them, and what a service manager is told.
//!
//! What changes the host runs in namespaces of its own, with the kernel's settings and `/etc` covered by copies: the
//! machine stays as it is. That needs root.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmq");
const PATIENCE: Duration = Duration::from_secs(60);

fn ringmq(args: &[&str]) -> (Option<i32>, String, String) {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM)
        .args(args)
        .env("XDG_DATA_HOME", home.path())
        .env_remove("NAMESRV_ADDR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Says why a test does not run, or fails it where a skipped test would be a lie.
fn skip(reason: &str) {
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    assert!(!in_ci, "this test must run in CI, but {reason}");
    eprintln!("skipped: {reason}");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn the_shipped_files_are_what_tune_prints() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning");
    let shipped = [
        ("sysctl", "sysctl/90-ringmq.conf"),
        ("limits", "limits/90-ringmq.conf"),
        ("systemd", "systemd/ringmq.service"),
        ("script", "os.sh"),
    ];
    for (kind, file) in shipped {
        let (code, printed, _) = ringmq(&["tune", "--print", kind]);
        assert_eq!(code, Some(0));
        let text = fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(text, printed, "ringmq tune --print {kind} > tuning/{file}");
    }
    let script = fs::metadata(folder.join("os.sh")).unwrap();
    assert_eq!(script.permissions().mode() & 0o111, 0o111, "a script can be run");
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let unit = tempfile::tempdir().unwrap();
    let path = unit.path().join("ringmq.service");
    let (_, text, _) = ringmq(&["tune", "--print", "systemd", "--store", "/data/ringmq"]);
    // It looks whether the program is there.
    fs::write(&path, text.replace("/usr/local/bin/ringmq", PROGRAM)).unwrap();
    let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
        return skip("there is no systemd-analyze");
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("ringmq.service"), "{said}");
}

#[test]
fn bad_input_is_told_in_a_sentence() {
    let cases: [(&[&str], i32, &str); 10] = [
        (&["tune", "--store", "/nosuchfolder"], 2, "name a folder that exists"),
        (&["tune", "--store", "/proc/self/status"], 2, "name a folder that exists"),
        (&["tune", "--user", "a b"], 2, "is no user name"),
        (&["tune", "--print", "systemd", "--store", "/a b"], 2, "cannot be written into a systemd unit"),
        (&["tune", "--cpus", "many"], 2, "looks like 0,2-3"),
        (&["tune", "--apply", "--undo"], 2, "cannot be used with"),
        (&["tune", "--dry-run"], 2, "required"),
        (&["tune", "--print", "horoscope"], 2, "horoscope"),
        (&["doctor", "--store", "/no/such/folder"], 2, "name a folder that exists"),
        (&["doctor", "-c", "/no/such/file"], 4, "cannot read the configuration"),
    ];
    for (args, code, words) in cases {
        let (found, out, err) = ringmq(args);
        assert!(found == Some(code) && err.contains(words), "{args:?}: {found:?} {out} {err}");
    }
}

#[test]
fn only_root_may_change_the_host() {
    if !is_root() {
        let (code, _, err) = ringmq(&["tune", "--apply"]);
        assert!(code == Some(1) && err.contains("only root"), "{err}");
        return;
    }
    // As somebody else, whose program the test's may not be.
    let copy = tempfile::tempdir().unwrap();
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = copy.path().join("ringmq");
    fs::copy(PROGRAM, &program).unwrap();
    for args in [["tune", "--apply"], ["tune", "--check"]] {
        let nobody = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(args)
            .arg("--store=/")
            .output();
        let Ok(nobody) = nobody else { return skip("there is no setpriv") };
        let err = String::from_utf8_lossy(&nobody.stderr);
        let is_refused = err.contains("only root can change these settings");
        assert_eq!(is_refused, args[1] == "--apply", "{args:?}: {err}");
        assert!(matches!(nobody.status.code(), Some(0 | 1)), "{err}");
    }
}

#[test]
fn doctor_has_a_verdict_for_every_check_of_this_machine() {
    let store = tempfile::tempdir().unwrap();
    let store = store.path().to_str().unwrap();
    let (code, out, err) = ringmq(&["doctor", "--json", "--store", store]);
    let found: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}"));
    let checks = found["checks"].as_array().unwrap();
    assert!(checks.len() > 25, "{checks:#?}");
    for check in checks {
        let verdict = check["verdict"].as_str().unwrap();
        assert!(["fine", "wrong", "note", "unknown"].contains(&verdict), "{check}");
        assert!(!check["name"].as_str().unwrap().is_empty() && check["now"].is_string(), "{check}");
        if verdict == "wrong" {
            for field in ["wanted", "why", "mend"] {
                assert!(check[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {check}");
            }
        }
    }
    let names: Vec<&str> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
    for name in
        ["kernel", "io_uring", "vm.swappiness", "store file system", "direct I/O", "free space", "clock", "port 10911"]
    {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    let wrong = checks.iter().filter(|check| check["verdict"] == "wrong").count();
    assert_eq!(found["wrong"].as_u64(), Some(wrong as u64));
    assert_eq!(code, Some(i32::from(wrong > 0)));

    let (_, out, _) = ringmq(&["doctor", "--store", store]);
    assert_eq!(out.lines().count(), checks.len() + 1, "one line a check, and the sum:\n{out}");
    assert!(fs::read_dir(store).unwrap().next().is_none(), "it leaves nothing behind");
}

#[test]
fn doctor_looks_at_what_clients_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("broker.conf");
    let verdict_of = |text: &str, name: &str| {
        fs::write(&config, text).unwrap();
        let store = folder.path().to_str().unwrap();
        let (_, out, err) = ringmq(&["doctor", "--json", "--store", store, "-c", config.to_str().unwrap()]);
        let found: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}"));
        let checks = found["checks"].as_array().unwrap().clone();
        let check = checks.into_iter().find(|check| check["name"].as_str() == Some(name));
        check.unwrap_or_else(|| panic!("no {name} in {out}"))["verdict"].as_str().unwrap().to_owned()
    };
    let told = "address that clients are told";
    assert_eq!(verdict_of("brokerIP1=127.0.0.1\n", told), "wrong", "clients elsewhere would ask themselves");
    assert_eq!(verdict_of("brokerIP1=127.0.0.1\nbindAddress=127.0.0.1\n", told), "note");
    assert_eq!(verdict_of("brokerIP1=203.0.113.7\n", told), "note", "no address of this host");
    assert_eq!(verdict_of("brokerIP1=no.such.host.invalid\n", "configuration"), "wrong");
    assert_eq!(verdict_of("namesrvAddr=127.0.0.1:1\n", "name server 127.0.0.1:1"), "wrong");
}

/// Settings that only the whole host has are covered by copies; those of the network belong to the namespace and are
/// the kernel's own.
const NAMESPACE: &str = include_str!("fixtures/tune-in-a-namespace.sh");

#[test]
fn apply_and_undo_are_executed_where_they_harm_nobody() {
    let namespaces = Command::new("unshare").args(["-m", "-n", "true"]).stderr(Stdio::null()).status();
    if !is_root() || !namespaces.is_ok_and(|status| status.success()) {
        return skip("mount and network namespaces need root");
    }
    let values = || {
        let names =
            ["vm/swappiness", "vm/watermark_scale_factor", "net/ipv4/tcp_slow_start_after_idle", "net/core/somaxconn"];
        names.map(|name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap())
    };
    let machine = values();
    let work = tempfile::tempdir().unwrap();
    let device = fs::metadata(work.path()).unwrap().dev();
    // The kernel's numbering: twelve bits of major, eight and twelve of minor.
    let device = format!("{}:{}", device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    let output = Command::new("unshare")
        .args(["-m", "-n", "sh", "-c", NAMESPACE, "sh", PROGRAM])
        .arg(work.path())
        .arg(device)
        .env_remove("XDG_DATA_HOME")
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(values(), machine, "the machine itself is untouched");

    let state = |when: &str| -> Vec<&str> {
        out.lines().filter_map(|line| line.strip_prefix(when)?.strip_prefix(' ')).collect()
    };
    let before = state("before");
    assert_eq!(before.len(), 8, "{out}");
    assert_eq!(state("dry"), before, "{out}");
    let applied = [
        "vm/swappiness 1",
        "vm/dirty_writeback_centisecs 500",
        // The kernel would make it zero; a copy does not.
        "vm/dirty_ratio 50",
        "vm/watermark_scale_factor 100",
        "kernel/io_uring_disabled 0",
        "net/core/somaxconn 65000",
        "net/ipv4/tcp_slow_start_after_idle 0",
        "scheduler mq-deadline",
    ];
    assert_eq!(state("applied"), applied, "{out}");
    let mut undone = before.clone();
    undone[3] = "vm/watermark_scale_factor 30";
    undone[7] = "scheduler bfq";
    assert_eq!(state("undone"), undone, "all but what somebody changed: {out}");
    assert_eq!(state("partial")[6], "net/ipv4/tcp_slow_start_after_idle 0", "{out}");
    assert_eq!(state("partial")[0], "vm/swappiness 60", "{out}");

    let part = |title: &str, nth: usize| {
        let parts: Vec<&str> = out.split("## ").filter(|part| part.starts_with(title)).collect();
        parts.get(nth).unwrap_or_else(|| panic!("no {title} {nth} in {out}")).to_string()
    };
    assert!(part("tune --check", 0).contains("code 1\n"));
    assert!(part("tune --apply --dry-run", 0).contains("would set vm.swappiness: 60 -> 1\n"));
    assert!(part("tune --apply\n", 0).contains("file /etc/sysctl.d/90-ringmq.conf\n"), "{out}");
    assert!(part("tune --apply\n", 0).contains("-kernel.io_uring_disabled = 0\n"));
    assert!(!part("tune --apply\n", 0).contains("somaxconn = "), "a larger value stays");
    assert!(part("tune --apply\n", 0).contains(r#"KERNEL=="disk0", ATTR{queue/scheduler}="mq-deadline""#));
    assert!(part("tune --apply\n", 0).contains("LimitMEMLOCK=infinity"));
    assert!(part("tune --apply\n", 1).contains("nothing to do") && part("tune --apply\n", 1).contains("code 0"));
    assert!(part("tune --check", 1).contains("code 0"), "{out}");
    let undo = part("tune --undo\n", 0);
    assert!(undo.contains("left vm.watermark_scale_factor: it was changed since, to 30"), "{undo}");
    let files: Vec<&str> = undo.lines().filter(|line| line.starts_with("/etc") || line.starts_with("/var")).collect();
    assert_eq!(files, ["/etc/passwd"], "{undo}");
    assert!(part("tune --undo\n", 1).contains("code 1"), "nothing is left to undo: {out}");
    let partial = part("tune --apply\n", 2);
    assert!(partial.contains("FAILED vm.swappiness: read-only here") && partial.contains("code 1"), "{partial}");
    assert!(partial.contains("set kernel.io_uring_disabled"), "{partial}");
}

/// What the service manager hears, through a socket that stands for it.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(folder: &Path) -> Manager {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, path }
    }

    fn hear(&self) -> String {
        let mut words = [0; 1024];
        let length = self.socket.recv(&mut words).unwrap();
        String::from_utf8_lossy(&words[..length]).trim().to_owned()
    }

    /// Passes over signs of life.
    fn hear_news(&self) -> String {
        loop {
            let words = self.hear();
            if words != "WATCHDOG=1" {
                return words;
            }
        }
    }
}

#[test]
fn the_service_manager_hears_of_ready_alive_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    for server in ["broker", "standalone", "namesrv"] {
        let manager = Manager::new(folder.path());
        let mut command = Command::new(PROGRAM);
        command.args([server, "--listen", "127.0.0.1", "--port", "0", "--store"]).arg(folder.path().join(server));
        if server == "standalone" {
            command.args(["--namesrv-port", "0"]);
        }
        let mut child = command
            .env("XDG_DATA_HOME", folder.path())
            .env("NOTIFY_SOCKET", &manager.path)
            .env("WATCHDOG_USEC", "400000")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(manager.hear_news(), "READY=1", "{server}");
        // The banner is out before the manager is told.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"), "{server}");
        for _ in 0..3 {
            assert_eq!(manager.hear(), "WATCHDOG=1", "{server}");
        }
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        assert_eq!(manager.hear_news(), "STOPPING=1", "{server}");
        assert!(child.wait().unwrap().success(), "{server}");
        fs::remove_file(&manager.path).unwrap();
    }
}
