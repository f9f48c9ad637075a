//! The name server over real sockets, asked by a client that knows nothing but frames.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ringmq_namesrv::handler;
use ringmq_namesrv::serve::{Options, ServeError, serve};
use ringmq_net::Limits;
use ringmq_protocol::body::{
    DataVersion, RegisterBrokerBody, TopicConfig, TopicConfigSerializeWrapper, TopicRouteData,
};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{Command, FLAG_ONEWAY};
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};
use ringmq_rt::host::{Shard, Stop, start};

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    shard: Shard<Result<(), ServeError>>,
    stop: Stop,
    address: SocketAddr,
}

fn options(kv_path: PathBuf) -> Options {
    Options {
        server: handler::Options::default(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        kv_path,
        scan_interval: Duration::from_millis(20),
        limits: Limits::default(),
        first_registered: None,
        heartbeat: None,
    }
}

fn run(options: Options) -> Running {
    let stop = Stop::new();
    let (tell, ready) = mpsc::channel();
    let stopping = stop.clone();
    let shard = start(None, move || serve(options, stopping, move |bound| tell.send(bound[0]).unwrap())).unwrap();
    Running { shard, stop, address: ready.recv_timeout(PATIENCE).unwrap() }
}

impl Running {
    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, opaque: 100 }
    }

    fn end(self) -> Result<(), ServeError> {
        self.stop.request();
        self.shard.join().unwrap()
    }
}

struct Client {
    stream: TcpStream,
    opaque: i32,
}

impl Client {
    fn tell(&mut self, code: RequestCode, ext: &[(&str, &str)], body: &[u8], flag: i32) {
        self.opaque += 1;
        let mut command = Command::request(code.0, self.opaque);
        command.flag = flag;
        command.ext = ext.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut frame = Vec::new();
        command.encode_frame(Serialize::Json, body, &mut frame).unwrap();
        self.stream.write_all(&frame).unwrap();
    }

    fn answer(&mut self) -> (Command, Vec<u8>) {
        let mut prefix = [0; PREFIX_LEN];
        self.stream.read_exact(&mut prefix).unwrap();
        let head = FrameHead::parse(&prefix).unwrap();
        let mut rest = vec![0; head.frame_len() - PREFIX_LEN];
        self.stream.read_exact(&mut rest).unwrap();
        let body = rest.split_off(head.header_len as usize);
        (Command::decode(head.serialize, &rest).unwrap(), body)
    }

    fn ask(&mut self, code: RequestCode, ext: &[(&str, &str)], body: &[u8]) -> (Command, Vec<u8>) {
        self.tell(code, ext, body, 0);
        let (command, body) = self.answer();
        assert!(command.is_response() && command.opaque == self.opaque, "{command:?}");
        (command, body)
    }

    fn register(&mut self, topic: &str) {
        // A first registration with a single topic would be refused, as it would be no whole table.
        let configs = [topic, "TBW102"].map(|topic| (topic.to_owned(), TopicConfig::new(topic, 4, 8, 6)));
        let tables = TopicConfigSerializeWrapper {
            data_version: DataVersion { counter: 1, ..DataVersion::default() },
            topic_config_table: configs.into(),
        };
        let body = RegisterBrokerBody { topic_config_serialize_wrapper: tables, ..RegisterBrokerBody::default() };
        let ext = [
            ("brokerName", "broker-a"),
            ("brokerAddr", "10.0.0.1:10911"),
            ("clusterName", "c"),
            ("brokerId", "0"),
            ("haServerAddr", "10.0.0.1:10912"),
        ];
        let (command, _) = self.ask(RequestCode::REGISTER_BROKER, &ext, &body.to_vec());
        assert_eq!(command.code, ResponseCode::SUCCESS.0, "{command:?}");
    }

    fn route(&mut self, topic: &str) -> Option<TopicRouteData> {
        let (command, body) = self.ask(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", topic)], b"");
        match ResponseCode(command.code) {
            ResponseCode::SUCCESS => Some(TopicRouteData::parse(&body).unwrap()),
            ResponseCode::TOPIC_NOT_EXIST => None,
            other => panic!("{other}: {command:?}"),
        }
    }

    fn put(&mut self, key: &str, value: &str) -> Command {
        self.ask(RequestCode::PUT_KV_CONFIG, &[("namespace", "ns"), ("key", key), ("value", value)], b"").0
    }

    fn get(&mut self, key: &str) -> Option<String> {
        let (command, _) = self.ask(RequestCode::GET_KV_CONFIG, &[("namespace", "ns"), ("key", key)], b"");
        command.ext("value").map(str::to_owned)
    }

    /// Whether the server ends the connection without another byte.
    fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Asks again until the answer is the one waited for.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::yield_now();
    }
}

fn kv_path(folder: &Path) -> PathBuf {
    folder.join("namesrv").join("kvConfig.json")
}

