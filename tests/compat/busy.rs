//! A disk that is stuck: what waits for it is bounded, a client is told to slow down, in RocketMQ's words and with the
//! cause, and nothing that was acknowledged is lost by it. Apache's broker cannot be given such a disk.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::support::disk::Stuck;
use super::support::eventually;
use super::support::java::{Client, of};
use super::support::server::{Cluster, Flush, Make, Settings};
use super::support::wire::{self, Connection, Outgoing};
use super::{assert_same_messages, for_each_client, names, number, text};

for_each_client! {
    sends_are_refused_with_the_cause_while_the_disk_is_stuck
    a_send_waits_as_long_as_it_is_told_to
    without_fast_failure_a_send_waits_until_the_disk_takes_it
    what_waits_is_bounded_without_fast_failure_too
}

const TOPIC: &str = "stuck_topic";
/// What fills the broker up has a topic of its own, in the same log.
const FILLING: &str = "filling_topic";
const PATIENT: (&str, &str) = ("brokerFastFailureEnable", "false");

/// Sizes of what fills the broker to the brim: after the last, not even a small message of a client's has room.
const SIZES: [usize; 4] = [1 << 20, 64 << 10, 4 << 10, 16];

const PATIENCE: Duration = Duration::from_secs(60);

const OVERDUE: &str = "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: ";
const FULL: &str = "[OVERLOAD]system busy, start flow control for a while, size of queue: ";
const CAUSE: &str = "the disk does not keep up";

/// One log, the least memory that there is for what waits for the disk, and a disk that the test can hold.
struct Busy {
    cluster: Cluster,
    stuck: Stuck,
    client: Client,
    watching: Connection,
    filling: Connection,
    /// `brokerFastFailureEnable`
    fails_fast: bool,
    /// Messages that were sent to fill it.
    filled: usize,
}

