//! The client against servers that are played by the test: real sockets, replies written out by hand. What a real
//! broker answers is tested elsewhere; here it is what happens when one does not.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "served/record.rs"]
mod record;
mod served;

use std::net::TcpListener;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use ringmq_client::conn::Request;
use ringmq_client::error::Disconnect;
use ringmq_client::{
    Admin, Consumed, ConsumerOptions, Error, Message, MessageQueue, NameServers, Options, Producer, ProducerOptions,
    Pull, PullConsumer, PullStatus, PushConsumer, PushOptions, Remoting, SendStatus, TailStart, tail,
};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::Command;
use ringmq_protocol::compress::inflate;
use ringmq_protocol::message::Property;
use ringmq_protocol::properties;
use served::{Served, reply_to};

const SECOND: Duration = Duration::from_secs(1);

/// What a played server does with a request.
enum Play {
    Answer(i32, Vec<(&'static str, String)>, Vec<u8>),
    Ignore,
    HangUp,
    Garbage,
}

/// Serves until the test ends.
fn serve(script: impl FnMut(&Command, &[u8]) -> Play + Send + 'static) -> String {
    serve_counted(script).0
}

/// The same, and how many connections there have been.
fn serve_counted(mut script: impl FnMut(&Command, &[u8]) -> Play + Send + 'static) -> (String, Arc<AtomicUsize>) {
    served::serve(move |request, body| match script(request, body) {
        Play::Answer(code, ext, body) => {
            let mut reply = reply_to(request, code);
            reply.remark = (code != 0).then(|| format!("remark of {code}"));
            reply.ext = ext.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Served::Answer(reply, body)
        }
        Play::Ignore => Served::Silence,
        Play::HangUp => Served::HangUp,
        Play::Garbage => Served::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    })
}

fn ok() -> Play {
    Play::Answer(0, vec![], vec![])
}

fn stored(offset: i64) -> Play {
    let ext = vec![("msgId", "ID".into()), ("queueId", "0".into()), ("queueOffset", offset.to_string())];
    Play::Answer(0, ext, vec![])
}

/// A name server that knows one topic with one queue on each of these brokers.
fn names(brokers: &[(&str, &str)]) -> NameServers {
    let datas: Vec<String> = brokers
        .iter()
        .map(|(name, addr)| format!(r#"{{"brokerAddrs":{{"0":"{addr}"}},"brokerName":"{name}","cluster":"c"}}"#))
        .collect();
    let queues: Vec<String> = brokers
        .iter()
        .map(|(name, _)| {
            format!(r#"{{"brokerName":"{name}","perm":6,"readQueueNums":1,"topicSysFlag":0,"writeQueueNums":1}}"#)
        })
        .collect();
    let body = format!(r#"{{"brokerDatas":[{}],"queueDatas":[{}]}}"#, datas.join(","), queues.join(","));
    let addr = serve(move |_, _| Play::Answer(0, vec![], body.clone().into_bytes()));
    NameServers::new(&addr).unwrap()
}

fn ping() -> Request {
    Request::new(RequestCode::GET_BROKER_CONFIG)
}

#[test]
fn a_refusal_has_code_and_remark() {
    let addr = serve(|_, _| Play::Answer(16, vec![], vec![]));
    let error = Remoting::default().call(&addr, &ping(), SECOND).unwrap_err();
    assert_eq!(error.code(), Some(ResponseCode::NO_PERMISSION));
    let text = format!("{addr} refused GET_BROKER_CONFIG(26): NO_PERMISSION(16), remark of 16");
    assert_eq!(error.to_string(), text);
}

#[test]
fn silence_is_a_timeout_and_the_connection_goes_on() {
    let mut asked = 0;
    let addr = serve(move |_, _| {
        asked += 1;
        if asked == 1 { Play::Ignore } else { ok() }
    });
    let remoting = Remoting::default();
    let begun = Instant::now();
    let error = remoting.call(&addr, &ping(), Duration::from_millis(80)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(80));
    remoting.call(&addr, &ping(), SECOND).unwrap();
}

#[test]
fn a_connection_on_which_nothing_comes_is_replaced_and_a_slow_one_is_not() {
    // The first connection answers once, and then no more, as one whose other end is gone.
    let mut asked = 0;
    let (addr, connections) = serve_counted(move |_, _| {
        asked += 1;
        if asked == 2 || asked == 3 { Play::Ignore } else { ok() }
    });
    let remoting = Remoting::default();
    remoting.call(&addr, &ping(), SECOND).unwrap();
    let other = remoting.clone();
    let (sender, answers) = mpsc::channel();
    let _waits = other.ask_into(&addr, &ping(), SECOND * 600, 7, sender).unwrap();
    let error = remoting.call(&addr, &ping(), SECOND + SECOND / 10).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    // Whoever waits for longer has no use for that connection either.
    let (key, ended) = answers.recv_timeout(SECOND * 60).unwrap();
    let ended = ended.unwrap_err();
    assert!(key == 7 && matches!(ended, Error::Disconnected { reason: Disconnect::Silent, .. }), "{ended}");
    remoting.call(&addr, &ping(), SECOND * 5).unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 2);

    // Here one question is not answered, and others are meanwhile.
    let (addr, connections) = serve_counted(|request, _| if request.code == 1 { Play::Ignore } else { ok() });
    remoting.call(&addr, &ping(), SECOND * 5).unwrap();
    thread::scope(|scope| {
        let slow = scope.spawn(|| remoting.call(&addr, &Request::new(RequestCode(1)), SECOND + SECOND / 10));
        while !slow.is_finished() {
            remoting.call(&addr, &ping(), SECOND * 5).unwrap();
        }
        assert!(matches!(slow.join().unwrap(), Err(Error::Timeout { .. })));
    });
    remoting.call(&addr, &ping(), SECOND * 5).unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_broken_connection_fails_its_calls_at_once_and_the_next_call_connects_again() {
    for broken in [|| Play::HangUp, || Play::Garbage] {
        let mut asked = 0;
        let addr = serve(move |_, _| {
            asked += 1;
            if asked == 1 { broken() } else { ok() }
        });
        let remoting = Remoting::default();
        let begun = Instant::now();
        let error = remoting.call(&addr, &ping(), Duration::from_secs(30)).unwrap_err();
        assert!(matches!(error, Error::Disconnected { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        remoting.call(&addr, &ping(), SECOND).unwrap();
    }
}

#[test]
fn many_threads_share_a_connection() {
    let (addr, connections) = serve_counted(|request, body| {
        let name = request.ext("name").unwrap().to_owned();
        Play::Answer(0, vec![("name", name)], body.to_vec())
    });
    let remoting = Remoting::default();
    remoting.call(&addr, &ping().with("name", "first"), SECOND).unwrap();
    thread::scope(|scope| {
        for thread in 0..8 {
            let (remoting, addr) = (&remoting, &addr);
            scope.spawn(move || {
                for i in 0..50 {
                    let name = format!("{thread}/{i}");
                    let request = ping().with("name", &name).with_body(name.as_bytes());
                    let received = remoting.call(addr, &request, SECOND * 5).unwrap();
                    assert_eq!(received.command.ext("name"), Some(name.as_str()));
                    assert_eq!(received.body, name.as_bytes());
                }
            });
        }
    });
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn the_next_name_server_is_asked_when_one_is_down() {
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let up = serve(|_, _| Play::Answer(0, vec![], br#"{"topicList":["T"]}"#.to_vec()));
    let admin = Admin::new(Remoting::default(), NameServers::new(&format!("{down};{up}")).unwrap());
    assert_eq!(admin.topics().unwrap(), ["T"]);
    let nobody = Admin::new(Remoting::default(), NameServers::new(&down).unwrap());
    assert!(nobody.topics().unwrap_err().is_unreachable());
}

/// A producer between a broker that answers sends with `code` and one that stores.
fn send_between(code: i32) -> (ringmq_client::Result<ringmq_client::SendReceipt>, usize) {
    let tried = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tried);
    let bad = serve(move |request, _| {
        if request.code != 310 {
            return ok();
        }
        count.fetch_add(1, Ordering::SeqCst);
        if code == -1 { Play::HangUp } else { Play::Answer(code, vec![], vec![]) }
    });
    let good = serve(|request, _| if request.code == 310 { stored(7) } else { ok() });
    let producer = Producer::new(ProducerOptions::new("PG"), names(&[("bad", &bad), ("good", &good)])).unwrap();
    // Two sends: one of them begins with the bad broker.
    let first = producer.send(&Message::new("T", "x"));
    let second = producer.send(&Message::new("T", "x"));
    (first.and(second), tried.load(Ordering::SeqCst))
}

#[test]
fn a_send_goes_to_another_broker_after_a_failure_that_may_pass() {
    for code in [-1, 1, 2, 14, 16, 17] {
        let (sent, tried) = send_between(code);
        assert_eq!(sent.unwrap().queue.broker_name, "good", "code {code}");
        assert_eq!(tried, 1, "code {code}");
    }
}

#[test]
fn a_send_that_no_broker_would_take_is_not_tried_again() {
    let (sent, tried) = send_between(13);
    assert_eq!(sent.unwrap_err().code(), Some(ResponseCode::MESSAGE_ILLEGAL));
    assert_eq!(tried, 1);
}

#[test]
fn a_send_ends_with_its_timeout_however_many_tries_are_left() {
    let silent = serve(|_, _| Play::Ignore);
    let options =
        ProducerOptions { send_timeout: Duration::from_millis(150), retries: 100, ..ProducerOptions::new("PG") };
    let producer = Producer::new(options, names(&[("a", &silent)])).unwrap();
    for send in [Producer::send, |p: &Producer, m: &Message| p.send_to(m, &queue_of("a"))] {
        let begun = Instant::now();
        let error = send(&producer, &Message::new("T", "x")).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert!(begun.elapsed() < SECOND * 2);
    }
}

#[test]
fn a_request_ends_with_its_own_timeout_and_not_with_that_of_sends() {
    let silent = serve(|request, _| if request.code == 310 { Play::Ignore } else { ok() });
    let options = ProducerOptions { send_timeout: SECOND * 600, ..ProducerOptions::new("PG") };
    let producer = Producer::new(options, names(&[("a", &silent)])).unwrap();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let reply = producer.request(&Message::new("T", "x"), Duration::from_millis(100));
        let _ = sender.send(reply);
    });
    let error = ended.recv_timeout(SECOND * 60).unwrap().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[test]
fn a_peer_that_does_not_read_costs_a_call_its_time_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    // More than the kernel takes from here.
    let request = ping().with_body(vec![0; 15 << 20]);
    let remoting = Remoting::default();
    for call in [Remoting::call, Remoting::call] {
        let error = call(&remoting, &addr, &request, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
    }
}

#[test]
fn an_address_that_does_not_answer_is_not_tried_again_at_once() {
    let (addr, hole) = served::hole();
    let remoting = Remoting::new(Options { connect_timeout: SECOND / 5, ..Options::default() });
    let failed = || remoting.call(&addr, &ping(), SECOND * 60).unwrap_err();
    let (first, second) = (failed(), failed());
    assert!(first.is_unreachable() && second.is_unreachable(), "{first}, {second}");
    assert_eq!(second.to_string(), format!("{first}, just now; it is tried again soon"));
    // It is not left alone for ever.
    drop(hole);
    while failed().to_string().contains("just now") {
        thread::yield_now();
    }
}

fn queue_of(broker: &str) -> MessageQueue {
    MessageQueue { broker_name: broker.into(), queue_id: 0, topic: "T".into() }
}

/// What arrives at a broker that stores everything.
fn recording_broker() -> (String, Receiver<(Command, Vec<u8>)>) {
    let (sender, receiver) = mpsc::channel();
    let addr = serve(move |request, body| {
        sender.send((request.clone(), body.to_vec())).unwrap();
        if request.code == 310 || request.code == 320 { stored(0) } else { ok() }
    });
    (addr, receiver)
}

#[test]
fn a_large_body_is_compressed_and_says_so() {
    let (addr, seen) = recording_broker();
    let producer = Producer::new(ProducerOptions::new("PG"), names(&[("a", &addr)])).unwrap();
    let body = b"tea ".repeat(2000);
    let receipt = producer.send(&Message::builder("T").tag("A").key("k").body(body.clone())).unwrap();
    assert_eq!(receipt.status, SendStatus::Stored);
    let (request, sent) = seen.recv().unwrap();
    assert_eq!((request.ext("a"), request.ext("b"), request.ext("c")), (Some("PG"), Some("T"), Some("TBW102")));
    assert_eq!(request.ext("f").unwrap().parse::<i32>().unwrap(), 0x1 | 0x300);
    assert!(sent.len() < body.len());
    assert_eq!(inflate(&sent, body.len()).unwrap(), body);
    let text = request.ext("i").unwrap();
    assert_eq!(properties::get(text, properties::UNIQ_KEY), Some(receipt.msg_id.as_str()));
    assert_eq!(properties::get(text, properties::TAGS), Some("A"));
    assert_eq!(properties::get(text, properties::KEYS), Some("k"));
}

#[test]
fn a_batch_is_one_request_with_a_key_for_each_message() {
    let (addr, seen) = recording_broker();
    let producer = Producer::new(ProducerOptions::new("PG"), names(&[("a", &addr)])).unwrap();
    let receipt = producer.send_batch(&[Message::new("T", "one"), Message::builder("T").tag("B").body("two")]).unwrap();
    let (request, body) = seen.recv().unwrap();
    assert_eq!((request.code, request.ext("m")), (320, Some("true")));
    let messages: Vec<_> = ringmq_protocol::batch::BatchReader::new(&body, 10).map(Result::unwrap).collect();
    assert_eq!(messages.iter().map(|m| m.body).collect::<Vec<_>>(), [b"one", b"two"]);
    let keys: Vec<_> = messages.iter().map(|m| properties::get(m.properties, properties::UNIQ_KEY).unwrap()).collect();
    assert_eq!(keys.join(","), receipt.msg_id);
    assert_ne!(keys[0], keys[1]);
    let mixed = producer.send_batch(&[Message::new("T", "one"), Message::new("U", "two")]);
    assert!(matches!(mixed, Err(Error::Message { .. })));
    assert!(matches!(producer.send_batch(&[]), Err(Error::Message { .. })));
}

#[test]
fn a_producer_is_announced_and_leaves() {
    let (addr, seen) = recording_broker();
    let producer = Producer::new(ProducerOptions::new("PG"), names(&[("a", &addr)])).unwrap();
    producer.send(&Message::new("T", "x")).unwrap();
    let id = producer.client_id().to_owned();
    let wait_for = |code: i32| loop {
        let (request, body) = seen.recv_timeout(SECOND * 5).unwrap();
        if request.code == code {
            return (request, String::from_utf8(body).unwrap());
        }
    };
    let (_, heartbeat) = wait_for(34);
    assert!(heartbeat.contains(&id) && heartbeat.contains("\"PG\""), "{heartbeat}");
    drop(producer);
    assert_eq!(wait_for(35).0.ext("clientID"), Some(id.as_str()));
}

fn record(offset: i64, tag: &str, body: &[u8]) -> Vec<u8> {
    record::record(0, offset, &[Property::Pair("TAGS", tag)], body)
}

fn pulled(code: i32, next: i64, body: Vec<u8>) -> Play {
    let ext = vec![
        ("nextBeginOffset", next.to_string()),
        ("minOffset", "0".into()),
        ("maxOffset", "9".into()),
        ("suggestWhichBrokerId", "0".into()),
    ];
    Play::Answer(code, ext, body)
}

/// A broker with three messages in one queue, that loses the first connection it is asked to pull on.
fn broker_with_three(hang_up_first: bool) -> String {
    let mut lost = !hang_up_first;
    serve(move |request, _| match request.code {
        11 if !lost => {
            lost = true;
            Play::HangUp
        }
        11 => match request.ext("queueOffset").unwrap() {
            "0" => pulled(0, 2, [record(0, "A", b"zero"), record(1, "B", b"one")].concat()),
            "2" => pulled(0, 3, record(2, "A", b"two")),
            "3" => Play::Ignore,
            other => panic!("offset {other}"),
        },
        30 | 31 => Play::Answer(0, vec![("offset", if request.code == 30 { "3" } else { "0" }.into())], vec![]),
        14 => Play::Answer(22, vec![], vec![]),
        _ => ok(),
    })
}

#[test]
fn a_pull_brings_what_the_tags_let_through() {
    let consumer = PullConsumer::new(ConsumerOptions::new("CG"), names(&[("a", &broker_with_three(false))])).unwrap();
    consumer.subscribe("T", "A").unwrap();
    let queues = consumer.queues("T").unwrap();
    assert_eq!(queues, [queue_of("a")]);
    let outcome = consumer.pull(&Pull::new(queues[0].clone(), 0)).unwrap();
    assert_eq!((outcome.status, outcome.next_offset), (PullStatus::Found, 2));
    let bodies: Vec<_> = outcome.messages.iter().map(|m| m.body.as_slice()).collect();
    assert_eq!(bodies, [b"zero"]);
    assert_eq!(consumer.offset(&queues[0]).unwrap(), None);
    assert_eq!((consumer.min_offset(&queues[0]).unwrap(), consumer.max_offset(&queues[0]).unwrap()), (0, 3));
    assert!(matches!(consumer.subscribe("T", " || "), Err(Error::Filter { .. })));
}

#[test]
fn a_tail_goes_on_after_a_lost_connection_and_misses_nothing() {
    let consumer = PullConsumer::new(ConsumerOptions::new("CG"), names(&[("a", &broker_with_three(true))])).unwrap();
    let mut seen = Vec::new();
    tail(&consumer, "T", TailStart::Earliest, |message| {
        seen.push((message.queue_offset, message.body.clone()));
        if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(seen, [(0, b"zero".to_vec()), (1, b"one".to_vec()), (2, b"two".to_vec())]);
}

#[test]
fn a_tail_ends_with_a_refusal_that_does_not_pass() {
    let broker = serve(|request, _| match request.code {
        11 => Play::Answer(16, vec![], vec![]),
        30 | 31 => Play::Answer(0, vec![("offset", "0".into())], vec![]),
        _ => ok(),
    });
    let consumer = PullConsumer::new(ConsumerOptions::new("CG"), names(&[("a", &broker)])).unwrap();
    let error = tail(&consumer, "T", TailStart::Latest, |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.code(), Some(ResponseCode::NO_PERMISSION));
}

#[test]
fn a_send_that_nobody_waits_for_is_tried_elsewhere() {
    let busy = serve(|request, _| if request.code == 310 { Play::Answer(2, vec![], vec![]) } else { ok() });
    let lost = serve(|request, _| if request.code == 310 { Play::HangUp } else { ok() });
    let good = serve(|request, _| if request.code == 310 { stored(7) } else { ok() });
    let producer =
        Producer::new(ProducerOptions::new("PG"), names(&[("a", &busy), ("b", &lost), ("c", &good)])).unwrap();
    let tickets: Vec<_> = (0..6).map(|_| producer.send_async(&Message::new("T", "x")).unwrap()).collect();
    for ticket in tickets {
        assert_eq!(ticket.wait().unwrap().queue.broker_name, "c");
    }
}

#[test]
fn a_send_to_a_host_that_answers_nothing_holds_up_no_send_to_another() {
    let (nobody, _hole) = served::hole();
    let good = serve(|request, _| if request.code == 310 { stored(7) } else { ok() });
    let mut options = ProducerOptions::new("PG");
    options.send_timeout = SECOND * 5;
    options.connection.connect_timeout = SECOND * 60;
    let producer = Producer::new(options, names(&[("a", &nobody), ("b", &good)])).unwrap();
    let (sender, told) = mpsc::channel();
    for _ in 0..4 {
        let sender = sender.clone();
        producer.send_then(&Message::new("T", "x"), move |result| sender.send(result).unwrap()).unwrap();
    }
    let outcomes: Vec<_> = (0..4).map(|_| told.recv_timeout(SECOND * 60).unwrap()).collect();
    // Two went to either.
    assert!(outcomes[..2].iter().all(Result::is_ok), "{outcomes:?}");
    assert!(outcomes[2..].iter().all(|sent| matches!(sent, Err(Error::Timeout { .. }))), "{outcomes:?}");
}

#[test]
fn a_function_that_takes_results_does_not_wait_for_ever_for_another_one() {
    let good = serve(|request, _| if request.code == 310 { stored(7) } else { ok() });
    let producer = Arc::new(Producer::new(ProducerOptions::new("PG"), names(&[("a", &good)])).unwrap());
    let (sender, told) = mpsc::channel();
    let (inner, outer) = (Arc::clone(&producer), sender.clone());
    producer
        .send_then(&Message::new("T", "x"), move |_| {
            let ticket = inner.send_async(&Message::new("T", "y")).unwrap();
            outer.send(ticket.wait().map(|_| ())).unwrap();
            // Whoever drops the producer waits for this function.
            drop(inner);
        })
        .unwrap();
    let error = told.recv_timeout(SECOND * 60).unwrap().unwrap_err();
    assert!(matches!(error, Error::NoResult { .. }), "{error}");
    // The thread that tells results goes on.
    producer.send_then(&Message::new("T", "z"), move |result| sender.send(result.map(|_| ())).unwrap()).unwrap();
    told.recv_timeout(SECOND * 60).unwrap().unwrap();
}

#[test]
fn sends_that_nobody_waits_for_are_bounded_and_end_in_time() {
    let silent = serve(|request, _| if request.code == 310 { Play::Ignore } else { ok() });
    let mut options = ProducerOptions::new("PG");
    (options.async_max, options.send_timeout) = (2, Duration::from_millis(300));
    let producer = Producer::new(options, names(&[("a", &silent)])).unwrap();
    let tickets = [(); 2].map(|()| producer.send_async(&Message::new("T", "x")).unwrap());
    let third = producer.send_async(&Message::new("T", "x"));
    let outcomes = tickets.map(|ticket| ticket.wait().unwrap_err());
    assert!(outcomes.iter().all(|error| matches!(error, Error::Timeout { .. })), "{outcomes:?}");
    // It has waited for a place, and either had none or the time that was left.
    match third {
        Err(error) => assert!(matches!(error, Error::Full { places: 2 }), "{error}"),
        Ok(ticket) => assert!(matches!(ticket.wait(), Err(Error::Timeout { .. } | Error::NoBroker { .. }))),
    }
}

/// A broker whose only group member is whoever sent the last heartbeat, with one message in its queue of topic T.
fn broker_of_one_member(mut other: impl FnMut(&Command, &[u8]) -> Play + Send + 'static) -> String {
    let mut client_id = String::new();
    serve(move |request, body| match request.code {
        34 => {
            let text = String::from_utf8_lossy(body).into_owned();
            client_id =
                text.split("\"clientID\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
            ok()
        }
        38 => Play::Answer(0, vec![], format!(r#"{{"consumerIdList":["{client_id}"]}}"#).into_bytes()),
        14 => Play::Answer(0, vec![("offset", "0".into())], vec![]),
        11 if request.ext("topic") == Some("T") && request.ext("queueOffset") == Some("0") => {
            pulled(0, 1, record(0, "A", b"zero"))
        }
        11 => Play::Ignore,
        _ => other(request, body),
    })
}

#[test]
fn a_message_that_is_not_taken_back_goes_to_the_retry_topic() {
    let (sender, seen) = mpsc::channel();
    let broker = broker_of_one_member(move |request, body| match request.code {
        36 => Play::Answer(1, vec![], vec![]),
        310 => {
            sender.send((request.clone(), body.to_vec())).unwrap();
            stored(0)
        }
        _ => ok(),
    });
    let options = PushOptions { threads: 1, ..PushOptions::new("CG") }.subscribe("T", "A");
    let consumer = PushConsumer::start(options, names(&[("a", &broker)]), |_| Consumed::Later).unwrap();
    let (request, body) = seen.recv_timeout(SECOND * 20).unwrap();
    assert_eq!((request.ext("b"), request.ext("j"), body), (Some("%RETRY%CG"), Some("1"), b"zero".to_vec()));
    let text = request.ext("i").unwrap();
    assert_eq!(properties::get(text, properties::RETRY_TOPIC), Some("T"));
    assert_eq!(properties::get(text, properties::DELAY), Some("3"));
    assert_eq!(properties::get(text, properties::TAGS), Some("A"));
    consumer.shutdown().unwrap();
}

#[test]
fn a_consumer_commits_and_leaves_at_its_end_and_not_what_it_has_not_done() {
    for (consumed, committed) in [(Consumed::Done, "1"), (Consumed::Later, "0")] {
        let (sender, seen) = mpsc::channel();
        let broker = broker_of_one_member(move |request, _| {
            sender.send(request.clone()).unwrap();
            // A message that is handed back is not taken, nor is it in the retry topic.
            if matches!(request.code, 36 | 310) { Play::Answer(16, vec![], vec![]) } else { ok() }
        });
        let (called, calls) = mpsc::channel();
        let listener = move |_: &ringmq_client::ReceivedMessage| {
            called.send(()).unwrap();
            consumed
        };
        let options = PushOptions { threads: 1, ..PushOptions::new("CG") }.subscribe("T", "*");
        let consumer = PushConsumer::start(options, names(&[("a", &broker)]), listener).unwrap();
        calls.recv_timeout(SECOND * 20).unwrap();
        consumer.shutdown().unwrap();
        let told: Vec<Command> = seen.try_iter().collect();
        let offset = |c: &&Command| c.code == 15 && c.ext("topic") == Some("T");
        let last = told.iter().rfind(offset).map(|command| command.ext("commitOffset").unwrap());
        assert_eq!(last, Some(committed), "{consumed:?}");
        assert_eq!(told.last().map(|command| command.code), Some(35));
    }
}

#[test]
fn options_that_make_no_sense_do_not_start_a_consumer() {
    let start =
        |options| PushConsumer::start(options, NameServers::none(), |_| Consumed::Done).unwrap_err().to_string();
    let good = PushOptions::new("CG").subscribe("T", "*");
    assert!(start(PushOptions::new("CG")).contains("subscribes to no topic"));
    assert!(start(PushOptions { threads: 0, ..good.clone() }).contains("at least one thread"));
    assert!(start(PushOptions { queue_bytes_max: 0, ..good }).contains("no room"));
    assert!(start(PushOptions::new("CG").subscribe("T", " || ")).contains("tag expression"));
}
