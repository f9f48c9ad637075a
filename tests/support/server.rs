//! Servers under test: RingMQ's own processes, or Apache's, behind one face.
//!
//! The scenarios run against either. That they pass with Apache's servers shows that the scenarios are right, and lets
//! a name server of one make work with a broker of the other. `RINGMQ_TEST_SERVER` picks the make (`ours`, or
//! `apache-` and a version); a temporary folder holds stores, configuration and logs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::Process;
use super::wire::{self, Connection};
use super::{eventually, java, ports};

/// How long a server may take until it answers. A cold JVM on a busy machine sets this.
const START: Duration = Duration::from_secs(90);

/// Who made a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Ours,
    Apache(&'static str),
}

impl Make {
    /// The make that the whole run is to be held against.
    pub(crate) fn under_test() -> Make {
        match std::env::var("RINGMQ_TEST_SERVER").as_deref() {
            Err(_) | Ok("ours") => Make::Ours,
            Ok(name) => {
                let version = name.strip_prefix("apache-");
                let known = java::SERVERS.into_iter().find(|known| Some(*known) == version);
                Make::Apache(known.unwrap_or_else(|| panic!("no such server: {name}")))
            }
        }
    }
}

/// When a send is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    Async,
    Sync,
}

impl Flush {
    fn flag(self) -> &'static str {
        match self {
            Flush::Async => "async",
            Flush::Sync => "sync",
        }
    }
}

/// What may differ from one broker to another.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) flush: Flush,
    pub(crate) shards: u32,
    pub(crate) properties: Vec<(&'static str, String)>,
    /// More of RingMQ's environment.
    pub(crate) env: Vec<(&'static str, String)>,
}

impl Default for Settings {
    fn default() -> Settings {
        // Two, so that a queue's home is not always where its connection is.
        Settings { flush: Flush::Async, shards: 2, properties: Vec::new(), env: Vec::new() }
    }
}

fn ours() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    // How full the disk of this machine is, is no matter of the tests; those that fill a disk bring their own.
    command.env("RUST_BACKTRACE", "1").env("RINGMQ_TEST_ROOM", "1");
    command
}

/// Waits for the last line of RingMQ's banner.
fn wait_ready(process: &Process) {
    let ready = process.out.wait(START, |lines| lines.iter().any(|line| line.trim() == "ready").then_some(()));
    assert!(ready.is_some(), "never said `ready`\n{}", process.transcript());
}

/// Apache's servers look for their logging configuration under a home folder.
fn apache(version: &str, home: &Path, heap: &str) -> Command {
    let conf = home.join("conf");
    fs::create_dir_all(&conf).unwrap();
    for name in ["logback_namesrv.xml", "logback_broker.xml"] {
        fs::write(conf.join(name), "<configuration><root level=\"OFF\"/></configuration>").unwrap();
    }
    let mut command = java::jvm(heap, home);
    command
        .args(["--add-opens", "java.base/java.nio=ALL-UNNAMED"])
        .args(["--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED"])
        .args(["--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED"])
        .args(["--add-exports", "java.base/sun.nio.ch=ALL-UNNAMED"])
        .arg("-cp")
        .arg(java::server_classpath(version))
        .env("ROCKETMQ_HOME", home);
    command
}

/// A name server.
pub(crate) struct NameServer {
    pub(crate) process: Process,
    pub(crate) address: String,
}

impl NameServer {
    pub(crate) fn start(make: Make, folder: &Path) -> NameServer {
        let port = ports::free();
        let address = format!("127.0.0.1:{port}");
        let process = match make {
            Make::Ours => {
                let process = Process::spawn(ours().args(["namesrv", "--port", &port.to_string()]));
                wait_ready(&process);
                process
            }
            Make::Apache(version) => {
                let home = folder.join("namesrv");
                fs::create_dir_all(&home).unwrap();
                let conf = home.join("namesrv.conf");
                let kv = home.join("kvConfig.json");
                fs::write(&conf, format!("listenPort={port}\nkvConfigPath={}\n", kv.display())).unwrap();
                Process::spawn(
                    apache(version, &home, "128m")
                        .arg("org.apache.rocketmq.namesrv.NamesrvStartup")
                        .arg("-c")
                        .arg(&conf),
                )
            }
        };
        let mut server = NameServer { process, address };
        let address = server.address.clone();
        server.wait_until(|| cluster(&address).map(drop));
        server
    }