impl Busy {
    fn start(version: &'static str, properties: &[(&'static str, &str)]) -> Busy {
        let folder = tempfile::tempdir().unwrap();
        let stuck = Stuck::not_yet(folder.path());
        let fails_fast = !properties.contains(&PATIENT);
        let mut properties: Vec<_> = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        properties.push(("bufferMemory", "16777216".to_owned()));
        let settings = Settings { flush: Flush::Sync, shards: 1, properties, env: vec![stuck.env()] };
        let cluster = Cluster::in_folder(folder, Make::Ours, settings);
        for topic in [TOPIC, FILLING] {
            cluster.broker.create_topic(topic, 1);
        }
        let client = cluster.client(version);
        let (watching, filling) = (cluster.broker.connect(), cluster.broker.connect());
        Busy { cluster, stuck, client, watching, filling, fails_fast, filled: 0 }
    }

    /// How many messages are stored, wait, and were refused.
    fn counts(&mut self) -> [i64; 3] {
        let keys = ["putMessageTimesTotal", "sendThreadPoolQueueSize", "putMessageFailedTimes"];
        wire::runtime_numbers(&mut self.watching, keys)
    }

    fn waiting(&mut self) -> i64 {
        self.counts()[1]
    }

    fn refused(&mut self) -> i64 {
        self.counts()[2]
    }

    /// Sends one more message and waits until the broker has it, while nobody else sends.
    fn put(&mut self, size: usize) {
        let body = vec![b'.'; size];
        let ext = Outgoing { topic: FILLING, queue: 0, properties: "", body: &body }.ext();
        let before: i64 = self.counts().iter().sum();
        self.filling.ask(wire::SEND_MESSAGE_V2, &ext, &body).unwrap();
        self.filled += 1;
        eventually("the broker has the message", PATIENCE, || {
            (self.counts().iter().sum::<i64>() > before).then_some(())
        });
    }

    /// Holds the disk, and sends until a message waits for it.
    fn hold_until_one_waits(&mut self) {
        self.stuck.hold();
        while self.waiting() == 0 {
            self.put(1 << 20);
            assert!(self.filled < 64, "64 MiB are in memory that has 16");
        }
        assert!(self.filled > 4, "{} MiB were all that the broker took", self.filled);
    }

    /// Holds the disk, and sends until not even a small message finds room: of each of [`SIZES`] one is refused.
    fn hold_until_none_is_taken(&mut self) {
        self.stuck.hold();
        for size in SIZES {
            let before = self.refused();
            while self.refused() == before {
                self.put(size);
                assert!(self.filled < 500, "there is no end to what the broker takes");
                if self.fails_fast {
                    eventually("nothing waits any more", PATIENCE, || (self.waiting() == 0).then_some(()));
                }
            }
        }
    }

    /// Lets the disk go, and holds against the answers what is stored of the messages that filled the broker; returns how
    /// many of them were refused.
    fn come_free(&mut self) -> usize {
        self.stuck.release();
        let answers: Vec<_> = (0..self.filled).map(|_| self.filling.next().unwrap().header).collect();
        let stored: Vec<_> = answers.iter().filter(|answer| answer.code != 2).collect();
        // Success, or FLUSH_DISK_TIMEOUT: stored, but not safe in time.
        assert!(stored.iter().all(|answer| [0, 10].contains(&answer.code)), "{stored:?}");
        let mut offsets: Vec<_> = stored.iter().map(|answer| answer.number("queueOffset")).collect();
        offsets.sort_unstable();
        let end = i64::try_from(stored.len()).unwrap();
        assert_eq!(offsets, (0..end).collect::<Vec<_>>());
        // Such an answer comes before the message can be read.
        eventually("all of them can be read", PATIENCE, || (self.max(FILLING) == end).then_some(()));
        answers.len() - stored.len()
    }

    fn max(&mut self, topic: &str) -> i64 {
        let ext = [("topic", topic.to_owned()), ("queueId", "0".to_owned())];
        self.watching.call(wire::GET_MAX_OFFSET, &ext, &[]).unwrap().header.number("offset")
    }

    /// What a producer without retries is told.
    fn send(&self, options: &[(&str, &str)]) -> Vec<Value> {
        let target = [("namesrv", self.cluster.namesrv()), ("topic", TOPIC), ("retries", "0")];
        self.client.run("send", &[&target[..], options].concat())
    }

    fn consume(&self, count: usize) -> Vec<Value> {
        let count = count.to_string();
        let options = [("namesrv", self.cluster.namesrv()), ("topic", TOPIC), ("count", &count)];
        of(&self.client.run("push", &options), "message")
    }
}

/// How many milliseconds a refused send waited; its remark has RocketMQ's prefix, and the cause.
fn waited(remark: &str) -> u64 {
    figure(remark, OVERDUE, "ms, ")
}

/// How many sends waited already when one was refused.
fn in_front(remark: &str) -> i64 {
    figure(remark, FULL, ", ")
}

/// The figure between the prefix of a refusal and its cause.
fn figure<T: FromStr<Err: Display>>(remark: &str, prefix: &str, unit: &str) -> T {
    let (_, rest) = remark.split_once(prefix).unwrap_or_else(|| panic!("{remark}"));
    let (figure, rest) = rest.split_once(unit).unwrap_or_else(|| panic!("{remark}"));
    assert!(rest.starts_with(CAUSE), "{remark}");
    figure.parse().unwrap_or_else(|e| panic!("{remark}: {e}"))
}

