//! The client against a real deployment, RocketMQ's or RingMQ's: set `RINGMQ_TEST_NAMESRV` to its name servers. It
//! needs one broker at least that creates topics by itself and takes changes from here. Without the variable nothing
//! is tested, and the test says so.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringmq_client::admin::{SubscriptionGroupConfig, cluster_masters};
use ringmq_client::{
    Admin, ConsumerOptions, Error, Message, MessageQueue, NameServers, Options, Producer, ProducerOptions, Pull,
    PullConsumer, PullStatus, Remoting, SendStatus, TailStart, TopicConfig, tail,
};
use ringmq_protocol::code::ResponseCode;
use ringmq_protocol::frame::Serialize;
use ringmq_protocol::properties::perm;

/// What registers itself may take a while to be seen.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

struct Deployment {
    names: NameServers,
    admin: Admin,
}

fn deployment() -> Option<Deployment> {
    let Ok(list) = std::env::var("RINGMQ_TEST_NAMESRV") else {
        eprintln!("skipped: RINGMQ_TEST_NAMESRV is not set, there is no deployment to test against");
        return None;
    };
    let names = NameServers::new(&list).unwrap();
    Some(Deployment { admin: Admin::new(Remoting::default(), names.clone()), names })
}

impl Deployment {
    /// A topic of this run's own, at every master.
    fn topic(&self, name: &str, queues: i32) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let topic = format!("live_{name}_{now}");
        let config = TopicConfig::new(&topic, queues, queues, perm::READ_WRITE);
        assert!(!self.admin.create_topic_in_cluster(None, &config).unwrap().is_empty());
        until("the topic's route", || self.admin.topic_route(&topic).unwrap());
        topic
    }

    fn master(&self) -> String {
        let info = self.admin.cluster_info().unwrap();
        let (_, addr) = cluster_masters(&info).next().unwrap();
        addr.to_owned()
    }

    fn producer(&self) -> Producer {
        Producer::new(ProducerOptions::new("live_producer"), self.names.clone()).unwrap()
    }

    fn consumer(&self, group: &str) -> PullConsumer {
        PullConsumer::new(ConsumerOptions::new(group), self.names.clone()).unwrap()
    }
}

