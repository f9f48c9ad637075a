//! Who knows a client, and what it does when nobody does: heartbeats, the list of a group's members, locks and commits,
//! against brokers that are played by the test.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "served/record.rs"]
mod record;
#[expect(dead_code, reason = "each test program uses its own part of the played server")]
mod served;

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ringmq_client::{
    Admin, Consumed, ConsumerOptions, Error, Message, NameServers, Producer, ProducerOptions, PullConsumer,
    PushConsumer, PushOptions, ReceivedMessage, Remoting, TopicConfig, TransactionProducer, TransactionState,
};
use ringmq_protocol::command::Command;
use serde_json::{Value, json};
use served::{Served, reply_to};

/// How long something may take that has to wait for nothing; less than the 30 s after which a heartbeat comes anyway.
const SOON: Duration = Duration::from_secs(20);

const SYSTEM_BUSY: i32 = 2;
const TOPIC_NOT_EXIST: i32 = 17;
const PULL_NOT_FOUND: i32 = 19;

fn answer(request: &Command, code: i32, ext: &[(&str, i64)], body: impl Into<Vec<u8>>) -> Served {
    let mut reply = reply_to(request, code);
    reply.ext = ext.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    Served::Answer(reply, body.into())
}

fn serve(script: impl FnMut(&Command, &[u8]) -> Served + Send + 'static) -> String {
    served::serve(script).0
}

/// The route of a topic that has one queue on each of these brokers.
fn route(brokers: &[(&str, &str)]) -> String {
    let datas =
        brokers.iter().map(|(name, addr)| json!({"brokerAddrs": {"0": addr}, "brokerName": name, "cluster": "c"}));
    let queues = brokers.iter().map(
        |(name, _)| json!({"brokerName": name, "perm": 6, "readQueueNums": 1, "topicSysFlag": 0, "writeQueueNums": 1}),
    );
    json!({"brokerDatas": datas.collect::<Vec<_>>(), "queueDatas": queues.collect::<Vec<_>>()}).to_string()
}

/// A name server for which these topics, or all, have one queue on each of these brokers.
fn names_of(topics: &'static [&'static str], brokers: &[(&str, &str)]) -> NameServers {
    let body = route(brokers);
    let addr = serve(move |request, _| {
        let is_known = topics.is_empty() || request.ext("topic").is_some_and(|topic| topics.contains(&topic));
        if is_known { answer(request, 0, &[], body.clone()) } else { answer(request, TOPIC_NOT_EXIST, &[], "") }
    });
    NameServers::new(&addr).unwrap()
}

fn names(brokers: &[(&str, &str)]) -> NameServers {
    names_of(&[], brokers)
}

/// An address where nobody listens.
fn down() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A broker's part that is the same in all tests: it locks what it is asked to lock, and has no message.
#[derive(Default)]
struct Usual {
    client_id: String,
}

impl Usual {
    fn play(&mut self, request: &Command, body: &[u8]) -> Served {
        match request.code {
            34 => {
                let heartbeat: Value = serde_json::from_slice(body).unwrap();
                self.client_id = heartbeat["clientID"].as_str().unwrap().to_owned();
                answer(request, 0, &[], "")
            }
            38 => members(request, &[&self.client_id]),
            41 => {
                let asked: Value = serde_json::from_slice(body).unwrap();
                answer(request, 0, &[], json!({"lockOKMQSet": asked["mqSet"]}).to_string())
            }
            14 | 30 | 31 => answer(request, 0, &[("offset", 0)], ""),
            11 => Served::Silence,
            310 => {
                let mut reply = reply_to(request, 0);
                let ext = [("msgId", "ID"), ("queueId", "0"), ("queueOffset", "0")];
                reply.ext = ext.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                Served::Answer(reply, Vec::new())
            }
            _ => answer(request, 0, &[], ""),
        }
    }
}

fn members(request: &Command, ids: &[&str]) -> Served {
    answer(request, 0, &[], json!({ "consumerIdList": ids }).to_string())
}

/// A broker of which the test hears all requests.
fn heard(mut script: impl FnMut(&Command, &[u8]) -> Served + Send + 'static) -> (String, Receiver<(Command, Vec<u8>)>) {
    let (sender, requests) = mpsc::channel();
    let addr = serve(move |request, body| {
        // A test that has ended listens no more.
        let _ = sender.send((request.clone(), body.to_vec()));
        script(request, body)
    });
    (addr, requests)
}

