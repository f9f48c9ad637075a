//! Old messages go: a queue begins further on, and a group that had not read so far goes on there.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::clock::Shifted;
use super::support::eventually;
use super::support::java::{Client, of};
use super::support::server::{Cluster, Make, Settings};
use super::support::wire::{self, Connection, Record};
use super::{for_each_client, identity, number, text};

for_each_client! {
    a_group_that_is_overtaken_goes_on_with_what_is_left
    a_group_that_lags_is_named_before_it_loses_messages
    a_group_that_lags_is_named_on_a_disk_that_is_nearly_full
}

const TOPIC: &str = "aging_topic";
const SEGMENT: i64 = 1 << 20;

/// Segments of a MiB that are dropped as soon as they are full.
fn dropping() -> Settings {
    let hours: Vec<String> = (0..24).map(|hour| hour.to_string()).collect();
    let keys = [
        ("mappedFileSizeCommitLog", "1048576"),
        ("maxMessageSize", "65536"),
        ("fileReservedTime", "0"),
        ("cleanResourceInterval", "200"),
        ("deleteCommitLogFilesInterval", "10"),
    ];
    let keys = keys.into_iter().map(|(key, value)| (key, value.to_owned()));
    let properties = keys.chain([("deleteWhen", hours.join(";"))]).collect();
    Settings { shards: 1, properties, ..Settings::default() }
}

/// The message at an offset, if the queue has it.
fn record(connection: &mut Connection, offset: i64) -> Option<Record> {
    let found = connection.call(wire::PULL_MESSAGE, &wire::pull(TOPIC, 0, offset, 1, 0), &[]).unwrap();
    if found.header.code == 0 { wire::records(&found.body).into_iter().next() } else { None }
}

fn min(connection: &mut Connection) -> i64 {
    let ext = [("topic", TOPIC.to_owned()), ("queueId", "0".to_owned())];
    let reply = connection.call(wire::GET_MIN_OFFSET, &ext, &[]).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header);
    reply.header.number("offset")
}

