use ringmq_protocol::body::{
    BrokerMemberGroupResponse, ClusterInfo, KvTable, RegisterBrokerBody, TopicConfig, TopicConfigSerializeWrapper,
    TopicList, TopicRouteData, body_crc32,
};
use ringmq_protocol::code::version;
use ringmq_protocol::command::Command;
use ringmq_protocol::frame::Serialize;

use super::*;

const LOCAL: Peer =
    Peer { id: PeerId(1), address: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1) };

fn remote(id: u64) -> Peer {
    Peer { id: PeerId(id), address: "10.0.0.9:4000".parse().unwrap() }
}

/// One request, through the header as a client writes it.
fn ask_at(
    server: &mut NameServer,
    peer: Peer,
    code: RequestCode,
    ext: &[(&str, &str)],
    body: &[u8],
    now: u64,
) -> Reply {
    let mut command = Command::request(code.0, 7);
    command.ext = ext.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut header = Vec::new();
    command.encode(Serialize::Json, &mut header).unwrap();
    server.handle(peer, &HeaderView::parse(Serialize::Json, &header).unwrap(), body, now)
}

fn ask(server: &mut NameServer, peer: Peer, code: RequestCode, ext: &[(&str, &str)]) -> Reply {
    ask_at(server, peer, code, ext, b"", 0)
}

fn refused(reply: &Reply) -> (ResponseCode, &str) {
    (ResponseCode(reply.code), reply.remark.as_deref().unwrap())
}

fn table(topics: &[&str]) -> RegisterBrokerBody {
    let configs = topics.iter().map(|topic| ((*topic).to_owned(), TopicConfig::new(topic, 4, 8, 6))).collect();
    let wrapper = TopicConfigSerializeWrapper {
        data_version: DataVersion { counter: 1, ..DataVersion::default() },
        topic_config_table: configs,
    };
    RegisterBrokerBody { topic_config_serialize_wrapper: wrapper, ..RegisterBrokerBody::default() }
}

const IDENTITY: [(&str, &str); 4] =
    [("brokerName", "broker-a"), ("brokerAddr", "10.0.0.1:10911"), ("clusterName", "c"), ("brokerId", "0")];

fn register(server: &mut NameServer, peer: Peer, more: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut ext = vec![("haServerAddr", "10.0.0.1:10912")];
    ext.extend(IDENTITY);
    ext.extend(more);
    ask_at(server, peer, RequestCode::REGISTER_BROKER, &ext, body, 0)
}

fn with_broker() -> NameServer {
    let mut server = NameServer::default();
    let reply = register(&mut server, remote(5), &[], &table(&["t", "TBW102"]).to_vec());
    assert_eq!(reply, Reply::default());
    server
}

#[test]
fn a_route_is_what_clients_of_all_languages_read() {
    let mut server = with_broker();
    let reply = ask(&mut server, remote(6), RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "t")]);
    assert_eq!(
        String::from_utf8(reply.body).unwrap(),
        r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911"},"brokerName":"broker-a","cluster":"c","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":8}]}"#
    );
    let reply = ask(&mut server, remote(6), RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "x")]);
    assert_eq!(refused(&reply), (ResponseCode::TOPIC_NOT_EXIST, "No topic route info in name server for the topic: x"));
    let reply = ask(&mut server, remote(6), RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("tpoic", "x")]);
    assert_eq!(refused(&reply), (ResponseCode::SYSTEM_ERROR, "the custom field <topic> is null"));
}

#[test]
fn registrations_of_all_forms() {
    let whole = table(&["t", "TBW102"]);
    let plain = whole.to_vec();
    let crc = body_crc32(&plain).to_string();
    let packed = whole.pack(true).unwrap();
    let accepted = |more: &[(&str, &str)], body: &[u8]| {
        let mut server = NameServer::default();
        let reply = register(&mut server, remote(5), more, body);
        (reply.code, server.routes().topics().count())
    };
    assert_eq!(accepted(&[], &plain), (0, 2));
    assert_eq!(accepted(&[("bodyCrc32", &crc)], &plain), (0, 2));
    assert_eq!(accepted(&[("bodyCrc32", "12345")], &plain), (1, 0));
    assert_eq!(accepted(&[("compressed", "true")], &packed), (0, 2));
    assert_eq!(accepted(&[("compressed", "true")], &plain), (1, 0));
    assert_eq!(accepted(&[], b""), (0, 0));
    assert_eq!(accepted(&[], b"{"), (1, 0));
    assert_eq!(accepted(&[], &table(&["t"]).to_vec()), (1, 0));
}