/// The next request that is the one.
fn wait_for(requests: &Receiver<(Command, Vec<u8>)>, is_it: impl Fn(&Command) -> bool) -> (Command, Vec<u8>) {
    let deadline = Instant::now() + SOON;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (request, body) = requests.recv_timeout(left).unwrap();
        if is_it(&request) {
            return (request, body);
        }
    }
}

fn is_pull_of_topic(request: &Command) -> bool {
    request.code == 11 && request.ext("topic") == Some("T")
}

fn first_message(request: &Command) -> Served {
    let ext = [("nextBeginOffset", 1), ("minOffset", 0), ("maxOffset", 1), ("suggestWhichBrokerId", 0)];
    answer(request, 0, &ext, record::record(0, 0, &[], b"zero"))
}

fn options() -> PushOptions {
    PushOptions { threads: 1, ..PushOptions::new("CG") }.subscribe("T", "*")
}

#[test]
fn a_transaction_producer_is_known_before_it_sends() {
    let unknown = |_: &ReceivedMessage| TransactionState::Unknown;
    // Brokers that create topics by themselves have TBW102; of others it has to be told which topics they have.
    for (known, topics) in [("TBW102", vec![]), ("T", vec!["T".to_owned()])] {
        let mut usual = Usual::default();
        let (broker, requests) = heard(move |request, body| usual.play(request, body));
        let names = names_of(if known == "T" { &["T"] } else { &["TBW102"] }, &[("a", &broker)]);
        let options = ProducerOptions { topics, ..ProducerOptions::new("PG") };
        let _producer = TransactionProducer::new(options, names, unknown).unwrap();
        let (_, heartbeat) = wait_for(&requests, |request| request.code == 34);
        assert!(String::from_utf8(heartbeat).unwrap().contains("\"PG\""), "{known}");
    }
}

#[test]
fn a_broker_that_cannot_be_reached_keeps_a_consumer_from_no_other() {
    let mut usual = Usual::default();
    let up = serve(move |request, body| match request.ext("queueOffset") {
        Some("0") if is_pull_of_topic(request) => first_message(request),
        _ => usual.play(request, body),
    });
    let down = down();
    let (called, calls) = mpsc::channel();
    let listener = move |message: &ReceivedMessage| {
        called.send(message.body.clone()).unwrap();
        Consumed::Done
    };
    let consumer = PushConsumer::start(options(), names(&[("a", &down), ("b", &up)]), listener).unwrap();
    assert_eq!(calls.recv_timeout(SOON).unwrap(), b"zero");
    consumer.shutdown().unwrap();

    let consumer = PullConsumer::new(ConsumerOptions::new("CG"), names(&[("a", &down), ("b", &up)])).unwrap();
    consumer.subscribe("T", "*").unwrap();
    assert_eq!(consumer.members("T").unwrap(), [consumer.client_id()]);
    let nobody = PullConsumer::new(ConsumerOptions::new("CG"), names(&[("a", &down)])).unwrap();
    assert!(nobody.subscribe("T", "*").unwrap_err().is_unreachable());
}

#[test]
fn a_broker_that_is_slow_to_commit_holds_up_no_other() {
    let (committed, commits) = mpsc::channel();
    let mut usual = Usual::default();
    let (quick, quick_requests) = heard(move |request, body| {
        if request.code == 15 {
            committed.send(()).unwrap();
        }
        usual.play(request, body)
    });
    let mut usual = Usual::default();
    let (slow, slow_requests) = heard(move |request, body| {
        // Slower than the other one, however slow that is.
        if request.code == 15 && commits.recv_timeout(SOON).is_err() {
            return Served::HangUp;
        }
        usual.play(request, body)
    });
    let names = names(&[("a", &slow), ("b", &quick)]);
    let consumer = PushConsumer::start(options(), names, |_| Consumed::Done).unwrap();
    wait_for(&quick_requests, is_pull_of_topic);
    wait_for(&slow_requests, is_pull_of_topic);
    consumer.shutdown().unwrap();
}