fn a_group_that_is_overtaken_goes_on_with_what_is_left(version: &'static str) {
    let cluster = Cluster::start(dropping());
    cluster.broker.create_topic(TOPIC, 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", TOPIC)];
    let send = |count: &str, prefix: &str, size: &str| {
        client.run("send", &[&target[..], &[("count", count), ("prefix", prefix), ("size", size)]].concat())
    };
    let consume = |count: usize| {
        let count = count.to_string();
        of(&client.run("push", &[&target[..], &[("group", "slow_group"), ("count", &count)]].concat()), "message")
    };
    send("5", "read", "100");
    assert_eq!(consume(5).len(), 5);
    // Larger bodies would be compressed to nothing.
    let sent = send("1300", "flood", "4000");
    let mut connection = cluster.broker.connect();
    let max = 5 + i64::try_from(sent.len()).unwrap();
    // Everything goes but the segment that is written.
    let written = record(&mut connection, max - 1).unwrap().position / SEGMENT * SEGMENT;
    // The first look of Apache's broker comes after a minute.
    let first = eventually("the queue begins with the last segment", Duration::from_secs(100), || {
        let first = min(&mut connection);
        record(&mut connection, first).filter(|record| record.position >= written).map(|_| first)
    });
    assert!(first > 5 && first < max, "{first}");
    let moved = connection.call(wire::PULL_MESSAGE, &wire::pull(TOPIC, 0, 5, 32, 0), &[]).unwrap().header;
    assert_eq!((moved.code, moved.remark.as_deref()), (21, Some("OFFSET_TOO_SMALL")), "{moved:?}");
    assert_eq!((moved.number("nextBeginOffset"), moved.number("minOffset")), (first, first));
    assert_eq!(record(&mut connection, first).unwrap().queue_offset, first);
    // 5.3.3 has the topic and stores nothing in it.
    if Make::under_test() != Make::Apache("5.3.3") {
        tells_of_a_moved_offset(&client, &cluster, first);
    }
    // The group had read five messages.
    let mut left: Vec<_> = consume(usize::try_from(max - first).unwrap()).iter().map(identity).collect();
    let mut expected: Vec<_> = sent.iter().filter(|line| number(line, "queueOffset") >= first).map(identity).collect();
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    new_groups_begin_where_they_say(&client, &cluster, first, max);
    for code in [306, 316, 329] {
        let answer = connection.call(code, &[], &[]).unwrap().header;
        assert_eq!(answer.code, 0, "{code}: {answer:?}");
    }
    assert_eq!(min(&mut connection), first, "no request drops what is written");
}

/// Once the first messages are gone it is the client's policy that decides.
fn new_groups_begin_where_they_say(client: &Client, cluster: &Cluster, first: i64, max: i64) {
    let target = [("namesrv", cluster.namesrv()), ("topic", TOPIC)];
    let policies = [
        ("CONSUME_FROM_FIRST_OFFSET", first),
        ("CONSUME_FROM_LAST_OFFSET", max),
        // Before all that is left.
        ("CONSUME_FROM_TIMESTAMP", first),
    ];
    let consumers = policies.map(|(from, begin)| {
        let options = [("group", from), ("from", from), ("since", "20200101000000")];
        let consumer = client.start("push", &[&target[..], &options].concat());
        // By then it is decided where it begins.
        consumer.wait_for("the queue", Duration::from_secs(60), |lines| {
            of(lines, "assigned").iter().any(|line| line["queues"] == json!([0])).then_some(())
        });
        (consumer, begin)
    });
    client.run("send", &[&target[..], &[("prefix", "later")]].concat());
    for (consumer, begin) in consumers {
        let got = consumer.wait_for("the last message", Duration::from_secs(90), |lines| {
            let got: Vec<i64> = of(lines, "message").iter().map(|line| number(line, "queueOffset")).collect();
            (got.contains(&max) && got.len() >= usize::try_from(max + 1 - begin).unwrap()).then_some(got)
        });
        let expected: Vec<i64> = (begin..=max).collect();
        let mut got = got;
        got.sort_unstable();
        assert_eq!(got, expected);
        consumer.stop();
    }
}

/// Whoever watches for groups that ask for what is gone hears of a pull at offset 5.
fn tells_of_a_moved_offset(client: &Client, cluster: &Cluster, first: i64) {
    const EVENTS: &str = "OFFSET_MOVED_EVENT";
    let mut connection = cluster.broker.connect();
    let mut pull = |topic, offset| connection.call(wire::PULL_MESSAGE, &wire::pull(topic, 0, offset, 32, 0), &[]);
    let body = eventually("the event of a pull at 5", Duration::from_secs(30), || {
        // Of many in a short time not each is told.
        assert_eq!(pull(TOPIC, 5).unwrap().header.code, 21);
        let events = wire::records(&pull(EVENTS, 0).unwrap().body);
        let mut bodies = events.iter().map(|event| serde_json::from_slice::<Value>(&event.body).unwrap());
        bodies.find(|body| body["offsetRequest"] == 5)
    });
    let queue = json!({ "topic": TOPIC, "brokerName": cluster.broker.name, "queueId": 0 });
    let expected = json!({
        "consumerGroup": "wire_consumer", "messageQueue": queue, "offsetRequest": 5, "offsetNew": first,
    });
    assert_eq!(body, expected);
    let options = [("namesrv", cluster.namesrv()), ("topic", EVENTS), ("count", "1"), ("group", "watching_group")];
    let event = of(&client.run("push", &options), "message").remove(0);
    assert_eq!((text(&event, "tags"), text(&event, "keys")), ("wire_consumer", "wire_consumer"), "{event}");
}

const HOUR_MS: i64 = 3_600_000;

/// A broker with some segments of which one group has read the first five messages, and another all.
struct Lagging {
    cluster: Cluster,
    client: Client,
    /// By queue offset: where the messages are.
    positions: Vec<i64>,
}

/// The group that lags.
const SLOW: &str = "slow_group";
const READ: i64 = 5;

impl Lagging {
    fn start(version: &'static str, shifted: &Shifted, key: (&'static str, &str)) -> Lagging {
        let keys =
            [("mappedFileSizeCommitLog", "1048576"), ("maxMessageSize", "65536"), ("cleanResourceInterval", "200")];
        let keys = keys.into_iter().chain([("deleteWhen", "*"), key]);
        let properties = keys.map(|(key, value)| (key, value.to_owned())).collect();
        let settings = Settings { shards: 1, properties, env: vec![shifted.env()], ..Settings::default() };
        let cluster = Cluster::of(Make::Ours, settings);
        cluster.broker.create_topic(TOPIC, 1);
        let client = cluster.client(version);
        let mut lagging = Lagging { cluster, client, positions: Vec::new() };
        lagging.send(READ);
        lagging.consume(SLOW, READ);
        lagging.send(700);
        lagging.consume("quick_group", lagging.end());
        lagging
    }

    fn send(&mut self, count: i64) {
        let count = count.to_string();
        let options = [("namesrv", self.cluster.namesrv()), ("topic", TOPIC), ("count", &*count), ("size", "4000")];
        let sent = self.client.run("send", &options);
        let position = |line: &Value| i64::from_str_radix(&text(line, "offsetMsgId")[16..], 16).unwrap();
        self.positions.extend(sent.iter().map(position));
    }

    /// Has a group read so many messages.
    fn consume(&self, group: &str, count: i64) {
        let options = [("namesrv", self.cluster.namesrv()), ("topic", TOPIC), ("group", group)];
        let read = self.client.run("push", &[&options[..], &[("count", &*count.to_string())]].concat());
        assert_eq!(of(&read, "message").len(), usize::try_from(count).unwrap());
    }

    fn end(&self) -> i64 {
        i64::try_from(self.positions.len()).unwrap()
    }

    /// The segment that is written; it stays.
    fn last_segment(&self) -> i64 {
        self.positions.last().unwrap() / SEGMENT
    }

    /// The first message of a segment.
    fn first_of(&self, segment: i64) -> i64 {
        i64::try_from(self.positions.partition_point(|position| *position < segment * SEGMENT)).unwrap()
    }

    /// Waits until the broker says of itself what is about to be lost, what was, and how many segments are gone.
    fn wait_for(&self, what: &str, expected: [i64; 3]) {
        let keys = ["ringmqNextDropUnread", "ringmqDroppedUnread", "ringmqSegmentsDropped"];
        let mut connection = self.cluster.broker.connect();
        eventually(what, Duration::from_secs(30), || {
            (wire::runtime_numbers(&mut connection, keys) == expected).then_some(())
        });
    }

    /// The groups that are about to lose messages.
    fn named(&self) -> String {
        let [named] = wire::runtime_texts(&mut self.cluster.broker.connect(), ["ringmqNextDropUnreadGroups"]);
        named
    }

    /// The lines of the broker's log in which these words are, once there is one.
    fn lines(&self, words: &str) -> Vec<String> {
        let process = &self.cluster.broker.process;
        eventually(words, Duration::from_secs(30), || {
            let lines = [process.out.all(), process.err.all()].concat();
            let found: Vec<_> = lines.into_iter().filter(|line| line.contains(words)).collect();
            (!found.is_empty()).then_some(found)
        })
    }

    /// One line has these words, and it is about the group that lags.
    fn assert_told_once(&self, words: &str) {
        let lines = self.lines(words);
        assert!(lines.len() == 1 && lines[0].contains(SLOW) && lines[0].contains(TOPIC), "{lines:?}");
    }
}

