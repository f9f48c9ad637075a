//! One scenario's stage: a broker of its own, raw requests, a JVM of clients that are told what to do, and the list of
//! what was observed.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::support::java::{Driver, of};
use super::support::server::{Cluster, Make, NAME, Settings, lenient};
use super::support::wire::{self, Connection, Frame, Record};
use super::tokens::Tokens;

/// What a client of this version writes into its requests.
fn wire_version(client: &str) -> i32 {
    match client {
        "4.9.8" => 409,
        "5.3.3" => 479,
        other => panic!("no wire version for {other}"),
    }
}

/// What a scenario is run with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) client: &'static str,
}

const UPDATE_BROKER_CONFIG: i32 = 25;

/// How long something may take that has to happen: a cold JVM on a busy machine takes its time, and Apache's broker looks
/// for old files a minute after its start.
const PATIENCE: Duration = Duration::from_secs(100);

impl Setup {
    /// Starts a broker with these lines in its configuration.
    pub(crate) fn start(self, properties: &[(&'static str, &str)]) -> Scene {
        self.start_with(properties, Vec::new())
    }

    /// The same with more of RingMQ's environment.
    pub(crate) fn start_with(self, properties: &[(&'static str, &str)], env: Vec<(&'static str, String)>) -> Scene {
        self.start_in(tempfile::tempdir().unwrap(), properties, env)
    }

    /// The same with the folder where the broker keeps its store.
    pub(crate) fn start_in(
        self,
        folder: tempfile::TempDir,
        properties: &[(&'static str, &str)],
        env: Vec<(&'static str, String)>,
    ) -> Scene {
        let mut scene = self.launch(NAME, folder, properties, env);
        // The log begins at 0. A half message there could not be told from none.
        let first = wire::Outgoing { topic: NAME, queue: 0, properties: "", body: b"first" };
        let sent = scene.connection.call(wire::SEND_MESSAGE_V2, &first.ext(), first.body).unwrap();
        assert_eq!(sent.header.code, 0, "{:?}", sent.header.remark);
        scene
    }

    /// Starts a broker with this name, and nothing in its log.
    pub(crate) fn start_named(self, name: &str, properties: &[(&'static str, &str)]) -> Scene {
        self.launch(name, tempfile::tempdir().unwrap(), properties, Vec::new())
    }

    fn launch(
        self,
        name: &str,
        folder: tempfile::TempDir,
        properties: &[(&'static str, &str)],
        env: Vec<(&'static str, String)>,
    ) -> Scene {
        let properties = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        // One, as system topics have their queues in each shard.
        let settings = Settings { properties, shards: 1, env, ..Settings::default() };
        let cluster = Cluster::named(name, folder, Make::under_test(), settings);
        let tokens = Tokens::new(&cluster.broker.address, cluster.namesrv());
        let connection = cluster.broker.connect().speaking(wire_version(self.client));
        Scene { setup: self, stage: None, acts: 0, connection, tokens, seen: Vec::new(), cluster }
    }
}

pub(crate) struct Scene {
    pub(crate) setup: Setup,
    stage: Option<Driver>,
    acts: usize,
    connection: Connection,
    tokens: Tokens,
    seen: Vec<(String, Value)>,
    // Last, so that the clients end first.
    pub(crate) cluster: Cluster,
}

/// Asks again and again.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// URL-encodes what is not plainly harmless.
fn encoded(word: &str) -> String {
    let mut out = String::new();
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-.*".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Scene {
    /// Ends the clients and gives what was observed.
    pub(crate) fn end(mut self) -> Vec<(String, Value)> {
        if let Some(mut stage) = self.stage.take() {
            stage.say("leave");
            stage.end();
        }
        self.seen
    }

    pub(crate) fn topic(&self, topic: &str) {
        self.cluster.broker.create_topic(topic, 1);
    }

    /// Stops the broker in good order and starts it with these lines added to its configuration.
    pub(crate) fn restart_with(&mut self, properties: &[(&'static str, &str)]) {
        let broker = &mut self.cluster.broker;
        broker.terminate();
        let more = properties.iter().map(|(key, value)| (*key, (*value).to_owned()));
        broker.settings().properties.extend(more);
        broker.restart();
        self.connection = self.connect();
    }

    /// Another connection that speaks as the client's version does.
    pub(crate) fn connect(&self) -> Connection {
        self.cluster.broker.connect().speaking(wire_version(self.setup.client))
    }

    /// A raw request to the name server.
    pub(crate) fn ask_namesrv(&self, code: i32, ext: &[(&'static str, &str)], body: &[u8]) -> Frame {
        let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let connection = Connection::open(self.cluster.namesrv()).unwrap();
        connection.speaking(wire_version(self.setup.client)).call(code, &ext, body).unwrap()
    }

    /// Makes a consumer group as a client does, by a heartbeat, and waits until its retry topic has a route: a client
    /// that starts before looks at it twenty seconds later only. The member is gone again afterwards.
    pub(crate) fn group(&mut self, group: &str, topic: &str) {
        let mut member = self.connect();
        let beat = heartbeat("maker", group, topic);
        assert_eq!(member.call(wire::HEART_BEAT, &[], &beat).unwrap().header.code, 0);
        let leave = [("clientID", "maker".to_owned()), ("consumerGroup", group.to_owned())];
        assert_eq!(member.call(wire::UNREGISTER_CLIENT, &leave, &[]).unwrap().header.code, 0);
        self.until("the retry topic has a route", |scene| scene.cluster.broker.route(&format!("%RETRY%{group}")));
    }

    /// Sets a consumer group's configuration, given as the JSON members that are not as usual.
    pub(crate) fn configure_group(&mut self, group: &str, members: &Value) {
        let mut config = json!({
            "groupName": group, "consumeEnable": true, "consumeFromMinEnable": true, "consumeBroadcastEnable": true,
            "retryQueueNums": 1, "retryMaxTimes": 16, "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1,
            "notifyConsumerIdsChangedEnable": true,
        });
        for (name, value) in members.as_object().unwrap() {
            config[name] = value.clone();
        }
        let reply = self.ask(wire::UPDATE_AND_CREATE_GROUP, &[], config.to_string().as_bytes());
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    }

    /// Changes a key of the broker's configuration while it runs, as an operator does.
    pub(crate) fn configure_broker(&mut self, key: &str, value: &str) {
        let reply = self.ask(UPDATE_BROKER_CONFIG, &[], format!("{key}={value}\n").as_bytes());
        assert_eq!(reply.header.code, 0, "{key}: {:?}", reply.header.remark);
    }

    /// Sends a message without a client and gives the answer.
    pub(crate) fn send_raw(&mut self, more: &[(&'static str, &str)], message: &wire::Outgoing<'_>) -> Frame {
        let mut ext = message.ext();
        for (key, value) in more {
            ext.retain(|(known, _)| known != key);
            ext.push((key, (*value).to_owned()));
        }
        let frame = self.connection.call(wire::SEND_MESSAGE_V2, &ext, message.body).unwrap();
        let is_batch = more.contains(&("m", "true"));
        let name = if is_batch { "a batch".to_owned() } else { text(message.body) };
        // From now on its ids are called after it.
        self.tokens.normal("", &json!(frame.header.ext), &name);
        frame
    }

    /// Stores a message in queue 0 of `topic` and gives its position.
    pub(crate) fn put(&mut self, topic: &str, body: &str, properties: &str) -> i64 {
        let message = wire::Outgoing { topic, queue: 0, properties, body: body.as_bytes() };
        let frame = self.send_raw(&[], &message);
        assert_eq!(frame.header.code, 0, "{:?}", frame.header.remark);
        self.position_of(frame.header.field("msgId"))
    }

    /// A raw request as the client's version writes it.
    pub(crate) fn ask(&mut self, code: i32, ext: &[(&'static str, &str)], body: &[u8]) -> Frame {
        let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        self.connection.call(code, &ext, body).unwrap_or_else(|e| panic!("request {code}: {e}"))
    }

    /// The same with members that are made as it is sent.
    pub(crate) fn call(&mut self, code: i32, ext: &[(&'static str, String)]) -> Frame {
        self.connection.call(code, ext, &[]).unwrap_or_else(|e| panic!("request {code}: {e}"))
    }

    /// A raw request whose whole answer is observed.
    pub(crate) fn answer(&mut self, what: &str, code: i32, ext: &[(&'static str, &str)], body: &[u8]) -> Frame {
        let frame = self.ask(code, ext, body);
        self.observe_frame(what, &frame);
        frame
    }

    pub(crate) fn observe_frame(&mut self, what: &str, frame: &Frame) {
        let header = &frame.header;
        let mut members = Map::new();
        members.insert("code".to_owned(), header.code.into());
        // None and an empty one look the same to every client.
        if let Some(remark) = header.remark.as_ref().filter(|remark| !remark.is_empty()) {
            members.insert("remark".to_owned(), remark.as_str().into());
        }
        if !header.ext.is_empty() {
            members.insert("ext".to_owned(), json!(header.ext));
        }
        if frame.body.first() == Some(&b'{') {
            members
                .insert("body".to_owned(), lenient(with_plain_keys(&String::from_utf8_lossy(&frame.body)).as_bytes()));
        } else if !frame.body.is_empty() {
            let records = wire::records(&frame.body);
            members.insert("records".to_owned(), records.iter().map(told).collect());
        }
        self.observe(what, &Value::Object(members));
    }

    /// Adds a line. `what` names it within the scenario.
    pub(crate) fn observe(&mut self, what: &str, members: &Value) {
        assert!(self.seen.iter().all(|(known, _)| known != what), "two lines are called `{what}`");
        // A message is called after its body: that is where its ids come from.
        let name = members["name"].as_str().unwrap_or(what).to_owned();
        let normal = self.tokens.normal("", members, &name);
        self.seen.push((what.to_owned(), normal));
    }

    /// Tells the clients to do something, waits until it is done and gives what they said about it.
    pub(crate) fn act(&mut self, name: &str, command: &str, options: &[(&str, &str)]) -> Vec<Value> {
        let driver = self.stage.get_or_insert_with(|| {
            let client = self.cluster.client(self.setup.client).with_tools();
            let driver = client.start("stage", &[("namesrv", self.cluster.namesrv())]);
            driver.wait_event("started");
            driver
        });
        let mut line = format!("{} {}", encoded(name), encoded(command));
        for (option, value) in options {
            line += &format!(" --{option} {}", encoded(value));
        }
        driver.say(&line);
        let done = self.acts;
        self.acts += 1;
        // A client waits for itself for half a minute at most.
        driver.wait_for(&line, Duration::from_secs(60), |lines| {
            let ends = of(lines, "end");
            (ends.len() > done).then(|| lines.iter().filter(|line| line["as"] == name).cloned().collect())
        })
    }

    /// Acts, and observes what the client was told: the result of a send, or the refusal.
    pub(crate) fn send(&mut self, what: &str, options: &[(&str, &str)]) -> Value {
        self.act_once(what, "send", options)
    }

    /// Acts, and observes the one line that the act has.
    pub(crate) fn act_once(&mut self, what: &str, command: &str, options: &[(&str, &str)]) -> Value {
        let lines = self.act(what, command, options);
        let line = lines.iter().find(|line| line["event"] != "end" && line["event"] != "checked");
        let line = line.unwrap_or_else(|| panic!("nothing was said about `{what}`"));
        self.observe_line(what, line);
        line.clone()
    }

    /// Observes one line of a client's.
    pub(crate) fn observe_line(&mut self, what: &str, line: &Value) {
        let mut members = line.as_object().unwrap().clone();
        for noise in ["as", "size", "region", "broker", "storeHost", "askedMs"] {
            members.remove(noise);
        }
        // The client adds where to read more.
        if let Some(message) = line["message"].as_str() {
            members.insert("message".to_owned(), message.lines().next().unwrap_or_default().into());
        }
        self.observe(what, &Value::Object(members));
    }

    /// Waits until the clients have said `count` lines of `event` as `name`, and gives them.
    pub(crate) fn wait(&mut self, name: &str, event: &str, count: usize) -> Vec<Value> {
        let driver = self.stage.as_ref().unwrap();
        driver.wait_for(&format!("{count} {event} of {name}"), PATIENCE, |lines| {
            let mine: Vec<Value> = of(lines, event).into_iter().filter(|line| line["as"] == name).collect();
            (mine.len() >= count).then_some(mine)
        })
    }

    /// Waits for a consumer's `count` deliveries and observes them in their order.
    pub(crate) fn deliveries(&mut self, consumer: &str, count: usize) -> Vec<Value> {
        let lines = self.wait(consumer, "message", count);
        for (at, line) in lines.iter().take(count).enumerate() {
            self.observe_line(&format!("{consumer}: delivery {}", at + 1), line);
        }
        lines
    }

    /// Pulls everything that queue 0 of `topic` holds.
    pub(crate) fn pull(&mut self, topic: &str) -> Vec<Record> {
        let ext = wire::pull(topic, 0, 0, 32, 0);
        let frame = self.connection.call(wire::PULL_MESSAGE, &ext, &[]).unwrap();
        match frame.header.code {
            0 => wire::records(&frame.body),
            _ => Vec::new(),
        }
    }

    /// Waits until queue 0 of `topic` holds `count` records, and observes each as it is stored.
    pub(crate) fn stored(&mut self, what: &str, topic: &str, count: usize) -> Vec<Record> {
        let records = eventually(&format!("{count} records in {topic}"), || {
            let records = self.pull(topic);
            (records.len() >= count).then_some(records)
        });
        for (at, record) in records.iter().enumerate() {
            self.observe(&format!("{what} {}", at + 1), &told(record));
        }
        records
    }

    /// Waits until a queue has `count` entries: what was acknowledged can be read a little later.
    pub(crate) fn until_maximum(&mut self, topic: &str, queue: &str, count: i64) {
        self.until(&format!("{count} entries in queue {queue} of {topic}"), |scene| {
            let frame = scene.ask(wire::GET_MAX_OFFSET, &[("topic", topic), ("queueId", queue)], &[]);
            let offset = frame.header.ext.get("offset").and_then(|offset| offset.parse().ok());
            offset.filter(|offset: &i64| *offset >= count)
        });
    }

    /// Waits until queue 0 of `topic` has `count` entries, and observes how the broker answers a pull of all of it.
    pub(crate) fn whole_queue(&mut self, what: &str, topic: &str, count: i64) {
        self.until_maximum(topic, "0", count);
        let ext = wire::pull(topic, 0, 0, 32, 0);
        let frame = self.connection.call(wire::PULL_MESSAGE, &ext, &[]).unwrap();
        self.observe_frame(what, &frame);
    }

    /// Observes what the name server says about `topic`.
    pub(crate) fn route(&mut self, what: &str, topic: &str) {
        let frame = self.ask_namesrv(wire::GET_ROUTE, &[("topic", topic)], &[]);
        self.observe_frame(what, &frame);
    }

    /// Waits until `enough` says so of the queue's records.
    pub(crate) fn until<T>(&mut self, what: &str, mut enough: impl FnMut(&mut Scene) -> Option<T>) -> T {
        eventually(what, || enough(self))
    }

    /// The offset message id of the record at `position`.
    pub(crate) fn offset_id(&self, position: i64) -> String {
        self.tokens.offset_id(position)
    }

    /// The position that an offset message id tells.
    pub(crate) fn position_of(&self, id: &str) -> i64 {
        self.tokens.position_of(id).unwrap_or_else(|| panic!("{id} is no id of the broker's"))
    }
}

/// A heartbeat of the member `client` of one group with one subscription.
pub(crate) fn heartbeat(client: &str, group: &str, topic: &str) -> Vec<u8> {
    let subscription = json!({
        "classFilterMode": false, "codeSet": [], "expressionType": "TAG", "subString": "*", "subVersion": 1,
        "tagsSet": [], "topic": topic,
    });
    let consumer = json!({
        "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "consumeType": "CONSUME_PASSIVELY", "groupName": group,
        "messageModel": "CLUSTERING", "subscriptionDataSet": [subscription], "unitMode": false,
    });
    let body = json!({ "clientID": client, "consumerDataSet": [consumer], "producerDataSet": [] });
    body.to_string().into_bytes()
}

/// A body or a value as a line shows it: what is long, or no text, by its size.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok("") => "nothing".to_owned(),
        Ok(text) if bytes.len() <= 200 && !text.contains(char::is_control) => text.to_owned(),
        _ => format!("{} bytes", bytes.len()),
    }
}

/// The properties of a record by name.
pub(crate) fn properties(record: &Record) -> Map<String, Value> {
    let pairs = record.properties.split('\u{2}').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('\u{1}').unwrap_or((pair, "")))
        .map(|(k, v)| (k.to_owned(), text(v.as_bytes()).into()))
        .collect()
}

/// Where `text`'s object that begins at its first byte ends; strings in it may not hold braces.
fn object_end(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// Writes objects that are keys, as Apache's library does with queues, as strings.
pub(crate) fn with_plain_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match object_end(rest) {
            Some(end) if rest[end..].starts_with(':') => {
                let key: Value = serde_json::from_str(&rest[..end]).unwrap_or_else(|e| panic!("{e}: {rest}"));
                let name = |member: &str| key[member].as_str().unwrap_or_default().to_owned();
                out.push_str(&format!("\"{} {} {}\"", name("topic"), name("brokerName"), key["queueId"]));
                rest = &rest[end..];
            }
            _ => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// A stored record as a line's members.
pub(crate) fn told(record: &Record) -> Value {
    json!({
        "topic": record.topic,
        "queueId": record.queue,
        "queueOffset": record.queue_offset,
        "position": record.position,
        "flag": record.flag,
        "sysFlag": record.sys_flag,
        "bornTimestamp": record.born,
        "storeTimestamp": record.stored,
        "reconsumeTimes": record.reconsume_times,
        "prepared": record.prepared,
        "name": text(&record.body),
        "properties": properties(record),
    })
}