#[test]
fn a_host_that_answers_nothing_holds_up_no_pull_of_another() {
    let (sender, pulls) = mpsc::channel();
    let mut usual = Usual::default();
    let up = serve(move |request, body| {
        if is_pull_of_topic(request) {
            // A broker's pace.
            thread::sleep(Duration::from_millis(20));
            let _ = sender.send(());
            let ext = [("nextBeginOffset", 0), ("minOffset", 0), ("maxOffset", 0), ("suggestWhichBrokerId", 0)];
            return answer(request, PULL_NOT_FOUND, &ext, "");
        }
        usual.play(request, body)
    });
    // The other broker goes away when it is asked for messages, and there is nobody at the address that it has then.
    let has_gone = Arc::new(AtomicBool::new(false));
    let goes = Arc::clone(&has_gone);
    let mut usual = Usual::default();
    let gone = serve(move |request, body| {
        if is_pull_of_topic(request) {
            goes.store(true, Ordering::SeqCst);
            return Served::HangUp;
        }
        usual.play(request, body)
    });
    let (nobody, _hole) = served::hole();
    let (sender, moved) = mpsc::channel();
    let names = serve(move |request, _| {
        let is_moved = has_gone.load(Ordering::SeqCst) && request.ext("topic") == Some("T");
        if is_moved {
            let _ = sender.send(());
        }
        let gone = if is_moved { &nobody } else { &gone };
        answer(request, 0, &[], route(&[("a", gone), ("b", &up)]))
    });
    let mut options = options();
    options.connection.connect_timeout = SOON * 2;
    let names = NameServers::new(&names).unwrap();
    let consumer = PushConsumer::start(options, names, |_| Consumed::Done).unwrap();
    moved.recv_timeout(SOON).unwrap();
    // A queue is asked for again sooner after its first failures.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        pulls.recv_timeout(SOON).unwrap();
    }
    drop(consumer);
}

#[test]
fn a_requester_is_known_before_each_try_of_its_request() {
    for is_refused_first in [false, true] {
        // This one keeps the heart's own thread waiting.
        let (hangs, hanging) = heard(|request, body| match request.code {
            34 => Served::Silence,
            _ => Usual::default().play(request, body),
        });
        // This one loses the connection, and with it knows nobody.
        let (sender, sends) = mpsc::channel();
        let (mut is_known, mut refuses, mut hangs_up) = (false, is_refused_first, true);
        let broker = serve(move |request, body| match request.code {
            34 if std::mem::take(&mut refuses) => answer(request, SYSTEM_BUSY, &[], ""),
            310 if std::mem::take(&mut hangs_up) => {
                sender.send(std::mem::take(&mut is_known)).unwrap();
                Served::HangUp
            }
            310 => {
                sender.send(is_known).unwrap();
                Usual::default().play(request, body)
            }
            _ => {
                is_known |= request.code == 34;
                Usual::default().play(request, body)
            }
        });
        let names = serve(move |request, _| {
            let addr = if request.ext("topic") == Some("T") { &broker } else { &hangs };
            answer(request, 0, &[], route(&[("a", addr)]))
        });
        let producer = Producer::new(ProducerOptions::new("PG"), NameServers::new(&names).unwrap()).unwrap();
        producer.send(&Message::new("U", "x")).unwrap();
        wait_for(&hanging, |request| request.code == 34);
        let error = producer.request(&Message::new("T", "x"), Duration::from_secs(2)).unwrap_err();
        assert!(matches!(error, Error::NoReply { .. }), "{error}");
        assert_eq!(sends.try_iter().collect::<Vec<_>>(), [!is_refused_first, true]);
    }
}

#[test]
fn a_heartbeat_follows_a_lost_connection() {
    let mut sends = 0;
    let mut usual = Usual::default();
    let (broker, requests) = heard(move |request, body| {
        if request.code == 310 {
            sends += 1;
            if sends == 2 {
                return Served::HangUp;
            }
        }
        usual.play(request, body)
    });
    let producer = Producer::new(ProducerOptions::new("PG"), names(&[("a", &broker)])).unwrap();
    producer.send(&Message::new("T", "x")).unwrap();
    wait_for(&requests, |request| request.code == 34);
    producer.send(&Message::new("T", "x")).unwrap();
    wait_for(&requests, |request| request.code == 34);
}

#[test]
fn a_broker_that_has_forgotten_a_member_is_told_again() {
    let mut is_forgotten = false;
    let mut lists = 0;
    let mut usual = Usual::default();
    let (broker, requests) = heard(move |request, body| {
        is_forgotten &= request.code != 34;
        if request.code == 38 {
            lists += 1;
            is_forgotten |= lists == 1;
        }
        if request.code == 38 && is_forgotten { members(request, &[]) } else { usual.play(request, body) }
    });
    let _consumer = PushConsumer::start(options(), names(&[("a", &broker)]), |_| Consumed::Done).unwrap();
    wait_for(&requests, is_pull_of_topic);
}