#[test]
fn an_old_broker_sends_the_topic_table_alone() {
    let mut server = NameServer::default();
    let mut command = Command::request(RequestCode::REGISTER_BROKER.0, 1);
    command.version = version::V3_0_11 - 1;
    command.ext = IDENTITY.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    command.ext.push(("haServerAddr".into(), "h".into()));
    let mut header = Vec::new();
    command.encode(Serialize::RocketMq, &mut header).unwrap();
    let header = HeaderView::parse(Serialize::RocketMq, &header).unwrap();
    let body = table(&["t", "u"]).topic_config_serialize_wrapper.to_vec();
    assert_eq!(server.handle(remote(1), &header, &body, 0).code, 0);
    assert_eq!(server.routes().topics().count(), 2);
}

#[test]
fn a_slave_and_a_master_are_told_what_they_need() {
    let mut server = with_broker();
    let ext = [
        ("brokerName", "broker-a"),
        ("brokerAddr", "10.0.0.2:10911"),
        ("clusterName", "c"),
        ("brokerId", "1"),
        ("haServerAddr", "10.0.0.2:10912"),
    ];
    let body = table(&["t", "TBW102"]).to_vec();
    let reply = ask_at(&mut server, remote(7), RequestCode::REGISTER_BROKER, &ext, &body, 0);
    assert_eq!(reply.ext, [("haServerAddr", "10.0.0.1:10912".to_owned()), ("masterAddr", "10.0.0.1:10911".to_owned())]);
    assert!(reply.body.is_empty());
    server.kv().put(ORDER_TOPIC_CONFIG, "t", "broker-a:4").unwrap();
    let reply = register(&mut server, remote(5), &[], &body);
    assert_eq!(reply.ext, []);
    assert_eq!(KvTable::parse(&reply.body).unwrap().table["t"], "broker-a:4");
    server.options.return_order_topic_config_to_broker = false;
    assert!(register(&mut server, remote(5), &[], &body).body.is_empty());
}

#[test]
fn the_order_configuration_is_in_the_route_if_asked_for() {
    let mut server = with_broker();
    server.kv().put(ORDER_TOPIC_CONFIG, "t", "broker-a:4").unwrap();
    let order = |server: &mut NameServer| {
        let reply = ask(server, remote(6), RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "t")]);
        TopicRouteData::parse(&reply.body).unwrap().order_topic_conf
    };
    assert_eq!(order(&mut server), None);
    server.options.order_message_enable = true;
    assert_eq!(order(&mut server).as_deref(), Some("broker-a:4"));
}

#[test]
fn a_broker_asks_whether_it_has_to_register() {
    let mut server = with_broker();
    let known = DataVersion { counter: 1, ..DataVersion::default() };
    let mut asks = |body: &[u8], now| {
        let reply = ask_at(&mut server, remote(5), RequestCode::QUERY_DATA_VERSION, &IDENTITY, body, now);
        (reply.ext, DataVersion::parse(&reply.body).ok())
    };
    assert_eq!(asks(&known.to_vec(), 100_000), (vec![("changed", "false".to_owned())], Some(known)));
    assert_eq!(asks(&known.next(5).to_vec(), 0), (vec![("changed", "true".to_owned())], Some(known)));
    server.expire(200_000);
    assert_eq!(server.routes().brokers().count(), 1, "the question was a sign of life");
    assert_eq!(ask_at(&mut server, remote(5), RequestCode::BROKER_HEARTBEAT, &IDENTITY, b"", 300_000).code, 0);
    server.expire(400_000);
    assert_eq!(server.routes().brokers().count(), 1, "so was the heartbeat");
    server.expire(420_001);
    let reply = ask_at(&mut server, remote(5), RequestCode::QUERY_DATA_VERSION, &IDENTITY, b"", 420_001);
    assert_eq!((reply.ext, reply.body), (vec![("changed", "true".to_owned())], vec![]));
}