    fn wait_until(&mut self, look: impl FnMut() -> Option<()>) {
        wait_alive(&mut self.process, "the name server answers", look);
    }
}

/// Waits for an answer, but not for that of a process that has died.
fn wait_alive(process: &mut Process, what: &str, mut look: impl FnMut() -> Option<()>) {
    eventually(what, START, || {
        assert!(process.is_running(), "the server ended early\n{}", process.transcript());
        look()
    });
}

/// What the name server at `address` knows of brokers, when it answers.
pub(crate) fn cluster(address: &str) -> Option<Value> {
    let mut connection = Connection::open(address).ok()?;
    let reply = connection.call(wire::GET_CLUSTER, &[], &[]).ok()?;
    (reply.header.code == 0).then(|| lenient(&reply.body))
}

/// Parses a body that may have fastjson's unquoted integer keys.
pub(crate) fn lenient(body: &[u8]) -> Value {
    let text = String::from_utf8_lossy(body);
    let mut quoted = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(at) = rest.find(['{', ',']) {
        let (before, after) = rest.split_at(at + 1);
        quoted.push_str(before);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && after[digits..].starts_with(':') {
            quoted.push_str(&format!("\"{}\"", &after[..digits]));
            rest = &after[digits..];
        } else {
            rest = after;
        }
    }
    quoted.push_str(rest);
    serde_json::from_str(&quoted).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A broker, and with RingMQ's `standalone` also the name server in the same process.
pub(crate) struct Broker {
    pub(crate) process: Process,
    pub(crate) address: String,
    pub(crate) namesrv: String,
    pub(crate) name: String,
    make: Make,
    settings: Settings,
    /// The next start writes its configuration anew.
    is_configured: bool,
    folder: PathBuf,
    port: u16,
    standalone: Option<u16>,
}

impl Broker {
    /// Starts a broker that registers with the name servers `namesrv` under `name`.
    pub(crate) fn start(make: Make, folder: &Path, name: &str, namesrv: &str, settings: Settings) -> Broker {
        Broker::launch(make, folder, name, namesrv, None, settings)
    }

    fn launch(
        make: Make,
        folder: &Path,
        name: &str,
        namesrv: &str,
        standalone: Option<u16>,
        settings: Settings,
    ) -> Broker {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        let port = ports::free();
        configure(make, &folder, name, standalone, port, &settings);
        let process = spawn(make, &folder, namesrv, standalone, port, &settings);
        let mut broker = Broker {
            process,
            address: format!("127.0.0.1:{port}"),
            namesrv: namesrv.to_owned(),
            name: name.to_owned(),
            make,
            settings,
            is_configured: true,
            folder,
            port,
            standalone,
        };
        broker.wait_registered();
        broker
    }

    /// The broker's configuration file.
    pub(crate) fn configuration(&self) -> PathBuf {
        configuration(&self.folder)
    }

    /// Starts the broker again on the same ports, store and configuration; it must have ended.
    pub(crate) fn restart(&mut self) {
        assert!(!self.process.is_running(), "restart of a running broker");
        if !std::mem::replace(&mut self.is_configured, true) {
            configure(self.make, &self.folder, &self.name, self.standalone, self.port, &self.settings);
        }
        self.process = spawn(self.make, &self.folder, &self.namesrv, self.standalone, self.port, &self.settings);
        self.wait_registered();
    }

    /// Changes settings of the next start.
    pub(crate) fn settings(&mut self) -> &mut Settings {
        self.is_configured = false;
        &mut self.settings
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.terminate(Duration::from_secs(30))
    }

    /// Where the broker keeps its store.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&*self.address).unwrap()
    }

    /// Creates a topic on the broker and waits until the name server routes it.
    pub(crate) fn create_topic(&self, topic: &str, queues: u32) {
        let reply = self.connect().call(wire::UPDATE_AND_CREATE_TOPIC, &wire::topic(topic, queues), &[]).unwrap();
        assert_eq!(reply.header.code, 0, "create topic: {:?}", reply.header.remark);
        eventually("the new topic has a route", Duration::from_secs(40), || self.route(topic));
    }

    /// The route of `topic`, when there is one.
    pub(crate) fn route(&self, topic: &str) -> Option<Value> {
        let first = self.namesrv.split(';').next().unwrap();
        let mut connection = Connection::open(first).ok()?;
        let ext = [("topic", topic.to_owned())];
        let reply = connection.call(wire::GET_ROUTE, &ext, &[]).ok()?;
        (reply.header.code == 0).then(|| lenient(&reply.body))
    }

    /// A broker is ready when it answers itself and every name server tells its address.
    fn wait_registered(&mut self) {
        let (namesrv, address, name) = (self.namesrv.clone(), self.address.clone(), self.name.clone());
        wait_alive(&mut self.process, "the broker is registered", || {
            Connection::open(&*address).ok()?;
            namesrv
                .split(';')
                .all(|one| {
                    cluster(one).is_some_and(|cluster| {
                        cluster["brokerAddrTable"][&name]["brokerAddrs"]["0"] == address.as_str()
                    })
                })
                .then_some(())
        });
    }
}

