//! The program as a person and a script meet it: its commands, its words, its exit codes, its signals.
#![expect(clippy::expect_used, reason = "a test says what failed by failing")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that stands for the user's data folder, so that a test sees no servers but its own.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn program(&self, name: &Path) -> Command {
        let mut command = Command::new(name);
        command.env("XDG_DATA_HOME", self.path()).env_remove("NAMESRV_ADDR").env_remove("RINGMQ_LOG");
        command.env("RINGMQ_TEST_ROOM", "1").stdin(Stdio::null());
        command
    }

    fn ringmq(&self, args: &[&str]) -> Command {
        let mut command = self.program(Path::new(env!("CARGO_BIN_EXE_ringmq")));
        command.args(args);
        command
    }

    fn ask(&self, args: &[&str]) -> Answer {
        self.ringmq(args).output().expect("the program runs").into()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("the folder can be written");
        path.into_os_string().into_string().expect("the path is UTF-8")
    }
}

#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Answer {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// A server under test, killed when the test ends.
struct Server {
    child: Child,
    lines: Receiver<String>,
    log: Receiver<String>,
}

impl Server {
    fn start(mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        let lines = lines_of(child.stdout.take().expect("a pipe"));
        let log = lines_of(child.stderr.take().expect("a pipe"));
        Server { child, lines, log }
    }