/// Asks until there is an answer: registration and dispatch take their time.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SEEN_WITHIN;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not appear within {SEEN_WITHIN:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_sent_is_read_with_all_its_parts() {
    let Some(live) = deployment() else { return };
    let topic = live.topic("send", 4);
    let producer = live.producer();
    let large = b"tea and biscuits ".repeat(1000);
    let message = Message::builder(&topic).tag("A").key("k1").property("own", "value").body(large.clone());
    let receipt = producer.send(&message).unwrap();
    assert_eq!(receipt.status, SendStatus::Stored);
    let batch = [Message::builder(&topic).tag("B").body("one"), Message::builder(&topic).tag("B").body("two")];
    producer.send_batch(&batch).unwrap();
    producer.send_oneway(&Message::builder(&topic).tag("C").body("nobody asked")).unwrap();

    let consumer = live.consumer("live_reader");
    consumer.subscribe(&topic, "A || B||C").unwrap();
    let mut seen = Vec::new();
    tail(&consumer, &topic, TailStart::Earliest, |message| {
        seen.push(message.clone());
        if seen.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    let first = seen.iter().find(|message| message.tag() == Some("A")).unwrap();
    assert_eq!((&first.body, first.packed), (&large, false));
    assert_eq!((first.keys(), first.property("own")), (Some("k1"), Some("value")));
    assert_eq!(first.msg_id(), receipt.msg_id);
    assert_eq!(first.offset_msg_id(), receipt.offset_msg_id);
    let mut bodies: Vec<_> = seen.iter().filter(|m| m.tag() != Some("A")).map(|m| m.body.clone()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, [b"nobody asked".to_vec(), b"one".to_vec(), b"two".to_vec()]);

    let viewed = live.admin.view_message(&first.store_host.to_string(), first.position);
    match viewed {
        Ok(viewed) => assert_eq!(viewed.body, large),
        Err(e) => assert_eq!(e.code(), Some(ResponseCode::REQUEST_CODE_NOT_SUPPORTED), "{e}"),
    }
}

#[test]
fn queues_take_turns_and_offsets_are_dense() {
    let Some(live) = deployment() else { return };
    let topic = live.topic("turns", 3);
    let producer = live.producer();
    let receipts: Vec<_> = (0..12).map(|i| producer.send(&Message::new(&topic, format!("{i}"))).unwrap()).collect();
    let places: BTreeSet<_> = receipts.iter().map(|r| (r.queue.clone(), r.queue_offset)).collect();
    assert_eq!(places.len(), 12);
    assert!(places.iter().all(|(_, offset)| (0..4).contains(offset)), "{places:?}");
    for (queue, _) in &places {
        let addr = live.admin.topic_route(&topic).unwrap().unwrap().master(&queue.broker_name).unwrap().to_owned();
        until("the maximum offset", || {
            (live.admin.max_offset(&addr, &topic, queue.queue_id).unwrap() == 4).then_some(())
        });
        assert_eq!(live.admin.min_offset(&addr, &topic, queue.queue_id).unwrap(), 0);
        assert_eq!(live.admin.search_offset(&addr, &topic, queue.queue_id, 0).unwrap(), 0);
        assert!(live.admin.earliest_store_time(&addr, &topic, queue.queue_id).unwrap().is_some());
    }
}

#[test]
fn the_binary_header_is_understood() {
    let Some(live) = deployment() else { return };
    let topic = live.topic("binary", 1);
    let connection = Options { serialize: Serialize::RocketMq, ..Options::default() };
    let options = ProducerOptions { connection: connection.clone(), ..ProducerOptions::new("live_producer") };
    let producer = Producer::new(options, live.names.clone()).unwrap();
    producer.send(&Message::new(&topic, "binary")).unwrap();
    let options = ConsumerOptions { connection, ..ConsumerOptions::new("live_reader") };
    let consumer = PullConsumer::new(options, live.names.clone()).unwrap();
    let queue = consumer.queues(&topic).unwrap().remove(0);
    let pull = Pull { hold: Some(Duration::from_secs(5)), ..Pull::new(queue, 0) };
    assert_eq!(consumer.pull(&pull).unwrap().messages[0].body, b"binary");
}

#[test]
fn a_pull_is_held_until_a_message_comes() {
    let Some(live) = deployment() else { return };
    let topic = live.topic("hold", 1);
    let consumer = live.consumer("live_holder");
    consumer.subscribe(&topic, "*").unwrap();
    let queue = consumer.queues(&topic).unwrap().remove(0);
    let empty = consumer.pull(&Pull::new(queue.clone(), 0)).unwrap();
    assert_eq!((empty.status, empty.next_offset), (PullStatus::NoNew, 0));
    let (begun, answered) = std::thread::scope(|scope| {
        let held = scope.spawn(|| {
            let pull = Pull { hold: Some(Duration::from_secs(15)), ..Pull::new(queue.clone(), 0) };
            (consumer.pull(&pull).unwrap(), Instant::now())
        });
        // Long enough for the pull to be there first; the test holds either way.
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        live.producer().send_to(&Message::new(&topic, "at last"), &queue).unwrap();
        (begun, held.join().unwrap())
    });
    assert_eq!(answered.0.messages[0].body, b"at last");
    assert!(answered.1.duration_since(begun) < Duration::from_secs(5), "woken too late");

    let beyond = consumer.pull(&Pull::new(queue.clone(), 1000)).unwrap();
    assert_eq!((beyond.status, beyond.next_offset), (PullStatus::OffsetMoved, 1));
    let filtered = live.consumer("live_filterer");
    filtered.subscribe(&topic, "Other").unwrap();
    let none = filtered.pull(&Pull::new(queue, 0)).unwrap();
    assert_eq!((none.status, none.next_offset), (PullStatus::NoMatched, 1));
}

#[test]
fn a_group_keeps_offsets_and_members() {
    let Some(live) = deployment() else { return };
    let topic = live.topic("group", 1);
    let group = format!("live_group_{}", std::process::id());
    let consumer = live.consumer(&group);
    consumer.subscribe(&topic, "*").unwrap();
    assert_eq!(consumer.members(&topic).unwrap(), [consumer.client_id()]);
    let queue = consumer.queues(&topic).unwrap().remove(0);
    for _ in 0..5 {
        live.producer().send_to(&Message::new(&topic, "x"), &queue).unwrap();
    }
    consumer.update_offset(&queue, 2).unwrap();
    assert_eq!(consumer.offset(&queue).unwrap(), Some(2));
    consumer.pull(&Pull { commit: Some(3), ..Pull::new(queue.clone(), 3) }).unwrap();
    assert_eq!(consumer.offset(&queue).unwrap(), Some(3));
    let addr = live.admin.topic_route(&topic).unwrap().unwrap().master(&queue.broker_name).unwrap().to_owned();
    assert_eq!(live.admin.consumer_offset(&addr, &group, &topic, 0).unwrap(), Some(3));
    assert_eq!(live.admin.consumer_ids(&addr, &group).unwrap(), [consumer.client_id()]);
    drop(consumer);
    assert!(live.admin.consumer_ids(&addr, &group).unwrap().is_empty());
}

#[test]
fn topics_come_and_go() {
    let Some(live) = deployment() else { return };
    let topic = live.topic("admin", 3);
    let addr = live.master();
    let config = live.admin.topic_config(&addr, &topic).unwrap().unwrap();
    assert_eq!((config.read_queue_nums, config.write_queue_nums, config.perm), (3, 3, 6));
    assert!(live.admin.topic_configs(&addr).unwrap().contains_key(&topic));
    assert!(live.admin.topics().unwrap().contains(&topic));
    let changed = TopicConfig::new(&topic, 5, 2, perm::READ);
    live.admin.create_topic(&addr, &changed).unwrap();
    let route = until("the changed route", || {
        let route = live.admin.topic_route(&topic).unwrap().unwrap();
        route
            .data
            .queue_datas
            .iter()
            .any(|q| (q.read_queue_nums, q.write_queue_nums, q.perm) == (5, 2, 4))
            .then_some(route)
    });
    assert!(route.masters().any(|(_, master)| master == addr));
    live.admin.delete_topic_in_cluster(None, &topic).unwrap();
    assert_eq!(live.admin.topic_config(&addr, &topic).unwrap(), None);
    until("the end of the route", || live.admin.topic_route(&topic).unwrap().is_none().then_some(()));
    let illegal = live.admin.create_topic(&addr, &TopicConfig::new("not legal", 1, 1, 6));
    assert!(matches!(illegal, Err(Error::Name(_))));
}

#[test]
fn a_topic_nobody_created_appears_with_its_first_message() {
    let Some(live) = deployment() else { return };
    let topic = format!("live_auto_{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos());
    assert_eq!(live.admin.topic_route(&topic).unwrap(), None);
    let receipt = live.producer().send(&Message::new(&topic, "first")).unwrap();
    assert_eq!(receipt.queue_offset, 0);
    let route = until("the topic's route", || live.admin.topic_route(&topic).unwrap());
    assert!(route.read_queues().contains(&MessageQueue { topic: topic.clone(), ..receipt.queue }));
}

#[test]
fn name_servers_keep_keys_and_values() {
    let Some(live) = deployment() else { return };
    let namespace = format!("live_{}", std::process::id());
    assert_eq!(live.admin.kv_config(&namespace, "k").unwrap(), None);
    live.admin.put_kv_config(&namespace, "k", "a value").unwrap();
    assert_eq!(live.admin.kv_config(&namespace, "k").unwrap().as_deref(), Some("a value"));
    assert_eq!(live.admin.kv_list(&namespace).unwrap().len(), 1);
    live.admin.delete_kv_config(&namespace, "k").unwrap();
    assert_eq!(live.admin.kv_config(&namespace, "k").unwrap(), None);
}

/// What a deployment may not have yet is refused by its number, never with silence or nonsense.
#[test]
fn the_rest_of_administration_is_answered() {
    let Some(live) = deployment() else { return };
    let (admin, addr) = (&live.admin, live.master());
    let cluster = admin.cluster_info().unwrap().cluster_addr_table.keys().next().unwrap().clone();
    let name_server = admin.names().addrs()[0].clone();
    fn answered<T>(what: &str, result: ringmq_client::Result<T>) {
        if let Err(e) = result {
            assert_eq!(e.code(), Some(ResponseCode::REQUEST_CODE_NOT_SUPPORTED), "{what}: {e}");
            eprintln!("{what} is not supported here");
        }
    }
    answered("broker config", admin.broker_config(&addr).map(|config| assert!(!config.is_empty())));
    answered("broker runtime info", admin.broker_runtime_info(&addr).map(|info| assert!(!info.is_empty())));
    answered("system topics", admin.system_topics(&addr).map(|topics| assert!(!topics.is_empty())));
    answered("system topics of names", admin.system_topics_of_names());
    answered("topics of cluster", admin.topics_of_cluster(&cluster).map(|topics| assert!(!topics.is_empty())));
    answered("name server config", admin.names_config(&name_server).map(|config| assert!(!config.is_empty())));
    answered("groups", admin.groups(&addr));
    let group = "live_admin_group";
    answered("create group", admin.create_group(&addr, &SubscriptionGroupConfig::new(group)));
    answered("consumer connection", admin.consumer_connection(&addr, group).map(|c| assert_eq!(c, None)));
    answered("producer connection", admin.producer_connection(&addr, "nobody").map(|c| assert_eq!(c, None)));
    answered("consume stats", admin.consume_stats(&addr, group, None));
    answered("delete group", admin.delete_group(&addr, group, true));
    let topic = live.topic("stats", 2);
    answered("topic stats", admin.topic_stats(&addr, &topic).map(|stats| assert_eq!(stats.offset_table.len(), 2)));
    answered("groups of topic", admin.groups_of_topic(&addr, &topic).map(|groups| assert!(groups.is_empty())));
}
