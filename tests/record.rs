//! Records golden frames: what Apache's Java clients and servers put on the wire.
//!
//! A program and no test, so `cargo test` leaves it alone: run by name it rewrites `net/protocol/tests/golden`, whose README says how.
#![expect(clippy::unwrap_used, reason = "what fails here ends the recording")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use support::java::{CLIENTS, Client};
use support::recorder::{Direction, Passed, Recorder};
use support::server::{Broker, Make, NameServer, Settings};
use support::{eventually, java, ports, root};

const NAMES: &[(i32, &str)] = &[
    (10, "send-message"),
    (11, "pull-message"),
    (12, "query-message"),
    (14, "query-consumer-offset"),
    (15, "update-consumer-offset"),
    (17, "update-and-create-topic"),
    (21, "get-all-topic-config"),
    (29, "search-offset-by-timestamp"),
    (30, "get-max-offset"),
    (31, "get-min-offset"),
    (32, "get-earliest-msg-storetime"),
    (33, "view-message-by-id"),
    (34, "heart-beat"),
    (35, "unregister-client"),
    (36, "consumer-send-msg-back"),
    (37, "end-transaction"),
    (38, "get-consumer-list-by-group"),
    (39, "check-transaction-state"),
    (40, "notify-consumer-ids-changed"),
    (41, "lock-batch-mq"),
    (42, "unlock-batch-mq"),
    (46, "check-client-config"),
    (101, "get-kv-config"),
    (103, "register-broker"),
    (104, "unregister-broker"),
    (105, "get-routeinfo-by-topic"),
    (106, "get-broker-cluster-info"),
    (206, "get-all-topic-list-from-nameserver"),
    (203, "get-consumer-connection-list"),
    (208, "get-consume-stats"),
    (215, "delete-topic-in-broker"),
    (216, "delete-topic-in-namesrv"),
    (220, "reset-consumer-client-offset"),
    (221, "get-consumer-status-from-client"),
    (222, "invoke-broker-to-reset-offset"),
    (223, "invoke-broker-to-get-consumer-status"),
    (300, "query-topic-consume-by-who"),
    (303, "query-consume-time-span"),
    (307, "get-consumer-running-info"),
    (310, "send-message-v2"),
    (314, "clone-group-offset"),
    (320, "send-batch-message"),
    (322, "query-data-version"),
    (324, "send-reply-message"),
    (325, "send-reply-message-v2"),
    (326, "push-reply-message-to-client"),
    (351, "get-topic-config"),
    (361, "lite-pull-message"),
];

/// What tells a frame from others of its code, for codes that come in several shapes.
fn variant(passed: &Passed) -> String {
    let header = &passed.frame.header;
    let mut parts = Vec::new();
    match header.code {
        310 => {
            let sys_flag: i32 = header.field("f").parse().unwrap();
            let properties = header.ext.get("i").map_or("", String::as_str);
            for (name, has) in [
                ("compressed", sys_flag & 1 == 1),
                ("half", sys_flag & 4 == 4),
                ("tags", properties.contains("TAGS\u{1}")),
                ("keys", properties.contains("KEYS\u{1}")),
                ("delay", properties.contains("DELAY\u{1}")),
            ] {
                if has {
                    parts.push(name);
                }
            }
        }
        11 | 361 => {
            let flag: i32 = header.field("sysFlag").parse().unwrap();
            let names = [(1, "commit"), (2, "suspend"), (4, "subscription"), (16, "lite")];
            parts.extend(names.iter().filter(|(bit, _)| flag & bit != 0).map(|(_, name)| *name));
        }
        34 if passed.direction == Direction::ToServer => {
            let body = String::from_utf8_lossy(&passed.frame.body);
            if !body.contains("\"consumerDataSet\":[]") {
                parts.push("consumer");
            }
            if !body.contains("\"producerDataSet\":[]") {
                parts.push("producer");
            }
        }
        37 => parts.push(match header.field("commitOrRollback") {
            "8" => "commit",
            "12" => "rollback",
            _ => "unknown",
        }),
        35 => {
            parts.extend(header.ext.contains_key("consumerGroup").then_some("consumer"));
            parts.extend(header.ext.contains_key("producerGroup").then_some("producer"));
        }
        _ => {}
    }
    if header.is_oneway() {
        parts.push("oneway");
    }
    parts.iter().map(|part| format!("-{part}")).collect()
}

