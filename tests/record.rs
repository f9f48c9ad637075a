// SPDX-License-Identifier: Apache-2.0
//! Records golden frames: what Apache's Java clients and servers put on the wire.
//!
//! Not a check. It runs on demand and rewrites `net/protocol/tests/golden`, whose README says how.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    (215, "delete-topic-in-broker"),
    (216, "delete-topic-in-namesrv"),
    (310, "send-message-v2"),
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
    names: BTreeSet<String>,
}

impl Album {
    fn new(folder: &Path) -> Album {
        if folder.exists() {
            fs::remove_dir_all(folder).unwrap();
        }
        fs::create_dir_all(folder).unwrap();
        Album { folder: folder.to_owned(), names: BTreeSet::new() }
    }

    fn keep(&mut self, name: String, bytes: &[u8]) {
        if self.names.insert(name.clone()) {
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
fn file(recorder: &Recorder, direction: Direction, requests: &mut Album, replies: &mut Album) {
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

/// Everything that the scenarios of the drivers make a client say.
fn tour(client: &Client, namesrv: &str, broker: &Broker, mark: &str) {
    let topic = &*format!("golden_{mark}");
    let address = &*broker.address;
    let all = |more: &[(&'static str, &'static str)]| -> Vec<(&str, String)> {
        let mut options = vec![("namesrv", namesrv.to_owned()), ("topic", topic.to_owned())];
        options.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        options
    };
    let run = |command: &str, more: &[(&'static str, &'static str)]| {
        let options = all(more);
        let borrowed: Vec<_> = options.iter().map(|(name, value)| (*name, &**value)).collect();
        client.run(command, &borrowed)
    };
    let admin = |action: &str| {
        client.run(
            "admin",
            &[("namesrv", namesrv), ("broker", address), ("topic", topic), ("do", action), ("queues", "2")],
        )
    };
    admin("create-topic");
    eventually("the topic has a route", Duration::from_secs(40), || broker.route(topic));
    admin("topic-list");
    admin("route");
    admin("cluster");
    if client.version != "4.9.8" {
        admin("topic-config");
    }
    run("send", &[("queue", "0")]);
    run("send", &[("mode", "async"), ("tag", "TagA"), ("keys", "order"), ("user", "value")]);
    run("send", &[("mode", "oneway")]);
    run("send", &[("mode", "batch"), ("count", "3"), ("tag", "TagA,TagB"), ("keys", "batch")]);
    run("send", &[("size", "6000")]);
    let sent = run("send", &[("tag", "TagA"), ("keys", "lookup"), ("queue", "1")]);
    run("send", &[("delay-level", "1")]);
    run("push", &[("group", "golden_push"), ("count", "5"), ("sub", "TagA || TagB"), ("fail-first", "true"), ("persist", "300")]);
    run("push", &[("group", "golden_orderly"), ("count", "4"), ("orderly", "true")]);
    run("litepull", &[("group", "golden_lite"), ("count", "4")]);
    run("pull", &[("queue", "1")]);
    let id = sent[0]["offsetMsgId"].as_str().unwrap();
    let mut options = all(&[("commit", "1"), ("time", "0"), ("key", "lookup-0")]);
    options.push(("view", id.to_owned()));
    let borrowed: Vec<_> = options.iter().map(|(name, value)| (*name, &**value)).collect();
    client.run("offsets", &borrowed);
    run("offsets", &[("commit", "1"), ("oneway", "true")]);
    run("transaction", &[("state", "commit")]);
    run("transaction", &[("state", "rollback")]);
    run("transaction", &[("state", "unknown"), ("wait", "30000"), ("group", "golden_check")]);
    let request = format!("{topic}_request");
    client.run("send", &[("namesrv", namesrv), ("topic", &request)]);
    client.run("request", &[("namesrv", namesrv), ("topic", &request)]);
    admin("delete-topic");
}

/// One pair of Apache servers with recorders in front of both, and one client that meets them all.
fn record(golden: &Path, server: &'static str, client: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let make = Make::Apache(server);
    let namesrv = NameServer::start(make, folder.path());
    let registrations = Recorder::start(ports::free(), &namesrv.address, None);
    let settings = Settings {
        properties: vec![
            ("transactionCheckInterval", "3000".to_owned()),
            ("transactionTimeOut", "1000".to_owned()),
        ],
        ..Settings::default()
    };
    let mut broker =
        Broker::start(make, folder.path(), "broker-a", &registrations.address, settings);
    let mut replies = Album::new(&golden.join(format!("apache-{server}")));
    for headers in ["JSON", "ROCKETMQ"] {
        let to_broker = Recorder::start(ports::free(), &broker.address, None);
        let exchange = Some((broker.address.clone(), to_broker.address.clone()));
        let to_namesrv = Recorder::start(ports::free(), &namesrv.address, exchange);
        let java = Client::new(client, folder.path()).with_headers(headers);
        tour(&java, &to_namesrv.address, &broker, &headers.to_lowercase());
        let mut requests = Album::new(&golden.join(client).join(headers.to_lowercase()));
        for recorder in [&to_namesrv, &to_broker] {
            file(recorder, Direction::ToServer, &mut requests, &mut replies);
        }
        // What the broker asks its clients: their answers are of the client's make.
        let mut asked = Album { folder: replies.folder.clone(), names: replies.names.clone() };
        file(&to_broker, Direction::ToClient, &mut asked, &mut requests);
        replies.names = asked.names;
        println!("{client} {headers}: {:?}", requests.names);
    }
    broker.terminate();
    let mut registered = Album { folder: replies.folder.clone(), names: replies.names.clone() };
    file(&registrations, Direction::ToServer, &mut registered, &mut replies);
    println!("{server}: {:?} {:?}", replies.names, registered.names);
}

#[test]
#[ignore = "rewrites the golden frames; run by hand when a new version is to be recorded"]
fn golden_frames() {
    if let Some(reason) = java::missing() {
        return support::skip(&reason);
    }
    let golden = root().join("net/protocol/tests/golden");
    record(&golden, "4.9.7", CLIENTS[0]);
    record(&golden, "5.3.3", CLIENTS[1]);
}