#[test]
fn brokers_leave_by_request_and_by_connection() {
    let mut server = with_broker();
    assert_eq!(ask(&mut server, remote(9), RequestCode::UNREGISTER_BROKER, &IDENTITY).code, 0);
    assert_eq!(server.routes().brokers().count(), 0);
    assert_eq!(ask(&mut server, remote(9), RequestCode::UNREGISTER_BROKER, &IDENTITY).code, 0);
    let mut server = with_broker();
    server.on_connection_closed(PeerId(6));
    assert_eq!(server.routes().brokers().count(), 1);
    server.on_connection_closed(PeerId(5));
    assert_eq!(server.routes().brokers().count(), 0);
}

#[test]
fn clusters_members_and_lists() {
    let mut server = with_broker();
    let reply = ask(&mut server, remote(6), RequestCode::GET_BROKER_CLUSTER_INFO, &[]);
    let info = ClusterInfo::parse(&reply.body).unwrap();
    assert_eq!(info.cluster_addr_table["c"], ["broker-a"]);
    assert_eq!(info.broker_addr_table["broker-a"].broker_addrs[&0], "10.0.0.1:10911");
    let mut members = |cluster: &str| {
        let ext = [("clusterName", cluster), ("brokerName", "broker-a")];
        let reply = ask(&mut server, remote(6), RequestCode::GET_BROKER_MEMBER_GROUP, &ext);
        BrokerMemberGroupResponse::parse(&reply.body).unwrap().broker_member_group.unwrap()
    };
    assert_eq!((members("c").broker_addrs.len(), members("d").broker_addrs.len()), (1, 0));
    let mut list = |code, ext: &[(&str, &str)]| {
        let reply = ask(&mut server, remote(6), code, ext);
        TopicList::parse(&reply.body).unwrap()
    };
    assert_eq!(list(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[]).topic_list, ["TBW102", "t"]);
    assert_eq!(list(RequestCode::GET_TOPICS_BY_CLUSTER, &[("cluster", "c")]).topic_list, ["TBW102", "t"]);
    assert_eq!(list(RequestCode::GET_TOPICS_BY_CLUSTER, &[("cluster", "d")]).topic_list, Vec::<String>::new());
    assert_eq!(list(RequestCode::GET_UNIT_TOPIC_LIST, &[]).topic_list, Vec::<String>::new());
    let system = list(RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS, &[]);
    assert_eq!(
        (system.broker_addr.as_deref(), system.topic_list),
        (Some("10.0.0.1:10911"), vec!["c".into(), "broker-a".into()])
    );
}

#[test]
fn lists_can_be_switched_off() {
    let mut server = with_broker();
    server.options.enable_all_topic_list = false;
    server.options.enable_topic_list = false;
    for code in [
        RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER,
        RequestCode::GET_TOPICS_BY_CLUSTER,
        RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS,
        RequestCode::GET_UNIT_TOPIC_LIST,
        RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST,
        RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST,
    ] {
        let reply = ask(&mut server, remote(6), code, &[("cluster", "c")]);
        assert_eq!(refused(&reply), (ResponseCode::SYSTEM_ERROR, "disable"), "{code}");
    }
}