/// Files frames below one folder, the first of each name.
struct Album {
    folder: PathBuf,
    names: RefCell<BTreeSet<String>>,
}

impl Album {
    fn new(folder: &Path) -> Album {
        if folder.exists() {
            fs::remove_dir_all(folder).unwrap();
        }
        fs::create_dir_all(folder).unwrap();
        Album { folder: folder.to_owned(), names: RefCell::default() }
    }

    fn keep(&self, name: String, bytes: &[u8]) {
        if self.names.borrow_mut().insert(name.clone()) {
            fs::write(self.folder.join(name + ".bin"), bytes).unwrap();
        }
    }
}

fn name_of(request: &Passed) -> String {
    let code = request.frame.header.code;
    let name = NAMES.iter().find(|(known, _)| *known == code).map_or("unnamed", |(_, name)| name);
    format!("{code}-{name}{}", variant(request))
}

/// The requests of `direction` into `requests`, and the replies to them into `replies`.
fn file(recorder: &Recorder, direction: Direction, requests: &Album, replies: &Album) {
    for passed in recorder.passed() {
        if passed.direction != direction || passed.frame.header.is_reply() {
            continue;
        }
        let name = name_of(&passed);
        requests.keep(name.clone(), &passed.frame.bytes);
        if let Some(reply) = recorder.reply_to(&passed) {
            let code = reply.frame.header.code;
            let outcome = if code == 0 { String::new() } else { format!("-code-{code}") };
            replies.keep(format!("{name}-reply{outcome}"), &reply.frame.bytes);
        }
    }
}

/// One round of a client through everything that the drivers can make it say.
struct Tour<'a> {
    client: Client,
    namesrv: &'a str,
    broker: &'a str,
    topic: String,
}

impl Tour<'_> {
    fn run(&self, command: &str, more: &[(&str, &str)]) -> Vec<Value> {
        let mut options = vec![("namesrv", self.namesrv), ("topic", &*self.topic)];
        options.extend_from_slice(more);
        self.client.run(command, &options)
    }

    fn admin(&self, action: &str) {
        self.run("admin", &[("broker", self.broker), ("do", action), ("queues", "2")]);
    }

    fn administer(&self, broker: &Broker) {
        self.admin("create-topic");
        eventually("the topic has a route", Duration::from_secs(40), || broker.route(&self.topic));
        for action in ["topic-list", "route", "cluster", "topic-config"] {
            self.admin(action);
        }
    }

    fn produce(&self) {
        self.run("send", &[("queue", "0")]);
        self.run("send", &[("mode", "async"), ("tag", "TagA"), ("keys", "order"), ("user", "value")]);
        self.run("send", &[("mode", "oneway")]);
        self.run("send", &[("mode", "batch"), ("count", "3"), ("tag", "TagA,TagB"), ("keys", "batch")]);
        self.run("send", &[("size", "6000")]);
        self.run("send", &[("delay-level", "1")]);
        let mut plain = Tour { client: self.client.clone(), topic: self.topic.clone(), ..*self };
        plain.client.properties.push("org.apache.rocketmq.client.sendSmartMsg=false".to_owned());
        plain.run("send", &[("tag", "TagA")]);
        for state in ["commit", "rollback"] {
            self.run("transaction", &[("state", state)]);
        }
        let wait = [("state", "unknown"), ("wait", "30000"), ("group", "golden_check")];
        self.run("transaction", &wait);
    }

    fn consume(&self) {
        let tags = [("group", "golden_push"), ("count", "5"), ("sub", "TagA || TagB")];
        self.run("push", &[&tags[..], &[("fail-first", "true"), ("persist", "300")]].concat());
        self.run("push", &[("group", "golden_orderly"), ("count", "4"), ("orderly", "true")]);
        self.run("push", &[("group", "golden_sql"), ("count", "1"), ("sql", "user = 'value'")]);
        self.run("litepull", &[("group", "golden_lite"), ("count", "4")]);
        self.run("pull", &[("queue", "1")]);
    }

    fn look_up(&self) {
        let sent = self.run("send", &[("tag", "TagA"), ("keys", "lookup"), ("queue", "1")]);
        // A client asks the address inside the id, so the recorder's port goes there.
        let id = sent[0]["offsetMsgId"].as_str().unwrap();
        let port: u32 = self.broker.rsplit(':').next().unwrap().parse().unwrap();
        let id = format!("{}{port:08X}{}", &id[..8], &id[16..]);
        let ask = [("commit", "1"), ("time", "0"), ("key", "lookup-0"), ("view", &*id)];
        self.run("offsets", &ask);
        self.run("offsets", &[("commit", "1"), ("oneway", "true")]);
    }

    fn operate(&self) {
        let group = ("group", "golden_asked");
        let options = [("namesrv", self.namesrv), ("topic", &*self.topic), group, ("persist", "300")];
        let consumer = self.client.start("push", &options);
        let id = consumer.wait_event("started")["clientId"].as_str().unwrap().to_owned();
        consumer.wait_messages(4);
        eventually("the group has offsets", Duration::from_secs(40), || {
            (self.run("operator", &[group, ("do", "stats")])[0]["event"] == "ok").then_some(())
        });
        for what in ["status", "running", "span", "who", "reset"] {
            self.run("operator", &[group, ("do", what), ("client", &id)]);
        }
        self.run("operator", &[group, ("do", "clone"), ("to", "golden_cloned")]);
        consumer.stop();
    }

    fn request(&self) {
        let topic = format!("{}_request", self.topic);
        let other = Tour { client: self.client.clone(), topic, ..*self };
        other.run("send", &[]);
        other.run("request", &[]);
    }
}

