//! What becomes of clients when their name servers hang, go away or know nothing yet, while the brokers are healthy. The
//! servers are played by the test.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "served/record.rs"]
mod record;
#[expect(dead_code, reason = "other tests use all of it")]
mod served;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringmq_client::{ConsumerOptions, Message, NameServers, Producer, ProducerOptions, PullConsumer, TailStart, tail};
use ringmq_protocol::command::Command;
use served::{Served, reply_to};

const SEND: i32 = 310;
const PULL: i32 = 11;
const SYSTEM_BUSY: i32 = 2;
const TOPIC_NOT_EXIST: i32 = 17;

fn answer(request: &Command, code: i32, ext: &[(&str, &str)]) -> Served {
    let mut reply = reply_to(request, code);
    reply.ext = ext.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Served::Answer(reply, Vec::new())
}

/// The route of a topic with one queue on each of these brokers.
fn route(request: &Command, brokers: &[&str]) -> Served {
    let name = |at: usize| format!("broker-{at}");
    let datas: Vec<String> = brokers
        .iter()
        .enumerate()
        .map(|(at, addr)| format!(r#"{{"brokerAddrs":{{"0":"{addr}"}},"brokerName":"{}","cluster":"c"}}"#, name(at)))
        .collect();
    let queues: Vec<String> = (0..brokers.len())
        .map(|at| {
            let name = name(at);
            format!(r#"{{"brokerName":"{name}","perm":6,"readQueueNums":1,"topicSysFlag":0,"writeQueueNums":1}}"#)
        })
        .collect();
    let body = format!(r#"{{"brokerDatas":[{}],"queueDatas":[{}]}}"#, datas.join(","), queues.join(","));
    Served::Answer(reply_to(request, 0), body.into_bytes())
}

/// A broker that stores what is sent, except that it is busy once.
fn busy_once() -> String {
    let mut was_busy = false;
    let (addr, _) = served::serve(move |request, _| match request.code {
        SEND if !was_busy => {
            was_busy = true;
            answer(request, SYSTEM_BUSY, &[])
        }
        SEND => answer(request, 0, &[("msgId", "ID"), ("queueId", "0"), ("queueOffset", "1")]),
        _ => answer(request, 0, &[]),
    });
    addr
}

#[test]
fn sends_go_on_whatever_becomes_of_the_name_server() {
    let fates: [fn(&Command) -> Served; 3] = [
        |_| Served::Silence,
        |_| Served::HangUp,
        // It was started again, and no broker has registered yet.
        |request| answer(request, TOPIC_NOT_EXIST, &[]),
    ];
    for fate in fates {
        let brokers = [busy_once(), busy_once()];
        let mut was_asked = false;
        let (names, _) = served::serve(move |request, _| {
            if std::mem::replace(&mut was_asked, true) {
                return fate(request);
            }
            route(request, &[&brokers[0], &brokers[1]])
        });
        let options = ProducerOptions { send_timeout: Duration::from_secs(5), ..ProducerOptions::new("PG") };
        let producer = Producer::new(options, NameServers::new(&names).unwrap()).unwrap();
        for _ in 0..4 {
            producer.send(&Message::new("T", "x")).unwrap();
        }
    }
}

#[test]
fn a_name_server_that_knows_the_topic_is_found_behind_one_that_does_not() {
    let (new, _) = served::serve(|request, _| answer(request, TOPIC_NOT_EXIST, &[]));
    let (old, _) = served::serve(|request, _| route(request, &["127.0.0.1:1"]));
    let names = NameServers::new(&format!("{new};{old}")).unwrap();
    let producer = Producer::new(ProducerOptions::new("PG"), names).unwrap();
    assert_eq!(producer.queues("T").unwrap().len(), 1);
}

/// A broker with one message, that loses the connection on which it is asked for it first, and then calls `lost`.
fn broker_that_hangs_up_once(lost: impl Fn() + Send + 'static) -> String {
    let mut has_hung_up = false;
    let (addr, _) = served::serve(move |request, _| match (request.code, request.ext("queueOffset")) {
        (PULL, _) if !has_hung_up => {
            has_hung_up = true;
            lost();
            Served::HangUp
        }
        (PULL, Some("0")) => {
            let ends = [("nextBeginOffset", "1"), ("minOffset", "0"), ("maxOffset", "1")];
            let ext = [&ends[..], &[("suggestWhichBrokerId", "0")]].concat();
            let Served::Answer(reply, _) = answer(request, 0, &ext) else { unreachable!() };
            Served::Answer(reply, record::record(0, 0, &[], b"tea"))
        }
        (PULL, _) => Served::Silence,
        _ => answer(request, 0, &[("offset", "0")]),
    });
    addr
}

/// What a tail hands over first; the test fails when it ends or nothing comes.
fn first_of_tail(names: &str) -> Vec<u8> {
    // A question to a name server that hangs would take all of this.
    let options = ConsumerOptions { timeout: Duration::from_secs(600), ..ConsumerOptions::new("CG") };
    let consumer = PullConsumer::new(options, NameServers::new(names).unwrap()).unwrap();
    let (sender, seen) = mpsc::channel();
    thread::spawn(move || {
        let ended = tail(&consumer, "T", TailStart::Earliest, |message| {
            let _ = sender.send(message.body.clone());
            ControlFlow::Break(())
        });
        ended.unwrap();
    });
    seen.recv_timeout(Duration::from_secs(60)).unwrap()
}

#[test]
fn pulls_go_on_while_the_name_server_hangs() {
    let hangs = Arc::new(AtomicBool::new(false));
    let from_now_on = Arc::clone(&hangs);
    let broker = broker_that_hangs_up_once(move || from_now_on.store(true, Ordering::SeqCst));
    let (names, _) =
        served::serve(
            move |request, _| {
                if hangs.load(Ordering::SeqCst) { Served::Silence } else { route(request, &[&broker]) }
            },
        );
    assert_eq!(first_of_tail(&names), b"tea");
}

#[test]
fn a_tail_waits_for_a_broker_that_has_left_the_route() {
    let broker = broker_that_hangs_up_once(|| {});
    let mut asked = 0;
    let (names, _) = served::serve(move |request, _| {
        asked += 1;
        if asked == 2 { route(request, &[]) } else { route(request, &[&broker]) }
    });
    assert_eq!(first_of_tail(&names), b"tea");
}
