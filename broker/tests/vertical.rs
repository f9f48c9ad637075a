//! A message's whole way through a running broker: socket, shard, log, acknowledgement, consumer, restart.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use ringmq_broker::group_config::GroupSettings;
use ringmq_broker::register::Identity;
use ringmq_broker::settings::Settings;
use ringmq_broker::start::{Broker, Ready, start};
use ringmq_broker::topic::TopicSettings;
use ringmq_engine::{FlushPolicy, ShardOptions};
use ringmq_net::Limits;
use ringmq_protocol::command::Command;
use ringmq_protocol::frame::{FrameHead, Serialize};
use ringmq_protocol::host::Host;
use ringmq_protocol::message::Record;
use ringmq_rt::host::Stop;

fn settings(store: &Path, executors: usize, flush: FlushPolicy) -> Settings {
    Settings {
        identity: Identity {
            cluster_name: "DefaultCluster".into(),
            broker_name: "broker-a".into(),
            broker_id: 0,
            broker_addr: "127.0.0.1:10911".into(),
            ha_server_addr: "127.0.0.1:10912".into(),
            heartbeat_timeout_ms: None,
            compressed: false,
        },
        store_host: Host::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10911),
        listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        vip: false,
        name_servers: vec![],
        register_period: Duration::from_secs(30),
        register_timeout: Duration::from_secs(6),
        store: store.to_path_buf(),
        log_shards: Some(3),
        default_log_shards: 3,
        cores: vec![None; executors],
        shard: ShardOptions { flush, segment_size: 64 << 20, zero_lead: 4 << 20, ..ShardOptions::default() },
        topics: TopicSettings::new("DefaultCluster", "broker-a", 3),
        groups: GroupSettings { auto_create: true, create_system: true },
        limits: Limits::default(),
        message_max: 4 << 20,
        notify_consumers: true,
        long_polling: true,
        short_polling: Duration::from_secs(1),
        lite_pull: true,
        pull_messages_max: 32,
        pull_bytes_max: 256 * 1024,
        flush_timeout: Duration::from_secs(5),
        offsets_interval: Duration::from_secs(5),
        accept_sends_from_ms: 0,
        trace_on: true,
        region: "DefaultRegion".into(),
        properties: String::new(),
    }
}

struct Running {
    stop: Stop,
    broker: Option<Broker>,
    addr: SocketAddr,
}

fn run(settings: Settings) -> Running {
    let stop = Stop::new();
    let (ready, is_ready) = mpsc::channel::<Ready>();
    let broker = start(settings, &stop, move |up| ready.send(up).unwrap()).unwrap();
    let up = is_ready.recv_timeout(Duration::from_secs(20)).expect("the broker did not come up");
    Running { stop, broker: Some(broker), addr: up.broker }
}

impl Running {
    fn stop(mut self) {
        self.stop.request();
        self.broker.take().unwrap().join().unwrap();
    }
}

struct Client(TcpStream);

impl Client {
    fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    fn call(&mut self, code: i32, ext: &[(&str, &str)], body: &[u8]) -> (Command, Vec<u8>) {
        self.send(code, ext, body);
        self.answer()
    }

    fn send(&mut self, code: i32, ext: &[(&str, &str)], body: &[u8]) {
        let mut command = Command::request(code, 7);
        command.ext = ext.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut out = Vec::new();
        command.encode_frame(Serialize::Json, body, &mut out).unwrap();
        self.0.write_all(&out).unwrap();
    }

    fn answer(&mut self) -> (Command, Vec<u8>) {
        let mut prefix = [0; 8];
        self.0.read_exact(&mut prefix).unwrap();
        let head = FrameHead::parse(&prefix).unwrap();
        let mut rest = vec![0; head.frame_len() - 8];
        self.0.read_exact(&mut rest).unwrap();
        let body = rest.split_off(head.header_len as usize);
        (Command::decode(head.serialize, &rest).unwrap(), body)
    }

    fn publish(&mut self, topic: &str, queue: i32, tag: &str, body: &[u8]) -> Command {
        let properties = format!("UNIQ_KEY\u{1}{:032X}\u{2}WAIT\u{1}true\u{2}TAGS\u{1}{tag}\u{2}", queue + 1);
        let queue = queue.to_string();
        let ext = [
            ("a", "producers"),
            ("b", topic),
            ("c", "TBW102"),
            ("d", "4"),
            ("e", queue.as_str()),
            ("f", "0"),
            ("g", "1700000000000"),
            ("h", "0"),
            ("i", properties.as_str()),
        ];
        self.call(310, &ext, body).0
    }

    fn pull_ext(topic: &str, queue: i32, offset: i64, hold_ms: u64, tags: &str) -> BTreeMap<&'static str, String> {
        let flag = if hold_ms > 0 { 4 | 2 } else { 4 };
        BTreeMap::from([
            ("consumerGroup", "consumers".to_owned()),
            ("topic", topic.to_owned()),
            ("queueId", queue.to_string()),
            ("queueOffset", offset.to_string()),
            ("maxMsgNums", "32".to_owned()),
            ("sysFlag", flag.to_string()),
            ("commitOffset", "0".to_owned()),
            ("suspendTimeoutMillis", hold_ms.to_string()),
            ("subscription", tags.to_owned()),
            ("subVersion", "0".to_owned()),
        ])
    }

    fn pull(&mut self, topic: &str, queue: i32, offset: i64, hold_ms: u64, tags: &str) -> (Command, Vec<Vec<u8>>) {
        let ext = Self::pull_ext(topic, queue, offset, hold_ms, tags);
        let ext: Vec<(&str, &str)> = ext.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let (command, body) = self.call(11, &ext, &[]);
        (command, bodies(&body))
    }
}

fn bodies(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while !bytes.is_empty() {
        let (record, len) = Record::parse(bytes).unwrap();
        assert!(record.body_crc_matches());
        bodies.push(record.body().to_vec());
        bytes = &bytes[len..];
    }
    bodies
}

fn number(command: &Command, key: &str) -> i64 {
    command.ext(key).unwrap_or_else(|| panic!("no {key} in {command:?}")).parse().unwrap()
}

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
    let (answer, _) = client.call(36, &[], &[]);
    assert_eq!(answer.code, 3);
    assert!(answer.remark.unwrap().contains("CONSUMER_SEND_MSG_BACK"));
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
