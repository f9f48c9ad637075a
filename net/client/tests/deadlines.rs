//! Every call ends when its time is over, whatever becomes of the server: it takes no connection, or takes one and says
//! nothing, or says half of something. The servers are played by the test.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[expect(dead_code, reason = "each test program uses its own part of the played server")]
mod served;

use std::any::Any;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringmq_client::conn::Request;
use ringmq_client::{
    Admin, ConsumerOptions, Error, Message, MessageQueue, NameServers, Producer, ProducerOptions, Pull, PullConsumer,
    Remoting, Result,
};
use ringmq_protocol::code::RequestCode;
use served::{Served, reply_to};

/// What a call has.
const TIME: Duration = Duration::from_millis(200);

/// How long one may be under way before the test takes it for endless: heartbeats and farewells have 3 s of their own.
const ENDLESS: Duration = Duration::from_secs(60);

/// The first bytes of a frame of 64.
const HALF: &[u8] = &[0, 0, 0, 64, 0, 0, 0, 50, b'{'];

/// The address of a broker, and what keeps it as it is.
type Fate = fn() -> (String, Box<dyn Any>);

const FATES: [(&str, Fate); 3] = [
    ("takes no connection", || {
        let (addr, hole) = served::hole();
        (addr, Box::new(hole))
    }),
    ("says nothing", || (served::serve(|_, _| Served::Silence).0, Box::new(()))),
    ("says half of something", || (served::serve(|_, _| Served::Raw(HALF)).0, Box::new(()))),
];

/// What is asked of the broker, or the name server, at an address.
type Call = fn(&str) -> Result<()>;

const CALLS: [(&str, Call); 10] = [
    ("send", |addr| producer(addr)?.send(&tea()).map(drop)),
    ("send to a queue", |addr| producer(addr)?.send_to(&tea(), &queue()).map(drop)),
    ("send and go on", |addr| producer(addr)?.send_async(&tea())?.wait().map(drop)),
    ("request", |addr| producer(addr)?.request(&tea(), TIME).map(drop)),
    ("pull", |addr| consumer(addr)?.pull(&Pull::new(queue(), 0)).map(drop)),
    ("poll", |addr| consumer(addr)?.poll(&queue(), TIME).map(drop)),
    ("commit", |addr| consumer(addr)?.update_offset(&queue(), 7)),
    ("subscribe", |addr| consumer(addr)?.subscribe("T", "*")),
    ("ask a name server", |addr| admin(addr)?.topics().map(drop)),
    ("ask a broker", |addr| admin(addr)?.broker_config(addr).map(drop)),
];

fn tea() -> Message {
    Message::new("T", "tea")
}

fn queue() -> MessageQueue {
    MessageQueue::new("T", "a", 0)
}

/// A name server for which that broker has every topic.
fn names(broker: &str) -> Result<NameServers> {
    let data = format!(r#"{{"brokerAddrs":{{"0":"{broker}"}},"brokerName":"a","cluster":"c"}}"#);
    let queue = r#"{"brokerName":"a","perm":6,"readQueueNums":1,"topicSysFlag":0,"writeQueueNums":1}"#;
    let body = format!(r#"{{"brokerDatas":[{data}],"queueDatas":[{queue}]}}"#);
    let (addr, _) = served::serve(move |request, _| Served::Answer(reply_to(request, 0), body.clone().into_bytes()));
    NameServers::new(&addr)
}

fn producer(broker: &str) -> Result<Producer> {
    Producer::new(ProducerOptions { send_timeout: TIME, ..ProducerOptions::new("PG") }, names(broker)?)
}

fn consumer(broker: &str) -> Result<PullConsumer> {
    PullConsumer::new(ConsumerOptions { timeout: TIME, ..ConsumerOptions::new("CG") }, names(broker)?)
}

fn admin(server: &str) -> Result<Admin> {
    Ok(Admin::new(Remoting::default(), NameServers::new(server)?).with_timeout(TIME))
}

#[test]
fn every_call_ends_in_time_whatever_becomes_of_the_server() {
    let (sender, ended) = mpsc::channel();
    let mut kept = Vec::new();
    for (fate, play) in FATES {
        let (addr, keeps) = play();
        kept.push(keeps);
        for (name, call) in CALLS {
            let (sender, addr) = (sender.clone(), addr.clone());
            thread::spawn(move || sender.send((fate, name, call(&addr))));
        }
    }
    let mut left: Vec<_> = FATES.iter().flat_map(|(fate, _)| CALLS.map(|(name, _)| (*fate, name))).collect();
    while !left.is_empty() {
        let Ok((fate, name, outcome)) = ended.recv_timeout(ENDLESS) else { panic!("no end of {left:?}") };
        let error = outcome.unwrap_err();
        assert!(error.is_unreachable(), "a server that {fate}, {name}: {error}");
        left.retain(|one| *one != (fate, name));
    }
}

#[test]
fn a_connection_that_ends_in_half_an_answer_is_replaced() {
    let mut asked = 0;
    let (addr, connections) = served::serve(move |_, _| {
        asked += 1;
        if asked == 1 { Served::Raw(HALF) } else { Served::Silence }
    });
    let remoting = Remoting::default();
    let request = Request::new(RequestCode::GET_BROKER_CONFIG);
    // One call hears the half, another one nothing for so long that the connection counts as dead.
    for _ in 0..3 {
        let error = remoting.call(&addr, &request, Duration::from_millis(1100)).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}
