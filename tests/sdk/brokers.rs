//! Two brokers: sends go over both and to the other one when one is away, consumers share the queues of both.

use std::collections::BTreeMap;
use std::time::Duration;

use ringmq_client::{Message, NameServers, Producer, ProducerOptions, PushConsumer, SendReceipt};

use super::support::eventually;
use super::support::server::{Broker, Flush, Make, NameServer, Settings};
use super::{Consumed, ReceivedMessage, Seen, alone, numbered, options, set};

const TOPIC: &str = "on_both";
const QUEUES: u32 = 4;

/// A route is looked at again after 30 s, queues are shared anew every 20 s.
const SHARED: Duration = Duration::from_secs(120);

struct Two {
    first: Broker,
    second: Broker,
    namesrv: NameServer,
    _folder: tempfile::TempDir,
}

impl Two {
    fn start() -> Two {
        let folder = tempfile::tempdir().unwrap();
        let make = Make::under_test();
        let namesrv = NameServer::start(make, folder.path());
        // What is acknowledged is there after a kill.
        let settings = || Settings { flush: Flush::Sync, ..Settings::default() };
        let broker = |name| Broker::start(make, folder.path(), name, &namesrv.address, settings());
        let (first, second) = (broker("broker-a"), broker("broker-b"));
        first.create_topic(TOPIC, QUEUES);
        second.create_topic(TOPIC, QUEUES);
        let two = Two { first, second, namesrv, _folder: folder };
        two.wait_brokers(2);
        two
    }

    fn names(&self) -> NameServers {
        NameServers::new(&self.namesrv.address).unwrap()
    }

    fn wait_brokers(&self, count: usize) {
        eventually("the route has the brokers that are there", Duration::from_secs(60), || {
            (self.first.route(TOPIC)?["brokerDatas"].as_array()?.len() == count).then_some(())
        });
    }

    fn consumer(&self, seen: &Seen) -> PushConsumer {
        let seen = seen.clone();
        let listener = move |message: &ReceivedMessage| {
            seen.add(message);
            Consumed::Done
        };
        PushConsumer::start(options("sdk_both", TOPIC), self.names(), listener).unwrap()
    }
}

fn by_broker(brokers: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for broker in brokers {
        *counts.entry(broker).or_default() += 1;
    }
    counts
}

/// The queues of the topic that a consumer has, by broker.
fn queues(consumer: &PushConsumer) -> BTreeMap<String, usize> {
    by_broker(consumer.queues().into_iter().filter(|queue| queue.topic == TOPIC).map(|queue| queue.broker_name))
}

fn of(first: usize, second: usize) -> BTreeMap<String, usize> {
    let counts = [("broker-a", first), ("broker-b", second)];
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}

#[test]
fn a_broker_that_is_killed_and_comes_back_costs_no_message() {
    let _alone = alone();
    let mut two = Two::start();
    let retrying =
        ProducerOptions { send_timeout: Duration::from_secs(10), ..ProducerOptions::new("sdk_both_producer") };
    let producer = Producer::new(retrying, two.names()).unwrap();
    let send = |range: std::ops::Range<usize>| {
        let receipts = range.map(|i| producer.send(&Message::new(TOPIC, format!("m-{i}"))).unwrap());
        by_broker(receipts.map(|receipt: SendReceipt| receipt.queue.broker_name))
    };
    assert_eq!(send(0..40), of(20, 20));

    let (one, other) = (Seen::default(), Seen::default());
    let first = two.consumer(&one);
    one.wait(40);
    assert_eq!(queues(&first), of(4, 4));
    let second = two.consumer(&other);
    let shared = || queues(&first).values().sum::<usize>() == 4 && queues(&second).values().sum::<usize>() == 4;
    eventually("the queues of both brokers are shared", SHARED, || shared().then_some(()));

    two.second.kill();
    // The first send that meets the dead broker goes to the other one, and the rest at once.
    assert_eq!(send(40..80), of(40, 0));
    eventually("the queues that are left are shared", SHARED, || {
        (queues(&first) == of(2, 0) && queues(&second) == of(2, 0)).then_some(())
    });
    let all = || set(one.texts().into_iter().chain(other.texts()));
    eventually("what went to the other broker", SHARED, || (all() == numbered("m", 80)).then_some(()));

    two.second.restart();
    two.wait_brokers(2);
    let mut sent = 80;
    eventually("the broker that is back is sent to", SHARED, || {
        sent += 8;
        send(sent - 8..sent).contains_key("broker-b").then_some(())
    });
    eventually("the queues of both brokers are shared again", SHARED, || shared().then_some(()));
    eventually("all messages", SHARED, || (all() == numbered("m", sent)).then_some(()));
    first.shutdown().unwrap();
    second.shutdown().unwrap();
}
