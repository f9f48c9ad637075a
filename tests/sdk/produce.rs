//! Producers: transactions whose end the broker has to ask for, messages with a time, requests that nobody answers.

use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmq_client::{
    Admin, Error, Message, ProducerOptions, ReceivedMessage, Remoting, TransactionProducer, TransactionState,
};

use super::support::eventually;
use super::support::server::Make;
use super::{PATIENCE, Seen, alone, cluster, names, numbered, options, producer, set};

#[test]
fn a_transaction_ends_as_its_sender_says_or_as_it_says_when_asked() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("transactions", 2);
    let (asked, questions) = mpsc::channel();
    let check = move |half: &ReceivedMessage| {
        let body = super::text(half);
        let state = if body == "rolled back" { TransactionState::Rollback } else { TransactionState::Commit };
        asked.send(body).unwrap();
        state
    };
    let sender_options =
        ProducerOptions { send_timeout: Duration::from_secs(10), ..ProducerOptions::new("sdk_transactions") };
    let sender = TransactionProducer::new(sender_options, names(&cluster), check).unwrap();
    let send = |body: &str, state| {
        let (receipt, said) = sender.send(&Message::new("transactions", body), |_| state).unwrap();
        assert_eq!(said, state);
        assert!(receipt.transaction_id.is_some());
    };
    send("committed", TransactionState::Commit);
    send("rolled back", TransactionState::Rollback);
    send("open", TransactionState::Unknown);
    assert!(matches!(
        sender.send(&Message::builder("transactions").delay_level(1).body("x"), |_| TransactionState::Commit),
        Err(Error::Message { .. })
    ));
    let mut question = questions.recv_timeout(PATIENCE * 2).unwrap();
    // Apache writes down what has ended every three seconds, and may ask about it until then.
    while Make::under_test() != Make::Ours && question != "open" {
        question = questions.recv_timeout(PATIENCE * 2).unwrap();
    }
    assert_eq!(question, "open");
    let seen = Seen::default();
    let consumer = seen.consumer(&cluster, options("sdk_transaction_group", "transactions"));
    let has = |seen: &[ReceivedMessage], body: &str| seen.iter().any(|message| message.body == body.as_bytes());
    seen.wait_until("both", |seen| has(seen, "committed") && has(seen, "open"));
    // What was rolled back would have come with the committed one, before the broker asked about the other.
    assert_eq!(set(seen.texts()), set(["committed".to_owned(), "open".to_owned()]));
    consumer.shutdown().unwrap();
}

#[test]
fn a_transaction_of_an_earlier_run_is_asked_about_before_the_next_run_sends() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("restarted", 1);
    let start = |state| {
        let options =
            ProducerOptions { send_timeout: Duration::from_secs(10), ..ProducerOptions::new("sdk_restarted") };
        TransactionProducer::new(options, names(&cluster), move |_: &ReceivedMessage| state).unwrap()
    };
    let earlier = start(TransactionState::Unknown);
    earlier.send(&Message::new("restarted", "open"), |_| TransactionState::Unknown).unwrap();
    drop(earlier);
    let _idle = start(TransactionState::Commit);
    let seen = Seen::default();
    let consumer = seen.consumer(&cluster, options("sdk_restarted_group", "restarted"));
    seen.wait(1);
    assert_eq!(seen.texts(), ["open"]);
    consumer.shutdown().unwrap();
}

#[test]
fn a_message_is_seen_at_its_time() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("timed", 1);
    let producer = producer(&cluster);
    let seen = Seen::default();
    let consumer = seen.consumer(&cluster, options("sdk_timed_group", "timed"));
    let at = SystemTime::now() + Duration::from_secs(6);
    producer.send(&Message::builder("timed").deliver_at(at).body("later")).unwrap();
    producer.send(&Message::new("timed", "now")).unwrap();
    let all = seen.wait(2);
    assert_eq!(seen.texts(), ["now", "later"]);
    let at_ms = i64::try_from(at.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    // Apache's timers count seconds.
    let early = if Make::under_test() == Make::Ours { 0 } else { 1000 };
    assert!(all[1].store_timestamp >= at_ms - early, "{} is before {at_ms}", all[1].store_timestamp);
    consumer.shutdown().unwrap();
}

#[test]
fn sends_that_nobody_waits_for_are_told_of_each_once() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("async", 4);
    let producer = producer(&cluster);
    let (told, results) = mpsc::channel();
    for i in 0..500 {
        let told = told.clone();
        let message = Message::new("async", format!("m-{i}"));
        producer.send_then(&message, move |result| told.send(result.unwrap().msg_id).unwrap()).unwrap();
    }
    // Waits for all of them.
    drop(producer);
    drop(told);
    assert_eq!(set(results).len(), 500);
    let seen = Seen::default();
    let consumer = seen.consumer(&cluster, options("sdk_async_group", "async"));
    seen.wait(500);
    assert_eq!(set(seen.texts()), numbered("m", 500));
    consumer.shutdown().unwrap();
}

#[test]
fn a_message_is_found_by_its_keys_where_the_broker_looks_for_them() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("found", 1);
    let producer = producer(&cluster);
    let receipt = producer.send(&Message::builder("found").key("k1").key("k2").body("x")).unwrap();
    producer.send(&Message::builder("found").key("other").body("y")).unwrap();
    let (admin, addr) = (Admin::new(Remoting::default(), names(&cluster)), cluster.broker.address.as_str());
    let finds = |what: &str, find: &dyn Fn() -> ringmq_client::Result<Vec<ReceivedMessage>>| {
        // Apache's index follows the sends a little later.
        eventually(what, PATIENCE, || match find() {
            Ok(found) if found.is_empty() => None,
            Ok(found) => {
                assert!(found.len() == 1 && found[0].msg_id() == receipt.msg_id, "{found:?}");
                Some(())
            }
            Err(error) => panic!("{what}: {error}"),
        });
    };
    finds("by key", &|| admin.messages_by_key(addr, "found", "k2", 0..i64::MAX, 32));
    finds("by unique key", &|| admin.messages_by_unique_key(addr, "found", &receipt.msg_id));
    finds("by id", &|| admin.message_by_id(&receipt.offset_msg_id).map(|message| vec![message]));
    assert!(matches!(admin.message_by_id("7F00"), Err(Error::MessageId { .. })));
}

#[test]
fn a_request_that_nobody_answers_ends() {
    let _alone = alone();
    let cluster = cluster();
    cluster.broker.create_topic("requests", 1);
    let producer = producer(&cluster);
    let outcome = producer.request(&Message::new("requests", "anybody?"), Duration::from_millis(500));
    assert!(matches!(outcome, Err(Error::NoReply { .. })), "{outcome:?}");
}