const NEXT: &str = "the next to be dropped";

fn a_group_that_lags_is_named_before_it_loses_messages(version: &'static str) {
    let shifted = Shifted::default();
    let lagging = Lagging::start(version, &shifted, ("fileReservedTime", "72"));
    let segments = lagging.last_segment();
    let kept = lagging.first_of(segments);
    let unread = kept - READ;
    assert!(segments >= 2 && unread > 400, "{segments} segments, {unread} messages");
    lagging.wait_for("nothing is near", [0, 0, 0]);
    // Less than six hours before the segments go.
    shifted.by(67 * HOUR_MS);
    lagging.wait_for("unread messages are the next to go", [unread, 0, 0]);
    assert_eq!(lagging.named(), format!("{TOPIC}@{SLOW}={unread}"));
    lagging.assert_told_once(NEXT);
    shifted.by(73 * HOUR_MS);
    lagging.wait_for("they are gone, and counted", [0, unread, segments]);
    assert_eq!(lagging.named(), "");
    lagging.assert_told_once("messages were dropped that the group has not read");
    lagging.consume(SLOW, lagging.end() - kept);
    lagging.assert_told_once(NEXT);
}

/// A broker in a test sees a disk that is half full.
fn a_group_that_lags_is_named_on_a_disk_that_is_nearly_full(version: &'static str) {
    let lagging = Lagging::start(version, &Shifted::default(), ("diskSpaceCleanForciblyRatio", "54"));
    let unread = lagging.first_of(1) - READ;
    lagging.wait_for("the oldest segment is the next to go", [unread, 0, 0]);
    assert_eq!(lagging.named(), format!("{TOPIC}@{SLOW}={unread}"));
    // The other group may have been behind as well, as long as it read.
    let lines: Vec<_> = lagging.lines(NEXT).into_iter().filter(|line| line.contains(SLOW)).collect();
    assert!(lines.len() == 1 && lines[0].contains(TOPIC), "{lines:?}");
    lagging.consume(SLOW, lagging.end() - READ);
    lagging.wait_for("the group has caught up", [0, 0, 0]);
    assert_eq!(lagging.named(), "");
}
