//! A message's whole way through a running broker: socket, shard, log, acknowledgement, consumer, restart.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use ringmq_broker::settings::Settings;
use ringmq_broker::start::start;
use ringmq_engine::FlushPolicy;
use ringmq_rt::host::Stop;

use support::{Client, bodies, number, run, settings};

#[test]
fn a_message_is_stored_delivered_and_still_there_after_a_restart() {
    for (executors, flush) in [(1, FlushPolicy::Sync), (2, FlushPolicy::Async), (2, FlushPolicy::Sync)] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let running = run(settings(dir.path(), executors, flush));
        let mut client = Client::new(running.addr);
        for i in 0..40 {
            let queue = i % 4;
            let answer = client.publish("orders", queue, "new", format!("message {i}").as_bytes());
            assert_eq!(answer.code, 0, "{answer:?}");
            assert_eq!(number(&answer, "queueId"), i64::from(queue));
            assert_eq!(number(&answer, "queueOffset"), i64::from(i / 4));
            assert_eq!(answer.ext("msgId").unwrap().len(), 32);
        }
        let expect =
            |queue: i32| (0..10).map(|n| format!("message {}", n * 4 + queue).into_bytes()).collect::<Vec<_>>();
        let check = |client: &mut Client| {
            for queue in 0..4 {
                // Under ASYNC_FLUSH the last write may still be in flight when the answer is here.
                let mut got = Vec::new();
                while got.len() < 10 {
                    let (answer, more) = client.pull("orders", queue, got.len() as i64, 5000, "*");
                    assert_eq!(answer.code, 0, "{answer:?}");
                    got.extend(more);
                    assert_eq!(number(&answer, "nextBeginOffset"), got.len() as i64);
                }
                assert_eq!(got, expect(queue));
            }
        };
        check(&mut client);
        running.stop();
        let running = run(settings(dir.path(), executors, flush));
        let mut client = Client::new(running.addr);
        check(&mut client);
        let (max, _) = client.call(30, &[("topic", "orders"), ("queueId", "1")], &[]);
        assert_eq!(number(&max, "offset"), 10);
        running.stop();
    }
}

#[test]
fn a_waiting_pull_is_answered_by_the_message_it_waits_for() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(settings(dir.path(), 2, FlushPolicy::Async));
    let mut producer = Client::new(running.addr);
    assert_eq!(producer.publish("events", 0, "a", b"first").code, 0);
    let mut consumer = Client::new(running.addr);
    let ext = Client::pull_ext("events", 0, 1, 15_000, "b");
    let ext: Vec<(&str, &str)> = ext.iter().map(|(k, v)| (*k, v.as_str())).collect();
    consumer.send(11, &ext, &[]);
    assert_eq!(producer.publish("events", 0, "a", b"not for this one").code, 0);
    assert_eq!(producer.publish("events", 0, "b", b"for this one").code, 0);
    let (answer, body) = consumer.answer();
    assert_eq!((answer.code, bodies(&body)), (0, vec![b"for this one".to_vec()]));
    assert_eq!(number(&answer, "nextBeginOffset"), 3);
    let (answer, got) = consumer.pull("events", 0, 3, 300, "*");
    assert_eq!((answer.code, got.len()), (19, 0), "nothing came within 300 ms");
    let (answer, _) = consumer.pull("events", 0, 99, 0, "*");
    assert_eq!((answer.code, number(&answer, "nextBeginOffset")), (21, 3));
    running.stop();
}

#[test]
fn what_is_not_served_is_refused_in_words() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(settings(dir.path(), 1, FlushPolicy::Async));
    let mut client = Client::new(running.addr);
    let (answer, _) = client.call(200_050, &[], &[]);
    assert_eq!(answer.code, 3);
    assert!(answer.remark.unwrap().contains("POP_MESSAGE"));
    let (answer, _) = client.call(310, &[("a", "p")], b"x");
    assert_eq!((answer.code, answer.remark.as_deref()), (1, Some("the custom field <b> is null")));
    let answer = client.publish("bad topic!", 0, "t", b"x");
    assert_eq!(answer.code, 29);
    let answer = client.publish("big", 0, "t", &vec![0; (4 << 20) + 1]);
    assert_eq!(answer.code, 13, "{answer:?}");
    let answer = client.publish("fine", 77, "t", b"x");
    assert_eq!(answer.code, 29, "{answer:?}");
    assert_eq!(client.publish("fine", 0, "t", b"x").code, 0);
    running.stop();
}

#[test]
fn first_sends_and_pulls_of_many_clients_at_once_all_succeed() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(settings(dir.path(), 2, FlushPolicy::Async));
    let addr = running.addr;
    let clients: Vec<_> = (0..24)
        .map(|i| {
            std::thread::spawn(move || {
                let mut client = Client::new(addr);
                assert_eq!(client.publish("everybody", i % 4, "t", b"x").code, 0);
                let (answer, _) = client.pull("everybody", i % 4, 0, 5000, "*");
                assert_eq!(answer.code, 0, "{answer:?}");
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    running.stop();
}

#[test]
fn a_port_that_another_broker_has_is_not_shared() {
    let (one, two) = (
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
    );
    let running = run(settings(one.path(), 2, FlushPolicy::Async));
    let second = Settings { port: running.addr.port(), ..settings(two.path(), 2, FlushPolicy::Async) };
    let refused = start(second, &Stop::new(), |_| ()).unwrap().join().unwrap_err();
    assert!(refused.contains("cannot listen"), "{refused}");
    let same_store = settings(one.path(), 1, FlushPolicy::Async);
    let refused = start(same_store, &Stop::new(), |_| ()).unwrap().join().unwrap_err();
    assert!(refused.contains("in use by another process"), "{refused}");
    running.stop();
}