#[test]
fn a_broker_is_in_the_routes_until_its_connection_closes() {
    let folder = tempfile::tempdir().unwrap();
    let (tell, registered) = mpsc::channel();
    let running = run(Options { first_registered: Some(tell), ..options(kv_path(folder.path())) });
    let (mut broker, mut client) = (running.client(), running.client());
    assert!(client.route("orders").is_none());
    assert_eq!(registered.try_recv(), Err(mpsc::TryRecvError::Empty));
    broker.register("orders");
    assert_eq!(registered.recv_timeout(PATIENCE), Ok(()));
    let route = client.route("orders").unwrap();
    assert_eq!((route.queue_datas[0].read_queue_nums, route.queue_datas[0].write_queue_nums), (4, 8));
    assert_eq!(route.broker_datas[0].broker_addrs[&0], "10.0.0.1:10911");
    drop(broker);
    eventually("the broker is gone", || client.route("orders").is_none());
    running.end().unwrap();
    assert!(client.is_closed());
}

#[test]
fn a_silent_broker_is_taken_out_although_its_connection_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let running = run(options(kv_path(folder.path())));
    let (mut broker, mut client) = (running.client(), running.client());
    let ext = [
        ("brokerName", "broker-a"),
        ("brokerAddr", "10.0.0.1:10911"),
        ("clusterName", "c"),
        ("brokerId", "0"),
        ("haServerAddr", ""),
        ("heartbeatTimeoutMillis", "50"),
    ];
    let (command, _) = broker.ask(RequestCode::REGISTER_BROKER, &ext, &RegisterBrokerBody::default().to_vec());
    assert_eq!(command.code, ResponseCode::SUCCESS.0);
    eventually("the broker is taken out", || {
        let (_, body) = client.ask(RequestCode::GET_BROKER_CLUSTER_INFO, &[], b"");
        !String::from_utf8_lossy(&body).contains("broker-a")
    });
    running.end().unwrap();
}

#[test]
fn the_kv_configuration_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = kv_path(folder.path());
    let running = run(options(path.clone()));
    let mut client = running.client();
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        assert_eq!(client.put(key, value).code, ResponseCode::SUCCESS.0);
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.contains(&format!("\"{value}\"")), "answered before it was written: {written}");
    }
    let bak = std::fs::read_to_string(path.with_extension("json.bak")).unwrap();
    assert!(bak.contains("\"1\"") && bak.contains("\"2\""), "{bak}");
    // A change that nobody waits for is written before the end; the question behind it says that it arrived.
    let one_way = [("namespace", "ns"), ("key", "c"), ("value", "4")];
    client.tell(RequestCode::PUT_KV_CONFIG, &one_way, b"", FLAG_ONEWAY);
    assert_eq!(client.get("c").as_deref(), Some("4"));
    running.end().unwrap();

    let running = run(options(path.clone()));
    let mut client = running.client();
    assert_eq!([client.get("a"), client.get("b"), client.get("c")].map(Option::unwrap), ["3", "2", "4"]);
    running.end().unwrap();

    std::fs::remove_file(&path).unwrap();
    let running = run(options(path.clone()));
    assert_eq!(running.client().get("b").as_deref(), Some("2"), "the .bak stands in");
    running.end().unwrap();

    std::fs::write(&path, b"{\"configTable\":").unwrap();
    let shard = start(None, move || serve(options(path), Stop::new(), |_| panic!("it serves"))).unwrap();
    let refused = shard.join().unwrap().unwrap_err();
    assert!(matches!(refused, ServeError::KvDamaged { .. }), "{refused}");
}

#[test]
fn a_change_that_cannot_be_written_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = kv_path(folder.path());
    let running = run(options(path.clone()));
    let mut client = running.client();
    // No file can be renamed onto a folder that holds something.
    std::fs::create_dir_all(path.join("in the way")).unwrap();
    let refused = client.put("a", "1");
    assert_eq!(refused.code, ResponseCode::SYSTEM_ERROR.0);
    assert!(refused.remark.as_deref().unwrap().contains("could not be written"), "{refused:?}");
    assert_eq!(client.get("a").as_deref(), Some("1"));
    assert!(matches!(running.end(), Err(ServeError::KvLost(_))));
}

#[test]
fn a_one_way_request_gets_no_answer_and_garbage_ends_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let running = run(options(kv_path(folder.path())));
    let mut client = running.client();
    client.tell(RequestCode::GET_NAMESRV_CONFIG, &[], b"", FLAG_ONEWAY);
    // `ask` checks that the first answer is its own.
    let (command, _) = client.ask(RequestCode(9999), &[], b"");
    assert_eq!(command.code, ResponseCode::REQUEST_CODE_NOT_SUPPORTED.0);

    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], b"\0\0\0\x08\0\0\0\x04oops"] {
        let mut bad = running.client();
        bad.stream.write_all(garbage).unwrap();
        assert!(bad.is_closed(), "{garbage:?}");
    }
    assert!(client.route("t").is_none(), "the others are not disturbed");
    running.end().unwrap();
}

#[test]
fn a_port_that_is_taken_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let running = run(options(kv_path(folder.path())));
    let mut taken = options(folder.path().join("other.json"));
    taken.listen = vec![running.address];
    let shard = start(None, move || serve(taken, Stop::new(), |_| panic!("it serves"))).unwrap();
    let refused = shard.join().unwrap().unwrap_err().to_string();
    assert!(refused.contains(&running.address.to_string()), "{refused}");
    running.end().unwrap();
}
