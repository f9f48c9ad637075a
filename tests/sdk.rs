//! The Rust SDK, `net/client`, against a running broker: its examples as a user runs them, its consumers' promises, and
//! the same topics and groups shared with Apache's Java clients (skipped without `java` and `mvn`).
//! `RINGMQ_TEST_SERVER=apache-5.3.3` holds all of it against Apache's broker.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

#[path = "sdk/asked.rs"]
mod asked;
#[path = "sdk/brokers.rs"]
mod brokers;
#[path = "sdk/consume.rs"]
mod consume;
#[path = "sdk/examples.rs"]
mod examples;
#[path = "sdk/java.rs"]
mod java;
#[path = "sdk/produce.rs"]
mod produce;

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ringmq_client::{
    Consumed, NameServers, Producer, ProducerOptions, PushConsumer, PushOptions, ReceivedMessage, StartAt,
};
use support::server::{Cluster, Flush, Settings};
// Servers and JVMs have the machine to themselves: what they wait for is bounded in seconds.
use support::turn::alone;

/// How long a message may take that has nothing to wait for but a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with levels that a test can wait for (the third is the first retry's), which asks early about transactions.
fn cluster() -> Cluster {
    cluster_with(Flush::Async)
}

fn cluster_with(flush: Flush) -> Cluster {
    let property = |name, value: &str| (name, value.to_owned());
    let properties = vec![
        property("messageDelayLevel", "1s 2s 1s 1s 1s 8s"),
        property("transactionTimeOut", "1000"),
        property("transactionCheckInterval", "1000"),
        property("enablePropertyFilter", "true"),
    ];
    Cluster::start(Settings { flush, properties, ..Settings::default() })
}

fn names(cluster: &Cluster) -> NameServers {
    NameServers::new(cluster.namesrv()).unwrap()
}

fn producer(cluster: &Cluster) -> Producer {
    let options = ProducerOptions { send_timeout: Duration::from_secs(10), ..ProducerOptions::new("sdk_producer") };
    Producer::new(options, names(cluster)).unwrap()
}

fn options(group: &str, topic: &str) -> PushOptions {
    PushOptions { start_at: StartAt::First, threads: 4, ..PushOptions::new(group) }.subscribe(topic, "*")
}

fn text(message: &ReceivedMessage) -> String {
    String::from_utf8(message.body.clone()).unwrap()
}

/// What listeners have seen, in the order in which they did.
#[derive(Clone, Default)]
struct Seen {
    messages: Arc<(Mutex<Vec<ReceivedMessage>>, Condvar)>,
}

impl Seen {
    fn add(&self, message: &ReceivedMessage) {
        self.messages.0.lock().unwrap().push(message.clone());
        self.messages.1.notify_all();
    }

    fn all(&self) -> Vec<ReceivedMessage> {
        self.messages.0.lock().unwrap().clone()
    }

    fn texts(&self) -> Vec<String> {
        self.all().iter().map(text).collect()
    }

    /// Waits until there are as many.
    fn wait(&self, count: usize) -> Vec<ReceivedMessage> {
        self.wait_until(&format!("{count} messages"), |seen| seen.len() >= count);
        self.all()
    }

    fn wait_until(&self, what: &str, enough: impl Fn(&[ReceivedMessage]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut messages = self.messages.0.lock().unwrap();
        while !enough(&messages) {
            let left = deadline.saturating_duration_since(Instant::now());
            let texts: Vec<_> = messages.iter().map(text).collect();
            assert!(!left.is_zero(), "{what}: not within {PATIENCE:?}: {texts:?}");
            messages = self.messages.1.wait_timeout(messages, left).unwrap().0;
        }
    }

    /// A consumer whose listener sees and is done.
    fn consumer(&self, cluster: &Cluster, options: PushOptions) -> PushConsumer {
        let seen = self.clone();
        let listener = move |message: &ReceivedMessage| {
            seen.add(message);
            Consumed::Done
        };
        PushConsumer::start(options, names(cluster), listener).unwrap()
    }
}

fn set(texts: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    texts.into_iter().collect()
}

fn numbered(prefix: &str, count: usize) -> BTreeSet<String> {
    (0..count).map(|i| format!("{prefix}-{i}")).collect()
}
