//! Java: builds the drivers and fetches Apache's servers with Maven once, and runs them.
//!
//! What Maven makes is kept under `target/java`, one folder a version, with a stamp of what it was made from.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::process::Process;
use super::root;

/// The client versions that every scenario is run with.
pub(crate) const CLIENTS: [&str; 2] = ["4.9.8", "5.3.3"];
/// Apache's servers, at the versions that Maven holds.
pub(crate) const SERVERS: [&str; 2] = ["4.9.7", "5.3.3"];

/// Says what is missing to run Java, if something is.
pub(crate) fn missing() -> Option<String> {
    ["java", "mvn"]
        .into_iter()
        .find(|program| {
            let probe = Command::new(program).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            !probe.is_ok_and(|status| status.success())
        })
        .map(|program| format!("`{program}` is not installed"))
}

/// A Maven project under `tests/java`, at one version of RocketMQ.
fn built(project: &str, version: &str) -> PathBuf {
    let source = root().join("tests/java").join(project);
    let out = root().join("target/java").join(format!("{project}-{version}"));
    fs::create_dir_all(&out).unwrap();
    let lock = fs::File::create(out.join("lock")).unwrap();
    lock.lock().unwrap();
    let stamp = out.join("stamp");
    let wanted = fingerprint(&source);
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return out;
    }
    let result = Command::new("mvn")
        .args(["-B", "-q", "-f"])
        .arg(source.join("pom.xml"))
        .arg("compile")
        .arg(format!("-Drocketmq.version={version}"))
        .arg(format!("-Dout={}", out.display()))
        .output()
        .unwrap();
    assert!(
        result.status.success(),
        "mvn failed for {project} {version}:\n{}{}",
        String::from_utf8_lossy(&result.stdout),
        String::from_utf8_lossy(&result.stderr)
    );
    let classes = out.join("build/classes");
    if classes.exists() {
        // A JVM keeps classes in an archive only when they come from jars.
        let mut jar = Command::new("jar");
        jar.arg("--create").arg("--file").arg(out.join(JAR)).arg("-C").arg(classes).arg(".");
        assert!(jar.status().unwrap().success(), "{jar:?}");
        let _none = fs::remove_file(out.join(ARCHIVE));
    }
    fs::write(&stamp, wanted).unwrap();
    out
}

/// What `built` has made of a project's own classes.
const JAR: &str = "classes.jar";
/// The classes that a client loads, as a JVM maps them.
const ARCHIVE: &str = "classes.jsa";

/// A project's own classes and what they need.
fn classpath(out: &Path) -> String {
    format!("{}:{}/*", out.join(JAR).display(), out.join("lib").display())
}

fn fingerprint(folder: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    // What is made of them, too.
    JAR.hash(&mut hasher);
    let mut pending = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { pending.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file).unwrap().hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

/// A JVM that is small and quick to start: the machine is shared with the server under test.
pub(crate) fn jvm(heap: &str, home: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .arg(format!("-Xmx{heap}"))
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"])
        .arg(format!("-Duser.home={}", home.display()));
    command
}

/// The classpath of Apache's servers of `version`.
pub(crate) fn server_classpath(version: &str) -> String {
    format!("{}/*", built("server", version).join("lib").display())
}

/// The program that asks Apache's SQL92 filter of `version`.
pub(crate) fn filter(version: &str, home: &Path) -> Command {
    let out = built("filter", version);
    let mut java = jvm("512m", home);
    java.arg("-cp").arg(classpath(&out)).arg("ringmq.filter.Ask");
    java
}

/// One of the programs of the order and payment flow, on the client of `version`.
pub(crate) fn orders(version: &str, program: &str, home: &Path) -> Command {
    let out = built("orders", version);
    let mut java = jvm("96m", home);
    // The database driver unpacks its native library, and cannot remove it when it is killed.
    java.arg(format!("-Dorg.sqlite.tmpdir={}", home.display()))
        // A new retry topic is taken up at the next rebalance, which is 20 s away otherwise.
        .arg("-Drocketmq.client.rebalance.waitInterval=2000")
        .arg("-cp")
        .arg(classpath(&out))
        .arg(format!("ringmq.orders.{program}"));
    java
}

/// The Java client of one version, with one of the two header encodings.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) version: &'static str,
    pub(crate) headers: &'static str,
    pub(crate) home: PathBuf,
    /// System properties of the JVM, as `name=value`.
    pub(crate) properties: Vec<String>,
    /// Where the JVM is to write its classes when it ends.
    archiving: Option<PathBuf>,
}

impl Client {
    /// A client that keeps its logs and local offsets under `home`.
    pub(crate) fn new(version: &'static str, home: &Path) -> Client {
        Client { version, headers: "JSON", home: home.to_owned(), properties: Vec::new(), archiving: None }
    }

    pub(crate) fn with_headers(mut self, headers: &'static str) -> Client {
        self.headers = headers;
        self
    }

    /// A consumer that looks at its queues when it starts and when a broker's notice tells it to, but not every 20 s.
    pub(crate) fn without_rebalance(mut self) -> Client {
        self.properties.push("rocketmq.client.rebalance.waitInterval=600000".to_owned());
        self
    }

    /// Lets the driver run tools too. 4.9's do not start without a logging configuration in their home.
    pub(crate) fn with_tools(mut self) -> Client {
        let conf = self.home.join("conf");
        fs::create_dir_all(&conf).unwrap();
        fs::write(conf.join("logback_tools.xml"), "<configuration><root level=\"OFF\"/></configuration>").unwrap();
        self.properties.push(format!("rocketmq.home.dir={}", self.home.display()));
        self
    }