    /// The lines of the banner, up to `ready`.
    fn banner(&self) -> Vec<String> {
        let mut banner = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line == "ready" => return banner,
                Ok(line) => banner.push(line),
                Err(_) => panic!("never ready: {banner:?} {:#?}", self.log.try_iter().collect::<Vec<_>>()),
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// The exit code, once it ended by itself.
    fn ended(&mut self) -> Option<i32> {
        // The pipe closes with the process.
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().expect("a child").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The address in the banner's line with this label.
fn address(banner: &[String], label: &str) -> String {
    let line = banner.iter().find(|line| line.trim_start().starts_with(label));
    let line = line.unwrap_or_else(|| panic!("no {label} in {banner:?}"));
    line.trim_start()[label.len()..].split_whitespace().next().expect("an address").to_owned()
}

#[test]
fn help_names_the_commands_and_the_exit_codes() {
    let answer = Home::new().ask(&["--help"]);
    assert_eq!(answer.code, Some(0));
    for word in [
        "standalone",
        "namesrv",
        "broker",
        "config",
        "send",
        "tail",
        "admin",
        "bench",
        "tune",
        "doctor",
        "iotune",
        "Exit codes",
    ] {
        assert!(answer.out.contains(word), "no {word} in {}", answer.out);
    }
    assert_eq!(Home::new().ask(&["make-coffee"]).code, Some(2));
}

#[test]
fn a_key_is_explained_with_its_origin() {
    let home = Home::new();
    let conf = home.write("broker.conf", "# mine\nflushDiskType = SYNC_FLUSH\n");
    let answer = home.ask(&["config", "explain", "flushdisktype", "-c", &conf]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.out.starts_with("flushDiskType = SYNC_FLUSH\n"), "{}", answer.out);
    assert!(answer.out.contains(&format!("{conf}:2")), "{}", answer.out);
    let unknown = home.ask(&["config", "explain", "flushDiscType"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("did you mean flushDiskType?"), "{}", unknown.err);
    let shown = home.ask(&["config", "show", "--for", "namesrv"]);
    assert!(shown.out.contains("listenPort = 9876 (default)"), "{}", shown.out);
}

#[test]
fn a_wrong_configuration_stops_the_start_with_its_line() {
    let home = Home::new();
    let conf = home.write("broker.conf", "brokerName=a\nflushDiskType=OFTEN\nlistenPort=x\n");
    for command in ["broker", "standalone"] {
        let answer = home.ask(&[command, "-c", &conf]);
        assert_eq!(answer.code, Some(4), "{answer:?}");
        for fault in [format!("{conf}:2: flushDiskType = OFTEN"), format!("{conf}:3: listenPort = x")] {
            assert!(answer.err.contains(&fault), "no {fault} in {}", answer.err);
        }
        assert_eq!(answer.out, "");
    }
    let slave = home.write("slave.conf", "brokerRole=SLAVE\nbrokerId=1\n");
    let answer = home.ask(&["broker", "-c", &slave]);
    assert_eq!(answer.code, Some(4), "{answer:?}");
    assert!(answer.err.contains("replication is not built"), "{}", answer.err);
    let absent = home.ask(&["broker", "-c", "/no/such/file"]);
    assert_eq!(absent.code, Some(4), "{absent:?}");
    let core = home.ask(&["standalone", "--cpus", "8000"]);
    assert_eq!(core.code, Some(4), "{core:?}");
}

#[test]
fn a_name_server_says_where_it_is_and_ends_on_sigterm() {
    let home = Home::new();
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(home.ringmq(&["namesrv", "--listen", "127.0.0.1", "--port", "0"]));
        let banner = server.banner();
        assert!(banner[0].starts_with("ringmq "), "{banner:?}");
        let namesrv = address(&banner, "name server");
        let put = home.ask(&["admin", "updateKvConfig", "-n", &namesrv, "-s", "ns", "-k", "key", "-v", signal]);
        assert_eq!(put.code, Some(0), "{put:?}");

        let port = namesrv.rsplit(':').next().expect("a port");
        let second = home.ask(&["namesrv", "--listen", "127.0.0.1", "--port", port]);
        assert_eq!(second.code, Some(1), "{second:?}");
        assert!(second.err.contains(&namesrv), "{}", second.err);

        server.signal(signal);
        assert_eq!(server.ended(), Some(0));
        let kv = std::fs::read_to_string(home.path().join("ringmq/namesrv/kvConfig.json")).expect("the KV file");
        assert!(kv.contains(signal), "{kv}");
    }
}

#[test]
fn a_standalone_serves_its_own_words_and_keeps_messages_over_a_restart() {
    let home = Home::new();
    let store = home.path().join("store").into_os_string().into_string().expect("UTF-8");
    let start = || {
        let args = ["standalone", "--store", &store, "--port", "0", "--namesrv-port", "0", "--flush", "sync"];
        let server = Server::start(home.ringmq(&args));
        let banner = server.banner();
        (server, address(&banner, "name server"), banner)
    };
    let (mut server, namesrv, banner) = start();
    let broker = address(&banner, "broker");
    assert!(banner.iter().any(|line| line.ends_with(&format!("clients will be told {broker}"))), "{banner:?}");
    assert!(banner.iter().any(|line| line.contains("ringmq send -n")), "{banner:?}");

    // As soon as it is ready, a client finds the broker.
    let sent = home.ask(&["send", "-n", &namesrv, "--tag", "a", "demo", "hello there"]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert!(sent.out.starts_with("SEND_OK "), "{}", sent.out);
    let clusters = home.ask(&["admin", "clusterList", "-n", &namesrv]);
    assert!(clusters.out.contains(&broker), "{clusters:?}");
    // The new topic is announced a moment after the send that made it.
    let until = Instant::now() + PATIENCE;
    while !home.ask(&["admin", "topicList", "-n", &namesrv]).out.lines().any(|topic| topic == "demo") {
        assert!(Instant::now() < until, "the topic was never announced");
    }
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));

    let (mut server, namesrv, _) = start();
    let read = home.ask(&["tail", "-n", &namesrv, "demo", "--count", "1", "--body"]);
    assert_eq!((read.code, read.out.as_str()), (Some(0), "hello there\n"), "{read:?}");
    let second = home.ask(&["standalone", "--store", &store, "--port", "0", "--namesrv-port", "0"]);
    assert_eq!(second.code, Some(1), "a store in use: {second:?}");
    assert!(second.err.contains("store"), "{}", second.err);

    let ended = home.ask(&["shutdown", "standalone"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(server.ended(), Some(0));
    assert_eq!(home.ask(&["shutdown", "standalone"]).code, Some(1));
}

#[test]
fn rocketmqs_names_are_answered_to() {
    let home = Home::new();
    let link = |name: &str| {
        let path = home.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ringmq"), &path).expect("a link");
        path
    };
    let (mqbroker, mqnamesrv, mqshutdown) = (link("mqbroker"), link("mqnamesrv"), link("mqshutdown"));
    let conf = home.write("b.conf", "brokerName=mine\n");
    let items: Answer = home.program(&mqbroker).args(["-c", &conf, "-m"]).output().expect("it runs").into();
    assert_eq!(items.code, Some(0), "{items:?}");
    assert!(items.out.lines().any(|line| line == "brokerName=mine"), "{}", items.out);
    let flag: Answer = home.program(&mqbroker).arg("--store").output().expect("it runs").into();
    assert_eq!(flag.code, Some(2), "a flag that the script does not have: {flag:?}");

    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let conf = home.write("n.conf", &format!("listenPort={port}\nbindAddress=127.0.0.1\n"));
    let mut command = home.program(&mqnamesrv);
    command.args(["-c", &conf]);
    let mut server = Server::start(command);
    let banner = server.banner();
    assert!(banner.iter().any(|line| line.starts_with("The Name Server boot success.")), "{banner:?}");
    let none: Answer = home.program(&mqshutdown).arg("broker").output().expect("it runs").into();
    assert_eq!(none.code, Some(1), "{none:?}");
    assert!(none.err.contains("No mqbroker running."), "{none:?}");
    let gone: Answer = home.program(&mqshutdown).arg("namesrv").output().expect("it runs").into();
    assert_eq!(gone.code, Some(0), "{gone:?}");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn nobody_there_is_said() {
    let home = Home::new();
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").to_string();
    for args in [&["send", "-n", &nobody, "t", "x"][..], &["admin", "topicList", "-n", &nobody]] {
        let answer = home.ask(args);
        assert_eq!(answer.code, Some(3), "{answer:?}");
        assert!(answer.err.contains(&nobody), "{answer:?}");
    }
    let unbuilt = home.ask(&["admin", "consumerProgress", "-g", "x"]);
    assert_eq!(unbuilt.code, Some(1));
    assert!(unbuilt.err.contains("not built yet"), "{unbuilt:?}");
}
