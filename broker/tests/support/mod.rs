//! A broker run inside the test's own process, and a client that speaks to it over a socket. What is checked is the tests'.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use ringmq_broker::delay::Levels;
use ringmq_broker::group_config::GroupSettings;
use ringmq_broker::register::Identity;
use ringmq_broker::retention::Policy;
use ringmq_broker::settings::Settings;
use ringmq_broker::start::{Broker, Ready, start};
use ringmq_broker::timer::TimerSettings;
use ringmq_broker::topic::TopicSettings;
use ringmq_broker::transaction::TransactionSettings;
use ringmq_engine::{FlushPolicy, ShardOptions};
use ringmq_net::Limits;
use ringmq_protocol::body::KvTable;
use ringmq_protocol::command::Command;
use ringmq_protocol::frame::{FrameHead, Serialize};
use ringmq_protocol::host::Host;
use ringmq_protocol::message::Record;
use ringmq_rt::host::Stop;

pub(crate) fn settings(store: &Path, executors: usize, flush: FlushPolicy) -> Settings {
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
        retention: Policy::default(),
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
        property_filter: true,
        filter_retried: false,
        server_side_reset: true,
        store_replies: true,
        pull_messages_max: 32,
        query_messages_max: 64,
        unique_query_max: 32,
        pull_bytes_max: 256 * 1024,
        flush_timeout: Duration::from_secs(5),
        send_wait_max: Duration::from_secs(1),
        delay_levels: Levels::default(),
        transactions: TransactionSettings::default(),
        timers: TimerSettings::default(),
        recent_bytes: 1 << 30,
        offsets_interval: Duration::from_secs(5),
        accept_sends_from_ms: 0,
        trace_on: true,
        region: "DefaultRegion".into(),
        heartbeat: None,
        properties: String::new(),
        source: None,
    }
}

pub(crate) struct Running {
    stop: Stop,
    broker: Option<Broker>,
    pub(crate) addr: SocketAddr,
}

pub(crate) fn run(settings: Settings) -> Running {
    let stop = Stop::new();
    let (ready, is_ready) = mpsc::channel::<Ready>();
    let broker = start(settings, &stop, move |up| ready.send(up).unwrap()).unwrap();
    let up = is_ready.recv_timeout(Duration::from_secs(20)).expect("the broker did not come up");
    Running { stop, broker: Some(broker), addr: up.broker }
}

impl Running {
    pub(crate) fn stop(mut self) {
        self.stop.request();
        self.broker.take().unwrap().join().unwrap();
    }
}

pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    pub(crate) fn call(&mut self, code: i32, ext: &[(&str, &str)], body: &[u8]) -> (Command, Vec<u8>) {
        self.send(code, ext, body);
        self.answer()
    }

    pub(crate) fn send(&mut self, code: i32, ext: &[(&str, &str)], body: &[u8]) {
        let mut command = Command::request(code, 7);
        command.ext = ext.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut out = Vec::new();
        command.encode_frame(Serialize::Json, body, &mut out).unwrap();
        self.0.write_all(&out).unwrap();
    }

    pub(crate) fn answer(&mut self) -> (Command, Vec<u8>) {
        let mut prefix = [0; 8];
        self.0.read_exact(&mut prefix).unwrap();
        let head = FrameHead::parse(&prefix).unwrap();
        let mut rest = vec![0; head.frame_len() - 8];
        self.0.read_exact(&mut rest).unwrap();
        let body = rest.split_off(head.header_len as usize);
        (Command::decode(head.serialize, &rest).unwrap(), body)
    }

    pub(crate) fn publish(&mut self, topic: &str, queue: i32, tag: &str, body: &[u8]) -> Command {
        let properties = format!("UNIQ_KEY\u{1}{:032X}\u{2}WAIT\u{1}true\u{2}TAGS\u{1}{tag}\u{2}", queue + 1);
        self.publish_with(topic, queue, 0, &properties, body)
    }

    pub(crate) fn publish_with(
        &mut self,
        topic: &str,
        queue: i32,
        sys_flag: i32,
        properties: &str,
        body: &[u8],
    ) -> Command {
        let (queue, sys_flag) = (queue.to_string(), sys_flag.to_string());
        let ext = [
            ("a", "producers"),
            ("b", topic),
            ("c", "TBW102"),
            ("d", "4"),
            ("e", queue.as_str()),
            ("f", sys_flag.as_str()),
            ("g", "1700000000000"),
            ("h", "0"),
            ("i", properties),
        ];
        self.call(310, &ext, body).0
    }

    /// What the broker says of itself.
    pub(crate) fn runtime_info(&mut self) -> BTreeMap<String, String> {
        let (answer, body) = self.call(28, &[], &[]);
        assert_eq!(answer.code, 0, "{answer:?}");
        KvTable::parse(&body).unwrap().table
    }

    pub(crate) fn pull_ext(
        topic: &str,
        queue: i32,
        offset: i64,
        hold_ms: u64,
        tags: &str,
    ) -> BTreeMap<&'static str, String> {
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

    pub(crate) fn pull(
        &mut self,
        topic: &str,
        queue: i32,
        offset: i64,
        hold_ms: u64,
        tags: &str,
    ) -> (Command, Vec<Vec<u8>>) {
        let ext = Self::pull_ext(topic, queue, offset, hold_ms, tags);
        let ext: Vec<(&str, &str)> = ext.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let (command, body) = self.call(11, &ext, &[]);
        (command, bodies(&body))
    }
}

pub(crate) fn bodies(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while !bytes.is_empty() {
        let (record, len) = Record::parse(bytes).unwrap();
        assert!(record.body_crc_matches());
        bodies.push(record.body().to_vec());
        bytes = &bytes[len..];
    }
    bodies
}

pub(crate) fn number(command: &Command, key: &str) -> i64 {
    command.ext(key).unwrap_or_else(|| panic!("no {key} in {command:?}")).parse().unwrap()
}
