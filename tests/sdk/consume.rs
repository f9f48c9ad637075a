//! Push consumers: nothing is lost when members come and go, failures come again and then are buried, order holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringmq_client::{
    Consumed, ConsumerOptions, Filter, Message, Model, PullConsumer, PushConsumer, PushOptions, ReceivedMessage,
};

use super::support::eventually;
use super::{PATIENCE, Seen, alone, cluster, names, numbered, options, producer, set, text};

#[test]
fn members_share_the_queues_and_go_on_where_the_group_was() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("shared", 4);
    let producer = producer(&cluster);
    let send = |range: std::ops::Range<usize>| {
        for i in range {
            producer.send(&Message::new("shared", format!("m-{i}"))).unwrap();
        }
    };
    send(0..100);
    let (one, two) = (Seen::default(), Seen::default());
    let first = one.consumer(&cluster, options("sdk_shared", "shared"));
    one.wait(100);
    assert_eq!(set(one.texts()), numbered("m", 100));
    let second = two.consumer(&cluster, options("sdk_shared", "shared"));
    let of_topic = |consumer: &PushConsumer| consumer.queues().iter().filter(|queue| queue.topic == "shared").count();
    eventually("two queues each", PATIENCE, || (of_topic(&first) == 2 && of_topic(&second) == 2).then_some(()));
    send(100..200);
    let all = || set(one.texts().into_iter().chain(two.texts()));
    eventually("the second hundred", PATIENCE, || (all() == numbered("m", 200)).then_some(()));
    assert!(!two.texts().is_empty());
    first.shutdown().unwrap();
    eventually("all queues", PATIENCE, || (of_topic(&second) == 4).then_some(()));
    second.shutdown().unwrap();
    // Both committed at their end: a third sees only what is new.
    send(200..201);
    let three = Seen::default();
    let third = three.consumer(&cluster, options("sdk_shared", "shared"));
    three.wait(1);
    assert_eq!(three.texts(), ["m-200"]);
    third.shutdown().unwrap();
}

#[test]
fn a_message_that_fails_comes_again_and_is_buried_in_the_end() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("failing", 1);
    let producer = producer(&cluster);
    for body in ["good", "once", "never", "panics once"] {
        producer.send(&Message::builder("failing").property("own", "1").body(body)).unwrap();
    }
    let seen = Seen::default();
    let seeing = seen.clone();
    let listener = move |message: &ReceivedMessage| {
        seeing.add(message);
        match (text(message).as_str(), message.reconsume_times) {
            ("never", _) | ("once", 0) => Consumed::Later,
            ("panics once", 0) => panic!("as a listener may"),
            _ => Consumed::Done,
        }
    };
    let limited = PushOptions { reconsume_max: Some(2), ..options("sdk_failing", "failing") };
    let consumer = PushConsumer::start(limited, names(&cluster), listener).unwrap();
    let buried = Seen::default();
    // 1 good, 2 of once, 2 of the panic, 3 of never.
    seen.wait(8);
    let mut times: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for message in seen.all() {
        assert_eq!((message.topic.as_str(), message.property("own")), ("failing", Some("1")));
        times.entry(text(&message)).or_default().push(message.reconsume_times);
    }
    let wanted = [("good", vec![0]), ("never", vec![0, 1, 2]), ("once", vec![0, 1]), ("panics once", vec![0, 1])];
    assert_eq!(times, wanted.map(|(body, times)| (body.to_owned(), times)).into());
    let graves = buried.consumer(&cluster, options("sdk_graves", "%DLQ%sdk_failing"));
    buried.wait(1);
    assert_eq!(buried.texts(), ["never"]);
    graves.shutdown().unwrap();
    consumer.shutdown().unwrap();
}