/// One pair of Apache servers with recorders in front of both, and one client that meets them all.
fn record(golden: &Path, server: &'static str, client: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let make = Make::Apache(server);
    let namesrv = NameServer::start(make, folder.path());
    let registrations = Recorder::start(ports::free(), &namesrv.address, None);
    let properties =
        [("transactionCheckInterval", "3000"), ("transactionTimeOut", "1000"), ("enablePropertyFilter", "true")];
    let properties = properties.map(|(key, value)| (key, value.to_owned())).to_vec();
    let settings = Settings { properties, ..Settings::default() };
    let mut broker = Broker::start(make, folder.path(), "broker-a", &registrations.address, settings);
    let replies = Album::new(&golden.join(format!("apache-{server}")));
    for headers in ["JSON", "ROCKETMQ"] {
        let to_broker = Recorder::start(ports::free(), &broker.address, None);
        let exchange = Some((broker.address.clone(), to_broker.address.clone()));
        let to_namesrv = Recorder::start(ports::free(), &namesrv.address, exchange);
        let tour = Tour {
            client: Client::new(client, folder.path()).with_headers(headers),
            namesrv: &to_namesrv.address,
            broker: &to_broker.address,
            topic: format!("golden_{}", headers.to_lowercase()),
        };
        tour.administer(&broker);
        tour.produce();
        tour.consume();
        tour.look_up();
        tour.operate();
        tour.request();
        tour.admin("delete-topic");
        let requests = Album::new(&golden.join(client).join(headers.to_lowercase()));
        for recorder in [&to_namesrv, &to_broker] {
            file(recorder, Direction::ToServer, &requests, &replies);
        }
        // What the broker asks its clients: the answers are the client's.
        file(&to_broker, Direction::ToClient, &replies, &requests);
        println!("{client} {headers}: {:#?}", requests.names.borrow());
    }
    broker.terminate();
    file(&registrations, Direction::ToServer, &replies, &replies);
    println!("{server}: {:#?}", replies.names.borrow());
}

fn main() {
    if let Some(reason) = java::missing() {
        panic!("nothing is recorded: {reason}");
    }
    let golden = root().join("net/protocol/tests/golden");
    for (server, client) in java::SERVERS.into_iter().zip(CLIENTS) {
        record(&golden, server, client);
    }
}