fn configuration(folder: &Path) -> PathBuf {
    folder.join("broker.conf")
}

/// Writes the configuration file.
fn configure(make: Make, folder: &Path, name: &str, standalone: Option<u16>, port: u16, settings: &Settings) {
    let store = folder.join("store");
    let mut text = format!(
        "brokerClusterName=DefaultCluster\nbrokerName={name}\nbrokerId=0\nbrokerIP1=127.0.0.1\n\
         brokerRole=ASYNC_MASTER\n"
    );
    if standalone.is_none() {
        let flush = match settings.flush {
            Flush::Async => "ASYNC_FLUSH",
            Flush::Sync => "SYNC_FLUSH",
        };
        text += &format!("listenPort={port}\nstorePathRootDir={}\nflushDiskType={flush}\n", store.display());
    }
    text += &match make {
        Make::Apache(_) => apache_storage(&store, port),
        Make::Ours => storage(settings),
    };
    for (key, value) in &settings.properties {
        text += &format!("{key}={value}\n");
    }
    fs::write(configuration(folder), text).unwrap();
}

/// The shares of the disk, which 4.9 reads as fractions from the JVM's properties and not from its configuration.
fn disk_ratios(settings: &Settings) -> Vec<String> {
    let ratios = settings.properties.iter().filter(|(key, _)| key.starts_with("diskSpace"));
    ratios.map(|(key, percent)| format!("-Drocketmq.broker.{key}=0.{percent}")).collect()
}

fn spawn(make: Make, folder: &Path, namesrv: &str, standalone: Option<u16>, port: u16, settings: &Settings) -> Process {
    let (conf, store) = (configuration(folder), folder.join("store"));
    match (make, standalone) {
        (Make::Apache(version), _) => {
            // Apache's broker warms up every page of its files unless told otherwise, and delays a
            // start after a crash; neither says anything about the client's side.
            Process::spawn(
                apache(version, folder, "512m")
                    .args(disk_ratios(settings))
                    .arg("-XX:MaxDirectMemorySize=256m")
                    .arg("org.apache.rocketmq.broker.BrokerStartup")
                    .arg("-c")
                    .arg(&conf)
                    .args(["-n", namesrv]),
            )
        }
        (Make::Ours, None) => {
            let process = Process::spawn(
                ours().envs(settings.env.clone()).arg("broker").arg("-c").arg(&conf).args(["-n", namesrv]),
            );
            wait_ready(&process);
            process
        }
        (Make::Ours, Some(namesrv_port)) => {
            let process = Process::spawn(
                ours()
                    .envs(settings.env.clone())
                    .arg("standalone")
                    .arg("-c")
                    .arg(&conf)
                    .arg("--store")
                    .arg(&store)
                    .args(["--listen", "127.0.0.1", "--port", &port.to_string()])
                    .args(["--namesrv-port", &namesrv_port.to_string()])
                    .args(["--shards", &settings.shards.to_string()])
                    .args(["--flush", settings.flush.flag()]),
            );
            wait_ready(&process);
            process
        }
    }
}