    /// A JVM with the client, the tools and the driver.
    fn jvm(&self) -> Command {
        let out = built("client", self.version);
        let mut java = jvm("256m", &self.home);
        let archive = out.join(ARCHIVE);
        if let Some(archive) = &self.archiving {
            java.arg(format!("-XX:ArchiveClassesAtExit={}", archive.display()));
        } else if archive.exists() {
            java.arg(format!("-XX:SharedArchiveFile={}", archive.display()));
        }
        java.args(self.properties.iter().map(|property| format!("-D{property}"))).arg("-cp").arg(classpath(&out));
        java
    }

    /// Keeps the classes of a client in an archive unless that is done: hundreds of JVMs then start with a third less
    /// work. `play` runs one that sends and receives.
    pub(crate) fn archive(&self, play: impl FnOnce(&Client)) {
        let out = built("client", self.version);
        if out.join(ARCHIVE).exists() {
            return;
        }
        let lock = fs::File::create(out.join("archive.lock")).unwrap();
        lock.lock().unwrap();
        if out.join(ARCHIVE).exists() {
            return;
        }
        let part = out.join("classes.jsa.part");
        play(&Client { archiving: Some(part.clone()), ..self.clone() });
        // It has its name only when it is whole.
        fs::rename(part, out.join(ARCHIVE)).unwrap();
    }

    /// Starts the driver with `command` and `options`, given as `name value` pairs.
    pub(crate) fn start(&self, command: &str, options: &[(&str, &str)]) -> Driver {
        let mut java = self.jvm();
        java.arg(format!("-Drocketmq.serialize.type={}", self.headers)).args(["ringmq.driver.Driver", command]);
        for (name, value) in options {
            java.arg(format!("--{name}")).arg(value);
        }
        Driver { process: Process::spawn(&mut java) }
    }

    /// Runs the tools' own command line, `mqadmin`, and gives all that it prints.
    pub(crate) fn mqadmin(&self, args: &[&str]) -> String {
        let (out, err) = self.tools(args);
        // It prints its exceptions and ends well.
        assert!(!err.contains("Exception"), "mqadmin {args:?}\n{out}{err}");
        out
    }

    /// The same for a command that also asks which groups have consumed a message, whatever becomes of that.
    pub(crate) fn mqadmin_aside(&self, args: &[&str]) -> String {
        self.tools(args).0
    }

    /// The same for a command that is to fail: what it prints beside its output.
    pub(crate) fn mqadmin_refused(&self, args: &[&str]) -> String {
        let (out, err) = self.tools(args);
        assert!(err.contains("Exception"), "mqadmin {args:?} was not refused\n{out}{err}");
        err
    }

    fn tools(&self, args: &[&str]) -> (String, String) {
        let result = self
            .clone()
            .with_tools()
            .jvm()
            .arg("org.apache.rocketmq.tools.command.MQAdminStartup")
            .args(args)
            // Some commands leave files where they run.
            .current_dir(&self.home)
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&result.stdout), String::from_utf8_lossy(&result.stderr));
        assert!(result.status.success(), "mqadmin {args:?}\n{out}{err}");
        (out.into_owned(), err.into_owned())
    }

    /// Runs the driver to its end and gives what it said, without the closing line.
    pub(crate) fn run(&self, command: &str, options: &[(&str, &str)]) -> Vec<Value> {
        self.start(command, options).end()
    }
}

/// A running driver.
pub(crate) struct Driver {
    process: Process,
}

fn parse(lines: &[String]) -> Vec<Value> {
    lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

impl Driver {
    /// What the driver has said so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        parse(&self.process.out.all())
    }

    /// Waits until the driver's lines satisfy `enough`.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mut enough: impl FnMut(&[Value]) -> Option<T>,
    ) -> T {
        self.process
            .out
            .wait(patience, |lines| enough(&parse(lines)))
            .unwrap_or_else(|| panic!("{what}: not within {patience:?}\n{}", self.process.transcript()))
    }

    /// Waits for the first line of this event.
    pub(crate) fn wait_event(&self, event: &str) -> Value {
        self.wait_for(event, Duration::from_secs(40), |lines| lines.iter().find(|line| line["event"] == event).cloned())
    }

    /// Waits for at least `count` messages.
    pub(crate) fn wait_messages(&self, count: usize) -> Vec<Value> {
        self.wait_for(&format!("{count} messages"), Duration::from_secs(60), |lines| {
            let messages = of(lines, "message");
            (messages.len() >= count).then_some(messages)
        })
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.process.say(line);
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits for the driver's end, which must be a good one, and gives all its lines but the closing one.
    pub(crate) fn end(mut self) -> Vec<Value> {
        let status = self.process.wait(Duration::from_secs(120));
        let mut lines = self.lines();
        assert!(status.success(), "the driver failed\n{}", self.process.transcript());
        assert_eq!(lines.pop().unwrap()["event"], "done");
        lines
    }

    /// Tells a client that stays to leave, and waits for its end.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        self.say("stop");
        self.end()
    }
}

/// The lines of one event.
pub(crate) fn of(lines: &[Value], event: &str) -> Vec<Value> {
    lines.iter().filter(|line| line["event"] == event).cloned().collect()
}