#[test]
fn kv_entries() {
    let mut server = NameServer::default();
    let entry = [("namespace", "ns"), ("key", "k"), ("value", "v")];
    assert_eq!(refused(&ask(&mut server, LOCAL, RequestCode::GET_KV_CONFIG, &entry)).0, ResponseCode::QUERY_NOT_FOUND);
    assert_eq!(
        refused(&ask(&mut server, LOCAL, RequestCode::GET_KVLIST_BY_NAMESPACE, &entry)),
        (ResponseCode::QUERY_NOT_FOUND, "No config item, Namespace: ns")
    );
    assert_eq!(ask(&mut server, LOCAL, RequestCode::PUT_KV_CONFIG, &entry).code, 0);
    assert!(server.kv().to_write().unwrap().is_some());
    assert_eq!(ask(&mut server, remote(1), RequestCode::GET_KV_CONFIG, &entry).ext, [("value", "v".to_owned())]);
    let list = ask(&mut server, remote(1), RequestCode::GET_KVLIST_BY_NAMESPACE, &entry);
    assert_eq!(list.body, br#"{"table":{"k":"v"}}"#);
    assert_eq!(ask(&mut server, LOCAL, RequestCode::DELETE_KV_CONFIG, &entry).code, 0);
    assert_eq!(ask(&mut server, LOCAL, RequestCode::DELETE_KV_CONFIG, &entry).code, 0);
    assert_eq!(ask(&mut server, LOCAL, RequestCode::GET_KV_CONFIG, &entry).code, ResponseCode::QUERY_NOT_FOUND.0);
    assert_eq!(ask(&mut server, LOCAL, RequestCode::PUT_KV_CONFIG, &[("namespace", "ns")]).code, 1);
}

#[test]
fn changes_are_taken_from_this_machine_only() {
    let mut server = with_broker();
    let ext = [("namespace", "n"), ("key", "k"), ("value", "v"), ("brokerName", "broker-a"), ("topic", "t")];
    for code in [
        RequestCode::PUT_KV_CONFIG,
        RequestCode::DELETE_KV_CONFIG,
        RequestCode::WIPE_WRITE_PERM_OF_BROKER,
        RequestCode::ADD_WRITE_PERM_OF_BROKER,
        RequestCode::DELETE_TOPIC_IN_NAMESRV,
        RequestCode::UPDATE_NAMESRV_CONFIG,
    ] {
        let reply = ask(&mut server, remote(6), code, &ext);
        assert_eq!(refused(&reply).0, ResponseCode::NO_PERMISSION, "{code}");
        assert!(refused(&reply).1.starts_with(&code.to_string()));
        for local in ["[::1]:9", "[::ffff:127.0.0.1]:9"] {
            let local = Peer { id: PeerId(1), address: local.parse().unwrap() };
            assert_eq!(ask(&mut server, local, code, &ext).code, 0, "{code}");
        }
    }
}

#[test]
fn write_permission_and_topics_change() {
    let mut server = with_broker();
    let name = [("brokerName", "broker-a")];
    let perm = |server: &NameServer| server.routes().route("t").unwrap().queues[0].1.perm;
    let reply = ask(&mut server, LOCAL, RequestCode::WIPE_WRITE_PERM_OF_BROKER, &name);
    assert_eq!((reply.ext, perm(&server)), (vec![("wipeTopicCount", "2".to_owned())], 4));
    let reply = ask(&mut server, LOCAL, RequestCode::ADD_WRITE_PERM_OF_BROKER, &name);
    assert_eq!((reply.ext, perm(&server)), (vec![("addTopicCount", "2".to_owned())], 6));
    let other = [("topic", "t"), ("clusterName", "d")];
    assert_eq!(ask(&mut server, LOCAL, RequestCode::DELETE_TOPIC_IN_NAMESRV, &other).code, 0);
    assert!(server.routes().route("t").is_some());
    let all = [("topic", "t"), ("clusterName", "")];
    assert_eq!(ask(&mut server, LOCAL, RequestCode::DELETE_TOPIC_IN_NAMESRV, &all).code, 0);
    assert!(server.routes().route("t").is_none());
}

#[test]
fn a_broker_announces_one_topic() {
    let mut server = with_broker();
    let queues = |broker: &str, read: i32| {
        format!(
            r#"{{"brokerName":"{broker}","perm":6,"readQueueNums":{read},"topicSysFlag":0,"topicSynFlag":0,"writeQueueNums":2}}"#
        )
    };
    let mut announce = |topic: &str, body: String| {
        let reply = ask_at(
            &mut server,
            remote(5),
            RequestCode::REGISTER_TOPIC_IN_NAMESRV,
            &[("topic", topic)],
            body.as_bytes(),
            0,
        );
        let route = server.routes().route(topic).map(|route| {
            route.queues.iter().map(|(name, queues)| format!("{name} {}", queues.read)).collect::<Vec<_>>()
        });
        (reply.code, route)
    };
    let body = |queues: &[String]| format!(r#"{{"queueDatas":[{}]}}"#, queues.join(","));
    let at = |text: &str| Some(vec![text.to_owned()]);
    assert_eq!(announce("new", body(&[queues("broker-a", 3), queues("stranger", 1)])), (0, at("broker-a 3")));
    assert_eq!(announce("t", body(&[queues("broker-a", 16)])), (0, at("broker-a 16")), "what is there is replaced");
    assert_eq!(announce("elsewhere", body(&[queues("stranger", 1)])), (0, None));
    assert_eq!(announce("none", "{}".to_owned()), (0, None));
    let bad = [("", body(&[])), ("bad", "[".to_owned()), (&"x".repeat(256), body(&[queues("broker-a", 1)]))];
    for (topic, body) in bad {
        assert_eq!(announce(topic, body), (ResponseCode::SYSTEM_ERROR.0, None), "{topic}");
    }
}

#[test]
fn the_configuration_is_shown_and_a_part_of_it_changed() {
    let options = Options { fixed: vec![("listenPort".into(), "9876".into())], ..Options::default() };
    let mut server = NameServer::new(options, KvConfig::default());
    let shown = |server: &mut NameServer| {
        String::from_utf8(ask(server, remote(1), RequestCode::GET_NAMESRV_CONFIG, &[]).body).unwrap()
    };
    assert_eq!(
        shown(&mut server),
        "orderMessageEnable=false\nreturnOrderTopicConfigToBroker=true\nenableAllTopicList=true\nenableTopicList=true\n\
         deleteTopicWithBrokerRegistration=false\nlistenPort=9876\n"
    );
    let mut change = |body: &[u8]| ask_at(&mut server, LOCAL, RequestCode::UPDATE_NAMESRV_CONFIG, &[], body, 0);
    assert_eq!(change(b"#comment\norderMessageEnable = TRUE\nenableTopicList=false\n").code, 0);
    let forbidden = change(b"orderMessageEnable=false\nkvConfigPath=/etc/passwd\n");
    assert_eq!(refused(&forbidden).0, ResponseCode::NO_PERMISSION);
    assert!(refused(&forbidden).1.starts_with("kvConfigPath can not be updated"));
    assert_eq!(change(b"orderMessageEnable=no\n").code, ResponseCode::SYSTEM_ERROR.0);
    assert_eq!(change(b"\xff").code, ResponseCode::SYSTEM_ERROR.0);
    assert_eq!(change(&[b'\n'; CONFIG_BYTES_MAX + 1]).code, ResponseCode::SYSTEM_ERROR.0);
    assert!(shown(&mut server).starts_with("orderMessageEnable=true\n"), "a refused request changes nothing");
}

#[test]
fn an_unknown_code_is_named() {
    let reply = ask(&mut NameServer::default(), remote(1), RequestCode::SEND_MESSAGE, &[]);
    assert_eq!(
        refused(&reply),
        (ResponseCode::REQUEST_CODE_NOT_SUPPORTED, "request type SEND_MESSAGE(10) not supported")
    );
    let reply = ask(&mut NameServer::default(), remote(1), RequestCode(-1), &[]);
    assert_eq!(refused(&reply).1, "request type -1 not supported");
}

#[test]
fn an_answer_that_fits_no_frame_is_refused() {
    let mut server = NameServer::default();
    let value = "v".repeat(crate::limits::KV_VALUE_BYTES_MAX);
    for i in 0..40 {
        server.kv().put("ns", &i.to_string(), &value).unwrap();
    }
    let reply = ask(&mut server, remote(1), RequestCode::GET_KVLIST_BY_NAMESPACE, &[("namespace", "ns")]);
    assert_eq!(reply.code, 0);
    let topics: Vec<String> = (0..70_000).map(|i| format!("{i:0>240}")).collect();
    let body = table(&topics.iter().map(String::as_str).collect::<Vec<_>>()).to_vec();
    assert_eq!(register(&mut server, remote(5), &[], &body).code, 0);
    let reply = ask(&mut server, remote(1), RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[]);
    assert_eq!(reply.code, ResponseCode::SYSTEM_ERROR.0);
    assert!(refused(&reply).1.contains("too many for a frame"));
}