const SEGMENT_BYTES: &str = "mappedFileSizeCommitLog";

/// The segments of a broker under load: as much as may wait for the disk.
pub(crate) fn wide_segments() -> (&'static str, String) {
    (SEGMENT_BYTES, (64 << 20).to_string())
}

/// Small segments otherwise. Each shard fills its first with zeros when it starts, and most tests start brokers to send them
/// a few messages. One that has to do with the disk knows what a wide one holds.
fn storage(settings: &Settings) -> String {
    if settings.properties.iter().any(|(given, _)| *given == SEGMENT_BYTES) {
        return String::new();
    }
    let (key, wide) = wide_segments();
    if settings.env.is_empty() { format!("{key}={}\n", 16 << 20) } else { format!("{key}={wide}\n") }
}

/// Small files, so that a test's broker starts in seconds and fits a small disk.
fn apache_storage(store: &Path, port: u16) -> String {
    format!(
        "storePathCommitLog={}\nhaListenPort={}\nmappedFileSizeCommitLog=67108864\n\
         mappedFileSizeConsumeQueue=600000\nmaxIndexNum=20000\nmaxHashSlotNum=5000\n\
         warmMapedFileEnable=false\n",
        store.join("commitlog").display(),
        port + 1,
    )
}

/// The broker's name in a cluster, unless a test has it otherwise.
pub(crate) const NAME: &str = "broker-a";

/// A name server and one broker: one process of ours, two of Apache's.
pub(crate) struct Cluster {
    pub(crate) broker: Broker,
    pub(crate) folder: tempfile::TempDir,
    _namesrv: Option<NameServer>,
}

impl Cluster {
    pub(crate) fn start(settings: Settings) -> Cluster {
        Cluster::of(Make::under_test(), settings)
    }

    pub(crate) fn of(make: Make, settings: Settings) -> Cluster {
        Cluster::in_folder(tempfile::tempdir().unwrap(), make, settings)
    }

    /// Where the broker of a cluster in `folder` will keep its store.
    pub(crate) fn store_in(folder: &Path) -> PathBuf {
        folder.join(NAME).join("store")
    }

    pub(crate) fn in_folder(folder: tempfile::TempDir, make: Make, settings: Settings) -> Cluster {
        Cluster::named(NAME, folder, make, settings)
    }

    /// The same with another name of the broker.
    pub(crate) fn named(name: &str, folder: tempfile::TempDir, make: Make, settings: Settings) -> Cluster {
        let (namesrv, address, standalone) = match make {
            Make::Ours => {
                let port = ports::free();
                (None, format!("127.0.0.1:{port}"), Some(port))
            }
            Make::Apache(_) => {
                let namesrv = NameServer::start(make, folder.path());
                let address = namesrv.address.clone();
                (Some(namesrv), address, None)
            }
        };
        let broker = Broker::launch(make, folder.path(), name, &address, standalone, settings);
        Cluster { broker, folder, _namesrv: namesrv }
    }

    pub(crate) fn namesrv(&self) -> &str {
        &self.broker.namesrv
    }

    /// A Java client of `version` that keeps its logs in this cluster's folder.
    pub(crate) fn client(&self, version: &'static str) -> java::Client {
        archived(version);
        java::Client::new(version, self.folder.path())
    }
}

/// Sees to it that clients of `version` have their classes from an archive, with servers that no test looks at.
fn archived(version: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    java::Client::new(version, folder.path()).archive(|client| {
        let cluster = Cluster::of(Make::Ours, Settings::default());
        cluster.broker.create_topic("archive_topic", 1);
        client.run("request", &[("namesrv", cluster.namesrv()), ("topic", "archive_topic")]);
    });
}

/// How long `work` took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