#[test]
fn an_orderly_consumer_keeps_the_order_and_buries_what_never_works() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("orderly", 2);
    let producer = producer(&cluster);
    for i in 0..40 {
        producer.send_ordered(&Message::new("orderly", format!("{}-{i}", i % 4)), i % 4).unwrap();
    }
    let seen = Seen::default();
    let seeing = seen.clone();
    let listener = move |message: &ReceivedMessage| {
        seeing.add(message);
        match text(message).as_str() {
            "0-4" if message.reconsume_times == 0 => Consumed::Later,
            "1-5" => Consumed::Later,
            _ => Consumed::Done,
        }
    };
    let limited = PushOptions { reconsume_max: Some(1), ..options("sdk_orderly", "orderly") };
    let consumer = PushConsumer::start_orderly(limited, names(&cluster), listener).unwrap();
    // 40, and one more time each of the two that fail.
    seen.wait(42);
    let mut by_queue: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for message in seen.all() {
        by_queue.entry(message.queue_id).or_default().push(message.queue_offset);
    }
    assert!(by_queue.values().all(|offsets| offsets.is_sorted()), "{by_queue:?}");
    let buried = Seen::default();
    let graves = buried.consumer(&cluster, options("sdk_orderly_graves", "%DLQ%sdk_orderly"));
    buried.wait(1);
    assert_eq!(buried.texts(), ["1-5"]);
    graves.shutdown().unwrap();
    consumer.shutdown().unwrap();
    // Everything was committed, the buried one included.
    let reader = PullConsumer::new(ConsumerOptions::new("sdk_orderly"), names(&cluster)).unwrap();
    for queue in reader.queues("orderly").unwrap() {
        assert_eq!(reader.offset(&queue).unwrap(), Some(reader.max_offset(&queue).unwrap()));
    }
}

#[test]
fn every_member_of_a_broadcast_gets_everything_and_remembers_it() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("broadcast", 2);
    let producer = producer(&cluster);
    let send = |i: usize| producer.send(&Message::new("broadcast", format!("m-{i}"))).unwrap();
    (0..10).for_each(|i| drop(send(i)));
    let member = |name: &str| {
        let offsets = cluster.folder.path().join("members").join(name);
        PushOptions { model: Model::Broadcasting { offsets }, ..options("sdk_broadcast", "broadcast") }
    };
    let (one, two) = (Seen::default(), Seen::default());
    let (first, second) = (one.consumer(&cluster, member("one")), two.consumer(&cluster, member("two")));
    one.wait(10);
    two.wait(10);
    first.shutdown().unwrap();
    send(10);
    two.wait(11);
    assert_eq!(set(two.texts()), numbered("m", 11));
    let again = Seen::default();
    let first = again.consumer(&cluster, member("one"));
    again.wait(1);
    assert_eq!(again.texts(), ["m-10"]);
    first.shutdown().unwrap();
    second.shutdown().unwrap();
}

#[test]
fn shutdown_waits_for_the_listener_and_commits_what_it_has_done() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("ending", 1);
    producer(&cluster).send(&Message::new("ending", "slow")).unwrap();
    let (begun, wait) = std::sync::mpsc::channel();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let is_done = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&is_done);
    let listener = move |_: &ReceivedMessage| {
        begun.send(()).unwrap();
        held.lock().unwrap().recv().unwrap();
        done.store(true, Ordering::SeqCst);
        Consumed::Done
    };
    let consumer = PushConsumer::start(options("sdk_ending", "ending"), names(&cluster), listener).unwrap();
    wait.recv_timeout(PATIENCE).unwrap();
    let ending = std::thread::spawn(move || consumer.shutdown());
    release.send(()).unwrap();
    ending.join().unwrap().unwrap();
    assert!(is_done.load(Ordering::SeqCst));
    let reader = PullConsumer::new(ConsumerOptions::new("sdk_ending"), names(&cluster)).unwrap();
    let queue = reader.queues("ending").unwrap().remove(0);
    assert_eq!(reader.offset(&queue).unwrap(), Some(1));
}

#[test]
fn properties_choose_messages_and_a_bad_expression_does_not_start() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("chosen", 2);
    let producer = producer(&cluster);
    for amount in 0..10 {
        let message = Message::builder("chosen").property("amount", amount.to_string()).body(format!("m-{amount}"));
        producer.send(&message).unwrap();
    }
    let chosen = |group: &str, expression: &str| {
        let subscribed = PushOptions::new(group).subscribe("chosen", Filter::sql(expression));
        PushOptions { start_at: ringmq_client::StartAt::First, ..subscribed }
    };
    let bad = PushConsumer::start(chosen("sdk_bad", "amount >"), names(&cluster), |_| Consumed::Done);
    assert!(bad.unwrap_err().code().is_some());
    let seen = Seen::default();
    let consumer = seen.consumer(&cluster, chosen("sdk_chosen", "amount > 4 AND amount < 8"));
    seen.wait(3);
    assert_eq!(set(seen.texts()), set((5..8).map(|i| format!("m-{i}"))));
    consumer.shutdown().unwrap();
}