#[test]
fn a_member_that_the_broker_does_not_count_gives_its_queues_up() {
    let mut lists = 0;
    let mut usual = Usual::default();
    let (broker, requests) = heard(move |request, body| {
        // The group's retry topic comes first, and is asked about twice.
        lists += usize::from(request.code == 38);
        if request.code == 38 && lists != 3 { members(request, &["another"]) } else { usual.play(request, body) }
    });
    let consumer = PushConsumer::start(options(), names(&[("a", &broker)]), |_| Consumed::Done).unwrap();
    wait_for(&requests, is_pull_of_topic);
    let deadline = Instant::now() + SOON;
    while !consumer.queues().is_empty() {
        requests.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap();
    }
}

/// Takes as long as the lock of a queue is not looked after, 20 s.
#[test]
fn an_orderly_queue_that_was_another_members_is_read_on_from_where_that_one_got_to() {
    let mut locks = 0;
    let mut usual = Usual::default();
    let (broker, requests) = heard(move |request, body| {
        let is_of_topic = request.ext("topic") == Some("T");
        match request.code {
            41 if String::from_utf8_lossy(body).contains("\"T\"") => {
                locks += 1;
                if locks == 2 { answer(request, 0, &[], r#"{"lockOKMQSet":[]}"#) } else { usual.play(request, body) }
            }
            14 if is_of_topic && locks > 1 => answer(request, 0, &[("offset", 5)], ""),
            11 if is_of_topic && request.ext("queueOffset") == Some("0") => first_message(request),
            _ => usual.play(request, body),
        }
    });
    let options = PushOptions { suspend: Duration::from_millis(100), ..options() };
    let consumer = PushConsumer::start_orderly(options, names(&[("a", &broker)]), |_| Consumed::Later).unwrap();
    let deadline = Instant::now() + SOON * 3;
    loop {
        let (request, _) = requests.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap();
        if is_pull_of_topic(&request) && request.ext("queueOffset") == Some("5") {
            break;
        }
    }
    consumer.shutdown().unwrap();
}

/// As many as are told at a time.
const BROKERS: usize = 8;

#[test]
fn brokers_get_their_heartbeats_side_by_side() {
    let told = Arc::new((Mutex::new(0), Condvar::new()));
    let is_late = Arc::new(AtomicBool::new(false));
    let broker = || {
        let (told, is_late) = (Arc::clone(&told), Arc::clone(&is_late));
        serve(move |request, _| {
            if request.code == 34 {
                // Longer than one heartbeat may take, which is 3 s, and shorter than all of them would take two at a time.
                let (count, changed) = &*told;
                let mut count = count.lock().unwrap();
                *count += 1;
                changed.notify_all();
                let patience = Duration::from_secs(5);
                let waited = changed.wait_timeout_while(count, patience, |count| *count < BROKERS).unwrap();
                is_late.fetch_or(waited.1.timed_out(), Ordering::SeqCst);
            }
            answer(request, 0, &[], "")
        })
    };
    let brokers: Vec<(String, String)> = (0..BROKERS).map(|at| (format!("broker-{at}"), broker())).collect();
    let brokers: Vec<(&str, &str)> = brokers.iter().map(|(name, addr)| (name.as_str(), addr.as_str())).collect();
    let names = names(&brokers);
    let consumer = PullConsumer::new(ConsumerOptions::new("CG"), names).unwrap();
    consumer.subscribe("T", "*").unwrap();
    assert!(!is_late.load(Ordering::SeqCst));
}

#[test]
fn a_cluster_that_nobody_knows_is_an_error() {
    let body = json!({"brokerAddrTable": {}, "clusterAddrTable": {"c": ["a"]}}).to_string();
    let addr = serve(move |request, _| answer(request, 0, &[], body.clone()));
    let admin = Admin::new(Remoting::default(), NameServers::new(&addr).unwrap());
    let created = admin.create_topic_in_cluster(Some("typo"), &TopicConfig::new("T", 1, 1, 6));
    let deleted = admin.delete_topic_in_cluster(Some("typo"), "T");
    for error in [created.unwrap_err(), deleted.unwrap_err()] {
        assert!(matches!(error, Error::UnknownCluster { .. }), "{error}");
        assert_eq!(error.to_string(), "the name server knows no cluster typo, it knows: c");
    }
}