fn sends_are_refused_with_the_cause_while_the_disk_is_stuck(version: &'static str) {
    let mut busy = Busy::start(version, &[]);
    let mut acknowledged = busy.send(&[("count", "3"), ("prefix", "before")]);
    busy.hold_until_none_is_taken();
    let refused_before = busy.refused();
    // To a queue that the sender names there is one try only, and the broker's answer is what is thrown.
    let named = busy.send(&[("count", "2"), ("prefix", "named"), ("queue", "0")]);
    assert_eq!((named.len(), of(&named, "refused").len()), (2, 2), "{named:?}");
    for line in &named {
        assert_eq!((text(line, "type"), number(line, "code")), ("MQBrokerException", 2), "{line}");
        assert!(waited(text(line, "message")) >= 1000, "{line}");
    }
    // One that chooses queues packs it into an exception of its own, since 5.x.
    let free = busy.send(&[("prefix", "free")]);
    assert_eq!(number(&free[0], "code"), 2, "{free:?}");
    let remark = if version == "4.9.8" { "message" } else { "brokerRemark" };
    assert!(waited(text(&free[0], remark)) >= 1000, "{free:?}");
    let batch = busy.send(&[("mode", "batch"), ("count", "5"), ("prefix", "batch"), ("queue", "0")]);
    assert_eq!((text(&batch[0], "type"), number(&batch[0], "code")), ("MQBrokerException", 2), "{batch:?}");
    assert!(busy.refused() >= refused_before + 4);
    assert_eq!(busy.come_free(), SIZES.len(), "one of each size");
    acknowledged.extend(busy.send(&[("count", "3"), ("prefix", "after")]));
    assert!(acknowledged.iter().all(|line| line["status"] == "SEND_OK"), "{acknowledged:?}");
    assert_same_messages(&acknowledged, &busy.consume(6));
    assert_eq!(busy.max(TOPIC), 6, "what was refused is not stored");
}

fn a_send_waits_as_long_as_it_is_told_to(version: &'static str) {
    let mut busy = Busy::start(version, &[("waitTimeMillsInSendQueue", "3000")]);
    busy.hold_until_none_is_taken();
    let refused = busy.send(&[("queue", "0")]);
    assert_eq!(number(&refused[0], "code"), 2, "{refused:?}");
    assert!(waited(text(&refused[0], "message")) >= 3000, "{refused:?}");
    assert_eq!(busy.come_free(), SIZES.len(), "one of each size");
    let sent = busy.send(&[("queue", "0")]);
    assert_same_messages(&sent, &busy.consume(1));
}

fn without_fast_failure_a_send_waits_until_the_disk_takes_it(version: &'static str) {
    let mut busy = Busy::start(version, &[PATIENT]);
    busy.hold_until_one_waits();
    let waiting = busy.waiting();
    // Three times what `waitTimeMillsInSendQueue` would be.
    let given_up = busy.send(&[("queue", "0"), ("prefix", "given-up"), ("timeout", "3000")]);
    assert_eq!(of(&given_up, "refused").len(), 1, "{given_up:?}");
    assert_eq!(text(&given_up[0], "type"), "RemotingTimeoutException", "the client's own: {given_up:?}");
    let namesrv = busy.cluster.namesrv().to_owned();
    let options =
        [("namesrv", &*namesrv), ("topic", TOPIC), ("queue", "0"), ("prefix", "patient"), ("timeout", "60000")];
    let patient = busy.client.start("send", &options);
    eventually("both wait", PATIENCE, || (busy.waiting() == waiting + 2).then_some(()));
    assert_eq!(busy.refused(), 0);
    assert_eq!(busy.come_free(), 0);
    let sent = patient.end();
    assert_eq!(text(&sent[0], "status"), "SEND_OK", "{sent:?}");
    // The one that its sender gave up is stored as well, as with any broker whose answer comes late.
    let received = busy.consume(2);
    assert_eq!(names(&received), ["given-up-0", "patient-0"]);
    assert_eq!(busy.max(TOPIC), 2);
}

fn what_waits_is_bounded_without_fast_failure_too(version: &'static str) {
    let mut busy = Busy::start(version, &[PATIENT]);
    busy.hold_until_none_is_taken();
    let waiting = busy.waiting();
    let refused = busy.send(&[("queue", "0")]);
    assert_eq!((text(&refused[0], "type"), number(&refused[0], "code")), ("MQBrokerException", 2), "{refused:?}");
    assert_eq!(in_front(text(&refused[0], "message")), waiting);
    assert_eq!(busy.waiting(), waiting, "those before it wait on");
    assert_eq!(busy.come_free(), SIZES.len(), "one of each size");
    let sent = busy.send(&[("queue", "0")]);
    assert_same_messages(&sent, &busy.consume(1));
}
